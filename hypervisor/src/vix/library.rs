//! Where the VIX library may be on this machine.

use std::{
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

/// The provider libraries below a directory, the newest name first.
fn providers(directory: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("64bit/libvix.so"))
        .filter(|path| path.is_file())
        .collect();
    found.sort();
    found.reverse();
    found
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
    fn the_newest_provider_comes_first() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["Workstation-10.0.0", "Workstation-17.0.0"] {
            fs::create_dir_all(dir.path().join(name).join("64bit")).unwrap();
            fs::write(dir.path().join(name).join("64bit/libvix.so"), "").unwrap();
        }
        fs::create_dir_all(dir.path().join("api")).unwrap();
        let found = providers(dir.path());
        assert_eq!(found.len(), 2);
        assert!(found[0].to_string_lossy().contains("17.0.0"), "{found:?}");
    }

    #[test]
    fn the_message_names_every_place_and_what_to_install() {
        let error = missing(&[(PathBuf::from("/x/libvix.so"), "no such file".to_owned())]);
        assert!(error.message.contains("/x/libvix.so (no such file)"));
        assert!(error.message.contains("Install"));
        assert_eq!(error.kind, ErrorKind::LibraryMissing);
    }
}
