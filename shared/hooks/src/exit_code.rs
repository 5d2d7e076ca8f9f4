//! Exit codes of commands, as a shell reports them.

use std::{ffi::OsStr, io, os::unix::process::ExitStatusExt, process::ExitStatus};

use virtuozo_store::workers;

/// The exit code of a command that has ended; 128 and the number of the signal that ended it.
pub(super) fn exit_code(status: ExitStatus) -> i32 {
    let signal = || status.signal().map(|signal| 128 + signal);
    status.code().or_else(signal).unwrap_or(-1)
}

/// The exit code for a command that could not be started, and the reason: 127 if there is no such program, else 126.
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
