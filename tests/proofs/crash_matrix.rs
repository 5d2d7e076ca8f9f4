//! Goes through the whole crash matrix, writes its table into docs/concepts/reliability.md, and ends with one line
//! of JSON. `make crash-matrix` runs it. Arguments narrow it down to cells whose names contain them all;
//! nothing is written then.

use std::{fmt::Write as _, fs, path::Path, process::ExitCode};

use anyhow::{Context, Result};
use tests::{
    crash::{Cell, Fault, Mode},
    proof,
};

/// Cells that are tried at the same time. Most of a cell's time is spent waiting for a lease to run out.
const AT_ONCE: usize = 3;
const PAGE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../docs/concepts/reliability.md"
);
const BEGIN: &str = "<!-- crash matrix: begin (written by `make crash-matrix`) -->\n";
const END: &str = "<!-- crash matrix: end -->";

pub(crate) fn prove(names: &[String]) -> Result<ExitCode> {
    let cells = proof::asked_for(Cell::all(), names);
    let results = proof::hold_all(&cells, AT_ONCE, async |cell: Cell| cell.hold().await);
    if cells.len() == Cell::all().len() {
        write_table(Path::new(PAGE), &table(&results))?;
    }
    Ok(proof::conclude("cells", &results))
}

fn table(results: &[(Cell, bool)]) -> String {
    let mut table = String::from("| mode | step |");
    for fault in Fault::ALL {
        let _ = write!(table, " {} |", fault.title());
    }
    table.push_str("\n|---|---|");
    table.push_str(&"---|".repeat(Fault::ALL.len()));
    table.push('\n');
    for mode in Mode::ALL {
        for step in mode.steps() {
            let _ = write!(table, "| {} | `{step}` |", mode.name());
            for fault in Fault::ALL {
                let cell = Cell { mode, step, fault };
                let held = results.iter().any(|(tried, held)| *tried == cell && *held);
                table.push_str(match (fault.happens_to(step), held) {
                    (false, _) => " – |",
                    (true, true) => " held |",
                    (true, false) => " **broken** |",
                });
            }
            table.push('\n');
        }
    }
    table
}

fn write_table(page: &Path, table: &str) -> Result<()> {
    let text = fs::read_to_string(page).with_context(|| format!("read {}", page.display()))?;
    let (head, rest) = text
        .split_once(BEGIN)
        .with_context(|| format!("{} lacks the line {BEGIN}", page.display()))?;
    let (_, tail) = rest
        .split_once(END)
        .with_context(|| format!("{} lacks the line {END}", page.display()))?;
    fs::write(page, format!("{head}{BEGIN}\n{table}\n{END}{tail}"))?;
    Ok(())
}
