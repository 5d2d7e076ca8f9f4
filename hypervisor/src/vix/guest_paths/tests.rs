//! Every source of a name in a guest's files against every way to lead out of where its files may lie.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use virtuozo_disk::{
    MachineRoots,
    vmdk::{CreateOptions, DiskKind, create, create_delta},
    vmware::hostd,
};

use crate::{
    ErrorClass, ErrorKind, GuestImage, GuestRef, HostTarget, HypervisorError, ImageFormat, Instant,
    Locator,
    vix::{image::image, inspect::GuestFiles, locations::Locations},
};

/// What no image may hold.
const SECRET: &str = "RW 8 FLAT the secret";

/// A host with the datastore `vm`, in which there are the guests `web` and `other`, and a secret beside it.
struct Site {
    dir: tempfile::TempDir,
    vmx: String,
    vmsd: String,
    properties: BTreeMap<String, String>,
    read_root: PathBuf,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let site = Self {
            read_root: dir.path().to_owned(),
            dir,
            vmx: "config.version = \"8\"\nscsi0:0.present = \"TRUE\"\n".to_owned(),
            vmsd: String::new(),
            properties: BTreeMap::new(),
        };
        for name in ["vm/web", "vm/other", "secret"] {
            fs::create_dir_all(site.path(name)).unwrap();
        }
        for name in ["key", "key.vmem", "key.vmdk"] {
            site.write(&format!("secret/{name}"), &SECRET.repeat(300));
        }
        site.disk("vm/web/web.vmdk");
        site.disk("vm/other/other.vmdk");
        site.write("vm/other/other.vmx", "config.version = \"8\"\n");
        for name in ["key", "key.vmem"] {
            site.write(&format!("vm/other/{name}"), &SECRET.repeat(300));
        }
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn disk(&self, name: &str) {
        create(
            self.path(name),
            &CreateOptions {
                kind: DiskKind::MonolithicSparse,
                capacity_bytes: 64 << 10,
                adapter_type: "lsilogic".into(),
                hardware_version: 7,
                content_id: 0x1234_5678,
                max_extent_sectors: None,
            },
        )
        .unwrap();
    }

    /// A descriptor of one line, on top of a parent where one is named.
    fn descriptor(&self, name: &str, line: &str, parent: Option<&str>) {
        let (id, hint) = match parent {
            Some(hint) => ("12345678", format!("parentFileNameHint=\"{hint}\"\n")),
            None => ("ffffffff", String::new()),
        };
        self.write(
            name,
            &format!(
                "# Disk DescriptorFile\nversion=1\nCID=9abcdef0\nparentCID={id}\n\
                 createType=\"custom\"\n{hint}{line}\n"
            ),
        );
    }

    fn set(&mut self, key: &str, value: &str) {
        self.vmx += &format!("{key} = \"{value}\"\n");
    }

    fn snapshot(&mut self, state: &str, disk: &str) {
        self.vmsd = format!(
            "snapshot.lastUID = \"1\"\nsnapshot.numSnapshots = \"1\"\nsnapshot.current = \"1\"\n\
             snapshot0.uid = \"1\"\nsnapshot0.filename = \"{state}\"\nsnapshot0.displayName = \"x\"\n\
             snapshot0.numDisks = \"1\"\nsnapshot0.disk0.fileName = \"{disk}\"\n\
             snapshot0.disk0.node = \"scsi0:0\"\n"
        );
    }

    fn target(&self) -> HostTarget {
        HostTarget {
            name: "alpha".into(),
            kind: "server2".into(),
            address: Some("https://alpha:8333/sdk".into()),
            user: None,
            password: None,
            properties: self.properties.clone(),
            datastores: [("vm".to_owned(), self.path("vm"))].into(),
            file_silence: Duration::from_secs(60),
        }
    }

    fn load(&self, locator: &str) -> Result<GuestFiles, HypervisorError> {
        let guest = GuestRef::at(Locator::new(locator).unwrap());
        let allowed = MachineRoots::new("read_roots", "rack2", vec![self.read_root.clone()]);
        GuestFiles::load(Locations::load(&self.target(), &allowed), &guest)
    }

    fn files(&self) -> Result<GuestFiles, HypervisorError> {
        if !self.path("vm/web/web.vmx").is_symlink() {
            self.write("vm/web/web.vmx", &self.vmx);
        }
        if !self.vmsd.is_empty() {
            self.write("vm/web/web.vmsd", &self.vmsd);
        }
        self.load("[vm] web/web.vmx")
    }

    /// The image of the guest, and what inspection finds wrong with it.
    fn look(&self) -> (Result<GuestImage, HypervisorError>, Vec<String>) {
        let files = match self.files() {
            Ok(files) => files,
            Err(error) => {
                assert_eq!(error.class, ErrorClass::Permanent, "{error}");
                let why = vec![error.message.clone()];
                return (Err(error), why);
            }
        };
        let problems = files
            .problem()
            .into_iter()
            .chain(
                files
                    .disk_facts(false)
                    .into_iter()
                    .filter_map(|disk| disk.problem),
            )
            .map(|problem| problem.message)
            .collect();
        (image(files, &Instant::PoweredOff, &[]), problems)
    }

    /// The guest is refused before anything is copied, and `path` is named.
    fn is_refused(&self, what: &str, path: &str) {
        let (image, problems) = self.look();
        assert!(
            problems.iter().any(|problem| problem.contains(path)),
            "{what}: {path} is not named in {problems:?}"
        );
        let error = image
            .err()
            .unwrap_or_else(|| panic!("{what}: {path} is in the image"));
        assert!(error.message.contains(path), "{what}: {error}");
    }

    /// The guest is taken, and the secret is not in it.
    fn is_taken(&self, what: &str) -> GuestImage {
        let (image, problems) = self.look();
        assert_eq!(problems, Vec::<String>::new(), "{what}");
        let image = image.unwrap_or_else(|error| panic!("{what}: {error}"));
        for file in &image.small {
            let text = String::from_utf8_lossy(&file.bytes);
            assert!(!text.contains(SECRET), "{what}: {}", file.name);
        }
        for file in &image.files {
            let mut bytes = vec![0; file.source.size_bytes() as usize];
            file.source.read_at(0, &mut bytes).unwrap();
            assert!(
                !String::from_utf8_lossy(&bytes).contains(SECRET),
                "{what}: {}",
                file.name
            );
        }
        image
    }
}

/// The ways out, each as the name that leads there and what an error has to name.
fn escapes(site: &Site, extension: &str) -> Vec<(String, String)> {
    let secret = site.path("secret/key");
    symlink(&secret, site.path(&format!("vm/web/link{extension}"))).unwrap();
    symlink(
        "../../secret/key",
        site.path(&format!("vm/web/near{extension}")),
    )
    .unwrap();
    symlink("../../secret", site.path("vm/web/out")).unwrap();
    symlink(
        "../other/key",
        site.path(&format!("vm/web/theirs{extension}")),
    )
    .unwrap();
    let pipe = site.path(&format!("vm/web/pipe{extension}"));
    mknodat(CWD, pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let named = |name: &str| (name.to_owned(), name.to_owned());
    vec![
        named(secret.to_str().unwrap()),
        named("/etc/passwd"),
        named("/proc/self/environ"),
        named("../../secret/key"),
        named("../../../../../../../../../../etc/passwd"),
        named("out/key"),
        named(&format!("link{extension}")),
        named(&format!("near{extension}")),
        named(&format!("pipe{extension}")),
        (format!("theirs{extension}"), "vm/other/key".to_owned()),
        ("../other/key".to_owned(), "vm/other/key".to_owned()),
        (
            site.path("vm/other/key").to_str().unwrap().to_owned(),
            "vm/other/key".to_owned(),
        ),
    ]
}

/// A file that a guest names beside its disks.
type Source = (&'static str, fn(&mut Site, &str));

const SOURCES: [Source; 4] = [
    ("nvram", |site, name| {
        site.set("nvram", name);
    }),
    ("checkpoint.vmState", |site, name| {
        site.set("checkpoint.vmState", name);
    }),
    ("state of a snapshot", |site, name| {
        site.snapshot(name, "web.vmdk");
    }),
    ("memory of a state", |site, name| {
        // The memory file has the state's name with another extension.
        symlink(
            site.path("vm/web").join(name),
            site.path("vm/web/state.vmem"),
        )
        .unwrap();
        site.write("vm/web/state.vmss", "state");
        site.set("checkpoint.vmState", "state.vmss");
    }),
];

#[test]
fn no_file_beside_the_disks_is_read_from_elsewhere() {
    for (what, name_it) in SOURCES {
        for at in 0..escapes(&Site::new(), ".x").len() {
            let mut site = Site::new();
            let (name, path) = escapes(&site, ".x").swap_remove(at);
            site.set("scsi0:0.fileName", "web.vmdk");
            name_it(&mut site, &name);
            let path = match what {
                "memory of a state" if !path.starts_with("vm/other") => "state.vmem",
                _ => &path,
            };
            site.is_refused(&format!("{what} = {name}"), path);
        }
    }
}

#[test]
fn no_disk_and_no_part_of_one_is_read_from_elsewhere() {
    type Part = (&'static str, fn(&mut Site, &str));
    let parts: [Part; 5] = [
        ("disk", |site, name| {
            site.set("scsi0:0.deviceType", "scsi-hardDisk");
            site.set("scsi0:0.fileName", name);
        }),
        ("disk of a snapshot", |site, name| {
            site.set("scsi0:0.fileName", "web.vmdk");
            site.write("vm/web/web.vmsn", "state");
            site.snapshot("web.vmsn", name);
        }),
        ("flat extent", |site, name| {
            site.descriptor("vm/web/x.vmdk", &format!("RW 8 FLAT \"{name}\" 0"), None);
            site.set("scsi0:0.fileName", "x.vmdk");
        }),
        ("extent of ESX", |site, name| {
            site.descriptor("vm/web/x.vmdk", &format!("RW 8 VMFS \"{name}\""), None);
            site.set("scsi0:0.fileName", "x.vmdk");
        }),
        ("sparse extent", |site, name| {
            site.descriptor("vm/web/x.vmdk", &format!("RW 8 SPARSE \"{name}\""), None);
            site.set("scsi0:0.fileName", "x.vmdk");
        }),
    ];
    for (what, name_it) in parts {
        for at in 0..escapes(&Site::new(), ".vmdk").len() {
            let mut site = Site::new();
            let (name, path) = escapes(&site, ".vmdk").swap_remove(at);
            name_it(&mut site, &name);
            site.is_refused(&format!("{what} = {name}"), &path);
        }
    }
}

#[test]
fn no_parent_is_read_from_outside_of_every_datastore() {
    for at in 0..escapes(&Site::new(), ".vmdk").len() {
        let mut site = Site::new();
        site.disk("secret/parent.vmdk");
        let (name, path) = escapes(&site, ".vmdk").swap_remove(at);
        site.descriptor("vm/web/x.vmdk", "RW 128 ZERO", Some(&name));
        site.set("scsi0:0.fileName", "x.vmdk");
        site.is_refused(&format!("parent = {name}"), &path);
    }
    // A sound disk that would fit is none there either.
    let mut site = Site::new();
    site.disk("secret/parent.vmdk");
    let hint = site.path("secret/parent.vmdk");
    site.descriptor("vm/web/x.vmdk", "RW 128 ZERO", hint.to_str());
    site.set("scsi0:0.fileName", "x.vmdk");
    site.is_refused("parent", hint.to_str().unwrap());
}

#[test]
fn no_configuration_is_read_through_a_link_or_a_pipe() {
    for name in ["web.vmx", "web.vmsd"] {
        for target in ["../../secret/key", "/etc/passwd", "../other/other.vmx"] {
            let mut site = Site::new();
            site.set("scsi0:0.fileName", "web.vmdk");
            symlink(target, site.path("vm/web").join(name)).unwrap();
            site.is_refused(
                &format!("{name} -> {target}"),
                match target {
                    "../other/other.vmx" => "other/other.vmx",
                    _ => name,
                },
            );
        }
    }
    let mut site = Site::new();
    site.set("scsi0:0.fileName", "web.vmdk");
    let pipe = site.path("vm/web/web.vmsd");
    mknodat(CWD, pipe, FileType::Fifo, Mode::RUSR, 0).unwrap();
    site.is_refused("a pipe", "web.vmsd");
}

#[test]
fn a_lock_file_that_is_a_pipe_blocks_nothing() {
    let mut site = Site::new();
    site.set("scsi0:0.fileName", "web.vmdk");
    fs::create_dir(site.path("vm/web/web.vmdk.lck")).unwrap();
    let pipe = site.path("vm/web/web.vmdk.lck/M00001.lck");
    mknodat(CWD, pipe, FileType::Fifo, Mode::RUSR, 0).unwrap();
    let error = site.look().0.err().unwrap();
    assert!(error.message.contains("not a regular file"), "{error}");
}

#[test]
fn a_working_directory_elsewhere_gives_nothing() {
    let mut site = Site::new();
    site.set("scsi0:0.fileName", "web.vmdk");
    let secret = site.path("secret");
    site.set("workingDir", secret.to_str().unwrap());
    site.set("nvram", "key");
    site.is_refused("working directory", "secret/key");
}

#[test]
fn a_datastore_outside_of_the_machines_read_roots_is_refused_by_the_machine() {
    let mut site = Site::new();
    site.set("scsi0:0.fileName", "web.vmdk");
    site.read_root = site.path("elsewhere");
    let error = site.files().err().unwrap();
    assert_eq!(
        (error.kind, error.class),
        (ErrorKind::NotAllowed, ErrorClass::Operator)
    );
    for part in ["rack2", "read_roots", "elsewhere"] {
        assert!(error.message.contains(part), "{error}");
    }
}

#[test]
fn a_guest_at_the_top_of_its_datastore_does_not_have_the_folders_of_others() {
    let site = Site::new();
    for name in ["other/key", "other/other.vmdk"] {
        site.write(
            "vm/top.vmx",
            &format!(
                "scsi0:0.present = \"TRUE\"\nscsi0:0.deviceType = \"disk\"\n\
                 scsi0:0.fileName = \"{name}\"\n"
            ),
        );
        let problem = site
            .load("[vm] top.vmx")
            .unwrap()
            .disk_facts(false)
            .swap_remove(0)
            .problem;
        assert!(problem.unwrap().message.contains("another guest"), "{name}");
    }
}

#[test]
fn a_guest_outside_of_every_datastore_has_its_own_folder_alone() {
    let site = Site::new();
    let vmx = site.path("home/vm.vmx");
    fs::create_dir_all(site.path("home/sub")).unwrap();
    site.disk("home/sub/vm.vmdk");
    for (name, is_good) in [("sub/vm.vmdk", true), ("../secret/key.vmdk", false)] {
        let text = format!("scsi0:0.present = \"TRUE\"\nscsi0:0.fileName = \"{name}\"\n");
        fs::write(&vmx, text).unwrap();
        let files = site.load(vmx.to_str().unwrap()).unwrap();
        let problem = files.disk_facts(false).swap_remove(0).problem;
        assert_eq!(problem.is_none(), is_good, "{name}: {problem:?}");
    }
}

#[test]
fn a_disk_in_a_subfolder_or_a_folder_of_disks_alone_is_the_guests() {
    let mut site = Site::new();
    fs::create_dir_all(site.path("vm/web/sub")).unwrap();
    fs::create_dir_all(site.path("vm/disks")).unwrap();
    site.disk("vm/web/sub/a.vmdk");
    site.disk("vm/disks/b.vmdk");
    symlink("../disks", site.path("vm/web/linked")).unwrap();
    site.set("scsi0:0.fileName", r"sub\a.vmdk");
    let disks = site.path("vm/disks/b.vmdk");
    for (number, name) in [(1, disks.to_str().unwrap()), (2, "linked/b.vmdk")] {
        site.set(&format!("scsi0:{number}.present"), "TRUE");
        site.set(&format!("scsi0:{number}.fileName"), name);
    }
    site.write("vm/web/web.nvram", "boot order");
    site.set("nvram", "web.nvram");
    let image = site.is_taken("own disks");
    assert_eq!(image.small[1].bytes, b"boot order");
    // The two names of one file are one disk.
    assert_eq!(image.files.len(), 2);
}

#[test]
fn a_parent_in_the_folder_of_another_guest_is_taken_where_it_fits_and_is_told() {
    let mut site = Site::new();
    create_delta(
        site.path("vm/web/clone.vmdk"),
        site.path("vm/other/other.vmdk"),
    )
    .unwrap();
    site.set("scsi0:0.fileName", "clone.vmdk");
    let image = site.is_taken("clone");
    assert_eq!(image.files.len(), 2);
    let files = site.files().unwrap();
    files.disk_facts(false);
    let notes = files.notes();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].contains("vm/other/other.vmdk"), "{notes:?}");

    let mut other = Site::new();
    other.descriptor("vm/web/x.vmdk", "RW 128 ZERO", Some("../other/other.vmdk"));
    let text = fs::read_to_string(other.path("vm/web/x.vmdk")).unwrap();
    other.write("vm/web/x.vmdk", &text.replace("12345678", "12345679"));
    other.set("scsi0:0.fileName", "x.vmdk");
    other.is_refused("another content id", "other.vmdk");
}

#[test]
fn a_parent_of_another_guest_brings_nothing_of_a_third() {
    let mut site = Site::new();
    fs::create_dir(site.path("vm/third")).unwrap();
    site.write("vm/third/third.vmx", "config.version = \"8\"\n");
    site.write("vm/third/third-flat.vmdk", &SECRET.repeat(5000));
    site.descriptor(
        "vm/other/other.vmdk",
        "RW 128 FLAT \"../third/third-flat.vmdk\" 0",
        None,
    );
    let text = fs::read_to_string(site.path("vm/other/other.vmdk")).unwrap();
    site.write("vm/other/other.vmdk", &text.replace("9abcdef0", "12345678"));
    site.descriptor("vm/web/x.vmdk", "RW 128 ZERO", Some("../other/other.vmdk"));
    site.set("scsi0:0.fileName", "x.vmdk");
    site.is_refused("a third guest", "third-flat.vmdk");
}

#[test]
fn a_hint_of_a_windows_host_is_mapped_before_a_file_of_the_same_name_is_taken() {
    let mut site = Site::new();
    let config = site.path("config");
    fs::create_dir(&config).unwrap();
    let datastores = [("vm".to_owned(), r"D:\Virtual Machines".to_owned())].into();
    fs::write(
        config.join(hostd::DATASTORES_FILE),
        hostd::write_datastores(&datastores),
    )
    .unwrap();
    site.properties
        .insert("config-dir".into(), config.to_str().unwrap().into());
    // The clone has a delta of the same name as its parent has.
    create_delta(
        site.path("vm/other/Win-000001.vmdk"),
        site.path("vm/other/other.vmdk"),
    )
    .unwrap();
    create_delta(
        site.path("vm/web/Win-000001.vmdk"),
        site.path("vm/other/Win-000001.vmdk"),
    )
    .unwrap();
    let hint = r"D:\Virtual Machines\other\Win-000001.vmdk";
    rename_parent(&site.path("vm/web/Win-000001.vmdk"), hint);
    site.set("scsi0:0.fileName", "Win-000001.vmdk");
    let image = site.is_taken("clone");
    let parents: Vec<_> = image
        .files
        .iter()
        .map(|file| match &file.format {
            ImageFormat::Disk { parent, .. } => (file.name.as_str(), parent.as_deref()),
            ImageFormat::Raw => panic!("{}", file.name),
        })
        .collect();
    assert_eq!(
        parents,
        [
            ("other.vmdk", None),
            ("Win-000001.vmdk", Some("other.vmdk")),
            ("Win-000001-2.vmdk", Some("Win-000001.vmdk")),
        ]
    );
}

#[test]
fn a_disk_that_was_moved_with_an_old_path_in_it_is_found_by_its_name() {
    let mut site = Site::new();
    create_delta(site.path("vm/web/x.vmdk"), site.path("vm/web/web.vmdk")).unwrap();
    rename_parent(&site.path("vm/web/x.vmdk"), "/old/place/web.vmdk");
    site.set("scsi0:0.fileName", "x.vmdk");
    assert_eq!(site.is_taken("moved").files.len(), 2);
}

/// Lets a delta with an embedded descriptor name its parent otherwise.
fn rename_parent(delta: &Path, hint: &str) {
    // What creating it wrote is replaced in place: the descriptor has room.
    let bytes = fs::read(delta).unwrap();
    let key = b"parentFileNameHint=\"";
    let at = bytes
        .windows(key.len())
        .position(|part| part == key)
        .unwrap()
        + key.len();
    let end = at + bytes[at..].iter().position(|byte| *byte == b'"').unwrap();
    let zeros = end + bytes[end..].iter().position(|byte| *byte == 0).unwrap();
    let mut text = bytes[..at].to_vec();
    text.extend(hint.as_bytes());
    text.extend(&bytes[end..zeros]);
    let mut rest = zeros;
    while text.len() < rest {
        text.push(0);
    }
    while rest < text.len() {
        assert_eq!(bytes[rest], 0, "no room");
        rest += 1;
    }
    text.extend(&bytes[rest..]);
    fs::write(delta, text).unwrap();
}
