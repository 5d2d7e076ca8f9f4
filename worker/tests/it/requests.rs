//! What is asked of a host is done by a worker that can reach it, and whoever asked hears of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use virtuozo_hypervisor::{ErrorClass, ErrorKind, PowerState::On};
use virtuozo_model::{ErrorClass as Class, HostTested};
use virtuozo_services::requests::{self, Answered, Asking, RequestError};
use virtuozo_store::hosts;
use virtuozo_worker::WorkerOptions;

use crate::common::{
    Site, WorkerProcess,
    fake::{Act, FakeConnector, When},
};

type Tested = Result<Answered<HostTested>, RequestError>;

/// Somebody who waits for a test of the host.
struct Asker {
    task: JoinHandle<Tested>,
    heard: Arc<Mutex<Vec<String>>>,
    stop: CancellationToken,
}

impl Asker {
    async fn of(site: &Site, limit: Duration) -> Self {
        let host = hosts::by_name(&site.db.pool, "lab").await.unwrap();
        let (pool, heard) = (site.db.pool.clone(), Arc::<Mutex<Vec<String>>>::default());
        let (stop, hears) = (CancellationToken::new(), Arc::clone(&heard));
        let asking = Asking {
            requested_by: "test".to_owned(),
            limit,
            stop: stop.clone(),
        };
        let task = tokio::spawn(async move {
            let tell = |said: &str| hears.lock().push(said.to_owned());
            requests::test_host(&pool, &host, &asking, tell).await
        });
        Self { task, heard, stop }
    }

    async fn hears(self) -> Tested {
        let heard = tokio::time::timeout(Duration::from_secs(60), self.task).await;
        heard.expect("whoever asked hears something").unwrap()
    }

    async fn hears_error(self) -> RequestError {
        self.hears().await.expect_err("it is not answered")
    }
}

const LONG: Duration = Duration::from_secs(50);

async fn site_with_workers(names: &[&str]) -> (Site, Vec<WorkerProcess>) {
    let site = Site::new(&[("mail", On), ("web", On)]).await;
    let workers: Vec<_> = names.iter().map(|name| site.worker(name)).collect();
    let expected = i64::try_from(names.len()).unwrap();
    site.until("the workers have entered themselves", || async {
        let there: i64 = site
            .scalar("SELECT count(*) FROM virtuozo_core.workers")
            .await;
        (there == expected).then_some(())
    })
    .await;
    (site, workers)
}

async fn until_state(site: &Site, state: &str) {
    site.until(state, || async {
        let is: String = site
            .scalar("SELECT coalesce(max(state), 'none') FROM virtuozo_core.requests")
            .await;
        (is == state).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_tests_a_host_and_checks_its_guests_for_those_who_ask() {
    let (site, _workers) = site_with_workers(&["one"]).await;
    let tested = Asker::of(&site, LONG).await.hears().await.unwrap();
    assert!(tested.worker.starts_with("one on "), "{}", tested.worker);
    assert_eq!(tested.answer.guests, 2);
    assert_eq!(tested.answer.back_end, "memory is there");

    let host = hosts::by_name(&site.db.pool, "lab").await.unwrap();
    let asking = Asking {
        requested_by: "test".to_owned(),
        limit: LONG,
        stop: CancellationToken::new(),
    };
    let checked = requests::check_host(&site.db.pool, &host, &asking, |_| {}).await;
    assert_eq!(checked.unwrap().answer.guests, 2);
    let ok: i64 = site
        .scalar("SELECT count(*) FROM virtuozo_core.guests WHERE state = 'ok'")
        .await;
    assert_eq!(ok, 2, "what was found is noted with the guests");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_worker_that_serves_the_kind_nobody_is_asked_and_that_is_said() {
    let site = Site::new(&[]).await;
    let none = Asker::of(&site, LONG).await.hears_error().await;
    assert!(matches!(none, RequestError::NoWorker), "{none}");

    let connector = FakeConnector {
        is_usable: Arc::new(AtomicBool::new(false)),
        ..FakeConnector::new(Arc::clone(&site.world))
    };
    let usable = Arc::clone(&connector.is_usable);
    let options = WorkerOptions {
        reprobe_every: Some(Duration::from_millis(50)),
        ..WorkerOptions::new("poor")
    };
    let _poor = WorkerProcess::start_with(options, connector, site.db.url().to_owned());
    site.until("the worker has entered itself", || async {
        let kinds: i64 = site
            .scalar("SELECT count(*) FROM virtuozo_core.worker_kinds")
            .await;
        (kinds > 0).then_some(())
    })
    .await;
    let lacks = Asker::of(&site, LONG).await.hears_error().await.to_string();
    for part in [
        "serves hosts of the kind memory",
        "poor",
        "install some",
        "--local",
    ] {
        assert!(lacks.contains(part), "{lacks}");
    }
    let rows: i64 = site
        .scalar("SELECT count(*) FROM virtuozo_core.requests")
        .await;
    assert_eq!(rows, 0, "nothing is left that a later worker would do");

    usable.store(true, Ordering::SeqCst);
    site.until("the worker serves the kind", || async {
        let serves: bool = site
            .scalar("SELECT bool_or(is_served) FROM virtuozo_core.worker_kinds")
            .await;
        serves.then_some(())
    })
    .await;
    Asker::of(&site, LONG).await.hears().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_host_says_comes_through_with_its_class_and_opens_no_circuit_breaker() {
    let (site, _workers) = site_with_workers(&["one"]).await;
    for (kind, class, expected) in [
        (ErrorKind::Login, ErrorClass::Operator, Class::Operator),
        (ErrorKind::Other, ErrorClass::Retry, Class::Retry),
    ] {
        site.world
            .rule_for_host("connect", "lab", 1, Act::Fail(kind, class));
        let failed = Asker::of(&site, LONG).await.hears_error().await;
        assert!(
            matches!(&failed, RequestError::Failed { class, .. } if *class == expected),
            "{failed}"
        );
        assert!(failed.to_string().contains("connect"), "{failed}");
        let open: i64 = site
            .scalar("SELECT count(*) FROM virtuozo_core.circuit_breakers")
            .await;
        assert_eq!(open, 0);
    }
    // Also while the breaker is open: who asks wants to know how the host is now.
    site.execute(
        "INSERT INTO virtuozo_core.circuit_breakers (host_id, failed_probes, error, open_until)
         SELECT id, 1, 'no answer', now() + interval '1 hour' FROM virtuozo_core.hosts",
    )
    .await;
    Asker::of(&site, LONG).await.hears().await.unwrap();
    let open: i64 = site
        .scalar("SELECT count(*) FROM virtuozo_core.circuit_breakers")
        .await;
    assert_eq!(open, 0, "the host answers again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_killed_in_the_middle_is_followed_by_another_one() {
    let (site, mut workers) = site_with_workers(&["one"]).await;
    let paused = site.world.pause("connect", When::Before);
    let asker = Asker::of(&site, LONG).await;
    paused.reached().await;
    let _other = site.worker("other");
    workers.remove(0).kill();
    let heard = Arc::clone(&asker.heard);
    let tested = asker.hears().await.unwrap();
    assert!(tested.worker.starts_with("other on "), "{}", tested.worker);
    let heard = heard.lock();
    assert!(
        heard.iter().any(|said| said.contains("one on ")),
        "{heard:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_stops_hands_the_request_to_another_one() {
    let (site, workers) = site_with_workers(&["one"]).await;
    let paused = site.world.pause("connect", When::Before);
    let asker = Asker::of(&site, LONG).await;
    paused.reached().await;
    let _other = site.worker("other");
    workers[0].ask_to_stop();
    let tested = asker.hears().await.unwrap();
    assert!(tested.worker.starts_with("other on "), "{}", tested.worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_too_long_or_stops_waiting_leaves_nothing_to_be_done() {
    let (site, _workers) = site_with_workers(&["one"]).await;
    let paused = site.world.pause("connect", When::Before);
    let late = Asker::of(&site, Duration::from_secs(2)).await;
    paused.reached().await;
    let late = late.hears_error().await;
    let said = late.to_string();
    assert!(matches!(late, RequestError::TimedOut { .. }), "{said}");
    assert!(
        said.contains("within 2 s") && said.contains("one on "),
        "{said}"
    );
    until_state(&site, "cancelled").await;
    paused.resume();

    site.execute("DELETE FROM virtuozo_core.requests").await;
    let paused = site.world.pause("connect", When::Before);
    let asker = Asker::of(&site, LONG).await;
    paused.reached().await;
    asker.stop.cancel();
    let stopped = asker.hears_error().await;
    assert!(matches!(stopped, RequestError::Stopped(_)), "{stopped}");
    until_state(&site, "cancelled").await;
    paused.resume();
}
