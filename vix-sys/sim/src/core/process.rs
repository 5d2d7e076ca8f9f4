//! Guest processes: which one is meant, whether it lives, and how one is started.

use std::{
    ffi::{CStr, c_void},
    io::{BufRead, BufReader},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use virtuozo_disk::vmware::lock::process_start;
use vix_sys::{VIX_E_CANNOT_POWER_ON_VM, VixError};

use super::error::{Result, SimError};

/// Names the program that guests run in, instead of the one beside the library.
pub(crate) const GUEST_PROGRAM_VARIABLE: &str = "VIRTUOZO_SIM_GUEST";
const GUEST_PROGRAM: &str = "vix-sim-guest";

/// A process for ever: pids are given again, but not with the same start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProcessId {
    pub(crate) pid: u32,
    /// In ticks since the machine was started.
    pub(crate) start_time: u64,
}

impl ProcessId {
    pub(crate) fn of(pid: u32) -> Option<Self> {
        process_start(pid).map(|start_time| Self { pid, start_time })
    }

    pub(crate) fn me() -> Option<Self> {
        Self::of(std::process::id())
    }

    pub(crate) fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Ends the process at once, if it is still the same.
    pub(crate) fn kill(self) {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid.filter(|_| self.is_alive()) {
            // It may have ended by itself in between.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// Starts a guest process, which belongs to nobody and outlives this one, and waits until it has
/// opened its disks.
pub(crate) fn start_guest(vmx: &Path) -> Result<ProcessId> {
    let failed = |code: VixError, why: String| {
        SimError::new(code, format!("cannot power on {}: {why}", vmx.display()))
    };
    let program = guest_program()?;
    // The program starts itself once more and ends, so that the guest is no child of this process.
    let mut launcher = Command::new(&program)
        .arg("--launch")
        .arg(vmx)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| {
            failed(
                VIX_E_CANNOT_POWER_ON_VM,
                format!("cannot start {}: {error}", program.display()),
            )
        })?;
    let mut answer = String::new();
    if let Some(stdout) = launcher.stdout.take() {
        // A guest that dies closes the pipe: an empty answer.
        let _ = BufReader::new(stdout).read_line(&mut answer);
    }
    let _ = launcher.wait();
    let (word, rest) = answer.trim_end().split_once(' ').unwrap_or_default();
    match word {
        "ready" => rest.parse().ok().and_then(ProcessId::of).ok_or_else(|| {
            failed(
                VIX_E_CANNOT_POWER_ON_VM,
                "the guest process ended at once".to_owned(),
            )
        }),
        "failed" => {
            let (code, why) = rest.split_once(' ').unwrap_or((rest, ""));
            let code = code.parse().unwrap_or(VIX_E_CANNOT_POWER_ON_VM);
            Err(failed(code, why.to_owned()))
        }
        _ => Err(failed(
            VIX_E_CANNOT_POWER_ON_VM,
            format!("{} ended without an answer", program.display()),
        )),
    }
}

/// The guest program: what the variable names, else beside the file this code was loaded from (or in
/// the directory above, where cargo puts programs), else beside the running program.
fn guest_program() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os(GUEST_PROGRAM_VARIABLE) {
        return Ok(named.into());
    }
    let own = [this_file(), std::env::current_exe().ok()];
    own.iter()
        .flatten()
        .flat_map(|file| file.ancestors().skip(1).take(2))
        .map(|directory| directory.join(GUEST_PROGRAM))
        .find(|program| program.is_file())
        .ok_or_else(|| {
            SimError::new(
                VIX_E_CANNOT_POWER_ON_VM,
                format!(
                    "{GUEST_PROGRAM} is not beside the simulator library: build the whole workspace, or name it in {GUEST_PROGRAM_VARIABLE}"
                ),
            )
        })
}

/// The library or program this code is in.
fn this_file() -> Option<PathBuf> {
    // SAFETY: dladdr fills the structure for an address inside a loaded object, which this function
    // is; the name it gives lives as long as the object.
    let name = unsafe {
        let mut info: libc::Dl_info = std::mem::zeroed();
        let address = guest_program as *const () as *const c_void;
        if libc::dladdr(address, &mut info) == 0 || info.dli_fname.is_null() {
            return None;
        }
        CStr::from_ptr(info.dli_fname).to_bytes()
    };
    let path = Path::new(std::ffi::OsStr::from_bytes(name));
    path.canonicalize().ok()
}
