//! Records the calls into the VIX library that a request makes. They are sent with the response.

use std::{
    cell::RefCell,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use crate::Result;

/// Most calls that are recorded for one request; later ones are left out.
const MAX_CALLS: usize = 64;

/// One call into the library, or a wait for what it began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Call {
    /// The library's name for it.
    pub(super) name: String,
    /// When it began, in microseconds since 1970; both processes have one clock.
    pub(super) began_at_us: u64,
    /// How long it took, in microseconds.
    pub(super) took_us: u64,
    /// The library's error code; `None` after a success.
    pub(super) code: Option<u64>,
}

thread_local! {
    /// The calls of the request that this thread serves.
    static RECORDED: RefCell<Vec<Call>> = const { RefCell::new(Vec::new()) };
}

/// Makes a call and records it.
pub(crate) fn recorded<T>(name: &str, call: impl FnOnce() -> Result<T>) -> Result<T> {
    let (began_at, began) = (SystemTime::now(), Instant::now());
    let outcome = call();
    let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    RECORDED.with_borrow_mut(|recorded| {
        if recorded.len() < MAX_CALLS {
            recorded.push(Call {
                name: name.to_owned(),
                began_at_us: us(began_at.duration_since(UNIX_EPOCH).unwrap_or_default()),
                took_us: us(began.elapsed()),
                code: outcome.as_ref().err().and_then(|error| error.code),
            });
        }
    });
    outcome
}

/// Takes the calls that this thread has recorded.
pub(crate) fn take() -> Vec<Call> {
    RECORDED.take()
}
