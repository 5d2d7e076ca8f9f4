//! Hooks at work: commands of administrators, run beside backups within a limit. `docs/guide/hooks.md` has what
//! they are told and what becomes of them.

mod guard;
mod process;
mod serve;
mod telling;

pub use guard::guard;
pub use process::{Call, Ended};
pub use serve::Hooks;
pub use telling::{Environment, Performed, Subject, perform, shown};

#[cfg(test)]
mod tests;
