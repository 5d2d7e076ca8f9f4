//! The same against a real trace back end with a query interface, Phoenix. `make trace-proof` installs it
//! and asks for this.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::{Site, eventually};
use vix::lab::Product;

use crate::{
    CODE, guest, spawn,
    tree::{Seen, Tree},
};

/// Runs of the fleet.
const RUNS: usize = 4;
/// Spans that are asked for at once.
const PAGE: usize = 1000;

/// Phoenix with an empty database, until it is dropped.
struct Phoenix {
    process: Child,
    url: String,
    grpc: String,
    client: reqwest::blocking::Client,
}

impl Phoenix {
    fn start(program: &Path, dir: &Path) -> Result<Self> {
        let free = || {
            Ok::<_, anyhow::Error>(
                std::net::TcpListener::bind("127.0.0.1:0")?
                    .local_addr()?
                    .port(),
            )
        };
        let (port, grpc) = (free()?, free()?);
        let log = fs::File::create(dir.join("phoenix.log"))?;
        let process = Command::new(program)
            .arg("serve")
            .env("PHOENIX_WORKING_DIR", dir)
            .env("PHOENIX_HOST", "127.0.0.1")
            .env("PHOENIX_PORT", port.to_string())
            .env("PHOENIX_GRPC_PORT", grpc.to_string())
            .env("PHOENIX_TELEMETRY_ENABLED", "false")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        Ok(Self {
            process,
            url: format!("http://127.0.0.1:{port}"),
            grpc: format!("http://127.0.0.1:{grpc}"),
            client: reqwest::blocking::Client::builder()
                .timeout(Duration::from_secs(30))
                .build()?,
        })
    }

    fn get(&self, path: &str) -> Result<String> {
        Ok(self
            .client
            .get(format!("{}{path}", self.url))
            .send()?
            .error_for_status()?
            .text()?)
    }

    /// All spans that it has.
    fn spans(&self) -> Result<Vec<Seen>> {
        let mut spans = Vec::new();
        let mut cursor = String::new();
        loop {
            let page: Value = serde_json::from_str(
                &self.get(&format!("/v1/projects/default/spans?limit={PAGE}{cursor}"))?,
            )?;
            spans.extend(
                page["data"]
                    .as_array()
                    .context("no spans")?
                    .iter()
                    .map(seen),
            );
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(spans),
            }
        }
    }
}

impl Drop for Phoenix {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn seen(span: &Value) -> Seen {
    let text = |value: &Value| match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let time = |key: &str| {
        let at = span[key]
            .as_str()
            .and_then(|t| t.parse::<chrono::DateTime<chrono::Utc>>().ok());
        at.and_then(|at| at.timestamp_nanos_opt())
            .and_then(|ns| u64::try_from(ns).ok())
    };
    let attributes: BTreeMap<String, String> = span["attributes"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.clone(), text(value)))
        .collect();
    Seen {
        trace: text(&span["context"]["trace_id"]),
        id: text(&span["context"]["span_id"]),
        parent: text(&span["parent_id"]),
        name: text(&span["name"]),
        began_ns: time("start_time").unwrap_or_default(),
        ended_ns: time("end_time").unwrap_or_default(),
        is_error: span["status_code"] == "ERROR",
        status: text(&span["status_message"]),
        attributes,
        ..Seen::default()
    }
}

#[test]
#[ignore = "needs Phoenix: `make trace-proof`"]
fn every_trace_of_a_fleet_comes_back_whole_from_a_trace_back_end() -> Result<()> {
    let dir = PathBuf::from(env::var_os("TRACE_PROOF_DIR").context("run `make trace-proof`")?);
    let data = tempfile::tempdir()?;
    let phoenix = Phoenix::start(&dir.join("phoenix/bin/phoenix"), data.path())?;
    let runtime = tokio::runtime::Runtime::new()?;
    let result = runtime.block_on(fleet(&phoenix))?;
    fs::write(dir.join("result.json"), result.to_string())?;
    ensure!(result["traces"] == result["complete"], "{result}");
    Ok(())
}

async fn fleet(phoenix: &Phoenix) -> Result<Value> {
    let site = Site::new().await?;
    for name in ["alpha", "beta"] {
        let host = site.host(name, Product::WorkstationShared)?;
        for name in ["mail", "files", "web"] {
            guest(&host, name)?;
        }
    }
    fs::write(
        site.faults(),
        format!(
            "{{\"function\": \"VixVM_CreateSnapshot\", \"object\": \"web\", \"error\": {CODE}}}\n"
        ),
    )?;
    // The client blocks, which it may not do on the runtime itself.
    eventually("Phoenix to answer", async || {
        Ok(tokio::task::block_in_place(|| phoenix.get("/healthz"))
            .ok()
            .map(drop))
    })
    .await?;
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", phoenix.grpc.as_str()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
    ];
    let mut processes = Vec::new();
    for name in ["scheduler-1", "scheduler-2"] {
        processes.push(spawn(&site, name, &["scheduler"], &variables)?);
    }
    for name in ["worker-1", "worker-2"] {
        processes.push(spawn(&site, name, &["worker", "--name", name], &variables)?);
    }
    let mut traces = Vec::new();
    for _ in 0..RUNS {
        let shown = site.back_up().await?;
        traces.push(
            shown["trace_id"]
                .as_str()
                .context("no trace id")?
                .to_owned(),
        );
    }
    eventually("the runs to be told", async || {
        let told: bool = sqlx::query_scalar("SELECT bool_and(traced) FROM virtuozo_core.runs")
            .fetch_one(site.pool())
            .await?;
        Ok(told.then_some(()))
    })
    .await?;
    for process in processes.iter_mut().rev() {
        process.terminate()?;
    }
    let mut complete = 0;
    for trace in &traces {
        // What has arrived is there for queries a little later.
        let whole = eventually("a trace to be whole", async || {
            let spans = tokio::task::block_in_place(|| phoenix.spans())?;
            Ok(Tree::of(&spans, trace)
                .ok()
                .filter(|tree| tree.all("guest run").len() == 6))
        });
        match whole.await {
            Ok(tree) => {
                let steps = tree.all("publish").len();
                ensure!(
                    steps == 4,
                    "{steps} guests were published:\n{}",
                    tree.drawn()
                );
                ensure!(!tree.errors().is_empty(), "no error:\n{}", tree.drawn());
                complete += 1;
            }
            Err(error) => eprintln!("{trace}: {error}"),
        }
    }
    Ok(json!({ "traces": traces.len(), "complete": complete }))
}
