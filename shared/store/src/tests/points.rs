//! Restore points on their way out.

use super::*;
use crate::{
    catalogue,
    points::{self, Cover, Deletion},
    views::{self, Verification},
};

/// Points of a guest that is known, of one that is not, and one that nobody has verified; each a minute newer than
/// the one before.
const SITE: &str = "
    INSERT INTO virtuozo_core.hosts (id, name, kind) VALUES (md5('alpha')::uuid, 'alpha', 'workstation');
    INSERT INTO virtuozo_core.guests (id, host_id, locator, name)
    VALUES (md5('mail')::uuid, md5('alpha')::uuid, 'mail.vmx', 'mail');
    INSERT INTO virtuozo_core.restore_points
           (id, guest_id, host_name, guest_name, repository, path, mode, taken_at, size_bytes, source_bytes, verified_at)
    SELECT md5(n)::uuid, CASE WHEN n LIKE 'mail%' THEN md5('mail')::uuid END, 'alpha', split_part(n, '-', 1), '/srv', n,
           'hot', now() + (i - 60) * interval '1 minute', 1, 1, CASE WHEN n NOT LIKE '%unverified' THEN now() END
      FROM unnest(ARRAY['mail-1', 'mail-2', 'mail-unverified', 'old-1', 'old-2', 'other-unverified'])
           WITH ORDINALITY AS p (n, i)";

async fn site() -> TestDb {
    let db = TestDb::new().await;
    sqlx::raw_sql(SITE).execute(&db.pool).await.unwrap();
    db
}

async fn id_of(db: &TestDb, point: &str) -> Uuid {
    let id = sqlx::query_scalar("SELECT md5($1)::uuid").bind(point);
    id.fetch_one(&db.pool).await.unwrap()
}

async fn begin(db: &TestDb, point: &str, cover: Cover) -> Deletion {
    let id = id_of(db, point).await;
    points::begin_delete(&db.pool, id, cover).await.unwrap()
}

async fn set_state(db: &TestDb, point: &str, state: &str) {
    sqlx::query("UPDATE virtuozo_core.restore_points SET state = $2 WHERE path LIKE $1")
        .bind(point)
        .bind(state)
        .execute(&db.pool)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_guest_keeps_its_last_verified_point_unless_somebody_insists() {
    let db = site().await;
    assert_eq!(begin(&db, "nothing", Cover::Nothing).await, Deletion::Gone);
    let unverified = begin(&db, "mail-unverified", Cover::Other).await;
    assert_eq!(unverified, Deletion::Begun);
    for guest in ["mail", "old"] {
        let (one, two) = (format!("{guest}-1"), format!("{guest}-2"));
        assert_eq!(begin(&db, &one, Cover::Other).await, Deletion::Begun);
        assert_eq!(begin(&db, &two, Cover::Other).await, Deletion::Uncovered);
        assert_eq!(begin(&db, &one, Cover::Other).await, Deletion::UnderWay);
        assert_eq!(begin(&db, &two, Cover::Nothing).await, Deletion::Begun);
    }
    let only = "other-unverified";
    assert_eq!(begin(&db, only, Cover::Other).await, Deletion::Uncovered);
}

#[tokio::test]
async fn retention_counts_only_newer_points_that_are_verified_good_and_stay() {
    let db = site().await;
    let one_newer = Cover::Newer(1);
    assert_eq!(begin(&db, "mail-2", one_newer).await, Deletion::Uncovered);
    let two_newer = begin(&db, "mail-1", Cover::Newer(2)).await;
    assert_eq!(
        two_newer,
        Deletion::Uncovered,
        "one of the two is not verified"
    );
    for lost in ["damaged", "deleting"] {
        set_state(&db, "mail-2", lost).await;
        assert_eq!(begin(&db, "mail-1", one_newer).await, Deletion::Uncovered);
    }
    set_state(&db, "mail-2", "published").await;
    assert_eq!(begin(&db, "mail-1", one_newer).await, Deletion::Begun);
    assert_eq!(begin(&db, "mail-1", one_newer).await, Deletion::UnderWay);
}

#[tokio::test]
async fn a_clock_that_was_ahead_makes_no_later_backup_go() {
    let db = site().await;
    let set = |what: &'static str| db.pool.execute(what);
    // The first was made while the database's clock was a year ahead.
    set("UPDATE virtuozo_core.restore_points SET taken_at = now() + interval '1 year' WHERE path = 'mail-1'")
        .await
        .unwrap();
    let cover = [Cover::Newer(1), Cover::Other];
    for cover in cover {
        assert_eq!(begin(&db, "mail-2", cover).await, Deletion::Uncovered);
    }
    let told: (String, String) =
        sqlx::query_as("SELECT guest, advice FROM virtuozo.stuck WHERE kind = 'future_point'")
            .fetch_one(&db.pool)
            .await
            .unwrap();
    assert_eq!(told.0, "mail");
    assert!(
        told.1.contains("clock") && told.1.contains("virtuozo point delete"),
        "{told:?}"
    );
    let age =
        "SELECT last_point_at < now() AND age_secs > 60 FROM virtuozo.rpo WHERE guest = 'mail'";
    let is_real: bool = sqlx::query_scalar(age).fetch_one(&db.pool).await.unwrap();
    assert!(
        is_real,
        "a point of the future hides that backups are too old"
    );
    // Once that instant has come, it is still the one that was entered first.
    set("UPDATE virtuozo_core.restore_points SET taken_at = now() WHERE path = 'mail-1'")
        .await
        .unwrap();
    assert_eq!(
        begin(&db, "mail-2", Cover::Newer(1)).await,
        Deletion::Uncovered
    );
    assert_eq!(
        begin(&db, "mail-1", Cover::Newer(1)).await,
        Deletion::Uncovered
    );
}

#[tokio::test]
async fn a_point_that_was_found_covers_others_once_it_is_verified_and_adopted() {
    let db = site().await;
    let found = "UPDATE virtuozo_core.restore_points SET found_at = now() WHERE path = 'mail-2'";
    db.pool.execute(found).await.unwrap();
    for cover in [Cover::Newer(1), Cover::Other] {
        assert_eq!(begin(&db, "mail-1", cover).await, Deletion::Uncovered);
    }
    // Nor is it removed, however well it is covered.
    let older = "UPDATE virtuozo_core.restore_points SET found_at = now() WHERE path = 'mail-1';
                 UPDATE virtuozo_core.restore_points SET found_at = NULL WHERE path = 'mail-2'";
    sqlx::raw_sql(older).execute(&db.pool).await.unwrap();
    assert_eq!(
        begin(&db, "mail-1", Cover::Newer(1)).await,
        Deletion::Uncovered
    );
    let back = "UPDATE virtuozo_core.restore_points SET found_at = NULL WHERE path = 'mail-1';
                UPDATE virtuozo_core.restore_points SET found_at = now() WHERE path = 'mail-2'";
    sqlx::raw_sql(back).execute(&db.pool).await.unwrap();
    let id = id_of(&db, "mail-2").await;
    assert!(catalogue::adopt(&db.pool, id).await.unwrap());
    assert!(!catalogue::adopt(&db.pool, id).await.unwrap());
    assert!(
        !catalogue::adopt(&db.pool, id_of(&db, "mail-1").await)
            .await
            .unwrap()
    );
    assert_eq!(begin(&db, "mail-1", Cover::Newer(1)).await, Deletion::Begun);
}

#[tokio::test]
async fn a_verification_keeps_where_it_read_and_the_first_hash_of_the_manifest() {
    let db = site().await;
    let id = id_of(&db, "mail-1").await;
    let (first, second) = ("1".repeat(64), "2".repeat(64));
    let of_row = async || {
        let all = views::points(&db.pool, None, None).await.unwrap();
        let row = all.into_iter().find(|point| point.id == id).unwrap();
        (row.state, row.read_back, row.manifest_blake3)
    };
    for (read_back, blake3) in [("cache", &first), ("medium", &second)] {
        let good = Verification::Good {
            read_back: Some(read_back),
            manifest_blake3: Some(blake3),
        };
        views::record_verification(&db.pool, id, good)
            .await
            .unwrap();
        let expected = (
            "published".to_owned(),
            Some(read_back.to_owned()),
            Some(first.clone()),
        );
        assert_eq!(of_row().await, expected);
    }
    let damaged = Verification::Damaged("rust");
    views::record_verification(&db.pool, id, damaged)
        .await
        .unwrap();
    assert_eq!(of_row().await, ("damaged".to_owned(), None, Some(first)));
}

#[tokio::test]
async fn two_who_delete_at_the_same_time_leave_one_point() {
    let db = site().await;
    for (one, two) in [("mail-1", "mail-2"), ("old-1", "old-2")] {
        for _ in 0..20 {
            let said = tokio::join!(begin(&db, one, Cover::Other), begin(&db, two, Cover::Other));
            assert!(
                matches!(
                    said,
                    (Deletion::Begun, Deletion::Uncovered) | (Deletion::Uncovered, Deletion::Begun)
                ),
                "{said:?}"
            );
            set_state(&db, "%", "published").await;
        }
    }
}

#[tokio::test]
async fn a_point_that_is_just_found_damaged_covers_nothing() {
    let db = site().await;
    let mut finding = db.pool.begin().await.unwrap();
    let damaged = "UPDATE virtuozo_core.restore_points SET state = 'damaged' WHERE path = 'mail-2'";
    finding.execute(damaged).await.unwrap();
    let pool = db.pool.clone();
    let id = id_of(&db, "mail-1").await;
    let deleting =
        tokio::spawn(async move { points::begin_delete(&pool, id, Cover::Other).await.unwrap() });
    blocked(&db, &deleting).await;
    finding.commit().await.unwrap();
    assert_eq!(deleting.await.unwrap(), Deletion::Uncovered);
}
