//! The C API: functions under their C names, and the form in which VMware's wrapper library loads a
//! provider.

mod handles;
mod host;
mod job;
mod properties;
mod provider;
mod snapshot;
mod support;
mod variadic;
mod vm;
