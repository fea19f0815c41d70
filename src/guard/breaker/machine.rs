//! The state machine of the breaker.

use std::time::Duration;

use tokio::time::Instant;

use super::failure_window::{Counts, FailureWindow};
use crate::event::{BreakerChange, OpenCause};
use crate::measurement::{Blame, Failure};
use crate::plan;

#[derive(Debug)]
pub(super) struct Machine {
    settings: plan::Breaker,
    window: FailureWindow,
    state: State,
    /// Increases with each change of the state. Only requests of the current state count, because
    /// the end of an old request says nothing about the target now.
    epoch: u64,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed,
    /// The breaker drops all arrivals until `until`.
    Open {
        since: Instant,
        until: Instant,
        pause: Duration,
    },
    /// One request is in flight, and the breaker drops all other arrivals.
    Probing {
        since: Instant,
        until: Instant,
        pause: Duration,
    },
}

/// The right of one request to change the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    epoch: u64,
}

impl Machine {
    pub(super) fn new(settings: plan::Breaker) -> Machine {
        let window = FailureWindow::new(settings.over);
        Machine { settings, window, state: State::Closed, epoch: 0 }
    }

    /// Returns `None` if the breaker drops the arrival.
    pub(super) fn admit(&mut self, now: Instant) -> Option<Ticket> {
        match self.state {
            State::Closed => {}
            State::Open { since, until, pause } if now >= until => {
                self.change(State::Probing { since, until, pause });
            }
            State::Open { .. } | State::Probing { .. } => return None,
        }
        Some(Ticket { epoch: self.epoch })
    }

    /// Records the end of a request. `failure` is `None` if the request succeeded.
    pub(super) fn record(
        &mut self,
        ticket: Ticket,
        failure: Option<Failure>,
        now: Instant,
    ) -> Option<BreakerChange> {
        if ticket.epoch != self.epoch {
            return None;
        }
        let is_own_fault = failure.is_some_and(|failure| failure.blame() == Blame::Client);
        match self.state {
            State::Closed if is_own_fault => None,
            State::Closed => {
                self.window.record(failure.is_some(), now);
                let cause = self.cause_to_open(failure)?;
                let pause = self.settings.pause;
                self.change(State::Open { since: now, until: now + pause, pause });
                Some(BreakerChange::Opened { cause, pause })
            }
            State::Probing { since, pause, .. } => {
                if failure.is_none() {
                    self.window.clear();
                    self.change(State::Closed);
                    return Some(BreakerChange::Closed {
                        after: now.saturating_duration_since(since),
                    });
                }
                // A failure in llmload says nothing about the target, so the pause does not double.
                let pause = if is_own_fault { pause } else { self.doubled(pause) };
                self.change(State::Open { since, until: now + pause, pause });
                None
            }
            // No request has a ticket of this state.
            State::Open { .. } => None,
        }
    }

    /// Gives the ticket of a request back whose outcome is unknown. The next arrival can be the
    /// probe.
    pub(super) fn abandon(&mut self, ticket: Ticket) {
        if let State::Probing { since, until, pause } = self.state
            && ticket.epoch == self.epoch
        {
            self.change(State::Open { since, until, pause });
        }
    }

    /// As [`Breaker::open_for`](super::Breaker::open_for).
    pub(super) fn open_for(&self, now: Instant) -> Option<Duration> {
        match self.state {
            State::Closed => None,
            State::Open { until, .. } | State::Probing { until, .. } => {
                Some(until.saturating_duration_since(now))
            }
        }
    }

    fn cause_to_open(&self, failure: Option<Failure>) -> Option<OpenCause> {
        // Further requests cannot succeed, and each of them can make the matter worse.
        if let Some(refused @ (Failure::Auth | Failure::Quota)) = failure {
            return Some(OpenCause::Refused(refused));
        }
        let Counts { failed, finished } = self.window.counts();
        let is_enough = finished >= u64::from(self.settings.at_least.get());
        (is_enough && failed > 0 && self.settings.failures.is_reached(failed, finished))
            .then_some(OpenCause::Failures { failed, finished })
    }

    fn doubled(&self, pause: Duration) -> Duration {
        pause.saturating_mul(2).min(self.settings.max_pause)
    }

    fn change(&mut self, state: State) {
        self.state = state;
        self.epoch += 1;
    }
}

#[cfg(test)]
mod tests;
