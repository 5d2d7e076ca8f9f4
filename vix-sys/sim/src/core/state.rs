//! A guest's power state on disk: `<vm>.simstate` beside its `.vmx`.

use std::path::{Path, PathBuf};

use virtuozo_disk::vmware::Dictionary;

use super::{
    error::{Result, SimError},
    files,
    process::ProcessId,
};

/// Whether a guest runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// Off; also after its process has died.
    Off,
    /// On: its process writes to the disks.
    On,
    /// Suspended to a `.vmss` file.
    Suspended,
}

/// What a running guest is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    PowerOff,
    Suspend,
}

/// The content of a `.simstate` file.
#[derive(Debug, Clone)]
pub(crate) struct State {
    pub(crate) power: Power,
    /// The guest process, while on.
    pub(crate) process: Option<ProcessId>,
    /// Grows whenever the guest must open its disks anew.
    pub(crate) generation: u64,
    pub(crate) request: Option<Request>,
    /// The last write before the guest was powered off or suspended.
    pub(crate) last_stamp: Option<u64>,
    /// Deltas that a change under way creates or is about to delete. After a crash those that nobody
    /// names are deleted.
    pub(crate) pending: Vec<String>,
    /// The snapshot that a change under way removes. After a crash the removal goes on.
    pub(crate) removing: Option<u64>,
}

pub(crate) fn path(vmx: &Path) -> PathBuf {
    vmx.with_extension("simstate")
}

impl State {
    /// Reads the file; without one the guest is off and new.
    pub(crate) fn load(vmx: &Path) -> Result<Self> {
        let path = path(vmx);
        let conf = if path.exists() {
            Dictionary::load(&path)?.0
        } else {
            Dictionary::new()
        };
        let number = |key: &str| conf.get(key).and_then(|text| text.parse::<u64>().ok());
        let process = number("pid")
            .and_then(|pid| u32::try_from(pid).ok())
            .zip(number("startTime"))
            .map(|(pid, start_time)| ProcessId { pid, start_time });
        let mut state = Self {
            power: match conf.get("state") {
                Some("on") => Power::On,
                Some("suspended") => Power::Suspended,
                _ => Power::Off,
            },
            process,
            generation: number("generation").unwrap_or(0),
            request: match conf.get("request") {
                Some("off") => Some(Request::PowerOff),
                Some("suspend") => Some(Request::Suspend),
                _ => None,
            },
            last_stamp: number("lastStamp"),
            pending: (0..)
                .map_while(|number| conf.get(&format!("pending{number}")))
                .map(str::to_owned)
                .collect(),
            removing: number("removing"),
        };
        if state.power == Power::On && !state.process.is_some_and(ProcessId::is_alive) {
            state.stop(Power::Off, None);
        }
        Ok(state)
    }

    /// No change of the disk chains is under way, or was when its process died.
    pub(crate) fn is_settled(&self) -> bool {
        self.pending.is_empty() && self.removing.is_none()
    }

    /// The guest does not run any more.
    pub(crate) fn stop(&mut self, power: Power, last_stamp: Option<u64>) {
        self.power = power;
        self.process = None;
        self.request = None;
        self.last_stamp = last_stamp;
    }

    pub(crate) fn save(&self, vmx: &Path) -> Result<()> {
        let mut conf = Dictionary::new();
        let mut set = |key: &str, value: Option<String>| {
            if let Some(value) = value {
                conf.set(key, &value);
            }
        };
        let state = match self.power {
            Power::Off => "off",
            Power::On => "on",
            Power::Suspended => "suspended",
        };
        let request = self.request.map(|request| match request {
            Request::PowerOff => "off",
            Request::Suspend => "suspend",
        });
        set("state", Some(state.to_owned()));
        set("pid", self.process.map(|one| one.pid.to_string()));
        set(
            "startTime",
            self.process.map(|one| one.start_time.to_string()),
        );
        set("generation", Some(self.generation.to_string()));
        set("request", request.map(str::to_owned));
        set("lastStamp", self.last_stamp.map(|stamp| stamp.to_string()));
        set("removing", self.removing.map(|uid| uid.to_string()));
        for (number, file) in self.pending.iter().enumerate() {
            set(&format!("pending{number}"), Some(file.clone()));
        }
        let path = path(vmx);
        files::replace(&path, &conf.to_bytes()).map_err(SimError::io("write", &path))
    }
}
