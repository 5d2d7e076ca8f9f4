//! Reads the text part of a disk, the descriptor, and changes single values in it.
//!
//! Layout of the text: facts measured on VMware's and qemu's images, and VMware's "Virtual Disk
//! Format 5.0" technical note.

use std::{collections::BTreeMap, path::Path};

use encoding_rs::{Encoding, UTF_8, WINDOWS_1252};

use super::malformed;
use crate::DiskError;

/// How an error names this format.
const FORMAT: &str = "VMDK descriptor";
/// First line of every descriptor.
const SIGNATURE: &str = "# disk descriptorfile";
/// `parentCID` of a disk without a parent.
pub(super) const NO_PARENT: u32 = u32::MAX;
/// Descriptors are a few hundred bytes; anything larger is another kind of file.
pub(super) const MAX_DESCRIPTOR_BYTES: u64 = 1024 * 1024;
/// The most extents of a disk, each a file that is held open: as many as an 8 TiB disk has in parts of 2 GiB.
const MAX_EXTENTS: usize = 4200;

/// Beginning of the keys of the disk database.
const DDB: &str = "ddb.";
/// A longer content id, whose last digits are the [`KEY_CONTENT_ID`].
const KEY_LONG_CONTENT_ID: &str = "longContentID";

const KEY_CONTENT_ID: &str = "CID";
const KEY_PARENT_CONTENT_ID: &str = "parentCID";
const KEY_PARENT_HINT: &str = "parentFileNameHint";
const KEY_CREATE_TYPE: &str = "createType";

/// What the text part of a disk says.
#[derive(Debug, Clone)]
pub struct Descriptor {
    bytes: Vec<u8>,
    encoding: &'static Encoding,
    content_id: u32,
    parent_content_id: Option<u32>,
    parent_hint: Option<String>,
    create_type: String,
    extents: Vec<ExtentLine>,
    ddb: BTreeMap<String, String>,
}

/// One line that names a run of the disk and the file that holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ExtentLine {
    pub(super) access: ExtentAccess,
    pub(super) sectors: u64,
    /// Upper case: `FLAT`, `SPARSE`, `ZERO`, `VMFS`, or one that is not read.
    pub(super) kind: String,
    pub(super) file_name: Option<String>,
    /// Where a flat extent begins in its file.
    pub(super) offset_sectors: u64,
}

/// What the guest may do with an extent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ExtentAccess {
    ReadWrite,
    ReadOnly,
    None,
}

impl Descriptor {
    /// The content id (`CID`): changes when the content does.
    pub fn content_id(&self) -> u32 {
        self.content_id
    }

    /// The content id the parent must have; none for a base disk.
    pub fn parent_content_id(&self) -> Option<u32> {
        self.parent_content_id
    }

    /// Where the parent is, as written (`parentFileNameHint`).
    pub fn parent_hint(&self) -> Option<&str> {
        self.parent_hint.as_deref()
    }

    /// `createType`, as written.
    pub fn create_type(&self) -> &str {
        &self.create_type
    }

    /// `ddb.adapterType`, as written.
    pub fn adapter_type(&self) -> Option<&str> {
        self.ddb_value("adapterType")
    }

    /// `ddb.virtualHWVersion`, where it is a number.
    pub fn hardware_version(&self) -> Option<u32> {
        self.ddb_value("virtualHWVersion")?.parse().ok()
    }

    /// All entries of the disk database, keys as written but without `ddb.`, for example
    /// `geometry.cylinders`, `uuid`.
    pub fn ddb(&self) -> &BTreeMap<String, String> {
        &self.ddb
    }

    /// An entry of the disk database, its key without `ddb.` in any case.
    fn ddb_value(&self, key: &str) -> Option<&str> {
        self.ddb
            .iter()
            .find(|(have, _)| have.eq_ignore_ascii_case(key))
            .map(|(_, value)| value.as_str())
    }

    pub(super) fn extents(&self) -> &[ExtentLine] {
        &self.extents
    }

    /// The text as it is stored, without padding.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Reads a descriptor; `path` is for errors. NUL bytes end it (padding of embedded ones).
    pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Self, DiskError> {
        let bytes = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        let encoding = encoding_of(bytes).map_err(|name| {
            malformed(
                path,
                FORMAT,
                format!("it names the encoding {name:?}, which is not known"),
            )
        })?;
        let (text, _) = encoding.decode_with_bom_removal(bytes);
        let mut lines = text.lines().map(str::trim).zip(1_usize..);
        let signature = lines.by_ref().find(|(line, _)| !line.is_empty());
        if !signature.is_some_and(|(line, _)| line.to_ascii_lowercase().starts_with(SIGNATURE)) {
            return Err(malformed(
                path,
                FORMAT,
                "its first line is not \"# Disk DescriptorFile\"",
            ));
        }
        let mut values = BTreeMap::new();
        let mut extents = Vec::new();
        for (line, number) in lines {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(extent) = extent_line(line) {
                extents.push(extent.map_err(|reason| {
                    malformed(path, FORMAT, format!("line {number}: {reason}"))
                })?);
                if extents.len() > MAX_EXTENTS {
                    let reason = format!("it names more than {MAX_EXTENTS} extents");
                    return Err(malformed(path, FORMAT, reason));
                }
            } else if let Some((key, value)) = line.split_once('=') {
                // The first of several counts, as in all of VMware's text files.
                let key = key.trim();
                values
                    .entry(key.to_ascii_lowercase())
                    .or_insert_with(|| (key.to_owned(), unquote(value).to_owned()));
            } else {
                return Err(malformed(
                    path,
                    FORMAT,
                    format!("line {number} is neither a value nor an extent"),
                ));
            }
        }
        Self::from_values(path, values, extents, bytes.to_vec(), encoding)
    }

    fn from_values(
        path: &Path,
        mut values: BTreeMap<String, (String, String)>,
        extents: Vec<ExtentLine>,
        bytes: Vec<u8>,
        encoding: &'static Encoding,
    ) -> Result<Self, DiskError> {
        if values.keys().any(|key| key.starts_with("encryption")) {
            return Err(DiskError::Unsupported {
                path: path.to_owned(),
                reason: "the disk is encrypted; decrypt the guest first".to_owned(),
            });
        }
        let mut take = |key: &str| Some(values.remove(&key.to_ascii_lowercase())?.1);
        let content_id = hex_id(path, KEY_CONTENT_ID, take(KEY_CONTENT_ID))?
            .ok_or_else(|| malformed(path, FORMAT, "it has no CID"))?;
        let parent_content_id = hex_id(path, KEY_PARENT_CONTENT_ID, take(KEY_PARENT_CONTENT_ID))?
            .filter(|id| *id != NO_PARENT);
        let create_type =
            take(KEY_CREATE_TYPE).ok_or_else(|| malformed(path, FORMAT, "it has no createType"))?;
        let parent_hint = take(KEY_PARENT_HINT).filter(|hint| !hint.is_empty());
        let ddb = values
            .into_iter()
            .filter(|(lower, _)| lower.starts_with(DDB))
            .filter_map(|(_, (key, value))| Some((key.get(DDB.len()..)?.to_owned(), value)))
            .collect();
        Ok(Self {
            bytes,
            encoding,
            content_id,
            parent_content_id,
            parent_hint,
            create_type,
            extents,
            ddb,
        })
    }

    /// A copy with another content id.
    pub(super) fn with_content_id(&self, path: &Path, content_id: u32) -> Result<Self, DiskError> {
        let id = format!("{content_id:08x}");
        let new = self.with_value(path, KEY_CONTENT_ID, &id)?;
        let long = self.ddb_value(KEY_LONG_CONTENT_ID);
        match long.and_then(|long| long.get(..long.len().checked_sub(id.len())?)) {
            Some(head) => {
                let key = format!("{DDB}{KEY_LONG_CONTENT_ID}");
                new.with_value(path, &key, &format!("\"{head}{id}\""))
            }
            None => Ok(new),
        }
    }

    /// A copy with another parent.
    pub(super) fn with_parent(
        &self,
        path: &Path,
        content_id: u32,
        hint: &str,
    ) -> Result<Self, DiskError> {
        self.with_value(path, KEY_PARENT_CONTENT_ID, &format!("{content_id:08x}"))?
            .with_value(path, KEY_PARENT_HINT, &format!("\"{hint}\""))
    }

    /// A copy with one value changed or added, everything else as it stands; `value` is written as
    /// given, so quotes are the caller's.
    fn with_value(&self, path: &Path, key: &str, value: &str) -> Result<Self, DiskError> {
        let (encoded, _, unmappable) = self.encoding.encode(value);
        if unmappable || value.contains(['\n', '\r', '\0']) {
            return Err(DiskError::Refused {
                path: path.to_owned(),
                reason: format!("{key} cannot be {value} in {}", self.encoding.name()),
            });
        }
        let new_line = [key.as_bytes(), b"=", &encoded].concat();
        let mut lines: Vec<Vec<u8>> = self
            .bytes
            .split(|byte| *byte == b'\n')
            .map(<[u8]>::to_vec)
            .collect();
        let place = lines.iter().position(|line| is_key(line, key));
        match place.and_then(|place| lines.get_mut(place)) {
            Some(line) => {
                let carriage_return = line.ends_with(b"\r");
                *line = new_line;
                line.extend(carriage_return.then_some(b'\r'));
            }
            // Any place in the header does; beside the content id, which every descriptor has.
            None => {
                let at = lines
                    .iter()
                    .position(|line| is_key(line, KEY_CONTENT_ID))
                    .map_or(lines.len(), |place| place + 1);
                lines.insert(at, new_line);
            }
        }
        Self::parse(path, &lines.join(&b'\n'))
    }
}

fn is_key(line: &[u8], key: &str) -> bool {
    let name = line.split(|byte| *byte == b'=').next().unwrap_or_default();
    name.len() < line.len() && name.trim_ascii().eq_ignore_ascii_case(key.as_bytes())
}

/// The encoding the text names; without one UTF-8 where the bytes are, else windows-1252. As an error the name of one
/// that is not known, where more than ASCII is in the text.
fn encoding_of(bytes: &[u8]) -> Result<&'static Encoding, String> {
    let named = bytes
        .split(|byte| *byte == b'\n')
        .find(|line| is_key(line, "encoding"))
        .and_then(|line| line.splitn(2, |byte| *byte == b'=').nth(1));
    if let Some(name) = named {
        let label = String::from_utf8_lossy(name);
        let label = unquote(&label);
        match Encoding::for_label(label.as_bytes()) {
            // The lines were found bytewise, so UTF-16 and its like cannot be meant.
            Some(encoding) if encoding.is_ascii_compatible() => return Ok(encoding),
            _ if bytes.is_ascii() => {}
            _ => return Err(label.to_owned()),
        }
    }
    Ok(match std::str::from_utf8(bytes) {
        Ok(_) => UTF_8,
        Err(_) => WINDOWS_1252,
    })
}

fn unquote(value: &str) -> &str {
    let value = value.trim();
    value
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or(value)
}

fn hex_id(path: &Path, key: &str, value: Option<String>) -> Result<Option<u32>, DiskError> {
    let Some(value) = value else { return Ok(None) };
    u32::from_str_radix(&value, 16).map(Some).map_err(|_| {
        malformed(
            path,
            FORMAT,
            format!("{key}={value} is not a 32-bit hex number"),
        )
    })
}

/// Reads `ACCESS SECTORS TYPE ["file" [OFFSET …]]`; none where the line is something else.
fn extent_line(line: &str) -> Option<Result<ExtentLine, String>> {
    let (access, rest) = line.split_once([' ', '\t'])?;
    let access = match access.to_ascii_uppercase().as_str() {
        "RW" => ExtentAccess::ReadWrite,
        "RDONLY" => ExtentAccess::ReadOnly,
        "NOACCESS" => ExtentAccess::None,
        _ => return None,
    };
    Some(extent_rest(access, rest.trim_start()))
}

fn extent_rest(access: ExtentAccess, rest: &str) -> Result<ExtentLine, String> {
    let (sectors, rest) = rest
        .split_once([' ', '\t'])
        .ok_or("the extent has no type")?;
    let sectors: u64 = sectors
        .parse()
        .map_err(|_| format!("{sectors} is not a number of sectors"))?;
    if sectors == 0 {
        return Err("the extent has no sectors".to_owned());
    }
    let rest = rest.trim_start();
    let (kind, rest) = rest.split_once([' ', '\t']).unwrap_or((rest, ""));
    let (file_name, rest) = match rest.trim_start().strip_prefix('"') {
        Some(quoted) => {
            let (name, rest) = quoted
                .split_once('"')
                .ok_or("the file name has no closing quote")?;
            (Some(name.to_owned()), rest)
        }
        None => (None, rest),
    };
    let offset_sectors = match rest.split_whitespace().next() {
        Some(offset) => offset
            .parse()
            .map_err(|_| format!("{offset} is not an offset in sectors"))?,
        None => 0,
    };
    Ok(ExtentLine {
        access,
        sectors,
        kind: kind.to_ascii_uppercase(),
        file_name,
        offset_sectors,
    })
}
