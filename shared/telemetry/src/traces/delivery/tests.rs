//! Batches that arrive late, and such as do not.

use std::{sync::mpsc, thread};

use opentelemetry::trace::{SpanContext, SpanKind, Status};
use opentelemetry_sdk::trace::{SpanEvents, SpanLinks};

use super::*;

/// A receiver that takes batches when it is told to.
#[derive(Debug)]
struct Receiver {
    answers: Mutex<mpsc::Receiver<OTelSdkResult>>,
    asked: mpsc::Sender<usize>,
}

impl SpanExporter for Receiver {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.asked.send(batch.len()).unwrap();
        self.answers.lock().recv().unwrap()
    }
}

struct Sending {
    deliveries: Arc<Deliveries>,
    answer: mpsc::Sender<OTelSdkResult>,
    asked: mpsc::Receiver<usize>,
    batches: mpsc::Sender<Vec<SpanData>>,
    results: mpsc::Receiver<OTelSdkResult>,
}

impl Sending {
    fn with_room_for(spans: u64) -> Self {
        let deliveries = Arc::new(Deliveries::new(spans));
        let (answer, answers) = mpsc::channel();
        let (asks, asked) = mpsc::channel();
        let (batches, to_send) = mpsc::channel::<Vec<SpanData>>();
        let (sent, results) = mpsc::channel();
        let exporter = RetryingExporter::new(
            Receiver {
                answers: Mutex::new(answers),
                asked: asks,
            },
            Arc::clone(&deliveries),
        );
        thread::spawn(move || {
            for batch in to_send {
                let result = futures_executor::block_on(exporter.export(batch));
                sent.send(result).unwrap();
            }
        });
        Self {
            deliveries,
            answer,
            asked,
            batches,
            results,
        }
    }

    /// Hands over so many spans as one batch; how many of them were taken.
    fn hand_over(&self, spans: usize) -> usize {
        let taken: Vec<SpanData> = (0..spans)
            .filter(|_| self.deliveries.take())
            .map(|_| span())
            .collect();
        let count = taken.len();
        self.batches.send(taken).unwrap();
        count
    }
}

fn span() -> SpanData {
    SpanData {
        span_context: SpanContext::empty_context(),
        parent_span_id: opentelemetry::SpanId::INVALID,
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: "span".into(),
        start_time: std::time::UNIX_EPOCH,
        end_time: std::time::UNIX_EPOCH,
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: Default::default(),
    }
}

fn away() -> OTelSdkResult {
    Err(OTelSdkError::InternalFailure("connection refused".into()))
}

#[test]
fn a_batch_is_sent_again_until_its_receiver_is_back() {
    let sending = Sending::with_room_for(10);
    assert_eq!(sending.hand_over(3), 3);
    for answer in [away(), away(), Ok(())] {
        assert_eq!(sending.asked.recv(), Ok(3));
        sending.answer.send(answer).unwrap();
    }
    assert!(sending.results.recv().unwrap().is_ok());
    sending.deliveries.end();
    assert_eq!(sending.deliveries.lost(), 0);
}

#[test]
fn a_batch_that_is_refused_is_lost_and_counted_and_the_next_one_is_sent() {
    let sending = Sending::with_room_for(10);
    sending.hand_over(3);
    let refused = "HTTP export failed with status code: 400";
    let refused = Err(OTelSdkError::InternalFailure(refused.into()));
    sending.answer.send(refused).unwrap();
    assert!(sending.results.recv().unwrap().is_err());
    assert_eq!(sending.deliveries.lost(), 3);
    sending.hand_over(2);
    sending.answer.send(Ok(())).unwrap();
    assert!(sending.results.recv().unwrap().is_ok());
    assert_eq!(sending.deliveries.lost(), 3);
}

#[test]
fn what_has_no_room_beside_spans_on_their_way_is_lost_and_counted() {
    let sending = Sending::with_room_for(5);
    assert_eq!(sending.hand_over(3), 3);
    assert_eq!(sending.asked.recv(), Ok(3));
    assert_eq!(sending.hand_over(4), 2);
    assert_eq!(sending.deliveries.lost(), 2);
    for _ in 0..2 {
        sending.answer.send(Ok(())).unwrap();
        assert!(sending.results.recv().unwrap().is_ok());
    }
    assert_eq!(sending.hand_over(5), 5);
    assert_eq!(sending.deliveries.lost(), 2);
}

#[test]
fn a_process_that_ends_sends_a_batch_once_more_and_counts_what_is_left() {
    let sending = Sending::with_room_for(10);
    sending.hand_over(3);
    sending.answer.send(away()).unwrap();
    assert_eq!(sending.asked.recv(), Ok(3));
    sending.deliveries.begin_ending();
    assert_eq!(sending.asked.recv(), Ok(3), "the last attempt");
    sending.answer.send(away()).unwrap();
    assert!(sending.results.recv().unwrap().is_err());
    assert_eq!(sending.deliveries.lost(), 3);
    // Taken, and not in any batch when the time is over.
    assert!(sending.deliveries.take() && sending.deliveries.take());
    sending.deliveries.end();
    assert_eq!(sending.deliveries.lost(), 5);
}
