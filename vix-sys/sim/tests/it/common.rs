//! What the tests share: one directory of simulated hosts per test program, a host per test, and short
//! names for the calls of the API.

use std::{
    env,
    ffi::{CString, OsString},
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use virtuozo_disk::vmdk::DiskKind;
use vix::lab::{DiskSpec, GuestSpec, HostSpec, Lab, LabGuest, LabHost, Product};
use vix_sys::{ConnectArgs, Vix, VixError, VixHandle, VixServiceProvider, code};

pub const MIB: u64 = 1 << 20;

/// The simulator library that cargo has built for these tests.
pub fn library() -> PathBuf {
    let program = env::current_exe().unwrap();
    let path = program.with_file_name("libvix.so");
    assert!(
        path.is_file(),
        "{} is missing: cargo builds it with the tests of this package",
        path.display()
    );
    path
}

struct Shared {
    vix: Vix,
    root: PathBuf,
    faults: PathBuf,
}

fn shared() -> &'static Shared {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    SHARED.get_or_init(|| {
        sweep(Path::new(env!("CARGO_TARGET_TMPDIR")));
        // A child process of a test finds the directory of its parent.
        let root = env::var_os(vix::lab::ROOT_VARIABLE).map_or_else(
            || Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("lab-{}", std::process::id())),
            PathBuf::from,
        );
        fs::create_dir_all(&root).unwrap();
        let faults = root.join("faults");
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&faults)
            .unwrap();
        // SAFETY: the library, which reads them, is loaded after this only.
        unsafe {
            env::set_var(vix::lab::ROOT_VARIABLE, &root);
            env::set_var(vix::lab::FAULTS_VARIABLE, &faults);
        }
        Shared {
            vix: Vix::load(library()).unwrap(),
            root,
            faults,
        }
    })
}

/// Deletes the directories of test programs that have ended.
fn sweep(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if let Some(pid) = name.strip_prefix("lab-")
            && !Path::new("/proc").join(pid).exists()
        {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

pub fn vix() -> &'static Vix {
    &shared().vix
}

/// Adds a fault rule, one JSON object; `object` must be of this test alone.
pub fn fault(rule: &str) {
    let mut file = OpenOptions::new()
        .append(true)
        .open(&shared().faults)
        .unwrap();
    file.write_all(format!("{rule}\n").as_bytes()).unwrap();
}

/// A host of one test; its guests die and its files go with it.
pub struct Site {
    pub host: LabHost,
    pub spec: HostSpec,
}

impl Site {
    pub fn new(product: Product) -> Self {
        Self::with(product, |_| {})
    }

    pub fn with(product: Product, change: impl FnOnce(&mut HostSpec)) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mut spec = HostSpec::new(format!("host-{}-{number}", std::process::id()), product);
        change(&mut spec);
        let lab = Lab::create(&shared().root).unwrap();
        let host = lab.host(&spec).unwrap();
        lab.keep();
        Self { host, spec }
    }

    pub fn guest(&self, spec: &GuestSpec) -> LabGuest {
        self.host.guest(spec).unwrap()
    }

    pub fn provider(&self) -> VixServiceProvider {
        match self.spec.product {
            Product::Server1 => 2,
            Product::Server2 | Product::Esxi => 10,
            Product::Workstation => 3,
            Product::WorkstationShared => 11,
        }
    }

    pub fn try_connect(&self, user: &str, password: &str) -> Result<VixHandle, VixError> {
        let url = c(&self.host.url);
        let job = vix().connect(&ConnectArgs {
            provider: self.provider(),
            host_name: Some(&url),
            host_port: 0,
            user_name: Some(&c(user)),
            password: Some(&c(password)),
            options: 0,
        });
        made(job)
    }

    pub fn connect(&self) -> VixHandle {
        self.try_connect(&self.spec.user, &self.spec.password)
            .unwrap()
    }

    /// The path by which the API names a guest.
    pub fn path_of(&self, guest: &LabGuest) -> String {
        if matches!(self.spec.product, Product::Workstation | Product::Server1) {
            return guest.vmx().to_str().unwrap().to_owned();
        }
        let (name, directory) = &self.host.datastores[0];
        let relative = guest.vmx().strip_prefix(directory).unwrap();
        format!("[{name}] {}", relative.display())
    }

    pub fn open(&self, host: VixHandle, guest: &LabGuest) -> VixHandle {
        made(vix().open_vm(host, &c(&self.path_of(guest)))).unwrap()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for (_, directory) in &self.host.datastores {
            for folder in fs::read_dir(directory).unwrap().flatten() {
                let vmx = folder.path().join(folder.file_name()).with_extension("vmx");
                let _ = LabGuest::at(vmx).kill();
            }
        }
        let _ = fs::remove_dir_all(&self.host.dir);
    }
}

pub fn c(text: &str) -> CString {
    CString::new(text).unwrap()
}

/// Waits for a job and releases it; the code of its error.
pub fn done(job: VixHandle) -> Result<(), VixError> {
    assert_ne!(job, 0, "no job was made");
    let error = vix().wait(job);
    vix().release(job);
    if error == 0 { Ok(()) } else { Err(code(error)) }
}

/// Waits for a job and releases it; the handle it made.
pub fn made(job: VixHandle) -> Result<VixHandle, VixError> {
    assert_ne!(job, 0, "no job was made");
    let error = vix().wait(job);
    let handle = vix().job_handle(job);
    vix().release(job);
    if error == 0 { handle } else { Err(code(error)) }
}

pub fn snapshot(vm: VixHandle, name: &str) -> Result<VixHandle, VixError> {
    made(vix().create_snapshot(vm, &c(name), c"made by a test", 0))
}

pub fn remove(vm: VixHandle, name: &str) -> Result<(), VixError> {
    let snapshot = vix().named_snapshot(vm, &c(name))?;
    let result = done(vix().remove_snapshot(vm, snapshot, 0));
    vix().release(snapshot);
    result
}

/// A disk of each kind, small, with data.
pub fn four_disks() -> Vec<DiskSpec> {
    [
        DiskKind::MonolithicSparse,
        DiskKind::MonolithicFlat,
        DiskKind::TwoGbMaxExtentSparse,
        DiskKind::TwoGbMaxExtentFlat,
    ]
    .into_iter()
    .enumerate()
    .map(|(unit, kind)| DiskSpec::new(format!("scsi0:{unit}"), kind, (3 + unit as u64) * MIB))
    .collect()
}

pub fn two_disks() -> Vec<DiskSpec> {
    vec![
        DiskSpec::new("scsi0:0", DiskKind::MonolithicSparse, 4 * MIB),
        DiskSpec::new("ide0:1", DiskKind::TwoGbMaxExtentSparse, 3 * MIB),
    ]
}

/// Waits until a condition holds.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "not reached: {what}"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until the guest's process has written so many more stamps to its current disks.
pub fn writes_go_on(guest: &LabGuest, more: u64) {
    let now = || {
        // A torn view is possible here: nobody holds the guest still.
        let disks = guest.current_disks().unwrap();
        highest(guest, &disks)
    };
    let before = now();
    eventually("the guest writes", || now() >= before + more);
}

fn highest(guest: &LabGuest, disks: &[PathBuf]) -> u64 {
    let chains: Vec<_> = disks
        .iter()
        .filter_map(|path| virtuozo_disk::vmdk::Chain::open(path, &[]).ok())
        .collect();
    let sources: Vec<&dyn virtuozo_disk::BlockSource> =
        chains.iter().map(|chain| chain as _).collect();
    let stamps = vix::stamps::read(guest.seed().unwrap(), &sources).unwrap_or_default();
    stamps.iter().map(|stamp| stamp.k).max().unwrap_or(0)
}

/// All files in the guest's folder but those of the simulator itself, lock directories, and files that
/// a running guest is about to rename.
pub fn files(guest: &LabGuest) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(guest.vmx().parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.ends_with(".simstate") && !name.ends_with(".simlock"))
        .filter(|name| !name.ends_with(".lck") && !name.ends_with(".new"))
        .collect();
    names.sort();
    names
}

/// Lock directories in the guest's folder.
pub fn locks(guest: &LabGuest) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(guest.vmx().parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".lck"))
        .collect();
    names.sort();
    names
}

/// Runs one ignored test of the running program as a process of its own, with variables.
pub fn child(test: &str, variables: &[(&str, OsString)]) -> ExitStatus {
    let output = Command::new(env::current_exe().unwrap())
        .args([test, "--exact", "--ignored", "--nocapture"])
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .output()
        .unwrap();
    if output.status.code().is_some_and(|code| code != 0) {
        eprintln!("{}", String::from_utf8_lossy(&output.stdout));
        eprintln!("{}", String::from_utf8_lossy(&output.stderr));
    }
    output.status
}
