//! Images of guests made by hand, without a host.

use std::{fs, path::PathBuf};

use proptest::prelude::*;
use uuid::Uuid;
use virtuozo_disk::{
    vmdk::{CreateOptions, DiskKind, WritableDisk, create, create_delta},
    vmware::{
        lock::{LockKind, acquire},
        vmsd::FrozenDisk,
        vmx::Vmx,
    },
};

use super::*;
use crate::{
    DiskProperties, Geometry, GuestRef, Locator,
    conformance::{Merged, an_image_is_well_made},
    vix::locations::Locations,
};

const SECTOR: usize = 512;

/// A guest's folder with what the tests put into it.
struct Folder {
    dir: tempfile::TempDir,
    vmx: Vmx,
    vmsd: Vmsd,
}

impl Folder {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            vmx: Vmx::parse(
                b".encoding = \"UTF-8\"\nconfig.version = \"8\"\nscsi0.present = \"TRUE\"\n",
            )
            .0,
            vmsd: Vmsd::default(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn base(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        let options = CreateOptions {
            kind: DiskKind::MonolithicSparse,
            capacity_bytes: 1 << 20,
            adapter_type: "buslogic".into(),
            hardware_version: 7,
            content_id: 0x1234_5678,
            max_extent_sectors: None,
        };
        create(&path, &options).unwrap();
        path
    }

    fn delta(&self, name: &str, parent: &str) {
        create_delta(self.path(name), self.path(parent)).unwrap();
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn plug(&mut self, device: &str, file_name: &str) {
        self.vmx
            .dictionary
            .set(&format!("{device}.present"), "TRUE");
        self.vmx.set_disk_file(device.parse().unwrap(), file_name);
    }

    /// A snapshot on top of the current one, with these disks.
    fn snapshot(&mut self, name: &str, disks: &[(&str, &str)]) -> u64 {
        let uid = self.vmsd.last_uid + 1;
        self.write(&format!("vm-Snapshot{uid}.vmsn"), name);
        self.vmsd.add(Snapshot {
            name: name.into(),
            state_file: Some(format!("vm-Snapshot{uid}.vmsn")),
            disks: disks
                .iter()
                .map(|(node, file_name)| FrozenDisk {
                    node: (*node).to_owned(),
                    file_name: (*file_name).to_owned(),
                })
                .collect(),
            ..Snapshot::default()
        })
    }

    fn files(&self) -> GuestFiles {
        fs::write(self.path("vm.vmx"), self.vmx.dictionary.to_bytes()).unwrap();
        fs::write(self.path("vm.vmsd"), self.vmsd.to_bytes()).unwrap();
        let path = self.path("vm.vmx").to_str().unwrap().to_owned();
        let guest = GuestRef::at(Locator::new(path).unwrap());
        GuestFiles::load(Locations::default(), &guest).unwrap()
    }

    fn image(&self, at: &Instant) -> Result<GuestImage> {
        image(self.files(), at, &[])
    }
}

/// Names with parents, in order.
fn links(image: &GuestImage) -> Vec<(&str, Option<&str>)> {
    let parent = |file: &ImageFormat| match file {
        ImageFormat::Raw => None,
        ImageFormat::Disk { parent, .. } => parent.clone(),
    };
    image
        .files
        .iter()
        .map(|file| {
            let parent = parent(&file.format).map(|name| {
                let found = image.files.iter().find(|other| other.name == name);
                found.expect("the parent is in the image").name.as_str()
            });
            (file.name.as_str(), parent)
        })
        .collect()
}

fn small<'a>(image: &'a GuestImage, name: &str) -> Option<&'a [u8]> {
    let file = image.small.iter().find(|file| file.name == name)?;
    Some(&file.bytes)
}

fn ours() -> String {
    snapshot_name::make(Uuid::from_u128(7), 3)
}

#[test]
fn under_our_snapshot_alone_the_image_is_a_plain_guest() {
    let mut folder = Folder::new();
    folder.base("vm.vmdk");
    folder.delta("vm-000001.vmdk", "vm.vmdk");
    folder.plug("scsi0:0", "vm-000001.vmdk");
    folder.vmx.dictionary.set("nvram", "firmware/vm.nvram");
    folder.write("firmware/vm.nvram", "boot order");
    folder.snapshot(&ours(), &[("scsi0:0", "vm.vmdk")]);

    let image = folder.image(&Instant::Frozen(ours())).unwrap();
    assert_eq!(links(&image), [("vm.vmdk", None)]);
    assert_eq!(
        image.files[0].format,
        ImageFormat::Disk {
            parent: None,
            properties: DiskProperties {
                adapter: Some("buslogic".into()),
                geometry: Some(Geometry {
                    cylinders: 1,
                    heads: 255,
                    sectors: 63,
                }),
                uuid: None,
                back_end: [("virtualHWVersion".to_owned(), "7".to_owned())].into(),
            },
        }
    );
    assert!(image.foreign_snapshots.is_empty());
    assert_eq!(small(&image, "vm.vmsd"), None);
    assert_eq!(small(&image, "vm.nvram"), Some(&b"boot order"[..]));
    let (vmx, warnings) = Vmx::parse(small(&image, "vm.vmx").unwrap());
    assert!(warnings.is_empty());
    assert_eq!(vmx.disks()[0].file_name, "vm.vmdk");
    assert_eq!(vmx.nvram(), Some("vm.nvram"));
}

#[test]
fn foreign_snapshots_stay_with_their_whole_tree() {
    let mut folder = Folder::new();
    // first ─┬─ second ── ours ── now
    //        └─ branch
    folder.base("vm.vmdk");
    folder.delta("vm-000001.vmdk", "vm.vmdk");
    folder.delta("vm-000002.vmdk", "vm.vmdk");
    folder.delta("vm-000003.vmdk", "vm-000002.vmdk");
    folder.delta("vm-000004.vmdk", "vm-000003.vmdk");
    folder.plug("scsi0:0", "vm-000004.vmdk");
    let first = folder.snapshot("first", &[("scsi0:0", "vm.vmdk")]);
    folder.snapshot("branch", &[("scsi0:0", "vm-000001.vmdk")]);
    folder.vmsd.current = Some(first);
    let second = folder.snapshot("second", &[("scsi0:0", "vm-000002.vmdk")]);
    folder.snapshot(&ours(), &[("scsi0:0", "vm-000003.vmdk")]);
    folder.write("vm-Snapshot1.vmem", "memory");

    let image = folder.image(&Instant::Frozen(ours())).unwrap();
    assert_eq!(
        links(&image),
        [
            ("vm.vmdk", None),
            ("vm-000002.vmdk", Some("vm.vmdk")),
            ("vm-000003.vmdk", Some("vm-000002.vmdk")),
            ("vm-000001.vmdk", Some("vm.vmdk")),
            ("vm-Snapshot1.vmsn", None),
            ("vm-Snapshot1.vmem", None),
            ("vm-Snapshot2.vmsn", None),
            ("vm-Snapshot3.vmsn", None),
        ]
    );
    assert_eq!(image.foreign_snapshots, ["first", "branch", "second"]);
    let (vmsd, _) = Vmsd::parse(small(&image, "vm.vmsd").unwrap());
    assert_eq!(vmsd.current, Some(second));
    assert_eq!(vmsd.snapshots.len(), 3);
    assert_eq!(vmsd.get(second).unwrap().parent, Some(first));
    let (vmx, _) = Vmx::parse(small(&image, "vm.vmx").unwrap());
    assert_eq!(vmx.disks()[0].file_name, "vm-000003.vmdk");
}

#[test]
fn a_snapshot_taken_on_top_of_ours_is_not_the_current_one_of_the_image() {
    let mut folder = Folder::new();
    folder.base("vm.vmdk");
    folder.delta("vm-000001.vmdk", "vm.vmdk");
    folder.delta("vm-000002.vmdk", "vm-000001.vmdk");
    folder.plug("scsi0:0", "vm-000002.vmdk");
    folder.snapshot(&ours(), &[("scsi0:0", "vm.vmdk")]);
    folder.snapshot("theirs", &[("scsi0:0", "vm-000001.vmdk")]);

    let image = folder.image(&Instant::Frozen(ours())).unwrap();
    let (vmsd, _) = Vmsd::parse(small(&image, "vm.vmsd").unwrap());
    assert_eq!(vmsd.current, None);
    assert_eq!(vmsd.snapshots[0].parent, None);
    let (vmx, _) = Vmx::parse(small(&image, "vm.vmx").unwrap());
    assert_eq!(vmx.disks()[0].file_name, "vm.vmdk");
}

#[test]
fn a_snapshot_of_ours_that_was_left_behind_is_not_in_a_cold_image() {
    let mut folder = Folder::new();
    folder.base("vm.vmdk");
    folder.delta("vm-000001.vmdk", "vm.vmdk");
    folder.plug("scsi0:0", "vm-000001.vmdk");
    folder.snapshot(&ours(), &[("scsi0:0", "vm.vmdk")]);
    let image = folder.image(&Instant::PoweredOff).unwrap();
    assert_eq!(
        links(&image),
        [("vm.vmdk", None), ("vm-000001.vmdk", Some("vm.vmdk"))]
    );
    assert_eq!(small(&image, "vm.vmsd"), None);
}

#[test]
fn files_of_one_name_from_two_directories_get_names_of_their_own() {
    let mut folder = Folder::new();
    folder.base("disk.vmdk");
    folder.base("other/disk.vmdk");
    folder.delta("other/disk-000001.vmdk", "other/disk.vmdk");
    folder.plug("scsi0:0", "disk.vmdk");
    folder.plug("scsi0:1", r"other\disk-000001.vmdk");
    folder.plug(
        "ide0:0",
        folder
            .base("Disk.vmdk")
            .to_str()
            .unwrap()
            .to_owned()
            .as_str(),
    );

    let image = folder.image(&Instant::PoweredOff).unwrap();
    assert_eq!(
        links(&image),
        [
            ("Disk.vmdk", None),
            ("disk-2.vmdk", None),
            ("disk-3.vmdk", None),
            ("disk-000001.vmdk", Some("disk-3.vmdk")),
        ]
    );
    let (vmx, _) = Vmx::parse(small(&image, "vm.vmx").unwrap());
    let names: Vec<_> = vmx.disks().into_iter().map(|disk| disk.file_name).collect();
    assert_eq!(names, ["Disk.vmdk", "disk-2.vmdk", "disk-000001.vmdk"]);
}

#[test]
fn deltas_in_a_working_directory_are_found_and_brought_together() {
    let mut folder = Folder::new();
    folder.base("vm.vmdk");
    folder.delta("work/vm-000001.vmdk", "vm.vmdk");
    folder.vmx.dictionary.set("workingDir", "work");
    folder.plug("scsi0:0", "vm-000001.vmdk");
    let image = folder.image(&Instant::PoweredOff).unwrap();
    assert_eq!(
        links(&image),
        [("vm.vmdk", None), ("vm-000001.vmdk", Some("vm.vmdk"))]
    );
    let (vmx, _) = Vmx::parse(small(&image, "vm.vmx").unwrap());
    assert_eq!(vmx.working_dir(), None);
}

#[test]
fn a_suspended_guest_keeps_its_state_and_memory() {
    let mut folder = Folder::new();
    folder.base("vm.vmdk");
    folder.plug("scsi0:0", "vm.vmdk");
    folder
        .vmx
        .dictionary
        .set("checkpoint.vmState", "vm-0a1b2c3d.vmss");
    folder.write("vm-0a1b2c3d.vmss", "state");
    folder.write("vm-0a1b2c3d.vmem", "memory");
    let image = folder.image(&Instant::PoweredOff).unwrap();
    assert_eq!(
        links(&image),
        [
            ("vm.vmdk", None),
            ("vm-0a1b2c3d.vmss", None),
            ("vm-0a1b2c3d.vmem", None)
        ]
    );
    let mut memory = [0; 6];
    image.files[2].source.read_at(0, &mut memory).unwrap();
    assert_eq!(&memory, b"memory");
    let (vmx, _) = Vmx::parse(small(&image, "vm.vmx").unwrap());
    assert_eq!(vmx.suspend_state(), Some("vm-0a1b2c3d.vmss"));
}

#[test]
fn an_ignored_disk_is_left_out_everywhere() {
    let mut folder = Folder::new();
    folder.base("vm.vmdk");
    folder.delta("vm-000001.vmdk", "vm.vmdk");
    folder.plug("scsi0:0", "vm-000001.vmdk");
    folder.plug("scsi0:1", "gone.vmdk");
    folder.snapshot(
        "theirs",
        &[("scsi0:0", "vm.vmdk"), ("scsi0:1", "gone.vmdk")],
    );
    assert!(folder.image(&Instant::PoweredOff).is_err());
    let image = image(folder.files(), &Instant::PoweredOff, &["SCSI0:1".into()]).unwrap();
    let (vmx, _) = Vmx::parse(small(&image, "vm.vmx").unwrap());
    assert_eq!(vmx.disks().len(), 1);
    assert_eq!(vmx.dictionary.get_bool("scsi0:1.present"), Some(false));
    let (vmsd, _) = Vmsd::parse(small(&image, "vm.vmsd").unwrap());
    assert_eq!(vmsd.snapshots[0].disks.len(), 1);
}

#[test]
fn a_disk_that_our_snapshot_does_not_freeze_is_refused() {
    let mut folder = Folder::new();
    folder.base("vm.vmdk");
    folder.base("data.vmdk");
    folder.plug("scsi0:0", "vm.vmdk");
    folder.plug("scsi0:1", "data.vmdk");
    folder
        .vmx
        .dictionary
        .set("scsi0:1.mode", "independent-persistent");
    folder.snapshot(&ours(), &[("scsi0:0", "vm.vmdk")]);
    let error = folder.image(&Instant::Frozen(ours())).err().unwrap();
    assert!(error.message.contains("scsi0:0 still writes"), "{error}");
    folder.delta("vm-000001.vmdk", "vm.vmdk");
    folder.plug("scsi0:0", "vm-000001.vmdk");
    let error = folder.image(&Instant::Frozen(ours())).err().unwrap();
    assert!(error.message.contains("independent-persistent"), "{error}");
    let error = folder
        .image(&Instant::Frozen("virtuozo-other".into()))
        .err()
        .unwrap();
    assert_eq!(error.kind, ErrorKind::SnapshotNotFound);
}

#[test]
fn a_disk_in_use_has_no_cold_image() {
    let mut folder = Folder::new();
    let disk = folder.base("vm.vmdk");
    folder.plug("scsi0:0", "vm.vmdk");
    let held = acquire(&disk, LockKind::Exclusive, "vmware-vmx").unwrap();
    let error = folder.image(&Instant::PoweredOff).err().unwrap();
    assert_eq!(error.kind, ErrorKind::PowerState);
    assert!(error.message.contains("vmware-vmx"), "{error}");
    drop(held);
    assert!(folder.image(&Instant::PoweredOff).is_ok());
}

#[test]
fn a_huge_nvram_is_refused_and_a_missing_one_left_out() {
    let mut folder = Folder::new();
    folder.base("vm.vmdk");
    folder.plug("scsi0:0", "vm.vmdk");
    folder.vmx.dictionary.set("nvram", "vm.nvram");
    let image = folder.image(&Instant::PoweredOff).unwrap();
    assert_eq!(image.small.len(), 1);
    let file = fs::File::create(folder.path("vm.nvram")).unwrap();
    file.set_len(MAX_SMALL_BYTES + 1).unwrap();
    assert!(folder.image(&Instant::PoweredOff).is_err());
}

#[test]
fn a_link_is_read_alone_without_its_parents_bytes() {
    let mut folder = Folder::new();
    let base = folder.base("vm.vmdk");
    let mut disk = WritableDisk::open(&base).unwrap();
    disk.write_at(0, &[1; SECTOR]).unwrap();
    disk.sync().unwrap();
    drop(disk);
    folder.delta("vm-000001.vmdk", "vm.vmdk");
    folder.plug("scsi0:0", "vm-000001.vmdk");
    let image = folder.image(&Instant::PoweredOff).unwrap();
    let kind = |at: usize| image.files[at].source.range_at(0).unwrap().kind;
    assert_eq!(kind(0), virtuozo_disk::RangeKind::Data);
    assert_eq!(kind(1), virtuozo_disk::RangeKind::Absent);
}

/// What happens to a guest's snapshots.
#[derive(Debug, Clone, Copy)]
enum Act {
    TakeTheirs,
    TakeOurs,
    /// Revert to one of the snapshots, by its number modulo how many there are.
    Revert(usize),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => Just(Act::TakeTheirs),
        1 => Just(Act::TakeOurs),
        2 => (0..16_usize).prop_map(Act::Revert),
    ]
}

/// The number in each of the first sectors of a disk.
fn marks(disk: &dyn BlockSource) -> Vec<u8> {
    (0..16)
        .map(|sector| {
            let mut bytes = [0; SECTOR];
            disk.read_at(sector * SECTOR as u64, &mut bytes).unwrap();
            bytes[0]
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_tree_of_snapshots_is_in_the_image_as_it_was(acts in prop::collection::vec(act(), 0..10)) {
        let mut folder = Folder::new();
        folder.base("vm.vmdk");
        folder.plug("scsi0:0", "vm.vmdk");
        let mut current = "vm.vmdk".to_owned();
        let mut shows = vec![0_u8; 16];
        // For each snapshot: its file, and what it shows.
        let mut frozen: Vec<(String, Vec<u8>)> = Vec::new();
        for (number, act) in acts.into_iter().enumerate() {
            let on = match act {
                Act::TakeTheirs | Act::TakeOurs => {
                    let name = match act {
                        Act::TakeOurs => snapshot_name::make(Uuid::from_u128(number as u128), 1),
                        _ => format!("theirs {number}"),
                    };
                    folder.snapshot(&name, &[("scsi0:0", &current)]);
                    frozen.push((current.clone(), shows.clone()));
                    frozen.len() - 1
                }
                Act::Revert(_) if frozen.is_empty() => continue,
                Act::Revert(to) => to % frozen.len(),
            };
            let (parent, then) = frozen[on].clone();
            folder.vmsd.current = Some(on as u64 + 1);
            current = format!("vm-{:06}.vmdk", number + 1);
            folder.delta(&current, &parent);
            shows = then;
            shows[number] = number as u8 + 1;
            let mut disk = WritableDisk::open(folder.path(&current)).unwrap();
            disk.write_at((number * SECTOR) as u64, &[shows[number]; SECTOR]).unwrap();
            disk.sync().unwrap();
        }
        folder.plug("scsi0:0", &current);

        let image = folder.image(&Instant::PoweredOff).unwrap();
        an_image_is_well_made(&image).unwrap();
        let (vmx, _) = Vmx::parse(small(&image, "vm.vmx").unwrap());
        let now = Merged::of(&image, &vmx.disks()[0].file_name).unwrap();
        prop_assert_eq!(marks(&now), shows);
        let vmsd = small(&image, "vm.vmsd").map(|bytes| Vmsd::parse(bytes).0).unwrap_or_default();
        let theirs = folder.vmsd.snapshots.iter().filter(|one| !snapshot_name::is_ours(&one.name));
        prop_assert_eq!(vmsd.snapshots.len(), theirs.clone().count());
        for snapshot in theirs {
            let kept = vmsd.get(snapshot.uid).unwrap();
            let then = Merged::of(&image, &kept.disks[0].file_name).unwrap();
            prop_assert_eq!(marks(&then), frozen[snapshot.uid as usize - 1].1.clone());
        }
        // The current one is the nearest that is not ours.
        let mut expected = folder.vmsd.current;
        while let Some(uid) = expected && snapshot_name::is_ours(&folder.vmsd.get(uid).unwrap().name) {
            expected = folder.vmsd.get(uid).unwrap().parent;
        }
        prop_assert_eq!(vmsd.current, expected);
    }
}
