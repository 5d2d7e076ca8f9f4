//! What every command is given: the global options, the output, the database, the connectors to hosts, and the
//! cancellation by signals.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context as _, Result};
use parking_lot::Mutex;
use secrecy::{ExposeSecret, SecretString};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use tracing::Level;
use url::Url;
use virtuozo_child_process::FileProcesses;
use virtuozo_disk::{MachineRoots, RestorePoints};
use virtuozo_hypervisor::{Connector, Connectors, vix::VixConnector};
use virtuozo_notices::CaFiles;
use virtuozo_postgres::server::Cluster;
use virtuozo_repository::{MARKER_NAME, POINT_FILES};
use virtuozo_runtime::{Health, LIMITS};
use virtuozo_telemetry::{Format, Telemetry};
use virtuozo_worker::Failpoints;

use crate::{
    configuration::{self, Configuration},
    error::{INTERRUPTED, NoDatabase, usage},
    options::GlobalOptions,
    output::Output,
    password,
};

/// What every command is given.
pub(crate) struct Context {
    pub(crate) global: GlobalOptions,
    /// All settings with their sources.
    pub(crate) configuration: Configuration,
    pub(crate) out: Output,
    /// Called by the workers of this process.
    pub(crate) failpoints: Arc<dyn Failpoints>,
    /// The processes that read and write files for it.
    pub(crate) files: FileProcesses,
    /// How this process stands.
    pub(crate) health: Health,
    /// Cancelled by SIGINT, SIGTERM and SIGHUP; `None` before [`Self::catch_signals`].
    caught: Mutex<Option<CancellationToken>>,
}

/// A connection to the database. The private cluster, if it is that, runs until this is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    pub(crate) pool: PgPool,
    cluster: Option<Arc<Cluster>>,
}

impl Database {
    /// A connection to a database that the options name, and not the private cluster.
    pub(crate) fn named(pool: PgPool) -> Self {
        Self {
            pool,
            cluster: None,
        }
    }

    /// The URL of the private cluster; `None` for a database that the options name.
    pub(crate) fn private_url(&self) -> Option<&str> {
        self.cluster.as_deref().map(Cluster::url)
    }
}

impl Context {
    pub(crate) fn new(
        global: GlobalOptions,
        configuration: Configuration,
        failpoints: Arc<dyn Failpoints>,
        is_service: bool,
    ) -> Self {
        let out = Output::new(global.json, is_service && global.log == Format::Json);
        Self {
            global,
            configuration,
            out,
            failpoints,
            // This path still starts this program after its file was replaced.
            files: FileProcesses::new("/proc/self/exe", ["file-process"]),
            health: Health::default(),
            caught: Mutex::new(None),
        }
    }

    /// Starts the log: from `info` on for a service, from `warn` on for another command, or as `--log-filter` says.
    pub(crate) fn start_logging(&self, service: bool) {
        let level = if service { Level::INFO } else { Level::WARN };
        let filter = self.global.log_filter.as_deref();
        virtuozo_telemetry::init(&self.global.log, level, filter);
    }

    /// The file with the key that seals host passwords.
    pub(crate) fn key_file(&self) -> PathBuf {
        let named = self.global.key_file.clone();
        named.unwrap_or_else(virtuozo_secrets::default_key_file)
    }

    /// The connection string of the database that the options name, with its password; `None` if they name none.
    ///
    /// # Errors
    /// The file with the password cannot be read, the URL holds a password too, or there is a file and no URL.
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

    /// The value of a setting, by its id, that no source gives and for which clap knows no default.
    pub(crate) fn default_of(&self, setting: &str) -> Option<String> {
        match setting {
            "data_dir" => Some(self.data_dir().display().to_string()),
            "key_file" => Some(self.key_file().display().to_string()),
            "name" => Some(machine_name()),
            "read_roots" | "write_roots" => Some(MachineRoots::default().to_string()),
            _ => None,
        }
    }

    /// The files of issuers that this machine reads.
    pub(crate) fn ca_files(&self) -> CaFiles {
        CaFiles::new(self.roots("read_roots", &self.global.read_roots))
    }

    /// The connectors to all kinds of host, for a command: nobody watches it.
    pub(crate) fn connectors(&self) -> Connectors {
        self.connectors_observed_by(&Telemetry::default())
    }

    /// The health of this process, whose metrics and spans nobody reads.
    pub(crate) fn unwatched(&self) -> Telemetry {
        Telemetry {
            health: self.health.clone(),
            ..Telemetry::default()
        }
    }

    /// The connectors to all kinds of host, for a service.
    pub(crate) fn connectors_observed_by(&self, telemetry: &Telemetry) -> Connectors {
        let roots = self.roots("read_roots", &self.global.read_roots);
        let vix = VixConnector::new(self.global.vix_library.clone())
            .reading_within(roots)
            .reading_by(self.files.clone())
            .observed_by(telemetry.metrics.meter(), telemetry.traces.tracer());
        Connectors::new([Arc::new(vix) as Arc<dyn Connector>])
    }

    /// The directories that a setting of this machine names, without what is the program's own.
    pub(crate) fn roots(&self, setting: &'static str, named: &[PathBuf]) -> MachineRoots {
        let mut own = vec![
            self.key_file(),
            self.cluster_dir(),
            self.global.hooks_dir.clone(),
        ];
        own.extend(self.global.database_password_file.clone());
        own.extend(self.global.config.clone());
        own.extend(configuration::default_files());
        let restore_points = RestorePoints {
            files: POINT_FILES.iter().copied().map(str::to_owned).collect(),
            marker: MARKER_NAME.to_owned(),
        };
        MachineRoots::new(setting, machine_name(), named.to_vec()).without(own, restore_points)
    }

    /// From now on SIGINT, SIGTERM and SIGHUP cancel the returned token instead of ending the process. A second signal
    /// ends it at once. Who was started to outlive its terminal (`nohup`) goes on ignoring SIGHUP.
    ///
    /// # Errors
    /// The system refuses to install the handlers.
    pub(crate) fn catch_signals(&self) -> Result<CancellationToken> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut caught = self.caught.lock();
        if let Some(stop) = &*caught {
            return Ok(stop.clone());
        }
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hang_up = match ignores_hang_up() {
            true => None,
            false => Some(signal(SignalKind::hangup())?),
        };
        let stop = caught.insert(CancellationToken::new()).clone();
        let cancelled = stop.clone();
        tokio::spawn(async move {
            for _ in 0..2 {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    Some(_) = async { hang_up.as_mut()?.recv().await } => {}
                }
                cancelled.cancel();
            }
            std::process::exit(INTERRUPTED.into());
        });
        Ok(stop)
    }

    /// The database with its schema up to date: the one that the options name, or the private one of the data
    /// directory if that runs.
    ///
    /// # Errors
    /// [`NoDatabase`], which says what to start or set; or the schema cannot be brought up to date.
    pub(crate) async fn database(&self) -> Result<Database> {
        let (url, cluster) = match self.database_url()? {
            Some(url) => (url, None),
            None => {
                let cluster = self.attach().await?;
                (cluster.url().to_owned(), Some(Arc::new(cluster)))
            }
        };
        let pool = virtuozo_postgres::connect_within(&url, &self.health, LIMITS.console.database)
            .await
            .map_err(|error| NoDatabase(error.to_string()))?;
        virtuozo_postgres::migrate(&pool).await?;
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

    /// The directory of everything that `virtuozo up` stores.
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

/// Whether this process was started with SIGHUP ignored.
fn ignores_hang_up() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| has_hang_up_ignored(&status))
}

fn has_hang_up_ignored(status: &str) -> bool {
    status.lines().any(|line| {
        let ignored = line.strip_prefix("SigIgn:");
        // A bit for each signal, from the lowest on; SIGHUP is the first.
        ignored.is_some_and(|bits| {
            u64::from_str_radix(bits.trim(), 16).is_ok_and(|bits| bits & 1 == 1)
        })
    })
}

/// The machine's host name.
pub(crate) fn machine_name() -> String {
    let system = rustix::system::uname();
    system.nodename().to_string_lossy().into_owned()
}

/// The name of the user who runs the command, also through `sudo`; `with uid N` where nothing names them.
pub(crate) fn user_name() -> String {
    ["SUDO_USER", "USER", "LOGNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|user| !user.is_empty()))
        .unwrap_or_else(|| format!("with uid {}", rustix::process::getuid().as_raw()))
}

/// The connection string with the password added.
///
/// # Errors
/// It is no URL, or holds a password. The error does not repeat any of it.
fn with_password(url: &str, password: &SecretString) -> Result<String> {
    let mut parsed =
        Url::parse(url).map_err(|error| usage(format!("the database URL is none: {error}")))?;
    if parsed.password().is_some() || parsed.query_pairs().any(|(key, _)| key == "password") {
        return Err(usage(
            "the database URL holds a password, and so does the password file: take one of them away",
        ));
    }
    // As a query parameter: a URL without a host (of a socket) cannot hold a password elsewhere.
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
    fn a_process_under_nohup_is_told_from_others() {
        for (ignored, is_hang_up) in [
            ("0000000000000001", true),
            ("0000000000001001", true),
            ("0000000000001000", false),
            ("0000000000000000", false),
        ] {
            let status =
                format!("Name:\tvirtuozo\nSigBlk:\t0000000000000001\nSigIgn:\t{ignored}\n");
            assert_eq!(has_hang_up_ignored(&status), is_hang_up, "{ignored}");
        }
        assert!(!has_hang_up_ignored(""));
    }

    #[test]
    fn a_password_of_any_characters_is_added_to_the_url_and_only_once() {
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
