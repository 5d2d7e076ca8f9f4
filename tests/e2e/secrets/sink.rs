//! A receiver of OTLP over HTTP that keeps the bytes it gets, whatever they say.

use std::{convert::Infallible, sync::Arc};

use anyhow::Result;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response, body::Bytes, body::Incoming, server::conn::http1, service::service_fn,
};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpListener;

/// A receiver on a port of its own, until the test ends.
#[derive(Debug)]
pub(crate) struct Sink {
    endpoint: String,
    bodies: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Sink {
    pub(crate) async fn start() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let bodies = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let into = Arc::clone(&bodies);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let into = Arc::clone(&into);
                let keep = service_fn(move |request| keep(request, Arc::clone(&into)));
                // A sender that goes away in the middle has no more to say.
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), keep));
            }
        });
        Ok(Self { endpoint, bodies })
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// All that was sent so far.
    pub(crate) fn received(&self) -> Vec<Vec<u8>> {
        let bodies = self.bodies.lock();
        bodies.clone()
    }
}

async fn keep(
    request: Request<Incoming>,
    into: Arc<Mutex<Vec<Vec<u8>>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if let Ok(body) = request.into_body().collect().await {
        let mut bodies = into.lock();
        bodies.push(body.to_bytes().to_vec());
    }
    // An answer without content is one in which all is well.
    Ok(Response::new(Full::default()))
}
