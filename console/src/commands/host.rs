//! `virtuozo host …`: the hypervisors to back up.

use std::collections::BTreeMap;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::json;
use tokio::task::JoinSet;
use uuid::Uuid;
use virtuozo_model::{Datastore, Guest, Host, HostKind};
use virtuozo_postgres::StoreError;
use virtuozo_store::{
    circuit_breakers, datastores, guests,
    hosts::{self, HostConfig, Rules as _},
    operators,
};

use super::guest;
use crate::{
    back_ends::{self, KnownBackEnds, PropertyArgs},
    context::{Context, Database},
    error::{AlreadyReported, usage},
    key, output,
    password::PasswordArgs,
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
    /// Try the connection and say what answers; changes nothing
    #[command(after_help = "Example:\n  virtuozo host test alpha")]
    Test {
        /// Its name
        name: String,
    },
    /// Hold the stored configuration against the live one now, as every run does first
    #[command(after_help = "Examples:\n  virtuozo host check\n  virtuozo host check alpha")]
    Check {
        /// Only this host
        name: Option<String>,
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
    match command {
        HostCommand::Add(args) => add(context, &db, args).await,
        HostCommand::List => list(context, &db).await,
        HostCommand::Show { name } => show(context, &db, &name).await,
        HostCommand::Edit(args) => edit(context, &db, args).await,
        HostCommand::Password { name, password } => {
            let host = hosts::by_name(&db.pool, &name).await?;
            let sealed = seal(context, &db, host.id, &password, &host.name).await?;
            hosts::set_password(&db.pool, host.id, Some(&sealed)).await?;
            context
                .out
                .done(&format!("password of host {} changed", host.name))
        }
        HostCommand::Remove { name } => {
            let host = hosts::by_name(&db.pool, &name).await?;
            hosts::remove(&db.pool, &host).await?;
            context.out.done(&format!(
                "host {} and its guests removed; their restore points stay",
                host.name
            ))
        }
        HostCommand::Test { name } => test(context, &db, &name).await,
        HostCommand::Check { name } => check(context, &db, name.as_deref()).await,
        HostCommand::Pause { name } => context.out.done(&operators::pause(&db.pool, &name).await?),
        HostCommand::Resume { name } => {
            context.out.done(&operators::resume(&db.pool, &name).await?)
        }
    }
}

async fn add(context: &Context, db: &Database, args: Add) -> Result<()> {
    let mut properties = BTreeMap::new();
    args.properties.apply(&mut properties);
    let config = HostConfig {
        name: args.name,
        kind: args.kind,
        address: args.address,
        user_name: args.user,
        properties,
        ignored: args.ignored,
        guest_threads: args.guest_threads,
    };
    // Before anybody types a password for nothing.
    config.check()?;
    KnownBackEnds
        .check_host(&config)
        .map_err(StoreError::Refused)?;
    let id = Uuid::now_v7();
    let mut done = format!("host {} added", config.name);
    let sealed = match &config.user_name {
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
            Some(seal(context, db, id, &args.password, &whose).await?)
        }
        None if args.password.is_given() => {
            return Err(usage("a password needs a user: give --user"));
        }
        None => None,
    };
    hosts::insert(&db.pool, id, &config, sealed.as_deref()).await?;
    done += &format!("; `virtuozo host check {}` finds its guests", config.name);
    context.out.done(&done)
}

/// Reads a password and seals it for a host, or for what else has this id.
pub(super) async fn seal(
    context: &Context,
    db: &Database,
    id: Uuid,
    password: &PasswordArgs,
    whose: &str,
) -> Result<Vec<u8>> {
    let key = key::load_or_create(&context.key_file(), &db.pool).await?;
    let password = password.read(&format!("Password of {whose}: "))?;
    Ok(key.seal(id, &password)?)
}

async fn edit(context: &Context, db: &Database, args: Edit) -> Result<()> {
    let host = hosts::by_name(&db.pool, &args.name).await?;
    let (id, has_password) = (host.id, host.has_password);
    let mut config = HostConfig::from(host);
    config.name = args.rename.unwrap_or(config.name);
    config.kind = args.kind.unwrap_or(config.kind);
    config.ignored = args.ignored.unwrap_or(config.ignored);
    resettable::apply(&mut config.address, args.address);
    resettable::apply(&mut config.user_name, args.user);
    args.properties.apply(&mut config.properties);
    resettable::apply(&mut config.guest_threads, args.guest_threads);
    if config.user_name.is_none() && args.password.is_given() {
        return Err(usage("a password needs a user: give --user"));
    }
    KnownBackEnds
        .check_host(&config)
        .map_err(StoreError::Refused)?;
    // First what can still go wrong for the one who types.
    let sealed = match args.password.is_given() {
        true => Some(seal(context, db, id, &args.password, &config.name).await?),
        false => None,
    };
    hosts::update(&db.pool, id, &config).await?;
    if sealed.is_some() || (has_password && config.user_name.is_none()) {
        hosts::set_password(&db.pool, id, sealed.as_deref()).await?;
    }
    context.out.done(&format!("host {} changed", config.name))
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

#[derive(Serialize)]
struct View {
    #[serde(flatten)]
    host: Host,
    datastores: Vec<Datastore>,
    guests: usize,
    /// Change ids for which the host keeps something, by guest.
    change_ids: BTreeMap<String, Vec<String>>,
}

async fn show(context: &Context, db: &Database, name: &str) -> Result<()> {
    let host = hosts::by_name(&db.pool, name).await?;
    let datastores = datastores::list(&db.pool, Some(host.id)).await?;
    let all = guests::list(&db.pool, Some(host.id)).await?;
    let guests = all.len();
    let kept =
        |guest: Guest| (!guest.change_ids.is_empty()).then_some((guest.name, guest.change_ids));
    let change_ids = all.into_iter().filter_map(kept).collect();
    context.out.show(
        &View {
            host,
            datastores,
            guests,
            change_ids,
        },
        |view| {
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
            fields.extend(
                view.change_ids.iter().map(|(guest, ids)| {
                    ("Kept for changes", format!("{guest}: {}", ids.join(", ")))
                }),
            );
            fields
        },
    )
}

async fn test(context: &Context, db: &Database, name: &str) -> Result<()> {
    let host = hosts::by_name(&db.pool, name).await?;
    let target = virtuozo_worker::host_target(&db.pool, &context.key_file(), host.id).await?;
    let connectors = context.connectors();
    let found = match connectors.of_kind(&target.kind) {
        Some(connector) => connector.probe().await?,
        None => String::new(),
    };
    let connection = connectors.connect(&target).await?;
    circuit_breakers::close(&db.pool, host.id).await?;
    let facts = connection.facts().await;
    connection.close().await;
    let facts = facts?;
    if context.out.is_json() {
        return context.out.json(&json!({
            "ok": true,
            "back_end": found,
            "guests": facts.guests.len(),
            "datastores": facts.datastores,
            "warnings": facts.warnings,
        }));
    }
    context.out.line(&found)?;
    context.out.line(&format!(
        "host {} answers; {} guests in its inventory, {} datastores in its configuration",
        host.name,
        facts.guests.len(),
        facts.datastores.len()
    ))?;
    facts
        .warnings
        .iter()
        .try_for_each(|warning| context.out.line(&format!("warning: {warning}")))
}

async fn check(context: &Context, db: &Database, name: Option<&str>) -> Result<()> {
    let hosts = match name {
        Some(name) => vec![hosts::by_name(&db.pool, name).await?],
        None => hosts::list(&db.pool)
            .await?
            .into_iter()
            .filter(|host| !host.ignored)
            .collect(),
    };
    let connectors = context.connectors();
    let key_file = context.key_file();
    let mut checks = JoinSet::new();
    for host in hosts {
        let (pool, connectors, key_file) = (db.pool.clone(), connectors.clone(), key_file.clone());
        let availability = context.health.availability.clone();
        checks.spawn(async move {
            let checking =
                virtuozo_worker::check_host(&pool, &availability, &key_file, &connectors, host.id);
            let checked = checking.await;
            (host.name, checked)
        });
    }
    let mut found = Vec::new();
    let mut failures = BTreeMap::new();
    for (host, checked) in checks.join_all().await {
        match checked {
            Ok(guests) => found.extend(guests),
            Err(error) => {
                failures.insert(host, error.to_string());
            }
        }
    }
    found.sort_by_cached_key(|guest| (guest.host_name.clone(), guest.name.clone()));
    if context.out.is_json() {
        let ok = failures.is_empty();
        context
            .out
            .json(&json!({ "ok": ok, "guests": found, "failures": failures }))?;
    } else {
        if !found.is_empty() || failures.is_empty() {
            guest::table(context, &db.pool, found).await?;
        }
        for (host, why) in &failures {
            context.out.failure(&format!("host {host}: {why}"));
        }
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(AlreadyReported.into())
    }
}
