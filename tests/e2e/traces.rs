//! What a receiver of traces gets: the whole tree of a backup, whatever happens to those who send it.

mod back_end;
mod receiver;
mod tree;

use std::path::Path;

use anyhow::{Context, Result, ensure};
use tests::{Background, FAILPOINTS, Site, eventually, pause_at};
use virtuozo_disk::vmdk::DiskKind;
use vix::lab::{DiskSpec, GuestSpec, LabHost, Power, Product};

use self::{
    receiver::{Protocol, Receiver},
    tree::{Seen, Tree},
};

/// The library's code for "the disk is full", the simulator's fault in these tests.
const CODE: &str = "8";

fn guest(host: &LabHost, name: &str) -> Result<()> {
    let mut disk = DiskSpec::new("scsi0:0", DiskKind::MonolithicSparse, 48 << 20);
    disk.fill_bytes = 24 << 20;
    let mut spec = GuestSpec::new(name, vec![disk]);
    spec.power = Power::On;
    host.guest(&spec)?;
    Ok(())
}

/// Starts a process of the site that sends traces as the variables say.
fn spawn(site: &Site, name: &str, args: &[&str], variables: &[(&str, &str)]) -> Result<Background> {
    let mut env: Vec<(&str, &Path)> = variables
        .iter()
        .map(|(name, value)| (*name, Path::new(*value)))
        .collect();
    env.push(("OTEL_BSP_SCHEDULE_DELAY", Path::new("100")));
    env.push(("VIRTUOZO_LOG", Path::new("json")));
    site.spawn(name, args, &env)
}

/// The trace of a run, once its root has come; by then the workers' last spans are on their way.
async fn trace_of(receiver: &Receiver, shown: &serde_json::Value) -> Result<String> {
    let trace = shown["trace_id"]
        .as_str()
        .context("no trace id")?
        .to_owned();
    eventually("the span of the run", async || {
        let came = receiver
            .seen()
            .iter()
            .any(|s| s.trace == trace && s.name == "run");
        Ok(came.then_some(()))
    })
    .await?;
    Ok(trace)
}

fn of_guest<'a>(spans: &[&'a Seen], guest: &str) -> Vec<&'a Seen> {
    spans
        .iter()
        .filter(|s| s.attribute("virtuozo.guest") == guest)
        .copied()
        .collect()
}

#[tokio::test]
async fn a_good_hot_backup_is_one_trace_from_the_run_to_the_library_s_calls() -> Result<()> {
    let site = Site::new().await?;
    guest(&site.host("alpha", Product::WorkstationShared)?, "mail")?;
    let receiver = Receiver::start(Protocol::Grpc).await?;
    let mut scheduler = spawn(&site, "scheduler", &["scheduler"], &receiver.variables())?;
    let mut worker = spawn(
        &site,
        "worker",
        &["worker", "--name", "one"],
        &receiver.variables(),
    )?;
    let shown = site.back_up().await?;
    ensure!(
        shown["state"] == "succeeded",
        "{shown:#}\n{}",
        worker.said()
    );
    let trace = trace_of(&receiver, &shown).await?;
    // What is still in hand is sent before a process ends.
    worker.terminate()?;
    scheduler.terminate()?;
    let tree = Tree::of(&receiver.seen(), &trace)?;

    let guest = tree.one("guest run")?;
    ensure!(
        tree.way_up(guest) == ["host run", "run"],
        "{}",
        tree.drawn()
    );
    ensure!(tree.below(guest).contains(&"wait"), "{}", tree.drawn());
    let attempt = tree.one("attempt")?;
    let steps = [
        "validate", "snapshot", "copy", "commit", "verify", "publish",
    ];
    ensure!(tree.below(attempt) == steps, "{}", tree.drawn());
    for (call, request, step) in [
        ("VixVM_CreateSnapshot", "vix create_snapshot", "snapshot"),
        ("VixVM_RemoveSnapshot", "vix remove_snapshot", "commit"),
    ] {
        let way = tree.way_up(tree.one(call)?);
        ensure!(
            way.starts_with(&[request, step, "attempt"]),
            "{call}: {way:?}"
        );
        ensure!(tree.one(call)?.attribute("virtuozo.process") == "vix-host");
    }
    let inspection = tree.below(tree.one("inspect host")?);
    ensure!(inspection.contains(&"vix connect") && inspection.contains(&"vix find"));

    let processes = |name: &str| tree.one(name).map(|span| span.process.clone());
    ensure!(processes("run")? == "scheduler" && processes("vix create_snapshot")? == "worker");
    let copy = tree.one("copy")?;
    ensure!(copy.attribute("virtuozo.mode") == "hot" && copy.attribute("virtuozo.worker") == "one");
    let group = tree.one("copy blocks")?;
    ensure!(tree.way_up(group).first() == Some(&"copy"));
    let bytes: u64 = group.attribute("virtuozo.bytes").parse()?;
    ensure!(bytes >= 24 << 20, "{bytes} bytes in the group");
    ensure!(group.attribute("virtuozo.rate").parse::<f64>()? > 0.0);
    ensure!(
        tree.one("snapshot")?
            .attribute("virtuozo.snapshot")
            .starts_with("virtuozo-")
    );
    ensure!(tree.errors().is_empty(), "{}", tree.drawn());

    // The same id wherever somebody may look for it.
    let text = site
        .virtuozo(&["run", "show", shown["id"].as_str().unwrap_or_default()])?
        .ok()?;
    ensure!(text.stdout.contains(&trace), "{}", text.stdout);
    let in_views: Vec<Option<String>> = sqlx::query_scalar(
        "SELECT trace_id FROM virtuozo.runs UNION ALL SELECT trace_id FROM virtuozo.guest_runs
         UNION ALL SELECT trace_id FROM virtuozo.jobs",
    )
    .fetch_all(site.pool())
    .await?;
    ensure!(
        in_views.len() >= 4 && in_views.iter().all(|id| id.as_ref() == Some(&trace)),
        "{in_views:?}"
    );
    let line = worker
        .said()
        .lines()
        .find(|line| line.contains("step begins"))
        .map(str::to_owned);
    ensure!(
        line.is_some_and(|line| line.contains(&trace)),
        "{}",
        worker.said()
    );
    Ok(())
}

#[tokio::test]
async fn what_failed_is_sent_with_its_cause_also_where_no_trace_is_wanted() -> Result<()> {
    let site = Site::new().await?;
    let host = site.host("alpha", Product::WorkstationShared)?;
    guest(&host, "mail")?;
    guest(&host, "files")?;
    std::fs::write(
        site.faults(),
        format!(
            "{{\"function\": \"VixVM_CreateSnapshot\", \"object\": \"mail\", \"error\": {CODE}}}\n"
        ),
    )?;
    let receiver = Receiver::start(Protocol::Http).await?;
    let mut variables = receiver.variables();
    variables.push(("OTEL_TRACES_SAMPLER", "always_off"));
    let mut scheduler = spawn(&site, "scheduler", &["scheduler"], &variables)?;
    let mut worker = spawn(&site, "worker", &["worker", "--name", "one"], &variables)?;
    let shown = site.back_up().await?;
    ensure!(shown["state"] == "failed", "{shown:#}\n{}", worker.said());
    let trace = trace_of(&receiver, &shown).await?;
    worker.terminate()?;
    scheduler.terminate()?;
    let tree = Tree::of(&receiver.seen(), &trace)?;

    // The walk-through of docs/guide/trace.md shows all of this.
    eprintln!("{}", tree.drawn());
    let run = shown["id"].as_str().context("no id")?;
    let text = site.virtuozo(&["run", "show", run])?.ok()?.stdout;
    let why: String = sqlx::query_scalar(
        "SELECT last_error FROM virtuozo.guest_runs WHERE state = 'failed' AND trace_id = $1",
    )
    .bind(&trace)
    .fetch_one(site.pool())
    .await?;
    let said = worker.said();
    let of_step = |line: &&str| line.contains("alpha/mail") && line.contains("\"snapshot\"");
    let line = said.lines().find(of_step).with_context(|| said.clone())?;
    eprintln!("{text}\n{why}\n\n{line}");
    ensure!(
        line.contains(&trace) && text.contains(&trace),
        "{line}\n{text}"
    );
    ensure!(why.contains("VIX error 8"), "{why}");
    let guest = tree.one("guest run")?;
    ensure!(
        guest.attribute("virtuozo.guest") == "mail",
        "a good one was sent: {}",
        tree.drawn()
    );
    for name in [
        "run",
        "guest run",
        "attempt",
        "snapshot",
        "vix create_snapshot",
    ] {
        let spans = tree.all(name);
        ensure!(
            !spans.is_empty() && spans.iter().all(|span| span.is_error),
            "{name} has no error:\n{}",
            tree.drawn()
        );
    }
    for name in ["snapshot", "vix create_snapshot"] {
        for span in tree.all(name) {
            ensure!(span.attribute("virtuozo.vix.code") == CODE, "{span:#?}");
            let exception = span.exception().with_context(|| format!("{span:#?}"))?;
            let said = |key: &str| exception.attributes.get(key).map_or("", String::as_str);
            ensure!(
                said("exception.type").starts_with("hypervisor."),
                "{exception:?}"
            );
            ensure!(said("exception.message").contains("mail"), "{exception:?}");
        }
    }
    for call in tree.all("VixVM_CreateSnapshot") {
        ensure!(call.attribute("virtuozo.vix.code") == CODE, "{call:#?}");
    }
    // Each attempt leads to the one before it.
    let attempts = tree.all("attempt");
    for pair in attempts.windows(2) {
        ensure!(pair[1].links == [pair[0].id.clone()], "{pair:#?}");
    }
    ensure!(of_guest(&tree.all("snapshot"), "mail").len() == attempts.len());
    Ok(())
}

#[tokio::test]
async fn a_backup_that_a_dead_worker_began_is_whole_and_links_both_attempts() -> Result<()> {
    let site = Site::new().await?;
    guest(&site.host("alpha", Product::WorkstationShared)?, "mail")?;
    let receiver = Receiver::start(Protocol::Grpc).await?;
    let _scheduler = spawn(&site, "scheduler", &["scheduler"], &receiver.variables())?;
    let reached = site.path("reached");
    let mut variables = receiver.variables();
    let pause = pause_at("copy.middle", &reached).display().to_string();
    variables.push((FAILPOINTS, pause.as_str()));
    let mut victim = spawn(&site, "victim", &["worker", "--name", "victim"], &variables)?;
    let run = site.start_run()?;
    eventually("the copy to be in its middle", async || {
        Ok(reached.exists().then_some(()))
    })
    .await?;
    eventually("the victim's first spans", async || {
        Ok(receiver
            .seen()
            .iter()
            .any(|s| s.name == "VixVM_CreateSnapshot")
            .then_some(()))
    })
    .await?;
    victim.kill_9()?;
    let mut successor = spawn(
        &site,
        "successor",
        &["worker", "--name", "successor"],
        &receiver.variables(),
    )?;
    let shown = site.ended(&run).await?;
    ensure!(
        shown["state"] == "succeeded",
        "{shown:#}\n{}",
        successor.said()
    );
    let trace = trace_of(&receiver, &shown).await?;
    successor.terminate()?;

    let tree = Tree::of(&receiver.seen(), &trace)?;
    let attempts = tree.all("attempt");
    let [dead, living] = attempts.as_slice() else {
        anyhow::bail!("{} attempts:\n{}", attempts.len(), tree.drawn());
    };
    ensure!(dead.is_error && !living.is_error, "{}", tree.drawn());
    ensure!(living.links == [dead.id.clone()], "{living:#?}");
    let event = living
        .events
        .first()
        .context("the successor has no event")?;
    ensure!(
        event.name == "taken over from worker victim, fence 1",
        "{event:?}"
    );
    ensure!(
        dead.attribute("virtuozo.worker") == "victim"
            && living.attribute("virtuozo.worker") == "successor"
            && living.attribute("virtuozo.fence") == "2"
    );
    ensure!(
        tree.below(dead) == ["validate", "snapshot", "copy"],
        "{}",
        tree.drawn()
    );
    ensure!(
        tree.below(living)
            .ends_with(&["copy", "commit", "verify", "publish"]),
        "{}",
        tree.drawn()
    );
    let cut_off = tree.all("copy");
    let exception = cut_off.first().and_then(|copy| copy.exception());
    ensure!(
        exception.is_some_and(|e| e.attributes["exception.type"] == "worker.died"),
        "{cut_off:#?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_receiver_that_is_away_costs_a_backup_nothing_but_one_warning() -> Result<()> {
    let site = Site::new().await?;
    guest(&site.host("alpha", Product::WorkstationShared)?, "mail")?;
    // Nobody listens there: the port was just given back.
    let port = std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port();
    let endpoint = format!("http://127.0.0.1:{port}");
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
    ];
    let mut scheduler = spawn(&site, "scheduler", &["scheduler"], &variables)?;
    let mut worker = spawn(&site, "worker", &["worker", "--name", "one"], &variables)?;
    for _ in 0..2 {
        let shown = site.back_up().await?;
        ensure!(
            shown["state"] == "succeeded",
            "{shown:#}\n{}",
            worker.said()
        );
    }
    for process in [&mut scheduler, &mut worker] {
        let warnings = |said: &str| {
            let about = "traces cannot be sent";
            said.lines()
                .filter(|line| line.contains("WARN") && line.contains(about))
                .count()
        };
        eventually("the warning", async || {
            Ok((warnings(&process.said()) > 0).then_some(()))
        })
        .await?;
        process.terminate()?;
        ensure!(warnings(&process.said()) == 1, "{}", process.said());
    }
    // What became of the runs is told when there is somebody to tell it to.
    let receiver = Receiver::start(Protocol::Http).await?;
    let _late = spawn(&site, "late", &["scheduler"], &receiver.variables())?;
    eventually("both runs to be told late", async || {
        let runs = receiver.seen().iter().filter(|s| s.name == "run").count();
        Ok((runs == 2).then_some(()))
    })
    .await
}

#[tokio::test]
async fn spans_that_are_refused_are_given_up_and_hold_up_no_others() -> Result<()> {
    for protocol in [Protocol::Http, Protocol::Grpc] {
        let site = Site::new().await?;
        let host = site.host("alpha", Product::WorkstationShared)?;
        for name in ["bad", "good"] {
            guest(&host, name)?;
        }
        let receiver = Receiver::start(protocol).await?;
        receiver.refuse("bad");
        // Both guests have ended when they are told, and so are told together.
        let mut first = spawn(&site, "first", &["scheduler"], &[])?;
        let _worker = spawn(&site, "worker", &["worker", "--name", "one"], &[])?;
        let shown = site.back_up().await?;
        ensure!(shown["state"] == "succeeded", "{shown:#}");
        first.terminate()?;
        let mut scheduler = spawn(&site, "scheduler", &["scheduler"], &receiver.variables())?;
        let trace = trace_of(&receiver, &shown).await?;
        let tree = Tree::of(&receiver.seen(), &trace)?;
        let guests = tree.all("guest run");
        ensure!(
            guests.len() == 1 && guests[0].attribute("virtuozo.guest") == "good",
            "{protocol:?}: {}",
            tree.drawn()
        );
        scheduler.terminate()?;
        let said = scheduler.said();
        let told = |line: &&str| line.contains("WARN") && line.contains("given up");
        let told: Vec<_> = said.lines().filter(told).collect();
        let run = shown["id"].as_str().context("no id")?;
        ensure!(
            told.len() == 1 && told[0].contains(run) && told[0].contains("alpha/bad"),
            "{protocol:?}: {said}"
        );
    }
    Ok(())
}
