//! The log of the machine, journald's or syslog's, as it takes an event: one datagram.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    str::FromStr,
};

use chrono::Local;
use tokio::net::UnixDatagram;
use virtuozo_model::{Event, Severity, terminal};
use virtuozo_runtime::LIMITS;
use virtuozo_store::events;
use virtuozo_telemetry::journald::{Entry, IDENTIFIER, Priority, SOCKET as JOURNALD};

/// Where a syslog listens.
const SYSLOG: &str = "/dev/log";
/// What syslog counts its facilities by, and that of services.
const FACILITY_DAEMON: u8 = 3 << 3;

/// Which log of the machine events are told to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventLog {
    /// journald where it is there, otherwise syslog, otherwise none.
    Auto,
    /// The journald that listens at this socket.
    Journald(PathBuf),
    /// The syslog that listens at this socket.
    Syslog(PathBuf),
    /// None.
    Off,
}

impl FromStr for EventLog {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (word, socket) = match text.split_once(':') {
            Some((word, socket)) if Path::new(socket).is_absolute() => (word, Some(socket)),
            Some(_) => ("", None),
            None => (text, None),
        };
        let at = |usual: &str| PathBuf::from(socket.unwrap_or(usual));
        match (word, socket) {
            ("auto", None) => Ok(Self::Auto),
            ("off", None) => Ok(Self::Off),
            ("journald", _) => Ok(Self::Journald(at(JOURNALD))),
            ("syslog", _) => Ok(Self::Syslog(at(SYSLOG))),
            _ => Err(
                "possible are auto, journald, syslog, off; journald:/its/socket, syslog:/its/socket"
                    .to_owned(),
            ),
        }
    }
}

impl fmt::Display for EventLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Journald(socket) => write!(f, "journald:{}", socket.display()),
            Self::Syslog(socket) => write!(f, "syslog:{}", socket.display()),
            Self::Off => f.write_str("off"),
        }
    }
}

impl EventLog {
    /// The socket to send to; none: there is none on this machine, and none is asked for.
    ///
    /// # Errors
    /// The system has no more sockets.
    pub(super) fn find(&self) -> io::Result<Option<Socket>> {
        let log = match self {
            Self::Off => return Ok(None),
            Self::Auto if Path::new(JOURNALD).exists() => Self::Journald(JOURNALD.into()),
            Self::Auto if Path::new(SYSLOG).exists() => Self::Syslog(SYSLOG.into()),
            Self::Auto => return Ok(None),
            named => named.clone(),
        };
        let socket = UnixDatagram::unbound()?;
        Ok(Some(Socket { socket, log }))
    }
}

/// A way to the log.
#[derive(Debug)]
pub(super) struct Socket {
    socket: UnixDatagram,
    log: EventLog,
}

impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.log.fmt(f)
    }
}

impl Socket {
    /// Tells one event. By the path each time: the log may have been started anew.
    ///
    /// # Errors
    /// It does not take it.
    pub(super) async fn send(&self, event: &Event) -> io::Result<()> {
        let (datagram, path) = match &self.log {
            EventLog::Journald(path) => (entry(event).as_bytes().to_vec(), path),
            EventLog::Syslog(path) => (line(event).into_bytes(), path),
            EventLog::Auto | EventLog::Off => return Ok(()),
        };
        let sending = self.socket.send_to(&datagram, path);
        match tokio::time::timeout(LIMITS.leader.event, sending).await {
            Ok(sent) => sent.map(drop),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

/// Those for users as bad as they are; all others are for debugging.
fn priority(event: &Event) -> Priority {
    match event.severity {
        _ if event.code < events::USER => Priority::Debug,
        Severity::Error => Priority::Error,
        Severity::Warning => Priority::Warning,
        Severity::Info => Priority::Info,
    }
}

/// What an event is about, by the names of journald's fields.
fn fields(event: &Event) -> impl Iterator<Item = (&'static str, String)> {
    [
        ("EVENT_ID", Some(event.code.to_string())),
        ("VIRTUOZO_EVENT", Some(event.id.to_string())),
        ("VIRTUOZO_RUN", event.run_id.map(|id| id.to_string())),
        ("VIRTUOZO_HOST", event.host.clone()),
        ("VIRTUOZO_GUEST", event.guest.clone()),
        (
            "VIRTUOZO_GUEST_RUN",
            event.guest_run_id.map(|id| id.to_string()),
        ),
        ("TRACE_ID", event.trace_id.clone()),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
}

fn entry(event: &Event) -> Entry {
    let entry = Entry::new(priority(event), &terminal::escaped_lines(&event.message));
    fields(event)
        .fold(entry, |entry, (name, value)| entry.field(name, &value))
        .field("VIRTUOZO_AT", &event.at.to_rfc3339())
}

/// RFC 3164, as the C library writes it.
fn line(event: &Event) -> String {
    let about: Vec<_> = fields(event)
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let text = format!("{} [{}]", event.message, about.join(" "));
    format!(
        "<{}>{} {IDENTIFIER}[{}]: {}",
        FACILITY_DAEMON | priority(event) as u8,
        event.at.with_timezone(&Local).format("%b %e %H:%M:%S"),
        std::process::id(),
        terminal::escaped(&text),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_named_in_one_word_with_its_socket_if_that_is_another_than_the_usual() {
        for text in ["auto", "off", "journald:/j/s", "syslog:/s/s"] {
            assert_eq!(text.parse::<EventLog>().unwrap().to_string(), text);
        }
        assert_eq!("journald".parse(), Ok(EventLog::Journald(JOURNALD.into())));
        assert_eq!("syslog".parse(), Ok(EventLog::Syslog(SYSLOG.into())));
        for wrong in ["", "on", "journald:", "syslog:here", "auto:/x", "off:/x"] {
            assert!(wrong.parse::<EventLog>().is_err(), "{wrong:?} was taken");
        }
    }

    #[test]
    fn only_what_is_for_users_is_more_urgent_than_debugging() {
        let mut event = Event {
            id: 7,
            at: chrono::DateTime::UNIX_EPOCH,
            severity: Severity::Error,
            code: events::USER,
            message: "guest mail: failed\nfor \u{1b}[1mgood".to_owned(),
            host: Some("alpha".to_owned()),
            guest: None,
            run_id: None,
            guest_run_id: None,
            trace_id: None,
            detail: None,
        };
        let text = line(&event);
        assert!(text.starts_with("<27>"), "{text}");
        assert!(
            text.ends_with(
                "]: guest mail: failed\\nfor \\u{1b}[1mgood [EVENT_ID=200 VIRTUOZO_EVENT=7 VIRTUOZO_HOST=alpha]"
            ),
            "{text}"
        );
        event.severity = Severity::Warning;
        assert!(line(&event).starts_with("<28>"));
        event.severity = Severity::Info;
        assert!(line(&event).starts_with("<30>"));
        event.code = events::THREADING;
        assert!(line(&event).starts_with("<31>"));
    }
}
