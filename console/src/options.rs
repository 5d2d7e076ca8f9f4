//! The options that every command has.

use std::path::PathBuf;

use clap::Args;
use virtuozo_disk::MachineRoots;
use virtuozo_telemetry::Format;

/// The commands that are services: they run until they are stopped, and log what they do.
pub(crate) const SERVICES: [&str; 3] = ["up", "scheduler", "worker"];

/// Options that every command has.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalOptions {
    /// File with settings, TOML [default: $XDG_CONFIG_HOME/virtuozo/virtuozo.toml, or
    /// /etc/virtuozo/virtuozo.toml, where there is one]
    #[arg(long, global = true, env = "VIRTUOZO_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Postgres to use, postgres://user@host/database; without it the private one of the data
    /// directory
    #[arg(
        long,
        global = true,
        env = "DATABASE_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub(crate) database_url: Option<String>,
    /// File with the password of the database's user, instead of a password in the URL
    #[arg(
        long,
        global = true,
        env = "DATABASE_PASSWORD_FILE",
        value_name = "FILE"
    )]
    pub(crate) database_password_file: Option<PathBuf>,
    /// Print JSON for programs instead of text for people
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Where log lines go: human or json for stderr, journald (journald:SOCKET for another socket than the
    /// usual), auto for journald under systemd and human otherwise
    #[arg(
        long,
        global = true,
        default_value = "auto",
        env = "VIRTUOZO_LOG",
        value_name = "FORM"
    )]
    pub(crate) log: Format,
    /// Which log lines: error, warn, info, debug, trace, or such a level for single parts, as in
    /// info,worker=debug [default: info for services, warn for commands]
    #[arg(long, global = true, env = "RUST_LOG", value_name = "FILTER", value_parser = log_filter)]
    pub(crate) log_filter: Option<String>,
    /// The VIX library; without it the usual places of Workstation and VIX
    #[arg(long, global = true, env = "VIRTUOZO_VIX_LIBRARY", value_name = "FILE")]
    pub(crate) vix_library: Option<PathBuf>,
    /// Directory of the private database [default: $XDG_STATE_HOME/virtuozo, or /var/lib/virtuozo
    /// for root]
    #[arg(long, global = true, env = "VIRTUOZO_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// File with the key that seals host passwords [default: $XDG_CONFIG_HOME/virtuozo/key, or
    /// /etc/virtuozo/key for root]
    #[arg(long, global = true, env = "VIRTUOZO_KEY_FILE", value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// Directories, with : between them, below which this machine reads guests' files and the ca_file of
    /// notices [default: all but those of the system, such as /etc]
    #[arg(
        long,
        global = true,
        env = "VIRTUOZO_READ_ROOTS",
        value_name = "DIRS",
        value_delimiter = ':',
        value_parser = MachineRoots::parse
    )]
    pub(crate) read_roots: Vec<PathBuf>,
    /// Directories, with : between them, below which a worker of this machine writes restore points
    /// [default: all but those of the system]
    #[arg(
        long,
        global = true,
        env = "VIRTUOZO_WRITE_ROOTS",
        value_name = "DIRS",
        value_delimiter = ':',
        value_parser = MachineRoots::parse
    )]
    pub(crate) write_roots: Vec<PathBuf>,
    /// Directory of the programs that this machine runs as hooks
    #[arg(
        long,
        global = true,
        default_value = virtuozo_hooks::DEFAULT_DIRECTORY,
        env = "VIRTUOZO_HOOKS_DIR",
        value_name = "DIR",
        value_parser = MachineRoots::parse
    )]
    pub(crate) hooks_dir: PathBuf,
}

fn log_filter(text: &str) -> Result<String, String> {
    virtuozo_telemetry::check_filter(text).map(|()| text.to_owned())
}
