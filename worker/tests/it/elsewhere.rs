//! What one worker's machine lacks fails nothing that another worker can do.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use virtuozo_hypervisor::PowerState::On;
use virtuozo_secrets::Key;
use virtuozo_store::{
    datastores,
    hosts::{self, HostConfig},
    workers,
};
use virtuozo_worker::WorkerOptions;

use crate::common::{Site, WorkerProcess, fake::FakeConnector};

/// What the machine of the worker `bad` lacks.
#[derive(Clone, Copy, PartialEq)]
enum Lacks {
    /// The right key.
    Key,
    /// The guest's datastore, wherever that is.
    Datastore,
    /// The directory that the guest's datastore is mapped to.
    Location,
}

const ALL: [Lacks; 3] = [Lacks::Key, Lacks::Datastore, Lacks::Location];

/// Where the datastore `gone` is mapped to.
const GONE: &str = "/no/such/mount";

/// A site whose host has a password, and the directory with the right key.
async fn site(lacks: Lacks) -> (Site, tempfile::TempDir) {
    let site = Site::new(&[("mail", On)]).await;
    if lacks == Lacks::Location {
        put_in_datastore(&site, "mail", "gone", GONE).await;
    }
    let keys = tempfile::tempdir().unwrap();
    let key = Key::load_or_create(&keys.path().join("right")).unwrap();
    Key::load_or_create(&keys.path().join("wrong")).unwrap();
    let host = hosts::by_id(&site.db.pool, site.host_id).await.unwrap();
    let config = HostConfig::from(host);
    let opens = config.password_opens(site.host_id);
    let sealed = key.seal(opens, &"secret".into()).unwrap();
    hosts::set_password(&site.db.pool, site.host_id, Some(&sealed))
        .await
        .unwrap();
    (site, keys)
}

fn start(site: &Site, name: &str, key_file: &Path, is_mounted: bool) -> WorkerProcess {
    let options = WorkerOptions {
        key_file: key_file.to_owned(),
        ..WorkerOptions::new(name)
    };
    let connector = FakeConnector {
        is_mounted,
        ..FakeConnector::new(Arc::clone(&site.world))
    };
    WorkerProcess::start_with(options, connector, site.db.url().to_owned())
}

/// The worker called `bad`: with another key, or without the datastore.
fn start_bad(site: &Site, keys: &Path, lacks: Lacks) -> WorkerProcess {
    let has_wrong_key = lacks == Lacks::Key;
    let key_file = keys.join(if has_wrong_key { "wrong" } else { "right" });
    start(site, "bad", &key_file, has_wrong_key)
}

/// What is said about a machine.
fn said_of(lacks: Lacks) -> &'static str {
    match lacks {
        Lacks::Key => "cannot be opened with this key",
        Lacks::Datastore | Lacks::Location => "its datastore is not mounted here",
    }
}

/// Moves a guest into a datastore of its host that workers read in a directory.
async fn put_in_datastore(site: &Site, guest: &str, datastore: &str, directory: &str) {
    site.world
        .with(guest, |guest| guest.datastore = Some(datastore.to_owned()));
    datastores::map(&site.db.pool, site.host_id, datastore, directory)
        .await
        .unwrap();
}

/// Enters another worker, which serves all, lacks nothing, and takes nothing.
async fn enter_another(site: &Site) {
    site.execute(
        "INSERT INTO virtuozo_core.workers (id, kind, name, machine, pid, version, heartbeat_at)
         VALUES (gen_random_uuid(), 'worker', 'other', 'mars', 1, '0', now() + interval '1 hour')",
    )
    .await;
    site.execute(
        "INSERT INTO virtuozo_core.worker_kinds (worker_id, kind, is_served, found)
         SELECT id, 'memory', true, 'memory is there' FROM virtuozo_core.workers",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_worker_lacks_is_left_to_another_and_costs_no_attempt() {
    for lacks in ALL {
        let (site, keys) = site(lacks).await;
        // Others are there, and come later than the bad one.
        enter_another(&site).await;
        let bad = start_bad(&site, keys.path(), lacks);
        let run = site.run_now().await;
        site.until("the bad worker has found out", || async {
            let missing: i64 = site
                .scalar("SELECT count(*) FROM virtuozo_core.missing_capabilities")
                .await;
            (missing == 1).then_some(())
        })
        .await;
        let good = start(&site, "good", &keys.path().join("right"), true);
        assert_eq!(site.settled(run).await, "succeeded");
        let row = site.row(run, "mail").await;
        assert_eq!((row.attempts, row.error), (0, None));
        let attempts: i32 = site
            .scalar("SELECT attempts FROM virtuozo_core.host_runs")
            .await;
        assert_eq!(attempts, 0, "of the host run");
        let told: String = site
            .scalar("SELECT message FROM virtuozo_core.events WHERE severity = 'warning' LIMIT 1")
            .await;
        let here = format!("worker bad on {}: ", workers::machine());
        for part in ["another worker takes over", &here, said_of(lacks)] {
            assert!(told.contains(part), "{part:?} is not in: {told}");
        }
        let state: String = site.scalar("SELECT state FROM virtuozo_core.hosts").await;
        assert_eq!(state, "ok", "nothing is wrong with the host");
        site.assert_clean(&[("mail", On)]).await;
        bad.stopped().await;
        good.stopped().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_worker_is_left_to_try_the_run_fails_after_its_attempts_and_says_where_it_was_tried()
 {
    for lacks in ALL {
        let (site, keys) = site(lacks).await;
        let bad = start_bad(&site, keys.path(), lacks);
        let worse = start(&site, "worse", &keys.path().join("missing"), true);
        site.until("both work", || async {
            let workers: i64 = site
                .scalar("SELECT count(*) FROM virtuozo_core.workers")
                .await;
            (workers == 2).then_some(())
        })
        .await;
        let run = site.run_now().await;
        assert_eq!(site.settled(run).await, "failed");
        // What is missing for the host fails with it, what is missing for a guest with that.
        let sql = if lacks == Lacks::Key {
            "SELECT format('%s %s %s', attempts, error_class, error) FROM virtuozo_core.host_runs"
        } else {
            "SELECT format('%s %s %s', attempts, error_class, error) FROM virtuozo_core.guest_runs"
        };
        let why: String = site.scalar(sql).await;
        let machine = workers::machine();
        let tried = format!("(tried: bad on {machine}, worse on {machine})");
        // The last attempt of a host run is not counted.
        let attempts = if lacks == Lacks::Key {
            "2 retry "
        } else {
            "3 retry "
        };
        for part in [attempts, &tried, "virtuozo doctor"] {
            assert!(why.contains(part), "{part:?} is not in: {why}");
        }
        site.assert_clean(&[("mail", On)]).await;
        bad.stopped().await;
        worse.stopped().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mount_that_a_machine_lacks_costs_it_only_the_guests_on_it() {
    let site = Site::new(&[("mail", On), ("web", On)]).await;
    let here = tempfile::tempdir().unwrap();
    put_in_datastore(&site, "mail", "gone", GONE).await;
    put_in_datastore(&site, "web", "here", here.path().to_str().unwrap()).await;
    enter_another(&site).await;
    let no_key = here.path().join("none");
    let bad = start(&site, "bad", &no_key, false);
    let run = site.run_now().await;
    site.until(
        "the guest of the other datastore is backed up, and what is missing is known",
        || async {
            let rows = site.rows(run).await;
            let states: Vec<&str> = rows.iter().map(|row| &*row.state).collect();
            let found = workers::lacking(&site.db.pool).await.unwrap();
            (states == ["admitted", "succeeded"] && !found.is_empty()).then_some(())
        },
    )
    .await;
    let row = site.row(run, "mail").await;
    assert_eq!((row.attempts, row.fence), (0, 1), "{row:?}");
    let why: String = site
        .scalar("SELECT waiting_reason FROM virtuozo.guest_runs WHERE guest = 'mail'")
        .await;
    for part in [
        "left to others by worker bad on",
        GONE,
        said_of(Lacks::Location),
    ] {
        assert!(why.contains(part), "{part:?} is not in: {why}");
    }
    let found = workers::lacking(&site.db.pool).await.unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    let what = (found[0].location.as_deref(), found[0].host.as_deref());
    assert_eq!(what, (Some(GONE), None));
    assert!(found[0].leaves_to_others);

    let good = start(&site, "good", &no_key, true);
    assert_eq!(site.settled(run).await, "succeeded");
    // What was missing in one job is known for the jobs of the next run.
    let run = site.run_now().await;
    assert_eq!(site.settled(run).await, "succeeded");
    assert_eq!(site.row(run, "mail").await.attempts, 0);
    let steps = "SELECT count(*) FROM virtuozo_core.steps s
                   JOIN virtuozo_core.workers w ON w.id = s.worker_id
                   JOIN virtuozo_core.guest_runs r ON r.id = s.guest_run_id
                   JOIN virtuozo_core.guests g ON g.id = r.guest_id
                  WHERE w.name = 'bad' AND g.name = 'mail'";
    assert_eq!(site.scalar::<i64>(steps).await, 1, "the step that found it");
    site.assert_clean(&[("mail", On), ("web", On)]).await;
    bad.stopped().await;
    good.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_claims_again_what_needs_a_mount_when_it_is_back() {
    let site = Site::new(&[("mail", On)]).await;
    let machine = tempfile::tempdir().unwrap();
    let mount = machine.path().join("mount");
    put_in_datastore(&site, "mail", "store", mount.to_str().unwrap()).await;
    // It never takes anything, so the work is done only if the worker itself goes on.
    enter_another(&site).await;
    let options = WorkerOptions {
        reprobe_every: Some(Duration::from_millis(50)),
        ..WorkerOptions::new("bad")
    };
    let connector = FakeConnector {
        is_mounted: false,
        ..FakeConnector::new(Arc::clone(&site.world))
    };
    let worker = WorkerProcess::start_with(options, connector, site.db.url().to_owned());
    let run = site.run_now().await;
    let lacks = "SELECT coalesce(max(lacks[1]), '') FROM virtuozo.workers";
    site.until("the worker has found out", || async {
        let lacks: String = site.scalar(lacks).await;
        lacks.ends_with("/mount").then_some(())
    })
    .await;
    std::fs::create_dir(&mount).unwrap();
    assert_eq!(site.settled(run).await, "succeeded");
    let row = site.row(run, "mail").await;
    assert_eq!((row.attempts, row.error), (0, None));
    assert_eq!(site.scalar::<String>(lacks).await, "");
    worker.stopped().await;
}

/// A worker on a machine that lacks what the back end needs, until the flag says otherwise.
fn start_without_back_end(site: &Site) -> (WorkerProcess, Arc<AtomicBool>) {
    let connector = FakeConnector {
        is_usable: Arc::new(AtomicBool::new(false)),
        ..FakeConnector::new(Arc::clone(&site.world))
    };
    let is_usable = Arc::clone(&connector.is_usable);
    let options = WorkerOptions {
        reprobe_every: Some(Duration::from_millis(50)),
        ..WorkerOptions::new("bare")
    };
    let worker = WorkerProcess::start_with(options, connector, site.db.url().to_owned());
    (worker, is_usable)
}

async fn registered(site: &Site, name: &'static str) {
    site.until("the worker runs", || async {
        let all = workers::list(&site.db.pool).await.unwrap();
        all.iter().any(|one| one.name == name).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_machine_lacks_the_back_end_runs_and_leaves_the_work_to_another() {
    let site = Site::new(&[("mail", On)]).await;
    let (bare, _) = start_without_back_end(&site);
    registered(&site, "bare").await;
    let run = site.run_now().await;
    // It is said what is missing, and where.
    let said: Vec<(String, String, String)> =
        sqlx::query_as("SELECT kind, host, reason FROM virtuozo.stuck WHERE kind = 'kind'")
            .fetch_all(&site.db.pool)
            .await
            .unwrap();
    assert_eq!(said.len(), 1, "{said:?}");
    let (_, host, reason) = &said[0];
    assert_eq!(host, "lab");
    for part in ["memory", "worker bare on", "install some"] {
        assert!(reason.contains(part), "{reason}");
    }
    let unserved = workers::unserved(&site.db.pool).await.unwrap();
    assert_eq!(unserved[0].hosts, ["lab"]);

    let good = site.worker("good");
    assert_eq!(site.settled(run).await, "succeeded");
    assert_eq!(workers::unserved(&site.db.pool).await.unwrap(), []);
    let steps_of_bare: i64 = site
        .scalar(
            "SELECT count(*) FROM virtuozo_core.steps s JOIN virtuozo_core.workers w ON w.id = s.worker_id
              WHERE w.name = 'bare'",
        )
        .await;
    assert_eq!(steps_of_bare, 0);
    let attempts: i32 = site
        .scalar("SELECT sum(attempts)::integer FROM virtuozo_core.host_runs")
        .await;
    assert_eq!(attempts, 0, "nothing failed meanwhile");
    bare.stopped().await;
    good.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_begins_to_serve_when_its_machine_gets_what_was_missing() {
    let site = Site::new(&[("mail", On)]).await;
    let (bare, is_usable) = start_without_back_end(&site);
    registered(&site, "bare").await;
    let run = site.run_now().await;
    is_usable.store(true, Ordering::SeqCst);
    assert_eq!(site.settled(run).await, "succeeded");
    let all = workers::list(&site.db.pool).await.unwrap();
    assert!(all[0].kinds[0].is_served, "{all:?}");
    bare.stopped().await;
}
