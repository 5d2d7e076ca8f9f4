//! Removal of the entries that a file does not name.

use virtuozo_model::Host;
use virtuozo_store::{
    caps, datastores,
    guests::{self, WithPoints},
    hooks, hosts, plain_directory, schedules,
};

use super::Import;
use crate::{HostEntry, SiteFileError};

impl Import<'_> {
    /// Removes the entries that the file does not name, schedules first, since they refer to hosts and guests. Guests
    /// with restore points stay, and so do their hosts: an older file does not know them, and retention never deletes a
    /// restore point without its guest.
    pub(super) async fn prune(&mut self) -> Result<(), SiteFileError> {
        let file = self.file();
        let kept = guests::with_points(&mut *self.conn).await?;
        for schedule in schedules::list(&mut *self.conn).await? {
            if !file
                .schedules
                .iter()
                .any(|s| s.as_ref().name == schedule.name)
            {
                schedules::remove(&mut *self.conn, schedule.id).await?;
            }
        }
        for hook in self.site_hooks().await? {
            if !file.hooks.iter().any(|h| h.as_ref().moment == hook.moment) {
                hooks::clear(&mut *self.conn, None, hook.moment).await?;
            }
        }
        for repository in caps::repositories(&mut *self.conn).await? {
            let named = file
                .repositories
                .iter()
                .any(|r| plain_directory(&r.as_ref().path) == repository.path);
            if !named && repository.guest_threads.is_some() {
                caps::set_repository(&mut *self.conn, &repository.path, None).await?;
            }
        }
        for host in hosts::list(&mut *self.conn).await? {
            match file.hosts.iter().find(|h| h.as_ref().name == host.name) {
                Some(entry) => self.prune_host(&host, entry.as_ref(), &kept).await?,
                None if kept.iter().any(|guest| guest.host_id == host.id) => {}
                None => hosts::remove(&mut *self.conn, &host).await?,
            }
        }
        Ok(())
    }

    async fn prune_host(
        &mut self,
        host: &Host,
        entry: &HostEntry,
        kept: &[WithPoints],
    ) -> Result<(), SiteFileError> {
        for guest in guests::list(&mut *self.conn, Some(host.id)).await? {
            let mut named = entry.guests.iter().map(|g| &g.as_ref().locator);
            if !named.any(|path| *path == guest.locator)
                && !kept.iter().any(|kept| kept.guest_id == guest.id)
            {
                guests::remove(&mut *self.conn, &guest).await?;
            }
        }
        for store in datastores::list(&mut *self.conn, Some(host.id)).await? {
            if entry
                .datastores
                .iter()
                .any(|s| s.as_ref().name == store.name)
            {
                continue;
            }
            if store.guest_threads.is_some() {
                caps::set_datastore(&mut *self.conn, host.id, &store.name, None).await?;
            }
            if store.local_path.is_some() {
                datastores::unmap(&mut *self.conn, host.id, &store.name).await?;
            }
        }
        Ok(())
    }
}
