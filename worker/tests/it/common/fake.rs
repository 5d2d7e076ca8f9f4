//! A hypervisor in memory, with faults: guests whose disks are byte vectors, snapshots that freeze them.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::watch;
use virtuozo_disk::{BlockRange, BlockSource, DiskError, RangeKind};
use virtuozo_hypervisor::{
    Capabilities, Connector, DiskFacts, ErrorClass, ErrorKind, Guest, GuestFacts, GuestImage,
    GuestRef, Host, HostFacts, HostTarget, HypervisorError, ImageFile, ImageFormat, Instant,
    PowerOff, PowerState, Problem, Result, SmallFile,
};

/// Everything that all connections see: it outlives every worker.
#[derive(Default)]
pub(crate) struct World {
    guests: Mutex<BTreeMap<String, FakeGuest>>,
    rules: Mutex<Vec<Rule>>,
    /// Calls so far, by operation.
    calls: Mutex<HashMap<&'static str, usize>>,
    copying: AtomicUsize,
    pub(crate) most_copying: AtomicUsize,
    pub(crate) connections: AtomicUsize,
    pub(crate) most_connections: AtomicUsize,
    pub(crate) one_snapshot_only: AtomicBool,
}

pub(crate) struct FakeGuest {
    pub(crate) power: PowerState,
    pub(crate) disk: Arc<Vec<u8>>,
    /// Name and frozen disk, oldest first.
    pub(crate) snapshots: Vec<(String, Arc<Vec<u8>>)>,
    pub(crate) independent: bool,
    pub(crate) problem: Option<Problem>,
}

#[derive(Clone)]
pub(crate) enum Act {
    Fail(ErrorKind, ErrorClass),
    /// The call stands still until the gate is opened.
    Hold(Gate),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum When {
    Before,
    After,
}

struct Rule {
    operation: &'static str,
    guest: Option<String>,
    when: When,
    left: usize,
    act: Act,
}

/// Where a call stands still, and a test can wait for it to.
#[derive(Clone)]
pub(crate) struct Gate {
    reached: watch::Sender<bool>,
    open: watch::Sender<bool>,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self {
            reached: watch::Sender::new(false),
            open: watch::Sender::new(false),
        }
    }

    pub(crate) async fn reached(&self) {
        let mut reached = self.reached.subscribe();
        tokio::time::timeout(Duration::from_secs(60), reached.wait_for(|r| *r))
            .await
            .expect("the call was made within a minute")
            .unwrap();
    }

    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }

    async fn stand(&self) {
        self.reached.send_replace(true);
        let _ = self.open.subscribe().wait_for(|o| *o).await;
    }

    fn stand_blocking(&self) {
        self.reached.send_replace(true);
        while !*self.open.borrow() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

pub(crate) const DISK_BYTES: usize = 512 * 1024;

/// Bytes that differ from guest to guest and from place to place.
pub(crate) fn pattern(seed: u8) -> Arc<Vec<u8>> {
    pattern_of(seed, DISK_BYTES)
}

pub(crate) fn pattern_of(seed: u8, bytes: usize) -> Arc<Vec<u8>> {
    Arc::new(
        (0..bytes)
            .map(|i| (i / 7) as u8 ^ (i >> 13) as u8 ^ seed)
            .collect(),
    )
}

pub(crate) fn path(name: &str) -> String {
    format!("[standard] {name}/{name}.vmx")
}

impl World {
    pub(crate) fn add(&self, name: &str, power: PowerState) {
        let seed = name.bytes().fold(1, u8::wrapping_add);
        let guest = FakeGuest {
            power,
            disk: pattern(seed),
            snapshots: Vec::new(),
            independent: false,
            problem: None,
        };
        self.lock().insert(path(name), guest);
    }

    pub(crate) fn with<T>(&self, name: &str, look: impl FnOnce(&mut FakeGuest) -> T) -> T {
        look(
            self.lock()
                .get_mut(&path(name))
                .expect("the guest is in the world"),
        )
    }

    pub(crate) fn remove(&self, name: &str) {
        self.lock().remove(&path(name));
    }

    /// From now on the next `times` calls of `operation` act like this.
    pub(crate) fn rule(
        &self,
        operation: &'static str,
        guest: Option<&str>,
        when: When,
        times: usize,
        act: Act,
    ) {
        let rule = Rule {
            operation,
            guest: guest.map(path),
            when,
            left: times,
            act,
        };
        self.rules.lock().unwrap().push(rule);
    }

    /// As [`rule`](Self::rule), for what is done with a host.
    pub(crate) fn rule_for_host(
        &self,
        operation: &'static str,
        host: &str,
        times: usize,
        act: Act,
    ) {
        let rule = Rule {
            operation,
            guest: Some(host.to_owned()),
            when: When::Before,
            left: times,
            act,
        };
        self.rules.lock().unwrap().push(rule);
    }

    pub(crate) fn fail(&self, operation: &'static str, times: usize, class: ErrorClass) {
        self.rule(
            operation,
            None,
            When::Before,
            times,
            Act::Fail(ErrorKind::Other, class),
        );
    }

    /// The next call of `operation` stands still.
    pub(crate) fn hold(&self, operation: &'static str, when: When) -> Gate {
        let gate = Gate::new();
        self.rule(operation, None, when, 1, Act::Hold(gate.clone()));
        gate
    }

    pub(crate) fn forget_rules(&self) {
        self.rules.lock().unwrap().clear();
    }

    pub(crate) fn calls(&self, operation: &str) -> usize {
        self.calls
            .lock()
            .unwrap()
            .get(operation)
            .copied()
            .unwrap_or(0)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, FakeGuest>> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn act(&self, operation: &'static str, vmx_path: &str, when: When) -> Option<Act> {
        if when == When::Before {
            *self.calls.lock().unwrap().entry(operation).or_default() += 1;
        }
        let mut rules = self.rules.lock().unwrap();
        let rule = rules.iter_mut().find(|r| {
            r.operation == operation
                && r.when == when
                && r.left > 0
                && r.guest.as_deref().is_none_or(|g| g == vmx_path)
        })?;
        rule.left -= 1;
        Some(rule.act.clone())
    }

    async fn pass(&self, operation: &'static str, vmx_path: &str, when: When) -> Result<()> {
        match self.act(operation, vmx_path, when) {
            None => Ok(()),
            Some(Act::Fail(kind, class)) => Err(HypervisorError {
                kind,
                class,
                message: format!("{operation} of {vmx_path} refused {when:?} its effect"),
                code: None,
            }),
            Some(Act::Hold(gate)) => {
                gate.stand().await;
                Ok(())
            }
        }
    }
}

/// A worker's way into the world.
pub(crate) struct FakeConnector {
    pub(crate) world: Arc<World>,
    /// The datastore is mounted on its machine.
    pub(crate) is_mounted: bool,
}

#[async_trait]
impl Connector for FakeConnector {
    async fn probe(&self) -> Result<String> {
        Ok("fake".to_owned())
    }

    async fn connect(&self, target: &HostTarget) -> Result<Arc<dyn Host>> {
        let world = &self.world;
        world.pass("connect", &target.name, When::Before).await?;
        let now = world.connections.fetch_add(1, Ordering::SeqCst) + 1;
        world.most_connections.fetch_max(now, Ordering::SeqCst);
        Ok(Arc::new(FakeHost {
            world: Arc::clone(world),
            is_mounted: self.is_mounted,
            name: target.name.clone(),
            open: AtomicBool::new(true),
        }))
    }
}

struct FakeHost {
    world: Arc<World>,
    is_mounted: bool,
    name: String,
    open: AtomicBool,
}

impl FakeHost {
    /// With several hosts in the world, a guest belongs to the host whose name its own begins with.
    fn has(&self, vmx_path: &str) -> bool {
        self.name == "lab" || vmx_path.starts_with(&format!("[standard] {}", self.name))
    }
}

#[async_trait]
impl Host for FakeHost {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            hot_snapshots: true,
            multiple_snapshots: !self.world.one_snapshot_only.load(Ordering::SeqCst),
        }
    }

    async fn facts(&self) -> Result<HostFacts> {
        self.world
            .pass("host_facts", &self.name, When::Before)
            .await?;
        let live: Vec<GuestRef> = self
            .world
            .lock()
            .keys()
            .filter(|path| self.has(path))
            .map(|path| GuestRef {
                vmx_path: path.clone(),
            })
            .collect();
        Ok(HostFacts {
            registered: Some(live.clone()),
            live,
            ..HostFacts::default()
        })
    }

    async fn guest(&self, guest: &GuestRef) -> Result<Arc<dyn Guest>> {
        self.world
            .pass("open", &guest.vmx_path, When::Before)
            .await?;
        if !self.world.lock().contains_key(&guest.vmx_path) {
            return Err(HypervisorError {
                kind: ErrorKind::GuestNotFound,
                class: ErrorClass::Operator,
                message: "there is no such guest".to_owned(),
                code: None,
            });
        }
        Ok(Arc::new(Handle {
            world: Arc::clone(&self.world),
            is_mounted: self.is_mounted,
            path: guest.vmx_path.clone(),
        }))
    }

    async fn close(&self) {
        if self.open.swap(false, Ordering::SeqCst) {
            self.world.connections.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

struct Handle {
    world: Arc<World>,
    is_mounted: bool,
    path: String,
}

impl Handle {
    fn with<T>(&self, look: impl FnOnce(&mut FakeGuest) -> T) -> Result<T> {
        match self.world.lock().get_mut(&self.path) {
            Some(guest) => Ok(look(guest)),
            None => Err(HypervisorError {
                kind: ErrorKind::GuestNotFound,
                class: ErrorClass::Operator,
                message: "the guest is gone".to_owned(),
                code: None,
            }),
        }
    }

    async fn pass(&self, operation: &'static str, when: When) -> Result<()> {
        self.world.pass(operation, &self.path, when).await
    }
}

#[async_trait]
impl Guest for Handle {
    async fn facts(&self) -> Result<GuestFacts> {
        self.pass("facts", When::Before).await?;
        let name = self
            .path
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .trim_end_matches(".vmx")
            .to_owned();
        self.with(|guest| GuestFacts {
            name,
            power: guest.power,
            tools_running: true,
            disks: vec![DiskFacts {
                device: "scsi0:0".to_owned(),
                file_name: "disk.vmdk".to_owned(),
                capacity_bytes: Some(DISK_BYTES as u64),
                snapshots: !guest.independent,
                problem: guest.problem.clone(),
            }],
            snapshots: guest
                .snapshots
                .iter()
                .map(|(name, _)| name.clone())
                .collect(),
            problem: (!self.is_mounted).then(|| Problem {
                class: ErrorClass::Elsewhere,
                message: "its datastore is not mounted here".to_owned(),
            }),
        })
    }

    async fn power_state(&self) -> Result<PowerState> {
        self.pass("power_state", When::Before).await?;
        self.with(|guest| guest.power)
    }

    async fn power_on(&self, _: Duration) -> Result<()> {
        self.pass("power_on", When::Before).await?;
        self.with(|guest| guest.power = PowerState::On)?;
        self.pass("power_on", When::After).await
    }

    async fn power_off(&self, _: PowerOff) -> Result<()> {
        self.pass("power_off", When::Before).await?;
        self.with(|guest| guest.power = PowerState::Off)?;
        self.pass("power_off", When::After).await
    }

    async fn snapshots(&self) -> Result<Vec<String>> {
        self.pass("snapshots", When::Before).await?;
        self.with(|guest| {
            guest
                .snapshots
                .iter()
                .map(|(name, _)| name.clone())
                .collect()
        })
    }

    async fn create_snapshot(&self, name: &str, _: &str, _: Duration) -> Result<()> {
        self.pass("create_snapshot", When::Before).await?;
        self.with(|guest| {
            guest
                .snapshots
                .push((name.to_owned(), Arc::clone(&guest.disk)))
        })?;
        self.pass("create_snapshot", When::After).await
    }

    async fn remove_snapshot(&self, name: &str, _: Duration) -> Result<bool> {
        self.pass("remove_snapshot", When::Before).await?;
        let removed = self.with(|guest| {
            let before = guest.snapshots.len();
            guest.snapshots.retain(|(n, _)| n != name);
            before != guest.snapshots.len()
        })?;
        self.pass("remove_snapshot", When::After).await?;
        Ok(removed)
    }

    async fn image(&self, at: &Instant, ignored: &[String]) -> Result<GuestImage> {
        self.pass("image", When::Before).await?;
        let (bytes, foreign) = self.with(|guest| {
            let ours = |name: &str| virtuozo_hypervisor::snapshot_name::is_ours(name);
            let foreign = guest
                .snapshots
                .iter()
                .filter(|(n, _)| !ours(n))
                .map(|(n, _)| n.clone());
            let foreign: Vec<String> = foreign.collect();
            let bytes = match at {
                Instant::PoweredOff => Some(Arc::clone(&guest.disk)),
                Instant::Snapshot(name) => guest
                    .snapshots
                    .iter()
                    .find(|(n, _)| n == name)
                    .map(|(_, b)| Arc::clone(b)),
            };
            (bytes, foreign)
        })?;
        let Some(bytes) = bytes else {
            return Err(HypervisorError {
                kind: ErrorKind::SnapshotNotFound,
                class: ErrorClass::Retry,
                message: "there is no such snapshot".to_owned(),
                code: None,
            });
        };
        assert!(ignored.is_empty(), "the fake's only disk is never left out");
        let now = self.world.copying.fetch_add(1, Ordering::SeqCst) + 1;
        self.world.most_copying.fetch_max(now, Ordering::SeqCst);
        Ok(GuestImage {
            small: vec![SmallFile {
                name: "guest.vmx".to_owned(),
                bytes: b"displayName = \"x\"\n".to_vec(),
            }],
            files: vec![ImageFile {
                name: "disk.vmdk".to_owned(),
                device: Some("scsi0:0".to_owned()),
                format: ImageFormat::Vmdk {
                    parent: None,
                    disk_database: [("adapterType", "lsilogic"), ("virtualHWVersion", "7")]
                        .map(|(key, value)| (key.to_owned(), value.to_owned()))
                        .into(),
                },
                source: Box::new(Memory {
                    world: Arc::clone(&self.world),
                    path: self.path.clone(),
                    frozen: matches!(at, Instant::Snapshot(_)),
                    bytes,
                }),
            }],
            foreign_snapshots: foreign,
        })
    }
}

struct Memory {
    world: Arc<World>,
    path: String,
    /// Of a snapshot: what is written later goes elsewhere.
    frozen: bool,
    bytes: Arc<Vec<u8>>,
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.world.copying.fetch_sub(1, Ordering::SeqCst);
    }
}

impl BlockSource for Memory {
    fn size_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn range_at(&self, offset_bytes: u64) -> std::result::Result<BlockRange, DiskError> {
        Ok(BlockRange {
            offset_bytes,
            len_bytes: self.size_bytes() - offset_bytes,
            kind: RangeKind::Data,
        })
    }

    fn read_at(&self, offset_bytes: u64, buf: &mut [u8]) -> std::result::Result<(), DiskError> {
        match self.world.act("read", &self.path, When::Before) {
            Some(Act::Hold(gate)) => gate.stand_blocking(),
            Some(Act::Fail(_, class)) => {
                let kind = match class {
                    ErrorClass::Retry => std::io::ErrorKind::Interrupted,
                    _ => std::io::ErrorKind::PermissionDenied,
                };
                let code = if kind == std::io::ErrorKind::PermissionDenied {
                    13
                } else {
                    5
                };
                return Err(DiskError::Io {
                    action: "read",
                    path: self.path.clone().into(),
                    source: std::io::Error::from_raw_os_error(code),
                });
            }
            None => {}
        }
        let from = offset_bytes as usize;
        buf.copy_from_slice(&self.bytes[from..from + buf.len()]);
        Ok(())
    }

    fn fingerprint(&self) -> Option<String> {
        let now = match self.frozen {
            true => Arc::clone(&self.bytes),
            false => Arc::clone(&self.world.lock().get(&self.path)?.disk),
        };
        let mut hasher = DefaultHasher::new();
        now.hash(&mut hasher);
        Some(hasher.finish().to_string())
    }
}
