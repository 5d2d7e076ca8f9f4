//! Where the VIX library may be on this machine.

use std::{
    cmp::Reverse,
    env, fs,
    path::{Path, PathBuf},
};

use crate::{ErrorClass, ErrorKind, HypervisorError};

/// Environment variable that names the library.
pub const LIBRARY_VARIABLE: &str = "VIRTUOZO_VIX_LIBRARY";

/// Where Workstation, Player and the VIX package put the wrapper.
const WRAPPERS: [&str; 5] = [
    "/usr/lib/vmware-vix/libvixAllProducts.so",
    "/usr/lib/vmware-vix/lib/libvixAllProducts.so",
    "/usr/lib/libvixAllProducts.so",
    "/usr/lib64/libvixAllProducts.so",
    "/usr/local/lib/libvixAllProducts.so",
];

/// Directories with one folder per provider, each with `64bit/libvix.so`.
const PROVIDERS: &str = "/usr/lib/vmware-vix";
/// The library in the folder of a provider.
const PROVIDER_FILE: &str = "64bit/libvix.so";

/// The places to try, best first. A place that somebody named is the only one.
pub(super) fn candidates(explicit: Option<&Path>) -> Vec<PathBuf> {
    if let Some(path) = explicit {
        return vec![path.to_owned()];
    }
    if let Some(path) = env::var_os(LIBRARY_VARIABLE).filter(|path| !path.is_empty()) {
        return vec![path.into()];
    }
    let mut places: Vec<PathBuf> = WRAPPERS.iter().map(PathBuf::from).collect();
    places.extend(providers(Path::new(PROVIDERS)));
    places
}

/// The provider libraries below a directory, the newest version first.
fn providers(directory: &Path) -> Vec<PathBuf> {
    provider_directories(directory)
        .into_iter()
        .map(|name| directory.join(name).join(PROVIDER_FILE))
        .collect()
}

/// The names of the directories that hold provider libraries, the newest version first.
pub(super) fn provider_directories(directory: &Path) -> Vec<String> {
    let mut found: Vec<String> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path().join(PROVIDER_FILE).is_file())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    found.sort_by_cached_key(|name| Reverse(Numbers::of(name)));
    found
}

/// The numbers in a name, and the name: versions compare by their numbers, so that 17 comes after 9.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Numbers(Vec<u64>, String);

impl Numbers {
    pub(super) fn of(name: &str) -> Self {
        let digits = name.split(|c: char| !c.is_ascii_digit());
        let numbers = digits.filter(|digits| !digits.is_empty());
        let numbers = numbers.map(|digits| digits.parse().unwrap_or(u64::MAX));
        Self(numbers.collect(), name.to_owned())
    }
}

/// No place had a usable library: what was tried, and what to do.
pub(super) fn missing(tried: &[(PathBuf, String)]) -> HypervisorError {
    let tried: Vec<String> = tried
        .iter()
        .map(|(path, why)| format!("{} ({why})", path.display()))
        .collect();
    HypervisorError::new(
        ErrorKind::LibraryMissing,
        ErrorClass::Elsewhere,
        format!(
            "no usable VIX library on this machine; tried: {}. Install VMware Workstation or the \
             VMware VIX API for Linux (64 bit), or name the library with --vix-library or {LIBRARY_VARIABLE}",
            tried.join(", ")
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_library_is_the_only_place_to_look() {
        assert_eq!(
            candidates(Some(Path::new("/a/libvix.so"))),
            [PathBuf::from("/a/libvix.so")]
        );
    }

    #[test]
    fn the_newest_provider_comes_first_by_number() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "Workstation-9.0.0-and-vSphere-5.1.0",
            "Workstation-17.0.0",
            "VIServer-2.0.0",
            "Workstation-10.0.0-and-vSphere-5.5.0",
        ] {
            fs::create_dir_all(dir.path().join(name).join("64bit")).unwrap();
            fs::write(dir.path().join(name).join(PROVIDER_FILE), "").unwrap();
        }
        fs::create_dir_all(dir.path().join("api")).unwrap();
        let found = providers(dir.path());
        let order = ["17.0.0", "10.0.0", "9.0.0", "VIServer"];
        assert_eq!(found.len(), order.len());
        for (path, part) in found.iter().zip(order) {
            assert!(path.to_string_lossy().contains(part), "{found:?}");
        }
    }

    #[test]
    fn the_message_names_every_place_and_what_to_install() {
        let error = missing(&[(PathBuf::from("/x/libvix.so"), "no such file".to_owned())]);
        assert!(error.message.contains("/x/libvix.so (no such file)"));
        assert!(error.message.contains("Install"));
        assert_eq!(error.kind, ErrorKind::LibraryMissing);
    }
}
