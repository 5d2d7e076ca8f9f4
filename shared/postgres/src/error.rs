//! What the database, or the store above it, can answer instead of doing what it was asked.

use std::{borrow::Cow, time::Duration};

use sqlx::migrate::MigrateError;

/// An operation on the database or on a stored object failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database does not answer, or the connection broke: nothing is known about the operation.
    /// Not the same as "0 rows", which is an answer.
    #[error("the database does not answer: {0}")]
    Unavailable(#[source] sqlx::Error),
    /// The database gave no answer in time: nothing is known about the operation.
    #[error("the database has given no answer for {} s", limit.as_secs_f64())]
    Silent {
        /// How long was waited.
        limit: Duration,
    },
    /// No connection to the database can be made.
    #[error("the database {place} cannot be reached: {source}{}", cure(source))]
    Unreachable {
        /// Its name and where it is, without a password.
        place: String,
        /// Why.
        source: sqlx::Error,
    },
    /// What answers is a database, but not one that Virtuozo can work with.
    #[error("the database {place} cannot be used: {what}")]
    Unfit {
        /// Its name and where it is, without a password.
        place: String,
        /// What is wrong, and what to do about it.
        what: String,
    },
    /// The database answered, with an error.
    #[error("the database refused a statement: {0}")]
    Query(#[source] sqlx::Error),
    /// The connection string cannot be used.
    #[error(
        "this is not a usable database URL: {0}; it has the form postgres://user:password@machine:5432/database"
    )]
    Url(String),
    /// Bringing the database's schema up to date failed.
    #[error("the database's schema could not be brought up to date: {0}")]
    Migrate(#[source] MigrateError),
    /// The functions and views of this program could not be laid over the tables.
    #[error(
        "the database's functions and views could not be brought up to date (migrations/definitions/{topic}.sql): {source}"
    )]
    Definitions {
        /// The file that holds them.
        topic: &'static str,
        /// Why.
        source: sqlx::Error,
    },
    /// The database was made by a version whose migrations no program of today carries on.
    #[error(
        "this database was made by a version of Virtuozo from before the first release, and cannot be brought up to date: \
         write its configuration to a file with `virtuozo export` of that version, make a new database, and read the \
         file there with `virtuozo import`"
    )]
    EndedHistory,
    /// The database cannot hold every text.
    #[error(
        "the database {database} has the encoding {encoding}, which cannot hold every name: make one in UTF-8 (CREATE DATABASE \
         \"name\" TEMPLATE template0 ENCODING 'UTF8') and give its URL"
    )]
    Encoding {
        /// Its name.
        database: String,
        /// Its encoding.
        encoding: String,
    },
    /// The user may not use the tables.
    #[error(
        "the database user {user} may not use Virtuozo's tables: commands take the user {owner}, who owns them; members of \
         the roles virtuozo_read and virtuozo_operator have the views and functions of the schema virtuozo, in psql \
         (docs/guide/operate-in-sql.md)"
    )]
    NotPermitted {
        /// Who asked.
        user: String,
        /// Who may.
        owner: String,
    },
    /// The user may not make the schema.
    #[error(
        "the database user {user} may not create in the database {database} what Virtuozo keeps there: have the owner of the \
         database or a superuser run this in it: {statements}"
    )]
    MayNotCreate {
        /// Who asked.
        user: String,
        /// The database.
        database: String,
        /// What gives the rights.
        statements: String,
    },
    /// There is no object of this name.
    #[error("there is no {what} {name:?}")]
    NotFound {
        /// The kind of object, as a person says it.
        what: &'static str,
        /// The name or id that was looked for.
        name: String,
    },
    /// An object of this name is there already.
    #[error("there is a {what} {name:?} already")]
    Exists {
        /// The kind of object, as a person says it.
        what: &'static str,
        /// The name that is taken.
        name: String,
    },
    /// What was asked for is not permitted; the text says why, and what is.
    #[error("refused: {0}")]
    Refused(String),
}

impl StoreError {
    /// True if the database could not be reached, so that the same operation may succeed later.
    pub fn is_unavailable(&self) -> bool {
        matches!(
            self,
            Self::Unavailable(_)
                | Self::Silent { .. }
                | Self::Unreachable { .. }
                | Self::Unfit { .. }
        )
    }

    /// True if nobody has to do anything so that the database can be reached: to wait is enough.
    pub(crate) fn heals_by_itself(&self) -> bool {
        match self {
            Self::Unreachable { source, .. } => {
                is_connection_error(source) && cure(source).is_empty()
            }
            _ => false,
        }
    }

    /// True if another transaction came first and this one was rolled back, so that the same operation may
    /// succeed now.
    pub fn is_conflict(&self) -> bool {
        // 40001: serialization failure; 40P01: deadlock; 55P03: a lock that was waited for long enough
        // (PostgreSQL, appendix "Error Codes").
        matches!(self.code().as_deref(), Some("40001" | "40P01" | "55P03"))
    }

    /// True if the server refused a value: a text or number that it cannot hold, or that a check or an index refuses.
    pub fn is_about_values(&self) -> bool {
        // Class 22: data exceptions; 23514: a check; 54000: a limit of the server, such as the size of an entry of an
        // index (PostgreSQL, appendix "Error Codes").
        self.code()
            .is_some_and(|code| code.starts_with("22") || matches!(&*code, "23514" | "54000"))
    }

    /// True if the user lacks the rights for a statement.
    pub fn is_refused_for_rights(&self) -> bool {
        self.code().as_deref() == Some("42501")
    }

    /// True if the schema in which something is to be made is missing.
    pub(crate) fn is_without_schema(&self) -> bool {
        self.code().as_deref() == Some("3F000")
    }

    /// The server's code, if it refused a statement.
    fn code(&self) -> Option<Cow<'_, str>> {
        let error = match self {
            Self::Query(error)
            | Self::Definitions { source: error, .. }
            | Self::Migrate(
                MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _),
            ) => error,
            _ => return None,
        };
        error.as_database_error()?.code()
    }

    /// True if a UNIQUE constraint stood in the way.
    pub fn is_duplicate(&self) -> bool {
        matches!(self, Self::Query(sqlx::Error::Database(e)) if e.is_unique_violation())
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        if is_connection_error(&error) {
            Self::Unavailable(error)
        } else {
            Self::Query(error)
        }
    }
}

impl From<MigrateError> for StoreError {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Execute(e) | MigrateError::ExecuteMigration(e, _)
                if is_connection_error(&e) =>
            {
                Self::Unavailable(e)
            }
            other => Self::Migrate(other),
        }
    }
}

/// What somebody has to do before a connection can be made; empty: nothing, or what the error itself says.
fn cure(error: &sqlx::Error) -> &'static str {
    const FEW: &str = "; more connections are needed than the server, the database, the user or a pooler before them \
                       permits: raise max_connections, CONNECTION LIMIT or max_client_conn (docs/guide/scale.md says \
                       how many a process takes)";
    const CERTIFICATE: &str = "; over TCP the server has to prove its name: its certificate has to name it, and the \
                               authority that signed it is given with ?sslrootcert=FILE unless this machine knows it; \
                               less is written out with sslmode";
    match error {
        sqlx::Error::Tls(tls) if tls.to_string().contains("does not support TLS") => {
            "; over TCP the server has to prove its name: turn TLS on there (ssl = on), or where the network itself is \
             trusted, as within one machine or a container network, say so: ?sslmode=disable"
        }
        sqlx::Error::Tls(_) => CERTIFICATE,
        sqlx::Error::Io(io) if io.to_string().contains("certificate") => CERTIFICATE,
        sqlx::Error::Database(refused) => match (refused.code().as_deref(), refused.message()) {
            (_, message) if message.contains("unsupported startup parameter") => {
                "; a pooler stands before the server: it has to let the parameters extra_float_digits and options through \
                 (in pgbouncer.ini: ignore_startup_parameters = extra_float_digits,options) and to work in session mode \
                 (pool_mode = session), or name the server's own address"
            }
            (Some("53300"), _) => FEW,
            (_, message) if message.contains("no more connections allowed") => FEW,
            _ => "",
        },
        _ => "",
    }
}

/// Tells "no answer" from "an answer that is an error".
pub(crate) fn is_connection_error(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        // 08: connection; 57P01..57P03: the server stops, crashed or starts; 53300: too many
        // connections; 57014 and 25P03: a statement or a pause in a transaction took longer than our
        // sessions permit; 25006: a server that has become a standby (PostgreSQL, appendix "Error Codes").
        sqlx::Error::Database(e) => e.code().is_some_and(|code| {
            code.starts_with("08")
                || matches!(
                    code.as_ref(),
                    "57P01" | "57P02" | "57P03" | "53300" | "57014" | "25P03" | "25006"
                )
        }),
        _ => false,
    }
}
