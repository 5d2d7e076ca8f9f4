//! What a scheduler has to do with notices: it queues the digest, sends, and ends while it sends.

use std::time::Duration;

use sqlx::PgPool;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use virtuozo_model::{NoticeKind, NoticeState};
use virtuozo_postgres::testing::TestDb;
use virtuozo_runtime::LIMITS;
use virtuozo_scheduler::{Scheduler, SchedulerOptions};
use virtuozo_store::notices::{self, config};
use virtuozo_telemetry::Telemetry;

use crate::scheduler::until;

/// Mail goes to this port of this machine, in the open.
async fn mail_by(pool: &PgPool, port: u16) {
    let changes = [
        ("mail_host", "localhost"),
        ("mail_port", &port.to_string()),
        ("allow_unencrypted", "true"),
        ("mail_security", "none"),
        ("mail_from", "backup@example.org"),
        ("mail_to", "anna@example.org"),
        ("group_secs", "0"),
    ];
    config::set(pool, &changes).await.unwrap();
}

fn scheduler(pool: &PgPool, stop: &CancellationToken) -> tokio::task::JoinHandle<()> {
    let options = SchedulerOptions::new("scheduler");
    let work = Scheduler::run(pool.clone(), options, Telemetry::default(), stop.clone());
    tokio::spawn(async move { work.await.unwrap() })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_server_that_hangs_does_not_keep_a_scheduler_from_its_end() {
    let db = TestDb::new().await;
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    mail_by(&db.pool, server.local_addr().unwrap().port()).await;
    notices::digest(&db.pool, chrono::Utc::now()).await.unwrap();
    let stop = CancellationToken::new();
    let running = scheduler(&db.pool, &stop);
    // It is connected to, and says nothing.
    let connected = tokio::time::timeout(Duration::from_secs(60), server.accept());
    let connection = connected.await.expect("no mail is sent").unwrap();
    stop.cancel();
    let ending = tokio::time::timeout(LIMITS.scheduler.stop(), running);
    ending.await.expect("the scheduler does not end").unwrap();
    drop(connection);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_digest_is_queued_when_it_is_due_and_once_by_many_schedulers() {
    let db = TestDb::new().await;
    mail_by(&db.pool, 9).await;
    // Every time of the day was missed for two days: the last one counts for all.
    sqlx::query(
        "UPDATE virtuozo_core.notice_settings
            SET digest_time = (now() AT TIME ZONE 'UTC' - interval '2 minutes')::time(0),
                digest_done_until = now() - interval '2 days'",
    )
    .execute(&db.pool)
    .await
    .unwrap();
    let stop = CancellationToken::new();
    let running = [scheduler(&db.pool, &stop), scheduler(&db.pool, &stop)];
    let tried = until("a sender to try it", || async {
        let all = notices::list(&db.pool, false, 10).await.unwrap();
        let tried = all.iter().any(|one| one.last_error.is_some());
        tried.then_some(all)
    })
    .await;
    stop.cancel();
    for one in running {
        one.await.unwrap();
    }
    let [digest] = tried.try_into().unwrap();
    assert_eq!(digest.kind, NoticeKind::Digest);
    assert_eq!(digest.state, NoticeState::Waiting);
}
