//! Names of directories and files in a repository: safe for file systems, unique, and distinct.

use std::path::{Component, Path, PathBuf};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{RepositoryError, Result};

/// The manifest of a restore point.
pub const MANIFEST_NAME: &str = "virtuozo-manifest.json";

/// What a copy has made durable, in a partial directory only.
pub(crate) const JOURNAL_NAME: &str = "virtuozo-journal";

/// Files of which the directory of a restore point has one, complete or not.
pub const POINT_FILES: &[&str] = &[MANIFEST_NAME, JOURNAL_NAME];

/// Longest encoded name; NAME_MAX is 255 bytes, and `.deleting-` must fit before it.
const NAME_LIMIT_BYTES: usize = 200;

/// Names that servers of shares take for devices, whatever their case and whatever follows after a dot.
const DEVICES: [&str; 7] = ["CON", "PRN", "AUX", "NUL", "CLOCK$", "CONIN$", "CONOUT$"];

/// Whether a server of a share would take a name for a device: `con`, `Nul.txt`, `COM1`.
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end();
    let stem = stem.to_ascii_uppercase();
    let is_numbered = |stem: &str| {
        let number = stem
            .strip_prefix("COM")
            .or_else(|| stem.strip_prefix("LPT"));
        number.is_some_and(|number| {
            let mut letters = number.chars();
            matches!(
                (letters.next(), letters.next()),
                (Some('0'..='9' | '¹' | '²' | '³'), None)
            )
        })
    };
    DEVICES.contains(&stem.as_str()) || is_numbered(&stem)
}

/// A directory name for a host or guest: the name itself where it is safe, other bytes as `%XX`.
/// Reversible up to 200 bytes; a longer one is cut and made unique by a hash, after `%~`, which no
/// encoded name contains.
pub(crate) fn encode(name: &str) -> String {
    let last = name.chars().count().saturating_sub(1);
    let is_device = is_device(name);
    let mut encoded = String::with_capacity(name.len());
    for (at, letter) in name.chars().enumerate() {
        let at_edge = matches!(letter, '.' | ' ') && (at == 0 || at == last);
        if at_edge
            || (is_device && at == 0)
            || letter.is_control()
            || "/\\:*?\"<>|%".contains(letter)
        {
            let mut utf8 = [0; 4];
            for byte in letter.encode_utf8(&mut utf8).bytes() {
                encoded.push_str(&format!("%{byte:02X}"));
            }
        } else {
            encoded.push(letter);
        }
    }
    if encoded.is_empty() {
        return "%".to_owned();
    }
    if encoded.len() > NAME_LIMIT_BYTES {
        let hash = blake3::hash(name.as_bytes()).to_hex();
        let keep = NAME_LIMIT_BYTES - 2 - 32;
        encoded.truncate(encoded.floor_char_boundary(keep));
        encoded.push_str("%~");
        encoded.extend(hash.chars().take(32));
    }
    encoded
}

/// The final name of a restore point. Of the run the *last* eight digits are taken: ids of runs begin
/// with the time, so the first ones are the same for all guests of a backup.
pub(crate) fn point_name(taken_at: DateTime<Utc>, guest_run_id: Uuid, fence: i64) -> String {
    let run = guest_run_id.simple().to_string();
    let tail = run.get(24..).unwrap_or_default();
    format!("{}-{tail}-f{fence}", taken_at.format("%Y%m%dT%H%M%SZ"))
}

/// The name of a restore point while it is written.
pub(crate) fn partial_name(guest_run_id: Uuid, fence: i64) -> String {
    format!(".partial-{}-f{fence}", guest_run_id.simple())
}

/// Run and fence of a restore point that was not published, by its directory's exact name.
pub(crate) fn parse_partial(name: &str) -> Option<(Uuid, i64)> {
    let (run, fence) = name.strip_prefix(".partial-")?.split_once("-f")?;
    let parsed = (Uuid::try_parse(run).ok()?, fence.parse().ok()?);
    (partial_name(parsed.0, parsed.1) == name).then_some(parsed)
}

/// The name of a restore point while it is deleted.
pub(crate) fn deleting_name(name: &str) -> String {
    format!(".deleting-{name}")
}

/// Is this a restore point that somebody began to delete?
pub(crate) fn is_deleting(name: &str) -> bool {
    name.starts_with(".deleting-")
}

/// Refuses a file name that could leave the restore point's directory or clash with its manifest.
pub(crate) fn check_file_name(name: &str) -> Result<()> {
    let invalid = |reason: &str| RepositoryError::Invalid {
        name: format!("{name:?}"),
        reason: reason.to_owned(),
    };
    let mut components = Path::new(name).components();
    match (components.next(), components.next()) {
        (Some(Component::Normal(only)), None) if only == name => {}
        _ => {
            return Err(invalid(
                "a file of a restore point has a plain name without directories",
            ));
        }
    }
    if name == MANIFEST_NAME || name == JOURNAL_NAME {
        return Err(invalid(
            "this name belongs to the manifest or to the journal of a copy",
        ));
    }
    if name.contains(char::is_control) {
        return Err(invalid("the name has control characters"));
    }
    if name.len() > 255 {
        return Err(invalid("the name is longer than 255 bytes"));
    }
    Ok(())
}

/// A path below a repository that consists of plain names only, and its last name.
pub(crate) fn check_point_path(path: &Path) -> Result<(PathBuf, &str)> {
    let names: Option<Vec<&str>> = path
        .components()
        .map(|component| match component {
            Component::Normal(name) => name.to_str(),
            _ => None,
        })
        .collect();
    match names.as_deref() {
        Some([host, guest, point]) => Ok((Path::new(host).join(guest), *point)),
        _ => Err(RepositoryError::Invalid {
            name: path.display().to_string(),
            reason: "a restore point's path is HOST/GUEST/POINT below its repository".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(encoded: &str) -> String {
        let mut bytes = Vec::new();
        let mut rest = encoded.bytes();
        while let Some(byte) = rest.next() {
            if byte == b'%' {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                let digits = std::str::from_utf8(&digits).unwrap();
                bytes.push(u8::from_str_radix(digits, 16).unwrap());
            } else {
                bytes.push(byte);
            }
        }
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn common_names_stay_readable() {
        for name in ["alpha.lab", "Web server 1", "büro-db_02"] {
            assert_eq!(encode(name), name);
        }
        assert_eq!(encode("../etc"), "%2E.%2Fetc");
        assert_eq!(encode(".partial-x"), "%2Epartial-x");
        assert_eq!(encode("50%"), "50%25");
    }

    #[test]
    fn a_name_that_a_share_takes_for_a_device_is_not_one_any_more() {
        for (name, encoded) in [
            ("CON", "%43ON"),
            ("nul", "%6Eul"),
            ("Aux.old", "%41ux.old"),
            ("com1", "%63om1"),
            ("LPT9.x.y", "%4CPT9.x.y"),
            ("COM²", "%43OM²"),
            ("conin$", "%63onin$"),
        ] {
            assert_eq!(encode(name), encoded);
            assert_eq!(decode(encoded), name);
        }
        for name in ["console", "com", "com10", "xcon", "auxiliary", "lpt"] {
            assert_eq!(encode(name), name);
        }
    }

    #[test]
    fn long_names_are_cut_but_differ() {
        let (a, b) = ("ä".repeat(300) + "a", "ä".repeat(300) + "b");
        assert_ne!(encode(&a), encode(&b));
        assert!(encode(&a).len() <= NAME_LIMIT_BYTES);
    }

    #[test]
    fn only_exact_names_of_partial_points_are_recognised() {
        let run = Uuid::from_u128(77);
        assert_eq!(parse_partial(&partial_name(run, 12)), Some((run, 12)));
        for wrong in [
            ".partial-".to_owned(),
            ".partial-77-f1".to_owned(),
            format!(".partial-{run}-f1"),
            format!(".partial-{}-f01", run.simple()),
            format!("x{}", partial_name(run, 1)),
            format!("{}x", partial_name(run, 1)),
        ] {
            assert_eq!(parse_partial(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn runs_of_one_minute_have_different_point_names() {
        let at = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let (a, b) = (
            Uuid::parse_str("01932f5e-1111-7abc-8def-0123456789ab").unwrap(),
            Uuid::parse_str("01932f5e-1112-7abc-8def-0123456789ac").unwrap(),
        );
        assert_eq!(point_name(at, a, 3), "20270115T080000Z-456789ab-f3");
        assert_ne!(point_name(at, a, 3), point_name(at, b, 3));
    }

    #[test]
    fn file_names_that_leave_the_directory_are_refused() {
        for wrong in [
            "",
            ".",
            "..",
            "a/b",
            "/a",
            "a/",
            "../x",
            MANIFEST_NAME,
            "a\nb",
            "a\0",
        ] {
            assert!(check_file_name(wrong).is_err(), "{wrong:?}");
        }
        assert!(check_file_name("vm (1)-000001.vmdk").is_ok());
    }

    #[test]
    fn paths_that_leave_the_repository_are_refused() {
        for wrong in ["", "a", "a/b", "a/../b", "/a/b/c", "a/b/..", "a/b/c/d"] {
            assert!(check_point_path(Path::new(wrong)).is_err(), "{wrong:?}");
        }
        let (folder, name) = check_point_path(Path::new("a/b/c")).unwrap();
        assert_eq!((folder.as_path(), name), (Path::new("a/b"), "c"));
    }

    proptest! {
        #[test]
        fn encoded_names_are_single_safe_components_and_reversible(name in ".{1,40}") {
            let encoded = encode(&name);
            let mut components = Path::new(&encoded).components();
            prop_assert!(matches!(components.next(), Some(Component::Normal(_))));
            prop_assert!(components.next().is_none());
            prop_assert!(!encoded.starts_with('.'));
            if !encoded.contains("%~") {
                prop_assert_eq!(decode(&encoded), name);
            }
        }
    }
}
