//! A private Postgres cluster: started where no database is given, shared by every process that
//! needs it, and stopped when the last of them is gone, however it went.
//!
//! Who uses a cluster holds a shared lock on its `users.lock`; the kernel takes that lock away when
//! the process ends, cleanly or not. Each user starts a guard, a shell that waits for the exclusive
//! lock and then stops the server. So neither Ctrl-C nor `kill -9` leaves a server behind, and a
//! process that comes while others use the cluster only attaches. There is no TCP port and no
//! password: the socket stands in a directory that only its owner (and root) can enter.

mod launch;
mod programs;

use std::{
    fs::File,
    io,
    os::unix::{fs::MetadataExt, net::UnixStream},
    path::{Path, PathBuf},
    time::Instant,
};

use programs::{Account, Programs};
use virtuozo_runtime::LIMITS;

/// The socket that Postgres makes for its default port.
const SOCKET_NAME: &str = ".s.PGSQL.5432";
/// The longest path of a socket on Linux (`sun_path`, without the closing NUL).
const SOCKET_PATH_MAX: usize = 107;

/// A private cluster could not be used.
#[derive(Debug, thiserror::Error)]
pub enum PgError {
    /// Programs are missing or too old.
    #[error("{0}")]
    Programs(String),
    /// The directory cannot hold a cluster; the text says why and what to choose.
    #[error("{0}")]
    Directory(String),
    /// A file or program could not be used.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A program of Postgres failed.
    #[error("{program} failed for the cluster in {} (its log is below, in log): {output}", dir.display())]
    Failed {
        /// Which program.
        program: &'static str,
        /// Directory of the cluster.
        dir: PathBuf,
        /// The end of what it wrote.
        output: String,
    },
    /// Another process holds the cluster's lock for too long.
    #[error("another process has been starting or stopping the cluster in {} for {} seconds", .0.display(), LIMITS.private_server.lock.as_secs())]
    Busy(PathBuf),
}

/// A running private cluster, kept running at least as long as this value lives.
#[derive(Debug)]
pub struct Cluster {
    dir: PathBuf,
    url: String,
    programs: Programs,
    account: Account,
    /// The shared lock.
    users: FileLock,
    /// None where this process only attached.
    guard: Option<launch::Guard>,
}

impl Cluster {
    /// Starts the cluster in `dir`, creating it where there is none, or attaches to it if it runs
    /// already. Blocks: up to a second for a new cluster, longer only after a crash of the machine.
    ///
    /// Started by root, the server runs as `postgres` or `nobody`, who must be able to enter `dir`.
    ///
    /// # Errors
    /// If programs are missing, `dir` is not usable, or the server does not start.
    pub fn start(dir: &Path) -> Result<Self, PgError> {
        Self::start_with(dir, &[])
    }

    /// Like [`Self::start`], with settings of Postgres (`"name=value"`) for a server that is not
    /// running yet.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(dir: &Path, settings: &[&str]) -> Result<Self, PgError> {
        let (dir, account) = launch::prepare(dir)?;
        let programs = Programs::find(&dir.join("data"))?;
        let starting = lock(&dir, "start.lock", File::try_lock)?;
        let users = lock(&dir, "users.lock", File::try_lock_shared)?;
        let mut cluster = Self {
            url: url(&dir),
            dir,
            programs,
            account,
            users,
            guard: None,
        };
        // Before the server: if this process dies in between, the guard stops what there is.
        cluster.guard = Some(launch::Guard::start(&cluster)?);
        if !answers(&cluster.dir) {
            launch::server(&cluster, settings)?;
        }
        drop(starting);
        Ok(cluster)
    }

    /// Attaches to the cluster in `dir` if it runs; never starts it.
    ///
    /// # Errors
    /// If the directory is there but cannot be used by this user.
    pub fn attach(dir: &Path) -> Result<Option<Self>, PgError> {
        let Ok(dir) = dir.canonicalize() else {
            return Ok(None);
        };
        if !answers(&dir) {
            return Ok(None);
        }
        let account = Account::of(&dir)?;
        let programs = Programs::find(&dir.join("data"))?;
        let users = lock(&dir, "users.lock", File::try_lock_shared)?;
        // It may have been stopped while the lock was awaited.
        Ok(answers(&dir).then(|| Self {
            url: url(&dir),
            dir,
            programs,
            account,
            users,
            guard: None,
        }))
    }

    /// The connection string of the cluster's database. It holds no secret.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The directory of the cluster; the server's log is below it, in `log`.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Stops the server and waits until its processes and this cluster's guard have ended, unless other
    /// processes still use it; the last one of those then stops it. Returns whether it was stopped. Blocks.
    ///
    /// # Errors
    /// If the server refuses to stop.
    pub fn stop(mut self) -> Result<bool, PgError> {
        let running = launch::server_processes(&self);
        if !self.lock_alone()? {
            return Ok(false);
        }
        launch::stop(&self)?;
        launch::wait_until_gone(&self, &running);
        if let Some(guard) = self.guard.take() {
            guard.dismiss();
        }
        Ok(true)
    }

    /// Exchanges the shared lock for the exclusive one; false if others use the cluster. A guard that is
    /// stopping the server holds the exclusive lock until it has done so.
    fn lock_alone(&self) -> Result<bool, PgError> {
        let path = self.dir.join("users.lock");
        let deadline = Instant::now() + LIMITS.private_server.lock;
        loop {
            let users = &self.users.0;
            users
                .unlock()
                .map_err(io_error("give back the lock", &path))?;
            match users.try_lock() {
                Ok(()) => return Ok(true),
                Err(std::fs::TryLockError::Error(e)) => return Err(io_error("lock", &path)(e)),
                Err(std::fs::TryLockError::WouldBlock) => {}
            }
            // Only a guard, or another process in this function, excludes a shared lock. Where there is no
            // server any more, it has just let go.
            if users.try_lock_shared().is_ok() && launch::is_there(self) {
                return Ok(false);
            }
            if Instant::now() > deadline {
                return Err(PgError::Busy(self.dir.clone()));
            }
            std::thread::sleep(LIMITS.private_server.look_every);
        }
    }
}

/// An advisory lock on a file, given back when this value is dropped.
///
/// Closing the file alone would give it back only when its last descriptor is closed, and a program that
/// another thread is starting has a copy of it between fork and exec.
#[derive(Debug)]
struct FileLock(File);

impl Drop for FileLock {
    fn drop(&mut self) {
        // Where it fails, closing the file gives the lock back.
        let _ = self.0.unlock();
    }
}

/// Whether a server accepts connections in `dir`.
fn answers(dir: &Path) -> bool {
    UnixStream::connect(dir.join("run").join(SOCKET_NAME)).is_ok()
}

fn url(dir: &Path) -> String {
    let mut url = String::from("postgres://virtuozo@localhost/postgres?host=");
    for byte in dir.join("run").as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' => {
                url.push(char::from(*byte));
            }
            other => url.push_str(&format!("%{other:02X}")),
        }
    }
    url
}

/// Takes a lock of the cluster, or says who is in the way after a limit.
fn lock(
    dir: &Path,
    name: &str,
    take: fn(&File) -> Result<(), std::fs::TryLockError>,
) -> Result<FileLock, PgError> {
    let path = dir.join(name);
    let deadline = Instant::now() + LIMITS.private_server.lock;
    let file = File::open(&path).map_err(io_error("open the lock", &path))?;
    loop {
        match take(&file) {
            Ok(()) => return Ok(FileLock(file)),
            Err(std::fs::TryLockError::WouldBlock) if Instant::now() < deadline => {
                std::thread::sleep(LIMITS.private_server.look_every);
            }
            Err(std::fs::TryLockError::WouldBlock) => return Err(PgError::Busy(dir.to_owned())),
            Err(std::fs::TryLockError::Error(e)) => return Err(io_error("lock", &path)(e)),
        }
    }
}

fn io_error<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> PgError + 'a {
    move |source| PgError::Io {
        what,
        path: path.to_owned(),
        source,
    }
}

/// The user and group that own `path`.
fn owner(path: &Path) -> Result<(u32, u32), PgError> {
    let meta = path.metadata().map_err(io_error("look at", path))?;
    Ok((meta.uid(), meta.gid()))
}

/// Another program of the newest server on this machine; where links lead to the server, it lies beside their target.
#[cfg(test)]
pub(crate) fn program(name: &str) -> PathBuf {
    let server = Programs::find(Path::new("/no/cluster"))
        .expect("tests need PostgreSQL")
        .path("postgres");
    let target = server.canonicalize().expect("the server is there");
    [server, target]
        .iter()
        .map(|server| server.with_file_name(name))
        .find(|program| program.is_file())
        .unwrap_or_else(|| name.into())
}

#[cfg(test)]
mod tests;
