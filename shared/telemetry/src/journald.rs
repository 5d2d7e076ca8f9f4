//! The journal of the machine, in its own protocol: an entry is a datagram of fields.

use std::{
    env, io,
    os::{fd::AsFd, unix::net::UnixDatagram},
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};
use tracing_subscriber::fmt::MakeWriter;
use virtuozo_model::terminal;
use virtuozo_runtime::LIMITS;

/// Where journald listens.
pub const SOCKET: &str = "/run/systemd/journal/socket";
/// Who says it, for journald and syslog.
pub const IDENTIFIER: &str = "virtuozo";
/// The longest name of a field that journald takes.
const NAME_BYTES_MAX: usize = 64;

/// How urgent an entry is, as journald and syslog count it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// Something failed.
    Error = 3,
    /// Worth a look.
    Warning = 4,
    /// As it should be.
    Info = 6,
    /// For those who look for an error of ours.
    Debug = 7,
}

/// An entry in the making.
#[derive(Debug, Clone)]
pub struct Entry(Vec<u8>);

impl Entry {
    /// One with a message.
    pub fn new(priority: Priority, message: &str) -> Self {
        Self(Vec::new())
            .field("MESSAGE", message)
            .field("PRIORITY", &(priority as u8).to_string())
            .field("SYSLOG_IDENTIFIER", IDENTIFIER)
    }

    /// And one more field. `name` is of capital letters, digits and underscores.
    #[must_use]
    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.0.extend(name.bytes());
        if value.contains('\n') {
            self.0.push(b'\n');
            let length = u64::try_from(value.len()).unwrap_or(u64::MAX);
            self.0.extend(length.to_le_bytes());
        } else {
            self.0.push(b'=');
        }
        self.0.extend(value.bytes());
        self.0.push(b'\n');
        self
    }

    /// As journald wants it.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Whether what this process says on stderr goes to journald anyway, so that it may as well say it with level
/// and fields: systemd tells in `JOURNAL_STREAM` which file that is.
pub fn has_stderr() -> bool {
    env::var("JOURNAL_STREAM").is_ok_and(|stream| is_stream(&stream, io::stderr()))
}

fn is_stream(stream: &str, file: impl AsFd) -> bool {
    rustix::fs::fstat(file).is_ok_and(|stat| {
        stream.split_once(':') == Some((&stat.st_dev.to_string(), &stat.st_ino.to_string()))
    })
}

/// Takes log lines, in the form of JSON objects, to journald.
#[derive(Debug)]
pub(super) struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Journal {
    /// # Errors
    /// Nobody listens at `path`.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(LIMITS.process.log_line))?;
        // An entry without fields is none.
        socket.send_to(&[], path)?;
        Ok(Self {
            socket,
            path: path.to_owned(),
        })
    }
}

impl<'a> MakeWriter<'a> for Journal {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

/// Takes one log line.
#[derive(Debug)]
pub(super) struct Line<'a>(&'a Journal);

impl io::Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let sent = match serde_json::from_slice(line) {
            Ok(fields) => self
                .0
                .socket
                .send_to(entry(fields).as_bytes(), &self.0.path),
            Err(error) => Err(error.into()),
        };
        match sent {
            Ok(_) => Ok(line.len()),
            // It starts again, or the line is too long: systemd still has the stream.
            Err(_) => io::stderr().write(line),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a log line says: its fields also in the message, as `journalctl` shows nothing else.
fn entry(mut line: Map<String, Value>) -> Entry {
    let mut take = |name: &str| line.remove(name).unwrap_or_default();
    let message = text(&take("message"));
    let priority = match text(&take("level")).as_str() {
        "ERROR" => Priority::Error,
        "WARN" => Priority::Warning,
        "INFO" => Priority::Info,
        _ => Priority::Debug,
    };
    let target = text(&take("target"));
    let span = take("span");
    take("spans");
    take("timestamp");
    let whole = line.iter().fold(message, |whole, (name, value)| {
        format!("{whole} {name}={}", text(value))
    });
    // Of the span only the fields: what is about a run can be found by its trace.
    let of_span = span.as_object().into_iter().flatten();
    let of_span = of_span.filter(|(name, _)| *name != "name");
    of_span.chain(&line).fold(
        Entry::new(priority, &whole).field("TARGET", &target),
        |entry, (name, value)| entry.field(&field_name(name), &text(value)),
    )
}

/// Lines stay, as journald keeps them apart.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => terminal::escaped_lines(text).into_owned(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// `guest` as `VIRTUOZO_GUEST`: without something in front some would be fields of journald's own.
fn field_name(name: &str) -> String {
    if name == "trace_id" {
        return "TRACE_ID".to_owned();
    }
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_uppercase()
        } else {
            '_'
        }
    };
    let name: String = name.chars().map(plain).collect();
    format!("VIRTUOZO_{name}")
        .chars()
        .take(NAME_BYTES_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write};

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn a_field_of_several_lines_is_told_with_its_length() {
        let entry = Entry::new(Priority::Warning, "one").field("VIRTUOZO_ERROR", "two\nthree");
        let expected = b"MESSAGE=one\nPRIORITY=4\nSYSLOG_IDENTIFIER=virtuozo\n\
                         VIRTUOZO_ERROR\n\x09\0\0\0\0\0\0\0two\nthree\n";
        assert_eq!(entry.as_bytes(), expected);
    }

    #[test]
    fn stderr_is_journalds_if_systemd_names_its_device_and_inode() {
        let file = File::open("/dev/null").unwrap();
        let stat = rustix::fs::fstat(&file).unwrap();
        let [dev, ino] = [stat.st_dev, stat.st_ino];
        assert!(is_stream(&format!("{dev}:{ino}"), &file));
        for other in [
            format!("{dev}:{}", ino + 1),
            format!("{dev}"),
            String::new(),
        ] {
            assert!(!is_stream(&other, &file), "{other:?}");
        }
    }

    #[test]
    fn a_log_line_reaches_the_journal_with_its_level_its_fields_and_those_of_its_span() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        assert!(Journal::open(&path).is_err(), "nobody listens there yet");
        let socket = UnixDatagram::bind(&path).unwrap();
        let journal = Journal::open(&path).unwrap();
        assert_eq!(socket.recv(&mut [0; 16]).unwrap(), 0);
        let lines = tracing_subscriber::registry().with(super::super::json(journal));
        tracing::subscriber::with_default(lines, || {
            let _in = tracing::info_span!("guest_run", trace_id = "0af7").entered();
            tracing::warn!(guest = "mail", why.not = 7, "not today\nnor tomorrow");
        });
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).unwrap();
        let said = String::from_utf8_lossy(&buffer[..length]).into_owned();
        assert!(said.starts_with("MESSAGE\n"), "{said}");
        for part in [
            "not today\nnor tomorrow guest=mail why.not=7\n",
            "\nPRIORITY=4\n",
            "\nTARGET=virtuozo_telemetry::journald::tests\n",
            "\nTRACE_ID=0af7\n",
            "\nVIRTUOZO_GUEST=mail\n",
            "\nVIRTUOZO_WHY_NOT=7\n",
        ] {
            assert!(said.contains(part), "{part:?} is not in {said}");
        }
        assert!(!said.contains("_NAME"), "{said}");
    }

    #[test]
    fn a_line_that_is_no_line_of_ours_does_not_disturb() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let _socket = UnixDatagram::bind(&path).unwrap();
        let journal = Journal::open(&path).unwrap();
        journal.make_writer().write_all(b"no JSON\n").unwrap();
    }
}
