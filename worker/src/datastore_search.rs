//! Where this machine reads the datastores of a host: directories that may be one are held against the files of the
//! guests that are registered in it.
//!
//! What a host says of its datastores and guests is only used as names of files to look for, below directories that the
//! mounts of this machine and the administrator's mappings give. Nothing is opened, and nothing is changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt,
    path::{Component, Path, PathBuf},
};

use tokio::{task::JoinSet, time::timeout};
use virtuozo_hypervisor::HostDatastore;
use virtuozo_model::{
    CandidateReason, DatastoreCandidate, DatastoreProposal, DatastoresProposed, ProposalOutcome,
};
use virtuozo_runtime::LIMITS;

use crate::{blocking::blocking, error::StepError};

/// Datastores of a host that are looked for; there are seldom more than ten.
const DATASTORES_MAX: usize = 100;
/// Files of guests that are looked for in each directory.
const FILES_MAX: usize = 1_000;
/// Directories of this machine that datastores are looked for in.
const PLACES_MAX: usize = 200;
/// Directories that are named of one datastore.
const CANDIDATES_MAX: usize = 20;
/// The longest name of a file.
const NAME_BYTES_MAX: usize = 255;
/// The longest path.
const PATH_BYTES_MAX: usize = 4_096;

/// Where administrators mount storage.
const USUAL_PLACES: [&str; 3] = ["/mnt", "/media", "/srv"];
/// File systems without files of anybody; a directory of `autofs` mounts what is looked for.
const NOT_STORAGE: [&str; 19] = [
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nsfs",
    "proc",
    "pstore",
    "rpc_pipefs",
    "securityfs",
    "sysfs",
    "tracefs",
];

/// What is known of a host's datastores on this machine.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    /// The host's name.
    pub(crate) host: String,
    /// Its datastores that are mapped, with their directories.
    pub(crate) mapped: BTreeMap<String, PathBuf>,
    /// The directories that datastores of any host are mapped to.
    pub(crate) mapped_of_all: Vec<PathBuf>,
}

/// Looks for the datastores of a host on this machine.
///
/// # Errors
/// The search has not ended within its limit.
pub(crate) async fn search(
    datastores: Vec<HostDatastore>,
    known: Known,
) -> Result<DatastoresProposed, StepError> {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let (mounts, silent) = that_answer(mounts_of(&mounts)).await;
    let searching = blocking(move || {
        let places = Places {
            known,
            mounts,
            silent,
        };
        Ok(places.find(datastores))
    });
    timeout(LIMITS.worker.datastore_search, searching).await.map_err(|_| {
        StepError::elsewhere(format!(
            "a directory of this machine does not answer: the datastores were not found within {} s",
            LIMITS.worker.datastore_search.as_secs()
        ))
    })?
}

/// A file system that is mounted on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    /// A device, `server:/export` or `//server/share`.
    device: String,
    directory: PathBuf,
}

/// The mounts of storage in the text of `/proc/mounts`.
fn mounts_of(text: &str) -> Vec<Mount> {
    let mount = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let (device, directory, kind) = (fields.next()?, fields.next()?, fields.next()?);
        (!NOT_STORAGE.contains(&kind)).then(|| Mount {
            device: unescaped(device),
            directory: PathBuf::from(unescaped(directory)),
        })
    };
    text.lines().filter_map(mount).take(PLACES_MAX).collect()
}

/// A field of `/proc/mounts`, in which blanks and backslashes are octal numbers.
fn unescaped(field: &str) -> String {
    [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ]
    .iter()
    .fold(field.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// The mounts that answer, and the directories of those that do not.
async fn that_answer(mounts: Vec<Mount>) -> (Vec<Mount>, Vec<PathBuf>) {
    let mut asked = JoinSet::new();
    for mount in mounts {
        asked.spawn(async move {
            let directory = mount.directory.clone();
            let asking = tokio::task::spawn_blocking(move || fs::metadata(directory).is_ok());
            match timeout(LIMITS.worker.mount, asking).await {
                Ok(Ok(true)) => Ok(mount),
                _ => Err(mount.directory),
            }
        });
    }
    let (mut answering, mut silent) = (Vec::new(), Vec::new());
    for one in asked.join_all().await {
        match one {
            Ok(mount) => answering.push(mount),
            Err(directory) => silent.push(directory),
        }
    }
    answering.sort_by(|one, other| one.directory.cmp(&other.directory));
    silent.sort();
    (answering, silent)
}

/// The directories of this machine that may be datastores.
struct Places {
    known: Known,
    mounts: Vec<Mount>,
    /// Directories of mounts that do not answer: nothing below them is touched.
    silent: Vec<PathBuf>,
}

/// A directory that exists.
struct Checked {
    candidate: DatastoreCandidate,
    /// Identifies it, by whatever path: device and number.
    identity: (u64, u64),
}

impl Places {
    fn find(&self, datastores: Vec<HostDatastore>) -> DatastoresProposed {
        let count = datastores.len();
        let known = datastores.into_iter().filter(|one| is_text(&one.name));
        let datastores: Vec<DatastoreProposal> = known
            .take(DATASTORES_MAX)
            .map(|one| self.propose(one))
            .collect();
        DatastoresProposed {
            left_out: count - datastores.len(),
            silent_mounts: self.silent.iter().map(|one| shown(one)).collect(),
            datastores,
        }
    }

    fn propose(&self, datastore: HostDatastore) -> DatastoreProposal {
        let files: BTreeSet<PathBuf> = datastore
            .guest_files
            .iter()
            .filter_map(|file| below(file))
            .take(FILES_MAX)
            .collect();
        let host_path = datastore.directory.filter(|path| is_text(path));
        let mapped = self.known.mapped.get(&datastore.name);
        let mut checked: Vec<Checked> = Vec::new();
        for (directory, why) in self.candidates(&datastore.name, host_path.as_deref()) {
            if checked.len() < CANDIDATES_MAX
                && let Some(one) = self.check(&directory, why, &files)
                && checked.iter().all(|other| other.identity != one.identity)
            {
                checked.push(one);
            }
        }
        // Where workers read it as it is: the first candidate, if it exists.
        let now = match mapped {
            Some(_) => CandidateReason::Mapped,
            None => CandidateReason::SamePath,
        };
        let candidates: Vec<DatastoreCandidate> =
            checked.into_iter().map(|one| one.candidate).collect();
        let (outcome, directory) = judge(&candidates, files.len(), now);
        DatastoreProposal {
            name: datastore.name,
            host_path,
            local_path: mapped.map(|path| shown(path)),
            guests: files.len(),
            outcome,
            directory,
            candidates,
        }
    }

    /// Directories that may be a datastore, the likeliest first.
    fn candidates(&self, name: &str, host_path: Option<&str>) -> Vec<(PathBuf, CandidateReason)> {
        let mut found: Vec<(PathBuf, CandidateReason)> = Vec::new();
        if let Some(mapped) = self.known.mapped.get(name) {
            found.push((mapped.clone(), CandidateReason::Mapped));
        }
        if let Some(path) = host_path.filter(|path| path.starts_with('/')) {
            found.push((PathBuf::from(path), CandidateReason::SamePath));
        }
        let names = [Some(name), host_path.map(last_component)];
        let names: Vec<&str> = names
            .into_iter()
            .flatten()
            .filter(|name| is_name(name))
            .collect();
        let share = host_path.map(|path| path.replace('\\', "/"));
        for mount in &self.mounts {
            let is_share = share
                .as_ref()
                .is_some_and(|share| share.eq_ignore_ascii_case(&mount.device));
            let base = mount.directory.file_name();
            if is_share {
                found.push((mount.directory.clone(), CandidateReason::SameShare));
            } else if names.iter().any(|name| base == Some(name.as_ref())) {
                found.push((mount.directory.clone(), CandidateReason::MountOfName));
            }
        }
        let beside = self.known.mapped.values().chain(&self.known.mapped_of_all);
        for parent in beside.filter_map(|path| path.parent()) {
            let of_name = names.iter().map(|name| parent.join(name));
            found.extend(of_name.map(|path| (path, CandidateReason::BesideMapped)));
        }
        let usual = USUAL_PLACES.iter().map(Path::new);
        let mounts = self.mounts.iter().map(|mount| mount.directory.as_path());
        for place in usual.chain(mounts) {
            for name in &names {
                found.push((place.join(name), CandidateReason::BelowMount));
                if is_name(&self.known.host) {
                    let path = place.join(&self.known.host).join(name);
                    found.push((path, CandidateReason::BelowMount));
                }
            }
        }
        let mut seen = BTreeSet::new();
        found.retain(|(path, _)| seen.insert(path.clone()));
        found
    }

    /// Which of the files lie in a directory; none if it is no directory, or in a mount that does not answer.
    fn check(
        &self,
        directory: &Path,
        why: CandidateReason,
        files: &BTreeSet<PathBuf>,
    ) -> Option<Checked> {
        if self
            .silent
            .iter()
            .any(|silent| directory.starts_with(silent))
        {
            return None;
        }
        let metadata = fs::metadata(directory).ok().filter(fs::Metadata::is_dir)?;
        let is_there = |file: &&PathBuf| {
            let found = fs::symlink_metadata(directory.join(file));
            found.is_ok_and(|found| found.is_file())
        };
        Some(Checked {
            identity: (metadata.dev(), metadata.ino()),
            candidate: DatastoreCandidate {
                directory: directory.to_str()?.to_owned(),
                why,
                guests_found: files.iter().filter(is_there).count(),
            },
        })
    }
}

/// What follows from the directories that exist, and the directory that it is about.
fn judge(
    candidates: &[DatastoreCandidate],
    guests: usize,
    now: CandidateReason,
) -> (ProposalOutcome, Option<String>) {
    let whole: Vec<&DatastoreCandidate> = candidates
        .iter()
        .filter(|one| guests > 0 && one.guests_found == guests)
        .collect();
    let found = |one: &DatastoreCandidate| Some(one.directory.clone());
    match (whole.iter().find(|one| one.why == now), whole.as_slice()) {
        (Some(one), _) => (ProposalOutcome::InPlace, found(one)),
        (None, [one]) => (ProposalOutcome::Found, found(one)),
        (None, [_, _, ..]) => (ProposalOutcome::Ambiguous, None),
        (None, []) if guests == 0 => (ProposalOutcome::NoGuests, None),
        (None, []) if candidates.iter().any(|one| one.guests_found > 0) => {
            (ProposalOutcome::Incomplete, None)
        }
        (None, []) => (ProposalOutcome::NotFound, None),
    }
}

/// A path below a datastore, if it is one: a path that stays there.
fn below(file: &str) -> Option<PathBuf> {
    let path = Path::new(file);
    let stays = path
        .components()
        .all(|part| matches!(part, Component::Normal(name) if name.len() <= NAME_BYTES_MAX));
    (stays && is_text(file)).then(|| path.to_owned())
}

/// Whether a text of a host can be a path or a name at all.
fn is_text(text: &str) -> bool {
    !text.is_empty() && text.len() <= PATH_BYTES_MAX && !text.contains('\0')
}

/// Whether a text is the name of one file.
fn is_name(text: &str) -> bool {
    let mut parts = Path::new(text).components();
    let is_one = matches!(parts.next(), Some(Component::Normal(name)) if name == text);
    is_one && parts.next().is_none() && text.len() <= NAME_BYTES_MAX && !text.contains('\0')
}

/// The last component of a path of any system.
fn last_component(path: &str) -> &str {
    let path = path.trim_end_matches(['/', '\\']);
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests;
