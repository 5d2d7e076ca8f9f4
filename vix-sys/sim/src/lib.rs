//! A simulator library with the VIX C API.
