//! The text files in which VMware's hosted products keep a guest: `.vmx`, `.vmsd`, lock
//! directories, and the host's lists of datastores and guests.
//!
//! All of these are read leniently (what is wrong becomes a [`Warning`], the rest still counts),
//! because a backup must see as much of a damaged guest as there is, and written strictly.

pub mod datastore_path;
pub mod dictionary;
pub mod host_path;
pub mod hostd;
pub mod lock;
pub mod vmsd;
pub mod vmx;

pub use dictionary::{Dictionary, Warning};
