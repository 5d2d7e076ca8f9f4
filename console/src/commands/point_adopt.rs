//! `virtuozo point adopt`: takes restore points that a scan has found for backups of their guests, once every byte of them
//! was held against the manifest, and authenticates the manifest with the site's key.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use serde::Serialize;
use uuid::Uuid;
use virtuozo_repository::{Access, Authenticity, ManifestKeys, Repository, RepositoryError};
use virtuozo_services::{
    names,
    points::{self, PointLine},
    settings,
};

use crate::{
    context::{Context, Database, user_name},
    error::AlreadyReported,
    operation, output,
};

/// Options of `point adopt`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  virtuozo point adopt 5f2c81aa 77d0c3b1

For restore points of another site, of a key that is lost, or of a version that did not authenticate them. Each is \
verified whole first. Adopt only what you know to be yours: from then on it is restored without a question, and covers \
older restore points of its guest in retention.")]
pub(crate) struct AdoptArgs {
    /// Ids, or beginnings or ends of them that only one point has
    #[arg(required = true, value_name = "POINT")]
    points: Vec<String>,
}

/// What became of a restore point.
#[derive(Debug, Serialize)]
struct Line {
    point: Uuid,
    guest: String,
    dir: PathBuf,
    adopted: bool,
    /// Its manifest has a code by the key of this machine now.
    authenticated: bool,
    /// Why it was not adopted, or not authenticated.
    why: Option<String>,
}

pub(crate) async fn run(context: &Context, args: AdoptArgs) -> Result<()> {
    let db = context.database().await?;
    let keys = operation::manifest_keys(&context.key_file())?;
    // An unknown id fails the command before anything is changed.
    let found = names::points(&db.pool, &args.points).await?;
    let mut lines = Vec::new();
    for point in &found {
        lines.push(adopt(context, &db, &keys, point).await?);
    }
    context.out.list(
        &lines,
        "nothing to adopt",
        &["Point", "Guest", "Directory", "Result", "Why"],
        |line| {
            let result = match (line.adopted, line.authenticated) {
                (true, true) => "adopted, authentic",
                (true, false) => "adopted",
                (false, _) => "NOT ADOPTED",
            };
            vec![
                output::short(line.point),
                line.guest.clone(),
                line.dir.display().to_string(),
                result.to_owned(),
                output::or_dash(line.why.as_deref()),
            ]
        },
    )?;
    if lines.iter().all(|line| line.adopted) {
        Ok(())
    } else {
        Err(AlreadyReported.into())
    }
}

async fn adopt(
    context: &Context,
    db: &Database,
    keys: &ManifestKeys,
    point: &PointLine,
) -> Result<Line> {
    let dir = Path::new(&point.repository).join(&point.path);
    let mut line = Line {
        point: point.id,
        guest: point.full_name(),
        dir,
        adopted: false,
        authenticated: false,
        why: None,
    };
    let recorded = Some(operation::recorded(point));
    let name = output::short(point.id);
    let verifying = operation::verify(context, &line.dir, keys.clone(), recorded, &name);
    let report = match verifying.await {
        Ok(report) => report,
        Err(error) if error.is::<RepositoryError>() => {
            line.why = Some(format!("it cannot be verified: {error:#}"));
            return Ok(line);
        }
        Err(error) => return Err(error),
    };
    let damage = operation::record(&db.pool, point.id, &report).await?;
    let (None, Some(blake3)) = (&damage, report.manifest_blake3) else {
        line.why = damage;
        return Ok(line);
    };
    line.authenticated = match report.authenticity {
        Some(Authenticity::Authentic { .. }) => true,
        _ if keys.is_empty() => {
            let file = context.key_file();
            line.why = Some(format!(
                "its manifest has no code, as there is no key file {}: it is protected against accident, not against \
                 somebody who writes to the repository",
                file.display()
            ));
            false
        }
        _ => {
            let access = Access::of_group(settings::get(&db.pool).await?.group_may_read);
            let (root, path) = (PathBuf::from(&point.repository), PathBuf::from(&point.path));
            let keys = keys.clone();
            let writing = tokio::task::spawn_blocking(move || {
                let repository = Repository::open(root)?.with_access(access).with_keys(keys);
                repository.authenticate(&path, blake3)
            });
            writing.await?.context("its manifest cannot be written")?;
            true
        }
    };
    let by = format!("user {}", user_name());
    points::adopt(&db.pool, point, &by).await?;
    line.adopted = true;
    Ok(line)
}
