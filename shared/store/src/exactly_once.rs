//! Each due time makes exactly one run, whatever several schedulers do at once and wherever they die.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use proptest::prelude::*;
use uuid::Uuid;

use crate::{
    hosts::{self, HostConfig},
    runs::{self, Targets},
};
use virtuozo_postgres::testing::TestDb;

/// Due times one after the other; for each the schedulers that start its run at once, each with the time
/// after which it dies, in microseconds.
async fn every_due_time_has_one_run(due_times: &[Vec<u64>]) {
    let db = TestDb::new().await;
    let config = HostConfig {
        name: "alpha".to_owned(),
        kind: "esxi".parse().unwrap(),
        address: Some("https://alpha/sdk".to_owned()),
        user_name: None,
        properties: Default::default(),
        ignored: false,
        guest_threads: None,
    };
    hosts::insert(&db.pool, Uuid::now_v7(), &config, None)
        .await
        .unwrap();
    let schedule: Uuid = sqlx::query_scalar(
        "INSERT INTO virtuozo_core.schedules (id, name, cron, done_until)
         VALUES (gen_random_uuid(), 'hourly', '0 * * * *', now() - interval '2 days') RETURNING id",
    )
    .fetch_one(&db.pool)
    .await
    .unwrap();
    let first = Utc::now() - TimeDelta::days(1);
    for (n, schedulers) in (1_i32..).zip(due_times) {
        let due_at = first + TimeDelta::hours(1) * n;
        let tick = |pool| async move {
            runs::start_tick(&pool, schedule, due_at, "test", Targets::default()).await
        };
        let mut running = tokio::task::JoinSet::new();
        for &dies_after in schedulers {
            running.spawn(tokio::time::timeout(
                Duration::from_micros(dies_after),
                tick(db.pool.clone()),
            ));
        }
        while running.join_next().await.is_some() {}
        // Whoever leads then looks again, and again.
        tick(db.pool.clone()).await.unwrap();
        assert_eq!(tick(db.pool.clone()).await.unwrap(), None, "made twice");
    }
    let expected = i64::try_from(due_times.len()).unwrap();
    for table in [
        "SELECT count(*) FROM virtuozo_core.runs",
        "SELECT count(*) FROM virtuozo_core.ticks",
        "SELECT count(*) FROM virtuozo_core.host_runs",
        "SELECT count(*) FROM apalis.jobs",
    ] {
        let rows: i64 = sqlx::query_scalar(table).fetch_one(&db.pool).await.unwrap();
        assert_eq!(rows, expected, "{table}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_due_time_makes_exactly_one_run_wherever_schedulers_die(
        due_times in prop::collection::vec(prop::collection::vec(0..20_000_u64, 1..5), 1..5)
    ) {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap()
            .block_on(every_due_time_has_one_run(&due_times));
    }
}
