//! The guard of a hook: a process that runs the hook, and kills it when the process that started the guard has ended.

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

use super::exit_code::{exit_code, not_started};

/// The hidden command of `virtuozo` that runs the guard.
pub(super) const COMMAND: &str = "hook-guard";

/// Runs a command, and returns its exit code. When stdin ends, kills the whole process group, this process included.
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
    // SIGTERM goes to the whole group. The guard outlives it, so that the hook has time to end.
    let mut terminated = signal(SignalKind::terminate()).map_err(failed)?;
    let mut child = Command::new(program)
        .args(command.get(1..).unwrap_or_default())
        .stdin(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let (mut stdin, mut ignored) = (tokio::io::stdin(), [0; 64]);
    loop {
        tokio::select! {
            status = child.wait() => return Ok(exit_code(status.map_err(failed)?)),
            _ = terminated.recv() => {}
            read = stdin.read(&mut ignored) => {
                if !matches!(read, Ok(count) if count > 0) {
                    // The guard leads its process group.
                    let _ = kill_process_group(getpid(), Signal::KILL);
                    std::process::exit(1);
                }
            }
        }
    }
}
