//! Holds the documents together: links lead somewhere, every page can be reached, what code names exists, and
//! changelog fragments have their form.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use super::root;

/// Kinds of changelog fragments, as `changelog/README.md` lists them.
const KINDS: &[&str] = &[
    "added",
    "changed",
    "deprecated",
    "removed",
    "fixed",
    "security",
];

/// Folders that hold nothing of ours, or what git keeps.
const NOT_OURS: &[&str] = &["target", ".git", "node_modules"];

/// All files of the repository whose names end so.
fn files(ends: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() {
                if !NOT_OURS.contains(&name) {
                    open.push(path);
                }
            } else if ends.iter().any(|end| name.ends_with(end)) {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "no files that end in {ends:?}");
    found
}

/// Lines of a document that are not code: what a fence or four blanks set apart is left out.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        fenced ^= is_fence;
        !fenced && !is_fence && !line.starts_with("    ")
    })
}

/// Targets of the links in a document that lead to files of the repository, as they are written.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    // A link may be broken between its text and its end.
    let joined = prose(text).collect::<Vec<_>>().join("\n");
    for rest in joined.split("](").skip(1) {
        let target = rest.split(')').next().unwrap_or_default();
        if !target.contains("://") && !target.starts_with("mailto:") {
            found.push(target.to_owned());
        }
    }
    found
}

/// The anchor that viewers give a heading.
fn anchor(heading: &str) -> String {
    heading
        .trim_start_matches('#')
        .trim()
        .to_lowercase()
        .chars()
        .filter_map(|c| match c {
            ' ' => Some('-'),
            '-' | '_' => Some(c),
            c if c.is_alphanumeric() => Some(c),
            _ => None,
        })
        .collect()
}

/// The file that a link leads to, without its anchor.
fn target_of(document: &Path, link: &str) -> PathBuf {
    let path = link.split('#').next().unwrap_or_default();
    if path.is_empty() {
        return document.to_owned();
    }
    let mut target = document.parent().unwrap().to_owned();
    for part in Path::new(path).components() {
        match part.as_os_str().to_str() {
            Some("..") => {
                target.pop();
            }
            Some(".") => {}
            _ => target.push(part),
        }
    }
    target
}

#[test]
fn every_link_in_a_document_leads_somewhere() {
    let mut broken = Vec::new();
    let mut count = 0;
    for document in files(&[".md"]) {
        let text = fs::read_to_string(&document).unwrap();
        for link in links(&text) {
            count += 1;
            let target = target_of(&document, &link);
            let wanted = link.split_once('#').map(|(_, anchor)| anchor);
            let leads = target.exists()
                && wanted.is_none_or(|wanted| {
                    let page = fs::read_to_string(&target).unwrap_or_default();
                    prose(&page).any(|line| line.starts_with('#') && anchor(line) == wanted)
                });
            if !leads {
                broken.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(count > 100, "only {count} links were found");
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_document_can_be_reached_from_the_readme() {
    let mut seen = BTreeSet::new();
    let mut open = vec![root().join("README.md")];
    while let Some(document) = open.pop() {
        if !seen.insert(document.clone()) {
            continue;
        }
        let text = fs::read_to_string(&document).unwrap();
        let targets = links(&text)
            .into_iter()
            .map(|link| target_of(&document, &link));
        open.extend(targets.filter(|to| to.is_file() && to.extension().is_some_and(|e| e == "md")));
    }
    let docs = root().join("docs");
    let all: Vec<_> = files(&[".md"])
        .into_iter()
        .filter(|path| path.starts_with(&docs))
        .collect();
    let lost: Vec<_> = all.iter().filter(|path| !seen.contains(*path)).collect();
    assert!(all.len() > 20, "only {} documents", all.len());
    assert!(lost.is_empty(), "no link leads to {lost:#?}");
}

#[test]
fn every_document_that_a_file_names_exists() {
    let ends = [
        ".rs",
        ".sql",
        ".md",
        ".toml",
        ".yml",
        ".yaml",
        ".sh",
        ".service",
        ".json",
        "Dockerfile",
        "Makefile",
    ];
    let versioned = root().join("migrations");
    let mut missing = Vec::new();
    let mut count = 0;
    for file in files(&ends) {
        // A migration is never edited: the pages that it names may have moved since.
        if file.parent() == Some(&versioned) && file.extension().is_some_and(|end| end == "sql") {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        for (start, _) in text.match_indices("docs/") {
            let path: &str = text[start..]
                .split(|c: char| !c.is_ascii_alphanumeric() && !"/._-".contains(c))
                .next()
                .unwrap_or_default();
            // Only whole names count, from the root of the repository or relative to it.
            let Some(end) = path.find(".md") else {
                continue;
            };
            let path = &path[..end + ".md".len()];
            count += 1;
            if !root().join(path).is_file() {
                missing.push(format!("{}: {path}", file.display()));
            }
        }
    }
    assert!(count > 20, "only {count} documents are named");
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn every_changelog_fragment_has_a_kind_and_items() {
    let mut wrong = Vec::new();
    for entry in fs::read_dir(root().join("changelog/unreleased")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let named = name.strip_suffix(".md").and_then(|n| n.split_once('-'));
        let has_kind = named.is_some_and(|(kind, subject)| {
            let small = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            KINDS.contains(&kind) && !subject.is_empty() && subject.chars().all(small)
        });
        let text = fs::read_to_string(&path).unwrap();
        let is_list = text.starts_with("* ")
            && text
                .lines()
                .all(|line| line.starts_with("* ") || line.starts_with("  "));
        if !has_kind || !is_list {
            wrong.push(name);
        }
    }
    let readme = fs::read_to_string(root().join("changelog/README.md")).unwrap();
    for kind in KINDS {
        assert!(readme.contains(&format!("| `{kind}` |")), "{kind}");
    }
    assert!(
        wrong.is_empty(),
        "not as changelog/README.md says: {wrong:#?}"
    );
}

#[test]
fn anchors_are_those_that_viewers_make() {
    assert_eq!(
        anchor("## `status` says STILL TO UNDO"),
        "status-says-still-to-undo"
    );
    assert_eq!(
        anchor("# A host's name: one, or two"),
        "a-hosts-name-one-or-two"
    );
}
