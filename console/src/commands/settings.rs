//! `virtuozo settings …`: what holds for the whole site.

use anyhow::Result;
use clap::Subcommand;
use serde_json::json;
use shared::store::settings::{self, KEYS};

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
        SettingsCommand::Get { name: None } => {
            let db = context.database().await?;
            let settings = settings::get(&db.pool).await?;
            if context.out.is_json() {
                return context.out.json(&settings);
            }
            let lines: Vec<[String; 3]> = KEYS
                .iter()
                .map(|key| {
                    [
                        key.name.to_owned(),
                        key.value(&settings),
                        key.about.to_owned(),
                    ]
                })
                .collect();
            let headers = ["Setting", "Value", "What it is for"];
            context.out.list(&lines, "", &headers, |line| line.to_vec())
        }
        SettingsCommand::Get { name: Some(name) } => {
            let key = settings::key(&name)?;
            let db = context.database().await?;
            let settings = settings::get(&db.pool).await?;
            if context.out.is_json() {
                let all = serde_json::to_value(&settings)?;
                return context.out.json(&json!({ key.name: all.get(key.name) }));
            }
            context.out.line(&key.value(&settings))
        }
        SettingsCommand::Set { name, value } => {
            let key = settings::key(&name)?;
            let db = context.database().await?;
            let after = settings::set(&db.pool, &[(key.name, &value)]).await?;
            let now = Some(key.value(&after)).filter(|value| !value.is_empty());
            let now = now.as_deref().unwrap_or("none");
            context.out.done(&format!("{} = {now}", key.name))
        }
    }
}
