//! The guard: a process between ours and a hook, which ends the hook when ours dies, however it dies.

use std::{
    ffi::{OsStr, OsString},
    io,
    process::{ExitCode, Stdio},
};

use rustix::process::{Signal, getpid, kill_process_group};
use tokio::{
    io::AsyncReadExt,
    process::Command,
    signal::unix::{SignalKind, signal},
};

use super::process::exit_code;
use virtuozo_store::workers;

/// The hidden command of `virtuozo` that is the guard.
pub(super) const COMMAND: &str = "hook-guard";

/// Runs a command as [`Call`](super::Call) asks for, and ends as it ends. When stdin ends, the whole process
/// group is killed, this process too.
pub async fn guard(command: &[OsString]) -> ExitCode {
    let code = supervise(command).await.unwrap_or_else(|(code, why)| {
        eprintln!("{why}");
        code
    });
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

async fn supervise(command: &[OsString]) -> Result<i32, (i32, String)> {
    let program = command.first().map_or(OsStr::new(""), OsString::as_os_str);
    let failed = |error: io::Error| not_started(program, &error);
    // The hook gets it too, and has some time to end.
    let mut told_to_end = signal(SignalKind::terminate()).map_err(failed)?;
    let mut child = Command::new(program)
        .args(command.get(1..).unwrap_or_default())
        .stdin(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let (mut stdin, mut ignored) = (tokio::io::stdin(), [0; 64]);
    loop {
        tokio::select! {
            status = child.wait() => return Ok(exit_code(status.map_err(failed)?)),
            _ = told_to_end.recv() => {}
            read = stdin.read(&mut ignored) => {
                if !matches!(read, Ok(count) if count > 0) {
                    // It leads that group: who starts it sees to that.
                    let _ = kill_process_group(getpid(), Signal::KILL);
                    std::process::exit(1);
                }
            }
        }
    }
}

/// The exit code of a command that could not be started, as in a shell, and why.
pub(super) fn not_started(program: &OsStr, error: &io::Error) -> (i32, String) {
    let code = if error.kind() == io::ErrorKind::NotFound {
        127
    } else {
        126
    };
    let program = program.display();
    let machine = workers::machine();
    (
        code,
        format!("{program} cannot be started on the machine {machine}: {error}"),
    )
}
