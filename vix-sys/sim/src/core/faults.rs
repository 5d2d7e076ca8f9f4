//! Faults made on purpose, by rules from the file that `VIRTUOZO_SIM_FAULTS` names.
//!
//! One JSON object per line; empty lines and lines with `#` in front are passed over. The README
//! describes the fields. Calls are counted over all processes in `<file>.state`.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use vix_sys::{VIX_E_INVALID_ARG, VIX_E_INVALID_SERIALIZED_DATA, VixError};

use super::{
    error::{Result, SimError},
    files::{self, FileLock},
};
use crate::stamps::{fnv1a, mix};

/// Names the file with the rules.
pub(crate) const FILE_VARIABLE: &str = "VIRTUOZO_SIM_FAULTS";

/// On which side of an operation's effect a fault happens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum When {
    #[default]
    Before,
    After,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Rule {
    function: String,
    object: String,
    when: When,
    nth: Option<u64>,
    first: Option<u64>,
    probability: Option<f64>,
    delay_ms: u64,
    error: Option<VixError>,
    hang: bool,
    crash: bool,
}

impl Rule {
    fn concerns(&self, function: &str, object: &str, when: When) -> bool {
        // Wrapper and properties are no functions.
        let any = self.function == "*"
            && !function.starts_with("wrapper:")
            && !function.starts_with("property:");
        (self.function == function || any) && self.when == when && object.contains(&self.object)
    }

    /// Whether it happens on this call, `count` being the number of the call from 1.
    fn happens(&self, line: &str, count: u64) -> bool {
        // The same file makes the same faults every time.
        let chance = mix(fnv1a(line.as_bytes()) ^ mix(count)) as f64 / u64::MAX as f64;
        self.nth.is_none_or(|nth| nth == count)
            && self.first.is_none_or(|first| count <= first)
            && self
                .probability
                .is_none_or(|probability| chance < probability)
    }

    fn act(&self, function: &str) -> Result<()> {
        std::thread::sleep(Duration::from_millis(self.delay_ms));
        if self.crash {
            std::process::abort();
        }
        if self.hang {
            loop {
                std::thread::park();
            }
        }
        match self.error {
            Some(code) => Err(SimError::new(code, format!("a fault rule for {function}"))),
            None => Ok(()),
        }
    }
}

/// Lets the rules that fit happen. `object` is the host, or the `.vmx` of the guest.
pub(crate) fn apply(function: &str, object: &str, when: When) -> Result<()> {
    match std::env::var_os(FILE_VARIABLE) {
        Some(file) => apply_file(&PathBuf::from(file), function, object, when),
        None => Ok(()),
    }
}

/// A place inside an operation where a rule can strike, under a name that is no function's.
pub(crate) fn point(name: &str, vmx: &Path) -> Result<()> {
    apply(name, &vmx.to_string_lossy(), When::Before)
}

fn apply_file(file: &Path, function: &str, object: &str, when: When) -> Result<()> {
    let text = fs::read_to_string(file).map_err(SimError::io("read", file))?;
    let mut due = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let rule: Rule = serde_json::from_str(line).map_err(|error| {
            let message = format!("{}, line {}: {error}", file.display(), number + 1);
            // The API carries a code only; a rule that never strikes would make a test of nothing.
            eprintln!("vix-sim: {message}");
            SimError::new(VIX_E_INVALID_ARG, message)
        })?;
        if rule.concerns(function, object, when) {
            let count = count(file, line)?;
            if rule.happens(line, count) {
                due.push(rule);
            }
        }
    }
    due.iter().try_for_each(|rule| rule.act(function))
}

/// Counts one more call that a rule concerns; its number.
fn count(file: &Path, line: &str) -> Result<u64> {
    let path = files::with_suffix(file, ".state");
    let lock = files::with_suffix(file, ".lock");
    let _lock = FileLock::acquire(&lock).map_err(SimError::io("lock", &lock))?;
    let mut counts: BTreeMap<String, u64> = match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
            SimError::new(
                VIX_E_INVALID_SERIALIZED_DATA,
                format!("{}: {error}", path.display()),
            )
        })?,
        Err(_) => BTreeMap::new(),
    };
    let count = counts.entry(line.to_owned()).or_insert(0);
    *count += 1;
    let count = *count;
    let bytes = serde_json::to_vec(&counts)
        .map_err(|error| SimError::new(VIX_E_INVALID_SERIALIZED_DATA, error.to_string()))?;
    files::replace(&path, &bytes).map_err(SimError::io("write", &path))?;
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("faults");
        fs::write(&file, text).unwrap();
        (dir, file)
    }

    #[test]
    fn a_rule_strikes_its_function_object_and_call_only() {
        let (_dir, file) = rules(
            "# note\n\n{\"function\":\"VixVM_PowerOn\",\"object\":\"mail\",\"nth\":2,\"error\":3041}\n",
        );
        let call = |function, object, when| {
            apply_file(&file, function, object, when).map_err(|error| error.code)
        };
        assert_eq!(call("VixVM_PowerOn", "/x/mail.vmx", When::Before), Ok(()));
        assert_eq!(call("VixVM_PowerOff", "/x/mail.vmx", When::Before), Ok(()));
        assert_eq!(call("VixVM_PowerOn", "/x/web.vmx", When::Before), Ok(()));
        assert_eq!(call("VixVM_PowerOn", "/x/mail.vmx", When::After), Ok(()));
        assert_eq!(
            call("VixVM_PowerOn", "/x/mail.vmx", When::Before),
            Err(3041)
        );
        assert_eq!(call("VixVM_PowerOn", "/x/mail.vmx", When::Before), Ok(()));
    }

    #[test]
    fn the_first_calls_fail_and_the_rest_pass() {
        let (_dir, file) = rules(r#"{"function":"*","first":2,"when":"after","error":1}"#);
        let results: Vec<_> = (0..4)
            .map(|_| apply_file(&file, "Any", "", When::After).is_err())
            .collect();
        assert_eq!(results, [true, true, false, false]);
    }

    #[test]
    fn a_probability_is_met_and_is_the_same_in_every_run() {
        let run = || {
            let (_dir, file) = rules(r#"{"function":"*","probability":0.3,"error":1}"#);
            (0..200)
                .map(|_| apply_file(&file, "Any", "", When::Before).is_err())
                .collect::<Vec<_>>()
        };
        let first = run();
        let struck = first.iter().filter(|struck| **struck).count();
        assert!((30..90).contains(&struck), "{struck} of 200");
        assert_eq!(first, run());
    }

    #[test]
    fn a_rule_that_cannot_be_read_is_an_error_of_every_call() {
        let (_dir, file) = rules(r#"{"funktion":"VixVM_PowerOn"}"#);
        assert!(apply_file(&file, "Any", "", When::Before).is_err());
    }
}
