//! Whoever follows events is told each once, in whatever order transactions end.

use std::collections::BTreeSet;

use proptest::{collection::vec, prelude::*};
use sqlx::{AssertSqlSafe, PgPool, Postgres, Transaction};

use super::{follow::Watermark, forwarder::ForwarderPosition, *};
use virtuozo_postgres::testing::TestDb;

async fn tell(db: impl PgExecutor<'_>, message: &str) {
    let event = NewEvent::user(Severity::Info, message);
    record(db, &event).await.unwrap();
}

/// All that follows a place, in batches of `limit`, and the place after it.
async fn rest(pool: &PgPool, mut place: Watermark, limit: i64) -> (Watermark, Vec<String>) {
    let mut told = Vec::new();
    loop {
        let batch = place.next(pool, &Filter::default(), limit).await;
        let batch = batch.unwrap().unwrap();
        told.extend(batch.events().map(|event| event.message.clone()));
        place = place.after(&batch, usize::MAX);
        if batch.is_last() {
            return (place, told);
        }
    }
}

#[tokio::test]
async fn an_event_with_an_early_number_that_is_committed_late_is_told_and_nothing_twice() {
    let db = TestDb::new().await;
    tell(&db.pool, "before").await;
    let place = Watermark::now(&db.pool).await.unwrap();
    let mut late = db.pool.begin().await.unwrap();
    tell(&mut *late, "late").await;
    tell(&db.pool, "early").await;
    let (place, told) = rest(&db.pool, place, 10).await;
    assert_eq!(told, ["early"]);
    late.commit().await.unwrap();
    let (place, told) = rest(&db.pool, place, 10).await;
    assert_eq!(told, ["late"]);
    assert!(rest(&db.pool, place, 10).await.1.is_empty());
}

/// What one of a few transactions does next.
#[derive(Debug, Clone, Copy)]
enum Act {
    Tell(usize),
    /// Below a savepoint, where a transaction has a second number.
    TellBelow(usize),
    Commit(usize),
    RollBack(usize),
    Look(i64),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => (0..3_usize).prop_map(Act::Tell),
        1 => (0..3_usize).prop_map(Act::TellBelow),
        2 => (0..3_usize).prop_map(Act::Commit),
        1 => (0..3_usize).prop_map(Act::RollBack),
        2 => (1..4_i64).prop_map(Act::Look),
    ];
    vec(act, 1..40)
}

#[test]
fn whoever_follows_is_told_what_is_committed_exactly_once() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let db = runtime.block_on(TestDb::new());
    proptest!(ProptestConfig::with_cases(40), |(acts in acts())| {
        runtime.block_on(told_exactly_once(&db.pool, acts));
    });
}

async fn told_exactly_once(pool: &PgPool, acts: Vec<Act>) {
    let mut place = Watermark::now(pool).await.unwrap();
    let mut open: [Option<(Transaction<'static, Postgres>, Vec<String>)>; 3] = [None, None, None];
    let (mut committed, mut told) = (Vec::new(), Vec::new());
    for (n, act) in acts.into_iter().enumerate() {
        match act {
            Act::Tell(at) | Act::TellBelow(at) => {
                if open[at].is_none() {
                    open[at] = Some((pool.begin().await.unwrap(), Vec::new()));
                }
                let (tx, own) = open[at].as_mut().unwrap();
                let message = format!("event {n}");
                if matches!(act, Act::TellBelow(_)) {
                    sqlx::query("SAVEPOINT below")
                        .execute(&mut **tx)
                        .await
                        .unwrap();
                }
                tell(&mut **tx, &message).await;
                own.push(message);
            }
            Act::Commit(at) => {
                if let Some((tx, own)) = open[at].take() {
                    tx.commit().await.unwrap();
                    committed.extend(own);
                }
            }
            Act::RollBack(at) => {
                if let Some((tx, _)) = open[at].take() {
                    tx.rollback().await.unwrap();
                }
            }
            Act::Look(limit) => {
                let seen;
                (place, seen) = rest(pool, place, limit).await;
                told.extend(seen);
                let all: BTreeSet<_> = committed.iter().collect();
                assert_eq!(told.iter().collect::<BTreeSet<_>>(), all);
                assert_eq!(told.len(), all.len(), "something was told twice");
            }
        }
    }
}

#[tokio::test]
async fn the_latest_events_and_those_that_follow_them_have_no_seam() {
    let db = TestDb::new().await;
    for message in ["one", "two", "three"] {
        tell(&db.pool, message).await;
    }
    let all = Filter::default();
    let (place, latest) = Watermark::after_latest(&db.pool, &all, 2).await.unwrap();
    let latest: Vec<_> = latest.into_iter().map(|event| event.message).collect();
    assert_eq!(latest, ["two", "three"]);
    tell(&db.pool, "four").await;
    assert_eq!(rest(&db.pool, place, 10).await.1, ["four"]);
}

#[tokio::test]
async fn a_place_in_the_middle_of_a_batch_is_kept_and_of_two_who_keep_one_the_later_is_refused() {
    let db = TestDb::new().await;
    let kept = ForwarderPosition::read(&db.pool).await.unwrap();
    for message in ["one", "two", "three"] {
        tell(&db.pool, message).await;
    }
    let batch = kept
        .watermark()
        .next(&db.pool, &Filter::default(), 10)
        .await;
    let batch = batch.unwrap().unwrap();
    let after_two = kept.watermark().after(&batch, 2);
    let replaced = kept.replace(&db.pool, after_two.clone()).await;
    assert!(replaced.unwrap().is_some());
    let again = kept.replace(&db.pool, after_two.clone()).await;
    assert!(
        again.unwrap().is_none(),
        "a place was taken from one who no longer has it"
    );
    tell(&db.pool, "four").await;
    let kept = ForwarderPosition::read(&db.pool).await.unwrap();
    assert_eq!(kept.watermark(), &after_two);
    let (place, told) = rest(&db.pool, kept.watermark().clone(), 1).await;
    // The fourth is of a later snapshot than the one that the first three were of.
    assert_eq!(told, ["three"]);
    assert_eq!(rest(&db.pool, place, 1).await.1, ["four"]);
}

#[tokio::test]
async fn after_a_restored_dump_what_was_told_stays_told_and_the_rest_is_told() {
    let db = TestDb::new().await;
    tell(&db.pool, "long told").await;
    let kept = ForwarderPosition::read(&db.pool).await.unwrap();
    for message in ["told", "not told"] {
        tell(&db.pool, message).await;
    }
    let batch = kept
        .watermark()
        .next(&db.pool, &Filter::default(), 10)
        .await;
    let after_one = kept.watermark().after(&batch.unwrap().unwrap(), 1);
    assert!(kept.replace(&db.pool, after_one).await.unwrap().is_some());
    // As if all this had come from a server that had counted a billion transactions more.
    sqlx::raw_sql(
        "UPDATE virtuozo_core.events SET xact = (xact::text::bigint + 1000000000)::text::xid8;
         UPDATE virtuozo_core.event_forwarder
            SET since = (SELECT format('%1$s:%1$s:', min(xact::text::bigint) + 1) FROM virtuozo_core.events)::pg_snapshot,
                until = (SELECT format('%1$s:%1$s:', max(xact::text::bigint) + 1) FROM virtuozo_core.events)::pg_snapshot,
                last_xact = last_xact + 1000000000",
    )
    .execute(&db.pool)
    .await
    .unwrap();
    tell(&db.pool, "new").await;

    let kept = ForwarderPosition::read(&db.pool).await.unwrap();
    let next = kept
        .watermark()
        .next(&db.pool, &Filter::default(), 10)
        .await;
    assert!(next.unwrap().is_none(), "the place is not of this server");
    kept.restored(&db.pool).await.unwrap();
    kept.restored(&db.pool).await.unwrap();
    let kept = ForwarderPosition::read(&db.pool).await.unwrap();
    let (place, told) = rest(&db.pool, kept.watermark().clone(), 10).await;
    assert_eq!(told, ["not told", "new"]);
    tell(&db.pool, "newer").await;
    assert_eq!(rest(&db.pool, place, 10).await.1, ["newer"]);
}

#[tokio::test]
async fn what_follows_is_found_by_an_index() {
    let db = TestDb::new().await;
    for _ in 0..40 {
        sqlx::query(
            "INSERT INTO virtuozo_core.events (code, severity, message)
             SELECT 200, 'info', 'x' FROM generate_series(1, 250)",
        )
        .execute(&db.pool)
        .await
        .unwrap();
    }
    sqlx::raw_sql("ANALYZE virtuozo_core.events")
        .execute(&db.pool)
        .await
        .unwrap();
    let place = Watermark::now(&db.pool).await.unwrap();
    tell(&db.pool, "new").await;
    let now = Watermark::now(&db.pool).await.unwrap();
    let sql = format!("EXPLAIN {}", include_str!("after.sql"));
    // Transactions of other tests may hold the place back to before all of these events, and then reading the
    // whole table would be right.
    let mut tx = db.pool.begin().await.unwrap();
    sqlx::raw_sql("SET LOCAL enable_seqscan = off")
        .execute(&mut *tx)
        .await
        .unwrap();
    let plan: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(0)
        .bind(None::<Uuid>)
        .bind(None::<Uuid>)
        .bind(None::<Uuid>)
        .bind(500_i64)
        .bind(&place.since)
        .bind(&now.since)
        .bind(0_i64)
        .bind(0_i64)
        .fetch_all(&mut *tx)
        .await
        .unwrap();
    assert!(plan.join("\n").contains("events_xact"), "{plan:#?}");
}
