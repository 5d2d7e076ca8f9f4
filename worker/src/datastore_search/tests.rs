//! Directories that may be datastores, held against the files of guests.

use tempfile::TempDir;

use super::*;

/// A machine with directories below one of its own.
struct Machine {
    dir: TempDir,
    places: Places,
}

impl Machine {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            places: Places {
                known: Known {
                    host: "alpha".to_owned(),
                    ..Known::default()
                },
                mounts: Vec::new(),
                silent: Vec::new(),
            },
        }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    /// A directory with these files of guests.
    fn directory(&self, below: &str, files: &[&str]) -> String {
        let directory = self.path(below);
        fs::create_dir_all(&directory).unwrap();
        for file in files {
            let path = directory.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        directory.to_str().unwrap().to_owned()
    }

    fn mount(&mut self, device: &str, below: &str) {
        self.places.mounts.push(Mount {
            device: device.to_owned(),
            directory: self.path(below),
        });
    }

    fn propose(&self, datastore: &HostDatastore) -> DatastoreProposal {
        let mut found = self.places.find(vec![datastore.clone()]);
        found.datastores.remove(0)
    }
}

fn standard(directory: Option<&str>) -> HostDatastore {
    HostDatastore {
        name: "standard".to_owned(),
        directory: directory.map(str::to_owned),
        guest_files: vec!["web/web.vmx".to_owned(), "mail/mail.vmx".to_owned()],
    }
}

const BOTH: &[&str] = &["web/web.vmx", "mail/mail.vmx"];

#[test]
fn a_datastore_is_found_below_a_mount_by_its_name_or_that_of_its_directory() {
    let mut machine = Machine::new();
    machine.mount("/dev/sdb1", "mnt");
    let directory = machine.directory("mnt/alpha/standard", BOTH);
    let found = machine.propose(&standard(Some("/absent/standard")));
    assert_eq!(found.outcome, ProposalOutcome::Found);
    assert_eq!(found.directory.as_ref(), Some(&directory));
    assert_eq!((found.guests, found.candidates[0].guests_found), (2, 2));
    assert_eq!(found.candidates[0].why, CandidateReason::BelowMount);

    let mut machine = Machine::new();
    let directory = machine.directory("vm", BOTH);
    machine.mount("server:/export", "vm");
    let found = machine.propose(&standard(Some(r"D:\absent\vm")));
    assert_eq!(found.directory.as_ref(), Some(&directory));
    assert_eq!(found.candidates[0].why, CandidateReason::MountOfName);
}

#[test]
fn a_share_is_found_by_the_device_of_its_mount_and_a_datastore_beside_one_that_is_mapped() {
    let mut machine = Machine::new();
    let directory = machine.directory("somewhere", BOTH);
    machine.mount("//NAS/vm", "somewhere");
    let found = machine.propose(&standard(Some(r"\\nas\vm")));
    assert_eq!(found.directory.as_ref(), Some(&directory));
    assert_eq!(found.candidates[0].why, CandidateReason::SameShare);

    let mut machine = Machine::new();
    let directory = machine.directory("shares/standard", BOTH);
    let other = PathBuf::from(machine.directory("shares/other", &[]));
    machine.places.known.mapped_of_all.push(other);
    let found = machine.propose(&standard(None));
    assert_eq!(found.directory.as_ref(), Some(&directory));
    assert_eq!(found.candidates[0].why, CandidateReason::BesideMapped);
}

#[test]
fn where_it_is_read_already_nothing_is_proposed_and_two_places_are_ambiguous() {
    let mut machine = Machine::new();
    let own = machine.directory("own/standard", BOTH);
    let copy = machine.directory("mnt/standard", BOTH);
    machine.mount("/dev/sdb1", "mnt");
    let found = machine.propose(&standard(Some(&own)));
    assert_eq!(found.outcome, ProposalOutcome::InPlace);
    assert_eq!(found.directory.as_ref(), Some(&own));
    assert_eq!(found.candidates.len(), 2);

    machine.mount("/dev/sdc1", "own");
    let found = machine.propose(&standard(Some("/absent/standard")));
    assert_eq!(
        (found.outcome, found.directory),
        (ProposalOutcome::Ambiguous, None)
    );

    // The same directory by two names is one.
    std::os::unix::fs::symlink(&copy, machine.path("link")).unwrap();
    fs::remove_dir_all(&own).unwrap();
    fs::create_dir_all(machine.path("own")).unwrap();
    fs::rename(machine.path("link"), &own).unwrap();
    let found = machine.propose(&standard(None));
    assert_eq!(found.outcome, ProposalOutcome::Found);
    assert_eq!(found.candidates.len(), 1);
}

#[test]
fn a_mapping_that_holds_no_guest_is_told_beside_what_does() {
    let mut machine = Machine::new();
    let mapped = machine.directory("mapped", &[]);
    let mapped_path = PathBuf::from(&mapped);
    let right = machine.directory("mnt/standard", BOTH);
    machine.mount("/dev/sdb1", "mnt");
    machine
        .places
        .known
        .mapped
        .insert("standard".to_owned(), mapped_path);
    let found = machine.propose(&standard(None));
    assert_eq!(found.local_path.as_ref(), Some(&mapped));
    assert_eq!(found.directory.as_ref(), Some(&right));
    let why: Vec<_> = found.candidates.iter().map(|one| one.why).collect();
    assert_eq!(why, [CandidateReason::Mapped, CandidateReason::BelowMount]);
}

#[test]
fn what_holds_some_guests_or_none_is_not_proposed() {
    let mut machine = Machine::new();
    machine.mount("/dev/sdb1", "mnt");
    let of = |machine: &Machine, datastore: &HostDatastore| {
        let found = machine.propose(datastore);
        assert_eq!(found.directory, None);
        found.outcome
    };
    assert_eq!(of(&machine, &standard(None)), ProposalOutcome::NotFound);
    machine.directory("mnt/standard", &["web/web.vmx"]);
    assert_eq!(of(&machine, &standard(None)), ProposalOutcome::Incomplete);
    let empty = HostDatastore {
        guest_files: Vec::new(),
        ..standard(None)
    };
    assert_eq!(of(&machine, &empty), ProposalOutcome::NoGuests);
}

#[test]
fn what_a_host_says_leads_nowhere_else_and_is_bounded() {
    let mut machine = Machine::new();
    machine.mount("/dev/sdb1", "mnt");
    machine.directory("mnt", &["secret"]);
    machine.directory("mnt/standard", &[]);
    for file in ["../secret", "/etc/passwd", "a/../../secret", "", "a\0b"] {
        let hostile = HostDatastore {
            guest_files: vec![file.to_owned()],
            ..standard(None)
        };
        let found = machine.propose(&hostile);
        assert_eq!(found.guests, 0, "{file:?}");
        assert_eq!(found.outcome, ProposalOutcome::NoGuests);
    }
    for name in ["../mnt", "..", "mnt/standard", "/"] {
        let hostile = HostDatastore {
            name: name.to_owned(),
            ..standard(None)
        };
        assert!(machine.propose(&hostile).candidates.is_empty(), "{name}");
    }
    let many = (0..DATASTORES_MAX + 7).map(|number| HostDatastore {
        name: format!("d{number}"),
        guest_files: (0..FILES_MAX + 5).map(|file| file.to_string()).collect(),
        directory: None,
    });
    let found = machine.places.find(many.collect());
    assert_eq!(
        (found.datastores.len(), found.left_out),
        (DATASTORES_MAX, 7)
    );
    assert_eq!(found.datastores[0].guests, FILES_MAX);
}

#[test]
fn nothing_below_a_mount_that_is_silent_is_touched() {
    let mut machine = Machine::new();
    let own = machine.directory("dead/standard", BOTH);
    machine.places.silent.push(machine.path("dead"));
    let found = machine.propose(&standard(Some(&own)));
    assert_eq!(found.outcome, ProposalOutcome::NotFound);
    let all = machine.places.find(Vec::new());
    assert_eq!(all.silent_mounts, [shown(&machine.path("dead"))]);
}

#[test]
fn mounts_are_read_as_the_kernel_writes_them() {
    let text = "/dev/sda1 / ext4 rw 0 0\nproc /proc proc rw 0 0\n\
                nas:/vm /mnt/a\\040b nfs4 rw 0 0\nbroken\n";
    let mount = |device: &str, directory: &str| Mount {
        device: device.to_owned(),
        directory: PathBuf::from(directory),
    };
    assert_eq!(
        mounts_of(text),
        [mount("/dev/sda1", "/"), mount("nas:/vm", "/mnt/a b")]
    );
}
