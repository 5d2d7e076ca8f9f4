//! A notice is taken while its run ends a second time: no failure may go untold.

use std::time::Duration;

use super::*;
use crate::tests::blocked;

/// A run that failed, and was given another try before its notice was sent: that, and the notice.
async fn retried(db: &TestDb) -> (Uuid, Uuid) {
    let run = ended(&db.pool, NoticeKind::Failure).await;
    let id = waiting(&db.pool).await[0];
    let again = "UPDATE virtuozo_core.runs SET state = 'running', ended_at = NULL";
    execute(&db.pool, again).await;
    (run, id)
}

#[tokio::test]
async fn a_notice_that_is_taken_while_its_run_ends_again_is_sent() {
    let db = site().await;
    let (run, id) = retried(&db).await;
    let mut ending = db.pool.begin().await.unwrap();
    sqlx::raw_sql("UPDATE virtuozo_core.runs SET state = 'failed', ended_at = now()")
        .execute(&mut *ending)
        .await
        .unwrap();
    of_run(&mut ending, run, NoticeKind::Failure).await.unwrap();
    let pool = db.pool.clone();
    let taking = tokio::spawn(async move { take(&pool, id, Uuid::now_v7()).await.unwrap() });
    blocked(&db, &taking).await;
    ending.commit().await.unwrap();
    let taken = taking.await.unwrap();
    assert_eq!(taken.expect("it was dropped").contents.run_ids, [run]);
}

#[tokio::test]
async fn a_run_that_ends_again_while_its_notice_is_dropped_gets_another() {
    let db = site().await;
    let (run, id) = retried(&db).await;
    let mut dropping = db.pool.begin().await.unwrap();
    sqlx::query(
        "UPDATE virtuozo_core.notices SET state = 'dropped', ended_at = now() WHERE id = $1",
    )
    .bind(id)
    .execute(&mut *dropping)
    .await
    .unwrap();
    let pool = db.pool.clone();
    let ending = tokio::spawn(async move {
        let mut tx = pool.begin().await.unwrap();
        of_run(&mut tx, run, NoticeKind::Failure).await.unwrap();
        tx.commit().await.unwrap();
    });
    blocked(&db, &ending).await;
    dropping.commit().await.unwrap();
    ending.await.unwrap();
    let now = waiting(&db.pool).await;
    assert!(now.len() == 1 && now[0] != id, "{now:?}");
}

#[tokio::test]
async fn what_is_told_along_is_not_what_ends_just_now() {
    let db = site().await;
    let (run, _) = retried(&db).await;
    ended(&db.pool, NoticeKind::Failure).await;
    let [of_first, of_second] = waiting(&db.pool).await[..] else {
        panic!("not two notices");
    };
    let mut ending = db.pool.begin().await.unwrap();
    of_run(&mut ending, run, NoticeKind::Failure).await.unwrap();
    let taking = take(&db.pool, of_second, Uuid::now_v7());
    let taken = tokio::time::timeout(Duration::from_secs(30), taking).await;
    let taken = taken.expect("it waits").unwrap().unwrap();
    assert_eq!(taken.contents.notices, 1);
    ending.commit().await.unwrap();
    assert_eq!(waiting(&db.pool).await, [of_first]);
}
