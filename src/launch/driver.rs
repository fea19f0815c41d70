//! The driver of a scenario. It decides the next step: launch an arrival, wait or end.
//!
//! The schedule or a manual rate override decides when an arrival is due. In a closed loop, an
//! arrival is due when a slot is free. [`Driver::step`] is synchronous and receives the time.
//! [`Driver::run`] is a thin loop around `step` that waits for the clock, for commands, for
//! returned slots and for the stop signal.
//!
//! The later turns of sessions are due when their think times have passed. They do not depend on
//! the source.
//!
//! The source of arrivals is a segment of the schedule (an uninterrupted part of one cycle), or a
//! manual rate override. The driver has no source before the first segment, between segments and
//! after the last segment. The timetable knows when each segment begins, and the pacer computes
//! when each arrival of the source is due. One call of `advance` makes one decision:
//!
//! ```text
//! without a source: the timetable decides to begin a segment, to stay idle, or to end
//! with a source:    the pacer reports one of these:
//!     an arrival is due ───────────────────> launch the arrival
//!     nothing is due, after a clock step ──> continue at the new time of the wall clock
//!     nothing is due, commands are pending > apply the commands
//!     nothing is due ──────────────────────> wait, or launch an arrival in a free slot
//!     the segment has ended ───────────────> leave the source
//! ```

mod closed_loop;
mod commands;
mod search;
mod turns;

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::search::RunningSearch;
use self::turns::Turns;
use super::alarm::Alarm;
use super::mailbox::Mailbox;
use super::session::Session;
use super::slots::{Slot, Slots};
use super::{Launch, LaunchContext, ReadinessGate, manual_rate};
use crate::capacity::MeasureSteps;
use crate::event::{Arrival, SessionEnd};
use crate::pacer::{Next, Pacer, Segment};
use crate::schedule::ArrivalSpec;
use crate::schedule_state::ScheduleState;
use crate::timetable::{ClockStep, Moment, StepDetector, Timetable, TimetableEntry};

/// The number of launches in a row after which the driver yields to other tasks. Up to this number,
/// every arrival passes the guard before the first request runs. Otherwise the first requests could
/// delay the later arrivals, and the guard would drop those arrivals as late.
const BURST: u32 = 1024;
/// The longest wait. Somebody can set the wall clock during a wait, so the driver compares the
/// clocks at least this often.
const CLOCK_CHECK: Duration = Duration::from_secs(5);

/// A decision of the driver.
#[derive(Debug)]
enum Step {
    /// Launch this arrival. In a closed loop, its request holds this slot. A later turn continues
    /// this session.
    Launch(Arrival, Option<Arc<Slot>>, Option<Box<Session>>),
    /// Wait until this instant, or until a command or a slot arrives.
    Wait(Instant),
    /// End, because no more arrivals are due. A command can start the driver again.
    End,
}

/// The driver of one scenario.
#[derive(Debug)]
pub struct Driver {
    timetable: Timetable,
    arrivals: ArrivalSpec,
    schedule_state: Arc<ScheduleState>,
    gate: Option<Arc<ReadinessGate>>,
    mailbox: Arc<Mailbox>,
    slots: Slots,
    turns: Turns,
    /// The current source of arrivals, or `None` between segments.
    source: Option<Source>,
    /// The end of the last segment. The timetable looks for the next segment from this instant.
    position: Instant,
    /// True while a cycle waits at the readiness gate, which is closed while the target is not
    /// ready. A held cycle waits for the command `is_target_ready`, even if a response has opened
    /// the gate in the meantime. The command sets `position` to now, because from the old position
    /// the cycle would begin in the past.
    is_held: bool,
    /// The number of arrivals that `concurrency` phases have launched.
    closed_loop_launched: u64,
    counted_phase: Option<CountedPhase>,
    search: Option<RunningSearch>,
    /// Counts the requests of search phases.
    meter: Option<Arc<dyn MeasureSteps>>,
    /// The end of the run. The driver launches no arrival that is due later.
    time_limit: Option<Instant>,
    /// Finds steps of the wall clock.
    steps: StepDetector,
    /// A step of the wall clock that the schedule does not follow yet.
    clock_step: Option<ClockStep>,
}

/// The source of arrivals.
#[derive(Debug)]
enum Source {
    /// A segment of the schedule.
    Schedule(Pacer),
    /// A manual rate override.
    Override(Pacer),
}

/// The progress of a `requests` phase, which ends after a number of requests.
#[derive(Clone, Copy, Debug)]
struct CountedPhase {
    phase: usize,
    launched: u64,
}

impl Driver {
    /// Returns a driver whose timetable begins at `origin`.
    pub fn new(
        timetable: Timetable,
        arrivals: ArrivalSpec,
        schedule_state: Arc<ScheduleState>,
        origin: Instant,
    ) -> Driver {
        Driver {
            timetable,
            arrivals,
            schedule_state,
            gate: None,
            mailbox: Arc::default(),
            slots: Slots::default(),
            turns: Turns::default(),
            source: None,
            position: origin,
            is_held: false,
            closed_loop_launched: 0,
            counted_phase: None,
            search: None,
            meter: None,
            time_limit: None,
            steps: StepDetector::default(),
            clock_step: None,
        }
    }

    /// Makes each cycle wait while this gate is closed, if the timetable allows it to postpone a
    /// cycle.
    #[must_use]
    pub fn with_gate(mut self, gate: Arc<ReadinessGate>) -> Driver {
        self.gate = Some(gate);
        self
    }

    /// Launches only arrivals that are due before `limit`, even if the process was suspended when
    /// `limit` passed.
    #[must_use]
    pub fn with_time_limit(mut self, limit: Instant) -> Driver {
        self.time_limit = Some(limit);
        self.cut_windows(limit);
        self
    }

    /// Ends the windows of the phases at this instant.
    pub fn cut_windows(&self, at: Instant) {
        if let Some(windows) = self.schedule_state.windows() {
            windows.limit(at);
        }
    }

    /// Returns the mailbox that receives commands while the driver runs.
    pub fn mailbox(&self) -> Arc<Mailbox> {
        Arc::clone(&self.mailbox)
    }

    /// Runs until no more arrivals are due, or until `stop` is cancelled. Requests run in the
    /// current runtime.
    pub async fn run(&mut self, routes: &impl Launch, alarm: &mut Alarm, stop: &CancellationToken) {
        let runtime = Handle::current();
        let (mailbox, returned_slots) = (Arc::clone(&self.mailbox), self.slots.returns());
        let mut launched = 0;
        while !stop.is_cancelled() {
            match self.step(alarm.now(), routes) {
                Step::Launch(arrival, slot, session) => {
                    let context = LaunchContext { slot, session, turns: self.turns.queue() };
                    routes.launch(arrival, context, &runtime);
                    launched += 1;
                    if launched == BURST {
                        launched = 0;
                        tokio::task::yield_now().await;
                    }
                }
                // Lets the launched requests run before the driver sets its alarm.
                Step::Wait(_) if launched > 0 => {
                    launched = 0;
                    tokio::task::yield_now().await;
                }
                Step::Wait(until) => {
                    let turns = self.turns.queue();
                    tokio::select! {
                        () = alarm.sleep_until(until) => {}
                        () = mailbox.notified() => {}
                        () = returned_slots.returned() => {}
                        () = turns.returned() => {}
                        () = stop.cancelled() => {}
                    }
                }
                Step::End => {
                    self.end_sessions(SessionEnd::ScheduleEnd);
                    break;
                }
            }
        }
        self.interrupt_search();
    }

    /// Waits until a command is pending.
    pub async fn wait_for_command(&self) {
        while !self.mailbox.has_commands() {
            self.mailbox.notified().await;
        }
    }

    fn step(&mut self, now: Moment, routes: &dyn Launch) -> Step {
        let Some(limit) = self.time_limit else { return self.next_step(now, routes) };
        if now.instant < limit {
            return match self.next_step(now, routes) {
                Step::Wait(until) => Step::Wait(until.min(limit)),
                other => other,
            };
        }
        // The limit has passed. The driver decides as if the time were exactly the limit. It still
        // launches open-loop arrivals that were due before the limit, but no closed-loop arrivals.
        match self.next_step(Moment { instant: limit, wall: now.wall_at(limit) }, routes) {
            launch @ Step::Launch(_, None, _) => launch,
            Step::Launch(_, Some(_), _) | Step::Wait(_) | Step::End => {
                self.schedule_state.set_ended();
                Step::End
            }
        }
    }

    fn next_step(&mut self, now: Moment, routes: &dyn Launch) -> Step {
        self.slots.collect_returned();
        self.turns.collect_returned();
        self.clock_step = self.steps.step_at(now);
        if self.source.is_none() {
            self.follow_clock_step();
        }
        loop {
            // Until the schedule follows a step, the wall clock counts as if there were no step.
            let wall = self.clock_step.map_or(now.wall, |step| step.before.wall_at(now.instant));
            match self.advance(Moment { wall, ..now }, routes) {
                Some(Step::Wait(until)) => {
                    let until = self.turns.next_due().map_or(until, |due| due.min(until));
                    return Step::Wait(until.min(now.instant + CLOCK_CHECK));
                }
                Some(step) => return step,
                None => {}
            }
        }
    }

    /// Makes one decision. Returns `None` if the decision only changed the state. In this case, the
    /// driver must decide again at once.
    fn advance(&mut self, now: Moment, routes: &dyn Launch) -> Option<Step> {
        let (pacer, is_scheduled) = match &mut self.source {
            Some(Source::Schedule(pacer)) => (pacer, true),
            Some(Source::Override(pacer)) => (pacer, false),
            None => return self.advance_without_source(now),
        };
        let next = pacer.poll(now.instant);
        let turns_until = match next {
            Next::Due { .. } => None,
            Next::End(at) => Some(at),
            _ => Some(now.instant),
        };
        let turn = turns_until.and_then(|until| self.step_turn(until));
        if turn.is_some() {
            return turn;
        }
        match next {
            Next::Due { due, k, phase, lengths } => {
                let phase = is_scheduled.then_some(phase);
                Some(Step::Launch(Arrival { k, due, phase, lengths, turn: 0 }, None, None))
            }
            // The order of these arms guarantees that each arrival is launched once. A clock step
            // or a command ends the source at `now`, and arrivals that the pacer has not yet
            // reported are then lost. So the driver applies them only after the arm above has
            // launched every arrival that was due until `now`. In the other order, they would lose
            // all overdue arrivals, for example after the process was suspended.
            _ if self.clock_step.is_some() => {
                self.follow_clock_step();
                None
            }
            _ if self.mailbox.has_commands() => {
                self.apply_commands(now);
                None
            }
            Next::Wait(until) => Some(Step::Wait(until)),
            Next::ClosedLoop { phase, slots, since, until } => {
                Some(self.step_closed_loop(phase, slots, since, until, now.instant))
            }
            Next::CountedRequests { phase, slots, count, since } => {
                self.step_counted_phase(phase, slots, count, since, now)
            }
            Next::Search { phase } => self.step_search(phase, now, routes),
            Next::End(at) => {
                self.leave_source(at, true);
                None
            }
        }
    }

    fn advance_without_source(&mut self, now: Moment) -> Option<Step> {
        let step = self.begin_segment(now);
        if step.is_some() && self.clock_step.is_some() {
            self.follow_clock_step();
            return None;
        }
        if step.is_some() && self.mailbox.has_commands() {
            self.apply_commands(now);
            return None;
        }
        step
    }

    /// Begins the next segment. If no segment begins now, returns the step to take instead.
    fn begin_segment(&mut self, now: Moment) -> Option<Step> {
        if let Some(gate) = &self.gate
            && (self.is_held || self.timetable.can_be_postponed() && !gate.is_open())
        {
            self.is_held = true;
            self.schedule_state.set_waiting("the target to respond again");
            gate.set_cycle_waiting();
            let turn = self.step_turn(now.instant);
            return Some(turn.unwrap_or(Step::Wait(now.instant + CLOCK_CHECK)));
        }
        let position = Moment { instant: self.position, wall: now.wall_at(self.position) };
        let entry = self.timetable.next_entry(position);
        self.schedule_state.set_skipped_firings(self.timetable.skipped_firings());
        match entry {
            TimetableEntry::Active(segment) => {
                let Segment { cycle, cycle_start: start, .. } = segment;
                self.schedule_state.start_cycle(cycle, start, now.wall_at(start));
                let schedule = Arc::clone(self.timetable.schedule());
                let pacer = Pacer::new(schedule, &self.arrivals, segment);
                self.source = Some(Source::Schedule(pacer));
                None
            }
            TimetableEntry::IdleUntil(until) if until <= now.instant => {
                self.position = until;
                None
            }
            TimetableEntry::IdleUntil(until) => {
                self.end_sessions(SessionEnd::ScheduleEnd);
                self.schedule_state.set_idle_until(now.wall_at(until));
                Some(Step::Wait(until))
            }
            TimetableEntry::Ended => {
                self.schedule_state.set_ended();
                Some(Step::End)
            }
        }
    }

    /// Leaves the current source at the instant `at`. `is_complete` is true if the segment has
    /// ended, and false if a command interrupts the segment.
    fn leave_source(&mut self, at: Instant, is_complete: bool) {
        match self.source.take() {
            Some(Source::Schedule(mut pacer)) => {
                if self.counted_phase.is_some() || self.search.is_some() {
                    pacer.extend_untimed_phase(at);
                }
                self.timetable.leave_segment(pacer.segment(), is_complete);
            }
            Some(Source::Override(_)) => {
                self.schedule_state.set_rate_override(None);
                // If a command ends the override, the log has the reply to the command instead.
                if is_complete {
                    manual_rate::log_end(&self.arrivals.scenario);
                }
            }
            None => {}
        }
        self.counted_phase = None;
        self.interrupt_search();
        self.position = at;
    }
}
