//! Names that hosts give: whatever is in them, what people read stays theirs.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use tests::{Site, small_guest};
use vix::lab::Product;

/// As a `.vmx` writes it: escape sequences, line breaks, a bell and a mark that turns the order of letters.
const NAME: &str =
    "|1B[31mred|0D|0ABcc: evil@example.org|0D|0A|1B]0;pwned|07 \u{202e}x\u{9b}2J\tend";

fn rename(vmx: &Path, name: &str) -> Result<()> {
    let text = fs::read_to_string(vmx)?;
    let lines = text
        .lines()
        .map(|line| match line.starts_with("displayName") {
            true => format!("displayName = \"{name}\""),
            false => line.to_owned(),
        });
    let lines: Vec<_> = lines.collect();
    Ok(fs::write(vmx, lines.join("\n") + "\n")?)
}

/// Insists that a terminal acts on nothing of what was said.
fn harmless(said: &str) -> Result<()> {
    let acts = |c: char| {
        (c.is_control() && c != '\n')
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    ensure!(!said.contains(acts), "{said:?}");
    Ok(())
}

#[tokio::test]
async fn a_name_moves_no_cursor_and_forges_no_line_in_lists_errors_and_logs() -> Result<()> {
    let mut site = Site::new().await?;
    let host = site.host("alpha", Product::WorkstationShared)?;
    let guest = small_guest(&host, "n00")?;
    rename(guest.vmx(), NAME)?;
    site.start(1)?;
    let run = site.back_up().await?;
    ensure!(run["state"] == "succeeded", "{run:#}");
    let name = site.json(&["guest", "list"])?[0]["name"].clone();
    let name = name.as_str().context("no name")?.to_owned();
    // Control characters are taken out at the border; marks that turn the order of letters belong to names.
    ensure!(
        name.contains('\u{202e}'),
        "it is not as the host has it: {name:?}"
    );
    for command in [
        &["guest", "list"][..],
        &["status"],
        &["point", "list"],
        &["disk", "list"],
        &["events"],
        &["run", "show", "latest"],
        &["run", "list"],
        &["host", "check", "alpha"],
        &["guest", "show", &format!("alpha/{name}")],
    ] {
        let answer = site.virtuozo(command)?.ok()?;
        harmless(&answer.stdout)?;
        harmless(&answer.stderr)?;
        for forged in ["Bcc:", "2J"] {
            let begins = answer.stdout.lines().any(|line| line.starts_with(forged));
            ensure!(!begins, "{command:?}: {}", answer.stdout);
        }
    }
    let listed = site.virtuozo(&["guest", "list"])?.ok()?.stdout;
    ensure!(
        listed.lines().count() == 3,
        "one guest, one line: {listed:?}"
    );
    let json = site.virtuozo(&["guest", "list", "--json"])?.ok()?.stdout;
    harmless(&json)?;
    let refused = site.virtuozo(&["guest", "show", "alpha/\u{1b}[2J\u{202e}\nvirtuozo: done"])?;
    ensure!(refused.code == 2, "{refused:?}");
    harmless(&refused.stderr)?;
    ensure!(refused.stderr.lines().count() == 1, "{refused:?}");
    let logs = site.logs();
    ensure!(!logs.is_empty());
    harmless(&logs)
}
