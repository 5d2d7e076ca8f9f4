//! Failpoints are no part of the released program.

use std::{path::Path, process::Command};

use anyhow::{Result, bail, ensure};
use tests::{FAILPOINTS, built};

/// What the program with failpoints says where it is given an unknown place.
const PLACES: &str = "undo.change, copy.middle, copy.durable";

/// Whether this text stands in the bytes of a program.
fn holds(program: &Path, text: &str) -> Result<bool> {
    let found = Command::new("grep")
        .args(["--quiet", "--text", "--fixed-strings", text])
        .arg(program)
        .status()?;
    match found.code() {
        Some(0) => Ok(true),
        Some(1) => Ok(false),
        _ => bail!("grep in {}: {found}", program.display()),
    }
}

#[test]
fn the_released_program_knows_no_failpoint() -> Result<()> {
    let (released, disturbed) = (built("virtuozo")?, built("virtuozo-failpoints")?);
    for text in [FAILPOINTS, PLACES, "a failpoint lets the worker fail"] {
        ensure!(holds(&disturbed, text)?, "{text:?} is not found anywhere");
        ensure!(!holds(&released, text)?, "virtuozo knows {text:?}");
    }
    Ok(())
}
