//! What people and programs see: tables or JSON on stdout, failures on stderr.

use std::io::{self, IsTerminal, Write};

use chrono::{DateTime, Local, Utc};
use comfy_table::{ContentArrangement, LineStyle, Table, TableStyle};
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;
use virtuozo_model::human;
pub(crate) use virtuozo_model::human::span;

/// A narrower terminal is not believed.
const MIN_COLUMNS: u16 = 40;

/// Where results go, and in which form.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// `--json` was given.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// A list: a JSON array of the items, or a table with one row for each; `none` is said where
    /// there are no items.
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

    /// One thing: a JSON object, or lines of `name  value`.
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

    /// Something was changed: one line, or `{"ok": true, "message": …}`.
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

    /// Prints one line (or several) as it is.
    pub(crate) fn line(&self, text: &str) -> anyhow::Result<()> {
        // Not println!: it panics where the reader has gone away.
        Ok(writeln!(io::stdout().lock(), "{text}")?)
    }

    /// Says on stderr why the command failed; with `--json` as `{"ok": false, "error": …}`.
    pub(crate) fn failure(&self, message: &str) {
        let text = if self.json {
            json!({"ok": false, "error": message}).to_string()
        } else {
            format!("virtuozo: {message}")
        };
        // Nothing can be done where even stderr is gone.
        let _ = writeln!(io::stderr().lock(), "{text}");
    }
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
    // Without a terminal, or one that does not tell its width, nothing is wrapped: a program or a log
    // reads the lines.
    if io::stdout().is_terminal() && table.width().is_some_and(|columns| columns >= MIN_COLUMNS) {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
}

/// A size for people: `1.50 GiB`.
pub(crate) fn size(bytes: impl TryInto<u64>) -> String {
    human::size(bytes.try_into().unwrap_or(0))
}

/// A size that may be unknown.
pub(crate) fn size_or_dash(bytes: Option<i64>) -> String {
    bytes.map_or_else(|| "-".to_owned(), size)
}

/// A point in time in the local time zone, to the second.
pub(crate) fn time(at: DateTime<Utc>) -> String {
    at.with_timezone(&Local)
        .format("%Y-%m-%d %H:%M:%S")
        .to_string()
}

/// A time that may not have come yet.
pub(crate) fn time_or_dash(at: Option<DateTime<Utc>>) -> String {
    at.map_or_else(|| "-".to_owned(), time)
}

/// Text that may be missing.
pub(crate) fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// `yes` or `no`.
pub(crate) fn yes_no(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

/// The short form of an id: its last eight digits. The first ones are a time and alike in all that
/// was made in the same minute; every command takes any beginning or end that only one id has.
pub(crate) fn short(id: Uuid) -> String {
    let digits = id.simple().to_string();
    digits.chars().skip(digits.len() - 8).collect()
}

/// The one id of `ids` that `text` is, begins or ends.
///
/// # Errors
/// A sentence that says whether there was none or more than one.
pub(crate) fn find_id(
    text: &str,
    what: &str,
    ids: impl IntoIterator<Item = Uuid>,
) -> anyhow::Result<Uuid> {
    let wanted = text.replace('-', "").to_ascii_lowercase();
    if wanted.is_empty() || !wanted.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(crate::error::usage(format!(
            "'{text}' is not the id of a {what}: an id is made of the digits 0-9 and a-f"
        )));
    }
    let mut found = ids.into_iter().filter(|id| {
        let digits = id.simple().to_string();
        digits.starts_with(&wanted) || digits.ends_with(&wanted)
    });
    match (found.next(), found.next()) {
        (Some(id), None) => Ok(id),
        (None, _) => Err(crate::error::usage(format!("there is no {what} '{text}'"))),
        (Some(_), Some(_)) => Err(crate::error::usage(format!(
            "more than one {what} begins or ends with '{text}': give more digits"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_found_by_its_beginning_or_end_only_if_that_is_unique() {
        let one = Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_aaaa_0001);
        let two = Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_aaaa_0002);
        let find = |text: &str| find_id(text, "run", [one, two]);
        assert_eq!(find(&one.to_string()).unwrap(), one);
        assert_eq!(find(&short(two)).unwrap(), two);
        assert!(
            find("0199")
                .unwrap_err()
                .to_string()
                .contains("more than one")
        );
        assert!(find("ffff").unwrap_err().to_string().contains("no run"));
        assert!(find("zz").unwrap_err().to_string().contains("digits"));
        assert!(find("").is_err());
    }

    #[test]
    fn a_negative_size_is_not_a_huge_one() {
        assert_eq!(size(-1_i64), size(0_u64));
        assert_eq!(size(1_610_612_736_u64), "1.50 GiB");
    }
}
