//! How the directories of restore points differ from what the catalogue has recorded of them.

use std::{io, path::Path};

use anyhow::Result;
use virtuozo_repository::{ReadManifest, RepositoryError};
use virtuozo_services::{
    catalogue::{self, MISSING},
    points::PointLine,
};

use super::{Finding, Scan};
use crate::{operation, output};

/// How a restore point's directory differs from its record.
enum Difference {
    /// It does not exist.
    Missing,
    /// It holds something else, or not all of the restore point.
    Damaged(String),
}

impl Scan<'_> {
    /// The difference as far as the manifest shows it; `None` if there is none, or the directory cannot be read: the scan
    /// has reported that.
    fn difference(&self, dir: &Path, row: &PointLine) -> Option<Difference> {
        match ReadManifest::read(dir, &self.keys) {
            Ok(found) => found
                .difference(&operation::recorded(row))
                .map(Difference::Damaged),
            Err(RepositoryError::Io { .. }) => None,
            Err(RepositoryError::NotFound { .. }) => match dir.symlink_metadata() {
                Ok(_) => Some(Difference::Damaged("its manifest is not there".to_owned())),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Some(Difference::Missing),
                Err(_) => None,
            },
            Err(error) => Some(Difference::Damaged(error.to_string())),
        }
    }

    /// Whether the point in this directory says something else than its row. That is reported and recorded as damage.
    pub(super) async fn is_changed(&mut self, dir: &Path, row: &PointLine) -> Result<bool> {
        let Some(Difference::Damaged(damage)) = self.difference(dir, row) else {
            return Ok(false);
        };
        self.found.insert(row.id, dir.to_owned());
        if !self.dry_run {
            catalogue::mark_damaged(self.pool, row, &damage).await?;
        }
        self.report(Finding::Damaged, dir, Some(row.id), damage);
        Ok(true)
    }

    /// What is wrong with the directory of a row, the damage to be recorded, and what to say about it.
    pub(super) fn damage(&self, dir: &Path, row: &PointLine) -> Option<(Finding, String, String)> {
        Some(match self.difference(dir, row)? {
            Difference::Damaged(damage) => (Finding::Damaged, damage.clone(), damage),
            Difference::Missing => {
                let about = format!(
                    "{}/{} of {}",
                    row.host_name,
                    row.guest_name,
                    output::time(row.taken_at)
                );
                (Finding::Missing, MISSING.to_owned(), about)
            }
        })
    }

    /// Whether a directory holds the restore point of this row.
    pub(super) fn holds(&self, dir: &Path, row: &PointLine) -> bool {
        ReadManifest::read(dir, &self.keys)
            .is_ok_and(|found| found.difference(&operation::recorded(row)).is_none())
    }
}
