//! Which of several schedulers leads. Two that both believe they do make no error: every due time and
//! every lease is decided by one statement. It only spares work.

use sqlx::{Connection, PgConnection, PgPool};

use crate::StoreError;

/// The first key of Virtuozo's advisory locks: "virt".
const LOCK_CLASS: i32 = 0x7669_7274;
/// The second key: the scheduler's.
const LOCK_SCHEDULER: i32 = 1;

/// The leadership, for as long as its connection lives.
#[derive(Debug)]
pub struct Leadership {
    // Of its own: a pool may close or hand out a connection, and the lock is the connection's.
    connection: PgConnection,
}

impl Leadership {
    /// Takes the leadership if nobody has it.
    ///
    /// # Errors
    /// What the database says.
    pub async fn try_take(pool: &PgPool) -> Result<Option<Self>, StoreError> {
        let mut connection = PgConnection::connect_with(&pool.connect_options()).await?;
        let taken: bool = sqlx::query_scalar(include_str!("sql/leadership_try.sql"))
            .bind(LOCK_CLASS)
            .bind(LOCK_SCHEDULER)
            .fetch_one(&mut connection)
            .await?;
        if taken {
            return Ok(Some(Self { connection }));
        }
        connection.close().await?;
        Ok(None)
    }

    /// Looks whether the connection lives, and with it the leadership.
    ///
    /// # Errors
    /// If it does not.
    pub async fn confirm(&mut self) -> Result<(), StoreError> {
        Ok(self.connection.ping().await?)
    }

    /// Gives the leadership up.
    ///
    /// # Errors
    /// If the connection was broken already.
    pub async fn resign(self) -> Result<(), StoreError> {
        Ok(self.connection.close().await?)
    }
}
