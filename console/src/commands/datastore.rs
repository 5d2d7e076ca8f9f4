//! `virtuozo datastore …`: where workers read the hosts' storage.

mod propose;

use anyhow::Result;
use clap::Subcommand;
use virtuozo_services::datastores;

use crate::{
    context::Context,
    output,
    requests::AskArgs,
    resettable::{self, Resettable},
    text,
};

/// Commands on datastores.
#[derive(Debug, Subcommand)]
pub(crate) enum DatastoreCommand {
    /// Datastores, where their hosts have them and where workers read them
    #[command(
        after_help = "Examples:\n  virtuozo datastore list\n  virtuozo datastore list --host alpha"
    )]
    List {
        /// Only of this host
        #[arg(long)]
        host: Option<String>,
    },
    /// Say in which directory workers read a datastore
    #[command(after_help = "Example:\n  virtuozo datastore map alpha standard /mnt/alpha/standard")]
    Map {
        /// The host
        host: String,
        /// The datastore's name on the host
        datastore: String,
        /// The directory, the same on every worker
        dir: String,
    },
    /// Look where workers could read the datastores of a host, by the files of its guests
    #[command(after_help = "Examples:
  virtuozo datastore propose alpha
  virtuozo datastore propose alpha --apply
  virtuozo datastore propose alpha --local --json

A worker looks in the directories that it has under the names of the datastores: those that are \
                  mapped, the host's own paths, mounts, directories below mounts, /mnt, /media and /srv, and \
                  beside datastores that are mapped. It looks whether the files are there by which the host \
                  registers its guests, and opens none.\n\n\
                  --apply maps each datastore that is not mapped and of which one directory, and no other, holds \
                  all guests. A mapping holds for every worker.")]
    Propose {
        /// The host
        host: String,
        #[command(flatten)]
        ask: AskArgs,
        /// Map what was found in one directory, and leave every mapping that there is
        #[arg(long)]
        apply: bool,
    },
    /// Say how many guests of a datastore may be in work at once
    #[command(after_help = "Examples:
  virtuozo datastore limit alpha standard 2
  virtuozo datastore limit alpha standard none")]
    Limit {
        /// The host
        host: String,
        /// The datastore's name on the host
        datastore: String,
        /// How many; none takes the cap away
        #[arg(value_name = "N", value_parser = resettable::or_none::<i32>)]
        guests: Resettable<i32>,
    },
    /// Read a datastore at the path that its host gives
    #[command(after_help = "Example:\n  virtuozo datastore unmap alpha standard")]
    Unmap {
        /// The host
        host: String,
        /// The datastore's name on the host
        datastore: String,
    },
}

pub(crate) async fn run(context: &Context, command: DatastoreCommand) -> Result<()> {
    let db = context.database().await?;
    match command {
        DatastoreCommand::List { host } => context.out.list(
            &datastores::list(&db.pool, host.as_deref()).await?,
            "no datastores known yet; `virtuozo host check` finds those of a host",
            &[
                "Host",
                "Datastore",
                "On the host",
                "Read by workers at",
                "At most",
                "Last seen",
            ],
            |store| {
                vec![
                    store.host_name.clone(),
                    store.name.clone(),
                    output::or_dash(store.host_path.as_deref()),
                    output::or_dash(store.local_path.as_deref().or(store.host_path.as_deref())),
                    output::or_dash(store.guest_threads),
                    output::time_or_dash(store.seen_at),
                ]
            },
        ),
        DatastoreCommand::Map {
            host,
            datastore,
            dir,
        } => {
            let host = datastores::map(&db.pool, &host, &datastore, Some(&dir)).await?;
            context.out.done(&format!(
                "workers read the datastore {datastore} of {} in {dir}",
                host.name
            ))
        }
        DatastoreCommand::Propose { host, ask, apply } => {
            propose::run(context, &db, &host, &ask, apply).await
        }
        DatastoreCommand::Limit {
            host,
            datastore,
            guests,
        } => {
            let host = datastores::limit(&db.pool, &host, &datastore, guests.0).await?;
            context.out.done(&format!(
                "{datastore} of {}: {}",
                host.name,
                text::guest_limit(guests.0)
            ))
        }
        DatastoreCommand::Unmap { host, datastore } => {
            let host = datastores::map(&db.pool, &host, &datastore, None).await?;
            context.out.done(&format!(
                "workers read the datastore {datastore} of {} at the path that the host gives",
                host.name
            ))
        }
    }
}
