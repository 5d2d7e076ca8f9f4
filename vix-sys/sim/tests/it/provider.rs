//! The form in which VMware's wrapper library uses a provider: a C program that does what it does.

use std::{fs, path::Path, process::Command};

use vix::lab::{GuestSpec, Product};

use crate::common::*;

#[test]
fn a_c_program_drives_the_provider_form_with_prefixes_and_va_lists() {
    let site = Site::new(Product::Server2);
    let guest = site.guest(&GuestSpec::new("c guest", two_disks()));
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("provider");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/provider.c");
    let compiled = Command::new("gcc")
        .args(["-Wall", "-Werror", "-O2", "-o"])
        .arg(&program)
        .arg(&source)
        .arg("-ldl")
        .output()
        .expect("gcc is needed for this test: install build-essential");
    assert!(
        compiled.status.success(),
        "{}",
        String::from_utf8_lossy(&compiled.stderr)
    );
    let output = Command::new(&program)
        .arg(library())
        .arg(&site.host.url)
        .arg(site.path_of(&guest))
        .env(vix::lab::ROOT_VARIABLE, site.host.dir.parent().unwrap())
        .env("VIRTUOZO_SIM_GUEST", env!("CARGO_BIN_EXE_vix-sim-guest"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(text.ends_with("all well\n"), "{text}");
    // What the program did is there for everybody.
    assert_eq!(guest.snapshots().unwrap(), ["from C"]);
    assert!(fs::exists(guest.frozen_disks("from C").unwrap()[0].clone()).unwrap());
}
