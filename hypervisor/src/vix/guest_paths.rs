//! Where the names in a guest's files lead: below its own folder or a datastore of its host, and not into the
//! folder of another guest, but for the parents of its disks.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
};

use virtuozo_disk::{
    DiskError, FileId, FilePlace, OpenFile, Roots,
    vmdk::{Chain, DiskFiles, Layer, Named, no_parent},
    vmware::host_path,
};

use super::locations::Locations;
use crate::{ErrorClass, ErrorKind, HypervisorError, Result};

/// The extensions of a guest's configuration and of a template's.
const CONFIGURATIONS: [&str; 2] = [".vmx", ".vmtx"];

/// What looking for a file led to.
type Found<T> = std::result::Result<T, DiskError>;

/// The most links that are opened for one guest, each as often as it is part of a chain: those of a hundred disks with
/// thirty snapshots.
const MAX_LINKS: usize = 50_000;

/// Opens the files of one guest.
pub(super) struct GuestPaths {
    pub(super) locations: Locations,
    pub(super) roots: Roots,
    /// The `.vmx`.
    own: FilePlace,
    working_dir: Option<String>,
    /// Directories that were looked through: whether a configuration lies in them.
    folders: RefCell<HashMap<FileId, bool>>,
    /// Parents of disks in folders of other guests.
    borrowed: RefCell<BTreeSet<PathBuf>>,
    /// Links of disks that are open, each of which may be part of many chains.
    links: RefCell<HashMap<FileId, Arc<Layer>>>,
    links_opened: Cell<usize>,
}

impl GuestPaths {
    /// Opens a guest's `.vmx`, with which everything else is found. Blocks.
    pub(super) fn open(locations: Locations, vmx: &Path) -> Result<(Self, OpenFile)> {
        let any_case = locations.are_of_windows();
        let mut roots = Roots::new(locations.roots());
        if !roots.hold(vmx) {
            let own = vmx.parent().map(Path::to_owned);
            roots = Roots::new(locations.roots().into_iter().chain(own));
        }
        roots = roots
            .in_any_case(any_case)
            .within(locations.allowed.clone());
        let opened = roots.open(vmx).map_err(|error| locations.explain(error))?;
        let own = opened.place().clone();
        if own.is_linked_from_elsewhere() {
            return Err(HypervisorError::new(
                ErrorKind::GuestInvalid,
                ErrorClass::Permanent,
                format!(
                    "{} is a link to {} in another folder: register the guest there",
                    vmx.display(),
                    own.path().display()
                ),
            ));
        }
        let paths = Self {
            locations,
            roots,
            own,
            working_dir: None,
            folders: RefCell::default(),
            borrowed: RefCell::default(),
            links: RefCell::default(),
            links_opened: Cell::default(),
        };
        Ok((paths, opened))
    }

    /// The same, with the directory of deltas and state files that the `.vmx` names.
    pub(super) fn with_working_dir(self, working_dir: Option<&str>) -> Self {
        Self {
            working_dir: working_dir.map(str::to_owned),
            ..self
        }
    }

    /// The `.vmx` as this machine reads it.
    pub(super) fn vmx(&self) -> &Path {
        self.own.path()
    }

    /// Opens a file beside the `.vmx` by its own name with another extension.
    pub(super) fn beside_vmx(&self, extension: &str) -> Found<OpenFile> {
        let opened = self.roots.open(&self.vmx().with_extension(extension))?;
        self.check_folder(&opened, None)?;
        Ok(opened)
    }

    /// Opens a file that `.vmx` or `.vmsd` names; none if there is none.
    pub(super) fn open_named(&self, name: &str) -> Result<Option<OpenFile>> {
        match self.named(name) {
            Ok(opened) => Ok(Some(opened)),
            Err(error) if error.is_not_found() && self.is_there(&error) => Ok(None),
            Err(error) => Err(self.locations.explain(error)),
        }
    }

    /// Opens a disk that `.vmx` or `.vmsd` names.
    pub(super) fn open_disk(&self, name: &str) -> Result<OpenFile> {
        self.named(name)
            .map_err(|error| self.locations.explain(error))
    }

    /// Opens a disk with all its parents.
    pub(super) fn chain(&self, name: &str) -> Result<Chain> {
        let newest = self.open_disk(name)?;
        let chain = Chain::open_in(newest, self).map_err(|error| self.locations.explain(error))?;
        let opened = self.links_opened.get() + chain.layers().len();
        self.links_opened.set(opened);
        if opened > MAX_LINKS {
            return Err(HypervisorError::new(
                ErrorKind::GuestInvalid,
                ErrorClass::Operator,
                format!(
                    "{}: its disks and snapshots have more than {MAX_LINKS} links; remove snapshots",
                    self.vmx().display()
                ),
            ));
        }
        Ok(chain)
    }

    /// Closes the links that no chain holds.
    pub(super) fn forget_links(&self) {
        self.links.borrow_mut().clear();
    }

    /// The redo log of a disk beside its file, whatever the configuration says of it.
    pub(super) fn redo_log_beside(&self, disk: &OpenFile) -> Result<Option<PathBuf>> {
        let names = self.roots.list(disk.place().directory());
        let names = names.map_err(|error| self.locations.explain(error))?;
        let begin = disk.path().file_name().unwrap_or_default();
        let begin = format!("{}.redo", begin.to_string_lossy().to_lowercase());
        Ok(names
            .into_iter()
            .find(|name| name.to_string_lossy().to_lowercase().starts_with(&begin))
            .map(|name| disk.place().directory().join(name)))
    }

    /// Parents of the disks opened so far that lie in folders of other guests.
    pub(super) fn borrowed(&self) -> Vec<PathBuf> {
        self.borrowed.borrow().iter().cloned().collect()
    }

    /// Whether a file that is not there has a datastore that is.
    fn is_there(&self, error: &DiskError) -> bool {
        match error {
            DiskError::Io { path, .. } => self
                .locations
                .root_of(path)
                .is_none_or(|root| root.is_dir()),
            _ => false,
        }
    }

    fn named(&self, name: &str) -> Found<OpenFile> {
        let places = match self.on_this_machine(name) {
            Some(path) => vec![path],
            None => {
                let name = host_path::to_slashes(name);
                let dirs = self.own_directories().into_iter();
                dirs.map(|directory| directory.join(&name)).collect()
            }
        };
        let opened = self.first(places, name)?;
        self.check_folder(&opened, None)?;
        Ok(opened)
    }

    /// The guest's folder, and its working directory.
    fn own_directories(&self) -> Vec<PathBuf> {
        let own = self.own.directory().to_owned();
        let working = self.working_dir.as_deref().map(|directory| {
            self.on_this_machine(directory)
                .unwrap_or_else(|| own.join(host_path::to_slashes(directory)))
        });
        std::iter::once(own.clone()).chain(working).collect()
    }

    /// Where this machine reads what the host names by an absolute path; none for a relative one. A path in no
    /// datastore stays as it is, and is refused when it is opened.
    fn on_this_machine(&self, name: &str) -> Option<PathBuf> {
        host_path::is_absolute(name).then(|| {
            self.locations
                .host_file(name)
                .unwrap_or_else(|_| PathBuf::from(name))
        })
    }

    /// Opens the first of some places where there is a file. Of the errors the first one that is more than that
    /// there is none is told, else the first.
    fn first(&self, places: Vec<PathBuf>, name: &str) -> Found<OpenFile> {
        let mut told: Option<DiskError> = None;
        for place in places {
            match self.roots.open(&place) {
                Ok(opened) => return Ok(opened),
                Err(error)
                    if error.is_not_found() || matches!(error, DiskError::Outside { .. }) =>
                {
                    let is_first = told
                        .as_ref()
                        .is_none_or(|told| told.is_not_found() && !error.is_not_found());
                    if is_first {
                        told = Some(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(told.unwrap_or_else(|| DiskError::Outside { path: name.into() }))
    }

    /// Refuses a file in the folder of another guest. What a descriptor in `home` names may lie beside it.
    fn check_folder(&self, opened: &OpenFile, home: Option<&FilePlace>) -> Found<()> {
        let place = opened.place();
        let own = self.own.directories();
        let homes = [own.last(), home.and_then(|home| home.directories().last())];
        let mut path = place.directory();
        for (depth, id) in place.directories().iter().enumerate().rev() {
            let is_its_own = depth + 1 == place.directories().len();
            if homes.contains(&Some(id)) || (!is_its_own && own.contains(id)) {
                return Ok(());
            }
            if self.is_folder_of_a_guest(*id, path)? {
                return Err(DiskError::OtherGuest {
                    path: place.path().to_owned(),
                    folder: path.to_owned(),
                });
            }
            path = path.parent().unwrap_or(path);
        }
        Ok(())
    }

    fn is_folder_of_a_guest(&self, id: FileId, path: &Path) -> Found<bool> {
        if let Some(known) = self.folders.borrow().get(&id) {
            return Ok(*known);
        }
        let found = self.roots.list(path)?.iter().any(|name| {
            let name = name.to_string_lossy().to_ascii_lowercase();
            CONFIGURATIONS.iter().any(|end| name.ends_with(end))
        });
        self.folders.borrow_mut().insert(id, found);
        Ok(found)
    }
}

impl DiskFiles for GuestPaths {
    fn known(&self, file: FileId) -> Option<Arc<Layer>> {
        self.links.borrow().get(&file).cloned()
    }

    fn learn(&self, link: &Arc<Layer>) {
        let id = link.found().id();
        self.links.borrow_mut().insert(id, Arc::clone(link));
    }

    /// Where the descriptor says; then, because disks are moved with their old names in them, by base name. A
    /// path of the host is mapped before that.
    fn open(&self, what: Named, name: &str, descriptor: &FilePlace) -> Found<OpenFile> {
        let mut directories = vec![descriptor.directory().to_owned()];
        if what == Named::Parent {
            directories.extend(self.own_directories());
        }
        let mut places = Vec::new();
        match self.on_this_machine(name) {
            Some(path) => places.push(path),
            None => {
                for spelling in [name.to_owned(), host_path::to_slashes(name)] {
                    places.extend(
                        directories
                            .iter()
                            .map(|directory| directory.join(&spelling)),
                    );
                }
            }
        }
        let base_name = host_path::base_name(name);
        places.extend(
            directories
                .iter()
                .map(|directory| directory.join(base_name)),
        );
        let opened = match (self.first(places, name), what) {
            (Err(error), Named::Parent) => return Err(no_parent(error)),
            (opened, _) => opened?,
        };
        match (self.check_folder(&opened, Some(descriptor)), what) {
            (Err(DiskError::OtherGuest { path, .. }), Named::Parent) => {
                self.borrowed.borrow_mut().insert(path);
            }
            (outcome, _) => outcome?,
        }
        Ok(opened)
    }
}

#[cfg(test)]
mod tests;
