//! Notices in the database: who takes them, what is told together, what waits.

mod races;
mod secrets;

use sqlx::AssertSqlSafe;

use super::*;
use virtuozo_model::Severity;
use virtuozo_postgres::testing::TestDb;

async fn execute(pool: &PgPool, sql: impl Into<String>) {
    sqlx::raw_sql(AssertSqlSafe(sql.into()))
        .execute(pool)
        .await
        .unwrap();
}

async fn states(pool: &PgPool) -> Vec<(NoticeKind, NoticeState)> {
    list(pool, false, 100)
        .await
        .unwrap()
        .iter()
        .rev()
        .map(|one| (one.kind, one.state))
        .collect()
}

/// A site that is told by webhook, of everything, at once.
async fn site() -> TestDb {
    let db = TestDb::new().await;
    config::set(
        &db.pool,
        &[
            ("webhook_url", "http://localhost/hook"),
            ("on_success", "true"),
            ("group_secs", "0"),
        ],
    )
    .await
    .unwrap();
    db
}

/// A run that has ended so, with what is told of it.
async fn ended(pool: &PgPool, kind: NoticeKind) -> Uuid {
    let id = Uuid::now_v7();
    let state = match kind {
        NoticeKind::Success => "succeeded",
        _ => "failed",
    };
    execute(
        pool,
        format!(
            "INSERT INTO virtuozo_core.runs (id, requested_by, state, ended_at) VALUES ('{id}', 'test', '{state}', now())"
        ),
    )
    .await;
    let mut tx = pool.begin().await.unwrap();
    of_run(&mut tx, id, kind).await.unwrap();
    tx.commit().await.unwrap();
    id
}

/// The notices that wait, the oldest first.
async fn waiting(pool: &PgPool) -> Vec<Uuid> {
    let mut ids: Vec<Uuid> = list(pool, false, 100)
        .await
        .unwrap()
        .into_iter()
        .filter(|one| one.state == NoticeState::Waiting)
        .map(|one| one.id)
        .collect();
    ids.reverse();
    ids
}

fn sent() -> Attempt {
    Attempt {
        state: NoticeState::Sent,
        delay_secs: 0,
        sent_to: vec!["webhook".to_owned()],
        refused_to: Vec::new(),
        error: None,
    }
}

async fn send(pool: &PgPool, id: Uuid) -> Option<NoticeContents> {
    let taken = take(pool, id, Uuid::now_v7()).await.unwrap()?;
    let fence = end(pool, &taken, &sent(), None).await.unwrap();
    assert_eq!(fence, Fence::Held);
    Some(taken.contents)
}

#[tokio::test]
async fn a_notice_is_written_for_each_way_that_is_configured_and_for_what_is_wanted() {
    let db = TestDb::new().await;
    ended(&db.pool, NoticeKind::Failure).await;
    assert!(states(&db.pool).await.is_empty(), "nothing is configured");
    config::set(
        &db.pool,
        &[
            ("webhook_url", "https://hooks.example.org/x"),
            ("mail_host", "mail.example.org"),
            ("mail_from", "backup@example.org"),
        ],
    )
    .await
    .unwrap();
    ended(&db.pool, NoticeKind::Success).await;
    assert!(
        states(&db.pool).await.is_empty(),
        "successes are not told unless that is wanted"
    );
    ended(&db.pool, NoticeKind::Failure).await;
    assert_eq!(states(&db.pool).await.len(), 1, "mail has no receiver yet");
    config::set(&db.pool, &[("mail_to", "a@example.org, b@example.org")])
        .await
        .unwrap();
    let run = ended(&db.pool, NoticeKind::Failure).await;
    assert_eq!(states(&db.pool).await.len(), 3);
    // A run that ends again before it was told is told once.
    let mut tx = db.pool.begin().await.unwrap();
    of_run(&mut tx, run, NoticeKind::Failure).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(states(&db.pool).await.len(), 3);
    let jobs: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM apalis.jobs WHERE job_type = 'virtuozo-notice' AND run_at > now() + interval '110 seconds'",
    )
    .fetch_one(&db.pool)
    .await
    .unwrap();
    assert_eq!(jobs, 3, "each has its job, after the time to gather");
}

#[tokio::test]
async fn of_several_schedulers_one_sends_and_what_waits_is_told_along() {
    let db = site().await;
    let runs = [
        ended(&db.pool, NoticeKind::Failure).await,
        ended(&db.pool, NoticeKind::Success).await,
        ended(&db.pool, NoticeKind::Failure).await,
    ];
    let ids = waiting(&db.pool).await;
    assert_eq!(ids.len(), 3);
    let mut taking = tokio::task::JoinSet::new();
    for id in ids {
        let pool = db.pool.clone();
        taking.spawn(async move { take(&pool, id, Uuid::now_v7()).await.unwrap() });
    }
    let taken: Vec<NoticeLease> = taking.join_all().await.into_iter().flatten().collect();
    let [one] = taken.as_slice() else {
        panic!("{} took notices", taken.len());
    };
    assert_eq!(one.contents.notices, 3);
    assert!(runs.iter().all(|run| one.contents.run_ids.contains(run)));
    assert!(!one.contents.is_held && !one.contents.is_obligation);
    let fence = end(&db.pool, one, &sent(), None).await.unwrap();
    assert_eq!(fence, Fence::Held);
    let states = states(&db.pool).await;
    let of = |state| states.iter().filter(|(_, s)| *s == state).count();
    assert_eq!((of(NoticeState::Sent), of(NoticeState::Folded)), (1, 2));
}

#[tokio::test]
async fn beyond_the_limit_of_an_hour_notices_wait_and_are_told_together() {
    let db = site().await;
    config::set(&db.pool, &[("messages_per_hour", "1")])
        .await
        .unwrap();
    ended(&db.pool, NoticeKind::Failure).await;
    let first = waiting(&db.pool).await;
    assert!(send(&db.pool, first[0]).await.is_some());
    for _ in 0..3 {
        ended(&db.pool, NoticeKind::Failure).await;
    }
    let ids = waiting(&db.pool).await;
    assert_eq!(ids.len(), 3);
    for id in &ids {
        assert_eq!(
            send(&db.pool, *id).await,
            None,
            "the hour has had its message"
        );
    }
    let held = list(&db.pool, false, 10).await.unwrap();
    let held: Vec<&Notice> = held.iter().filter(|one| one.held).collect();
    assert_eq!(held.len(), 3);
    for one in held {
        assert_eq!((one.attempts, &one.last_error), (0, &None));
        let wait = one.run_after - one.created_at;
        assert!((3500..3700).contains(&wait.num_seconds()), "{wait}");
    }
    // A digest is not held back.
    assert!(digest(&db.pool, Utc::now()).await.unwrap());
    let all = list(&db.pool, false, 10).await.unwrap();
    let of_day = all
        .iter()
        .find(|one| one.kind == NoticeKind::Digest)
        .unwrap();
    assert!(send(&db.pool, of_day.id).await.is_some());
    // An hour later.
    execute(
        &db.pool,
        "UPDATE virtuozo_core.notices SET run_after = run_after - interval '1 hour', ended_at = ended_at - interval '1 hour'",
    )
    .await;
    let told = send(&db.pool, ids[0]).await.unwrap();
    assert!(told.is_held);
    assert_eq!((told.notices, told.run_ids.len()), (3, 3));
    assert!(waiting(&db.pool).await.is_empty());
}

#[tokio::test]
async fn a_test_whose_sender_is_gone_ends() {
    let db = site().await;
    let ids = [
        test(&db.pool, NoticeChannel::Webhook).await.unwrap(),
        test(&db.pool, NoticeChannel::Webhook).await.unwrap(),
    ];
    let dead = take(&db.pool, ids[0], Uuid::now_v7()).await.unwrap();
    assert_eq!(end_lost_tests(&db.pool).await.unwrap(), 0, "both go on");
    execute(
        &db.pool,
        "UPDATE virtuozo_core.notices SET run_after = now() - interval '2 minutes';
         UPDATE virtuozo_core.notices SET lease_until = now() - interval '1 second' WHERE state = 'sending'",
    )
    .await;
    assert_eq!(end_lost_tests(&db.pool).await.unwrap(), 2);
    for one in list(&db.pool, false, 10).await.unwrap() {
        assert_eq!(one.state, NoticeState::Failed);
        assert_eq!(one.last_error.as_deref(), Some("the test was interrupted"));
    }
    let fence = end(&db.pool, &dead.unwrap(), &sent(), None).await.unwrap();
    assert_eq!(fence, Fence::Lost);
}

#[tokio::test]
async fn a_sender_that_is_gone_is_replaced_and_records_nothing_any_more() {
    let db = site().await;
    ended(&db.pool, NoticeKind::Failure).await;
    let id = waiting(&db.pool).await[0];
    let dead = take(&db.pool, id, Uuid::now_v7()).await.unwrap().unwrap();
    assert_eq!(take(&db.pool, id, Uuid::now_v7()).await.unwrap(), None);
    execute(&db.pool, "DELETE FROM apalis.jobs").await;
    assert_eq!(push_lost(&db.pool).await.unwrap(), 0, "its lease holds");
    execute(
        &db.pool,
        "UPDATE virtuozo_core.notices SET lease_until = now() - interval '1 second'",
    )
    .await;
    assert_eq!(push_lost(&db.pool).await.unwrap(), 1);
    assert_eq!(push_lost(&db.pool).await.unwrap(), 0, "once is enough");
    let heir = take(&db.pool, id, Uuid::now_v7()).await.unwrap().unwrap();
    assert_eq!(heir.attempts, 2);
    let fence = end(&db.pool, &dead, &sent(), None).await.unwrap();
    assert_eq!(fence, Fence::Lost);
    let fence = end(&db.pool, &heir, &sent(), None).await.unwrap();
    assert_eq!(fence, Fence::Held);
}

#[tokio::test]
async fn a_run_that_goes_on_is_not_told_as_failed() {
    let db = site().await;
    let run = ended(&db.pool, NoticeKind::Failure).await;
    let id = waiting(&db.pool).await[0];
    execute(
        &db.pool,
        "UPDATE virtuozo_core.runs SET state = 'running', ended_at = NULL",
    )
    .await;
    assert_eq!(take(&db.pool, id, Uuid::now_v7()).await.unwrap(), None);
    assert_eq!(
        states(&db.pool).await,
        [(NoticeKind::Failure, NoticeState::Dropped)]
    );
    // That a guest could not be brought back is told all the same.
    let mut tx = db.pool.begin().await.unwrap();
    of_run(&mut tx, run, NoticeKind::Obligation).await.unwrap();
    tx.commit().await.unwrap();
    let id = waiting(&db.pool).await[0];
    let taken = take(&db.pool, id, Uuid::now_v7()).await.unwrap().unwrap();
    assert!(taken.contents.is_obligation);
}

#[tokio::test]
async fn what_was_partly_sent_takes_nothing_more_along_and_what_failed_can_be_sent_again() {
    let db = site().await;
    ended(&db.pool, NoticeKind::Failure).await;
    let id = waiting(&db.pool).await[0];
    let taken = take(&db.pool, id, Uuid::now_v7()).await.unwrap().unwrap();
    let partly = Attempt {
        state: NoticeState::Waiting,
        delay_secs: 60,
        error: Some("b is full".to_owned()),
        ..sent()
    };
    let event = NewEvent::user(Severity::Warning, "not yet");
    let fence = end(&db.pool, &taken, &partly, Some(&event)).await.unwrap();
    assert_eq!(fence, Fence::Held);
    assert_eq!(
        take(&db.pool, id, Uuid::now_v7()).await.unwrap(),
        None,
        "it waits for its next attempt"
    );
    let run = ended(&db.pool, NoticeKind::Failure).await;
    assert_eq!(list(&db.pool, true, 10).await.unwrap().len(), 1);
    assert_eq!(retry(&db.pool).await.unwrap(), 1);
    let taken = take(&db.pool, id, Uuid::now_v7()).await.unwrap().unwrap();
    assert_eq!(taken.sent_to, ["webhook"]);
    assert!(!taken.contents.run_ids.contains(&run));
    assert_eq!(taken.contents.notices, 1);

    let failed = Attempt {
        state: NoticeState::Failed,
        ..partly
    };
    let fence = end(&db.pool, &taken, &failed, None).await.unwrap();
    assert_eq!(fence, Fence::Held);
    assert_eq!(retry(&db.pool).await.unwrap(), 1);
    assert!(send(&db.pool, id).await.is_some());
}

#[tokio::test]
async fn a_digest_is_queued_once_for_each_time() {
    let db = site().await;
    let due = Utc::now() + chrono::TimeDelta::minutes(1);
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let pool = db.pool.clone();
        asking.spawn(async move { digest(&pool, due).await.unwrap() });
    }
    let made = asking.join_all().await;
    assert_eq!(made.into_iter().filter(|made| *made).count(), 1);
    assert!(!digest(&db.pool, due).await.unwrap());
    config::set(&db.pool, &[("digest_time", "")]).await.unwrap();
    assert!(
        !digest(&db.pool, due + chrono::TimeDelta::days(1))
            .await
            .unwrap()
    );
}

#[tokio::test]
async fn settings_refuse_what_cannot_be_and_say_why() {
    let db = TestDb::new().await;
    for (name, value, why) in [
        ("mail_host", "https://mail.example.org", "name of a machine"),
        ("mail_port", "0", "65535"),
        ("mail_security", "maybe", "starttls"),
        ("mail_security", "none", "allow_unencrypted"),
        ("mail_to", "a@example.org, nobody", "nobody"),
        (
            "mail_to",
            "a@example.org\nBcc: b@example.org",
            "mail address",
        ),
        ("mail_from", "Backup <b@example.org>", "mail address"),
        ("webhook_url", "ftp://example.org", "https://"),
        (
            "webhook_url",
            "https://me:secret@example.org/",
            "no user or password",
        ),
        ("ca_file", "ca.pem", "absolute"),
        ("digest_time", "25:00", "25:00"),
        ("digest_time_zone", "Mars/Olympus", "Mars/Olympus"),
        ("group_secs", "-1", "86400"),
        ("messages_per_hour", "0", "from 1 up"),
        ("colour", "red", "mail_host"),
    ] {
        let refused = config::set(&db.pool, &[(name, value)]).await.unwrap_err();
        assert!(matches!(refused, StoreError::Refused(_)), "{refused}");
        assert!(refused.to_string().contains(why), "{name}: {refused}");
    }
    let open = [("allow_unencrypted", "true"), ("mail_security", "none")];
    let now = config::set(&db.pool, &open).await.unwrap().settings;
    assert_eq!(now, config::get(&db.pool).await.unwrap());
    let refused = config::set(&db.pool, &[("mail_user", "backup")])
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("login"), "{refused}");
    // Every value can be typed as it is shown.
    for key in config::KEYS {
        let shown = key.value(&now);
        let again = config::set(&db.pool, &[(key.name, &shown)]).await.unwrap();
        assert_eq!(key.value(&again.settings), shown, "{}", key.name);
    }
}

#[tokio::test]
async fn what_could_not_be_sent_is_stuck_only_while_its_way_of_telling_is_configured() {
    let db = site().await;
    let run = ended(&db.pool, NoticeKind::Failure).await;
    let [id] = waiting(&db.pool).await[..] else {
        panic!("one notice of {run} waits");
    };
    let taken = take(&db.pool, id, Uuid::now_v7()).await.unwrap().unwrap();
    let failed = Attempt {
        state: NoticeState::Failed,
        sent_to: Vec::new(),
        error: Some("nobody listens".to_owned()),
        ..sent()
    };
    let fence = end(&db.pool, &taken, &failed, None).await.unwrap();
    assert_eq!(fence, Fence::Held);
    let stuck = async || {
        sqlx::query_scalar::<_, i64>("SELECT count(*) FROM virtuozo.stuck WHERE kind = 'notice'")
            .fetch_one(&db.pool)
            .await
            .unwrap()
    };
    assert_eq!(stuck().await, 1);
    config::set(&db.pool, &[("webhook_url", "")]).await.unwrap();
    assert_eq!(stuck().await, 0);
    assert_eq!(
        retry(&db.pool).await.unwrap(),
        0,
        "nothing is sent that way"
    );
    config::set(&db.pool, &[("webhook_url", "http://localhost/hook")])
        .await
        .unwrap();
    assert_eq!(stuck().await, 1);
    assert_eq!(retry(&db.pool).await.unwrap(), 1);
    assert_eq!(stuck().await, 0);
}
