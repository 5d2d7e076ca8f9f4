//! Snapshots: taking one freezes the disks below new deltas, removing one merges them again.
//!
//! A process that dies in a change is made good by the next one to lock the guest, which may be the
//! guest itself ([`Locked::recover`]): a snapshot counts from the moment the `.vmx` names its deltas, a
//! removal goes on to its end.

use std::{
    collections::HashSet,
    fs,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use virtuozo_disk::{
    vmdk,
    vmware::{
        host_path,
        vmsd::{FrozenDisk, Snapshot, Vmsd},
    },
};
use vix_sys::{
    VIX_E_INVALID_ARG, VIX_E_SNAPSHOT_DISKLIB, VIX_E_SNAPSHOT_DUPLICATEDDISK,
    VIX_E_SNAPSHOT_INDEPENDENTDISK, VIX_E_SNAPSHOT_MEMORY_ON_INDEPENDENT_DISK,
    VIX_E_SNAPSHOT_NONUNIQUE_NAME, VIX_E_SNAPSHOT_NOTFOUND,
};

use super::{
    chain::{self, Link, NamedBy},
    error::{Result, SimError},
    faults,
    guest::{Guest, GuestDisk, Locked},
    state::Power,
};

/// Size of the simulated memory and state files in bytes.
const STATE_BYTES: usize = 16 << 10;
const MEMORY_BYTES: usize = 256 << 10;
/// Marks a snapshot of a suspended guest in the list of snapshots.
const SUSPENDED_KEY: &str = "sim.suspended";

/// Finds a snapshot by name, or by path `a/b/c` or `a\b\c` from a root.
pub(crate) fn named(vmsd: &Vmsd, name: &str) -> Result<u64> {
    if name.contains('/') && name.contains('\\') {
        return Err(SimError::new(
            VIX_E_INVALID_ARG,
            format!("the snapshot path {name:?} mixes separators"),
        ));
    }
    let components: Vec<&str> = name.split(['/', '\\']).collect();
    let found: Vec<u64> = match components.as_slice() {
        [one] => vmsd.named(one).map(|snapshot| snapshot.uid).collect(),
        path => {
            let mut level = vec![None];
            for component in path {
                level = level
                    .iter()
                    .flat_map(|parent| vmsd.children(*parent))
                    .filter(|snapshot| snapshot.name == *component)
                    .map(|snapshot| Some(snapshot.uid))
                    .collect();
            }
            level.into_iter().flatten().collect()
        }
    };
    match found.as_slice() {
        [uid] => Ok(*uid),
        [] => Err(SimError::new(
            VIX_E_SNAPSHOT_NOTFOUND,
            format!("there is no snapshot {name:?}"),
        )),
        _ => Err(SimError::new(
            VIX_E_SNAPSHOT_NONUNIQUE_NAME,
            format!("several snapshots are called {name:?}"),
        )),
    }
}

/// Takes a snapshot on top of the current one; its uid.
pub(crate) fn create(guest: &Guest, name: &str, description: &str, memory: bool) -> Result<u64> {
    let mut locked = guest.lock()?;
    create_locked(&mut locked, name, description, memory).inspect_err(|_| {
        // What cannot be put in order now, the next one to lock the guest meets.
        let _ = locked.recover();
    })
}

fn create_locked(
    locked: &mut Locked<'_>,
    name: &str,
    description: &str,
    memory: bool,
) -> Result<u64> {
    let guest = locked.guest;
    // A guest that does not run has none.
    let memory = memory && locked.is_on();
    let config = guest.config()?;
    let disks = guest.disks(&config);
    refuse_unfit_disks(&disks, locked.is_on(), memory)?;
    if guest.single_snapshot {
        let roots: Vec<u64> = guest.vmsd()?.children(None).map(|one| one.uid).collect();
        for uid in roots {
            remove_subtree(locked, uid)?;
        }
    }
    // Removing may have changed the files the guest writes to.
    let mut config = guest.config()?;
    let frozen: Vec<GuestDisk> = guest
        .disks(&config)
        .into_iter()
        .filter(|disk| !disk.independent)
        .collect();
    let mut deltas = Vec::new();
    for disk in &frozen {
        deltas.push(free_name(guest, &disk.file_name, &deltas)?);
    }

    locked.begin(&deltas, None)?;
    faults::point("point:begun", &guest.vmx)?;
    for (disk, delta) in frozen.iter().zip(&deltas) {
        vmdk::create_delta(guest.dir().join(delta), &disk.path)?;
    }
    faults::point("point:deltas-made", &guest.vmx)?;

    let mut vmsd = guest.vmsd()?;
    let state_file = format!("{}-Snapshot{}.vmsn", guest.stem(), vmsd.last_uid + 1);
    write_state_files(&guest.dir().join(&state_file), name, memory)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let uid = vmsd.add(Snapshot {
        name: name.to_owned(),
        description: description.to_owned(),
        state_file: Some(state_file),
        created_micros: now
            .ok()
            .and_then(|since| i64::try_from(since.as_micros()).ok()),
        disks: frozen
            .iter()
            .map(|disk| FrozenDisk {
                node: disk.device.to_string(),
                file_name: disk.file_name.clone(),
            })
            .collect(),
        other: match locked.state.power {
            Power::On => vec![("type".to_owned(), "1".to_owned())],
            Power::Suspended => vec![(SUSPENDED_KEY.to_owned(), "TRUE".to_owned())],
            Power::Off => Vec::new(),
        },
        ..Snapshot::default()
    });
    locked.write_vmsd(&vmsd)?;
    faults::point("point:listed", &guest.vmx)?;
    for (disk, delta) in frozen.iter().zip(&deltas) {
        config.set_disk_file(disk.device, delta);
    }
    locked.write_config(&config)?;
    faults::point("point:committed", &guest.vmx)?;
    locked.end()?;
    Ok(uid)
}

/// The power state that a snapshot holds. A guest that ran is off in it, unless its memory was taken too.
pub(crate) fn power(guest: &Guest, snapshot: &Snapshot) -> Power {
    if snapshot.other.iter().any(|(key, _)| key == SUSPENDED_KEY) {
        return Power::Suspended;
    }
    let memory = snapshot.state_file.as_ref();
    let memory = memory.map(|name| guest.dir().join(name).with_extension("vmem"));
    match memory {
        Some(memory) if memory.is_file() => Power::On,
        _ => Power::Off,
    }
}

fn refuse_unfit_disks(disks: &[GuestDisk], on: bool, memory: bool) -> Result<()> {
    if let Some(disk) = disks.iter().find(|disk| disk.independent)
        && (on || memory)
    {
        let code = if memory {
            VIX_E_SNAPSHOT_MEMORY_ON_INDEPENDENT_DISK
        } else {
            VIX_E_SNAPSHOT_INDEPENDENTDISK
        };
        return Err(SimError::new(
            code,
            format!("{} is independent", disk.device),
        ));
    }
    let mut seen = HashSet::new();
    match disks.iter().find(|disk| !seen.insert(&disk.path)) {
        Some(disk) => Err(SimError::new(
            VIX_E_SNAPSHOT_DUPLICATEDDISK,
            format!("{} is attached twice", disk.path.display()),
        )),
        None => Ok(()),
    }
}

/// The first free `<disk>-000001.vmdk` beside a disk, which may itself be such a delta.
fn free_name(guest: &Guest, file_name: &str, taken: &[String]) -> Result<String> {
    let directory = file_name.strip_suffix(host_path::base_name(file_name));
    let stem = host_path::stem(file_name);
    let base = match stem.rsplit_once('-') {
        Some((base, number)) if number.len() == 6 && number.bytes().all(|b| b.is_ascii_digit()) => {
            base
        }
        _ => stem,
    };
    (1..1_000_000)
        .map(|number| format!("{}{base}-{number:06}.vmdk", directory.unwrap_or_default()))
        .find(|name| !taken.contains(name) && !guest.dir().join(name).exists())
        .ok_or_else(|| {
            SimError::new(
                VIX_E_SNAPSHOT_DISKLIB,
                format!("{file_name} has too many deltas"),
            )
        })
}

fn write_state_files(path: &Path, name: &str, memory: bool) -> Result<()> {
    let seed = crate::stamps::fnv1a(name.as_bytes());
    fs::write(path, crate::lab::fill::pseudo_random(seed, STATE_BYTES))
        .map_err(SimError::io("write", path))?;
    if memory {
        let path = path.with_extension("vmem");
        fs::write(&path, crate::lab::fill::pseudo_random(!seed, MEMORY_BYTES))
            .map_err(SimError::io("write", &path))?;
    }
    Ok(())
}

/// Removes a snapshot, and with `children` all below it.
pub(crate) fn remove(guest: &Guest, uid: u64, children: bool) -> Result<()> {
    let mut locked = guest.lock()?;
    if children {
        remove_subtree(&mut locked, uid)
    } else {
        remove_one(&mut locked, uid)
    }
}

fn remove_subtree(locked: &mut Locked<'_>, uid: u64) -> Result<()> {
    let vmsd = locked.guest.vmsd()?;
    let mut order = vec![uid];
    let mut next = 0;
    while let Some(parent) = order.get(next).copied() {
        order.extend(vmsd.children(Some(parent)).map(|child| child.uid));
        next += 1;
    }
    // Children first, so that what is left is whole after each.
    order
        .into_iter()
        .rev()
        .try_for_each(|uid| remove_one(locked, uid))
}

/// A delta to be merged into the file that the removed snapshot froze.
struct Merge {
    frozen: FrozenDisk,
    delta: Link,
}

/// Removes a snapshot, or goes on with its removal after a crash at any point.
pub(super) fn remove_one(locked: &mut Locked<'_>, uid: u64) -> Result<()> {
    let guest = locked.guest;
    let mut config = guest.config()?;
    let mut vmsd = guest.vmsd()?;
    let Some(snapshot) = vmsd.get(uid).cloned() else {
        return Err(SimError::new(
            VIX_E_SNAPSHOT_NOTFOUND,
            "the snapshot exists no more",
        ));
    };
    let links = chain::links(guest, &config, &vmsd);
    let mut merges = Vec::new();
    for frozen in &snapshot.disks {
        let children = chain::children_of(&links, &guest.dir().join(&frozen.file_name))?;
        // A file below several branches stays as it is.
        if let [delta] = children.as_slice() {
            merges.push(Merge {
                frozen: frozen.clone(),
                delta: (*delta).clone(),
            });
        }
    }

    let deltas: Vec<String> = merges
        .iter()
        .map(|merge| merge.delta.file_name.clone())
        .collect();
    locked.begin(&deltas, Some(uid))?;
    faults::point("point:begun", &guest.vmx)?;
    for merge in &merges {
        vmdk::merge_into_parent(&merge.delta.path)?;
        faults::point("point:merged", &guest.vmx)?;
    }
    let mut current_changes = false;
    for Merge { frozen, delta } in &merges {
        match (delta.named_by, frozen.node.parse()) {
            (NamedBy::Current, Ok(device)) => {
                config.set_disk_file(device, &frozen.file_name);
                current_changes = true;
            }
            (NamedBy::Current, Err(_)) => {}
            (NamedBy::Snapshot(child), _) => {
                for disk in vmsd
                    .get_mut(child)
                    .into_iter()
                    .flat_map(|one| &mut one.disks)
                {
                    if disk.file_name == delta.file_name {
                        disk.file_name.clone_from(&frozen.file_name);
                    }
                }
            }
        }
    }
    vmsd.remove(uid);
    faults::point("point:before-commit", &guest.vmx)?;
    if current_changes {
        locked.write_config(&config)?;
    }
    faults::point("point:committed", &guest.vmx)?;
    locked.remove_state_files(snapshot.state_file.as_deref())?;
    locked.write_vmsd(&vmsd)?;
    faults::point("point:unlisted", &guest.vmx)?;
    locked.end()
}
