//! Loose limits: durations that are written down outside of the files for limits. Those that have to fit each other stand
//! together there, with the reason for each (docs/contributing/add-a-limit.md).

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Where limits stand: of all that may use `virtuozo-runtime`, and of the crates that may not.
const PLACES: &[&str] = &[
    "shared/runtime/src/limits.rs",
    "shared/runtime/src/limits/",
    "hypervisor/src/vix/limits.rs",
    "vix-sys/sim/src/limits.rs",
];

/// Durations that stand elsewhere, each with the reason. Paths are relative to the repository.
pub(crate) const PERMITTED: &[(&str, &str, &str)] = &[
    (
        "disk/src/vmware/lock.rs",
        "STALE_ANNOUNCEMENT",
        "a fact of VMware's lock files, and the only duration of its crate",
    ),
    (
        "repository/src/journal.rs",
        "CHECKPOINT_EVERY",
        "a fact of the journal's format, and the only duration of its crate",
    ),
    (
        "vix-sys/sim/src/guest_process.rs",
        "Duration::from_secs(1)",
        "the second that a guest's writes are counted by",
    ),
];

/// Conditions under which a module is no part of the released program.
const FOR_TESTS: &[&str] = &["test", "conformance"];

/// The loose durations below `src`, as (file, relative to `root`; name of the constant, or the call with a literal).
/// Code that is compiled for tests only is left out. The files are formatted by rustfmt.
pub(crate) fn loose(root: &Path, files: &[PathBuf]) -> Vec<(String, String)> {
    let texts: Vec<(&PathBuf, String)> = files
        .iter()
        .map(|file| (file, fs::read_to_string(file).expect("a source file")))
        .collect();
    let for_tests: Vec<PathBuf> = texts
        .iter()
        .flat_map(|(file, text)| test_modules(file, text))
        .collect();
    let mut found = Vec::new();
    for (file, text) in &texts {
        let path = file.strip_prefix(root).expect("a file of the repository");
        let path = path.display().to_string();
        let is_for_tests = for_tests
            .iter()
            .any(|module| file.starts_with(module) || **file == module.with_extension("rs"));
        if !is_for_tests && !PLACES.iter().any(|place| path.starts_with(place)) {
            found.extend(loose_in(text).into_iter().map(|what| (path.clone(), what)));
        }
    }
    found
}

/// Files of modules, without their ending, that a file declares for tests only.
fn test_modules(file: &Path, text: &str) -> Vec<PathBuf> {
    let dir = match file.file_stem().and_then(|stem| stem.to_str()) {
        Some("lib" | "main") => file.parent().expect("a file in a directory").to_owned(),
        _ => file.with_extension(""),
    };
    let mut is_for_tests = false;
    let mut found = Vec::new();
    for line in text.lines() {
        let declared = line
            .trim_start_matches("pub ")
            .strip_prefix("mod ")
            .and_then(|rest| rest.strip_suffix(';'));
        if let Some(name) = declared.filter(|_| is_for_tests) {
            found.push(dir.join(name));
        }
        is_for_tests = is_condition_of_tests(line) || (is_for_tests && line.starts_with("#["));
    }
    found
}

fn is_condition_of_tests(line: &str) -> bool {
    line.starts_with("#[cfg(") && FOR_TESTS.iter().any(|word| line.contains(word))
}

fn loose_in(text: &str) -> Vec<String> {
    let code = code_of(text);
    let mut found = Vec::new();
    // What stands between two ends of statements ends with at most one constant.
    for item in code.split_inclusive(";\n") {
        let constant = ["const ", "static "]
            .iter()
            .filter_map(|word| item.rfind(word).map(|at| &item[at + word.len()..]))
            .find_map(|rest| rest.split_once(": "))
            .filter(|(name, _)| is_constant(name));
        if let Some((name, rest)) = constant
            && let Some((kind, value)) = rest.split_once(" =")
            && kind.contains("Duration")
            // A trait's constant of this name, which is one of the limits.
            && !(is_associated(item, name) && value.trim_start().starts_with("LIMITS."))
        {
            found.push(name.to_owned());
            continue;
        }
        found.extend(literals(item));
    }
    found
}

/// Calls that make a duration of what is written down: of a number or a constant.
fn literals(code: &str) -> Vec<String> {
    code.match_indices("Duration::")
        .filter_map(|(at, word)| {
            let call = &code[at..];
            let (function, rest) = call[word.len()..].split_once('(')?;
            let makes = function == "new" || function.starts_with("from_");
            let argument = rest.trim_start();
            let first: String = argument
                .chars()
                .take_while(|one| one.is_alphanumeric() || *one == '_')
                .collect();
            let is_written = first.starts_with(|one: char| one.is_ascii_digit())
                || (is_constant(&first) && !argument[first.len()..].starts_with("::"));
            let end = rest.find(')')?;
            (makes && is_written).then(|| format!("{word}{function}({})", rest[..end].trim()))
        })
        .collect()
}

fn is_constant(name: &str) -> bool {
    name.starts_with(|one: char| one.is_ascii_uppercase())
        && name
            .chars()
            .all(|one| one.is_ascii_uppercase() || one.is_ascii_digit() || one == '_')
}

/// Whether the constant stands inside of something.
fn is_associated(item: &str, name: &str) -> bool {
    item.lines()
        .rev()
        .find(|line| line.contains(&format!(" {name}: ")))
        .is_some_and(|line| line.starts_with(' '))
}

/// A file's code without comments and without what is compiled for tests only.
fn code_of(text: &str) -> String {
    let mut code = String::new();
    let mut lines = text.lines();
    let mut is_for_tests = false;
    while let Some(line) = lines.next() {
        if is_for_tests && !line.starts_with("#[") && !line.starts_with("//") {
            is_for_tests = false;
            let is_block = line.ends_with('{');
            if !line.ends_with([';', '}']) {
                let rest = lines.by_ref();
                rest.find(|line| match is_block {
                    true => line.starts_with('}'),
                    false => line.ends_with(';'),
                });
            }
            continue;
        }
        is_for_tests |= is_condition_of_tests(line);
        if line.trim_start().starts_with("//") || is_for_tests {
            continue;
        }
        code.push_str(line.split(" // ").next().unwrap_or_default());
        code.push('\n');
    }
    code
}

#[test]
fn durations_that_are_written_down_are_found_and_those_of_limits_tests_and_settings_are_not() {
    let text = r#"
use std::time::Duration;
const EVERY: Duration = Duration::from_secs(1);
pub(crate) const PAUSES: [std::time::Duration; 2] = [LIMITS.a.b, LIMITS.a.c];
const COPY: Duration = LIMITS.worker.copy;
/// const COMMENT: Duration = Duration::from_secs(1);
const NAME: &str = "Duration";
static LAST: Duration = Duration::ZERO;
const POLICY: BackoffPolicy =
    BackoffPolicy::doubling(Duration::from_millis(100), LIMITS.a.b);
trait Task {
    const PAUSE: Duration;
    const LIMIT: Duration = LIMITS.leader.activation;
    const LONGEST: Duration = 3 * LIMITS.leader.activation;
}
fn wait(seconds: u64, limit: Duration) -> Duration {
    sleep(Duration::from_secs(seconds)); // Duration::from_secs(4)
    sleep(Duration::from_secs_f64(0.5));
    sleep(std::time::Duration::new(3, 0));
    sleep(Duration::from_secs(SECONDS));
    Duration::from_secs(u64::MAX.min(limit.as_secs()))
}
#[cfg(test)]
const LONG: Duration = Duration::from_secs(60);
#[cfg(test)]
mod tests {
    use std::{
        time,
    };
    const SHORT: Duration = Duration::from_secs(60);
}
#[cfg(test)]
const SPREAD: Duration =
    Duration::from_secs(60);
fn after() {
    sleep(Duration::from_nanos(7));
}
"#;
    assert_eq!(
        loose_in(text),
        [
            "EVERY",
            "PAUSES",
            "COPY",
            "LAST",
            "Duration::from_millis(100)",
            "LONGEST",
            "Duration::from_secs_f64(0.5)",
            "Duration::new(3, 0)",
            "Duration::from_secs(SECONDS)",
            "Duration::from_nanos(7)",
        ]
    );
}

#[test]
fn files_of_modules_for_tests_are_left_out() {
    let text = "mod a;\n#[cfg(test)]\nmod tests;\n#[cfg(any(test, feature = \"testing\"))]\n\
                #[allow(x)]\npub mod testing;\nmod b;\n";
    let names = |file: &str| test_modules(Path::new(file), text);
    assert_eq!(
        names("src/lib.rs"),
        ["src/tests", "src/testing"].map(PathBuf::from)
    );
    assert_eq!(
        names("src/x.rs"),
        ["src/x/tests", "src/x/testing"].map(PathBuf::from)
    );
}
