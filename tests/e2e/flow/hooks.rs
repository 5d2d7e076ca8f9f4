//! Commands before and after runs and backups of guests, as real scripts that write down what they saw.

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt, path::PathBuf};

use anyhow::{Context, Result, ensure};
use tests::{Site, eventually, small_guest};
use vix::lab::{Power, Product};

/// A script in the site's directory, and the path that it is set with.
fn script(site: &Site, name: &str, lines: &str) -> Result<String> {
    let path = site.path(name);
    fs::write(
        &path,
        lines.replace("DIR", &site.path("").display().to_string()),
    )?;
    Ok(path.display().to_string())
}

/// Sets a hook: its options, and a script for the shell.
fn set(site: &Site, options: &[&str], script: &str) -> Result<()> {
    let mut args = vec!["hook", "set"];
    args.extend(options);
    args.extend(["--", "sh", script]);
    site.virtuozo(&args)?.ok()?;
    Ok(())
}

/// What a script has written into a file of the site, when it is complete.
async fn written(site: &Site, name: &str) -> Result<String> {
    let path: PathBuf = site.path(name);
    eventually(&format!("a hook to write {name}"), async || {
        Ok(fs::read_to_string(&path)
            .ok()
            .filter(|text| text.ends_with('\n')))
    })
    .await
}

/// Waits until the process whose id a script has written into a file is gone.
async fn gone(site: &Site, file: &str) -> Result<()> {
    let pid = written(site, file).await?;
    let pid = pid.trim();
    eventually(&format!("the hook with the id {pid} to end"), async || {
        let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        Ok((state.is_empty() || state.contains(") Z ")).then_some(()))
    })
    .await
}

/// The outputs of all hooks that ended with this event's severity, as events tell them.
async fn told(site: &Site, severity: &str) -> Result<Vec<(String, String)>> {
    Ok(sqlx::query_as(
        "SELECT message, detail ->> 'output' FROM virtuozo.events
          WHERE detail ? 'hook' AND severity = $1 ORDER BY id",
    )
    .bind(severity)
    .fetch_all(site.pool())
    .await?)
}

#[tokio::test]
async fn commands_run_around_run_and_guest_and_are_told_what_they_are_about_and_no_secret()
-> Result<()> {
    let mut site = Site::new().await?;
    let host = site.host("alpha", Product::WorkstationShared)?;
    let guest = small_guest(&host, "mail")?;
    site.virtuozo(&["host", "check", "--local"])?.ok()?;
    site.start(1)?;

    // Each finds what those before it have written, and the guest as it is to be then.
    let around = "for f in $NEEDS; do test -f DIR/$f || { echo \"$f is missing\"; exit 9; }; done
env > DIR/$VIRTUOZO_HOOK.part && mv DIR/$VIRTUOZO_HOOK.part DIR/$VIRTUOZO_HOOK
echo \"this is $VIRTUOZO_HOOK\"\n";
    let needs = |names: &str| format!("NEEDS='{names}'\n{around}");
    let hooks = [
        (vec!["--before"], ""),
        (vec!["--guest", "alpha/mail", "--before"], "run-before"),
        (
            vec!["--guest", "alpha/mail", "--after"],
            "run-before guest-before",
        ),
        (vec!["--after"], "run-before guest-before guest-after"),
    ];
    for (number, (options, names)) in hooks.iter().enumerate() {
        let script = script(&site, &format!("hook-{number}"), &needs(names))?;
        set(&site, options, &script)?;
    }
    let run = site.back_up().await?;
    ensure!(run["state"] == "succeeded", "{run:#}");
    let mut seen = BTreeMap::new();
    for name in ["run-before", "guest-before", "guest-after", "run-after"] {
        let text = written(&site, name).await?;
        let variables: BTreeMap<String, String> = text
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        for name in variables.keys() {
            let known = [
                "PATH",
                "HOME",
                "LANG",
                "TZ",
                "PWD",
                "OLDPWD",
                "SHLVL",
                "_",
                "TRACEPARENT",
            ];
            ensure!(
                name.starts_with("VIRTUOZO_") || known.contains(&name.as_str()),
                "{name} in {text}"
            );
        }
        for secret in ["postgres://", "KEY_FILE", "DATABASE_URL"] {
            ensure!(!text.contains(secret), "{secret} is in {text}");
        }
        seen.insert(name, variables);
    }
    let value = |hook: &str, name: &str| seen[hook].get(name).map_or("", String::as_str).to_owned();
    let id = run["id"].as_str().context("no id")?;
    let trace = run["trace_id"].as_str().context("no trace id")?;
    for hook in seen.keys() {
        ensure!(value(hook, "VIRTUOZO_RUN_ID") == id, "{seen:#?}");
        ensure!(value(hook, "VIRTUOZO_ATTEMPT") == "1", "{seen:#?}");
        ensure!(value(hook, "TRACEPARENT").contains(trace), "{seen:#?}");
    }
    for hook in ["guest-before", "guest-after"] {
        ensure!(value(hook, "VIRTUOZO_HOST") == "alpha", "{seen:#?}");
        ensure!(value(hook, "VIRTUOZO_GUEST") == "mail", "{seen:#?}");
        ensure!(value(hook, "VIRTUOZO_MODE") == "hot", "{seen:#?}");
    }
    for hook in ["guest-after", "run-after"] {
        ensure!(value(hook, "VIRTUOZO_OUTCOME") == "succeeded", "{seen:#?}");
    }
    let point = PathBuf::from(value("guest-after", "VIRTUOZO_POINT"));
    ensure!(
        point.starts_with(site.repository()) && point.join("mail.vmx").is_file(),
        "{point:?}"
    );
    ensure!(
        value("run-after", "VIRTUOZO_GUESTS_SUCCEEDED") == "1",
        "{seen:#?}"
    );
    ensure!(
        value("run-after", "VIRTUOZO_GUESTS_FAILED") == "0",
        "{seen:#?}"
    );

    let outputs = eventually("four hooks to be told", async || {
        let told = told(&site, "info").await?;
        Ok((told.len() == 4).then_some(told))
    })
    .await?;
    ensure!(outputs[0].1 == "this is run-before\n", "{outputs:?}");
    ensure!(outputs[3].1 == "this is run-after\n", "{outputs:?}");
    let shown = site.virtuozo(&["run", "show", id])?.ok()?.stdout;
    ensure!(
        shown.contains("the command after the run: succeeded"),
        "{shown}"
    );
    ensure!(guest.power()? == Power::On && guest.snapshots()?.is_empty());

    let listed = site.json(&["hook", "list"])?;
    ensure!(
        listed.as_array().is_some_and(|all| all.len() == 4),
        "{listed:#}"
    );
    ensure!(
        listed[0]["moment"] == "before" && listed[0]["guest"].is_null(),
        "{listed:#}"
    );
    let none = site.virtuozo(&["hook", "clear", "--guest", "alpha/none", "--before"])?;
    ensure!(none.code == 2, "{none:?}");
    let wrong = site.virtuozo(&["hook", "set", "--before", "--", "./mount"])?;
    ensure!(
        wrong.code == 2 && wrong.stderr.contains("absolute path"),
        "{wrong:?}"
    );
    site.stop()
}

#[tokio::test]
async fn a_failing_command_stops_the_backup_or_is_only_told_as_the_administrator_wants()
-> Result<()> {
    let mut site = Site::new().await?;
    let host = site.host("alpha", Product::Server2)?;
    let guest = small_guest(&host, "mail")?;
    site.virtuozo(&["host", "check", "--local"])?.ok()?;
    site.start(1)?;
    let of_guest = ["--guest", "alpha/mail", "--before"];

    let fails = script(&site, "fails", "echo no licence; exit 3\n")?;
    set(&site, &of_guest, &fails)?;
    let outcome = script(
        &site,
        "outcome",
        "echo $VIRTUOZO_OUTCOME > DIR/outcome.txt\n",
    )?;
    set(&site, &["--guest", "alpha/mail", "--after"], &outcome)?;
    let run = site.back_up().await?;
    let line = &run["guest_runs"][0];
    let why = line["error"].as_str().unwrap_or_default();
    ensure!(
        line["state"] == "failed" && line["attempts"] == 1,
        "{run:#}"
    );
    ensure!(line["error_class"] == "operator", "{run:#}");
    for part in ["exit code 3", "no licence", "virtuozo hook clear"] {
        ensure!(why.contains(part), "{part} is not in {why}");
    }
    ensure!(written(&site, "outcome.txt").await? == "failed\n");
    ensure!(guest.power()? == Power::On && guest.snapshots()?.is_empty());
    ensure!(told(&site, "error").await?[0].1 == "no licence\n");

    // With all that it has started, a second after it began.
    let hangs = script(&site, "hangs", "sleep 600 &\necho $! > DIR/sleeps\nwait\n")?;
    set(&site, &[&of_guest[..], &["--limit", "1"]].concat(), &hangs)?;
    let run = site.back_up().await?;
    let why = run["guest_runs"][0]["error"].as_str().unwrap_or_default();
    ensure!(why.contains("killed at its limit of 1 s"), "{run:#}");
    gone(&site, "sleeps").await?;

    let ignored = [&of_guest[..], &["--on-failure", "ignore"]].concat();
    set(&site, &ignored, &fails)?;
    let run = site.back_up().await?;
    ensure!(run["state"] == "succeeded", "{run:#}");
    ensure!(told(&site, "warning").await?[0].1 == "no licence\n");

    // Of a run: no host is touched, and another try begins with the command.
    set(&site, &["--before"], &fails)?;
    let run = site.back_up().await?;
    ensure!(
        run["state"] == "failed" && run["guest_runs"] == serde_json::json!([]),
        "{run:#}"
    );
    ensure!(
        run["error"]
            .as_str()
            .is_some_and(|why| why.contains("the command before the run")),
        "{run:#}"
    );
    // A program elsewhere than in the machine's directory of hooks is not even looked at.
    let elsewhere = site.path("reached");
    fs::write(
        site.path("elsewhere"),
        format!("#!/bin/sh\ntouch {}\n", elsewhere.display()),
    )?;
    fs::set_permissions(site.path("elsewhere"), fs::Permissions::from_mode(0o755))?;
    let outside = site.path("elsewhere").display().to_string();
    site.virtuozo(&["hook", "set", "--before", "--", &outside])?
        .ok()?;
    let run = site.back_up().await?;
    let why = run["error"].as_str().unwrap_or_default();
    ensure!(
        why.contains("runs hooks only from /usr/bin") && why.contains("the machine"),
        "{why}"
    );
    ensure!(!elsewhere.exists(), "a program elsewhere was run");
    site.virtuozo(&["hook", "set", "--before", "--", "no-such-program"])?
        .ok()?;
    let id = run["id"].as_str().context("no id")?.to_owned();
    site.virtuozo(&["run", "retry", &id])?.ok()?;
    let run = site.ended(&id).await?;
    let why = run["error"].as_str().unwrap_or_default();
    ensure!(
        why.contains("/usr/bin/no-such-program cannot be started on the machine"),
        "{why}"
    );
    site.virtuozo(&["hook", "set", "--before", "--", "true"])?
        .ok()?;
    site.virtuozo(&["run", "retry", &id])?.ok()?;
    let run = site.ended(&id).await?;
    ensure!(run["state"] == "succeeded", "{run:#}");
    site.stop()
}

/// Notes each call; the first one hangs.
const HANGS_ONCE: &str = "echo $VIRTUOZO_FENCE >> DIR/calls
test -f DIR/first && exit 0
echo $$ > DIR/first
exec sleep 600\n";

#[tokio::test]
async fn a_command_dies_with_its_worker_and_is_run_again_by_another() -> Result<()> {
    let mut site = Site::new().await?;
    let host = site.host("alpha", Product::Server2)?;
    let guest = small_guest(&host, "mail")?;
    site.virtuozo(&["host", "check", "--local"])?.ok()?;
    let hangs = script(&site, "hangs", HANGS_ONCE)?;
    set(&site, &["--guest", "alpha/mail", "--before"], &hangs)?;
    site.start_scheduler("scheduler")?;
    let mut worker = site.spawn("first", &["worker", "--name", "first"], &[])?;
    let run = site.start_run()?;
    written(&site, "first").await?;
    worker.kill_9()?;
    gone(&site, "first").await?;
    site.start_worker("second")?;
    let run = site.ended(&run).await?;
    ensure!(run["state"] == "succeeded", "{run:#}");
    ensure!(written(&site, "calls").await? == "1\n2\n");
    ensure!(guest.power()? == Power::On && guest.snapshots()?.is_empty());
    site.stop()
}

#[tokio::test]
async fn a_command_of_a_run_dies_with_its_scheduler_or_its_run_and_is_run_again_by_another()
-> Result<()> {
    let mut site = Site::new().await?;
    let host = site.host("alpha", Product::Server2)?;
    small_guest(&host, "mail")?;
    let hangs = script(&site, "hangs", HANGS_ONCE)?;
    set(&site, &["--before"], &hangs)?;
    site.start_worker("worker")?;
    let mut scheduler = site.spawn("first", &["scheduler"], &[])?;
    let run = site.start_run()?;
    written(&site, "first").await?;
    let shown = site.virtuozo(&["run", "show", &run])?.ok()?.stdout;
    ensure!(
        shown.contains("waits for the command before the run"),
        "{shown}"
    );
    scheduler.kill_9()?;
    gone(&site, "first").await?;
    site.start_scheduler("second")?;
    let run = site.ended(&run).await?;
    ensure!(run["state"] == "succeeded", "{run:#}");
    ensure!(written(&site, "calls").await? == "1\n2\n");

    fs::remove_file(site.path("first"))?;
    let run = site.start_run()?;
    written(&site, "first").await?;
    site.virtuozo(&["run", "cancel", &run])?.ok()?;
    gone(&site, "first").await?;
    let run = site.ended(&run).await?;
    ensure!(run["state"] == "cancelled", "{run:#}");
    site.stop()
}
