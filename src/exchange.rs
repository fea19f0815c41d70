//! The life of one request: llmload sends it, reads its response, measures the time of each event,
//! and reports exactly one success or failure.
//!
//! The clock is read when bytes arrive, before the bytes are decoded. The endpoint has the timeout
//! for connecting, because only the endpoint knows whether a request needs a new connection. All
//! other timeouts are in this module, so this module knows which timeout ended a request.

mod reading;
mod timer;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::Instant;

use crate::endpoint::{ConnectTiming, Endpoint, Request, Response, SendStep};
use crate::event::{Arrival, Event, Evidence, Observe, RequestIds};
use crate::guard::RequestOutcome;
use crate::measurement::{ClientFault, Failure, FailureCause, FailureDetail, Usage};
use crate::pairing::Timing;
use crate::plan::Timeouts;
use crate::protocol::{self, Answer, Api, BodyReader, ResponseLimits, StreamReader, Terminal};
use reading::{
    BodyStart, ReadResponse, TokenTimes, read_body, read_stream, start_of_body, start_of_stream,
};
use timer::RequestTimer;

/// The time to wait for the end of a body when the result of the request is already known. If the
/// body ends within this time, the connection can be reused.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(100);

/// A request, and the rules for its response.
#[derive(Clone, Debug)]
pub struct RequestSpec {
    pub request: Request,
    /// The model in the request.
    pub model: String,
    /// The API that decodes the response.
    pub api: Api,
    /// The proof that the response is complete: by default, a finish reason. The user sets it with
    /// the key `terminal`.
    pub terminal: Terminal,
    /// True if llmload requests usage. In this case, a response without usage is an anomaly.
    pub expects_usage: bool,
    /// The number of vectors in a complete response. 0 if the API has no vectors.
    pub expected_vectors: usize,
    pub timeouts: Timeouts,
    /// True if a later turn of a session needs the answer.
    pub keeps_answer: bool,
}

/// A request that has succeeded or failed. The rest of its response body can still be unread.
#[derive(Debug)]
#[must_use = "call `drain_body`, so the connection can be reused"]
pub struct Finished<R> {
    /// The times of a success, or the class of a failure. The observer has already received the
    /// details.
    pub outcome: Result<Timing, Failure>,
    /// The tokens that the endpoint counted. All unknown if the request failed.
    pub usage: Usage,
    /// The wait that the endpoint requested in the response head.
    pub retry_after: Option<Duration>,
    /// True if llmload has possibly sent a part of the request.
    pub was_sent: bool,
    /// The status of a response that refused the request.
    pub refusal: Option<u16>,
    /// `None` unless the request keeps its answer.
    pub answer: Option<Answer>,
    /// The instant at which the last event of the response arrived, or at which the request
    /// failed.
    pub end: Instant,
    /// The response, if its body has not ended yet.
    undrained: Option<R>,
}

impl<R: Response> Finished<R> {
    /// The facts that the limits need.
    pub fn request_outcome(&self) -> RequestOutcome {
        let Finished { outcome, usage, retry_after, was_sent, refusal, .. } = *self;
        RequestOutcome { failure: outcome.err(), usage, retry_after, was_sent, refusal }
    }

    /// Reads the rest of the body for at most `DRAIN_TIMEOUT`, so the connection can be reused.
    /// Errors are ignored, because the result of the request is already known and reported.
    pub async fn drain_body(self) {
        let Some(mut response) = self.undrained else { return };
        let drain = async { while let Ok(Some(_)) = response.chunk().await {} };
        let _in_time = tokio::time::timeout(DRAIN_TIMEOUT, drain).await;
    }
}

/// Creates the request of an arrival, sends the request and reads the response. The observer
/// receives each event at the instant when the event occurs. Among these events is exactly one
/// success or failure.
pub async fn exchange<E: Endpoint>(
    endpoint: &E,
    arrival: Arrival,
    make_request: impl FnOnce() -> Result<RequestSpec, FailureDetail>,
    observer: &(impl Observe + ?Sized),
) -> Finished<E::Response> {
    // A panic makes only this request fail. It is reported and counted like any other failure.
    let request_spec = catch_unwind(AssertUnwindSafe(make_request))
        .unwrap_or_else(|panic| Err(panic_failure(&*panic)));
    let sending = Sending::new(&arrival, observer);
    let mut names = RequestIds::default();
    let mut retry_after = None;
    let mut evidence = Evidence::new(observer.needs_evidence());
    let result = match request_spec {
        Ok(request_spec) => {
            names.trace = request_spec.request.trace;
            evidence.add_request(&request_spec.request.body);
            let head = HeadFacts {
                request_id: &mut names.request_id,
                retry_after: &mut retry_after,
                evidence: &mut evidence,
            };
            let work = send_and_read(endpoint, &sending, request_spec, head);
            let work = AssertUnwindSafe(work).catch_unwind();
            work.await.unwrap_or_else(|panic| Err(panic_failure(&*panic)))
        }
        Err(detail) => Err(detail),
    };
    let has_begun = sending.waited.get().is_some();
    // The arrival counts as sent even if its request could not be made.
    sending.end();
    match result {
        Ok(ReadResponse { measurement, answer, undrained }) => {
            observer.observe(&arrival, Event::Succeeded(&measurement));
            let timing = Timing {
                first_token: measurement.time_to_first_token(),
                time_per_output_token: measurement.time_per_output_token(),
                duration: measurement.duration(),
            };
            let usage = measurement.usage;
            let (was_sent, refusal) = (true, None);
            let (outcome, end) = (Ok(timing), measurement.end);
            Finished { outcome, usage, retry_after, was_sent, refusal, answer, end, undrained }
        }
        Err(detail) => {
            let now = Instant::now();
            let duration = now.saturating_duration_since(sending.instant());
            let since_due = now.saturating_duration_since(arrival.due);
            // Every message passes here before anyone can see it, so secrets are removed here.
            let message = endpoint.redact(detail.message.clone());
            let detail = detail.with_message(&message);
            names.request_id = names.request_id.map(|id| endpoint.redact(id));
            evidence.is_retried = sending.is_retried.load(Ordering::Relaxed);
            let (detail, ids, evidence) = (&detail, &names, &evidence);
            observer
                .observe(&arrival, Event::Failed { detail, duration, since_due, ids, evidence });
            let (outcome, usage) = (Err(detail.failure), Usage::default());
            let was_sent = has_begun && !detail.is_unsent;
            let refusal = match detail.cause {
                Some(FailureCause::Status(status)) => Some(status),
                _ => None,
            };
            let (answer, undrained, end) = (None, None, now);
            Finished { outcome, usage, retry_after, was_sent, refusal, answer, end, undrained }
        }
    }
}

/// The sending of a request. The observer receives [`Event::Sent`] once, at the latest when the
/// request ends.
struct Sending<'a, O: Observe + ?Sized> {
    arrival: &'a Arrival,
    observer: &'a O,
    /// The instant at which the endpoint got the request.
    begin: Instant,
    /// The time in which the request waited inside llmload, if it is known.
    waited: Arc<OnceLock<Duration>>,
    /// True if the request has waited for a free HTTP/2 stream.
    is_queued: AtomicBool,
    /// True if llmload has sent the request once more.
    is_retried: AtomicBool,
}

impl<'a, O: Observe + ?Sized> Sending<'a, O> {
    fn new(arrival: &'a Arrival, observer: &'a O) -> Sending<'a, O> {
        Sending {
            arrival,
            observer,
            begin: Instant::now(),
            waited: Arc::default(),
            is_queued: AtomicBool::new(false),
            is_retried: AtomicBool::new(false),
        }
    }

    /// Records that the request has waited. Only the first call counts.
    fn record(&self, waited: Duration) {
        if self.waited.set(waited).is_ok() {
            let lag = self.instant().saturating_duration_since(self.arrival.due);
            // Without HTTP/2, a request waits only for the connecting of other requests.
            let is_for_stream = self.is_queued.load(Ordering::Relaxed);
            let waited = if is_for_stream { waited } else { Duration::ZERO };
            self.observer.observe(self.arrival, Event::Sent { lag, waited });
        }
    }

    /// Records the sending of a request that has ended. A request that still waits for a stream was
    /// never sent, and its time is a wait.
    fn end(&self) {
        let waited = if self.is_queued() { self.begin.elapsed() } else { Duration::ZERO };
        self.record(waited);
    }

    /// Returns true if the request waits for a free HTTP/2 stream.
    fn is_queued(&self) -> bool {
        self.is_queued.load(Ordering::Relaxed) && self.waited.get().is_none()
    }

    fn waited(&self) -> Duration {
        self.waited.get().copied().unwrap_or_default()
    }

    /// Returns the instant at which the times of the request begin.
    fn instant(&self) -> Instant {
        self.begin + self.waited()
    }
}

/// llmload can abort a request at any time.
impl<O: Observe + ?Sized> Drop for Sending<'_, O> {
    fn drop(&mut self) {
        self.end();
    }
}

/// Returns the failure of a request that reached its timeout before it had a stream.
fn no_stream(detail: &FailureDetail) -> FailureDetail {
    let message = format!("no HTTP/2 stream was free: {}", detail.message);
    FailureDetail::new(Failure::ClientResource, &message)
        .with_cause(FailureCause::Client(ClientFault::Streams))
}

/// Returns the failure for a panic. The panic handler has already logged the panic.
fn panic_failure(panic: &(dyn Any + Send)) -> FailureDetail {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    FailureDetail::new(
        Failure::Internal,
        &format!("llmload panicked: {}", text.unwrap_or("no message")),
    )
}

/// The facts of a response head that remain known if the request fails later.
struct HeadFacts<'a> {
    /// The id that the endpoint gave to the request.
    request_id: &'a mut Option<String>,
    retry_after: &'a mut Option<Duration>,
    evidence: &'a mut Evidence,
}

/// Sends a request and reads its response.
async fn send_and_read<E: Endpoint>(
    endpoint: &E,
    sending: &Sending<'_, impl Observe + ?Sized>,
    request_spec: RequestSpec,
    HeadFacts { request_id, retry_after, evidence }: HeadFacts<'_>,
) -> Result<ReadResponse<E::Response>, FailureDetail> {
    let RequestSpec {
        request,
        model,
        api,
        terminal,
        expects_usage,
        expected_vectors,
        timeouts,
        keeps_answer,
    } = request_spec;
    let is_stream = request.stream;
    let Sending { arrival, observer, begin, .. } = *sending;
    let mut timer = RequestTimer::new(begin, Arc::clone(&sending.waited), timeouts, is_stream);
    let report = |step| match step {
        SendStep::Begun { waited } => sending.record(waited),
        SendStep::Queued => sending.is_queued.store(true, Ordering::Relaxed),
        SendStep::Retried => {
            sending.is_retried.store(true, Ordering::Relaxed);
            observer.observe(arrival, Event::ConnectionRetried);
        }
    };
    let response = timer.send(|| endpoint.send(request.clone(), report)).await;
    let mut response = response.map_err(|detail| match detail.failure {
        Failure::TimeoutFirstToken | Failure::TimeoutTotal if sending.is_queued() => {
            no_stream(&detail)
        }
        _ => detail,
    })?;
    if let Some(ConnectTiming { dns, connect }) = response.connect_timing() {
        observer.observe(arrival, Event::Connected { dns, connect });
    }
    observer.observe(arrival, Event::ResponseHead { status: response.status() });
    if let Some(limits) = response.rate_limits() {
        *retry_after = limits.retry_after;
        observer.observe(arrival, Event::RateLimits(&limits));
    }
    *request_id = response.request_id();
    evidence.add_head(response.status(), response.headers());
    check_head(&mut response, &mut timer, evidence).await?;
    if !is_stream {
        let reader = BodyReader::new(api, ResponseLimits::default())
            .with_requested_model(&model)
            .with_expected_vectors(expected_vectors)
            .with_answer(keeps_answer);
        return read_body(response, reader, timer, arrival.due, evidence).await;
    }
    let mut first_read = None;
    if !response.content_type().is_some_and(protocol::is_event_stream) {
        match start_of_stream(&mut response, &mut timer, evidence).await? {
            BodyStart::Stream(bytes, at) => first_read = Some((bytes.into(), at)),
            BodyStart::Other(body) => return Err(protocol::explain_missing_stream(api, &body)),
        }
    }
    let reader = StreamReader::new(api, terminal, ResponseLimits::default())
        .with_requested_model(&model)
        .with_expected_usage(expects_usage)
        .with_answer(keeps_answer);
    let tokens = TokenTimes::new(timer.sent(), arrival, observer, evidence);
    read_stream(response, first_read, reader, timer, tokens).await
}

/// Returns a failure if the status is not 200 or if the body is encoded, for example with gzip.
///
/// llmload requests no encoding and decodes none, because a small encoded body can decode to a huge
/// one.
async fn check_head<R: Response>(
    response: &mut R,
    timer: &mut RequestTimer,
    evidence: &mut Evidence,
) -> Result<(), FailureDetail> {
    let status = response.status();
    let encoding = response.content_encoding().map(str::to_owned);
    if status != 200 {
        // An encoded body is not read. The message then contains the status only.
        let body = match encoding {
            None => start_of_body(response, timer, Vec::new(), evidence).await,
            Some(_) => Vec::new(),
        };
        return Err(protocol::failure_of_status(status, &body));
    }
    if let Some(encoding) = encoding {
        let message = format!("the response has the encoding {encoding}, which was not requested");
        let detail = FailureDetail::new(Failure::HttpProtocol, &message);
        return Err(detail.with_cause(FailureCause::Encoded));
    }
    Ok(())
}
