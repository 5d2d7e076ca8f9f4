//! Whether Virtuozo can work with what answers at a database URL: a server that takes writes, over connections that stay
//! its own. Asked once, before the first use, so that what is wrong is told once and with its cure.

use sqlx::{Connection, FromRow, PgConnection, postgres::PgConnectOptions};

/// Why a database is of no use.
pub(crate) enum Unsuitable {
    /// It refuses a connection, or the question.
    Refuses(sqlx::Error),
    /// It answers, and is not what Virtuozo needs.
    Unfit(String),
}

impl From<sqlx::Error> for Unsuitable {
    fn from(error: sqlx::Error) -> Self {
        Self::Refuses(error)
    }
}

/// A standby, or a server, database or user that is set so.
const READ_ONLY: &str = "this is a read-only server (a standby?): name the primary server, or several with a proxy before \
                         them that finds it; where it is none, default_transaction_read_only is on for the server, the \
                         database or the user, and has to be off";

/// Only a pooler that hands a server's connection from one client to the next gives two clients the same.
const SHARED: &str = "a pooler before the server shares its connections between transactions, and Virtuozo needs them \
                      for itself, since it listens and holds locks on them: session mode is needed (in pgbouncer.ini: \
                      pool_mode = session), or the server's own address";

/// Asks over two connections at once, for a process that takes up to `connections`.
pub(crate) async fn check(options: &PgConnectOptions, connections: u32) -> Result<(), Unsuitable> {
    let mut first = PgConnection::connect_with(options).await?;
    let facts = ask(&mut first).await?;
    let mut second = PgConnection::connect_with(options).await?;
    let other = ask(&mut second).await?;
    // They have answered: whether they also hear the farewell does not matter.
    let _ = second.close().await;
    let _ = first.close().await;
    let what = if facts.server_process == other.server_process {
        SHARED.to_owned()
    } else if facts.is_read_only {
        READ_ONLY.to_owned()
    } else if let Some(limit) = facts.limit.filter(|limit| *limit < i64::from(connections)) {
        format!(
            "{} permits {limit} connections at once, and this process alone takes up to {connections}: {}",
            facts.limited_by, facts.cure
        )
    } else {
        return Ok(());
    };
    Err(Unsuitable::Unfit(what))
}

/// What a server says of a connection.
#[derive(FromRow)]
struct Facts {
    /// The process of the server behind it.
    server_process: i32,
    /// It takes no writes.
    is_read_only: bool,
    /// The least limit of connections that holds for the user.
    limit: Option<i64>,
    /// Whose limit that is.
    limited_by: String,
    /// The statement that raises it.
    cure: String,
}

/// In the simple protocol, as a pooler that shares connections may know no prepared statements.
async fn ask(connection: &mut PgConnection) -> Result<Facts, sqlx::Error> {
    let row = sqlx::raw_sql(include_str!("suitable.sql"))
        .fetch_one(connection)
        .await?;
    Facts::from_row(&row)
}

#[cfg(test)]
mod tests;
