//! What is said between a process of files and the one that started it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// To the process.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ToProcess {
    /// Work to do; the last work is done.
    Begin {
        /// Its name, for the process's table of what it can do.
        work: String,
        /// What it is to do.
        request: Value,
        /// For how long it may go on without hearing more, in milliseconds; none: to its end.
        allowed_ms: Option<u64>,
    },
    /// It may go on for so long from now.
    Allow {
        /// In milliseconds; 0: it is to wait.
        allowed_ms: u64,
    },
    /// The answer to a question.
    Answer {
        /// The question's number.
        question: u64,
        /// What to do.
        answer: Value,
    },
}

/// From the process.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FromProcess {
    /// A sign of life.
    Pulse(Pulse),
    /// News of the work.
    News(Value),
    /// The work waits until this is answered.
    Question {
        /// Its number.
        question: u64,
        /// What is asked.
        about: Value,
    },
    /// The work is done, or has failed.
    Done(Value),
}

/// What a process says of itself from time to time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pulse {
    /// Grows when something has moved: a call on a file has returned, or there was work for the processor.
    pub(crate) moves: u64,
    /// What it has waited for the longest.
    pub(crate) within: Within,
}

/// What a process is in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Within {
    /// Such as `reads from standard`: the subject of the sentence that it does not answer.
    pub(crate) what: String,
    /// How much longer than the limit this may stand still, in milliseconds.
    pub(crate) beyond_ms: u64,
}

pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
