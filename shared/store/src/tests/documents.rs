//! The reference pages against what they are about: settings, and the views and functions for operators.

use std::collections::BTreeMap;

use crate::{
    notices::config,
    settings::{self, Key},
};
use virtuozo_postgres::testing::TestDb;

/// Cells of the rows of one section's tables whose first cell is a name in backticks, by that name.
fn rows<'page>(page: &'page str, section: &str) -> BTreeMap<&'page str, Vec<&'page str>> {
    let (_, rest) = page
        .split_once(&format!("\n## {section}\n"))
        .unwrap_or_else(|| panic!("there is no section {section}"));
    let section = rest.split("\n## ").next().unwrap_or_default();
    let mut found = BTreeMap::new();
    for line in section.lines().filter(|line| line.starts_with("| `")) {
        let mut cells = line.trim_matches('|').split('|').map(str::trim);
        let name = cells.next().unwrap_or_default().trim_matches('`');
        assert!(
            found.insert(name, cells.collect()).is_none(),
            "{name} is listed twice"
        );
    }
    found
}

/// Every key is listed with its default, and nothing else is.
fn check<S>(keys: &[Key<S>], defaults: &S, listed: &BTreeMap<&str, Vec<&str>>) {
    for key in keys {
        let cells = listed
            .get(key.name)
            .unwrap_or_else(|| panic!("docs/reference/settings.md has no row for {}", key.name));
        let shown = cells[0].split(" (").next().unwrap_or_default();
        let shown = match shown.trim_matches('`') {
            "none" => "",
            shown => shown,
        };
        assert_eq!(shown, key.value(defaults), "the default of {}", key.name);
    }
    let known: Vec<_> = keys.iter().map(|key| key.name).collect();
    let unknown: Vec<_> = listed
        .keys()
        .filter(|name| !known.contains(*name))
        .collect();
    assert!(unknown.is_empty(), "there are no settings {unknown:?}");
}

#[tokio::test]
async fn the_reference_lists_every_setting_with_its_default() {
    let page = include_str!("../../../../docs/reference/settings.md");
    let db = TestDb::new().await;
    let site = settings::get(&db.pool).await.unwrap();
    check(settings::KEYS, &site, &rows(page, "Settings of the site"));
    let notices = config::get(&db.pool).await.unwrap();
    check(config::KEYS, &notices, &rows(page, "Settings of notices"));
}

#[tokio::test]
async fn the_reference_lists_every_view_and_function_for_operators() {
    let page = include_str!("../../../../docs/reference/sql.md");
    let db = TestDb::new().await;
    let views: Vec<(String, String)> = sqlx::query_as(
        "SELECT table_name::text, string_agg('`' || column_name || '`', ', ' ORDER BY ordinal_position)
           FROM information_schema.columns WHERE table_schema = 'virtuozo' GROUP BY 1",
    )
    .fetch_all(&db.pool)
    .await
    .unwrap();
    let mut listed = rows(page, "Views");
    for (view, columns) in &views {
        let cells = listed
            .remove(view.as_str())
            .unwrap_or_else(|| panic!("docs/reference/sql.md has no row for {view}"));
        assert_eq!(cells[1], columns, "the columns of {view}");
    }
    assert!(listed.is_empty(), "there are no views {listed:?}");

    let mut functions: Vec<String> = sqlx::query_scalar(
        "SELECT format('%s(%s)', proname, pg_get_function_arguments(oid)) FROM pg_proc
          WHERE pronamespace = 'virtuozo'::regnamespace",
    )
    .fetch_all(&db.pool)
    .await
    .unwrap();
    functions.sort();
    let listed: Vec<_> = rows(page, "Functions").into_keys().collect();
    assert_eq!(listed, functions);
}
