//! What the demo found out, for people and for programs.

use anyhow::Result;
use serde::Serialize;

use crate::output::{self, Output};

/// The object that `demo --json` prints.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    /// What should succeed did, the broken guest failed alone, and nothing stayed behind.
    pub(super) ok: bool,
    pub(super) guests: Vec<GuestOutcome>,
    pub(super) restores: Vec<RestoreOutcome>,
    /// Snapshots of ours that are still there.
    pub(super) snapshots_left: usize,
    /// A guest is not in the power state it had before.
    pub(super) power_state_changed: bool,
    /// Each thing that is not as it should be, as a sentence.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) problems: Vec<String>,
}

/// What became of one guest.
#[derive(Debug, Serialize)]
pub(super) struct GuestOutcome {
    pub(super) host: String,
    pub(super) guest: String,
    /// `hot` or `cold`; none if it failed before that was decided.
    pub(super) mode: Option<String>,
    pub(super) state: String,
    /// Read from the guest's disks.
    pub(super) bytes: i64,
    pub(super) seconds: f64,
    /// Every byte of its restore point was read again and found right.
    pub(super) verified: bool,
    pub(super) error: Option<String>,
    /// What it is in the lab for.
    #[serde(skip)]
    pub(super) about: &'static str,
}

/// A guest that was restored and compared.
#[derive(Debug, Serialize)]
pub(super) struct RestoreOutcome {
    pub(super) guest: String,
    pub(super) identical: bool,
    /// What was compared with what.
    #[serde(skip)]
    pub(super) how: String,
}

impl Outcome {
    /// Prints the table and what was found, or the object.
    pub(super) fn print(&self, out: &Output) -> Result<()> {
        if out.is_json() {
            return out.json(self);
        }
        let mut table = output::table(&[
            "Guest", "What", "Mode", "State", "Copied", "Seconds", "Verified",
        ]);
        for guest in &self.guests {
            table.add([
                format!("{}/{}", guest.host, guest.guest),
                guest.about.to_owned(),
                output::or_dash(guest.mode.as_ref()),
                guest.state.clone(),
                output::size(guest.bytes),
                format!("{:.1}", guest.seconds),
                output::yes_no(guest.verified),
            ]);
        }
        out.table(&table)?;
        for guest in &self.guests {
            if let Some(error) = &guest.error {
                out.line(&format!("{}/{}: {error}", guest.host, guest.guest))?;
            }
        }
        for restore in &self.restores {
            let verdict = if restore.identical {
                "identical"
            } else {
                "NOT IDENTICAL"
            };
            out.line(&format!(
                "restored {}: {verdict}; {}",
                restore.guest, restore.how
            ))?;
        }
        out.line(&format!(
            "snapshots left behind: {}; power states: {}",
            self.snapshots_left,
            if self.power_state_changed {
                "CHANGED"
            } else {
                "as before"
            }
        ))?;
        for problem in &self.problems {
            out.line(&format!("PROBLEM: {problem}"))?;
        }
        Ok(())
    }
}
