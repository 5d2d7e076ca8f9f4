//! Sending one notice: take it, make its content, send it, record what became of it.

use std::future::Future;

use uuid::Uuid;
use virtuozo_model::{MailSecurity, NoticeChannel, NoticeKind, NoticeState, Severity};
use virtuozo_postgres::StoreError;
use virtuozo_runtime::LIMITS;
use virtuozo_store::{
    events::NewEvent,
    leases::{BootInstant, Fence, LeaseKeeper},
    notices::{
        self, Attempt, NoticeLease,
        config::{self, Secret},
    },
    runs,
};

use crate::{
    Notices,
    content::Content,
    digest,
    error::SendError,
    mail,
    runs::content as content_of_runs,
    text::{line, shortened},
    webhook,
};

/// The longest pause that is granted to a receiver that asks for one, in seconds.
const LONGEST_ASKED_SECS: u32 = 3600;
/// Attempts for one notice: about a day.
const MAX_ATTEMPTS: i32 = 30;
/// How much of an error is kept.
const ERROR_CHARS_MAX: usize = 1000;

/// Logged when the lease on a notice is lost.
const LOST: &str = "another scheduler has taken this notice; it may arrive twice";

/// What one attempt has reached.
#[derive(Debug, Default)]
struct Reached {
    sent: Vec<String>,
    refused: Vec<(String, String)>,
    later: Vec<(String, String)>,
}

impl Notices {
    /// Sends a notice, if it is due. None: there was nothing to do.
    pub(crate) async fn send(&self, id: Uuid) -> Result<Option<Attempt>, StoreError> {
        let taken_at = BootInstant::now();
        let Some(taken) = notices::take(&self.pool, id, self.id).await? else {
            return Ok(None);
        };
        let pool = self.pool.clone();
        let keeper = LeaseKeeper::start(pool, &self.telemetry, taken.clone(), taken_at);
        let lease = keeper.handle();
        let tried = tokio::select! {
            tried = tokio::time::timeout(LIMITS.notices.send, self.attempt(&taken)) => tried,
            _ = lease.ended() => {
                tracing::warn!(notice = %id, "{LOST}");
                return Ok(None);
            }
        };
        let tried = tried.unwrap_or_else(|_| {
            Err(SendError::transient(format!(
                "sending took longer than {} s",
                LIMITS.notices.send.as_secs()
            )))
        });
        let attempt = outcome(&taken, tried);
        let event = event(&taken, &attempt);
        if let Some(error) = &attempt.error {
            tracing::warn!(notice = %id, channel = %taken.channel, state = %attempt.state, "{error}");
        }
        let recorded = recorded(|| notices::end(&self.pool, &taken, &attempt, event.as_ref()));
        if recorded.await? == Fence::Lost {
            tracing::warn!(notice = %id, "{LOST}");
        }
        Ok(Some(attempt))
    }

    async fn attempt(&self, taken: &NoticeLease) -> Result<Reached, SendError> {
        let how = config::get(&self.pool).await?;
        let content = self.content(taken).await?;
        // What is told more has another id; what is told again has the same.
        let message_id = format!("{}.{}", taken.id, taken.contents.notices);
        match taken.channel {
            NoticeChannel::Mail => {
                let pending: Vec<String> = how
                    .mail_to
                    .iter()
                    .filter(|to| !taken.sent_to.contains(to) && !taken.refused_to.contains(to))
                    .cloned()
                    .collect();
                if pending.is_empty() {
                    return match taken.sent_to.is_empty() {
                        true => Err(SendError::permanent("there is no receiver (mail_to)")),
                        false => Ok(Reached::default()),
                    };
                }
                let rendered = self.render(&content).await?;
                let message = mail::message(&how, &rendered, &message_id)?;
                let password = match &how.mail_user {
                    Some(_) => self.secret(&how, Secret::MailPassword).await?,
                    None => None,
                };
                let issuers = match how.mail_security {
                    MailSecurity::None => None,
                    MailSecurity::Starttls | MailSecurity::Tls => self.issuers(&how).await?,
                };
                let done = mail::send(
                    &how,
                    issuers.as_deref(),
                    password.as_ref(),
                    &message,
                    &pending,
                )
                .await?;
                Ok(Reached {
                    sent: done.sent,
                    refused: done.refused,
                    later: done.later,
                })
            }
            NoticeChannel::Webhook => {
                let secret = self.secret(&how, Secret::WebhookSecret).await?;
                let issuers = self.issuers(&how).await?;
                let now = runs::database_now(&self.pool).await?;
                webhook::post(&how, issuers, secret.as_ref(), &content, &message_id, now).await?;
                Ok(Reached {
                    sent: vec!["webhook".to_owned()],
                    ..Reached::default()
                })
            }
        }
    }

    async fn content(&self, taken: &NoticeLease) -> Result<Content, SendError> {
        Ok(match taken.kind {
            NoticeKind::Failure | NoticeKind::Success | NoticeKind::Obligation => {
                let kind = if taken.contents.is_obligation {
                    NoticeKind::Obligation
                } else {
                    taken.kind
                };
                let contents = Some(&taken.contents);
                content_of_runs(&self.pool, kind, &taken.contents.run_ids, contents).await?
            }
            NoticeKind::Digest => {
                let to = taken.due_at.unwrap_or_default();
                digest::content(&self.pool, to).await?
            }
            NoticeKind::Test => Content::of_test(),
        })
    }
}

/// From what was reached to what is recorded.
fn outcome(taken: &NoticeLease, tried: Result<Reached, SendError>) -> Attempt {
    let is_last = taken.attempts >= MAX_ATTEMPTS || taken.kind == NoticeKind::Test;
    let pause = LIMITS
        .notices
        .attempts
        .delay(u32::try_from(taken.attempts).unwrap_or(1));
    let mut attempt = Attempt {
        state: NoticeState::Waiting,
        delay_secs: u32::try_from(pause.as_secs()).unwrap_or(u32::MAX),
        sent_to: taken.sent_to.clone(),
        refused_to: taken.refused_to.clone(),
        error: None,
    };
    match tried {
        Ok(reached) => {
            attempt.sent_to.extend(reached.sent);
            let mut whys = Vec::new();
            for (who, why) in &reached.refused {
                whys.push(format!(
                    "the mail server refuses the receiver {} ({why})",
                    line(who)
                ));
                attempt.refused_to.push(who.clone());
            }
            for (who, why) in &reached.later {
                whys.push(format!(
                    "the mail server does not take mail for {} now ({why})",
                    line(who)
                ));
            }
            if !whys.is_empty() {
                attempt.error = Some(shortened(&whys.join("; "), ERROR_CHARS_MAX));
            }
            if reached.later.is_empty() || is_last {
                attempt.state = ended(&attempt);
            }
        }
        Err(error) => {
            attempt.error = Some(shortened(&error.message, ERROR_CHARS_MAX));
            if error.is_final || is_last {
                attempt.state = ended(&attempt);
            }
            if let Some(secs) = error.retry_after_secs {
                attempt.delay_secs = attempt.delay_secs.max(secs.min(LONGEST_ASKED_SECS));
            }
        }
    }
    attempt
}

/// How a notice ends that is not tried again.
fn ended(attempt: &Attempt) -> NoticeState {
    if attempt.sent_to.is_empty() {
        NoticeState::Failed
    } else {
        NoticeState::Sent
    }
}

/// What people are told of an attempt: the first failure, the end of all attempts, refused receivers.
fn event(taken: &NoticeLease, attempt: &Attempt) -> Option<NewEvent> {
    let why = attempt.error.as_deref()?;
    let (severity, message) = match attempt.state {
        NoticeState::Failed if taken.kind != NoticeKind::Test => (
            Severity::Error,
            format!(
                "a notice by {} was given up: {why}; when that is mended: virtuozo notice retry",
                taken.channel
            ),
        ),
        NoticeState::Waiting if taken.attempts == 1 => (
            Severity::Warning,
            format!(
                "a notice by {} has not got through yet: {why}; it is tried again",
                taken.channel
            ),
        ),
        NoticeState::Sent => (
            Severity::Warning,
            format!(
                "a notice by {} has not reached everybody: {why}",
                taken.channel
            ),
        ),
        _ => return None,
    };
    let event = NewEvent::user(severity, message);
    Some(match taken.contents.run_ids.as_slice() {
        [run_id] => event.run(*run_id),
        _ => event,
    })
}

/// Records an outcome however long the database is away: otherwise what was sent is sent again.
async fn recorded<F, Fut>(mut record: F) -> Result<Fence, StoreError>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Fence, StoreError>>,
{
    loop {
        match record().await {
            Err(error) if error.is_unavailable() => {
                tokio::time::sleep(LIMITS.notices.record_pause).await
            }
            other => return other,
        }
    }
}
