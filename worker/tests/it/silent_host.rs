//! A host that does not answer, or refuses the login, costs one attempt to connect in each pause, whoever waits for
//! it.

use uuid::Uuid;
use virtuozo_hypervisor::{ErrorClass, ErrorKind, PowerState::On};
use virtuozo_store::{hosts, operators, settings};

use crate::common::{
    Row, Site, WorkerProcess,
    fake::{Act, PausedCall, When},
};

const REFUSED: Act = Act::Fail(ErrorKind::Unreachable, ErrorClass::Retry);
const WRONG_PASSWORD: Act = Act::Fail(ErrorKind::Login, ErrorClass::Operator);

/// A site in which the guests of a run wait for a slot, with a worker that is not connected to their host. What
/// comes next is up to the rules of the world; the host is still paused.
async fn waiting(guests: usize) -> (Site, Uuid, WorkerProcess) {
    let names: Vec<String> = (0..guests).map(|n| format!("g{n:02}")).collect();
    let powered: Vec<_> = names.iter().map(|name| (name.as_str(), On)).collect();
    let site = Site::new(&powered).await;
    let paused = site.world.pause("host_facts", When::Before);
    let worker = site.worker("one");
    let run = site.run_now().await;
    paused.reached().await;
    operators::pause(&site.db.pool, "lab").await.unwrap();
    paused.resume();
    site.until("the guests wait and nobody is connected", || async {
        let closed = site
            .world
            .connections
            .load(std::sync::atomic::Ordering::SeqCst)
            == 0;
        (closed && site.rows(run).await.len() == guests).then_some(())
    })
    .await;
    assert_eq!(site.world.calls("connect"), 1, "that of the host run");
    (site, run, worker)
}

async fn resume(site: &Site) {
    operators::resume(&site.db.pool, "lab").await.unwrap();
}

async fn failed_probes(site: &Site) -> Option<i32> {
    sqlx::query_scalar("SELECT failed_probes FROM virtuozo_core.circuit_breakers")
        .fetch_optional(&site.db.pool)
        .await
        .unwrap()
}

fn attempts(rows: &[Row]) -> i32 {
    rows.iter().map(|row| row.attempts).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn forty_guests_of_a_dead_host_cost_three_connections_and_fail_together() {
    for helpers in [0, 1] {
        let (site, run, worker) = waiting(40).await;
        site.world.rule_for_host("connect", "lab", 1000, REFUSED);
        settings::set(&site.db.pool, &[("retry_delay_secs", "1")])
            .await
            .unwrap();
        let helpers: Vec<_> = (0..helpers).map(|_| site.worker("helper")).collect();
        resume(&site).await;
        assert_eq!(site.settled(run).await, "failed");
        let connects = site.world.calls("connect") - 1;
        assert_eq!(failed_probes(&site).await, Some(3));
        // Before anything is known each worker may find out for itself.
        assert!(
            (3..=3 + helpers.len()).contains(&connects),
            "{connects} connections"
        );
        let rows = site.rows(run).await;
        for row in &rows {
            assert_eq!(
                (row.state.as_str(), row.error_class.as_deref()),
                ("failed", Some("retry")),
                "{row:?}"
            );
            let error = row.error.as_deref().unwrap_or_default();
            assert!(
                error.starts_with(
                    "the host does not answer (attempt 3 of 3): connect of lab refused"
                ),
                "{row:?}"
            );
        }
        assert_eq!(rows.len(), 40);
        assert_eq!(
            attempts(&rows),
            0,
            "what a host does not answer is no attempt"
        );
        let state: String = site.scalar("SELECT state FROM virtuozo_core.hosts").await;
        assert_eq!(state, "unreachable");

        // A new run tries at once, and afresh.
        site.world.forget_rules();
        settings::set(&site.db.pool, &[("retry_delay_secs", "600")])
            .await
            .unwrap();
        let again = site.run_now().await;
        site.until("the host is asked again", || async {
            (failed_probes(&site).await.is_none() && site.rows(again).await.len() == 40)
                .then_some(())
        })
        .await;
        worker.kill();
        drop(helpers);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_answers_again_gets_all_its_guests_going_with_no_attempt_lost() {
    let (site, run, worker) = waiting(12).await;
    let helper = site.worker("helper");
    site.world.rule_for_host("connect", "lab", 2, REFUSED);
    settings::set(&site.db.pool, &[("retry_delay_secs", "1")])
        .await
        .unwrap();
    resume(&site).await;
    assert_eq!(site.settled(run).await, "succeeded");
    let rows = site.rows(run).await;
    assert_eq!(attempts(&rows), 0, "{rows:?}");
    assert_eq!(failed_probes(&site).await, None);
    let connects = site.world.calls("connect");
    assert!(
        (4..=7).contains(&connects),
        "one of the host run, two that failed, one of each worker, and again after an idle spell: {connects}"
    );
    for worker in [worker, helper] {
        worker.stopped().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_worker_tries_when_the_one_that_tried_has_died() {
    let (site, run, worker) = waiting(4).await;
    settings::set(&site.db.pool, &[("retry_delay_secs", "1")])
        .await
        .unwrap();
    site.world.rule_for_host("connect", "lab", 1, REFUSED);
    let paused = PausedCall::new();
    site.world
        .rule_for_host("connect", "lab", 1, Act::Pause(paused.clone()));
    resume(&site).await;
    paused.reached().await;
    let helper = site.worker("helper");
    // A lease and more passes while the probe hangs: it is renewed, and nobody else tries.
    let until: i64 = site
        .scalar("SELECT 6 + extract(epoch FROM now())::bigint")
        .await;
    site.until("six seconds have passed", || async {
        let now: i64 = site
            .scalar("SELECT extract(epoch FROM now())::bigint")
            .await;
        (now >= until).then_some(())
    })
    .await;
    assert_eq!(site.world.calls("connect"), 3);
    worker.kill();
    assert_eq!(site.settled(run).await, "succeeded");
    assert_eq!(failed_probes(&site).await, None);
    helper.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_guests_of_a_silent_host_are_owed_is_undone_when_it_answers() {
    let (site, run, worker) = waiting(2).await;
    let paused_calls = [0, 1].map(|_| site.world.pause("freeze", When::After));
    let lost = Act::Fail(ErrorKind::ConnectionLost, ErrorClass::Retry);
    site.world.rule("image", None, When::Before, 2, lost);
    resume(&site).await;
    for paused in &paused_calls {
        paused.reached().await;
    }
    assert_eq!(site.world.calls("connect"), 2);
    site.world.rule_for_host("connect", "lab", 8, REFUSED);
    for paused in paused_calls {
        paused.resume();
    }
    assert_eq!(site.settled(run).await, "failed");
    site.assert_clean(&[("g00", On), ("g01", On)]).await;
    let connects = site.world.calls("connect");
    assert!(
        (11..=12).contains(&connects),
        "eight of them in vain: {connects}"
    );
    let loud: i64 = site
        .scalar("SELECT count(*) FROM virtuozo_core.events WHERE severity = 'error' AND message LIKE '%are still to be brought back%'")
        .await;
    assert_eq!(loud, 6, "one event for each probe, not for each guest");
    let by_guest: i64 = site
        .scalar("SELECT count(*) FROM virtuozo_core.events WHERE message LIKE '%by hand%'")
        .await;
    assert_eq!(by_guest, 0);
    worker.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_costs_one_login_in_each_pause_and_a_new_one_is_tried_at_once() {
    let (site, run, worker) = waiting(20).await;
    let helper = site.worker("helper");
    site.world
        .rule_for_host("connect", "lab", 1000, WRONG_PASSWORD);
    settings::set(&site.db.pool, &[("retry_delay_secs", "600")])
        .await
        .unwrap();
    resume(&site).await;
    site.until("all guests say what they wait for", || async {
        let saying: i64 = site
            .scalar(
                "SELECT count(*) FROM virtuozo.guest_runs
                  WHERE state = 'waiting' AND waiting_reason LIKE
                        'its host refuses the login (attempt 1 of 3 failed at %: connect of lab refused%); next probe at %'",
            )
            .await;
        (saying == 20).then_some(())
    })
    .await;
    let pause: bool = site
        .scalar("SELECT open_until > now() + interval '400 s' FROM virtuozo_core.circuit_breakers")
        .await;
    assert!(pause, "nobody tries for about ten minutes");
    let logins = site.world.calls("connect") - 1;
    // Before anything is known each worker may find out for itself.
    assert!((1..=2).contains(&logins), "{logins} logins");
    let state = "SELECT state FROM virtuozo_core.hosts";
    assert_eq!(site.scalar::<String>(state).await, "invalid");

    site.world.forget_rules();
    hosts::set_password(&site.db.pool, site.host_id, None)
        .await
        .unwrap();
    assert_eq!(site.settled(run).await, "succeeded");
    let rows = site.rows(run).await;
    assert_eq!(
        attempts(&rows),
        0,
        "what a password holds up is no attempt: {rows:?}"
    );
    assert_eq!(failed_probes(&site).await, None);
    worker.stopped().await;
    helper.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_run_waits_for_the_right_password_and_is_given_up_after_three_logins() {
    let site = Site::new(&[("mail", On)]).await;
    site.world
        .rule_for_host("connect", "lab", 1000, WRONG_PASSWORD);
    settings::set(&site.db.pool, &[("retry_delay_secs", "600")])
        .await
        .unwrap();
    let workers = [site.worker("one"), site.worker("two")];
    let run = site.run_now().await;
    let waits = "SELECT count(*) FROM virtuozo_core.host_runs
                  WHERE state = 'queued' AND attempts = 0 AND error_class = 'operator'
                    AND error LIKE 'the host refuses the login (attempt 1 of 3): %'";
    site.until("the host run waits", || async {
        (site.scalar::<i64>(waits).await == 1).then_some(())
    })
    .await;
    assert_eq!(site.world.calls("connect"), 1);
    for logins in 2..=3 {
        // The pause is over.
        site.execute("UPDATE virtuozo_core.circuit_breakers SET open_until = now(), lease_until = lease_until - interval '1 hour'")
            .await;
        site.until("the next login", || async {
            (failed_probes(&site).await == Some(logins)).then_some(())
        })
        .await;
    }
    assert_eq!(site.settled(run).await, "failed");
    assert_eq!(site.world.calls("connect"), 3);
    let told: i64 = site
        .scalar(
            "SELECT count(*) FROM virtuozo_core.events
              WHERE severity = 'error' AND message LIKE 'host lab refuses the login (attempt 3 of 3): %'",
        )
        .await;
    assert_eq!(told, 1);
    for worker in workers {
        worker.stopped().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_login_counts_and_what_tells_nothing_leaves_the_circuit_breaker_as_it_is() {
    // Who was admitted before all was given up may probe once more.
    for (kind, probes) in [
        (ErrorKind::Login, 3..=5),
        (ErrorKind::LibraryMissing, 1..=1),
    ] {
        let (site, run, worker) = waiting(3).await;
        site.world.rule_for_host("connect", "lab", 1, REFUSED);
        let act = Act::Fail(kind, ErrorClass::Operator);
        site.world.rule_for_host("connect", "lab", 1000, act);
        resume(&site).await;
        assert_eq!(site.settled(run).await, "failed");
        let failed = failed_probes(&site).await;
        assert!(
            failed.is_some_and(|failed| probes.contains(&failed)),
            "{failed:?}"
        );
        for row in site.rows(run).await {
            assert_eq!(row.error_class.as_deref(), Some("operator"), "{row:?}");
        }
        worker.stopped().await;
    }
}
