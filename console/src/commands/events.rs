//! `virtuozo events`: what happened, in order, and what happens from now on.

use anyhow::Result;
use clap::Args;
use sqlx::PgPool;
use virtuozo_model::Event;
use virtuozo_services::events::{self, News, Wanted};

use crate::{context::Context, output};

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
    if args.follow {
        return follow(context, pool, &wanted, args.limit).await;
    }
    let events = events::list(pool, &wanted, args.limit).await?;
    out.list(&events, "no such events", &HEADERS, |event| {
        cells(event).to_vec()
    })
}

async fn follow(context: &Context, pool: &PgPool, wanted: &Wanted, limit: u32) -> Result<()> {
    let (mut follower, latest) = events::follow(pool, wanted, limit).await?;
    for event in &latest {
        say(context, event)?;
    }
    loop {
        match follower.next().await? {
            News::Events(events) => {
                for event in &events {
                    say(context, event)?;
                }
            }
            News::Away(why) => output::note(&format!("{why}; still watching")),
            News::AnswersAgain => output::note("the database answers again"),
            News::Restored => output::note(
                "another server has taken the database over, without the latest of what it held: \
                 events of that time may be missing here; `virtuozo events` shows what there is",
            ),
        }
    }
}

/// One event as a line of its own.
fn say(context: &Context, event: &Event) -> Result<()> {
    if context.out.is_json() {
        return context.out.json_line(event);
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
