//! `virtuozo hook …`: commands before and after runs and the backups of guests.

use anyhow::Result;
use clap::{Args, Subcommand};
use virtuozo_model::{Hook, HookLine, HookMoment, OnFailure};
use virtuozo_services::hooks;

use crate::{context::Context, resettable};

/// Commands on hooks.
#[derive(Debug, Subcommand)]
pub(crate) enum HookCommand {
    /// Have a command run before or after each run, or the backup of a guest
    #[command(
        after_help = "Those of a run are started by a scheduler, those of a guest by a worker, on its \
machine. No shell reads the command; name one to have it read: -- sh -c '…'. What it is told in its \
environment stands in docs/guide/hooks.md.

Examples:
  virtuozo hook set --before -- mount-repository
  virtuozo hook set --after --limit 3600 -- copy-away --to tape
  virtuozo hook set --guest alpha/db --before --limit 60 -- /usr/local/bin/quiesce --app db
  virtuozo hook set --guest alpha/db --after --on-failure ignore -- sh -c 'echo \"$VIRTUOZO_OUTCOME\" > /run/db'"
    )]
    Set(SetArgs),
    /// The hooks
    #[command(after_help = "Examples:\n  virtuozo hook list\n  virtuozo hook list --json")]
    List,
    /// Remove a hook: its command is not run any more. Where it was due before that, it still is
    #[command(
        after_help = "Examples:\n  virtuozo hook clear --before\n  virtuozo hook clear --guest alpha/db --after"
    )]
    Clear {
        #[command(flatten)]
        which: Which,
    },
}

/// One of the four hooks that there may be of the site and of a guest.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// The hook of this guest, HOST/GUEST, instead of the one of all runs
    #[arg(long, value_name = "HOST/GUEST")]
    guest: Option<String>,
    /// The one before: before any host of a run is begun, or before the guest is touched
    #[arg(long, required_unless_present = "after", conflicts_with = "after")]
    before: bool,
    /// The one after: when the run, or the guest's part in it, has ended, however it has
    #[arg(long)]
    after: bool,
}

/// Options of `hook set`.
#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    #[command(flatten)]
    which: Which,
    /// Seconds after which it is killed, with all that it has started
    #[arg(long = "limit", value_name = "SECS", default_value_t = 600)]
    limit_secs: i32,
    /// What it means that it fails. fail: nothing is backed up after a failing --before, and a failing
    /// --after is told as an error; ignore: it is told as a warning, and nothing else
    #[arg(long, value_name = "WHAT", default_value = "fail", value_parser = resettable::one_of::<OnFailure>(OnFailure::WORDS))]
    on_failure: OnFailure,
    /// The program, by its name or path in the directory of hooks of the machine, and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Which {
    fn moment(&self) -> HookMoment {
        if self.before {
            HookMoment::Before
        } else {
            HookMoment::After
        }
    }

    fn named(&self) -> hooks::Which {
        hooks::Which {
            guest: self.guest.clone(),
            moment: self.moment(),
        }
    }
}

pub(crate) async fn run(context: &Context, command: HookCommand) -> Result<()> {
    let db = context.database().await?;
    let out = &context.out;
    match command {
        HookCommand::Set(args) => {
            let hook = Hook {
                moment: args.which.moment(),
                command: args.command,
                limit_secs: args.limit_secs,
                on_failure: args.on_failure,
            };
            let which = args.which.named();
            hooks::set(&db.pool, which.guest.as_deref(), &hook).await?;
            let by = match which.guest {
                Some(_) => "worker",
                None => "scheduler",
            };
            out.done(&format!(
                "{} is `{}`, run by a {by} within {} s",
                which.name(),
                virtuozo_hooks::command_line(&hook.command),
                hook.limit_secs
            ))
        }
        HookCommand::List => out.list(
            &hooks::list(&db.pool).await?,
            "no hooks; `virtuozo hook set` sets one",
            &["Of", "When", "Limit", "A failure", "Command"],
            |line: &HookLine| {
                let guest = line.host.as_deref().zip(line.guest.as_deref());
                vec![
                    guest.map_or("every run".to_owned(), |(host, guest)| {
                        format!("{host}/{guest}")
                    }),
                    line.hook.moment.to_string(),
                    format!("{} s", line.hook.limit_secs),
                    match line.hook.on_failure {
                        OnFailure::Fail => "counts".to_owned(),
                        OnFailure::Ignore => "is ignored".to_owned(),
                    },
                    virtuozo_hooks::command_line(&line.hook.command),
                ]
            },
        ),
        HookCommand::Clear { which } => {
            let which = which.named();
            hooks::clear(&db.pool, &which).await?;
            out.done(&format!("{} is taken away", which.name()))
        }
    }
}
