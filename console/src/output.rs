//! The output of commands: tables or JSON on stdout, failures on stderr; and the text form of single values.

use std::io::{self, IsTerminal, Write};

use chrono::{DateTime, Local, Utc};
use comfy_table::{ContentArrangement, LineStyle, Table, TableStyle};
use serde::Serialize;
use serde_json::json;
use virtuozo_model::human;
pub(crate) use virtuozo_model::human::span;
pub(crate) use virtuozo_services::names::short;

/// A terminal that reports fewer columns is taken for one that does not know its width.
const MIN_COLUMNS: u16 = 40;

/// Prints the results of a command, for people or, with `--json`, for programs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
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
        let mut table = table(headers);
        for item in items {
            table.add_row(row(item));
        }
        self.table(&table)
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
        let mut table = Table::new();
        table.load_style(TableStyle::new());
        arrange(&mut table);
        for (name, value) in fields(item) {
            table.add_row([name.to_owned(), value]);
        }
        self.table(&table)
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
        self.line(&serde_json::to_string_pretty(value)?)
    }

    /// Prints a table.
    pub(crate) fn table(&self, table: &Table) -> anyhow::Result<()> {
        self.line(&table.trim_fmt())
    }

    /// Prints text and a line break.
    pub(crate) fn line(&self, text: &str) -> anyhow::Result<()> {
        // `println!` panics if stdout is a closed pipe.
        Ok(writeln!(io::stdout().lock(), "{text}")?)
    }

    /// Prints to stderr why the command failed; with `--json` as `{"ok": false, "error": …}`.
    pub(crate) fn failure(&self, message: &str) {
        let text = if self.json {
            json!({"ok": false, "error": message}).to_string()
        } else {
            format!("virtuozo: {message}")
        };
        // There is nowhere left to report that stderr is closed.
        let _ = writeln!(io::stderr().lock(), "{text}");
    }
}

/// Text that others have made, for people: what a terminal would act on, or would show in another order, is spelled out.
pub(crate) fn escaped(text: &str) -> String {
    let acts = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let spelled = |c: char| match acts(c) {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    text.chars().map(spelled).collect()
}

/// A table with the given headers, fitted to the terminal where there is one.
pub(crate) fn table(headers: &[&str]) -> Table {
    let mut table = Table::new();
    let line = LineStyle::none().fill('─').junction('─');
    table.load_style(TableStyle::new().header_separator(line));
    arrange(&mut table);
    table.set_header(headers);
    table
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
    fn text_of_others_neither_moves_the_cursor_nor_turns_its_order() {
        assert_eq!(escaped("a\u{1b}[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(escaped("vm\u{202e}x"), "vm\\u{202e}x");
        assert_eq!(escaped("Büro 1 [x]"), "Büro 1 [x]");
    }

    #[test]
    fn a_negative_size_is_not_a_huge_one() {
        assert_eq!(size(-1_i64), size(0_u64));
        assert_eq!(size(1_610_612_736_u64), "1.50 GiB");
    }
}
