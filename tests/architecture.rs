//! Holds the house to its plan: which crate may use which, where unsafe code may stand, how long a file may get, and
//! which files may use each other. The table is that of docs/concepts/architecture.md. And holds the documents
//! together.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "this is a test"
)]

#[path = "architecture/circles.rs"]
mod circles;
#[path = "architecture/docs.rs"]
mod docs;
#[path = "architecture/globals.rs"]
mod globals;
#[path = "architecture/limits.rs"]
mod limits;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

/// Package, what it may use of ours, what must not come in by any way (ours or not).
const EDGES: &[(&str, &[&str], &[&str])] = &[
    ("vix-sys", &[], &["tokio", "sqlx", "apalis"]),
    (
        "vix-sim",
        &["vix-sys", "virtuozo-disk"],
        &["tokio", "sqlx", "apalis"],
    ),
    ("virtuozo-disk", &[], &["tokio", "sqlx", "apalis"]),
    (
        "virtuozo-repository",
        &["virtuozo-disk", "virtuozo-model"],
        &["sqlx", "apalis"],
    ),
    (
        "virtuozo-hypervisor",
        &[
            "vix-sys",
            "virtuozo-child-process",
            "virtuozo-disk",
            "virtuozo-model",
        ],
        &["sqlx", "apalis"],
    ),
    // sqlx comes to the model by a feature that the store turns on.
    ("virtuozo-model", &[], &["sqlx", "tokio", "apalis"]),
    ("virtuozo-runtime", &[], &["sqlx", "apalis"]),
    (
        "virtuozo-child-process",
        &["virtuozo-model", "virtuozo-runtime"],
        &["sqlx", "apalis"],
    ),
    ("virtuozo-secrets", &[], &["tokio", "sqlx", "apalis"]),
    (
        "virtuozo-telemetry",
        &["virtuozo-model", "virtuozo-runtime"],
        &["apalis", "apalis-postgres"],
    ),
    ("virtuozo-postgres", &["virtuozo-runtime"], &["apalis"]),
    (
        "virtuozo-queue",
        &["virtuozo-postgres", "virtuozo-runtime"],
        &[],
    ),
    (
        "virtuozo-store",
        &[
            "virtuozo-model",
            "virtuozo-postgres",
            "virtuozo-queue",
            "virtuozo-runtime",
            "virtuozo-secrets",
            "virtuozo-telemetry",
        ],
        &[],
    ),
    (
        "virtuozo-site-config",
        &[
            "virtuozo-model",
            "virtuozo-postgres",
            "virtuozo-secrets",
            "virtuozo-store",
        ],
        &[],
    ),
    (
        "virtuozo-services",
        &[
            "virtuozo-model",
            "virtuozo-postgres",
            "virtuozo-runtime",
            "virtuozo-secrets",
            "virtuozo-site-config",
            "virtuozo-store",
        ],
        &[],
    ),
    (
        "virtuozo-hooks",
        &[
            "virtuozo-model",
            "virtuozo-postgres",
            "virtuozo-runtime",
            "virtuozo-store",
            "virtuozo-telemetry",
        ],
        &[],
    ),
    (
        "virtuozo-notices",
        &[
            "virtuozo-disk",
            "virtuozo-model",
            "virtuozo-postgres",
            "virtuozo-queue",
            "virtuozo-runtime",
            "virtuozo-secrets",
            "virtuozo-store",
            "virtuozo-telemetry",
        ],
        &[],
    ),
    (
        "virtuozo-scheduler",
        &[],
        &[
            "virtuozo-hypervisor",
            "virtuozo-repository",
            "virtuozo-worker",
            "vix-sys",
        ],
    ),
    (
        "virtuozo-worker",
        &[
            "virtuozo-hypervisor",
            "virtuozo-repository",
            "virtuozo-disk",
        ],
        &["virtuozo-scheduler"],
    ),
    (
        "virtuozo",
        &[
            "virtuozo-scheduler",
            "virtuozo-worker",
            "virtuozo-hypervisor",
            "virtuozo-repository",
            "virtuozo-disk",
            "vix-sys",
            "vix-sim",
        ],
        &[],
    ),
    (
        "virtuozo-failpoints",
        &["virtuozo", "virtuozo-model", "virtuozo-worker"],
        &[],
    ),
];

/// The crates of `shared/`.
const SHARED: &[&str] = &[
    "virtuozo-child-process",
    "virtuozo-hooks",
    "virtuozo-model",
    "virtuozo-notices",
    "virtuozo-postgres",
    "virtuozo-queue",
    "virtuozo-runtime",
    "virtuozo-secrets",
    "virtuozo-services",
    "virtuozo-site-config",
    "virtuozo-store",
    "virtuozo-telemetry",
];

/// Packages that may use all of [`SHARED`].
const MAY_USE_SHARED: &[&str] = &["virtuozo-scheduler", "virtuozo-worker", "virtuozo"];

/// Packages of ours that a package, although [`MAY_USE_SHARED`] has it, does not use itself: the program does with a site
/// what the services permit, and knows no statement.
const USES_THROUGH_OTHERS: &[(&str, &[&str])] =
    &[("virtuozo", &["virtuozo-store", "virtuozo-queue"])];

/// Packages that may turn on the feature of the model that makes its types rows of a database (docs/adr/0035).
const MAY_READ_ROWS_INTO_MODEL: &[&str] = &["virtuozo-store"];

/// Packages that talk to C and so may hold unsafe code.
const MAY_BE_UNSAFE: &[&str] = &["vix-sys", "vix-sim"];

/// No source file gets longer than this.
const MOST_LINES: usize = 600;

fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .other_options(["--locked".to_owned()])
        .exec()
        .expect("cargo metadata")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace lies above this crate")
        .to_owned()
}

/// Packages of the workspace by name, but for the crate of these tests, which may use anything.
fn ours(metadata: &Metadata) -> BTreeMap<String, &cargo_metadata::Package> {
    metadata
        .workspace_packages()
        .into_iter()
        .filter(|package| package.name.as_str() != "tests")
        .map(|package| (package.name.to_string(), package))
        .collect()
}

/// Names of everything that a package brings in by normal dependencies, directly or not, when it is built alone: what
/// other packages of the workspace turn on in their dependencies does not count.
fn closure(package: &str) -> BTreeSet<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "tree",
            "--locked",
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--format",
            "{p}",
            "--package",
            package,
        ])
        .current_dir(root())
        .output()
        .expect("cargo tree");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let lines = String::from_utf8(output.stdout).expect("names");
    lines
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_crate_uses_only_what_the_plan_allows() {
    let metadata = metadata();
    let ours = ours(&metadata);
    let planned: BTreeSet<_> = EDGES.iter().map(|(name, ..)| (*name).to_owned()).collect();
    assert_eq!(
        ours.keys().cloned().collect::<BTreeSet<_>>(),
        planned,
        "every crate of the workspace has one line in the table"
    );
    let mut wrong = Vec::new();
    for (name, may, must_not) in EDGES {
        let package = ours[*name];
        for dependency in &package.dependencies {
            if dependency.kind == DependencyKind::Normal
                && ours.contains_key(&dependency.name)
                && !may.contains(&dependency.name.as_str())
                && !(MAY_USE_SHARED.contains(name) && SHARED.contains(&dependency.name.as_str()))
            {
                wrong.push(format!("{name} uses {}", dependency.name));
            }
        }
        for (_, kept) in USES_THROUGH_OTHERS.iter().filter(|(one, _)| one == name) {
            for dependency in &package.dependencies {
                if kept.contains(&dependency.name.as_str()) {
                    wrong.push(format!("{name} uses {} itself", dependency.name));
                }
            }
        }
        let all = closure(name);
        for forbidden in *must_not {
            if all.contains(*forbidden) {
                wrong.push(format!("{name} brings in {forbidden}"));
            }
        }
    }
    assert!(wrong.is_empty(), "not allowed by the table: {wrong:#?}");
}

#[test]
fn only_the_store_makes_rows_of_the_model() {
    let metadata = metadata();
    let mut turned_on = BTreeSet::new();
    for package in metadata.workspace_packages() {
        for dependency in &package.dependencies {
            if dependency.name == "virtuozo-model" && !dependency.features.is_empty() {
                turned_on.insert(package.name.to_string());
            }
        }
    }
    let permitted = MAY_READ_ROWS_INTO_MODEL.iter().map(|name| name.to_string());
    assert_eq!(turned_on, permitted.collect());
    let model = ours(&metadata)["virtuozo-model"];
    let default = model.features.get("default");
    assert!(default.is_none_or(Vec::is_empty), "{default:?}");
    let sqlx = model.dependencies.iter().find(|one| one.name == "sqlx");
    assert!(sqlx.is_some_and(|sqlx| sqlx.optional));
}

#[test]
fn unsafe_code_is_forbidden_in_every_crate_that_does_not_talk_to_c() {
    let metadata = metadata();
    let workspace = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    assert!(workspace.contains("unsafe_code = \"forbid\""));
    for package in metadata.workspace_packages() {
        let manifest = fs::read_to_string(&package.manifest_path).unwrap();
        let takes_ours = manifest.contains("[lints]\nworkspace = true");
        let may = MAY_BE_UNSAFE.contains(&package.name.as_str());
        assert!(
            takes_ours || may,
            "{} does not take the workspace's lints",
            package.name
        );
    }
}

#[test]
fn only_the_vix_back_end_knows_the_vix_api() {
    let src = root().join("hypervisor/src");
    for file in sources(&src) {
        if !file.starts_with(src.join("vix")) {
            let text = fs::read_to_string(&file).unwrap();
            assert!(
                !text.contains("vix_sys"),
                "{} uses vix_sys outside of vix/",
                file.display()
            );
        }
    }
}

/// Words of single products that the port does not know.
const WORDS_OF_PRODUCTS: &[&str] = &[
    ".vmx",
    "vmdk",
    "datastores.xml",
    "vminventory",
    "config_dir",
    "vmware",
    "vix",
    "server2",
    "esxi",
];

#[test]
fn the_port_speaks_no_product() {
    let src = root().join("hypervisor/src");
    let back_ends = [src.join("vix"), src.join("vix.rs"), src.join("lib.rs")];
    let mut wrong = Vec::new();
    for file in sources(&src) {
        if back_ends.iter().any(|one| file.starts_with(one)) {
            continue;
        }
        for (number, line) in fs::read_to_string(&file).unwrap().lines().enumerate() {
            // Documentation may say how a product does it.
            if line.trim_start().starts_with("//") {
                continue;
            }
            let line = line.to_lowercase();
            for word in WORDS_OF_PRODUCTS
                .iter()
                .filter(|word| line.contains(**word))
            {
                wrong.push(format!("{}:{}: {word}", file.display(), number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_step_asks_which_hypervisor_it_has() {
    for file in sources(&root().join("worker/src/steps")) {
        let text = fs::read_to_string(&file).unwrap();
        assert!(
            !text.contains("HostKind") && !text.contains("host.kind"),
            "{} asks for a kind of host instead of a capability",
            file.display()
        );
    }
}

#[test]
fn every_source_file_says_what_it_is_for_and_can_be_read_at_one_sitting() {
    let mut wrong = Vec::new();
    for (_, package) in ours(&metadata()) {
        let dir = package
            .manifest_path
            .parent()
            .expect("a manifest has a directory");
        for file in sources(dir.as_std_path()) {
            let text = fs::read_to_string(&file).unwrap();
            if !text.starts_with("//!") {
                wrong.push(format!("{} does not begin with //!", file.display()));
            }
            let lines = text.lines().count();
            if lines > MOST_LINES {
                wrong.push(format!("{} has {lines} lines", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let mut wrong = Vec::new();
    for (name, package) in ours(&metadata()) {
        let manifest = package.manifest_path.as_std_path();
        let src = manifest.with_file_name("src");
        for circle in circles::circles(&src, &sources(&src)) {
            wrong.push(format!("{name}: {circle:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_crate_has_process_globals_but_those_with_a_reason() {
    let mut wrong = Vec::new();
    let mut permitted: BTreeSet<(String, String)> = globals::PERMITTED
        .iter()
        .map(|(file, name, _)| (file.to_string(), name.to_string()))
        .collect();
    for (name, package) in ours(&metadata()) {
        if MAY_BE_UNSAFE.contains(&name.as_str()) {
            // They stand before a C library, which is a process global itself.
            continue;
        }
        let src = package.manifest_path.as_std_path().with_file_name("src");
        for file in sources(&src) {
            let path = file.strip_prefix(root()).unwrap().display().to_string();
            for global in globals::globals(&file) {
                let global = (path.clone(), global);
                if !permitted.remove(&global) {
                    wrong.push(global);
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "state belongs to a value that the program makes and hands in: {wrong:#?}"
    );
    assert!(
        permitted.is_empty(),
        "not there any more, take them off the list: {permitted:#?}"
    );
}

#[test]
fn durations_are_written_down_where_limits_stand() {
    let mut wrong = Vec::new();
    let mut permitted: BTreeSet<(String, String)> = limits::PERMITTED
        .iter()
        .map(|(file, what, _)| (file.to_string(), what.to_string()))
        .collect();
    for (_, package) in ours(&metadata()) {
        let src = package.manifest_path.as_std_path().with_file_name("src");
        for loose in limits::loose(&root(), &sources(&src)) {
            if !permitted.remove(&loose) {
                wrong.push(loose);
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "docs/contributing/add-a-limit.md says where they go: {wrong:#?}"
    );
    assert!(
        permitted.is_empty(),
        "not there any more, take them off the list: {permitted:#?}"
    );
}

#[test]
fn every_crate_has_one_program_of_integration_tests() {
    let mut wrong = Vec::new();
    for (name, package) in ours(&metadata()) {
        let programs: Vec<_> = package
            .targets
            .iter()
            .filter(|target| target.is_test())
            .map(|target| target.name.clone())
            .collect();
        if programs.len() > 1 {
            wrong.push(format!("{name}: {programs:?}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "each program is linked with everything: make modules of them: {wrong:#?}"
    );
}

/// All Rust files below a directory.
fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        let entries = fs::read_dir(&dir)
            .unwrap_or_else(|error| panic!("cannot read {}: {error}", dir.display()));
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                open.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "no sources below {}", dir.display());
    found
}
