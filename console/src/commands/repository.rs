//! `virtuozo repository …`: where restore points go, and how many guests may be in work there.

use anyhow::Result;
use clap::Subcommand;
use shared::store::caps;

use crate::{
    choice::{self, Choice},
    context::Context,
    output,
};

/// Commands on repositories.
#[derive(Debug, Subcommand)]
pub(crate) enum RepositoryCommand {
    /// The directories that restore points go to, their caps, and how many guests are in work there
    #[command(after_help = "Example:\n  virtuozo repository list")]
    List,
    /// Hold the catalogue of restore points against the repositories, and enter what it lacks
    Scan(super::scan::ScanArgs),
    /// Say how many guests may be in work at once whose restore points go to a directory
    #[command(after_help = "Examples:
  virtuozo repository limit /srv/backup 8
  virtuozo repository limit /srv/backup none")]
    Limit {
        /// The directory, as settings and guests name it
        dir: String,
        /// How many, over all hosts; none takes the cap away
        #[arg(value_name = "N", value_parser = choice::or_none::<i32>)]
        guests: Choice<i32>,
    },
}

pub(crate) async fn run(context: &Context, command: RepositoryCommand) -> Result<()> {
    match command {
        RepositoryCommand::Scan(args) => super::scan::run(context, args).await,
        RepositoryCommand::List => context.out.list(
            &caps::repositories(&context.database().await?.pool).await?,
            "no restore points go anywhere yet; `virtuozo settings set destination DIR`",
            &["Repository", "Guests in work", "At most"],
            |repository| {
                vec![
                    repository.path.clone(),
                    repository.in_work.to_string(),
                    output::or_dash(repository.guest_threads),
                ]
            },
        ),
        RepositoryCommand::Limit { dir, guests } => {
            let db = context.database().await?;
            caps::set_repository(&db.pool, &dir, guests.0).await?;
            context
                .out
                .done(&format!("{dir}: {}", choice::at_most(guests.0)))
        }
    }
}
