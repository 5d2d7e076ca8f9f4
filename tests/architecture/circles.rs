//! Circles of files: files of one crate whose `use` items lead from one to the next and back to the first. Such
//! files can only be understood, tested or moved together.
//!
//! What counts is a `use` of something of the crate (`crate::`, `super::`, `self::`). Not counted are what only a
//! test uses, and `pub use`, by which a module shows what its children have.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use syn::{Attribute, Item, UseTree, Visibility};

/// A module's path inside its crate; empty for the crate's root.
type Module = Vec<String>;

/// The files of each circle of a crate, by their modules' paths. `files` are the crate's, below `src`.
pub(crate) fn circles(src: &Path, files: &[impl AsRef<Path>]) -> Vec<Vec<String>> {
    let mut items = BTreeMap::new();
    for file in files {
        let file = file.as_ref();
        if let Some(module) = module_of(src, file) {
            let text = fs::read_to_string(file).expect("a source file");
            let parsed = syn::parse_file(&text)
                .unwrap_or_else(|error| panic!("{} is not Rust: {error}", file.display()));
            items.insert(module, parsed.items);
        }
    }
    let of_tests = test_modules(&items);
    items.retain(|module, _| !of_tests.iter().any(|test| module.starts_with(test)));
    let modules: BTreeSet<Module> = items.keys().cloned().collect();
    let uses: BTreeMap<&Module, BTreeSet<Module>> = items
        .iter()
        .map(|(module, items)| {
            let mut used = BTreeSet::new();
            collect(items, module, &modules, &mut used);
            used.remove(module);
            (module, used)
        })
        .collect();
    let reached: BTreeMap<&Module, BTreeSet<&Module>> = uses
        .keys()
        .map(|module| (*module, reachable(module, &uses)))
        .collect();
    let mut found = Vec::new();
    let mut placed = BTreeSet::new();
    for (module, from_here) in &reached {
        if !from_here.contains(*module) || placed.contains(module) {
            continue;
        }
        let circle: Vec<&&Module> = from_here
            .iter()
            .filter(|other| reached[**other].contains(*module))
            .collect();
        placed.extend(circle.iter().map(|module| **module));
        found.push(circle.iter().map(|module| module.join("::")).collect());
    }
    found
}

/// The module that a file holds; none for a program of its own.
fn module_of(src: &Path, file: &Path) -> Option<Module> {
    let below = file.strip_prefix(src).ok()?.with_extension("");
    let mut module: Module = below
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    match (module.first()?.as_str(), module.last()?.as_str()) {
        ("bin", _) => return None,
        ("lib", "lib") => module.clear(),
        ("main", "main") if src.join("lib.rs").exists() => return None,
        ("main", "main") => module.clear(),
        _ => {}
    }
    Some(module)
}

/// The modules that are compiled for tests only.
fn test_modules(items: &BTreeMap<Module, Vec<Item>>) -> Vec<Module> {
    let mut found = Vec::new();
    for (module, items) in items {
        for item in items {
            if let Item::Mod(inner) = item
                && is_test(&inner.attrs)
            {
                let mut inside = module.clone();
                inside.push(inner.ident.to_string());
                found.push(inside);
            }
        }
    }
    found
}

/// Adds the files that the items of a module use.
fn collect(
    items: &[Item],
    module: &Module,
    modules: &BTreeSet<Module>,
    used: &mut BTreeSet<Module>,
) {
    for item in items {
        match item {
            Item::Use(item)
                if matches!(item.vis, Visibility::Inherited) && !is_test(&item.attrs) =>
            {
                let mut path = Vec::new();
                follow(&item.tree, &mut path, module, modules, used);
            }
            Item::Mod(inner) if !is_test(&inner.attrs) => {
                if let Some((_, items)) = &inner.content {
                    let mut module = module.clone();
                    module.push(inner.ident.to_string());
                    collect(items, &module, modules, used);
                }
            }
            _ => {}
        }
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .parse_args::<syn::Path>()
                .is_ok_and(|path| path.is_ident("test"))
    })
}

fn follow(
    tree: &UseTree,
    path: &mut Vec<String>,
    module: &Module,
    modules: &BTreeSet<Module>,
    used: &mut BTreeSet<Module>,
) {
    match tree {
        UseTree::Path(part) => {
            path.push(part.ident.to_string());
            follow(&part.tree, path, module, modules, used);
            path.pop();
        }
        UseTree::Group(group) => {
            for tree in &group.items {
                follow(tree, path, module, modules, used);
            }
        }
        UseTree::Name(name) => {
            path.push(name.ident.to_string());
            used.extend(file_of(path, module, modules).map(|(file, _)| file));
            path.pop();
        }
        UseTree::Rename(name) => {
            path.push(name.ident.to_string());
            used.extend(file_of(path, module, modules).map(|(file, _)| file));
            path.pop();
        }
        UseTree::Glob(_) => {
            let Some((file, is_module)) = file_of(path, module, modules) else {
                return;
            };
            if is_module {
                // Whatever the module has, its child modules among it.
                let children = modules.iter().filter(|other| {
                    other
                        .split_last()
                        .is_some_and(|(_, above)| above == file.as_slice())
                });
                used.extend(children.cloned());
            }
            used.insert(file);
        }
    }
}

/// The file that holds what a path inside this module leads to, and whether that is the file's module itself; none
/// if it is of another crate.
fn file_of(path: &[String], module: &Module, modules: &BTreeSet<Module>) -> Option<(Module, bool)> {
    let mut names = path.iter().peekable();
    let mut at: Module = match names.next()?.as_str() {
        "crate" => Vec::new(),
        "self" => module.clone(),
        "super" => {
            let mut above = module.clone();
            above.pop();
            while names.next_if(|name| *name == "super").is_some() {
                above.pop();
            }
            above
        }
        _ => return None,
    };
    at.extend(names.cloned());
    let whole = at.len();
    while !modules.contains(&at) {
        at.pop()?;
    }
    let is_module = at.len() == whole;
    Some((at, is_module))
}

fn reachable<'a>(
    from: &Module,
    uses: &'a BTreeMap<&'a Module, BTreeSet<Module>>,
) -> BTreeSet<&'a Module> {
    let mut seen = BTreeSet::new();
    let mut open: Vec<&Module> = uses[from].iter().collect();
    while let Some(module) = open.pop() {
        if let Some((known, next)) = uses.get_key_value(module)
            && seen.insert(*known)
        {
            open.extend(next);
        }
    }
    seen
}

#[test]
fn files_that_use_each_other_are_a_circle_and_others_are_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let src = dir.path();
    fs::create_dir(src.join("a")).expect("a directory");
    let files = [
        (
            "lib.rs",
            "mod a; mod b; mod c; #[cfg(test)] mod t; pub use a::A;",
        ),
        ("t.rs", "use crate::f::F;"),
        ("f.rs", "use crate::t::helper;"),
        ("a.rs", "mod inner; use crate::b::B; pub struct A;"),
        ("a/inner.rs", "use super::A;"),
        (
            "b.rs",
            "use crate::{a::inner::*, c}; mod x { use super::super::d::D; }",
        ),
        (
            "c.rs",
            "use std::fs; #[cfg(test)] mod t { use crate::a::A; }",
        ),
        ("d.rs", "use super::e::*;"),
        ("e.rs", "use crate::{self as us, d::D as E};"),
    ];
    let files: Vec<_> = files
        .iter()
        .map(|(name, text)| {
            let file = src.join(name);
            fs::write(&file, text).expect("a file");
            file
        })
        .collect();
    assert_eq!(
        circles(src, &files),
        [vec!["a", "a::inner", "b"], vec!["d", "e"]]
    );
}
