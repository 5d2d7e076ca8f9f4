//! Programs in C, compiled against a header of their own and linked with the library, as those of others are; and one
//! that does what VMware's wrapper library does.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;
use vix::lab::{
    FAULTS_VARIABLE, GuestSpec, HostSpec, Lab, LabGuest, LabHost, Product, ROOT_VARIABLE,
};

use crate::common::*;

/// What the wrapper library looks up in a provider beside functions of the header.
const PROVIDER_NAMES: [&str; 7] = [
    "FoundryInitializeHandleDllID",
    "VixJob_CreateJobWithCallback",
    "VixJob_GetNthPropertiesVargs",
    "VixJob_OnFinishAsynchOpWithHandle",
    "VixJob_WaitVargs",
    "VixPropertyList_AllocPropertyListVargs",
    "Vix_GetPropertiesVargs",
];
const FUNCTIONS_OF_THE_HEADER: usize = 73;

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/c")
}

/// Simulated hosts for a C program.
struct Hosts {
    lab: Lab,
    dir: TempDir,
}

impl Hosts {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let lab = Lab::create(dir.path().join("lab")).unwrap();
        fs::write(dir.path().join("faults"), "").unwrap();
        Self { lab, dir }
    }

    fn host(&self, name: &str, product: Product) -> LabHost {
        self.lab.host(&HostSpec::new(name, product)).unwrap()
    }

    fn faults(&self, rules: &str) {
        fs::write(self.dir.path().join("faults"), rules).unwrap();
    }

    fn compile(&self, name: &str, linked: bool) -> PathBuf {
        let program = self.dir.path().join(name);
        let mut compiler = Command::new("gcc");
        compiler
            .args([
                "-std=gnu11",
                "-Wall",
                "-Werror",
                "-O2",
                "-g",
                "-pthread",
                "-o",
            ])
            .arg(&program)
            .arg(sources().join(name).with_extension("c"))
            .arg("-ldl");
        if linked {
            // All names are looked up at the start, so that none may be missing.
            compiler.arg(library()).arg("-Wl,-z,now").arg(format!(
                "-Wl,-rpath,{}",
                library().parent().unwrap().display()
            ));
        }
        let compiled = compiler
            .output()
            .expect("gcc is needed for this test: install build-essential");
        let said = String::from_utf8_lossy(&compiled.stderr);
        assert!(compiled.status.success(), "{said}");
        program
    }

    /// Runs a program, below `tools`, and expects that it ends well.
    fn run(&self, tools: &[&str], program: &Path, arguments: &[&str]) {
        let mut command: Vec<&OsStr> = tools.iter().map(OsStr::new).collect();
        command.push(program.as_os_str());
        command.extend(arguments.iter().map(OsStr::new));
        let output = Command::new(command[0])
            .args(&command[1..])
            .env(ROOT_VARIABLE, self.lab.root())
            .env(FAULTS_VARIABLE, self.dir.path().join("faults"))
            .env("VIRTUOZO_SIM_GUEST", env!("CARGO_BIN_EXE_vix-sim-guest"))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && text.ends_with("all well\n"),
            "{command:?}: {}: {text}{errors}",
            output.status
        );
    }
}

fn path(guest: &LabGuest) -> &str {
    guest.vmx().to_str().unwrap()
}

fn off(name: &str) -> GuestSpec {
    GuestSpec::new(name, two_disks())
}

#[test]
fn the_library_has_every_function_of_the_header_and_of_a_provider() {
    let header = fs::read_to_string(sources().join("vix.h")).unwrap();
    let expected: BTreeSet<&str> = header
        .split(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '('))
        .filter_map(|word| word.split_once('('))
        .map(|(name, _)| name)
        .filter(|name| name.starts_with("Vix") && name.contains('_'))
        .collect();
    assert_eq!(expected.len(), FUNCTIONS_OF_THE_HEADER, "{expected:?}");
    let output = Command::new("nm")
        .args(["--dynamic", "--defined-only"])
        .arg(library())
        .output()
        .expect("nm is needed for this test: install build-essential");
    let text = String::from_utf8_lossy(&output.stdout);
    let exported: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.split(' ').next_back())
        .filter(|name| name.starts_with("Vix") || name.starts_with("Foundry"))
        .collect();
    let all = expected.union(&PROVIDER_NAMES.into()).copied().collect();
    assert_eq!(exported, all);
}

fn drive_every_function(tools: &[&str]) {
    let hosts = Hosts::new();
    hosts
        .host("alpha", Product::Esxi)
        .guest(&off("web"))
        .unwrap();
    let local = hosts.host("local", Product::Workstation);
    let local = local.guest(&off("mail")).unwrap();
    let old = hosts.host("old", Product::Server1);
    let old = old.guest(&off("mail")).unwrap();
    let program = hosts.compile("every_call", true);
    hosts.run(tools, &program, &[path(&local), path(&old)]);
}

#[test]
fn a_linked_program_drives_every_function() {
    drive_every_function(&[]);
    // Where it is installed, also under the eyes of what sees each access to memory.
    if Command::new("valgrind").arg("--version").output().is_ok() {
        drive_every_function(&[
            "valgrind",
            "--quiet",
            "--error-exitcode=9",
            "--leak-check=full",
            "--show-leak-kinds=definite",
            "--errors-for-leak-kinds=definite",
        ]);
    }
}

#[test]
fn each_step_can_begin_in_the_callback_of_the_one_before() {
    let hosts = Hosts::new();
    let server = hosts.host("server", Product::Server2);
    server.guest(&off("web")).unwrap();
    server.guest(&off("mail")).unwrap();
    let program = hosts.compile("callbacks", true);
    hosts.run(&[], &program, &[]);
}

#[test]
fn snapshots_with_hostile_names_make_trees() {
    let hosts = Hosts::new();
    let alpha = hosts.host("alpha", Product::Esxi);
    alpha.guest(&off("web")).unwrap();
    alpha.guest(&off("mail")).unwrap();
    let program = hosts.compile("trees", true);
    hosts.run(&[], &program, &[]);
}

#[test]
fn no_argument_beyond_the_last_is_read() {
    let hosts = Hosts::new();
    hosts.host("alpha", Product::Esxi);
    let program = hosts.compile("small_stack", true);
    hosts.run(&[], &program, &[]);
}

#[test]
fn threads_share_a_connection_and_its_end() {
    let hosts = Hosts::new();
    let alpha = hosts.host("alpha", Product::Esxi);
    alpha.guest(&off("web")).unwrap();
    alpha.guest(&off("slow")).unwrap();
    let mut deaf = off("deaf");
    deaf.ignore_shutdown = true;
    alpha.guest(&deaf).unwrap();
    hosts.faults(r#"{"function": "VixVM_Open", "object": "slow", "delay_ms": 300}"#);
    let program = hosts.compile("threads", true);
    hosts.run(&[], &program, &[]);
}

#[test]
fn a_program_drives_the_provider_form_with_prefixes_and_va_lists() {
    let hosts = Hosts::new();
    let server = hosts.host("server", Product::Server2);
    let guest = server.guest(&off("c guest")).unwrap();
    let program = hosts.compile("provider", false);
    hosts.run(
        &[],
        &program,
        &[
            library().to_str().unwrap(),
            &server.url,
            "[standard] c guest/c guest.vmx",
        ],
    );
    // What the program did is there for everybody.
    assert_eq!(guest.snapshots().unwrap(), ["from C"]);
    assert!(fs::exists(guest.frozen_disks("from C").unwrap()[0].clone()).unwrap());
}
