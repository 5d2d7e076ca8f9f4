//! Which programs of Postgres to run, and as whom.

use std::{
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{PgError, io_error, owner};

/// The schema needs `UNIQUE NULLS NOT DISTINCT`.
const OLDEST_MAJOR: u32 = 15;
const DEBIAN_DIR: &str = "/usr/lib/postgresql";

/// The directory with `initdb`, `postgres` and `pg_ctl`.
#[derive(Debug, Clone)]
pub(super) struct Programs {
    bin: PathBuf,
}

impl Programs {
    /// Looks in `PATH` and in Debian's directories; takes the newest version, or for an existing
    /// cluster in `data` the version that made it.
    pub(super) fn find(data: &Path) -> Result<Self, PgError> {
        let wanted = match std::fs::read_to_string(data.join("PG_VERSION")) {
            Ok(text) => Some(text.trim().parse::<u32>().map_err(|_| {
                PgError::Directory(format!(
                    "{} is damaged: PG_VERSION holds {:?}",
                    data.display(),
                    text.trim()
                ))
            })?),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => return Err(io_error("read", &data.join("PG_VERSION"))(e)),
        };
        if in_path("flock").is_none() {
            return Err(PgError::Programs(
                "the program flock was not found in PATH: install the package util-linux".into(),
            ));
        }
        let mut found: Vec<(u32, PathBuf)> = candidates()
            .into_iter()
            .filter(|bin| {
                ["initdb", "postgres", "pg_ctl"]
                    .iter()
                    .all(|p| bin.join(p).is_file())
            })
            .filter_map(|bin| major(&bin).map(|major| (major, bin)))
            .collect();
        // A stable sort: of equal versions the one of PATH stays first.
        found.sort_by_key(|(major, _)| std::cmp::Reverse(*major));
        let usable = |major: u32| wanted.map_or(major >= OLDEST_MAJOR, |wanted| major == wanted);
        match found.iter().find(|(major, _)| usable(*major)) {
            Some((_, bin)) => Ok(Self { bin: bin.clone() }),
            None => Err(PgError::Programs(missing(wanted, &found))),
        }
    }

    /// A command of one of the programs, run as `account`, untouched by the caller's environment
    /// for Postgres, in a process group of its own so that Ctrl-C does not reach it.
    pub(super) fn command(&self, program: &str, account: &Account) -> Command {
        account.command(&self.path(program))
    }

    pub(super) fn path(&self, program: &str) -> PathBuf {
        self.bin.join(program)
    }
}

fn candidates() -> Vec<PathBuf> {
    let mut bins: Vec<PathBuf> = std::env::var_os("PATH")
        .iter()
        .flat_map(std::env::split_paths)
        .collect();
    if let Ok(versions) = std::fs::read_dir(DEBIAN_DIR) {
        bins.extend(versions.flatten().map(|entry| entry.path().join("bin")));
    }
    bins
}

fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

/// The major version of the programs in `bin`, from "postgres (PostgreSQL) 15.14 (Debian …)".
fn major(bin: &Path) -> Option<u32> {
    let output = Command::new(bin.join("postgres"))
        .arg("--version")
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.split_whitespace().nth(2)?;
    version
        .split(|c: char| !c.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}

fn missing(wanted: Option<u32>, found: &[(u32, PathBuf)]) -> String {
    let seen = if found.is_empty() {
        String::from("none was found")
    } else {
        let list: Vec<_> = found
            .iter()
            .map(|(major, bin)| format!("{major} in {}", bin.display()))
            .collect();
        format!("found: {}", list.join(", "))
    };
    match wanted {
        Some(major) => format!(
            "this cluster was made by PostgreSQL {major}, whose programs are not here ({seen}): \
             install the package postgresql-{major}, or move the data with pg_upgrade"
        ),
        None => format!(
            "PostgreSQL {OLDEST_MAJOR} or newer is needed; looked in PATH and in \
             {DEBIAN_DIR}/*/bin ({seen}): install the package postgresql, or name a running \
             server with --database-url"
        ),
    }
}

/// The user that the server runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// This process is root and has to become that user first.
    switch: bool,
}

impl Account {
    /// The account for a new cluster: this process' own, or an unprivileged one if it is root,
    /// since Postgres refuses to run as root.
    pub(super) fn for_new() -> Result<Self, PgError> {
        let uid = rustix::process::geteuid().as_raw();
        if uid != 0 {
            return Ok(Self {
                uid,
                gid: rustix::process::getegid().as_raw(),
                switch: false,
            });
        }
        let passwd = Path::new("/etc/passwd");
        let text = std::fs::read_to_string(passwd).map_err(io_error("read", passwd))?;
        ["postgres", "nobody"]
            .iter()
            .find_map(|name| account_in(&text, name))
            .map(|(uid, gid)| Self {
                uid,
                gid,
                switch: true,
            })
            .ok_or_else(|| {
                PgError::Programs(
                    "PostgreSQL does not run as root, and /etc/passwd has neither the user \
                     postgres nor nobody: create one, or run as another user"
                        .into(),
                )
            })
    }

    /// The account of an existing cluster: whoever owns its directory.
    pub(super) fn of(dir: &Path) -> Result<Self, PgError> {
        let me = rustix::process::geteuid().as_raw();
        match owner(dir)? {
            (0, _) => Err(PgError::Directory(format!(
                "{} belongs to root, and PostgreSQL does not run as root: choose a directory that \
                 does not exist yet",
                dir.display()
            ))),
            (uid, gid) if me == 0 || me == uid => Ok(Self {
                uid,
                gid,
                switch: me == 0,
            }),
            (uid, _) => Err(PgError::Directory(format!(
                "{} belongs to the user with id {uid}: run as that user or as root, or choose \
                 another directory",
                dir.display()
            ))),
        }
    }

    /// A command that runs as this account.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"PG") {
                command.env_remove(name);
            }
        }
        if self.switch {
            command.uid(self.uid).gid(self.gid);
        }
        command
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::null());
        command
    }
}

/// The user and group id of `name` in the text of `/etc/passwd`.
fn account_in(passwd: &str, name: &str) -> Option<(u32, u32)> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then_some(())?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        (uid != 0).then_some((uid, gid))
    })
}
