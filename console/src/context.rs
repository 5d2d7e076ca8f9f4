//! What every command starts from: the options that all have, the way to the database and to hosts,
//! and Ctrl-C.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use tracing::Level;
use virtuozo_hypervisor::{Connector, Connectors, vix::VixConnector};
use virtuozo_postgres::{self as db, server::Cluster};
use virtuozo_secrets as secrets;
use virtuozo_telemetry as telemetry;
use virtuozo_worker::Failpoints;

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::{
    cli::Global,
    configuration::Configuration,
    error::{INTERRUPTED, NoDatabase, usage},
    output::Output,
    password,
};

/// How long a command waits for a database that does not answer.
const DATABASE_LIMIT: Duration = Duration::from_secs(10);

/// The options all commands have, and where results go.
pub(crate) struct Context {
    pub(crate) global: Global,
    /// Where those options come from.
    pub(crate) configuration: Configuration,
    pub(crate) out: Output,
    /// What disturbs the workers of this process.
    pub(crate) failpoints: Arc<dyn Failpoints>,
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
    pub(crate) fn new(
        global: Global,
        configuration: Configuration,
        failpoints: Arc<dyn Failpoints>,
    ) -> Self {
        let out = Output::new(global.json);
        Self {
            global,
            configuration,
            out,
            failpoints,
            caught: Mutex::new(None),
        }
    }

    /// Begins to log: from `info` on for services, from `warn` on for commands;
    /// `--log-filter` changes both.
    pub(crate) fn start_logging(&self, service: bool) {
        let level = if service { Level::INFO } else { Level::WARN };
        let filter = self.global.log_filter.as_deref();
        telemetry::init(&self.global.log, level, filter);
    }

    /// The file with the key that seals host passwords.
    pub(crate) fn key_file(&self) -> PathBuf {
        let named = self.global.key_file.clone();
        named.unwrap_or_else(secrets::default_key_file)
    }

    /// The connection string of the database that was named, with its password.
    ///
    /// # Errors
    /// If the file with the password cannot be read, or there are two passwords.
    pub(crate) fn database_url(&self) -> Result<Option<String>> {
        let named = self.global.database_url.as_deref();
        let Some(file) = &self.global.database_password_file else {
            return Ok(named.map(str::to_owned));
        };
        let Some(url) = named else {
            return Err(usage(format!(
                "{} holds the password of a database, but none is named: give --database-url too",
                file.display()
            )));
        };
        with_password(url, &password::in_file(file)?).map(Some)
    }

    /// What holds where nobody says anything and clap knows no default.
    pub(crate) fn default_of(&self, setting: &str) -> Option<String> {
        match setting {
            "data_dir" => Some(self.data_dir().display().to_string()),
            "key_file" => Some(self.key_file().display().to_string()),
            "name" => Some(machine_name()),
            _ => None,
        }
    }

    /// The ways to hosts.
    pub(crate) fn connectors(&self) -> Connectors {
        let vix = VixConnector::new(self.global.vix_library.clone());
        Connectors::new([Arc::new(vix) as Arc<dyn Connector>])
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
        let (url, cluster) = match self.database_url()? {
            Some(url) => (url, None),
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

/// What this machine calls itself.
pub(crate) fn machine_name() -> String {
    let system = rustix::system::uname();
    system.nodename().to_string_lossy().into_owned()
}

/// A connection string with a password that it does not hold yet.
fn with_password(url: &str, password: &SecretString) -> Result<String> {
    // It may hold a password: not a word of it.
    let mut parsed =
        Url::parse(url).map_err(|error| usage(format!("the database URL is none: {error}")))?;
    if parsed.password().is_some() || parsed.query_pairs().any(|(key, _)| key == "password") {
        return Err(usage(
            "the database URL holds a password, and so does the password file: take one of them away",
        ));
    }
    // As a parameter, since that also goes where the URL names a socket and no host.
    parsed
        .query_pairs_mut()
        .append_pair("password", password.expose_secret());
    Ok(parsed.into())
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use sqlx::postgres::PgConnectOptions;

    use super::*;

    #[test]
    fn a_password_of_any_signs_gets_into_the_url_and_only_once() {
        let password = SecretString::from("p:w@/?&=% +ü");
        for url in [
            "postgres://virtuozo@db:5432/virtuozo",
            "postgres:///virtuozo?host=/run/postgresql&user=virtuozo",
        ] {
            let whole = with_password(url, &password).unwrap();
            let mut expected = PgConnectOptions::from_str(url).unwrap();
            expected = expected.password(password.expose_secret());
            let found = PgConnectOptions::from_str(&whole).unwrap();
            assert_eq!(format!("{found:?}"), format!("{expected:?}"));
            assert!(with_password(&whole, &password).is_err());
        }
        let error = with_password("postgres://u:s3cret@db/v", &password).unwrap_err();
        assert!(!error.to_string().contains("s3cret"));
        assert!(with_password("s3cret", &password).is_err());
    }
}
