//! The tree of commands and the options that all of them have.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use virtuozo_telemetry as telemetry;

use crate::{commands::*, error::EXIT_CODES};

/// Backs up VMware guests while they run or shut down, with workers that Postgres coordinates.
#[derive(Debug, Parser)]
#[command(name = "virtuozo", version, after_help = EXIT_CODES, max_term_width = 110)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options that every command has.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
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
    pub(crate) log: telemetry::Format,
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
}

fn log_filter(text: &str) -> Result<String, String> {
    telemetry::check_filter(text).map(|()| text.to_owned())
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// See it work: a lab of simulated hosts is backed up, verified, restored and compared
    Demo(demo::DemoArgs),
    /// Run everything in one process: private database, scheduler and a worker, for a small site
    Up(service::UpArgs),
    /// Hosts: the hypervisors to back up
    #[command(
        subcommand,
        after_help = "Example:\n  virtuozo host add alpha --kind server2 --address https://alpha:8333/sdk --user backup"
    )]
    Host(host::HostCommand),
    /// Guests: the virtual machines on the hosts
    #[command(subcommand, after_help = "Example:\n  virtuozo guest list")]
    Guest(guest::GuestCommand),
    /// Disks of guests
    #[command(subcommand, after_help = "Example:\n  virtuozo disk list")]
    Disk(disk::DiskCommand),
    /// Datastores of hosts, and where workers read them
    #[command(subcommand, after_help = "Example:\n  virtuozo datastore list")]
    Datastore(datastore::DatastoreCommand),
    /// Repositories: where restore points go
    #[command(subcommand, after_help = "Example:\n  virtuozo repository list")]
    Repository(repository::RepositoryCommand),
    /// Schedules: when to back up what
    #[command(subcommand, after_help = "Example:\n  virtuozo schedule list")]
    Schedule(schedule::ScheduleCommand),
    /// Settings of the site
    #[command(subcommand, after_help = "Example:\n  virtuozo settings get")]
    Settings(settings::SettingsCommand),
    /// Hooks: commands before and after runs and backups of guests
    #[command(subcommand, after_help = "Example:\n  virtuozo hook list")]
    Hook(hook::HookCommand),
    /// Write the site's configuration to a file
    Export(transfer::ExportArgs),
    /// Make the site as a configuration file says
    Import(transfer::ImportArgs),
    /// Notices: what is told by mail and webhook, and how
    #[command(subcommand, after_help = "Example:\n  virtuozo notice preview digest")]
    Notice(notice::NoticeCommand),
    /// Runs: one backup operation each, started by a schedule or by hand
    #[command(subcommand, after_help = "Example:\n  virtuozo run now --wait")]
    Run(run::RunCommand),
    /// Obligations: what is still to be undone on hosts, whatever happens
    #[command(subcommand, after_help = "Example:\n  virtuozo obligation list")]
    Obligation(obligation::ObligationCommand),
    /// Events: what happened, in order, and what happens from now on
    Events(events::EventsArgs),
    /// Hosts, guests and disks with their states, and what is being copied now
    Status(status::StatusArgs),
    /// Restore points
    #[command(subcommand, after_help = "Example:\n  virtuozo point list")]
    Point(point::PointCommand),
    /// Bring a restore point back as a directory that a hypervisor opens
    Restore(point::RestoreArgs),
    /// The process that starts runs when they are due; any number may run
    Scheduler(service::SchedulerArgs),
    /// The process that backs up guests; any number may run, on any machine that reads the datastores
    Worker(service::WorkerArgs),
    /// How the processes on this machine are set up: options, environment, file
    #[command(subcommand, after_help = "Example:\n  virtuozo config show")]
    Config(config::ConfigCommand),
    /// Ask a scheduler or worker that listens whether it lives; for containers
    Health(health::HealthArgs),
    /// Check what Virtuozo needs on this machine and say what to do
    Doctor(doctor::DoctorArgs),
    /// Version of this program
    Version(version::VersionArgs),
    /// One connection to a host, spoken to over stdin and stdout; started by a worker
    #[command(hide = true, name = "vix-host")]
    VixHost(internal::VixHostArgs),
    /// Between a process of ours and a hook, which ends with that process; started by it
    #[command(hide = true, name = "hook-guard")]
    HookGuard(internal::HookGuardArgs),
}

impl Command {
    /// Whether a process of ours starts it, and says all that it has to know.
    pub(crate) fn is_internal(&self) -> bool {
        matches!(self, Self::VixHost(_) | Self::HookGuard(_))
    }

    /// Whether it runs on and on and tells what it does in log lines.
    pub(crate) fn is_service(&self) -> bool {
        match self {
            Self::Up(_) | Self::Scheduler(_) => true,
            Self::Worker(args) => args.command.is_none(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use clap::CommandFactory;

    use super::*;

    /// All commands that people see, with the words that lead there.
    fn commands(above: &clap::Command, path: &str, into: &mut Vec<(String, clap::Command)>) {
        for command in above.get_subcommands().filter(|c| !c.is_hide_set()) {
            let path = format!("{path} {}", command.get_name());
            commands(command, &path, into);
            into.push((path, command.clone()));
        }
    }

    /// The words of an example as a shell would split them, from `virtuozo` to a pipe or redirection.
    fn words(line: &str) -> Vec<String> {
        let start = line.find("virtuozo").unwrap();
        let mut words = Vec::new();
        let mut word: Option<String> = None;
        let mut quote = None;
        for c in line[start..].chars() {
            match (quote, c) {
                (Some(q), c) if c == q => quote = None,
                (Some(_), c) => word.get_or_insert_default().push(c),
                (None, '\'' | '"') => {
                    quote = Some(c);
                    word.get_or_insert_default();
                }
                (None, ' ') => words.extend(word.take()),
                (None, '|' | '<' | '>' | '#') if word.is_none() => break,
                (None, c) => word.get_or_insert_default().push(c),
            }
        }
        words.extend(word);
        words
    }

    #[test]
    fn the_tree_of_commands_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example_that_parses_as_that_command() {
        let mut all = Vec::new();
        commands(&Cli::command(), "virtuozo", &mut all);
        assert!(all.len() > 15, "the walk over the tree found too little");
        for (path, command) in all {
            let help = command
                .get_after_help()
                .unwrap_or_else(|| panic!("`{path}` has no example"))
                .to_string();
            assert!(help.contains("Example"), "`{path}` has no example");
            let examples: Vec<_> = help.lines().filter(|l| l.contains("virtuozo ")).collect();
            assert!(!examples.is_empty(), "`{path}` has an empty example");
            for line in examples {
                let words = words(line);
                assert!(
                    words.join(" ").starts_with(&path),
                    "the example of `{path}` is about another command: {line}"
                );
                if let Err(error) = Cli::try_parse_from(&words) {
                    panic!("the example of `{path}` does not parse: {line}\n{error}");
                }
            }
        }
    }

    #[test]
    fn the_commands_in_the_documents_parse() {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        let mut documents = vec![root.join("README.md")];
        for folder in ["guide", "concepts", "reference", "contributing"] {
            let pages = fs::read_dir(root.join("docs").join(folder)).unwrap();
            documents.extend(pages.map(|page| page.unwrap().path()));
        }
        let mut found = 0;
        for document in documents {
            let text = fs::read_to_string(&document).unwrap().replace("\\\n", " ");
            for line in text.lines().filter(|l| l.starts_with("    virtuozo ")) {
                found += 1;
                if let Err(error) = Cli::try_parse_from(words(line)) {
                    let document = document.display();
                    panic!("{document} has a command that does not parse: {line}\n{error}");
                }
            }
        }
        assert!(
            found > 80,
            "only {found} commands were found in the documents"
        );
    }

    #[test]
    fn a_password_is_never_an_argument() {
        let mut all = Vec::new();
        commands(&Cli::command(), "virtuozo", &mut all);
        for (path, command) in all {
            for arg in command.get_arguments() {
                let name = arg.get_id().as_str();
                let secret = name.contains("password") || name.contains("passphrase");
                assert!(
                    !secret || !arg.get_action().takes_values() || name.ends_with("_file"),
                    "`{path}` takes a password as the argument {name}"
                );
            }
        }
    }
}
