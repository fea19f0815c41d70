//! The life of one request: sent, read, stamped, and finished exactly once.
//!
//! Every instant is taken when bytes arrive, before they are looked into. Which timeout ended a
//! request is known here and nowhere else: no timer of the HTTP library is armed but the one for
//! connecting.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{Instant, Sleep};

use crate::endpoint::{ConnectTiming, Endpoint, Request, Response};
use crate::event::{Arrival, Event, Observe, RequestIds};
use crate::measurement::{Failure, FailureDetail, Measurement};
use crate::pairing::Timing;
use crate::plan::Timeouts;
use crate::protocol::{self, Channel, Limits, Reply, Terminal, WholeReply, no_sink};

/// The most that is read of an answer that is an error already.
const ERROR_BODY: usize = 64 * 1024;
/// How long to wait for a body to end once everything in it has been said, so that the connection
/// can be used again.
const FAREWELL: Duration = Duration::from_millis(100);

/// How long an endpoint may be silent once the end that `terminal` names has come. What may follow
/// is a usage chunk and `[DONE]`: engines send them in the same breath, gateways that count tokens
/// themselves within some tenths of a second.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What to send and how to judge what comes back.
#[derive(Clone, Debug)]
pub struct RequestSpec {
    /// The request.
    pub request: Request,
    /// The model it names.
    pub model: String,
    /// Which end proves that the answer is complete.
    pub terminal: Terminal,
    /// Whether it asks for usage, so that it is odd if none comes.
    pub usage_asked: bool,
    /// How long to wait for what.
    pub timeouts: Timeouts,
}

/// A request whose outcome is known; its connection may still have an end to read.
#[derive(Debug)]
#[must_use = "its connection is closed unless its farewell is heard"]
pub struct Finished<R> {
    /// What it took, or the class of the failure. The observer has been told, with its words.
    pub outcome: Result<Timing, Failure>,
    rest: Option<R>,
}

impl<R: Response> Finished<R> {
    /// Reads on to the end of the body, but not for long, so that the connection can be used again.
    /// Whether it ends well changes nothing: the request is over, and holds neither its place in
    /// the ledger nor its slot while this goes on.
    pub async fn drain_body(self) {
        let Some(mut answer) = self.rest else { return };
        let rest = async { while let Ok(Some(_)) = answer.chunk().await {} };
        let _in_time = tokio::time::timeout(FAREWELL, rest).await;
    }
}

/// Makes the order of an arrival, sends it and reads its answer, telling `observer` of everything as it
/// happens, the end included.
pub async fn exchange<E: Endpoint>(
    endpoint: &E,
    arrival: Arrival,
    order: impl FnOnce() -> Result<RequestSpec, FailureDetail>,
    observer: &(impl Observe + ?Sized),
) -> Finished<E::Response> {
    // A defect ends this one request, and is told and counted like every other failure.
    let order = catch_unwind(AssertUnwindSafe(order)).unwrap_or_else(|panic| Err(defect(&*panic)));
    let sent = Instant::now();
    let mut names = RequestIds::default();
    // Also where there is no order: it counts as started.
    observer.observe(&arrival, Event::Sent { lag: sent.saturating_duration_since(arrival.due) });
    let conversation = match order {
        Ok(order) => {
            names.trace = order.request.trace;
            let conversation =
                converse(endpoint, &arrival, order, sent, observer, &mut names.request_id);
            let conversation = AssertUnwindSafe(conversation).catch_unwind();
            conversation.await.unwrap_or_else(|panic| Err(defect(&*panic)))
        }
        Err(detail) => Err(detail),
    };
    match conversation {
        Ok((measurement, rest)) => {
            observer.observe(&arrival, Event::Succeeded(&measurement));
            let first_token = measurement.time_to_first_token();
            let timing = Timing { first_token, duration: measurement.duration() };
            Finished { outcome: Ok(timing), rest }
        }
        Err(detail) => {
            let now = Instant::now();
            let duration = now.saturating_duration_since(sent);
            let since_due = now.saturating_duration_since(arrival.due);
            // The one place that every failure passes before anybody sees its words.
            let message = endpoint.redact(detail.message.clone());
            let detail = detail.with_message(&message);
            names.request_id = names.request_id.map(|id| endpoint.redact(id));
            observer.observe(
                &arrival,
                Event::Failed { detail: &detail, duration, since_due, ids: &names },
            );
            Finished { outcome: Err(detail.failure), rest: None }
        }
    }
}

/// A panic, which has been logged where it happened, as a failure.
fn defect(panic: &(dyn Any + Send)) -> FailureDetail {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    FailureDetail::new(Failure::Internal, &format!("panicked: {}", text.unwrap_or("without words")))
}

async fn converse<E: Endpoint>(
    endpoint: &E,
    arrival: &Arrival,
    order: RequestSpec,
    sent: Instant,
    observer: &(impl Observe + ?Sized),
    request_id: &mut Option<String>,
) -> Result<(Measurement, Option<E::Response>), FailureDetail> {
    let RequestSpec { request, model, terminal, usage_asked, timeouts } = order;
    let streaming = request.stream;
    let mut watch = Watch::new(sent, timeouts, streaming);
    let mut answer = watch.over(endpoint.send(request)).await??;
    let status = answer.status();
    if let Some(ConnectTiming { dns, connect }) = answer.connect_timing() {
        observer.observe(arrival, Event::Connected { dns, connect });
    }
    observer.observe(arrival, Event::ResponseHead { status });
    if let Some(limits) = answer.rate_limits() {
        observer.observe(arrival, Event::RateLimits(&limits));
    }
    *request_id = answer.request_id();
    // Nothing is ever decoded: it was not asked for, and a small body may unfold to a huge one.
    let encoding = answer.content_encoding().map(str::to_owned);
    if status != 200 {
        // The status says enough where the words cannot be read.
        let body = match encoding {
            None => start_of_body(&mut answer, &mut watch).await,
            Some(_) => Vec::new(),
        };
        return Err(protocol::refusal(status, &body));
    }
    if let Some(encoding) = encoding {
        let words = format!("the answer is encoded as {encoding}, which was not asked for");
        return Err(FailureDetail::new(Failure::HttpProtocol, &words));
    }
    if !streaming {
        let reply = WholeReply::new(Limits::default()).expecting_model(&model);
        return Ok((read_whole(answer, reply, watch, arrival.due).await?, None));
    }
    if !answer.content_type().is_some_and(protocol::is_event_stream) {
        let body = start_of_body(&mut answer, &mut watch).await;
        return Err(protocol::not_a_stream(&body));
    }
    let reply = Reply::new(terminal, Limits::default())
        .expecting_model(&model)
        .expecting_usage(usage_asked);
    read_stream(answer, reply, watch, arrival, observer).await
}

/// Why reading stopped.
enum Stop {
    /// Nothing that matters will follow.
    Finished,
    /// The body ended cleanly.
    Ended(Instant),
    /// The answer was complete when the connection broke or fell silent.
    Enough,
}

async fn read_stream<R: Response>(
    mut answer: R,
    mut reply: Reply,
    mut watch: Watch,
    arrival: &Arrival,
    observer: &(impl Observe + ?Sized),
) -> Result<(Measurement, Option<R>), FailureDetail> {
    let sent = watch.sent;
    let (mut first_token, mut last_token) = (None, None);
    let mut spoke = |now: Instant, count: u32, watch: &mut Watch| {
        if count == 0 {
            return;
        }
        if first_token.is_none() {
            first_token = Some(now);
            watch.first_token_came();
            let since_sent = now.saturating_duration_since(sent);
            let since_due = now.saturating_duration_since(arrival.due);
            observer.observe(arrival, Event::FirstToken { since_sent, since_due });
        }
        let gap = last_token.map(|last| now.saturating_duration_since(last));
        observer.observe(arrival, Event::Chunks { count, gap });
        last_token = Some(now);
    };
    let mut last_event = sent;
    let stop = loop {
        let bytes = match watch.over(answer.chunk()).await {
            Ok(Ok(Some(bytes))) => bytes,
            Ok(Ok(None)) => break Stop::Ended(Instant::now()),
            // The answer is complete already; how the connection ends proves nothing against it.
            Ok(Err(_)) | Err(_) if reply.terminal_seen() => break Stop::Enough,
            Ok(Err(detail)) | Err(detail) => return Err(detail),
        };
        let now = Instant::now();
        watch.last_byte = now;
        let progress = reply.read(&bytes, &mut no_sink);
        spoke(now, progress.token_events, &mut watch);
        if progress.events > 0 {
            last_event = now;
            watch.said_all_at(reply.terminal_seen().then_some(now));
        }
        if progress.finished {
            break Stop::Finished;
        }
    };
    // An event that only the end of the body completes came with the last read.
    let last = reply.end(&mut no_sink);
    spoke(watch.last_byte, last.progress.token_events, &mut watch);
    if last.progress.events > 0 {
        last_event = watch.last_byte;
    }
    let ending = last.verdict?;
    let end = match stop {
        // Of an answer that names no end of its own, the end of the body is the end.
        Stop::Ended(at) if !reply.terminal_seen() => at,
        _ => last_event,
    };
    let measurement = Measurement {
        due: arrival.due,
        sent,
        first_token,
        last_token,
        end,
        usage: ending.usage,
        reasoning_shown: reply.text_bytes(Channel::Reasoning) > 0,
        anomalies: ending.anomalies,
    };
    Ok((measurement, matches!(stop, Stop::Finished).then_some(answer)))
}

async fn read_whole<R: Response>(
    mut answer: R,
    mut reply: WholeReply,
    mut watch: Watch,
    due: Instant,
) -> Result<Measurement, FailureDetail> {
    while let Some(bytes) = watch.over(answer.chunk()).await?? {
        if !reply.read(&bytes) {
            break;
        }
    }
    let end = Instant::now();
    let ending = reply.end(&mut no_sink)?;
    Ok(Measurement {
        due,
        sent: watch.sent,
        first_token: None,
        last_token: None,
        end,
        usage: ending.usage,
        reasoning_shown: reply.text_bytes(Channel::Reasoning) > 0,
        anomalies: ending.anomalies,
    })
}

/// The start of the body of an answer that is a failure already: nothing more about it can fail.
async fn start_of_body<R: Response>(answer: &mut R, watch: &mut Watch) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Ok(Some(bytes))) = watch.over(answer.chunk()).await {
        let room = ERROR_BODY - body.len();
        body.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if body.len() == ERROR_BODY {
            break;
        }
    }
    body
}

/// The timeouts of one request, on one timer. Deadlines that move later with every byte do not
/// move the timer; when it rings, it is set to what then comes first.
struct Watch {
    sent: Instant,
    timeouts: Timeouts,
    waiting_for_first_token: bool,
    streaming: bool,
    last_byte: Instant,
    /// When the last event came, once the answer is complete.
    said_all: Option<Instant>,
    timer: Pin<Box<Sleep>>,
}

impl Watch {
    fn new(sent: Instant, timeouts: Timeouts, streaming: bool) -> Watch {
        let mut watch = Watch {
            sent,
            timeouts,
            waiting_for_first_token: streaming,
            streaming,
            last_byte: sent,
            said_all: None,
            timer: Box::pin(tokio::time::sleep_until(sent)),
        };
        watch.set_timer();
        watch
    }

    /// From now on silence is what counts.
    fn first_token_came(&mut self) {
        self.waiting_for_first_token = false;
        self.set_timer();
    }

    /// An event came; `at` is when, if the answer is now complete.
    fn said_all_at(&mut self, at: Option<Instant>) {
        let sooner = self.said_all.is_none() && at.is_some();
        self.said_all = at;
        if sooner {
            self.set_timer();
        }
    }

    /// What ends the request next if nothing happens, and when.
    fn deadline(&self) -> (Instant, Failure, Duration) {
        let total = (self.sent + self.timeouts.total, Failure::TimeoutTotal, self.timeouts.total);
        let earlier = if let Some(at) = self.said_all {
            (at + LAST_WORDS, Failure::TimeoutIdle, LAST_WORDS)
        } else if self.waiting_for_first_token {
            let patience = self.timeouts.first_token;
            (self.sent + patience, Failure::TimeoutFirstToken, patience)
        } else if self.streaming {
            (self.last_byte + self.timeouts.idle, Failure::TimeoutIdle, self.timeouts.idle)
        } else {
            return total;
        };
        // Of two that end together, the one that says what was waited for.
        if earlier.0 <= total.0 { earlier } else { total }
    }

    fn set_timer(&mut self) {
        let (at, ..) = self.deadline();
        self.timer.as_mut().reset(at);
    }

    /// Waits for something, but not beyond the deadline.
    async fn over<T>(&mut self, work: impl Future<Output = T>) -> Result<T, FailureDetail> {
        let mut work = pin!(work);
        poll_fn(|context| {
            if let Poll::Ready(value) = work.as_mut().poll(context) {
                return Poll::Ready(Ok(value));
            }
            while self.timer.as_mut().poll(context).is_ready() {
                let (at, failure, patience) = self.deadline();
                if at <= Instant::now() {
                    let words = format!("gave up after {patience:?}");
                    return Poll::Ready(Err(FailureDetail::new(failure, &words)));
                }
                self.timer.as_mut().reset(at);
            }
            Poll::Pending
        })
        .await
    }
}
