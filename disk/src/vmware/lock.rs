//! Lock directories (`F.lck`), by which VMware's hosted products mark files in use.

use std::{
    fs, io,
    io::Write,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use crate::{DiskError, OpenFile, Roots};

/// Size of a lock file in bytes.
const MEMBER_BYTES: usize = 512;
/// What is read of a lock file, in bytes.
const MAX_MEMBER_BYTES: u64 = 4096;
/// Entries of a lock directory that are looked at. Each is a program that holds the file.
const MAX_MEMBERS: usize = 4096;
/// A locker announces itself for an instant only; older announcements are left over from a crash.
const STALE_ANNOUNCEMENT: Duration = Duration::from_secs(60);
/// Two lockers that meet both step back; so often before the file counts as in use.
const ATTEMPTS: u32 = 20;

/// How a file is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockKind {
    /// For writing: nobody else may hold a lock.
    Exclusive,
    /// For reading: others may read too.
    Shared,
}

/// A file could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else holds it.
    #[error("{} is in use by {holder}", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
        /// Who: program and process, as far as known.
        holder: String,
    },
    /// The lock directory could not be read or written.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// Somebody who holds a lock, as a lock file names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The lock file.
    pub file: PathBuf,
    /// How the file is locked; exclusively where the lock file cannot be understood.
    pub kind: LockKind,
    /// Process id on its machine.
    pub pid: Option<u32>,
    /// Program, or what else the lock file says of its owner.
    pub program: String,
    /// It is certain that the holder is gone.
    pub stale: bool,
    lamport: u64,
}

/// A lock held by this process. Dropping it lets go of the lock.
#[derive(Debug)]
pub struct Lock {
    member: PathBuf,
    directory: PathBuf,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Nothing to be done about a failure: the next locker sees that this process is gone.
        let _ = fs::remove_file(&self.member);
        let _ = fs::remove_dir(&self.directory);
    }
}

/// The lock directory of a file.
pub fn directory(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lck");
    PathBuf::from(name)
}

/// Locks a file as VMware does. Locks of processes that are gone are cleared away.
///
/// # Errors
/// [`LockError::InUse`]; [`LockError::Disk`] where the directory cannot be written.
pub fn acquire(path: &Path, kind: LockKind, program: &str) -> Result<Lock, LockError> {
    for attempt in 0..ATTEMPTS {
        if let Some(lock) = try_acquire(path, kind, program)? {
            return Ok(lock);
        }
        // Another locker was at it in the same instant and steps back as well; the different pids
        // let one of them come back first.
        let spread = u64::from(std::process::id() % 7 + 1) * u64::from(attempt + 1);
        std::thread::sleep(Duration::from_millis(spread));
    }
    Err(LockError::InUse {
        path: path.to_owned(),
        holder: "another process that is locking it".to_owned(),
    })
}

/// Everybody who holds a lock on the file, also those who are gone. The lock files lie below `roots`.
///
/// # Errors
/// [`DiskError::Io`] where the lock directory cannot be read; a missing one has no holders. Those of
/// [`Roots::open`] for a lock file.
pub fn holders(roots: &Roots, path: &Path) -> Result<Vec<Holder>, DiskError> {
    let directory = directory(path);
    let mut names = match roots.list(&directory) {
        Ok(names) => names,
        Err(error) if error.is_not_found() => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    if names.len() > MAX_MEMBERS {
        return Err(DiskError::Malformed {
            path: directory,
            format: "lock directory",
            reason: format!("it has more than {MAX_MEMBERS} entries"),
        });
    }
    names.sort();
    let mut holders = Vec::new();
    for name in names {
        let file = directory.join(&name);
        if name.as_encoded_bytes().starts_with(b"M")
            && let Some(holder) = read_member(&file, roots.open(&file))?
        {
            holders.push(holder);
        }
    }
    Ok(holders)
}

/// The first holder of the file that may still be alive; none if the file is not in use.
///
/// # Errors
/// As [`holders`].
pub fn in_use(roots: &Roots, path: &Path) -> Result<Option<Holder>, DiskError> {
    Ok(holders(roots, path)?
        .into_iter()
        .find(|holder| !holder.stale))
}

/// When a process of this machine was started, in ticks since the machine was; none if it is gone
/// (a zombie is). With the pid it names a process for ever, since pids are given again.
pub fn process_start(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name stands in brackets and may itself hold brackets and blanks.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    if matches!(fields.next()?, "Z" | "X" | "x") {
        return None;
    }
    // Field 22 of proc(5); the state is field 3.
    fields.nth(18)?.parse().ok()
}

/// One attempt; none if another locker was met.
fn try_acquire(path: &Path, kind: LockKind, program: &str) -> Result<Option<Lock>, LockError> {
    let directory = directory(path);
    let pid = std::process::id();
    let start = process_start(pid).unwrap_or(0);
    if let Err(error) = fs::create_dir(&directory)
        && error.kind() != io::ErrorKind::AlreadyExists
    {
        return Err(DiskError::io("create", &directory)(error).into());
    }
    let announced = match announce(&directory)? {
        Some(announced) => announced,
        None => return Ok(None),
    };
    let member = |letter: char| directory.join(format!("{letter}{}.lck", announced.number));
    let mut claim = Lock {
        member: member('E'),
        directory: directory.clone(),
    };

    // Reading a directory may miss a lock file that appears, and the announcement that disappears,
    // while it goes on; the second reading then finds the lock file.
    let mut found = names(&directory)?;
    found.extend(names(&directory)?);
    found.sort();
    found.dedup();

    let mut lamport = 1;
    for name in found {
        let file = directory.join(&name);
        if name == announced.name {
            continue;
        }
        if name.starts_with('M') {
            let Some(holder) = read_member(&file, OpenFile::at(&file))? else {
                continue;
            };
            if holder.stale {
                let _ = fs::remove_file(&file);
            } else if kind == LockKind::Exclusive || holder.kind == LockKind::Exclusive {
                return Err(LockError::InUse {
                    path: path.to_owned(),
                    holder: holder.program,
                });
            } else {
                lamport = lamport.max(holder.lamport + 1);
            }
        } else if name.starts_with(['D', 'E']) {
            if !is_old(&file) {
                return Ok(None);
            }
            let _ = fs::remove_file(&file);
            let _ = fs::remove_dir(&file);
        }
    }

    let letter = match kind {
        LockKind::Exclusive => 'X',
        LockKind::Shared => 'S',
    };
    let program = program.replace([' ', '(', ')', '\n', '\0'], "_");
    let location = fnv1a(path.as_os_str().as_encoded_bytes()) as u32;
    let mut text = format!(
        "{} {pid}-{start}({program}) {lamport} {letter} {start} lc={location}",
        machine_id()
    )
    .into_bytes();
    text.resize(MEMBER_BYTES, 0);
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&claim.member)
        .and_then(|mut file| file.write_all(&text))
        .map_err(DiskError::io("write", &claim.member))?;
    // Between the announcement and here everybody else has stepped back, or announced later and
    // will find this file.
    let held = member('M');
    fs::rename(&claim.member, &held).map_err(DiskError::io("rename", &claim.member))?;
    claim.member = held;
    Ok(Some(claim))
}

/// A directory `D<n>.lck` that announces an attempt to others; removed when the attempt ends.
struct Announcement {
    path: PathBuf,
    name: String,
    number: String,
}

impl Drop for Announcement {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.path);
    }
}

/// None if somebody removed the lock directory in between.
fn announce(directory: &Path) -> Result<Option<Announcement>, DiskError> {
    let mut seed = fnv1a(format!("{}{:?}", std::process::id(), SystemTime::now()).as_bytes());
    loop {
        let number = format!("{:05}", seed % 100_000);
        seed = seed.wrapping_add(1);
        let name = format!("D{number}.lck");
        let path = directory.join(&name);
        match fs::create_dir(&path) {
            // Somebody holds the lock under this number: take another.
            Ok(()) if directory.join(format!("M{number}.lck")).exists() => {
                let _ = fs::remove_dir(&path);
            }
            Ok(()) => {
                return Ok(Some(Announcement { path, name, number }));
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(DiskError::io("create", &path)(error)),
        }
    }
}

fn is_old(path: &Path) -> bool {
    fs::metadata(path)
        .and_then(|metadata| metadata.modified())
        .is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age > STALE_ANNOUNCEMENT))
}

/// The names in a lock directory; none if there is no directory.
fn names(directory: &Path) -> Result<Vec<String>, DiskError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(DiskError::io("read", directory)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(DiskError::io("read", directory))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Reads a lock file; none if it has just gone.
fn read_member(
    file: &Path,
    opened: Result<OpenFile, DiskError>,
) -> Result<Option<Holder>, DiskError> {
    let opened = match opened {
        Ok(opened) => opened,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    };
    let bytes = opened.read_beginning(MAX_MEMBER_BYTES)?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(Some(parse_member(file, text.trim_end_matches('\0'))))
}

/// What a lock file says. What cannot be understood is a holder that is not gone.
fn parse_member(file: &Path, text: &str) -> Holder {
    let mut fields = text.split(' ');
    let machine = fields.next().unwrap_or_default();
    let execution = fields.next().unwrap_or_default();
    let lamport = fields.next().and_then(|field| field.parse().ok());
    let kind = match fields.next() {
        Some("S") => LockKind::Shared,
        _ => LockKind::Exclusive,
    };
    let (process, program) = execution.split_once('(').unwrap_or((execution, ""));
    let ids = process
        .split_once('-')
        .and_then(|(pid, start)| Some((pid.parse::<u32>().ok()?, start.parse::<u64>().ok()?)));
    let stale = machine == machine_id()
        && ids.is_some_and(|(pid, start)| process_start(pid) != Some(start));
    let pid = ids.map(|(pid, _)| pid);
    let program = match (program.trim_end_matches(')'), pid) {
        ("", _) => format!("the owner of {}", file.display()),
        (program, Some(pid)) => format!("{program} (process {pid})"),
        (program, None) => program.to_owned(),
    };
    Holder {
        file: file.to_owned(),
        kind,
        pid,
        program,
        stale,
        lamport: lamport.unwrap_or(0),
    }
}

/// Names the space in which a pid means something: the machine and its namespace of pids, so that
/// containers on one machine do not take each other's processes for gone.
fn machine_id() -> String {
    let machine = fs::read("/etc/machine-id")
        .or_else(|_| fs::read("/proc/sys/kernel/hostname"))
        .unwrap_or_default();
    let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let mut bytes = machine;
    bytes.extend_from_slice(namespace.as_os_str().as_encoded_bytes());
    format!("{:016x}", fnv1a(&bytes))
}

/// The FNV-1a hash; only has to be the same in every program that uses this crate.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn file() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.vmdk");
        (dir, path)
    }

    /// Writes a lock file by hand.
    fn plant(path: &Path, text: &str) {
        fs::create_dir_all(directory(path)).unwrap();
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(MEMBER_BYTES, 0);
        fs::write(directory(path).join("M00042.lck"), bytes).unwrap();
    }

    /// The directory of a file.
    fn beside(path: &Path) -> Roots {
        Roots::new(path.parent().map(Path::to_owned))
    }

    #[test]
    fn an_exclusive_lock_keeps_everybody_out_until_it_is_dropped() {
        let (_dir, path) = file();
        let lock = acquire(&path, LockKind::Exclusive, "guest").unwrap();
        let held = holders(&beside(&path), &path).unwrap();
        assert_eq!(held.len(), 1);
        assert_eq!(held[0].pid, Some(std::process::id()));
        assert!(!held[0].stale);
        assert_eq!(fs::read(&held[0].file).unwrap().len(), MEMBER_BYTES);
        for kind in [LockKind::Exclusive, LockKind::Shared] {
            let refused = acquire(&path, kind, "other").unwrap_err();
            assert!(refused.to_string().contains("guest"), "{refused}");
        }
        drop(lock);
        assert!(!directory(&path).exists());
        acquire(&path, LockKind::Exclusive, "other").unwrap();
    }

    #[test]
    fn a_lock_file_of_terabytes_is_read_to_a_bound_and_counts_as_held() {
        let (_dir, path) = file();
        plant(&path, "machine 1-1(vm) 1 S 1 lc=1");
        let member = directory(&path).join("M00042.lck");
        let member = fs::File::options().write(true).open(member).unwrap();
        // No machine has the memory for it.
        member.set_len(1 << 43).unwrap();
        let held = in_use(&beside(&path), &path).unwrap().unwrap();
        assert_eq!((held.kind, held.pid), (LockKind::Shared, Some(1)));
        assert!(held.program.len() < MAX_MEMBER_BYTES as usize);
    }

    #[test]
    fn a_lock_directory_of_many_thousand_entries_is_refused() {
        let (_dir, path) = file();
        fs::create_dir(directory(&path)).unwrap();
        for number in 0..=MAX_MEMBERS {
            fs::write(directory(&path).join(format!("x{number}")), "").unwrap();
        }
        let error = in_use(&beside(&path), &path).unwrap_err().to_string();
        assert!(error.contains("more than 4096 entries"), "{error}");
    }

    #[test]
    fn shared_locks_live_side_by_side_and_keep_writers_out() {
        let (_dir, path) = file();
        let first = acquire(&path, LockKind::Shared, "a").unwrap();
        let second = acquire(&path, LockKind::Shared, "b").unwrap();
        assert_eq!(holders(&beside(&path), &path).unwrap().len(), 2);
        assert!(acquire(&path, LockKind::Exclusive, "c").is_err());
        drop(first);
        assert!(in_use(&beside(&path), &path).unwrap().is_some());
        drop(second);
        assert!(in_use(&beside(&path), &path).unwrap().is_none());
    }

    #[test]
    fn the_lock_of_a_process_that_is_gone_or_a_zombie_is_stale() {
        let (_dir, path) = file();
        let mut child = Command::new("sleep")
            .arg("600")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let start = process_start(child.id()).unwrap();
        let text = format!(
            "{} {}-{start}(vm) 1 X {start} lc=1",
            machine_id(),
            child.id()
        );
        plant(&path, &text);
        assert!(in_use(&beside(&path), &path).unwrap().is_some());
        child.kill().unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while process_start(child.id()).is_some() {
            assert!(
                std::time::Instant::now() < deadline,
                "the child did not die"
            );
            std::thread::yield_now();
        }
        // Not waited for: it is a zombie now.
        assert!(in_use(&beside(&path), &path).unwrap().is_none());
        child.wait().unwrap();
        assert!(in_use(&beside(&path), &path).unwrap().is_none());
        acquire(&path, LockKind::Exclusive, "next").unwrap();
    }

    #[test]
    fn a_pid_that_was_given_again_does_not_keep_the_lock() {
        let (_dir, path) = file();
        let text = format!("{} {}-1(vm) 1 X 1 lc=1", machine_id(), std::process::id());
        plant(&path, &text);
        assert!(holders(&beside(&path), &path).unwrap()[0].stale);
    }

    #[test]
    fn locks_of_other_machines_and_unreadable_ones_are_never_stale() {
        let (_dir, path) = file();
        for text in [
            "6HlZAAL8AAAAAQAA 17189-201032(vmware-vmx) 1 X 201032 lc=2876438432",
            "uuid=56 4d 01 02",
            "",
        ] {
            plant(&path, text);
            assert!(in_use(&beside(&path), &path).unwrap().is_some(), "{text}");
            assert!(acquire(&path, LockKind::Shared, "me").is_err(), "{text}");
        }
    }

    #[test]
    fn an_empty_lock_directory_is_no_lock() {
        let (_dir, path) = file();
        fs::create_dir(directory(&path)).unwrap();
        assert!(in_use(&beside(&path), &path).unwrap().is_none());
        acquire(&path, LockKind::Exclusive, "me").unwrap();
    }

    #[test]
    fn of_many_lockers_at_once_only_one_holds_the_lock() {
        let (_dir, path) = file();
        let inside = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..25 {
                        if let Ok(lock) = acquire(&path, LockKind::Exclusive, "me") {
                            let others = inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                            assert_eq!(others, 0);
                            std::thread::yield_now();
                            inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                            drop(lock);
                        }
                    }
                });
            }
        });
        assert!(in_use(&beside(&path), &path).unwrap().is_none());
    }
}
