//! A guest's list of snapshots, `.vmsd`.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::Path,
};

use super::{Dictionary, Warning};
use crate::{DiskError, OpenFile};

/// The most snapshots of a guest; the products allow 496.
pub const MAX_SNAPSHOTS: usize = 512;

/// A disk frozen by a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FrozenDisk {
    /// The device, for example `scsi0:0`.
    pub node: String,
    /// The file that was active when the snapshot was taken.
    pub file_name: String,
}

/// One snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// Its id, never given twice.
    pub uid: u64,
    /// The id of the snapshot it was taken on; none for a root.
    pub parent: Option<u64>,
    /// Display name, not always unique.
    pub name: String,
    /// Description.
    pub description: String,
    /// The state file (`.vmsn`).
    pub state_file: Option<String>,
    /// When it was taken, in microseconds since 1970 UTC.
    pub created_micros: Option<i64>,
    /// The disks it froze.
    pub disks: Vec<FrozenDisk>,
    /// Everything else the file says of it, by key without the leading `snapshotN.`.
    pub other: Vec<(String, String)>,
}

/// The list of snapshots of one guest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Vmsd {
    /// The last id given.
    pub last_uid: u64,
    /// The snapshot that the guest runs on top of.
    pub current: Option<u64>,
    /// The snapshots, in the order of the file.
    pub snapshots: Vec<Snapshot>,
    /// Everything else the file says, but hints for user interfaces.
    pub other: Vec<(String, String)>,
}

impl Vmsd {
    /// Reads the bytes of a `.vmsd`; an empty file has no snapshots.
    pub fn parse(bytes: &[u8]) -> (Self, Vec<Warning>) {
        let (dictionary, warnings) = Dictionary::parse(bytes);
        Self::of(&dictionary, warnings)
    }

    fn of(dictionary: &Dictionary, mut warnings: Vec<Warning>) -> (Self, Vec<Warning>) {
        let mut vmsd = Self::default();
        let mut uids = HashSet::new();
        let mut numbered: BTreeMap<u64, Vec<(&str, &str)>> = BTreeMap::new();
        let mut count = None;
        for (key, value) in dictionary.iter() {
            match key.to_ascii_lowercase().as_str() {
                ".encoding" => {}
                "snapshot.numsnapshots" => count = value.parse::<u64>().ok(),
                "snapshot.lastuid" => vmsd.last_uid = value.parse().unwrap_or(0),
                "snapshot.current" => vmsd.current = uid(value),
                lower if lower.starts_with("snapshot.mru") => {}
                lower => match numbered_key(lower, "snapshot") {
                    Some((number, suffix)) => numbered
                        .entry(number)
                        .or_default()
                        .push((key.get(key.len() - suffix.len()..).unwrap_or(key), value)),
                    None => vmsd.other.push((key.to_owned(), value.to_owned())),
                },
            }
        }
        for (number, entries) in numbered {
            if count.is_some_and(|count| number >= count) {
                continue;
            }
            let snapshot = snapshot(&entries);
            if snapshot.uid == 0 || !uids.insert(snapshot.uid) {
                warnings.push(Warning {
                    line: 0,
                    text: format!("snapshot{number} has no uid of its own and is passed over"),
                });
                continue;
            }
            vmsd.last_uid = vmsd.last_uid.max(snapshot.uid);
            vmsd.snapshots.push(snapshot);
        }
        if let Some(current) = vmsd.current
            && !uids.contains(&current)
        {
            warnings.push(Warning {
                line: 0,
                text: format!("the current snapshot {current} is not in the list"),
            });
            vmsd.current = None;
        }
        (vmsd, warnings)
    }

    /// Reads a `.vmsd` file by a path that nobody else chose; a missing one has no snapshots.
    ///
    /// # Errors
    /// As [`Dictionary::load`], but for a missing file; [`DiskError::Malformed`] for more than [`MAX_SNAPSHOTS`].
    pub fn load(path: &Path) -> Result<(Self, Vec<Warning>), DiskError> {
        Self::read(OpenFile::at(path))
    }

    /// As [`load`](Self::load), from what opening the file led to.
    ///
    /// # Errors
    /// As [`Dictionary::read`], and that of opening it, but for a missing file.
    pub fn read(opened: Result<OpenFile, DiskError>) -> Result<(Self, Vec<Warning>), DiskError> {
        match opened {
            Ok(opened) => {
                let (dictionary, warnings) = Dictionary::read(&opened)?;
                Self::checked(opened.path(), &dictionary, warnings)
            }
            Err(error) if error.is_not_found() => Ok((Self::default(), Vec::new())),
            Err(error) => Err(error),
        }
    }

    fn checked(
        path: &Path,
        dictionary: &Dictionary,
        warnings: Vec<Warning>,
    ) -> Result<(Self, Vec<Warning>), DiskError> {
        let (vmsd, warnings) = Self::of(dictionary, warnings);
        let count = vmsd.snapshots.len();
        if count > MAX_SNAPSHOTS {
            return Err(DiskError::Malformed {
                path: path.to_owned(),
                format: "list of snapshots",
                reason: format!("it has {count} snapshots, and {MAX_SNAPSHOTS} are the most"),
            });
        }
        Ok((vmsd, warnings))
    }

    /// The snapshot of an id.
    pub fn get(&self, uid: u64) -> Option<&Snapshot> {
        self.snapshots.iter().find(|snapshot| snapshot.uid == uid)
    }

    /// The snapshot of an id, to be changed.
    pub fn get_mut(&mut self, uid: u64) -> Option<&mut Snapshot> {
        self.snapshots
            .iter_mut()
            .find(|snapshot| snapshot.uid == uid)
    }

    /// All snapshots of this exact name.
    pub fn named(&self, name: &str) -> impl Iterator<Item = &Snapshot> {
        self.snapshots
            .iter()
            .filter(move |snapshot| snapshot.name == name)
    }

    /// The snapshots taken on one, or the roots. A snapshot whose parent is not in the list is a
    /// root.
    pub fn children(&self, parent: Option<u64>) -> impl Iterator<Item = &Snapshot> {
        let uids = self.uids();
        self.snapshots
            .iter()
            .filter(move |snapshot| snapshot.parent.filter(|uid| uids.contains(uid)) == parent)
    }

    fn uids(&self) -> HashSet<u64> {
        self.snapshots.iter().map(|snapshot| snapshot.uid).collect()
    }

    fn parent_of(&self, snapshot: &Snapshot) -> Option<u64> {
        snapshot.parent.filter(|parent| self.get(*parent).is_some())
    }

    /// All snapshots, parents before children.
    pub fn parents_first(&self) -> Vec<&Snapshot> {
        let uids = self.uids();
        let mut children: HashMap<Option<u64>, Vec<&Snapshot>> = HashMap::new();
        for snapshot in &self.snapshots {
            let parent = snapshot.parent.filter(|parent| uids.contains(parent));
            children.entry(parent).or_default().push(snapshot);
        }
        let mut ordered = children.remove(&None).unwrap_or_default();
        let mut next = 0;
        while let Some(snapshot) = ordered.get(next) {
            ordered.extend(children.remove(&Some(snapshot.uid)).unwrap_or_default());
            next += 1;
        }
        // A damaged list may have snapshots in a circle, which no root leads to.
        let seen: HashSet<u64> = ordered.iter().map(|snapshot| snapshot.uid).collect();
        ordered.extend(
            self.snapshots
                .iter()
                .filter(|snapshot| !seen.contains(&snapshot.uid)),
        );
        ordered
    }

    /// Adds a snapshot on top of the current one and makes it current; gives it the next id, which
    /// is returned.
    pub fn add(&mut self, mut snapshot: Snapshot) -> u64 {
        self.last_uid += 1;
        snapshot.uid = self.last_uid;
        snapshot.parent = self.current;
        self.current = Some(snapshot.uid);
        self.snapshots.push(snapshot);
        self.last_uid
    }

    /// Takes a snapshot out: its children, and the guest if it runs on it, move to its parent.
    pub fn remove(&mut self, uid: u64) -> Option<Snapshot> {
        let place = self
            .snapshots
            .iter()
            .position(|snapshot| snapshot.uid == uid)?;
        let removed = self.snapshots.remove(place);
        let parent = self.parent_of(&removed).filter(|parent| *parent != uid);
        for snapshot in &mut self.snapshots {
            if snapshot.parent == Some(uid) {
                snapshot.parent = parent;
            }
        }
        if self.current == Some(uid) {
            self.current = parent;
        }
        Some(removed)
    }

    /// The bytes of the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Dictionary::new();
        for (key, value) in &self.other {
            out.set(key, value);
        }
        out.set("snapshot.lastUID", &self.last_uid.to_string());
        out.set("snapshot.numSnapshots", &self.snapshots.len().to_string());
        out.set("snapshot.current", &self.current.unwrap_or(0).to_string());
        for (number, snapshot) in self.snapshots.iter().enumerate() {
            let mut set =
                |key: &str, value: &str| out.set(&format!("snapshot{number}.{key}"), value);
            set("uid", &snapshot.uid.to_string());
            if let Some(file) = &snapshot.state_file {
                set("filename", file);
            }
            if let Some(parent) = snapshot.parent {
                set("parent", &parent.to_string());
            }
            set("displayName", &snapshot.name);
            set("description", &snapshot.description);
            if let Some(micros) = snapshot.created_micros {
                // Two signed 32-bit halves.
                set("createTimeHigh", &((micros >> 32) as i32).to_string());
                set("createTimeLow", &(micros as i32).to_string());
            }
            set("numDisks", &snapshot.disks.len().to_string());
            for (place, disk) in snapshot.disks.iter().enumerate() {
                set(&format!("disk{place}.fileName"), &disk.file_name);
                set(&format!("disk{place}.node"), &disk.node);
            }
            for (key, value) in &snapshot.other {
                set(key, value);
            }
        }
        out.to_bytes()
    }
}

/// An id; 0 and nonsense are none.
fn uid(text: &str) -> Option<u64> {
    text.parse().ok().filter(|uid| *uid != 0)
}

/// Cuts `snapshot12.uid` into 12 and `uid`.
fn numbered_key<'a>(key: &'a str, prefix: &str) -> Option<(u64, &'a str)> {
    let (number, suffix) = key.strip_prefix(prefix)?.split_once('.')?;
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    Some((digits.then(|| number.parse().ok()).flatten()?, suffix))
}

fn snapshot(entries: &[(&str, &str)]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    let mut disks: BTreeMap<u64, FrozenDisk> = BTreeMap::new();
    let (mut high, mut low) = (None, None);
    for (key, value) in entries {
        let text = (*value).to_owned();
        match key.to_ascii_lowercase().as_str() {
            "uid" => snapshot.uid = uid(value).unwrap_or(0),
            "parent" => snapshot.parent = uid(value),
            "filename" => snapshot.state_file = Some(text).filter(|file| !file.is_empty()),
            "displayname" => snapshot.name = text,
            "description" => snapshot.description = text,
            "createtimehigh" => high = value.parse::<i32>().ok(),
            "createtimelow" => low = value.parse::<i32>().ok(),
            "numdisks" => {}
            lower => match numbered_key(lower, "disk") {
                Some((place, "filename")) => disks.entry(place).or_default().file_name = text,
                Some((place, "node")) => disks.entry(place).or_default().node = text,
                _ => snapshot.other.push(((*key).to_owned(), text)),
            },
        }
    }
    snapshot.created_micros = high
        .zip(low)
        .map(|(high, low)| (i64::from(high) << 32) + i64::from(low as u32));
    snapshot.disks = disks.into_values().collect();
    snapshot
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TWO: &str = r#".encoding = "UTF-8"
snapshot.lastUID = "5"
snapshot.numSnapshots = "2"
snapshot.current = "5"
snapshot.mru0.uid = "5"
encryption.keySafe = "vmware:key/list/(x)"
snapshot0.uid = "1"
snapshot0.filename = "vm-Snapshot1.vmsn"
snapshot0.displayName = "before |22update|22"
snapshot0.createTimeHigh = "370000"
snapshot0.createTimeLow = "-5"
snapshot0.type = "1"
snapshot0.numDisks = "1"
snapshot0.disk0.fileName = "vm.vmdk"
snapshot0.disk0.node = "scsi0:0"
snapshot1.uid = "5"
snapshot1.parent = "1"
snapshot1.displayName = "second"
snapshot1.numDisks = "1"
snapshot1.disk0.fileName = "vm-000001.vmdk"
snapshot1.disk0.node = "scsi0:0"
snapshot2.uid = "9"
snapshot2.displayName = "left over"
"#;

    #[test]
    fn a_list_with_two_snapshots_is_read_and_written() {
        let (vmsd, warnings) = Vmsd::parse(TWO.as_bytes());
        assert!(warnings.is_empty(), "{warnings:?}");
        assert_eq!(vmsd.current, Some(5));
        assert_eq!(vmsd.snapshots.len(), 2);
        let first = vmsd.get(1).unwrap();
        assert_eq!(first.name, "before \"update\"");
        assert_eq!(
            first.created_micros,
            Some((370_000_i64 << 32) + 4_294_967_291)
        );
        assert_eq!(first.other, [("type".to_owned(), "1".to_owned())]);
        assert_eq!(vmsd.get(5).unwrap().disks[0].file_name, "vm-000001.vmdk");
        assert_eq!(vmsd.other.len(), 1);
        let (again, _) = Vmsd::parse(&vmsd.to_bytes());
        assert_eq!(again, vmsd);
    }

    #[test]
    fn children_of_a_removed_snapshot_move_to_its_parent() {
        let mut vmsd = Vmsd::default();
        let named = |name: &str| Snapshot {
            name: name.to_owned(),
            ..Snapshot::default()
        };
        let a = vmsd.add(named("a"));
        let b = vmsd.add(named("b"));
        let c = vmsd.add(named("c"));
        vmsd.remove(b);
        assert_eq!(vmsd.get(c).unwrap().parent, Some(a));
        vmsd.remove(c);
        assert_eq!(vmsd.current, Some(a));
        assert_eq!(vmsd.add(named("d")), 4, "an id is never given twice");
        vmsd.remove(4);
        vmsd.remove(a);
        assert_eq!(vmsd.current, None);
    }

    #[test]
    fn snapshots_in_a_circle_are_listed_once() {
        let mut vmsd = Vmsd::default();
        for (uid, parent) in [(1, 2), (2, 1), (3, 3), (4, 7)] {
            vmsd.snapshots.push(Snapshot {
                uid,
                parent: Some(parent),
                ..Snapshot::default()
            });
        }
        let order: Vec<u64> = vmsd.parents_first().iter().map(|one| one.uid).collect();
        assert_eq!(order, [4, 1, 2, 3]);
    }

    #[test]
    fn a_list_of_more_snapshots_than_any_product_allows_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.vmsd");
        let write = |count: usize| {
            let mut text = format!("snapshot.numSnapshots = \"{count}\"\n");
            for number in 0..count {
                text += &format!("snapshot{number}.uid = \"{}\"\n", number + 1);
            }
            std::fs::write(&path, text).unwrap();
        };
        write(MAX_SNAPSHOTS);
        assert_eq!(Vmsd::load(&path).unwrap().0.snapshots.len(), MAX_SNAPSHOTS);
        write(MAX_SNAPSHOTS + 1);
        let error = Vmsd::load(&path).unwrap_err().to_string();
        assert!(
            error.contains("513 snapshots, and 512 are the most"),
            "{error}"
        );
    }

    /// A step for each snapshot: this many take hours if it is one for each pair.
    #[test]
    fn the_order_of_many_snapshots_is_found_in_linear_time() {
        const MANY: u64 = 1_000_000;
        let mut vmsd = Vmsd::default();
        for uid in (1..=MANY).rev() {
            vmsd.snapshots.push(Snapshot {
                uid,
                parent: Some(uid - 1),
                ..Snapshot::default()
            });
        }
        let order = vmsd.parents_first();
        assert!(order.iter().zip(1..=MANY).all(|(one, uid)| one.uid == uid));
    }

    #[test]
    fn a_missing_file_has_no_snapshots() {
        let dir = tempfile::tempdir().unwrap();
        let (vmsd, _) = Vmsd::load(&dir.path().join("none.vmsd")).unwrap();
        assert_eq!(vmsd, Vmsd::default());
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic_and_survives_writing(
            lines in prop::collection::vec("snapshot[0-9]{0,3}\\.(uid|parent|disk[0-9]\\.fileName|numDisks|x|numSnapshots|current|lastUID) = \"[0-9a-z]{0,3}\"", 0..30)
        ) {
            let (vmsd, _) = Vmsd::parse(lines.join("\n").as_bytes());
            prop_assert_eq!(vmsd.parents_first().len(), vmsd.snapshots.len());
            let (again, warnings) = Vmsd::parse(&vmsd.to_bytes());
            prop_assert_eq!(again, vmsd, "{:?}", warnings);
        }
    }
}
