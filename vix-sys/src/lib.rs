//! The raw VIX C API, loaded at run time.
