//! Tests of schedules and their targets.

use super::{add_host, found_on, refusal};
use crate::{
    guests, hosts,
    schedules::{self, ScheduleConfig},
};
use virtuozo_postgres::testing::TestDb;

#[tokio::test]
async fn removing_the_last_target_of_a_schedule_is_refused() {
    let db = TestDb::new().await;
    let host = add_host(&db, "alpha").await;
    let guests = found_on(&db, &host, &["[s] mail/mail.vmx", "[s] web/web.vmx"]).await;
    let mut config = ScheduleConfig {
        name: "nightly".into(),
        cron: Some("30 22 * * *".into()),
        time_zone: Some("Europe/Berlin".into()),
        enabled: true,
        host_ids: vec![],
        guest_ids: vec![guests[0].id, guests[1].id],
    };
    let id = schedules::insert(&db.pool, &config).await.unwrap();
    guests::remove(&db.pool, &guests[0]).await.unwrap();
    for why in [
        refusal(guests::remove(&db.pool, &guests[1]).await),
        refusal(hosts::remove(&db.pool, &host).await),
    ] {
        assert!(
            why.contains("nightly") && why.contains("whole site"),
            "{why}"
        );
    }
    let stored = schedules::by_name(&db.pool, "nightly").await.unwrap();
    assert_eq!(stored.guest_ids, [guests[1].id]);
    config.guest_ids.clear();
    schedules::update(&db.pool, id, &config).await.unwrap();
    assert_eq!(
        ScheduleConfig::from(schedules::list(&db.pool).await.unwrap().remove(0)),
        config
    );
    guests::remove(&db.pool, &guests[1]).await.unwrap();
    hosts::remove(&db.pool, &host).await.unwrap();
    config.cron = Some("0 0 30 2 *".into());
    assert!(refusal(schedules::update(&db.pool, id, &config).await).contains("never due"));
    schedules::remove(&db.pool, id).await.unwrap();
}

#[tokio::test]
async fn a_schedule_with_a_new_rhythm_does_not_catch_up_the_past() {
    let db = TestDb::new().await;
    let mut config = ScheduleConfig {
        name: "nightly".into(),
        cron: None,
        time_zone: None,
        enabled: true,
        host_ids: vec![],
        guest_ids: vec![],
    };
    let id = schedules::insert(&db.pool, &config).await.unwrap();
    let past: chrono::DateTime<chrono::Utc> = "2026-01-01T00:00:00Z".parse().unwrap();
    sqlx::query("UPDATE virtuozo_core.schedules SET done_until = $1")
        .bind(past)
        .execute(&db.pool)
        .await
        .unwrap();
    config.name = "other".into();
    schedules::update(&db.pool, id, &config).await.unwrap();
    assert_eq!(
        schedules::by_name(&db.pool, "other")
            .await
            .unwrap()
            .done_until,
        past
    );
    config.cron = Some("0 3 * * *".into());
    schedules::update(&db.pool, id, &config).await.unwrap();
    assert!(
        schedules::by_name(&db.pool, "other")
            .await
            .unwrap()
            .done_until
            > past
    );
}
