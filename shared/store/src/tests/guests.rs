//! Tests of guests and disks: what appears, goes and comes back, and what people say about them.

use uuid::Uuid;

use super::{add_host, found_on, refusal};
use crate::{
    disks, events,
    guests::{self, GuestConfig},
    inventory::{self, DiskObservation, GuestObservation},
    settings, views,
};
use virtuozo_model::{DiskState, Guest, GuestState, Mode, Power, Severity};
use virtuozo_postgres::{StoreError, testing::TestDb};

#[tokio::test]
async fn guests_that_appear_go_and_come_back_are_told_once() {
    let db = TestDb::new().await;
    let host = add_host(&db, "alpha").await;
    let (mail, web) = ("[s] mail/mail.vmx", "[s] web/web.vmx");
    let guests = found_on(&db, &host, &[mail]).await;
    assert_eq!(
        (guests.len(), guests[0].name.as_str(), guests[0].configured),
        (1, "mail", true)
    );

    settings::set(&db.pool, &[("new_guests", "report")])
        .await
        .unwrap();
    for _ in 0..2 {
        let guests = found_on(&db, &host, &[web]).await;
        let states: Vec<_> = guests
            .iter()
            .map(|g| (g.name.as_str(), g.configured, g.state))
            .collect();
        assert_eq!(
            states,
            [
                ("mail", true, GuestState::NotInInventory),
                ("web", false, GuestState::NotConfigured)
            ]
        );
    }
    let guests = found_on(&db, &host, &[mail, web]).await;
    assert_eq!(guests[0].state, GuestState::Unknown);
    assert!(guests::configure(&db.pool, guests[1].id).await.unwrap());
    assert!(
        !guests::configure(&db.pool, guests[1].id).await.unwrap(),
        "it is configured already"
    );

    let told: Vec<_> = events::list(&db.pool, &events::Filter::default(), 100)
        .await
        .unwrap()
        .into_iter()
        .map(|e| (e.severity, e.message.split(';').next().unwrap().to_owned()))
        .collect();
    let expected = [
        (Severity::Info, "guest mail: new on its host"),
        (Severity::Warning, "guest mail: its host no longer knows it"),
        (
            Severity::Warning,
            "guest web: new on its host and not backed up",
        ),
        (Severity::Info, "guest mail: its host knows it again"),
    ];
    assert_eq!(told.len(), expected.len(), "{told:?}");
    for ((severity, text), (wanted, start)) in told.iter().zip(expected) {
        assert_eq!(*severity, wanted, "{text}");
        assert_eq!(text, start);
    }
}

#[tokio::test]
async fn a_disk_that_goes_and_comes_back_is_still_ignored() {
    let db = TestDb::new().await;
    let host = add_host(&db, "alpha").await;
    let guest = found_on(&db, &host, &["[s] mail/mail.vmx"]).await.remove(0);
    let disk = |device: &str, problem: Option<&str>| DiskObservation {
        device: device.into(),
        file_name: "mail.vmdk".into(),
        datastore: Some("s".into()),
        capacity_bytes: problem.is_none().then_some(1 << 30),
        problem: problem.map(str::to_owned),
    };
    let seen = |disks| GuestObservation {
        name: "Mail".into(),
        power: Power::On,
        state: GuestState::Ok,
        reason: None,
        node: None,
        datastore: Some("s".into()),
        change_ids: Vec::new(),
        disks,
    };
    let mut conn = db.pool.acquire().await.unwrap();
    let both = seen(vec![disk("scsi0:0", None), disk("scsi0:1", None)]);
    inventory::apply_guest_facts(&mut *conn, guest.id, &both)
        .await
        .unwrap();
    disks::set_ignored(&db.pool, guest.id, "scsi0:1", true)
        .await
        .unwrap();
    let one = seen(vec![disk("scsi0:0", Some("truncated"))]);
    inventory::apply_guest_facts(&mut *conn, guest.id, &one)
        .await
        .unwrap();
    let stored = disks::list(&db.pool, Some(guest.id)).await.unwrap();
    assert_eq!(
        (stored[0].state, stored[1].state),
        (DiskState::Invalid, DiskState::NotInInventory)
    );
    assert_eq!(
        stored[0].capacity_bytes,
        Some(1 << 30),
        "what was known of it stays known"
    );
    inventory::apply_guest_facts(&mut *conn, guest.id, &both)
        .await
        .unwrap();
    let stored = disks::list(&db.pool, Some(guest.id)).await.unwrap();
    assert_eq!((stored[1].state, stored[1].ignored), (DiskState::Ok, true));
    assert_eq!(
        guests::by_id(&db.pool, guest.id).await.unwrap().name,
        "Mail"
    );
    let missing = disks::set_ignored(&db.pool, guest.id, "ide0:0", true).await;
    assert!(matches!(
        missing,
        Err(StoreError::NotFound { what: "disk", .. })
    ));
}

#[tokio::test]
async fn a_guest_is_found_by_the_names_that_people_type() {
    let db = TestDb::new().await;
    let (alpha, beta) = (add_host(&db, "alpha").await, add_host(&db, "beta").await);
    let mail = found_on(&db, &alpha, &["[s] mail/mail.vmx"])
        .await
        .remove(0);
    let web = found_on(&db, &alpha, &["[s] mail/mail.vmx", "[s] web/web.vmx"])
        .await
        .remove(1);
    let other = found_on(&db, &beta, &["[s] web/web.vmx"]).await.remove(0);
    for text in [
        "mail",
        "alpha/mail",
        "alpha/[s] mail/mail.vmx",
        &mail.id.to_string(),
    ] {
        assert_eq!(
            guests::by_name(&db.pool, text).await.unwrap().id,
            mail.id,
            "{text}"
        );
    }
    assert_eq!(
        guests::by_name(&db.pool, "beta/web").await.unwrap().id,
        other.id
    );
    assert_eq!(
        guests::on_host(&db.pool, alpha.id, "web").await.unwrap().id,
        web.id
    );
    let why = refusal(guests::by_name(&db.pool, "web").await);
    assert!(
        why.contains("alpha/[s] web/web.vmx") && why.contains("beta/"),
        "{why}"
    );
    assert!(matches!(
        guests::by_name(&db.pool, "beta/mail").await,
        Err(StoreError::NotFound { .. })
    ));
}

#[tokio::test]
async fn a_guests_own_settings_are_kept_and_checked() {
    let db = TestDb::new().await;
    let host = add_host(&db, "alpha").await;
    let id = guests::insert(&db.pool, &host, "[s] db/db.vmx")
        .await
        .unwrap();
    let config = GuestConfig {
        ignored: true,
        destination: Some("/srv/db".into()),
        mode: Some(Mode::Hot),
        resume_power_state: Some(false),
        backup_when_off: Some(true),
        keep_last: Some(2),
        rpo_secs: Some(0),
    };
    guests::update(&db.pool, id, &config).await.unwrap();
    let guest = guests::by_id(&db.pool, id).await.unwrap();
    assert_eq!(GuestConfig::from(&guest), config);
    let relative = GuestConfig {
        destination: Some("srv".into()),
        ..config.clone()
    };
    assert!(refusal(guests::update(&db.pool, id, &relative).await).contains("absolute"));
    let negative = GuestConfig {
        rpo_secs: Some(-1),
        ..config.clone()
    };
    assert!(refusal(guests::update(&db.pool, id, &negative).await).contains("seconds"));
    let none = GuestConfig {
        keep_last: Some(0),
        ..config
    };
    assert!(refusal(guests::update(&db.pool, id, &none).await).contains("at least one"));
    guests::remove(&db.pool, &guest).await.unwrap();
    assert!(guests::list(&db.pool, None).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_restore_point_is_too_old_by_the_guests_own_objective_or_the_sites() {
    let db = TestDb::new().await;
    let host = add_host(&db, "alpha").await;
    let id = guests::insert(&db.pool, &host, "[s] db/db.vmx")
        .await
        .unwrap();
    let aged = async |statement: &'static str| {
        sqlx::query(statement)
            .bind(id)
            .execute(&db.pool)
            .await
            .unwrap();
        let mut lines = views::all::<views::RpoLine>(&db.pool).await.unwrap();
        assert_eq!(lines.len(), 1);
        let line = lines.remove(0);
        (line.rpo_secs, line.age_secs / 3600, line.exceeded)
    };
    let new = aged("SELECT $1").await;
    assert_eq!(new, (Some(266_400), 0, false), "a guest is given its time");
    let never =
        "UPDATE virtuozo_core.guests SET created_at = now() - interval '75 hours' WHERE id = $1";
    assert_eq!(aged(never).await, (Some(266_400), 75, true));
    let point = "INSERT INTO virtuozo_core.restore_points
            (id, guest_id, host_name, guest_name, repository, path, mode, taken_at, size_bytes, source_bytes)
         VALUES (gen_random_uuid(), $1, 'alpha', 'db', '/srv', 'a', 'hot', now() - interval '73 hours', 1, 1)";
    assert_eq!(aged(point).await, (Some(266_400), 73, false));
    let damaged = "UPDATE virtuozo_core.restore_points SET state = 'damaged' WHERE guest_id = $1";
    assert_eq!(aged(damaged).await, (Some(266_400), 75, true));

    let mut config = GuestConfig::from(&guests::by_id(&db.pool, id).await.unwrap());
    config.rpo_secs = Some(0);
    guests::update(&db.pool, id, &config).await.unwrap();
    assert_eq!(aged("SELECT $1").await, (None, 75, false));
    settings::set(&db.pool, &[("rpo_secs", "3600")])
        .await
        .unwrap();
    assert_eq!(aged("SELECT $1").await, (None, 75, false));
    config.rpo_secs = None;
    guests::update(&db.pool, id, &config).await.unwrap();
    assert_eq!(aged("SELECT $1").await, (Some(3600), 75, true));
    config.ignored = true;
    guests::update(&db.pool, id, &config).await.unwrap();
    assert!(
        views::all::<views::RpoLine>(&db.pool)
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn a_guest_that_is_moved_on_its_host_stays_the_same_guest() {
    let db = TestDb::new().await;
    let host = add_host(&db, "alpha").await;
    let list = async |guests: &[(&str, Option<u128>)]| {
        let listed: Vec<inventory::ListedGuest> = guests
            .iter()
            .map(|(locator, uuid)| inventory::ListedGuest {
                locator: (*locator).to_owned(),
                uuid: uuid.map(Uuid::from_u128),
            })
            .collect();
        let mut tx = db.pool.begin().await.unwrap();
        let found = inventory::apply_guest_inventory(&mut tx, host.id, &listed)
            .await
            .unwrap();
        tx.commit().await.unwrap();
        found
    };
    let told = async || {
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM virtuozo_core.events")
            .fetch_one(&db.pool)
            .await
            .unwrap();
        count
    };
    let first = list(&[("ds1/web", Some(1)), ("ds1/db", None)]).await;
    let id_of = |guests: &[Guest], locator: &str| {
        let guest = guests.iter().find(|one| one.locator == locator);
        guest.map(|one| one.id)
    };
    let (web, other) = (id_of(&first, "ds1/web"), id_of(&first, "ds1/db"));
    let events = told().await;

    // Moved to another datastore; of the other one the UUID is known now.
    let second = list(&[("ds2/web", Some(1)), ("ds1/db", Some(2))]).await;
    assert_eq!(second.len(), 2);
    assert_eq!(id_of(&second, "ds2/web"), web);
    assert_eq!(id_of(&second, "ds1/db"), other);
    assert_eq!(told().await, events, "nobody is new or gone");

    // Moved to where the other one was, which is gone: it waits until nobody stands there.
    let third = list(&[("ds1/db", Some(1))]).await;
    assert_eq!(third.len(), 2);
    assert_eq!(id_of(&third, "ds2/web"), web);
}
