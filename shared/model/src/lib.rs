//! The things that administrators configure and Virtuozo reports about, as they stand in the database.

mod datastore_proposals;
mod error_class;
mod hooks;
mod host_kind;
pub mod human;
mod notices;
mod requests;
pub mod schedule;
mod steps;
pub mod terminal;
pub mod text;
mod text_enum;

pub use datastore_proposals::{
    CandidateReason, DatastoreCandidate, DatastoreProposal, DatastoresProposed, ProposalOutcome,
};
pub use error_class::ErrorClass;
pub use hooks::{Hook, HookLine, HookMoment, OnFailure};
pub use host_kind::{HostKind, NoHostKind};
pub use notices::{MailSecurity, Notice, NoticeChannel, NoticeKind, NoticeSettings, NoticeState};
pub use requests::{HostChecked, HostTested, RequestKind, RequestState};
pub use steps::StepName;
pub use text_enum::UnknownWord;

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveTime, Utc};
use serde::{Deserialize, Serialize};
use text_enum::text_enum;
use uuid::Uuid;

text_enum! {
    /// What the last validation said about a host.
    pub enum HostState {
        /// Not looked at since its configuration was changed.
        Unknown = "unknown",
        /// Answers, and its inventory was read.
        Ok = "ok",
        /// Does not answer.
        Unreachable = "unreachable",
        /// Answers, but cannot be used: a wrong password, say.
        Invalid = "invalid",
    }
}

text_enum! {
    /// What the last validation said about a guest.
    pub enum GuestState {
        /// Not looked at yet.
        Unknown = "unknown",
        /// Can be backed up.
        Ok = "ok",
        /// Is configured, but its host does not know it.
        NotInInventory = "not_in_inventory",
        /// Its host knows it, but nobody has decided about its backup.
        NotConfigured = "not_configured",
        /// Its configuration or a disk is broken.
        Invalid = "invalid",
        /// Is off, and is not to be backed up while it is.
        PoweredOff = "powered_off",
    }
}

text_enum! {
    /// What the last validation said about a disk.
    pub enum DiskState {
        /// Not looked at yet.
        Unknown = "unknown",
        /// Can be backed up.
        Ok = "ok",
        /// The guest's configuration no longer names it.
        NotInInventory = "not_in_inventory",
        /// Is missing or broken.
        Invalid = "invalid",
    }
}

text_enum! {
    /// A guest's power state when it was last seen.
    pub enum Power {
        /// Runs.
        On = "on",
        /// Is off.
        Off = "off",
        /// Is suspended to disk.
        Suspended = "suspended",
        /// Waits for somebody's answer to a question.
        BlockedOnQuestion = "blocked_on_question",
    }
}

text_enum! {
    /// How a guest is to be backed up.
    pub enum Mode {
        /// From a snapshot, while it runs.
        Hot = "hot",
        /// While it is off; one that runs is shut down for it.
        Cold = "cold",
        /// Hot if the guest runs, cold if it is off.
        Auto = "auto",
    }
}

text_enum! {
    /// What happens to a guest that appears in a host's inventory.
    pub enum NewGuests {
        /// It is backed up from now on.
        Backup = "backup",
        /// It is reported, and waits for somebody's decision.
        Report = "report",
    }
}

text_enum! {
    /// How bad an event is.
    pub enum Severity {
        /// As it should be.
        Info = "info",
        /// Worth a look.
        Warning = "warning",
        /// Something failed.
        Error = "error",
    }
}

text_enum! {
    /// The two kinds of process.
    pub enum ProcessKind {
        /// Runs jobs.
        Worker = "worker",
        /// Starts runs.
        Scheduler = "scheduler",
    }
}

/// The site's settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "sqlx", derive(sqlx::FromRow))]
pub struct Settings {
    /// Hosts that one worker is connected to at most.
    pub host_threads: i32,
    /// Guests of one host that are in work at most, over all workers.
    pub guest_threads: i32,
    /// Directory for restore points, of guests that have none of their own.
    pub destination: Option<String>,
    /// How guests are backed up.
    pub mode: Mode,
    /// Power a guest back on that was shut down for its backup.
    pub resume_power_state: bool,
    /// Back up guests that are off.
    pub backup_when_off: bool,
    /// What happens to guests that appear.
    pub new_guests: NewGuests,
    /// Read every restore point once more before it is published.
    pub verify_after_backup: bool,
    /// Verified restore points of a guest that are kept.
    pub keep_last: i32,
    /// The group may read restore points: files have the mode 0640 and directories 0750, instead of 0600 and 0700.
    pub group_may_read: bool,
    /// When schedules without a cron expression are due, Monday to Friday.
    pub daily_start_time: NaiveTime,
    /// Time zone of schedules that have none of their own.
    pub time_zone: String,
    /// How long a guest may take to shut itself down before its power is cut, in seconds.
    pub soft_power_off_secs: i32,
    /// How long taking or removing a snapshot may take, in seconds.
    pub snapshot_limit_secs: i32,
    /// How long nothing may move while files are read or written, in seconds. Then the file system counts as silent, and
    /// what waits for it is given up.
    pub file_silence_secs: i32,
    /// Attempts for one guest in one run.
    pub max_attempts: i32,
    /// Workers that may die over one guest in one run.
    pub max_crashes: i32,
    /// Pause before the second attempt, in seconds; it grows with each further one.
    pub retry_delay_secs: i32,
    /// How long a worker's right to act holds without renewal, in seconds.
    pub lease_secs: i32,
    /// How long events are kept, in days.
    pub event_keep_days: i32,
    /// Events that are kept at most.
    pub event_keep_count: i32,
    /// How long ended runs are kept, in days.
    pub history_keep_days: i32,
    /// Ended runs that are kept at most.
    pub history_keep_runs: i32,
    /// Guests of all hosts that are in work at most; none: no cap.
    pub fleet_guest_threads: Option<i32>,
    /// How old a guest's newest restore point may be, in seconds; 0: as old as it is.
    pub rpo_secs: i32,
}

/// A hypervisor. Its password is read apart, by the one who connects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "sqlx", derive(sqlx::FromRow))]
pub struct Host {
    /// Identity.
    pub id: Uuid,
    /// The administrator's name for it.
    pub name: String,
    /// What it is.
    pub kind: HostKind,
    /// Connection string.
    pub address: Option<String>,
    /// User name.
    pub user_name: Option<String>,
    /// A password is stored.
    pub has_password: bool,
    /// What else its back end has to know, by the names that the back end gives.
    #[cfg_attr(feature = "sqlx", sqlx(json))]
    pub properties: BTreeMap<String, String>,
    /// Leave it out of every run.
    pub ignored: bool,
    /// Guests in work at most; none: the site's setting.
    pub guest_threads: Option<i32>,
    /// What the last validation said.
    pub state: HostState,
    /// Why.
    pub state_reason: Option<String>,
    /// When that was.
    pub checked_at: Option<DateTime<Utc>>,
    /// Whether nothing of it is begun.
    #[cfg_attr(feature = "sqlx", sqlx(flatten))]
    #[serde(flatten)]
    pub pause: Pause,
}

/// Whether nothing of a host is begun because somebody wants it so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "sqlx", derive(sqlx::FromRow))]
pub struct Pause {
    /// Since when; none: it is not paused.
    pub paused_since: Option<DateTime<Utc>>,
    /// The database user who paused it, if that is known.
    pub paused_by: Option<String>,
    /// Not by its name, but with all hosts.
    pub paused_with_all: bool,
}

/// A virtual machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "sqlx", derive(sqlx::FromRow))]
pub struct Guest {
    /// Identity.
    pub id: Uuid,
    /// Its host.
    pub host_id: Uuid,
    /// The name of its host.
    pub host_name: String,
    /// What its host finds it by.
    pub locator: String,
    /// What stays the same when it is moved on its host; none where its host has nothing of the kind.
    pub uuid: Option<Uuid>,
    /// The machine of its host that ran it when it was last looked at; none where the host is one machine.
    pub node: Option<String>,
    /// Display name.
    pub name: String,
    /// Somebody, or the setting `new_guests`, has decided that it is backed up.
    pub configured: bool,
    /// Leave it out of every run.
    pub ignored: bool,
    /// Directory for its restore points. For this and the next five, none: the site's setting.
    pub destination: Option<String>,
    /// How it is backed up.
    pub mode: Option<Mode>,
    /// Power it back on.
    pub resume_power_state: Option<bool>,
    /// Back it up when it is off.
    pub backup_when_off: Option<bool>,
    /// Verified restore points to keep.
    pub keep_last: Option<i32>,
    /// How old its newest restore point may be, in seconds; 0: as old as it is.
    pub rpo_secs: Option<i32>,
    /// Commands before and after its backup.
    #[cfg_attr(feature = "sqlx", sqlx(json))]
    pub hooks: Vec<Hook>,
    /// What the last validation said.
    pub state: GuestState,
    /// Why.
    pub state_reason: Option<String>,
    /// Power state then.
    pub power: Option<Power>,
    /// When that was.
    pub checked_at: Option<DateTime<Utc>>,
    /// Change ids for which its host keeps something.
    pub change_ids: Vec<String>,
    /// How often the connection to its host ended while the guest was looked at.
    pub crashes: i32,
}

impl Guest {
    /// The name that people use and type: `HOST/GUEST`.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.host_name, self.name)
    }
}

/// A virtual disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "sqlx", derive(sqlx::FromRow))]
pub struct Disk {
    /// Identity.
    pub id: Uuid,
    /// Its guest.
    pub guest_id: Uuid,
    /// Device, for example `scsi0:0`.
    pub device: String,
    /// The file that the guest's configuration names.
    pub file_name: String,
    /// Leave it out of backups.
    pub ignored: bool,
    /// Size in bytes, where known.
    pub capacity_bytes: Option<i64>,
    /// What the last validation said.
    pub state: DiskState,
    /// Why.
    pub state_reason: Option<String>,
    /// When that was.
    pub checked_at: Option<DateTime<Utc>>,
}

/// A host's named storage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "sqlx", derive(sqlx::FromRow))]
pub struct Datastore {
    /// The host.
    pub host_id: Uuid,
    /// The name of the host.
    pub host_name: String,
    /// Name on the host.
    pub name: String,
    /// Directory on the host, from its configuration.
    pub host_path: Option<String>,
    /// Directory as workers read it; none: at `host_path`.
    pub local_path: Option<String>,
    /// Guests in it that are in work at most; none: no cap.
    pub guest_threads: Option<i32>,
    /// When the host's configuration last named it.
    pub seen_at: Option<DateTime<Utc>>,
}

/// When to back up what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "sqlx", derive(sqlx::FromRow))]
pub struct Schedule {
    /// Identity.
    pub id: Uuid,
    /// The administrator's name for it.
    pub name: String,
    /// Cron expression; none: Monday to Friday at the daily start time.
    pub cron: Option<String>,
    /// Time zone; none: the site's.
    pub time_zone: Option<String>,
    /// Is followed.
    pub enabled: bool,
    /// Due times up to and including this one have been dealt with.
    pub done_until: DateTime<Utc>,
    /// Hosts to back up. No hosts and no guests: the whole site.
    pub host_ids: Vec<Uuid>,
    /// Guests to back up.
    pub guest_ids: Vec<Uuid>,
}

/// A kind of host that a worker knows, and whether it can serve it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindServed {
    /// The word for the kind.
    pub kind: String,
    /// The worker's machine has what the back end needs.
    pub is_served: bool,
    /// What was found of the back end, or what is missing and what to do about it.
    pub found: String,
}

/// What a worker's machine lacks: a location, or something for a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lack {
    /// The directory that is missing.
    pub location: Option<String>,
    /// Or the host for which something is missing that is no location.
    pub host: Option<String>,
    /// What is wrong.
    pub reason: String,
    /// When that was found last.
    pub noted_at: DateTime<Utc>,
}

/// One incarnation of a worker or scheduler.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "sqlx", derive(sqlx::FromRow))]
pub struct Worker {
    /// Identity; never used again.
    pub id: Uuid,
    /// Worker or scheduler.
    pub kind: ProcessKind,
    /// Name; may be used again.
    pub name: String,
    /// Name of its machine.
    pub machine: String,
    /// Process id there.
    pub pid: i32,
    /// Version of the program.
    pub version: String,
    /// Start.
    pub started_at: DateTime<Utc>,
    /// Last sign of life.
    pub heartbeat_at: DateTime<Utc>,
    /// Seconds since then, by the database's clock.
    pub silent_secs: f64,
    /// It has not ended, and was heard of lately enough to be counted on.
    pub is_alive: bool,
    /// End, if it ended cleanly.
    pub stopped_at: Option<DateTime<Utc>>,
    /// It was asked to finish its work, or hand it over, and to end.
    pub drain_requested: bool,
    /// The kinds of host that it knows; none for a scheduler.
    #[cfg_attr(feature = "sqlx", sqlx(json))]
    pub kinds: Vec<KindServed>,
    /// What its machine was found to lack lately.
    #[cfg_attr(feature = "sqlx", sqlx(json))]
    pub lacks: Vec<Lack>,
}

/// What people are told.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "sqlx", derive(sqlx::FromRow))]
pub struct Event {
    /// Number.
    pub id: i64,
    /// When.
    pub at: DateTime<Utc>,
    /// How bad.
    pub severity: Severity,
    /// 50 and 100 debug, 200 user.
    pub code: i32,
    /// The sentence.
    pub message: String,
    /// About which host.
    pub host: Option<String>,
    /// About which guest of it.
    pub guest: Option<String>,
    /// About which run.
    pub run_id: Option<Uuid>,
    /// About which guest run.
    pub guest_run_id: Option<Uuid>,
    /// The trace of that run, in hexadecimal digits.
    pub trace_id: Option<String>,
    /// More, for programs.
    pub detail: Option<serde_json::Value>,
}
