//! `virtuozo config …`: how the processes on this machine are set up, and by what.

use anyhow::Result;
use clap::Subcommand;
use serde::Serialize;

use crate::{
    configuration::{Origin, Setting, Value},
    context::Context,
};

/// Prefix of the environment variables that the OpenTelemetry library reads itself.
const TELEMETRY_PREFIX: &str = "OTEL_";
/// Suffix of those of them that hold secrets.
const TELEMETRY_SECRET_SUFFIX: &str = "_HEADERS";
/// Shown instead of a secret.
const HIDDEN: &str = "***";

/// Commands on the configuration of processes.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Each setting of a process on this machine with its value and where that comes from: option,
    /// environment, file, default, in this order
    #[command(
        after_help = "Examples:\n  virtuozo config show\n  virtuozo config show --json --config /etc/virtuozo/virtuozo.toml"
    )]
    Show,
}

/// One setting as `config show` prints it.
#[derive(Serialize)]
struct Line {
    name: String,
    /// `None` if it is not set and has no default.
    value: Option<String>,
    origin: Origin,
    /// The option, the variable, or the file and its line.
    place: Option<String>,
    option: Option<String>,
    variable: String,
}

pub(crate) fn run(context: &Context, command: ConfigCommand) -> Result<()> {
    let ConfigCommand::Show = command;
    let settings = context.configuration.values();
    let mut lines: Vec<_> = settings
        .map(|(setting, value)| line(context, setting, value))
        .collect();
    lines.extend(telemetry());
    let headers = ["Setting", "Value", "From"];
    context.out.list(&lines, "", &headers, |line| {
        let value = line.value.as_deref().unwrap_or("-");
        let place = line.place.as_deref().unwrap_or("default");
        vec![line.name.clone(), value.to_owned(), place.to_owned()]
    })
}

fn line(context: &Context, setting: &Setting, value: Value) -> Line {
    let text = value.text.or_else(|| context.default_of(setting.id()));
    Line {
        name: setting.name(),
        value: text.map(|text| match setting.is_secret() {
            true => masked(&text),
            false => text,
        }),
        origin: value.origin,
        place: value.place,
        option: Some(setting.flag()),
        variable: setting.variable(),
    }
}

/// A connection string with `***` for its password; anything but a URL is hidden as a whole.
fn masked(text: &str) -> String {
    let Ok(mut url) = url::Url::parse(text) else {
        return HIDDEN.to_owned();
    };
    // Fails only where there can be no password.
    if url.password().is_some() && url.set_password(Some(HIDDEN)).is_err() {
        return HIDDEN.to_owned();
    }
    if url.query().is_some() {
        let pairs: Vec<(String, String)> = url
            .query_pairs()
            .map(|(key, value)| match key.as_ref() {
                "password" => (key.into_owned(), HIDDEN.to_owned()),
                _ => (key.into_owned(), value.into_owned()),
            })
            .collect();
        url.query_pairs_mut().clear().extend_pairs(pairs);
    }
    url.into()
}

/// The OpenTelemetry library's variables that are set; only the library itself knows its defaults.
fn telemetry() -> Vec<Line> {
    let mut lines: Vec<_> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, value)| name.starts_with(TELEMETRY_PREFIX) && !value.is_empty())
        .map(|(name, value)| {
            let value = if name.ends_with(TELEMETRY_SECRET_SUFFIX) {
                HIDDEN.to_owned()
            } else {
                value.to_string_lossy().into_owned()
            };
            Line {
                value: Some(value),
                origin: Origin::Environment,
                place: Some(name.clone()),
                option: None,
                variable: name.clone(),
                name,
            }
        })
        .collect();
    lines.sort_by(|a, b| a.name.cmp(&b.name));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_password_wherever_it_stands() {
        for (given, shown) in [
            (
                "postgres://u:s3cret@db:5432/v",
                "postgres://u:***@db:5432/v",
            ),
            ("postgres://u@db/v", "postgres://u@db/v"),
            (
                "postgres://u@db/v?password=s3cret&sslmode=require",
                "postgres://u@db/v?password=***&sslmode=require",
            ),
            ("host=db password=s3cret", HIDDEN),
            ("s3cret", HIDDEN),
        ] {
            let found = masked(given);
            assert_eq!(found, shown);
            assert!(!found.contains("s3cret"));
        }
    }
}
