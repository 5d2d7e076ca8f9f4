//! What has to be true when the fleet has done its work.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::{FleetSpec, guests::FleetGuest, sampler::Seen};
use crate::Site;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// What is not as it should be, in sentences.
    pub(super) broken: Vec<String>,
    /// Slots that are held by nobody's work, or missing.
    pub(super) slots_leaked: i64,
    /// Leases that ran out because their worker was gone.
    pub(super) leases_lost: i64,
}

/// Guests in whose folder of the repository a copy lies that was given up.
pub(super) fn with_leftovers(site: &Site) -> Result<BTreeSet<String>> {
    let repository = site.repository();
    site.leftovers()?
        .iter()
        .map(|path| {
            let folder = path.parent().context("a leftover lies in a folder")?;
            let guest = folder.strip_prefix(&repository)?;
            Ok(guest.display().to_string())
        })
        .collect()
}

/// Backs these guests up once more; that also removes what was left.
pub(super) async fn back_up_again(site: &Site, guests: &BTreeSet<String>) -> Result<()> {
    if guests.is_empty() {
        return Ok(());
    }
    let mut args = vec!["run", "now"];
    for guest in guests {
        args.extend(["--guest", guest]);
    }
    let run = site.json(&args)?;
    let run = run["run_id"].as_str().context("no run id")?.to_owned();
    let shown = site.ended(&run).await?;
    anyhow::ensure!(shown["state"] == "succeeded", "the next backup: {shown:#}");
    Ok(())
}

impl Outcome {
    /// Notes what is not true.
    pub(super) fn insist(&mut self, what: Result<()>) {
        if let Err(problem) = what {
            self.broken.push(format!("{problem:#}"));
        }
    }

    fn none(&mut self, found: i64, what: &str) {
        if found != 0 {
            self.broken.push(format!("{found} {what}"));
        }
    }

    /// Every guest run has succeeded, no lease is held and no obligation is open any more.
    pub(super) async fn tables(&mut self, site: &Site, spec: &FleetSpec, run: &str) -> Result<()> {
        let pool = site.pool();
        let failed: Vec<String> = sqlx::query_scalar(
            "SELECT format('%s/%s: %s after %s attempts and %s crashes: %s', host, guest, state, attempts, crashes, last_error)
               FROM virtuozo.guest_runs WHERE run_id = $1::uuid AND state <> 'succeeded'",
        )
        .bind(run)
        .fetch_all(pool)
        .await?;
        self.broken.extend(failed);
        let (succeeded, hosts, crashes): (i64, i64, i64) = sqlx::query_as(
            "SELECT (SELECT count(*) FROM virtuozo_core.guest_runs WHERE run_id = r.id AND state = 'succeeded'),
                    (SELECT count(*) FROM virtuozo_core.host_runs WHERE run_id = r.id AND state = 'succeeded'),
                    (SELECT coalesce(sum(crashes), 0) FROM virtuozo_core.guest_runs WHERE run_id = r.id)
                  + (SELECT coalesce(sum(crashes), 0) FROM virtuozo_core.host_runs WHERE run_id = r.id)
               FROM virtuozo_core.runs r WHERE r.id = $1::uuid",
        )
        .bind(run)
        .fetch_one(pool)
        .await?;
        let missing = i64::try_from(spec.guests)? - succeeded;
        self.none(missing, "guests without a backup");
        self.none(i64::try_from(spec.hosts)? - hosts, "hosts without success");
        self.leases_lost = crashes;
        if crashes == 0 {
            let nothing = "no worker was killed at its work: nothing is proven";
            self.broken.push(nothing.to_owned());
        }
        let (held, slots, leases, obligations, stuck): (i64, i64, i64, i64, i64) = sqlx::query_as(
            "SELECT (SELECT count(*) FROM virtuozo_core.guest_slots WHERE guest_run_id IS NOT NULL),
                    (SELECT count(*) FROM virtuozo_core.guest_slots),
                    (SELECT count(*) FROM virtuozo_core.guest_runs WHERE lease_until IS NOT NULL OR owner_id IS NOT NULL)
                  + (SELECT count(*) FROM virtuozo_core.host_runs WHERE lease_until IS NOT NULL OR owner_id IS NOT NULL),
                    (SELECT count(*) FROM virtuozo_core.obligations),
                    (SELECT count(*) FROM virtuozo.stuck)",
        )
        .fetch_one(pool)
        .await?;
        let lost = i64::try_from(spec.hosts * spec.slots)? - slots;
        self.slots_leaked = held + lost.abs();
        self.none(held, "slots are held and nobody works");
        self.none(lost, "slots are missing");
        self.none(leases, "leases are held and nobody works");
        self.none(obligations, "obligations are left");
        self.none(stuck, "lines in the view virtuozo.stuck");
        Ok(())
    }

    /// Each guest has one restore point for each of its backups, in the database and on disk; all of them
    /// verify and show their guest; and there is nothing else.
    pub(super) async fn points(
        &mut self,
        site: &Site,
        guests: &[FleetGuest],
        again: &BTreeSet<String>,
    ) -> Result<()> {
        let rows: Vec<(String, String)> = sqlx::query_as(
            "SELECT format('%s/%s', host_name, guest_name), path
               FROM virtuozo_core.restore_points WHERE state = 'published'",
        )
        .fetch_all(site.pool())
        .await?;
        let repository = site.repository();
        let known: BTreeSet<PathBuf> = rows.iter().map(|(_, path)| repository.join(path)).collect();
        let on_disk = points_below(&repository)?;
        if known != on_disk {
            let differ: Vec<_> = known.symmetric_difference(&on_disk).take(10).collect();
            self.broken
                .push(format!("database and repository differ in {differ:?}"));
        }
        let mut of_guest: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (guest, path) in &rows {
            of_guest.entry(guest).or_default().push(path);
        }
        for guest in guests {
            let name = guest.name.as_str();
            let points = of_guest.remove(name).unwrap_or_default();
            let wanted = 1 + usize::from(again.contains(name));
            if points.len() != wanted {
                self.broken.push(format!(
                    "{name} has {} points instead of {wanted}",
                    points.len()
                ));
            }
            for path in points {
                self.insist(guest.is_shown_by(&repository.join(path)));
            }
        }
        for name in of_guest.keys() {
            self.broken
                .push(format!("points of {name}, which nobody knows"));
        }
        let left = site.leftovers()?;
        if !left.is_empty() {
            self.broken
                .push(format!("left in the repository: {left:?}"));
        }
        self.insist(
            site.virtuozo(&["point", "verify", "--all"])?
                .ok()
                .map(drop)
                .context("not all points verify"),
        );
        Ok(())
    }

    /// No limit was ever passed, and each kind was reached, without which that says nothing.
    pub(super) fn limits(&mut self, seen: &Seen) {
        self.broken.extend(seen.sentences.iter().cloned());
        for kind in ["host", "datastore", "repository", "fleet"] {
            if !seen.reached.contains_key(kind) {
                self.broken.push(format!(
                    "no limit of kind {kind} was ever reached: nothing is proven"
                ));
            }
        }
    }
}

/// The folders of all points: below those of host and guest.
fn points_below(repository: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut level = vec![repository.to_owned()];
    for _ in 0..3 {
        let mut below = Vec::new();
        for folder in level {
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                let hidden = entry.file_name().to_string_lossy().starts_with('.');
                if !hidden && entry.file_type()?.is_dir() {
                    below.push(entry.path());
                }
            }
        }
        level = below;
    }
    Ok(level.into_iter().collect())
}
