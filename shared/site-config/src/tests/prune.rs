//! What the file does not name is removed, but not what restore points hang on.

use sqlx::PgPool;
use uuid::Uuid;

use super::*;

/// Enters a restore point of a guest.
async fn back_up(pool: &PgPool, guest: &str) {
    let guest = guests::by_name(pool, guest).await.unwrap();
    sqlx::query(
        "INSERT INTO virtuozo_core.restore_points
             (id, guest_id, host_name, guest_name, repository, path, mode, taken_at, size_bytes, source_bytes)
         VALUES ($1, $2, $3, $4, '/srv/backup', $1::text, 'hot', now(), 1, 1)",
    )
    .bind(Uuid::now_v7())
    .bind(guest.id)
    .bind(&guest.host_name)
    .bind(&guest.name)
    .execute(pool)
    .await
    .unwrap();
}

/// The names of all guests that are left.
async fn left(pool: &PgPool) -> Vec<String> {
    let guests = guests::list(pool, None).await.unwrap();
    guests.iter().map(|guest| guest.full_name()).collect()
}

#[tokio::test]
async fn guests_with_restore_points_stay_and_their_hosts_and_that_is_told() {
    let db = TestDb::new().await;
    imported(&db, TEXT, Options::default()).await;
    // Found since the file was written.
    for (host, guests) in [("alpha", &["late", "idle"][..]), ("beta", &["far", "off"])] {
        let host = hosts::by_name(&db.pool, host).await.unwrap();
        for name in guests {
            let path = format!("[standard] {name}/{name}.vmx");
            let mut conn = db.pool.acquire().await.unwrap();
            guests::insert_as(&mut *conn, &host, &path, name, true)
                .await
                .unwrap();
        }
    }
    back_up(&db.pool, "alpha/late").await;
    back_up(&db.pool, "beta/far").await;
    // A file that names beta no more either.
    let (start, rest) = TEXT.split_once("[[hosts]]\nname = \"beta\"").unwrap();
    let (_, rest) = rest.split_once("[[schedules]]").unwrap();
    let text =
        format!("{start}[[schedules]]{rest}").replace("[\"alpha\", \"beta\"]", "[\"alpha\"]");

    let dry = imported(&db, &text, DRY_RUN).await;
    let done = imported(&db, &text, PRUNE).await;
    assert_eq!(done, dry);
    assert_eq!(
        done.kept,
        [
            "host beta",
            "guest alpha/[standard] late/late.vmx",
            "guest beta/[standard] far/far.vmx",
            "guest beta/[standard] off/off.vmx",
        ]
    );
    let removed = done.changes.iter().filter(|c| c.change == Changed::Removed);
    let removed: Vec<_> = removed.map(|change| change.entry.as_str()).collect();
    assert_eq!(removed, ["guest alpha/[standard] idle/idle.vmx"]);
    let left = left(&db.pool).await;
    assert!(left.contains(&"alpha/late".to_owned()) && left.contains(&"beta/far".to_owned()));
    let orphans: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM virtuozo_core.restore_points WHERE guest_id IS NULL",
    )
    .fetch_one(&db.pool)
    .await
    .unwrap();
    assert_eq!(orphans, 0, "a restore point has lost its guest");
}
