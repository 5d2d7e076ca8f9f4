//! A notice as mail: subject, text and HTML, from templates that escape what they are given.

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use minijinja::{
    Environment, Error, UndefinedBehavior, Value, context, syntax::SyntaxConfig, value::Serde,
};
use serde::Serialize;
use virtuozo_model::human;

use crate::content::Content;

/// A notice as mail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rendered {
    /// All of it in a line.
    pub subject: String,
    /// For people who read text.
    pub text: String,
    /// For all others.
    pub html: String,
}

/// Renders a notice, with its times in a time zone.
pub(crate) fn mail(content: &Content, time_zone: &str) -> Result<Rendered, Error> {
    // A zone that was checked when it was set.
    let zone: Tz = time_zone.parse().unwrap_or(Tz::UTC);
    let mut templates = Environment::new();
    templates.set_undefined_behavior(UndefinedBehavior::Strict);
    templates.set_syntax(
        SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()?,
    );
    // What ends in .html is escaped.
    templates.add_template("notice.txt", include_str!("templates/notice.txt"))?;
    templates.add_template("notice.html", include_str!("templates/notice.html"))?;
    templates.add_filter("time", move |at: Option<String>| time(at.as_deref(), zone));
    templates.add_filter("size", |bytes: Option<i64>| {
        bytes.map_or_else(dash, |bytes| {
            human::size(u64::try_from(bytes).unwrap_or_default())
        })
    });
    templates.add_filter("span", |secs: Option<i64>| {
        secs.and_then(TimeDelta::try_seconds)
            .map_or_else(dash, human::span)
    });
    templates.add_filter("dash", |text: Value| {
        if text.is_none() {
            Value::from(dash())
        } else {
            text
        }
    });
    let notice = Value::from(Serde(content));
    let render = |name: &str| {
        templates
            .get_template(name)?
            .render(context! { notice => notice.clone(), version => env!("CARGO_PKG_VERSION"), zone => zone.name() })
    };
    Ok(Rendered {
        subject: content.subject.clone(),
        text: render("notice.txt")?,
        html: render("notice.html")?,
    })
}

fn dash() -> String {
    "-".to_owned()
}

fn time(at: Option<&str>, zone: Tz) -> String {
    at.and_then(|at| at.parse::<DateTime<Utc>>().ok())
        .map_or_else(dash, |at| {
            at.with_timezone(&zone).format("%Y-%m-%d %H:%M").to_string()
        })
}
