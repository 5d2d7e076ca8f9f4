//! A restore point holds one instant: who sets a guest's disks free under a copy is noticed.

use virtuozo_hypervisor::{
    ErrorClass,
    PowerState::{Off, On},
};
use virtuozo_store::runs::Targets;

use crate::common::{
    Site, add_host,
    fake::{When, pattern},
};

/// The message of the copy that failed.
async fn why_not_used(site: &Site) -> String {
    site.scalar("SELECT error FROM virtuozo_core.steps WHERE name = 'copy' AND state = 'failed'")
        .await
}

async fn assert_one_true_point(site: &Site) {
    let disk = site.world.with("mail", |g| (*g.disk()).clone());
    assert_eq!(site.points("mail").await, [disk]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_is_started_during_a_cold_copy_is_copied_again() {
    let site = Site::new(&[("mail", Off)]).await;
    let paused = site.world.pause("read", When::Before);
    let worker = site.worker("one");
    let run = site.run_now().await;
    paused.reached().await;
    site.world.with("mail", |g| {
        g.power = On;
        g.write(pattern(7));
    });
    paused.resume();
    assert_eq!(site.settled(run).await, "succeeded");
    let row = site.row(run, "mail").await;
    assert_eq!(
        (row.mode.as_deref(), row.attempts),
        (Some("hot"), 1),
        "{row:?}"
    );
    assert_one_true_point(&site).await;
    worker.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_ran_for_a_while_during_a_cold_copy_is_copied_again() {
    let site = Site::new(&[("mail", Off)]).await;
    let paused = site.world.pause("read", When::Before);
    let worker = site.worker("one");
    let run = site.run_now().await;
    paused.reached().await;
    site.world.with("mail", |g| g.write(pattern(7)));
    paused.resume();
    assert_eq!(site.settled(run).await, "succeeded");
    assert_eq!(site.row(run, "mail").await.attempts, 1);
    let why = why_not_used(&site).await;
    assert!(
        why.contains("wrote to the guest's file disk0.disk"),
        "{why}"
    );
    assert_one_true_point(&site).await;
    worker.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_whose_snapshot_somebody_removed_during_the_copy_is_copied_again() {
    let site = Site::new(&[("mail", On)]).await;
    let paused = site.world.pause("read", When::Before);
    let worker = site.worker("one");
    let run = site.run_now().await;
    paused.reached().await;
    site.world.with("mail", |g| {
        g.snapshots.clear();
        g.write(pattern(7));
    });
    paused.resume();
    assert_eq!(site.settled(run).await, "succeeded");
    assert_eq!(site.row(run, "mail").await.attempts, 1);
    let why = why_not_used(&site).await;
    assert!(why.contains("somebody removed the snapshot"), "{why}");
    assert_one_true_point(&site).await;
    site.assert_clean(&[("mail", On)]).await;
    worker.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_silent_at_the_end_of_a_copy_costs_no_copy() {
    let site = Site::new(&[("mail", On)]).await;
    let paused = site.world.pause("read", When::Before);
    let worker = site.worker("one");
    let run = site.run_now().await;
    paused.reached().await;
    site.world.fail("snapshots", 1, ErrorClass::Retry);
    paused.resume();
    assert_eq!(site.settled(run).await, "succeeded");
    assert_eq!(site.row(run, "mail").await.attempts, 0);
    assert_eq!(site.world.calls("image"), 1);
    assert_one_true_point(&site).await;
    site.assert_clean(&[("mail", On)]).await;
    worker.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_is_registered_twice_keeps_the_snapshot_that_is_copied_from() {
    let site = Site::new(&[("mail", On)]).await;
    let paused = site.world.pause("read", When::Before);
    let worker = site.worker("one");
    let first = site.run_now().await;
    paused.reached().await;

    let again = add_host(&site.db.pool, "mail").await;
    let second = site
        .run_of(Targets {
            hosts: vec![again],
            ..Targets::default()
        })
        .await;
    site.until("the second backup has ended", || async {
        (site.run_state(second).await != "running").then_some(())
    })
    .await;
    let row = site.row(second, "mail").await;
    assert_eq!(
        (row.state.as_str(), row.error_class.as_deref()),
        ("failed", Some("operator")),
        "{row:?}"
    );
    let error = row.error.unwrap_or_default();
    assert!(error.contains("of lab/mail uses now"), "{error}");
    paused.resume();
    assert_eq!(site.settled(first).await, "succeeded");
    assert_eq!(site.row(first, "mail").await.attempts, 0);
    assert_one_true_point(&site).await;
    worker.stopped().await;
}
