//! Lets a whole fleet work while its workers are killed at random, and holds it against every limit and every
//! promise; ends with one line of JSON. `make fleet-proof` runs it. An argument is the seed of an earlier
//! run.

use std::process::ExitCode;

use anyhow::{Context, Result};
use tests::fleet::{self, FleetSpec};

pub(crate) fn prove(arguments: &[String]) -> Result<ExitCode> {
    let seed = match arguments.first() {
        Some(text) => text.parse().context("the seed is a whole number")?,
        None => rand::random_range(0..1_000_000),
    };
    println!("seed {seed}");
    let proof = tokio::runtime::Runtime::new()?
        .block_on(fleet::prove(FleetSpec::full(seed), |text| {
            println!("{text}")
        }))?;
    for sentence in &proof.broken {
        println!("BROKEN  {sentence}");
    }
    println!("{}", proof.summary);
    Ok(if proof.broken.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
