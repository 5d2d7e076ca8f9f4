//! Whether two guests hold the same disks: a restore point, what was restored from it, and the source.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use virtuozo_disk::{BlockSource, vmdk::Chain, vmware::vmx::Vmx};

/// How much is compared at a time.
const STRIDE_BYTES: u64 = 1 << 20;

/// The disks that a guest's `.vmx` in `dir` names, by device, opened with all they rest on.
pub(super) fn disks(dir: &Path) -> Result<BTreeMap<String, (PathBuf, Chain)>> {
    let vmx = std::fs::read_dir(dir)
        .with_context(|| format!("cannot list {}", dir.display()))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| path.extension().is_some_and(|end| end == "vmx"))
        .with_context(|| format!("there is no .vmx in {}", dir.display()))?;
    let (vmx, _) = Vmx::load(&vmx)?;
    vmx.disks()
        .into_iter()
        .map(|named| {
            let path = dir.join(&named.file_name);
            let chain = Chain::open(&path, &[])?;
            Ok((named.device.to_string(), (path, chain)))
        })
        .collect()
}

/// Fails with the first difference between the disks of two guests.
pub(super) fn same_disks(one: &Path, other: &Path) -> Result<()> {
    let (left, right) = (disks(one)?, disks(other)?);
    if !left.keys().eq(right.keys()) {
        bail!(
            "{} has the disks {:?}, {} has {:?}",
            one.display(),
            left.keys(),
            other.display(),
            right.keys()
        );
    }
    for ((device, (path, a)), (_, b)) in left.iter().zip(right.values()) {
        if let Some(at) = first_difference(a, b)? {
            bail!("{device} ({}) differs at byte {at}", path.display());
        }
    }
    Ok(())
}

/// The offset of the first block that differs, or the smaller size if the sizes differ.
fn first_difference(a: &dyn BlockSource, b: &dyn BlockSource) -> Result<Option<u64>> {
    let size = a.size_bytes().min(b.size_bytes());
    let mut at = 0;
    let (mut left, mut right) = (Vec::new(), Vec::new());
    while at < size {
        let len = STRIDE_BYTES.min(size - at);
        left.resize(usize::try_from(len)?, 0);
        right.resize(usize::try_from(len)?, 0);
        a.read_at(at, &mut left)?;
        b.read_at(at, &mut right)?;
        if left != right {
            return Ok(Some(at));
        }
        at += len;
    }
    Ok((a.size_bytes() != b.size_bytes()).then_some(size))
}

/// Runs `qemu-img` with the given arguments; false if it is not installed.
///
/// # Errors
/// With what it says, if it fails.
pub(super) fn qemu_img(args: &[&std::ffi::OsStr]) -> Result<bool> {
    match Command::new("qemu-img").args(args).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).context("cannot run qemu-img"),
        Ok(output) if output.status.success() => Ok(true),
        Ok(output) => bail!(
            "qemu-img {args:?} says: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ),
    }
}

/// Lets `qemu-img check` look at every disk of a restore point; nothing where it is not installed.
pub(super) fn qemu_check(dir: &Path) -> Result<()> {
    for (path, _) in disks(dir)?.into_values() {
        let args = ["check".as_ref(), "-q".as_ref(), path.as_os_str()];
        if !qemu_img(&args)? {
            break;
        }
    }
    Ok(())
}
