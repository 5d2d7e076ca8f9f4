//! The raw VIX C API, loaded at run time.
//!
//! [`Vix`] holds the C functions as they are (API 1.13, "VIX API Reference" and its header `vix.h`);
//! its methods put one memory-safe call in front of each that Virtuozo needs, so
//! that no other crate has to contain `unsafe`. Neither waits, retries, releases or interprets
//! anything by itself: that is the work of the safe layer above.

mod calls;
mod constants;
mod errors;
mod items;
mod load;
mod properties;
mod types;

pub use calls::ConnectArgs;
pub use constants::*;
pub use errors::*;
pub use items::FoundItems;
pub use load::{LoadError, Vix};
pub use properties::*;
pub use types::*;
