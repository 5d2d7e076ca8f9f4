//! Ten minutes without a database, in every way and whatever the processes are at; ends with one line of
//! JSON. `make outage-proof` runs it. Arguments narrow it down to outages whose names contain them all.

use std::process::ExitCode;

use tests::{
    outage::{Outage, Way, Work},
    proof,
};

const SECS: u64 = 600;

pub(crate) fn prove(names: &[String]) -> ExitCode {
    let mut outages = Vec::new();
    for way in [Way::Refused, Way::Silent, Way::Stopped, Way::FailedOver] {
        for work in [Work::Starting, Work::None, Work::Copying] {
            outages.push(Outage {
                way,
                work,
                secs: SECS,
            });
        }
    }
    let outages = proof::asked_for(outages, names);
    // All at the same time: they only wait.
    let results = proof::hold_all(&outages, outages.len(), Outage::hold);
    proof::conclude("cases", &results)
}
