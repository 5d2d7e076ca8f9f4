//! Connections to the database, its schema, and a private server.

mod ask;
mod error;
mod migrate;
mod pool;
pub mod server;
mod statements;
mod suitable;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod transport;

use std::time::{Duration, Instant};

use sqlx::{PgPool, postgres::PgConnectOptions};

use crate::suitable::Unsuitable;
use virtuozo_runtime::{Health, LIMITS};

pub use ask::{ask, count_error};
pub use error::StoreError;
#[cfg(any(test, feature = "testing"))]
pub(crate) use migrate::fingerprint;
pub use migrate::migrate;
pub use statements::Pool;
pub use transport::weakness;

pub use pool::{ConnectionHealth, single_connection};

/// A process needs few connections: its transactions are short.
const MAX_CONNECTIONS: u32 = 8;
/// What a command cannot do without: one connection to work with, and one to listen.
const COMMAND_CONNECTIONS: u32 = 2;
/// Connects to the database at `url` for a process that takes up to `connections`, and waits as long as it takes until it
/// answers. The wait is noted in `health`, as
/// is how the connections of the pool are answered.
///
/// # Errors
/// Only if `url` itself cannot be used.
pub async fn connect(url: &str, connections: u32, health: &Health) -> Result<PgPool, StoreError> {
    connect_until(url, connections, health, None).await
}

/// Like [`connect`], but gives up after `limit`, and at once where waiting cannot help (wrong
/// password, no such database, a server that takes no writes).
///
/// # Errors
/// If `url` cannot be used, or the last error of the database.
pub async fn connect_within(
    url: &str,
    health: &Health,
    limit: Duration,
) -> Result<PgPool, StoreError> {
    connect_until(
        url,
        COMMAND_CONNECTIONS,
        health,
        Some(Instant::now() + limit),
    )
    .await
}

async fn connect_until(
    url: &str,
    connections: u32,
    health: &Health,
    deadline: Option<Instant>,
) -> Result<PgPool, StoreError> {
    let options = transport::options(url)?.application_name("virtuozo");
    let place = describe(&options);
    let unreachable = |source| StoreError::Unreachable {
        place: place.clone(),
        source,
    };
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
        let error =
            match tokio::time::timeout(attempt, suitable::check(&options, connections)).await {
                Ok(Ok(())) => {
                    health.availability.answered(asked_at);
                    return Ok(pool::lazy(
                        options,
                        MAX_CONNECTIONS,
                        &ConnectionHealth::new(&health.availability),
                    ));
                }
                Ok(Err(Unsuitable::Refuses(source))) => unreachable(source),
                Ok(Err(Unsuitable::Unfit(what))) => StoreError::Unfit {
                    place: place.clone(),
                    what,
                },
                Err(_) => unreachable(sqlx::Error::PoolTimedOut),
            };
        let can_heal = error.heals_by_itself();
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
        let early = tokio::spawn(async move { connect(&url, 2, &health).await });
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
            let error = connect(url, 2, &Health::default()).await.unwrap_err();
            assert!(matches!(error, StoreError::Url(_)), "{error:?}");
            assert!(
                !format!("{error} {error:?}").contains("s3cret"),
                "{error:?}"
            );
        }
    }
}
