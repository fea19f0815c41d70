//! Sends one request with the same function as a load, [`exchange`]. It also inspects the bytes of
//! the response for facts that a load does not need, such as the finish reason.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::time::Instant;

use super::ProbedRequest;
use crate::endpoint::{ConnectTiming, Endpoint, Request, Response, SendStep};
use crate::event::{Arrival, Event, Observe};
use crate::exchange::{RequestSpec, exchange};
use crate::measurement::{Failure, FailureDetail, FinishReason, Measurement};
use crate::plan::{RequestParameters, Target};
use crate::protocol::{Api, Channel, ResponseLimits, StreamReader, Terminal};

pub async fn send<E: Endpoint>(
    endpoint: &Arc<E>,
    target: &Target,
    model: &str,
    parameters: &RequestParameters,
    prompt: &str,
) -> ProbedRequest {
    let body = target.dialect.encode(model, parameters, &prompt.into());
    let stream = target.dialect.streams(parameters);
    send_body(endpoint, target, model, body.into(), stream).await
}

/// Sends a complete request body.
pub async fn send_body<E: Endpoint>(
    endpoint: &Arc<E>,
    target: &Target,
    model: &str,
    body: Bytes,
    stream: bool,
) -> ProbedRequest {
    let inspector = Arc::new(Mutex::new(Inspector::new(target.dialect.api, target.terminal)));
    let inspected =
        InspectedEndpoint { endpoint: Arc::clone(endpoint), inspector: Arc::clone(&inspector) };
    let expected_vectors = target.dialect.expected_vectors_of_body(&body);
    let request_spec = || {
        Ok(RequestSpec {
            request: Request {
                path: target.dialect.path(),
                body,
                stream,
                trace: None,
                session: None,
            },
            model: model.to_owned(),
            api: target.dialect.api,
            terminal: target.terminal,
            expects_usage: target.dialect.include_usage,
            expected_vectors,
            timeouts: target.timeouts,
            keeps_answer: false,
        })
    };
    let record = Mutex::new(EventRecord::default());
    let arrival = Arrival { k: 0, due: Instant::now(), phase: None, lengths: None, turn: 0 };
    exchange(&inspected, arrival, request_spec, &record).await.drain_body().await;
    let record = record.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut inspector = inspector.lock().unwrap_or_else(PoisonError::into_inner);
    let since = |at: Instant| {
        record.sent.map_or_else(Default::default, |sent| at.saturating_duration_since(sent))
    };
    ProbedRequest {
        connect_timing: record.connect_timing,
        head: record.head.map(|(status, at)| (status, since(at))),
        first_event: inspector.first_event.map(since),
        first_text_event: inspector.first_text.map(|(_, at)| since(at)),
        chunks: record.chunks,
        reads: record.reads,
        finish: inspector.finish(Instant::now()),
        first_text: inspector.first_text.map(|(channel, _)| channel),
        outcome: record.outcome.unwrap_or_else(|| {
            Err(FailureDetail::new(Failure::Internal, "the request ended without an outcome"))
        }),
    }
}

#[derive(Default)]
struct EventRecord {
    sent: Option<Instant>,
    connect_timing: Option<ConnectTiming>,
    head: Option<(u16, Instant)>,
    chunks: u32,
    reads: u32,
    outcome: Option<Result<Measurement, FailureDetail>>,
}

impl Observe for Mutex<EventRecord> {
    fn observe(&self, arrival: &Arrival, event: Event<'_>) {
        let mut record = self.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Sent { lag, .. } => record.sent = Some(arrival.due + lag),
            Event::ResponseHead { status } => record.head = Some((status, Instant::now())),
            Event::Chunks { count, .. } => {
                record.chunks = record.chunks.saturating_add(count);
                record.reads += 1;
            }
            Event::Succeeded(measurement) => record.outcome = Some(Ok(measurement.clone())),
            Event::Failed { detail, .. } => record.outcome = Some(Err(detail.clone())),
            Event::Connected { dns, connect } => {
                record.connect_timing = Some(ConnectTiming { dns, connect });
            }
            Event::FirstToken { .. }
            | Event::FirstAnswerToken { .. }
            | Event::RateLimits(_)
            | Event::ConnectionRetried
            | Event::BreakerChanged(_)
            | Event::Dropped(_) => {}
        }
    }
}

/// Decodes a response a second time, for facts that only the probe needs.
struct Inspector {
    reader: StreamReader,
    first_event: Option<Instant>,
    /// The kind of the first text, and the time at which llmload read it.
    first_text: Option<(Channel, Instant)>,
}

impl Inspector {
    fn new(api: Api, terminal: Terminal) -> Inspector {
        let reader = StreamReader::new(api, terminal, ResponseLimits::default());
        Inspector { reader, first_event: None, first_text: None }
    }

    fn read(&mut self, bytes: &[u8], now: Instant) {
        let first = &mut self.first_text;
        let mut sink = |_, channel, _: &str| _ = first.get_or_insert((channel, now));
        let progress = self.reader.read(bytes, &mut sink);
        if progress.events > 0 {
            self.first_event.get_or_insert(now);
        }
    }

    /// Returns the finish reason of a complete response.
    fn finish(&mut self, now: Instant) -> Option<FinishReason> {
        let first = &mut self.first_text;
        let end =
            self.reader.end(&mut |_, channel, _: &str| _ = first.get_or_insert((channel, now)));
        end.verdict.ok()?.finish
    }
}

/// An endpoint that passes the bytes of its responses to an inspector.
struct InspectedEndpoint<E> {
    endpoint: Arc<E>,
    inspector: Arc<Mutex<Inspector>>,
}

impl<E: Endpoint> Endpoint for InspectedEndpoint<E> {
    type Response = InspectedResponse<E::Response>;

    async fn send(
        &self,
        request: Request,
        report: impl FnMut(SendStep) + Send,
    ) -> Result<InspectedResponse<E::Response>, FailureDetail> {
        let response = self.endpoint.send(request, report).await?;
        Ok(InspectedResponse { response, inspector: Arc::clone(&self.inspector) })
    }

    fn redact(&self, text: String) -> String {
        self.endpoint.redact(text)
    }
}

struct InspectedResponse<R> {
    response: R,
    inspector: Arc<Mutex<Inspector>>,
}

impl<R: Response> Response for InspectedResponse<R> {
    fn status(&self) -> u16 {
        self.response.status()
    }

    fn content_type(&self) -> Option<&str> {
        self.response.content_type()
    }

    fn content_encoding(&self) -> Option<&str> {
        self.response.content_encoding()
    }

    fn connect_timing(&self) -> Option<ConnectTiming> {
        self.response.connect_timing()
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>, FailureDetail> {
        let bytes = self.response.chunk().await?;
        let now = Instant::now();
        if let Some(bytes) = &bytes {
            self.inspector.lock().unwrap_or_else(PoisonError::into_inner).read(bytes, now);
        }
        Ok(bytes)
    }
}
