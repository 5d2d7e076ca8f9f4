//! VMware's "dictionary" text files (`key = "value"` lines): `.vmx`, `.vmsd` and settings.
//!
//! Lines that are not changed keep their bytes, whatever they hold.

mod syntax;

use std::{
    collections::{HashMap, hash_map::Entry},
    path::Path,
};

use encoding_rs::{Encoding, UTF_8, WINDOWS_1252};

use self::syntax::{escape, parse_line};
use crate::{DiskError, OpenFile};

/// Larger files are not dictionaries; real ones have a few kilobytes.
pub const MAX_FILE_BYTES: u64 = 4 << 20;
/// Files with more lines are not dictionaries; those of guests with hundreds of disks have some thousands.
pub const MAX_LINES: usize = 50_000;
/// The warnings about one file that are told; the others are counted.
const MAX_WARNINGS: usize = 100;

const ENCODING_KEY: &str = ".encoding";
const BOM: &[u8] = b"\xef\xbb\xbf";

/// Something in a file that was passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Line, counted from 1; 0 where it concerns the whole file.
    pub line: usize,
    /// What is wrong, as a part of a sentence.
    pub text: String,
}

#[derive(Debug, Clone)]
struct Line {
    /// The bytes, with their line end.
    raw: Vec<u8>,
    entry: Option<(String, String)>,
}

/// A dictionary file: keys with values in their order, and every other line as it is.
#[derive(Debug, Clone)]
pub struct Dictionary {
    lines: Vec<Line>,
    /// Lower-case key → place of its first line, the one that counts.
    index: HashMap<String, usize>,
    /// Lower-case key → places of its further lines.
    repeats: HashMap<String, Vec<usize>>,
    encoding: &'static Encoding,
    /// The encoding that the file names, where that is not known and more than ASCII is in the file.
    unknown_encoding: Option<String>,
    bom: bool,
    newline: &'static str,
}

impl Default for Dictionary {
    fn default() -> Self {
        Self {
            lines: Vec::new(),
            index: HashMap::new(),
            repeats: HashMap::new(),
            encoding: UTF_8,
            unknown_encoding: None,
            bom: false,
            newline: "\n",
        }
    }
}

impl Dictionary {
    /// An empty dictionary whose first line names its encoding, UTF-8.
    pub fn new() -> Self {
        let mut new = Self::default();
        new.set(ENCODING_KEY, "UTF-8");
        new
    }

    /// Reads a dictionary from the bytes of a file. Malformed lines are kept, but have no key.
    pub fn parse(bytes: &[u8]) -> (Self, Vec<Warning>) {
        let mut new = Self::default();
        let mut warnings = Vec::new();
        let bytes = match bytes.strip_prefix(BOM) {
            Some(rest) => {
                new.bom = true;
                rest
            }
            None => bytes,
        };
        let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
        if lines.first().is_some_and(|line| line.ends_with(b"\r\n")) {
            new.newline = "\r\n";
        }
        (new.encoding, new.unknown_encoding) = encoding_of(&lines, bytes, &mut warnings);
        let mut untold = 0_usize;

        for (place, raw) in lines.into_iter().enumerate() {
            let (text, damaged) = new.encoding.decode_without_bom_handling(raw);
            let mut warn = |text: String| {
                if warnings.len() < MAX_WARNINGS {
                    warnings.push(Warning {
                        line: place + 1,
                        text,
                    });
                } else {
                    untold += 1;
                }
            };
            if damaged {
                warn(format!("is not valid {}", new.encoding.name()));
            }
            let entry = match parse_line(&text) {
                Ok(entry) => entry,
                Err(reason) => {
                    warn(reason.to_owned());
                    None
                }
            };
            if let Some((key, _)) = &entry {
                let lower = key.to_ascii_lowercase();
                match new.index.get(&lower) {
                    Some(first) => {
                        warn(format!(
                            "repeats the key {key} of line {}; the first one counts",
                            first + 1
                        ));
                        new.repeats.entry(lower).or_default().push(place);
                    }
                    None => {
                        new.index.insert(lower, place);
                    }
                }
            }
            new.lines.push(Line {
                raw: raw.to_vec(),
                entry,
            });
        }
        if untold > 0 {
            warnings.push(Warning {
                line: 0,
                text: format!("{untold} more lines are not as they should be"),
            });
        }
        (new, warnings)
    }

    /// Reads a dictionary file of at most [`MAX_FILE_BYTES`] and [`MAX_LINES`], by a path that nobody else chose.
    ///
    /// # Errors
    /// [`DiskError::Io`]; [`DiskError::Malformed`] for a file that is too large, or whose encoding is not known;
    /// [`DiskError::Unsupported`] for what is not a regular file.
    pub fn load(path: &Path) -> Result<(Self, Vec<Warning>), DiskError> {
        Self::read(&OpenFile::at(path)?)
    }

    /// As [`load`](Self::load), from a file that is open.
    ///
    /// # Errors
    /// [`DiskError::Io`]; [`DiskError::Malformed`] as in [`load`](Self::load).
    pub fn read(opened: &OpenFile) -> Result<(Self, Vec<Warning>), DiskError> {
        let malformed = |reason: String| DiskError::Malformed {
            path: opened.path().to_owned(),
            format: "configuration file",
            reason,
        };
        let Some(bytes) = opened.read_all(MAX_FILE_BYTES)? else {
            return Err(malformed(format!(
                "it is larger than {MAX_FILE_BYTES} bytes"
            )));
        };
        if bytes.iter().filter(|byte| **byte == b'\n').count() > MAX_LINES {
            return Err(malformed(format!("it has more than {MAX_LINES} lines")));
        }
        let (new, warnings) = Self::parse(&bytes);
        match &new.unknown_encoding {
            None => Ok((new, warnings)),
            Some(name) => Err(malformed(format!(
                "it names the encoding {name:?}, which is not known; write it anew in UTF-8, with {ENCODING_KEY} = \"UTF-8\""
            ))),
        }
    }

    /// The value of a key, whatever its case.
    pub fn get(&self, key: &str) -> Option<&str> {
        let place = *self.index.get(&key.to_ascii_lowercase())?;
        let (_, value) = self.lines.get(place)?.entry.as_ref()?;
        Some(value)
    }

    /// The value of a key as a truth value: TRUE, yes and 1 against FALSE, no and 0, in any case.
    pub fn get_bool(&self, key: &str) -> Option<bool> {
        let value = self.get(key)?;
        let is = |words: [&str; 3]| words.iter().any(|word| value.eq_ignore_ascii_case(word));
        if is(["true", "yes", "1"]) {
            Some(true)
        } else if is(["false", "no", "0"]) {
            Some(false)
        } else {
            None
        }
    }

    /// Gives a key a value: in the place of its first line, or at the end. Repeated lines of the key
    /// disappear, so that the product accepts the file.
    pub fn set(&mut self, key: &str, value: &str) {
        let text = format!("{key} = \"{}\"{}", escape(value), self.newline);
        let raw = match self.encoding.encode(&text) {
            (raw, _, false) => raw.into_owned(),
            (_, _, true) => {
                self.become_utf8();
                text.into_bytes()
            }
        };
        let line = Line {
            raw,
            entry: Some((key.to_owned(), value.to_owned())),
        };
        let lower = key.to_ascii_lowercase();
        match self.index.get(&lower).copied() {
            Some(place) => {
                if let Some(old) = self.lines.get_mut(place) {
                    *old = line;
                }
                self.clear_repeats(&lower);
            }
            None => {
                if let Some(last) = self.lines.iter_mut().rfind(|line| !line.raw.is_empty())
                    && !last.raw.ends_with(b"\n")
                {
                    last.raw.extend_from_slice(self.newline.as_bytes());
                }
                self.index.insert(lower, self.lines.len());
                self.lines.push(line);
            }
        }
    }

    /// Takes a key out, with all its lines.
    pub fn remove(&mut self, key: &str) {
        let lower = key.to_ascii_lowercase();
        if let Some(line) = self
            .index
            .remove(&lower)
            .and_then(|place| self.lines.get_mut(place))
        {
            line.clear();
        }
        self.clear_repeats(&lower);
    }

    fn clear_repeats(&mut self, lower: &str) {
        for place in self.repeats.remove(lower).unwrap_or_default() {
            if let Some(line) = self.lines.get_mut(place) {
                line.clear();
            }
        }
    }

    /// Keys and values in the order of the file, without repeated keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.lines.iter().enumerate().filter_map(|(place, line)| {
            let (key, value) = line.entry.as_ref()?;
            (self.index.get(&key.to_ascii_lowercase()) == Some(&place))
                .then_some((key.as_str(), value.as_str()))
        })
    }

    /// The file's bytes. A dictionary that was not changed gives the bytes it was read from.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = if self.bom { BOM.to_vec() } else { Vec::new() };
        for line in &self.lines {
            bytes.extend_from_slice(&line.raw);
        }
        bytes
    }

    fn reindex(&mut self) {
        self.index.clear();
        self.repeats.clear();
        for (place, line) in self.lines.iter().enumerate() {
            let Some((key, _)) = &line.entry else {
                continue;
            };
            match self.index.entry(key.to_ascii_lowercase()) {
                Entry::Vacant(first) => _ = first.insert(place),
                Entry::Occupied(first) => {
                    let places = self.repeats.entry(first.key().clone()).or_default();
                    places.push(place);
                }
            }
        }
    }

    /// Turns the whole file to UTF-8, for a value that its own encoding cannot write.
    fn become_utf8(&mut self) {
        for line in &mut self.lines {
            let (text, _) = self.encoding.decode_without_bom_handling(&line.raw);
            line.raw = text.into_owned().into_bytes();
        }
        self.encoding = UTF_8;
        let line = Line {
            raw: format!("{ENCODING_KEY} = \"UTF-8\"{}", self.newline).into_bytes(),
            entry: Some((ENCODING_KEY.to_owned(), "UTF-8".to_owned())),
        };
        self.lines.retain(|line| !line.has_key(ENCODING_KEY));
        self.lines.insert(0, line);
        self.reindex();
    }
}

impl Line {
    /// Leaves nothing of the line; the places of the others stay.
    fn clear(&mut self) {
        self.raw.clear();
        self.entry = None;
    }

    fn has_key(&self, key: &str) -> bool {
        self.entry
            .as_ref()
            .is_some_and(|(own, _)| own.eq_ignore_ascii_case(key))
    }
}

/// The encoding that the file names; without one UTF-8 where the bytes are, else windows-1252, in
/// which every byte means something. Also the name of an encoding that is not known, where that matters.
fn encoding_of(
    lines: &[&[u8]],
    bytes: &[u8],
    warnings: &mut Vec<Warning>,
) -> (&'static Encoding, Option<String>) {
    let mut unknown = None;
    let named = lines.iter().enumerate().find_map(|(place, line)| {
        let text = String::from_utf8_lossy(line);
        match parse_line(&text) {
            Ok(Some((key, value))) if key.eq_ignore_ascii_case(ENCODING_KEY) => {
                Some((place + 1, value))
            }
            _ => None,
        }
    });
    if let Some((line, name)) = named {
        // UTF-16 and its like cannot be the encoding of a file whose lines were found bytewise.
        match Encoding::for_label(name.as_bytes()) {
            Some(encoding) if encoding.is_ascii_compatible() => return (encoding, None),
            _ => {
                warnings.push(Warning {
                    line,
                    text: format!("names the encoding {name:?}, which is not known"),
                });
                unknown = (!bytes.is_ascii()).then_some(name);
            }
        }
    }
    let encoding = if std::str::from_utf8(bytes).is_ok() {
        UTF_8
    } else {
        warnings.push(Warning {
            line: 0,
            text: "the file names no known encoding and is not UTF-8; read as windows-1252"
                .to_owned(),
        });
        WINDOWS_1252
    };
    (encoding, unknown)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(line: &str) -> Option<String> {
        Dictionary::parse(line.as_bytes())
            .0
            .get("a")
            .map(str::to_owned)
    }

    #[test]
    fn lines_are_read_as_vmwares_own_parser_reads_them() {
        for (line, value) in [
            ("a = \"b\"", "b"),
            ("a=b", "b"),
            (" \t a = \"b\" \t", "b"),
            ("a = \"b\" # note", "b"),
            ("a = b#note", "b"),
            ("a = \"b # c\"", "b # c"),
            ("a = \"\"", ""),
            ("a =", ""),
            ("a = \"b\"\r\n", "b"),
            ("A = \"b\"", "b"),
            ("a = \"x|22y\"", "x\"y"),
            ("a = \"x|0Ay|7Cz\"", "x\ny|z"),
            ("a = \"x|zy|\"", "x|zy|"),
            (r#"a = "D:\VMs\a.vmdk""#, r"D:\VMs\a.vmdk"),
            ("\u{feff}a = \"b\"", "b"),
        ] {
            assert_eq!(one(line).as_deref(), Some(value), "{line:?}");
        }
    }

    #[test]
    fn malformed_lines_are_kept_and_reported_with_their_number() {
        for line in [
            "a = b c",
            "a = \"x\" y",
            "a",
            "a = \"x",
            "a b = \"c\"",
            r#"a = "x\"y""#,
            "= \"b\"",
            "a # = b",
        ] {
            let text = format!("#!/usr/bin/vmware\n{line}\nz = \"1\"\n");
            let (dictionary, warnings) = Dictionary::parse(text.as_bytes());
            assert_eq!(dictionary.get("a"), None, "{line}");
            assert_eq!(dictionary.get("Z"), Some("1"), "{line}");
            assert_eq!(warnings.len(), 1, "{line}: {warnings:?}");
            assert_eq!(warnings[0].line, 2, "{line}");
            assert_eq!(dictionary.to_bytes(), text.as_bytes());
        }
    }

    #[test]
    fn the_first_of_two_equal_keys_counts_and_setting_leaves_only_one() {
        let (mut dictionary, warnings) = Dictionary::parse(b"a = \"1\"\nb = \"2\"\nA = \"3\"");
        assert_eq!(dictionary.get("a"), Some("1"));
        assert_eq!(warnings[0].line, 3);
        assert_eq!(
            dictionary.iter().collect::<Vec<_>>(),
            [("a", "1"), ("b", "2")]
        );
        dictionary.set("a", "4");
        assert_eq!(dictionary.to_bytes(), b"a = \"4\"\nb = \"2\"\n");
    }

    #[test]
    fn a_change_keeps_line_ends_comments_and_encoding() {
        let text = b".encoding = \"windows-1252\"\r\n# K\xfcche\r\ndisplayName = \"K\xfcche\"\r\nx = \"1\"";
        let (mut dictionary, warnings) = Dictionary::parse(text);
        assert!(warnings.is_empty(), "{warnings:?}");
        assert_eq!(dictionary.get("displayname"), Some("Küche"));
        assert_eq!(dictionary.to_bytes(), text);
        dictionary.set("y", "ö");
        dictionary.remove("X");
        assert_eq!(
            dictionary.to_bytes(),
            b".encoding = \"windows-1252\"\r\n# K\xfcche\r\ndisplayName = \"K\xfcche\"\r\ny = \"\xf6\"\r\n"
        );
    }

    #[test]
    fn a_value_that_the_encoding_cannot_write_turns_the_file_to_utf_8() {
        let (mut dictionary, _) =
            Dictionary::parse(b"a = \"K\xfcche\"\n.encoding = \"windows-1252\"\n");
        dictionary.set("b", "日本");
        let text = dictionary.to_bytes();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            ".encoding = \"UTF-8\"\na = \"Küche\"\nb = \"日本\"\n"
        );
        assert_eq!(dictionary.get("a"), Some("Küche"));
    }

    #[test]
    fn a_file_that_is_not_utf_8_and_names_no_encoding_is_read_with_a_warning() {
        let (dictionary, warnings) = Dictionary::parse(b"a = \"K\xfcche\"\n");
        assert_eq!(dictionary.get("a"), Some("Küche"));
        assert_eq!(warnings.len(), 1);
    }

    #[test]
    fn a_file_of_many_megabytes_is_refused_without_reading_it_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("huge.vmx");
        std::fs::File::create(&path)
            .unwrap()
            .set_len(1 << 40)
            .unwrap();
        assert!(matches!(
            Dictionary::load(&path),
            Err(DiskError::Malformed { .. })
        ));
    }

    fn load(bytes: &[u8]) -> Result<(Dictionary, Vec<Warning>), String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.vmx");
        std::fs::write(&path, bytes).unwrap();
        Dictionary::load(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_in_an_encoding_that_is_not_known_is_told_where_that_matters() {
        let plain = b".encoding = \"windows-936-2000\"\na = \"b\"\n";
        assert_eq!(load(plain).unwrap().0.get("a"), Some("b"));
        let error = load(&[&plain[..], b"c = \"\xcf\xb5\"\n"].concat()).unwrap_err();
        let told = "names the encoding \"windows-936-2000\", which is not known";
        assert!(error.contains(told), "{error}");
    }

    #[test]
    fn a_file_of_too_many_lines_is_refused_and_not_every_bad_line_is_told() {
        let lines = |count: usize| "?\n".repeat(count).into_bytes();
        let (_, warnings) = load(&lines(MAX_LINES)).unwrap();
        assert_eq!(warnings.len(), MAX_WARNINGS + 1);
        assert!(warnings[MAX_WARNINGS].text.starts_with("49900 more"));
        let error = load(&lines(MAX_LINES + 1)).unwrap_err();
        assert!(error.contains("50000 lines"), "{error}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_and_given_back_unchanged(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let (dictionary, _) = Dictionary::parse(&bytes);
            prop_assert_eq!(dictionary.to_bytes(), bytes);
        }

        #[test]
        fn any_value_is_read_back_as_it_was_set(
            text in "[ -~\n]{0,200}",
            pairs in prop::collection::vec(("[a-z.:0-9]{1,8}", any::<String>()), 1..8),
        ) {
            let (mut dictionary, _) = Dictionary::parse(text.as_bytes());
            let mut expected = HashMap::new();
            for (key, value) in &pairs {
                if key == ENCODING_KEY {
                    continue;
                }
                dictionary.set(key, value);
                expected.insert(key.clone(), value.clone());
            }
            let (again, _) = Dictionary::parse(&dictionary.to_bytes());
            for (key, value) in expected {
                prop_assert_eq!(again.get(&key), Some(value.as_str()));
                prop_assert_eq!(dictionary.get(&key), Some(value.as_str()));
            }
        }
    }
}
