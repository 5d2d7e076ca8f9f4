//! No secret leaves the place where it belongs: all that a site says while it works and fails, on every way there
//! is and as loud as can be, is searched for every secret that it was given.

mod forms;
mod sink;

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use sqlx::{AssertSqlSafe, PgPool};
use tests::{Background, Endpoint, Journal, Site, eventually, small_guest};
use virtuozo_postgres::testing::TestDb;
use vix::lab::{HostSpec, Product};

use self::{forms::Secret, sink::Sink};
use crate::servers::{Certificates, Server};

/// The database user of this test, in the server that all tests share.
const DATABASE_USER: &str = "virtuozo_secrets_test";

/// Signs that each encoding writes in another way.
const HOST: Secret = Secret::new("the host's password", "hO5t/q&7@x%k \"2+");
const WRONG: Secret = Secret::new("a wrong password", "wR0ng/z&8@y%m '3=");
const MAIL: Secret = Secret::new("the mail server's password", "mA1l/u&6@v%n 4+~");
const WEBHOOK: Secret = Secret::new("the webhook's secret", "hO0k/t&5@w%p 5=!");
const PASSPHRASE: Secret = Secret::new("the export's passphrase", "pA55/s&4@u%r 6+phrase");
const DATABASE: Secret = Secret::new("the database's password", "dA7a/r&3@t%s_7+");
const TOKEN: Secret = Secret::new("the collector's token", "tOk3n.q2s.t8XvBn4");

/// All that was said, and where.
#[derive(Default)]
struct Said(Vec<(String, String)>);

impl Said {
    fn add(&mut self, place: impl Into<String>, what: impl AsRef<[u8]>) {
        let what = String::from_utf8_lossy(what.as_ref()).into_owned();
        self.0.push((place.into(), what));
    }

    /// Runs a command as loud as can be and keeps what it says, whether it succeeds or not.
    fn by(&mut self, site: &Site, args: &[&str], stdin: &str) -> Result<()> {
        let args = [&["--log-filter", "trace"], args].concat();
        let answer = site.virtuozo_with(&args, stdin)?;
        ensure!(answer.code <= 4, "{args:?}: {answer:?}");
        self.add(
            format!("virtuozo {}", args.join(" ")),
            answer.stdout + &answer.stderr,
        );
        Ok(())
    }

    /// Insists that a way was in use: a search in nothing finds nothing.
    fn holds(&self, place: &str, what: &str) -> Result<()> {
        let mut of_place = self.0.iter().filter(|(at, _)| at.starts_with(place));
        let found = of_place.any(|(_, content)| content.contains(what));
        ensure!(
            found,
            "{what:?} is nowhere in {place:?}: the way is not in use"
        );
        Ok(())
    }
}

/// The address of an empty database for a user with a password.
async fn database(db: &TestDb) -> Result<String> {
    let statements = [
        format!(
            "DO $$ BEGIN CREATE ROLE {DATABASE_USER} SUPERUSER LOGIN;
               EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
        ),
        format!("ALTER ROLE {DATABASE_USER} PASSWORD '{}'", DATABASE.text),
    ];
    for statement in statements {
        sqlx::query(AssertSqlSafe(statement))
            .execute(&db.pool)
            .await?;
    }
    let login = format!("//{DATABASE_USER}:{}@", DATABASE.percent());
    let url = db.url().replacen("//virtuozo@", &login, 1);
    ensure!(
        url.contains(&login),
        "the address is of another form: {}",
        db.url()
    );
    Ok(url)
}

fn add_host(
    said: &mut Said,
    site: &Site,
    spec: &HostSpec,
    password: &str,
) -> Result<vix::lab::LabHost> {
    let host = site.lab.host(spec)?;
    let config_dir = host.config_dir.display().to_string();
    #[rustfmt::skip]
    let args = [
        "host", "add", &spec.name, "--kind", "workstation_shared", "--address", &host.url,
        "--user", &spec.user, "--config-dir", &config_dir, "--password-stdin",
    ];
    said.by(site, &args, password)?;
    Ok(host)
}

fn set_notices(said: &mut Said, site: &Site, mail: &Server, hook: &Server, ca: &str) -> Result<()> {
    for (name, value) in [
        ("mail_host", "localhost"),
        ("mail_port", &mail.port.to_string()),
        ("mail_user", "backup"),
        ("mail_from", "backup@example.org"),
        ("mail_to", "anna@example.org"),
        ("webhook_url", &format!("http://127.0.0.1:{}/", hook.port)),
        ("ca_file", ca),
        ("group_secs", "1"),
    ] {
        said.by(site, &["notice", "settings", "set", name, value], "")?;
    }
    for (way, secret) in [("mail", MAIL), ("webhook", WEBHOOK)] {
        said.by(
            site,
            &["notice", "secret", way, "--password-stdin"],
            secret.text,
        )?;
    }
    Ok(())
}

/// A scheduler or worker that tells all it can to all who listen.
fn start(site: &Site, what: &str, journal: &Journal, sink: &Sink) -> Result<Background> {
    let mut event_log = OsString::from("journald:");
    event_log.push(journal.path());
    let headers = format!("authorization=Bearer {}", TOKEN.text);
    let env = [
        ("VIRTUOZO_EVENT_LOG", Path::new(&event_log)),
        ("VIRTUOZO_LISTEN", Path::new("127.0.0.1:0")),
        ("RUST_LOG", Path::new("trace")),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", Path::new(sink.endpoint())),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", Path::new("http/protobuf")),
        ("OTEL_EXPORTER_OTLP_HEADERS", Path::new(&headers)),
    ];
    site.spawn(what, &[what], &env)
}

/// What every command says that shows or tests something.
fn ask(said: &mut Said, site: &Site, passphrase: &Path) -> Result<()> {
    let passphrase = passphrase.display().to_string();
    let export = site.path("site.toml").display().to_string();
    let away = format!(
        "postgres://{DATABASE_USER}:{}@127.0.0.1:1/none",
        DATABASE.percent()
    );
    let broken = format!(
        "postgres://{DATABASE_USER}:{}@127.0.0.1:none/none",
        DATABASE.percent()
    );
    #[rustfmt::skip]
    let all: [&[&str]; 21] = [
        &["events", "--limit", "999"], &["events", "--json"],
        &["run", "list", "--json"], &["run", "show", "latest"], &["run", "show", "latest", "--json"],
        &["config", "show"], &["config", "show", "--json"],
        &["host", "list", "--json"], &["host", "test", "alpha"], &["host", "test", "beta", "--local"], &["host", "check", "beta"],
        &["guest", "list", "--json"], &["status", "--json"], &["settings", "get", "--json"], &["doctor", "--json"],
        &["notice", "list", "--json"], &["notice", "settings", "get", "--json"], &["notice", "test"],
        &["export", "--out", &export, "--passphrase-file", &passphrase],
        &["--database-url", &away, "events"], &["--database-url", &broken, "events"],
    ];
    for args in all {
        said.by(site, args, "")?;
    }
    said.by(
        site,
        &[
            "import",
            &export,
            "--dry-run",
            "--passphrase-file",
            &passphrase,
        ],
        "",
    )?;
    let wrong = site.path("wrong-passphrase").display().to_string();
    fs::write(&wrong, WRONG.text)?;
    said.by(site, &["import", &export, "--passphrase-file", &wrong], "")?;
    said.add("the exported file", fs::read(&export)?);
    Ok(())
}

/// Debian's program of the newest version, or that of `PATH`.
fn pg_dump(url: &str) -> Result<Vec<u8>> {
    let versions = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let newest = versions
        .filter_map(|dir| Some((dir.file_name().to_str()?.parse::<u32>().ok()?, dir.path())))
        .max();
    let program = newest
        .map(|(_, dir)| dir.join("bin/pg_dump"))
        .filter(|program| program.exists())
        .unwrap_or_else(|| PathBuf::from("pg_dump"));
    let output = Command::new(&program).arg(url).output().with_context(|| {
        format!(
            "{}: scripts/needs.sh postgres installs it",
            program.display()
        )
    })?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output.stdout)
}

/// The small files of the repository: descriptions, hashes, journals.
fn repository(said: &mut Said, site: &Site) -> Result<()> {
    let mut folders = vec![site.repository()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if entry.metadata()?.len() < 1 << 20 {
                said.add("the repository", fs::read(entry.path())?);
            }
        }
    }
    Ok(())
}

async fn notices_sent(pool: &PgPool) -> Result<()> {
    eventually("mail and webhook to be sent", async || {
        let sql = "SELECT count(DISTINCT channel) FROM virtuozo.notices WHERE state = 'sent'";
        let ways: i64 = sqlx::query_scalar(sql).fetch_one(pool).await?;
        Ok((ways == 2).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_anything_that_a_site_says_however_loud() -> Result<()> {
    let db = TestDb::empty().await;
    let site = Site::at(&database(&db).await?).await?;
    let mut said = Said::default();
    let certificates = Certificates::new();
    let mail = Server::mail(&certificates, "starttls", json!({ "password": MAIL.text }));
    let hook = Server::webhook(json!({ "secret": WEBHOOK.text }));
    set_notices(&mut said, &site, &mail, &hook, &certificates.ca())?;
    let mut spec = HostSpec::new("alpha", Product::WorkstationShared);
    spec.password = HOST.text.to_owned();
    small_guest(&add_host(&mut said, &site, &spec, HOST.text)?, "mailguest")?;
    spec.name = "beta".to_owned();
    small_guest(&add_host(&mut said, &site, &spec, WRONG.text)?, "webguest")?;
    let key = fs::read_to_string(site.path("key"))?;
    let passphrase = site.path("passphrase");
    fs::write(&passphrase, PASSPHRASE.text)?;

    let mut journal = Journal::listen(site.path("journal"))?;
    let sink = Sink::start().await?;
    let mut processes = vec![
        ("scheduler", start(&site, "scheduler", &journal, &sink)?),
        ("worker", start(&site, "worker", &journal, &sink)?),
    ];
    Journal::looked_after(site.pool()).await?;
    let run = site.back_up().await?;
    ensure!(run["state"] == "failed", "{run:#}");
    let of_alpha = run["guest_runs"].as_array().into_iter().flatten();
    let states: Vec<_> = of_alpha.map(|guest| &guest["state"]).collect();
    ensure!(states == ["succeeded"], "{run:#}");
    // Its socket holds a few entries only until they are read.
    journal.heard();
    notices_sent(site.pool()).await?;
    journal.heard();
    ask(&mut said, &site, &passphrase)?;
    journal.heard();
    for (name, process) in &processes {
        let metrics = Endpoint::of(process).await?.get("/metrics").await?;
        said.add(format!("/metrics of the {name}"), format!("{metrics:?}"));
    }
    for (name, process) in &mut processes {
        process.terminate()?;
        said.add(format!("the log of the {name}"), process.said());
    }
    said.add("the dump of the database", pg_dump(site.url())?);
    repository(&mut said, &site)?;
    for entry in journal.heard() {
        said.add("the log of the machine", entry.clone());
    }
    for body in sink.received() {
        said.add("traces and metrics", body);
    }
    for (place, server) in [("a mail", &mail), ("a webhook", &hook)] {
        for message in server.received_by_now() {
            said.add(place, message.to_string());
        }
    }

    for (place, what) in [
        ("virtuozo --log-filter trace events", "mailguest"),
        (
            "virtuozo --log-filter trace config show --json",
            DATABASE_USER,
        ),
        ("virtuozo --log-filter trace host test beta --local", "beta"),
        ("the exported file", "mailguest"),
        ("/metrics of the scheduler", "virtuozo_"),
        ("the log of the scheduler", "TRACE"),
        ("the log of the worker", "TRACE"),
        ("the dump of the database", "mailguest"),
        ("the repository", "mailguest"),
        ("the log of the machine", "VIRTUOZO_GUEST=mailguest"),
        ("traces and metrics", "mailguest"),
        ("a mail", "mailguest"),
        ("a webhook", "mailguest"),
    ] {
        said.holds(place, what)?;
    }
    let key = Secret::new("the key file", key.trim());
    let secrets = [HOST, WRONG, MAIL, WEBHOOK, PASSPHRASE, DATABASE, TOKEN, key];
    let mut leaks = Vec::new();
    for secret in &secrets {
        for form in secret.forms() {
            for (place, content) in &said.0 {
                let leak = form.in_context(content);
                leaks.extend(leak.map(|leak| format!("{} in {place}: {leak}", secret.name)));
            }
        }
    }
    leaks.dedup();
    ensure!(
        leaks.is_empty(),
        "{} leaks:\n{}",
        leaks.len(),
        leaks.join("\n")
    );
    Ok(())
}
