//! The processes of this crate's tests: behind a host connection (`lab_process vix-host --library
//! PATH`), and a simulated guest (otherwise).

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("vix-host") {
        virtuozo_hypervisor::vix::run_vix_host()
    } else {
        vix::guest_process::main()
    }
}
