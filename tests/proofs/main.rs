//! The proofs that take minutes, in one program. The first argument names the proof, the rest narrows it down.
//! Each ends with one line of JSON and has a target of its own in the Makefile.

mod crash_matrix;
mod fleet;
mod outage;
mod upgrade;

use std::process::ExitCode;

use anyhow::{Result, bail};

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((proof, rest)) = arguments.split_first() else {
        bail!("name a proof: crash-matrix, fleet, outage or upgrade");
    };
    match proof.as_str() {
        "crash-matrix" => crash_matrix::prove(rest),
        "fleet" => fleet::prove(rest),
        "outage" => Ok(outage::prove(rest)),
        "upgrade" => upgrade::prove(rest),
        other => bail!("there is no proof {other:?}: crash-matrix, fleet, outage or upgrade"),
    }
}
