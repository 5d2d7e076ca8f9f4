//! The state of the hypervisor in memory, which all connections share, and the rules by which its calls fail or pause.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize},
    },
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;
use uuid::Uuid;

use crate::{
    ChangeId, ChangeIds, ErrorClass, ErrorKind, GuestRef, HypervisorError, Locator, PowerState,
    Problem, Result,
};

/// The only disk of a guest that was added, and the first of any.
pub const DISK: &str = "disk0";

/// Disks by device.
pub type Disks = BTreeMap<String, Arc<Vec<u8>>>;

/// A guest that was made and is not registered.
pub(super) struct Unfinished {
    pub(super) name: String,
    pub(super) uuid: Option<Uuid>,
    pub(super) node: Option<String>,
    pub(super) disks: BTreeMap<String, Vec<u8>>,
}

/// How changes of disks are followed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ChangeTracking {
    /// Not at all.
    #[default]
    None,
    /// As by libvirt: what a guest is compared with is said when it is frozen, and each instant leaves a mark on
    /// the host until it is forgotten.
    WhenFrozen,
    /// As by vSphere: changes are asked for afterwards, and nothing has to be forgotten.
    Afterwards,
}

/// Everything that all connections see: it outlives every worker.
#[derive(Default)]
pub struct World {
    guests: Mutex<BTreeMap<String, FakeGuest>>,
    rules: Mutex<Vec<Rule>>,
    /// Calls so far, by operation.
    calls: Mutex<HashMap<&'static str, usize>>,
    /// Sources of images that are open.
    pub copying: AtomicUsize,
    /// The most of them at a time.
    pub most_copying: AtomicUsize,
    /// Connections that are open.
    pub connections: AtomicUsize,
    /// The most of them at a time.
    pub most_connections: AtomicUsize,
    /// Hosts keep one snapshot of a guest.
    pub one_snapshot_only: AtomicBool,
    tracking: ChangeTracking,
    /// Guests that were made and are not registered.
    pub(super) unfinished: Mutex<BTreeMap<Uuid, Unfinished>>,
    /// Those that are.
    pub(super) registered: Mutex<BTreeMap<Uuid, GuestRef>>,
}

/// A guest in memory.
pub struct FakeGuest {
    /// Power state.
    pub power: PowerState,
    /// Disks as they are now.
    pub disks: Disks,
    /// Oldest first.
    pub snapshots: Vec<FakeSnapshot>,
    /// Its disks take no part in snapshots.
    pub independent: bool,
    /// Why its disks cannot be backed up.
    pub problem: Option<Problem>,
    /// The machine of the host that runs it.
    pub node: Option<String>,
    /// The datastore that holds its configuration.
    pub datastore: Option<String>,
    /// Its UUID.
    pub uuid: Option<Uuid>,
    /// What disks held at the instants of change ids.
    pub(super) marks: BTreeMap<ChangeId, (String, Arc<Vec<u8>>)>,
}

/// An instant of a guest.
pub struct FakeSnapshot {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub disks: Disks,
    /// What it was frozen to be compared with.
    pub(super) since: ChangeIds,
    /// The change ids of its disks.
    pub(super) change_ids: ChangeIds,
}

impl FakeGuest {
    pub(super) fn new(power: PowerState, disks: Disks) -> Self {
        Self {
            power,
            disks,
            snapshots: Vec::new(),
            independent: false,
            problem: None,
            node: None,
            datastore: None,
            uuid: None,
            marks: BTreeMap::new(),
        }
    }

    /// The first disk.
    pub fn disk(&self) -> Arc<Vec<u8>> {
        self.disks.get(DISK).cloned().unwrap_or_default()
    }

    /// Writes the first disk anew.
    pub fn write(&mut self, bytes: Arc<Vec<u8>>) {
        self.disks.insert(DISK.to_owned(), bytes);
    }

    /// Takes a snapshot, as somebody else would.
    pub fn snapshot(&mut self, name: impl Into<String>) {
        self.snapshots.push(FakeSnapshot {
            name: name.into(),
            disks: self.disks.clone(),
            since: ChangeIds::new(),
            change_ids: ChangeIds::new(),
        });
    }

    /// Names of all snapshots.
    pub fn snapshot_names(&self) -> Vec<String> {
        self.snapshots.iter().map(|one| one.name.clone()).collect()
    }
}

/// What happens to a call.
#[derive(Clone)]
pub enum Act {
    /// It fails like this.
    Fail(ErrorKind, ErrorClass),
    /// It pauses until the test resumes it.
    Pause(PausedCall),
}

/// Whether a call has had its effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    /// Not yet.
    Before,
    /// It has.
    After,
}

struct Rule {
    operation: &'static str,
    guest: Option<String>,
    when: When,
    left: usize,
    act: Act,
}

/// A call that pauses: a test waits until it is made, and resumes it.
#[derive(Clone)]
pub struct PausedCall {
    reached: watch::Sender<bool>,
    resumed: watch::Sender<bool>,
}

impl Default for PausedCall {
    fn default() -> Self {
        Self::new()
    }
}

impl PausedCall {
    /// A call that has not been made yet.
    pub fn new() -> Self {
        Self {
            reached: watch::Sender::new(false),
            resumed: watch::Sender::new(false),
        }
    }

    /// Waits until the call is made.
    ///
    /// # Panics
    /// It is not made within a minute.
    pub async fn reached(&self) {
        let mut reached = self.reached.subscribe();
        let told = tokio::time::timeout(Duration::from_secs(60), reached.wait_for(|r| *r)).await;
        assert!(
            told.is_ok_and(|told| told.is_ok()),
            "the call was not made within a minute"
        );
    }

    /// Resumes the call.
    pub fn resume(&self) {
        self.resumed.send_replace(true);
    }

    async fn wait(&self) {
        self.reached.send_replace(true);
        let _ = self.resumed.subscribe().wait_for(|o| *o).await;
    }

    pub(super) fn wait_blocking(&self) {
        self.reached.send_replace(true);
        while !*self.resumed.borrow() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Size of a guest's disk.
pub const DISK_BYTES: usize = 512 * 1024;

/// Bytes that differ from guest to guest and from place to place.
pub fn pattern(seed: u8) -> Arc<Vec<u8>> {
    pattern_of(seed, DISK_BYTES)
}

/// As [`pattern`], of any length.
pub fn pattern_of(seed: u8, bytes: usize) -> Arc<Vec<u8>> {
    Arc::new(
        (0..bytes)
            .map(|i| (i / 7) as u8 ^ (i >> 13) as u8 ^ seed)
            .collect(),
    )
}

/// The locator of a guest that was added.
pub fn path(name: &str) -> String {
    format!("[standard] {name}/{name}")
}

/// A locator that is known to be one.
pub(super) fn locator(path: &str) -> Result<Locator> {
    Locator::new(path).map_err(|error| {
        HypervisorError::new(
            ErrorKind::GuestInvalid,
            ErrorClass::Permanent,
            error.to_string(),
        )
    })
}

impl World {
    /// A world without guests in which changes are followed in this way.
    pub fn tracking(tracking: ChangeTracking) -> Self {
        Self {
            tracking,
            ..Self::default()
        }
    }

    pub(super) fn change_tracking(&self) -> ChangeTracking {
        self.tracking
    }

    /// Adds a guest with one disk.
    pub fn add(&self, name: &str, power: PowerState) {
        let seed = name.bytes().fold(1, u8::wrapping_add);
        let disks = Disks::from([(DISK.to_owned(), pattern(seed))]);
        self.lock().insert(path(name), FakeGuest::new(power, disks));
    }

    /// Looks at a guest, or changes it.
    ///
    /// # Panics
    /// If there is no such guest.
    #[allow(clippy::expect_used, reason = "a broken test fails")]
    pub fn with<T>(&self, name: &str, look: impl FnOnce(&mut FakeGuest) -> T) -> T {
        look(
            self.lock()
                .get_mut(&path(name))
                .expect("the guest is in the world"),
        )
    }

    /// Removes a guest.
    pub fn remove(&self, name: &str) {
        self.lock().remove(&path(name));
    }

    /// From now on the next `times` calls of `operation` act like this.
    pub fn rule(
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
        self.rules.lock().push(rule);
    }

    /// As [`rule`](Self::rule), for what is done with a host.
    pub fn rule_for_host(&self, operation: &'static str, host: &str, times: usize, act: Act) {
        let rule = Rule {
            operation,
            guest: Some(host.to_owned()),
            when: When::Before,
            left: times,
            act,
        };
        self.rules.lock().push(rule);
    }

    /// The next calls of `operation` fail.
    pub fn fail(&self, operation: &'static str, times: usize, class: ErrorClass) {
        self.rule(
            operation,
            None,
            When::Before,
            times,
            Act::Fail(ErrorKind::Other, class),
        );
    }

    /// The next call of `operation` pauses.
    pub fn pause(&self, operation: &'static str, when: When) -> PausedCall {
        let paused = PausedCall::new();
        self.rule(operation, None, when, 1, Act::Pause(paused.clone()));
        paused
    }

    /// From now on no call fails or pauses.
    pub fn forget_rules(&self) {
        self.rules.lock().clear();
    }

    /// How often `operation` was called.
    pub fn calls(&self, operation: &str) -> usize {
        self.calls.lock().get(operation).copied().unwrap_or(0)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, BTreeMap<String, FakeGuest>> {
        self.guests.lock()
    }

    pub(super) fn act(&self, operation: &'static str, whose: &str, when: When) -> Option<Act> {
        if when == When::Before {
            *self.calls.lock().entry(operation).or_default() += 1;
        }
        let mut rules = self.rules.lock();
        let rule = rules.iter_mut().find(|r| {
            r.operation == operation
                && r.when == when
                && r.left > 0
                && r.guest.as_deref().is_none_or(|g| g == whose)
        })?;
        rule.left -= 1;
        Some(rule.act.clone())
    }

    pub(super) async fn pass(
        &self,
        operation: &'static str,
        whose: &str,
        when: When,
    ) -> Result<()> {
        match self.act(operation, whose, when) {
            None => Ok(()),
            Some(Act::Fail(kind, class)) => Err(HypervisorError {
                kind,
                class,
                message: format!("{operation} of {whose} refused {when:?} its effect"),
                code: None,
                location: None,
            }),
            Some(Act::Pause(paused)) => {
                paused.wait().await;
                Ok(())
            }
        }
    }
}

/// The error of a call to a guest that is not there.
pub(super) fn not_there(message: &str) -> HypervisorError {
    HypervisorError::new(ErrorKind::GuestNotFound, ErrorClass::Operator, message)
}
