//! The database is away, silent, not there yet, or another one.

use anyhow::{Result, ensure};
use tests::{
    outage::{Outage, Way, Work, processes_end_while_the_database_is},
    proof,
};

/// Lets the outages happen at the same time, each to a site of its own: most of their time is waiting.
fn hold(ways: &[Way], work: Work, secs: u64) -> Result<()> {
    let outages: Vec<Outage> = ways.iter().map(|&way| Outage { way, work, secs }).collect();
    let results = proof::hold_all(&outages, outages.len(), Outage::hold);
    ensure!(results.iter().all(|(_, held)| *held), "see above");
    Ok(())
}

#[test]
fn a_database_that_is_away_for_four_seconds_costs_nothing() -> Result<()> {
    hold(&[Way::Refused, Way::Stopped], Work::Copying, 4)
}

#[test]
fn a_database_that_is_away_or_silent_for_forty_seconds_costs_nothing() -> Result<()> {
    let ways = [Way::Refused, Way::Silent, Way::Stopped];
    hold(&ways, Work::Copying, 40)
}

#[test]
fn another_server_that_takes_over_in_the_middle_of_a_copy_has_all_that_counts() -> Result<()> {
    hold(&[Way::FailedOver], Work::Copying, 10)
}

#[test]
fn processes_that_start_before_the_database_answers_wait_for_it() -> Result<()> {
    let ways = [Way::Refused, Way::Silent, Way::Stopped];
    hold(&ways, Work::Starting, 0)
}

/// As when a firewall forgets connections: what is there is dead, new ones are fine.
#[test]
fn a_worker_whose_idle_connections_died_unnoticed_works_on() -> Result<()> {
    hold(&[Way::Silent], Work::None, 0)
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_are_told_to_end_while_the_database_is_silent_end_soon() -> Result<()> {
    processes_end_while_the_database_is(Way::Silent).await
}
