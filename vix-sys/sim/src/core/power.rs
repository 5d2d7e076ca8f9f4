//! Power operations: starting the guest process and asking it to stop.

use std::{
    fs,
    time::{Duration, Instant},
};

use virtuozo_disk::vmdk;
use vix_sys::{
    VIX_E_HOST_NOT_CONNECTED, VIX_E_TIMEOUT_WAITING_FOR_TOOLS, VIX_E_TOOLS_NOT_RUNNING,
    VIX_E_VM_IS_RUNNING, VIX_E_VM_NOT_RUNNING,
};

use super::{
    error::{Result, SimError},
    files,
    guest::Guest,
    process::{self, ProcessId},
    state::{Power, Request},
};
use crate::limits::LIMITS;

/// Powers a guest on, or resumes it. Returns when its process has opened the disks.
pub(crate) fn on(guest: &Guest) -> Result<()> {
    let mut locked = guest.lock()?;
    if locked.is_on() {
        return Err(SimError::new(
            VIX_E_VM_IS_RUNNING,
            format!("{} is on already", guest.vmx.display()),
        ));
    }
    let mut config = guest.config()?;
    for disk in guest.disks(&config) {
        let chain = vmdk::Chain::open(&disk.path, &[])?;
        // What the tables name must be there, too.
        virtuozo_disk::ranges(&chain).try_for_each(|range| range.map(|_| ()))?;
    }
    let process = process::start_guest(&guest.vmx)?;
    locked.state.power = Power::On;
    locked.state.process = Some(process);
    locked.state.request = None;
    locked.save_state()?;
    if let Some(state_file) = config.suspend_state() {
        let path = guest.dir().join(state_file);
        config.dictionary.set("checkpoint.vmState", "");
        locked.write_config(&config)?;
        files::remove(&path).map_err(SimError::io("delete", &path))?;
    }
    Ok(())
}

/// Powers a guest off: at once, or softly through Tools. A guest that ignores the soft way never ends
/// it: the wait lasts until it is off for another reason, or `abandoned`.
pub(crate) fn off(guest: &Guest, soft: bool, abandoned: &dyn Fn() -> bool) -> Result<()> {
    if !soft {
        return stop(guest, Request::PowerOff);
    }
    let config = guest.config()?;
    refuse_if_off(guest)?;
    if !guest.has_tools(&config) {
        return Err(SimError::new(
            VIX_E_TOOLS_NOT_RUNNING,
            format!("{} has no Tools running", guest.vmx.display()),
        ));
    }
    if config.dictionary.get_bool("sim.ignoreShutdown") != Some(true) {
        return stop(guest, Request::PowerOff);
    }
    while guest.state()?.power == Power::On {
        if abandoned() {
            return Err(gone());
        }
        std::thread::sleep(LIMITS.look_every);
    }
    Ok(())
}

/// Suspends a running guest.
pub(crate) fn suspend(guest: &Guest) -> Result<()> {
    stop(guest, Request::Suspend)
}

/// A running guest goes on as it was, after a look at its disks.
pub(crate) fn reset(guest: &Guest) -> Result<()> {
    let mut locked = guest.lock()?;
    refuse_if(!locked.is_on(), guest)?;
    locked.begin(&[], None)?;
    locked.end()
}

/// Waits until Tools run; `timeout` none waits for ever.
pub(crate) fn wait_for_tools(
    guest: &Guest,
    timeout: Option<Duration>,
    abandoned: &dyn Fn() -> bool,
) -> Result<()> {
    let start = Instant::now();
    loop {
        refuse_if_off(guest)?;
        if guest.has_tools(&guest.config()?) {
            return Ok(());
        }
        if timeout.is_some_and(|limit| start.elapsed() >= limit) {
            return Err(SimError::new(
                VIX_E_TIMEOUT_WAITING_FOR_TOOLS,
                format!("no Tools in {}", guest.vmx.display()),
            ));
        }
        if abandoned() {
            return Err(gone());
        }
        std::thread::sleep(LIMITS.look_every);
    }
}

/// Ends a guest process without asking, as a crash of the guest would. Nothing is said on disk: the
/// state of a guest without a process is off.
pub(crate) fn kill(guest: &Guest) -> Result<()> {
    if let Some(process) = guest.state()?.process {
        process.kill();
    }
    Ok(())
}

fn gone() -> SimError {
    SimError::new(VIX_E_HOST_NOT_CONNECTED, "the connection was ended")
}

fn refuse_if(off: bool, guest: &Guest) -> Result<()> {
    if off {
        return Err(SimError::new(
            VIX_E_VM_NOT_RUNNING,
            format!("{} is not on", guest.vmx.display()),
        ));
    }
    Ok(())
}

fn refuse_if_off(guest: &Guest) -> Result<()> {
    refuse_if(guest.state()?.power != Power::On, guest)
}

fn stop(guest: &Guest, request: Request) -> Result<()> {
    let process = {
        let mut locked = guest.lock()?;
        refuse_if(!locked.is_on(), guest)?;
        locked.state.request = Some(request);
        locked.save_state()?;
        locked.state.process
    };
    let start = Instant::now();
    while guest.state()?.process == process {
        if start.elapsed() > LIMITS.stop {
            process.into_iter().for_each(ProcessId::kill);
        }
        std::thread::sleep(LIMITS.look_every);
    }
    // The state file says what the process said last, or that it is gone: either is the truth.
    let locked = guest.lock()?;
    locked.save_state()
}

/// Writes the state file of a guest that is being suspended and names it in the configuration.
pub(crate) fn write_suspend_state(guest: &Guest) -> Result<()> {
    let mut config = guest.config()?;
    let name = format!("{}-suspend.vmss", guest.stem());
    let path = guest.dir().join(&name);
    let bytes = crate::lab::fill::pseudo_random(guest.seed(&config), 64 << 10);
    fs::write(&path, bytes).map_err(SimError::io("write", &path))?;
    config.dictionary.set("checkpoint.vmState", &name);
    files::replace(&guest.vmx, &config.dictionary.to_bytes())
        .map_err(SimError::io("write", &guest.vmx))
}
