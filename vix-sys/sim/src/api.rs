//! The C API: functions under their C names, and the form in which VMware's wrapper library loads a
//! provider.

mod arguments;
mod handles;
mod host;
mod job;
mod objects;
mod properties;
mod provider;
mod snapshot;
mod support;
mod variadic;
mod vm;
