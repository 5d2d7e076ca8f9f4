//! The schema: versioned tables, each migration run once, and the definitions of functions, views, triggers and
//! rights, which are laid over them again when a program brings a newer generation. migrations/README.md has the
//! rules.

use sqlx::{Connection, Executor, PgConnection, PgPool, migrate::Migrator};
use virtuozo_runtime::LIMITS;

use crate::{StoreError, error::is_connection_error};

/// A migration takes as long as it takes. But while it waits for a table, everybody who comes later waits behind it,
/// also the renewals of leases: so it waits for less than the time between two of them, and then lets go.
const SESSION: &str = "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0;
                       SET lock_timeout = '2s'";
/// One process at a time, in each database.
const LOCK: &str = "SELECT pg_advisory_lock(7316, 1)";
const UNLOCK: &str = "SELECT pg_advisory_unlock(7316, 1)";

/// The first migration of the history that ended with migrations/versioned/0001_base.sql.
const ENDED_HISTORY: i64 = 20_261_122_000_100;

macro_rules! definitions {
    ($($topic:literal),* $(,)?) => {
        &[$(($topic, include_str!(concat!("../../../migrations/definitions/", $topic, ".sql")))),*]
    };
}

/// The files of migrations/definitions in the order in which they are laid: what a view or a function in SQL uses
/// comes before it.
const DEFINITIONS: &[(&str, &str)] = definitions![
    "helpers",
    "leases",
    "traces",
    "jobs",
    "hosts",
    "slots",
    "caps",
    "obstacles",
    "admission",
    "guest_runs",
    "obligations",
    "points",
    "space",
    "hooks",
    "notices",
    "requests",
    "explanations",
    "operators",
    "views",
    "stuck",
    "triggers",
    "grants",
    "dropped",
];

/// Which definitions are in this program. Grows with every change of them.
const GENERATION: i32 = match i32::from_str_radix(
    include_str!("../../../migrations/definitions/GENERATION").trim_ascii(),
    10,
) {
    Ok(generation) => generation,
    Err(_) => panic!("migrations/definitions/GENERATION holds one number"),
};

/// Brings the schema up to date: apalis' tables, ours, and the definitions. Any number of processes may do so at once,
/// and one does. Waits as long as it takes for other transactions that use the tables, and says so once. What a newer
/// program has brought stays as it is.
///
/// # Errors
/// [`StoreError::Encoding`]; [`StoreError::EndedHistory`] for a database that no program of today can use; if a statement fails, also because
/// the user is not the one who owns the tables; if an applied migration is not the one in this program.
pub async fn migrate(pool: &PgPool) -> Result<(), StoreError> {
    let mut waits = false;
    loop {
        match try_to_migrate(pool).await {
            Err(error) if error.is_conflict() => {
                if !waits {
                    tracing::warn!(
                        %error,
                        "the database's schema waits to be brought up to date: another transaction uses its \
                         tables, or another process is at it; pg_stat_activity shows who"
                    );
                }
                waits = true;
                tokio::time::sleep(LIMITS.database.migration_pause).await;
            }
            done => return done,
        }
    }
}

async fn try_to_migrate(pool: &PgPool) -> Result<(), StoreError> {
    let mut connection = pool.acquire().await?;
    // It has other limits than the others, and after an error it still has the lock.
    connection.close_on_drop();
    connection.execute(SESSION).await?;
    match bring_up_to_date(&mut connection).await {
        Err(error) if error.is_refused_for_rights() || error.is_without_schema() => {
            let whose = not_permitted(&mut connection).await;
            Err(whose.unwrap_or(error))
        }
        done => done,
    }
}

async fn bring_up_to_date(connection: &mut PgConnection) -> Result<(), StoreError> {
    refuse_encoding(connection).await?;
    connection.execute(LOCK).await?;
    refuse_ended_history(connection).await?;
    for migrations in versioned() {
        migrations.run(&mut *connection).await?;
    }
    lay_definitions(connection).await?;
    connection.execute(UNLOCK).await?;
    Ok(())
}

/// apalis' migrations and ours, in the order in which they run.
fn versioned() -> [Migrator; 2] {
    let mut ours = sqlx::migrate!("../../migrations/versioned");
    // By its full name: a user called like our schema would look there first, and find no ledger
    // once the schema exists. apalis keeps its own ledger in its own schema.
    ours.dangerous_set_table_name("public._sqlx_migrations");
    let mut both = [apalis_postgres::PostgresStorage::<()>::migrations(), ours];
    for migrations in &mut both {
        // A database may be newer than this program: see the rules in migrations/README.md.
        migrations.set_ignore_missing(true);
        // Our own lock is held over both and the definitions.
        migrations.set_locking(false);
    }
    both
}

/// Names and sentences are any text, which only UTF-8 holds.
async fn refuse_encoding(connection: &mut PgConnection) -> Result<(), StoreError> {
    let (database, encoding): (String, String) = sqlx::query_as(
        "SELECT datname::text, pg_catalog.pg_encoding_to_char(encoding)::text
           FROM pg_catalog.pg_database WHERE datname = current_database()",
    )
    .fetch_one(connection)
    .await?;
    if encoding == "UTF8" {
        Ok(())
    } else {
        Err(StoreError::Encoding { database, encoding })
    }
}

async fn refuse_ended_history(connection: &mut PgConnection) -> Result<(), StoreError> {
    let is_new: bool = sqlx::query_scalar("SELECT to_regclass('public._sqlx_migrations') IS NULL")
        .fetch_one(&mut *connection)
        .await?;
    if is_new {
        return Ok(());
    }
    let has_ended: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM public._sqlx_migrations WHERE version = $1)",
    )
    .bind(ENDED_HISTORY)
    .fetch_one(connection)
    .await?;
    if has_ended {
        return Err(StoreError::EndedHistory);
    }
    Ok(())
}

/// Lays all definitions in one transaction if they are newer than those of the database.
async fn lay_definitions(connection: &mut PgConnection) -> Result<(), StoreError> {
    let stored: i32 = sqlx::query_scalar("SELECT generation FROM virtuozo_core.definitions")
        .fetch_one(&mut *connection)
        .await?;
    if stored >= GENERATION {
        return Ok(());
    }
    let mut tx = connection.begin().await?;
    // Names without a schema are the server's own, whatever the user is called or has set.
    tx.execute("SET LOCAL search_path = pg_catalog, pg_temp")
        .await?;
    for (topic, sql) in DEFINITIONS {
        tx.execute(*sql).await.map_err(|source| {
            if is_connection_error(&source) {
                return source.into();
            }
            StoreError::Definitions { topic, source }
        })?;
    }
    sqlx::query("UPDATE virtuozo_core.definitions SET generation = $1, applied_at = now()")
        .bind(GENERATION)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    tracing::info!(
        generation = GENERATION,
        before = stored,
        "the database has this program's functions and views now"
    );
    Ok(())
}

/// Whose rights it takes, where the tables are another's; where there are none yet, which rights.
async fn not_permitted(connection: &mut PgConnection) -> Option<StoreError> {
    let tables: Option<(String, String)> = sqlx::query_as(include_str!("tables_owner.sql"))
        .fetch_optional(&mut *connection)
        .await
        .ok()?;
    if let Some((user, owner)) = tables {
        return (user != owner).then_some(StoreError::NotPermitted { user, owner });
    }
    let (user, database, statements): (String, String, Option<String>) =
        sqlx::query_as(include_str!("missing_rights.sql"))
            .fetch_one(connection)
            .await
            .ok()?;
    Some(StoreError::MayNotCreate {
        user,
        database,
        statements: statements?,
    })
}

/// What tells one schema from another: the checksums of all migrations, the definitions and their number.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn fingerprint() -> uuid::Uuid {
    let mut all: Vec<u8> = versioned()
        .iter()
        .flat_map(|set| set.iter().flat_map(|one| one.checksum.to_vec()))
        .collect();
    all.extend(content().as_bytes());
    all.extend(GENERATION.to_le_bytes());
    uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, &all)
}

/// All definitions.
#[cfg(any(test, feature = "testing"))]
fn content() -> String {
    DEFINITIONS.iter().map(|(_, sql)| *sql).collect()
}

#[cfg(test)]
mod tests;
