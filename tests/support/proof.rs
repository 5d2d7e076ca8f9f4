//! Goes through the cases of a long proof, several at the same time, says of each whether it held, and ends
//! with one line of JSON.

use std::{
    fmt::Display,
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Instant,
};

use anyhow::Result;
use parking_lot::Mutex;

/// The cases whose names contain all of these parts; without parts, all.
pub fn asked_for<C: Display>(mut cases: Vec<C>, parts: &[String]) -> Vec<C> {
    cases.retain(|case| parts.iter().all(|part| case.to_string().contains(part)));
    cases
}

/// Tries all cases, `at_once` at the same time, and tells of each whether it held.
pub fn hold_all<C>(
    cases: &[C],
    at_once: usize,
    hold: impl AsyncFn(C) -> Result<()> + Sync,
) -> Vec<(C, bool)>
where
    C: Copy + Display + Send + Sync,
{
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while let Some(&case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let held = hold_one(case, &hold);
                    results.lock().push((case, held));
                }
            });
        }
    });
    results.into_inner()
}

fn hold_one<C: Copy + Display>(case: C, hold: impl AsyncFn(C) -> Result<()>) -> bool {
    let began = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?
            .block_on(hold(case))
    }));
    let secs = began.elapsed().as_secs();
    match outcome {
        Ok(Ok(())) => {
            println!("held    {case} ({secs} s)");
            true
        }
        Ok(Err(error)) => {
            println!("BROKEN  {case} ({secs} s): {error:#}");
            false
        }
        Err(_) => {
            println!("BROKEN  {case} ({secs} s): the test itself died");
            false
        }
    }
}

/// Prints how many there were of what was tried, and how many of them held: success if all did, and there were some.
pub fn conclude<C>(tried: &str, results: &[(C, bool)]) -> ExitCode {
    let held = results.iter().filter(|(_, held)| *held).count();
    println!(
        "{}",
        serde_json::json!({ tried: results.len(), "held": held })
    );
    if held == results.len() && held > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
