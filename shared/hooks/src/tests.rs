//! Hooks as processes: their environment, the kept output, and how they end.

use std::{collections::BTreeSet, future::pending, time::Duration};

use virtuozo_model::{Hook, HookMoment, OnFailure};

use super::{
    Environment, HookPrograms, Subject, command_line, perform,
    process::{self, Call, Ended, Finished},
};

async fn run(command: &[&str], limit: Duration) -> Finished<()> {
    let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
    let call = Call {
        command: &command,
        environment: &[("VIRTUOZO_OUTCOME", "succeeded".to_owned())],
        limit,
        guard: None,
    };
    process::run(&call, pending()).await
}

const LONG: Duration = Duration::from_secs(60);

/// The first number that a command has written.
fn pid(finished: &Finished<()>) -> i32 {
    let line = finished.output.lines().next().unwrap_or_default();
    line.parse().unwrap_or_else(|_| panic!("{finished:?}"))
}

/// Waits until a process is gone, or only its exit code is left of it.
async fn gone(pid: i32) {
    let began = std::time::Instant::now();
    loop {
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if state.is_empty() || state.contains(") Z ") {
            return;
        }
        assert!(began.elapsed() < LONG, "{pid} goes on: {state}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_hook_finds_its_variables_and_nothing_else_of_ours_in_its_environment() {
    // cargo gives a test much that a hook must not see.
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
    let finished = run(&["env"], LONG).await;
    assert_eq!(finished.ended, Ended::Exited(0), "{finished:?}");
    let names: BTreeSet<&str> = finished
        .output
        .lines()
        .filter_map(|line| Some(line.split_once('=')?.0))
        .collect();
    let known = BTreeSet::from(["HOME", "LANG", "PATH", "TZ", "VIRTUOZO_OUTCOME"]);
    assert!(names.is_subset(&known), "{names:?}");
    assert!(names.contains("VIRTUOZO_OUTCOME") && names.contains("PATH"));
}

#[tokio::test]
async fn the_end_of_both_outputs_is_kept_in_their_order_and_the_exit_code_told() {
    let script = "yes | head -c 100000; echo first; echo second >&2; printf 'a\\0\\377b'; exit 3";
    let finished = run(&["sh", "-c", script], LONG).await;
    assert_eq!(finished.ended, Ended::Exited(3));
    assert!(
        finished
            .output
            .ends_with("first\nsecond\na\u{fffd}\u{fffd}b"),
        "{:?}",
        finished.output
    );
    assert!(finished.output.starts_with('…') && finished.output.len() < 17 << 10);
    let killed = run(&["sh", "-c", "kill -9 $$"], LONG).await;
    assert_eq!(killed.ended, Ended::Exited(137));
}

#[tokio::test]
async fn the_limit_ends_also_what_a_hook_has_started_and_what_ignores_to_be_asked() {
    let script = "trap '' TERM; sleep 600 & echo $!; wait; sleep 600";
    let finished = run(&["sh", "-c", script], Duration::from_secs(2)).await;
    assert_eq!(finished.ended, Ended::TimedOut);
    assert!(finished.took < Duration::from_secs(30), "{finished:?}");
    gone(pid(&finished)).await;
}

#[tokio::test]
async fn what_a_hook_leaves_in_the_background_is_left_alone_and_holds_nothing_up() {
    let finished = run(&["sh", "-c", "sleep 600 & echo $!"], LONG).await;
    assert_eq!(finished.ended, Ended::Exited(0));
    assert!(finished.took < Duration::from_secs(30), "{finished:?}");
    let left = rustix::process::Pid::from_raw(pid(&finished)).unwrap();
    rustix::process::kill_process(left, rustix::process::Signal::KILL).unwrap();
}

#[tokio::test]
async fn a_hook_that_is_stopped_or_forgotten_is_killed() {
    let script = "echo $$ > \"$VIRTUOZO_POINT\"; exec sleep 600";
    let command = ["sh", "-c", script].map(str::to_owned);
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name).display().to_string();
    let begun = async |file: &str| -> i32 {
        loop {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            if let Ok(pid) = text.trim().parse() {
                return pid;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let environment = [("VIRTUOZO_POINT", file("stopped"))];
    let call = Call {
        command: &command,
        environment: &environment,
        limit: LONG,
        guard: None,
    };
    let stopped = process::run(&call, begun(&file("stopped"))).await;
    match stopped.ended {
        Ended::Stopped(pid) => gone(pid).await,
        other => panic!("{other:?}"),
    }

    let environment = [("VIRTUOZO_POINT", file("forgotten"))];
    let call = Call {
        environment: &environment,
        ..call
    };
    let forgotten = file("forgotten");
    let pid = tokio::select! {
        _ = process::run(&call, pending::<()>()) => panic!("it ended by itself"),
        pid = begun(&forgotten) => pid,
    };
    gone(pid).await;
}

#[tokio::test]
async fn a_failure_is_told_with_command_machine_output_and_what_to_do() {
    let hook = |command: &[&str]| Hook {
        moment: HookMoment::Before,
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        limit_secs: 60,
        on_failure: OnFailure::Fail,
    };
    let told = async |hook: &Hook| {
        let subject = Subject::Guest("alpha/mail");
        let environment = Environment::default();
        let programs = HookPrograms {
            directory: "/usr/bin".into(),
            guard: None,
        };
        let done = perform(hook, subject, &environment, &programs, pending::<()>()).await;
        done.failure.unwrap_or_default()
    };
    let machine = virtuozo_store::workers::machine();
    let why = told(&hook(&["sh", "-c", "echo no licence; exit 3"])).await;
    for part in [
        "the command before its backup",
        "`sh -c 'echo no licence; exit 3'`",
        "exit code 3",
        &machine,
        "and said: no licence",
        "virtuozo hook clear --before --guest=alpha/mail",
    ] {
        assert!(why.contains(part), "{part} is not in: {why}");
    }
    let missing = told(&hook(&["/usr/bin/no-such-program"])).await;
    let reason = format!("/usr/bin/no-such-program cannot be started on the machine {machine}");
    assert!(
        missing.contains(&reason) && missing.contains("exit code 127"),
        "{missing}"
    );
    let elsewhere = told(&hook(&["/bin/../etc/x"])).await;
    for part in ["runs hooks only from /usr/bin", "hooks_dir", &machine] {
        assert!(elsewhere.contains(part), "{part} is not in: {elsewhere}");
    }
    assert_eq!(
        command_line(&["a b".into(), "it's".into(), String::new()]),
        r"'a b' 'it'\''s' ''"
    );
}
