//! Tests of how a database comes to its schema.

mod dump;
mod folder;

use std::{collections::HashSet, future::Future, time::Duration};

use sqlx::{AssertSqlSafe, PgConnection};

use super::*;
use crate::testing::TestDb;

const WAIT_LIMIT: Duration = Duration::from_secs(60);

/// The stored generation, and whether a definition is ours.
async fn stored(db: &TestDb) -> (i32, bool) {
    sqlx::query_as(
        "SELECT generation, pg_get_functiondef('virtuozo_core.has_caps()'::regprocedure) LIKE '%repositories%'
           FROM virtuozo_core.definitions",
    )
    .fetch_one(&db.pool)
    .await
    .unwrap()
}

/// Another program's definition of a function of ours, in a database of this generation.
async fn lay_another(db: &TestDb, generation: i32) {
    sqlx::raw_sql(AssertSqlSafe(format!(
        "CREATE OR REPLACE FUNCTION virtuozo_core.has_caps() RETURNS boolean LANGUAGE plpgsql STABLE
         AS 'BEGIN RETURN false; END';
         UPDATE virtuozo_core.definitions SET generation = {generation};"
    )))
    .execute(&db.pool)
    .await
    .unwrap();
}

async fn in_time<T>(what: &str, done: impl Future<Output = T>) -> T {
    tokio::time::timeout(WAIT_LIMIT, done)
        .await
        .unwrap_or_else(|_| panic!("{what} takes too long"))
}

#[tokio::test]
async fn migrating_a_database_that_is_up_to_date_changes_nothing() {
    let db = TestDb::new().await;
    let laid_at = "SELECT applied_at::text FROM virtuozo_core.definitions";
    let before: String = sqlx::query_scalar(laid_at)
        .fetch_one(&db.pool)
        .await
        .unwrap();
    migrate(&db.pool).await.unwrap();
    migrate(&db.pool).await.unwrap();
    let after: String = sqlx::query_scalar(laid_at)
        .fetch_one(&db.pool)
        .await
        .unwrap();
    assert_eq!(after, before);
    assert_eq!(stored(&db).await, (GENERATION, true));
}

#[tokio::test]
async fn a_migration_that_waits_for_a_table_lets_others_through_and_comes_again() {
    let db = TestDb::new().await;
    let mut other = db.pool.begin().await.unwrap();
    other
        .execute("LOCK TABLE public._sqlx_migrations")
        .await
        .unwrap();
    let watching = async {
        let mut waited = HashSet::new();
        while waited.len() < 2 {
            let waiting: Option<i32> = sqlx::query_scalar(
                "SELECT pid FROM pg_locks
                  WHERE relation = 'public._sqlx_migrations'::regclass AND NOT granted",
            )
            .fetch_optional(&mut *other)
            .await
            .unwrap();
            waited.extend(waiting);
        }
        other.rollback().await.unwrap();
    };
    let both = async { tokio::join!(migrate(&db.pool), watching) };
    let (migrated, ()) = in_time("it", both).await;
    migrated.unwrap();
}

#[tokio::test]
async fn definitions_of_an_older_generation_are_replaced_and_those_of_a_newer_one_left_alone() {
    let db = TestDb::new().await;
    lay_another(&db, GENERATION + 1).await;
    migrate(&db.pool).await.unwrap();
    assert_eq!(stored(&db).await, (GENERATION + 1, false));
    lay_another(&db, GENERATION - 1).await;
    migrate(&db.pool).await.unwrap();
    assert_eq!(stored(&db).await, (GENERATION, true));
}

#[tokio::test]
async fn definitions_of_which_one_cannot_be_laid_stay_as_they_were() {
    let db = TestDb::new().await;
    lay_another(&db, GENERATION - 1).await;
    // An older program would never have it so: a view of ours with a column that this program lacks.
    sqlx::raw_sql(
        "DROP VIEW virtuozo.stuck; CREATE VIEW virtuozo.stuck AS SELECT 'it'::text AS kind, 1 AS another;",
    )
    .execute(&db.pool)
    .await
    .unwrap();
    let refused = migrate(&db.pool).await.unwrap_err();
    assert!(
        matches!(refused, StoreError::Definitions { topic: "stuck", .. }),
        "{refused}"
    );
    assert_eq!(stored(&db).await, (GENERATION - 1, false));
}

#[tokio::test]
async fn views_of_an_operators_own_and_their_grants_survive_the_next_generation() {
    let db = TestDb::new().await;
    let role = format!("test_reader_{}", std::process::id());
    sqlx::raw_sql(AssertSqlSafe(format!(
        "DROP ROLE IF EXISTS {role};
         CREATE ROLE {role} NOLOGIN;
         CREATE VIEW public.tired_hosts AS SELECT h.name, g.waiting_reason
           FROM virtuozo.hosts h LEFT JOIN virtuozo.guest_runs g ON g.host = h.name WHERE h.state <> 'ok';
         GRANT USAGE ON SCHEMA virtuozo TO {role};
         GRANT SELECT ON public.tired_hosts, virtuozo.runs TO {role};
         GRANT EXECUTE ON FUNCTION virtuozo.pause(text) TO {role};
         INSERT INTO virtuozo_core.hosts (id, name, kind) VALUES (gen_random_uuid(), 'alpha', 'esxi');"
    )))
    .execute(&db.pool)
    .await
    .unwrap();
    lay_another(&db, GENERATION - 1).await;
    migrate(&db.pool).await.unwrap();
    assert_eq!(stored(&db).await, (GENERATION, true));

    let mut connection = db.pool.acquire().await.unwrap();
    let seen = as_reader(&mut connection, &role).await;
    sqlx::raw_sql(AssertSqlSafe(format!(
        "RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role};"
    )))
    .execute(&mut *connection)
    .await
    .unwrap();
    assert_eq!(seen.unwrap(), ("alpha".to_owned(), 0, true, false));
}

/// As this role: a host that needs somebody, the runs, and whether it may pause and resume.
async fn as_reader(
    connection: &mut PgConnection,
    role: &str,
) -> Result<(String, i64, bool, bool), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(format!("SET ROLE {role}")))
        .execute(&mut *connection)
        .await?;
    sqlx::query_as(
        "SELECT (SELECT name FROM public.tired_hosts), (SELECT count(*) FROM virtuozo.runs),
                has_function_privilege('virtuozo.pause(text)', 'EXECUTE'),
                has_function_privilege('virtuozo.resume(text)', 'EXECUTE')",
    )
    .fetch_one(connection)
    .await
}

#[tokio::test]
async fn a_new_generation_waits_for_nobody_who_writes() {
    let db = TestDb::new().await;
    lay_another(&db, GENERATION - 1).await;
    let mut writer = db.pool.begin().await.unwrap();
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT c.oid::regclass::text FROM pg_class c
          WHERE c.relkind = 'r' AND c.relnamespace IN ('virtuozo_core'::regnamespace, 'apalis'::regnamespace)
            AND c.relname <> 'definitions'",
    )
    .fetch_all(&mut *writer)
    .await
    .unwrap();
    assert!(tables.len() > 20, "{tables:?}");
    let lock = format!("LOCK TABLE {} IN ROW EXCLUSIVE MODE", tables.join(", "));
    sqlx::raw_sql(AssertSqlSafe(lock))
        .execute(&mut *writer)
        .await
        .unwrap();
    in_time("a new generation", migrate(&db.pool))
        .await
        .unwrap();
    writer.rollback().await.unwrap();
    assert_eq!(stored(&db).await, (GENERATION, true));
}

#[tokio::test]
async fn a_database_of_the_ended_history_is_refused_and_left_as_it_is() {
    let db = TestDb::empty().await;
    sqlx::raw_sql(
        "CREATE TABLE public._sqlx_migrations (version bigint PRIMARY KEY, description text NOT NULL,
             installed_on timestamptz NOT NULL DEFAULT now(), success boolean NOT NULL, checksum bytea NOT NULL,
             execution_time bigint NOT NULL);
         INSERT INTO public._sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (20261122000100, 'main job', true, '\\x00', 0), (20261122000200, 'operators', true, '\\x00', 0);",
    )
    .execute(&db.pool)
    .await
    .unwrap();
    let refused = migrate(&db.pool).await.unwrap_err();
    assert!(matches!(refused, StoreError::EndedHistory), "{refused:?}");
    for word in ["export", "new database", "import"] {
        assert!(refused.to_string().contains(word), "{refused}");
    }
    let made: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM pg_namespace WHERE nspname IN ('apalis', 'virtuozo', 'virtuozo_core')",
    )
    .fetch_one(&db.pool)
    .await
    .unwrap();
    assert_eq!(made, 0);
}

#[tokio::test]
async fn a_database_that_is_not_in_utf_8_is_refused_with_what_to_do() {
    let db = TestDb::empty().await;
    let admin = &db.pool;
    let own: String = sqlx::query_scalar("SELECT current_database()::text")
        .fetch_one(admin)
        .await
        .unwrap();
    let name = format!("{own}_latin1");
    let create = format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'");
    sqlx::raw_sql(AssertSqlSafe(create))
        .execute(admin)
        .await
        .unwrap();
    let pool = PgPool::connect(&db.url().replacen(&own, &name, 1))
        .await
        .unwrap();
    let refused = migrate(&pool).await.unwrap_err();
    pool.close().await;
    let drop = format!("DROP DATABASE {name}");
    sqlx::raw_sql(AssertSqlSafe(drop))
        .execute(admin)
        .await
        .unwrap();
    let told = refused.to_string();
    assert!(matches!(refused, StoreError::Encoding { .. }), "{told}");
    assert!(
        told.contains(&name) && told.contains("LATIN1") && told.contains("ENCODING 'UTF8'"),
        "{told}"
    );
}
