//! The files of a guest's disk chains: what names them, their parents, and the begin and end of a change of them.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
};

use virtuozo_disk::{
    vmdk,
    vmware::{vmsd::Vmsd, vmx::Vmx},
};

use super::{
    error::{Result, SimError},
    files,
    guest::{Guest, Locked},
};

/// Who names a file of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NamedBy {
    /// The configuration: the guest writes to it.
    Current,
    /// A snapshot, which froze it.
    Snapshot(u64),
}

/// A file that the configuration or a snapshot names.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub(crate) file_name: String,
    pub(crate) path: PathBuf,
    pub(crate) named_by: NamedBy,
}

/// All files that the configuration or a snapshot names, each once.
pub(crate) fn links(guest: &Guest, config: &Vmx, vmsd: &Vmsd) -> Vec<Link> {
    let current = guest
        .disks(config)
        .into_iter()
        .map(|disk| (disk.file_name, NamedBy::Current));
    let frozen = vmsd.snapshots.iter().flat_map(|snapshot| {
        let named_by = NamedBy::Snapshot(snapshot.uid);
        snapshot
            .disks
            .iter()
            .map(move |disk| (disk.file_name.clone(), named_by))
    });
    let mut seen = HashSet::new();
    current
        .chain(frozen)
        .filter(|(file_name, _)| seen.insert(file_name.clone()))
        .map(|(file_name, named_by)| Link {
            path: guest.dir().join(&file_name),
            file_name,
            named_by,
        })
        .collect()
}

/// The links whose parent is `path`.
pub(crate) fn children_of<'a>(links: &'a [Link], path: &Path) -> Result<Vec<&'a Link>> {
    let mut children = Vec::new();
    for link in links.iter().filter(|link| link.path != path) {
        if parent_of(&link.path)?.as_deref() == Some(path) {
            children.push(link);
        }
    }
    Ok(children)
}

fn parent_of(path: &Path) -> Result<Option<PathBuf>> {
    let layer = vmdk::Layer::open(path)?;
    let hint = layer.descriptor().parent_hint().map(PathBuf::from);
    Ok(hint.map(|hint| path.with_file_name("").join(hint)))
}

impl Locked<'_> {
    /// Begins a change of the disk chains: says which deltas come or go, which snapshot goes, and that
    /// a running guest must open its disks anew, whether this process lives to the end or not.
    pub(crate) fn begin(&mut self, deltas: &[String], removing: Option<u64>) -> Result<()> {
        self.state.generation += 1;
        self.state.removing = removing;
        for name in deltas {
            if !self.state.pending.contains(name) {
                self.state.pending.push(name.clone());
            }
        }
        self.save_state()
    }

    /// Ends a change: a pending delta that nobody names any more is wholly in its parent, or was never
    /// used. Its children get its parent, and it is deleted.
    pub(crate) fn end(&mut self) -> Result<()> {
        let config = self.guest.config()?;
        let vmsd = self.guest.vmsd()?;
        let links = links(self.guest, &config, &vmsd);
        for name in std::mem::take(&mut self.state.pending) {
            if links.iter().any(|link| link.file_name == name) {
                continue;
            }
            let path = self.guest.dir().join(&name);
            if path.exists() {
                for child in children_of(&links, &path)? {
                    if let Some(parent) = parent_of(&path)? {
                        vmdk::set_parent(&child.path, parent)?;
                    }
                }
            }
            remove_disk(&path)?;
        }
        self.state.removing = None;
        self.save_state()
    }

    /// Deletes a snapshot's state file and memory.
    pub(crate) fn remove_state_files(&self, state_file: Option<&str>) -> Result<()> {
        if let Some(name) = state_file {
            let path = self.guest.dir().join(name);
            for path in [path.with_extension("vmem"), path] {
                files::remove(&path).map_err(SimError::io("delete", &path))?;
            }
        }
        Ok(())
    }
}

/// Deletes a disk: its parts `<stem>-s001.vmdk` and so on, and the descriptor last.
fn remove_disk(path: &Path) -> Result<()> {
    let stem = path.with_extension("");
    for number in 1.. {
        let part = files::with_suffix(&stem, &format!("-s{number:03}.vmdk"));
        match fs::remove_file(&part) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) => return Err(SimError::io("delete", &part)(error)),
        }
    }
    files::remove(path).map_err(SimError::io("delete", path))
}
