//! Runs hooks: commands of the administrator before and after runs and the backups of guests, each within a limit.
//! `docs/guide/hooks.md` says what they find in their environment, and what follows from a failure.

mod environment;
mod exit_code;
mod guard;
mod perform;
mod process;
mod programs;
mod serve;
mod subject;

pub use environment::Environment;
pub use guard::guard;
pub use perform::{HookResult, perform};
pub use process::{Call, Ended};
pub use programs::{DEFAULT_DIRECTORY, HookPrograms};
pub use serve::Hooks;
pub use subject::{Subject, command_line};

#[cfg(test)]
mod tests;
