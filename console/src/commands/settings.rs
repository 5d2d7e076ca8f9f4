//! `virtuozo settings …`: what holds for the whole site.

use anyhow::Result;
use clap::Subcommand;
use serde::Serialize;
use serde_json::json;
use virtuozo_services::settings::{self, KEYS, Key};

use crate::context::Context;

/// Commands on settings.
#[derive(Debug, Subcommand)]
pub(crate) enum SettingsCommand {
    /// Settings and what they are for
    #[command(
        after_help = "Examples:\n  virtuozo settings get\n  virtuozo settings get destination"
    )]
    Get {
        /// Only this one
        name: Option<String>,
    },
    /// Change a setting; it applies at once, without a restart
    #[command(after_help = "Examples:
  virtuozo settings set destination /srv/backup
  virtuozo settings set daily_start_time 22:30
  virtuozo settings set guest_threads 3")]
    Set {
        /// The setting, as `settings get` shows it
        name: String,
        /// Its value; '' for none, where that is permitted
        value: String,
    },
}

pub(crate) async fn run(context: &Context, command: SettingsCommand) -> Result<()> {
    match command {
        SettingsCommand::Get { name } => {
            let name = name.as_deref();
            let key = name.map(settings::key).transpose()?;
            let db = context.database().await?;
            show(context, KEYS, key, &settings::get(&db.pool).await?)
        }
        SettingsCommand::Set { name, value } => {
            let key = settings::key(&name)?;
            let db = context.database().await?;
            let after = settings::set(&db.pool, key, &value).await?;
            context.out.done(&changed(key, &after))
        }
    }
}

/// One of several settings, or all of them with what they are for.
pub(super) fn show<S: Serialize>(
    context: &Context,
    keys: &[Key<S>],
    only: Option<&Key<S>>,
    settings: &S,
) -> Result<()> {
    let out = &context.out;
    match only {
        Some(key) if out.is_json() => {
            let all = serde_json::to_value(settings)?;
            out.json(&json!({ key.name: all.get(key.name) }))
        }
        Some(key) => out.line(&key.value(settings)),
        None if out.is_json() => out.json(settings),
        None => {
            let line = |key: &Key<S>| [key.name.into(), key.value(settings), key.about.into()];
            let lines: Vec<[String; 3]> = keys.iter().map(line).collect();
            let headers = ["Setting", "Value", "What it is for"];
            out.list(&lines, "", &headers, |line| line.to_vec())
        }
    }
}

/// What a setting is now.
pub(super) fn changed<S>(key: &Key<S>, after: &S) -> String {
    let now = Some(key.value(after)).filter(|value| !value.is_empty());
    let now = now.as_deref().unwrap_or("none");
    format!("{} = {now}", key.name)
}
