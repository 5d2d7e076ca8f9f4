//! The snapshots of a guest in a session.

use std::time::{Duration, Instant};

use virtuozo_disk::vmware::vmsd::MAX_SNAPSHOTS;
use vix_sys::{
    VIX_E_NOT_SUPPORTED, VIX_E_SNAPSHOT_NONUNIQUE_NAME, VIX_E_SNAPSHOT_NOTFOUND,
    VIX_E_UNRECOGNIZED_PROPERTY, VIX_PROPERTY_SNAPSHOT_DISPLAYNAME, VixError, VixHandle, code,
};

use super::{Handle, Session, c_string, timed_out};
use crate::{ErrorClass, ErrorKind, HypervisorError, Result, vix::child::recorded};

/// The snapshots of a guest.
pub(in super::super) enum Snapshots {
    /// Their names, parents before children.
    Named(Vec<String>),
    /// So many, whose names the library does not tell. It finds one by its name.
    Unnamed(usize),
}

/// Whether the library does not tell the names of snapshots: its reference says that they "can be set but not retrieved".
fn is_refused(error: VixError) -> bool {
    matches!(
        code(error),
        VIX_E_UNRECOGNIZED_PROPERTY | VIX_E_NOT_SUPPORTED
    )
}

impl Session {
    /// Names of all snapshots, parents before children.
    pub(in super::super) fn snapshots(&self, vmx_path: &str, limit: Duration) -> Result<Snapshots> {
        let vm = self.open(vmx_path, limit)?;
        let tree = self.tree(&vm, vmx_path, limit)?;
        let number = tree.len();
        let names: Option<Vec<String>> = tree.into_iter().map(|(name, _)| name).collect();
        Ok(names.map_or(Snapshots::Unnamed(number), Snapshots::Named))
    }

    /// Whether there is a snapshot of this name, or several, as the library finds them by name.
    pub(in super::super) fn has_snapshot(
        &self,
        vmx_path: &str,
        name: &str,
        limit: Duration,
    ) -> Result<bool> {
        let vm = self.open(vmx_path, limit)?;
        let what = self.doing(&format!("cannot look for the snapshot {name} of"), vmx_path);
        match self.named(&vm, name, &what) {
            Ok(found) => Ok(found.is_some()),
            Err(error) if error.code == Some(VIX_E_SNAPSHOT_NONUNIQUE_NAME) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Takes a snapshot without memory.
    pub(in super::super) fn create_snapshot(
        &self,
        vmx_path: &str,
        name: &str,
        description: &str,
        limit: Duration,
    ) -> Result<()> {
        let vm = self.open(vmx_path, limit)?;
        let what = self.doing(&format!("cannot take the snapshot {name} of"), vmx_path);
        let name = c_string(name, &what)?;
        let description = c_string(description, &what)?;
        let begin = || self.vix.create_snapshot(vm.raw, &name, &description, 0);
        let job = self.run("VixVM_CreateSnapshot", begin, limit, &what)?;
        let snapshot = self.result(&job, &what)?;
        self.vix.release(snapshot);
        Ok(())
    }

    /// Removes the one snapshot of this exact name; false if there is none.
    pub(in super::super) fn remove_snapshot(
        &self,
        vmx_path: &str,
        name: &str,
        limit: Duration,
    ) -> Result<bool> {
        let vm = self.open(vmx_path, limit)?;
        let what = self.doing(&format!("cannot remove the snapshot {name} of"), vmx_path);
        let Some(snapshot) = self.find_snapshot(&vm, vmx_path, name, limit, &what)? else {
            return Ok(false);
        };
        let begin = || self.vix.remove_snapshot(vm.raw, snapshot.raw, 0);
        self.run("VixVM_RemoveSnapshot", begin, limit, &what)?;
        Ok(true)
    }

    /// The one snapshot of this exact name.
    fn find_snapshot(
        &self,
        vm: &Handle,
        vmx_path: &str,
        name: &str,
        limit: Duration,
        what: &str,
    ) -> Result<Option<Handle>> {
        let mut unnamed = false;
        let mut found = None;
        // Not by VixVM_GetNamedSnapshot, which takes slashes in a name for a path.
        for (own, snapshot) in self.tree(vm, vmx_path, limit)? {
            unnamed |= own.is_none();
            if own.as_deref() == Some(name) && found.replace(snapshot).is_some() {
                return Err(self.error(VIX_E_SNAPSHOT_NONUNIQUE_NAME, what));
            }
        }
        match found {
            None if unnamed => self.named(vm, name, what),
            found => Ok(found),
        }
    }

    /// The snapshot that the library finds by a name.
    fn named(&self, vm: &Handle, name: &str, what: &str) -> Result<Option<Handle>> {
        let name = c_string(name, what)?;
        recorded("VixVM_GetNamedSnapshot", || {
            match self.vix.named_snapshot(vm.raw, &name) {
                Ok(raw) => Ok(Some(Handle { vix: self.vix, raw })),
                Err(error) if code(error) == VIX_E_SNAPSHOT_NOTFOUND => Ok(None),
                Err(error) => Err(self.error(error, what)),
            }
        })
    }

    /// All snapshots, with the names that the library tells; noted as the one call that begins it.
    fn tree(
        &self,
        vm: &Handle,
        vmx_path: &str,
        limit: Duration,
    ) -> Result<Vec<(Option<String>, Handle)>> {
        recorded("VixVM_GetRootSnapshot", || self.walk(vm, vmx_path, limit))
    }

    fn walk(
        &self,
        vm: &Handle,
        vmx_path: &str,
        limit: Duration,
    ) -> Result<Vec<(Option<String>, Handle)>> {
        let deadline = Instant::now() + limit;
        let what = self.doing("cannot list the snapshots of", vmx_path);
        let vix = self.vix;
        let fail = |error| self.error(error, &what);
        let read = |raw: VixHandle| -> Result<(Option<String>, Handle)> {
            let handle = Handle { vix, raw };
            match vix.string_property(raw, VIX_PROPERTY_SNAPSHOT_DISPLAYNAME) {
                Ok(name) => Ok((Some(name), handle)),
                Err(error) if is_refused(error) => Ok((None, handle)),
                Err(error) => Err(fail(error)),
            }
        };
        let mut tree = Vec::new();
        // Larger than the product allows: it is damaged.
        let bounded = |tree: &Vec<_>| match tree.len() {
            _ if Instant::now() >= deadline => Err(timed_out(&what, limit)),
            ..MAX_SNAPSHOTS => Ok(()),
            _ => Err(HypervisorError::new(
                ErrorKind::GuestInvalid,
                ErrorClass::Operator,
                format!(
                    "{what}: there are more than {MAX_SNAPSHOTS}; remove those that are no longer needed"
                ),
            )),
        };
        for index in 0..vix.root_snapshot_count(vm.raw).map_err(fail)? {
            bounded(&tree)?;
            tree.push(read(vix.root_snapshot(vm.raw, index).map_err(fail)?)?);
        }
        let mut next = 0;
        while let Some((_, parent)) = tree.get(next) {
            let parent = parent.raw;
            for index in 0..vix.child_count(parent).map_err(fail)? {
                bounded(&tree)?;
                tree.push(read(vix.child(parent, index).map_err(fail)?)?);
            }
            next += 1;
        }
        Ok(tree)
    }
}
