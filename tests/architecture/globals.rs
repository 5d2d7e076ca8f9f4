//! Process globals: statics that the program changes, and globals of libraries. State belongs to values that the program
//! makes and hands to its parts, so that two workers in one process, as tests have them, do not share it.

use std::{fs, path::Path};

/// Statics that may change, each with the reason why nothing can be told apart by handing it in. Paths are relative to
/// the repository.
pub(crate) const PERMITTED: &[(&str, &str, &str)] = &[
    (
        "repository/src/verify.rs",
        "CORES",
        "the number of cores, a constant of the machine",
    ),
    (
        "hypervisor/src/vix/child/calls.rs",
        "RECORDED",
        "the calls of the request that a thread serves, in a process of its own with one connection",
    ),
    (
        "shared/postgres/src/testing.rs",
        "SHARED",
        "the one server for all tests of a process",
    ),
    (
        "shared/postgres/src/testing.rs",
        "NEXT",
        "the names of test databases",
    ),
];

/// What sets or asks the globals of opentelemetry.
const OF_LIBRARIES: &[&str] = &["opentelemetry::global", "global::tracer", "global::meter"];

/// What stands in a type that can be changed through a shared reference.
const CHANGEABLE: &[&str] = &[
    "Atomic",
    "Cell",
    "Condvar",
    "Lazy",
    "Mutex",
    "Notify",
    "Once",
    "RwLock",
    "Semaphore",
    "Sender",
];

/// The statics of a file that may change, by name, and what it uses of the globals of libraries. Test modules in the
/// file are left out. The file is formatted by rustfmt: each item begins on a line of its own.
pub(crate) fn globals(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).expect("a source file");
    globals_in(&text)
}

fn globals_in(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = text.lines();
    let mut after_cfg_test = false;
    while let Some(line) = lines.next() {
        if after_cfg_test && line.starts_with("mod ") && line.ends_with('{') {
            lines.by_ref().find(|line| *line == "}");
        }
        after_cfg_test = line == "#[cfg(test)]";
        let line = line.trim_start();
        if line.starts_with("//") {
            continue;
        }
        let uses = OF_LIBRARIES.iter().filter(|word| line.contains(**word));
        found.extend(uses.map(|word| (*word).to_owned()));
        let Some(item) = after_visibility(line).strip_prefix("static ") else {
            continue;
        };
        let mut item = item.to_owned();
        while !item.contains('=') && !item.contains(';') {
            let Some(next) = lines.next() else { break };
            item.push_str(next.trim());
        }
        let name = item.split(':').next().unwrap_or_default().trim();
        let kind = item
            .strip_prefix(name)
            .and_then(|rest| rest.strip_prefix(':'))
            .and_then(|rest| rest.split('=').next())
            .map(str::trim)
            .unwrap_or_default();
        // A table of constants is a slice, an array or a text.
        let is_table =
            kind.starts_with(['&', '[']) && !CHANGEABLE.iter().any(|word| kind.contains(word));
        if !is_table {
            found.push(name.to_owned());
        }
    }
    found
}

fn after_visibility(line: &str) -> &str {
    match line.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => rest
            .split_once(')')
            .map_or(line, |(_, item)| item.trim_start()),
        Some(rest) => rest.trim_start(),
        None => line,
    }
}

#[test]
fn statics_that_change_are_found_wherever_they_stand_and_tables_are_not() {
    let text = r#"
pub static KEYS: &[Key] = &[];
static ZEROS: [u8; 4] = [0; 4];
static COUNT: AtomicU64 = AtomicU64::new(0);
pub(crate) static OVER: LazyLock<watch::Sender<u64>> =
    LazyLock::new(|| watch::Sender::new(0));
static LOCKS: [Mutex<u8>; 2] = [Mutex::new(0), Mutex::new(0)];
static OWN: Registry = Registry::new();
/// static COMMENT: Mutex<u8>
fn nested(text: &'static str) {
    static ONCE: OnceLock<usize> = OnceLock::new();
    let meter = opentelemetry::global::meter("x");
}
thread_local! {
    static HERE: RefCell<u8> = const { RefCell::new(0) };
}
#[cfg(test)]
mod tests {
    static IN_A_TEST: Mutex<u8> = Mutex::new(0);
}
static mut AFTER: u8 = 0;
"#;
    assert_eq!(
        globals_in(text),
        [
            "COUNT",
            "OVER",
            "LOCKS",
            "OWN",
            "ONCE",
            "opentelemetry::global",
            "global::meter",
            "HERE",
            "mut AFTER"
        ]
    );
}
