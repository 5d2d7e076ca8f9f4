//! A simulator of VMware hosts behind the VIX C API.
//!
//! Built as `libvix.so` it is a library with the functions of the VIX API, to be loaded directly or by
//! VMware's wrapper library; a simulated host is a directory. Built as a Rust library it lends
//! [`lab`], which makes such hosts, and [`stamps`], which tells from a guest's disks which instant they
//! show. The README beside this crate describes the layout, the fault rules and the variables.

// The C functions keep their C names, and take raw pointers that only their callers can vouch for.
#[allow(non_snake_case)]
mod api;
mod core;
#[doc(hidden)]
pub mod guest_process;
pub mod lab;
mod limits;
pub mod stamps;

pub use core::{error::SimError, product::Product, state::Power};
