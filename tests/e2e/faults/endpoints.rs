//! What probes are told while the database is away, and while a worker drains.

use anyhow::{Result, ensure};
use tests::{
    Endpoint, FAILPOINTS, eventually,
    outage::{Apart, Way},
    pause_at,
};

const LISTEN: [&str; 2] = ["--listen", "127.0.0.1:0"];

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_the_database_lives_and_is_not_ready() -> Result<()> {
    let mut apart = Apart::new(Way::Refused).await?;
    apart.cut(Way::Refused).await?;
    let scheduler = apart.spawn(&["scheduler", LISTEN[0], LISTEN[1]], &[])?;
    let worker = apart.spawn(&["worker", LISTEN[0], LISTEN[1]], &[])?;
    let endpoints = [
        Endpoint::of(&scheduler).await?,
        Endpoint::of(&worker).await?,
    ];
    for endpoint in endpoints {
        // Before the database was ever there.
        let why = endpoint.becomes(503).await?;
        ensure!(why.contains("database") || why.contains("starts"), "{why}");
        ensure!(endpoint.get("/healthz").await? == (200, "ok\n".to_owned()));
    }
    apart.mend().await?;
    for endpoint in endpoints {
        ensure!(endpoint.becomes(200).await? == "ok\n");
    }
    apart.cut(Way::Silent).await?;
    for endpoint in endpoints {
        let why = endpoint.becomes(503).await?;
        ensure!(why.contains("database"), "{why}");
        ensure!(endpoint.get("/healthz").await?.0 == 200);
    }
    apart.mend().await?;
    for endpoint in endpoints {
        endpoint.becomes(200).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_drains_is_not_ready_and_says_so_until_its_work_is_handed_over() -> Result<()>
{
    let apart = Apart::new(Way::Refused).await?;
    let held = apart.site.path("held");
    let _scheduler = apart.spawn(&["scheduler"], &[])?;
    let mut worker = apart.spawn(
        &["worker", LISTEN[0], LISTEN[1]],
        &[(FAILPOINTS, &pause_at("copy.middle", &held))],
    )?;
    let endpoint = Endpoint::of(&worker).await?;
    apart.site.start_run()?;
    eventually("the copy to be under way", async || {
        Ok(held.exists().then_some(()))
    })
    .await?;
    endpoint.becomes(200).await?;
    worker.signal("TERM")?;
    let why = endpoint.becomes(503).await?;
    ensure!(why.contains("drains"), "{why}");
    ensure!(endpoint.get("/healthz").await?.0 == 200);
    std::fs::remove_file(&held)?;
    eventually("the worker to end", async || {
        Ok((!worker.runs()?).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_taken_is_named_and_other_questions_are_refused() -> Result<()> {
    let apart = Apart::new(Way::Refused).await?;
    let scheduler = apart.spawn(&["scheduler", LISTEN[0], LISTEN[1]], &[])?;
    let endpoint = Endpoint::of(&scheduler).await?;
    ensure!(endpoint.get("/secrets").await?.0 == 404);
    ensure!(endpoint.ask("POST", "/healthz").await?.0 == 405);

    let taken = endpoint.to_string();
    let answer = apart.site.virtuozo(&["worker", "--listen", &taken])?;
    ensure!(answer.code == 1, "{answer:?}");
    ensure!(
        answer.stderr.contains(&taken) && answer.stderr.contains("--listen"),
        "{answer:?}"
    );
    let answer = apart.site.virtuozo(&["worker", "--listen", "9464"])?;
    ensure!(answer.code == 2, "{answer:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_say_nothing_keep_no_probe_from_its_answer() -> Result<()> {
    let apart = Apart::new(Way::Refused).await?;
    let scheduler = apart.spawn(&["scheduler", LISTEN[0], LISTEN[1]], &[])?;
    let endpoint = Endpoint::of(&scheduler).await?;
    endpoint.becomes(200).await?;
    let mut idle = Vec::new();
    for _ in 0..100 {
        idle.push(tokio::net::TcpStream::connect(endpoint.to_string()).await?);
    }
    // Less than the ten seconds that an idle one may last.
    let limit = std::time::Duration::from_secs(5);
    let answer = tokio::time::timeout(limit, endpoint.get("/healthz")).await;
    ensure!(answer.is_ok_and(|answer| answer.is_ok_and(|(status, _)| status == 200)));
    drop(idle);
    Ok(())
}
