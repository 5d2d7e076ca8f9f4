//! One private Postgres for everything that is compared, with the default durability.

use std::path::PathBuf;

use anyhow::Result;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use virtuozo_postgres::server::Cluster;

/// A running server that goes away with this value.
pub(crate) struct Server {
    cluster: Option<Cluster>,
    dir: PathBuf,
}

/// A database of its own for one part of the comparison.
pub(crate) struct Database {
    name: String,
    /// The connection string.
    pub(crate) url: String,
}

impl Server {
    pub(crate) fn start() -> Result<Self> {
        let dir = std::env::temp_dir().join(format!("virtuozo-bench-{}", std::process::id()));
        let settings = [
            "shared_preload_libraries=pg_stat_statements",
            "max_connections=200",
        ];
        let cluster = Cluster::start_with(&dir, &settings)?;
        Ok(Self {
            cluster: Some(cluster),
            dir,
        })
    }

    fn url(&self) -> &str {
        self.cluster.as_ref().map_or("", Cluster::url)
    }

    async fn execute(&self, url: &str, sql: String) -> Result<()> {
        let mut connection = PgConnection::connect(url).await?;
        sqlx::query(AssertSqlSafe(sql))
            .execute(&mut connection)
            .await?;
        connection.close().await?;
        Ok(())
    }

    /// Makes a database in which statements are counted.
    pub(crate) async fn database(&self, name: &str) -> Result<Database> {
        self.execute(self.url(), format!("CREATE DATABASE {name}"))
            .await?;
        let url = self.url().replacen("/postgres?", &format!("/{name}?"), 1);
        self.execute(&url, "CREATE EXTENSION pg_stat_statements".to_owned())
            .await?;
        Ok(Database {
            name: name.to_owned(),
            url,
        })
    }
}

impl Database {
    /// Removes it.
    pub(crate) async fn remove(self, server: &Server) -> Result<()> {
        let sql = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        server.execute(server.url(), sql).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(cluster) = self.cluster.take() {
            let _ = cluster.stop();
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
