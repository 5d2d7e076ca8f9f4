//! Every operation of a site once, a file a topic: its rules, and what it answers where it is refused. The command line
//! parses, calls one of these, and prints; a program that serves an API does the same.
//!
//! No operation prints or asks anybody, and none knows a hypervisor: what a host says comes from a worker, by a
//! [request](requests).
//!
//! Whatever asks the database fails with [`ServiceError`] where the database does or does not answer in time. `# Errors`
//! names what an operation fails with besides.

pub mod catalogue;
pub mod datastores;
mod error;
pub mod events;
pub mod guests;
pub mod hooks;
pub mod hosts;
pub mod keys;
pub mod names;
pub mod notices;
pub mod obligations;
pub mod points;
pub mod progress;
pub mod repositories;
pub mod requests;
pub mod runs;
pub mod schedules;
pub mod settings;
pub mod site_file;
pub mod status;
pub mod workers;

pub use error::ServiceError;

#[cfg(test)]
mod tests;
