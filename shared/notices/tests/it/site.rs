//! A site that tells by mail and webhook, and what its tests wait for.

use std::{future::Future, path::PathBuf, time::Duration};

use serde_json::Value;
use sqlx::{AssertSqlSafe, PgPool};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use virtuozo_model::{Notice, NoticeChannel, NoticeKind, NoticeState};
use virtuozo_notices::{CaFiles, Notices};
use virtuozo_postgres::testing::TestDb;
use virtuozo_secrets::Key;
use virtuozo_store::notices::{
    self,
    config::{self, Secret},
};
use virtuozo_telemetry::Telemetry;

use crate::servers::Certificates;

pub(crate) struct Site {
    pub(crate) db: TestDb,
    pub(crate) dir: TempDir,
    pub(crate) certificates: Certificates,
}

impl Site {
    /// A site without any way of telling.
    pub(crate) async fn new() -> Self {
        let site = Self {
            db: TestDb::new().await,
            dir: TempDir::new().unwrap(),
            certificates: Certificates::new(),
        };
        site.set("group_secs", "0").await;
        site
    }

    pub(crate) fn pool(&self) -> &PgPool {
        &self.db.pool
    }

    pub(crate) fn key_file(&self) -> PathBuf {
        self.dir.path().join("key")
    }

    pub(crate) fn notices(&self) -> Notices {
        let ca_files = CaFiles::default();
        Notices::new(
            self.pool().clone(),
            Telemetry::default(),
            self.key_file(),
            ca_files,
        )
    }

    /// Stores a secret for the server and user that are set.
    pub(crate) async fn secret(&self, secret: Secret, text: &str) {
        let key = Key::load_or_create(&self.key_file()).unwrap();
        let place = secret.place(&config::get(self.pool()).await.unwrap());
        let sealed = key.seal(place.opens(), &text.to_owned().into()).unwrap();
        config::set_sealed(self.pool(), secret, Some(&sealed))
            .await
            .unwrap();
    }

    pub(crate) async fn set(&self, name: &str, value: &str) {
        config::set(self.pool(), &[(name, value)]).await.unwrap();
    }

    /// Mail goes to this port, protected so.
    pub(crate) async fn mail_by(&self, port: u16, security: &str) {
        let ca = self.certificates.ca();
        config::set(
            self.pool(),
            &[
                ("mail_host", "localhost"),
                ("mail_port", &port.to_string()),
                ("mail_security", security),
                ("mail_user", "backup"),
                ("mail_from", "backup@example.org"),
                ("mail_to", "anna@example.org, bert@example.org"),
                ("ca_file", &ca),
            ],
        )
        .await
        .unwrap();
        self.secret(Secret::MailPassword, "correct horse").await;
    }

    /// Notices are posted there, signed.
    pub(crate) async fn webhook_at(&self, url: &str) {
        self.set("webhook_url", url).await;
        self.secret(Secret::WebhookSecret, "battery staple").await;
    }

    /// What a test by mail says; none: it has arrived.
    pub(crate) async fn test(&self, channel: NoticeChannel) -> Option<String> {
        self.notices().test(channel).await.unwrap()
    }

    pub(crate) async fn execute(&self, sql: impl Into<String>) {
        sqlx::raw_sql(AssertSqlSafe(sql.into()))
            .execute(self.pool())
            .await
            .unwrap();
    }

    /// A run that has failed for the guest `guest` of host `alpha`, and its notices.
    pub(crate) async fn failed_run(&self, guest: &str) -> Uuid {
        let id = Uuid::now_v7();
        self.execute(format!(
            "INSERT INTO virtuozo_core.runs (id, requested_by, state, error, created_at, ended_at)
             VALUES ('{id}', 'schedule nightly', 'failed', '1 of 1 guests and 0 of 1 hosts failed', now() - interval '90 seconds', now());
             INSERT INTO virtuozo_core.hosts (id, name, kind) VALUES (md5('alpha')::uuid, 'alpha', 'esxi') ON CONFLICT DO NOTHING;
             INSERT INTO virtuozo_core.guests (id, host_id, locator, name)
             VALUES (md5($${guest}$$)::uuid, md5('alpha')::uuid, md5($${guest}$$), $${guest}$$) ON CONFLICT DO NOTHING;
             INSERT INTO virtuozo_core.host_runs (id, run_id, host_id, state, ended_at)
             VALUES ('{id}', '{id}', md5('alpha')::uuid, 'succeeded', now());
             INSERT INTO virtuozo_core.guest_runs
                    (id, run_id, host_run_id, host_id, guest_id, state, mode, attempts, error, error_class, started_at, ended_at)
             VALUES ('{id}', '{id}', '{id}', md5('alpha')::uuid, md5($${guest}$$)::uuid, 'failed', 'hot', 3,
                     'the disk scsi0:0 is broken: mend it', 'operator', now() - interval '80 seconds', now());"
        ))
        .await;
        let mut tx = self.pool().begin().await.unwrap();
        notices::of_run(&mut tx, id, NoticeKind::Failure)
            .await
            .unwrap();
        tx.commit().await.unwrap();
        id
    }

    pub(crate) async fn all(&self) -> Vec<Notice> {
        notices::list(self.pool(), false, 100).await.unwrap()
    }

    /// Waits until all notices have come to their end, and returns how those ended that were sent.
    pub(crate) async fn ended(&self) -> Vec<Notice> {
        until("all notices to end", || async {
            let all = self.all().await;
            all.iter().all(|one| one.ended_at.is_some()).then_some(all)
        })
        .await
        .into_iter()
        .filter(|one| one.state != NoticeState::Folded)
        .collect()
    }

    /// Waits until an attempt has failed.
    pub(crate) async fn failed_attempt(&self) -> Notice {
        until("an attempt to fail", || async {
            let failed = |one: &Notice| one.last_error.is_some();
            self.all().await.into_iter().find(failed)
        })
        .await
    }

    /// Senders of what is queued, as schedulers have them.
    pub(crate) fn senders(&self, count: usize) -> Running {
        let stop = CancellationToken::new();
        let tasks = (0..count)
            .map(|_| tokio::spawn(self.notices().serve(stop.clone())))
            .collect();
        Running { stop, tasks }
    }
}

pub(crate) struct Running {
    stop: CancellationToken,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Running {
    pub(crate) async fn stopped(self) {
        self.stop.cancel();
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}

pub(crate) async fn until<T, F, Fut>(what: &str, mut look: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let deadline = tokio::time::Instant::now() + Duration::from_secs(90);
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "waited in vain for {what}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) fn header<'a>(mail: &'a Value, name: &str) -> Vec<&'a str> {
    let headers = mail["headers"].as_array().unwrap();
    headers
        .iter()
        .filter(|pair| pair[0].as_str().unwrap().eq_ignore_ascii_case(name))
        .map(|pair| pair[1].as_str().unwrap())
        .collect()
}
