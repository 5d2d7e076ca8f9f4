//! What an import changes, entry by entry and field by field.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use super::SiteFile;

/// The result of an import or of its dry run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// The entries that were added, changed or removed.
    pub changes: Vec<Change>,
    /// Entries that the file does not name, and that stay.
    pub kept: Vec<String>,
}

/// An entry that changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The kind of entry and its name.
    pub entry: String,
    /// How it changes.
    pub change: Changed,
    /// The fields that change; empty for a removed entry.
    pub fields: Vec<FieldChange>,
}

/// How an entry changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Changed {
    /// It is new.
    Added,
    /// Some fields are different.
    Changed,
    /// It is gone.
    Removed,
}

/// A field that changes. The values of a password only say whether there is one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldChange {
    /// Its name in the file.
    pub field: String,
    /// The old value; null if it was not set.
    pub old: Value,
    /// The new value; null if it is not set.
    pub new: Value,
}

/// The position of an entry's kind in the file, and the entry's name.
type Name = (usize, String);
type Entries = BTreeMap<Name, Map<String, Value>>;

/// Compares the site before with the site after an import of `file`. `secrets` has the fields of passwords
/// and secrets that changed, by entry.
pub(super) fn outcome(
    before: &SiteFile,
    after: &SiteFile,
    file: &SiteFile,
    secrets: &BTreeMap<String, Vec<FieldChange>>,
) -> serde_json::Result<Outcome> {
    let (before, after, file) = (entries(before)?, entries(after)?, entries(file)?);
    let none = Map::new();
    let mut changes = Vec::new();
    let mut names: Vec<&Name> = before.keys().chain(after.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let (old, new) = (before.get(name), after.get(name));
        let change = match (old, new) {
            (None, _) => Changed::Added,
            (_, None) => Changed::Removed,
            _ => Changed::Changed,
        };
        let mut fields = match new {
            Some(new) => fields(old.unwrap_or(&none), new),
            None => Vec::new(),
        };
        if new.is_some() {
            fields.extend(secrets.get(&name.1).into_iter().flatten().cloned());
        }
        if change != Changed::Changed || !fields.is_empty() {
            changes.push(Change {
                entry: name.1.clone(),
                change,
                fields,
            });
        }
    }
    let kept = after
        .keys()
        .filter(|name| !file.contains_key(name))
        .map(|(_, name)| name.clone())
        .collect();
    Ok(Outcome { changes, kept })
}

fn fields(old: &Map<String, Value>, new: &Map<String, Value>) -> Vec<FieldChange> {
    let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
    names.sort();
    names.dedup();
    let value = |of: &Map<String, Value>, name: &str| of.get(name).cloned().unwrap_or_default();
    names
        .into_iter()
        .map(|name| FieldChange {
            field: name.clone(),
            old: value(old, name),
            new: value(new, name),
        })
        .filter(|field| field.old != field.new)
        .collect()
}

/// All entries of a file with their fields; nested entries are entries of their own.
fn entries(file: &SiteFile) -> serde_json::Result<Entries> {
    let mut all = Entries::new();
    let mut add = |place, name: String, entry: Value, inner: &[&str]| {
        if let Value::Object(mut fields) = entry {
            for name in inner {
                fields.remove(*name);
            }
            all.insert((place, name), fields);
        }
    };
    add(
        0,
        "settings".to_owned(),
        serde_json::to_value(&file.settings)?,
        &[],
    );
    let notices = serde_json::to_value(&file.notices)?;
    add(1, "notices".to_owned(), notices, &[]);
    for hook in &file.hooks {
        let hook = hook.as_ref();
        let name = format!("hook {} the run", hook.moment);
        add(2, name, serde_json::to_value(hook)?, &["moment"]);
    }
    for repository in &file.repositories {
        let repository = repository.as_ref();
        let name = format!("repository {}", repository.path);
        add(2, name, serde_json::to_value(repository)?, &["path"]);
    }
    for host in &file.hosts {
        let host = host.as_ref();
        let inner = ["name", "datastores", "guests", "password"];
        let name = format!("host {}", host.name);
        add(3, name, serde_json::to_value(host)?, &inner);
        for store in &host.datastores {
            let store = store.as_ref();
            let name = format!("datastore {}/{}", host.name, store.name);
            add(4, name, serde_json::to_value(store)?, &["name"]);
        }
        for guest in &host.guests {
            let guest = guest.as_ref();
            let name = format!("guest {}/{}", host.name, guest.locator);
            add(5, name, serde_json::to_value(guest)?, &["locator"]);
        }
    }
    for schedule in &file.schedules {
        let schedule = schedule.as_ref();
        let name = format!("schedule {}", schedule.name);
        add(6, name, serde_json::to_value(schedule)?, &["name"]);
    }
    Ok(all)
}
