//! What a notice says, as data: the same for mail and webhook.

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;
use virtuozo_model::NoticeKind;

/// Guests of a run that are told in full; more are counted. Those that failed come first.
pub(crate) const GUESTS_MAX: usize = 100;
/// Lines of any other list; more are counted.
pub(crate) const LINES_MAX: usize = 50;

/// What a notice says.
#[derive(Debug, Clone, Serialize)]
pub struct Content {
    /// What it tells.
    pub kind: NoticeKind,
    /// All of it in a line.
    pub subject: String,
    /// It waited because the limit of messages in an hour was reached.
    pub held_by_limit: bool,
    /// Guests that were changed and are not as they were.
    pub left_behind: Vec<LeftBehind>,
    /// Further ones.
    pub more_left_behind: usize,
    /// The runs that it is about.
    pub runs: Vec<RunPart>,
    /// Further runs.
    pub more_runs: usize,
    /// The last day.
    pub digest: Option<Digest>,
}

/// Something that is still to be undone on a guest.
#[derive(Debug, Clone, Serialize)]
pub struct LeftBehind {
    /// `HOST/GUEST`.
    pub guest: String,
    /// What is wrong with it.
    pub what: String,
    /// It was tried and failed; otherwise it is about to be tried.
    pub is_tried: bool,
    /// How often.
    pub attempts: i32,
    /// Why it failed.
    pub error: Option<String>,
    /// Since when.
    pub since: DateTime<Utc>,
    /// What to do.
    pub advice: String,
}

/// A run.
#[derive(Debug, Clone, Serialize)]
pub struct RunPart {
    /// Its id.
    pub id: Uuid,
    /// Who wanted it: `schedule NAME`, `user NAME`.
    pub requested_by: String,
    /// How it ended, or `running`.
    pub state: String,
    /// What failed, as numbers.
    pub error: Option<String>,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// How long it took.
    pub duration_secs: Option<i64>,
    /// Guests in it.
    pub guest_count: usize,
    /// Guests with a new restore point.
    pub succeeded: usize,
    /// Guests without one, because something went wrong.
    pub failed: usize,
    /// Size of its restore points.
    pub size_bytes: i64,
    /// Its trace.
    pub trace_id: String,
    /// Hosts that could not be backed up.
    pub failed_hosts: Vec<HostPart>,
    /// Further ones.
    pub more_failed_hosts: usize,
    /// Guests, those that failed first.
    pub guests: Vec<GuestPart>,
    /// Further guests.
    pub more_guests: usize,
}

/// A host that could not be backed up.
#[derive(Debug, Clone, Serialize)]
pub struct HostPart {
    /// Its name.
    pub host: String,
    /// Why.
    pub error: Option<String>,
    /// What to do.
    pub advice: Option<String>,
}

/// A guest of a run.
#[derive(Debug, Clone, Serialize)]
pub struct GuestPart {
    /// `HOST/GUEST`.
    pub guest: String,
    /// How it ended.
    pub state: String,
    /// Hot or cold.
    pub mode: Option<String>,
    /// Size of its restore point.
    pub size_bytes: Option<i64>,
    /// How long it took.
    pub duration_secs: Option<i64>,
    /// Its restore point was read back.
    pub is_verified: bool,
    /// Attempts at it.
    pub attempts: i32,
    /// Why it has no restore point.
    pub error: Option<String>,
    /// What to do.
    pub advice: Option<String>,
}

/// What the last day brought.
#[derive(Debug, Clone, Serialize)]
pub struct Digest {
    /// The beginning of the day.
    pub from: DateTime<Utc>,
    /// Its end.
    pub to: DateTime<Utc>,
    /// What is wrong, the oldest first.
    pub problems: Vec<Problem>,
    /// Further ones.
    pub more_problems: usize,
    /// What should have run and did not, or is left out.
    pub not_run: Vec<Missed>,
    /// Further ones.
    pub more_not_run: usize,
    /// Guests whose newest restore point is older than their RPO, the oldest first.
    pub stale: Vec<StalePart>,
    /// Further ones.
    pub more_stale: usize,
    /// Guests that have one that is not.
    pub fresh: usize,
    /// Where restore points go.
    pub space: Vec<SpacePart>,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Since when.
    pub since: Option<DateTime<Utc>>,
    /// What.
    pub what: String,
    /// What to do.
    pub advice: String,
}

/// Something that did not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Missed {
    /// A schedule, host or guest.
    pub what: String,
    /// Why.
    pub why: String,
}

/// A guest whose newest restore point is older than its RPO.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StalePart {
    /// `HOST/GUEST`.
    pub guest: String,
    /// Its newest good restore point.
    pub last_point_at: Option<DateTime<Utc>>,
    /// Since when there should be a newer one.
    pub due_since: DateTime<Utc>,
    /// Why there is none.
    pub why: String,
}

/// A place that restore points go to.
#[derive(Debug, Clone, Serialize)]
pub struct SpacePart {
    /// The directory.
    pub path: String,
    /// What was free there when a worker last looked.
    pub free_bytes: Option<i64>,
    /// When that was.
    pub seen_at: Option<DateTime<Utc>>,
    /// Restore points of the day.
    pub new_points: i64,
    /// Their size.
    pub new_bytes: i64,
    /// For how many more days like this one it would do, where it is less than ten.
    pub days_left: Option<i64>,
}

impl Content {
    /// A notice that only shows that notices arrive.
    pub(crate) fn of_test() -> Self {
        Self {
            kind: NoticeKind::Test,
            subject: "Virtuozo: test, notices arrive".to_owned(),
            held_by_limit: false,
            left_behind: Vec::new(),
            more_left_behind: 0,
            runs: Vec::new(),
            more_runs: 0,
            digest: None,
        }
    }
}
