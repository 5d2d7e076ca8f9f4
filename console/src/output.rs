//! The output of commands: tables or JSON on stdout, failures on stderr; and the text form of single values.

use std::io::{self, IsTerminal, Write};

use chrono::{DateTime, Local, SecondsFormat, Utc};
use comfy_table::{ContentArrangement, LineStyle, Table, TableStyle};
use serde::Serialize;
use serde_json::json;
pub(crate) use virtuozo_model::human::span;
use virtuozo_model::{human, terminal};
pub(crate) use virtuozo_services::names::short;

use crate::options::SERVICES;

/// A terminal that reports fewer columns is taken for one that does not know its width.
const MIN_COLUMNS: u16 = 40;

/// Prints the results of a command, for people or, with `--json`, for programs. All that people read goes through it,
/// so that no text from a host, a datastore or the database acts on their terminal: see [`terminal`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    json: bool,
    logs_failure: bool,
}

impl Output {
    /// For a command. `logs_failure`: it is a service whose log lines are JSON, and so is the line that says why it
    /// ended.
    pub(crate) fn new(json: bool, logs_failure: bool) -> Self {
        Self { json, logs_failure }
    }

    /// For a command whose options cannot be read, by what its arguments and the environment seem to ask for.
    pub(crate) fn without_options() -> Self {
        let arguments: Vec<_> = std::env::args_os().skip(1).collect();
        let has = |word: &str| arguments.iter().any(|argument| argument == word);
        let log = std::env::var_os("VIRTUOZO_LOG").is_some_and(|form| form == "json")
            || has("--log=json")
            || arguments.windows(2).any(|pair| pair == ["--log", "json"]);
        Self::new(has("--json"), log && SERVICES.into_iter().any(has))
    }

    /// Whether failures are told as JSON.
    pub(crate) fn is_for_programs(&self) -> bool {
        self.json || self.logs_failure
    }

    /// Whether `--json` was given.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Prints a list: a JSON array of the items, or a table with a row for each, or `none` if there are no items.
    pub(crate) fn list<T: Serialize>(
        &self,
        items: &[T],
        none: &str,
        headers: &[&str],
        row: impl Fn(&T) -> Vec<String>,
    ) -> anyhow::Result<()> {
        if self.json {
            return self.json(&items);
        }
        if items.is_empty() {
            return self.line(none);
        }
        let mut rows = table(headers);
        for item in items {
            rows.add(row(item));
        }
        self.table(&rows)
    }

    /// Prints one object: as JSON, or as lines of `name  value`.
    pub(crate) fn show<T: Serialize>(
        &self,
        item: &T,
        fields: impl FnOnce(&T) -> Vec<(&'static str, String)>,
    ) -> anyhow::Result<()> {
        if self.json {
            return self.json(item);
        }
        let mut rows = Rows(Table::new());
        rows.0.load_style(TableStyle::new());
        arrange(&mut rows.0);
        for (name, value) in fields(item) {
            rows.add([name.to_owned(), value]);
        }
        self.table(&rows)
    }

    /// Prints what was changed: one line, or `{"ok": true, "message": …}`.
    pub(crate) fn done(&self, message: &str) -> anyhow::Result<()> {
        if self.json {
            return self.json(&json!({"ok": true, "message": message}));
        }
        self.line(message)
    }

    /// Prints any value as JSON.
    pub(crate) fn json<T: Serialize + ?Sized>(&self, value: &T) -> anyhow::Result<()> {
        print(&terminal::escaped_json(&serde_json::to_string_pretty(
            value,
        )?))
    }

    /// Prints any value as JSON on one line.
    pub(crate) fn json_line<T: Serialize + ?Sized>(&self, value: &T) -> anyhow::Result<()> {
        print(&terminal::escaped_json(&serde_json::to_string(value)?))
    }

    /// Prints a table.
    pub(crate) fn table(&self, rows: &Rows) -> anyhow::Result<()> {
        self.lines(&rows.0.trim_fmt())
    }

    /// Prints one line, whatever the text holds.
    pub(crate) fn line(&self, text: &str) -> anyhow::Result<()> {
        print(&terminal::escaped(text))
    }

    /// Prints text of several lines. What others have named in it has gone through [`terminal::escaped`], so that
    /// they begin no line.
    pub(crate) fn lines(&self, text: &str) -> anyhow::Result<()> {
        print(&terminal::escaped_lines(text))
    }

    /// Prints a file that a program reads, as it is.
    pub(crate) fn file(&self, text: &str) -> anyhow::Result<()> {
        print(text)
    }

    /// Prints to stderr why the command failed; with `--json` as `{"ok": false, "error": …}`, of a service as a log
    /// line.
    pub(crate) fn failure(&self, message: &str) {
        if self.json {
            let text = json!({"ok": false, "error": message}).to_string();
            note(&terminal::escaped_json(&text));
        } else if self.logs_failure {
            let line = json!({
                "timestamp": Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true),
                "level": "ERROR",
                "message": message,
                "target": "virtuozo",
            });
            note(&terminal::escaped_json(&line.to_string()));
        } else {
            note(&format!("virtuozo: {message}"));
        }
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    // `println!` panics if stdout is a closed pipe.
    Ok(writeln!(io::stdout().lock(), "{text}")?)
}

/// Prints a line to stderr, for people: what happens meanwhile, beside the result on stdout.
pub(crate) fn note(text: &str) {
    // There is nowhere left to report that stderr is closed.
    let _ = writeln!(io::stderr().lock(), "{}", terminal::escaped(text));
}

/// A table in the making.
pub(crate) struct Rows(Table);

impl Rows {
    /// Adds a row, each cell of which is one line.
    pub(crate) fn add(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells = cells.into_iter();
        self.0
            .add_row(cells.map(|cell| terminal::escaped(&cell).into_owned()));
    }
}

/// A table with the given headers, fitted to the terminal where there is one.
pub(crate) fn table(headers: &[&str]) -> Rows {
    let mut table = Table::new();
    let line = LineStyle::none().fill('─').junction('─');
    table.load_style(TableStyle::new().header_separator(line));
    arrange(&mut table);
    table.set_header(headers);
    Rows(table)
}

fn arrange(table: &mut Table) {
    // Lines are wrapped only for a terminal of known width: programs and logs read whole lines.
    if io::stdout().is_terminal() && table.width().is_some_and(|columns| columns >= MIN_COLUMNS) {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
}

/// A size with its unit: `1.50 GiB`; a negative one is 0.
pub(crate) fn size(bytes: impl TryInto<u64>) -> String {
    human::size(bytes.try_into().unwrap_or(0))
}

/// A size, or `-` if it is unknown.
pub(crate) fn size_or_dash(bytes: Option<i64>) -> String {
    bytes.map_or_else(|| "-".to_owned(), size)
}

/// A point in time in the local time zone, to the second.
pub(crate) fn time(at: DateTime<Utc>) -> String {
    at.with_timezone(&Local)
        .format("%Y-%m-%d %H:%M:%S")
        .to_string()
}

/// A point in time, or `-`.
pub(crate) fn time_or_dash(at: Option<DateTime<Utc>>) -> String {
    at.map_or_else(|| "-".to_owned(), time)
}

/// The value's text, or `-`.
pub(crate) fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// `yes` or `no`.
pub(crate) fn yes_no(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_negative_size_is_not_a_huge_one() {
        assert_eq!(size(-1_i64), size(0_u64));
        assert_eq!(size(1_610_612_736_u64), "1.50 GiB");
    }
}
