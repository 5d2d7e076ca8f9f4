//! `virtuozo health`: asks a process on this machine whether it lives, for containers without an HTTP client.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, body::Bytes, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::context::Context;

/// How long the answer may take.
const LIMIT: Duration = Duration::from_secs(5);

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
    let answer = tokio::time::timeout(LIMIT, ask(address, path)).await;
    let (good, said) = answer
        .with_context(|| format!("{address} does not answer within {} s", LIMIT.as_secs()))?
        .with_context(|| format!("{address} cannot be asked; was the process told --listen?"))?;
    if !good {
        bail!("{said}");
    }
    context.out.done(&said)
}

/// Whether what is at a path is fine, and what it says.
async fn ask(address: SocketAddr, path: &str) -> Result<(bool, String)> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let question = Request::get(path)
        .header(HOST, address.to_string())
        .body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(question).await?;
    let good = answer.status().is_success();
    let body = answer.into_body().collect().await?.to_bytes();
    Ok((good, String::from_utf8_lossy(&body).trim().to_owned()))
}
