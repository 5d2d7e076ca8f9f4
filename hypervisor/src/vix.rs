//! The back end for VMware hosts behind the VIX C API.
//!
//! The library is not trusted with this process: each connection lives in a child process
//! (`child`), which alone loads it. The parent keeps the port, and has the guests' files read from the
//! datastores by other processes (`files`).

mod back_end;
mod child;
mod codes;
mod connection;
mod connector;
mod files;
mod guest;
mod guest_paths;
mod host;
mod image;
mod inspect;
mod library;
mod limits;
mod links;
mod locations;
mod pauses;
mod product;
mod session;
mod wrapper;

pub use back_end::BACK_END;
pub use child::run_vix_host;
pub use connector::VixConnector;
pub use files::{FILE_WORK, serve_file_work};
pub use library::LIBRARY_VARIABLE;
