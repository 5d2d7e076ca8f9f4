//! Where the options of a process come from: flag, then environment, then file, then default.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;
use tempfile::TempDir;

/// `virtuozo` in an empty environment but for a home directory of its own.
fn virtuozo(home: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_virtuozo"));
    command
        .args(args)
        .env_clear()
        .env("HOME", home)
        .env("VIRTUOZO_CONFIG", home.join("named.toml"));
    command
}

fn said(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8(both).unwrap()
}

/// What `config show --json` says of one setting: value, origin, place.
fn shown(output: &Output, name: &str) -> [Value; 3] {
    let lines: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let line = lines.iter().find(|line| line["name"] == name).unwrap();
    ["value", "origin", "place"].map(|field| line[field].clone())
}

fn home_with(file: &str) -> (TempDir, PathBuf) {
    let home = TempDir::new().unwrap();
    let path = home.path().join("named.toml");
    fs::write(&path, file).unwrap();
    (home, path)
}

#[test]
fn a_flag_goes_before_the_environment_that_before_the_file_and_that_before_the_default() {
    let (home, path) = home_with("log = \"json\"\n\n[worker]\ndrain_limit = 60\n");
    let show = |args: &[&str], variable: Option<(&str, &str)>| {
        let args = [&["config", "show", "--json"], args].concat();
        let output = virtuozo(home.path(), &args)
            .envs(variable)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", said(&output));
        output
    };
    let in_file = show(&[], None);
    let line = format!("{}:1", path.display());
    assert_eq!(shown(&in_file, "log"), ["json", "file", &line]);
    let line = format!("{}:4", path.display());
    assert_eq!(shown(&in_file, "worker.drain_limit"), ["60", "file", &line]);
    let silent = [Value::Null, "default".into(), Value::Null];
    assert_eq!(shown(&in_file, "database_url"), silent);

    let variable = Some(("VIRTUOZO_LOG", "human"));
    let by_variable = show(&[], variable);
    assert_eq!(
        shown(&by_variable, "log"),
        ["human", "environment", "VIRTUOZO_LOG"]
    );
    let empty = show(&[], Some(("VIRTUOZO_LOG", "")));
    assert_eq!(shown(&empty, "log")[1], "file", "an empty variable is none");

    let by_flag = show(&["--log", "json"], variable);
    assert_eq!(shown(&by_flag, "log"), ["json", "flag", "--log"]);

    let nothing = show(&["--config", "/dev/null"], None);
    assert_eq!(shown(&nothing, "log")[..2], ["auto", "default"]);
    assert_eq!(
        shown(&nothing, "worker.drain_limit")[..2],
        ["600", "default"]
    );
}

#[test]
fn the_users_own_file_is_found_and_a_file_that_was_named_has_to_be_there() {
    let home = TempDir::new().unwrap();
    let own = home.path().join(".config/virtuozo");
    fs::create_dir_all(&own).unwrap();
    fs::write(own.join("virtuozo.toml"), "log = \"json\"\n").unwrap();
    let show = ["config", "show", "--json"];
    let mut found = virtuozo(home.path(), &show);
    // Root has no file of its own but the machine's.
    if !rustix::process::geteuid().is_root() {
        let output = found.env_remove("VIRTUOZO_CONFIG").output().unwrap();
        assert_eq!(shown(&output, "log")[1], "file", "{}", said(&output));
    }
    let missing = virtuozo(home.path(), &show).output().unwrap();
    assert_eq!(missing.status.code(), Some(2));
    assert!(said(&missing).contains("named.toml"), "{}", said(&missing));
}

#[test]
fn a_wrong_file_is_refused_by_every_command_with_its_line_and_the_nearest_name() {
    let (home, path) = home_with("log = \"json\"\ndatabase_ulr = \"postgres://u:s3cret@db/v\"\n");
    for args in [&["config", "show"][..], &["worker"], &["status", "--json"]] {
        let output = virtuozo(home.path(), args).output().unwrap();
        let said = said(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(&format!("{}:2", path.display())), "{said}");
        assert!(said.contains("database_url"), "{said}");
        assert!(!said.contains("s3cret"), "{said}");
    }
}

#[test]
fn a_password_is_shown_nowhere_whichever_way_it_came() {
    let url = "postgres://u:s3cret@127.0.0.1:1/v";
    let (home, _) = home_with(&format!("database_url = {url:?}\n"));
    let show = |args: &[&str], variables: &[(&str, &str)]| {
        let args = [&["config", "show"], args].concat();
        let mut command = virtuozo(home.path(), &args);
        said(&command.envs(variables.iter().copied()).output().unwrap())
    };
    let headers = ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=s3cret");
    for said in [
        show(&[], &[]),
        show(&[], &[("DATABASE_URL", url), headers]),
        show(&["--database-url", url, "--json"], &[]),
    ] {
        assert!(said.contains("127.0.0.1"), "{said}");
        assert!(!said.contains("s3cret"), "{said}");
    }
    assert!(show(&[], &[headers]).contains("OTEL_EXPORTER_OTLP_HEADERS"));
    // The default is part of the help: the file's value must not be.
    let help = virtuozo(home.path(), &["worker", "--help"])
        .output()
        .unwrap();
    assert!(!said(&help).contains("s3cret"));
}

#[test]
fn the_password_of_the_database_can_stand_in_a_file_of_its_own() {
    let home = TempDir::new().unwrap();
    fs::write(home.path().join("named.toml"), "").unwrap();
    let file = home.path().join("password");
    fs::write(&file, "s3cret\n").unwrap();
    let list = |url: Option<&str>, file: &Path| {
        let mut command = virtuozo(home.path(), &["run", "list"]);
        command.env("DATABASE_PASSWORD_FILE", file);
        command.envs(url.map(|url| ("DATABASE_URL", url)));
        let output = command.output().unwrap();
        let said = said(&output);
        assert!(!said.contains("s3cret"), "{said}");
        (output.status.code(), said)
    };
    let url = "postgres://u@127.0.0.1:1/v";
    let (code, said) = list(Some(url), &file);
    assert_eq!(code, Some(3), "nobody listens there: {said}");
    assert!(said.contains("127.0.0.1:1"), "{said}");
    let (code, said) = list(None, &file);
    assert_eq!(code, Some(2));
    assert!(said.contains("--database-url"), "{said}");
    let (code, said) = list(Some("postgres://u:s3cret@127.0.0.1:1/v"), &file);
    assert_eq!(code, Some(2));
    assert!(said.contains("take one of them away"), "{said}");
    let (code, said) = list(Some(url), Path::new("/absent/password"));
    assert_eq!(code, Some(1));
    assert!(said.contains("/absent/password"), "{said}");
}
