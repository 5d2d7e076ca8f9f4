//! One module for each group of commands: its arguments, and the function that runs it.

pub(crate) mod config;
pub(crate) mod datastore;
pub(crate) mod demo;
pub(crate) mod disk;
pub(crate) mod doctor;
pub(crate) mod events;
pub(crate) mod guest;
pub(crate) mod health;
pub(crate) mod hook;
pub(crate) mod host;
pub(crate) mod internal;
pub(crate) mod notice;
pub(crate) mod obligation;
pub(crate) mod point;
pub(crate) mod point_adopt;
pub(crate) mod point_delete;
pub(crate) mod repository;
pub(crate) mod run;
pub(crate) mod scan;
pub(crate) mod schedule;
pub(crate) mod service;
pub(crate) mod settings;
pub(crate) mod status;
pub(crate) mod transfer;
pub(crate) mod version;
pub(crate) mod workers;
