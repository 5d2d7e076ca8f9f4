//! What every command starts from: the options that all have, the way to the database and to hosts,
//! and Ctrl-C.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use hypervisor::{Connector, vix::VixConnector};
use shared::{db, pg::Cluster, secrets, telemetry};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use tracing::Level;

use crate::{
    cli::Global,
    error::{INTERRUPTED, NoDatabase},
    output::Output,
};

/// How long a command waits for a database that does not answer.
const DATABASE_LIMIT: Duration = Duration::from_secs(10);

/// The options all commands have, and where results go.
pub(crate) struct Context {
    pub(crate) global: Global,
    pub(crate) out: Output,
    /// Cancelled by Ctrl-C and SIGTERM, once they are caught.
    caught: Mutex<Option<CancellationToken>>,
}

/// A connection to the database. Keeps a private cluster running as long as it lives.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    pub(crate) pool: PgPool,
    cluster: Option<Arc<Cluster>>,
}

impl Database {
    /// One that was named; nothing has to be kept running.
    pub(crate) fn named(pool: PgPool) -> Self {
        Self {
            pool,
            cluster: None,
        }
    }

    /// How to reach the private cluster; none for a database that was named.
    pub(crate) fn private_url(&self) -> Option<&str> {
        self.cluster.as_deref().map(Cluster::url)
    }
}

impl Context {
    pub(crate) fn new(global: Global) -> Self {
        let out = Output::new(global.json);
        Self {
            global,
            out,
            caught: Mutex::new(None),
        }
    }

    /// Sends log lines to stderr: from `info` on for services, from `warn` on for commands;
    /// `RUST_LOG` changes both.
    pub(crate) fn start_logging(&self, service: bool) {
        let level = if service { Level::INFO } else { Level::WARN };
        telemetry::init(self.global.log.into(), level);
    }

    /// The file with the key that seals host passwords.
    pub(crate) fn key_file(&self) -> PathBuf {
        let named = self.global.key_file.clone();
        named.unwrap_or_else(secrets::default_key_file)
    }

    /// The way to hosts.
    pub(crate) fn connector(&self) -> Arc<dyn Connector> {
        Arc::new(VixConnector::new(self.global.vix_library.clone()))
    }

    /// From now on Ctrl-C and SIGTERM do not end the process: they cancel the token, and whoever
    /// waits for it ends in order. A second one ends the process at once.
    ///
    /// # Errors
    /// If the system refuses to deliver signals.
    pub(crate) fn catch_signals(&self) -> Result<CancellationToken> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut caught = self.caught.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stop) = &*caught {
            return Ok(stop.clone());
        }
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let stop = caught.insert(CancellationToken::new()).clone();
        let told = stop.clone();
        tokio::spawn(async move {
            for _ in 0..2 {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                told.cancel();
            }
            std::process::exit(INTERRUPTED.into());
        });
        Ok(stop)
    }

    /// The database, migrated: the one that was named, or the private one of the data directory if
    /// it runs.
    ///
    /// # Errors
    /// [`NoDatabase`] with what to start or set.
    pub(crate) async fn database(&self) -> Result<Database> {
        let (url, cluster) = match &self.global.database_url {
            Some(url) => (url.clone(), None),
            None => {
                let cluster = self.attach().await?;
                (cluster.url().to_owned(), Some(Arc::new(cluster)))
            }
        };
        let pool = db::connect_within(&url, DATABASE_LIMIT)
            .await
            .map_err(|error| NoDatabase(error.to_string()))?;
        db::migrate(&pool).await?;
        Ok(Database { pool, cluster })
    }

    async fn attach(&self) -> Result<Cluster> {
        let dir = self.cluster_dir();
        let place = dir.display().to_string();
        let cluster = tokio::task::spawn_blocking(move || Cluster::attach(&dir))
            .await?
            .context("the private database cannot be used")?;
        cluster.ok_or_else(|| {
            NoDatabase(format!(
                "no database: none was named, and no private one runs in {place}. Start `virtuozo up` \
                 (with the same --data-dir), or name one with --database-url or DATABASE_URL"
            ))
            .into()
        })
    }

    /// The directory of the private database.
    pub(crate) fn cluster_dir(&self) -> PathBuf {
        self.data_dir().join("postgres")
    }

    /// The directory of all that `virtuozo up` keeps.
    fn data_dir(&self) -> PathBuf {
        if let Some(dir) = &self.global.data_dir {
            return dir.clone();
        }
        if rustix::process::geteuid().is_root() {
            return PathBuf::from("/var/lib/virtuozo");
        }
        let state = std::env::var_os("XDG_STATE_HOME")
            .map(PathBuf::from)
            .filter(|dir| dir.is_absolute())
            .or_else(|| std::env::home_dir().map(|home| home.join(".local/state")));
        state
            .unwrap_or_else(|| PathBuf::from("/var/lib"))
            .join("virtuozo")
    }
}
