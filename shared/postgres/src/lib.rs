//! Connections to the database, its schema, and a private server.

mod ask;
mod error;
mod migrate;
mod pool;
pub mod server;
mod statements;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

use std::{
    str::FromStr,
    time::{Duration, Instant},
};

use sqlx::{Connection, PgConnection, PgPool, postgres::PgConnectOptions};

use crate::error::is_connection_error;
use virtuozo_runtime::{Health, LIMITS};

pub use ask::{ask, count_error};
pub use error::StoreError;
#[cfg(any(test, feature = "testing"))]
pub(crate) use migrate::fingerprint;
pub use migrate::migrate;
pub use statements::Pool;

pub use pool::{ConnectionHealth, single_connection};

/// A process needs few connections: its transactions are short.
const MAX_CONNECTIONS: u32 = 8;
/// What the server is to hold every connection of ours to, so that a process that froze, or a machine
/// that lost its power, does not keep rows locked from all others: a transaction that is left alone and
/// a peer that is gone are ended (PostgreSQL, "Client Connection Defaults" and "TCP Settings"). And
/// nothing is compiled: where the server has no statistics yet it takes short statements for long ones,
/// and would spend seconds on compiling what runs for a millisecond.
const SESSION: [(&str, &str); 7] = [
    ("jit", "off"),
    ("statement_timeout", "60s"),
    ("idle_in_transaction_session_timeout", "10s"),
    ("tcp_keepalives_idle", "5"),
    ("tcp_keepalives_interval", "2"),
    ("tcp_keepalives_count", "3"),
    ("tcp_user_timeout", "12000"),
];

/// Connects to the database at `url` and waits as long as it takes until it answers. The wait is noted in `health`, as
/// is how the connections of the pool are answered.
///
/// # Errors
/// Only if `url` itself cannot be used.
pub async fn connect(url: &str, health: &Health) -> Result<PgPool, StoreError> {
    connect_until(url, health, None).await
}

/// Like [`connect`], but gives up after `limit`, and at once where waiting cannot help (wrong
/// password, no such database).
///
/// # Errors
/// If `url` cannot be used, or the last error of the database.
pub async fn connect_within(
    url: &str,
    health: &Health,
    limit: Duration,
) -> Result<PgPool, StoreError> {
    connect_until(url, health, Some(Instant::now() + limit)).await
}

async fn connect_until(
    url: &str,
    health: &Health,
    deadline: Option<Instant>,
) -> Result<PgPool, StoreError> {
    let options = PgConnectOptions::from_str(url)
        .map_err(|e| StoreError::Url(e.to_string()))?
        .application_name("virtuozo")
        .options(SESSION);
    let place = describe(&options);
    let attempts = health.liveness.watch(
        "attempts to reach the database",
        LIMITS.database.attempts_standstill,
    );
    loop {
        attempts.turned();
        // A connection of its own, not one of the pool: a pool tells of a refusal only that time ran out.
        // And an attempt may hang on a silent network, so it has a limit.
        let attempt = match deadline {
            Some(at) => LIMITS
                .database
                .connection
                .min(at.saturating_duration_since(Instant::now())),
            None => LIMITS.database.connection,
        };
        let asked_at = Instant::now();
        let source = match tokio::time::timeout(attempt, PgConnection::connect_with(&options)).await
        {
            Ok(Ok(connection)) => {
                // It has answered: whether it also hears the farewell does not matter.
                let _ = connection.close().await;
                health.availability.answered(asked_at);
                return Ok(pool::lazy(
                    options,
                    MAX_CONNECTIONS,
                    &ConnectionHealth::new(&health.availability),
                ));
            }
            Ok(Err(error)) => error,
            Err(_) => sqlx::Error::PoolTimedOut,
        };
        let can_heal = is_connection_error(&source);
        let error = StoreError::Unreachable {
            place: place.clone(),
            source,
        };
        match deadline {
            Some(at) if !can_heal || Instant::now() + LIMITS.database.retry_pause >= at => {
                return Err(error);
            }
            _ => {}
        }
        health
            .availability
            .no_answer("the connection", asked_at, &error);
        tokio::time::sleep(LIMITS.database.retry_pause).await;
    }
}

/// Where a database is, without its password.
fn describe(options: &PgConnectOptions) -> String {
    let database = options.get_database().unwrap_or(options.get_username());
    match options.get_socket() {
        Some(socket) => format!("{database} at {}", socket.display()),
        None => format!(
            "{database} at {}:{}",
            options.get_host(),
            options.get_port()
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::*;
    use crate::{server::Cluster, testing::TestDb};

    #[tokio::test]
    async fn who_comes_before_the_database_waits_for_it_and_all_may_migrate_at_once() {
        let place = TempDir::new().unwrap();
        std::fs::set_permissions(place.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let dir = place.path().join("pg");
        let cluster = Cluster::start(&dir).unwrap();
        let url = cluster.url().to_owned();
        assert!(cluster.stop().unwrap());

        let limit = Duration::from_millis(1200);
        let health = Health::default();
        let error = connect_within(&url, &health, limit).await.unwrap_err();
        assert!(error.is_unavailable(), "{error}");
        assert_eq!(health.liveness.standstill(), None);
        let early = tokio::spawn(async move { connect(&url, &health).await });
        let cluster = Cluster::start(&dir).unwrap();
        let pool = early.await.unwrap().unwrap();
        let (a, b, c) = tokio::join!(migrate(&pool), migrate(&pool), migrate(&pool));
        a.and(b).and(c).unwrap();
        pool.close().await;
        assert!(cluster.stop().unwrap());
    }

    #[tokio::test]
    async fn a_database_that_does_not_exist_is_told_at_once() {
        let db = TestDb::new().await;
        let name = db.url().replacen("/test_", "/absent_", 1);
        let limit = Duration::from_secs(3600);
        let health = Health::default();
        let connecting = connect_within(&name, &health, limit);
        let answer = tokio::time::timeout(LIMITS.database.connection, connecting).await;
        let error = answer.expect("waiting cannot help").unwrap_err();
        assert!(error.to_string().contains("absent_"), "{error}");
    }

    #[tokio::test]
    async fn a_wrong_url_is_refused_without_a_word_about_its_password() {
        for url in [
            "postgres://u:s3cret@host:notaport/db",
            "s3cret",
            "postgres://u:s3cret@[::/db",
        ] {
            let error = connect(url, &Health::default()).await.unwrap_err();
            assert!(matches!(error, StoreError::Url(_)), "{error:?}");
            assert!(
                !format!("{error} {error:?}").contains("s3cret"),
                "{error:?}"
            );
        }
    }
}
