//! How long things wait: one value, [`LIMITS`], so that limits which have to fit each other stand together. The test
//! beside it holds how they fit.
//!
//! What an administrator can set is a setting, not a limit. A limit of a back end, of the repository or of a disk format
//! stands in `limits.rs` of its crate, which knows nothing of this one.

/// A part of [`Limits`]: fields with the reason for each and its value. The type of a field is `Duration` unless it says
/// another.
macro_rules! limits {
    ($(#[$about:meta])* $name:ident {
        $($(#[$reason:meta])* $field:ident $(($type:ty))? = $value:expr;)*
    }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy)]
        pub struct $name {
            $($(#[$reason])* pub $field: limits!(@type $($type)?),)*
        }

        impl $name {
            pub(super) const VALUES: Self = Self { $($field: $value,)* };
        }
    };
    (@type) => { std::time::Duration };
    (@type $type:ty) => { $type };
}

mod console;
mod database;
mod files;
mod hooks;
mod notices;
mod queue;
mod scheduler;
mod services;
mod worker;

pub use console::ConsoleLimits;
pub use database::{DatabaseLimits, PrivateServerLimits};
pub use files::FileLimits;
pub use hooks::HookLimits;
pub use notices::NoticeLimits;
pub use queue::QueueLimits;
pub use scheduler::{LeaderLimits, SchedulerLimits};
pub use services::ServiceLimits;
pub use worker::WorkerLimits;

use std::time::Duration;

/// How long each part of Virtuozo waits.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections, statements and outages of the database.
    pub database: DatabaseLimits,
    /// The private Postgres.
    pub private_server: PrivateServerLimits,
    /// Processes of any kind.
    pub process: ProcessLimits,
    /// Queues of jobs.
    pub queue: QueueLimits,
    /// Workers.
    pub worker: WorkerLimits,
    /// Schedulers, leading or not.
    pub scheduler: SchedulerLimits,
    /// The tasks of the leading scheduler.
    pub leader: LeaderLimits,
    /// Processes that read and write files.
    pub files: FileLimits,
    /// Hooks.
    pub hooks: HookLimits,
    /// Notices.
    pub notices: NoticeLimits,
    /// Operations of a site.
    pub services: ServiceLimits,
    /// Commands, and what the program offers around its services.
    pub console: ConsoleLimits,
}

/// The limits that hold.
pub const LIMITS: Limits = Limits {
    database: DatabaseLimits::VALUES,
    private_server: PrivateServerLimits::VALUES,
    process: ProcessLimits::VALUES,
    queue: QueueLimits::VALUES,
    worker: WorkerLimits::VALUES,
    scheduler: SchedulerLimits::VALUES,
    leader: LeaderLimits::VALUES,
    files: FileLimits::VALUES,
    hooks: HookLimits::VALUES,
    notices: NoticeLimits::VALUES,
    services: ServiceLimits::VALUES,
    console: ConsoleLimits::VALUES,
};

limits! {
    /// Limits of processes of any kind.
    ProcessLimits {
        /// How often a worker or scheduler tells the database that it is alive, and a claimer of jobs its queue.
        heartbeat_every = secs(5);
        /// How long a process that ends waits for its last telemetry to be sent.
        telemetry_flush = secs(10);
        /// How long a batch of spans is sent again while its receiver is away. Then it is lost.
        telemetry_retry = secs(60);
        /// The first pause before that.
        telemetry_retry_first = millis(250);
        /// The longest one.
        telemetry_retry_longest = secs(10);
        /// How long a log line may wait for a journald that does not read. Then it goes to stderr.
        log_line = millis(500);
    }
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[cfg(test)]
mod tests;
