//! A sample of the fleet proof. `make fleet-proof` is the whole of it.

use anyhow::{Result, ensure};
use tests::fleet::{FleetSpec, prove};

#[tokio::test]
async fn a_small_fleet_whose_workers_are_killed_passes_no_limit_and_leaves_nothing_behind()
-> Result<()> {
    let proof = prove(FleetSpec::sample(7), |text| println!("{text}")).await?;
    ensure!(
        proof.broken.is_empty(),
        "{}\n{:#}",
        proof.broken.join("\n"),
        proof.summary
    );
    Ok(())
}
