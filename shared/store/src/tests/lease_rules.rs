//! Every table that has a lease has the same rules: the constraint, and what its statements write into the columns.

use std::{collections::BTreeSet, path::Path};

use virtuozo_postgres::testing::TestDb;

use super::{composed, statements};

/// The constraint `TABLE_lease`.
const CHECK: &str = "CHECK (((owner_id IS NULL) = (lease_until IS NULL)))";
const COLUMNS: [&str; 3] = ["fence", "owner_id", "lease_until"];

#[tokio::test]
async fn every_table_with_a_lease_refuses_an_owner_without_an_end_and_an_end_without_an_owner() {
    let db = TestDb::new().await;
    let tables: Vec<(String, bool, Option<String>)> = sqlx::query_as(
        "SELECT c.relname::text, bool_and(a.attnotnull), (SELECT pg_get_constraintdef(k.oid) FROM pg_constraint k
                  WHERE k.conrelid = c.oid AND k.conname = c.relname || '_lease')
           FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
          WHERE c.relnamespace = 'virtuozo_core'::regnamespace AND c.relkind = 'r'
            AND a.attname IN ('owner_id', 'lease_until')
          GROUP BY c.oid, c.relname ORDER BY c.relname",
    )
    .fetch_all(&db.pool)
    .await
    .unwrap();
    assert!(tables.len() > 7, "{tables:?}");
    for (table, is_never_free, check) in tables {
        // The row of the lead is there only while somebody has it.
        if is_never_free {
            assert_eq!(table, "lead");
        } else {
            assert_eq!(check.as_deref(), Some(CHECK), "{table}");
        }
    }
}

#[test]
fn every_statement_takes_renews_and_releases_leases_in_the_same_way() {
    let mut all = Vec::new();
    statements(
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")),
        &mut all,
    );
    statements(
        Path::new(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../migrations/definitions"
        )),
        &mut all,
    );
    all.extend(
        composed()
            .into_iter()
            .map(|sql| (sql.to_owned(), sql.to_owned())),
    );
    let (mut wrong, mut ways) = (Vec::new(), Vec::new());
    // What tests do to leases by hand is not meant.
    for (place, sql) in all
        .iter()
        .filter(|(place, _)| !place.contains("/state_machine/"))
    {
        match ways_of(sql) {
            Ok(found) => ways.extend(found),
            Err(why) => wrong.push(format!("{place}: {why}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let count = |way| ways.iter().filter(|one| **one == way).count();
    let counts = [Way::Taken, Way::Renewed, Way::Released].map(count);
    assert!(
        counts[0] > 7 && counts[1] > 7 && counts[2] > 20,
        "{counts:?}"
    );
}

#[test]
fn a_statement_that_writes_into_a_lease_in_its_own_way_is_found() {
    let ways = |sql| ways_of(sql).map_err(|why| why.split(':').next().unwrap_or("").to_owned());
    let taken = "UPDATE t SET (fence, owner_id, lease_until) = (SELECT * FROM virtuozo_core.lease_taken(t.fence, $2, 5)), state = 'running' WHERE fence = $1";
    assert_eq!(ways(taken), Ok(vec![Way::Taken]));
    let released = "WITH x AS (UPDATE t SET state = CASE WHEN a THEN 'b' END, lease_until = NULL, owner_id = NULL FROM s) SELECT 1";
    assert_eq!(ways(released), Ok(vec![Way::Released]));
    let renewed = "UPDATE t SET lease_until = virtuozo_core.lease_end(5) WHERE owner_id = $1";
    assert_eq!(ways(renewed), Ok(vec![Way::Renewed]));
    assert_eq!(
        ways("UPDATE t SET trace_fence = fence WHERE owner_id = NULL"),
        Ok(vec![])
    );
    for wrong in [
        "UPDATE t SET fence = fence + 1, owner_id = $1, lease_until = now() + make_interval(secs => 5)",
        "UPDATE t SET lease_until = now() + interval '8 seconds' WHERE id = $1",
        "UPDATE t SET lease_until = NULL, ended_at = now()",
        "UPDATE t SET owner_id = NULL, lease_until = NULL",
        "UPDATE t SET state = 'x', -- lease_until = NULL, owner_id = NULL\n owner_id = $1",
        "INSERT INTO t (id, owner_id, lease_until) VALUES ($1, $2, now())",
        "INSERT INTO t (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET lease_until = EXCLUDED.lease_until WHERE true",
    ] {
        assert!(ways(wrong).is_err(), "{wrong}");
    }
}

/// What a statement does with a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Taken,
    Renewed,
    Released,
}

/// What a statement, or several, do with leases; or what they do in another way than all others.
fn ways_of(sql: &str) -> Result<Vec<Way>, String> {
    let sql = plain(sql);
    let mut ways = Vec::new();
    for (at, set) in sql.match_indices(" SET ") {
        let assignments = assignments(&sql[at + set.len()..]);
        let mut rest = assignments.iter().map(|(left, right)| {
            let is_of_lease = names(left).iter().any(|name| COLUMNS.contains(name));
            (is_of_lease, left.as_str(), right.as_str())
        });
        while let Some((is_of_lease, left, right)) = rest.next() {
            if !is_of_lease {
                continue;
            }
            ways.push(match (left, right) {
                ("(fence, owner_id, lease_until)", taken) if is_taken(taken) => Way::Taken,
                ("lease_until", "NULL") if rest.next() == Some((true, "owner_id", "NULL")) => {
                    Way::Released
                }
                ("lease_until", end) if end.starts_with("virtuozo_core.lease_end(") => Way::Renewed,
                _ => {
                    return Err(format!(
                        "{left} = {right}: see migrations/definitions/leases.sql"
                    ));
                }
            });
        }
    }
    for (at, insert) in sql.match_indices("INSERT INTO ") {
        let statement = &sql[at + insert.len()..];
        let columns: BTreeSet<_> = statement
            .split_once('(')
            .and_then(|(_, rest)| rest.split_once(')'))
            .map(|(columns, _)| names(columns))
            .unwrap_or_default();
        if !columns.contains("lease_until") && !columns.contains("owner_id") {
            continue;
        }
        let values = statement
            .split_once(')')
            .map_or("", |(_, rest)| rest.trim());
        if !is_taken(&format!("({values}")) {
            return Err(format!(
                "INSERT INTO {statement}: see migrations/definitions/leases.sql"
            ));
        }
        ways.push(Way::Taken);
    }
    Ok(ways)
}

fn is_taken(value: &str) -> bool {
    ["(", "_again("]
        .iter()
        .any(|end| value.starts_with(&format!("(SELECT * FROM virtuozo_core.lease_taken{end}")))
}

/// The names in a list, with or without parentheses.
fn names(list: &str) -> BTreeSet<&str> {
    list.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|name| !name.is_empty())
        .collect()
}

/// Without comments and the content of strings, each gap one space.
fn plain(sql: &str) -> String {
    let mut code = String::from(" ");
    let (mut in_text, mut in_comment) = (false, false);
    for (at, c) in sql.char_indices() {
        match c {
            '\n' => in_comment = false,
            _ if in_comment => continue,
            '\'' => in_text = !in_text,
            _ if in_text => continue,
            '-' if sql[at..].starts_with("--") => {
                in_comment = true;
                continue;
            }
            _ => {}
        }
        match c.is_whitespace() {
            true if code.ends_with(' ') => {}
            true => code.push(' '),
            false => code.push(c),
        }
    }
    code.push(' ');
    code
}

/// The assignments after `SET`, each with its left and its right side.
fn assignments(text: &str) -> Vec<(String, String)> {
    let (mut depth, mut parts, mut part) = (0_i32, Vec::new(), String::new());
    for (at, c) in text.char_indices() {
        let ends = depth == 0
            && [" FROM ", " WHERE ", " RETURNING "]
                .iter()
                .any(|word| text[at..].starts_with(word));
        match c {
            _ if ends => break,
            ';' if depth == 0 => break,
            ')' if depth == 0 => break,
            ',' if depth == 0 => {
                parts.push(std::mem::take(&mut part));
                continue;
            }
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        part.push(c);
    }
    parts.push(part);
    parts
        .iter()
        .filter_map(|part| part.split_once('='))
        .map(|(left, right)| (left.trim().to_owned(), right.trim().to_owned()))
        .collect()
}
