//! Paths in the datastores of a VMware host: `[standard] web/web.vmx`.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use super::host_path;

/// A path in a datastore: `[standard] web/web.vmx`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DatastorePath {
    /// Name of the datastore.
    pub datastore: String,
    /// Path in it with `/` between components; empty for the datastore itself. Never leaves it.
    pub relative: String,
}

/// A text is not a datastore path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DatastorePathError {
    /// No `[name]` in it.
    #[error("{0:?} is not a datastore path; write it as [datastore] folder/guest.vmx")]
    NoName(String),
    /// Its `..` components lead out of the datastore.
    #[error("the path {0:?} leads out of its datastore")]
    Leaves(String),
}

impl FromStr for DatastorePath {
    type Err = DatastorePathError;

    /// Reads leniently: text before the first `[` (a datacenter) is passed over, blanks after `]`
    /// and the kind of separator do not matter. A name may itself have brackets; see
    /// [`parse_known`](Self::parse_known).
    fn from_str(text: &str) -> Result<Self, DatastorePathError> {
        Self::parse_known(text, std::iter::empty())
    }
}

impl fmt::Display for DatastorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}]", self.datastore)?;
        if !self.relative.is_empty() {
            write!(f, " {}", self.relative)?;
        }
        Ok(())
    }
}

impl DatastorePath {
    /// Reads as [`FromStr`] does. Where the name of the datastore has brackets that do not pair, only knowing it shows
    /// where it ends: the longest of `names` that fits counts.
    ///
    /// # Errors
    /// [`DatastorePathError`].
    pub fn parse_known<'a>(
        text: &str,
        names: impl Iterator<Item = &'a String>,
    ) -> Result<Self, DatastorePathError> {
        let no_name = || DatastorePathError::NoName(text.to_owned());
        // A folder of the host may have brackets in its name.
        if host_path::is_absolute(text) {
            return Err(no_name());
        }
        let (_, rest) = text.split_once('[').ok_or_else(no_name)?;
        let known = names
            .filter(|name| {
                rest.strip_prefix(name.as_str())
                    .is_some_and(|rest| rest.starts_with(']'))
            })
            .map(String::len)
            .max();
        let end = known.or_else(|| end_of_name(rest)).ok_or_else(no_name)?;
        let (name, relative) = rest.split_at_checked(end).ok_or_else(no_name)?;
        if name.is_empty() || name.contains(['/', '\\']) {
            return Err(no_name());
        }
        let relative = relative.strip_prefix(']').unwrap_or(relative);
        let components = host_path::normalize_relative(relative.trim())
            .ok_or_else(|| DatastorePathError::Leaves(text.to_owned()))?;
        Ok(Self {
            datastore: name.to_owned(),
            relative: components.join("/"),
        })
    }

    /// The path as this machine reads it, where the datastore is the directory `root`.
    pub fn resolve(&self, root: &Path) -> PathBuf {
        let mut path = root.to_owned();
        path.extend(self.relative.split('/').filter(|part| !part.is_empty()));
        path
    }

    /// The path as the host writes it, where the datastore is the host's directory `root`.
    pub fn to_host_path(&self, root: &str) -> String {
        let separator = if host_path::is_windows(root) {
            "\\"
        } else {
            "/"
        };
        let mut path = root.trim_end_matches(['/', '\\']).to_owned();
        for component in self.relative.split('/').filter(|part| !part.is_empty()) {
            path.push_str(separator);
            path.push_str(component);
        }
        path
    }

    /// The datastore path of a host path: the datastore (name → host directory) with the longest
    /// directory above it. None if it lies in none.
    pub fn from_host_path(path: &str, datastores: &BTreeMap<String, String>) -> Option<Self> {
        datastores
            .iter()
            .filter_map(|(name, directory)| {
                let relative = host_path::strip_directory(path, directory)?;
                Some((name, relative))
            })
            .min_by_key(|(_, relative)| relative.split('/').count())
            .map(|(name, relative)| Self {
                datastore: name.clone(),
                relative,
            })
    }
}

/// Where a name ends whose opening bracket stands before `rest`: at the bracket that closes it, else at the first that a
/// blank follows, else at the first.
fn end_of_name(rest: &str) -> Option<usize> {
    let mut open = 1_usize;
    let pairing = rest.char_indices().find_map(|(at, character)| {
        match character {
            '[' => open += 1,
            ']' => open -= 1,
            _ => {}
        }
        (open == 0).then_some(at)
    });
    pairing
        .or_else(|| rest.find("] "))
        .or_else(|| rest.find(']'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn datastore_paths_are_read_leniently_and_written_strictly() {
        for text in [
            "[standard] web/web.vmx",
            "[standard]web/web.vmx",
            r"[standard]   \web\.\web.vmx",
            "ha-datacenter/[standard] web/x/../web.vmx",
        ] {
            let path: DatastorePath = text.parse().unwrap();
            assert_eq!(path.to_string(), "[standard] web/web.vmx", "{text}");
            assert_eq!(
                path.resolve(Path::new("/mnt/a")),
                Path::new("/mnt/a/web/web.vmx")
            );
            assert_eq!(path.to_host_path("/srv/vm/"), "/srv/vm/web/web.vmx");
            assert_eq!(path.to_host_path(r"D:\VMs"), r"D:\VMs\web\web.vmx");
        }
        let root: DatastorePath = "[standard]".parse().unwrap();
        assert_eq!(root.to_string(), "[standard]");
        assert!(matches!(
            "[standard] ../etc/passwd".parse::<DatastorePath>(),
            Err(DatastorePathError::Leaves(_))
        ));
        for text in ["", "web.vmx", "[standard", "[] a", "[a/b] c"] {
            assert!(
                matches!(
                    text.parse::<DatastorePath>(),
                    Err(DatastorePathError::NoName(_))
                ),
                "{text}"
            );
        }
    }

    #[test]
    fn the_name_of_a_datastore_may_have_brackets() {
        for (text, datastore, relative) in [
            ("[data[1]] web/web.vmx", "data[1]", "web/web.vmx"),
            ("[data[1]]", "data[1]", ""),
            ("[data[1]]web.vmx", "data[1]", "web.vmx"),
            ("[[a] b] web.vmx", "[a] b", "web.vmx"),
            ("[a[b] web.vmx", "a[b", "web.vmx"),
            ("[a] b]/web.vmx", "a", "b]/web.vmx"),
        ] {
            let path: DatastorePath = text.parse().unwrap();
            assert_eq!(
                (&*path.datastore, &*path.relative),
                (datastore, relative),
                "{text}"
            );
        }
        let names = ["a", "a]b", "a] b"].map(str::to_owned);
        let known = |text: &str| {
            DatastorePath::parse_known(text, names.iter())
                .unwrap()
                .datastore
        };
        assert_eq!(known("[a]b] web.vmx"), "a]b");
        assert_eq!(known("[a] b] web.vmx"), "a] b");
        assert_eq!(known("[a] web.vmx"), "a");
        assert!("/vm/[old] web/web.vmx".parse::<DatastorePath>().is_err());
    }

    #[test]
    fn the_datastore_with_the_longest_directory_takes_a_host_path() {
        let directories = [("all", "/srv"), ("vm", "/srv/vm/"), ("vm2", "/srv/vm2")];
        let datastores = directories
            .map(|(name, directory)| (name.to_owned(), directory.to_owned()))
            .into();
        let of = |path: &str| {
            DatastorePath::from_host_path(path, &datastores).map(|path| path.to_string())
        };
        assert_eq!(of("/srv/vm/a/a.vmx").as_deref(), Some("[vm] a/a.vmx"));
        assert_eq!(of("/srv/vmx/a.vmx").as_deref(), Some("[all] vmx/a.vmx"));
        assert_eq!(of("/home/a.vmx"), None);
    }

    proptest! {
        #[test]
        fn a_datastore_path_never_leaves_its_directory(text in "(\\[[a-z]{1,3}\\])? ?[a./\\\\]{0,20}") {
            if let Ok(path) = text.parse::<DatastorePath>() {
                let resolved = path.resolve(Path::new("/root/of/it"));
                prop_assert!(resolved.starts_with("/root/of/it"));
                prop_assert!(!resolved.components().any(|part| part == std::path::Component::ParentDir));
                prop_assert_eq!(path.to_string().parse::<DatastorePath>().unwrap(), path);
            }
        }
    }
}
