//! Slots of hosts of several nodes.

use virtuozo_model::{GuestState, Power};

use super::*;
use crate::inventory::GuestObservation;

/// Host alpha of which each node may have one guest in work. Guests `a1`, `a2`, `b1`, `b2` are on the node that their
/// names begin with, and have a waiting guest run each, in this order.
const SITE: &str = "
    INSERT INTO virtuozo_core.hosts (id, name, kind, guest_threads) VALUES (md5('alpha')::uuid, 'alpha', 'esxi', 1);
    INSERT INTO virtuozo_core.guests (id, host_id, locator, name, node)
    SELECT md5(n)::uuid, md5('alpha')::uuid, n, n, left(n, 1) FROM unnest('{a1,a2,b1,b2}'::text[]) n;
    SELECT virtuozo_core.sync_slots(NULL);
    INSERT INTO virtuozo_core.runs (id, requested_by) VALUES (md5('run')::uuid, 'test');
    INSERT INTO virtuozo_core.host_runs (id, run_id, host_id, state, ended_at)
    VALUES (md5('run')::uuid, md5('run')::uuid, md5('alpha')::uuid, 'succeeded', now());
    INSERT INTO virtuozo_core.guest_runs (id, run_id, host_run_id, host_id, guest_id, created_at)
    SELECT id, md5('run')::uuid, md5('run')::uuid, host_id, id, now() + ascii(name) * interval '1 s' + right(name, 1)::int * interval '1 ms'
      FROM virtuozo_core.guests;
    INSERT INTO virtuozo_core.workers (id, kind, name, machine, pid, version)
    SELECT gen_random_uuid(), k, k, 'here', 1, '1' FROM unnest('{worker,scheduler}'::text[]) k;";

/// The site, with a cap on the whole fleet that nobody reaches, or without.
async fn site(is_capped: bool) -> TestDb {
    let db = TestDb::new().await;
    sqlx::raw_sql(SITE).execute(&db.pool).await.unwrap();
    if is_capped {
        settings::set(&db.pool, &[("fleet_guest_threads", "100")])
            .await
            .unwrap();
    }
    db
}

async fn texts(db: &TestDb, sql: &'static str) -> Vec<String> {
    sqlx::query_scalar(sql).fetch_all(&db.pool).await.unwrap()
}

/// Who has which slot, as `NODE GUEST`.
async fn in_work(db: &TestDb) -> Vec<String> {
    texts(
        db,
        "SELECT s.node || ' ' || u.name FROM virtuozo_core.guest_slots s
           JOIN virtuozo_core.guest_runs g ON g.id = s.guest_run_id JOIN virtuozo_core.guests u ON u.id = g.guest_id
          ORDER BY 1",
    )
    .await
}

async fn ids(db: &TestDb, name: &str) -> (Uuid, Uuid) {
    sqlx::query_as("SELECT md5($1)::uuid, md5('alpha')::uuid")
        .bind(name)
        .fetch_one(&db.pool)
        .await
        .unwrap()
}

/// Ends the guest run of a guest, as its worker would.
async fn end(db: &TestDb, name: &str) {
    let (id, host) = ids(db, name).await;
    let mut tx = db.pool.begin().await.unwrap();
    sqlx::query(
        "UPDATE virtuozo_core.guest_runs SET state = 'succeeded', ended_at = now() WHERE id = $1",
    )
    .bind(id)
    .execute(&mut *tx)
    .await
    .unwrap();
    admission::leave_slot(&mut tx, id, host).await.unwrap();
    tx.commit().await.unwrap();
}

/// A guest is seen on a node.
async fn see(db: &TestDb, name: &str, node: &str) {
    let (id, _) = ids(db, name).await;
    let seen = GuestObservation {
        name: name.to_owned(),
        power: Power::On,
        state: GuestState::Ok,
        reason: None,
        node: Some(node.to_owned()),
        datastore: None,
        change_ids: Vec::new(),
        disks: Vec::new(),
    };
    inventory::apply_guest_facts(&db.pool, id, &seen)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_slot_of_a_node_goes_to_the_oldest_guest_on_that_node() {
    for is_capped in [false, true] {
        let db = site(is_capped).await;
        assert_eq!(sweeps::admit_all(&db.pool).await.unwrap(), 2);
        assert_eq!(in_work(&db).await, ["a a1", "b b1"]);
        assert_eq!(
            texts(
                &db,
                "SELECT DISTINCT guest || ': ' || waiting_reason FROM virtuozo.guest_runs WHERE state = 'waiting' ORDER BY 1"
            )
            .await,
            [
                "a2: all 1 slots of its node a are taken",
                "b2: all 1 slots of its node b are taken"
            ]
        );
        let nodes = "SELECT format('%s/%s: %s of %s, %s wait', host, node, slots_taken, slots, guests_waiting)
                       FROM virtuozo.nodes ORDER BY 1";
        let expected = ["alpha/a: 1 of 1, 1 wait", "alpha/b: 1 of 1, 1 wait"];
        assert_eq!(texts(&db, nodes).await, expected);

        end(&db, "b1").await;
        assert_eq!(in_work(&db).await, ["a a1", "b b2"]);
        end(&db, "b2").await;
        assert_eq!(
            in_work(&db).await,
            ["a a1"],
            "a free slot of b is none for a guest on a"
        );
        let none: Vec<Uuid> = admission::hosts_to_admit(&db.pool).await.unwrap();
        assert!(none.is_empty(), "{none:?}");
        end(&db, "a1").await;
        assert_eq!(in_work(&db).await, ["a a2"]);
    }
}

#[tokio::test]
async fn a_guest_that_moves_stays_itself_keeps_its_slot_and_waits_for_one_of_its_new_node_then() {
    for is_capped in [false, true] {
        let db = site(is_capped).await;
        sweeps::admit_all(&db.pool).await.unwrap();
        see(&db, "a1", "b").await;
        assert_eq!(in_work(&db).await, ["a a1", "b b1"]);
        let same = "SELECT name || ' ' || locator || ' ' || node FROM virtuozo_core.guests WHERE id = md5('a1')::uuid";
        assert_eq!(texts(&db, same).await, ["a1 a1 b"]);

        // One that waits goes to where there is room.
        see(&db, "b2", "c").await;
        assert_eq!(sweeps::admit_all(&db.pool).await.unwrap(), 1);
        assert_eq!(in_work(&db).await, ["a a1", "b b1", "c b2"]);
        end(&db, "a1").await;
        assert_eq!(in_work(&db).await, ["a a2", "b b1", "c b2"]);
        let again = "UPDATE virtuozo_core.guest_runs SET state = 'waiting', ended_at = NULL WHERE id = md5('a1')::uuid";
        sqlx::raw_sql(again).execute(&db.pool).await.unwrap();
        assert_eq!(sweeps::admit_all(&db.pool).await.unwrap(), 0);
        end(&db, "b1").await;
        assert_eq!(in_work(&db).await, ["a a2", "b a1", "c b2"]);
    }
}

#[tokio::test]
async fn a_node_has_slots_from_its_first_guest_to_its_last_one() {
    let db = site(false).await;
    let nodes = "SELECT DISTINCT node FROM virtuozo_core.guest_slots ORDER BY 1";
    assert_eq!(texts(&db, nodes).await, ["a", "b"]);
    sweeps::admit_all(&db.pool).await.unwrap();
    for name in ["b1", "b2"] {
        see(&db, name, "c").await;
    }
    assert_eq!(
        texts(&db, nodes).await,
        ["a", "b", "c"],
        "b1 is in work on b still"
    );
    end(&db, "b1").await;
    let (_, alpha) = ids(&db, "alpha").await;
    let mut conn = db.pool.acquire().await.unwrap();
    crate::slots::sync(&mut conn, Some(alpha)).await.unwrap();
    assert_eq!(texts(&db, nodes).await, ["a", "c"]);
    for name in ["a1", "a2"] {
        see(&db, name, "c").await;
    }
    end(&db, "a1").await;
    crate::slots::sync(&mut conn, Some(alpha)).await.unwrap();
    assert_eq!(texts(&db, nodes).await, ["c"]);
    // The one slot of c was free when nothing was in work on b any more, and goes from one to the next.
    assert_eq!(in_work(&db).await, ["c b2"]);
    end(&db, "b2").await;
    assert_eq!(in_work(&db).await, ["c a2"]);
}

#[tokio::test]
async fn a_node_on_which_only_a_slot_in_use_was_left_has_all_its_slots_again_with_its_next_guest() {
    let db = site(false).await;
    sqlx::raw_sql("UPDATE virtuozo_core.hosts SET guest_threads = 2; DELETE FROM virtuozo_core.guest_runs WHERE guest_id = md5('b2')::uuid; SELECT virtuozo_core.sync_slots(NULL);")
        .execute(&db.pool)
        .await
        .unwrap();
    sweeps::admit_all(&db.pool).await.unwrap();
    for name in ["b1", "b2"] {
        see(&db, name, "a").await;
    }
    let slots = "SELECT slot_no || coalesce(' ' || u.name, '') FROM virtuozo_core.guest_slots s
                   LEFT JOIN virtuozo_core.guest_runs g ON g.id = s.guest_run_id
                   LEFT JOIN virtuozo_core.guests u ON u.id = g.guest_id WHERE s.node = 'b' ORDER BY 1";
    assert_eq!(texts(&db, slots).await, ["1 b1"]);
    see(&db, "b2", "b").await;
    assert_eq!(texts(&db, slots).await, ["1 b1", "2"]);
}
