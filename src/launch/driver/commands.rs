//! The changes of a running driver from outside: commands, and steps of the wall clock.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Driver, Source, manual_rate};
use crate::calendar::rfc3339;
use crate::event::SessionEnd;
use crate::schedule::{ArrivalSpec, Rate};
use crate::schedule_state::RateOverride;
use crate::timetable::{FiringsAfterStep, Moment, Timetable};

impl Driver {
    /// Continues at the new time of the wall clock, if there was a step.
    pub(super) fn follow_clock_step(&mut self) {
        let Some(step) = self.clock_step.take() else { return };
        self.steps.accept(step);
        let leaves = match self.source {
            None => true,
            // A `requests` phase has no place in time, so it continues.
            Some(Source::Schedule(_)) => {
                self.timetable.places_segments_by_wall_clock()
                    && self.counted_phase.is_none()
                    && self.search.is_none()
            }
            Some(Source::Override(_)) => false,
        };
        if leaves {
            self.leave_source(step.after.instant, false);
        }
        let is_running = matches!(self.source, Some(Source::Schedule(_)));
        let firings = self.timetable.follow_clock_step(step, is_running);
        self.schedule_state.set_skipped_firings(self.timetable.skipped_firings());
        self.schedule_state.move_wall_times(|time| step.shift(time));
        let scenario = &self.arrivals.scenario;
        match firings {
            Some(FiringsAfterStep::Skipped { count, first }) => tracing::warn!(
                scenario,
                firings = count,
                "llmload skips the cron firings that a step of the wall clock passed over, from {}",
                rfc3339(first)
            ),
            Some(FiringsAfterStep::NotRepeatedUntil(last)) => tracing::warn!(
                scenario,
                "the wall clock was set back; llmload does not repeat the cron firings up to {}",
                rfc3339(last)
            ),
            None => {}
        }
    }

    pub(super) fn apply_commands(&mut self, now: Moment) {
        let commands = self.mailbox.take_commands();
        if commands.is_target_ready {
            self.release_cycle(now.instant);
        }
        if commands.ends_sessions {
            self.end_sessions(SessionEnd::Reload);
        }
        if let Some((timetable, arrivals)) = commands.schedule {
            self.replace_schedule(timetable, arrivals, now.instant);
        }
        match commands.rate {
            Some(RateOverride::Set { rate, length }) => self.begin_override(rate, length, now),
            Some(RateOverride::Clear) if matches!(self.source, Some(Source::Override(_))) => {
                self.leave_source(now.instant, false);
            }
            Some(RateOverride::Clear) | None => {}
        }
    }

    /// Opens the readiness gate. If a cycle waits at the gate, this cycle begins now, and no part
    /// of it is skipped.
    fn release_cycle(&mut self, now: Instant) {
        let Some(gate) = &self.gate else { return };
        gate.open();
        if std::mem::take(&mut self.is_held) {
            self.position = now;
        }
    }

    fn replace_schedule(&mut self, timetable: Timetable, arrivals: ArrivalSpec, now: Instant) {
        if matches!(self.source, Some(Source::Override(_))) {
            manual_rate::log_end_by_reload(&self.arrivals.scenario);
        }
        self.leave_source(now, false);
        self.end_sessions(SessionEnd::Reload);
        self.is_held = false;
        let schedule = Arc::clone(timetable.schedule());
        self.schedule_state.replace_schedule(schedule, timetable.is_endless());
        self.schedule_state.searches.clear();
        (self.timetable, self.arrivals) = (timetable, arrivals);
    }

    fn begin_override(&mut self, rate: Rate, length: Duration, now: Moment) {
        self.leave_source(now.instant, false);
        self.schedule_state.set_rate_override(Some((rate, now.wall + length)));
        let pacer = manual_rate::pacer(rate, length, &self.arrivals, now.instant);
        self.source = Some(Source::Override(pacer));
    }
}
