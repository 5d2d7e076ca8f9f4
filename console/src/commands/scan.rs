//! `virtuozo repository scan`: compares the catalogue of restore points with the repositories, and completes it.

mod difference;
mod unfinished;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use serde_json::json;
use sqlx::PgPool;
use uuid::Uuid;
use virtuozo_repository::{
    Found, FoundWhat, ManifestKeys, PointSummary, Repository, RepositoryError,
};
use virtuozo_services::{
    catalogue::{self, FoundPoint, KnownGuests, MISSING},
    points::{self, PointLine},
};

use crate::{
    context::Context,
    error::{AlreadyReported, WouldChange},
    operation, output,
    repositories::{self, RepositoryState, recorded_path, same_directory},
};

/// Options of `repository scan`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  virtuozo repository scan --dry-run
  virtuozo repository scan --verify
  virtuozo repository scan /srv/backup
  virtuozo repository scan --remove-unfinished --dry-run

Restore points that the database does not know are entered, those of known guests as theirs. They count for retention \
once they are verified and adopted: what this site's key has authenticated is adopted at once, the rest by `point \
adopt`. Nothing is deleted but, with --remove-unfinished, what attempts to write or delete \
a restore point left behind more than a day ago, and no run goes on with. The exit code is 1 where somebody has \
to look at something, also with --dry-run; otherwise --dry-run ends with 4 where something would change.")]
pub(crate) struct ScanArgs {
    /// Repositories [default: all that settings, guests and restore points name]
    #[arg(value_name = "DIR")]
    dirs: Vec<PathBuf>,
    /// Only show what would change
    #[arg(long)]
    dry_run: bool,
    /// Read every byte of the points that nobody has verified, and hold it against the manifest
    #[arg(long, conflicts_with = "dry_run")]
    verify: bool,
    /// Points that are recorded at a place where they no longer are have moved here
    #[arg(long)]
    moved: bool,
    /// Remove what attempts that are over have left, if nothing in it was written to for a day
    #[arg(long)]
    remove_unfinished: bool,
}

/// What a scan found out about a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Finding {
    Recorded,
    Adopted,
    Linked,
    Moved,
    FoundAgain,
    Missing,
    Elsewhere,
    Broken,
    Damaged,
    Unlisted,
    NotMounted,
    OtherRepository,
    Copy,
    Unfinished,
    Removed,
    Foreign,
}

impl Finding {
    /// Whether the catalogue is, or with `--dry-run` would be, changed because of it.
    fn changes(self) -> bool {
        matches!(
            self,
            Self::Recorded | Self::Adopted | Self::Linked | Self::Moved | Self::FoundAgain
        )
    }

    /// Whether it needs attention; the command fails then.
    fn needs_attention(self) -> bool {
        matches!(
            self,
            Self::Missing
                | Self::Elsewhere
                | Self::Broken
                | Self::Damaged
                | Self::Unlisted
                | Self::NotMounted
                | Self::OtherRepository
        )
    }

    fn text(self) -> &'static str {
        match self {
            Self::Recorded => "recorded",
            Self::Adopted => "adopted",
            Self::Linked => "given its guest",
            Self::Moved => "moved here",
            Self::FoundAgain => "found again",
            Self::Missing => "MISSING",
            Self::Elsewhere => "NOT WHERE IT IS RECORDED",
            Self::Broken => "BROKEN",
            Self::Damaged => "DAMAGED",
            Self::Unlisted => "CANNOT BE READ",
            Self::NotMounted => "NOT MOUNTED",
            Self::OtherRepository => "OTHER REPOSITORY",
            Self::Copy => "a copy",
            Self::Unfinished => "not finished",
            Self::Removed => "not finished, removed",
            Self::Foreign => "not ours",
        }
    }
}

#[derive(Debug, Serialize)]
struct Line {
    finding: Finding,
    dir: PathBuf,
    point: Option<Uuid>,
    about: String,
}

pub(crate) async fn run(context: &Context, args: ScanArgs) -> Result<()> {
    let db = context.database().await?;
    let rows = points::list(&db.pool, None).await?;
    let mut scan = Scan {
        pool: &db.pool,
        dry_run: args.dry_run,
        moved: args.moved,
        remove_unfinished: args.remove_unfinished,
        guests: KnownGuests::load(&db.pool).await?,
        keys: operation::manifest_keys(&context.key_file())?,
        rows: rows.into_iter().map(|row| (row.id, row)).collect(),
        found: HashMap::new(),
        lines: Vec::new(),
    };
    let repositories = scan.repositories(&args.dirs).await?;
    let mounted = scan.mounted(repositories).await?;
    for repository in &mounted {
        scan.repository(repository).await?;
    }
    // A point is not missing if its repository was unmounted during the scan.
    let mounted = scan.mounted(mounted).await?;
    scan.missing(&mounted).await?;
    if args.verify {
        scan.verify(context).await?;
    }
    show(context, &scan, args.dry_run)?;
    // Damage decides the exit code, also where something would change.
    if scan.lines.iter().any(|line| line.finding.needs_attention()) {
        return Err(AlreadyReported.into());
    }
    let changes = |line: &Line| line.finding.changes() || line.finding == Finding::Removed;
    let changes = scan.lines.iter().any(changes);
    if args.dry_run && changes {
        return Err(WouldChange.into());
    }
    Ok(())
}

struct Scan<'a> {
    pool: &'a PgPool,
    dry_run: bool,
    moved: bool,
    remove_unfinished: bool,
    guests: KnownGuests,
    keys: ManifestKeys,
    /// The rows that the database had before.
    rows: HashMap<Uuid, PointLine>,
    /// The directories of the points that were found.
    found: HashMap<Uuid, PathBuf>,
    lines: Vec<Line>,
}

impl Scan<'_> {
    fn report(
        &mut self,
        finding: Finding,
        dir: &Path,
        point: Option<Uuid>,
        about: impl Into<String>,
    ) {
        self.lines.push(Line {
            finding,
            dir: dir.to_owned(),
            point,
            about: about.into(),
        });
    }

    /// The repositories to scan, by the paths that the database records, each directory once.
    async fn repositories(&self, given: &[PathBuf]) -> Result<Vec<String>> {
        let known = virtuozo_services::repositories::places(self.pool, self.rows.values()).await?;
        let mut wanted = Vec::new();
        for dir in given {
            wanted.push(recorded_path(dir, &known)?);
        }
        if given.is_empty() {
            wanted = known;
        }
        let mut seen: Vec<String> = Vec::new();
        for dir in wanted {
            if !seen
                .iter()
                .any(|other| same_directory(Path::new(other), Path::new(&dir)))
            {
                seen.push(dir);
            }
        }
        Ok(seen)
    }

    /// The repositories that are what the site knows, or not used yet. The others are reported and not scanned.
    async fn mounted(&mut self, repositories: Vec<String>) -> Result<Vec<String>> {
        let mut mounted = Vec::new();
        for repository in repositories {
            let check = repositories::check(self.pool, &repository).await?;
            let finding = match check.state {
                RepositoryState::Mounted | RepositoryState::NotUsedYet => {
                    mounted.push(repository);
                    continue;
                }
                RepositoryState::NotMounted => Finding::NotMounted,
                RepositoryState::OtherRepository => Finding::OtherRepository,
                RepositoryState::Unreadable => Finding::Unlisted,
            };
            let about = check.problem.unwrap_or_default();
            self.report(finding, Path::new(&repository), None, about);
        }
        Ok(mounted)
    }

    async fn repository(&mut self, repository: &str) -> Result<()> {
        let root = PathBuf::from(repository);
        let keys = self.keys.clone();
        let opened = tokio::task::spawn_blocking(move || {
            Repository::open(root).map(|repository| repository.with_keys(keys).scan())
        })
        .await?;
        let all = match opened {
            Ok(all) => all,
            Err(error) => {
                let dir = Path::new(repository);
                self.report(Finding::Unlisted, dir, None, error.to_string());
                return Ok(());
            }
        };
        for Found { path, what } in all {
            let dir = Path::new(repository).join(&path);
            match what {
                FoundWhat::Point(point) => self.point(repository, &path, &point).await?,
                FoundWhat::Broken(error) => {
                    self.report(Finding::Broken, &dir, None, error.to_string());
                }
                FoundWhat::Unlisted(error) => {
                    self.report(Finding::Unlisted, &dir, None, error.to_string());
                }
                FoundWhat::Foreign => {
                    self.report(Finding::Foreign, &dir, None, "has no manifest");
                }
                FoundWhat::Unfinished(found) => {
                    self.unfinished(repository, path, &found).await?;
                }
            }
        }
        Ok(())
    }

    async fn point(&mut self, repository: &str, path: &Path, found: &PointSummary) -> Result<()> {
        let dir = Path::new(repository).join(path);
        let (about, id) = (&found.point, found.point.point_id);
        let manifest_blake3 = found.manifest_blake3.to_string();
        // Paths that this program writes are UTF-8.
        let Some(below) = path.to_str() else {
            return Ok(());
        };
        let point = FoundPoint {
            id,
            guest_run_id: about.guest_run_id,
            host_name: &about.host,
            guest_name: &about.guest,
            locator: &about.locator,
            guest_uuid: about.guest_uuid,
            repository,
            path: below,
            mode: about.mode.as_str(),
            taken_at: about.taken_at,
            sealed_at: found.sealed_at,
            size_bytes: found.size_bytes,
            source_bytes: found.source_bytes,
            foreign_snapshots: &about.foreign_snapshots,
            authentic: found.authenticity.is_authentic(),
            manifest_blake3: &manifest_blake3,
        };
        let text = format!(
            "{}/{} of {}",
            about.host,
            about.guest,
            output::time(about.taken_at)
        );
        if let Some(first) = self.found.get(&id) {
            let text = format!("{text}, also in {}", first.display());
            self.report(Finding::Copy, &dir, Some(id), text);
            return Ok(());
        }
        match self.rows.get(&id).cloned() {
            None => {
                let text = match point.authentic {
                    true => text,
                    false => format!("{text}; {}", found.authenticity),
                };
                self.unknown(&point, &dir, text).await
            }
            Some(row) => self.known(&point, &row, &dir, text).await,
        }
    }

    async fn unknown(&mut self, point: &FoundPoint<'_>, dir: &Path, text: String) -> Result<()> {
        self.found.insert(point.id, dir.to_owned());
        if !self.dry_run && !catalogue::record_found(self.pool, point, || dir.exists()).await? {
            self.found.remove(&point.id);
            return Ok(());
        }
        let text = if self.guests.have(point) {
            text
        } else {
            format!("{text}; its guest is not known, so retention leaves it alone")
        };
        self.report(Finding::Recorded, dir, Some(point.id), text);
        Ok(())
    }

    async fn known(
        &mut self,
        point: &FoundPoint<'_>,
        row: &PointLine,
        dir: &Path,
        text: String,
    ) -> Result<()> {
        let recorded = Path::new(&row.repository).join(&row.path);
        if !same_directory(&recorded, dir) {
            if self.holds(&recorded, row) {
                let text = format!("{text}, recorded in {}", recorded.display());
                self.report(Finding::Copy, dir, Some(point.id), text);
                return Ok(());
            }
            if !self.moved {
                let text = format!(
                    "{text}: not in {}; if the repository has moved, scan with --moved",
                    recorded.display()
                );
                self.found.insert(point.id, dir.to_owned());
                self.report(Finding::Elsewhere, dir, Some(point.id), text);
                return Ok(());
            }
            if self.is_changed(dir, row).await? {
                return Ok(());
            }
            if self.dry_run || catalogue::relocate(self.pool, point, row).await? {
                let text = format!("{text}, was in {}", recorded.display());
                self.report(Finding::Moved, dir, Some(point.id), text);
            }
        }
        if self.is_changed(dir, row).await? {
            return Ok(());
        }
        self.found.insert(point.id, dir.to_owned());
        if point.authentic
            && row.found_at.is_some()
            && row.adopted_at.is_none()
            && (self.dry_run || catalogue::adopt_authentic(self.pool, point.id).await?)
        {
            self.report(Finding::Adopted, dir, Some(point.id), text.clone());
        }
        if row.damage.as_deref() == Some(MISSING)
            && (self.dry_run || catalogue::found_again(self.pool, point.id).await?)
        {
            self.report(Finding::FoundAgain, dir, Some(point.id), text.clone());
        }
        if row.guest_id.is_none()
            && row.found_at.is_some()
            && self.guests.have(point)
            && (self.dry_run || catalogue::link(self.pool, point).await?)
        {
            self.report(Finding::Linked, dir, Some(point.id), text);
        }
        Ok(())
    }

    /// Reports and marks the points that are recorded in these repositories and are missing there or differ from the
    /// record. Retention does not count marked points, and monitoring shows them. A damage recorded earlier stays.
    async fn missing(&mut self, repositories: &[String]) -> Result<()> {
        let mut rows: Vec<PointLine> = self.rows.values().cloned().collect();
        rows.sort_by_key(|row| (row.host_name.clone(), row.guest_name.clone(), row.taken_at));
        for row in rows {
            let scanned = repositories
                .iter()
                .any(|name| same_directory(Path::new(name), Path::new(&row.repository)));
            let dir = Path::new(&row.repository).join(&row.path);
            if !scanned || self.found.contains_key(&row.id) {
                continue;
            }
            let Some((finding, damage, about)) = self.damage(&dir, &row) else {
                continue;
            };
            if !self.dry_run {
                catalogue::mark_damaged(self.pool, &row, &damage).await?;
            }
            if catalogue::stays(self.pool, &row).await? {
                self.report(finding, &dir, Some(row.id), about);
            }
        }
        Ok(())
    }

    async fn verify(&mut self, context: &Context) -> Result<()> {
        for row in points::unverified(self.pool).await? {
            let dir = Path::new(&row.repository).join(&row.path);
            if !self.found.contains_key(&row.id) || !self.holds(&dir, &row) {
                continue;
            }
            // The next ones are verified also where one cannot be read.
            let (keys, name) = (self.keys.clone(), output::short(row.id));
            let recorded = Some(operation::recorded(&row));
            let verified = match operation::verify(context, &dir, keys, recorded, &name).await {
                Ok(verified) => verified,
                Err(error) if error.is::<RepositoryError>() => {
                    self.report(Finding::Unlisted, &dir, Some(row.id), error.to_string());
                    continue;
                }
                Err(error) => return Err(error),
            };
            let damage = operation::record(self.pool, row.id, &verified).await?;
            if let Some(damage) = damage {
                self.report(Finding::Damaged, &dir, Some(row.id), damage);
            }
        }
        Ok(())
    }
}

fn show(context: &Context, scan: &Scan<'_>, dry_run: bool) -> Result<()> {
    let out = &context.out;
    let needs_attention = scan.lines.iter().any(|line| line.finding.needs_attention());
    if out.is_json() {
        return out.json(&json!({
            "ok": !needs_attention,
            "dry_run": dry_run,
            "points": scan.found.len(),
            "findings": scan.lines,
        }));
    }
    if !scan.lines.is_empty() {
        let mut table = output::table(&["Finding", "Directory", "About"]);
        for line in &scan.lines {
            table.add([
                line.finding.text().to_owned(),
                line.dir.display().to_string(),
                line.about.clone(),
            ]);
        }
        out.table(&table)?;
    }
    let count =
        |what: fn(Finding) -> bool| scan.lines.iter().filter(|line| what(line.finding)).count();
    out.line(&format!(
        "{} restore points found, {} changes in the catalogue{}, {} to look at",
        scan.found.len(),
        count(Finding::changes),
        if dry_run { " not made (--dry-run)" } else { "" },
        count(Finding::needs_attention)
    ))
}
