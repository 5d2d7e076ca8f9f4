//! Hooks in the database: runs that are held, who takes hooks that wait, and how that ends.

use std::time::Duration;

use sqlx::AssertSqlSafe;

use super::*;
use crate::{
    host_runs::{self, HostLease},
    leases, operators, runs, sweeps,
};
use virtuozo_model::Severity;
use virtuozo_postgres::testing::TestDb;
use virtuozo_telemetry::metrics::Metrics;

async fn execute(pool: &PgPool, sql: impl Into<String>) {
    sqlx::raw_sql(AssertSqlSafe(sql.into()))
        .execute(pool)
        .await
        .unwrap();
}

async fn text(pool: &PgPool, sql: &'static str) -> String {
    sqlx::query_scalar::<_, Option<String>>(sql)
        .fetch_one(pool)
        .await
        .unwrap()
        .unwrap_or_default()
}

fn hook(moment: HookMoment, on_failure: OnFailure) -> Hook {
    Hook {
        moment,
        command: vec!["/bin/true".to_owned()],
        limit_secs: 60,
        on_failure,
    }
}

/// A host with one guest, a command before each run, and a process that is alive.
async fn site(on_failure: OnFailure) -> TestDb {
    let db = TestDb::new().await;
    execute(
        &db.pool,
        "UPDATE virtuozo_core.settings SET lease_secs = 2, max_crashes = 2;
         INSERT INTO virtuozo_core.hosts (id, name, kind) VALUES (md5('alpha')::uuid, 'alpha', 'esxi');
         INSERT INTO virtuozo_core.guests (id, host_id, locator, name)
         VALUES (md5('mail')::uuid, md5('alpha')::uuid, 'mail.vmx', 'mail');
         INSERT INTO virtuozo_core.workers (id, kind, name, machine, pid, version)
         VALUES (gen_random_uuid(), 'worker', 'one', 'here', 1, '0'), (gen_random_uuid(), 'scheduler', 'one', 'here', 1, '0')",
    )
    .await;
    let before = hook(HookMoment::Before, on_failure);
    set(&db.pool, None, &before).await.unwrap();
    db
}

async fn start(db: &TestDb) -> (Uuid, Uuid) {
    let new = runs::NewRun {
        tick: None,
        requested_by: "test".to_owned(),
        targets: runs::Targets::default(),
    };
    let run = runs::start_run(&db.pool, &new).await.unwrap();
    let host_run = sqlx::query_scalar("SELECT id FROM virtuozo_core.host_runs WHERE run_id = $1")
        .bind(run)
        .fetch_one(&db.pool)
        .await
        .unwrap();
    (run, host_run)
}

async fn taken(db: &TestDb, whose: HookScope) -> Option<HookLease> {
    take(&db.pool, whose, Uuid::now_v7()).await.unwrap()
}

async fn ended(db: &TestDb, taken: &HookLease, error: Option<&str>) -> Fence {
    let code = if error.is_some() { 3 } else { 0 };
    let event = NewEvent::user(Severity::Error, "told").run(taken.run_id);
    end(
        &db.pool,
        &Metrics::default(),
        taken,
        Some(code),
        error,
        &event,
    )
    .await
    .unwrap()
}

const JOBS: &str = "SELECT count(*)::text FROM apalis.jobs WHERE job_type = 'virtuozo-host'";
const RUN: &str = "SELECT state || ': ' || coalesce(error, '') FROM virtuozo_core.runs";

#[tokio::test]
async fn no_host_of_a_run_begins_before_the_command_before_it_has_ended() {
    let db = site(OnFailure::Fail).await;
    let (run, host_run) = start(&db).await;
    execute(
        &db.pool,
        "UPDATE virtuozo_core.host_runs SET created_at = now() - interval '1 hour', run_after = now() - interval '1 hour'",
    )
    .await;
    let held = async |what: &str| {
        sweeps::push_lost_jobs(&db.pool).await.unwrap();
        sweeps::end_runs(&db.pool, &Metrics::default())
            .await
            .unwrap();
        assert_eq!(text(&db.pool, JOBS).await, "0", "{what}");
        // Also a job that somebody pushes is of no use.
        let place = host_runs::host_of_queued(&db.pool, host_run).await.unwrap();
        let lease = leases::take::<HostLease>(&db.pool, host_run, run)
            .await
            .unwrap();
        assert!(place.is_none() && lease.is_none(), "{what}");
        let why = text(&db.pool, "SELECT waiting_reason FROM virtuozo.runs").await;
        assert!(
            why.contains("waits for the command before the run"),
            "{why}"
        );
        assert_eq!(
            text(&db.pool, "SELECT max(kind) FROM virtuozo.stuck").await,
            ""
        );
    };
    held("nobody has taken the hook").await;
    assert_eq!(taken(&db, HookScope::Guests).await, None);
    let hook = taken(&db, HookScope::Site).await.unwrap();
    assert_eq!(
        taken(&db, HookScope::Site).await,
        None,
        "it was taken twice"
    );
    assert!(leases::renew(&db.pool, &hook).await.unwrap().is_some());
    held("it runs").await;
    assert_eq!(ended(&db, &hook, None).await, Fence::Held);
    assert_eq!(text(&db.pool, JOBS).await, "1");
    assert_eq!(
        text(&db.pool, "SELECT waiting_reason FROM virtuozo.runs").await,
        ""
    );
    assert_eq!(
        text(&db.pool, "SELECT max(kind) FROM virtuozo.stuck").await,
        ""
    );
    assert_eq!(ended(&db, &hook, None).await, Fence::Lost, "it ended twice");
    let lease = leases::take::<HostLease>(&db.pool, host_run, run)
        .await
        .unwrap();
    assert!(lease.is_some());
}

#[tokio::test]
async fn a_failing_command_before_a_run_fails_it_and_is_run_again_when_that_is_retried() {
    let db = site(OnFailure::Fail).await;
    let (run, _) = start(&db).await;
    let hook = taken(&db, HookScope::Site).await.unwrap();
    assert_eq!(ended(&db, &hook, Some("no tape")).await, Fence::Held);
    assert_eq!(text(&db.pool, RUN).await, "failed: no tape");
    let host = "SELECT state || ': ' || error || ', ' || error_class FROM virtuozo_core.host_runs";
    assert_eq!(text(&db.pool, host).await, "failed: no tape, operator");
    assert_eq!(text(&db.pool, JOBS).await, "0");

    operators::retry_failed(&db.pool, run).await.unwrap();
    assert_eq!(text(&db.pool, RUN).await, "running: ");
    let place = "SELECT count(virtuozo_core.hook_reason(id))::text FROM virtuozo_core.runs";
    assert_eq!(text(&db.pool, place).await, "1");
    let hook = taken(&db, HookScope::Site).await.unwrap();
    assert_eq!(ended(&db, &hook, None).await, Fence::Held);
    assert_eq!(text(&db.pool, place).await, "0");
    assert_ne!(text(&db.pool, JOBS).await, "0");
}

#[tokio::test]
async fn a_failure_that_is_ignored_lets_the_run_begin() {
    let db = site(OnFailure::Ignore).await;
    start(&db).await;
    let hook = taken(&db, HookScope::Site).await.unwrap();
    assert_eq!(ended(&db, &hook, Some("no tape")).await, Fence::Held);
    assert_eq!(text(&db.pool, RUN).await, "running: ");
    assert_eq!(text(&db.pool, JOBS).await, "1");
    let left = "SELECT state || ' ' || error FROM virtuozo.hook_runs";
    assert_eq!(text(&db.pool, left).await, "failed no tape");
}

#[tokio::test]
async fn a_cancelled_run_takes_the_lease_of_the_command_before_it() {
    let db = site(OnFailure::Fail).await;
    let (run, _) = start(&db).await;
    let hook = taken(&db, HookScope::Site).await.unwrap();
    runs::cancel(&db.pool, run).await.unwrap();
    assert_eq!(text(&db.pool, RUN).await, "cancelled: ");
    assert_eq!(leases::renew(&db.pool, &hook).await.unwrap(), None);
    assert_eq!(ended(&db, &hook, None).await, Fence::Lost);
    assert_eq!(text(&db.pool, JOBS).await, "0");
    assert_eq!(taken(&db, HookScope::Site).await, None);
}

#[tokio::test]
async fn what_was_lost_with_its_process_is_taken_again_but_not_for_ever() {
    let db = site(OnFailure::Fail).await;
    start(&db).await;
    let mut fences = Vec::new();
    let first = taken(&db, HookScope::Site).await.unwrap();
    assert_eq!(
        leases::release(&db.pool, &first).await.unwrap(),
        Fence::Held
    );
    // A server that has just begun gives every lease one more length.
    let all = async {
        loop {
            if let Some(one) = taken(&db, HookScope::Site).await {
                fences.push((one.fence, one.is_given_up));
                if one.is_given_up {
                    return;
                }
                execute(
                    &db.pool,
                    "UPDATE virtuozo_core.hook_runs SET lease_until = '1970-01-01'",
                )
                .await;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), all)
        .await
        .expect("it is given up after two crashes");
    assert_eq!(fences, [(2, false), (3, false), (4, true)]);
    assert_eq!(leases::renew(&db.pool, &first).await.unwrap(), None);
}

#[tokio::test]
async fn the_command_after_a_run_waits_for_those_after_its_guests_and_knows_how_all_ended() {
    let db = site(OnFailure::Fail).await;
    clear(&db.pool, None, HookMoment::Before).await.unwrap();
    let after = hook(HookMoment::After, OnFailure::Fail);
    set(&db.pool, None, &after).await.unwrap();
    let guest = sqlx::query_scalar("SELECT id FROM virtuozo_core.guests")
        .fetch_one(&db.pool)
        .await
        .unwrap();
    set(&db.pool, Some(guest), &after).await.unwrap();
    let (run, host_run) = start(&db).await;
    execute(
        &db.pool,
        format!(
            "UPDATE virtuozo_core.host_runs SET state = 'succeeded', ended_at = now();
             INSERT INTO virtuozo_core.guest_runs (id, run_id, host_run_id, host_id, guest_id, state, fence, lease_until, owner_id)
             SELECT md5('run')::uuid, '{run}', '{host_run}', host_id, id, 'running', 1, now(), id FROM virtuozo_core.guests"
        ),
    )
    .await;
    let lease = GuestLease {
        guest_run_id: sqlx::query_scalar("SELECT id FROM virtuozo_core.guest_runs")
            .fetch_one(&db.pool)
            .await
            .unwrap(),
        run_id: run,
        host_id: guest,
        guest_id: guest,
        owner_id: Uuid::now_v7(),
        fence: 1,
        attempt_fence: 1,
        attempts: 0,
        cancel_requested: false,
        lease_secs: 10,
        trace_id: run,
        trace_fence: 0,
    };
    assert_eq!(expect_after(&db.pool, &lease).await.unwrap(), Fence::Held);
    let stale = GuestLease { fence: 0, ..lease };
    assert_eq!(expect_after(&db.pool, &stale).await.unwrap(), Fence::Lost);
    execute(
        &db.pool,
        "UPDATE virtuozo_core.guest_runs SET state = 'failed', lease_until = NULL, owner_id = NULL, ended_at = now(), error = 'no disk'",
    )
    .await;
    sweeps::end_runs(&db.pool, &Metrics::default())
        .await
        .unwrap();
    assert_eq!(
        taken(&db, HookScope::Site).await,
        None,
        "the guest's was passed"
    );
    let of_guest = taken(&db, HookScope::Guests).await.unwrap();
    assert_eq!(of_guest.outcome.as_deref(), Some("failed"));
    let told = facts(&db.pool, &of_guest).await.unwrap();
    assert_eq!(
        (told.guest.as_deref(), told.error.as_deref()),
        (Some("mail"), Some("no disk"))
    );
    assert!(told.failed_guests.is_empty());
    assert_eq!(ended(&db, &of_guest, Some("no matter")).await, Fence::Held);

    let of_run = taken(&db, HookScope::Site).await.unwrap();
    let told = facts(&db.pool, &of_run).await.unwrap();
    assert_eq!(told.failed_guests, ["alpha/mail"]);
    assert_eq!((told.guests, told.succeeded, told.failed), (1, 0, 1));
    assert_eq!(ended(&db, &of_run, None).await, Fence::Held);
    assert!(
        text(&db.pool, RUN)
            .await
            .starts_with("failed: 1 of 1 guests")
    );
}

#[tokio::test]
async fn what_could_not_be_run_is_refused_with_the_reason() {
    let db = TestDb::new().await;
    let good = hook(HookMoment::After, OnFailure::Fail);
    let of = |command: &[&str]| Hook {
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        ..good.clone()
    };
    for (hook, part) in [
        (of(&[]), "needs a program"),
        (of(&[""]), "needs a program"),
        (of(&["./quiesce"]), "neither an absolute path"),
        (of(&["quiesce", "a\0b"]), "NUL"),
        (
            Hook {
                limit_secs: 0,
                ..good.clone()
            },
            "from 1 to 86400",
        ),
        (
            Hook {
                limit_secs: 86401,
                ..good.clone()
            },
            "from 1 to 86400",
        ),
    ] {
        let why = set(&db.pool, None, &hook).await.unwrap_err().to_string();
        assert!(why.contains(part), "{why}");
    }
    set(&db.pool, None, &good).await.unwrap();
    let other = of(&["quiesce", "--app", "db"]);
    set(&db.pool, None, &other).await.unwrap();
    let all = list(&db.pool).await.unwrap();
    assert_eq!(
        all.iter().map(|line| &line.hook).collect::<Vec<_>>(),
        [&other]
    );
    assert!(clear(&db.pool, None, HookMoment::After).await.unwrap());
    assert!(!clear(&db.pool, None, HookMoment::After).await.unwrap());
}
