//! Builds simulated hosts with guests on disk, for demonstrations and tests, and works on them without
//! the C API.

mod build;
pub(crate) mod fill;
mod guest;

use std::{
    fs,
    path::{Path, PathBuf},
};

use virtuozo_disk::{
    vmdk::DiskKind,
    vmware::{Dictionary, hostd},
};

pub use self::guest::LabGuest;
use crate::core::{
    error::{Result, SimError},
    files,
    guest::Guest,
    host::{CONF_FILE, CONFIG_DIR, DATASTORES_DIR, Host},
    power,
};
pub use crate::core::{product::Product, state::Power};
use crate::limits::LIMITS;

/// Names the variable that tells the simulator library where a lab is.
pub const ROOT_VARIABLE: &str = crate::core::host::ROOT_VARIABLE;
/// Names the variable that tells the simulator library which file holds fault rules.
pub const FAULTS_VARIABLE: &str = crate::core::faults::FILE_VARIABLE;

/// What a simulated host is to be.
#[derive(Debug, Clone)]
pub struct HostSpec {
    /// Name, as in the URL.
    pub name: String,
    /// Product.
    pub product: Product,
    /// User name for the login.
    pub user: String,
    /// Password for the login; stands in the host's `host.conf` as it is.
    pub password: String,
    /// Names of the datastores.
    pub datastores: Vec<String>,
    /// Most connections at the same time; none for no limit.
    pub max_connections: Option<usize>,
}

impl HostSpec {
    /// A host with one datastore, `standard`, and the login `backup` / `lab password`.
    pub fn new(name: impl Into<String>, product: Product) -> Self {
        Self {
            name: name.into(),
            product,
            user: "backup".to_owned(),
            password: "lab password".to_owned(),
            datastores: vec!["standard".to_owned()],
            max_connections: None,
        }
    }
}

/// What a disk of a simulated guest is to be.
#[derive(Debug, Clone)]
pub struct DiskSpec {
    /// Device, for example `scsi0:0`.
    pub device: String,
    /// Kind of VMDK; split kinds get at least three parts.
    pub kind: DiskKind,
    /// Size in bytes.
    pub capacity_bytes: u64,
    /// Bytes of content, spread over the disk.
    pub fill_bytes: u64,
    /// Takes no part in snapshots.
    pub independent: bool,
}

impl DiskSpec {
    /// A disk that takes part in snapshots, an eighth of it filled.
    pub fn new(device: impl Into<String>, kind: DiskKind, capacity_bytes: u64) -> Self {
        Self {
            device: device.into(),
            kind,
            capacity_bytes,
            fill_bytes: capacity_bytes / 8,
            independent: false,
        }
    }
}

/// Ways in which a guest can be broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// The file of the first disk's data ends in the middle.
    TruncatedDisk,
    /// The first disk's file is gone.
    MissingDisk,
    /// The `.vmx` is damaged.
    BrokenVmx,
    /// The parent of the first disk's delta has been written to since.
    WrongCid,
}

/// What a simulated guest is to be.
#[derive(Debug, Clone)]
pub struct GuestSpec {
    /// Display name, and name of its folder and files.
    pub name: String,
    /// Datastore it lies in.
    pub datastore: String,
    /// Disks.
    pub disks: Vec<DiskSpec>,
    /// [`Power::On`] starts its process; it runs until it is powered off or the lab ends.
    pub power: Power,
    /// Names of snapshots that somebody else has taken, each on top of the one before.
    pub foreign_snapshots: Vec<String>,
    /// VMware Tools run in it.
    pub tools: bool,
    /// It does not react to a soft power-off.
    pub ignore_shutdown: bool,
    /// Writes per second while it runs; none for the simulator's own rate.
    pub writes_per_second: Option<u64>,
    /// How it is broken. A broken guest cannot run.
    pub broken: Option<Broken>,
}

impl GuestSpec {
    /// A guest that is off, with Tools, no snapshots and these disks, in the datastore `standard`.
    pub fn new(name: impl Into<String>, disks: Vec<DiskSpec>) -> Self {
        Self {
            name: name.into(),
            datastore: "standard".to_owned(),
            disks,
            power: Power::Off,
            foreign_snapshots: Vec::new(),
            tools: true,
            ignore_shutdown: false,
            writes_per_second: None,
            broken: None,
        }
    }
}

/// A directory of simulated hosts. Dropping it kills all its guests.
#[derive(Debug)]
pub struct Lab {
    root: PathBuf,
}

impl Lab {
    /// Makes the directory, or uses one with hosts from before.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn create(root: impl AsRef<Path>) -> Result<Self> {
        let root = root.as_ref();
        fs::create_dir_all(root).map_err(SimError::io("create", root))?;
        Ok(Self {
            root: root.canonicalize().map_err(SimError::io("find", root))?,
        })
    }

    /// The directory, for [`ROOT_VARIABLE`].
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Adds a host.
    ///
    /// # Errors
    /// Its directory cannot be written, or exists already.
    pub fn host(&self, spec: &HostSpec) -> Result<LabHost> {
        let dir = self.root.join(&spec.name);
        fs::create_dir(&dir).map_err(SimError::io("create", &dir))?;
        let config_dir = dir.join(CONFIG_DIR);
        let mut datastores = Vec::new();
        for name in &spec.datastores {
            let directory = dir.join(DATASTORES_DIR).join(name);
            fs::create_dir_all(&directory).map_err(SimError::io("create", &directory))?;
            datastores.push((name.clone(), directory));
        }
        fs::create_dir(&config_dir).map_err(SimError::io("create", &config_dir))?;
        let directories = datastores
            .iter()
            .map(|(name, directory)| (name.clone(), directory.to_string_lossy().into_owned()))
            .collect();
        let write = |path: PathBuf, bytes: &[u8]| {
            files::replace(&path, bytes).map_err(SimError::io("write", &path))
        };
        write(
            config_dir.join(hostd::DATASTORES_FILE),
            hostd::write_datastores(&directories).as_bytes(),
        )?;
        write(
            config_dir.join(hostd::INVENTORY_FILE),
            hostd::write_inventory([]).as_bytes(),
        )?;
        let mut conf = Dictionary::new();
        conf.set("product", spec.product.name());
        conf.set("user", &spec.user);
        conf.set("password", &spec.password);
        if let Some(most) = spec.max_connections {
            conf.set("maxConnections", &most.to_string());
        }
        write(dir.join(CONF_FILE), &conf.to_bytes())?;
        Ok(LabHost {
            name: spec.name.clone(),
            url: format!("https://{}:8333/sdk", spec.name),
            product: spec.product,
            datastores,
            config_dir,
            dir,
        })
    }

    /// Kills the processes of all guests, and waits until they are gone.
    ///
    /// # Errors
    /// A host's files cannot be read.
    pub fn stop_all(&self) -> Result<()> {
        let hosts = fs::read_dir(&self.root).map_err(SimError::io("read", &self.root))?;
        for host in hosts.flatten() {
            let Ok(host) = Host::load(&host.path(), &host.file_name().to_string_lossy()) else {
                continue;
            };
            for vmx in host.guests()? {
                let guest = Guest::new(vmx, false);
                power::kill(&guest)?;
                while guest.state()?.power == Power::On {
                    std::thread::sleep(LIMITS.look_every);
                }
            }
        }
        Ok(())
    }

    /// Lets the guests run on after this value is gone; the directory to find them again.
    pub fn keep(self) -> PathBuf {
        let mut lab = std::mem::ManuallyDrop::new(self);
        std::mem::take(&mut lab.root)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Guests of a directory that cannot be read end by themselves.
        let _ = self.stop_all();
    }
}

/// A simulated host.
#[derive(Debug, Clone)]
pub struct LabHost {
    /// Name.
    pub name: String,
    /// Connection string. VIX itself knows Workstation on this machine only and takes none: it is
    /// reached as the host called `local` then.
    pub url: String,
    /// Product.
    pub product: Product,
    /// The host's directory.
    pub dir: PathBuf,
    /// Directory with `datastores.xml` and `vmInventory.xml`.
    pub config_dir: PathBuf,
    /// Name and directory of each datastore.
    pub datastores: Vec<(String, PathBuf)>,
}

impl LabHost {
    /// Adds a guest to the host and its inventory, and powers it on if it is to be on.
    ///
    /// # Errors
    /// Its files cannot be written, or the guest program cannot be found or started.
    pub fn guest(&self, spec: &GuestSpec) -> Result<LabGuest> {
        build::guest(self, spec)
    }
}
