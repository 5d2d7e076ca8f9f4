//! Tests of what lies in migrations/: nothing is forgotten, and nothing is left that nobody uses.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use super::{super::*, dump::is_to_be_written};
use crate::testing::TestDb;

pub(super) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .find(|dir| dir.join("migrations/definitions").is_dir())
        .expect("this crate lies in the repository")
        .to_owned()
}

/// Which generation has this content.
fn seal(generation: i32) -> String {
    let fingerprint = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, content().as_bytes());
    format!("{generation} {}\n", fingerprint.simple())
}

#[test]
fn every_file_of_the_definitions_is_laid() {
    let dir = root().join("migrations/definitions");
    let files: BTreeSet<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "sql"))
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    let laid: BTreeSet<String> = DEFINITIONS
        .iter()
        .map(|(topic, _)| (*topic).to_owned())
        .collect();
    assert_eq!(files, laid);
}

/// Written by `make schema`, which counts the generation up if the content is another.
#[test]
fn other_definitions_have_another_generation() {
    let dir = root().join("migrations/definitions");
    let sealed = fs::read_to_string(dir.join("SEAL")).unwrap_or_default();
    if sealed == seal(GENERATION) {
        return;
    }
    assert!(
        is_to_be_written(),
        "migrations/definitions has changed since generation {GENERATION}: run `make schema`"
    );
    let known: i32 = sealed
        .split(' ')
        .next()
        .and_then(|number| number.parse().ok())
        .unwrap_or_default();
    let next = GENERATION.max(known + 1);
    fs::write(dir.join("GENERATION"), format!("{next}\n")).unwrap();
    fs::write(dir.join("SEAL"), seal(next)).unwrap();
}

/// The name of what each statement of the definitions makes, and the statement.
fn statements() -> Vec<(String, String)> {
    let all = content();
    let parts = all.split("CREATE OR REPLACE ").skip(1);
    parts
        .map(|part| {
            let name = part
                .split_whitespace()
                .nth(1)
                .and_then(|word| word.split('(').next())
                .unwrap_or_default();
            (name.to_owned(), part.to_owned())
        })
        .collect()
}

/// Files of these kinds by path; no tests, nothing built.
fn files(below: &Path, ends: &[&str], into: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(below).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let is_left_out = name.starts_with('.')
            || name.contains("test")
            || ["target", "migrations", "examples", "benches"].contains(&name.as_str());
        if is_left_out {
            continue;
        }
        if path.is_dir() {
            files(&path, ends, into);
        } else if path
            .extension()
            .is_some_and(|end| ends.iter().any(|e| *e == end))
        {
            into.insert(path.clone(), fs::read_to_string(&path).unwrap());
        }
    }
}

/// Whether a text has this name, and not only a longer one that begins like it.
fn names(text: &str, name: &str) -> bool {
    text.match_indices(name).any(|(at, _)| {
        let after = text[at + name.len()..].chars().next();
        !after.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

#[tokio::test]
async fn every_function_and_view_is_used_or_described_to_operators() {
    let db = TestDb::new().await;
    let made: Vec<(String, bool)> = sqlx::query_as(
        "SELECT DISTINCT n.nspname || '.' || x.name, n.nspname = 'virtuozo'
           FROM (SELECT proname AS name, pronamespace AS space FROM pg_proc
                 UNION ALL SELECT relname, relnamespace FROM pg_class WHERE relkind = 'v') x
           JOIN pg_namespace n ON n.oid = x.space
          WHERE n.nspname IN ('virtuozo', 'virtuozo_core')",
    )
    .fetch_all(&db.pool)
    .await
    .unwrap();
    assert!(made.len() > 50, "{made:?}");
    let (mut programs, mut pages) = (BTreeMap::new(), BTreeMap::new());
    files(&root(), &["rs", "sql"], &mut programs);
    files(&root().join("docs"), &["md"], &mut pages);
    let statements = statements();
    let is_used = |name: &str, is_for_operators: bool| {
        let by_people = pages.values().any(|text| names(text, name));
        let by_definitions = || {
            statements
                .iter()
                .any(|(own, statement)| own != name && names(statement, name))
        };
        let by_programs = || programs.values().any(|text| names(text, name));
        by_people || (!is_for_operators && (by_definitions() || by_programs()))
    };
    let unused: Vec<_> = made
        .iter()
        .filter(|(name, is_for_operators)| !is_used(name, *is_for_operators))
        .collect();
    assert!(
        unused.is_empty(),
        "used by nothing, or of the schema virtuozo and not described in docs/: {unused:?}"
    );
}
