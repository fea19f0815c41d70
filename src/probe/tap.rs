//! One request through the exchange that a load uses, with somebody who listens in: what a load has no
//! use for (which kind of text came first, why the answer stopped) is read from the same bytes.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::time::Instant;

use super::Streamed;
use crate::endpoint::{ConnectTiming, Endpoint, Request, Response};
use crate::event::{Arrival, Event, Observe};
use crate::exchange::{RequestSpec, exchange};
use crate::measurement::{Failure, FailureDetail, FinishReason, Measurement};
use crate::plan::{RequestParameters, Target};
use crate::protocol::{Channel, Limits, Reply, Terminal};

/// Sends one prompt and hears the answer out.
pub async fn stream<E: Endpoint>(
    endpoint: &Arc<E>,
    target: &Target,
    model: &str,
    parameters: &RequestParameters,
    prompt: &str,
) -> Streamed {
    let ear = Arc::new(Mutex::new(Ear::new(target.terminal)));
    let tap = Tap { endpoint: Arc::clone(endpoint), ear: Arc::clone(&ear) };
    let request_spec = || {
        Ok(RequestSpec {
            request: Request {
                path: target.dialect.path(),
                body: target.dialect.encode(model, parameters, &prompt.into()).into(),
                stream: parameters.stream,
                trace: None,
            },
            model: model.to_owned(),
            terminal: target.terminal,
            usage_asked: target.dialect.include_usage,
            timeouts: target.timeouts,
        })
    };
    let notes = Mutex::new(Notes::default());
    let arrival = Arrival { k: 0, due: Instant::now(), phase: None, lengths: None };
    exchange(&tap, arrival, request_spec, &notes).await.drain_body().await;
    let notes = notes.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut ear = ear.lock().unwrap_or_else(PoisonError::into_inner);
    let since = |at: Instant| {
        notes.sent.map_or_else(Default::default, |sent| at.saturating_duration_since(sent))
    };
    Streamed {
        connected: notes.connected,
        head: notes.head.map(|(status, at)| (status, since(at))),
        first_event: ear.first_event.map(since),
        first_text_event: ear.first_text.map(|(_, at)| since(at)),
        chunks: notes.chunks,
        reads: notes.reads,
        finish: ear.finish(Instant::now()),
        first_text: ear.first_text.map(|(channel, _)| channel),
        outcome: notes.outcome.unwrap_or_else(|| {
            Err(FailureDetail::new(Failure::Internal, "the request ended without an outcome"))
        }),
    }
}

/// What the exchange tells of itself.
#[derive(Default)]
struct Notes {
    sent: Option<Instant>,
    connected: Option<ConnectTiming>,
    head: Option<(u16, Instant)>,
    chunks: u32,
    reads: u32,
    outcome: Option<Result<Measurement, FailureDetail>>,
}

impl Observe for Mutex<Notes> {
    fn observe(&self, _: &Arrival, event: Event<'_>) {
        let mut notes = self.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Sent { .. } => notes.sent = Some(Instant::now()),
            Event::ResponseHead { status } => notes.head = Some((status, Instant::now())),
            Event::Chunks { count, .. } => {
                notes.chunks = notes.chunks.saturating_add(count);
                notes.reads += 1;
            }
            Event::Succeeded(measurement) => notes.outcome = Some(Ok(measurement.clone())),
            Event::Failed { detail, .. } => notes.outcome = Some(Err(detail.clone())),
            Event::Connected { dns, connect } => {
                notes.connected = Some(ConnectTiming { dns, connect })
            }
            Event::FirstToken { .. } | Event::RateLimits(_) | Event::Dropped(_) => {}
        }
    }
}

/// Reads along.
struct Ear {
    reply: Reply,
    first_event: Option<Instant>,
    /// What kind it was, and when the read came that brought it.
    first_text: Option<(Channel, Instant)>,
}

impl Ear {
    fn new(terminal: Terminal) -> Ear {
        Ear { reply: Reply::new(terminal, Limits::default()), first_event: None, first_text: None }
    }

    fn hear(&mut self, bytes: &[u8], now: Instant) {
        let first = &mut self.first_text;
        let mut sink = |_, channel, _: &str| _ = first.get_or_insert((channel, now));
        let progress = self.reply.read(bytes, &mut sink);
        if progress.events > 0 {
            self.first_event.get_or_insert(now);
        }
    }

    /// Nothing more will come: why it stopped, if it ended well and said so.
    fn finish(&mut self, now: Instant) -> Option<FinishReason> {
        let first = &mut self.first_text;
        let end =
            self.reply.end(&mut |_, channel, _: &str| _ = first.get_or_insert((channel, now)));
        end.verdict.ok()?.finish
    }
}

/// An endpoint whose answers somebody else reads too.
struct Tap<E> {
    endpoint: Arc<E>,
    ear: Arc<Mutex<Ear>>,
}

impl<E: Endpoint> Endpoint for Tap<E> {
    type Response = Tapped<E::Response>;

    async fn send(&self, request: Request) -> Result<Tapped<E::Response>, FailureDetail> {
        let answer = self.endpoint.send(request).await?;
        Ok(Tapped { answer, ear: Arc::clone(&self.ear) })
    }

    fn redact(&self, words: String) -> String {
        self.endpoint.redact(words)
    }
}

struct Tapped<A> {
    answer: A,
    ear: Arc<Mutex<Ear>>,
}

impl<A: Response> Response for Tapped<A> {
    fn status(&self) -> u16 {
        self.answer.status()
    }

    fn content_type(&self) -> Option<&str> {
        self.answer.content_type()
    }

    fn content_encoding(&self) -> Option<&str> {
        self.answer.content_encoding()
    }

    fn connect_timing(&self) -> Option<ConnectTiming> {
        self.answer.connect_timing()
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>, FailureDetail> {
        let bytes = self.answer.chunk().await?;
        let now = Instant::now();
        if let Some(bytes) = &bytes {
            self.ear.lock().unwrap_or_else(PoisonError::into_inner).hear(bytes, now);
        }
        Ok(bytes)
    }
}
