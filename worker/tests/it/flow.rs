//! Backups that go as they should, and guests that cannot be backed up.

use std::sync::atomic::Ordering;

use virtuozo_hypervisor::{
    PowerState::{BlockedOnQuestion, Off, On, Suspended},
    Problem,
};
use virtuozo_model::ErrorClass;
use virtuozo_store::{runs::Targets, settings};

use crate::common::{Site, add_host, fake::pattern};

#[tokio::test(flavor = "multi_thread")]
async fn running_guests_are_backed_up_hot_and_guests_that_are_off_cold() {
    let guests = [
        ("mail", On),
        ("web", On),
        ("old", Off),
        ("parked", Suspended),
    ];
    let site = Site::new(&guests).await;
    let worker = site.worker("one");
    let run = site.run_now().await;
    assert_eq!(site.settled(run).await, "succeeded");
    for (guest, mode) in [
        ("mail", "hot"),
        ("web", "hot"),
        ("old", "cold"),
        ("parked", "cold"),
    ] {
        let row = site.row(run, guest).await;
        assert_eq!(
            (row.state.as_str(), row.mode.as_deref()),
            ("succeeded", Some(mode)),
            "{row:?}"
        );
        assert_eq!(
            site.points(guest).await,
            [site.world.with(guest, |g| (*g.disk()).clone())]
        );
        assert_eq!(site.directories(guest).len(), 1);
    }
    site.assert_clean(&guests).await;
    assert_eq!(site.world.calls("power_off"), 0, "nobody was powered off");
    let verified: i64 = site
        .scalar("SELECT count(*) FROM virtuozo_core.restore_points WHERE verified_at IS NOT NULL")
        .await;
    assert_eq!(verified, 4);
    let told: i64 = site.scalar("SELECT count(*) FROM virtuozo_core.events WHERE code = 200 AND message LIKE '%: backed up %'").await;
    assert_eq!(told, 4);
    worker.stopped().await;
    assert_eq!(
        site.world.connections.load(Ordering::SeqCst),
        0,
        "connections left open"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hot_backup_holds_the_instant_of_the_snapshot_and_not_what_was_written_later() {
    let site = Site::new(&[("mail", On)]).await;
    let paused = site.world.pause("image", crate::common::fake::When::Before);
    let worker = site.worker("one");
    let run = site.run_now().await;
    paused.reached().await;
    let frozen = site.world.with("mail", |g| g.disk());
    site.world.with("mail", |g| g.write(pattern(99)));
    paused.resume();
    assert_eq!(site.settled(run).await, "succeeded");
    assert_eq!(site.points("mail").await, [(*frozen).clone()]);
    worker.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_backup_shuts_the_guest_down_and_brings_it_back() {
    let site = Site::new(&[("mail", On), ("stays", On)]).await;
    settings::set(&site.db.pool, &[("mode", "cold")])
        .await
        .unwrap();
    site.execute("INSERT INTO virtuozo_core.guests (id, host_id, locator, name, resume_power_state)
                  SELECT gen_random_uuid(), id, '[standard] stays/stays', 'stays', false FROM virtuozo_core.hosts").await;
    let worker = site.worker("one");
    let run = site.run_now().await;
    assert_eq!(site.settled(run).await, "succeeded");
    assert_eq!(site.row(run, "mail").await.mode.as_deref(), Some("cold"));
    assert_eq!(site.world.calls("power_off"), 2);
    assert_eq!(site.world.calls("power_on"), 1);
    site.assert_clean(&[("mail", On), ("stays", Off)]).await;
    worker.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_snapshots_stay_and_are_named_in_the_restore_point() {
    let site = Site::new(&[("mail", On)]).await;
    site.world.with("mail", |g| g.snapshot("before upgrade"));
    let worker = site.worker("one");
    let run = site.run_now().await;
    assert_eq!(site.settled(run).await, "succeeded");
    let foreign: Vec<String> = site
        .scalar("SELECT foreign_snapshots FROM virtuozo_core.restore_points")
        .await;
    assert_eq!(foreign, ["before upgrade"]);
    assert_eq!(site.world.with("mail", |g| g.snapshots.len()), 1);

    // A host that keeps one snapshot would overwrite it: the guest is shut down instead.
    site.world.one_snapshot_only.store(true, Ordering::SeqCst);
    let run = site.run_now().await;
    assert_eq!(site.settled(run).await, "succeeded");
    assert_eq!(site.row(run, "mail").await.mode.as_deref(), Some("cold"));
    assert_eq!(site.world.with("mail", |g| g.snapshots.len()), 1);
    site.assert_clean(&[("mail", On)]).await;
    worker.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_ours_left_by_an_earlier_failure_is_removed_first() {
    let site = Site::new(&[("mail", On)]).await;
    let left = virtuozo_hypervisor::snapshot_name::make(uuid::Uuid::now_v7(), 3);
    site.world.with("mail", |g| g.snapshot(left));
    let worker = site.worker("one");
    let run = site.run_now().await;
    assert_eq!(site.settled(run).await, "succeeded");
    site.assert_clean(&[("mail", On)]).await;
    worker.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_guest_does_not_end_the_run_of_the_others() {
    let site = Site::new(&[
        ("good", On),
        ("broken", On),
        ("asks", BlockedOnQuestion),
        ("lost", On),
    ])
    .await;
    let worker = site.worker("one");
    let run = site.run_now().await;
    // The first run finds them all; `lost` vanishes before the second, and one turns out to be broken.
    site.settled(run).await;
    site.world.remove("lost");
    site.world.with("broken", |g| {
        g.problem = Some(Problem::permanent("the disk is truncated"))
    });
    let run = site.run_now().await;
    assert_eq!(site.settled(run).await, "failed");
    let good = site.row(run, "good").await;
    assert_eq!(good.state, "succeeded", "{good:?}");
    for (guest, why) in [
        ("broken", "truncated"),
        ("asks", "question"),
        ("lost", "does not know"),
    ] {
        let row = site.row(run, guest).await;
        assert_eq!(row.state, "failed", "{row:?}");
        assert!(
            row.error.as_ref().is_some_and(|e| e.contains(why)),
            "{row:?}"
        );
    }
    let state: String = site
        .scalar("SELECT state FROM virtuozo_core.guests WHERE name = 'lost'")
        .await;
    assert_eq!(state, "not_in_inventory");
    site.assert_clean(&[("good", On), ("broken", On)]).await;
    worker.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_does_not_answer_fails_alone_and_with_the_reason() {
    let site = Site::new(&[("lab-mail", On), ("down-web", On)]).await;
    add_host(&site.db.pool, "down").await;
    let refused = crate::common::fake::Act::Fail(
        virtuozo_hypervisor::ErrorKind::Unreachable,
        ErrorClass::Retry,
    );
    // The rule names a guest's path; a connection is told apart by its host's name.
    site.world.rule_for_host("connect", "down", 100, refused);
    let worker = site.worker("one");
    let run = site.run_now().await;
    assert_eq!(site.settled(run).await, "failed");
    let (state, attempts, error): (String, i32, Option<String>) = sqlx::query_as(
        "SELECT r.state, r.attempts, r.error FROM virtuozo_core.host_runs r JOIN virtuozo_core.hosts h ON h.id = r.host_id WHERE h.name = 'down'",
    )
    .fetch_one(&site.db.pool)
    .await
    .unwrap();
    assert_eq!((state.as_str(), attempts), ("failed", 0), "{error:?}");
    assert!(error.is_some_and(|e| e.contains("(attempt 3 of 3)") && e.contains("refused")));
    let state: String = site
        .scalar("SELECT state FROM virtuozo_core.hosts WHERE name = 'down'")
        .await;
    assert_eq!(state, "unreachable");
    assert_eq!(site.row(run, "lab-mail").await.state, "succeeded");
    worker.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_that_are_off_are_left_out_where_the_settings_say_so() {
    let site = Site::new(&[("mail", On), ("old", Off)]).await;
    settings::set(&site.db.pool, &[("backup_when_off", "false")])
        .await
        .unwrap();
    let worker = site.worker("one");
    let run = site.run_now().await;
    assert_eq!(site.settled(run).await, "succeeded");
    assert_eq!(site.row(run, "old").await.state, "skipped");
    let state: String = site
        .scalar("SELECT state FROM virtuozo_core.guests WHERE name = 'old'")
        .await;
    assert_eq!(state, "powered_off");

    // Only the guest that is asked for.
    let mail: uuid::Uuid = site
        .scalar("SELECT id FROM virtuozo_core.guests WHERE name = 'mail'")
        .await;
    let run = site
        .run_of(Targets {
            hosts: Vec::new(),
            guests: vec![mail],
        })
        .await;
    assert_eq!(site.settled(run).await, "succeeded");
    assert_eq!(site.rows(run).await.len(), 1);
    worker.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_verified_restore_points_are_kept_and_older_ones_go() {
    let site = Site::new(&[("mail", On)]).await;
    settings::set(&site.db.pool, &[("keep_last", "2")])
        .await
        .unwrap();
    let worker = site.worker("one");
    for _ in 0..4 {
        let run = site.run_now().await;
        assert_eq!(site.settled(run).await, "succeeded");
    }
    site.until(
        "two restore points are left, in the database and on disk",
        || async {
            let rows: i64 = site
                .scalar("SELECT count(*) FROM virtuozo_core.restore_points")
                .await;
            (rows == 2 && site.directories("mail").len() == 2).then_some(())
        },
    )
    .await;
    worker.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn never_more_guests_of_a_host_are_in_work_than_it_has_slots() {
    let names: Vec<String> = (0..12).map(|n| format!("g{n:02}")).collect();
    let guests: Vec<(&str, _)> = names.iter().map(|n| (n.as_str(), On)).collect();
    let site = Site::new(&guests).await;
    let workers: Vec<_> = ["one", "two", "three"]
        .iter()
        .map(|n| site.worker(n))
        .collect();
    let (first, second) = (site.run_now().await, site.run_now().await);
    assert_eq!(site.settled(first).await, "succeeded");
    assert_eq!(site.settled(second).await, "succeeded");
    assert!(
        site.world.most_copying.load(Ordering::SeqCst) <= 2,
        "two slots"
    );
    for name in &names {
        assert_eq!(site.points(name).await.len(), 2, "{name}");
    }
    let slots: i64 = site
        .scalar("SELECT count(*) FROM virtuozo_core.guest_slots")
        .await;
    assert_eq!(slots, 2);
    site.assert_clean(&guests).await;
    for worker in workers {
        worker.stopped().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_connected_to_as_many_hosts_as_it_may_and_does_the_others_later() {
    let site = Site::new(&[("a-one", On), ("b-one", On), ("c-one", On)]).await;
    settings::set(&site.db.pool, &[("host_threads", "1")])
        .await
        .unwrap();
    site.execute("DELETE FROM virtuozo_core.hosts").await;
    for host in ["a", "b", "c"] {
        add_host(&site.db.pool, host).await;
    }
    let worker = site.worker("one");
    let run = site.run_now().await;
    assert_eq!(site.settled(run).await, "succeeded");
    assert_eq!(site.rows(run).await.len(), 3);
    assert_eq!(site.world.most_connections.load(Ordering::SeqCst), 1);
    worker.stopped().await;
}
