//! `virtuozo obligation …`: what is still to be undone on hosts, and giving up what nobody can undo any more.

use anyhow::Result;
use clap::Subcommand;
use virtuozo_services::obligations;

use crate::{
    context::{Context, user_name},
    output, text,
};

/// Commands on obligations.
#[derive(Debug, Subcommand)]
pub(crate) enum ObligationCommand {
    /// All that is to be undone on hosts, with what went wrong so far; what a running backup minds itself too
    #[command(after_help = "Example:\n  virtuozo obligation list --json")]
    List,
    /// Give up one that can never be met; from then on the guest is yours to look after
    #[command(after_help = "Examples:
  virtuozo obligation forgive 5f2c81aa --reason 'alpha burnt down'
  virtuozo obligation forgive 77d0c3b1 --reason 'anna deleted the guest by hand'

For a host that is gone for good, or a guest that is no longer on it: both can be removed then. What is mended on the \
host needs no command, the next attempt sees it. An event keeps who gave up what, and why. It is refused while a worker \
is at it, and while a run of the guest is in work.")]
    Forgive {
        /// Id from `virtuozo obligation list`, or a beginning or end that only this one has
        obligation: String,
        /// Why, for those who find the guest as it was left
        #[arg(long, value_name = "WHY")]
        reason: String,
    },
}

pub(crate) async fn run(context: &Context, command: ObligationCommand) -> Result<()> {
    let db = context.database().await?;
    match command {
        ObligationCommand::List => context.out.list(
            &obligations::list(&db.pool).await?,
            "nothing is left to be undone on hosts",
            &[
                "Obligation",
                "Guest",
                "What",
                "Since",
                "Failed",
                "Next attempt",
                "Why",
            ],
            |one| {
                vec![
                    output::short(one.id),
                    format!("{}/{}", one.host, one.guest),
                    text::obligation(one),
                    output::time(one.created_at),
                    one.attempts.to_string(),
                    match one.in_work {
                        true => "its backup runs".to_owned(),
                        false => output::time(one.next_attempt_at),
                    },
                    output::or_dash(one.last_error.as_deref()),
                ]
            },
        ),
        ObligationCommand::Forgive { obligation, reason } => {
            let by = format!("user {}", user_name());
            let done = obligations::forgive(&db.pool, &obligation, &reason, &by).await?;
            context.out.done(&done)
        }
    }
}
