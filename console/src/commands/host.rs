//! `virtuozo host …`: the hypervisors to back up.

mod ask;

use anyhow::Result;
use clap::{Args, Subcommand};
use secrecy::SecretString;
use virtuozo_model::{Host, HostKind, terminal};
use virtuozo_secrets::Key;
use virtuozo_services::{
    hosts::{self, HostChanges, HostConfig, HostDetails, Sealing},
    keys,
};

use crate::{
    back_ends::{self, KnownBackEnds, PropertyArgs},
    context::{Context, Database},
    output,
    password::PasswordArgs,
    requests::AskArgs,
    resettable::{self, Resettable},
    text,
};

/// Commands on hosts.
#[derive(Debug, Subcommand)]
pub(crate) enum HostCommand {
    /// Add a host; with a user, its password is asked for
    #[command(after_help = "Examples:
  virtuozo host add alpha --kind server2 --address https://alpha:8333/sdk --user backup --config-dir /mnt/alpha/etc
  virtuozo host add beta --kind esxi --address https://beta/sdk --user backup --password-file /run/keys/beta
  virtuozo host add here --kind workstation")]
    Add(Add),
    /// All hosts and their states
    #[command(after_help = "Example:\n  virtuozo host list --json")]
    List,
    /// One host, its datastores and how many guests it has
    #[command(after_help = "Example:\n  virtuozo host show alpha")]
    Show {
        /// Its name
        name: String,
    },
    /// Change a host
    #[command(after_help = "Examples:
  virtuozo host edit alpha --guest-threads 1
  virtuozo host edit alpha --ignored true
  virtuozo host edit alpha --user backup2 --password-file /run/keys/alpha")]
    Edit(Edit),
    /// Change the password of a host; without options it is asked for
    #[command(after_help = "Examples:
  virtuozo host password alpha
  virtuozo host password alpha --password-stdin < /run/keys/alpha")]
    Password {
        /// Its name
        name: String,
        #[command(flatten)]
        password: PasswordArgs,
    },
    /// Remove a host with its guests; restore points stay
    #[command(after_help = "Example:\n  virtuozo host remove alpha")]
    Remove {
        /// Its name
        name: String,
    },
    /// Have a worker try the connection and say what answers; changes nothing
    #[command(
        after_help = "Examples:\n  virtuozo host test alpha\n  virtuozo host test alpha --local"
    )]
    Test {
        /// Its name
        name: String,
        #[command(flatten)]
        how: AskArgs,
    },
    /// Have a worker hold the stored configuration against the live one now, as every run does first
    #[command(
        after_help = "Examples:\n  virtuozo host check\n  virtuozo host check alpha --timeout 60"
    )]
    Check {
        /// Only this host
        name: Option<String>,
        #[command(flatten)]
        how: AskArgs,
    },
    /// Begin no guest of a host any more; what is in work goes on
    #[command(after_help = "Examples:\n  virtuozo host pause alpha\n  virtuozo host pause all")]
    Pause {
        /// Its name, or `all`
        name: String,
    },
    /// Begin guests of a paused host again; `all` ends the pause of all, hosts paused by their names stay so
    #[command(after_help = "Examples:\n  virtuozo host resume alpha\n  virtuozo host resume all")]
    Resume {
        /// Its name, or `all`
        name: String,
    },
}

/// Options of `host add`.
#[derive(Debug, Args)]
pub(crate) struct Add {
    /// The name for it, in lists and messages
    name: String,
    /// What it is
    #[arg(long, value_parser = back_ends::kind())]
    kind: HostKind,
    /// Connection string, such as https://alpha:8333/sdk; none for workstation
    #[arg(long, value_name = "URL")]
    address: Option<String>,
    /// User name on the host
    #[arg(long)]
    user: Option<String>,
    #[command(flatten)]
    password: PasswordArgs,
    #[command(flatten)]
    properties: PropertyArgs,
    /// Guests in work at most, over all workers [default: the site's setting]
    #[arg(long, value_name = "N")]
    guest_threads: Option<i32>,
    /// Leave it out of every run for now
    #[arg(long)]
    ignored: bool,
}

/// Options of `host edit`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true).args([
    "rename", "kind", "address", "user", "password_stdin", "password_file", "guest_threads", "ignored",
]).args(back_ends::property_options()))]
pub(crate) struct Edit {
    /// Its name
    name: String,
    /// A new name
    #[arg(long, value_name = "NAME")]
    rename: Option<String>,
    /// What it is
    #[arg(long, value_parser = back_ends::kind())]
    kind: Option<HostKind>,
    /// Connection string, or none
    #[arg(long, value_name = "URL", value_parser = resettable::or_none::<String>)]
    address: Option<Resettable<String>>,
    /// User name, or none, which removes the password too
    #[arg(long, value_parser = resettable::or_none::<String>)]
    user: Option<Resettable<String>>,
    #[command(flatten)]
    password: PasswordArgs,
    #[command(flatten)]
    properties: PropertyArgs,
    /// Guests in work at most, or site for the site's setting
    #[arg(long, value_name = "N", value_parser = resettable::or_site::<i32>)]
    guest_threads: Option<Resettable<i32>>,
    /// Leave it out of every run
    #[arg(long, value_name = "true|false")]
    ignored: Option<bool>,
}

pub(crate) async fn run(context: &Context, command: HostCommand) -> Result<()> {
    let db = context.database().await?;
    let (pool, out) = (&db.pool, &context.out);
    match command {
        HostCommand::Add(args) => add(context, &db, args).await,
        HostCommand::List => list(context, &db).await,
        HostCommand::Show { name } => show(context, &db, &name).await,
        HostCommand::Edit(args) => edit(context, &db, args).await,
        HostCommand::Password { name, password } => {
            let host = hosts::by_name(pool, &name).await?;
            let (key, password) = read_password(context, &db, &password, &host.name).await?;
            hosts::set_password(pool, &host, sealing(&key, &password)).await?;
            out.done(&format!("password of host {} changed", host.name))
        }
        HostCommand::Remove { name } => {
            let host = hosts::remove(pool, &name).await?;
            out.done(&format!(
                "host {} and its guests removed; their restore points stay",
                host.name
            ))
        }
        HostCommand::Test { name, how } => ask::test(context, &db, &name, &how).await,
        HostCommand::Check { name, how } => ask::check(context, &db, name.as_deref(), &how).await,
        HostCommand::Pause { name } => out.done(&hosts::pause(pool, &name).await?),
        HostCommand::Resume { name } => out.done(&hosts::resume(pool, &name).await?),
    }
}

async fn add(context: &Context, db: &Database, args: Add) -> Result<()> {
    let given = args.properties.given().into_iter();
    let properties = given.filter_map(|(name, value)| Some((name, value?)));
    let config = HostConfig {
        name: args.name,
        kind: args.kind,
        address: args.address,
        user_name: args.user,
        properties: properties.collect(),
        ignored: args.ignored,
        guest_threads: args.guest_threads,
    };
    // Before anybody types a password for nothing.
    hosts::check_new(&KnownBackEnds, &config, args.password.is_given())?;
    let mut done = format!("host {} added", config.name);
    let password = match &config.user_name {
        Some(user) => {
            let file = context.key_file();
            if !file.exists() {
                done += &format!(
                    "; passwords are sealed with the new key {}, which every machine with a worker \
                     needs",
                    file.display()
                );
            }
            let whose = format!("{user}@{}", config.name);
            Some(read_password(context, db, &args.password, &whose).await?)
        }
        None => None,
    };
    let password = password.as_ref();
    let password = password.map(|(key, password)| sealing(key, password));
    hosts::add(&db.pool, &KnownBackEnds, &config, password).await?;
    let check = terminal::command("host check", &[&config.name]);
    done += &format!("; `{check}` finds its guests");
    context.out.done(&done)
}

/// Reads a password, and the key of this machine that seals it.
pub(super) async fn read_password(
    context: &Context,
    db: &Database,
    password: &PasswordArgs,
    whose: &str,
) -> Result<(Key, SecretString)> {
    // First what can go wrong before anybody types.
    let key = keys::load_or_create(&db.pool, &context.key_file()).await?;
    let password = password.read(&format!("Password of {whose}: "))?;
    Ok((key, password))
}

fn sealing<'a>(key: &'a Key, password: &'a SecretString) -> Sealing<'a> {
    Sealing { key, password }
}

async fn edit(context: &Context, db: &Database, args: Edit) -> Result<()> {
    let changes = HostChanges {
        name: args.rename,
        kind: args.kind,
        address: resettable::given(args.address),
        user_name: resettable::given(args.user),
        properties: args.properties.given(),
        guest_threads: resettable::given(args.guest_threads),
        ignored: args.ignored,
    };
    let password = match args.password.is_given() {
        true => Some(read_password(context, db, &args.password, &args.name).await?),
        false => None,
    };
    let password = password.as_ref();
    let password = password.map(|(key, password)| sealing(key, password));
    let edited = hosts::edit(&db.pool, &KnownBackEnds, &args.name, changes, password).await?;
    let name = edited.name;
    let mut done = format!("host {name} changed");
    if edited.password_removed {
        done += &format!(
            "; its password was for the former address or user and is removed: give the one for this with `virtuozo host \
             password {name}`"
        );
    }
    context.out.done(&done)
}

async fn list(context: &Context, db: &Database) -> Result<()> {
    context.out.list(
        &hosts::list(&db.pool).await?,
        "no hosts yet; `virtuozo host add` adds one",
        &["Host", "Kind", "Address", "State", "Checked", "Why"],
        |host| {
            vec![
                host.name.clone(),
                host.kind.to_string(),
                output::or_dash(host.address.as_deref()),
                state(host),
                output::time_or_dash(host.checked_at),
                output::or_dash(why(host)),
            ]
        },
    )
}

fn state(host: &Host) -> String {
    let mut text = host.state.to_string();
    if host.ignored {
        text += ", ignored";
    }
    if host.pause.paused_since.is_some() {
        text += ", paused";
    }
    text
}

/// Why it is in this state, and since when it is paused.
fn why(host: &Host) -> Option<String> {
    let parts = [text::pause(&host.pause), host.state_reason.clone()];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

async fn show(context: &Context, db: &Database, name: &str) -> Result<()> {
    context
        .out
        .show(&hosts::show(&db.pool, name).await?, |view: &HostDetails| {
            let host = &view.host;
            let site = || "site".to_owned();
            let mut fields = vec![
                ("Host", host.name.clone()),
                ("Kind", host.kind.to_string()),
                ("Address", output::or_dash(host.address.as_deref())),
                ("User", output::or_dash(host.user_name.as_deref())),
                (
                    "Password",
                    if host.has_password { "stored" } else { "none" }.to_owned(),
                ),
                (
                    "Guest threads",
                    host.guest_threads.map_or_else(site, |n| n.to_string()),
                ),
                ("State", state(host)),
                ("Why", output::or_dash(why(host))),
                ("Checked", output::time_or_dash(host.checked_at)),
                ("Guests", view.guests.to_string()),
            ];
            fields.extend(host.properties.iter().map(|(name, value)| {
                (
                    "Property",
                    format!("{name} = {}", back_ends::shown(name, value)),
                )
            }));
            fields.extend(view.datastores.iter().map(|store| {
                let path = store.local_path.as_deref().or(store.host_path.as_deref());
                (
                    "Datastore",
                    format!("{} at {}", store.name, output::or_dash(path)),
                )
            }));
            let nodes = view.nodes.iter();
            fields.extend(nodes.map(|node| ("Slots busy on", text::node(node))));
            fields.extend(
                view.change_ids.iter().map(|(guest, ids)| {
                    ("Kept for changes", format!("{guest}: {}", ids.join(", ")))
                }),
            );
            fields
        })
}
