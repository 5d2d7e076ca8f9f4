//! The commands that configure a site, as a person types them: what they say, and how they refuse.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tempfile::TempDir;
use virtuozo_disk::vmdk::DiskKind;
use virtuozo_postgres::testing::TestDb;
use vix::lab::{Broken, DiskSpec, GuestSpec, HostSpec, Lab, Product};

struct Site {
    db: TestDb,
    dir: TempDir,
    library: PathBuf,
}

struct Answer {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Site {
    async fn new() -> Self {
        Self {
            db: TestDb::new().await,
            dir: TempDir::new().unwrap(),
            library: PathBuf::from("/absent/libvix.so"),
        }
    }

    /// Runs `virtuozo` with these arguments and `input` on stdin.
    fn typed(&self, args: &[&str], input: &str) -> Answer {
        let mut child = Command::new(env!("CARGO_BIN_EXE_virtuozo"))
            .args(args)
            .env("VIRTUOZO_CONFIG", "/dev/null")
            .env("DATABASE_URL", self.db.url())
            .env("VIRTUOZO_KEY_FILE", self.dir.path().join("key"))
            .env("VIRTUOZO_VIX_LIBRARY", &self.library)
            .env("VIRTUOZO_SIM_ROOT", self.dir.path().join("lab"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that refuses at once does not read it.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        Answer {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn done(&self, args: &[&str]) -> String {
        let answer = self.typed(args, "correct horse\n");
        assert_eq!(answer.code, Some(0), "{args:?}: {}", answer.err);
        answer.out
    }

    fn refused(&self, args: &[&str], code: i32, why: &str) {
        let answer = self.typed(args, "");
        assert_eq!(
            answer.code,
            Some(code),
            "{args:?}: {} {}",
            answer.out,
            answer.err
        );
        assert!(answer.err.contains(why), "{args:?}: {}", answer.err);
    }
}

const ALPHA: [&str; 9] = [
    "host",
    "add",
    "alpha",
    "--kind",
    "server2",
    "--address",
    "https://alpha:8333/sdk",
    "--user",
    "backup",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_site_is_configured_from_the_command_line() {
    let site = Site::new().await;
    let added = site.done(&[&ALPHA[..], &["--password-stdin"]].concat());
    assert!(
        added.contains("new key"),
        "the key has to be brought to the workers: {added}"
    );
    site.done(&[
        "host",
        "edit",
        "alpha",
        "--guest-threads",
        "1",
        "--config-dir",
        "/mnt/alpha",
    ]);
    let shown = site.done(&["host", "show", "alpha", "--json"]);
    let host: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(host["guest_threads"], 1);
    assert_eq!(host["has_password"], true);

    site.done(&["guest", "add", "alpha", "[standard] mail/mail.vmx"]);
    site.done(&[
        "guest",
        "edit",
        "alpha/mail",
        "--mode",
        "hot",
        "--keep-last",
        "3",
    ]);
    let guest = site.done(&["guest", "show", "mail"]);
    assert!(
        guest.contains("hot") && guest.contains("[standard] mail/mail.vmx"),
        "{guest}"
    );
    site.done(&[
        "guest",
        "edit",
        "alpha/mail",
        "--mode",
        "site",
        "--ignored",
        "true",
    ]);

    site.done(&["datastore", "map", "alpha", "standard", "/mnt/standard"]);
    assert!(site.done(&["datastore", "list"]).contains("/mnt/standard"));
    site.done(&["datastore", "unmap", "alpha", "standard"]);

    site.done(&["schedule", "add", "nightly"]);
    site.done(&[
        "schedule",
        "edit",
        "nightly",
        "--cron",
        "30 2 * * *",
        "--guest",
        "alpha/mail",
    ]);
    assert!(site.done(&["schedule", "list"]).contains("alpha/mail"));
    let next = site.done(&["schedule", "next", "--count", "3", "--json"]);
    let next: Vec<serde_json::Value> = serde_json::from_str(&next).unwrap();
    assert_eq!(next.len(), 3);
    site.done(&["schedule", "remove", "nightly"]);

    site.done(&["settings", "set", "destination", "/srv/backup"]);
    assert_eq!(
        site.done(&["settings", "get", "destination"]).trim(),
        "/srv/backup"
    );
    let all = site.done(&["settings", "get", "--json"]);
    let all: serde_json::Value = serde_json::from_str(&all).unwrap();
    assert_eq!(all["destination"], "/srv/backup");

    site.done(&["guest", "remove", "alpha/mail"]);
    site.done(&["host", "remove", "alpha"]);
    assert_eq!(site.done(&["host", "list", "--json"]).trim(), "[]");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_input_of_each_kind_is_refused_with_what_is_right() {
    let site = Site::new().await;
    site.refused(&ALPHA, 2, "--password-stdin");
    site.done(&[&ALPHA[..], &["--password-stdin"]].concat());
    site.done(&["guest", "add", "alpha", "[standard] mail/mail.vmx"]);
    for (args, code, why) in [
        (
            &["host", "add", "alpha", "--kind", "workstation"][..],
            2,
            "already",
        ),
        (
            &["host", "add", "b", "--kind", "xen"],
            2,
            "workstation_shared",
        ),
        (
            &["host", "add", "b", "--kind", "esxi"],
            2,
            "needs an address",
        ),
        (
            &["host", "add", "a/b", "--kind", "workstation"],
            2,
            "HOST/GUEST",
        ),
        (
            &[
                "host",
                "add",
                "b",
                "--kind",
                "workstation",
                "--password-stdin",
            ],
            2,
            "--user",
        ),
        (&["host", "edit", "alpha"], 2, "required"),
        (
            &["host", "edit", "beta", "--ignored", "true"],
            2,
            "no host \"beta\"",
        ),
        (
            &["host", "edit", "alpha", "--guest-threads", "65"],
            2,
            "1 to 64",
        ),
        (
            &["host", "password", "alpha", "--password-file", "/absent"],
            1,
            "/absent",
        ),
        (
            &["host", "password", "alpha", "--password-stdin"],
            2,
            "empty",
        ),
        (
            &["host", "test", "alpha", "--local"],
            1,
            "/absent/libvix.so",
        ),
        (&["host", "test", "alpha"], 1, "no worker is running"),
        (
            &["host", "check", "--local", "--timeout", "5"],
            2,
            "cannot be used with",
        ),
        (&["host", "check", "beta"], 2, "no host \"beta\""),
        (&["guest", "add", "alpha", "mail"], 2, "already"),
        (&["guest", "add", "alpha", "web"], 2, ".vmx"),
        (&["guest", "show", "alpha/web"], 2, "no guest \"alpha/web\""),
        (&["guest", "edit", "alpha/mail"], 2, "required"),
        (
            &["guest", "edit", "alpha/mail", "--mode", "warm"],
            2,
            "hot, cold, auto",
        ),
        (
            &["guest", "edit", "alpha/mail", "--destination", "srv"],
            2,
            "absolute",
        ),
        (
            &["guest", "edit", "alpha/mail", "--keep-last", "0"],
            2,
            "at least one",
        ),
        (
            &["disk", "edit", "alpha/mail", "scsi9:9", "--ignored", "true"],
            2,
            "no disk",
        ),
        (
            &["datastore", "map", "alpha", "standard", "mnt"],
            2,
            "absolute",
        ),
        (
            &["datastore", "unmap", "alpha", "standard"],
            2,
            "no mapping",
        ),
        (
            &["schedule", "add", "x", "--cron", "daily"],
            2,
            "five fields",
        ),
        (
            &["schedule", "add", "x", "--time-zone", "Mars"],
            2,
            "Europe/Berlin",
        ),
        (
            &["schedule", "add", "x", "--host", "beta"],
            2,
            "no host \"beta\"",
        ),
        (&["schedule", "next", "--count", "0"], 2, "1..=1000"),
        (
            &["schedule", "edit", "x", "--enabled", "true"],
            2,
            "no schedule",
        ),
        (
            &["settings", "set", "host_threads", "11"],
            2,
            "about ten connections",
        ),
        (
            &["settings", "set", "daily_start_time", "25:00"],
            2,
            "HH:MM",
        ),
        (&["settings", "get", "colour"], 2, "keep_last"),
    ] {
        site.refused(args, code, why);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_nowhere_in_the_database_or_in_what_is_shown() {
    let site = Site::new().await;
    site.done(&[&ALPHA[..], &["--password-stdin"]].concat());
    for args in [&["host", "show", "alpha"][..], &["host", "list", "--json"]] {
        assert!(!site.done(args).contains("horse"));
    }
    let id: uuid::Uuid = sqlx::query_scalar("SELECT id FROM virtuozo_core.hosts")
        .fetch_one(&site.db.pool)
        .await
        .unwrap();
    let sealed: Vec<u8> = sqlx::query_scalar("SELECT password_sealed FROM virtuozo_core.hosts")
        .fetch_one(&site.db.pool)
        .await
        .unwrap();
    assert!(!sealed.windows(5).any(|bytes| bytes == b"horse"));
    let key = virtuozo_secrets::Key::load(&site.dir.path().join("key")).unwrap();
    let (address, user): (Option<String>, Option<String>) =
        sqlx::query_as("SELECT address, user_name FROM virtuozo_core.hosts")
            .fetch_one(&site.db.pool)
            .await
            .unwrap();
    let opens = virtuozo_secrets::Opens {
        id,
        address: address.as_deref(),
        user: user.as_deref(),
    };
    let opened = key.open(opens, &sealed).unwrap();
    assert_eq!(
        secrecy::ExposeSecret::expose_secret(&opened),
        "correct horse"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_not_kept_for_another_address_or_user() {
    let site = Site::new().await;
    site.done(&[&ALPHA[..], &["--password-stdin"]].concat());
    let has_password = async || {
        sqlx::query_scalar::<_, bool>("SELECT password_sealed IS NOT NULL FROM virtuozo_core.hosts")
            .fetch_one(&site.db.pool)
            .await
            .unwrap()
    };
    site.done(&["host", "edit", "alpha", "--guest-threads", "3"]);
    assert!(has_password().await);
    for change in [
        &["--address", "https://evil:8333/sdk"][..],
        &["--user", "somebody"],
    ] {
        let edit = [&["host", "edit", "alpha"], change].concat();
        let said = site.done(&edit);
        assert!(said.contains("virtuozo host password alpha"), "{said}");
        assert!(!has_password().await);
        site.done(&["host", "password", "alpha", "--password-stdin"]);
        assert!(has_password().await);
        // Together with a new password there is nothing to say.
        let back = ["--address", "https://alpha:8333/sdk", "--password-stdin"];
        let said = site.done(&[&["host", "edit", "alpha"], &back[..]].concat());
        assert!(!said.contains("virtuozo host password"), "{said}");
        assert!(has_password().await);
    }
}

/// The simulator's library, which is built together with the program.
fn simulator() -> PathBuf {
    let beside = Path::new(env!("CARGO_BIN_EXE_virtuozo")).with_file_name("libvix.so");
    assert!(
        beside.exists(),
        "{} is missing: run `cargo build --workspace`",
        beside.display()
    );
    beside
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_tested_and_its_guests_are_found_and_judged() {
    let mut site = Site::new().await;
    site.library = simulator();
    let lab = Lab::create(site.dir.path().join("lab")).unwrap();
    let spec = HostSpec::new("alpha", Product::Server2);
    let host = lab.host(&spec).unwrap();
    let disk = || DiskSpec::new("scsi0:0", DiskKind::MonolithicSparse, 8 << 20);
    let broken = GuestSpec {
        broken: Some(Broken::TruncatedDisk),
        ..GuestSpec::new("scratch", vec![disk()])
    };
    for guest in [GuestSpec::new("mail", vec![disk()]), broken] {
        host.guest(&guest).unwrap();
    }
    let config_dir = host.config_dir.display().to_string();
    let add = [
        "host",
        "add",
        "alpha",
        "--kind",
        "server2",
        "--password-stdin",
    ];
    let place = [
        "--address",
        &host.url,
        "--user",
        &spec.user,
        "--config-dir",
        &config_dir,
    ];
    let typed = |password: &str, args: &[&str]| {
        let answer = site.typed(args, password);
        (answer.code, answer.out + &answer.err)
    };
    assert_eq!(
        typed(&spec.password, &[&add[..], &place].concat()).0,
        Some(0)
    );

    let tested = site.done(&["host", "test", "alpha", "--local"]);
    assert!(tested.contains("2 guests"), "{tested}");
    assert_eq!(
        site.done(&["guest", "list", "--json"]).trim(),
        "[]",
        "a test changes nothing"
    );

    let checked = site.done(&["host", "check", "--local", "--json"]);
    let checked: serde_json::Value = serde_json::from_str(&checked).unwrap();
    let states: Vec<_> = checked["guests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|guest| {
            (
                guest["name"].as_str().unwrap(),
                guest["state"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(states, [("mail", "ok"), ("scratch", "invalid")]);
    assert!(
        site.done(&["disk", "list", "--guest", "alpha/mail"])
            .contains("8.00 MiB")
    );
    assert!(site.done(&["host", "list"]).contains("ok"));

    assert_eq!(
        typed("wrong", &["host", "password", "alpha", "--password-stdin"]).0,
        Some(0)
    );
    let (code, said) = typed("", &["host", "check", "alpha", "--local"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("password"), "{said}");
    let shown = site.done(&["host", "show", "alpha"]);
    assert!(shown.contains("invalid"), "{shown}");
}
