//! Log lines for people: whatever a host or a datastore has named, a line stays one line and its terminal is left alone.

use std::{
    fmt::{self, Debug},
    io::{self, IsTerminal},
};

use tracing::{
    Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    Layer,
    field::RecordFields,
    fmt::{FormatFields, MakeWriter, format::Writer},
    registry::LookupSpan,
};
use virtuozo_model::terminal;

/// Log lines on stderr.
pub(super) fn on_stderr<S: Subscriber + for<'span> LookupSpan<'span>>() -> impl Layer<S> {
    // Colours are for eyes: in a file or a collector they are noise.
    lines(io::stderr, io::stderr().is_terminal())
}

fn lines<S: Subscriber + for<'span> LookupSpan<'span>>(
    into: impl for<'a> MakeWriter<'a> + Send + Sync + 'static,
    coloured: bool,
) -> impl Layer<S> {
    tracing_subscriber::fmt::layer()
        .with_ansi(coloured)
        .with_writer(into)
        .with_target(false)
        .fmt_fields(EscapedFields)
}

/// The message and the fields of a line or of its span, as the library writes them, each value escaped.
struct EscapedFields;

impl<'writer> FormatFields<'writer> for EscapedFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut values = Values {
            writer,
            is_first: true,
            written: Ok(()),
        };
        fields.record(&mut values);
        values.written
    }
}

struct Values<'writer> {
    writer: Writer<'writer>,
    is_first: bool,
    written: fmt::Result,
}

impl Values<'_> {
    fn write(&mut self, name: &str, value: &str) -> fmt::Result {
        if !std::mem::take(&mut self.is_first) {
            self.writer.write_char(' ')?;
        }
        if name != "message" {
            let name = name.strip_prefix("r#").unwrap_or(name);
            if self.writer.has_ansi_escapes() {
                // Italic and dim, as the library has it.
                write!(self.writer, "\x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m")?;
            } else {
                write!(self.writer, "{name}=")?;
            }
        }
        self.writer.write_str(&terminal::escaped(value))
    }
}

impl Visit for Values<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // What the bridge from the crate `log` adds about the place in the code.
        if self.written.is_ok() && !field.name().starts_with("log.") {
            self.written = self.write(field.name(), &format!("{value:?}"));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.record_debug(field, &format_args!("{value}")),
            _ => self.record_debug(field, &value),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.lock().write(line)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(coloured: bool) -> String {
        let written = Written::default();
        let into = written.clone();
        let registry = tracing_subscriber::registry().with(lines(move || into.clone(), coloured));
        tracing::subscriber::with_default(registry, || {
            let name = "mail\u{1b}[2J\r\nWARN forged\u{202e}";
            let _in = tracing::info_span!("guest_run", guest = name, host = %name).entered();
            tracing::warn!(why = %name, r#type = 7, "guest {name} failed");
        });
        let bytes = written.0.lock().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_name_with_control_characters_forges_no_line_and_moves_no_cursor() {
        let plain = logged(false);
        assert_eq!(plain.lines().count(), 1, "{plain:?}");
        assert_eq!(terminal::escaped_lines(&plain), plain);
        let name = "mail\\u{1b}[2J\\r\\nWARN forged\\u{202e}";
        let expected = [
            format!("guest {name} failed why={name} type=7"),
            format!("host={name}}}"),
            "WARN".to_owned(),
        ];
        for part in expected {
            assert!(plain.contains(&part), "{part:?} is not in {plain:?}");
        }
    }

    #[test]
    fn the_colours_of_a_line_are_its_own() {
        let coloured = logged(true);
        assert!(coloured.contains("\u{1b}[3mwhy\u{1b}[0m"), "{coloured:?}");
        assert!(!coloured.contains("\u{1b}[2J"), "{coloured:?}");
    }
}
