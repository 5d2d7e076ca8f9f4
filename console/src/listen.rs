//! What a service answers over HTTP to those who watch it: `/healthz`, `/readyz`, `/metrics`.

use std::{collections::VecDeque, convert::Infallible, net::SocketAddr, time::Duration};

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
use virtuozo_runtime::{liveness, readiness};
use virtuozo_telemetry::metrics;

/// Connections at the same time. Whoever comes then takes the place of the oldest: one that says nothing keeps no
/// probe from its answer, which takes a moment.
const MAX_CONNECTIONS: usize = 32;
/// How long one connection may last. It is for one question, whose answer is short.
const CONNECTION_LIMIT: Duration = Duration::from_secs(10);
/// The pause after a connection could not be accepted, because there are too many open files, say.
const PAUSE: Duration = Duration::from_millis(200);

/// Listens, and answers for as long as the process lives.
///
/// # Errors
/// The address cannot be listened on.
pub(crate) async fn start(address: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address}; name another address with --listen or VIRTUOZO_LISTEN")
    })?;
    // With port 0 the system has chosen one.
    let address = listener.local_addr()?;
    tracing::info!(%address, "answers /healthz, /readyz and /metrics");
    tokio::spawn(accept(listener));
    Ok(())
}

async fn accept(listener: TcpListener) {
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let connection = http1::Builder::new()
                    .keep_alive(false)
                    .timer(TokioTimer::new())
                    .serve_connection(TokioIo::new(stream), service_fn(answer));
                open.retain(|one| !one.is_finished());
                if open.len() >= MAX_CONNECTIONS
                    && let Some(oldest) = open.pop_front()
                {
                    oldest.abort();
                }
                // What becomes of the answer is the asker's affair.
                let answering = tokio::time::timeout(CONNECTION_LIMIT, connection);
                open.push_back(tokio::spawn(answering).abort_handle());
            }
            Err(error) => {
                tracing::debug!(%error, "a connection could not be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned());
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return Ok(response);
    }
    Ok(match request.uri().path() {
        "/healthz" => probe(liveness::standstill().map(|stands| stands.to_string())),
        "/metrics" => figures().await,
        "/readyz" => probe(readiness::obstacle()),
        _ => text(
            StatusCode::NOT_FOUND,
            "there are /healthz, /readyz and /metrics\n".to_owned(),
        ),
    })
}

async fn figures() -> Response<Full<Bytes>> {
    // Of a large fleet it is some megabytes.
    match tokio::task::spawn_blocking(metrics::text).await {
        Ok(Some(Ok(figures))) => body(StatusCode::OK, metrics::CONTENT_TYPE, figures),
        Ok(Some(Err(error))) => internal(&error),
        Ok(None) => text(
            StatusCode::NOT_FOUND,
            "there are no figures; the log says why\n".to_owned(),
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

fn body(status: StatusCode, form: &'static str, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(form));
    response
}
