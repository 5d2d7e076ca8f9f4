//! The remains of unfinished attempts in a repository: their size, age and owner, and their removal.

use std::path::{Path, PathBuf};

use anyhow::Result;
use chrono::{TimeDelta, Utc};
use virtuozo_repository::{Repository, Unfinished};
use virtuozo_services::catalogue::{self, Attempt};

use super::{Finding, Scan};
use crate::output;

/// Files that were written to within this time are not removed: another site, or a worker that has lost the database,
/// may be writing them.
const MIN_AGE: TimeDelta = TimeDelta::days(1);

impl Scan<'_> {
    /// Reports the remains, and removes them if `--remove-unfinished` is given, they are old and no run needs them.
    pub(super) async fn unfinished(
        &mut self,
        repository: &str,
        path: PathBuf,
        found: &Unfinished,
    ) -> Result<()> {
        let dir = Path::new(repository).join(&path);
        let (owner, needed) = self.owner(found).await?;
        let about = format!(
            "{owner}, {}, {}",
            output::size(found.size_bytes),
            found
                .changed_at
                .map_or("cannot be read".to_owned(), |at| format!(
                    "last written to {}",
                    output::time(at)
                ))
        );
        let is_old = found.changed_at.is_some_and(|at| Utc::now() - at > MIN_AGE);
        if !self.remove_unfinished || needed || !is_old {
            self.report(Finding::Unfinished, &dir, None, about);
            return Ok(());
        }
        if !self.dry_run {
            let root = PathBuf::from(repository);
            let removed = tokio::task::spawn_blocking(move || {
                Repository::open(root)?.remove_unfinished(&path)
            });
            if let Err(error) = removed.await? {
                self.report(Finding::Unlisted, &dir, None, error.to_string());
                return Ok(());
            }
        }
        self.report(Finding::Removed, &dir, None, about);
        Ok(())
    }

    /// What made the remains, and whether a run may still go on with them.
    async fn owner(&self, found: &Unfinished) -> Result<(&'static str, bool)> {
        let Some((guest_run_id, fence)) = found.of else {
            return Ok(("a deletion that was begun", false));
        };
        let attempt = catalogue::attempt(self.pool, guest_run_id, fence).await?;
        Ok(match attempt {
            Attempt::Unknown => ("of a guest run that the database does not know", false),
            Attempt::GoesOn => ("of a guest run that goes on", true),
            Attempt::Over => ("of an attempt that is over", false),
        })
    }
}
