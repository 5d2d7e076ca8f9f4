//! A simulated host and a connector to it, shared by the tests of the VIX back end.

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use virtuozo_disk::{BlockSource, vmdk::DiskKind, vmware::vmx::Vmx};
use virtuozo_hypervisor::{
    ChangeIds, Connector, FreezeRequest, Guest, GuestImage, GuestRef, Host, HostTarget,
    HypervisorError, Image, Instant as At, Locator, conformance::Merged, open_image,
    vix::VixConnector,
};
use vix::lab::{
    DiskSpec, FAULTS_VARIABLE, GuestSpec, HostSpec, Lab, LabGuest, LabHost, ROOT_VARIABLE,
};

pub(crate) const MIB: u64 = 1 << 20;

/// One simulated host in a directory of its own.
pub(crate) struct TestLab {
    // Dropped in this order: guests end before their files go.
    lab: Lab,
    pub(crate) host: LabHost,
    dir: TempDir,
}

impl TestLab {
    pub(crate) fn new(product: vix::Product) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let lab = Lab::create(dir.path().join("lab")).unwrap();
        let name = if product == vix::Product::Workstation {
            "local"
        } else {
            "alpha.lab"
        };
        let host = lab.host(&HostSpec::new(name, product)).unwrap();
        Self { lab, host, dir }
    }

    /// Adds a guest, off.
    pub(crate) fn guest(&self, spec: &GuestSpec) -> LabGuest {
        self.host.guest(spec).unwrap()
    }

    /// A connector whose processes see this lab.
    pub(crate) fn connector(&self) -> VixConnector {
        self.connector_with(&library())
    }

    pub(crate) fn connector_with(&self, library: &Path) -> VixConnector {
        let variables = self
            .variables()
            .map(|(name, value)| format!("{name}={}", value.display()));
        let mut arguments = variables.to_vec();
        arguments.push(lab_process().display().to_string());
        arguments.push("vix-host".to_owned());
        VixConnector::with_child(Some(library.to_owned()), "/usr/bin/env", arguments)
    }

    /// What tells the simulator of this lab.
    pub(crate) fn variables(&self) -> [(&'static str, PathBuf); 4] {
        [
            // The settings of VMware's wrapper library that a user has.
            ("HOME", self.dir.path().to_owned()),
            (ROOT_VARIABLE, self.lab.root().to_owned()),
            (FAULTS_VARIABLE, self.faults()),
            ("VIRTUOZO_SIM_GUEST", lab_process()),
        ]
    }

    /// The home directory of the processes that see this lab.
    pub(crate) fn home(&self) -> &Path {
        self.dir.path()
    }

    /// How many calls have met a fault rule.
    pub(crate) fn fault_calls(&self) -> usize {
        let mut path = self.faults().into_os_string();
        path.push(".state");
        fs::read_to_string(path).map_or(0, |text| text.lines().count())
    }

    fn faults(&self) -> PathBuf {
        let path = self.dir.path().join("faults");
        if !path.exists() {
            fs::write(&path, "").unwrap();
        }
        path
    }

    /// Sets the fault rules, one JSON object each.
    pub(crate) fn set_faults(&self, rules: &[&str]) {
        fs::write(self.faults(), rules.join("\n")).unwrap();
    }

    pub(crate) fn target(&self, kind: &str) -> HostTarget {
        let local = kind == "workstation";
        HostTarget {
            name: "alpha".into(),
            kind: kind.to_owned(),
            address: (!local).then(|| self.host.url.clone()),
            user: (!local).then(|| "backup".into()),
            password: (!local).then(|| "lab password".to_owned().into()),
            properties: (!local)
                .then(|| {
                    let config_dir = self.host.config_dir.to_str().unwrap().to_owned();
                    ("config-dir".to_owned(), config_dir)
                })
                .into_iter()
                .collect(),
            datastores: Default::default(),
            file_silence: Duration::from_secs(60),
        }
    }

    pub(crate) async fn connect(&self, kind: &str) -> Arc<dyn Host> {
        self.connector().connect(&self.target(kind)).await.unwrap()
    }
}

/// How the host calls a guest of the datastore `standard`.
pub(crate) fn guest_ref(name: &str) -> GuestRef {
    at(&format!("[standard] {name}/{name}.vmx"))
}

/// A guest by its path.
pub(crate) fn at(path: &str) -> GuestRef {
    GuestRef::at(Locator::new(path).unwrap())
}

/// Freezes a guest under a name, compared with nothing.
pub(crate) async fn freeze(
    guest: &dyn Guest,
    name: &str,
    limit: Duration,
) -> Result<(), HypervisorError> {
    guest
        .freeze(&FreezeRequest {
            name: name.to_owned(),
            description: String::new(),
            since: ChangeIds::new(),
            limit,
        })
        .await
}

/// The image of a guest that is off.
pub(crate) async fn cold_image(
    guest: &dyn Guest,
    ignored: &[String],
) -> Result<GuestImage, HypervisorError> {
    let image = guest
        .image(&At::PoweredOff, &ChangeIds::new(), ignored)
        .await?;
    match image {
        Image::Open(image) => Ok(image),
        Image::Files(files) => open_image(&files),
    }
}

pub(crate) async fn guest(host: &Arc<dyn Host>, name: &str) -> Arc<dyn Guest> {
    host.guest(&guest_ref(name)).await.unwrap()
}

/// Two disks of different kinds, quickly written.
pub(crate) fn two_disks(name: &str) -> GuestSpec {
    let mut spec = GuestSpec::new(
        name,
        vec![
            DiskSpec::new("scsi0:0", DiskKind::MonolithicSparse, 4 * MIB),
            DiskSpec::new("scsi0:1", DiskKind::TwoGbMaxExtentFlat, 3 * MIB),
        ],
    );
    spec.writes_per_second = Some(2000);
    spec
}

/// The configuration in an image.
pub(crate) fn vmx_of(image: &GuestImage) -> Vmx {
    let file = image
        .small
        .iter()
        .find(|file| file.name.ends_with(".vmx"))
        .expect("an image has a .vmx");
    Vmx::parse(&file.bytes).0
}

/// The last write that all disks of an image show.
pub(crate) fn instant_of(image: &GuestImage, seed: u64) -> Result<u64, String> {
    let disks: Vec<Merged<'_>> = vmx_of(image)
        .disks()
        .iter()
        .map(|disk| Merged::of(image, &disk.file_name).expect("the image holds its disks"))
        .collect();
    let sources: Vec<&dyn BlockSource> = disks.iter().map(|disk| disk as _).collect();
    vix::stamps::check(seed, &sources)
}

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The simulator library, which cargo builds with this crate's tests.
pub(crate) fn library() -> PathBuf {
    built("deps/libvix.so")
}

/// The program behind connections and guests.
pub(crate) fn lab_process() -> PathBuf {
    built("examples/lab_process")
}

fn built(name: &str) -> PathBuf {
    let exe = env::current_exe().unwrap();
    let path = exe.parent().and_then(Path::parent).unwrap().join(name);
    assert!(
        path.exists(),
        "{} is missing: run all tests of the crate, or `cargo build -p virtuozo-hypervisor --examples` first",
        path.display()
    );
    path
}
