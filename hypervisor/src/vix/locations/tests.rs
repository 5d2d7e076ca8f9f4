//! Where files of hosts are read, and what is said of those that cannot be.

use proptest::prelude::*;

use super::*;

fn locations(mapped: &[(&str, &str)], on_host: &[(&str, &str)]) -> Locations {
    Locations {
        host: "alpha".into(),
        mapped: mapped
            .iter()
            .map(|(name, directory)| ((*name).to_owned(), PathBuf::from(directory)))
            .collect(),
        on_host: on_host
            .iter()
            .map(|(name, directory)| ((*name).to_owned(), (*directory).to_owned()))
            .collect(),
        refused: None,
        allowed: MachineRoots::default(),
        unplaced: Vec::new(),
        warnings: Vec::new(),
    }
}

fn guest(path: &str) -> GuestRef {
    GuestRef::at(Locator::new(path).unwrap())
}

#[test]
fn the_administrators_mapping_wins_over_the_hosts_directory() {
    let known = locations(
        &[("fast", "/mnt/fast")],
        &[("fast", "/srv/fast"), ("slow", "/srv/slow")],
    );
    let vmx = |path: &str| known.vmx(&guest(path)).unwrap();
    assert_eq!(vmx("[fast] a/a.vmx"), Path::new("/mnt/fast/a/a.vmx"));
    assert_eq!(vmx("[slow] a/a.vmx"), Path::new("/srv/slow/a/a.vmx"));
    assert_eq!(vmx("/srv/fast/a/a.vmx"), Path::new("/mnt/fast/a/a.vmx"));
    assert_eq!(vmx("/home/me/a.vmx"), Path::new("/home/me/a.vmx"));
    let error = known.vmx(&guest("[other] a/a.vmx")).unwrap_err();
    assert_eq!((error.kind, error.class), (ErrorKind::NotMapped, Operator));
    assert!(
        error.message.contains("virtuozo datastore map alpha other"),
        "{error}"
    );
}

#[test]
fn paths_of_windows_hosts_need_a_mapping() {
    let unmapped = locations(&[], &[("vm", r"D:\Virtual Machines")]);
    let path = r"d:\virtual machines\web 1\web.vmdk";
    assert_eq!(
        unmapped.host_file(path).unwrap_err().kind,
        ErrorKind::NotMapped
    );
    let mapped = locations(&[("vm", "/mnt/vm")], &[("vm", r"D:\Virtual Machines")]);
    assert_eq!(
        mapped.host_file(path).unwrap(),
        Path::new("/mnt/vm/web 1/web.vmdk")
    );
}

#[test]
fn volumes_of_esxi_are_found_by_the_name_of_their_datastore() {
    let known = locations(&[("fast", "/mnt/fast")], &[]);
    assert_eq!(
        known.host_file("/vmfs/volumes/fast/a/a.vmdk").unwrap(),
        Path::new("/mnt/fast/a/a.vmdk")
    );
}

#[test]
fn datastores_are_those_that_are_listed_mapped_or_hold_a_guest() {
    let known = locations(&[("fast", "/mnt/fast")], &[("standard", "/srv/vm")]);
    let guests = [
        "[standard] web/web.vmx",
        "/srv/vm/mail/mail.vmx",
        "[live] db/db.vmx",
        "/vmfs/volumes/other/a/a.vmx",
        "/home/me/b.vmx",
    ];
    let guests = guests.map(guest);
    let of = |product| {
        let all = known.datastores(&guests, product).into_iter();
        all.map(|one| (one.name, one.directory, one.guest_files.join(" ")))
            .collect::<Vec<_>>()
    };
    let line = |name: &str, directory: Option<&str>, files: &str| {
        (
            name.to_owned(),
            directory.map(str::to_owned),
            files.to_owned(),
        )
    };
    let standard = line("standard", Some("/srv/vm"), "web/web.vmx mail/mail.vmx");
    assert_eq!(
        of(Product::Server2),
        [
            line("fast", None, ""),
            line("live", None, "db/db.vmx"),
            line("other", None, "a/a.vmx"),
            standard.clone(),
        ]
    );
    let esxi = of(Product::Esxi);
    assert_eq!(
        esxi[1],
        line("live", Some("/vmfs/volumes/live"), "db/db.vmx")
    );
    assert_eq!(esxi[3], standard);
}

#[test]
fn guests_of_both_lists_get_the_same_name() {
    let mut known = locations(&[], &[("standard", "/srv/vm")]);
    for path in [
        "/srv/vm/web/web.vmx",
        "[standard] web/web.vmx",
        "ha-datacenter/[standard]web/web.vmx",
    ] {
        assert_eq!(
            known.locator(path, Product::Server2).unwrap().as_str(),
            "[standard] web/web.vmx",
            "{path}"
        );
    }
    assert_eq!(
        known
            .locator("/srv/vm/web/web.vmx", Product::Workstation)
            .unwrap()
            .as_str(),
        "/srv/vm/web/web.vmx"
    );
    assert_eq!(known.locator("", Product::Workstation), None);
    assert_eq!(known.warnings.len(), 1, "{:?}", known.warnings);
}

proptest! {
    /// What is found on a host is exported and imported by its locator alone.
    #[test]
    fn every_guest_that_is_found_is_accepted_again_and_is_the_same_file(
        names in prop::collection::vec("[a-c\\[\\] ]{1,5}|data[0-9]", 1..4),
        folder in "[a-zA-Zü\\[\\] .()']{1,8}",
        stem in "[a-zA-Z\\[\\] .]{1,8}",
        extension in prop::sample::select(vec![".vmx", ".VMX", ".Vmx", ".vmtx", ".VMTX"]),
        place in 0_usize..4,
    ) {
        prop_assume!(!matches!(folder.as_str(), "." | ".."));
        let directories: Vec<String> = (0..names.len()).map(|one| format!("/vm/{one}")).collect();
        let on_host: Vec<(&str, &str)> = names
            .iter()
            .zip(&directories)
            .map(|(name, directory)| (name.as_str(), directory.as_str()))
            .collect();
        let mut known = locations(&[], &on_host);
        let path = format!("/vm/{place}/{folder}/{stem}{extension}");
        for product in [Product::Server2, Product::Workstation] {
            let found = known.locator(&path, product);
            prop_assert!(found.is_some(), "{:?}", known.warnings);
            let found = found.unwrap();
            prop_assert_eq!(refuse_locator(&found), None);
            let again = known.locator(found.as_str(), product);
            prop_assert_eq!(again.as_ref(), Some(&found));
            prop_assert_eq!(known.vmx(&GuestRef::at(found)).unwrap(), Path::new(&path));
        }
    }
}

#[test]
fn what_is_no_configuration_of_a_guest_is_left_out_with_a_warning() {
    let mut known = locations(&[], &[("standard", "/srv/vm")]);
    assert_eq!(
        known.locator("/srv/vm/web/web.vmdk", Product::Server2),
        None
    );
    assert!(
        known.warnings[0].contains("left out"),
        "{:?}",
        known.warnings
    );
}

#[test]
fn a_missing_file_is_the_guests_fault_only_where_its_datastore_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let here = dir.path().to_str().unwrap();
    let known = locations(&[("here", here), ("gone", "/no/such/mount")], &[]);
    let missing =
        |path: PathBuf| known.explain(DiskError::io("open", path)(io::ErrorKind::NotFound.into()));
    assert_eq!(
        missing(dir.path().join("web/web.vmdk")).kind,
        ErrorKind::GuestInvalid
    );
    let error = missing("/no/such/mount/web/web.vmdk".into());
    assert_eq!((error.kind, error.class), (ErrorKind::NotMapped, Elsewhere));
    assert!(error.message.contains("virtuozo datastore map"), "{error}");
    assert_eq!(error.location.as_deref(), Some(Path::new("/no/such/mount")));
    let of_no_datastore = missing("/no/such/directory/web.vmdk".into());
    assert_eq!(of_no_datastore.class, Elsewhere);
    assert_eq!(of_no_datastore.location, None);
}

#[test]
fn a_hint_names_the_datastore_or_the_id_of_the_volume_as_a_shell_takes_it() {
    let known = locations(&[("datastore1 (3)", "/no/such/mount")], &[]);
    let missing = |path: &str| {
        let error = DiskError::io("open", path)(io::ErrorKind::NotFound.into());
        known.explain(error).message
    };
    let id = "4af0231d-1eff559a-6369-0024e84773b6";
    for (path, hint) in [
        (
            "/no/such/mount/web/web.vmdk".to_owned(),
            "virtuozo datastore map alpha 'datastore1 (3)' DIRECTORY".to_owned(),
        ),
        (
            format!("/vmfs/volumes/{id}/e01/e01_1.vmdk"),
            format!(
                "virtuozo datastore map alpha {id} DIRECTORY (the id of a volume is mapped as its name is)"
            ),
        ),
        (
            "/vmfs/volumes/no one/e01_1.vmdk".to_owned(),
            "virtuozo datastore map alpha 'no one' DIRECTORY".to_owned(),
        ),
    ] {
        let message = missing(&path);
        assert!(message.ends_with(&hint), "{message}");
    }
    let unplaced = known.host_file(r"E:\vm\web.vmdk").unwrap_err().message;
    assert!(
        unplaced.contains("virtuozo datastore list --host alpha"),
        "{unplaced}"
    );
}

#[test]
fn a_file_that_may_not_be_read_says_nothing_of_a_datastore_that_may() {
    let dir = tempfile::tempdir().unwrap();
    let here = dir.path().to_str().unwrap();
    let known = locations(&[("here", here), ("closed", "/no/such/mount")], &[]);
    let closed = |path: PathBuf| {
        known.explain(DiskError::io("open", path)(
            io::ErrorKind::PermissionDenied.into(),
        ))
    };
    assert_eq!(closed(dir.path().join("web.vmdk")).location, None);
    let error = closed("/no/such/mount/web.vmdk".into());
    assert_eq!((error.kind, error.class), (ErrorKind::NotMapped, Elsewhere));
    assert_eq!(error.location.as_deref(), Some(Path::new("/no/such/mount")));
}
