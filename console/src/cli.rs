//! The tree of commands: which there are, and which module does each of them.

use anyhow::Result;
use clap::{CommandFactory, Parser, Subcommand};

use crate::{
    commands::*, configuration::Configuration, context::Context, error::EXIT_CODES,
    options::GlobalOptions,
};

/// Backs up VMware guests while they run or shut down, with workers that Postgres coordinates.
#[derive(Debug, Parser)]
#[command(name = "virtuozo", version, after_help = EXIT_CODES, max_term_width = 110)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalOptions,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// What the command line, the environment and the configuration file ask for. Ends the process where the
    /// command line is wrong or asks for help, as clap does.
    ///
    /// # Errors
    /// The file cannot be read, or has an unknown setting or a value that the setting does not take.
    pub(crate) fn read() -> Result<(Self, Configuration)> {
        let mut configuration = Configuration::of_command_line(Self::command());
        let this: Self = configuration.parsed();
        // An internal command gets all that it needs from the process that starts it.
        let reads_file = !this.command.is_internal();
        if reads_file && configuration.read_file(this.global.config.as_deref())? {
            return Ok((configuration.parsed(), configuration));
        }
        Ok((this, configuration))
    }
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
    /// Reads and writes files where a file system may fall silent; started by a process of ours
    #[command(hide = true, name = "file-process")]
    FileProcess,
    /// Between a process of ours and a hook, which ends with that process; started by it
    #[command(hide = true, name = "hook-guard")]
    HookGuard(internal::HookGuardArgs),
}

impl Command {
    /// Does what was asked.
    pub(crate) async fn run(self, context: &Context) -> Result<()> {
        match self {
            Self::Demo(args) => demo::run(context, args).await,
            Self::Up(args) => service::up(context, args).await,
            Self::Host(command) => host::run(context, command).await,
            Self::Guest(command) => guest::run(context, command).await,
            Self::Disk(command) => disk::run(context, command).await,
            Self::Datastore(command) => datastore::run(context, command).await,
            Self::Repository(command) => repository::run(context, command).await,
            Self::Schedule(command) => schedule::run(context, command).await,
            Self::Settings(command) => settings::run(context, command).await,
            Self::Hook(command) => hook::run(context, command).await,
            Self::Export(args) => transfer::export(context, args).await,
            Self::Import(args) => transfer::import(context, args).await,
            Self::Notice(command) => notice::run(context, command).await,
            Self::Run(command) => run::run(context, command).await,
            Self::Obligation(command) => obligation::run(context, command).await,
            Self::Events(args) => events::run(context, args).await,
            Self::Status(args) => status::run(context, args).await,
            Self::Point(command) => point::run(context, command).await,
            Self::Restore(args) => point::restore(context, args).await,
            Self::Scheduler(args) => service::scheduler(context, args).await,
            Self::Worker(args) => service::worker(context, args).await,
            Self::Config(command) => config::run(context, command),
            Self::Health(args) => health::run(context, args).await,
            Self::Doctor(args) => doctor::run(context, args).await,
            Self::Version(args) => version::run(context, args),
            // Answered before a runtime exists.
            Self::VixHost(_) | Self::FileProcess | Self::HookGuard(_) => Ok(()),
        }
    }

    /// Whether only processes of this program start it.
    pub(crate) fn is_internal(&self) -> bool {
        matches!(
            self,
            Self::VixHost(_) | Self::FileProcess | Self::HookGuard(_)
        )
    }

    /// Whether it is one of [`SERVICES`](crate::options::SERVICES).
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

    use super::*;

    /// All commands that are not hidden, each with its full path, such as `virtuozo host add`.
    fn commands(above: &clap::Command, path: &str, into: &mut Vec<(String, clap::Command)>) {
        for command in above.get_subcommands().filter(|c| !c.is_hide_set()) {
            let path = format!("{path} {}", command.get_name());
            commands(command, &path, into);
            into.push((path, command.clone()));
        }
    }

    /// The arguments of an example as a shell would split them, from `virtuozo` to a pipe or redirection.
    fn arguments(line: &str) -> Vec<String> {
        let start = line.find("virtuozo").unwrap();
        let mut arguments = Vec::new();
        let mut argument: Option<String> = None;
        let mut quote = None;
        for c in line[start..].chars() {
            match (quote, c) {
                (Some(q), c) if c == q => quote = None,
                (Some(_), c) => argument.get_or_insert_default().push(c),
                (None, '\'' | '"') => {
                    quote = Some(c);
                    argument.get_or_insert_default();
                }
                (None, ' ') => arguments.extend(argument.take()),
                (None, '|' | '<' | '>' | '#') if argument.is_none() => break,
                (None, c) => argument.get_or_insert_default().push(c),
            }
        }
        arguments.extend(argument);
        arguments
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
                let arguments = arguments(line);
                assert!(
                    arguments.join(" ").starts_with(&path),
                    "the example of `{path}` is about another command: {line}"
                );
                if let Err(error) = Cli::try_parse_from(&arguments) {
                    panic!("the example of `{path}` does not parse: {line}\n{error}");
                }
            }
        }
    }

    #[test]
    fn paragraphs_of_help_are_one_line_which_the_terminal_breaks() {
        let mut all = Vec::new();
        commands(&Cli::command(), "virtuozo", &mut all);
        let is_prose =
            |line: &str| !line.is_empty() && !line.starts_with(' ') && !line.ends_with(':');
        let mut broken = Vec::new();
        for (path, command) in all {
            let help = command.get_after_help().map(ToString::to_string);
            let lines: Vec<_> = help.iter().flat_map(|help| help.lines()).collect();
            let pairs = lines
                .windows(2)
                .filter(|pair| pair.iter().all(|line| is_prose(line)));
            broken.extend(pairs.map(|pair| format!("{path}: {}", pair[0])));
        }
        assert!(broken.is_empty(), "{broken:#?}");
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
                if let Err(error) = Cli::try_parse_from(arguments(line)) {
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
