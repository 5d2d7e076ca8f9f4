//! The fields in docs/reference/json-output.md are those that the commands print with `--json`, and each command has its
//! row there.
//!
//! A cell of fields has their names in backticks. Parentheses explain a field and are not read. `as X` stands for the
//! fields of the row X; `without` takes some of them away up to the next semicolon, and further names add to them. A row
//! that begins with `…` is about a field of the command above it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tests::{Site, eventually, small_guest};
use vix::lab::Product;

/// The page, read when the test runs.
fn page() -> Result<String> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../docs/reference/json-output.md"
    );
    Ok(std::fs::read_to_string(path)?)
}

/// Commands that run until they are stopped, and so print no JSON.
const SERVICES: [&str; 3] = ["up", "scheduler", "worker"];

/// Commands whose JSON other tests hold: the file of a site, and the result of the demonstration.
const ELSEWHERE: [&str; 2] = ["export", "demo"];

type Fields = BTreeSet<String>;

/// The names in backticks.
fn names(text: &str) -> Fields {
    text.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// The text without what stands in parentheses.
fn without_parentheses(text: &str) -> String {
    let mut depth = 0;
    text.chars()
        .filter(|c| {
            depth += i32::from(*c == '(');
            let keep = depth == 0;
            depth -= i32::from(*c == ')');
            keep
        })
        .collect()
}

/// The fields that a cell documents.
fn fields(cell: &str, rows: &BTreeMap<String, Fields>) -> Result<Fields> {
    let text = without_parentheses(cell);
    let Some((_, rest)) = text.split_once("as `") else {
        return Ok(names(&text));
    };
    let (other, rest) = rest.split_once('`').context("no end of a name")?;
    let mut fields = rows
        .get(other)
        .with_context(|| format!("no row {other} above"))?
        .clone();
    let mut more = rest;
    if let Some((_, gone)) = rest.split_once(" without ") {
        let (gone, after) = gone.split_once(';').unwrap_or((gone, ""));
        for name in names(gone) {
            ensure!(fields.remove(&name), "{other} has no field {name}");
        }
        more = after;
    }
    fields.extend(names(more));
    Ok(fields)
}

/// The documented fields by row: `run show`, or `run show/steps` for a field of it.
fn documented() -> Result<BTreeMap<String, Fields>> {
    let mut rows = BTreeMap::new();
    let mut command = String::new();
    for line in page()?.lines().filter(|line| line.starts_with("| ")) {
        let mut cells = line.trim_matches('|').splitn(2, " | ");
        let (first, rest) = (cells.next(), cells.next());
        let (Some(first), Some(rest)) = (first, rest) else {
            bail!("a row without fields: {line}");
        };
        let Some(name) = first.split('`').nth(1) else {
            continue;
        };
        let row = if first.contains('…') {
            format!("{command}/{name}")
        } else {
            name.clone_into(&mut command);
            command.clone()
        };
        let fields = fields(rest, &rows).with_context(|| format!("the row {row}"))?;
        ensure!(rows.insert(row.clone(), fields).is_none(), "{row} twice");
    }
    Ok(rows)
}

/// The names of a printed object, or of all objects in a printed array.
fn printed_fields(value: &Value) -> Result<Fields> {
    match value {
        Value::Object(object) => Ok(object.keys().cloned().collect()),
        Value::Array(all) => {
            ensure!(
                !all.is_empty(),
                "nothing was printed: the test shows nothing"
            );
            let all: Result<Vec<Fields>> = all.iter().map(printed_fields).collect();
            Ok(all?.into_iter().flatten().collect())
        }
        other => bail!("no object: {other}"),
    }
}

/// What the commands print, by row.
#[derive(Default)]
struct Printed(BTreeMap<String, Fields>);

impl Printed {
    fn add(&mut self, row: &str, value: &Value) -> Result<()> {
        let fields = printed_fields(value).with_context(|| format!("{row}: {value:#}"))?;
        self.0.entry(row.to_owned()).or_default().extend(fields);
        Ok(())
    }

    /// Runs a command, whatever its exit code, and adds what it prints; also that of `nested` fields, as pointers.
    fn run(&mut self, site: &Site, row: &str, args: &[&str], nested: &[&str]) -> Result<Value> {
        let mut all: Vec<&str> = row.split(' ').collect();
        all.extend(args);
        all.push("--json");
        let answer = site.virtuozo(&all)?;
        let value = answer
            .json()
            .with_context(|| format!("{row}: {answer:?}"))?;
        self.add(row, &value)?;
        for field in nested {
            let found = inside(&value, field);
            ensure!(!found.is_empty(), "{row} prints no {field}: {value:#}");
            for value in found {
                self.add(&format!("{row}/{field}"), value)?;
            }
        }
        Ok(value)
    }
}

/// All values of a field, at any depth.
fn inside<'a>(value: &'a Value, field: &str) -> Vec<&'a Value> {
    let is_empty = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
    match value {
        Value::Object(object) => object
            .iter()
            .flat_map(|(name, value)| {
                let own = (name == field && !is_empty(value)).then_some(value);
                own.into_iter().chain(inside(value, field))
            })
            .collect(),
        Value::Array(all) => all.iter().flat_map(|value| inside(value, field)).collect(),
        _ => Vec::new(),
    }
}

/// The commands that have no subcommands, from the help of the program.
fn commands(site: &Site, path: &[&str], into: &mut Vec<String>) -> Result<()> {
    let mut args = path.to_vec();
    args.push("--help");
    let help = site.virtuozo(&args)?.ok()?.stdout;
    let listed = help
        .split_once("\nCommands:\n")
        .map(|(_, rest)| rest.split("\n\n").next().unwrap_or_default());
    let Some(listed) = listed else {
        into.push(path.join(" "));
        return Ok(());
    };
    if path.first() == Some(&"worker") {
        into.push("worker".to_owned());
    }
    for line in listed.lines() {
        let name = line
            .strip_prefix("  ")
            .filter(|rest| !rest.starts_with(' '));
        let name = name.and_then(|rest| rest.split(' ').next());
        if let Some(name) = name.filter(|name| *name != "help") {
            commands(site, &[path, &[name]].concat(), into)?;
        }
    }
    Ok(())
}

/// Settings in a table of docs/reference/settings.md.
fn settings(heading: &str) -> Result<Fields> {
    let page = include_str!("../../docs/reference/settings.md");
    let (_, part) = page.split_once(heading).context("no such heading")?;
    let part = part.split("\n## ").next().unwrap_or_default();
    Ok(part
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .map(str::to_owned)
        .collect())
}

/// A site where every list has an entry: a guest with restore points, hooks, notices, an obligation.
async fn full_site() -> Result<Site> {
    let mut site = Site::new().await?;
    let host = site.host("alpha", Product::WorkstationShared)?;
    small_guest(&host, "mail")?;
    site.start(1)?;
    for args in [
        ["hook", "set", "--before", "--", "true"].as_slice(),
        &[
            "hook",
            "set",
            "--guest",
            "alpha/mail",
            "--after",
            "--",
            "true",
        ],
        &["schedule", "add", "nightly"],
        // The port of a service that no machine has.
        &[
            "notice",
            "settings",
            "set",
            "webhook_url",
            "http://127.0.0.1:9/",
        ],
        &["notice", "settings", "set", "on_success", "true"],
    ] {
        if args.contains(&"alpha/mail") {
            site.virtuozo(&["host", "check", "alpha"])?.ok()?;
        }
        site.virtuozo(args)?.ok()?;
    }
    let run = site.back_up().await?;
    ensure!(run["state"] == "succeeded", "{run:#}");
    eventually("a notice", async || {
        let notices = site.json(&["notice", "list"])?;
        Ok(notices
            .as_array()
            .is_some_and(|all| !all.is_empty())
            .then_some(()))
    })
    .await?;
    sqlx::query(
        "INSERT INTO virtuozo_core.obligations (id, kind, host_id, guest_id, guest_run_id, guest_run_fence, attempts, next_attempt_at, last_error)
         SELECT gen_random_uuid(), 'power_on', host_id, guest_id, id, fence, 7, now() + interval '1 day', 'no route to host'
           FROM virtuozo_core.guest_runs",
    )
    .execute(site.pool())
    .await?;
    // Of the simulated hosts none names its nodes.
    sqlx::query("INSERT INTO virtuozo_core.guest_slots (host_id, node, slot_no) SELECT id, 'one', 1 FROM virtuozo_core.hosts")
        .execute(site.pool())
        .await?;
    Ok(site)
}

#[tokio::test]
async fn the_page_of_json_output_names_every_command_and_exactly_the_fields_that_it_prints()
-> Result<()> {
    let site = full_site().await?;
    let mut printed = Printed::default();
    let out = &mut printed;
    let repository = site.repository().display().to_string();
    let point = site.json(&["point", "list"])?;
    let point = point[0]["id"].as_str().context("no point")?.to_owned();
    let no_point = site.path("none/of/them");
    std::fs::create_dir_all(&no_point)?;
    let no_point = no_point.display().to_string();

    out.run(&site, "host list", &[], &[])?;
    out.run(&site, "host show", &["alpha"], &["datastores", "nodes"])?;
    out.run(&site, "host test", &["alpha"], &[])?;
    out.run(&site, "host check", &["alpha"], &["guests"])?;
    out.run(&site, "guest list", &[], &[])?;
    out.run(&site, "guest show", &["alpha/mail"], &["disks"])?;
    out.run(&site, "disk list", &[], &[])?;
    out.run(&site, "datastore list", &[], &[])?;
    out.run(&site, "datastore propose", &["alpha"], &["datastores"])?;
    out.run(&site, "run list", &[], &[])?;
    out.run(
        &site,
        "run show",
        &["latest"],
        &["host_runs", "guest_runs", "steps", "hook_runs"],
    )?;
    out.run(&site, "schedule list", &[], &[])?;
    out.run(&site, "schedule next", &[], &[])?;
    out.run(&site, "obligation list", &[], &[])?;
    out.run(&site, "events", &[], &[])?;
    out.run(&site, "hook list", &[], &[])?;
    out.run(&site, "point list", &[], &[])?;
    out.run(
        &site,
        "point show",
        &[&point],
        &["record", "manifest", "authenticity"],
    )?;
    out.run(&site, "point verify", &[&point], &[])?;
    out.run(&site, "point verify", &[&no_point], &[])?;
    out.run(&site, "point adopt", &[&point], &[])?;
    out.run(&site, "point delete", &[&point, "--dry-run"], &[])?;
    let restored = site.path("restored").display().to_string();
    out.run(&site, "restore", &[&point, "--to", &restored], &[])?;
    out.run(&site, "repository list", &[], &[])?;
    std::fs::create_dir_all(site.repository().join("alpha/stray/thing"))?;
    out.run(&site, "repository scan", &["--dry-run"], &["findings"])?;
    out.run(&site, "repository adopt", &[&repository], &[])?;
    out.run(
        &site,
        "status",
        &[],
        &["hosts", "guests", "disks", "processes", "obligations"],
    )?;
    sqlx::query(
        "INSERT INTO virtuozo_core.missing_capabilities (worker_id, location, reason)
         SELECT id, '/mnt/none', 'there is no such directory' FROM virtuozo_core.workers WHERE kind = 'worker'",
    )
    .execute(site.pool())
    .await?;
    out.run(&site, "worker list", &[], &["kinds", "lacks"])?;
    out.run(&site, "notice list", &[], &[])?;
    out.run(&site, "notice test", &[], &[])?;
    out.run(&site, "notice preview", &["success"], &["runs"])?;
    let file = site.path("site.toml").display().to_string();
    site.virtuozo(&["export", "--without-passwords", "--out", &file])?
        .ok()?;
    let text = std::fs::read_to_string(&file)?.replace("keep_last = 7", "keep_last = 8");
    std::fs::write(&file, text)?;
    let import = [&*file, "--without-passwords", "--dry-run"];
    out.run(&site, "import", &import, &["changes", "fields"])?;
    out.run(&site, "config show", &[], &[])?;
    out.run(&site, "doctor", &[], &[])?;
    out.run(&site, "version", &[], &[])?;
    let dir = site.only_point("mail").await?;
    let damaged = std::fs::read_dir(&dir)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|end| end == "vmdk"))
        .context("no disk")?;
    std::fs::OpenOptions::new()
        .append(true)
        .open(damaged)
        .and_then(|mut file| std::io::Write::write_all(&mut file, b"more"))?;
    out.run(&site, "point verify", &[&point], &["problems"])?;
    std::fs::remove_dir_all(&dir)?;
    out.run(&site, "point verify", &[&point], &[])?;

    let all_settings = out.run(&site, "settings get", &[], &[])?;
    let one = site.json(&["settings", "get", "keep_last"])?;
    ensure!(printed_fields(&one)? == BTreeSet::from(["keep_last".to_owned()]));
    ensure!(printed_fields(&all_settings)? == settings("## Settings of the site")?);
    out.0.remove("settings get");
    let notices = out.run(&site, "notice settings get", &[], &[])?;
    let mut expected = settings("## Settings of notices")?;
    let secrets = ["has_mail_password", "has_webhook_secret"].map(str::to_owned);
    expected.extend(secrets.clone());
    ensure!(printed_fields(&notices)? == expected);
    out.0
        .insert("notice settings get".to_owned(), secrets.into());

    // While the host is paused its guests wait, and the run cannot end before it is cancelled.
    site.virtuozo(&["host", "pause", "alpha"])?.ok()?;
    out.run(&site, "run now", &[], &[])?;

    let changes = [
        &["run", "cancel", "latest"][..],
        &["host", "resume", "alpha"],
        &["host", "pause", "alpha"],
        &["host", "edit", "alpha", "--ignored", "false"],
        &["guest", "edit", "alpha/mail", "--keep-last", "3"],
        &[
            "disk",
            "edit",
            "alpha/mail",
            "scsi0:0",
            "--ignored",
            "false",
        ],
        &["datastore", "map", "alpha", "other", "/tmp"],
        &["datastore", "limit", "alpha", "other", "2"],
        &["datastore", "unmap", "alpha", "other"],
        &["repository", "limit", &repository, "2"],
        &["schedule", "edit", "nightly", "--enabled", "false"],
        &["schedule", "remove", "nightly"],
        &["schedule", "add", "again"],
        &["settings", "set", "keep_last", "9"],
        &["notice", "settings", "set", "on_success", "false"],
        &["notice", "secret", "mail", "--remove"],
        &["notice", "retry"],
        &["hook", "clear", "--before"],
        &["hook", "set", "--before", "--", "true"],
        &["worker", "drain", "worker-1"],
    ];
    let mut acknowledged: BTreeSet<String> = BTreeSet::new();
    for args in changes {
        let mut all = args.to_vec();
        let end_of_options = args.iter().position(|arg| *arg == "--");
        all.insert(end_of_options.unwrap_or(args.len()), "--json");
        let done = site.virtuozo(&all)?.ok()?.json()?;
        ensure!(
            printed_fields(&done)? == BTreeSet::from(["message".to_owned(), "ok".to_owned()])
                && done["ok"] == true,
            "{args:?}: {done}"
        );
        acknowledged.insert(args.join(" "));
    }
    // Of these only what they print after a failure is looked at: they need more than this site has.
    let others = [
        "host add",
        "host remove",
        "host password",
        "guest add",
        "guest remove",
        "run retry",
        "obligation forgive",
        "health",
    ];

    let documented = documented()?;
    let mut wrong = Vec::new();
    for row in documented
        .keys()
        .chain(printed.0.keys())
        .collect::<BTreeSet<_>>()
    {
        match (documented.get(row), printed.0.get(row)) {
            (Some(said), Some(found)) if said == found => {}
            (Some(said), None) if said.is_empty() => {}
            (said, found) => {
                let none = Fields::new();
                let (said, found) = (said.unwrap_or(&none), found.unwrap_or(&none));
                let missing: Vec<_> = found.difference(said).collect();
                let surplus: Vec<_> = said.difference(found).collect();
                wrong.push(format!(
                    "{row}: not documented {missing:?}, not printed {surplus:?}"
                ));
            }
        }
    }
    let mut every = Vec::new();
    commands(&site, &[], &mut every)?;
    ensure!(
        every.len() > 50,
        "the walk found too few commands: {every:?}"
    );
    for command in every {
        let known = documented.contains_key(&command)
            || SERVICES.contains(&&*command)
            || ELSEWHERE.contains(&&*command)
            || others.contains(&&*command)
            || acknowledged.iter().any(|args| args.starts_with(&command));
        if !known {
            wrong.push(format!(
                "{command} has no row, and is not known to print a message only"
            ));
        }
    }
    ensure!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}
