//! What is told by mail and webhook, and how.

use chrono::{DateTime, NaiveTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use super::text_enum::text_enum;

text_enum! {
    /// What a notice tells.
    pub enum NoticeKind {
        /// A run failed.
        Failure = "failure",
        /// A run succeeded.
        Success = "success",
        /// An obligation could not be met: a guest could not be brought back.
        Obligation = "obligation",
        /// What the last day brought.
        Digest = "digest",
        /// Somebody tries whether notices arrive.
        Test = "test",
    }
}

impl NoticeKind {
    /// It is about a run: several of these are told at once.
    pub fn is_of_run(self) -> bool {
        matches!(self, Self::Failure | Self::Success | Self::Obligation)
    }
}

text_enum! {
    /// A way of telling.
    pub enum NoticeChannel {
        /// By mail.
        Mail = "mail",
        /// By a signed request to a web address.
        Webhook = "webhook",
    }
}

text_enum! {
    /// Where a notice stands.
    pub enum NoticeState {
        /// For its time: others may be told with it, or an attempt failed.
        Waiting = "waiting",
        /// A scheduler sends it, under a lease.
        Sending = "sending",
        /// It was taken over by the mail server or the web address.
        Sent = "sent",
        /// Another notice tells it along.
        Folded = "folded",
        /// There is nothing to be told any more.
        Dropped = "dropped",
        /// It could not be sent.
        Failed = "failed",
    }
}

text_enum! {
    /// How the connection to the mail server is protected.
    pub enum MailSecurity {
        /// By STARTTLS, which the server has to offer.
        Starttls = "starttls",
        /// By TLS from the first byte.
        Tls = "tls",
        /// Not at all; there is no login then.
        None = "none",
    }
}

/// How the site is told. Password and secret are read apart, by the one who sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "sqlx", derive(sqlx::FromRow))]
pub struct NoticeSettings {
    /// Name or address of the mail server; none: no mail.
    pub mail_host: Option<String>,
    /// Its port; none: 587 for STARTTLS, 465 for TLS, 25 for none.
    pub mail_port: Option<i32>,
    /// How the connection is protected.
    pub mail_security: MailSecurity,
    /// Mail may go over a connection that is not protected.
    pub allow_unencrypted: bool,
    /// User to log in as; none: no login.
    pub mail_user: Option<String>,
    /// A password is stored.
    pub has_mail_password: bool,
    /// Sender.
    pub mail_from: Option<String>,
    /// Receivers.
    pub mail_to: Vec<String>,
    /// Where notices are posted to; none: nowhere.
    pub webhook_url: Option<String>,
    /// A secret for signatures is stored.
    pub has_webhook_secret: bool,
    /// File with certificates that are trusted besides those of the system, as schedulers see it.
    pub ca_file: Option<String>,
    /// Tell of runs that failed.
    pub on_failure: bool,
    /// Tell of runs that succeeded.
    pub on_success: bool,
    /// When the daily digest is due; none: no digest.
    pub digest_time: Option<NaiveTime>,
    /// The time zone of that; none: the site's.
    pub digest_time_zone: Option<String>,
    /// Digests due up to and including this time have been dealt with.
    #[serde(skip)]
    pub digest_done_until: DateTime<Utc>,
    /// How long a notice waits for others that are told with it, in seconds.
    pub group_secs: i32,
    /// Messages about runs in an hour at most, by each way.
    pub messages_per_hour: i32,
}

impl NoticeSettings {
    /// The port of the mail server: the one that is set, or the usual one for the protection.
    pub fn port(&self) -> u16 {
        let set = self.mail_port.and_then(|port| port.try_into().ok());
        set.unwrap_or(match self.mail_security {
            MailSecurity::Starttls => 587,
            MailSecurity::Tls => 465,
            MailSecurity::None => 25,
        })
    }
}

/// Something to be told, in one way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "sqlx", derive(sqlx::FromRow))]
pub struct Notice {
    /// Identity.
    pub id: Uuid,
    /// What it tells.
    pub kind: NoticeKind,
    /// How.
    pub channel: NoticeChannel,
    /// About which run.
    pub run_id: Option<Uuid>,
    /// Of a digest: the end of the day that it tells about.
    pub due_at: Option<DateTime<Utc>>,
    /// Where it stands.
    pub state: NoticeState,
    /// The notice that tells it along.
    pub folded_into: Option<Uuid>,
    /// It waited because the limit of an hour was reached.
    pub held: bool,
    /// Attempts so far.
    pub attempts: i32,
    /// When the next attempt may begin.
    pub run_after: DateTime<Utc>,
    /// Who has got it.
    pub sent_to: Vec<String>,
    /// Whom the mail server does not know, or does not want.
    pub refused_to: Vec<String>,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// When it came into being.
    pub created_at: DateTime<Utc>,
    /// When it came to its end.
    pub ended_at: Option<DateTime<Utc>>,
}
