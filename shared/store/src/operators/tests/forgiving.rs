//! Giving up what nobody can undo any more.

use super::*;

/// Each guest has both kinds of obligation of its run; the ids are made from the guests' names.
const OWED: &str = "
    INSERT INTO virtuozo_core.obligations (id, kind, host_id, guest_id, guest_run_id, guest_run_fence, snapshot_name, attempts, last_error)
    SELECT md5(k.kind || u.name)::uuid, k.kind, g.host_id, g.guest_id, g.id, 7,
           CASE k.kind WHEN 'remove_snapshot' THEN 'virtuozo-s' END, 3, 'no such host'
      FROM virtuozo_core.guest_runs g JOIN virtuozo_core.guests u ON u.id = g.guest_id
     CROSS JOIN unnest(ARRAY['remove_snapshot', 'power_on']) k (kind)";

fn forgive(kind: &str, guest: &str) -> String {
    format!("SELECT virtuozo.forgive(md5('{kind}{guest}')::uuid, 'alpha burnt down')")
}

#[tokio::test]
async fn what_is_owed_is_given_up_once_its_guest_run_has_ended() {
    let db = site().await;
    execute(&db.pool, OWED).await;
    let left = "SELECT count(*) FROM virtuozo_core.obligations";
    for state in STATES {
        for kind in ["remove_snapshot", "power_on"] {
            let call = forgive(kind, state);
            let before: i64 = text(&db.pool, left).await.parse().unwrap();
            if let "waiting" | "admitted" | "running" = state {
                let said = refusal(&db.pool, &call).await;
                assert!(
                    said.contains(&format!("a guest run of alpha/{state} is {state}")),
                    "{said}"
                );
                assert_eq!(text(&db.pool, left).await, before.to_string());
                continue;
            }
            let said = text(&db.pool, &call).await;
            for words in [state, "given up: alpha burnt down", "the administrator's"] {
                assert!(said.contains(words), "{words}: {said}");
            }
            assert_eq!(
                said.contains("virtuozo-s"),
                kind == "remove_snapshot",
                "{said}"
            );
            assert_eq!(text(&db.pool, left).await, (before - 1).to_string());
            let again = refusal(&db.pool, &call).await;
            assert!(again.contains("there is no obligation"), "{again}");
        }
    }
    let told = "SELECT count(*) FROM virtuozo.events WHERE severity = 'warning' AND message LIKE '%given up: alpha burnt down%'
                   AND message LIKE '%(by the database user ' || session_user || ')' AND run_id IS NOT NULL";
    assert_eq!(text(&db.pool, told).await, "8");
    for reason in ["NULL", "''", "' '"] {
        let call = format!("SELECT virtuozo.forgive(md5('power_onrunning')::uuid, {reason})");
        let said = refusal(&db.pool, &call).await;
        assert!(said.contains("no reason is given"), "{said}");
    }
}

#[tokio::test]
async fn what_a_worker_is_at_is_not_given_up() {
    let db = site().await;
    execute(&db.pool, OWED).await;
    let (host, guest) = (
        md5(&db.pool, "alpha").await,
        md5(&db.pool, "guest failed").await,
    );
    let claim = obligations::claim(&db.pool, host, guest).await.unwrap();
    let claim = claim.expect("it is due");
    let call = forgive("power_on", "failed");
    let said = refusal(&db.pool, &call).await;
    assert!(said.contains("a worker is at it just now"), "{said}");
    assert_eq!(
        leases::release(&db.pool, &claim).await.unwrap(),
        leases::Fence::Held
    );
    text(&db.pool, &call).await;

    // Its own run has ended, another one of the guest is in work and minds its obligations.
    execute(
        &db.pool,
        "INSERT INTO virtuozo_core.runs (id, requested_by) VALUES (md5('other')::uuid, 'test');
         INSERT INTO virtuozo_core.host_runs (id, run_id, host_id) VALUES (md5('other')::uuid, md5('other')::uuid, md5('alpha')::uuid);
         INSERT INTO virtuozo_core.guest_runs (id, run_id, host_run_id, host_id, guest_id, state, admitted_at)
         SELECT md5('other')::uuid, md5('other')::uuid, md5('other')::uuid, host_id, guest_id, 'admitted', now()
           FROM virtuozo_core.guest_runs WHERE state = 'failed'",
    )
    .await;
    let call = forgive("remove_snapshot", "failed");
    let said = refusal(&db.pool, &call).await;
    assert!(
        said.contains("a guest run of alpha/failed is admitted"),
        "{said}"
    );
}

#[tokio::test]
async fn a_host_that_is_gone_can_be_removed_when_all_is_given_up_and_the_event_stays() {
    let db = site().await;
    execute(
        &db.pool,
        "UPDATE virtuozo_core.guest_runs SET state = 'cancelled', ended_at = now(), lease_until = NULL, owner_id = NULL WHERE ended_at IS NULL;
         UPDATE virtuozo_core.guest_slots SET guest_run_id = NULL",
    )
    .await;
    execute(&db.pool, OWED).await;
    let host = hosts::by_name(&db.pool, "alpha").await.unwrap();
    let why = hosts::remove(&db.pool, &host)
        .await
        .unwrap_err()
        .to_string();
    assert!(why.contains("virtuozo obligation forgive"), "{why}");
    let advice = "SELECT DISTINCT advice LIKE '%virtuozo obligation forgive ' || right(replace(id::text, '-', ''), 8) || ' %'
                    FROM virtuozo.stuck WHERE kind = 'obligation'";
    assert_eq!(text(&db.pool, advice).await, "true");
    let open: Vec<Uuid> = sqlx::query_scalar("SELECT id FROM virtuozo.obligations")
        .fetch_all(&db.pool)
        .await
        .unwrap();
    assert_eq!(open.len(), 2 * STATES.len());
    for id in &open {
        super::super::forgive(&db.pool, *id, "burnt (user anna)")
            .await
            .unwrap();
    }
    hosts::remove(&db.pool, &host).await.unwrap();
    let told =
        "SELECT count(*) FROM virtuozo.events WHERE message LIKE '%given up: burnt (user anna)%'";
    assert_eq!(text(&db.pool, told).await, open.len().to_string());
}
