//! Caps that reach over hosts.

use std::time::Duration;

use sqlx::{PgPool, postgres::PgListener};

use super::*;
use crate::{
    caps,
    guests::{self, GuestConfig},
};

/// Two hosts, each with as many slots and waiting guests as given; guests of alpha came first.
async fn site(guests: i32, slots: i32) -> (TestDb, Host, Host) {
    let db = TestDb::new().await;
    settings::set(
        &db.pool,
        &[("guest_threads", &slots.to_string()), ("destination", "/a")],
    )
    .await
    .unwrap();
    let alpha = add_host(&db, "alpha").await;
    let beta = add_host(&db, "beta").await;
    sqlx::raw_sql(
        "INSERT INTO virtuozo_core.runs (id, requested_by) VALUES (md5('run')::uuid, 'test');
         INSERT INTO virtuozo_core.host_runs (id, run_id, host_id, state, ended_at)
         SELECT id, md5('run')::uuid, id, 'succeeded', now() FROM virtuozo_core.hosts",
    )
    .execute(&db.pool)
    .await
    .unwrap();
    for host in [&alpha, &beta] {
        sqlx::query(
            "WITH g AS (
                 INSERT INTO virtuozo_core.guests (id, host_id, locator, name, datastore)
                 SELECT gen_random_uuid(), $1, n::text, n::text, CASE WHEN n % 2 = 1 THEN 'odd' ELSE 'even' END
                   FROM generate_series(1, $2) n RETURNING id, name)
             INSERT INTO virtuozo_core.guest_runs (id, run_id, host_run_id, host_id, guest_id, created_at)
             SELECT gen_random_uuid(), md5('run')::uuid, $1, $1, id, clock_timestamp() + name::int * interval '1 us' FROM g",
        )
        .bind(host.id)
        .bind(guests)
        .execute(&db.pool)
        .await
        .unwrap();
    }
    (db, alpha, beta)
}

/// In work, as `HOST GUEST`.
async fn in_work(pool: &PgPool) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT h.name || ' ' || u.name
           FROM virtuozo_core.guest_slots s
           JOIN virtuozo_core.guest_runs g ON g.id = s.guest_run_id AND g.state = 'admitted'
           JOIN virtuozo_core.guests u ON u.id = g.guest_id
           JOIN virtuozo_core.hosts h ON h.id = u.host_id
          ORDER BY 1",
    )
    .fetch_all(pool)
    .await
    .unwrap()
}

/// Ends what is in work on a host, as their workers would, and admits what may go next.
async fn end_all_of(db: &TestDb, host: &Host) {
    let ended: Vec<Uuid> = sqlx::query_scalar(
        "UPDATE virtuozo_core.guest_runs SET state = 'succeeded', ended_at = now()
          WHERE host_id = $1 AND state = 'admitted' RETURNING id",
    )
    .bind(host.id)
    .fetch_all(&db.pool)
    .await
    .unwrap();
    let mut tx = db.pool.begin().await.unwrap();
    for guest_run_id in ended {
        admission::leave_slot(&mut tx, guest_run_id, host.id)
            .await
            .unwrap();
    }
    tx.commit().await.unwrap();
}

/// Why the waiting guests wait, each reason once.
async fn reasons(pool: &PgPool) -> Vec<String> {
    // Without a worker that would be the reason.
    sqlx::query(
        "INSERT INTO virtuozo_core.workers (id, kind, name, machine, pid, version)
         VALUES (md5('worker')::uuid, 'worker', 'w', 'm', 1, '1') ON CONFLICT DO NOTHING",
    )
    .execute(pool)
    .await
    .unwrap();
    sqlx::query_scalar(
        "SELECT DISTINCT virtuozo_core.waiting_reason(g) FROM virtuozo_core.guest_runs g WHERE g.state = 'waiting' ORDER BY 1",
    )
    .fetch_all(pool)
    .await
    .unwrap()
}

#[tokio::test]
async fn the_fleet_never_has_more_guests_in_work_than_its_cap_and_no_host_waits_for_another() {
    let (db, alpha, _beta) = site(3, 2).await;
    settings::set(&db.pool, &[("fleet_guest_threads", "3")])
        .await
        .unwrap();
    sweeps::admit_all(&db.pool).await.unwrap();
    // Alpha's third came before all of beta, but alpha has two slots only.
    assert_eq!(in_work(&db.pool).await, ["alpha 1", "alpha 2", "beta 1"]);
    assert_eq!(
        reasons(&db.pool).await,
        [
            "all 2 slots of its host are taken",
            "cap reached: fleet, 3 of 3 guests in work"
        ]
    );
    // What ends makes room for the oldest of all hosts.
    end_all_of(&db, &alpha).await;
    assert_eq!(in_work(&db.pool).await, ["alpha 3", "beta 1", "beta 2"]);
    // A change applies at the next look.
    settings::set(&db.pool, &[("fleet_guest_threads", "")])
        .await
        .unwrap();
    sweeps::admit_all(&db.pool).await.unwrap();
    assert_eq!(in_work(&db.pool).await, ["alpha 3", "beta 1", "beta 2"]);
    let why = refusal(settings::set(&db.pool, &[("fleet_guest_threads", "0")]).await);
    assert!(why.contains("fleet_guest_threads"), "{why}");
}

#[tokio::test]
async fn of_a_host_whose_slots_were_lowered_nothing_begins_before_enough_has_ended() {
    for cap in ["", "50"] {
        let (db, alpha, _beta) = site(8, 4).await;
        settings::set(&db.pool, &[("fleet_guest_threads", cap)])
            .await
            .unwrap();
        let in_work = || async {
            let all = in_work(&db.pool).await;
            all.iter().filter(|name| name.starts_with("alpha")).count()
        };
        sweeps::admit_all(&db.pool).await.unwrap();
        assert_eq!(in_work().await, 4);
        settings::set(&db.pool, &[("guest_threads", "2")])
            .await
            .unwrap();
        // Whatever slot it has: first the lowest, which is one that stays.
        for expected in [3, 2, 2, 2] {
            let ended: Uuid = sqlx::query_scalar(
                "UPDATE virtuozo_core.guest_runs SET state = 'succeeded', ended_at = now()
                  WHERE id = (SELECT guest_run_id FROM virtuozo_core.guest_slots
                               WHERE host_id = $1 AND guest_run_id IS NOT NULL ORDER BY slot_no LIMIT 1)
              RETURNING id",
            )
            .bind(alpha.id)
            .fetch_one(&db.pool)
            .await
            .unwrap();
            let mut tx = db.pool.begin().await.unwrap();
            admission::leave_slot(&mut tx, ended, alpha.id)
                .await
                .unwrap();
            tx.commit().await.unwrap();
            sweeps::admit_all(&db.pool).await.unwrap();
            assert_eq!(in_work().await, expected);
        }
        // Lowered with free slots between those that are taken, which stay taken.
        sqlx::raw_sql(
            "UPDATE virtuozo_core.guest_runs SET state = 'waiting', admitted_at = NULL, run_after = '9998-12-31' WHERE state = 'admitted';
             UPDATE virtuozo_core.guest_slots SET guest_run_id = NULL, taken_at = NULL",
        )
        .execute(&db.pool)
        .await
        .unwrap();
        settings::set(&db.pool, &[("guest_threads", "3")])
            .await
            .unwrap();
        sqlx::query(
            "WITH g AS (UPDATE virtuozo_core.guest_runs SET state = 'admitted', admitted_at = now()
                         WHERE id = (SELECT id FROM virtuozo_core.guest_runs WHERE host_id = $1 AND state = 'waiting' LIMIT 1)
                     RETURNING id)
             UPDATE virtuozo_core.guest_slots s SET guest_run_id = g.id FROM g WHERE s.host_id = $1 AND s.slot_no = 3",
        )
        .bind(alpha.id)
        .execute(&db.pool)
        .await
        .unwrap();
        settings::set(&db.pool, &[("guest_threads", "1")])
            .await
            .unwrap();
        sqlx::query("UPDATE virtuozo_core.guest_runs SET run_after = now()")
            .execute(&db.pool)
            .await
            .unwrap();
        sweeps::admit_all(&db.pool).await.unwrap();
        assert_eq!(in_work().await, 1);
        settings::set(&db.pool, &[("guest_threads", "4")])
            .await
            .unwrap();
        sweeps::admit_all(&db.pool).await.unwrap();
        assert_eq!(in_work().await, 4);
    }
}

#[tokio::test]
async fn nobody_who_ends_a_guest_run_waits_for_others_who_admit_and_no_slot_stays_free() {
    let (db, alpha, _beta) = site(2, 1).await;
    settings::set(&db.pool, &[("fleet_guest_threads", "9")])
        .await
        .unwrap();
    sweeps::admit_all(&db.pool).await.unwrap();
    assert_eq!(in_work(&db.pool).await, ["alpha 1", "beta 1"]);
    let mut others = db.pool.begin().await.unwrap();
    admission::alone(&mut others).await.unwrap();

    let mut scheduler = PgListener::connect_with(&db.pool).await.unwrap();
    scheduler.listen("virtuozo::look").await.unwrap();
    let limit = Duration::from_secs(20);
    tokio::time::timeout(limit, end_all_of(&db, &alpha))
        .await
        .expect("it waits for the others");
    assert_eq!(in_work(&db.pool).await, ["beta 1"]);
    tokio::time::timeout(limit, scheduler.recv())
        .await
        .expect("no scheduler was asked to look")
        .unwrap();
    others.commit().await.unwrap();
    sweeps::admit_all(&db.pool).await.unwrap();
    assert_eq!(in_work(&db.pool).await, ["alpha 2", "beta 1"]);
}

#[tokio::test]
async fn a_full_repository_holds_up_only_the_guests_that_go_there() {
    let (db, _alpha, _beta) = site(3, 3).await;
    caps::set_repository(&db.pool, "/a", Some(1)).await.unwrap();
    sqlx::query("UPDATE virtuozo_core.guests SET destination = '/b' WHERE name = '3'")
        .execute(&db.pool)
        .await
        .unwrap();
    sweeps::admit_all(&db.pool).await.unwrap();
    assert_eq!(in_work(&db.pool).await, ["alpha 1", "alpha 3", "beta 3"]);
    assert_eq!(
        reasons(&db.pool).await,
        ["cap reached: repository /a, 1 of 1 guests in work"]
    );
    let listed = caps::repositories(&db.pool).await.unwrap();
    let listed: Vec<_> = listed
        .iter()
        .map(|r| (r.path.as_str(), r.guest_threads, r.in_work))
        .collect();
    assert_eq!(listed, [("/a", Some(1), 1), ("/b", None, 2)]);
    caps::set_repository(&db.pool, "/a", None).await.unwrap();
    sweeps::admit_all(&db.pool).await.unwrap();
    assert_eq!(in_work(&db.pool).await.len(), 6);
    for wrong in [("relative", Some(1)), ("/a", Some(0))] {
        refusal(caps::set_repository(&db.pool, wrong.0, wrong.1).await);
    }
}

#[tokio::test]
async fn a_full_datastore_holds_up_only_its_own_guests() {
    let (db, alpha, _beta) = site(4, 4).await;
    datastores::map(&db.pool, alpha.id, "odd", "/mnt/odd")
        .await
        .unwrap();
    caps::set_datastore(&db.pool, alpha.id, "odd", Some(1))
        .await
        .unwrap();
    // One disk in it is enough, unless that is left out.
    sqlx::query(
        "INSERT INTO virtuozo_core.disks (id, guest_id, device, file_name, datastore, ignored)
         SELECT gen_random_uuid(), id, 'scsi0:0', 'd.vmdk', 'odd', name = '2'
           FROM virtuozo_core.guests WHERE host_id = $1 AND name IN ('2', '4')",
    )
    .bind(alpha.id)
    .execute(&db.pool)
    .await
    .unwrap();
    sweeps::admit_all(&db.pool).await.unwrap();
    assert_eq!(
        in_work(&db.pool).await,
        ["alpha 1", "alpha 2", "beta 1", "beta 2", "beta 3", "beta 4"]
    );
    assert_eq!(
        reasons(&db.pool).await,
        ["cap reached: datastore odd, 1 of 1 guests in work"]
    );
    end_all_of(&db, &alpha).await;
    assert_eq!(in_work(&db.pool).await[0], "alpha 3");
    let listed = datastores::list(&db.pool, Some(alpha.id)).await.unwrap();
    assert_eq!(listed[0].guest_threads, Some(1));
    let unknown = caps::set_datastore(&db.pool, alpha.id, "none", Some(1)).await;
    assert!(matches!(unknown, Err(StoreError::NotFound { .. })));
}

#[tokio::test]
async fn a_cap_holds_whoever_admits_at_the_same_time() {
    let (db, alpha, beta) = site(20, 20).await;
    settings::set(&db.pool, &[("fleet_guest_threads", "7")])
        .await
        .unwrap();
    let mut admitting = tokio::task::JoinSet::new();
    for n in 0..12 {
        let (pool, host_id) = (db.pool.clone(), if n % 2 == 0 { alpha.id } else { beta.id });
        admitting.spawn(async move {
            let mut tx = pool.begin().await.unwrap();
            let admitted = admission::admit(&mut tx, host_id).await.unwrap();
            tx.commit().await.unwrap();
            admitted.len()
        });
    }
    let admitted: usize = admitting.join_all().await.into_iter().sum();
    assert!(admitted <= 7, "{admitted} admitted");
    sweeps::admit_all(&db.pool).await.unwrap();
    assert_eq!(in_work(&db.pool).await.len(), 7);
}

#[tokio::test]
async fn a_repository_is_spelled_in_one_way_whoever_names_it() {
    let (db, _alpha, _beta) = site(3, 3).await;
    caps::set_repository(&db.pool, "//a/./", Some(1))
        .await
        .unwrap();
    let guest = guests::by_name(&db.pool, "alpha/3").await.unwrap();
    let config = GuestConfig {
        destination: Some("/b//c/".to_owned()),
        ..GuestConfig::from(&guest)
    };
    guests::update(&db.pool, guest.id, &config).await.unwrap();
    settings::set(&db.pool, &[("destination", "/a/")])
        .await
        .unwrap();
    caps::set_repository(&db.pool, "/unused/", Some(2))
        .await
        .unwrap();
    sweeps::admit_all(&db.pool).await.unwrap();
    let listed = caps::repositories(&db.pool).await.unwrap();
    let listed: Vec<_> = listed
        .iter()
        .map(|r| {
            (
                r.path.as_str(),
                r.guest_threads,
                r.in_work,
                r.is_destination,
            )
        })
        .collect();
    assert_eq!(
        listed,
        [
            ("/a", Some(1), 1, true),
            ("/b/c", None, 1, true),
            ("/unused", Some(2), 0, false)
        ]
    );
    caps::set_repository(&db.pool, "/a//", None).await.unwrap();
    caps::set_repository(&db.pool, "/unused/.", None)
        .await
        .unwrap();
    let left = caps::repositories(&db.pool).await.unwrap();
    assert!(left.iter().all(|r| r.guest_threads.is_none()), "{left:?}");
}
