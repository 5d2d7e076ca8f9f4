//! What attempts left behind in a repository: how large, how old and whose it is, and its removal.

use std::path::{Path, PathBuf};

use anyhow::Result;
use chrono::{TimeDelta, Utc};
use virtuozo_repository::{Repository, Unfinished};
use virtuozo_store::guest_runs;

use super::{Finding, Scan};
use crate::output;

/// What was written to within this time is left alone, whatever is known about it: it may be the work of another
/// site, or of a worker that is cut off from the database.
const YOUNG: TimeDelta = TimeDelta::days(1);

impl Scan<'_> {
    /// Says what it is; removes it if that is wanted, nobody needs it and it is old.
    pub(super) async fn unfinished(
        &mut self,
        repository: &str,
        path: PathBuf,
        found: &Unfinished,
    ) -> Result<()> {
        let dir = Path::new(repository).join(&path);
        let (whose, needed) = self.whose(found).await?;
        let about = format!(
            "{whose}, {}, {}",
            output::size(found.size_bytes),
            found
                .changed_at
                .map_or("cannot be read".to_owned(), |at| format!(
                    "last written to {}",
                    output::time(at)
                ))
        );
        let is_old = found.changed_at.is_some_and(|at| Utc::now() - at > YOUNG);
        if !self.remove_unfinished || needed || !is_old {
            self.say(Finding::Unfinished, &dir, None, about);
            return Ok(());
        }
        if !self.dry_run {
            let root = PathBuf::from(repository);
            let removed = tokio::task::spawn_blocking(move || {
                Repository::open(root)?.remove_unfinished(&path)
            });
            if let Err(error) = removed.await? {
                self.say(Finding::Unlisted, &dir, None, error.to_string());
                return Ok(());
            }
        }
        self.say(Finding::Removed, &dir, None, about);
        Ok(())
    }

    /// Whose it is, and whether a run may still go on with it.
    async fn whose(&self, found: &Unfinished) -> Result<(&'static str, bool)> {
        let Some((guest_run_id, fence)) = found.of else {
            return Ok(("a deletion that was begun", false));
        };
        let known = guest_runs::needed_from(self.pool, &[guest_run_id]).await?;
        Ok(match known.first() {
            None => ("of a guest run that the database does not know", false),
            Some(&(_, from)) if fence >= from => ("of a guest run that goes on", true),
            Some(_) => ("of an attempt that is over", false),
        })
    }
}
