//! A copy goes on from what an earlier attempt under a lower fence has made durable, and from nothing else.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use proptest::prelude::*;
use virtuozo_disk::{BlockRange, BlockSource, DiskError, RangeKind};
use virtuozo_repository::{
    CopyObserver, ManifestKey, ManifestKeys, NewPoint, PointWriter, Repository, RepositoryError,
    SealedPoint, Stopped, Unobserved,
};

use crate::support::{Memory, StopAfter, UNIT, new_point, raw, tree, vmdk};

const MIB: usize = 1 << 20;

/// A source that says that it has not changed, and counts what is read of it.
struct Steady {
    memory: Memory,
    state: &'static str,
    read_bytes: AtomicU64,
}

impl Steady {
    fn new(mut memory: Memory) -> Self {
        let units = memory.bytes.chunks_mut(UNIT).zip(&memory.kinds);
        for (unit, _) in units.filter(|(_, kind)| **kind != RangeKind::Data) {
            unit.fill(0);
        }
        Self {
            memory,
            state: "as it was",
            read_bytes: AtomicU64::new(0),
        }
    }
}

impl BlockSource for Steady {
    fn size_bytes(&self) -> u64 {
        self.memory.size_bytes()
    }

    fn range_at(&self, offset_bytes: u64) -> Result<BlockRange, DiskError> {
        self.memory.range_at(offset_bytes)
    }

    fn read_at(&self, offset_bytes: u64, buf: &mut [u8]) -> Result<(), DiskError> {
        self.read_bytes
            .fetch_add(buf.len() as u64, Ordering::Relaxed);
        let from = offset_bytes as usize;
        buf.copy_from_slice(&self.memory.bytes[from..from + buf.len()]);
        Ok(())
    }

    fn fingerprint(&self) -> Option<String> {
        Some(self.state.to_owned())
    }
}

/// A disk with a delta, and a memory image: data with zeros and holes between.
struct Guest {
    base: Steady,
    delta: Steady,
    memory: Steady,
}

impl Guest {
    fn new() -> Self {
        let mut base = Memory::data(14 * MIB + 3 * UNIT);
        base.bytes[9 * MIB..9 * MIB + 200_000].fill(0);
        let units = base.kinds.len();
        base.kinds[units / 2..units / 2 + 40].fill(RangeKind::Zero);
        let mut delta = Memory::data(14 * MIB + 3 * UNIT);
        for (number, kind) in delta.kinds.iter_mut().enumerate() {
            *kind = match number / 37 % 3 {
                0 => RangeKind::Data,
                1 => RangeKind::Absent,
                _ => RangeKind::Zero,
            };
        }
        let mut memory = Memory::data(9 * MIB + 77);
        memory.bytes[5 * MIB..6 * MIB].fill(0);
        Self {
            base: Steady::new(base),
            delta: Steady::new(delta),
            memory: Steady::new(memory),
        }
    }

    fn changed(state: &'static str) -> Self {
        let mut guest = Self::new();
        for source in [&mut guest.base, &mut guest.delta, &mut guest.memory] {
            source.state = state;
            source.memory.bytes[6 * MIB + 5] ^= 0xff;
        }
        guest
    }

    fn read_bytes(&self) -> u64 {
        [&self.base, &self.delta, &self.memory]
            .iter()
            .map(|source| source.read_bytes.load(Ordering::Relaxed))
            .sum()
    }

    /// Copies all of it.
    fn copy(
        &self,
        mut writer: PointWriter,
        observer: &dyn CopyObserver,
    ) -> Result<SealedPoint, RepositoryError> {
        writer.add_small("web.vmx", b"displayName = \"web\"\n")?;
        writer.add_file(&vmdk("web.vmdk", None), &self.base, observer)?;
        writer.add_file(
            &vmdk("web-000001.vmdk", Some("web.vmdk")),
            &self.delta,
            observer,
        )?;
        writer.add_file(&raw("web.vmem"), &self.memory, observer)?;
        writer.seal()
    }
}

fn attempt(fence: i64) -> NewPoint {
    NewPoint {
        fence,
        ..new_point(1)
    }
}

/// An attempt under fence 1 that ends after so many blocks. Gives its directory.
fn broken_off(repo: &Repository, blocks: u64) -> PathBuf {
    let stopped = Guest::new().copy(first(repo), &StopAfter::new(blocks));
    assert!(matches!(stopped, Err(RepositoryError::Stopped(_))));
    partials(repo)
        .pop()
        .expect("the attempt left its directory")
}

/// Begins under fence 1, with a checkpoint after everything that happens.
fn first(repo: &Repository) -> PointWriter {
    let mut writer = repo.begin(attempt(1)).unwrap();
    writer.checkpoint_every(Duration::ZERO);
    writer
}

fn partials(repo: &Repository) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(repo.root().join("alpha.lab/web%2F1")).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with('.') {
            found.push(path);
        }
    }
    found
}

/// The files of a point without its manifest, which holds the time it was sealed.
fn files(repo: &Repository, sealed: &SealedPoint) -> Vec<(PathBuf, Vec<u8>)> {
    let dir = repo.root().join(&sealed.partial_path);
    let mut files = tree(&dir);
    files.retain(|(path, _)| path != Path::new("virtuozo-manifest.json"));
    files
}

fn fresh(guest: &Guest) -> Vec<(PathBuf, Vec<u8>)> {
    let dir = tempfile::tempdir().unwrap();
    let repo = Repository::create(dir.path()).unwrap();
    let sealed = guest
        .copy(repo.begin(attempt(2)).unwrap(), &Unobserved)
        .unwrap();
    files(&repo, &sealed)
}

fn temporary() -> (tempfile::TempDir, Repository) {
    let dir = tempfile::tempdir().unwrap();
    let repo = Repository::create(dir.path()).unwrap();
    (dir, repo)
}

/// A successor's point is whole, verified, and the same as one that was copied from the start.
fn succeed(repo: &Repository, guest: &Guest) -> SealedPoint {
    let sealed = guest
        .copy(repo.begin(attempt(2)).unwrap(), &Unobserved)
        .unwrap();
    let expected = fresh(guest);
    let found = files(repo, &sealed);
    assert_eq!(
        found.iter().map(|f| &f.0).collect::<Vec<_>>(),
        expected.iter().map(|f| &f.0).collect::<Vec<_>>()
    );
    for ((path, found), (_, expected)) in found.iter().zip(&expected) {
        assert!(found == expected, "{} differs", path.display());
    }
    let published = repo.publish(&sealed).unwrap();
    assert!(repo.verify(&published.path, None, &Unobserved).unwrap().ok);
    assert!(partials(repo).is_empty(), "{:?}", partials(repo));
    sealed
}

#[test]
fn a_successor_reads_only_what_its_predecessor_had_not_stored() {
    let whole = Guest::new();
    fresh(&whole);
    for (blocks, mib) in [(10, 3), (16, 8), (60, 10)] {
        let (_dir, repo) = temporary();
        broken_off(&repo, blocks);
        let guest = Guest::new();
        let sealed = succeed(&repo, &guest);
        assert!(
            sealed.resumed_bytes >= mib * MIB as u64,
            "after {blocks} blocks only {} bytes were taken over",
            sealed.resumed_bytes
        );
        // The other copy is the one from the start that it is compared with.
        assert_eq!(
            guest.read_bytes() + sealed.resumed_bytes,
            2 * whole.read_bytes()
        );
    }
}

#[test]
fn nothing_is_taken_over_where_the_source_has_changed() {
    let (_dir, repo) = temporary();
    broken_off(&repo, 20);
    assert_eq!(succeed(&repo, &Guest::changed("later")).resumed_bytes, 0);
}

#[test]
fn nothing_is_taken_over_that_was_not_written_with_the_key_of_the_site() {
    let keys =
        |secret: Option<u8>| ManifestKeys::new(secret.map(|byte| ManifestKey::new([byte; 32])));
    for (before, now, taken_over) in [
        (Some(1), Some(1), true),
        (None, None, true),
        (None, Some(1), false),
        (Some(2), Some(1), false),
    ] {
        let (_dir, repo) = temporary();
        broken_off(&repo.clone().with_keys(keys(before)), 20);
        let sealed = succeed(&repo.with_keys(keys(now)), &Guest::new());
        assert_eq!(sealed.resumed_bytes > 0, taken_over, "{before:?} {now:?}");
    }
}

#[test]
fn nothing_of_a_journal_is_taken_over_from_a_line_on_that_is_not_in_its_place() {
    let lines_of = |journal: &Path| -> Vec<String> {
        let text = fs::read_to_string(journal).unwrap();
        text.lines().map(str::to_owned).collect()
    };
    let (_dir, repo) = temporary();
    let journal = broken_off(&repo, 20).join("virtuozo-journal");
    let mut lines = lines_of(&journal);
    assert!(lines.len() > 3, "{lines:?}");
    lines.remove(1);
    fs::write(&journal, lines.join("\n") + "\n").unwrap();
    assert_eq!(succeed(&repo, &Guest::new()).resumed_bytes, 0);
}

#[test]
fn nothing_is_taken_over_of_a_source_that_cannot_tell_its_state() {
    let (_dir, repo) = temporary();
    let source = Memory::data(12 * MIB);
    for fence in [1, 2] {
        let mut writer = repo.begin(attempt(fence)).unwrap();
        writer.checkpoint_every(Duration::ZERO);
        writer
            .add_file(&vmdk("web.vmdk", None), &source, &Unobserved)
            .unwrap();
        if fence == 2 {
            assert_eq!(writer.seal().unwrap().resumed_bytes, 0);
        }
    }
}

#[test]
fn an_attempt_of_another_instant_is_removed_and_not_taken_over() {
    let (_dir, repo) = temporary();
    let old = broken_off(&repo, 20);
    let point = NewPoint {
        taken_at: attempt(2).taken_at + chrono::TimeDelta::nanoseconds(1),
        ..attempt(2)
    };
    let writer = repo.begin(point).unwrap();
    assert!(!old.exists());
    let sealed = Guest::new().copy(writer, &Unobserved).unwrap();
    assert_eq!(sealed.resumed_bytes, 0);
}

#[test]
fn of_several_attempts_the_one_that_got_furthest_is_taken_over() {
    let (_dir, repo) = temporary();
    let far = broken_off(&repo, 30);
    // It dies before it has taken over much.
    let mut middle = repo.begin(attempt(2)).unwrap();
    middle.checkpoint_every(Duration::ZERO);
    let stopped = Guest::new().copy(middle, &StopAfter::new(9));
    assert!(stopped.is_err());
    assert_eq!(partials(&repo).len(), 2);
    let writer = repo.begin(attempt(3)).unwrap();
    assert!(far.exists());
    assert_eq!(partials(&repo).len(), 2, "the one in between is removed");
    let sealed = Guest::new().copy(writer, &Unobserved).unwrap();
    assert!(sealed.resumed_bytes > 8 * MIB as u64);
}

#[test]
fn an_earlier_attempt_can_be_given_up_for_its_space() {
    let (_dir, repo) = temporary();
    let old = broken_off(&repo, 20);
    let mut writer = repo.begin(attempt(2)).unwrap();
    assert!(writer.discard_earlier());
    assert!(!old.exists());
    assert!(!writer.discard_earlier());
    let sealed = Guest::new().copy(writer, &Unobserved).unwrap();
    assert_eq!(sealed.resumed_bytes, 0);
}

#[test]
fn an_attempt_of_another_run_is_left_alone() {
    let (_dir, repo) = temporary();
    let old = broken_off(&repo, 20);
    let other = NewPoint {
        fence: 9,
        ..new_point(2)
    };
    let sealed = Guest::new()
        .copy(repo.begin(other).unwrap(), &Unobserved)
        .unwrap();
    assert_eq!(sealed.resumed_bytes, 0);
    assert!(old.exists());
}

/// Stands still at a block until it is told to go on.
struct Frozen {
    at: AtomicU64,
    there: mpsc::SyncSender<()>,
    go_on: parking_lot::Mutex<mpsc::Receiver<()>>,
}

impl CopyObserver for Frozen {
    fn progress(&self, _: &str, _: u64, _: u64) {}

    fn wait_allowed(&self) -> Result<(), Stopped> {
        if self.at.fetch_sub(1, Ordering::Relaxed) == 0 {
            self.there.send(()).unwrap();
            self.go_on.lock().recv().unwrap();
        }
        Ok(())
    }
}

#[test]
fn a_predecessor_that_wakes_up_and_writes_on_changes_nothing() {
    let (_dir, repo) = temporary();
    let (there, is_there) = mpsc::sync_channel(1);
    let (wake, go_on) = mpsc::sync_channel(1);
    let frozen = Frozen {
        at: AtomicU64::new(20),
        there,
        go_on: parking_lot::Mutex::new(go_on),
    };
    let zombie_repo = repo.clone();
    let zombie = thread::spawn(move || Guest::new().copy(first(&zombie_repo), &frozen));
    is_there.recv().unwrap();

    // The successor stands in the middle of its copy, and has taken over some, when the other wakes up.
    let (there, is_there) = mpsc::sync_channel(1);
    let (wake_successor, go_on) = mpsc::sync_channel(1);
    let between = Frozen {
        at: AtomicU64::new(12),
        there,
        go_on: parking_lot::Mutex::new(go_on),
    };
    let old = partials(&repo).pop().unwrap();
    let successor_repo = repo.clone();
    let successor = thread::spawn(move || {
        Guest::new().copy(successor_repo.begin(attempt(2)).unwrap(), &between)
    });
    is_there.recv().unwrap();
    wake.send(()).unwrap();
    let sealed_by_zombie = zombie.join().unwrap();
    // Worse than any zombie does: all that it has stored becomes something else.
    for (path, bytes) in tree(&old) {
        fs::write(old.join(path), vec![0xAA; bytes.len()]).unwrap();
    }
    wake_successor.send(()).unwrap();
    let sealed = successor.join().unwrap().unwrap();
    assert!(sealed.resumed_bytes > MIB as u64);
    let expected = fresh(&Guest::new());
    assert!(files(&repo, &sealed) == expected, "the copies differ");
    let published = repo.publish(&sealed).unwrap();
    assert!(repo.verify(&published.path, None, &Unobserved).unwrap().ok);
    // What the zombie sealed is gone and cannot take the place of the published point.
    if let Ok(stale) = sealed_by_zombie {
        assert!(repo.publish(&stale).is_err());
    }
    assert_eq!(repo.list().unwrap().len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]

    #[test]
    fn whatever_is_damaged_in_what_is_left_behind_the_copy_is_right(
        blocks in 5_u64..45,
        damage in proptest::collection::vec((0_usize..4, any::<proptest::sample::Index>(), 1_u8..), 1..6),
        cut in proptest::option::of(any::<proptest::sample::Index>()),
    ) {
        let (_dir, repo) = temporary();
        let old = broken_off(&repo, blocks);
        let mut names: Vec<_> = tree(&old).into_iter().map(|(path, _)| path).collect();
        names.retain(|path| path != Path::new("web.vmx"));
        for (file, at, change) in damage {
            let path = old.join(&names[file % names.len()]);
            let mut bytes = fs::read(&path).unwrap();
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] ^= change;
                fs::write(&path, bytes).unwrap();
            }
        }
        if let Some(cut) = cut {
            let path = old.join("virtuozo-journal");
            let bytes = fs::read(&path).unwrap();
            fs::write(&path, &bytes[..cut.index(bytes.len())]).unwrap();
        }
        succeed(&repo, &Guest::new());
    }
}
