//! From the ids and names that people type to runs and restore points.

use anyhow::Result;
use sqlx::PgPool;
use uuid::Uuid;
use virtuozo_store::views;

use crate::{error::usage, output};

/// The two parts of `HOST/GUEST`.
pub(crate) fn split_guest(text: &str) -> Result<(&str, &str)> {
    text.split_once('/')
        .filter(|(host, guest)| !host.is_empty() && !guest.is_empty())
        .ok_or_else(|| usage(format!("'{text}' is not a guest: write it as HOST/GUEST")))
}

/// The run with this id, beginning or end of an id, or the newest one for `latest`.
pub(crate) async fn run(pool: &PgPool, text: &str) -> Result<Uuid> {
    let ids = views::run_ids(pool).await?;
    if text == "latest" {
        return ids
            .first()
            .copied()
            .ok_or_else(|| usage("there is no run yet: start one with `virtuozo run now`"));
    }
    output::find_id(text, "run", ids)
}

/// The restore point with this id, or beginning or end of an id.
pub(crate) async fn point(pool: &PgPool, text: &str) -> Result<views::PointLine> {
    let mut points = views::points(pool, None, None).await?;
    let id = output::find_id(text, "restore point", points.iter().map(|point| point.id))?;
    points.retain(|point| point.id == id);
    points
        .pop()
        .ok_or_else(|| usage(format!("there is no restore point '{text}'")))
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
