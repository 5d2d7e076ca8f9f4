//! From the names and ids that people give to what they mean.

use sqlx::PgPool;
use uuid::Uuid;
use virtuozo_store::{
    guests, hosts,
    views::{self, PointLine},
};

use crate::error::{ServiceError, refused};

/// Hosts and guests as people name them. Neither: the whole site.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Targets {
    /// Hosts by name or id.
    pub hosts: Vec<String>,
    /// Guests as HOST/GUEST, or by id.
    pub guests: Vec<String>,
}

impl Targets {
    /// The ids of the hosts, and those of the guests.
    pub(crate) async fn ids(&self, pool: &PgPool) -> Result<(Vec<Uuid>, Vec<Uuid>), ServiceError> {
        let (mut host_ids, mut guest_ids) = (Vec::new(), Vec::new());
        for name in &self.hosts {
            host_ids.push(hosts::by_name(pool, name).await?.id);
        }
        for name in &self.guests {
            guest_ids.push(guests::by_name(pool, name).await?.id);
        }
        Ok((host_ids, guest_ids))
    }
}

/// The host of a name, where one is given.
pub(crate) async fn host_id(
    pool: &PgPool,
    name: Option<&str>,
) -> Result<Option<Uuid>, ServiceError> {
    Ok(match name {
        Some(name) => Some(hosts::by_name(pool, name).await?.id),
        None => None,
    })
}

/// The guest of a name, where one is given.
pub(crate) async fn guest_id(
    pool: &PgPool,
    name: Option<&str>,
) -> Result<Option<Uuid>, ServiceError> {
    Ok(match name {
        Some(name) => Some(guests::by_name(pool, name).await?.id),
        None => None,
    })
}

/// The two parts of `HOST/GUEST`.
///
/// # Errors
/// [`ServiceError::Refused`] for a text of another form.
pub fn split_guest(text: &str) -> Result<(&str, &str), ServiceError> {
    text.split_once('/')
        .filter(|(host, guest)| !host.is_empty() && !guest.is_empty())
        .ok_or_else(|| refused(format!("'{text}' is not a guest: write it as HOST/GUEST")))
}

/// The run with this id, beginning or end of an id, or the newest one for `latest`.
///
/// # Errors
/// [`ServiceError::Refused`] if there is none, or more than one.
pub async fn run(pool: &PgPool, text: &str) -> Result<Uuid, ServiceError> {
    let ids = views::run_ids(pool).await?;
    if text == "latest" {
        let newest = ids.first().copied();
        return newest
            .ok_or_else(|| refused("there is no run yet: start one with `virtuozo run now`"));
    }
    find_id(text, "run", ids)
}

/// The restore point with this id, or beginning or end of an id.
///
/// # Errors
/// [`ServiceError::Refused`] if there is none, or more than one.
pub async fn point(pool: &PgPool, text: &str) -> Result<PointLine, ServiceError> {
    let points = views::points(pool, None, None).await?;
    let id = find_id(text, "restore point", points.iter().map(|point| point.id))?;
    points
        .into_iter()
        .find(|point| point.id == id)
        .ok_or_else(|| refused(format!("there is no restore point '{text}'")))
}

/// The restore points with these ids, or beginnings or ends of ids, each once.
///
/// # Errors
/// As [`point`], so an unknown one is told before anything is done with the others.
pub async fn points(pool: &PgPool, texts: &[String]) -> Result<Vec<PointLine>, ServiceError> {
    let mut found: Vec<PointLine> = Vec::new();
    for text in texts {
        let point = point(pool, text).await?;
        if found.iter().all(|other| other.id != point.id) {
            found.push(point);
        }
    }
    Ok(found)
}

/// The short form of an id: its last eight digits. The first ones are a time and alike in all that
/// was made in the same minute; whoever asks for an id takes any beginning or end that only one has.
pub fn short(id: Uuid) -> String {
    let digits = id.simple().to_string();
    digits.chars().skip(digits.len() - 8).collect()
}

/// The one id of `ids` that `text` is, begins or ends.
///
/// # Errors
/// [`ServiceError::Refused`] with a sentence that says whether there was none or more than one.
pub fn find_id(
    text: &str,
    what: &str,
    ids: impl IntoIterator<Item = Uuid>,
) -> Result<Uuid, ServiceError> {
    let wanted = text.replace('-', "").to_ascii_lowercase();
    if wanted.is_empty() || !wanted.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(refused(format!(
            "'{text}' is not the id of a {what}: an id is made of the digits 0-9 and a-f"
        )));
    }
    let mut found = ids.into_iter().filter(|id| {
        let digits = id.simple().to_string();
        digits.starts_with(&wanted) || digits.ends_with(&wanted)
    });
    match (found.next(), found.next()) {
        (Some(id), None) => Ok(id),
        (None, _) => Err(refused(format!("there is no {what} '{text}'"))),
        (Some(_), Some(_)) => Err(refused(format!(
            "more than one {what} begins or ends with '{text}': give more digits"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_found_by_its_beginning_or_end_only_if_that_is_unique() {
        let one = Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_aaaa_0001);
        let two = Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_aaaa_0002);
        let find = |text: &str| find_id(text, "run", [one, two]);
        assert_eq!(find(&one.to_string()).unwrap(), one);
        assert_eq!(find(&short(two)).unwrap(), two);
        let more = find("0199").unwrap_err().to_string();
        assert!(more.contains("more than one"), "{more}");
        assert!(find("ffff").unwrap_err().to_string().contains("no run"));
        assert!(find("zz").unwrap_err().to_string().contains("digits"));
        assert!(find("").is_err());
    }

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
