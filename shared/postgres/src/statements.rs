//! Single statements without a question before and after each. sqlx asks a connection whether it is there each
//! time that it comes back to its pool, and this crate's guard against silence asks once more: three round
//! trips for one. Here a connection comes back when its statement has come to its end, and is closed when that
//! did not happen; one that has idled is asked before it is used.

use std::{fmt, ops::Deref, time::Instant};

use deadpool::{
    Runtime,
    managed::{self, Metrics, Object, PoolError, QueueMode, RecycleError, RecycleResult},
};
use either::Either;
use futures_core::{future::BoxFuture, stream::BoxStream};
use futures_util::{StreamExt, TryStreamExt, stream};
use sqlx::{
    Connection, Describe, Error, Execute, Executor, PgConnection, PgPool, Postgres, SqlStr,
    postgres::{PgConnectOptions, PgQueryResult, PgRow, PgStatement, PgTypeInfo},
};

use super::pool::{self, ConnectionHealth};
use crate::error::is_connection_error;
use virtuozo_runtime::{Availability, LIMITS};

/// What claims jobs and takes guest runs through finds all of its rows by index, from the first one on: a plan
/// that reads all of a small table would be kept while the table grows.
const BY_INDEX: [(&str, &str); 1] = [("enable_seqscan", "off")];
/// For claims, which wait for no disk: one that is lost with the server is made again, and finds what it is for.
const FOR_CLAIMS: [(&str, &str); 2] = [("enable_seqscan", "off"), ("synchronous_commit", "off")];

/// Connections for transactions, as the [`PgPool`] that this is otherwise, and others for single statements: as an
/// executor it runs each on one of these.
#[derive(Clone)]
pub struct Pool {
    transactions: PgPool,
    statements: managed::Pool<Manager>,
}

impl Pool {
    /// Beside the connections of `transactions`, up to `connections` for single statements, whose answers are noted in
    /// `availability`.
    pub fn beside(transactions: PgPool, connections: usize, availability: &Availability) -> Self {
        let options = transactions.connect_options().as_ref().clone();
        Self::of(
            transactions,
            options.options(BY_INDEX),
            connections,
            &ConnectionHealth::new(availability),
        )
    }

    /// One connection for transactions and one for single statements, which are claims of jobs, to the database of
    /// `pool`; for a part of the process that may break without the others. `health` tells when it was last answered.
    pub fn isolated(pool: &PgPool, health: &ConnectionHealth) -> Self {
        let options = pool.connect_options().as_ref().clone();
        let transactions = pool::lazy(options.clone(), 1, health);
        Self::of(transactions, options.options(FOR_CLAIMS), 1, health)
    }

    fn of(
        transactions: PgPool,
        options: PgConnectOptions,
        connections: usize,
        health: &ConnectionHealth,
    ) -> Self {
        let manager = Manager {
            options,
            health: health.clone(),
        };
        let mut config = managed::PoolConfig::new(connections);
        config.timeouts.wait = Some(LIMITS.database.connection);
        // Those that are used last are used next, so that the others can go.
        config.queue_mode = QueueMode::Lifo;
        let mut statements = managed::Pool::builder(manager).config(config);
        statements = statements.runtime(Runtime::Tokio1);
        match statements.build() {
            Ok(statements) => Self {
                transactions,
                statements,
            },
            // It asks for a runtime where there are limits, and there is one.
            Err(error) => unreachable!("{error}"),
        }
    }

    /// Closes all connections, once what is under way has ended.
    pub async fn close(&self) {
        self.statements.close();
        self.transactions.close().await;
    }

    async fn lend(&self) -> Result<Lent, Error> {
        self.statements
            .retain(|_, metrics| metrics.last_used() < LIMITS.database.idle_connection);
        match self.statements.get().await {
            Ok(link) => Ok(Lent(Some(link))),
            Err(PoolError::Backend(error)) => Err(error),
            Err(PoolError::Closed) => Err(Error::PoolClosed),
            Err(_) => Err(Error::PoolTimedOut),
        }
    }

    /// Runs a statement to its end.
    async fn run<'q, E>(&self, query: E) -> Result<Vec<Either<PgQueryResult, PgRow>>, Error>
    where
        E: 'q + Execute<'q, Postgres>,
    {
        let mut lent = self.lend().await?;
        let asked_at = Instant::now();
        let answer: Result<Vec<_>, Error> = match lent.connection() {
            Some(connection) => connection.fetch_many(query).try_collect().await,
            None => Err(Error::PoolClosed),
        };
        // An error of the statement is an answer of the server, unless it takes its leave with it.
        if answer
            .as_ref()
            .err()
            .is_none_or(|error| !is_connection_error(error))
        {
            self.statements.manager().health.answered(asked_at);
            lent.give_back();
        }
        answer
    }
}

/// For transactions and for listening.
impl Deref for Pool {
    type Target = PgPool;

    fn deref(&self) -> &PgPool {
        &self.transactions
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("transactions", &self.transactions)
            .finish_non_exhaustive()
    }
}

impl<'p> Executor<'p> for &Pool {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let pool = self.clone();
        let all = async move {
            match pool.run(query).await {
                Ok(answer) => stream::iter(answer.into_iter().map(Ok)).boxed(),
                Err(error) => stream::iter([Err(error)]).boxed(),
            }
        };
        stream::once(all).flatten().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let pool = self.clone();
        Box::pin(async move {
            let answer = pool.run(query).await?;
            Ok(answer.into_iter().find_map(Either::right))
        })
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, Error>>
    where
        'p: 'e,
    {
        self.transactions.prepare_with(sql, parameters)
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, Error>>
    where
        'p: 'e,
    {
        self.transactions.describe(sql)
    }
}

/// A connection in use, which is closed if it is not given back.
struct Lent(Option<Object<Manager>>);

impl Lent {
    fn connection(&mut self) -> Option<&mut PgConnection> {
        self.0.as_mut().map(|link| &mut link.connection)
    }

    fn give_back(&mut self) {
        self.0 = None;
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(link) = self.0.take() {
            drop(Object::take(link));
        }
    }
}

struct Link {
    connection: PgConnection,
    born_at: Instant,
}

struct Manager {
    options: PgConnectOptions,
    health: ConnectionHealth,
}

impl managed::Manager for Manager {
    type Type = Link;
    type Error = Error;

    /// Tries for as long as one may wait for a connection.
    async fn create(&self) -> Result<Link, Error> {
        let connect = || async {
            let mut connection = PgConnection::connect_with(&self.options).await?;
            pool::prepare(&mut connection).await?;
            Ok(connection)
        };
        let trying = async {
            loop {
                match connect().await {
                    Err(error) if is_connection_error(&error) => {
                        tokio::time::sleep(LIMITS.database.retry_pause).await;
                    }
                    answer => return answer,
                }
            }
        };
        let connection = tokio::time::timeout(LIMITS.database.connection, trying)
            .await
            .unwrap_or(Err(Error::PoolTimedOut))?;
        Ok(Link {
            connection,
            born_at: Instant::now(),
        })
    }

    async fn recycle(&self, link: &mut Link, metrics: &Metrics) -> RecycleResult<Error> {
        let age = link.born_at.elapsed();
        if age < LIMITS.database.oldest_connection
            && !self.health.is_suspect(age)
            && (metrics.last_used() < LIMITS.database.fresh
                || self.health.answers(&mut link.connection).await)
        {
            Ok(())
        } else {
            Err(RecycleError::message("it is too old or silent"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::testing::TestDb;

    async fn backend(pool: &Pool) -> i32 {
        sqlx::query_scalar("SELECT pg_backend_pid()")
            .fetch_one(pool)
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn a_connection_is_used_again_also_after_a_statement_that_the_server_refused() {
        let db = TestDb::new().await;
        let pool = Pool::beside(db.pool.clone(), 1, &Availability::default());
        let first = backend(&pool).await;
        let refused = sqlx::query("SELECT 1 / 0").execute(&pool).await;
        assert!(matches!(refused, Err(Error::Database(_))), "{refused:?}");
        assert_eq!(backend(&pool).await, first);
        let rows = sqlx::query("SELECT generate_series(1, 1000)")
            .fetch_all(&pool)
            .await
            .unwrap();
        assert_eq!(rows.len(), 1000);
        assert_eq!(backend(&pool).await, first);
    }

    #[tokio::test]
    async fn a_connection_whose_statement_was_given_up_is_not_used_again() {
        let db = TestDb::new().await;
        let pool = Pool::beside(db.pool.clone(), 1, &Availability::default());
        let first = backend(&pool).await;
        let long = sqlx::query("SELECT pg_sleep(60)").execute(&pool);
        let given_up = timeout(Duration::from_millis(50), long).await;
        assert!(given_up.is_err());
        assert_ne!(backend(&pool).await, first);
    }

    #[tokio::test]
    async fn a_connection_that_the_server_has_ended_costs_one_statement_at_most() {
        let db = TestDb::new().await;
        let pool = Pool::beside(db.pool.clone(), 1, &Availability::default());
        let first = backend(&pool).await;
        sqlx::query("SELECT pg_terminate_backend($1, 10000)")
            .bind(first)
            .execute(&db.pool)
            .await
            .unwrap();
        let _ = sqlx::query("SELECT 1").execute(&pool).await;
        assert_ne!(backend(&pool).await, first);
    }

    #[tokio::test]
    async fn who_waits_too_long_for_a_connection_is_told_so() {
        let db = TestDb::new().await;
        let pool = Pool::beside(db.pool.clone(), 1, &Availability::default());
        let _lent = pool.lend().await.unwrap();
        let late = sqlx::query("SELECT 1").execute(&pool).await;
        assert!(matches!(late, Err(Error::PoolTimedOut)), "{late:?}");
    }
}
