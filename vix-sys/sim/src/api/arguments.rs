//! The variable arguments of a call, however its convention passes them.

use crate::core::error::Result;

/// A variable number of integer or pointer arguments.
pub(super) trait Arguments {
    /// The next one.
    fn next(&mut self) -> Result<usize>;
}
