//! How the site is told: settings by name, and the two secrets, which are sealed like host passwords.

use std::fmt::Display;

use chrono::NaiveTime;
use sqlx::{Acquire, PgConnection, PgExecutor, Postgres};
use uuid::Uuid;

use crate::settings::{self, Key, number, show, word, yes_no};
use virtuozo_model::{
    MailSecurity, NoticeSettings,
    schedule::{Recurrence, ScheduleError},
};
use virtuozo_postgres::StoreError;
use virtuozo_secrets::Place;

/// A key whose value is written as it is typed, or empty for none.
macro_rules! optional_key {
    ($field:ident, $about:literal, $parse:expr) => {
        Key {
            name: stringify!($field),
            about: $about,
            read: |settings| settings.$field.as_ref().map(show).unwrap_or_default(),
            write: |settings, text| {
                settings.$field = match text {
                    "" => None,
                    text => Some($parse(text)?),
                };
                Ok(())
            },
        }
    };
}

/// All settings, in the order in which they are shown.
pub static KEYS: &[Key<NoticeSettings>] = &[
    optional_key!(
        mail_host,
        "name or address of the mail server; empty for no mail",
        machine
    ),
    optional_key!(
        mail_port,
        "its port; empty for 587 (starttls), 465 (tls) or 25 (none)",
        |t| number(t, 1, 65_535)
    ),
    settings::typed_key!(
        mail_security,
        "protection of the connection: starttls, tls, or none",
        word
    ),
    settings::typed_key!(
        allow_unencrypted,
        "permits mail_security none: notices can be read on their way",
        yes_no
    ),
    optional_key!(
        mail_user,
        "user to log in as; empty for no login; password: `virtuozo notice secret mail`",
        plain
    ),
    optional_key!(mail_from, "address of the sender", address),
    Key {
        name: "mail_to",
        about: "addresses of the receivers, with commas between them",
        read: |settings| settings.mail_to.join(", "),
        write: |settings, text| {
            let mut receivers: Vec<String> = Vec::new();
            for one in text.split(',').map(str::trim).filter(|one| !one.is_empty()) {
                let one = address(one)?;
                if !receivers.contains(&one) {
                    receivers.push(one);
                }
            }
            settings.mail_to = receivers;
            Ok(())
        },
    },
    optional_key!(
        webhook_url,
        "where notices are posted to as JSON; empty for nowhere",
        web_address
    ),
    optional_key!(
        ca_file,
        "PEM file with issuers to trust besides the system's, as schedulers see it",
        file
    ),
    settings::typed_key!(on_failure, "tell of runs that failed", yes_no),
    settings::typed_key!(on_success, "tell of runs that succeeded", yes_no),
    Key {
        name: "digest_time",
        about: "when the daily digest is due (HH:MM); empty for none",
        read: |settings| {
            settings
                .digest_time
                .map_or_else(String::new, |at| at.format("%H:%M").to_string())
        },
        write: |settings, text| {
            settings.digest_time = match text {
                "" => None,
                text => Some(NaiveTime::parse_from_str(text, "%H:%M").map_err(|_| {
                    format!("{text:?} is not a time of the form HH:MM, such as 07:00")
                })?),
            };
            Ok(())
        },
    },
    optional_key!(
        digest_time_zone,
        "time zone of the digest, such as Europe/Berlin; empty for the site's",
        |text: &str| match text.parse::<chrono_tz::Tz>() {
            Ok(zone) => Ok(zone.name().to_owned()),
            Err(_) => Err(ScheduleError::TimeZone(text.to_owned()).to_string()),
        }
    ),
    settings::typed_key!(
        group_secs,
        "seconds in which runs that end are told of together (0-86400)",
        |t| number(t, 0, 86_400)
    ),
    settings::typed_key!(
        messages_per_hour,
        "messages about runs in an hour; what is beyond them waits and is told together",
        |t| number(t, 1, i32::MAX)
    ),
];

fn plain(text: &str) -> Result<String, String> {
    if text.chars().any(char::is_control) {
        return Err("it holds a control character".to_owned());
    }
    Ok(text.to_owned())
}

fn machine(text: &str) -> Result<String, String> {
    if text.contains([' ', '/', '@']) || (text.contains(':') && !text.contains("::")) {
        return Err(format!(
            "{text:?} is not the name of a machine, such as mail.example.org"
        ));
    }
    plain(text)
}

fn address(text: &str) -> Result<String, String> {
    let wrong = || format!("{text:?} is not a mail address, such as admin@example.org");
    let (local, domain) = text.rsplit_once('@').ok_or_else(wrong)?;
    let unfit = |c: char| c.is_whitespace() || c.is_control() || "<>(),;:\"\\[]".contains(c);
    if local.is_empty() || domain.is_empty() || text.contains(unfit) || local.contains('@') {
        return Err(wrong());
    }
    Ok(text.to_owned())
}

fn web_address(text: &str) -> Result<String, String> {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"))
        .ok_or_else(|| format!("{text:?} does not begin with https:// or http://"))?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.is_empty() || text.contains(char::is_whitespace) {
        return Err(format!("{text:?} is not a web address"));
    }
    if authority.contains('@') {
        return Err(
            "an address holds no user or password: requests are signed, see `virtuozo notice secret webhook`"
                .to_owned(),
        );
    }
    plain(text)
}

fn file(text: &str) -> Result<String, String> {
    if !text.starts_with('/') {
        return Err(format!("{text:?} is not an absolute path"));
    }
    plain(text)
}

/// The settings now.
pub async fn get(db: impl PgExecutor<'_>) -> Result<NoticeSettings, StoreError> {
    Ok(sqlx::query_as(include_str!("settings_get.sql"))
        .fetch_one(db)
        .await?)
}

/// The settings now, which nobody else changes until the end of the transaction.
pub async fn locked(conn: &mut PgConnection) -> Result<NoticeSettings, StoreError> {
    sqlx::query(include_str!("settings_lock.sql"))
        .execute(&mut *conn)
        .await?;
    get(conn).await
}

/// What a change of settings has brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// All of them, as they stand then.
    pub settings: NoticeSettings,
    /// The secrets that were for another server or user, and are removed.
    pub removed: Vec<Secret>,
}

/// Changes settings, all or none; they apply at once, everywhere. A secret that is not for the server and the user that
/// they name then is removed.
///
/// # Errors
/// [`StoreError::Refused`] for an unknown name or a value that is not permitted.
pub async fn set(
    db: impl Acquire<'_, Database = Postgres>,
    changes: &[(&str, &str)],
) -> Result<Changed, StoreError> {
    let mut tx = db.begin().await?;
    let before = locked(&mut tx).await?;
    let mut new = before.clone();
    settings::apply(KEYS, &mut new, changes)?;
    check(&new)?;
    let json = serde_json::to_value(&new)
        .map_err(|e| StoreError::Query(sqlx::Error::Encode(Box::new(e))))?;
    sqlx::query(include_str!("settings_save.sql"))
        .bind(json)
        .execute(&mut *tx)
        .await?;
    let mut removed = Vec::new();
    for secret in Secret::ALL {
        if secret.is_stored(&before) && secret.place(&before) != secret.place(&new) {
            set_sealed(&mut *tx, secret, None).await?;
            removed.push(secret);
        }
    }
    let settings = get(&mut *tx).await?;
    tx.commit().await?;
    Ok(Changed { settings, removed })
}

/// Whether a value alone is permitted, whatever it has to fit together with.
pub fn check_one(now: &NoticeSettings, name: &str, value: &str) -> Result<(), StoreError> {
    settings::apply(KEYS, &mut now.clone(), &[(name, value)])
}

/// What does not fit together.
fn check(new: &NoticeSettings) -> Result<(), StoreError> {
    if new.mail_security != MailSecurity::None {
        return Ok(());
    }
    let refused = |why: &str| Err(StoreError::Refused(format!("mail_security: {why}")));
    if !new.allow_unencrypted {
        return refused(
            "none means that notices can be read on their way; if that is so wanted, set allow_unencrypted to true first",
        );
    }
    if new.mail_user.is_some() {
        return refused(
            "there is no login over a connection that is not protected: set mail_user to '' first",
        );
    }
    Ok(())
}

/// When the digest is due; none: there is no digest.
///
/// # Errors
/// [`StoreError::Refused`] if its time zone is not known.
pub fn digest_rhythm(
    notices: &NoticeSettings,
    site: &virtuozo_model::Settings,
) -> Result<Option<Recurrence>, StoreError> {
    let Some(at) = notices.digest_time else {
        return Ok(None);
    };
    let cron = at.format("%-M %-H * * *").to_string();
    Recurrence::new(Some(&cron), notices.digest_time_zone.as_deref(), site)
        .map(Some)
        .map_err(|error| StoreError::Refused(error.to_string()))
}

/// One of the two secrets of notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secret {
    /// The password for the mail server.
    MailPassword,
    /// What requests to the web address are signed with.
    WebhookSecret,
}

impl Secret {
    /// Both.
    pub const ALL: [Self; 2] = [Self::MailPassword, Self::WebhookSecret];

    /// Its purpose, as a part of what it is sealed for.
    pub fn id(self) -> Uuid {
        Uuid::from_u128(match self {
            Self::MailPassword => 0x7669_7274_756f_7a6f_6d61_696c_0000_0001,
            Self::WebhookSecret => 0x7669_7274_756f_7a6f_6d61_696c_0000_0002,
        })
    }

    /// What it opens under these settings: the mail server, with its port and the protection of the connection, and the
    /// user there; or the web address. It is sealed for this, and is never sent elsewhere.
    pub fn place(self, settings: &NoticeSettings) -> Place {
        let (address, user) = match self {
            Self::MailPassword => {
                let port = settings.port();
                let security = settings.mail_security;
                let at = |host: &String| format!("{security}://{host}:{port}");
                (
                    settings.mail_host.as_ref().map(at),
                    settings.mail_user.clone(),
                )
            }
            Self::WebhookSecret => (settings.webhook_url.clone(), None),
        };
        Place {
            id: self.id(),
            address,
            user,
        }
    }

    /// What [`place`](Self::place) is, in words.
    pub fn place_words(self) -> &'static str {
        match self {
            Self::MailPassword => "server or user",
            Self::WebhookSecret => "address",
        }
    }

    /// Whether it is stored.
    pub fn is_stored(self, settings: &NoticeSettings) -> bool {
        match self {
            Self::MailPassword => settings.has_mail_password,
            Self::WebhookSecret => settings.has_webhook_secret,
        }
    }

    /// The command that stores it.
    pub fn command(self) -> &'static str {
        match self {
            Self::MailPassword => "virtuozo notice secret mail",
            Self::WebhookSecret => "virtuozo notice secret webhook",
        }
    }
}

impl Display for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::MailPassword => "mail password",
            Self::WebhookSecret => "webhook secret",
        })
    }
}

/// A secret, sealed for a [`Secret::place`]; none: none is stored.
pub async fn sealed(
    db: impl PgExecutor<'_>,
    secret: Secret,
) -> Result<Option<Vec<u8>>, StoreError> {
    let statement = match secret {
        Secret::MailPassword => "SELECT mail_password_sealed FROM virtuozo_core.notice_settings",
        Secret::WebhookSecret => "SELECT webhook_secret_sealed FROM virtuozo_core.notice_settings",
    };
    Ok(sqlx::query_scalar(statement).fetch_one(db).await?)
}

/// Stores a sealed secret, or removes it.
pub async fn set_sealed(
    db: impl PgExecutor<'_>,
    secret: Secret,
    sealed: Option<&[u8]>,
) -> Result<(), StoreError> {
    let statement = match secret {
        Secret::MailPassword => {
            "UPDATE virtuozo_core.notice_settings SET mail_password_sealed = $1, updated_at = now()"
        }
        Secret::WebhookSecret => {
            "UPDATE virtuozo_core.notice_settings SET webhook_secret_sealed = $1, updated_at = now()"
        }
    };
    sqlx::query(statement).bind(sealed).execute(db).await?;
    Ok(())
}
