//! The guests of the fleet: most of them off and small, some of them running, and how each must be found
//! again.

use std::{collections::BTreeSet, ffi::OsString, fs, thread};

use anyhow::{Context, Result, bail};
use virtuozo_disk::vmdk::DiskKind;
use vix::lab::{DiskSpec, GuestSpec, HostSpec, LabGuest, LabHost, Power, Product};

use super::{ARCHIVE, FleetSpec, STANDARD};
use crate::{PointDisks, Site};

/// A snapshot that is not ours.
const FOREIGN: &str = "before-update";
/// With what the names of our snapshots begin.
const OURS: &str = "virtuozo-";
/// Threads that build guests.
const BUILDERS: usize = 4;
const CAPACITY_BYTES: u64 = 256 << 10;
/// Enough to tell one instant from another, few enough for many guests.
const WRITES_PER_SECOND: u64 = 5;

/// One guest and how it was before anything began.
pub(super) struct FleetGuest {
    /// `HOST/GUEST`.
    pub(super) name: String,
    guest: LabGuest,
    power: Power,
    snapshots: Vec<String>,
    disks: BTreeSet<OsString>,
}

/// Makes the hosts, makes them known, and makes their guests.
pub(super) fn build(site: &Site, spec: &FleetSpec) -> Result<Vec<FleetGuest>> {
    const PRODUCTS: [Product; 3] = [Product::WorkstationShared, Product::Server2, Product::Esxi];
    let hosts: Vec<LabHost> = PRODUCTS
        .into_iter()
        .cycle()
        .take(spec.hosts)
        .enumerate()
        .map(|(number, product)| {
            let mut host = HostSpec::new(format!("host-{number:02}"), product);
            host.datastores = vec![STANDARD.to_owned(), ARCHIVE.to_owned()];
            let built = site.host_as(&host)?;
            limit_archive(site, &built)?;
            Ok(built)
        })
        .collect::<Result<_>>()?;
    let per_host = spec.guests / spec.hosts;
    let numbered: Vec<(usize, &LabHost)> = hosts.iter().enumerate().collect();
    thread::scope(|scope| {
        let builders: Vec<_> = numbered
            .chunks(hosts.len().div_ceil(BUILDERS))
            .map(|part| {
                scope.spawn(move || -> Result<Vec<FleetGuest>> {
                    part.iter()
                        .flat_map(|(at, host)| {
                            (0..per_host).map(|n| FleetGuest::build(host, *at, n))
                        })
                        .collect()
                })
            })
            .collect();
        let mut all = Vec::new();
        for builder in builders {
            match builder.join() {
                Ok(part) => all.extend(part?),
                Err(_) => bail!("a thread that builds guests died"),
            }
        }
        Ok(all)
    })
}

/// Lets one guest at a time be in work in the archive.
fn limit_archive(site: &Site, host: &LabHost) -> Result<()> {
    let path = host.datastores.iter().find(|(name, _)| name == ARCHIVE);
    let (_, path) = path.context("a host has no archive")?;
    let path = path.display().to_string();
    site.virtuozo(&["datastore", "map", &host.name, ARCHIVE, &path])?
        .ok()?;
    site.virtuozo(&["datastore", "limit", &host.name, ARCHIVE, "1"])?
        .ok()?;
    Ok(())
}

impl FleetGuest {
    /// One in five lies in the archive. The first one of a host runs; on every second host it can be backed
    /// up cold only. The second one has a snapshot of somebody else's. All others are off.
    fn build(host: &LabHost, host_number: usize, number: usize) -> Result<Self> {
        let datastore = if number % 5 == 4 { ARCHIVE } else { STANDARD };
        let kind = match number % 2 {
            0 => DiskKind::MonolithicSparse,
            _ => DiskKind::MonolithicFlat,
        };
        let mut disk = DiskSpec::new("scsi0:0", kind, CAPACITY_BYTES);
        disk.independent = number == 0 && host_number % 2 == 1;
        let mut spec = GuestSpec::new(format!("{datastore}-{number:02}"), vec![disk]);
        spec.datastore = datastore.to_owned();
        spec.writes_per_second = Some(WRITES_PER_SECOND);
        if number == 0 {
            spec.power = Power::On;
        }
        if number == 1 {
            spec.foreign_snapshots = vec![FOREIGN.to_owned()];
        }
        let guest = host.guest(&spec)?;
        Ok(Self {
            name: format!("{}/{}", host.name, spec.name),
            disks: disk_files(&guest)?,
            guest,
            power: spec.power,
            snapshots: spec.foreign_snapshots,
        })
    }

    /// Insists that nothing of ours is left on it and nothing of others is missing.
    pub(super) fn is_as_before(&self) -> Result<()> {
        let vmsd = self.guest.vmx().with_extension("vmsd");
        // Before the simulator looks, which would settle what somebody left unfinished.
        let text = fs::read_to_string(&vmsd).with_context(|| vmsd.display().to_string())?;
        if text.contains(OURS) {
            bail!("{}: a snapshot of ours is in its .vmsd", self.name);
        }
        let (power, snapshots, disks) = (
            self.guest.power()?,
            self.guest.snapshots()?,
            disk_files(&self.guest)?,
        );
        if power != self.power {
            bail!("{}: {power:?} instead of {:?}", self.name, self.power);
        }
        if snapshots != self.snapshots {
            bail!("{}: its snapshots are {snapshots:?}", self.name);
        }
        if disks != self.disks {
            bail!("{}: its disk files are {disks:?}", self.name);
        }
        Ok(())
    }

    /// Insists that a restore point shows the guest at one instant; one that is off, as it is now.
    pub(super) fn is_shown_by(&self, point: &std::path::Path) -> Result<()> {
        let disks = PointDisks::open(point)?;
        let last = vix::stamps::check(self.guest.seed()?, &disks.sources())
            .map_err(anyhow::Error::msg)
            .with_context(|| format!("{}: its point is no single instant", self.name))?;
        if self.power == Power::Off {
            let now = self.guest.check(&self.guest.current_disks()?)?;
            if last != now {
                bail!(
                    "{}: write {last} in its point, {now} on its disk",
                    self.name
                );
            }
        }
        Ok(())
    }
}

fn disk_files(guest: &LabGuest) -> Result<BTreeSet<OsString>> {
    let folder = guest.vmx().parent().context("a .vmx lies in a folder")?;
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "vmdk") {
            names.extend(path.file_name().map(ToOwned::to_owned));
        }
    }
    Ok(names)
}
