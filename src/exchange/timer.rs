//! All timeouts of one request, with one timer.
//!
//! Time in which llmload did not run does not count, so a stop of llmload is not a timeout of the
//! server. The module [`deadline`](crate::deadline) explains how the timer finds this time.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::deadline::StallMeter;
use crate::measurement::{Failure, FailureCause, FailureDetail, LookupFault};
use crate::plan::Timeouts;

/// A failed attempt to connect is repeated if llmload did not run for at least this part of the
/// timeout for connecting: a tenth.
const EXCUSE: u32 = 10;

/// All timeouts of one request.
///
/// Whenever bytes arrive, the idle deadline moves to a later instant. To set the timer again each
/// time would cost too much on the measured path. So the timer keeps its old instant; when it rings
/// too early, it is set to a later instant.
pub(super) struct RequestTimer {
    begin: Instant,
    /// The time in which the request waited inside llmload, as soon as it is known. A timeout
    /// begins after this time.
    waited: Arc<OnceLock<Duration>>,
    timeouts: Timeouts,
    awaits_first_token: bool,
    is_stream: bool,
    pub(super) last_read: Instant,
    /// The instant of the last event if the response is complete, otherwise `None`.
    complete_since: Option<Instant>,
    stalls: StallMeter,
    /// The time in which llmload had not run before the last work ended.
    lost_before: Duration,
    sleep: Pin<Box<Sleep>>,
}

impl RequestTimer {
    pub(super) fn new(
        begin: Instant,
        waited: Arc<OnceLock<Duration>>,
        timeouts: Timeouts,
        is_stream: bool,
    ) -> RequestTimer {
        let Timeouts { connect, first_token, idle, total, .. } = timeouts;
        let mut timer = RequestTimer {
            begin,
            waited,
            timeouts,
            awaits_first_token: is_stream,
            is_stream,
            last_read: begin,
            complete_since: None,
            stalls: StallMeter::new(begin, connect.min(first_token).min(idle).min(total)),
            lost_before: Duration::ZERO,
            sleep: Box::pin(tokio::time::sleep_until(begin)),
        };
        timer.reset(begin);
        timer
    }

    /// Returns the instant of the sending.
    pub(super) fn sent(&self) -> Instant {
        self.begin + self.waited.get().copied().unwrap_or_default()
    }

    /// Ends the timeout of the first token and starts the idle timeout.
    pub(super) fn first_token_arrived(&mut self) {
        self.awaits_first_token = false;
        self.reset(self.last_read);
    }

    /// Sets the instant of the last event of a complete response, or `None` if the response is not
    /// complete.
    pub(super) fn set_complete(&mut self, at: Option<Instant>) {
        let became_complete = if self.complete_since.is_none() { at } else { None };
        self.complete_since = at;
        // Only a response that becomes complete can move the deadline to an earlier instant.
        if let Some(at) = became_complete {
            self.reset(at);
        }
    }

    /// Returns the next deadline, the failure class of a request that reaches this deadline, and
    /// the length of the timeout. `lost` is the time in which llmload did not run.
    fn deadline(&self, lost: Duration) -> (Instant, Failure, Duration) {
        // The timeouts that begin with the last read do not move by the time that was lost before.
        let lost_since_read = lost.saturating_sub(self.lost_before);
        let total = self.timeouts.total;
        let total = (self.sent() + total + lost, Failure::TimeoutTotal, total);
        let specific = if let Some(at) = self.complete_since {
            let timeout = self.timeouts.after_end;
            (at + timeout + lost_since_read, Failure::TimeoutIdle, timeout)
        } else if self.awaits_first_token {
            let timeout = self.timeouts.first_token;
            (self.sent() + timeout + lost, Failure::TimeoutFirstToken, timeout)
        } else if self.is_stream {
            let timeout = self.timeouts.idle;
            (self.last_read + timeout + lost_since_read, Failure::TimeoutIdle, timeout)
        } else {
            return total;
        };
        // If both deadlines are equal, the class that is more specific than `timeout_total` is
        // reported.
        if specific.0 <= total.0 { specific } else { total }
    }

    fn reset(&mut self, now: Instant) {
        let (deadline, ..) = self.deadline(self.stalls.lost());
        let at = self.stalls.schedule(now, deadline);
        self.sleep.as_mut().reset(at);
    }

    /// Waits for `work`, but at most until the deadline.
    pub(super) async fn limit<T>(
        &mut self,
        work: impl Future<Output = T>,
    ) -> Result<T, FailureDetail> {
        let mut work = pin!(work);
        let value = poll_fn(|context| {
            if let Poll::Ready(value) = work.as_mut().poll(context) {
                return Poll::Ready(Some(value));
            }
            while self.sleep.as_mut().poll(context).is_ready() {
                let now = Instant::now();
                let is_late = self.stalls.record_run(now);
                let (deadline, ..) = self.deadline(self.stalls.lost());
                match self.stalls.next_ring(now, deadline, is_late) {
                    Some(at) => self.sleep.as_mut().reset(at),
                    None => return Poll::Ready(None),
                }
            }
            Poll::Pending
        })
        .await;
        let Some(value) = value else { return Err(self.timed_out()) };
        self.stalls.record_run(Instant::now());
        self.lost_before = self.stalls.lost();
        Ok(value)
    }

    /// Returns the failure of a request that reached its deadline.
    fn timed_out(&self) -> FailureDetail {
        let (_, failure, timeout) = self.deadline(self.stalls.lost());
        let lost = self.stalls.lost();
        let message = if lost.is_zero() {
            format!("timed out after {timeout:?}")
        } else {
            let lost = lost.as_secs_f64();
            format!(
                "timed out after {timeout:?}, not counting {lost:.1} s in which llmload did not run"
            )
        };
        FailureDetail::new(failure, &message)
    }

    /// Tries to connect and sends a request. The endpoint's timeout for connecting, which includes
    /// the name lookup, counts time in which llmload did not run. The same is true for the timeouts
    /// of the system's resolver. So this function repeats an attempt that failed for this reason.
    /// The server has received nothing from such an attempt.
    pub(super) async fn send<T, F>(
        &mut self,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, FailureDetail>
    where
        F: Future<Output = Result<T, FailureDetail>>,
    {
        loop {
            let before = self.stalls.lost();
            let result = self.limit(attempt()).await?;
            let lost = self.stalls.lost().saturating_sub(before);
            match result {
                Err(detail)
                    if is_connect_timeout(&detail) && lost >= self.timeouts.connect / EXCUSE => {}
                result => return result,
            }
        }
    }
}

/// Returns true if the time to connect, or the time of the name lookup before it, was over.
fn is_connect_timeout(detail: &FailureDetail) -> bool {
    match detail.failure {
        Failure::ConnectTimeout => true,
        Failure::Dns => detail.cause == Some(FailureCause::Lookup(LookupFault::NoAnswer)),
        _ => false,
    }
}
