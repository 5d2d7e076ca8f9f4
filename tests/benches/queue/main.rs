//! What the control plane costs: guest runs of a fleet without hypervisor and without content, beside the
//! bare jobs of other queues on the same server.
//!
//! A guest run is far more than a job: it is admitted under its host's limit, delivered, leased, taken
//! through five steps that each leave a record, records and meets an obligation, and is published. The peers
//! show what the server and the machine are good for. How soon a free slot is used is measured on a machine
//! that is busy to the brim; peers start one job at a time on an idle one. `BENCH_PEERS` names the directory
//! in which `make bench-queue` has installed them; without it only apalis is compared. `BENCH_WAITING` is a
//! list of other numbers of waiting guests. The last line is JSON.

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

async fn compare() -> Result<()> {
    let numbers = env::var("BENCH_WAITING").unwrap_or_else(|_| "1000,10000,100000".to_owned());
    let server = Server::start()?;
    let mut fleets: Vec<Measured> = Vec::new();
    println!(
        "| waiting | guest runs/s | database ms each | statements each | start p50 ms | start p99 ms |"
    );
    println!("|---:|---:|---:|---:|---:|---:|");
    for waiting in numbers.split(',') {
        let waiting = waiting.trim().parse().context("BENCH_WAITING")?;
        let m = fleet::measure(&server, waiting).await?;
        println!(
            "| {waiting} | {:.0} | {:.2} | {:.1} | {:.1} | {:.1} |",
            m.runs_per_second, m.db_ms, m.statements, m.start_p50_ms, m.start_p99_ms
        );
        fleets.push(m);
    }
    let most = fleets.last().context("BENCH_WAITING is empty")?;
    if env::var_os("BENCH_STATEMENTS").is_some() {
        for (ms, calls, text) in &most.costliest {
            println!("{ms:8.3} ms {calls:6.2} calls  {text}");
        }
    }

    let mut peers = vec![peers::apalis(&server).await?];
    if let Some(dir) = env::var_os("BENCH_PEERS").map(PathBuf::from) {
        let python = dir.join("py/bin/python");
        let node = PathBuf::from("node");
        for (name, program, script) in [
            ("graphile-worker", &node, "node/graphile_worker.mjs"),
            ("pg-boss", &node, "node/pg_boss.mjs"),
            ("procrastinate", &python, "py/procrastinate_jobs.py"),
        ] {
            peers.push(peers::foreign(&server, name, program, &dir.join(script)).await?);
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
    println!("{}", summary(&fleets, most, &peers));
    Ok(())
}

fn summary(fleets: &[Measured], most: &Measured, peers: &[Peer]) -> Value {
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
