//! A Postgres server of a test's own, which can be stopped as a crash would stop it, and started again; and
//! a pair of them, of which one follows the other.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;
use virtuozo_postgres::server::Cluster;

use crate::eventually;

/// The machine stays up, so what the server has handed to the kernel is there after its crash.
const NO_SYNC: &str = "fsync=off";

/// A server that goes away with this value.
pub(crate) struct Server {
    cluster: Option<Cluster>,
    dir: PathBuf,
    settings: Vec<String>,
    url: String,
}

impl Server {
    /// Makes and starts one in `dir`.
    pub(crate) fn start(dir: PathBuf, settings: &[&str]) -> Result<Self> {
        let mut server = Self {
            cluster: None,
            dir,
            settings: settings.iter().map(|&one| one.to_owned()).collect(),
            url: String::new(),
        };
        server.settings.push(NO_SYNC.to_owned());
        server.start_again()?;
        Ok(server)
    }

    /// The connection string.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Ends it without a farewell to anybody: what was not committed is lost, and the next start has to
    /// recover. It is what `pg_ctl stop -m immediate` does.
    pub(crate) async fn crash(&self) -> Result<()> {
        let pid_file = self.dir.join("data/postmaster.pid");
        let text = fs::read_to_string(&pid_file)?;
        let pid = text.lines().next().context("no process id")?;
        let killed = Command::new("kill").args(["-QUIT", pid.trim()]).status()?;
        ensure!(killed.success(), "the server cannot be signalled");
        eventually("the server to be gone", async || {
            Ok((!pid_file.exists()).then_some(()))
        })
        .await
    }

    /// Starts it after a crash.
    pub(crate) fn start_again(&mut self) -> Result<()> {
        let settings: Vec<&str> = self.settings.iter().map(String::as_str).collect();
        let cluster = Cluster::start_with(&self.dir, &settings)?;
        self.url = cluster.url().to_owned();
        self.cluster = Some(cluster);
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(cluster) = self.cluster.take() {
            let _ = cluster.stop();
        }
    }
}

/// A directory that the server's user can enter, also when the tests run as root.
pub(crate) fn place() -> Result<TempDir> {
    let place = tempfile::tempdir()?;
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755))?;
    Ok(place)
}

/// A server, and a standby that has everything before its commit is answered.
pub(crate) struct Pair {
    pub(crate) primary: Server,
    pub(crate) standby: Server,
}

impl Pair {
    /// Starts both below `place`.
    pub(crate) async fn start(place: &Path) -> Result<Self> {
        let (first, second) = (place.join("primary"), place.join("standby"));
        ensure!(Cluster::start(&first)?.stop()?, "the server did not stop");
        // A copy of a server that is stopped is a base backup.
        let copied = Command::new("cp")
            .arg("-a")
            .args([&first, &second])
            .status()?;
        ensure!(copied.success(), "the server's files cannot be copied");
        let owner = second.metadata()?;
        let signal = second.join("data/standby.signal");
        fs::write(&signal, "")?;
        chown(&signal, Some(owner.uid()), Some(owner.gid()))?;

        let primary = Server::start(first, &["synchronous_standby_names=*"])?;
        let socket = place.join("primary/run");
        let source = format!("primary_conninfo=host={} user=virtuozo", socket.display());
        let standby = Server::start(second, &[&source])?;
        let mut connection = PgConnection::connect(primary.url()).await?;
        eventually("the standby to follow", async || {
            let follows = sqlx::query_scalar::<_, i64>(
                "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'",
            );
            Ok((follows.fetch_one(&mut connection).await? == 1).then_some(()))
        })
        .await?;
        connection.close().await?;
        Ok(Self { primary, standby })
    }

    /// Makes the standby the primary.
    pub(crate) async fn promote(&self) -> Result<()> {
        let mut connection = PgConnection::connect(self.standby.url()).await?;
        let promoted: bool = sqlx::query_scalar("SELECT pg_promote()")
            .fetch_one(&mut connection)
            .await?;
        ensure!(promoted, "the standby was not promoted in time");
        Ok(connection.close().await?)
    }
}
