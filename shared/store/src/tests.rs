//! Tests of the statements, and of what administrators configure.

mod bounds;
mod caps;
mod circuit_breakers;
mod documents;
mod endless_leases;
mod guests;
mod lease_rules;
mod leases;
mod nodes;
mod obstacles;
mod points;
mod repositories;
mod requests;
mod schedules;

use std::{collections::BTreeMap, time::Duration};

use sqlx::{AssertSqlSafe, Executor, SqlSafeStr};

use super::{
    hosts::HostConfig,
    leases::{Leased, Released, TakenByKey},
    *,
};
use virtuozo_model::{Guest, Host, HostState, Mode};
use virtuozo_postgres::testing::TestDb;

/// The statements of the program by where they stand: files, and one-liners in the Rust of what is no test.
fn statements(below: &Path, found: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(below).unwrap() {
        let path = entry.unwrap().path();
        let is_of_tests = path.file_stem().is_some_and(|name| name == "tests");
        let end = path.extension().and_then(|end| end.to_str());
        if path.is_dir() && !is_of_tests {
            statements(&path, found);
        } else if end == Some("sql") {
            let sql = std::fs::read_to_string(&path).unwrap();
            found.push((path.display().to_string(), sql));
        } else if end == Some("rs") && !is_of_tests {
            let text = std::fs::read_to_string(&path).unwrap();
            let text = text.split("#[cfg(test)]").next().unwrap_or_default();
            for call in ["query(", "query_as(", "query_scalar("] {
                for (at, _) in text.match_indices(call) {
                    let argument = text[at + call.len()..].trim_start();
                    if let Some(literal) = argument.strip_prefix('"') {
                        let sql = literal.split('"').next().unwrap_or_default();
                        found.push((path.display().to_string(), sql.to_owned()));
                    }
                }
            }
        }
    }
}

/// The statements that macros write.
fn composed() -> Vec<&'static str> {
    vec![
        guest_runs::GuestLease::RENEWAL,
        guest_runs::GuestLease::PUTTING_BACK,
        host_runs::HostLease::RENEWAL,
        host_runs::HostLease::RELEASING,
        host_runs::HostLease::PUTTING_BACK,
        crate::requests::RequestLease::RENEWAL,
        crate::requests::RequestLease::RELEASING,
        crate::requests::RequestLease::PUTTING_BACK,
        hooks::HookLease::RENEWAL,
        hooks::HookLease::RELEASING,
        crate::circuit_breakers::Probe::RENEWAL,
        crate::circuit_breakers::Probe::RELEASING,
        obligations::UndoClaim::RENEWAL,
        obligations::UndoClaim::RELEASING,
        notices::NoticeLease::RENEWAL,
        leadership::Lead::RENEWAL,
        sweeps::GUEST_RUNS_EXPIRE,
        sweeps::HOST_RUNS_EXPIRE,
        sweeps::REQUESTS_EXPIRE,
    ]
}

#[tokio::test]
async fn every_statement_fits_the_schema() {
    let db = TestDb::new().await;
    let mut all = Vec::new();
    statements(
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")),
        &mut all,
    );
    let in_rust = all.iter().filter(|(place, _)| place.ends_with(".rs"));
    let (in_rust, count) = (in_rust.count(), all.len());
    assert!(
        in_rust > 10 && count > in_rust + 40,
        "only {count} statements were found, {in_rust} of them in Rust"
    );
    let mut failed = Vec::new();
    for (place, sql) in all {
        // The half of a statement, of which the whole is among the composed ones.
        if place.ends_with("_expire.sql") {
            continue;
        }
        if let Err(e) = db.pool.prepare(AssertSqlSafe(sql).into_sql_str()).await {
            failed.push(format!("{place}: {e}"));
        }
    }
    for sql in composed() {
        if let Err(e) = db.pool.prepare(sql.into_sql_str()).await {
            failed.push(format!("{sql}: {e}"));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// Until somebody waits for a lock in this database, or `task`, which should, has ended.
pub(super) async fn blocked<T>(db: &TestDb, task: &tokio::task::JoinHandle<T>) {
    let waiting = async {
        loop {
            let waits: bool = sqlx::query_scalar(
                "SELECT EXISTS (SELECT 1 FROM pg_stat_activity a JOIN pg_locks l USING (pid)
                  WHERE a.datname = current_database() AND NOT l.granted)",
            )
            .fetch_one(&db.pool)
            .await
            .unwrap();
            if waits || task.is_finished() {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting)
        .await
        .expect("nobody waits, and nothing has ended");
}

/// A host of the lab's kind.
fn host_config(name: &str) -> HostConfig {
    HostConfig {
        name: name.to_owned(),
        kind: "server2".parse().unwrap(),
        address: Some(format!("https://{name}:8333/sdk")),
        user_name: Some("backup".to_owned()),
        properties: Default::default(),
        ignored: false,
        guest_threads: None,
    }
}

async fn add_host(db: &TestDb, name: &str) -> Host {
    hosts::insert(&db.pool, Uuid::now_v7(), &host_config(name), None)
        .await
        .unwrap();
    hosts::by_name(&db.pool, name).await.unwrap()
}

async fn found_on(db: &TestDb, host: &Host, paths: &[&str]) -> Vec<Guest> {
    let listed: Vec<inventory::ListedGuest> = paths
        .iter()
        .map(|path| inventory::ListedGuest {
            locator: (*path).to_owned(),
            uuid: None,
        })
        .collect();
    let mut tx = db.pool.begin().await.unwrap();
    let guests = inventory::apply_guest_inventory(&mut tx, host.id, &listed)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    guests
}

fn refusal<T: std::fmt::Debug>(result: Result<T, StoreError>) -> String {
    match result.unwrap_err() {
        StoreError::Refused(why) => why,
        other => panic!("another error: {other}"),
    }
}

async fn slots_of(db: &TestDb, host: &Host) -> Vec<i32> {
    sqlx::query_scalar(
        "SELECT slot_no FROM virtuozo_core.guest_slots WHERE host_id = $1 ORDER BY 1",
    )
    .bind(host.id)
    .fetch_all(&db.pool)
    .await
    .unwrap()
}

#[tokio::test]
async fn a_machine_is_registered_once() {
    let db = TestDb::new().await;
    let alpha = add_host(&db, "alpha").await;
    let beta = add_host(&db, "beta").await;
    let again = HostConfig {
        address: Some("https://ALPHA:8333/sdk/".into()),
        ..host_config("gamma")
    };
    let other = HostConfig {
        address: alpha.address.clone(),
        ..beta.clone().into()
    };
    for refused in [
        hosts::insert(&db.pool, Uuid::now_v7(), &again, None).await,
        hosts::update(&db.pool, beta.id, &other).await,
    ] {
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("that of host alpha"), "{refused}");
    }
    let renamed = HostConfig {
        name: "delta".into(),
        ..alpha.clone().into()
    };
    hosts::update(&db.pool, alpha.id, &renamed).await.unwrap();
}

#[tokio::test]
async fn a_host_is_added_shown_changed_and_removed() {
    let db = TestDb::new().await;
    let host = add_host(&db, "alpha").await;
    assert_eq!((host.state, host.has_password), (HostState::Unknown, false));
    let twice = hosts::insert(&db.pool, Uuid::now_v7(), &host_config("alpha"), None).await;
    assert!(
        matches!(twice, Err(StoreError::Exists { what: "host", .. })),
        "{twice:?}"
    );

    hosts::set_password(&db.pool, host.id, Some(b"sealed"))
        .await
        .unwrap();
    hosts::set_state(&db.pool, host.id, HostState::Ok, None)
        .await
        .unwrap();
    assert_eq!(
        hosts::sealed_password(&db.pool, host.id)
            .await
            .unwrap()
            .as_deref(),
        Some(&b"sealed"[..])
    );
    let config = HostConfig {
        name: "beta".into(),
        ..host.clone().into()
    };
    hosts::update(&db.pool, host.id, &config).await.unwrap();
    let changed = hosts::by_id(&db.pool, host.id).await.unwrap();
    assert_eq!(
        (changed.name.as_str(), changed.has_password),
        ("beta", true)
    );
    assert_eq!(changed.state, HostState::Ok, "it is the same host");
    let config = HostConfig {
        address: Some("https://beta/sdk".into()),
        ..changed.into()
    };
    hosts::update(&db.pool, host.id, &config).await.unwrap();
    let changed = hosts::by_id(&db.pool, host.id).await.unwrap();
    assert_eq!(
        changed.state,
        HostState::Unknown,
        "the old finding is about the old host"
    );

    hosts::remove(&db.pool, &changed).await.unwrap();
    let gone = hosts::by_name(&db.pool, "beta").await;
    assert!(
        matches!(gone, Err(StoreError::NotFound { what: "host", .. })),
        "{gone:?}"
    );
}

#[tokio::test]
async fn a_host_that_cannot_be_right_is_refused_with_the_reason() {
    let good = host_config("alpha");
    good.check().unwrap();
    let wrong = [
        (
            HostConfig {
                name: "a/b".into(),
                ..good.clone()
            },
            "HOST/GUEST",
        ),
        (
            HostConfig {
                name: String::new(),
                ..good.clone()
            },
            "empty",
        ),
        (
            HostConfig {
                name: "a\nb".into(),
                ..good.clone()
            },
            "control",
        ),
        (
            HostConfig {
                address: Some("https://u:p@alpha".into()),
                ..good.clone()
            },
            "password",
        ),
        (
            HostConfig {
                guest_threads: Some(65),
                ..good.clone()
            },
            "1 to 64",
        ),
    ];
    for (config, expected) in wrong {
        let why = refusal(config.check());
        assert!(why.contains(expected), "{why}");
    }
}

#[tokio::test]
async fn the_slots_of_a_host_follow_its_cap_and_the_sites() {
    let db = TestDb::new().await;
    let (alpha, beta) = (add_host(&db, "alpha").await, add_host(&db, "beta").await);
    assert_eq!(slots_of(&db, &alpha).await, [1, 2]);
    let own = HostConfig {
        guest_threads: Some(1),
        ..beta.clone().into()
    };
    hosts::update(&db.pool, beta.id, &own).await.unwrap();
    settings::set(&db.pool, &[("guest_threads", "4")])
        .await
        .unwrap();
    assert_eq!(slots_of(&db, &alpha).await, [1, 2, 3, 4]);
    assert_eq!(slots_of(&db, &beta).await, [1]);
}

#[tokio::test]
async fn settings_are_changed_all_or_none() {
    let db = TestDb::new().await;
    let before = settings::get(&db.pool).await.unwrap();
    let why = refusal(settings::set(&db.pool, &[("keep_last", "3"), ("host_threads", "11")]).await);
    assert!(
        why.contains("host_threads") && why.contains("about ten connections"),
        "{why}"
    );
    assert_eq!(settings::get(&db.pool).await.unwrap(), before);

    let changes = [
        ("keep_last", "3"),
        ("destination", "/srv/backup"),
        ("daily_start_time", "23:15"),
        ("time_zone", "Europe/Berlin"),
        ("mode", "cold"),
        ("resume_power_state", "no"),
    ];
    let after = settings::set(&db.pool, &changes).await.unwrap();
    assert_eq!(settings::get(&db.pool).await.unwrap(), after);
    assert_eq!(
        (after.keep_last, after.mode, after.resume_power_state),
        (3, Mode::Cold, false)
    );
    assert_eq!(
        settings::key(settings::KEYS, "daily_start_time")
            .unwrap()
            .value(&after),
        "23:15"
    );
}

#[tokio::test]
async fn every_setting_takes_its_own_value_back_and_refuses_nonsense() {
    let db = TestDb::new().await;
    let settings = settings::get(&db.pool).await.unwrap();
    for key in settings::KEYS {
        let value = key.value(&settings);
        let after = settings::set(&db.pool, &[(key.name, &value)])
            .await
            .unwrap();
        assert_eq!(after, settings, "{}", key.name);
        let why = refusal(settings::set(&db.pool, &[(key.name, "non\u{1}sense")]).await);
        assert!(why.starts_with(key.name), "{why}");
    }
    assert!(refusal(settings::set(&db.pool, &[("colour", "red")]).await).contains("keep_last"));
}

#[tokio::test]
async fn datastores_keep_their_mapping_while_the_host_changes_its_own() {
    let db = TestDb::new().await;
    let host = add_host(&db, "alpha").await;
    datastores::map(&db.pool, host.id, "standard", "/mnt/standard")
        .await
        .unwrap();
    assert!(refusal(datastores::map(&db.pool, host.id, "x", "mnt").await).contains("absolute"));
    let mut conn = db.pool.acquire().await.unwrap();
    for names in [["standard", "old"], ["standard", "new"]] {
        let seen: BTreeMap<_, _> = names
            .map(|name| (name.to_owned(), format!("/vms/{name}")))
            .into();
        hosts::apply_host_facts(&mut conn, host.id, &seen, &[])
            .await
            .unwrap();
    }
    let all = datastores::list(&db.pool, Some(host.id)).await.unwrap();
    let shown: Vec<_> = all
        .iter()
        .map(|d| {
            (
                d.name.as_str(),
                d.host_path.as_deref(),
                d.local_path.as_deref(),
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            ("new", Some("/vms/new"), None),
            ("standard", Some("/vms/standard"), Some("/mnt/standard"))
        ]
    );
    datastores::unmap(&db.pool, host.id, "standard")
        .await
        .unwrap();
    let twice = datastores::unmap(&db.pool, host.id, "standard").await;
    assert!(matches!(twice, Err(StoreError::NotFound { .. })));
    assert_eq!(datastores::list(&db.pool, None).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_worker_that_was_stopped_learns_it_at_its_next_heartbeat() {
    let db = TestDb::new().await;
    let id = Uuid::now_v7();
    workers::register(&db.pool, id, virtuozo_model::ProcessKind::Worker, "w1", &[])
        .await
        .unwrap();
    assert_eq!(
        workers::heartbeat(&db.pool, id).await.unwrap(),
        workers::HeartbeatAnswer::GoOn
    );
    workers::stop(&db.pool, id).await.unwrap();
    assert_eq!(
        workers::heartbeat(&db.pool, id).await.unwrap(),
        workers::HeartbeatAnswer::Unknown
    );
    let stored = workers::list(&db.pool).await.unwrap().remove(0);
    assert_eq!(stored.pid, i32::try_from(std::process::id()).unwrap());
    assert!(stored.stopped_at.is_some());
}
