//! `virtuozo notice …`: what is told by mail and webhook, and how.

use anyhow::Result;
use chrono::Utc;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use virtuozo_model::{Notice, NoticeChannel, NoticeKind, NoticeState};
use virtuozo_notices::Notices;
use virtuozo_services::notices::{self, KEYS, Secret};

use super::{host, settings};
use crate::{
    context::{Context, Database},
    error::AlreadyReported,
    output,
    password::PasswordArgs,
};

/// Commands on notices.
#[derive(Debug, Subcommand)]
pub(crate) enum NoticeCommand {
    /// Settings of mail and webhook
    #[command(subcommand, after_help = "Example:\n  virtuozo notice settings get")]
    Settings(NoticeSettingsCommand),
    /// Store the password for the mail server or the secret of the webhook; without options it is asked for
    #[command(after_help = "Examples:
  virtuozo notice secret mail
  virtuozo notice secret webhook --password-file /run/keys/webhook
  virtuozo notice secret mail --remove")]
    Secret {
        /// Of what
        #[arg(value_enum)]
        of: Way,
        #[command(flatten)]
        password: PasswordArgs,
        /// Forget it
        #[arg(long, conflicts_with_all = ["password_stdin", "password_file"])]
        remove: bool,
    },
    /// Show what would be told, from real data, without sending it
    #[command(after_help = "Examples:
  virtuozo notice preview digest
  virtuozo notice preview failure --run latest
  virtuozo notice preview success --html > notice.html")]
    Preview(Preview),
    /// Send a test now, by every way that is configured, and say what is wrong
    #[command(after_help = "Examples:\n  virtuozo notice test\n  virtuozo notice test mail")]
    Test {
        /// Only this way
        #[arg(value_enum)]
        way: Option<Way>,
    },
    /// The newest notices, and what became of them
    #[command(
        after_help = "Examples:\n  virtuozo notice list\n  virtuozo notice list --failed --json"
    )]
    List {
        /// Only those that did not get through to everybody
        #[arg(long)]
        failed: bool,
        /// How many
        #[arg(long, default_value_t = 30, value_name = "N")]
        limit: u32,
    },
    /// Send what failed in the last week, and what waits after a failure, again now
    #[command(after_help = "Example:\n  virtuozo notice retry")]
    Retry,
}

/// Commands on settings of notices.
#[derive(Debug, Subcommand)]
pub(crate) enum NoticeSettingsCommand {
    /// Settings and what they are for
    #[command(
        after_help = "Examples:\n  virtuozo notice settings get\n  virtuozo notice settings get mail_to"
    )]
    Get {
        /// Only this one
        name: Option<String>,
    },
    /// Change a setting; it applies at once, without a restart
    #[command(after_help = "Examples:
  virtuozo notice settings set mail_host mail.example.org
  virtuozo notice settings set mail_to admin@example.org,night@example.org
  virtuozo notice settings set digest_time 07:30")]
    Set {
        /// The setting, as `notice settings get` shows it
        name: String,
        /// Its value; '' for none, where that is permitted
        value: String,
    },
}

/// A way of telling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Way {
    /// By mail
    Mail,
    /// By a signed request to a web address
    Webhook,
}

/// What can be previewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum What {
    /// A run that failed
    Failure,
    /// A run that succeeded
    Success,
    /// The last day
    Digest,
}

/// Options of `notice preview`.
#[derive(Debug, Args)]
pub(crate) struct Preview {
    /// What is told
    #[arg(value_enum)]
    what: What,
    /// The run, by its id or `latest` [default: the newest one that ended so]
    #[arg(long, value_name = "RUN")]
    run: Option<String>,
    /// The HTML part of the mail
    #[arg(long)]
    html: bool,
    /// The text part of the mail, which is the default
    #[arg(long, conflicts_with = "html")]
    text: bool,
}

impl From<Way> for NoticeChannel {
    fn from(way: Way) -> Self {
        match way {
            Way::Mail => Self::Mail,
            Way::Webhook => Self::Webhook,
        }
    }
}

pub(crate) async fn run(context: &Context, command: NoticeCommand) -> Result<()> {
    match command {
        NoticeCommand::Settings(command) => settings_of(context, command).await,
        NoticeCommand::Secret {
            of,
            password,
            remove,
        } => secret(context, of, &password, remove).await,
        NoticeCommand::Preview(args) => preview(context, args).await,
        NoticeCommand::Test { way } => test(context, way).await,
        NoticeCommand::List { failed, limit } => list(context, failed, limit).await,
        NoticeCommand::Retry => {
            let db = context.database().await?;
            let count = notices::retry(&db.pool).await?;
            context
                .out
                .done(&format!("{count} notices are sent again by the schedulers"))
        }
    }
}

async fn settings_of(context: &Context, command: NoticeSettingsCommand) -> Result<()> {
    match command {
        NoticeSettingsCommand::Get { name } => {
            let name = name.as_deref();
            let key = name.map(notices::key).transpose()?;
            let db = context.database().await?;
            settings::show(context, KEYS, key, &notices::get(&db.pool).await?)
        }
        NoticeSettingsCommand::Set { name, value } => {
            let key = notices::key(&name)?;
            let db = context.database().await?;
            let after = notices::set(&db.pool, key, &value).await?;
            let mut done = settings::changed(key, &after.settings);
            for secret in after.removed {
                done += &format!(
                    "; the {secret} was for the former {}, and is removed: give the one for this with `{}`",
                    secret.place_words(),
                    secret.command()
                );
            }
            context.out.done(&done)
        }
    }
}

async fn secret(context: &Context, of: Way, password: &PasswordArgs, remove: bool) -> Result<()> {
    let db = context.database().await?;
    let secret = match of {
        Way::Mail => Secret::MailPassword,
        Way::Webhook => Secret::WebhookSecret,
    };
    if remove {
        notices::forget_secret(&db.pool, secret).await?;
        return context.out.done(&format!("the {secret} is forgotten"));
    }
    let (key, text) = host::read_password(context, &db, password, &secret.to_string()).await?;
    notices::set_secret(&db.pool, secret, &key, &text).await?;
    context.out.done(&format!(
        "{secret} stored; schedulers open it with the key file {}, which every machine with one needs",
        context.key_file().display()
    ))
}

fn sender(context: &Context, db: &Database) -> Notices {
    Notices::new(
        db.pool.clone(),
        context.unwatched(),
        context.key_file(),
        context.ca_files(),
    )
}

async fn preview(context: &Context, args: Preview) -> Result<()> {
    let db = context.database().await?;
    let kind = match args.what {
        What::Failure => NoticeKind::Failure,
        What::Success => NoticeKind::Success,
        What::Digest => NoticeKind::Digest,
    };
    let run_id = notices::previewed_run(&db.pool, kind, args.run.as_deref()).await?;
    let notices = sender(context, &db);
    let content = notices.preview(kind, run_id).await?;
    if context.out.is_json() {
        return context.out.json(&content);
    }
    let rendered = notices.render(&content).await?;
    context.out.lines(if args.html {
        &rendered.html
    } else {
        &rendered.text
    })
}

async fn test(context: &Context, way: Option<Way>) -> Result<()> {
    let db = context.database().await?;
    let channels = notices::channels_to_test(&db.pool, way.map(NoticeChannel::from)).await?;
    let notices = sender(context, &db);
    let mut results = Vec::new();
    for channel in channels {
        results.push((channel, notices.test(channel).await?));
    }
    let all_arrived = results.iter().all(|(_, error)| error.is_none());
    if context.out.is_json() {
        let lines: Vec<_> = results
            .iter()
            .map(|(channel, error)| {
                json!({ "channel": channel, "ok": error.is_none(), "error": error })
            })
            .collect();
        context.out.json(&lines)?;
    } else {
        for (channel, error) in &results {
            context.out.line(&match error {
                None => format!("{channel}: the test was taken over; see whether it arrives"),
                Some(error) => format!("{channel}: {error}"),
            })?;
        }
    }
    if all_arrived {
        Ok(())
    } else {
        Err(AlreadyReported.into())
    }
}

async fn list(context: &Context, failed: bool, limit: u32) -> Result<()> {
    let db = context.database().await?;
    let all = notices::list(&db.pool, failed, limit).await?;
    let none = if failed {
        "every notice got through"
    } else {
        "no notices yet"
    };
    let headers = [
        "Notice",
        "At",
        "What",
        "By",
        "Run",
        "State",
        "What happened",
    ];
    context.out.list(&all, none, &headers, |one| {
        vec![
            output::short(one.id),
            output::time(one.created_at),
            one.kind.to_string(),
            one.channel.to_string(),
            output::or_dash(one.run_id.map(output::short)),
            one.state.to_string(),
            happened(one),
        ]
    })
}

fn happened(one: &Notice) -> String {
    let again = || {
        let secs = (one.run_after - Utc::now()).max(chrono::TimeDelta::zero());
        format!("again in {}", output::span(secs))
    };
    match (one.state, &one.last_error) {
        (NoticeState::Waiting, Some(error)) => {
            format!("{} attempts, {}: {error}", one.attempts, again())
        }
        (NoticeState::Waiting, None) if one.held => "held back by messages_per_hour".to_owned(),
        (NoticeState::Waiting, None) => "waits for others to be told with it".to_owned(),
        (NoticeState::Folded, _) => {
            format!(
                "told by {}",
                output::or_dash(one.folded_into.map(output::short))
            )
        }
        (_, Some(error)) => error.clone(),
        (NoticeState::Sent, None) => one.sent_to.join(", "),
        (_, None) => "-".to_owned(),
    }
}
