//! Tests of the configuration as a file: it goes from site to site and stays the same.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use virtuozo_model::GuestState;
use virtuozo_postgres::testing::TestDb;
use virtuozo_store::{disks, guests, hosts, notices::config, schedules, settings};

mod lab;
mod prune;
mod secrets;
mod wrong_files;

use lab::Lab;

/// A bit of everything.
const TEXT: &str = r#"
format_version = 1

[settings]
destination = "/srv/backup"
fleet_guest_threads = 12
guest_threads = 3
resume_power_state = false
daily_start_time = "23:15"

[notices]
mail_host = "mail.example.org"
mail_security = "none"
allow_unencrypted = true
mail_from = "backup@example.org"
mail_to = "admin@example.org, night@example.org"
digest_time = ""
group_secs = 60

[[hooks]]
moment = "before"
command = ["/usr/local/bin/mount repository", "--wait"]
limit_secs = 60
on_failure = "fail"

[[repositories]]
path = "/srv/backup"
guest_threads = 8

[[hosts]]
name = "alpha"
kind = "server2"
address = "https://alpha:8333/sdk"
user = "backup"
guest_threads = 1

[hosts.properties]
config-dir = "/mnt/alpha"

[[hosts.datastores]]
name = "capped"
guest_threads = 2

[[hosts.datastores]]
name = "standard"
local_path = "/mnt/alpha/standard"
guest_threads = 4

[[hosts.guests]]
locator = "[standard] mail/mail.vmx"
name = "Mail \"Ümläut\" server"
mode = "cold"
keep_last = 3
backup_when_off = false
ignored_disks = ["ide1:0", "scsi0:1"]

[[hosts.guests.hooks]]
moment = "after"
command = ["sh", "-c", "echo \"$VIRTUOZO_OUTCOME\""]
limit_secs = 5
on_failure = "ignore"

[[hosts.guests]]
locator = "[standard] new/new.vmx"
configured = false
ignored = true

[[hosts]]
name = "beta"
kind = "workstation"
ignored = true

[[schedules]]
name = "mail"
cron = "30 */4 * * *"
time_zone = "Europe/Berlin"
guests = ["alpha/[standard] mail/mail.vmx"]

[[schedules]]
name = "nightly"
enabled = false
hosts = ["alpha", "beta"]

[end]
"#;

fn parsed(text: &str) -> Parsed {
    Parsed::new(text).unwrap_or_else(|error| panic!("{error}"))
}

async fn imported(db: &TestDb, text: &str, options: Options) -> Outcome {
    import(&db.pool, &parsed(text), None, &Lab, options)
        .await
        .unwrap_or_else(|error| panic!("{error}"))
}

async fn exported(db: &TestDb) -> String {
    export(&db.pool, None).await.unwrap().to_text().unwrap()
}

const PRUNE: Options = Options {
    prune: true,
    dry_run: false,
};
const DRY_RUN: Options = Options {
    prune: true,
    dry_run: true,
};

#[tokio::test]
async fn a_directory_with_a_slash_too_many_is_the_same_directory() {
    let db = TestDb::new().await;
    let text = TEXT.replace("/srv/backup\"", "/srv//backup/\"");
    assert_ne!(text, TEXT);
    imported(&db, &text, Options::default()).await;
    assert!(!exported(&db).await.contains("/srv//backup"));
    for text in [&text, TEXT] {
        let again = imported(&db, text, PRUNE).await;
        assert!(again.changes.is_empty(), "{again:?}");
    }
}

#[tokio::test]
async fn an_export_imported_elsewhere_is_exported_as_the_same_text() {
    let (here, there) = (TestDb::new().await, TestDb::new().await);
    let done = imported(&here, TEXT, Options::default()).await;
    let names: Vec<&str> = done.changes.iter().map(|c| c.entry.as_str()).collect();
    assert_eq!(
        names,
        [
            "settings",
            "notices",
            "hook before the run",
            "repository /srv/backup",
            "host alpha",
            "host beta",
            "datastore alpha/capped",
            "datastore alpha/standard",
            "guest alpha/[standard] mail/mail.vmx",
            "guest alpha/[standard] new/new.vmx",
            "schedule mail",
            "schedule nightly",
        ]
    );
    assert!(done.kept.is_empty(), "{:?}", done.kept);
    let text = exported(&here).await;
    imported(&there, &text, Options::default()).await;
    assert_eq!(exported(&there).await, text);
    for options in [Options::default(), PRUNE] {
        let again = imported(&there, &text, options).await;
        assert!(
            again.changes.is_empty() && again.kept.is_empty(),
            "{again:?}"
        );
    }
    let guests = guests::list(&there.pool, None).await.unwrap();
    assert_eq!(guests[0].name, "Mail \"Ümläut\" server");
    assert_eq!(guests[1].state, GuestState::NotConfigured);
}

#[tokio::test]
async fn a_dry_run_tells_field_by_field_what_an_import_then_does() {
    let db = TestDb::new().await;
    imported(&db, TEXT, Options::default()).await;
    let before = exported(&db).await;
    let text = TEXT
        .replace("guest_threads = 3", "guest_threads = 5")
        .replace("keep_last = 3\n", "")
        .replace(", night@example.org", "")
        .replace(", \"scsi0:1\"", "")
        .replace("hosts = [\"alpha\", \"beta\"]", "hosts = [\"alpha\"]");
    // Without beta, and with another datastore.
    let (start, rest) = text.split_once("[[hosts]]\nname = \"beta\"").unwrap();
    let rest = rest.split_once("[[schedules]]").unwrap().1;
    let text = format!("{start}[[schedules]]{rest}").replace("\"capped\"", "\"other\"");

    let wanted = imported(&db, &text, DRY_RUN).await;
    assert_eq!(exported(&db).await, before, "a dry run changed something");
    let told: Vec<String> = wanted
        .changes
        .iter()
        .map(|change| {
            let fields = change.fields.iter();
            let fields: Vec<_> = fields
                .map(|f| format!("{} {} {}", f.field, f.old, f.new))
                .collect();
            format!("{} {:?} {}", change.entry, change.change, fields.join("; "))
        })
        .collect();
    assert_eq!(
        told,
        [
            "settings Changed guest_threads 3 5",
            "notices Changed mail_to \"admin@example.org, night@example.org\" \"admin@example.org\"",
            "host beta Removed ",
            "datastore alpha/capped Removed ",
            "datastore alpha/other Added guest_threads null 2",
            "guest alpha/[standard] mail/mail.vmx Changed ignored_disks [\"ide1:0\",\"scsi0:1\"] \
             [\"ide1:0\"]; keep_last 3 null",
            "schedule nightly Changed hosts [\"alpha\",\"beta\"] [\"alpha\"]",
        ]
    );

    let kept = imported(&db, &text, Options::default()).await;
    assert_eq!(kept.kept, ["host beta", "datastore alpha/capped"]);
    assert!(kept.changes.iter().all(|c| c.change != Changed::Removed));
    let pruned = imported(&db, &text, PRUNE).await;
    assert!(pruned.kept.is_empty());
    assert!(pruned.changes.iter().all(|c| c.change == Changed::Removed));
    assert_eq!(pruned.changes.len(), 2);
    assert!(imported(&db, &text, PRUNE).await.changes.is_empty());
}

#[tokio::test]
async fn what_did_not_change_is_not_touched() {
    let db = TestDb::new().await;
    imported(&db, TEXT, Options::default()).await;
    let alpha = hosts::by_name(&db.pool, "alpha").await.unwrap();
    hosts::set_state(&db.pool, alpha.id, virtuozo_model::HostState::Ok, None)
        .await
        .unwrap();
    let alpha = hosts::by_name(&db.pool, "alpha").await.unwrap();
    let nightly = schedules::by_name(&db.pool, "nightly").await.unwrap();
    imported(&db, TEXT, PRUNE).await;
    assert_eq!(hosts::by_name(&db.pool, "alpha").await.unwrap(), alpha);
    let after = schedules::by_name(&db.pool, "nightly").await.unwrap();
    assert_eq!(after, nightly);
    // A guest that somebody took over meanwhile stays so.
    let new = guests::by_name(&db.pool, "alpha/new").await.unwrap();
    guests::configure(&db.pool, new.id).await.unwrap();
    assert!(imported(&db, TEXT, PRUNE).await.changes.is_empty());
    assert_eq!(disks::list(&db.pool, None).await.unwrap().len(), 2);
}

/// What of the tables is no configuration: identities, and what was found or happens.
const NOT_CONFIGURED: [&str; 44] = [
    "guests.uuid",
    "guests.datastore",
    "guests.node",
    "guests.change_ids",
    "guests.crashes",
    "datastores.host_id",
    "datastores.host_path",
    "datastores.seen_at",
    "disks.capacity_bytes",
    "disks.checked_at",
    "disks.datastore",
    "disks.file_name",
    "disks.guest_id",
    "disks.id",
    "disks.state",
    "disks.state_reason",
    "guests.checked_at",
    "guests.created_at",
    "guests.host_id",
    "guests.id",
    "guests.power",
    "guests.state",
    "guests.state_reason",
    "guests.updated_at",
    "hosts.checked_at",
    "hosts.created_at",
    "hosts.id",
    "hosts.paused_at",
    "hosts.paused_by",
    "hosts.state",
    "hosts.state_reason",
    "hosts.updated_at",
    "notice_settings.digest_done_until",
    "notice_settings.only_row",
    "notice_settings.updated_at",
    "schedule_targets.schedule_id",
    "schedules.created_at",
    "schedules.done_until",
    "schedules.id",
    "schedules.updated_at",
    "settings.only_row",
    "settings.paused_at",
    "settings.paused_by",
    "settings.updated_at",
];

/// Where the others are in the file, if the name is another.
const ELSEWHERE: [(&str, &str); 8] = [
    ("disks.device", "guests.ignored_disks"),
    ("disks.ignored", "guests.ignored_disks"),
    ("hosts.password_sealed", "hosts.password"),
    ("hosts.user_name", "hosts.user"),
    (
        "notice_settings.mail_password_sealed",
        "notice_secrets.mail_password",
    ),
    (
        "notice_settings.webhook_secret_sealed",
        "notice_secrets.webhook_secret",
    ),
    ("schedule_targets.guest_id", "schedules.guests"),
    ("schedule_targets.host_id", "schedules.hosts"),
];

#[tokio::test]
async fn every_column_of_the_configuration_is_in_the_file() {
    let db = TestDb::new().await;
    let columns: Vec<String> = sqlx::query_scalar(
        "SELECT table_name || '.' || column_name FROM information_schema.columns
          WHERE table_schema = 'virtuozo_core' AND table_name IN ('settings', 'hosts', 'datastores',
                'guests', 'disks', 'schedules', 'schedule_targets', 'repositories', 'notice_settings')",
    )
    .fetch_all(&db.pool)
    .await
    .unwrap();
    let text = TEXT
        .replace(
            "guest_threads = 1\n",
            "guest_threads = 1\npassword = \"00\"\n",
        )
        .replace(
            "[[repositories]]",
            "[notice_secrets]\nmail_password = \"00\"\nwebhook_secret = \"00\"\n[[repositories]]",
        )
        .replace(
            "keep_last = 3",
            "destination = \"/x\"\nresume_power_state = true\nrpo_secs = 0\nkeep_last = 3",
        );
    let file = serde_json::to_value(parsed(&text).file).unwrap();
    let mut known: BTreeSet<String> = settings::KEYS
        .iter()
        .map(|key| format!("settings.{}", key.name))
        .collect();
    let of_notices = config::KEYS.iter();
    known.extend(of_notices.map(|key| format!("notice_settings.{}", key.name)));
    let secrets = file["notice_secrets"].as_object().unwrap().keys();
    known.extend(secrets.map(|field| format!("notice_secrets.{field}")));
    let tables = [
        ("repositories", "/repositories"),
        ("hosts", "/hosts"),
        ("datastores", "/hosts/0/datastores"),
        ("guests", "/hosts/0/guests"),
        ("schedules", "/schedules"),
    ];
    for (table, place) in tables {
        for entry in file.pointer(place).unwrap().as_array().unwrap() {
            let fields = entry.as_object().unwrap().keys();
            known.extend(fields.map(|field| format!("{table}.{field}")));
        }
    }
    for column in columns {
        let elsewhere = ELSEWHERE.iter().find(|(name, _)| *name == column);
        let field = elsewhere.map_or(column.as_str(), |(_, field)| field);
        assert!(
            known.contains(field) || NOT_CONFIGURED.contains(&column.as_str()),
            "{column} is in no export: add it to the file, or say here that it is no configuration"
        );
    }
}

fn any_file() -> impl Strategy<Value = SiteFile> {
    let text = || any::<String>();
    let host = (text(), proptest::option::of(text()), any::<bool>(), text());
    let schedule = (text(), proptest::option::of(text()), any::<bool>());
    let setting = (
        text(),
        prop_oneof![text(), any::<i64>().prop_map(|n| n.to_string())],
    );
    (
        proptest::collection::vec(host, 0..4),
        proptest::collection::vec(schedule, 0..4),
        proptest::collection::vec(setting, 0..4),
    )
        .prop_map(|(hosts, schedules, settings)| {
            let hosts = hosts.into_iter().map(|(name, address, ignored, path)| {
                let mut host = parsed(TEXT).file.hosts.remove(0);
                let entry = host.as_mut();
                (entry.name, entry.address, entry.ignored) = (name, address, ignored);
                entry.guests[0].as_mut().locator = path;
                host
            });
            let schedules = schedules.into_iter().map(|(name, cron, enabled)| {
                let mut schedule = parsed(TEXT).file.schedules.remove(0);
                let entry = schedule.as_mut();
                (entry.name, entry.cron, entry.enabled) = (name, cron, enabled);
                schedule
            });
            SiteFile {
                hosts: hosts.collect(),
                schedules: schedules.collect(),
                settings: settings
                    .into_iter()
                    .map(|(name, value)| (name, notices::placed(value.into())))
                    .collect(),
                ..parsed(TEXT).file
            }
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_file_reads_back_as_it_was_written(file in any_file()) {
        let text = file.to_text().unwrap();
        let back = Parsed::new(&text).map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?;
        prop_assert_eq!(back.file, file);
    }

    #[test]
    fn a_setting_keeps_its_text(text in "-?[0-9]{1,25}|true|false|.*") {
        prop_assert_eq!(Scalar::from(text.clone()).to_string(), text);
    }
}
