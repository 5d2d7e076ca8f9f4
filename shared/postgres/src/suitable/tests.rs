//! Databases that are not as Virtuozo needs them: each is told once, with its cure, and those that merely differ are used.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Executor};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use virtuozo_runtime::Health;

use super::*;
use crate::{StoreError, connect_within, migrate, testing::TestDb, transport};

/// A user of its own for a database, without rights beyond those that everybody has.
struct User {
    db: TestDb,
    name: String,
}

impl User {
    async fn of(db: TestDb) -> Self {
        let database: String = sqlx::query_scalar("SELECT current_database()")
            .fetch_one(&db.pool)
            .await
            .unwrap();
        let user = Self {
            db,
            name: format!("user_of_{database}"),
        };
        user.run("DROP ROLE IF EXISTS $user; CREATE ROLE $user LOGIN")
            .await;
        user
    }

    async fn run(&self, sql: &str) {
        let database = self.name.trim_start_matches("user_of_");
        let sql = sql
            .replace("$user", &self.name)
            .replace("$database", database);
        self.db.pool.execute(AssertSqlSafe(sql)).await.unwrap();
    }

    fn url(&self) -> String {
        let user = format!("postgres://{}@", self.name);
        self.db.url().replacen("postgres://virtuozo@", &user, 1)
    }

    /// What a command is told that wants to use the database.
    async fn told(&self) -> Result<(), String> {
        let limit = Duration::from_secs(3600);
        let using = async {
            let pool = connect_within(&self.url(), &Health::default(), limit).await?;
            let done = migrate(&pool).await;
            pool.close().await;
            done
        };
        let told = tokio::time::timeout(Duration::from_secs(60), using).await;
        told.expect("waiting cannot help")
            .map_err(|error: StoreError| error.to_string())
    }

    async fn drop(self) {
        let name = self.name.clone();
        self.run("DROP OWNED BY $user CASCADE").await;
        let _ = self
            .db
            .pool
            .execute(AssertSqlSafe(format!("DROP ROLE {name}")))
            .await;
    }
}

#[track_caller]
fn contains(told: Result<(), String>, parts: &[&str]) {
    let told = told.expect_err("it was taken");
    for part in parts {
        assert_eq!(told.matches(part).count(), 1, "{part:?} in {told}");
    }
}

#[tokio::test]
async fn a_user_who_may_not_create_is_told_the_statements_that_permit_it() {
    let user = User::of(TestDb::empty().await).await;
    user.run("REVOKE CREATE ON SCHEMA public FROM public").await;
    let database = user.name.trim_start_matches("user_of_").to_owned();
    let grant = format!("GRANT CREATE ON DATABASE {database} TO {}", user.name);
    let public = format!("GRANT USAGE, CREATE ON SCHEMA public TO {}", user.name);
    contains(user.told().await, &[&grant, &public]);
    user.run(&format!("{grant}; {public}")).await;
    assert_eq!(user.told().await, Ok(()));
    user.drop().await;
}

#[tokio::test]
async fn what_the_database_sets_for_other_programs_does_not_matter() {
    let user = User::of(TestDb::empty().await).await;
    user.run(
        "ALTER DATABASE $database OWNER TO $user; GRANT CREATE ON SCHEMA public TO $user;
         ALTER ROLE $user SET search_path = ''; ALTER ROLE $user SET default_transaction_isolation = 'serializable';
         ALTER ROLE $user SET IntervalStyle = 'iso_8601'; ALTER ROLE $user SET DateStyle = 'German, DMY';
         ALTER ROLE $user SET statement_timeout = '2s'",
    )
    .await;
    assert_eq!(user.told().await, Ok(()));
    let health = Health::default();
    let pool = connect_within(&user.url(), &health, Duration::from_secs(60))
        .await
        .unwrap();
    let (isolation, path): (String, String) = sqlx::query_as(
        "SELECT current_setting('transaction_isolation'), current_setting('search_path')",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert_eq!(
        (isolation.as_str(), path.as_str()),
        ("read committed", "public")
    );
    pool.close().await;
    user.run("ALTER DATABASE $database OWNER TO virtuozo").await;
    user.drop().await;
}

#[tokio::test]
async fn a_server_that_takes_no_writes_is_told_at_once() {
    let user = User::of(TestDb::new().await).await;
    user.run("ALTER DATABASE $database SET default_transaction_read_only = on")
        .await;
    contains(
        user.told().await,
        &["this is a read-only server (a standby?)", "primary"],
    );
    user.drop().await;
}

#[tokio::test]
async fn too_few_connections_are_told_with_the_statement_that_raises_them() {
    let user = User::of(TestDb::new().await).await;
    user.run("ALTER ROLE $user CONNECTION LIMIT 5").await;
    let options = transport::options(&user.url()).unwrap();
    let Err(Unsuitable::Unfit(told)) = check(&options, 19).await else {
        panic!("a limit of 5 was taken for 19 connections");
    };
    let cure = format!("ALTER ROLE {} CONNECTION LIMIT -1", user.name);
    contains(Err(told), &["permits 5 connections", "up to 19", &cure]);
    assert!(check(&options, 5).await.is_ok());
    user.run("ALTER ROLE $user CONNECTION LIMIT 0").await;
    contains(
        user.told().await,
        &["too many connections for role", "CONNECTION LIMIT"],
    );
    user.drop().await;
}

/// A message of the server's side of the protocol.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[kind][..], &length.to_be_bytes(), body].concat()
}

/// Reads a message, which a startup begins without its kind.
async fn read(stream: &mut TcpStream, has_kind: bool) -> Option<u8> {
    let kind = if has_kind {
        stream.read_u8().await.ok()?
    } else {
        0
    };
    let length = stream.read_u32().await.ok()?;
    let mut body = vec![0; length as usize - 4];
    stream.read_exact(&mut body).await.ok()?;
    Some(kind)
}

/// The answer of [`ask`]'s statement, from a server process.
fn row(process: &str) -> Vec<u8> {
    let columns = [
        ("server_process", 23_u32, process),
        ("is_read_only", 16, "f"),
        ("limit", 20, "97"),
        ("limited_by", 25, "the server"),
        ("cure", 25, ""),
    ];
    let count = 5_u16.to_be_bytes().to_vec();
    let (mut names, mut values) = (count.clone(), count);
    for (name, kind, value) in columns {
        names.extend(name.bytes().chain([0]));
        names.extend([0; 6]);
        names.extend(kind.to_be_bytes());
        names.extend([0xff; 6]);
        names.extend([0; 2]);
        values.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
        values.extend(value.bytes());
    }
    let done = message(b'C', b"SELECT 1\0");
    [
        message(b'T', &names),
        message(b'D', &values),
        done,
        message(b'Z', b"I"),
    ]
    .concat()
}

/// A pooler before a server, as far as the first question goes: it refuses a connection, or answers every client from the
/// same process of the server. Returns its URL.
async fn pooler(refuses: Option<&'static str>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                read(&mut stream, false).await?;
                if let Some(why) = refuses {
                    let fields = format!("SFATAL\0VFATAL\0C08P01\0M{why}\0\0");
                    return stream
                        .write_all(&message(b'E', fields.as_bytes()))
                        .await
                        .ok();
                }
                let greeting = [message(b'R', &[0; 4]), message(b'Z', b"I")].concat();
                stream.write_all(&greeting).await.ok()?;
                while read(&mut stream, true).await? == b'Q' {
                    stream.write_all(&row("77")).await.ok()?;
                }
                Some(())
            });
        }
    });
    format!("postgres://u@{address}/v?sslmode=disable")
}

async fn told_of(url: &str) -> Result<(), String> {
    let health = Health::default();
    let connecting = connect_within(url, &health, Duration::from_secs(3600));
    let told = tokio::time::timeout(Duration::from_secs(60), connecting).await;
    told.expect("waiting cannot help")
        .map(drop)
        .map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_pooler_that_shares_connections_between_transactions_is_told_the_mode_that_works() {
    let url = pooler(None).await;
    contains(
        told_of(&url).await,
        &["session mode is needed", "pool_mode = session"],
    );
}

#[tokio::test]
async fn a_pooler_that_refuses_parameters_is_told_which_it_has_to_let_through() {
    let url = pooler(Some("unsupported startup parameter: extra_float_digits")).await;
    let told = told_of(&url).await;
    let cure = "ignore_startup_parameters = extra_float_digits,options";
    contains(
        told,
        &[
            "extra_float_digits and options",
            cure,
            "pool_mode = session",
        ],
    );
}

#[tokio::test]
async fn a_server_without_tls_is_told_how_to_say_that_none_is_needed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            read(&mut stream, false).await;
            let _ = stream.write_all(b"N").await;
        }
    });
    let told = told_of(&format!("postgres://u@{address}/v")).await;
    contains(
        told,
        &["does not support TLS", "ssl = on", "sslmode=disable"],
    );
}
