//! The same name, written otherwise in a directory than in the file that names it.

use std::{
    ffi::{OsStr, OsString},
    os::{
        fd::BorrowedFd,
        unix::ffi::{OsStrExt, OsStringExt},
    },
};

use encoding_rs::{
    BIG5, EUC_JP, EUC_KR, Encoding, GB18030, SHIFT_JIS, WINDOWS_1250, WINDOWS_1251, WINDOWS_1252,
    WINDOWS_1253, WINDOWS_1254,
};
use rustix::{
    fs::{AtFlags, Dir, Mode, OFlags, openat, statat},
    io::Errno,
};

/// The encodings in which hosts wrote names of files before UTF-8, in the order of how many there are. ISO-8859-1 is a
/// part of the first.
const ENCODINGS: [&Encoding; 10] = [
    WINDOWS_1252,
    GB18030,
    SHIFT_JIS,
    WINDOWS_1251,
    WINDOWS_1250,
    BIG5,
    EUC_KR,
    EUC_JP,
    WINDOWS_1254,
    WINDOWS_1253,
];

/// The most names of a directory that are looked through.
pub(super) const MAX_NAMES: usize = 100_000;

/// What a name that is not in a directory is called there: the bytes of an older encoding, or, where `any_case`, the
/// one name that differs in case only.
pub(super) fn other(directory: BorrowedFd<'_>, name: &OsStr, any_case: bool) -> Option<OsString> {
    let text = name.to_str()?;
    in_bytes(directory, text).or_else(|| {
        any_case
            .then(|| in_another_case(directory, text).ok().flatten())
            .flatten()
    })
}

fn in_bytes(directory: BorrowedFd<'_>, text: &str) -> Option<OsString> {
    if text.is_ascii() {
        return None;
    }
    ENCODINGS.iter().find_map(|encoding| {
        let (bytes, _, is_lossy) = encoding.encode(text);
        let name = OsString::from_vec(bytes.into_owned());
        let is_there = || statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW).is_ok();
        (!is_lossy && is_there()).then_some(name)
    })
}

fn in_another_case(directory: BorrowedFd<'_>, text: &str) -> Result<Option<OsString>, Errno> {
    let wanted = text.to_lowercase();
    let mut found = None;
    for name in names(directory)? {
        if name.to_string_lossy().to_lowercase() == wanted {
            if found.is_some() {
                return Ok(None);
            }
            found = Some(name);
        }
    }
    Ok(found)
}

/// The names in a directory, in no order.
pub(super) fn names(directory: BorrowedFd<'_>) -> Result<Vec<OsString>, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let readable = openat(directory, ".", flags, Mode::empty())?;
    let mut names = Vec::new();
    for entry in Dir::new(readable)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        if names.len() == MAX_NAMES {
            return Err(Errno::TOOBIG);
        }
        names.push(OsStr::from_bytes(name).to_owned());
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use crate::Roots;

    /// What a file with these bytes for a name is found by, under another spelling.
    fn found(name: &[u8], asked: &str, any_case: bool) -> bool {
        use std::os::unix::ffi::OsStrExt;
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join(std::ffi::OsStr::from_bytes(name));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join(std::ffi::OsStr::from_bytes(name)), "").unwrap();
        let roots = Roots::new([dir.path().to_owned()]).in_any_case(any_case);
        let opened = roots.open(&dir.path().join(asked).join(asked));
        if let Ok(opened) = &opened {
            assert_eq!(opened.path().file_name().unwrap().as_bytes(), name);
        }
        opened.is_ok()
    }

    #[test]
    fn a_name_is_found_in_the_bytes_of_the_hosts_encoding() {
        assert!(found("Küche".as_bytes(), "Küche", false));
        assert!(found(b"K\xfcche", "Küche", false));
        assert!(found(b"\xcf\xb5\xcd\xb3", "系统", false));
        assert!(found(b"\x93\xfa\x96\x7b", "日本", false));
        assert!(!found(b"K\xfcchE", "Küche", false));
    }

    #[test]
    fn names_of_windows_hosts_are_found_in_any_case() {
        assert!(found(b"Web 1.VMDK", "web 1.vmdk", true));
        assert!(!found(b"Web 1.VMDK", "web 1.vmdk", false));
        assert!(!found(b"web 2.vmdk", "web 1.vmdk", true));
    }

    #[test]
    fn of_two_names_that_differ_in_case_only_neither_is_meant_by_a_third() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a.VMDK", "A.vmdk"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let roots = Roots::new([dir.path().to_owned()]).in_any_case(true);
        assert!(roots.open(&dir.path().join("a.vmdk")).is_err());
        assert!(roots.open(&dir.path().join("A.vmdk")).is_ok());
    }
}
