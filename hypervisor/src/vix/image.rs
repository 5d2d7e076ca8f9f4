//! A guest at one instant as a set of files that open beside each other: the frozen disks with the
//! whole tree of foreign snapshots, and a configuration that names them.

use std::collections::HashMap;

use virtuozo_disk::{
    BlockSource, FileId, OpenFile, RawFile,
    vmware::{
        host_path, lock,
        vmsd::{Snapshot, Vmsd},
        vmx::VmxDisk,
    },
};

use super::{
    inspect::{GuestFiles, is_same, memory_file},
    links::{Links, Names},
};
use crate::{
    DiskChanges, ErrorClass, ErrorKind, GuestImage, HypervisorError, ImageFile, ImageFormat,
    Instant, Result, SmallFile, snapshot_name,
};

/// Firmware memory is some kilobytes; a file that large is something else.
const MAX_SMALL_BYTES: u64 = 16 << 20;
/// Why no disk's changes are known.
const CHANGES_UNKNOWN: &str = "the VIX library does not follow what changes on a disk";

/// Opens the guest's files as they were at `at`, without the devices in `ignored_disks`. Blocks.
pub(super) fn image(
    files: GuestFiles,
    at: &Instant,
    ignored_disks: &[String],
) -> Result<GuestImage> {
    let ignored = |device: &str| ignored_disks.iter().any(|ignored| is_same(ignored, device));
    let mut builder = Builder::new(files);
    let ours = match at {
        Instant::Frozen(name) => Some(builder.our_snapshot(name)?),
        Instant::PoweredOff => None,
    };
    builder.disks(ours.as_ref(), &ignored)?;
    let vmsd = builder.foreign(ours.as_ref(), &ignored)?;
    builder.suspended(at)?;
    builder.finish(vmsd)
}

struct Builder {
    files: GuestFiles,
    names: Names,
    vmx_name: String,
    vmsd_name: String,
    links: Links,
    /// State and memory files.
    states: Vec<ImageFile>,
    /// The file of one of them → its name here: many snapshots may name one.
    state_names: HashMap<FileId, String>,
}

impl Builder {
    fn new(files: GuestFiles) -> Self {
        let mut names = Names::default();
        let vmx_name = names.take(&format!("{}.vmx", files.stem()));
        let vmsd_name = names.take(&format!("{}.vmsd", files.stem()));
        Self {
            files,
            names,
            vmx_name,
            vmsd_name,
            links: Links::default(),
            states: Vec::new(),
            state_names: HashMap::new(),
        }
    }

    fn our_snapshot(&self, name: &str) -> Result<Snapshot> {
        let mut found = self.files.vmsd.named(name);
        match (found.next(), found.next()) {
            (Some(snapshot), None) => Ok(snapshot.clone()),
            (None, _) => Err(HypervisorError::new(
                ErrorKind::SnapshotNotFound,
                ErrorClass::Permanent,
                format!(
                    "{} has no snapshot {name}",
                    self.files.path().with_extension("vmsd").display()
                ),
            )),
            (Some(_), Some(_)) => Err(self
                .files
                .invalid(format_args!("there are two snapshots {name}"))),
        }
    }

    /// Takes in the chains of the guest's own disks and lets the configuration name them.
    fn disks(&mut self, ours: Option<&Snapshot>, ignored: &impl Fn(&str) -> bool) -> Result<()> {
        let mut any = false;
        for disk in self.files.vmx.disks() {
            let device = disk.device.to_string();
            if ignored(&device) {
                self.files.vmx.set_absent(disk.device);
                continue;
            }
            let file_name = match ours {
                Some(snapshot) => self.frozen(snapshot, &disk)?,
                None => {
                    self.files.redo_log(&disk)?;
                    self.check_unused(&disk.file_name)?;
                    disk.file_name.clone()
                }
            };
            let name = self.add_chain(&file_name, &device)?;
            self.files.vmx.set_disk_file(disk.device, &name);
            any = true;
        }
        if any {
            Ok(())
        } else {
            Err(self
                .files
                .invalid("the guest has no disk that is not ignored; ignore the guest instead"))
        }
    }

    /// The file that our snapshot froze of a disk.
    fn frozen(&self, snapshot: &Snapshot, disk: &VmxDisk) -> Result<String> {
        let device = disk.device.to_string();
        let frozen = snapshot
            .disks
            .iter()
            .find(|frozen| is_same(&frozen.node, &device))
            .ok_or_else(|| {
                self.files.invalid(format_args!(
                    "the disk {device} takes no part in snapshots (mode {}); ignore it or back the \
                     guest up cold",
                    disk.mode
                ))
            })?;
        let paths = &self.files.paths;
        let is_current = paths.open_disk(&frozen.file_name)?.place().id()
            == paths.open_disk(&disk.file_name)?.place().id();
        if is_current {
            return Err(self.files.invalid(format_args!(
                "the disk {device} still writes to {}, which the snapshot {} should have frozen",
                disk.file_name, snapshot.name
            )));
        }
        Ok(frozen.file_name.clone())
    }

    /// Refuses a disk that some program still has open for writing.
    fn check_unused(&self, file_name: &str) -> Result<()> {
        let paths = &self.files.paths;
        let opened = paths.open_disk(file_name)?;
        let path = opened.path();
        let holder = lock::in_use(&paths.roots, path);
        match holder.map_err(|error| paths.locations.explain(error))? {
            None => Ok(()),
            Some(holder) => Err(HypervisorError::new(
                ErrorKind::PowerState,
                ErrorClass::Retry,
                format!(
                    "{} is in use by {}. If no program uses it, the lock is left over from a crash \
                     of another machine: remove {}",
                    path.display(),
                    holder.program,
                    lock::directory(path).display()
                ),
            )),
        }
    }

    fn add_chain(&mut self, file_name: &str, device: &str) -> Result<String> {
        let paths = &self.files.paths;
        let chain = paths.chain(file_name)?;
        self.links
            .add(&chain, device, &mut self.names)
            .map_err(|error| paths.locations.explain(error))
    }

    /// Takes in the chains and state files of foreign snapshots. Returns the list of snapshots
    /// without ours; none if nothing is left of it.
    fn foreign(
        &mut self,
        ours: Option<&Snapshot>,
        ignored: &impl Fn(&str) -> bool,
    ) -> Result<Option<Vmsd>> {
        let mut vmsd = self.files.vmsd.clone();
        if let Some(ours) = ours {
            // What was taken on top of ours is later than this instant.
            vmsd.current = Some(ours.uid);
        }
        let to_remove: Vec<u64> = vmsd
            .snapshots
            .iter()
            .filter(|snapshot| {
                snapshot_name::is_ours(&snapshot.name)
                    || ours.is_some_and(|ours| ours.uid == snapshot.uid)
            })
            .map(|snapshot| snapshot.uid)
            .collect();
        for uid in to_remove {
            vmsd.remove(uid);
        }
        if vmsd.snapshots.is_empty() {
            return Ok(None);
        }
        for snapshot in &mut vmsd.snapshots {
            snapshot.disks.retain(|disk| !ignored(&disk.node));
            for disk in &mut snapshot.disks {
                disk.file_name = self.add_chain(&disk.file_name, &disk.node)?;
            }
            if let Some(state) = &snapshot.state_file {
                snapshot.state_file = self.add_state(state)?;
            }
        }
        Ok(Some(vmsd))
    }

    /// The state file of a suspended guest, or none for any other.
    fn suspended(&mut self, at: &Instant) -> Result<()> {
        let Some(state) = self.files.vmx.suspend_state().map(str::to_owned) else {
            return Ok(());
        };
        let name = match at {
            Instant::PoweredOff => self.add_state(&state)?,
            Instant::Frozen(_) => None,
        };
        let dictionary = &mut self.files.vmx.dictionary;
        dictionary.set("checkpoint.vmState", name.as_deref().unwrap_or_default());
        Ok(())
    }

    /// Takes in a state file, and the memory file beside it. One that is missing on the host is
    /// missing in the image.
    fn add_state(&mut self, state: &str) -> Result<Option<String>> {
        let Some(opened) = self.files.paths.open_named(state)? else {
            tracing::warn!(
                path = %self.files.path().display(),
                state,
                "a state file is missing on the host"
            );
            return Ok(None);
        };
        let memory = self.files.paths.open_named(&memory_file(state))?;
        let name = self.add_raw(opened, host_path::base_name(state));
        if let Some(memory) = memory {
            self.add_raw(memory, &format!("{}.vmem", host_path::stem(&name)));
        }
        Ok(Some(name))
    }

    /// Takes in a file once. Returns its name here.
    fn add_raw(&mut self, opened: OpenFile, wanted: &str) -> String {
        let id = opened.place().id();
        if let Some(known) = self.state_names.get(&id) {
            return known.clone();
        }
        let name = self.names.take(wanted);
        self.state_names.insert(id, name.clone());
        let datastore = self.files.paths.locations.datastore_here(opened.path());
        let source: Box<dyn BlockSource> = Box::new(RawFile::from(opened));
        self.states.push(ImageFile {
            name: name.clone(),
            device: None,
            datastore,
            format: ImageFormat::Raw,
            source,
        });
        name
    }

    fn finish(mut self, vmsd: Option<Vmsd>) -> Result<GuestImage> {
        let mut small = Vec::new();
        if let Some(nvram) = self.files.vmx.nvram().map(str::to_owned)
            && let Some(bytes) = self.read_small(&nvram)?
        {
            let name = self.names.take(host_path::base_name(&nvram));
            self.files.vmx.dictionary.set("nvram", &name);
            small.push(SmallFile { name, bytes });
        }
        let foreign_snapshots = vmsd
            .iter()
            .flat_map(Vmsd::parents_first)
            .map(|snapshot| snapshot.name.clone())
            .collect();
        if let Some(vmsd) = vmsd {
            small.push(SmallFile {
                name: self.vmsd_name,
                bytes: vmsd.to_bytes(),
            });
        }
        // All files lie in one directory now.
        let dictionary = &mut self.files.vmx.dictionary;
        dictionary.remove("workingDir");
        dictionary.remove("snapshot.redoNotWithParent");
        small.insert(
            0,
            SmallFile {
                name: self.vmx_name,
                bytes: dictionary.to_bytes(),
            },
        );
        let locations = &self.files.paths.locations;
        let mut files = self.links.into_files(|path| locations.datastore_here(path));
        files.extend(self.states);
        let devices = files
            .iter()
            .filter_map(|file: &ImageFile| file.device.clone());
        let changes = devices
            .map(|device| (device, DiskChanges::unknown(CHANGES_UNKNOWN)))
            .collect();
        Ok(GuestImage {
            small,
            files,
            foreign_snapshots,
            changes,
        })
    }

    /// Reads a small file whole; none if it is missing.
    fn read_small(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let paths = &self.files.paths;
        let Some(opened) = paths.open_named(name)? else {
            return Ok(None);
        };
        let bytes = opened
            .read_all(MAX_SMALL_BYTES)
            .map_err(|error| paths.locations.explain(error))?;
        bytes.map(Some).ok_or_else(|| {
            self.files.invalid(format_args!(
                "{} is larger than {MAX_SMALL_BYTES} bytes; it is no firmware memory",
                opened.path().display()
            ))
        })
    }
}

#[cfg(test)]
mod tests;
