//! How the way to the database is protected. Over TCP its server has to prove its name (`sslmode=verify-full`), unless the
//! URL or `PGSSLMODE` says in so many words that less is enough; a socket on this machine needs nothing of the kind.

use std::str::FromStr;

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use url::Url;

use crate::StoreError;

/// The options that a URL stands for.
///
/// # Errors
/// [`StoreError::Url`].
pub(crate) fn options(url: &str) -> Result<PgConnectOptions, StoreError> {
    let options = PgConnectOptions::from_str(url).map_err(|e| StoreError::Url(e.to_string()))?;
    let in_environment = std::env::var("PGSSLMODE").is_ok_and(|mode| !mode.is_empty());
    Ok(
        match is_local(&options) || in_environment || names_mode(url) {
            true => options,
            false => options.ssl_mode(PgSslMode::VerifyFull),
        },
    )
}

/// What the way to the database at a URL lacks, and what to do about it; `None` for one that is protected, or that stays
/// on this machine.
///
/// # Errors
/// [`StoreError::Url`].
pub fn weakness(url: &str) -> Result<Option<String>, StoreError> {
    let options = options(url)?;
    if is_local(&options) {
        return Ok(None);
    }
    let (mode, lacks) = match options.get_ssl_mode() {
        PgSslMode::VerifyFull => return Ok(None),
        PgSslMode::VerifyCa => (
            "verify-ca",
            "any server with a certificate of the same authority is taken for it",
        ),
        PgSslMode::Require => ("require", "it is encrypted, but any server is taken for it"),
        PgSslMode::Prefer => (
            "prefer",
            "whoever stands between may turn the encryption off",
        ),
        PgSslMode::Allow => ("allow", "it is not encrypted"),
        PgSslMode::Disable => ("disable", "it is not encrypted"),
    };
    Ok(Some(format!(
        "the way to {}:{} is not protected (sslmode={mode}: {lacks}): where others have access to that network, leave \
         sslmode out or set it to verify-full, with sslrootcert=FILE for an authority of your own",
        options.get_host(),
        options.get_port()
    )))
}

/// Over a socket of this machine.
fn is_local(options: &PgConnectOptions) -> bool {
    options.get_socket().is_some() || options.get_host().starts_with('/')
}

fn names_mode(url: &str) -> bool {
    let is_mode = |key: &str| matches!(key, "sslmode" | "ssl-mode");
    Url::parse(url).is_ok_and(|url| url.query_pairs().any(|(key, _)| is_mode(&key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_tcp_the_server_proves_its_name_unless_less_is_written_out() {
        for (url, mode, is_told) in [
            ("postgres://u@db/v", PgSslMode::VerifyFull, false),
            (
                "postgres://u@127.0.0.1:5432/v",
                PgSslMode::VerifyFull,
                false,
            ),
            (
                "postgres://u@db/v?sslmode=verify-full",
                PgSslMode::VerifyFull,
                false,
            ),
            (
                "postgres://u@db/v?sslmode=verify-ca",
                PgSslMode::VerifyCa,
                true,
            ),
            (
                "postgres://u@db/v?sslmode=require",
                PgSslMode::Require,
                true,
            ),
            ("postgres://u@db/v?ssl-mode=prefer", PgSslMode::Prefer, true),
            (
                "postgres://u@db/v?sslmode=disable",
                PgSslMode::Disable,
                true,
            ),
            (
                "postgres://u@localhost/v?host=/run/postgresql",
                PgSslMode::Prefer,
                false,
            ),
        ] {
            assert_eq!(
                format!("{:?}", options(url).unwrap().get_ssl_mode()),
                format!("{mode:?}"),
                "{url}"
            );
            assert_eq!(weakness(url).unwrap().is_some(), is_told, "{url}");
        }
    }
}
