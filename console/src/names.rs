//! From the names that people type to the ids of the database.

use anyhow::Result;
use shared::store::report;
use sqlx::PgPool;
use uuid::Uuid;

use crate::{error::usage, output};

/// The host of this name.
pub(crate) async fn host(pool: &PgPool, name: &str) -> Result<Uuid> {
    let hosts = report::hosts(pool).await?;
    if let Some(host) = hosts.iter().find(|host| host.name == name) {
        return Ok(host.id);
    }
    Err(usage(format!(
        "there is no host '{name}'; there are: {}",
        listed(hosts.iter().map(|host| host.name.as_str()))
    )))
}

/// The guest `HOST/GUEST`. The guest may be given by name or by the path of its `.vmx`.
pub(crate) async fn guest(pool: &PgPool, text: &str) -> Result<Uuid> {
    let (host_name, name) = split_guest(text)?;
    let host_id = host(pool, host_name).await?;
    let mut guests = report::guests(pool).await?;
    guests.retain(|guest| guest.host_id == host_id);
    let mut found = guests
        .iter()
        .filter(|guest| guest.name == name || guest.vmx_path == name);
    match (found.next(), found.next()) {
        (Some(guest), None) => Ok(guest.id),
        (None, _) => Err(usage(format!(
            "host '{host_name}' has no guest '{name}'; it has: {}",
            listed(guests.iter().map(|guest| guest.name.as_str()))
        ))),
        (Some(one), Some(two)) => Err(usage(format!(
            "host '{host_name}' has more than one guest '{name}': name it by its path, for example \
             '{host_name}/{}' or '{host_name}/{}'",
            one.vmx_path, two.vmx_path
        ))),
    }
}

/// The two parts of `HOST/GUEST`.
pub(crate) fn split_guest(text: &str) -> Result<(&str, &str)> {
    text.split_once('/')
        .filter(|(host, guest)| !host.is_empty() && !guest.is_empty())
        .ok_or_else(|| usage(format!("'{text}' is not a guest: write it as HOST/GUEST")))
}

/// The run with this id, beginning or end of an id, or the newest one for `latest`.
pub(crate) async fn run(pool: &PgPool, text: &str) -> Result<Uuid> {
    let ids = report::run_ids(pool).await?;
    if text == "latest" {
        return ids
            .first()
            .copied()
            .ok_or_else(|| usage("there is no run yet: start one with `virtuozo run now`"));
    }
    output::find_id(text, "run", ids)
}

/// The restore point with this id, or beginning or end of an id.
pub(crate) async fn point(pool: &PgPool, text: &str) -> Result<report::PointLine> {
    let mut points = report::points(pool, None, None).await?;
    let id = output::find_id(text, "restore point", points.iter().map(|point| point.id))?;
    points.retain(|point| point.id == id);
    points
        .pop()
        .ok_or_else(|| usage(format!("there is no restore point '{text}'")))
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.take(20).collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_is_named_with_its_host_and_may_have_slashes_itself() {
        assert_eq!(split_guest("alpha/mail").unwrap(), ("alpha", "mail"));
        assert_eq!(
            split_guest("alpha/[one] mail/mail.vmx").unwrap(),
            ("alpha", "[one] mail/mail.vmx")
        );
        for wrong in ["mail", "/mail", "alpha/", ""] {
            assert!(split_guest(wrong).is_err(), "{wrong:?} was taken");
        }
    }
}
