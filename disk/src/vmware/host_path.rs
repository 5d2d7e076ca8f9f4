//! Paths as a host writes them: `/srv/vm/a.vmx`, `D:\VMs\a.vmx` or `\\server\share\a.vmx`,
//! whatever system this program runs on.

/// A path on a host, cut into components without `.` and `..`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Parts<'a> {
    /// `/`, `D:` or `\\`.
    root: &'a str,
    components: Vec<&'a str>,
    windows: bool,
}

/// Whether the path begins at a root: `/…`, `X:\…` or `\\server\…`.
pub fn is_absolute(path: &str) -> bool {
    path.starts_with(['/', '\\']) || drive(path).is_some()
}

/// Whether the path has the form that Windows gives it.
pub fn is_windows(path: &str) -> bool {
    path.starts_with("\\\\") || drive(path).is_some()
}

/// The last component, after either separator.
pub fn base_name(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}

/// The base name without its last extension.
pub fn stem(path: &str) -> &str {
    let name = base_name(path);
    match name.rsplit_once('.') {
        Some((stem, _)) if !stem.is_empty() => stem,
        _ => name,
    }
}

/// A path of the host's own kind with `/` between all components, from a relative path with either
/// separator.
pub fn to_slashes(path: &str) -> String {
    path.replace('\\', "/")
}

/// Cuts a relative path (either separator) into components, resolving `.` and `..` by name. None if
/// it leaves the directory it starts from.
pub fn normalize_relative(path: &str) -> Option<Vec<&str>> {
    let mut components = Vec::new();
    for component in path.split(['/', '\\']) {
        match component {
            "" | "." => {}
            ".." => {
                components.pop()?;
            }
            _ => components.push(component),
        }
    }
    Some(components)
}

/// The rest of `path` below `directory`, with `/` between components: whole components are compared,
/// on Windows without regard to case. None if the path does not lie there.
pub fn strip_directory(path: &str, directory: &str) -> Option<String> {
    let path = parts(path)?;
    let directory = parts(directory)?;
    let same = |a: &str, b: &str| {
        if path.windows {
            a.to_lowercase() == b.to_lowercase()
        } else {
            a == b
        }
    };
    let (head, rest) = path
        .components
        .split_at_checked(directory.components.len())?;
    let matches = path.windows == directory.windows
        && same(path.root, directory.root)
        && head
            .iter()
            .zip(&directory.components)
            .all(|(a, b)| same(a, b));
    matches.then(|| rest.join("/"))
}

fn drive(path: &str) -> Option<&str> {
    let bytes = path.as_bytes();
    let is_drive = bytes.first().is_some_and(u8::is_ascii_alphabetic)
        && bytes.get(1) == Some(&b':')
        && bytes
            .get(2)
            .is_none_or(|separator| matches!(separator, b'/' | b'\\'));
    if is_drive { path.get(..2) } else { None }
}

fn parts(path: &str) -> Option<Parts<'_>> {
    let (root, rest, windows) = if let Some(rest) = path.strip_prefix("\\\\") {
        ("\\\\", rest, true)
    } else if let Some(root) = drive(path) {
        (root, path.get(2..)?, true)
    } else {
        ("/", path.strip_prefix('/')?, false)
    };
    let mut components = Vec::new();
    let separators: &[char] = if windows { &['/', '\\'] } else { &['/'] };
    for component in rest.split(separators) {
        match component {
            "" | "." => {}
            ".." => {
                components.pop();
            }
            _ => components.push(component),
        }
    }
    Some(Parts {
        root,
        components,
        windows,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_both_systems_are_told_apart() {
        for path in ["/a", r"C:\a", "c:/a", r"\\nas\share", "D:"] {
            assert!(is_absolute(path), "{path}");
        }
        for path in ["a/b", r"..\a", "c:a", ""] {
            assert!(!is_absolute(path), "{path}");
        }
        assert_eq!(base_name(r"D:\VMs\web 1\web.vmx"), "web.vmx");
        assert_eq!(stem("/srv/vm/web.1.vmx"), "web.1");
        assert_eq!(stem(".vmx"), ".vmx");
    }

    #[test]
    fn a_directory_is_stripped_by_whole_components_only() {
        for (path, directory, rest) in [
            ("/srv/vm/a/b.vmx", "/srv/vm", Some("a/b.vmx")),
            ("/srv/vm/a/b.vmx", "/srv/vm/", Some("a/b.vmx")),
            ("/srv/vm2/b.vmx", "/srv/vm", None),
            ("/srv/vm/../x/b.vmx", "/srv/vm", None),
            ("/srv/VM/b.vmx", "/srv/vm", None),
            ("/srv", "/srv/vm", None),
            (r"D:\VMs\Web\a.vmx", r"d:\vms\", Some("Web/a.vmx")),
            (r"E:\VMs\a.vmx", r"D:\VMs", None),
            (r"\\nas\vm\a.vmx", r"\\NAS\vm", Some("a.vmx")),
            ("relative/a.vmx", "/", None),
        ] {
            assert_eq!(
                strip_directory(path, directory).as_deref(),
                rest,
                "{path} in {directory}"
            );
        }
    }

    #[test]
    fn a_relative_path_that_leaves_its_directory_is_none() {
        assert_eq!(
            normalize_relative(r"a\.\b/../c.vmx"),
            Some(vec!["a", "c.vmx"])
        );
        assert_eq!(normalize_relative("/a//b"), Some(vec!["a", "b"]));
        assert_eq!(normalize_relative("a/../../b"), None);
        assert_eq!(normalize_relative(".."), None);
    }
}
