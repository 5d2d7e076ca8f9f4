//! `virtuozo events`: what happened, in order, and what happens from now on.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use sqlx::PgPool;
use virtuozo_model::Event;
use virtuozo_postgres::StoreError;
use virtuozo_services::events::Wanted;
use virtuozo_store::events::{self, Filter, follow::Watermark};

use crate::{context::Context, output};

/// How often `--follow` looks again.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A look that takes longer waits for a database that is silent.
const LOOK_LIMIT: Duration = Duration::from_secs(10);
/// Events that `--follow` reads at once.
const AT_ONCE: i64 = 500;
/// The columns for people.
const HEADERS: [&str; 5] = ["At", "Severity", "Code", "About", "Message"];

/// Options of `events`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  virtuozo events --user
  virtuozo events --follow --host alpha
  virtuozo events --run latest --limit 1000 --json
  virtuozo events --follow --json | jq .message")]
pub(crate) struct EventsArgs {
    /// Go on with what happens until Ctrl-C; with --json one object a line
    #[arg(long)]
    follow: bool,
    /// Only those for users: done, failed (code 200); not those about the flow of work (50, 100)
    #[arg(long)]
    user: bool,
    /// Only those about this run: id, or a beginning or end that only this run has; or `latest`
    #[arg(long, value_name = "RUN")]
    run: Option<String>,
    /// Only those about this host and its guests
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Only those about this guest
    #[arg(long, value_name = "HOST/GUEST")]
    guest: Option<String>,
    /// How many of the past, the latest
    #[arg(long, default_value_t = 50, value_name = "N")]
    limit: u32,
}

pub(crate) async fn run(context: &Context, args: EventsArgs) -> Result<()> {
    let db = context.database().await?;
    let (pool, out) = (&db.pool, &context.out);
    let wanted = Wanted {
        only_for_users: args.user,
        run: args.run,
        host: args.host,
        guest: args.guest,
    };
    let filter = virtuozo_services::events::filter(pool, &wanted).await?;
    let limit = i64::from(args.limit);
    if args.follow {
        return follow(context, pool, &filter, limit).await;
    }
    let events = events::list(pool, &filter, limit).await?;
    out.list(&events, "no such events", &HEADERS, |event| {
        cells(event).to_vec()
    })
}

async fn follow(context: &Context, pool: &PgPool, filter: &Filter, limit: i64) -> Result<()> {
    let (mut place, latest) = Watermark::after_latest(pool, filter, limit).await?;
    for event in &latest {
        say(context, event)?;
    }
    let mut is_away = false;
    loop {
        let looked = tokio::time::timeout(LOOK_LIMIT, place.next(pool, filter, AT_ONCE)).await;
        let batch = match looked {
            Ok(Ok(batch)) => batch,
            Ok(Err(error)) if !error.is_unavailable() => return Err(error.into()),
            away => {
                if !std::mem::replace(&mut is_away, true) {
                    let why = match away {
                        Ok(Err(error)) => error.to_string(),
                        _ => StoreError::Unavailable(sqlx::Error::PoolTimedOut).to_string(),
                    };
                    eprintln!("{why}; still watching");
                }
                tokio::time::sleep(LOOK_EVERY).await;
                continue;
            }
        };
        if std::mem::take(&mut is_away) {
            eprintln!("the database answers again");
        }
        let Some(batch) = batch else {
            // A database that is away just now is found so by the next look.
            if let Ok(now) = Watermark::now(pool).await {
                eprintln!(
                    "another server has taken the database over, without the latest of what it held: \
                     events of that time may be missing here; `virtuozo events` shows what there is"
                );
                place = now;
            }
            tokio::time::sleep(LOOK_EVERY).await;
            continue;
        };
        for event in batch.events() {
            say(context, event)?;
        }
        place = place.after(&batch, usize::MAX);
        if batch.is_last() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// One event as a line of its own.
fn say(context: &Context, event: &Event) -> Result<()> {
    if context.out.is_json() {
        return context.out.line(&serde_json::to_string(event)?);
    }
    let [at, severity, code, about, message] = cells(event);
    context.out.line(&format!(
        "{at}  {severity:<7}  {code:>3}  {about:<20}  {message}"
    ))
}

fn cells(event: &Event) -> [String; 5] {
    let about = match (&event.host, &event.guest) {
        (Some(host), Some(guest)) => format!("{host}/{guest}"),
        (Some(host), None) => host.clone(),
        _ => "-".to_owned(),
    };
    [
        output::time(event.at),
        event.severity.to_string(),
        event.code.to_string(),
        about,
        event.message.clone(),
    ]
}
