//! `virtuozo export` and `virtuozo import`: the configuration of a site as a file.

use std::{
    fs,
    io::{self, ErrorKind, Read, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::{Value, json};
use virtuozo_postgres::StoreError;
use virtuozo_services::{ServiceError, site_file};
use virtuozo_site_config::{Change, Changed, Options, Outcome, Parsed, Sealing, SiteFileError};

use crate::{
    back_ends::KnownBackEnds,
    context::Context,
    error::{WouldChange, usage},
    password::PassphraseArgs,
};

/// Options of `export`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  virtuozo export --out site.toml
  virtuozo export --out site.toml --passphrase-file /run/keys/site
  virtuozo export --without-passwords | git diff --no-index site.toml -

Over an earlier export with the same passphrase, passwords that did not change keep their text.")]
pub(crate) struct ExportArgs {
    /// File to write, for the owner's eyes only [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    /// Leave the passwords of hosts and the secrets of notices out
    #[arg(long, conflicts_with = "passphrase_file")]
    without_passwords: bool,
}

/// Options of `import`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  virtuozo import site.toml --dry-run --without-passwords
  virtuozo import site.toml --passphrase-file /run/keys/site
  virtuozo import site.toml --prune

All or nothing; what is as the file says already is not touched. Guests with restore points, and hosts of such \
guests, stay also with --prune: without its guest a restore point is in no retention. To remove them is a command \
of its own, for guests as for hosts. With --dry-run the exit code is 4 where something would change.")]
pub(crate) struct ImportArgs {
    /// The file, as `virtuozo export` writes it
    file: PathBuf,
    /// Only show what would change
    #[arg(long)]
    dry_run: bool,
    /// Remove hosts, guests, schedules, mappings and caps that the file does not name; guests with restore points
    /// stay
    #[arg(long)]
    prune: bool,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    /// Leave the passwords of hosts and the secrets of notices as they are
    #[arg(long, conflicts_with = "passphrase_file")]
    without_passwords: bool,
}

pub(crate) async fn export(context: &Context, args: ExportArgs) -> Result<()> {
    let db = context.database().await?;
    let key = match args.without_passwords {
        true => None,
        false => site_file::key_for_export(&db.pool, &context.key_file()).await?,
    };
    let file = match &key {
        Some(key) => {
            let earlier = args.out.as_deref().and_then(earlier);
            let passphrase = args.passphrase.choose()?;
            let sealing = Sealing::new(&passphrase, earlier).map_err(plain)?;
            site_file::export(&db.pool, Some((key, &sealing))).await?
        }
        None => site_file::export(&db.pool, None).await?,
    };
    match &args.out {
        None if context.out.is_json() => context.out.json(&file),
        None => context.out.file(file.to_text()?.trim_end()),
        Some(path) => {
            replace(path, file.to_text()?.as_bytes())
                .with_context(|| format!("{} cannot be written", path.display()))?;
            context.out.done(&format!(
                "{} hosts, {} guests and {} schedules in {}{}",
                file.hosts.len(),
                file.hosts
                    .iter()
                    .map(|host| host.as_ref().guests.len())
                    .sum::<usize>(),
                file.schedules.len(),
                path.display(),
                match file.passwords {
                    Some(_) => "; their passwords open with the passphrase",
                    None => "; without passwords",
                }
            ))
        }
    }
}

/// A larger file is no export: that of 10,000 guests has some 10 MB.
const FILE_LIMIT_BYTES: u64 = 256 * 1024 * 1024;

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let file = fs::File::open(path)?;
    file.take(FILE_LIMIT_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_LIMIT_BYTES {
        let why = format!("it has more than {FILE_LIMIT_BYTES} bytes, which no export has");
        return Err(io::Error::new(ErrorKind::InvalidData, why));
    }
    Ok(text)
}

/// The export that is about to be replaced, if there is one.
fn earlier(path: &Path) -> Option<virtuozo_site_config::SiteFile> {
    let text = read(path).ok()?;
    Some(Parsed::new(&text).ok()?.file)
}

/// Puts a new file in the place of an old one, which is there until the new one is complete.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    // Made with mode 0600.
    let mut new = tempfile::NamedTempFile::new_in(dir)?;
    new.write_all(bytes)?;
    new.as_file().sync_all()?;
    new.persist(path)?;
    Ok(virtuozo_repository::sync_dir(dir)?)
}

pub(crate) async fn import(context: &Context, args: ImportArgs) -> Result<()> {
    let path = args.file.display();
    let text = read(&args.file).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::InvalidData => usage(format!("{path}: {error}")),
        _ => anyhow::Error::new(error).context(format!("{path} cannot be read")),
    })?;
    let of_file = |error: SiteFileError| match error {
        SiteFileError::Store(_) => plain(error),
        error => usage(format!("{path}: {error}")),
    };
    let parsed = Parsed::new(&text).map_err(of_file)?;
    let lock = match args.without_passwords {
        true => None,
        false => parsed.lock().map_err(of_file)?,
    };
    let opening = match lock {
        Some(lock) => {
            let opened = lock.open(&args.passphrase.read()?);
            Some(opened.map_err(|error| of_file(error.into()))?)
        }
        None => None,
    };
    let db = context.database().await?;
    let options = Options {
        prune: args.prune,
        dry_run: args.dry_run,
    };
    let key_file = context.key_file();
    let importing = site_file::import(
        &db.pool,
        &KnownBackEnds,
        &parsed,
        opening.as_ref(),
        &key_file,
        options,
    );
    let outcome = importing.await.map_err(|error| match error {
        ServiceError::SiteFile(error) => of_file(error),
        error => error.into(),
    })?;
    show(context, &outcome, options)?;
    if args.dry_run && !outcome.changes.is_empty() {
        return Err(WouldChange.into());
    }
    Ok(())
}

/// The error of the database below, which has exit codes of its own.
fn plain(error: SiteFileError) -> anyhow::Error {
    match error {
        SiteFileError::Store(error) => StoreError::into(error),
        error => error.into(),
    }
}

fn show(context: &Context, outcome: &Outcome, options: Options) -> Result<()> {
    let out = &context.out;
    if out.is_json() {
        return out.json(&json!({
            "ok": true,
            "dry_run": options.dry_run,
            "changes": outcome.changes,
            "kept": outcome.kept,
        }));
    }
    for change in &outcome.changes {
        let sign = match change.change {
            Changed::Added => '+',
            Changed::Changed => '~',
            Changed::Removed => '-',
        };
        out.line(&format!("{sign} {}", change.entry))?;
        for field in fields(change) {
            out.line(&format!("    {field}"))?;
        }
    }
    if !outcome.kept.is_empty() {
        let why = match options.prune {
            true => {
                "there are restore points; `virtuozo guest remove` and `virtuozo host remove` remove them"
            }
            false => "--prune removes what is not in it",
        };
        let kept = outcome.kept.join(", ");
        out.line(&format!("not in the file, and kept: {kept} ({why})"))?;
    }
    let count = |what| {
        outcome
            .changes
            .iter()
            .filter(|change| change.change == what)
            .count()
    };
    let end = match (outcome.changes.is_empty(), options.dry_run) {
        (true, _) => "all is as the file says",
        (_, true) => "nothing was done, because of --dry-run",
        (_, false) => "done",
    };
    out.line(&format!(
        "{} added, {} changed, {} removed: {end}",
        count(Changed::Added),
        count(Changed::Changed),
        count(Changed::Removed)
    ))
}

fn fields(change: &Change) -> impl Iterator<Item = String> {
    let added = change.change == Changed::Added;
    change.fields.iter().map(move |field| {
        if added {
            format!("{}: {}", field.field, text(&field.new))
        } else {
            format!(
                "{}: {} → {}",
                field.field,
                text(&field.old),
                text(&field.new)
            )
        }
    })
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "not set".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(all) => all.iter().map(text).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}
