//! What the control plane costs: guest runs of a fleet without hypervisor and without content, beside the
//! bare jobs of other queues on the same server.
//!
//! A guest run is far more than a job: it is admitted under its host's limit, delivered, leased, taken
//! through five steps that each leave a record, records and meets an obligation, and is published. The peers
//! show what the server and the machine are good for. How soon a free slot is used is measured on a machine
//! that is busy to the brim; peers start one job at a time on an idle one. `BENCH_PEERS` names the directory
//! in which `make bench-queue` has installed them; without it only apalis is compared. `BENCH_WAITING` is a
//! list of other numbers of waiting guests, `BENCH_ROUNDS` another number of rounds than three. The medians
//! of the rounds count. The last line is JSON.

mod fleet;
mod hypervisor;
mod peers;
mod server;

use std::{env, path::PathBuf};

use anyhow::{Context, Result};
use fleet::Measured;
use peers::Peer;
use serde_json::{Map, Value, json};
use server::Server;

fn main() -> Result<()> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(compare())
}

/// One after the other in each round, so that what else the machine does meets all of them alike.
async fn compare() -> Result<()> {
    let numbers = env::var("BENCH_WAITING").unwrap_or_else(|_| "1000,10000,100000".to_owned());
    let numbers: Vec<usize> = numbers
        .split(',')
        .map(|number| number.trim().parse().context("BENCH_WAITING"))
        .collect::<Result<_>>()?;
    let rounds: usize = env::var("BENCH_ROUNDS")
        .map_or(Ok(3), |rounds| rounds.parse())
        .context("BENCH_ROUNDS")?;
    let server = Server::start()?;
    let mut measured: Vec<Round> = Vec::new();
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        measured.push(Round::measure(&server, &numbers).await?);
    }
    let fleets = medians(&measured, |round| &round.fleets, |m| m.runs_per_second);
    let peers = medians(&measured, |round| &round.peers, |p| p.jobs_per_second);
    let most = fleets
        .last()
        .context("BENCH_WAITING or BENCH_ROUNDS names nothing to measure")?;

    println!(
        "| waiting | guest runs/s | database ms each | statements each | start p50 ms | start p99 ms |"
    );
    println!("|---:|---:|---:|---:|---:|---:|");
    for m in &fleets {
        println!(
            "| {} | {:.0} | {:.2} | {:.1} | {:.1} | {:.1} |",
            m.waiting, m.runs_per_second, m.db_ms, m.statements, m.start_p50_ms, m.start_p99_ms
        );
    }
    if env::var_os("BENCH_STATEMENTS").is_some() {
        for (ms, calls, text) in &most.costliest {
            println!("{ms:8.3} ms {calls:6.2} calls  {text}");
        }
    }
    println!("\n| no-op jobs | jobs/s | database ms each | start p50 ms | start p99 ms |");
    println!("|---|---:|---:|---:|---:|");
    for p in &peers {
        println!(
            "| {} | {:.0} | {:.3} | {:.1} | {:.1} |",
            p.name, p.jobs_per_second, p.db_ms, p.start_p50_ms, p.start_p99_ms
        );
    }
    let mut of_apalis: Vec<f64> = measured.iter().filter_map(Round::of_apalis).collect();
    of_apalis.sort_by(f64::total_cmp);
    println!(
        "{}",
        summary(&fleets, most, &peers, percentile(&of_apalis, 50))
    );
    Ok(())
}

/// What was measured in one round.
struct Round {
    /// For each number of waiting guests.
    fleets: Vec<Measured>,
    /// apalis first.
    peers: Vec<Peer>,
}

impl Round {
    async fn measure(server: &Server, waiting: &[usize]) -> Result<Self> {
        let mut fleets = Vec::new();
        for &waiting in waiting {
            fleets.push(fleet::measure(server, waiting).await?);
        }
        let mut peers = vec![peers::apalis(server).await?];
        if let Some(dir) = env::var_os("BENCH_PEERS").map(PathBuf::from) {
            let python = dir.join("py/bin/python");
            let node = PathBuf::from("node");
            for (name, program, script) in [
                ("graphile-worker", &node, "node/graphile_worker.mjs"),
                ("pg-boss", &node, "node/pg_boss.mjs"),
                ("procrastinate", &python, "py/procrastinate_jobs.py"),
            ] {
                peers.push(peers::foreign(server, name, program, &dir.join(script)).await?);
            }
        }
        Ok(Self { fleets, peers })
    }

    /// Guest runs for each no-op job of apalis in the same time.
    fn of_apalis(&self) -> Option<f64> {
        let (fleet, apalis) = (self.fleets.first()?, self.peers.first()?);
        Some(fleet.runs_per_second / apalis.jobs_per_second)
    }
}

/// Of each thing that all rounds have measured, the measurement with the median rate.
fn medians<T: Clone>(
    rounds: &[Round],
    of: impl Fn(&Round) -> &Vec<T>,
    rate: impl Fn(&T) -> f64,
) -> Vec<T> {
    let things = rounds.first().map_or(0, |round| of(round).len());
    (0..things)
        .filter_map(|n| {
            let mut all: Vec<&T> = rounds.iter().map(|round| &of(round)[n]).collect();
            all.sort_by(|a, b| rate(a).total_cmp(&rate(b)));
            all.get((all.len() - 1) / 2).copied().cloned()
        })
        .collect()
}

fn summary(fleets: &[Measured], most: &Measured, peers: &[Peer], of_apalis: f64) -> Value {
    let round = |n: f64| (n * 100.0).round() / 100.0;
    let by_waiting: Map<String, Value> = fleets
        .iter()
        .map(|m| {
            let measured = json!({
                "guest_runs_per_second": round(m.runs_per_second),
                "db_ms_per_guest_run": round(m.db_ms),
                "start_p99_ms": round(m.start_p99_ms),
            });
            (m.waiting.to_string(), measured)
        })
        .collect();
    let peers: Map<String, Value> = peers
        .iter()
        .map(|p| (p.name.to_owned(), p.json()))
        .collect();
    json!({
        "guest_runs_per_noop_of_apalis": round(of_apalis),
        "guest_runs_per_second": round(most.runs_per_second),
        "db_ms_per_guest_run": round(most.db_ms),
        "start_p50_ms": round(most.start_p50_ms),
        "start_p99_ms": round(most.start_p99_ms),
        "waiting": most.waiting,
        "by_waiting": by_waiting,
        "peers": peers,
    })
}

/// A percentile of sorted numbers, by the nearest rank.
fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}
