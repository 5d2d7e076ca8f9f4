//! Finds runs, restore points and other rows by the ids and names that a command is given.

use anyhow::Result;
use sqlx::PgPool;
use uuid::Uuid;
use virtuozo_store::views;

use crate::error::usage;

/// Host and guest of `HOST/GUEST`.
pub(crate) fn split_guest(text: &str) -> Result<(&str, &str)> {
    text.split_once('/')
        .filter(|(host, guest)| !host.is_empty() && !guest.is_empty())
        .ok_or_else(|| usage(format!("'{text}' is not a guest: write it as HOST/GUEST")))
}

/// The run with this id, or with an id that begins or ends so, or the newest one for `latest`.
pub(crate) async fn run(pool: &PgPool, text: &str) -> Result<Uuid> {
    let ids = views::run_ids(pool).await?;
    if text == "latest" {
        return ids
            .first()
            .copied()
            .ok_or_else(|| usage("there is no run yet: start one with `virtuozo run now`"));
    }
    find_id(text, "run", ids)
}

/// The restore point with this id, or with an id that begins or ends so.
pub(crate) async fn point(pool: &PgPool, text: &str) -> Result<views::PointLine> {
    let mut points = views::points(pool, None, None).await?;
    let id = find_id(text, "restore point", points.iter().map(|point| point.id))?;
    points.retain(|point| point.id == id);
    points
        .pop()
        .ok_or_else(|| usage(format!("there is no restore point '{text}'")))
}

/// The only one of `ids` that equals, begins with or ends with `text`. `what` names the kind of row in errors.
///
/// # Errors
/// `text` is no part of an id, or none or several of `ids` match.
pub(crate) fn find_id(text: &str, what: &str, ids: impl IntoIterator<Item = Uuid>) -> Result<Uuid> {
    let wanted = text.replace('-', "").to_ascii_lowercase();
    if wanted.is_empty() || !wanted.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(usage(format!(
            "'{text}' is not the id of a {what}: an id is made of the digits 0-9 and a-f"
        )));
    }
    let mut found = ids.into_iter().filter(|id| {
        let digits = id.simple().to_string();
        digits.starts_with(&wanted) || digits.ends_with(&wanted)
    });
    match (found.next(), found.next()) {
        (Some(id), None) => Ok(id),
        (None, _) => Err(usage(format!("there is no {what} '{text}'"))),
        (Some(_), Some(_)) => Err(usage(format!(
            "more than one {what} begins or ends with '{text}': give more digits"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::short;

    #[test]
    fn a_guest_is_named_with_its_host_and_its_own_name_may_have_slashes() {
        assert_eq!(split_guest("alpha/mail").unwrap(), ("alpha", "mail"));
        assert_eq!(
            split_guest("alpha/[one] mail/mail.vmx").unwrap(),
            ("alpha", "[one] mail/mail.vmx")
        );
        for wrong in ["mail", "/mail", "alpha/", ""] {
            assert!(split_guest(wrong).is_err(), "{wrong:?} was taken");
        }
    }

    #[test]
    fn an_id_is_found_by_its_beginning_or_end_only_if_that_is_unique() {
        let one = Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_aaaa_0001);
        let two = Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_aaaa_0002);
        let find = |text: &str| find_id(text, "run", [one, two]);
        assert_eq!(find(&one.to_string()).unwrap(), one);
        assert_eq!(find(&short(two)).unwrap(), two);
        assert!(
            find("0199")
                .unwrap_err()
                .to_string()
                .contains("more than one")
        );
        assert!(find("ffff").unwrap_err().to_string().contains("no run"));
        assert!(find("zz").unwrap_err().to_string().contains("digits"));
        assert!(find("").is_err());
    }
}
