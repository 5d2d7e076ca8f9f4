//! `virtuozo`, the one program.

use std::{process::ExitCode, sync::Arc};

use virtuozo_worker::NoFailpoints;

fn main() -> ExitCode {
    virtuozo::run(Arc::new(NoFailpoints))
}
