//! migrations/current.sql is the schema: what pg_dump says of a database that a program has just made, without what
//! differs from one server to the next.

use std::{collections::BTreeSet, fs, process::Command};

use super::folder::root;
use crate::{server, testing::TestDb};

/// The server's release whose way to write statements the file has.
const RELEASE: &str = "15";
const HEAD: &str = "-- The whole schema, as a database shows it. Written by `make schema` from migrations/versioned and\n\
                    -- migrations/definitions, and held equal to them by a test: never edited.\n";

/// Whether a test writes what it would otherwise compare.
pub(super) fn is_to_be_written() -> bool {
    std::env::var_os("WRITE_SCHEMA").is_some()
}

#[tokio::test]
async fn the_schema_is_the_one_in_current_sql() {
    let db = TestDb::new().await;
    let dump = Command::new(server::program("pg_dump"))
        .args(["--schema-only", "--no-owner", "--dbname", db.url()])
        .output()
        .unwrap();
    assert!(
        dump.status.success(),
        "{}",
        String::from_utf8_lossy(&dump.stderr)
    );
    let dumped = normalised(&String::from_utf8(dump.stdout).unwrap());
    let file = root().join("migrations/current.sql");
    let release: String = sqlx::query_scalar("SHOW server_version")
        .fetch_one(&db.pool)
        .await
        .unwrap();
    let is_its_way = release.split('.').next() == Some(RELEASE);
    if is_to_be_written() {
        assert!(is_its_way, "the file is written with PostgreSQL {RELEASE}");
        fs::write(file, &dumped).unwrap();
        return;
    }
    let kept = fs::read_to_string(file).unwrap_or_default();
    if is_its_way && kept == dumped {
        return;
    }
    // Another release writes the same statements in other words: there the names are compared.
    let parts = |text: &str| -> BTreeSet<String> {
        text.lines()
            .filter(|line| is_its_way || line.starts_with("-- Name: "))
            .map(str::to_owned)
            .collect()
    };
    let (kept, dumped) = (parts(&kept), parts(&dumped));
    let gone: Vec<_> = kept.difference(&dumped).collect();
    let new: Vec<_> = dumped.difference(&kept).collect();
    assert!(
        !is_its_way && gone.is_empty() && new.is_empty(),
        "migrations/current.sql is not the schema: run `make schema`\n\
         only in the file: {gone:#?}\nonly in the database: {new:#?}"
    );
}

/// What is ours of a dump: statements about our schemas, and about what we have put on apalis' tables; without the
/// settings of the session, the owners and the versions.
fn normalised(dump: &str) -> String {
    let mut ours = HEAD.to_owned();
    for part in dump.split("\n--\n-- Name: ").skip(1) {
        let (head, body) = part.split_once("\n--\n").unwrap_or((part, ""));
        let mut fields = head.split("; ");
        let [name, kind, schema] = [(); 3].map(|()| fields.next().unwrap_or_default());
        let last_word = name.split(' ').next_back().unwrap_or_default();
        let is_ours = match schema {
            "Schema: virtuozo" | "Schema: virtuozo_core" => true,
            "Schema: -" => ["virtuozo", "virtuozo_core"].contains(&last_word),
            _ => last_word.starts_with("virtuozo_"),
        };
        if !is_ours {
            continue;
        }
        let is_of_the_session = |line: &str| {
            line.starts_with("SET ")
                || line.starts_with("SELECT pg_catalog.set_config")
                || line.starts_with('\\')
                || line.starts_with("-- PostgreSQL database dump")
                || line == "--"
        };
        let body: Vec<&str> = body.lines().filter(|l| !is_of_the_session(l)).collect();
        let body = body.join("\n");
        ours.push_str(&format!(
            "\n-- Name: {name}; {kind}; {schema}\n{}\n",
            body.trim()
        ));
    }
    ours
}
