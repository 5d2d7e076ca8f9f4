//! Which repository lies at which path.

use super::*;
use crate::{caps, repositories};

#[tokio::test]
async fn the_first_id_of_a_path_stays_until_another_is_adopted() {
    let db = TestDb::new().await;
    let (first, second) = (Uuid::now_v7(), Uuid::now_v7());
    let known = async |path: &str| repositories::known(&db.pool, path).await.unwrap();
    assert_eq!(known("/srv/backup").await.id, None);
    let learnt = async |path: &str, id| repositories::learn(&db.pool, path, id).await.unwrap();
    assert_eq!(learnt("/srv/backup/", first).await, first);
    assert_eq!(learnt("/srv/backup", second).await, first);
    assert_eq!(learnt("/srv/other", second).await, second);
    assert_eq!(known("/srv//backup/").await.id, Some(first));

    let adopted = async |path: &str, id| repositories::adopt(&db.pool, path, id).await.unwrap();
    assert_eq!(adopted("/srv/backup/", second).await, Some(first));
    assert_eq!(known("/srv/backup").await.id, Some(second));
    assert_eq!(adopted("/new", first).await, None);
    assert_eq!(known("/new").await.id, Some(first));
    let refused = repositories::adopt(&db.pool, "relative", first).await;
    assert!(matches!(refused, Err(StoreError::Refused(_))));

    // Caps are a matter of their own.
    let capped: bool = sqlx::query_scalar("SELECT virtuozo_core.has_caps()")
        .fetch_one(&db.pool)
        .await
        .unwrap();
    assert!(!capped);
    assert_eq!(caps::repositories(&db.pool).await.unwrap(), []);
}

#[tokio::test]
async fn where_no_id_is_known_the_restore_points_of_an_older_version_are_told() {
    let db = TestDb::new().await;
    sqlx::raw_sql(
        "INSERT INTO virtuozo_core.restore_points
             (id, host_name, guest_name, repository, path, mode, taken_at, size_bytes, source_bytes)
         SELECT gen_random_uuid(), 'alpha', 'db', place, name, 'hot', now() - age * interval '1 hour', 1, 1
           FROM (VALUES ('/srv/backup', 'a', 2), ('/srv/backup/', 'b', 1), ('/srv', 'c', 0)) p (place, name, age)",
    )
    .execute(&db.pool)
    .await
    .unwrap();
    let known = async |path: &str| repositories::known(&db.pool, path).await.unwrap();
    assert_eq!(known("/srv/backup").await.points, ["b", "a"]);
    assert_eq!(known("/nowhere").await.points, [] as [&str; 0]);
    repositories::learn(&db.pool, "/srv/backup", Uuid::now_v7())
        .await
        .unwrap();
    assert_eq!(known("/srv/backup").await.points, [] as [&str; 0]);
}
