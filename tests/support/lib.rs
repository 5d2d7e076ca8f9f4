//! What the end-to-end tests share: a site of its own for each test, driven only through the program
//! `virtuozo`, as an administrator would.
//!
//! A site has a database, a lab of simulated hosts, a key, a repository, and as many scheduler and
//! worker processes as the test starts. All of it goes away with the [`Site`].

pub mod crash;
pub mod fleet;
mod http;
mod image;
mod journal;
pub mod outage;
mod process;
pub mod proof;
mod proxy;
mod server;
mod site;

pub use http::Endpoint;
pub use image::PointDisks;
pub use journal::Journal;
pub use process::{Answer, Background, built};
pub use site::{FAILPOINTS, MARKER, Site, eventually, guest_to_resume, pause_at, small_guest};
