//! Wrong input of each kind gets a clear message and a non-zero exit.

use std::path::Path;

use anyhow::{Result, ensure};
use tests::Site;
use vix::lab::{HostSpec, Product};

/// Runs a command that must be refused with `code` and a message in which all of `words` stand.
fn refused(site: &Site, args: &[&str], code: i32, words: &[&str]) -> Result<()> {
    let answer = site.virtuozo(args)?;
    ensure!(
        answer.code == code,
        "{args:?}: exit code {} instead of {code}: {}",
        answer.code,
        answer.stderr
    );
    for word in words {
        ensure!(
            answer.stderr.contains(word),
            "{args:?}: {word:?} is not in: {}",
            answer.stderr
        );
    }
    ensure!(
        !answer.stderr.contains("panicked"),
        "{args:?}: {}",
        answer.stderr
    );
    Ok(())
}

#[tokio::test]
async fn wrong_input_is_refused_with_a_reason_and_an_exit_code() -> Result<()> {
    let site = Site::new().await?;
    refused(
        &site,
        &["settings", "set", "host_threads", "11"],
        2,
        &["10"],
    )?;
    refused(
        &site,
        &["settings", "set", "host_threads", "many"],
        2,
        &["many"],
    )?;
    refused(&site, &["settings", "set", "colour", "red"], 2, &["colour"])?;
    refused(
        &site,
        &["settings", "set", "daily_start_time", "25:00"],
        2,
        &["25:00"],
    )?;
    refused(
        &site,
        &["settings", "set", "time_zone", "Mars/Olympus"],
        2,
        &["Mars/Olympus"],
    )?;
    refused(
        &site,
        &["schedule", "add", "nightly", "--cron", "61 * * * *"],
        2,
        &["61"],
    )?;
    refused(
        &site,
        &["host", "add", "x", "--kind", "mainframe"],
        2,
        &["mainframe"],
    )?;
    refused(&site, &["host", "remove", "nobody"], 2, &["nobody"])?;
    refused(
        &site,
        &["guest", "edit", "nobody/mail", "--mode", "hot"],
        2,
        &["nobody"],
    )?;
    refused(&site, &["run", "now", "--host", "nobody"], 2, &["nobody"])?;
    refused(&site, &["run", "show", "ffffffff"], 2, &["ffffffff"])?;
    refused(&site, &["point", "show", "ffffffff"], 2, &["ffffffff"])?;
    refused(
        &site,
        &["restore", "ffffffff", "--to", "/nowhere"],
        2,
        &["ffffffff"],
    )?;
    refused(&site, &["frobnicate"], 2, &["frobnicate"])?;
    Ok(())
}

#[tokio::test]
async fn a_host_that_refuses_the_login_says_whose_password_to_change() -> Result<()> {
    let site = Site::new().await?;
    let spec = HostSpec::new("alpha", Product::Server2);
    let host = site.lab.host(&spec)?;
    site.virtuozo_with(
        &[
            "host",
            "add",
            "alpha",
            "--kind",
            "server2",
            "--address",
            &host.url,
            "--user",
            "backup",
            "--password-stdin",
        ],
        "not the password",
    )?
    .ok()?;
    let answer = site.virtuozo(&["host", "test", "alpha", "--local"])?;
    ensure!(answer.code == 1, "{answer:?}");
    let said = format!("{}{}", answer.stdout, answer.stderr);
    ensure!(
        said.contains("alpha") && said.contains("password"),
        "{said}"
    );
    ensure!(
        !said.contains("not the password"),
        "the password is in the answer: {said}"
    );
    Ok(())
}

#[tokio::test]
async fn an_unreachable_database_is_named_and_has_an_exit_code_of_its_own() -> Result<()> {
    let site = Site::new().await?;
    let answer = site.virtuozo(&[
        "--database-url",
        "postgres://nobody@127.0.0.1:1/none",
        "run",
        "list",
    ])?;
    ensure!(answer.code == 3, "{answer:?}");
    ensure!(answer.stderr.contains("127.0.0.1"), "{}", answer.stderr);
    Ok(())
}

#[tokio::test]
async fn a_terminal_that_closes_ends_a_worker_in_order() -> Result<()> {
    let site = Site::new().await?;
    let mut worker = site.spawn("worker", &["worker", "--name", "w"], &[])?;
    tests::eventually("the worker to run", async || {
        Ok(worker.said().contains("worker runs").then_some(()))
    })
    .await?;
    worker.signal("HUP")?;
    tests::eventually("the worker to end", async || {
        Ok((!worker.runs()?).then_some(()))
    })
    .await?;
    ensure!(
        worker.said().contains("worker has stopped"),
        "{}",
        worker.said()
    );
    Ok(())
}

#[tokio::test]
async fn what_is_wrong_at_the_start_is_told_as_json_where_json_is_asked_for() -> Result<()> {
    let site = Site::new().await?;
    for arguments in [
        &["guest", "list", "--jsno", "--json"][..],
        &["guest", "list", "--json", "--database-url", "none"],
    ] {
        let answer = site.virtuozo(arguments)?;
        ensure!(matches!(answer.code, 2 | 3), "{answer:?}");
        let said: serde_json::Value = serde_json::from_str(&answer.stderr)?;
        ensure!(said["ok"] == false && said["error"].is_string(), "{said}");
    }
    for arguments in [
        &["--log", "json", "worker", "--drain-limit", "soon"][..],
        &["--log", "json", "worker", "--database-url", "none"],
    ] {
        let answer = site.virtuozo(arguments)?;
        ensure!(answer.code == 2, "{answer:?}");
        for line in answer.stderr.lines() {
            let said: serde_json::Value = serde_json::from_str(line)?;
            ensure!(
                said["level"].is_string() && said["message"].is_string(),
                "{said}"
            );
        }
        ensure!(answer.stderr.contains("ERROR"), "{answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_destination_that_can_hold_nothing_fails_its_guests_and_not_the_worker() -> Result<()> {
    let mut site = Site::new().await?;
    let host = site.host("alpha", vix::lab::Product::WorkstationShared)?;
    tests::small_guest(&host, "mail")?;
    site.virtuozo(&["settings", "set", "destination", "/proc/backup"])?
        .ok()?;
    site.start_scheduler("scheduler")?;
    let roots = [("VIRTUOZO_WRITE_ROOTS", Path::new("/proc"))];
    let mut worker = site.spawn("worker", &["worker"], &roots)?;
    let run = site.back_up().await?;
    ensure!(run["state"] == "failed", "{run:#}");
    let said = run["guest_runs"][0]["error"].to_string();
    ensure!(
        said.contains("no directory can be made at /proc/backup"),
        "{said}"
    );
    worker.terminate()?;
    site.stop()
}

#[tokio::test]
async fn a_missing_vix_library_is_named_with_what_to_install() -> Result<()> {
    let site = Site::new().await?;
    let answer = site.virtuozo(&["--vix-library", "/nowhere/libvix.so", "doctor"])?;
    ensure!(answer.code == 1, "{answer:?}");
    let said = format!("{}{}", answer.stdout, answer.stderr);
    ensure!(said.contains("/nowhere/libvix.so"), "{said}");
    Ok(())
}

#[tokio::test]
async fn doctor_tries_the_library_for_each_kind_of_the_configured_hosts() -> Result<()> {
    let site = Site::new().await?;
    site.host("alpha", Product::Esxi)?;
    site.host("beta", Product::WorkstationShared)?;
    let checked = || -> Result<Vec<(String, bool, String)>> {
        let checks = site.virtuozo(&["doctor", "--json"])?.json()?;
        let checks = checks.as_array().cloned().unwrap_or_default();
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        Ok(checks
            .iter()
            .map(|one| (text(&one["what"]), one["ok"] == true, text(&one["found"])))
            .filter(|(what, ..)| {
                ["VIX", "ESXi", "Workstation"]
                    .iter()
                    .any(|word| what.contains(word))
            })
            .collect())
    };
    let all = checked()?;
    ensure!(
        all.len() == 3 && all.iter().all(|(_, ok, _)| *ok),
        "{all:?}"
    );
    // The wrapper library answers, but has no provider, or one that it cannot load.
    for (error, word) in [(22005, "VIX error 22005"), (0, "could not load")] {
        let rule = format!(r#"{{"function": "wrapper:VixHost_Connect", "error": {error}}}"#);
        std::fs::write(site.faults(), rule)?;
        let all = checked()?;
        ensure!(all.len() == 3, "{all:?}");
        for (what, ok, found) in &all {
            let is_library = what.contains("VIX");
            ensure!(*ok == is_library, "{what}: {found}");
            ensure!(is_library || found.contains(word), "{what}: {found}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_second_key_is_not_made_where_passwords_are_sealed_with_another() -> Result<()> {
    let site = Site::new().await?;
    let key = site.path("key");
    let add = |name: &str| {
        let args = [
            "host",
            "add",
            name,
            "--kind",
            "server2",
            "--address",
            "https://nowhere:8333/sdk",
            "--user",
            "backup",
            "--password-stdin",
        ];
        site.virtuozo_with(&args, "a password")
    };
    let checked = || -> Result<String> {
        let doctor = site.virtuozo(&["doctor"])?;
        let line = doctor
            .stdout
            .lines()
            .find(|line| line.contains("key file:"));
        Ok(line.unwrap_or_default().to_owned())
    };
    ensure!(checked()?.starts_with("good"), "{}", checked()?);
    add("alpha")?.ok()?;
    ensure!(checked()?.starts_with("good"), "{}", checked()?);

    let elsewhere = site.path("key-of-another-machine");
    std::fs::rename(&key, &elsewhere)?;
    let answer = add("beta")?;
    ensure!(answer.code == 1, "{answer:?}");
    for word in [
        &key.display().to_string(),
        "host alpha",
        "--key-file",
        "openssl",
    ] {
        ensure!(answer.stderr.contains(word), "{word}: {}", answer.stderr);
    }
    refused(&site, &["host", "show", "beta"], 2, &["beta"])?;
    refused(
        &site,
        &[
            "notice",
            "secret",
            "webhook",
            "--password-file",
            &elsewhere.display().to_string(),
        ],
        1,
        &["host alpha"],
    )?;
    ensure!(!key.exists(), "a second key was made");
    ensure!(checked()?.starts_with("BAD"), "{}", checked()?);

    // Who makes another by hand knows what that means, and is told what it does not open.
    std::fs::copy(&elsewhere, &key)?;
    let text = std::fs::read_to_string(&key)?;
    let other = text.replace(|sign: char| sign.is_ascii_hexdigit(), "a");
    std::fs::write(&key, other)?;
    let said = checked()?;
    ensure!(
        said.starts_with("BAD") && said.contains("host alpha"),
        "{said}"
    );
    std::fs::rename(&elsewhere, &key)?;
    ensure!(checked()?.starts_with("good"), "{}", checked()?);
    Ok(())
}
