//! `virtuozo point …` and `virtuozo restore`. A command that only reads a repository needs no database: a restore
//! point may be given as its directory.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::json;
use virtuozo_repository::{
    Access, ReadBack, ReadManifest, Recorded, Repository, RepositoryError, RestoreOptions,
    VerifyReport,
};
use virtuozo_services::{
    names,
    points::{self, PointLine},
    settings,
};

use super::{
    point_adopt::{self, AdoptArgs},
    point_delete::{self, DeleteArgs},
};
use crate::{
    context::{Context, Database},
    error::{AlreadyReported, told, usage},
    operation::{self, damage, manifest_keys, verify},
    output,
};

/// Commands on restore points.
#[derive(Debug, Subcommand)]
pub(crate) enum PointCommand {
    /// Restore points, newest first
    #[command(
        after_help = "Examples:\n  virtuozo point list\n  virtuozo point list --guest alpha/mail --json"
    )]
    List {
        /// Only of this guest, as HOST/GUEST
        #[arg(long, value_name = "HOST/GUEST")]
        guest: Option<String>,
    },
    /// One restore point and its files
    #[command(
        after_help = "Examples:\n  virtuozo point show 5f2c81aa\n  virtuozo point show /srv/backup/alpha/mail/20260301T220000Z-5f2c81aa-f1"
    )]
    Show {
        /// Id, a beginning or end that only this point has, or its directory
        point: String,
    },
    /// Read every byte again and hold it against the manifest
    #[command(
        after_help = "Examples:\n  virtuozo point verify 5f2c81aa\n  virtuozo point verify --all"
    )]
    Verify {
        /// Id, a beginning or end that only this point has, or its directory
        #[arg(required_unless_present = "all")]
        point: Option<String>,
        /// All points that the database knows
        #[arg(long, conflicts_with = "point")]
        all: bool,
    },
    /// Take restore points that a scan has found for backups of their guests, and authenticate them with this site's key
    Adopt(AdoptArgs),
    /// Delete restore points, out of their repository and out of the catalogue
    Delete(DeleteArgs),
}

/// Options of `restore`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  virtuozo restore 5f2c81aa --to /srv/restored/mail
  virtuozo restore /srv/backup/alpha/mail/20260301T220000Z-5f2c81aa-f1 --to /srv/restored/mail")]
pub(crate) struct RestoreArgs {
    /// Id of the restore point, a beginning or end that only this point has, or its directory
    pub(crate) point: String,
    /// Directory to restore into: new or empty
    #[arg(long, value_name = "DIR")]
    pub(crate) to: PathBuf,
    /// Also what nobody with a key of this machine wrote: you know where it comes from
    #[arg(long)]
    pub(crate) unauthenticated: bool,
    /// Let the group read the files (0640, directories 0750; otherwise 0600 and 0700)
    #[arg(long)]
    pub(crate) group_may_read: bool,
}

pub(crate) async fn run(context: &Context, command: PointCommand) -> Result<()> {
    match command {
        PointCommand::List { guest } => list(context, guest.as_deref()).await,
        PointCommand::Show { point } => {
            let point = Located::find(context, &point).await?;
            show(context, &point)
        }
        PointCommand::Verify { point, .. } => {
            let points = match point {
                Some(point) => vec![Located::find(context, &point).await?],
                None => Located::all(context).await?,
            };
            verify_all(context, points).await
        }
        PointCommand::Adopt(args) => point_adopt::run(context, args).await,
        PointCommand::Delete(args) => point_delete::run(context, args).await,
    }
}

async fn list(context: &Context, guest: Option<&str>) -> Result<()> {
    let guest = guest.map(names::split_guest).transpose()?;
    let db = context.database().await?;
    let points = points::list(&db.pool, guest).await?;
    context.out.list(
        &points,
        "no restore points yet; `virtuozo run now` makes some",
        &[
            "Point", "Guest", "Instant", "Mode", "Stored", "Disks", "State", "Verified",
        ],
        |point| {
            vec![
                output::short(point.id),
                point.full_name(),
                output::time(point.taken_at),
                point.mode.clone(),
                output::size(point.size_bytes),
                output::size(point.source_bytes),
                point.state.clone(),
                output::time_or_dash(point.verified_at),
            ]
        },
    )
}

/// A restore point and what is known about it.
struct Located {
    dir: PathBuf,
    /// The row, where the database was asked, and the connection for recording what is found.
    row: Option<(PointLine, Database)>,
}

impl Located {
    /// By its directory if the text is a path, otherwise by its id in the database.
    async fn find(context: &Context, text: &str) -> Result<Self> {
        if text.contains('/') {
            let dir = Path::new(text)
                .canonicalize()
                .map_err(|error| usage(format!("there is no restore point in {text}: {error}")))?;
            return Ok(Self { dir, row: None });
        }
        let db = context.database().await?;
        let line = names::point(&db.pool, text).await?;
        Ok(Self::new(line, db))
    }

    async fn all(context: &Context) -> Result<Vec<Self>> {
        let db = context.database().await?;
        let lines = points::to_verify(&db.pool).await?;
        Ok(lines
            .into_iter()
            .map(|line| Self::new(line, db.clone()))
            .collect())
    }

    fn new(line: PointLine, db: Database) -> Self {
        Self {
            dir: Path::new(&line.repository).join(&line.path),
            row: Some((line, db)),
        }
    }

    /// What the catalogue knows of it; none: it was named by its directory.
    fn recorded(&self) -> Option<Recorded> {
        let (line, _) = self.row.as_ref()?;
        Some(operation::recorded(line))
    }

    fn name(&self) -> String {
        match &self.row {
            Some((line, _)) => output::short(line.id),
            None => self.dir.display().to_string(),
        }
    }
}

fn show(context: &Context, point: &Located) -> Result<()> {
    let found = ReadManifest::read(&point.dir, &manifest_keys(&context.key_file())?)?;
    let manifest = found.manifest;
    let row = point.row.as_ref().map(|(line, _)| line);
    let out = &context.out;
    if out.is_json() {
        return out.json(&json!({
            "dir": point.dir,
            "record": row,
            "manifest": manifest,
            "manifest_blake3": found.blake3,
            "authenticity": found.authenticity,
        }));
    }
    let about = &manifest.point;
    let mut lines = vec![
        ("Point", about.point_id.to_string()),
        ("Guest", format!("{}/{}", about.host, about.guest)),
        ("Directory", point.dir.display().to_string()),
        ("Instant", output::time(about.taken_at)),
        ("Mode", about.mode.as_str().to_owned()),
        ("Stored", output::size(manifest.size_bytes)),
        ("Disks", output::size(manifest.source_bytes)),
        ("Foreign snapshots", about.foreign_snapshots.join(", ")),
        ("Authenticity", found.authenticity.to_string()),
    ];
    if let Some(row) = row {
        lines.push(("State", row.state.clone()));
        lines.push(("Verified", output::time_or_dash(row.verified_at)));
        lines.push(("Read back from", output::or_dash(row.read_back.as_deref())));
        if let Some(damage) = &row.damage {
            lines.push(("Damage", damage.clone()));
        }
    }
    out.show(&manifest, |_| lines)?;
    let mut table = output::table(&["File", "Device", "Stored", "Size", "BLAKE3"]);
    for file in &manifest.files {
        let hash = file.blake3.to_string();
        table.add([
            file.name.clone(),
            output::or_dash(file.device.as_ref()),
            output::size(file.size_bytes),
            output::size(file.capacity_bytes),
            hash.chars().take(16).collect(),
        ]);
    }
    out.table(&table)
}

#[derive(Serialize)]
struct Verified {
    point: String,
    dir: PathBuf,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    report: Option<VerifyReport>,
    /// Why it could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Verified {
    fn is_good(&self) -> bool {
        self.report.as_ref().is_some_and(|report| report.ok)
    }

    fn result(&self) -> String {
        match (&self.report, &self.error) {
            (Some(report), _) => damage(report).unwrap_or_else(|| match &report.authenticity {
                Some(authenticity) if !authenticity.is_authentic() => {
                    format!("good, {authenticity}")
                }
                _ => "good".to_owned(),
            }),
            (None, error) => format!("not verified: {}", error.as_deref().unwrap_or_default()),
        }
    }
}

/// Verifies one after the other; one that cannot be read does not keep the others from it.
async fn verify_all(context: &Context, points: Vec<Located>) -> Result<()> {
    let mut results = Vec::new();
    for point in points {
        let (keys, name) = (manifest_keys(&context.key_file())?, point.name());
        let verifying = verify(context, &point.dir, keys, point.recorded(), &name);
        let (report, error) = match verifying.await {
            Ok(report) => (Some(report), None),
            Err(error) if error.is::<RepositoryError>() => (None, Some(told(&error))),
            Err(error) => return Err(error),
        };
        if let (Some(report), Some((line, db))) = (&report, &point.row) {
            operation::record(&db.pool, line.id, report)
                .await
                .context("the result of the verification could not be recorded")?;
        }
        results.push(Verified {
            point: point.name(),
            dir: point.dir,
            report,
            error,
        });
    }
    context.out.list(
        &results,
        "no restore points to verify",
        &["Point", "Result", "Files", "Read", "From"],
        |result| {
            let report = result.report.as_ref();
            vec![
                result.point.clone(),
                result.result(),
                report.map_or(String::new(), |r| r.files_checked.to_string()),
                report.map_or(String::new(), |r| output::size(r.bytes)),
                output::or_dash(report.and_then(|r| r.read_back).map(ReadBack::as_str)),
            ]
        },
    )?;
    if results.iter().all(Verified::is_good) {
        Ok(())
    } else {
        Err(AlreadyReported.into())
    }
}

pub(crate) async fn restore(context: &Context, args: RestoreArgs) -> Result<()> {
    let point = Located::find(context, &args.point).await?;
    let from = match &point.row {
        Some((line, _)) => Repository::open(&line.repository)?.place(Path::new(&line.path))?,
        None => point.dir.clone(),
    };
    let to = args.to.clone();
    let site_lets_group = match &point.row {
        Some((_, db)) => settings::get(&db.pool).await?.group_may_read,
        None => false,
    };
    let options = RestoreOptions {
        recorded: point.recorded(),
        keys: manifest_keys(&context.key_file())?,
        unauthenticated: args.unauthenticated,
        access: Access::of_group(args.group_may_read || site_lets_group),
    };
    let report = operation::run(
        context,
        &format!("restore {}", point.name()),
        move |observer| virtuozo_repository::restore(&from, &to, &options, observer),
    )
    .await?;
    if context.out.is_json() {
        return context.out.json(&json!({
            "to": args.to,
            "files": report.files,
            "bytes": report.bytes,
            "authenticity": report.authenticity,
        }));
    }
    if !report.authenticity.is_authentic() {
        context
            .out
            .line(&format!("{}: {}", point.dir.display(), report.authenticity))?;
    }
    context.out.line(&format!(
        "restored {} files, {} to {}: every byte was held against its hash; the .vmx can be added to \
         a host's inventory from there",
        report.files,
        output::size(report.bytes),
        args.to.display()
    ))
}
