//! Holds the files in deploy/, the compose file and the image to the program: what they call exists, what
//! they set is a setting, what they mount is there. The program itself has no part in it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::{CommandFactory, Parser};
use serde_json::Value;
use virtuozo_runtime::LIMITS;

use crate::{
    cli::Cli,
    configuration::{Setting, parse, settings},
};

/// The user of containers, as the image makes it.
const CONTAINER_USER: u64 = 10001;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn compose() -> Value {
    serde_saphyr::from_str(&read("compose.yaml")).unwrap()
}

fn words(list: &Value) -> Vec<&str> {
    let list = list.as_array().unwrap_or_else(|| panic!("no list: {list}"));
    list.iter().map(|word| word.as_str().unwrap()).collect()
}

/// Insists that `virtuozo` takes these arguments.
fn assert_parses<'a>(arguments: impl IntoIterator<Item = &'a str>) {
    let line: Vec<_> = ["virtuozo"].into_iter().chain(arguments).collect();
    if let Err(error) = Cli::try_parse_from(&line) {
        panic!("{line:?} does not parse: {error}");
    }
}

/// Insists that a variable is one that a process reads, and that it takes the value.
fn assert_known(variable: &str, value: &str) {
    if variable.starts_with("OTEL_") || variable == "VIRTUOZO_CONFIG" {
        return;
    }
    let all = settings(&Cli::command());
    let found = all.iter().find(|one| one.variable() == variable);
    let found = found.unwrap_or_else(|| panic!("no setting has the variable {variable}"));
    assert_eq!(found.refuses(value), None, "{variable}={value}");
}

fn tag(image: &str) -> &str {
    let (_, tag) = image.rsplit_once(':').unwrap_or_default();
    assert!(!tag.is_empty() && tag != "latest", "{image} is not pinned");
    tag
}

/// Seconds in `11m`, `11min`, `30s`.
fn seconds(text: &str) -> u64 {
    let digits = text.trim_end_matches(char::is_alphabetic);
    let number: u64 = digits.parse().unwrap_or_else(|_| panic!("no time: {text}"));
    match text.strip_prefix(digits) {
        Some("m" | "min") => number * 60,
        Some("s") => number,
        _ => panic!("no time: {text}"),
    }
}

fn drain_limit(file: &str) -> u64 {
    let all = settings(&Cli::command());
    let given = parse(Path::new("virtuozo.toml"), file, &all).unwrap();
    let limit = given.iter().find(|one| one.name == "worker.drain_limit");
    limit.unwrap().value.parse().unwrap()
}

#[test]
fn every_container_runs_a_command_of_this_version_with_settings_that_there_are() {
    let compose = compose();
    let services = compose["services"].as_object().unwrap();
    let mut ours = Vec::new();
    for (name, service) in services {
        let image = service["image"].as_str().unwrap();
        if !image.starts_with("virtuozo:") {
            tag(image);
            continue;
        }
        ours.push(name.as_str());
        assert_eq!(tag(image), env!("CARGO_PKG_VERSION"));
        assert_parses(words(&service["command"]));
        let environment = service["environment"].as_object().unwrap();
        for (variable, value) in environment {
            assert_known(variable, value.as_str().unwrap());
        }
        let test = words(&service["healthcheck"]["test"]);
        assert_eq!(test[..2], ["CMD", "virtuozo"], "{name}");
        // The container has the address in its environment, the test has not.
        let address = environment["VIRTUOZO_LISTEN"].as_str().unwrap();
        assert_parses(test[2..].iter().copied().chain([address]));
        assert_eq!(service["deploy"]["replicas"], 2, "{name}");
        // Several of one kind: they can neither share a name nor a port of the host.
        assert!(service["container_name"].is_null() && service["ports"].is_null());
        if let Some(limit) = environment.get("VIRTUOZO_DRAIN_LIMIT") {
            let limit: u64 = limit.as_str().unwrap().parse().unwrap();
            assert!(seconds(service["stop_grace_period"].as_str().unwrap()) > limit);
        }
        if name == "scheduler" {
            let limit = service["stop_grace_period"].as_str().unwrap();
            assert!(seconds(limit) >= scheduler_stops_in());
        }
    }
    assert_eq!(ours, ["scheduler", "worker"]);
}

#[test]
fn what_containers_mount_from_the_repository_is_there_and_every_volume_is_declared() {
    let compose = compose();
    let mut mounts = 0;
    for (name, service) in compose["services"].as_object().unwrap() {
        for volume in service["volumes"].as_array().into_iter().flatten() {
            mounts += 1;
            let Some(volume) = volume.as_str() else {
                // Of the machine: what is missing there is told.
                assert_eq!(volume["type"], "bind", "{name}");
                assert_eq!(volume["bind"]["create_host_path"], false, "{name}");
                assert_eq!(volume["read_only"], true, "{name}");
                continue;
            };
            let (source, _) = volume.split_once(':').unwrap();
            assert!(
                !source.starts_with('$'),
                "{name} has {source} made where it is missing"
            );
            if source.starts_with("./") {
                assert!(root().join(source).exists(), "{name} mounts {source}");
            } else {
                let declared = compose["volumes"].as_object().unwrap();
                assert!(declared.contains_key(source), "{name} mounts {source}");
            }
        }
        for secret in service["secrets"].as_array().into_iter().flatten() {
            assert!(!compose["secrets"][secret.as_str().unwrap()].is_null());
        }
        for variable in service["environment"].as_object().into_iter().flatten() {
            let place = variable.1.as_str().unwrap();
            if let Some(secret) = place.strip_prefix("/run/secrets/") {
                let given = words(&service["secrets"]);
                assert!(given.contains(&secret), "{name} is not given {secret}");
            }
        }
    }
    assert!(mounts > 0, "no mounts were found");
}

/// The URL of a database with how its server proves its name.
fn sslmode(url: &str) -> &str {
    let (_, mode) = url.split_once("sslmode=").unwrap_or_default();
    mode.split('&').next().unwrap_or_default()
}

#[test]
fn every_example_writes_out_how_the_way_to_the_database_is_protected() {
    let compose = compose();
    let services = compose["services"].as_object().unwrap();
    for name in ["scheduler", "worker"] {
        let url = services[name]["environment"]["DATABASE_URL"].as_str();
        assert_eq!(sslmode(url.unwrap()), "disable", "a network of its own");
    }
    for file in [
        "deploy/systemd/virtuozo.toml",
        "deploy/kubernetes/virtuozo.yaml",
    ] {
        let text = read(file);
        let line = text
            .lines()
            .find(|line| line.trim_start().starts_with("database_url"));
        let url = line.unwrap().trim_end_matches('"');
        assert_eq!(sslmode(url), "verify-full", "{file}");
    }
    // At the socket it answers while the image still sets it up.
    let ready = words(&services["postgres"]["healthcheck"]["test"]);
    assert!(ready.contains(&"--host=127.0.0.1"));
}

#[test]
fn the_image_is_built_with_the_rust_that_the_project_needs_and_runs_as_nobody_special() {
    let image = read("Dockerfile");
    let rust = env!("CARGO_PKG_RUST_VERSION");
    assert!(image.contains(&format!("FROM rust:{rust}-")));
    assert!(image.contains(&format!("\nUSER {CONTAINER_USER}:{CONTAINER_USER}\n")));
    assert!(image.contains("ENTRYPOINT [\"tini\", \"--\", \"virtuozo\"]"));
}

/// The values of a unit's keys of one name.
fn of_unit<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    unit.lines()
        .filter_map(|line| line.strip_prefix(key)?.strip_prefix('='))
        .collect()
}

/// How long a scheduler may take to end, with the last telemetry of the process after it.
fn scheduler_stops_in() -> u64 {
    LIMITS.scheduler.stop().as_secs() + 10
}

#[test]
fn the_units_start_commands_that_there_are_and_leave_them_the_time_to_drain() {
    let drain_limit = drain_limit(&read("deploy/systemd/virtuozo.toml"));
    for unit in ["virtuozo-scheduler.service", "virtuozo-worker@.service"] {
        let text = read(&format!("deploy/systemd/{unit}"));
        let [line] = of_unit(&text, "ExecStart")[..] else {
            panic!("{unit} has to start one program");
        };
        let line = line.replace("%H", "machine").replace("%i", "1");
        let arguments = line.strip_prefix("/usr/local/bin/virtuozo ").unwrap();
        assert_parses(arguments.split(' '));
        assert_eq!(of_unit(&text, "Type"), ["notify"]);
        assert!(!of_unit(&text, "WatchdogSec").is_empty());
        let [stop] = of_unit(&text, "TimeoutStopSec")[..] else {
            panic!("{unit} says how long it may take to stop");
        };
        if unit.contains("worker") {
            assert!(seconds(stop) > drain_limit);
        } else {
            assert!(seconds(stop) >= scheduler_stops_in());
        }
        assert_eq!(of_unit(&text, "RestartPreventExitStatus"), ["2"]);
    }
}

/// The objects of the example for Kubernetes.
fn kubernetes() -> Vec<Value> {
    serde_saphyr::from_multiple(&read("deploy/kubernetes/virtuozo.yaml")).unwrap()
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|one| one["kind"] == kind).collect()
}

#[test]
fn pods_run_commands_that_there_are_with_a_file_that_is_understood_and_are_probed_where_they_listen()
 {
    let objects = kubernetes();
    let maps = of_kind(&objects, "ConfigMap");
    let file = maps[0]["data"]["virtuozo.toml"].as_str().unwrap();
    let all = settings(&Cli::command());
    let given = parse(&PathBuf::from("virtuozo.toml"), file, &all).unwrap();
    let said = |name: &str| {
        let found = given.iter().find(|one| one.name == name);
        found
            .unwrap_or_else(|| panic!("{name} is not set"))
            .value
            .as_str()
    };
    let deployments = of_kind(&objects, "Deployment");
    assert_eq!(deployments.len(), 2);
    for deployment in deployments {
        let labels = &deployment["spec"]["template"]["metadata"]["labels"];
        assert_eq!(&deployment["spec"]["selector"]["matchLabels"], labels);
        let pod = &deployment["spec"]["template"]["spec"];
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["securityContext"]["runAsUser"], CONTAINER_USER);
        let container = &pod["containers"][0];
        let part = container["name"].as_str().unwrap();
        assert_eq!(
            tag(container["image"].as_str().unwrap()),
            env!("CARGO_PKG_VERSION")
        );
        assert_parses(words(&container["args"]));
        for variable in container["env"].as_array().unwrap() {
            assert_known(
                variable["name"].as_str().unwrap(),
                variable["value"].as_str().unwrap(),
            );
        }
        let port = container["ports"][0]["containerPort"].to_string();
        assert!(said(&format!("{part}.listen")).ends_with(&format!(":{port}")));
        for (probe, path) in [("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")] {
            let get = &container[probe]["httpGet"];
            assert_eq!(get["path"], path);
            assert_eq!(get["port"], container["ports"][0]["name"]);
        }
        let volumes = pod["volumes"].as_array().unwrap();
        let mounts = container["volumeMounts"].as_array().unwrap();
        assert_eq!(volumes.len(), mounts.len(), "{part} mounts all that it has");
        for mount in mounts {
            assert!(
                volumes.iter().any(|one| one["name"] == mount["name"]),
                "{mount}"
            );
        }
        for setting in ["database_password_file", "key_file"] {
            let place = Path::new(said(setting)).parent().unwrap().to_str().unwrap();
            assert!(
                mounts.iter().any(|mount| mount["mountPath"] == place),
                "{place}"
            );
        }
        let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
        if part == "worker" {
            assert!(grace > said("worker.drain_limit").parse().unwrap());
        }
    }
}

#[test]
fn the_page_on_configuration_lists_every_setting_with_its_option_and_its_variable() {
    let page = read("docs/reference/process-configuration.md");
    let row = |setting: &Setting| {
        let [name, flag, variable] = [setting.name(), setting.flag(), setting.variable()];
        let cells = [name, flag, variable].map(|cell| format!("`{cell}`"));
        page.lines()
            .any(|line| line.starts_with('|') && cells.iter().all(|cell| line.contains(cell)))
    };
    for setting in settings(&Cli::command()) {
        assert!(
            row(&setting),
            "docs/reference/process-configuration.md has no row for {}",
            setting.name()
        );
    }
}
