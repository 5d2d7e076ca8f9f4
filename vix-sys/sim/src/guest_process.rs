//! The process that is a running guest: holds the locks of its files and writes stamps to its disks
//! until it is asked to stop.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use virtuozo_disk::{
    SECTOR_BYTES,
    vmdk::{Chain, WritableDisk},
    vmware::lock::{self, Lock, LockKind},
};
use vix_sys::VIX_E_CANNOT_POWER_ON_VM;

use crate::limits::LIMITS;
use crate::{
    core::{
        error::{Result, SimError},
        guest::Guest,
        power,
        process::ProcessId,
        state::{Power, Request, State},
    },
    stamps::{self, Placer, Stamp},
};

const DEFAULT_WRITES_PER_SECOND: u64 = 500;
/// Most writes in one batch: after a long wait the guest does not make up for all of it.
const MAX_BATCH: u64 = 64;
const PROGRAM: &str = "vmware-vmx";

/// The program `vix-sim-guest`: `--launch VMX` starts the guest as a process of its own and ends;
/// `--run VMX` is the guest.
pub fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [mode, vmx] = arguments.as_slice() else {
        eprintln!("vix-sim-guest is started by the simulator library: --run VMX");
        return ExitCode::from(2);
    };
    let vmx = PathBuf::from(vmx);
    match mode.to_str() {
        Some("--launch") => launch(&vmx),
        Some("--run") => run(&vmx),
        _ => ExitCode::from(2),
    }
}

fn launch(vmx: &Path) -> ExitCode {
    let started = std::env::current_exe().and_then(|program| {
        Command::new(program)
            .arg("--run")
            .arg(vmx)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
    });
    match started {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            println!("failed {VIX_E_CANNOT_POWER_ON_VM} cannot start the guest process: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(vmx: &Path) -> ExitCode {
    // Signals for the terminal or job that powered the guest on are not for the guest.
    let _ = rustix::process::setsid();
    let mut machine = match Machine::boot(vmx) {
        Ok(machine) => machine,
        Err(error) => {
            println!("failed {} {}", error.code, error.message.replace('\n', " "));
            return ExitCode::FAILURE;
        }
    };
    println!("ready {}", std::process::id());
    let _ = std::io::stdout().flush();
    // Whoever powered the guest on may read this pipe to its end.
    if let Ok(null) = std::fs::File::options().write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdout(&null);
    }
    loop {
        match machine.turn() {
            Ok(true) => std::thread::sleep(machine.nap()),
            Ok(false) => return ExitCode::SUCCESS,
            // As a crash of the guest: without a process it is off.
            Err(_) => return ExitCode::FAILURE,
        }
    }
}

struct OpenDisk {
    disk: WritableDisk,
    /// Locks of the newest link and of all parents.
    _locks: Vec<Lock>,
}

struct Machine {
    guest: Guest,
    me: ProcessId,
    generation: u64,
    seed: u64,
    disks: Vec<OpenDisk>,
    placer: Placer,
    /// The last write.
    k: u64,
    writes_per_second: u64,
    last_batch: Instant,
    /// None once the guest has stopped.
    vmx_lock: Option<Lock>,
}

impl Machine {
    /// Opens the disks and finds the last write on them. Whoever powers the guest on holds its lock.
    fn boot(vmx: &Path) -> Result<Self> {
        let guest = Guest::new(vmx.to_owned(), false);
        let me = ProcessId::me().ok_or_else(|| {
            SimError::new(
                VIX_E_CANNOT_POWER_ON_VM,
                "cannot read /proc about this process",
            )
        })?;
        let config = guest.config()?;
        let vmx_lock = lock::acquire(vmx, LockKind::Exclusive, PROGRAM)?;
        let disks = open_disks(&guest)?;
        let sizes: Vec<u64> = disks.iter().map(|one| one.disk.size_bytes()).collect();
        let seed = guest.seed(&config);
        let found = stamps::read_with(seed, &sizes, |disk, offset_bytes, buf| {
            disks
                .get(disk)
                .map_or(Ok(()), |one| one.disk.read_at(offset_bytes, buf))
        })
        .map_err(|why| SimError::new(VIX_E_CANNOT_POWER_ON_VM, why))?;
        Ok(Self {
            generation: guest.state()?.generation,
            me,
            seed,
            placer: Placer::new(seed, &sizes),
            disks,
            k: found.iter().map(|stamp| stamp.k).max().unwrap_or(0),
            writes_per_second: config
                .dictionary
                .get("sim.writesPerSecond")
                .and_then(|text| text.parse().ok())
                .unwrap_or(DEFAULT_WRITES_PER_SECOND),
            last_batch: Instant::now(),
            vmx_lock: Some(vmx_lock),
            guest,
        })
    }

    /// Time for one write at the guest's rate, within limits.
    fn nap(&self) -> Duration {
        Duration::from_secs(1)
            .checked_div(u32::try_from(self.writes_per_second).unwrap_or(u32::MAX))
            .unwrap_or(LIMITS.longest_nap)
            .clamp(LIMITS.shortest_nap, LIMITS.longest_nap)
    }

    /// One batch of writes under the guest's lock; false when the guest is to run no more.
    fn turn(&mut self) -> Result<bool> {
        let guest = self.guest.clone();
        let mut locked = guest.lock_as_it_is()?;
        let state = &locked.state;
        if state.power != Power::On || state.process != Some(self.me) {
            return Ok(false);
        }
        if let Some(request) = state.request {
            self.stop(request, &mut locked.state)?;
            return Ok(false);
        }
        if state.generation != self.generation {
            // The old ones must be gone first: one file may change its place in the chain.
            self.disks.clear();
            // Whoever changed the chains may have died in it.
            locked.recover()?;
            self.disks = open_disks(&guest)?;
            self.generation = locked.state.generation;
        }
        let due =
            self.last_batch.elapsed().as_micros() * u128::from(self.writes_per_second) / 1_000_000;
        let due = u64::try_from(due).unwrap_or(MAX_BATCH).min(MAX_BATCH);
        if due > 0 {
            self.last_batch = Instant::now();
        }
        for _ in 0..due {
            self.write_next()?;
        }
        Ok(true)
    }

    fn write_next(&mut self) -> Result<()> {
        let k = self.k + 1;
        let Some((disk, sector)) = self.placer.place(k) else {
            return Ok(());
        };
        if let Some(open) = self.disks.get_mut(disk) {
            let stamp = Stamp {
                k,
                seed: self.seed,
                disk,
                sector,
            };
            open.disk
                .write_at(sector * SECTOR_BYTES, &stamps::encode(&stamp))?;
            self.k = k;
        }
        Ok(())
    }

    fn stop(&mut self, request: Request, state: &mut State) -> Result<()> {
        for open in &mut self.disks {
            open.disk.sync()?;
        }
        self.disks.clear();
        let power = match request {
            Request::PowerOff => Power::Off,
            Request::Suspend => {
                power::write_suspend_state(&self.guest)?;
                Power::Suspended
            }
        };
        // Whoever reads that the guest is off must find no lock of it.
        self.vmx_lock = None;
        state.stop(power, Some(self.k));
        state.save(&self.guest.vmx)
    }
}

/// Writes to the disks of a guest that does not run, as if it had run for a while.
pub(crate) fn write_offline(guest: &Guest, writes: u64) -> Result<()> {
    let _lock = guest.lock()?;
    let mut machine = Machine::boot(&guest.vmx)?;
    for _ in 0..writes {
        machine.write_next()?;
    }
    machine
        .disks
        .iter_mut()
        .try_for_each(|open| Ok(open.disk.sync()?))
}

fn open_disks(guest: &Guest) -> Result<Vec<OpenDisk>> {
    let config = guest.config()?;
    let mut open = Vec::new();
    for disk in guest.disks(&config) {
        let mut locks = vec![lock::acquire(&disk.path, LockKind::Exclusive, PROGRAM)?];
        for parent in Chain::open(&disk.path, &[])?.layers().iter().skip(1) {
            locks.push(lock::acquire(parent.path(), LockKind::Shared, PROGRAM)?);
        }
        open.push(OpenDisk {
            disk: WritableDisk::open(&disk.path)?,
            _locks: locks,
        });
    }
    Ok(open)
}
