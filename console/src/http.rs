//! The HTTP endpoints of a service: `/healthz`, `/readyz` and `/metrics`.

use std::{collections::VecDeque, convert::Infallible, net::SocketAddr};

use anyhow::{Context as _, Result};
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, task::AbortHandle};
use virtuozo_runtime::LIMITS;
use virtuozo_telemetry::{
    Telemetry,
    metrics::{self, Metrics},
};

/// Most open connections. A further one closes the oldest, so that silent clients cannot keep probes from being
/// answered.
const MAX_CONNECTIONS: usize = 32;

/// Listens on an address, and serves requests in the background until the process ends.
///
/// # Errors
/// The address cannot be listened on.
pub(crate) async fn serve(address: SocketAddr, telemetry: Telemetry) -> Result<()> {
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address}; name another address with --listen or VIRTUOZO_LISTEN")
    })?;
    // The system chooses a port for port 0.
    let address = listener.local_addr()?;
    tracing::info!(%address, "HTTP endpoints are listening");
    tokio::spawn(accept(listener, telemetry));
    Ok(())
}

async fn accept(listener: TcpListener, telemetry: Telemetry) {
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let telemetry = telemetry.clone();
                let connection = http1::Builder::new()
                    .keep_alive(false)
                    .timer(TokioTimer::new())
                    .serve_connection(
                        TokioIo::new(stream),
                        service_fn(move |request| answer(request, telemetry.clone())),
                    );
                open.retain(|one| !one.is_finished());
                if open.len() >= MAX_CONNECTIONS
                    && let Some(oldest) = open.pop_front()
                {
                    oldest.abort();
                }
                // An error on a connection concerns its client only.
                let answering = tokio::time::timeout(LIMITS.console.http_connection, connection);
                open.push_back(tokio::spawn(answering).abort_handle());
            }
            Err(error) => {
                tracing::debug!(%error, "an HTTP connection could not be accepted");
                tokio::time::sleep(LIMITS.console.http_accept_pause).await;
            }
        }
    }
}

async fn answer(
    request: Request<Incoming>,
    telemetry: Telemetry,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned());
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return Ok(response);
    }
    Ok(match request.uri().path() {
        "/healthz" => probe(
            telemetry
                .health
                .liveness
                .standstill()
                .map(|stands| stands.to_string()),
        ),
        "/metrics" => exposition(telemetry.metrics).await,
        "/readyz" => probe(telemetry.health.unready_reason()),
        _ => text(
            StatusCode::NOT_FOUND,
            "there are /healthz, /readyz and /metrics\n".to_owned(),
        ),
    })
}

/// All metrics in the text format of Prometheus.
async fn exposition(metrics: Metrics) -> Response<Full<Bytes>> {
    // The text of a large fleet has some megabytes.
    match tokio::task::spawn_blocking(move || metrics.text()).await {
        Ok(Some(Ok(text))) => body(StatusCode::OK, metrics::CONTENT_TYPE, text),
        Ok(Some(Err(error))) => internal(&error),
        Ok(None) => text(
            StatusCode::NOT_FOUND,
            "there are no metrics; the log says why\n".to_owned(),
        ),
        Err(error) => internal(&error),
    }
}

fn internal(error: &dyn std::fmt::Display) -> Response<Full<Bytes>> {
    text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n"))
}

fn probe(obstacle: Option<String>) -> Response<Full<Bytes>> {
    match obstacle {
        None => text(StatusCode::OK, "ok\n".to_owned()),
        Some(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

fn text(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    body(status, "text/plain; charset=utf-8", text.into_bytes())
}

fn body(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
