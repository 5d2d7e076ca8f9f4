//! Makes the files of a simulated guest, and breaks them where asked to.

use std::{
    fs::{self, File},
    path::Path,
};

use virtuozo_disk::{
    SECTOR_BYTES,
    vmdk::{self, CreateOptions, DiskKind, GRAIN_BYTES, Layer, WritableDisk},
    vmware::{
        Dictionary,
        vmx::{Bus, Device},
    },
};
use vix_sys::{VIX_E_INVALID_ARG, VIX_E_NOT_FOUND};

use super::{Broken, DiskSpec, GuestSpec, LabGuest, LabHost, fill};
use crate::{
    core::{
        error::{Result, SimError},
        files,
        guest::Guest,
        host::Host,
        snapshot,
        state::Power,
    },
    guest_process,
    stamps::{fnv1a, mix},
};

const HARDWARE_VERSION: u32 = 7;
const NVRAM_BYTES: usize = 8684;
/// Stamps written before the guest is used for the first time, and after each foreign snapshot.
const EARLY_WRITES: u64 = 300;

pub(super) fn guest(host: &LabHost, spec: &GuestSpec) -> Result<LabGuest> {
    if spec.broken.is_some() && spec.power == Power::On {
        return Err(SimError::new(
            VIX_E_INVALID_ARG,
            format!("{} is to be broken and cannot be on", spec.name),
        ));
    }
    let datastore = host
        .datastores
        .iter()
        .find(|(name, _)| *name == spec.datastore);
    let Some((_, datastore)) = datastore else {
        return Err(SimError::new(
            VIX_E_NOT_FOUND,
            format!("{} has no datastore {}", host.name, spec.datastore),
        ));
    };
    let dir = datastore.join(&spec.name);
    fs::create_dir(&dir).map_err(SimError::io("create", &dir))?;
    let vmx = dir.join(format!("{}.vmx", spec.name));
    let seed = fnv1a(vmx.as_os_str().as_encoded_bytes());

    let mut config = config(spec, seed);
    for (number, disk) in spec.disks.iter().enumerate() {
        let file_name = match number {
            0 => format!("{}.vmdk", spec.name),
            _ => format!("{}_{number}.vmdk", spec.name),
        };
        let device: Device = disk
            .device
            .parse()
            .map_err(|error| SimError::new(VIX_E_INVALID_ARG, format!("{error}")))?;
        make_disk(
            &dir.join(&file_name),
            disk,
            device,
            mix(seed ^ number as u64),
        )?;
        attach(&mut config, disk, device, &file_name);
    }
    let write = |name: String, bytes: &[u8]| {
        let path = dir.join(name);
        files::replace(&path, bytes).map_err(SimError::io("write", &path))
    };
    let mut nvram = b"MRVN".to_vec();
    nvram.extend(fill::pseudo_random(seed, NVRAM_BYTES - nvram.len()));
    write(format!("{}.nvram", spec.name), &nvram)?;
    write(format!("{}.vmsd", spec.name), b"")?;
    write(format!("{}.vmx", spec.name), &config.to_bytes())?;

    let own = Host::load(&host.dir, &host.name)?;
    let guest = Guest::new(vmx, false);
    own.register(&own.api_path(&guest.vmx)?)?;
    guest_process::write_offline(&guest, EARLY_WRITES)?;
    for name in &spec.foreign_snapshots {
        snapshot::create(&guest, name, "taken by somebody else", false)?;
        guest_process::write_offline(&guest, EARLY_WRITES)?;
    }
    if let Some(broken) = spec.broken {
        damage(&guest, broken)?;
    }
    let built = LabGuest::at(guest.vmx);
    if spec.power == Power::On {
        built.power_on()?;
    }
    Ok(built)
}

fn config(spec: &GuestSpec, seed: u64) -> Dictionary {
    let mut config = Dictionary::new();
    let bytes: Vec<String> = [seed, mix(seed)]
        .into_iter()
        .flat_map(u64::to_be_bytes)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let (head, tail) = bytes.split_at(8);
    let uuid = format!("{}-{}", head.join(" "), tail.join(" "));
    let tools = if spec.tools { "running" } else { "none" };
    let mut settings: Vec<(&str, String)> = vec![
        ("config.version", "8".to_owned()),
        ("virtualHW.version", HARDWARE_VERSION.to_string()),
        ("displayName", spec.name.clone()),
        ("guestOS", "otherlinux-64".to_owned()),
        ("memsize", "256".to_owned()),
        ("numvcpus", "1".to_owned()),
        ("uuid.bios", uuid.clone()),
        ("uuid.location", uuid),
        ("uuid.action", "keep".to_owned()),
        ("msg.autoAnswer", "TRUE".to_owned()),
        ("nvram", format!("{}.nvram", spec.name)),
        ("checkpoint.vmState", String::new()),
        ("sim.seed", seed.to_string()),
        ("sim.tools", tools.to_owned()),
    ];
    if spec.ignore_shutdown {
        settings.push(("sim.ignoreShutdown", "TRUE".to_owned()));
    }
    if let Some(rate) = spec.writes_per_second {
        settings.push(("sim.writesPerSecond", rate.to_string()));
    }
    for (key, value) in settings {
        config.set(key, &value);
    }
    config
}

fn attach(config: &mut Dictionary, disk: &DiskSpec, device: Device, file_name: &str) {
    let controller = match device.bus {
        Bus::Ide => None,
        Bus::Scsi => Some("scsi"),
        Bus::Sata => Some("sata"),
        Bus::Nvme => Some("nvme"),
    };
    if let Some(bus) = controller {
        config.set(&format!("{bus}{}.present", device.controller), "TRUE");
        if device.bus == Bus::Scsi {
            config.set(
                &format!("{bus}{}.virtualDev", device.controller),
                "lsilogic",
            );
        }
    }
    config.set(&format!("{device}.present"), "TRUE");
    config.set(&format!("{device}.fileName"), file_name);
    if disk.independent {
        config.set(&format!("{device}.mode"), "independent-persistent");
    }
}

fn make_disk(path: &Path, disk: &DiskSpec, device: Device, seed: u64) -> Result<()> {
    let split = matches!(
        disk.kind,
        DiskKind::TwoGbMaxExtentSparse | DiskKind::TwoGbMaxExtentFlat
    );
    let grains = disk.capacity_bytes.div_ceil(GRAIN_BYTES);
    let part_sectors = (grains / 3).max(1) * (GRAIN_BYTES / SECTOR_BYTES);
    let adapter = if device.bus == Bus::Ide {
        "ide"
    } else {
        "lsilogic"
    };
    vmdk::create(
        path,
        &CreateOptions {
            kind: disk.kind,
            capacity_bytes: disk.capacity_bytes,
            adapter_type: adapter.to_owned(),
            hardware_version: HARDWARE_VERSION,
            // Neither "no parent" nor 0.
            content_id: (seed as u32).clamp(1, u32::MAX - 2),
            max_extent_sectors: split.then_some(part_sectors),
        },
    )?;
    fill::fill_disk(path, seed, disk.fill_bytes)
}

fn damage(guest: &Guest, broken: Broken) -> Result<()> {
    let first_disk = || {
        let disks = guest.disks(&guest.config()?);
        disks.into_iter().next().ok_or_else(|| {
            SimError::new(VIX_E_INVALID_ARG, "a guest without disks has none to break")
        })
    };
    match broken {
        Broken::TruncatedDisk => {
            let layer = Layer::open(first_disk()?.path)?;
            let path = layer.files().last().map_or(layer.path(), |file| file);
            let file = File::options()
                .write(true)
                .open(path)
                .map_err(SimError::io("open", path))?;
            let len_bytes = file.metadata().map_err(SimError::io("open", path))?.len();
            file.set_len(len_bytes / 2)
                .map_err(SimError::io("truncate", path))
        }
        Broken::MissingDisk => {
            let path = first_disk()?.path;
            fs::remove_file(&path).map_err(SimError::io("delete", &path))
        }
        Broken::BrokenVmx => {
            let mut bytes = fs::read(&guest.vmx).map_err(SimError::io("read", &guest.vmx))?;
            bytes.truncate(bytes.len() / 3);
            bytes.extend_from_slice(b"\nscsi0:0.fileName = \"lost\nthis is no setting\n");
            fs::write(&guest.vmx, bytes).map_err(SimError::io("write", &guest.vmx))
        }
        Broken::WrongCid => {
            let base = first_disk()?.path;
            if Layer::open(&base)?.is_delta() {
                return touch(&parent_of(guest, &base)?);
            }
            snapshot::create(guest, "before the damage", "", false)?;
            touch(&base)
        }
    }
}

/// The file below the first disk's newest delta.
fn parent_of(guest: &Guest, path: &Path) -> Result<std::path::PathBuf> {
    let chain = vmdk::Chain::open(path, &[])?;
    chain
        .layers()
        .get(1)
        .map(|layer| layer.path().to_owned())
        .ok_or_else(|| {
            SimError::new(
                VIX_E_INVALID_ARG,
                format!("{} has no delta", guest.vmx.display()),
            )
        })
}

/// Writes to a disk what it holds already, which gives it a new content id.
fn touch(path: &Path) -> Result<()> {
    let mut disk = WritableDisk::open(path)?;
    let mut sector = [0; SECTOR_BYTES as usize];
    disk.read_at(0, &mut sector)?;
    disk.write_at(0, &sector)?;
    Ok(disk.sync()?)
}
