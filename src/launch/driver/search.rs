//! The search phases of a driver. The search decides which level the next step has. This module
//! runs the step: a time to settle, a measured time, and the wait for the last request.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{CLOCK_CHECK, Driver, Launch, Step};
use crate::capacity::{Decision, Ending, Level, MeasureSteps, Search, StepPlan, StepWindow};
use crate::event::Arrival;
use crate::pacer::{Next, Pacer, Segment};
use crate::schedule::{ArrivalSpec, Load, Phase, Rate, Schedule};
use crate::schedule_state::SearchState;
use crate::timetable::Moment;

/// A concurrency step with too few requests continues for this part of its shortest time, and then
/// counts them again.
const EXTENSIONS: u32 = 12;
/// The time between two checks for requests in flight before a step. The requests of an open loop
/// hold no slot, so their end does not wake the driver.
const IDLE_CHECK: Duration = Duration::from_millis(50);

/// A search that runs.
#[derive(Debug)]
pub(super) struct RunningSearch {
    phase: usize,
    search: Search,
    step: Option<RunningStep>,
}

#[derive(Debug)]
struct RunningStep {
    plan: StepPlan,
    /// The pacer of a step at a constant rate. `None` for a closed loop.
    pacer: Option<Pacer>,
    began: Instant,
    from: Instant,
    /// The end of the measured time.
    until: Instant,
    /// The number of requests that were due in the measured time.
    measured: u64,
    /// True after the last arrival. The step then waits for its last request.
    is_closed: bool,
}

impl Driver {
    /// Lets search phases measure their steps. Without this call, they end at once.
    #[must_use]
    pub fn with_meter(mut self, meter: Arc<dyn MeasureSteps>) -> Driver {
        self.meter = Some(meter);
        self
    }

    /// Continues a search. Returns `None` when the search has ended.
    pub(super) fn step_search(
        &mut self,
        phase: usize,
        now: Moment,
        routes: &dyn Launch,
    ) -> Option<Step> {
        let Some(meter) = self.meter.clone() else {
            self.end_untimed_phase(now);
            return None;
        };
        let mut running = match self.search.take() {
            Some(running) if running.phase == phase => running,
            _ => self.begin_search(phase)?,
        };
        let step = loop {
            if let Some(step) = &mut running.step {
                if !step.is_closed
                    && let Some(next) = self.send(phase, step, &*meter, now.instant)
                {
                    break next;
                }
                if self.slots.has_busy() {
                    break Step::Wait(now.instant + CLOCK_CHECK);
                }
                let plan = step.plan;
                running.step = None;
                running.search.record(plan, meter.end(now.instant));
                log_step(&self.arrivals.scenario, &running.search);
            }
            // The requests of the phase before must not be in flight in the first step.
            if routes.has_requests_in_flight() {
                break Step::Wait(now.instant + IDLE_CHECK);
            }
            match running.search.next() {
                Decision::Step(plan) => {
                    let step = self.begin_step(&running, plan, now.instant);
                    meter.begin(window(&running, &step));
                    running.step = Some(step);
                    self.show_search(&running, None);
                }
                Decision::End(ending) => {
                    self.show_search(&running, Some(ending));
                    let spec = running.search.spec();
                    if let Some(capacity) = running.search.outcome(ending).capacity(spec.range) {
                        self.schedule_state.searches.set_capacity(capacity, now.wall);
                    }
                    self.end_untimed_phase(now);
                    return None;
                }
            }
        };
        self.search = Some(running);
        Some(step)
    }

    /// Ends a search before its result is known. Requests in flight no longer count.
    pub(super) fn interrupt_search(&mut self) {
        if let Some(running) = self.search.take() {
            if let Some(meter) = &self.meter {
                meter.cancel();
            }
            self.show_search(&running, Some(Ending::Interrupted));
        }
    }

    fn begin_search(&mut self, phase: usize) -> Option<RunningSearch> {
        let schedule = Arc::clone(self.timetable.schedule());
        let spec = schedule.phases().get(phase)?.load.search()?;
        self.schedule_state.start_counted_phase(phase);
        Some(RunningSearch { phase, search: Search::new(Arc::clone(spec)), step: None })
    }

    fn begin_step(&self, running: &RunningSearch, plan: StepPlan, now: Instant) -> RunningStep {
        let from = now + plan.settle;
        let (pacer, measured) = match (plan.level, plan.measured_time()) {
            (Level::Rate(rate), Some(measured)) => {
                let length = plan.settle + measured;
                let number = running.search.steps().len();
                (Some(pacer(rate, length, &self.arrivals, number, now)), measured)
            }
            _ => (None, plan.shortest),
        };
        let until = from + measured;
        RunningStep { plan, pacer, began: now, from, until, measured: 0, is_closed: false }
    }

    /// Returns the next step while the level sends requests. Returns `None` after the last request
    /// of the step.
    fn send(
        &mut self,
        phase: usize,
        step: &mut RunningStep,
        meter: &dyn MeasureSteps,
        now: Instant,
    ) -> Option<Step> {
        if meter.is_hopeless() {
            step.until = now;
        } else if let Some(pacer) = &mut step.pacer {
            match pacer.poll(now) {
                Next::Due { due, .. } => {
                    let slot = self.slots.acquire_uncounted(now);
                    return Some(self.launch_in_step(phase, step, due, slot));
                }
                Next::Wait(until) => return Some(Step::Wait(until)),
                // A constant rate has no other phase.
                _ => {}
            }
        } else if let Level::Concurrency(slots) = step.plan.level {
            let latest = step.from + step.plan.longest;
            if now >= step.until && step.measured < step.plan.requests && step.until < latest {
                let extended = now + step.plan.shortest / EXTENSIONS;
                step.until = extended.min(latest);
            }
            if now < step.until {
                return Some(match self.slots.acquire(slots, step.began, now) {
                    Ok((due, slot)) => self.launch_in_step(phase, step, due, slot),
                    Err(backoff) => {
                        Step::Wait(backoff.map_or(step.until, |end| end.min(step.until)))
                    }
                });
            }
        }
        step.is_closed = true;
        meter.close(step.until);
        None
    }

    fn launch_in_step(
        &mut self,
        phase: usize,
        step: &mut RunningStep,
        due: Instant,
        slot: Arc<super::Slot>,
    ) -> Step {
        let k = self.arrivals.shard.arrival_number(self.closed_loop_launched);
        self.closed_loop_launched = self.closed_loop_launched.wrapping_add(1);
        step.measured += u64::from(due >= step.from);
        Step::Launch(
            Arrival { k, due, phase: Some(phase), lengths: None, turn: 0 },
            Some(slot),
            None,
        )
    }

    fn show_search(&self, running: &RunningSearch, ending: Option<Ending>) {
        let outcome = ending.map(|ending| running.search.outcome(ending));
        let current = running.step.as_ref().map(|step| (step.plan, step.began));
        if let Some(outcome) = &outcome {
            tracing::info!(scenario = self.arrivals.scenario, "the search has ended: {outcome}");
        }
        self.schedule_state.searches.set(SearchState {
            phase: running.phase,
            search: running.search.clone(),
            current: current.filter(|_| outcome.is_none()),
            outcome,
        });
    }
}

fn window(running: &RunningSearch, step: &RunningStep) -> StepWindow {
    let planned = match step.plan.level {
        Level::Rate(rate) => {
            let time = step.until.saturating_duration_since(step.from);
            Some(expected(rate, time))
        }
        Level::Concurrency(_) => None,
    };
    StepWindow {
        phase: running.phase,
        plan: step.plan,
        spec: Arc::clone(running.search.spec()),
        began: step.began,
        from: step.from,
        planned,
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn expected(rate: Rate, time: Duration) -> u64 {
    (rate.per_second() * time.as_secs_f64()).round() as u64
}

/// Returns the pacer of a step at a constant rate.
fn pacer(
    rate: Rate,
    length: Duration,
    arrivals: &ArrivalSpec,
    number: usize,
    start: Instant,
) -> Pacer {
    let load = Load::Constant(rate);
    let schedule = Schedule::new(vec![Phase { name: load.to_string(), load, length }]);
    let segment = Segment::full_cycle(&schedule, 0, start);
    // The scenario name is a part of the seed, so each step has other random arrivals.
    let scenario = format!("{} step {number}", arrivals.scenario);
    let arrivals = ArrivalSpec { scenario, ..arrivals.clone() };
    Pacer::new(Arc::new(schedule), &arrivals, segment)
}

fn log_step(scenario: &str, search: &Search) {
    if let Some(step) = search.steps().last() {
        tracing::info!(scenario, "step {}: {}", search.steps().len(), step.text(search.spec()));
    }
}
