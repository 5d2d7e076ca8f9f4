//! Processes of this program that may be given up: those that hold a connection to a host, and those that read and write
//! files where a file system may fall silent.
//!
//! A process is spoken to over its standard input and output, in frames of JSON, and ends when its input does. Whoever waits
//! for one of files hears of it while it *moves*; when nothing moves for the limit it is killed, and what waits for it gets
//! an error. One that is stuck in the kernel does not even end then: it is left behind, and counted.

pub mod frames;

mod activity;
mod connection;
mod error;
mod idle;
mod line;
mod messages;
mod pool;
mod running;
mod serve;
mod silence;
mod start;

pub use error::FileError;
pub use line::{Handler, InWait, Line, NotAllowed};
pub use pool::FileProcesses;
pub use running::{Event, Running};
pub use serve::run_file_process;
pub use start::{LeftBehind, Started, end, log_stderr, start, take_stdio};
