//! What a process shows of itself: log lines on stderr or in the journal of the machine, metrics and traces.

mod human;
pub mod journald;
pub mod metrics;
pub mod otlp;
pub mod traces;
pub mod tree;

use std::{
    io,
    path::{Path, PathBuf},
    str::FromStr,
};

use tracing::{Level, Subscriber};
use tracing_subscriber::{
    EnvFilter, Layer, fmt::MakeWriter, layer::SubscriberExt, registry::LookupSpan,
    util::SubscriberInitExt,
};

use virtuozo_runtime::Health;

use self::{journald::Journal, metrics::Metrics, traces::Traces};

/// What the parts of a process are given so that it can be watched. The program makes it once; clones share it. By
/// default, for commands and tests, nobody watches.
#[derive(Debug, Clone, Default)]
pub struct Telemetry {
    /// How the process stands.
    pub health: Health,
    /// What it counts.
    pub metrics: Metrics,
    /// Where its spans go.
    pub traces: Traces,
}

impl Telemetry {
    /// Begins to export the metrics and traces of a process with this `health`. See [`Metrics::begin`] and
    /// [`Traces::begin`].
    pub fn begin(process: &'static str, listens: bool, health: Health) -> Self {
        let traces = Traces::begin(process);
        Self {
            metrics: Metrics::begin(process, listens, &health.availability, &traces),
            traces,
            health,
        }
    }

    /// Sends what is left, for a short time.
    pub async fn end(&self) {
        self.traces.end().await;
        self.metrics.end().await;
    }
}

/// Where log lines go, and in which form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// To journald where it gets them anyway, as under systemd; otherwise for reading.
    Auto,
    /// To stderr, for reading on a terminal.
    Human,
    /// To stderr, one JSON object a line, for a log collector.
    Json,
    /// To the journald that listens at this socket, with level and fields.
    Journald(PathBuf),
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.split_once(':')) {
            ("auto", _) => Ok(Self::Auto),
            ("human", _) => Ok(Self::Human),
            ("json", _) => Ok(Self::Json),
            ("journald", _) => Ok(Self::Journald(journald::SOCKET.into())),
            (_, Some(("journald", socket))) if Path::new(socket).is_absolute() => {
                Ok(Self::Journald(socket.into()))
            }
            _ => Err("possible are auto, human, json, journald, journald:/its/socket".to_owned()),
        }
    }
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
pub fn init(format: &Format, level: Level, filter: Option<&str>) {
    // Statements of sqlx would drown everything else. And of an outage one word is enough, ours: what ends
    // in apalis is told by who starts it again.
    let quiet = format!("{level},sqlx=error,apalis=off");
    let filter = EnvFilter::new(filter.unwrap_or(&quiet));
    let journal = match format {
        Format::Auto if journald::has_stderr() => Some(Path::new(journald::SOCKET)),
        Format::Journald(socket) => Some(socket.as_path()),
        Format::Auto | Format::Human | Format::Json => None,
    };
    let opened = journal.map(|socket| (socket, Journal::open(socket)));
    let (lines, failed) = match (opened, format) {
        (Some((_, Ok(journal))), _) => (json(journal).boxed(), None),
        (_, Format::Json) => (json(io::stderr).boxed(), None),
        (Some((socket, Err(error))), _) => (human::on_stderr().boxed(), Some((socket, error))),
        (None, _) => (human::on_stderr().boxed(), None),
    };
    // An error says that somebody has begun already.
    let _ = tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init();
    if let Some((socket, error)) = failed {
        tracing::warn!(socket = %socket.display(), %error, "journald does not listen; log lines go to stderr");
    }
}

/// For programs.
fn json<S: Subscriber + for<'span> LookupSpan<'span>>(
    into: impl for<'a> MakeWriter<'a> + Send + Sync + 'static,
) -> impl Layer<S> {
    tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(into)
        .json()
        .flatten_event(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_log_lines_go_is_said_in_one_word_with_the_socket_if_it_is_another() {
        for (text, format) in [
            ("auto", Format::Auto),
            ("human", Format::Human),
            ("json", Format::Json),
            ("journald", Format::Journald(journald::SOCKET.into())),
            ("journald:/j/s", Format::Journald("/j/s".into())),
        ] {
            assert_eq!(text.parse(), Ok(format));
        }
        for wrong in ["", "xml", "journald:", "journald:here", "json:/x"] {
            assert!(wrong.parse::<Format>().is_err(), "{wrong:?} was taken");
        }
    }
}
