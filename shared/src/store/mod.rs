//! All SQL, by topic. Statements stand in `sql/`, one in each file.

pub mod admission;
pub mod guest_runs;
pub mod host_runs;
pub mod leases;
pub mod obligations;
pub mod points;
pub mod report;
pub mod runs;
pub mod steps;
pub mod sweeps;
