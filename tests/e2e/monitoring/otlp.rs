//! The same metrics are pushed over OTLP, also those of the last moments.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use anyhow::{Context, Result, ensure};
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    metrics::v1::{metric::Data, number_data_point::Value},
};
use parking_lot::Mutex;
use prost::Message;
use tests::Endpoint;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

use super::{catalogue::documented, metrics};

type Received = Arc<Mutex<Vec<ExportMetricsServiceRequest>>>;

/// A receiver of metrics over HTTP: its address, and what it was sent.
async fn receiver() -> Result<(String, Received)> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = format!("http://{}", listener.local_addr()?);
    let received = Received::default();
    let into = Arc::clone(&received);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(receive(stream, Arc::clone(&into)));
        }
    });
    Ok((address, received))
}

async fn receive(stream: TcpStream, into: Received) -> Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut first, mut length) = (String::new(), 0);
        stream.read_line(&mut first).await?;
        if first.is_empty() {
            return Ok(());
        }
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await?;
            let line = line.trim().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        if first.contains("/v1/metrics") {
            let request = ExportMetricsServiceRequest::decode(&body[..])?;
            into.lock().push(request);
        }
        let answer =
            b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(answer).await?;
    }
}

/// The name that Prometheus gives a metric.
fn for_prometheus(name: &str, unit: &str, is_counter: bool) -> String {
    let mut name = name.replace('.', "_");
    match unit {
        "s" => name += "_seconds",
        "By" => name += "_bytes",
        _ => {}
    }
    if is_counter {
        name += "_total";
    }
    name
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pushed_is_what_is_documented_and_arrives_also_at_the_end() -> Result<()> {
    let site = metrics::site().await?;
    let (address, received) = receiver().await?;
    let endpoint = format!("{address}/v1/metrics");
    let env: [(&str, &Path); 4] = [
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", endpoint.as_ref()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf".as_ref()),
        // Only what is sent at the end arrives.
        ("OTEL_METRIC_EXPORT_INTERVAL", "3600000".as_ref()),
        ("OTEL_TRACES_EXPORTER", "none".as_ref()),
    ];
    let mut scheduler = site.spawn("scheduler", &["scheduler", "--listen", "127.0.0.1:0"], &env)?;
    let mut worker = site.spawn("worker", &["worker"], &env)?;
    let run = site.back_up().await?;
    ensure!(run["state"] == "succeeded", "{run:#}");
    let endpoint = Endpoint::of(&scheduler).await?;
    tests::eventually("the fleet's metrics", async || {
        let (_, text) = endpoint.get("/metrics").await?;
        Ok(text
            .contains("virtuozo_guest_last_restore_point")
            .then_some(()))
    })
    .await?;
    worker.terminate()?;
    scheduler.terminate()?;

    let bytes: i64 = sqlx::query_scalar("SELECT bytes_copied FROM virtuozo_core.guest_runs")
        .fetch_one(site.pool())
        .await?;
    let documented = documented()?;
    let mut names = BTreeSet::new();
    let mut copied = None;
    let received = received.lock();
    for resource in received
        .iter()
        .flat_map(|request| &request.resource_metrics)
    {
        let attributes = &resource
            .resource
            .as_ref()
            .context("no resource")?
            .attributes;
        ensure!(attributes.iter().any(|one| one.key == "service.name"));
        for metric in resource
            .scope_metrics
            .iter()
            .flat_map(|scope| &scope.metrics)
        {
            let data = metric.data.as_ref().context("no data")?;
            let is_counter = matches!(data, Data::Sum(sum) if sum.is_monotonic);
            names.insert(for_prometheus(&metric.name, &metric.unit, is_counter));
            if let (Data::Sum(sum), "virtuozo.copy") = (data, metric.name.as_str()) {
                let values = sum.data_points.iter().map(|point| match point.value {
                    Some(Value::AsInt(value)) => value,
                    other => panic!("{other:?}"),
                });
                copied = copied.max(Some(values.sum::<i64>()));
            }
        }
    }
    ensure!(copied == Some(bytes), "{copied:?}, not {bytes}");
    for name in &names {
        ensure!(documented.contains_key(name), "{name} is not documented");
    }
    let missing: Vec<_> = documented
        .keys()
        .filter(|name| !names.contains(*name))
        .collect();
    ensure!(
        missing.iter().all(|name| name.contains("repository")),
        "not pushed: {missing:?}"
    );
    Ok(())
}
