//! Mail over SMTP, in one conversation for all receivers, with what went wrong in clear words.

use std::{error::Error as _, io};

use lettre::{
    Address, Message,
    message::{
        Mailbox, MultiPart,
        header::{HeaderName, HeaderValue},
    },
    transport::smtp::{
        Error,
        authentication::{Credentials, Mechanism},
        client::{AsyncSmtpConnection, Certificate, TlsParameters},
        commands::{Data, Mail, Rcpt},
        extension::{ClientId, Extension, MailParameter},
    },
};
use rustls::Error as TlsError;
use secrecy::{ExposeSecret, SecretString};
use virtuozo_model::{MailSecurity, NoticeSettings};
use virtuozo_runtime::LIMITS;

use crate::{
    error::SendError,
    render::Rendered,
    text::line,
    tls::{bad_ca, cause, explain_tls},
};

/// What became of a mail.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Delivery {
    /// Whose mail the server has taken.
    pub(crate) sent: Vec<String>,
    /// Whom it will never take mail for, and why.
    pub(crate) refused: Vec<(String, String)>,
    /// Whom it will not take mail for just now, and why.
    pub(crate) later: Vec<(String, String)>,
}

/// The part of the conversation in which something went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connection,
    Tls,
    Login,
    Sender,
    Content,
}

/// A server and how to speak to it.
struct Server<'a> {
    how: &'a NoticeSettings,
    issuers: Option<&'a [u8]>,
    host: &'a str,
    port: u16,
}

/// Sends a mail to these receivers. `issuers` are certificates in PEM form that are trusted besides the system's.
pub(crate) async fn send(
    how: &NoticeSettings,
    issuers: Option<&[u8]>,
    password: Option<&SecretString>,
    message: &Message,
    receivers: &[String],
) -> Result<Delivery, SendError> {
    let Some(host) = how.mail_host.as_deref() else {
        return Err(SendError::permanent("no mail server is set (mail_host)"));
    };
    let server = Server {
        how,
        issuers,
        host,
        port: how.port(),
    };
    let mut connection = server.connect().await?;
    let done = server
        .converse(&mut connection, password, message, receivers)
        .await;
    // The server has said all that matters.
    let _ = tokio::time::timeout(LIMITS.notices.quit, connection.quit()).await;
    done
}

/// A mail with text and HTML.
pub(crate) fn message(
    how: &NoticeSettings,
    rendered: &Rendered,
    message_id: &str,
) -> Result<Message, SendError> {
    let unfit = |what: &str, why: &dyn std::fmt::Display| {
        SendError::permanent(format!("{} is no mail address: {why}", line(what)))
    };
    let from = how.mail_from.as_deref().unwrap_or_default();
    let sender: Address = from.parse().map_err(|e| unfit(from, &e))?;
    let domain = sender.domain().to_owned();
    let mut builder = Message::builder()
        .from(Mailbox::new(Some("Virtuozo".to_owned()), sender))
        .subject(rendered.subject.clone())
        .message_id(Some(format!("<{message_id}@{domain}>")))
        // No robot shall answer (RFC 3834).
        .raw_header(HeaderValue::new(
            HeaderName::new_from_ascii_str("Auto-Submitted"),
            "auto-generated".to_owned(),
        ));
    for to in &how.mail_to {
        let address = to.parse().map_err(|e| unfit(to, &e))?;
        builder = builder.to(Mailbox::new(None, address));
    }
    let parts = MultiPart::alternative_plain_html(rendered.text.clone(), rendered.html.clone());
    builder
        .multipart(parts)
        .map_err(|e| SendError::permanent(format!("the mail cannot be put together: {e}")))
}

impl Server<'_> {
    async fn connect(&self) -> Result<AsyncSmtpConnection, SendError> {
        let place = self.place();
        let found = tokio::net::lookup_host((self.host, self.port)).await;
        let addresses: Vec<_> = found
            .map_err(|e| {
                SendError::transient(format!(
                    "the mail server's name {} cannot be resolved ({e}): check mail_host and this machine's DNS",
                    self.host
                ))
            })?
            .collect();
        let hello = hello();
        let implicit = match self.how.mail_security {
            MailSecurity::Tls => Some(self.tls().await?),
            MailSecurity::Starttls | MailSecurity::None => None,
        };
        let connecting = AsyncSmtpConnection::connect_tokio1(
            addresses.as_slice(),
            Some(LIMITS.notices.connect / 2),
            &hello,
            implicit,
            None,
        );
        let silent = || {
            SendError::transient(format!(
                "{place} does not greet within {} s: check mail_port and mail_security (a server that \
                 expects TLS from the first byte waits in silence), and firewalls",
                LIMITS.notices.connect.as_secs()
            ))
        };
        let mut connection = tokio::time::timeout(LIMITS.notices.connect, connecting)
            .await
            .map_err(|_| silent())?
            .map_err(|e| self.explain(Phase::Connection, &e))?;
        if self.how.mail_security == MailSecurity::Starttls {
            if !connection.can_starttls() {
                connection.abort().await;
                return Err(SendError::transient(format!(
                    "{place} does not offer STARTTLS: set mail_security to tls if it speaks TLS from \
                     the first byte (then usually on port 465), or have it offer STARTTLS"
                )));
            }
            let tls = self.tls().await?;
            self.within(Phase::Tls, connection.starttls(tls, &hello))
                .await?;
        }
        Ok(connection)
    }

    async fn converse(
        &self,
        connection: &mut AsyncSmtpConnection,
        password: Option<&SecretString>,
        message: &Message,
        receivers: &[String],
    ) -> Result<Delivery, SendError> {
        if let Some(user) = &self.how.mail_user {
            let Some(password) = password else {
                return Err(SendError::transient(format!(
                    "no password is stored for {} at {}: give it with `virtuozo notice secret mail`",
                    line(user),
                    self.place()
                )));
            };
            // Settings do not permit this; a password is never sent in the open.
            if !connection.is_encrypted() {
                return Err(SendError::permanent(
                    "the login is not sent over a connection that is not protected",
                ));
            }
            let credentials = Credentials::new(user.clone(), password.expose_secret().to_owned());
            self.within(
                Phase::Login,
                connection.auth(&[Mechanism::Plain, Mechanism::Login], &credentials),
            )
            .await?;
        }
        let mut options = Vec::new();
        let addresses = receivers.iter().chain(&self.how.mail_from);
        if addresses.clone().any(|address| !address.is_ascii()) {
            if !connection
                .server_info()
                .supports_feature(Extension::SmtpUtfEight)
            {
                return Err(SendError::transient(format!(
                    "{} takes only addresses in ASCII: change mail_from or mail_to",
                    self.place()
                )));
            }
            options.push(MailParameter::SmtpUtfEight);
        }
        let from = message.envelope().from().cloned();
        self.within(Phase::Sender, connection.command(Mail::new(from, options)))
            .await?;
        let mut delivery = Delivery::default();
        for receiver in receivers {
            let address: Address = receiver.parse().map_err(|e| {
                SendError::permanent(format!("{} is no mail address: {e}", line(receiver)))
            })?;
            let asking = connection.command(Rcpt::new(address, Vec::new()));
            match tokio::time::timeout(LIMITS.notices.answer, asking).await {
                Ok(Ok(_)) => delivery.sent.push(receiver.clone()),
                Ok(Err(error)) if error.is_permanent() => {
                    delivery.refused.push((receiver.clone(), answer(&error)));
                }
                Ok(Err(error)) if error.is_transient() => {
                    delivery.later.push((receiver.clone(), answer(&error)));
                }
                Ok(Err(error)) => return Err(self.explain(Phase::Content, &error)),
                Err(_) => return Err(self.silent()),
            }
        }
        if delivery.sent.is_empty() {
            return Ok(delivery);
        }
        self.within(Phase::Content, connection.command(Data))
            .await?;
        self.within(Phase::Content, connection.message(&message.formatted()))
            .await?;
        Ok(delivery)
    }

    async fn within<T>(
        &self,
        phase: Phase,
        answer: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, SendError> {
        let limit = match phase {
            Phase::Content => LIMITS.notices.content,
            _ => LIMITS.notices.answer,
        };
        tokio::time::timeout(limit, answer)
            .await
            .map_err(|_| self.silent())?
            .map_err(|e| self.explain(phase, &e))
    }

    fn silent(&self) -> SendError {
        SendError::transient(format!(
            "{} has stopped answering in the middle of a mail",
            self.place()
        ))
    }

    async fn tls(&self) -> Result<TlsParameters, SendError> {
        let failed = |e: Error| SendError::transient(format!("TLS cannot be set up: {e}"));
        let mut tls = TlsParameters::builder(self.host.to_owned());
        if let Some(pem) = self.issuers {
            tls =
                tls.add_root_certificate(Certificate::from_pem(pem).map_err(|_| bad_ca(self.how))?);
        }
        // Reads the system's certificates.
        tokio::task::spawn_blocking(move || tls.build())
            .await
            .map_err(|e| SendError::transient(e.to_string()))?
            .map_err(failed)
    }

    /// The server as a person names it.
    fn place(&self) -> String {
        format!("the mail server {}:{}", self.host, self.port)
    }

    fn explain(&self, phase: Phase, error: &Error) -> SendError {
        let place = self.place();
        if let Some(tls) = cause::<TlsError>(error) {
            return SendError::transient(format!("{place}: {}", explain_tls(tls)));
        }
        if let Some(io) = cause::<io::Error>(error) {
            let why = match io.kind() {
                io::ErrorKind::ConnectionRefused => format!(
                    "{place} refuses the connection: check mail_host and mail_port, and whether it runs"
                ),
                io::ErrorKind::TimedOut => {
                    format!("{place} does not answer: check mail_host and mail_port, and firewalls")
                }
                _ => format!("the connection to {place} broke: {io}"),
            };
            return SendError::transient(why);
        }
        let says = answer(error);
        let user = self.how.mail_user.as_deref().map(line).unwrap_or_default();
        let from = self.how.mail_from.as_deref().map(line).unwrap_or_default();
        match phase {
            Phase::Login if error.is_client() => SendError::transient(format!(
                "{place} offers no login that Virtuozo knows (PLAIN, LOGIN): set mail_user to '' if it needs none"
            )),
            Phase::Login => SendError::transient(format!(
                "{place} refuses the login of {user} ({says}): check mail_user, and give the password \
                 again with `virtuozo notice secret mail`"
            )),
            Phase::Sender => SendError::transient(format!(
                "{place} refuses the sender {from} ({says}): check mail_from, and whether it wants a login (mail_user)"
            )),
            Phase::Content if error.is_permanent() => {
                SendError::permanent(format!("{place} refuses the mail ({says})"))
            }
            Phase::Connection | Phase::Tls | Phase::Content => {
                SendError::transient(format!("{place} does not take mail now ({says})"))
            }
        }
    }
}

/// What a server answered, on one line.
fn answer(error: &Error) -> String {
    match (error.status(), error.source()) {
        (Some(code), Some(text)) => line(&format!("{code} {text}")),
        _ => line(&error.to_string()),
    }
}

/// What this machine calls itself to servers.
fn hello() -> ClientId {
    let system = rustix::system::uname();
    hello_of(&system.nodename().to_string_lossy())
}

/// The name of a machine if servers take it for one (RFC 5321, section 2.3.5), otherwise an address.
fn hello_of(name: &str) -> ClientId {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|c| c.is_ascii_alphanumeric() || c == b'-')
    };
    if name.len() <= 253 && name.split('.').all(is_label) {
        return ClientId::Domain(name.to_owned());
    }
    ClientId::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_greets_by_its_name_only_where_servers_take_it_for_one() {
        for name in ["mail", "backup-1.example.org", "3f2a", "a.b"] {
            assert_eq!(hello_of(name), ClientId::Domain(name.to_owned()));
        }
        let long = "a".repeat(64);
        for name in [
            "",
            "-x",
            "x-",
            "a..b",
            ".a",
            "a.",
            "b\u{fc}ro",
            "my_host",
            "a b",
            "a.-b",
            &long,
        ] {
            assert_eq!(hello_of(name), ClientId::default(), "{name:?}");
        }
    }
}
