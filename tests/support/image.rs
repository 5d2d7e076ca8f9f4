//! The disks of a restore point or of a guest's folder, as its `.vmx` names them.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use virtuozo_disk::{BlockSource, vmdk::Chain, vmware::vmx::Vmx};

/// The disks of one `.vmx`, opened with their chains.
pub struct PointDisks {
    chains: Vec<Chain>,
}

impl PointDisks {
    /// Opens the disks of the one `.vmx` in `folder`.
    ///
    /// # Errors
    /// There is no `.vmx`, or a disk does not open.
    pub fn open(folder: &Path) -> Result<Self> {
        let vmx = fs::read_dir(folder)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.extension().is_some_and(|e| e == "vmx"))
            .with_context(|| format!("no .vmx in {}", folder.display()))?;
        let (vmx, _) = Vmx::load(&vmx)?;
        let chains = vmx
            .disks()
            .iter()
            .map(|d| Ok(Chain::open(folder.join(&d.file_name), &[])?))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self { chains })
    }

    /// The disks in the order of their devices.
    pub fn sources(&self) -> Vec<&dyn BlockSource> {
        self.chains.iter().map(|c| c as &dyn BlockSource).collect()
    }

    /// The number of disks.
    pub fn len(&self) -> usize {
        self.chains.len()
    }

    /// Whether there is no disk at all.
    pub fn is_empty(&self) -> bool {
        self.chains.is_empty()
    }

    /// Whether both have the same bytes on the same number of disks.
    ///
    /// # Errors
    /// A disk cannot be read.
    pub fn same_bytes(&self, other: &Self) -> Result<bool> {
        if self.len() != other.len() {
            return Ok(false);
        }
        for (a, b) in self.chains.iter().zip(&other.chains) {
            if a.size_bytes() != b.size_bytes() {
                return Ok(false);
            }
            let mut left = vec![0; 1 << 20];
            let mut right = vec![0; 1 << 20];
            let mut at = 0;
            while at < a.size_bytes() {
                let len = (a.size_bytes() - at).min(1 << 20) as usize;
                a.read_at(at, &mut left[..len])?;
                b.read_at(at, &mut right[..len])?;
                if left[..len] != right[..len] {
                    return Ok(false);
                }
                at += len as u64;
            }
        }
        Ok(true)
    }
}
