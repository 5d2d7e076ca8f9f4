//! The database is away for longer than a lease holds.

use std::{sync::Arc, time::Duration};

use virtuozo_hypervisor::PowerState::On;

use crate::common::{
    Site, WorkerProcess,
    fake::{When, pattern_of},
    proxy::Proxy,
};

/// Enough for the copy to ask again and again whether it may go on.
const DISK_BYTES: usize = 48 << 20;

async fn site() -> (Site, Proxy, WorkerProcess) {
    let site = Site::new(&[("mail", On)]).await;
    site.world
        .with("mail", |g| g.write(pattern_of(3, DISK_BYTES)));
    let proxy = Proxy::new(site.db.url());
    let worker = WorkerProcess::start("cut off", proxy.url(), Arc::clone(&site.world));
    (site, proxy, worker)
}

/// The site's leases hold for four seconds.
async fn longer_than_the_lease() {
    tokio::time::sleep(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_pauses_when_its_lease_is_uncertain_and_goes_on_when_the_database_answers() {
    let (site, proxy, worker) = site().await;
    let paused = site.world.pause("read", When::Before);
    let run = site.run_now().await;
    paused.reached().await;
    // Nobody takes over: the database is away from everyone.
    site.stop_sweeping();
    proxy.cut();
    longer_than_the_lease().await;
    paused.resume();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let paused_at = site.world.calls("read");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(site.world.calls("read"), paused_at, "the copy stands still");
    proxy.mend();
    site.until("the run has succeeded", || async {
        (site.run_state(run).await == "succeeded").then_some(())
    })
    .await;
    assert!(
        site.world.calls("read") > paused_at,
        "something was left to be read"
    );
    let row = site.row(run, "mail").await;
    assert_eq!((row.attempts, row.crashes, row.fence), (0, 0, 1), "{row:?}");
    site.assert_clean(&[("mail", On)]).await;
    worker.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_cut_off_from_the_database_is_replaced_and_stops_when_it_learns_of_it() {
    let (site, proxy, worker) = site().await;
    let paused = site.world.pause("read", When::Before);
    let run = site.run_now().await;
    paused.reached().await;
    proxy.cut();
    let second = site.worker("second");
    assert_eq!(site.settled(run).await, "succeeded");
    let row = site.row(run, "mail").await;
    assert_eq!((row.crashes, row.fence), (1, 2), "{row:?}");
    proxy.mend();
    paused.resume();
    worker.stopped().await;
    assert_eq!(site.points("mail").await.len(), 1);
    site.assert_clean(&[("mail", On)]).await;
    second.stopped().await;
}
