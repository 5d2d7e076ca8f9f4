//! The demo's lab: two simulated hosts and their guests, each there for a reason.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use secrecy::SecretString;
use sqlx::PgPool;
use virtuozo_disk::{
    Roots,
    vmdk::DiskKind::{
        self, MonolithicFlat, MonolithicSparse, TwoGbMaxExtentFlat, TwoGbMaxExtentSparse,
    },
    vmware::lock,
};
use virtuozo_hypervisor::snapshot_name;
use virtuozo_secrets::Key;
use virtuozo_services::hosts::{self, HostConfig, Sealing};
use vix::{
    Power, Product,
    lab::{Broken, DiskSpec, GuestSpec, HostSpec, Lab, LabGuest, LabHost},
};

use super::compare;
use crate::back_ends::KnownBackEnds;

/// The guests that are restored: one that went on running, one that was off.
pub(super) const RESTORED: [(&str, &str); 2] = [("alpha", "mail"), ("alpha", "archive")];

/// How a guest's backup should end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expect {
    /// With a restore point, taken while it ran.
    Hot,
    /// With a restore point, taken while it was off.
    Cold,
    /// With a clear reason, and without touching the others.
    Fails,
}

/// A guest of the lab.
#[derive(Debug, Clone)]
pub(super) struct Planned {
    pub(super) host: String,
    pub(super) name: String,
    /// What it is there for.
    pub(super) about: &'static str,
    pub(super) expect: Expect,
    /// The directory of its files.
    pub(super) dir: PathBuf,
    guest: LabGuest,
}

impl Planned {
    /// Up to which of its writes the disks in `dir` hold, and that they hold all of those and nothing
    /// else.
    pub(super) fn writes_held(&self, dir: &Path) -> Result<u64> {
        let disks: Vec<PathBuf> = compare::disks(dir)?
            .into_values()
            .map(|(path, _)| path)
            .collect();
        Ok(self.guest.check(&disks)?)
    }
}

/// The lab. Dropping it ends all guests.
pub(super) struct Site {
    hosts: Vec<LabHost>,
    guests: Vec<Planned>,
    _lab: Lab,
}

fn disk(device: &str, kind: DiskKind, capacity_mib: u64) -> DiskSpec {
    DiskSpec::new(device, kind, capacity_mib << 20)
}

impl Site {
    /// Builds the lab in a new directory and powers its guests on.
    pub(super) fn build(root: &Path) -> Result<Self> {
        let lab = Lab::create(root)?;
        let alpha = lab.host(&HostSpec::new("alpha", Product::Server2))?;
        let beta = lab.host(&HostSpec::new("beta", Product::WorkstationShared))?;
        let mut site = Self {
            hosts: vec![alpha.clone(), beta.clone()],
            guests: Vec::new(),
            _lab: lab,
        };
        site.add(
            &alpha,
            "runs, two disks",
            Expect::Hot,
            GuestSpec {
                power: Power::On,
                ..GuestSpec::new(
                    "mail",
                    vec![
                        disk("scsi0:0", MonolithicSparse, 256),
                        disk("scsi0:1", MonolithicSparse, 128),
                    ],
                )
            },
        )?;
        site.add(
            &alpha,
            "runs, split and flat disks",
            Expect::Hot,
            GuestSpec {
                power: Power::On,
                ..GuestSpec::new(
                    "files",
                    vec![
                        disk("scsi0:0", TwoGbMaxExtentSparse, 192),
                        disk("scsi0:1", MonolithicFlat, 96),
                        disk("scsi0:2", MonolithicSparse, 96),
                    ],
                )
            },
        )?;
        site.add(
            &alpha,
            "off, flat disk",
            Expect::Cold,
            GuestSpec::new("archive", vec![disk("scsi0:0", MonolithicFlat, 128)]),
        )?;
        // VMware Server keeps one snapshot: another would replace the foreign one.
        site.add(
            &alpha,
            "runs, foreign snapshot, only one possible",
            Expect::Cold,
            GuestSpec {
                power: Power::On,
                foreign_snapshots: vec!["before the audit".to_owned()],
                ..GuestSpec::new("ledger", vec![disk("scsi0:0", MonolithicSparse, 96)])
            },
        )?;
        site.add(
            &beta,
            "runs, foreign snapshot",
            Expect::Hot,
            GuestSpec {
                power: Power::On,
                foreign_snapshots: vec!["before the upgrade".to_owned()],
                ..GuestSpec::new("web", vec![disk("scsi0:0", MonolithicSparse, 128)])
            },
        )?;
        site.add(
            &beta,
            "off, split disks",
            Expect::Cold,
            GuestSpec::new(
                "build",
                vec![
                    disk("scsi0:0", TwoGbMaxExtentFlat, 64),
                    disk("ide0:0", TwoGbMaxExtentSparse, 128),
                ],
            ),
        )?;
        site.add(
            &beta,
            "broken disk",
            Expect::Fails,
            GuestSpec {
                broken: Some(Broken::TruncatedDisk),
                ..GuestSpec::new("scratch", vec![disk("scsi0:0", MonolithicSparse, 64)])
            },
        )?;
        Ok(site)
    }

    fn add(
        &mut self,
        host: &LabHost,
        about: &'static str,
        expect: Expect,
        spec: GuestSpec,
    ) -> Result<()> {
        let guest = host
            .guest(&spec)
            .with_context(|| format!("cannot build the guest {}/{}", host.name, spec.name))?;
        let dir = guest.vmx().parent().context("a .vmx lies in a directory")?;
        self.guests.push(Planned {
            host: host.name.clone(),
            name: spec.name,
            about,
            expect,
            dir: dir.to_owned(),
            guest,
        });
        Ok(())
    }

    /// All guests.
    pub(super) fn guests(&self) -> &[Planned] {
        &self.guests
    }

    /// One guest.
    pub(super) fn guest(&self, host: &str, name: &str) -> Result<&Planned> {
        self.guests
            .iter()
            .find(|guest| guest.host == host && guest.name == name)
            .with_context(|| format!("the lab has no guest {host}/{name}"))
    }

    /// Tells the database about the hosts; their guests are found by the first run.
    pub(super) async fn configure(&self, pool: &PgPool, key: &Key) -> Result<()> {
        for host in &self.hosts {
            let login = HostSpec::new(&host.name, host.product);
            let config = HostConfig {
                name: host.name.clone(),
                // Product and kind of host have one word.
                kind: host.product.name().parse()?,
                address: Some(host.url.clone()),
                user_name: Some(login.user),
                properties: BTreeMap::from([(
                    "config-dir".to_owned(),
                    host.config_dir.display().to_string(),
                )]),
                ignored: false,
                guest_threads: None,
            };
            let password = Sealing {
                key,
                password: &SecretString::from(login.password),
            };
            hosts::add(pool, &KnownBackEnds, &config, Some(password)).await?;
        }
        Ok(())
    }

    /// Whether each guest is on, in the order of [`Self::guests`].
    pub(super) fn power_states(&self) -> Result<Vec<bool>> {
        let states = self.guests.iter().map(|planned| planned.guest.power());
        Ok(states
            .map(|power| power.map(|power| power == Power::On))
            .collect::<Result<_, _>>()?)
    }

    /// Snapshots of ours that are still there, each as a sentence.
    pub(super) fn our_snapshots(&self) -> Result<Vec<String>> {
        let mut left = Vec::new();
        for planned in &self.guests {
            for name in planned.guest.snapshots()? {
                if snapshot_name::is_ours(&name) {
                    left.push(format!(
                        "{}/{} still has the snapshot {name}",
                        planned.host, planned.name
                    ));
                }
            }
        }
        Ok(left)
    }

    /// Locks on the files of guests that are off, each as a sentence: nobody should hold any.
    pub(super) fn locks_left(&self) -> Result<Vec<String>> {
        let mut left = Vec::new();
        for (planned, on) in self.guests.iter().zip(self.power_states()?) {
            if on {
                continue;
            }
            let disks = planned.guest.current_disks()?;
            for path in disks
                .iter()
                .map(PathBuf::as_path)
                .chain([planned.guest.vmx()])
            {
                let roots = Roots::new(path.parent().map(Path::to_owned));
                if let Some(holder) = lock::in_use(&roots, path)? {
                    left.push(format!(
                        "{} is locked by {}",
                        path.display(),
                        holder.program
                    ));
                }
            }
        }
        Ok(left)
    }
}
