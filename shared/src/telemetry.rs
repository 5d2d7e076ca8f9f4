//! Log lines of a process, on stderr.

pub mod metrics;
pub mod otlp;
pub mod traces;
pub mod tree;

use std::io::{self, IsTerminal};

use tracing::Level;
use tracing_subscriber::EnvFilter;

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For reading on a terminal.
    Human,
    /// One JSON object a line, for a log collector.
    Json,
}

/// Whether a filter of log lines can be understood.
///
/// # Errors
/// Why it cannot.
pub fn check_filter(filter: &str) -> Result<(), String> {
    EnvFilter::try_new(filter)
        .map(drop)
        .map_err(|error| error.to_string())
}

/// Begins to log what is at least as grave as `level`, or what `filter` says. To be called once in a
/// process; further calls change nothing.
pub fn init(format: Format, level: Level, filter: Option<&str>) {
    // Statements of sqlx would drown everything else. And of an outage one word is enough, ours: what ends
    // in apalis is told by who starts it again.
    let quiet = format!("{level},sqlx=error,apalis=off");
    let filter = EnvFilter::new(filter.unwrap_or(&quiet));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // Colours are for eyes: in a file or a collector they are noise.
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr);
    // An error says that somebody has begun already.
    let _ = match format {
        Format::Human => lines.with_target(false).try_init(),
        Format::Json => lines.json().flatten_event(true).try_init(),
    };
}
