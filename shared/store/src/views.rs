//! What people and programs want to see: the site, its runs and its restore points.
#![allow(
    missing_docs,
    reason = "fields are named like the columns that migrations/ documents"
)]

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{FromRow, PgPool, postgres::PgRow};
use uuid::Uuid;

use virtuozo_model::Pause;
use virtuozo_postgres::StoreError;

type Result<T> = std::result::Result<T, StoreError>;

/// A host in the tree of `status`.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct HostLine {
    pub id: Uuid,
    pub name: String,
    pub kind: String,
    pub ignored: bool,
    pub state: String,
    pub state_reason: Option<String>,
    pub checked_at: Option<DateTime<Utc>>,
    /// How many of its guests may be in work at once.
    pub slots: i64,
    /// How many are.
    pub slots_busy: i64,
    /// The same for each of its nodes; empty where it names none.
    #[sqlx(json)]
    pub nodes: Vec<NodeLine>,
    #[sqlx(flatten)]
    #[serde(flatten)]
    pub pause: Pause,
}

/// A node of a host.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NodeLine {
    pub node: String,
    /// How many of the guests on it may be in work at once.
    pub slots: i64,
    /// How many are.
    pub slots_busy: i64,
}

/// A guest in the tree of `status`; the fields from `guest_run_id` on are of its open guest run.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct GuestLine {
    pub id: Uuid,
    pub host_id: Uuid,
    pub name: String,
    pub locator: String,
    pub configured: bool,
    pub ignored: bool,
    pub state: String,
    pub state_reason: Option<String>,
    pub power: Option<String>,
    /// The instant that its newest good restore point holds.
    pub last_point_at: Option<DateTime<Utc>>,
    /// That instant is longer ago than the guest's recovery point objective permits.
    pub rpo_exceeded: bool,
    pub guest_run_id: Option<Uuid>,
    pub run_id: Option<Uuid>,
    pub run_state: Option<String>,
    pub step: Option<String>,
    pub mode: Option<String>,
    pub bytes_total: Option<i64>,
    pub bytes_copied: Option<i64>,
    pub progress_at: Option<DateTime<Utc>>,
    pub copy_started_at: Option<DateTime<Utc>>,
    /// While the copy is read back: how much is to be read.
    pub verify_bytes_total: Option<i64>,
    /// While the copy is read back: how much is read.
    pub verify_bytes_read: Option<i64>,
    /// While the copy is read back: since when.
    pub verify_started_at: Option<DateTime<Utc>>,
}

/// A guest and its recovery point objective.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct RpoLine {
    pub id: Uuid,
    pub host: String,
    pub guest: String,
    pub locator: String,
    /// How old its newest good restore point may be; none: as old as it is.
    pub rpo_secs: Option<i32>,
    /// The instant that its newest good restore point holds.
    pub last_point_at: Option<DateTime<Utc>>,
    /// How long ago that is; without a point, how long the guest has been known.
    pub age_secs: i64,
    pub exceeded: bool,
}

/// A disk in the tree of `status`; the bytes are those of the copy that runs.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct DiskLine {
    pub id: Uuid,
    pub guest_id: Uuid,
    pub device: String,
    pub file_name: String,
    pub ignored: bool,
    pub capacity_bytes: Option<i64>,
    pub state: String,
    pub state_reason: Option<String>,
    pub bytes_total: Option<i64>,
    pub bytes_copied: Option<i64>,
}

/// A scheduler or worker that has not said that it stopped.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct ProcessLine {
    pub id: Uuid,
    pub kind: String,
    pub name: String,
    pub machine: String,
    pub pid: i32,
    pub version: String,
    pub started_at: DateTime<Utc>,
    pub heartbeat_at: DateTime<Utc>,
    /// Seconds since it was last heard of.
    pub silent_secs: i64,
    /// That is not too long ago, by the database's clock.
    pub is_alive: bool,
    /// It is the scheduler that leads.
    pub leads: bool,
}

/// A run and what became of its guests.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct RunLine {
    pub id: Uuid,
    pub requested_by: String,
    pub due_at: Option<DateTime<Utc>>,
    pub state: String,
    pub cancel_requested: bool,
    pub error: Option<String>,
    pub created_at: DateTime<Utc>,
    pub ended_at: Option<DateTime<Utc>>,
    pub hosts_open: i64,
    pub hosts_failed: i64,
    pub guests: i64,
    pub guests_open: i64,
    pub guests_succeeded: i64,
    pub guests_failed: i64,
    pub bytes_copied: i64,
    /// By which a trace back end finds it.
    pub trace_id: String,
}

/// A host of one run.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct HostRunLine {
    pub id: Uuid,
    pub host: String,
    pub state: String,
    pub attempts: i32,
    pub crashes: i32,
    pub run_after: DateTime<Utc>,
    /// `run_after` has not come yet.
    pub is_delayed: bool,
    pub error: Option<String>,
    pub error_class: Option<String>,
    pub started_at: Option<DateTime<Utc>>,
    pub ended_at: Option<DateTime<Utc>>,
    pub worker: Option<String>,
    /// Why nothing of the host is begun, as a sentence; none if it is.
    pub held_reason: Option<String>,
}

/// A hook of a run or of one of its guests that was run or is to be run.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct HookRunLine {
    pub id: Uuid,
    /// Of a guest's hook, as is the next; none: of the run.
    pub host: Option<String>,
    pub guest: Option<String>,
    pub moment: String,
    /// How what it comes after has ended.
    pub outcome: Option<String>,
    pub state: String,
    /// How many times it was begun.
    pub attempts: i64,
    pub exit_code: Option<i32>,
    pub error: Option<String>,
    pub created_at: DateTime<Utc>,
    pub started_at: Option<DateTime<Utc>>,
    pub ended_at: Option<DateTime<Utc>>,
    /// Where it was run, or runs.
    pub machine: Option<String>,
}

/// A guest of one run, with what is needed to say why it waits.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct GuestRunLine {
    pub id: Uuid,
    pub host: String,
    pub guest: String,
    pub guest_id: Uuid,
    pub state: String,
    pub mode: Option<String>,
    pub step: Option<String>,
    pub attempts: i32,
    pub crashes: i32,
    pub run_after: DateTime<Utc>,
    /// `run_after` has not come yet.
    pub is_delayed: bool,
    pub error: Option<String>,
    pub error_class: Option<String>,
    pub bytes_total: Option<i64>,
    pub bytes_copied: i64,
    pub progress_at: Option<DateTime<Utc>>,
    pub copy_started_at: Option<DateTime<Utc>>,
    /// While the copy is read back: how much is to be read.
    pub verify_bytes_total: Option<i64>,
    /// While the copy is read back: how much is read.
    pub verify_bytes_read: Option<i64>,
    /// While the copy is read back: since when.
    pub verify_started_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    pub started_at: Option<DateTime<Utc>>,
    pub ended_at: Option<DateTime<Utc>>,
    pub worker: Option<String>,
    pub point_id: Option<Uuid>,
    pub taken_at: Option<DateTime<Utc>>,
    pub size_bytes: Option<i64>,
    pub verified_at: Option<DateTime<Utc>>,
    pub slots: i64,
    pub slots_busy: i64,
    /// Guests of the same host that have waited longer.
    pub waiting_before: i64,
    /// Why nothing of its host is begun, as a sentence; none if it is.
    pub held_reason: Option<String>,
    /// Why it is not in work, as a sentence; none if it is, or has ended.
    pub waiting_reason: Option<String>,
}

/// One step of one attempt.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct StepLine {
    pub guest_run_id: Uuid,
    pub fence: i64,
    pub name: String,
    pub state: String,
    pub error: Option<String>,
    pub started_at: DateTime<Utc>,
    pub ended_at: Option<DateTime<Utc>>,
}

/// Something that must still be undone on a host.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct ObligationLine {
    pub id: Uuid,
    pub kind: String,
    pub host: String,
    pub guest: String,
    pub snapshot_name: Option<String>,
    pub attempts: i32,
    pub next_attempt_at: DateTime<Utc>,
    pub last_error: Option<String>,
    pub created_at: DateTime<Utc>,
    /// The backup that made it still runs and will meet it.
    pub in_work: bool,
}

/// A restore point.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct PointLine {
    pub id: Uuid,
    pub guest_id: Option<Uuid>,
    pub host_name: String,
    pub guest_name: String,
    pub repository: String,
    pub path: String,
    pub mode: String,
    pub taken_at: DateTime<Utc>,
    pub published_at: DateTime<Utc>,
    pub size_bytes: i64,
    pub source_bytes: i64,
    pub foreign_snapshots: Vec<String>,
    pub state: String,
    pub verified_at: Option<DateTime<Utc>>,
    pub damage: Option<String>,
    /// When it was found in its repository; none: entered by the run that made it.
    pub found_at: Option<DateTime<Utc>>,
    /// When one that was found was taken for a backup of its guest; until then it covers no other in retention.
    pub adopted_at: Option<DateTime<Utc>>,
    /// BLAKE3 of the text of its manifest; none: not known.
    pub manifest_blake3: Option<String>,
    /// Where the last good verification read its bytes from: `medium`, `server` or `cache`; none: not known.
    pub read_back: Option<String>,
}

/// What a verification of a restore point has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verification<'a> {
    /// Every byte is as it was written.
    Good {
        /// Where they were read from: `medium`, `server` or `cache`; none: not known.
        read_back: Option<&'a str>,
        /// BLAKE3 of the text of its manifest, which is kept where none was known.
        manifest_blake3: Option<&'a str>,
    },
    /// What is damaged.
    Damaged(&'a str),
}

impl PointLine {
    /// The guest as it was called then, as HOST/GUEST.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.host_name, self.guest_name)
    }
}

/// The row of a list about the whole site.
pub trait SiteView: for<'r> FromRow<'r, PgRow> + Send + Unpin {
    /// Reads the list.
    const STATEMENT: &'static str;
}

/// The row of a list about one run.
pub trait RunView: for<'r> FromRow<'r, PgRow> + Send + Unpin {
    /// Reads the list; $1 is the run.
    const STATEMENT: &'static str;
}

/// All hosts.
impl SiteView for HostLine {
    const STATEMENT: &'static str = include_str!("views/hosts.sql");
}

/// All guests.
impl SiteView for GuestLine {
    const STATEMENT: &'static str = include_str!("views/guests.sql");
}

/// Guests that are to be backed up, and whether their newest good restore point is new enough.
impl SiteView for RpoLine {
    const STATEMENT: &'static str = include_str!("views/rpo.sql");
}

/// All disks.
impl SiteView for DiskLine {
    const STATEMENT: &'static str = include_str!("views/disks.sql");
}

/// Schedulers and workers that live, and those that went away without a word and were not replaced.
impl SiteView for ProcessLine {
    const STATEMENT: &'static str = include_str!("views/processes.sql");
}

/// What still has to be undone on hosts.
impl SiteView for ObligationLine {
    const STATEMENT: &'static str = include_str!("views/obligations.sql");
}

/// The hosts of a run.
impl RunView for HostRunLine {
    const STATEMENT: &'static str = include_str!("views/host_runs.sql");
}

/// The hooks of a run and its guests that were run or are to be run.
impl RunView for HookRunLine {
    const STATEMENT: &'static str = include_str!("views/hook_runs.sql");
}

/// The guests of a run.
impl RunView for GuestRunLine {
    const STATEMENT: &'static str = include_str!("views/guest_runs.sql");
}

/// The steps of all attempts of a run, in order.
impl RunView for StepLine {
    const STATEMENT: &'static str = include_str!("views/steps.sql");
}

/// A whole list about the site.
pub async fn all<V: SiteView>(pool: &PgPool) -> Result<Vec<V>> {
    Ok(sqlx::query_as(V::STATEMENT).fetch_all(pool).await?)
}

/// A whole list about a run.
pub async fn of_run<V: RunView>(pool: &PgPool, run_id: Uuid) -> Result<Vec<V>> {
    let rows = sqlx::query_as(V::STATEMENT).bind(run_id);
    Ok(rows.fetch_all(pool).await?)
}

/// The newest `limit` runs.
pub async fn runs(pool: &PgPool, limit: u32) -> Result<Vec<RunLine>> {
    let rows = sqlx::query_as(include_str!("views/runs.sql"))
        .bind(None::<Uuid>)
        .bind(i64::from(limit));
    Ok(rows.fetch_all(pool).await?)
}

/// One run; none if there is none of this id.
pub async fn run(pool: &PgPool, id: Uuid) -> Result<Option<RunLine>> {
    let row = sqlx::query_as(include_str!("views/runs.sql"))
        .bind(Some(id))
        .bind(1_i64);
    Ok(row.fetch_optional(pool).await?)
}

/// The ids of all runs, newest first.
pub async fn run_ids(pool: &PgPool) -> Result<Vec<Uuid>> {
    let ids = sqlx::query_scalar(include_str!("views/run_ids.sql"));
    Ok(ids.fetch_all(pool).await?)
}

/// Restore points, newest first: all, or only those of a host or guest, by the names they had when
/// the points were taken.
pub async fn points(
    pool: &PgPool,
    host: Option<&str>,
    guest: Option<&str>,
) -> Result<Vec<PointLine>> {
    let rows = sqlx::query_as(include_str!("views/points.sql"))
        .bind(host)
        .bind(guest);
    Ok(rows.fetch_all(pool).await?)
}

/// Records what a verification found.
pub async fn record_verification(
    pool: &PgPool,
    point: Uuid,
    found: Verification<'_>,
) -> Result<()> {
    match found {
        Verification::Good {
            read_back,
            manifest_blake3,
        } => sqlx::query(include_str!("views/point_set_verified.sql"))
            .bind(point)
            .bind(read_back)
            .bind(manifest_blake3),
        Verification::Damaged(what) => sqlx::query(include_str!("views/point_set_damaged.sql"))
            .bind(point)
            .bind(what),
    }
    .execute(pool)
    .await?;
    Ok(())
}
