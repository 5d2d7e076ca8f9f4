//! A receiver of OTLP, over gRPC or HTTP, that keeps what it gets. It decodes by the published protocol, not
//! by anything of ours.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc};

use anyhow::Result;
use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Request, Response,
    body::{Bytes, Incoming},
    header::HeaderValue,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    common::v1::{AnyValue, KeyValue, any_value::Value},
    trace::v1::Span,
};
use parking_lot::Mutex;
use prost::Message;
use tokio::net::TcpListener;

use super::tree::{Event, Seen};

/// Bytes in front of a message of gRPC: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// How spans come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Grpc,
    Http,
}

/// A receiver on a port of its own, until the test ends.
#[derive(Debug)]
pub(crate) struct Receiver {
    protocol: Protocol,
    endpoint: String,
    kept: Arc<Kept>,
}

/// What came, and what is not taken.
#[derive(Debug, Default)]
struct Kept {
    seen: Mutex<Vec<Seen>>,
    /// The guest of whose spans none is taken, nor what comes with them; empty: of none.
    refused: Mutex<String>,
}

impl Receiver {
    pub(crate) async fn start(protocol: Protocol) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let kept = Arc::<Kept>::default();
        let keeping = Arc::clone(&kept);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let kept = Arc::clone(&keeping);
                let answer = service_fn(move |request| receive(request, Arc::clone(&kept)));
                let stream = TokioIo::new(stream);
                tokio::spawn(async move {
                    // A client that goes away in the middle has no more to say.
                    let _ = match protocol {
                        Protocol::Http => {
                            http1::Builder::new().serve_connection(stream, answer).await
                        }
                        Protocol::Grpc => {
                            http2::Builder::new(TokioExecutor::new())
                                .serve_connection(stream, answer)
                                .await
                        }
                    };
                });
            }
        });
        Ok(Self {
            protocol,
            endpoint,
            kept,
        })
    }

    /// From now on no request is taken that has spans of this guest.
    pub(crate) fn refuse(&self, guest: &str) {
        guest.clone_into(&mut self.kept.refused.lock());
    }

    /// The variables that send spans here.
    pub(crate) fn variables(&self) -> Vec<(&'static str, &str)> {
        vec![
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &self.endpoint),
            (
                "OTEL_EXPORTER_OTLP_PROTOCOL",
                match self.protocol {
                    Protocol::Grpc => "grpc",
                    Protocol::Http => "http/protobuf",
                },
            ),
        ]
    }

    /// All spans so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.kept.seen.lock().clone()
    }
}

type Answer = Response<http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>>;

async fn receive(request: Request<Incoming>, kept: Arc<Kept>) -> Result<Answer, hyper::Error> {
    let is_grpc = request.uri().path().ends_with("TraceService/Export");
    let body = request.into_body().collect().await?.to_bytes();
    let message = if is_grpc {
        body.slice(PREFIX_BYTES.min(body.len())..)
    } else {
        body
    };
    let Ok(export) = ExportTraceServiceRequest::decode(message) else {
        let mut refusal = Response::new(Full::new(Bytes::new()).boxed_unsync());
        *refusal.status_mut() = hyper::StatusCode::BAD_REQUEST;
        return Ok(refusal);
    };
    let mut came = Vec::new();
    for of_resource in export.resource_spans {
        let resource = words(of_resource.resource.unwrap_or_default().attributes);
        for of_scope in of_resource.scope_spans {
            came.extend(of_scope.spans.into_iter().map(|span| seen(span, &resource)));
        }
    }
    let refused = kept.refused.lock().clone();
    if !refused.is_empty()
        && came
            .iter()
            .any(|span| span.attribute("virtuozo.guest") == refused)
    {
        let mut refusal = Response::new(Full::new(Bytes::new()).boxed_unsync());
        if is_grpc {
            // INVALID_ARGUMENT, in an answer without a message.
            let status = [("content-type", "application/grpc"), ("grpc-status", "3")];
            for (name, value) in status {
                let value = HeaderValue::from_static(value);
                refusal.headers_mut().insert(name, value);
            }
        } else {
            *refusal.status_mut() = hyper::StatusCode::BAD_REQUEST;
        }
        return Ok(refusal);
    }
    kept.seen.lock().extend(came);
    let reply = ExportTraceServiceResponse::default().encode_to_vec();
    Ok(if is_grpc {
        let mut framed = vec![0; PREFIX_BYTES];
        if let Some(last) = framed.last_mut() {
            *last = u8::try_from(reply.len()).unwrap_or_default();
        }
        framed.extend(reply);
        let trailers = async {
            let status = [("grpc-status", HeaderValue::from_static("0"))];
            Some(Ok(HeaderMap::from_iter(status.map(|(name, value)| {
                (hyper::header::HeaderName::from_static(name), value)
            }))))
        };
        let mut answer = Response::new(
            Full::new(Bytes::from(framed))
                .with_trailers(trailers)
                .boxed_unsync(),
        );
        let grpc = HeaderValue::from_static("application/grpc");
        answer
            .headers_mut()
            .insert(hyper::header::CONTENT_TYPE, grpc);
        answer
    } else {
        Response::new(Full::new(Bytes::from(reply)).boxed_unsync())
    })
}

fn seen(span: Span, resource: &BTreeMap<String, String>) -> Seen {
    let status = span.status.unwrap_or_default();
    Seen {
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        name: span.name,
        began_ns: span.start_time_unix_nano,
        ended_ns: span.end_time_unix_nano,
        process: resource
            .get("virtuozo.process")
            .cloned()
            .unwrap_or_default(),
        attributes: words(span.attributes),
        events: span
            .events
            .into_iter()
            .map(|event| Event {
                name: event.name,
                attributes: words(event.attributes),
            })
            .collect(),
        links: span.links.iter().map(|link| hex(&link.span_id)).collect(),
        // 2 is STATUS_CODE_ERROR.
        is_error: status.code == 2,
        status: status.message,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn words(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let word = |value: Option<AnyValue>| match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        Some(Value::BoolValue(flag)) => flag.to_string(),
        other => format!("{other:?}"),
    };
    attributes
        .into_iter()
        .map(|attribute| (attribute.key, word(attribute.value)))
        .collect()
}
