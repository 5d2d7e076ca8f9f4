//! Failures, deaths and interruptions at every place: the guest comes back, and a restore point is true
//! or absent.

use std::sync::atomic::Ordering;

use virtuozo_hypervisor::{
    ErrorClass, ErrorKind,
    PowerState::{self, On},
};
use virtuozo_store::{guest_runs::GuestLease, leases, runs, settings};

use crate::common::{
    Site,
    fake::{Act, PausedCall, When},
};

/// Every operation of a hot and of a cold backup that can fail or be the last of a worker.
const HOT: [&str; 6] = ["open", "facts", "freeze", "image", "read", "release"];
const COLD: [&str; 7] = [
    "open",
    "facts",
    "power_state",
    "power_off",
    "image",
    "read",
    "power_on",
];

async fn site(cold: bool) -> Site {
    let site = Site::new(&[("mail", On)]).await;
    let mode = if cold { "cold" } else { "hot" };
    settings::set(&site.db.pool, &[("mode", mode)])
        .await
        .unwrap();
    site
}

async fn assert_one_true_point(site: &Site) {
    let disk = site.world.with("mail", |g| (*g.disk()).clone());
    assert_eq!(
        site.points("mail").await,
        [disk],
        "one restore point, with the disk's bytes"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_that_fails_once_is_tried_again_and_the_backup_succeeds() {
    for cold in [false, true] {
        let site = site(cold).await;
        let worker = site.worker("one");
        for (n, operation) in if cold { &COLD[..] } else { &HOT[..] }.iter().enumerate() {
            site.world.fail(operation, 1, ErrorClass::Retry);
            let run = site.run_now().await;
            assert_eq!(
                site.settled(run).await,
                "succeeded",
                "{operation} failed once"
            );
            assert_eq!(site.points("mail").await.len(), n + 1, "{operation}");
            site.assert_clean(&[("mail", On)]).await;
            site.world.forget_rules();
        }
        worker.stopped().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_that_fails_after_its_effect_leaves_nothing_behind() {
    for (cold, operations) in [
        (false, ["freeze", "release"]),
        (true, ["power_off", "power_on"]),
    ] {
        let site = site(cold).await;
        let worker = site.worker("one");
        for operation in operations {
            let act = Act::Fail(ErrorKind::Timeout, ErrorClass::Retry);
            site.world.rule(operation, None, When::After, 1, act);
            let run = site.run_now().await;
            assert_eq!(site.settled(run).await, "succeeded", "{operation}");
            site.assert_clean(&[("mail", On)]).await;
        }
        worker.stopped().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permanent_error_ends_the_run_and_brings_the_guest_back() {
    for (cold, operations) in [
        (false, vec!["freeze", "image"]),
        (true, vec!["power_off", "image", "read"]),
    ] {
        let site = site(cold).await;
        let worker = site.worker("one");
        for operation in operations {
            site.world.fail(operation, 1, ErrorClass::Permanent);
            let run = site.run_now().await;
            assert_eq!(site.settled(run).await, "failed", "{operation}");
            let row = site.row(run, "mail").await;
            assert!(row.error.is_some(), "{row:?}");
            assert_eq!(row.attempts, 1, "{row:?}");
            site.assert_clean(&[("mail", On)]).await;
            assert!(site.points("mail").await.is_empty());
            site.world.forget_rules();
        }
        worker.stopped().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_is_made_again() {
    let site = site(false).await;
    let worker = site.worker("one");
    for operation in ["freeze", "image", "release"] {
        let lost = Act::Fail(ErrorKind::ConnectionLost, ErrorClass::Retry);
        site.world.rule(operation, None, When::Before, 1, lost);
        let run = site.run_now().await;
        assert_eq!(site.settled(run).await, "succeeded", "{operation}");
        site.assert_clean(&[("mail", On)]).await;
    }
    worker.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_come_to_an_end() {
    let site = site(false).await;
    site.world.fail("image", 100, ErrorClass::Retry);
    let worker = site.worker("one");
    let run = site.run_now().await;
    assert_eq!(site.settled(run).await, "failed");
    let row = site.row(run, "mail").await;
    assert_eq!(
        (row.attempts, row.error_class.as_deref()),
        (3, Some("retry")),
        "{row:?}"
    );
    site.assert_clean(&[("mail", On)]).await;
    worker.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_undone_is_undone_later_and_people_are_told() {
    for (cold, undo) in [(false, "release"), (true, "power_on")] {
        let site = site(cold).await;
        // Fails in the step, in three attempts of the run, and in two of the undo jobs that follow.
        site.world.fail(undo, 5, ErrorClass::Operator);
        let worker = site.worker("one");
        let run = site.run_now().await;
        site.until("the run has failed", || async {
            (site.run_state(run).await == "failed").then_some(())
        })
        .await;
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
        while site
            .scalar::<i64>("SELECT count(*) FROM virtuozo_core.obligations")
            .await
            > 0
        {
            // Time passes.
            site.execute("UPDATE virtuozo_core.obligations SET next_attempt_at = now()")
                .await;
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            assert!(
                tokio::time::Instant::now() < deadline,
                "{undo} is tried again"
            );
        }
        site.assert_clean(&[("mail", On)]).await;
        let loud: i64 = site
            .scalar("SELECT count(*) FROM virtuozo_core.events WHERE severity = 'error' AND message LIKE '%by hand%'")
            .await;
        assert!(loud >= 1, "{undo}: people are told what to do");
        worker.stopped().await;
    }
}

/// A worker dies at a place; another takes over.
async fn dies_at(cold: bool, operation: &'static str, when: When) {
    let site = site(cold).await;
    let paused = site.world.pause(operation, when);
    let first = site.worker("first");
    let run = site.run_now().await;
    paused.reached().await;
    first.kill();
    let second = site.worker("second");
    site.expire_leases().await;
    assert_eq!(
        site.settled(run).await,
        "succeeded",
        "died {when:?} {operation}"
    );
    let row = site.row(run, "mail").await;
    assert_eq!(
        (row.crashes, row.attempts),
        (1, 0),
        "died {when:?} {operation}: {row:?}"
    );
    assert_one_true_point(&site).await;
    site.assert_clean(&[("mail", On)]).await;
    // What stood still comes to life again, as a call that the host only now carries out.
    paused.resume();
    second.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_worker_finishes_a_hot_backup_that_its_worker_died_over() {
    for (operation, when) in [
        ("freeze", When::Before),
        ("freeze", When::After),
        ("image", When::Before),
        ("read", When::Before),
        ("release", When::Before),
        ("release", When::After),
    ] {
        dies_at(false, operation, when).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_worker_finishes_a_cold_backup_that_its_worker_died_over() {
    for (operation, when) in [
        ("power_off", When::Before),
        ("power_off", When::After),
        ("image", When::Before),
        ("read", When::Before),
        ("power_on", When::Before),
        ("power_on", When::After),
    ] {
        dies_at(true, operation, when).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_was_complete_is_not_made_again() {
    let site = site(false).await;
    let paused = site.world.pause("release", When::Before);
    let first = site.worker("first");
    let run = site.run_now().await;
    paused.reached().await;
    first.kill();
    let reads = site.world.calls("read");
    let second = site.worker("second");
    site.expire_leases().await;
    assert_eq!(site.settled(run).await, "succeeded");
    assert_eq!(site.world.calls("read"), reads, "nothing was read again");
    assert_eq!(site.world.calls("freeze"), 1);
    second.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_over_a_host_looks_only_at_guests_that_were_not_looked_at() {
    let names = ["a", "b", "c", "d", "e", "web"];
    let site = Site::new(&names.map(|name| (name, On))).await;
    let undisturbed = site.worker("undisturbed");
    let run = site.run_now().await;
    assert_eq!(site.settled(run).await, "succeeded");
    undisturbed.stopped().await;
    let looks = site.world.calls("facts");

    let paused = PausedCall::new();
    let pause = Act::Pause(paused.clone());
    site.world
        .rule("facts", Some("web"), When::Before, 1, pause);
    let first = site.worker("first");
    let run = site.run_now().await;
    paused.reached().await;
    site.until("the others are looked at", || async {
        let looked_at: i64 = site
            .scalar(
                "SELECT count(*) FROM virtuozo_core.guests g, virtuozo_core.host_runs h
                  WHERE h.state = 'running' AND g.checked_at > h.started_at",
            )
            .await;
        (looked_at == 5).then_some(())
    })
    .await;
    first.kill();
    let second = site.worker("second");
    site.expire_leases().await;
    assert_eq!(site.settled(run).await, "succeeded");
    let looks_of_second = site.world.calls("facts") - looks;
    assert_eq!(looks_of_second, looks + 1, "only web is looked at again");
    second.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_kills_its_workers_is_given_up() {
    let site = site(false).await;
    let run = site.run_now().await;
    for n in 0..3 {
        let paused = site.world.pause("image", When::Before);
        let worker = site.worker(&format!("worker {n}"));
        paused.reached().await;
        worker.kill();
        site.expire_leases().await;
    }
    let worker = site.worker("last");
    assert_eq!(site.settled(run).await, "failed");
    let row = site.row(run, "mail").await;
    assert_eq!(row.crashes, 3, "{row:?}");
    site.assert_clean(&[("mail", On)]).await;
    worker.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_lease_was_taken_writes_nothing_more() {
    for operation in ["freeze", "read", "release"] {
        let site = site(false).await;
        // A lease that its keeper would renew in a minute: it finds out too late.
        settings::set(&site.db.pool, &[("lease_secs", "240")])
            .await
            .unwrap();
        let paused = site.world.pause(operation, When::Before);
        let first = site.worker("first");
        let run = site.run_now().await;
        paused.reached().await;
        let guest_run: uuid::Uuid = site.scalar("SELECT id FROM virtuozo_core.guest_runs").await;
        // Nobody but us: the first worker must not see the job of its own successor.
        let other = uuid::Uuid::now_v7();
        site.execute("UPDATE virtuozo_core.guest_runs SET state = 'admitted', lease_until = NULL, owner_id = NULL")
            .await;
        let taken = leases::take::<GuestLease>(&site.db.pool, guest_run, other)
            .await
            .unwrap()
            .unwrap();
        paused.resume();
        // It stops at its next fenced statement, whatever it does until then, and leaves its host.
        site.until("the first worker gives up", || async {
            (site.world.connections.load(Ordering::SeqCst) == 0).then_some(())
        })
        .await;
        let row = site.row(run, "mail").await;
        assert_eq!(
            (row.state.as_str(), row.fence),
            ("running", taken.fence),
            "{operation}: {row:?}"
        );
        assert!(site.points("mail").await.is_empty(), "{operation}");
        let done: i64 = site
            .scalar("SELECT count(*) FROM virtuozo_core.steps s JOIN virtuozo_core.guest_runs g ON g.id = s.guest_run_id AND g.fence = s.fence")
            .await;
        assert_eq!(done, 0, "{operation}: nothing stands under the new fence");
        first.stopped().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_run_stops_its_copies_and_brings_the_guests_back() {
    for cold in [false, true] {
        let site = site(cold).await;
        for name in ["a", "b", "c", "d"] {
            site.world.add(name, On);
        }
        let paused = site.world.pause("read", When::Before);
        let worker = site.worker("one");
        let run = site.run_now().await;
        paused.reached().await;
        runs::cancel(&site.db.pool, run).await.unwrap();
        // A cancelled run is learned of with the next renewal of the lease.
        const RENEWED: &str = "SELECT count(*) FROM virtuozo_core.guest_runs WHERE lease_until > now() + interval '3.5 s'";
        for state in [0, 1] {
            site.until("a lease is renewed", || async {
                (site.scalar::<i64>(RENEWED).await.min(1) == state).then_some(())
            })
            .await;
        }
        paused.resume();
        assert_eq!(site.settled(run).await, "cancelled");
        let rows = site.rows(run).await;
        assert!(
            rows.iter().any(|r| r.state == "cancelled" && r.fence == 0),
            "some never began: {rows:?}"
        );
        assert!(
            rows.iter().any(|r| r.state == "cancelled" && r.fence > 0),
            "one was stopped: {rows:?}"
        );
        let guests: Vec<(&str, PowerState)> =
            ["mail", "a", "b", "c", "d"].map(|n| (n, On)).to_vec();
        site.assert_clean(&guests).await;
        assert!(
            runs::cancel(&site.db.pool, run).await.is_err(),
            "an ended run cannot be cancelled"
        );
        worker.stopped().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_stops_brings_its_guest_back_and_another_begins_afresh() {
    for cold in [false, true] {
        let site = site(cold).await;
        let paused = site.world.pause("image", When::Before);
        let first = site.worker("first");
        let run = site.run_now().await;
        paused.reached().await;
        first.ask_to_stop();
        paused.resume();
        first.stopped().await;
        site.world.with("mail", |g| {
            assert!(
                g.snapshots.is_empty(),
                "no snapshot waits for the next worker"
            );
            assert_eq!(g.power, On);
        });
        let row = site.row(run, "mail").await;
        assert_eq!(
            (row.state.as_str(), row.attempts, row.crashes),
            ("admitted", 0, 0),
            "{row:?}"
        );
        let second = site.worker("second");
        assert_eq!(site.settled(run).await, "succeeded");
        assert_one_true_point(&site).await;
        second.stopped().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_connections_to_the_database_cost_no_work() {
    let site = site(false).await;
    let paused = site.world.pause("read", When::Before);
    let worker = site.worker("one");
    let run = site.run_now().await;
    paused.reached().await;
    for _ in 0..3 {
        site.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
              WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .await;
    }
    paused.resume();
    assert_eq!(site.settled(run).await, "succeeded");
    let row = site.row(run, "mail").await;
    assert_eq!((row.attempts, row.crashes, row.fence), (0, 0, 1), "{row:?}");
    assert_one_true_point(&site).await;
    worker.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_cannot_be_written_is_refused_before_the_guest_is_touched() {
    let site = site(false).await;
    let file = site.destination.path().join("not a directory");
    std::fs::write(&file, "x").unwrap();
    settings::set(
        &site.db.pool,
        &[("destination", file.join("below").to_str().unwrap())],
    )
    .await
    .unwrap();
    let worker = site.worker("one");
    let run = site.run_now().await;
    assert_eq!(site.settled(run).await, "failed");
    let row = site.row(run, "mail").await;
    assert!(
        row.error
            .as_ref()
            .is_some_and(|e| e.contains("not a directory")),
        "{row:?}"
    );
    assert_eq!(site.world.calls("freeze"), 0, "the guest was not touched");
    worker.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_comes_after_another_worker_has_looked_is_undone_though_the_lease_seemed_to_hold()
 {
    for (cold, operation) in [(false, "freeze"), (true, "power_off")] {
        let site = site(cold).await;
        // As on a machine whose clocks stood still with it: by them the lease holds for long.
        settings::set(&site.db.pool, &[("lease_secs", "240")])
            .await
            .unwrap();
        let paused = site.world.pause(operation, When::Before);
        let first = site.worker("first");
        let run = site.run_now().await;
        paused.reached().await;
        // Another has taken over, has seen nothing to undo, and has failed for good.
        site.execute(
            "UPDATE virtuozo_core.guest_runs SET state = 'failed', lease_until = NULL, owner_id = NULL, ended_at = now(), fence = fence + 1",
        )
        .await;
        site.execute("UPDATE virtuozo_core.guest_slots SET guest_run_id = NULL, taken_at = NULL")
            .await;
        site.execute("DELETE FROM virtuozo_core.obligations").await;
        paused.resume();
        site.until("what came too late is undone", || async {
            let undone = site
                .world
                .with("mail", |g| g.snapshots.is_empty() && g.power == On);
            (undone && site.world.calls(if cold { "power_on" } else { "release" }) == 1)
                .then_some(())
        })
        .await;
        assert_eq!(site.settled(run).await, "failed");
        site.assert_clean(&[("mail", On)]).await;
        first.stopped().await;
    }
}
