//! Pauses: who sees them, and what ends them.

use super::*;

const STUCK: &str = "SELECT string_agg(coalesce(host, 'all') || ': ' || reason || ' -> ' || advice, E'\\n' ORDER BY host)
                       FROM virtuozo.stuck WHERE kind = 'paused'";
const WHY: &str = "SELECT waiting_reason FROM virtuozo.guest_runs WHERE state = 'waiting'";
const BY: &str = "SELECT coalesce(string_agg(name || ' ' || (paused_since <= now()) || ' ' || (paused_by = session_user), ', ' ORDER BY name), '')
                    FROM virtuozo.hosts WHERE paused_since IS NOT NULL";

/// As text, also where it is NULL.
async fn shown(pool: &PgPool, sql: &str) -> String {
    text(pool, &format!("SELECT coalesce(({sql}), '')")).await
}

#[tokio::test]
async fn a_pause_says_since_when_and_by_whom_wherever_something_waits_for_it() {
    let db = site().await;
    execute(&db.pool, ALIVE).await;
    execute(
        &db.pool,
        "INSERT INTO virtuozo_core.hosts (id, name, kind) VALUES (md5('beta')::uuid, 'beta', 'workstation')",
    )
    .await;
    assert_eq!(shown(&db.pool, STUCK).await, "");
    let me = text(&db.pool, "SELECT session_user").await;
    // Nothing of beta waits.
    super::super::pause(&db.pool, "beta").await.unwrap();
    assert_eq!(shown(&db.pool, STUCK).await, "");
    super::super::pause(&db.pool, "alpha").await.unwrap();
    assert_eq!(text(&db.pool, BY).await, "alpha true true, beta true true");
    let stuck = shown(&db.pool, STUCK).await;
    assert!(stuck.starts_with("alpha: it is paused since 2"), "{stuck}");
    let ends = format!(" by {me}, and work waits for that -> virtuozo host resume alpha");
    assert!(stuck.ends_with(&ends), "{stuck}");
    let why = text(&db.pool, WHY).await;
    assert!(why.starts_with("its host is paused since 2"), "{why}");
    assert!(why.ends_with(&format!(" by {me}")), "{why}");

    super::super::pause(&db.pool, "all").await.unwrap();
    let stuck = shown(&db.pool, STUCK).await;
    assert_eq!(
        stuck,
        format!(
            "all: all hosts are paused by {me}, and work waits for that -> virtuozo host resume all"
        )
    );
    let why = text(&db.pool, WHY).await;
    assert!(
        why.starts_with("its host is paused with all others since 2"),
        "{why}"
    );
}

#[tokio::test]
async fn the_end_of_the_pause_of_all_leaves_hosts_paused_that_were_paused_by_name_and_names_them() {
    let db = site().await;
    execute(
        &db.pool,
        "INSERT INTO virtuozo_core.hosts (id, name, kind)
         SELECT md5(n)::uuid, n, 'workstation' FROM unnest(ARRAY['beta', 'gamma']) n",
    )
    .await;
    for target in ["gamma", "beta", "all"] {
        super::super::pause(&db.pool, target).await.unwrap();
    }
    let said = super::super::resume(&db.pool, "all").await.unwrap();
    assert!(
        said.starts_with("all hosts: resumed; still paused, each by its name: beta, gamma"),
        "{said}"
    );
    assert_eq!(text(&db.pool, BY).await, "beta true true, gamma true true");
    let again = super::super::resume(&db.pool, "all").await.unwrap();
    assert!(
        again.starts_with("all: already resumed; still paused, each by its name: beta, gamma"),
        "{again}"
    );
    for target in ["gamma", "beta"] {
        super::super::resume(&db.pool, target).await.unwrap();
    }
    assert_eq!(text(&db.pool, BY).await, "");
    let kept = "SELECT count(*) FROM virtuozo_core.hosts WHERE paused_by IS NOT NULL";
    assert_eq!(text(&db.pool, kept).await, "0");
    let told = "SELECT count(*) FROM virtuozo.events WHERE message LIKE 'all hosts: resumed; still paused, each by its name: beta, gamma (by %'";
    assert_eq!(text(&db.pool, told).await, "1");
}
