//! `virtuozo health`: asks a service for its health over HTTP, for containers without an HTTP client.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, body::Bytes, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use virtuozo_runtime::LIMITS;

use crate::context::Context;

/// Options of `health`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  virtuozo health 127.0.0.1:9464\n  virtuozo health --ready 127.0.0.1:9464"
)]
pub(crate) struct HealthArgs {
    /// Where the process listens, as it was told with --listen
    #[arg(env = "VIRTUOZO_LISTEN", value_name = "ADDR:PORT")]
    address: SocketAddr,
    /// Ask whether it can work now (/readyz), not only whether it lives (/healthz)
    #[arg(long)]
    ready: bool,
}

pub(crate) async fn run(context: &Context, args: HealthArgs) -> Result<()> {
    let path = if args.ready { "/readyz" } else { "/healthz" };
    let address = args.address;
    let answer = tokio::time::timeout(LIMITS.console.health, get(address, path)).await;
    let (is_healthy, text) = answer
        .with_context(|| {
            format!(
                "{address} does not answer within {} s",
                LIMITS.console.health.as_secs()
            )
        })?
        .with_context(|| format!("{address} cannot be asked; was the process told --listen?"))?;
    if !is_healthy {
        bail!("{text}");
    }
    context.out.done(&text)
}

/// Whether the answer at a path is a success, and its text.
async fn get(address: SocketAddr, path: &str) -> Result<(bool, String)> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get(path)
        .header(HOST, address.to_string())
        .body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request).await?;
    let is_healthy = answer.status().is_success();
    let body = answer.into_body().collect().await?.to_bytes();
    Ok((is_healthy, String::from_utf8_lossy(&body).trim().to_owned()))
}
