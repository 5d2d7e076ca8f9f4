//! Asks a process of a site over HTTP, as a probe or a monitoring system does.

use std::{fmt, net::SocketAddr};

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{Background, eventually};

/// Where a process answers that was started with `--listen 127.0.0.1:0`.
#[derive(Debug, Clone, Copy)]
pub struct Endpoint(SocketAddr);

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Endpoint {
    /// Waits until the process says where it listens.
    ///
    /// # Errors
    /// It does not.
    pub async fn of(process: &Background) -> Result<Self> {
        eventually("a process to say where it listens", async || {
            let said = process.said();
            let place = said.split_once("HTTP endpoints are listening");
            let place = place.and_then(|(_, rest)| rest.split_once("address=")?.1.lines().next());
            Ok(place.map(|text| text.trim().parse()).transpose()?)
        })
        .await
        .map(Self)
        .with_context(|| process.said())
    }

    /// Status and body of what is at a path.
    ///
    /// # Errors
    /// Nobody answers.
    pub async fn get(&self, path: &str) -> Result<(u16, String)> {
        self.ask("GET", path).await
    }

    /// As [`Endpoint::get`], with another method.
    ///
    /// # Errors
    /// Nobody answers.
    pub async fn ask(&self, method: &str, path: &str) -> Result<(u16, String)> {
        let mut stream = TcpStream::connect(self.0).await?;
        let question = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.0);
        stream.write_all(question.as_bytes()).await?;
        let mut answer = String::new();
        // The connection is for one question.
        stream.read_to_string(&mut answer).await?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP")?;
        let status = head.split(' ').nth(1).context("no status")?.parse()?;
        Ok((status, body.to_owned()))
    }

    /// Waits until `/readyz` has this status, and returns its body.
    ///
    /// # Errors
    /// It never has.
    pub async fn becomes(&self, status: u16) -> Result<String> {
        eventually("/readyz to change", async || {
            let (now, body) = self.get("/readyz").await?;
            Ok((now == status).then_some(body))
        })
        .await
    }
}
