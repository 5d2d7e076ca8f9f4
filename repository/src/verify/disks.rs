//! The disks of a restore point: that it has some, that its configuration names no others, and that each chain opens.

use std::collections::HashSet;

use virtuozo_disk::{BlockSource, vmdk::Chain, vmware::vmx::Vmx};

use super::VerifyReport;
use crate::{FileEntry, Manifest, StoredFormat, names::MANIFEST_NAME, stored::PointFiles};

/// A larger file is no configuration.
const CONFIGURATION_LIMIT_BYTES: u64 = 16 * 1024 * 1024;

impl VerifyReport {
    /// Reports what is wrong with the disks as such; their bytes are checked by chunks.
    pub(super) fn check_disks(&mut self, stored: &PointFiles, manifest: &Manifest) {
        self.check_chains(stored, manifest);
        self.check_configuration(stored, manifest);
    }

    /// A guest that is backed up has a disk, and its configuration names no disk that the point lacks.
    fn check_configuration(&mut self, stored: &PointFiles, manifest: &Manifest) {
        let has_disk = |file: &FileEntry| file.format == StoredFormat::Vmdk;
        if !manifest.files.iter().any(has_disk) {
            self.problem(MANIFEST_NAME, None, "lists no disk");
        }
        let is_configuration = |file: &&FileEntry| file.name.to_lowercase().ends_with(".vmx");
        for entry in manifest.files.iter().filter(is_configuration) {
            // What cannot be read was reported with the chunks.
            let Ok(Some(bytes)) = stored
                .open(&entry.name)
                .and_then(|file| file.read_all(CONFIGURATION_LIMIT_BYTES))
            else {
                continue;
            };
            let (vmx, _) = Vmx::parse(&bytes);
            for disk in vmx.disks() {
                if !manifest
                    .files
                    .iter()
                    .any(|file| file.name == disk.file_name)
                {
                    let what = format!(
                        "names the disk {}, which is not in the manifest",
                        disk.file_name
                    );
                    self.problem(&entry.name, None, what);
                }
            }
        }
    }

    /// Each chain is opened at its newest link, so every link is opened.
    fn check_chains(&mut self, stored: &PointFiles, manifest: &Manifest) {
        let parents: HashSet<&str> = manifest
            .files
            .iter()
            .filter_map(|file| file.parent.as_deref())
            .collect();
        let disks = manifest
            .files
            .iter()
            .filter(|file| file.format == StoredFormat::Vmdk);
        for entry in disks.filter(|file| !parents.contains(file.name.as_str())) {
            match stored.chain(&entry.name) {
                Ok(chain) => self.check_links(&chain, entry, manifest),
                Err(error) => self.problem(
                    &entry.name,
                    None,
                    format!("does not open as a disk: {error}"),
                ),
            }
        }
    }

    fn check_links(&mut self, chain: &Chain, newest: &FileEntry, manifest: &Manifest) {
        if chain.size_bytes() != newest.capacity_bytes {
            self.problem(
                &newest.name,
                None,
                format!(
                    "is a disk of {} bytes instead of {}",
                    chain.size_bytes(),
                    newest.capacity_bytes
                ),
            );
        }
        let mut expected = Some(newest);
        for layer in chain.layers() {
            let found = layer.path().file_name().and_then(|name| name.to_str());
            if found != expected.map(|file| file.name.as_str()) {
                self.problem(
                    &newest.name,
                    None,
                    format!(
                        "has {} in its chain, unlike the manifest",
                        layer.path().display()
                    ),
                );
                return;
            }
            let parent = expected.and_then(|file| file.parent.as_deref());
            expected = parent.and_then(|name| manifest.files.iter().find(|file| file.name == name));
        }
        if let Some(missing) = expected {
            self.problem(
                &newest.name,
                None,
                format!(
                    "does not have {} in its chain, unlike the manifest",
                    missing.name
                ),
            );
        }
    }
}
