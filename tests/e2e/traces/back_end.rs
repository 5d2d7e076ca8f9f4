//! The same against a real trace back end with a query interface, Phoenix. `make trace-proof` installs it
//! and asks for this.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::{Site, eventually};
use vix::lab::Product;

use super::{
    CODE, guest, spawn,
    tree::{Event, Seen, Tree},
};

/// Runs of the fleet.
const RUNS: usize = 4;
/// Spans that are asked for at once.
const PAGE: usize = 1000;
/// How long nothing may arrive before what is missing is given up, and how often that is looked at.
const WAIT_LIMIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_secs(2);

/// Phoenix with an empty database, until it is dropped.
struct Phoenix {
    process: Child,
    url: String,
    grpc: String,
    client: reqwest::Client,
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
        virtuozo_telemetry::otlp::choose_tls();
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
            client: reqwest::Client::builder()
                .timeout(Duration::from_secs(30))
                .build()?,
        })
    }

    async fn get(&self, path: &str) -> Result<String> {
        Ok(self
            .client
            .get(format!("{}{path}", self.url))
            .send()
            .await?
            .error_for_status()?
            .text()
            .await?)
    }

    /// All spans that it has.
    async fn spans(&self) -> Result<Vec<Seen>> {
        let mut spans = Vec::new();
        let mut cursor = String::new();
        loop {
            let path = format!("/v1/projects/default/spans?limit={PAGE}{cursor}");
            let page: Value = serde_json::from_str(&self.get(&path).await?)?;
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
    let attributes = |of: &Value| -> BTreeMap<String, String> {
        let all = of["attributes"].as_object().into_iter().flatten();
        all.map(|(key, value)| (key.clone(), text(value))).collect()
    };
    let events = span["events"].as_array().into_iter().flatten();
    Seen {
        trace: text(&span["context"]["trace_id"]),
        id: text(&span["context"]["span_id"]),
        parent: text(&span["parent_id"]),
        name: text(&span["name"]),
        began_ns: time("start_time").unwrap_or_default(),
        ended_ns: time("end_time").unwrap_or_default(),
        is_error: span["status_code"] == "ERROR",
        status: text(&span["status_message"]),
        attributes: attributes(span),
        events: events
            .map(|event| Event {
                name: text(&event["name"]),
                attributes: attributes(event),
            })
            .collect(),
        // It keeps neither links nor who sent a span.
        ..Seen::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Phoenix: `make trace-proof`"]
async fn every_trace_of_a_fleet_comes_back_whole_from_a_trace_back_end() -> Result<()> {
    let dir = PathBuf::from(env::var_os("TRACE_PROOF_DIR").context("run `make trace-proof`")?);
    let data = tempfile::tempdir()?;
    let phoenix = Phoenix::start(&dir.join("phoenix/bin/phoenix"), data.path())?;
    let result = fleet(&phoenix).await?;
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
    eventually("Phoenix to answer", async || {
        Ok(phoenix.get("/healthz").await.ok().map(drop))
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
    let trees = whole(phoenix, &traces).await?;
    for tree in &trees {
        check(tree)?;
    }
    Ok(json!({ "traces": traces.len(), "complete": trees.len() }))
}

/// Those of the traces that are whole. Waits for all as long as spans arrive: what it was sent is there for
/// queries only later, and being asked keeps it from taking in more.
async fn whole(phoenix: &Phoenix, traces: &[String]) -> Result<Vec<Tree>> {
    let mut most = 0;
    let mut grew_at = Instant::now();
    loop {
        let spans = phoenix.spans().await?;
        let (mut trees, mut missing) = (Vec::new(), Vec::new());
        for trace in traces {
            match Tree::of(&spans, trace) {
                Ok(tree) if tree.all("guest run").len() != 6 => {
                    missing.push(format!("{trace}: not all guest runs are there"));
                }
                Ok(tree) => match childless(&tree) {
                    steps if steps.is_empty() => trees.push(tree),
                    steps => missing.push(format!("{trace}: without what they did: {steps:?}")),
                },
                Err(error) => missing.push(format!("{error:#}")),
            }
        }
        if spans.len() > most {
            most = spans.len();
            grew_at = Instant::now();
        }
        if missing.is_empty() || grew_at.elapsed() > WAIT_LIMIT {
            missing.iter().for_each(|why| eprintln!("{why}"));
            return Ok(trees);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Steps below which the spans of their work are missing: those come from the workers, the steps from the database.
fn childless(tree: &Tree) -> Vec<&'static str> {
    [
        ("snapshot", "vix create_snapshot"),
        ("vix create_snapshot", "VixVM_CreateSnapshot"),
        ("copy", "copy blocks"),
        ("commit", "vix remove_snapshot"),
        ("vix remove_snapshot", "VixVM_RemoveSnapshot"),
        ("verify", "verify blocks"),
    ]
    .into_iter()
    .filter(|(step, work)| {
        let steps = tree.all(step);
        let whole = |span: &&Seen| tree.below(span).contains(work);
        steps.is_empty() || !steps.iter().all(whole)
    })
    .map(|(step, _)| step)
    .collect()
}

/// What docs/guide/trace.md says of a run in which the guests `web` cannot be snapshotted.
fn check(tree: &Tree) -> Result<()> {
    let drawn = || tree.drawn();
    ensure!(tree.all("publish").len() == 4, "{}", drawn());
    let run = tree.one("run")?;
    ensure!(run.is_error && !run.status.is_empty(), "{}", drawn());
    for guest in tree.all("guest run") {
        let is_web = guest.attribute("virtuozo.guest") == "web";
        ensure!(guest.is_error == is_web, "{}", drawn());
    }
    for name in ["snapshot", "vix create_snapshot"] {
        let (failed, good): (Vec<_>, Vec<_>) =
            tree.all(name).into_iter().partition(|span| span.is_error);
        ensure!((failed.len(), good.len()) == (2, 4), "{}", drawn());
        for span in failed {
            let exception = span.exception().with_context(|| format!("{span:#?}"))?;
            ensure!(
                span.attribute("virtuozo.vix.code") == CODE
                    && exception.attributes["exception.type"].starts_with("hypervisor.")
                    && exception.attributes["exception.message"] == span.status,
                "{span:#?}"
            );
        }
    }
    for call in tree.all("VixVM_CreateSnapshot") {
        let way = tree.way_up(call);
        ensure!(
            way == [
                "vix create_snapshot",
                "snapshot",
                "attempt",
                "guest run",
                "host run",
                "run"
            ],
            "{way:?}"
        );
    }
    Ok(())
}
