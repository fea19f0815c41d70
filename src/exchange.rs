//! The life of one request: sent, read, stamped, and finished exactly once.
//!
//! Every instant is taken when bytes arrive, before they are looked into. Which timeout ended a
//! request is known here and nowhere else: no timer of the HTTP library is armed but the one for
//! connecting.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::endpoint::{Answer, Endpoint, Request};
use crate::event::{Event, Observe};
use crate::measurement::{Failure, FailureDetail, Measurement};
use crate::plan::Timeouts;
use crate::protocol::{self, Limits, Reply, Terminal, WholeReply};

/// The most that is read of an answer that is an error already.
const ERROR_BODY: usize = 64 * 1024;
/// How long to wait for a body to end once everything in it has been said, so that the connection
/// can be used again.
const FAREWELL: Duration = Duration::from_millis(100);

/// What to send and how to judge what comes back.
#[derive(Clone, Debug)]
pub struct Order {
    /// When the schedule wanted it sent.
    pub due: Instant,
    /// The request.
    pub request: Request,
    /// Which end proves that the answer is complete.
    pub terminal: Terminal,
    /// How long to wait for what.
    pub timeouts: Timeouts,
}

/// Sends an order and reads its answer, telling `observer` of everything as it happens, the end
/// included.
///
/// # Errors
/// The class of the failure, which the observer has been told with its words.
pub async fn exchange<E: Endpoint>(
    endpoint: &E,
    order: Order,
    observer: &(impl Observe + ?Sized),
) -> Result<(), Failure> {
    let sent = Instant::now();
    observer.observe(Event::Sent { lag: sent.saturating_duration_since(order.due) });
    match converse(endpoint, order, sent, observer).await {
        Ok(measurement) => {
            observer.observe(Event::Succeeded(&measurement));
            Ok(())
        }
        Err(detail) => {
            let duration = sent.elapsed();
            observer.observe(Event::Failed { detail: &detail, duration });
            Err(detail.failure)
        }
    }
}

async fn converse<E: Endpoint>(
    endpoint: &E,
    order: Order,
    sent: Instant,
    observer: &(impl Observe + ?Sized),
) -> Result<Measurement, FailureDetail> {
    let Order { due, request, terminal, timeouts } = order;
    let stream = request.stream;
    let mut watch = Watch::new(sent, timeouts, stream);
    let mut answer = watch.over(endpoint.send(request)).await??;
    let status = answer.status();
    observer.observe(Event::Answered { status });
    if status != 200 {
        let body = error_body(&mut answer, &mut watch).await;
        return Err(protocol::refusal(status, &body));
    }
    let is_stream = answer.content_type().is_some_and(protocol::is_event_stream);
    if stream && is_stream {
        read_stream(answer, Reply::new(terminal, Limits::default()), watch, due, observer).await
    } else {
        let mut whole = WholeReply::new(Limits::default());
        while let Some(bytes) = watch.over(answer.chunk()).await?? {
            whole.read(&bytes)?;
        }
        let end = Instant::now();
        if stream {
            return Err(whole.instead_of_stream());
        }
        let ending = whole.end()?;
        Ok(Measurement {
            due,
            sent,
            first_token: None,
            last_token: None,
            end,
            usage: ending.usage,
            reasoning_shown: ending.reasoning_shown,
            anomalies: ending.anomalies,
        })
    }
}

async fn read_stream<A: Answer>(
    mut answer: A,
    mut reply: Reply,
    mut watch: Watch,
    due: Instant,
    observer: &(impl Observe + ?Sized),
) -> Result<Measurement, FailureDetail> {
    let sent = watch.sent;
    let (mut first_token, mut last_token) = (None, None);
    let end = loop {
        let Some(bytes) = watch.over(answer.chunk()).await?? else { break Instant::now() };
        let now = Instant::now();
        watch.last_byte = now;
        let progress = reply.read(&bytes, &mut |_, _, _| {});
        // What was said before an error was said all the same.
        let said = reply.token_events_of_last_read();
        if said > 0 {
            if first_token.is_none() {
                first_token = Some(now);
                watch.first_token_came();
                observer.observe(Event::FirstToken {
                    since_sent: now.saturating_duration_since(sent),
                    since_due: now.saturating_duration_since(due),
                });
            }
            let gap = last_token.map(|last| now.saturating_duration_since(last));
            observer.observe(Event::Chunks { count: said, gap });
            last_token = Some(now);
        }
        if progress?.finished {
            // The rest is silence; whether it ends well changes nothing.
            let rest = async { while let Ok(Some(_)) = answer.chunk().await {} };
            let _in_time = tokio::time::timeout(FAREWELL, rest).await;
            break now;
        }
    };
    let ending = reply.end()?;
    Ok(Measurement {
        due,
        sent,
        first_token,
        last_token,
        end,
        usage: ending.usage,
        reasoning_shown: ending.reasoning_shown,
        anomalies: ending.anomalies,
    })
}

/// The start of the body of an answer that is an error already: nothing about it can fail.
async fn error_body<A: Answer>(answer: &mut A, watch: &mut Watch) -> Vec<u8> {
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

    /// What ends the request next if nothing happens, and when.
    fn deadline(&self) -> (Instant, Failure, Duration) {
        let total = (self.sent + self.timeouts.total, Failure::TimeoutTotal, self.timeouts.total);
        let earlier = if self.waiting_for_first_token {
            let patience = self.timeouts.first_token;
            (self.sent + patience, Failure::TimeoutFirstToken, patience)
        } else if self.streaming {
            (self.last_byte + self.timeouts.idle, Failure::TimeoutIdle, self.timeouts.idle)
        } else {
            return total;
        };
        if earlier.0 < total.0 { earlier } else { total }
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
