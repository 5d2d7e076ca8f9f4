//! The webhook: a notice as JSON, posted with a signature that its receiver can check.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit, Mac};
use reqwest::{StatusCode, header, redirect::Policy};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use sha2::Sha256;
use virtuozo_model::{NoticeKind, NoticeSettings};
use virtuozo_runtime::LIMITS;

use crate::{
    content::Content,
    error::SendError,
    text::line,
    tls::{bad_ca, cause, explain_tls},
};

/// The form of what is posted; it grows when a field changes its meaning or goes away.
const VERSION: u32 = 1;

/// What is posted.
#[derive(Serialize)]
struct Posted<'a> {
    version: u32,
    id: &'a str,
    sent_at: DateTime<Utc>,
    #[serde(flatten)]
    content: &'a Content,
}

/// Posts a notice under an id that stays the same when it is posted again. `issuers` are certificates in PEM form that are
/// trusted besides the system's.
pub(crate) async fn post(
    how: &NoticeSettings,
    issuers: Option<Vec<u8>>,
    secret: Option<&SecretString>,
    content: &Content,
    id: &str,
    now: DateTime<Utc>,
) -> Result<(), SendError> {
    let Some(url) = how.webhook_url.as_deref() else {
        return Err(SendError::permanent("no web address is set (webhook_url)"));
    };
    let posted = Posted {
        version: VERSION,
        id,
        sent_at: now,
        content,
    };
    let body = serde_json::to_vec(&posted).map_err(|e| SendError::permanent(e.to_string()))?;
    let mut request = client(how, issuers)
        .await?
        .post(url)
        .header(header::CONTENT_TYPE, "application/json")
        .header("X-Virtuozo-Id", id)
        .header("X-Virtuozo-Kind", kind(content.kind));
    if let Some(secret) = secret {
        request = request.header("X-Virtuozo-Signature", signature(secret, now, &body)?);
    }
    let place = place(url);
    let answer = request
        .body(body)
        .send()
        .await
        .map_err(|e| explain(&place, &e.without_url()))?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let says = format!("{place} answers {status}");
    if status.is_redirection() {
        return Err(SendError::permanent(format!(
            "{says}: set webhook_url to the address that it leads to"
        )));
    }
    let again = status.is_server_error()
        || matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT
        );
    if !again {
        return Err(SendError::permanent(format!(
            "{says}: check webhook_url, and whether it knows the secret"
        )));
    }
    let wait = answer
        .headers()
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    Err(SendError {
        retry_after_secs: wait,
        ..SendError::transient(says)
    })
}

fn kind(kind: NoticeKind) -> &'static str {
    kind.as_str()
}

/// `t=` the time in seconds, `v1=` HMAC-SHA256 of that time, a full stop and the body.
fn signature(secret: &SecretString, now: DateTime<Utc>, body: &[u8]) -> Result<String, SendError> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes())
        .map_err(|e| SendError::permanent(format!("the webhook secret cannot be used: {e}")))?;
    let at = now.timestamp();
    mac.update(format!("{at}.").as_bytes());
    mac.update(body);
    let sum = mac.finalize().into_bytes();
    Ok(format!("t={at},v1={}", hex::encode(sum)))
}

async fn client(
    how: &NoticeSettings,
    issuers: Option<Vec<u8>>,
) -> Result<reqwest::Client, SendError> {
    let failed =
        |e: &dyn std::fmt::Display| SendError::transient(format!("TLS cannot be set up: {e}"));
    let roots = tokio::task::spawn_blocking(move || {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(pem) = issuers {
            for one in CertificateDer::pem_slice_iter(&pem) {
                roots.add(one.ok()?).ok()?;
            }
        }
        Some(roots)
    })
    .await
    .map_err(|e| failed(&e))?
    .ok_or_else(|| bad_ca(how))?;
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| failed(&e))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        // A notice goes where it was meant to go.
        .redirect(Policy::none())
        .timeout(LIMITS.notices.answer)
        .user_agent(concat!("virtuozo/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|e| failed(&e))
}

/// The receiver without path and query, in which there may be a secret.
fn place(url: &str) -> String {
    match reqwest::Url::parse(url) {
        Ok(url) => format!("the webhook {}", url.origin().ascii_serialization()),
        Err(_) => "the webhook".to_owned(),
    }
}

fn explain(place: &str, error: &reqwest::Error) -> SendError {
    if let Some(tls) = cause::<rustls::Error>(error) {
        return SendError::transient(format!("{place}: {}", explain_tls(tls)));
    }
    if error.is_timeout() {
        return SendError::transient(format!(
            "{place} does not answer within {} s",
            LIMITS.notices.answer.as_secs()
        ));
    }
    if error.is_builder() {
        return SendError::permanent(format!(
            "{place} is no usable web address: check webhook_url"
        ));
    }
    let why = match cause::<std::io::Error>(error) {
        Some(io) => io.to_string(),
        None => error.to_string(),
    };
    SendError::transient(format!("{place} cannot be reached: {}", line(&why)))
}
