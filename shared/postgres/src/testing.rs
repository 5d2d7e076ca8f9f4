//! Databases for tests: one private cluster for all test processes of a user on this machine, a
//! template with the schema, and one database for each test.
//!
//! The cluster stops when the last test process ends. It lives in the directory for temporary files
//! until the machine starts again.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool, postgres::PgPoolOptions};
use tokio::sync::OnceCell;

use virtuozo_runtime::Health;

use crate::server::Cluster;

/// A database of its own for one test. Dropped with this value.
#[derive(Debug)]
pub struct TestDb {
    /// Connections to the database.
    pub pool: PgPool,
    name: String,
    url: String,
}

struct Shared {
    cluster: Cluster,
    template: String,
}

static SHARED: OnceCell<Shared> = OnceCell::const_new();
static NEXT: AtomicU32 = AtomicU32::new(1);

/// Why no test database could be made. A test has nothing to do but fail with it.
type Failure = Box<dyn std::error::Error + Send + Sync>;

impl TestDb {
    /// Makes a database with the whole schema.
    ///
    /// # Panics
    /// If it cannot, with the reason: a test without its database has failed.
    #[allow(clippy::panic)]
    pub async fn new() -> Self {
        match Self::try_new(true).await {
            Ok(db) => db,
            Err(e) => panic!("no test database: {e}"),
        }
    }

    /// Makes a database with nothing in it.
    ///
    /// # Panics
    /// As [`Self::new`].
    #[allow(clippy::panic)]
    pub async fn empty() -> Self {
        match Self::try_new(false).await {
            Ok(db) => db,
            Err(e) => panic!("no test database: {e}"),
        }
    }

    async fn try_new(with_schema: bool) -> Result<Self, Failure> {
        let shared = SHARED.get_or_try_init(Shared::start).await?;
        let template = if with_schema {
            &shared.template
        } else {
            "template1"
        };
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{}_{number}", std::process::id());
        let mut admin = PgConnection::connect(shared.cluster.url()).await?;
        execute(
            &mut admin,
            format!("CREATE DATABASE {name} TEMPLATE {template}"),
        )
        .await?;
        admin.close().await?;
        let url = on_database(shared.cluster.url(), &name);
        let pool = PgPoolOptions::new()
            .max_connections(8)
            .connect(&url)
            .await?;
        Ok(Self { pool, name, url })
    }

    /// The connection string, for another process or another pool.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for TestDb {
    fn drop(&mut self) {
        let Some(shared) = SHARED.get() else { return };
        let (url, name) = (shared.cluster.url().to_owned(), self.name.clone());
        // The runtime of the test may be ending, so the farewell has one of its own. What it does
        // not manage is removed by the next test process.
        let thread = std::thread::spawn(move || -> Result<(), Failure> {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?
                .block_on(async {
                    let mut admin = PgConnection::connect(&url).await?;
                    execute(
                        &mut admin,
                        format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"),
                    )
                    .await?;
                    Ok(())
                })
        });
        let _ = thread.join();
    }
}

impl Shared {
    async fn start() -> Result<Self, Failure> {
        let dir = directory()?;
        // A crash of the machine ends the directory's life, so nothing has to survive one. Nothing is compiled, as
        // in sessions of the program: a fresh database has no statistics, and short statements seem to be long.
        let settings = [
            "jit=off",
            "fsync=off",
            "synchronous_commit=off",
            "full_page_writes=off",
            "autovacuum=off",
            "max_connections=300",
        ];
        let cluster =
            tokio::task::spawn_blocking(move || Cluster::start_with(&dir, &settings)).await??;
        let mut admin = PgConnection::connect(cluster.url()).await?;
        let template = template_name();
        execute(&mut admin, "SELECT pg_advisory_lock(7316)".into()).await?;
        remove_left_overs(&mut admin).await?;
        let known = sqlx::query("SELECT FROM pg_database WHERE datname = $1")
            .bind(&template)
            .fetch_optional(&mut admin)
            .await?;
        if known.is_none() {
            let building = format!("{template}_building");
            execute(
                &mut admin,
                format!("DROP DATABASE IF EXISTS {building} WITH (FORCE)"),
            )
            .await?;
            execute(&mut admin, format!("CREATE DATABASE {building}")).await?;
            let pool = crate::connect(
                &on_database(cluster.url(), &building),
                2,
                &Health::default(),
            )
            .await?;
            crate::migrate(&pool).await?;
            pool.close().await;
            // Nobody may connect, since a database in use cannot be copied.
            execute(
                &mut admin,
                format!("ALTER DATABASE {building} ALLOW_CONNECTIONS false"),
            )
            .await?;
            execute(
                &mut admin,
                format!("ALTER DATABASE {building} RENAME TO {template}"),
            )
            .await?;
        }
        admin.close().await?;
        Ok(Self { cluster, template })
    }
}

/// A directory that is the user's own and that no start of the machine outlives.
fn directory() -> Result<PathBuf, Failure> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let boot = boot.get(..8).unwrap_or("unknown");
    let user = rustix::process::geteuid().as_raw();
    Ok(std::env::temp_dir().join(format!("virtuozo-test-{user}-{boot}")))
}

/// Named after what makes the schema: another schema gets another template.
fn template_name() -> String {
    format!("template_{}", crate::fingerprint().simple())
}

/// Drops databases of test processes that no longer run.
async fn remove_left_overs(admin: &mut PgConnection) -> Result<(), Failure> {
    let names: Vec<String> =
        sqlx::query_scalar(r"SELECT datname FROM pg_database WHERE datname LIKE 'test\_%'")
            .fetch_all(&mut *admin)
            .await?;
    for name in names {
        let pid = name.split('_').nth(1).unwrap_or_default();
        if !PathBuf::from(format!("/proc/{pid}")).exists() {
            execute(
                admin,
                format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"),
            )
            .await?;
        }
    }
    Ok(())
}

/// Runs a statement whose names this file has made itself.
async fn execute(admin: &mut PgConnection, statement: String) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(statement))
        .execute(admin)
        .await
        .map(drop)
}

fn on_database(url: &str, name: &str) -> String {
    url.replacen("/postgres?", &format!("/{name}?"), 1)
}
