//! A guest that ends the connection to its host, or of which texts come that cannot be stored, costs no other its
//! backup.

use std::sync::atomic::Ordering;

use virtuozo_hypervisor::{
    ErrorClass, ErrorKind,
    PowerState::{Off, On},
    Problem,
};

use crate::common::{
    Site,
    fake::{Act, When},
};

const LOST: Act = Act::Fail(ErrorKind::ConnectionLost, ErrorClass::Retry);

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_ends_the_connection_is_left_out_and_counted() {
    let site = Site::new(&[("bad", On), ("mail", On), ("off", Off), ("web", On)]).await;
    site.world.rule("open", Some("bad"), When::Before, 2, LOST);
    let worker = site.worker("one");
    for (crashes, begun) in [(1, "looking at it ended"), (2, "again, after 1 time")] {
        let run = site.run_now().await;
        assert_eq!(site.settled(run).await, "failed");
        for row in site.rows(run).await {
            let is_bad = row.guest == "bad";
            let state = if is_bad { "failed" } else { "succeeded" };
            assert_eq!(row.state, state, "{row:?}");
            let why = row.error.clone().unwrap_or_default();
            assert!(!is_bad || why.contains(begun), "{row:?}");
        }
        let counted: i32 = site
            .scalar("SELECT crashes FROM virtuozo_core.guests WHERE name = 'bad'")
            .await;
        assert_eq!(counted, crashes);
        // The first look was beside others, and the one that counted was not: nor is that of the next run.
        site.world.forget_rules();
        site.world.rule("open", Some("bad"), When::Before, 1, LOST);
    }
    site.world.forget_rules();
    let run = site.run_now().await;
    assert_eq!(site.settled(run).await, "succeeded");
    worker.stopped().await;
    assert_eq!(site.world.connections.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_lost_once_costs_no_guest_its_backup() {
    let site = Site::new(&[("mail", On), ("web", On)]).await;
    site.world.rule("facts", None, When::Before, 2, LOST);
    let worker = site.worker("one");
    let run = site.run_now().await;
    assert_eq!(site.settled(run).await, "succeeded");
    let crashes: i64 = site
        .scalar("SELECT sum(crashes) FROM virtuozo_core.guests")
        .await;
    assert_eq!(crashes, 0);
    worker.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_that_no_database_stores_cost_no_guest_its_backup() {
    let site = Site::new(&[("bad", On), ("mail", On), ("web", On)]).await;
    site.world.with("bad", |guest| {
        guest.problem = Some(Problem::permanent("the disk a\0b\x1b[31m is gone\n"));
        guest.datastore = Some("x".repeat(1 << 20));
    });
    site.world
        .with("web", |guest| guest.snapshot("before\0update"));
    let worker = site.worker("one");
    let run = site.run_now().await;
    assert_eq!(site.settled(run).await, "failed");
    assert_eq!(site.row(run, "mail").await.state, "succeeded");
    assert_eq!(site.row(run, "web").await.state, "succeeded");
    let bad = site.row(run, "bad").await;
    let why = bad.error.clone().unwrap_or_default();
    assert!(
        why.contains("the disk a\u{fffd}b\u{fffd}[31m is gone"),
        "{bad:?}"
    );
    worker.stopped().await;
}
