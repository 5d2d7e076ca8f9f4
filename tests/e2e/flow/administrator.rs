//! What an administrator sees on a bad night, and can do about it.

use anyhow::{Context, Result, ensure};
use tests::{Site, eventually, small_guest};
use vix::lab::Product;

/// Runs SQL of a test's own.
async fn execute(site: &Site, sql: &'static str) -> Result<()> {
    sqlx::raw_sql(sql).execute(site.pool()).await?;
    Ok(())
}

/// What `doctor` says about one thing, and whether that is good.
fn doctor(site: &Site, what: &str) -> Result<(bool, String)> {
    let checks = site.virtuozo(&["doctor", "--json"])?.json()?;
    let checks = checks.as_array().context("no list")?;
    let check = checks.iter().find(|check| check["what"] == what);
    let check = check.with_context(|| format!("nothing about {what}: {checks:?}"))?;
    let found = check["found"].as_str().context("no text")?.to_owned();
    Ok((check["ok"] == true, found))
}

#[tokio::test]
async fn doctor_names_who_died_until_another_takes_their_place_and_who_leads() -> Result<()> {
    let mut site = Site::new().await?;
    site.start(1)?;
    let mut rack2 = site.spawn("rack2", &["worker", "--name", "rack2"], &[])?;
    let all_there = async || {
        let (good, found) = doctor(&site, "processes")?;
        let all = ["worker-1", "rack2", "(leads)"];
        Ok((good && all.iter().all(|name| found.contains(name))).then_some(()))
    };
    eventually("all processes to be there", all_there).await?;

    rack2.kill_9()?;
    // As it is a minute later.
    execute(
        &site,
        "UPDATE virtuozo_core.workers SET started_at = now() - interval '2 minutes', heartbeat_at = now() - interval '1 minute'
          WHERE name = 'rack2'",
    )
    .await?;
    let (good, found) = doctor(&site, "processes")?;
    ensure!(!good, "{found}");
    for word in [
        "worker rack2",
        "not there any more",
        "last heard of at",
        "start it again",
    ] {
        ensure!(found.contains(word), "{word}: {found}");
    }
    ensure!(!found.contains("worker-1"), "{found}");
    let status = site.virtuozo(&["status"])?.ok()?.stdout;
    let line = |name: &str| status.lines().find(|line| line.contains(name));
    let rack2_line = line("worker rack2").context("no line of rack2")?;
    ensure!(rack2_line.contains("GONE, last heard of"), "{rack2_line}");
    let leader = line("up, leads").context("nobody leads")?;
    ensure!(leader.starts_with("scheduler"), "{leader}");

    let _rack2 = site.spawn("rack2-again", &["worker", "--name", "rack2"], &[])?;
    eventually("rack2 to be replaced", all_there).await?;
    site.stop()
}

#[tokio::test]
async fn what_can_never_be_undone_is_given_up_by_name_and_then_its_host_can_be_removed()
-> Result<()> {
    let mut site = Site::new().await?;
    let host = site.host("alpha", Product::WorkstationShared)?;
    small_guest(&host, "mail")?;
    site.start(1)?;
    let run = site.back_up().await?;
    ensure!(run["state"] == "succeeded", "{run:#}");
    site.stop()?;
    // As a worker leaves it that could not bring the guest back.
    execute(
        &site,
        "INSERT INTO virtuozo_core.obligations (id, kind, host_id, guest_id, guest_run_id, guest_run_fence, attempts, last_error)
         SELECT gen_random_uuid(), 'power_on', host_id, guest_id, id, fence, 7, 'no route to host'
           FROM virtuozo_core.guest_runs",
    )
    .await?;
    let refused = site.virtuozo(&["host", "remove", "alpha"])?;
    ensure!(refused.code == 2, "{refused:?}");
    ensure!(
        refused.stderr.contains("virtuozo obligation list")
            && refused.stderr.contains("virtuozo obligation forgive"),
        "{}",
        refused.stderr
    );
    let list = site.json(&["obligation", "list"])?;
    let id = list[0]["id"].as_str().context("no id")?;
    ensure!(list[0]["last_error"] == "no route to host", "{list:#}");
    let shown = site.virtuozo(&["obligation", "list"])?.ok()?.stdout;
    for word in [&id[28..], "alpha/mail", "not powered on again", "no route"] {
        ensure!(shown.contains(word), "{word}: {shown}");
    }
    for args in [
        ["obligation", "forgive", id, "--reason", " "],
        ["obligation", "forgive", "ffffffff", "--reason", "burnt"],
    ] {
        let refused = site.virtuozo(&args)?;
        ensure!(refused.code == 2, "{refused:?}");
    }
    let done = site.virtuozo(&["obligation", "forgive", &id[28..], "--reason", "it burnt"])?;
    ensure!(
        done.code == 0 && done.stdout.contains("given up: it burnt"),
        "{done:?}"
    );
    site.virtuozo(&["host", "remove", "alpha"])?.ok()?;
    let events = site.virtuozo(&["events", "--user"])?.ok()?.stdout;
    ensure!(
        events.contains("guest alpha/mail: powering it on again is given up: it burnt (user "),
        "{events}"
    );
    Ok(())
}

#[tokio::test]
async fn a_pause_is_seen_wherever_hosts_and_what_waits_for_them_are_shown() -> Result<()> {
    let mut site = Site::new().await?;
    let host = site.host("alpha", Product::WorkstationShared)?;
    small_guest(&host, "mail")?;
    site.start(1)?;
    let said = |args: &[&str]| -> Result<String> { Ok(site.virtuozo(args)?.ok()?.stdout) };
    let everywhere = [
        vec!["status"],
        vec!["host", "list"],
        vec!["host", "show", "alpha"],
    ];
    for args in &everywhere {
        let text = said(args)?.to_lowercase();
        ensure!(!text.contains("paused"), "{args:?}: {text}");
    }
    for (target, words) in [
        ("alpha", "paused since 2"),
        ("all", "paused with all hosts since 2"),
    ] {
        said(&["host", "pause", target])?;
        let run = site.start_run()?;
        for args in &everywhere {
            let text = said(args)?;
            ensure!(text.to_lowercase().contains(words), "{args:?}: {text}");
        }
        let text = said(&["run", "show", &run])?;
        ensure!(text.contains("its host is paused "), "{text}");
        let list = site.json(&["host", "list"])?;
        ensure!(
            list[0]["paused_since"].is_string() && list[0]["paused_by"].is_string(),
            "{list:#}"
        );
        ensure!(list[0]["paused_with_all"] == (target == "all"), "{list:#}");
    }
    let text = said(&["host", "resume", "all"])?;
    ensure!(
        text.contains("still paused, each by its name: alpha"),
        "{text}"
    );
    ensure!(said(&["status"])?.contains("PAUSED since 2"));
    said(&["host", "resume", "alpha"])?;
    ensure!(!said(&["status"])?.contains("PAUSED"));
    site.stop()
}

#[tokio::test]
async fn a_cap_of_a_repository_is_refused_where_no_restore_points_go_and_taken_however_it_is_spelled()
-> Result<()> {
    let site = Site::new().await?;
    let repository = site.repository().display().to_string();
    let mistyped = site.virtuozo(&["repository", "limit", &format!("{repository}s"), "2"])?;
    ensure!(mistyped.code == 2, "{mistyped:?}");
    let named = format!("they go to {repository}: ");
    ensure!(mistyped.stderr.contains(&named), "{}", mistyped.stderr);
    let caps = || -> Result<Vec<(String, Option<i64>)>> {
        let list = site.json(&["repository", "list"])?;
        let list = list.as_array().context("no list")?.iter();
        Ok(list
            .map(|line| {
                let path = line["path"].as_str().unwrap_or_default().to_owned();
                (path, line["guest_threads"].as_i64())
            })
            .collect())
    };
    for (spelling, cap) in [
        (format!("{repository}/"), 3),
        (repository.replace('/', "//./"), 4),
    ] {
        site.virtuozo(&["repository", "limit", &spelling, &cap.to_string()])?
            .ok()?;
        ensure!(
            caps()? == [(repository.clone(), Some(cap))],
            "{:?}",
            caps()?
        );
    }
    let destination = format!("{repository}//");
    site.virtuozo(&["settings", "set", "destination", &destination])?
        .ok()?;
    ensure!(caps()?.len() == 1, "{:?}", caps()?);
    // One that was made before its destination went elsewhere says so, and can be taken away.
    let elsewhere = site.path("elsewhere").display().to_string();
    site.virtuozo(&["settings", "set", "destination", &elsewhere])?
        .ok()?;
    let list = site.virtuozo(&["repository", "list"])?.ok()?.stdout;
    ensure!(list.contains("4, and no guest goes there"), "{list}");
    site.virtuozo(&["repository", "limit", &destination, "none"])?
        .ok()?;
    ensure!(caps()? == [(elsewhere, None)], "{:?}", caps()?);
    Ok(())
}

#[tokio::test]
async fn who_may_not_use_the_tables_is_told_whose_rights_it_takes_and_what_there_is_for_them()
-> Result<()> {
    let site = Site::new().await?;
    let owner: String = sqlx::query_scalar("SELECT session_user::text")
        .fetch_one(site.pool())
        .await?;
    for role in ["virtuozo_read", "virtuozo_operator"] {
        let url = format!("{}&options=-c%20role%3D{role}", site.url());
        let refused = site.virtuozo(&["--database-url", &url, "host", "list"])?;
        ensure!(refused.code == 1, "{refused:?}");
        for words in [
            &format!("the database user {role} may not"),
            &format!("the user {owner}, who owns them"),
            "virtuozo_operator",
            "docs/guide/operate-in-sql.md",
        ] {
            ensure!(
                refused.stderr.contains(words),
                "{words}: {}",
                refused.stderr
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_is_known_of_a_host_stays_unless_it_is_reached_in_another_way() -> Result<()> {
    let site = Site::new().await?;
    let host = site.host("alpha", Product::WorkstationShared)?;
    site.virtuozo(&["host", "check", "alpha", "--local"])?
        .ok()?;
    let edited = |args: &[&str]| -> Result<String> {
        let mut all = vec!["host", "edit", "alpha"];
        all.extend(args);
        site.virtuozo(&all)?.ok()?;
        let shown = site.json(&["host", "show", "alpha"])?;
        Ok(shown["state"].as_str().context("no state")?.to_owned())
    };
    for same in [
        ["--guest-threads", "1"],
        ["--ignored", "true"],
        ["--address", &host.url],
    ] {
        let state = edited(&same)?;
        ensure!(state == "ok", "{same:?}: {state}");
    }
    ensure!(edited(&["--config-dir", "none"])? == "unknown");
    Ok(())
}

#[tokio::test]
async fn a_reason_that_guests_share_with_their_host_is_said_once() -> Result<()> {
    let mut site = Site::new().await?;
    let host = site.host("alpha", Product::WorkstationShared)?;
    for guest in ["db", "mail", "web"] {
        small_guest(&host, guest)?;
    }
    site.virtuozo(&["host", "edit", "alpha", "--guest-threads", "1"])?
        .ok()?;
    site.start(1)?;
    let run = site.back_up().await?;
    ensure!(run["state"] == "succeeded", "{run:#}");
    site.stop()?;
    // As after the host went down: with the first failures, and then with all that it may have.
    execute(
        &site,
        "UPDATE virtuozo_core.runs SET state = 'running', ended_at = NULL;
         UPDATE virtuozo_core.guest_runs SET state = 'waiting', ended_at = NULL;
         INSERT INTO virtuozo_core.circuit_breakers (host_id, failed_probes, error, open_until)
         SELECT id, 2, 'no route', now() + interval '1 hour' FROM virtuozo_core.hosts",
    )
    .await?;
    let shown = site.virtuozo(&["run", "show", "latest"])?.ok()?.stdout;
    ensure!(shown.matches("no route").count() == 1, "{shown}");
    ensure!(
        shown.contains("alpha: 3 guests waiting: its host does not answer"),
        "{shown}"
    );
    ensure!(shown.matches("waits for its host").count() == 3, "{shown}");
    execute(
        &site,
        "UPDATE virtuozo_core.guest_runs SET state = 'failed', ended_at = now(), error = 'the host is down'
          WHERE guest_id IN (SELECT id FROM virtuozo_core.guests WHERE name <> 'db');
         UPDATE virtuozo_core.guest_runs SET state = 'failed', ended_at = now(), error = 'its own' WHERE state = 'waiting'",
    )
    .await?;
    let shown = site.virtuozo(&["run", "show", "latest"])?.ok()?.stdout;
    ensure!(
        shown.contains("alpha: 2 guests (mail, web): the host is down")
            && shown.contains("alpha/db: its own"),
        "{shown}"
    );
    Ok(())
}
