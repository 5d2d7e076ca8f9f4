//! A guest's configuration, `.vmx`: a typed view over its dictionary.

use std::{fmt, path::Path, str::FromStr};

use super::{Dictionary, Warning};
use crate::{DiskError, OpenFile};

/// The most disks of a guest: more than all controllers of any product take.
pub const MAX_DISKS: usize = 1024;

/// The buses that carry disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bus {
    /// `ide`
    Ide,
    /// `scsi`
    Scsi,
    /// `sata`
    Sata,
    /// `nvme`
    Nvme,
}

impl Bus {
    fn name(self) -> &'static str {
        match self {
            Self::Ide => "ide",
            Self::Scsi => "scsi",
            Self::Sata => "sata",
            Self::Nvme => "nvme",
        }
    }
}

/// The place of a disk in a guest: bus, controller and unit, written `scsi0:1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Device {
    /// The bus.
    pub bus: Bus,
    /// Number of the controller.
    pub controller: u16,
    /// Number on the controller.
    pub unit: u16,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}:{}", self.bus.name(), self.controller, self.unit)
    }
}

/// A text is not the name of a device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a device; write it as bus, controller, colon and unit, for example scsi0:0")]
pub struct NotADevice(String);

impl FromStr for Device {
    type Err = NotADevice;

    fn from_str(text: &str) -> Result<Self, NotADevice> {
        let wrong = || NotADevice(text.to_owned());
        let lower = text.to_ascii_lowercase();
        let (bus, numbers) = [Bus::Ide, Bus::Scsi, Bus::Sata, Bus::Nvme]
            .into_iter()
            .find_map(|bus| Some((bus, lower.strip_prefix(bus.name())?)))
            .ok_or_else(wrong)?;
        let number = |text: &str| {
            text.bytes()
                .all(|byte| byte.is_ascii_digit())
                .then(|| text.parse::<u16>().ok())
                .flatten()
                .ok_or_else(wrong)
        };
        let (controller, unit) = numbers.split_once(':').ok_or_else(wrong)?;
        Ok(Self {
            bus,
            controller: number(controller)?,
            unit: number(unit)?,
        })
    }
}

/// A disk as the configuration names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmxDisk {
    /// Where it is plugged in.
    pub device: Device,
    /// The file, as it stands there: relative to the `.vmx`, or a path of the host. With snapshots
    /// the newest delta.
    pub file_name: String,
    /// `mode`, lower case; `persistent` where it is not set.
    pub mode: String,
    /// The redo log that it names: what was written since the guest was powered on, where that is not kept in the file.
    pub redo_log: Option<String>,
}

impl VmxDisk {
    /// What was written to the disk may lie in a redo log that outlives the guest's power-off. That of a
    /// nonpersistent disk is thrown away then.
    pub fn keeps_redo_log(&self) -> bool {
        !self.mode.ends_with("nonpersistent")
            && (self.redo_log.is_some() || matches!(self.mode.as_str(), "undoable" | "append"))
    }

    /// The disk takes no part in snapshots.
    pub fn is_independent(&self) -> bool {
        self.mode.starts_with("independent")
    }
}

/// How much of a guest is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encryption {
    /// Everything; the configuration names no disks.
    Full,
    /// Firmware and state files only (a guest with a virtual TPM); the disks are plain.
    Partial,
}

/// A guest's configuration.
#[derive(Debug, Clone, Default)]
pub struct Vmx {
    /// The dictionary behind it.
    pub dictionary: Dictionary,
}

impl Vmx {
    /// Reads the bytes of a `.vmx`.
    pub fn parse(bytes: &[u8]) -> (Self, Vec<Warning>) {
        let (dictionary, warnings) = Dictionary::parse(bytes);
        (Self { dictionary }, warnings)
    }

    /// Reads a `.vmx` file.
    ///
    /// # Errors
    /// As [`Dictionary::load`].
    pub fn load(path: &Path) -> Result<(Self, Vec<Warning>), DiskError> {
        Self::read(&OpenFile::at(path)?)
    }

    /// As [`load`](Self::load), from a file that is open.
    ///
    /// # Errors
    /// As [`Dictionary::read`].
    pub fn read(opened: &OpenFile) -> Result<(Self, Vec<Warning>), DiskError> {
        let (dictionary, warnings) = Dictionary::read(opened)?;
        Ok((Self { dictionary }, warnings))
    }

    fn non_empty(&self, key: &str) -> Option<&str> {
        self.dictionary.get(key).filter(|value| !value.is_empty())
    }

    /// The name shown to people.
    pub fn display_name(&self) -> Option<&str> {
        self.non_empty("displayName")
    }

    /// The file of the firmware's memory, relative to the `.vmx`.
    pub fn nvram(&self) -> Option<&str> {
        self.non_empty("nvram")
    }

    /// The directory of deltas and state files where it is not that of the `.vmx`.
    pub fn working_dir(&self) -> Option<&str> {
        self.non_empty("workingDir").filter(|dir| *dir != ".")
    }

    /// The state file (`.vmss`) of a suspended guest.
    pub fn suspend_state(&self) -> Option<&str> {
        self.non_empty("checkpoint.vmState")
    }

    /// Signs of encryption.
    pub fn encryption(&self) -> Option<Encryption> {
        if self
            .dictionary
            .get("vmx.encryptionType")
            .is_some_and(|kind| kind.eq_ignore_ascii_case("partial"))
        {
            Some(Encryption::Partial)
        } else if self.non_empty("encryption.keySafe").is_some()
            || self.non_empty("encryption.data").is_some()
        {
            Some(Encryption::Full)
        } else {
            None
        }
    }

    /// The disks, in the order of their devices. Devices that are not present, optical drives and
    /// passed-through devices are none.
    pub fn disks(&self) -> Vec<VmxDisk> {
        let mut disks: Vec<VmxDisk> = self
            .dictionary
            .iter()
            .filter_map(|(key, value)| {
                let (device, suffix) = key.split_once('.')?;
                if !suffix.eq_ignore_ascii_case("fileName") {
                    return None;
                }
                self.disk(device.parse().ok()?, value)
            })
            .collect();
        disks.sort_by_key(|disk| disk.device);
        // `scsi0:0` and `scsi00:0` are two keys of one device.
        disks.dedup_by_key(|disk| disk.device);
        disks
    }

    fn disk(&self, device: Device, file_name: &str) -> Option<VmxDisk> {
        let get = |suffix: &str| self.dictionary.get(&format!("{device}.{suffix}"));
        if self.dictionary.get_bool(&format!("{device}.present")) != Some(true) {
            return None;
        }
        let kind = get("deviceType").unwrap_or_default().to_ascii_lowercase();
        let is_disk = match kind.as_str() {
            "cdrom-image" | "cdrom-raw" | "atapi-cdrom" | "scsi-passthru" => false,
            "disk" | "scsi-harddisk" | "ata-harddisk" | "rawdisk" => {
                !file_name.is_empty()
                    && !file_name.eq_ignore_ascii_case("auto detect")
                    && !file_name.eq_ignore_ascii_case("emptyBackingString")
            }
            _ => file_name.to_ascii_lowercase().ends_with(".vmdk"),
        };
        is_disk.then(|| VmxDisk {
            device,
            file_name: file_name.to_owned(),
            mode: match get("mode").unwrap_or_default() {
                "" => "persistent".to_owned(),
                mode => mode.to_ascii_lowercase(),
            },
            redo_log: get("redo")
                .filter(|file| !file.is_empty())
                .map(str::to_owned),
        })
    }

    /// Lets a device name another file.
    pub fn set_disk_file(&mut self, device: Device, file_name: &str) {
        self.dictionary
            .set(&format!("{device}.fileName"), file_name);
    }

    /// Unplugs a device: it is no longer present, the rest of its settings stays.
    pub fn set_absent(&mut self, device: Device) {
        self.dictionary.set(&format!("{device}.present"), "FALSE");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vmx(text: &str) -> Vmx {
        Vmx::parse(text.as_bytes()).0
    }

    #[test]
    fn disks_are_found_by_presence_type_and_name() {
        let vmx = vmx(r#"
scsi0.present = "TRUE"
scsi0:10.present = "TRUE"
scsi0:10.fileName = "ten.vmdk"
SCSI0:1.Present = "true"
scsi0:1.FILENAME = "/srv/vm/one.VMDK"
scsi0:1.mode = "Independent-Persistent"
scsi0:2.present = "FALSE"
scsi0:2.fileName = "left-over.vmdk"
scsi0:3.fileName = "no-present.vmdk"
ide0:0.present = "TRUE"
ide0:0.fileName = "boot.vmdk"
ide0:0.deviceType = "ata-hardDisk"
ide1:0.present = "TRUE"
ide1:0.fileName = "auto detect"
ide1:0.deviceType = "cdrom-raw"
ide1:1.present = "TRUE"
ide1:1.fileName = "tools.iso"
sata0:0.present = "TRUE"
sata0:0.fileName = "odd.dsk"
sata0:0.deviceType = "disk"
nvme0:0.present = "TRUE"
nvme0:0.fileName = "fast.vmdk"
floppy0.fileName = "x.vmdk"
floppy0.present = "TRUE"
"#);
        let found: Vec<_> = vmx
            .disks()
            .into_iter()
            .map(|disk| {
                (
                    disk.device.to_string(),
                    disk.file_name.clone(),
                    disk.is_independent(),
                )
            })
            .collect();
        let expect = |device: &str, file: &str, independent| {
            (device.to_owned(), file.to_owned(), independent)
        };
        assert_eq!(
            found,
            [
                expect("ide0:0", "boot.vmdk", false),
                expect("scsi0:1", "/srv/vm/one.VMDK", true),
                expect("scsi0:10", "ten.vmdk", false),
                expect("sata0:0", "odd.dsk", false),
                expect("nvme0:0", "fast.vmdk", false),
            ]
        );
    }

    #[test]
    fn a_disk_can_be_renamed_and_unplugged() {
        let mut vmx = vmx("scsi0:0.present = \"TRUE\"\nScsi0:0.fileName = \"a-000001.vmdk\"\n");
        let device: Device = "SCSI0:0".parse().unwrap();
        vmx.set_disk_file(device, "a.vmdk");
        assert_eq!(vmx.disks()[0].file_name, "a.vmdk");
        vmx.set_absent(device);
        assert!(vmx.disks().is_empty());
    }

    #[test]
    fn encryption_is_recognised_by_its_signs() {
        assert_eq!(
            vmx("encryption.keySafe = \"vmware:key/list/(pair\"").encryption(),
            Some(Encryption::Full)
        );
        assert_eq!(
            vmx("encryption.keySafe = \"x\"\nvmx.encryptionType = \"partial\"").encryption(),
            Some(Encryption::Partial)
        );
        assert_eq!(vmx("displayName = \"a\"").encryption(), None);
    }

    #[test]
    fn texts_that_are_no_devices_are_refused() {
        for text in [
            "",
            "scsi",
            "scsi0",
            "scsi0:",
            "scsi+1:0",
            "usb0:1",
            "scsi0:99999999",
            "scsi:0",
        ] {
            assert!(text.parse::<Device>().is_err(), "{text}");
        }
    }
}
