//! The rules of operations, against a database.

use virtuozo_model::{DatastoreProposal, HostKind, ProposalOutcome};
use virtuozo_postgres::{StoreError, testing::TestDb};
use virtuozo_secrets::Key;
use virtuozo_store::hosts::{HostConfig, Rules};

use crate::{
    ServiceError, datastores, guests,
    guests::Added,
    hosts::{self, HostChanges, Sealing},
    names::Targets,
    obligations, repositories, runs,
    schedules::{self, NewSchedule, ScheduleChanges},
};

/// A back end that takes what has an address, and guests that end with `.vm`.
struct AnyHost;

impl Rules for AnyHost {
    fn check_host(&self, host: &HostConfig) -> Result<(), String> {
        match host.address {
            Some(_) => Ok(()),
            None => Err("it needs an address".to_owned()),
        }
    }

    fn check_locator(&self, _: &HostKind, locator: &str) -> Result<(), String> {
        match locator.ends_with(".vm") {
            true => Ok(()),
            false => Err(format!("{locator} is no guest")),
        }
    }
}

fn config(user: Option<&str>) -> HostConfig {
    HostConfig {
        name: "alpha".to_owned(),
        kind: "memory".parse().unwrap(),
        address: Some("https://alpha/sdk".to_owned()),
        user_name: user.map(str::to_owned),
        properties: Default::default(),
        ignored: false,
        guest_threads: None,
    }
}

/// A site with one host, and the key that has sealed its password.
async fn site() -> (TestDb, Key, tempfile::TempDir) {
    let db = TestDb::new().await;
    let dir = tempfile::tempdir().unwrap();
    let key = Key::load_or_create(&dir.path().join("key")).unwrap();
    let password = Sealing {
        key: &key,
        password: &"secret".into(),
    };
    hosts::add(&db.pool, &AnyHost, &config(Some("backup")), Some(password))
        .await
        .unwrap();
    (db, key, dir)
}

fn assert_refused<T: std::fmt::Debug>(answer: Result<T, ServiceError>, why: &str) {
    let error = answer.expect_err("it is refused");
    assert!(error.is_refused(), "{error:?}");
    assert!(error.to_string().contains(why), "{error}");
}

#[tokio::test]
async fn a_password_goes_with_its_user_and_none_is_taken_without_one() {
    let (db, key, _dir) = site().await;
    let password = Sealing {
        key: &key,
        password: &"other".into(),
    };
    assert_refused(
        hosts::check_new(&AnyHost, &config(None), true),
        "give --user",
    );
    let without_user = || HostChanges {
        user_name: Some(None),
        ..HostChanges::default()
    };
    let both = hosts::edit(&db.pool, &AnyHost, "alpha", without_user(), Some(password)).await;
    assert_refused(both, "give --user");
    assert!(
        hosts::by_name(&db.pool, "alpha")
            .await
            .unwrap()
            .has_password
    );
    hosts::edit(&db.pool, &AnyHost, "alpha", without_user(), None)
        .await
        .unwrap();
    let host = hosts::by_name(&db.pool, "alpha").await.unwrap();
    assert!(!host.has_password && host.user_name.is_none(), "{host:?}");
}

#[tokio::test]
async fn what_the_back_end_does_not_permit_changes_nothing() {
    let (db, ..) = site().await;
    let changes = HostChanges {
        name: Some("beta".to_owned()),
        address: Some(None),
        ..HostChanges::default()
    };
    let edited = hosts::edit(&db.pool, &AnyHost, "alpha", changes, None).await;
    assert_refused(edited, "needs an address");
    hosts::by_name(&db.pool, "alpha").await.unwrap();
    assert_refused(hosts::by_name(&db.pool, "beta").await, "no host \"beta\"");
    let added = guests::add(&db.pool, &AnyHost, "alpha", "mail").await;
    assert_refused(added, "mail is no guest");
}

#[tokio::test]
async fn a_guest_is_added_once_and_one_that_was_only_reported_is_taken_over() {
    let (db, ..) = site().await;
    let add = || guests::add(&db.pool, &AnyHost, "alpha", "mail.vm");
    let added = add().await.unwrap();
    assert!(matches!(added, Added::New(_)), "{added:?}");
    assert_refused(add().await, "already");
    sqlx::query("UPDATE virtuozo_core.guests SET configured = false")
        .execute(&db.pool)
        .await
        .unwrap();
    let taken_over = add().await.unwrap();
    assert!(matches!(taken_over, Added::Configured(_)), "{taken_over:?}");
}

#[tokio::test]
async fn what_a_schedule_backs_up_stays_unless_it_is_given_anew() {
    let (db, ..) = site().await;
    let of_alpha = Targets {
        hosts: vec!["alpha".to_owned()],
        guests: Vec::new(),
    };
    let new = NewSchedule {
        name: "nightly".to_owned(),
        cron: None,
        time_zone: None,
        targets: of_alpha,
        enabled: true,
    };
    assert!(schedules::add(&db.pool, new).await.unwrap().next.is_some());
    let targets = async || schedules::list(&db.pool).await.unwrap().0.remove(0).targets;
    let disabled = ScheduleChanges {
        enabled: Some(false),
        ..ScheduleChanges::default()
    };
    let saved = schedules::edit(&db.pool, "nightly", disabled)
        .await
        .unwrap();
    assert_eq!(saved.next, None, "it is not followed");
    assert_eq!(targets().await, ["alpha"]);
    let whole_site = ScheduleChanges {
        targets: Some(Targets::default()),
        ..ScheduleChanges::default()
    };
    schedules::edit(&db.pool, "nightly", whole_site)
        .await
        .unwrap();
    assert!(targets().await.is_empty());
}

#[tokio::test]
async fn a_cap_is_refused_where_no_restore_points_go() {
    let (db, ..) = site().await;
    let nowhere = repositories::limit(&db.pool, "/srv/backup", Some(2)).await;
    assert_refused(nowhere, "nor anywhere yet");
    let key = crate::settings::key("destination").unwrap();
    crate::settings::set(&db.pool, key, "/srv/backup")
        .await
        .unwrap();
    let spelled = repositories::limit(&db.pool, "/srv//backup/", Some(2)).await;
    assert_eq!(spelled.unwrap(), "/srv/backup");
    let other = repositories::limit(&db.pool, "/srv/other", Some(2)).await;
    assert_refused(other, "they go to /srv/backup");
}

#[tokio::test]
async fn what_is_unknown_is_refused_by_its_name() {
    let (db, ..) = site().await;
    let of_beta = Targets {
        hosts: vec!["beta".to_owned()],
        guests: Vec::new(),
    };
    let run = runs::start(&db.pool, "test".to_owned(), &of_beta).await;
    assert!(
        matches!(&run, Err(ServiceError::Store(StoreError::NotFound { name, .. })) if name == "beta"),
        "{run:?}"
    );
    assert_refused(runs::cancel(&db.pool, "latest").await, "no run yet");
    let forgiven = obligations::forgive(&db.pool, "ffff", "it burnt down", "user anna").await;
    assert_refused(forgiven, "no obligation 'ffff'");
}

fn proposal(name: &str, outcome: ProposalOutcome, directory: Option<&str>) -> DatastoreProposal {
    DatastoreProposal {
        name: name.to_owned(),
        host_path: None,
        local_path: None,
        guests: 1,
        outcome,
        directory: directory.map(str::to_owned),
        candidates: Vec::new(),
    }
}

#[tokio::test]
async fn what_was_found_is_mapped_and_neither_what_is_mapped_meanwhile_nor_anything_with_a_wrong_name()
 {
    let (db, _key, _dir) = site().await;
    let host = hosts::by_name(&db.pool, "alpha").await.unwrap();
    datastores::map(&db.pool, "alpha", "taken", Some("/mnt/taken"))
        .await
        .unwrap();
    let found = |name: &str| proposal(name, ProposalOutcome::Found, Some("/mnt/found"));
    let elsewhere = DatastoreProposal {
        local_path: Some("/mnt/old".to_owned()),
        ..found("elsewhere")
    };
    let all = [
        found("standard"),
        found("taken"),
        elsewhere,
        proposal("own", ProposalOutcome::InPlace, Some("/srv/own")),
        proposal("unclear", ProposalOutcome::Ambiguous, None),
    ];
    let mapped = datastores::map_found(&db.pool, &host, &all).await.unwrap();
    assert_eq!(mapped, ["standard"]);
    let paths = async || {
        let all = datastores::list(&db.pool, Some("alpha")).await.unwrap();
        let paths = all.into_iter().map(|one| (one.name, one.local_path));
        paths.collect::<Vec<_>>()
    };
    let path = |name: &str, path: &str| (name.to_owned(), Some(path.to_owned()));
    let expected = [path("standard", "/mnt/found"), path("taken", "/mnt/taken")];
    assert_eq!(paths().await, expected);

    let hostile = [found("second"), found("bell\u{7}")];
    assert_refused(
        datastores::map_found(&db.pool, &host, &hostile).await,
        "control character",
    );
    assert_eq!(paths().await, expected);
}
