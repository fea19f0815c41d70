//! What happens next in a scenario: arrivals by the schedule, and by the slots that become free in a
//! closed-loop phase.
//!
//! [`Driver`] is a synchronous value in a thin shell, a task that obeys it: it waits for the clock, its
//! mailbox and the stop signal, and for nothing else.

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::alarm::Alarm;
use super::mailbox::{Mailbox, RateOverride};
use super::slots::{Slot, Slots};
use super::{Launch, ReadinessGate};
use crate::event::Arrival;
use crate::pacer::{Next, Pacer, Segment};
use crate::schedule::{ArrivalSpec, Load, Phase, Rate, Schedule};
use crate::schedule_state::ScheduleState;
use crate::timetable::{Moment, Timetable, TimetableEntry};

/// How many launches the shell makes before it lets others run: a burst goes through the guard as one,
/// before its own requests make it late.
const BURST: u32 = 1024;
/// The longest sleep: the wall clock may be set in the meantime.
const NAP: Duration = Duration::from_secs(30);

/// What happens next.
#[derive(Debug)]
enum Step {
    /// Send this one; in a closed loop, for this slot.
    Launch(Arrival, Option<Arc<Slot>>),
    /// Nothing before this instant, unless something comes into the mailbox.
    Wait(Instant),
    /// Nothing ever again, unless something comes into the mailbox.
    End,
}

/// Decides what happens next in one scenario.
#[derive(Debug)]
pub struct Driver {
    timetable: Timetable,
    spread: ArrivalSpec,
    schedule_state: Arc<ScheduleState>,
    gate: Option<Arc<ReadinessGate>>,
    mailbox: Arc<Mailbox>,
    /// The end of what has been walked.
    at: Instant,
    /// A cycle waits before the gate: only being told that what it waits for is there lets it on.
    held: bool,
    walk: Option<Walk>,
    slots: Slots,
    /// How many arrivals closed loops had.
    looped: u64,
    counting: Option<Counting>,
    /// What is not due by then is not told.
    until: Option<Instant>,
}

#[derive(Debug)]
enum Walk {
    Scheduled(Pacer),
    /// A rate was set by hand.
    Set(Pacer),
}

/// How far the phase that counts its requests has come.
#[derive(Clone, Copy, Debug)]
struct Counting {
    phase: usize,
    launched: u64,
}

impl Driver {
    /// A driver whose timetable begins at `origin`.
    pub fn new(
        timetable: Timetable,
        spread: ArrivalSpec,
        schedule_state: Arc<ScheduleState>,
        origin: Instant,
    ) -> Driver {
        Driver {
            timetable,
            spread,
            schedule_state,
            gate: None,
            mailbox: Arc::default(),
            at: origin,
            held: false,
            walk: None,
            slots: Slots::default(),
            looped: 0,
            counting: None,
            until: None,
        }
    }

    /// Cycles that may be put off wait until this gate is open.
    #[must_use]
    pub fn behind(mut self, gate: Arc<ReadinessGate>) -> Driver {
        self.gate = Some(gate);
        self
    }

    /// What is not due by then is not sent, however long the process was stopped.
    #[must_use]
    pub fn until(mut self, until: Instant) -> Driver {
        self.until = Some(until);
        self
    }

    /// Where it is reached while it runs.
    pub fn mailbox(&self) -> Arc<Mailbox> {
        Arc::clone(&self.mailbox)
    }

    fn step(&mut self, now: Moment) -> Step {
        let Some(until) = self.until else { return self.next(now) };
        if now.instant < until {
            return match self.next(now) {
                Step::Wait(at) => Step::Wait(at.min(until)),
                other => other,
            };
        }
        match self.next(Moment { instant: until, wall: now.wall_at(until) }) {
            launch @ Step::Launch(_, None) => launch,
            // A slot that comes free by now is not used again.
            Step::Launch(_, Some(_)) | Step::Wait(_) | Step::End => {
                self.schedule_state.set_ended();
                Step::End
            }
        }
    }

    fn next(&mut self, now: Moment) -> Step {
        for slot in self.mailbox.returned() {
            self.slots.put_back(slot);
        }
        loop {
            let next = match &mut self.walk {
                Some(Walk::Scheduled(pacer) | Walk::Set(pacer)) => pacer.poll(now.instant),
                None => match self.begin(now) {
                    Some(step) if self.mailbox.has_commands() => {
                        drop(step);
                        self.apply(now);
                        continue;
                    }
                    Some(step) => return step,
                    None => continue,
                },
            };
            if let Next::Due { due, k, phase, lengths } = next {
                let phase = Some(phase).filter(|_| matches!(self.walk, Some(Walk::Scheduled(_))));
                return Step::Launch(Arrival { k, due, phase, lengths }, None);
            }
            // DriverCommands take effect once everything that was due until now has been told.
            if self.mailbox.has_commands() {
                self.apply(now);
                continue;
            }
            match next {
                Next::Due { .. } => {}
                Next::Wait(until) => return Step::Wait(until),
                Next::ClosedLoop { phase, slots, since, until } => {
                    let k = self.spread.shard.arrival_number(self.looped);
                    return match self.fill(phase, slots, since, now.instant, k) {
                        Ok(launch) => {
                            self.looped = self.looped.wrapping_add(1);
                            launch
                        }
                        Err(rested) => Step::Wait(rested.map_or(until, |at| at.min(until))),
                    };
                }
                Next::CountedRequests { phase, slots, count, since } => {
                    if let Some(step) = self.count_out(phase, slots, count, since, now) {
                        return step;
                    }
                }
                Next::End(at) => self.leave(at, true),
            }
        }
    }

    /// Finds what is on from where the last stretch ended. What it returns is to be waited for.
    fn begin(&mut self, now: Moment) -> Option<Step> {
        if let Some(gate) = &self.gate
            && (self.held || self.timetable.can_be_postponed() && !gate.is_open())
        {
            self.held = true;
            self.schedule_state.set_waiting("the target, which went away");
            gate.ask();
            return Some(Step::Wait(now.instant + NAP));
        }
        let from = Moment { instant: self.at, wall: now.wall_at(self.at) };
        let part = self.timetable.next_entry(from);
        self.schedule_state.skipped(self.timetable.skipped_firings());
        match part {
            TimetableEntry::Active(segment) => {
                self.schedule_state.cycle_started(
                    segment.cycle,
                    segment.start,
                    now.wall_at(segment.start),
                );
                let schedule = Arc::clone(self.timetable.schedule());
                self.walk = Some(Walk::Scheduled(Pacer::new(schedule, &self.spread, segment)));
                None
            }
            TimetableEntry::IdleUntil(until) if until <= now.instant => {
                self.at = until;
                None
            }
            TimetableEntry::IdleUntil(until) => {
                self.schedule_state.set_idle(now.wall_at(until));
                Some(Step::Wait(until.min(now.instant + NAP)))
            }
            TimetableEntry::Ended => {
                self.schedule_state.set_ended();
                Some(Step::End)
            }
        }
    }

    /// Leaves what is walked, at its end or before it.
    fn leave(&mut self, at: Instant, walked: bool) {
        match self.walk.take() {
            Some(Walk::Scheduled(mut pacer)) => {
                if self.counting.is_some() {
                    pacer.extend_counted_phase(at);
                }
                self.timetable.leave_segment(pacer.segment(), walked);
            }
            Some(Walk::Set(_)) => self.schedule_state.set_rate_override(None),
            None => {}
        }
        self.counting = None;
        self.at = at;
    }

    fn apply(&mut self, now: Moment) {
        let commands = self.mailbox.commands();
        if commands.ready
            && let Some(gate) = &self.gate
        {
            gate.open();
            if std::mem::take(&mut self.held) {
                self.at = now.instant;
            }
        }
        if let Some((timetable, spread)) = commands.replacement {
            self.leave(now.instant, false);
            self.held = false;
            self.schedule_state.replace(Arc::clone(timetable.schedule()), timetable.is_endless());
            (self.timetable, self.spread) = (timetable, spread);
        }
        match commands.rate {
            Some(RateOverride::Back) if matches!(self.walk, Some(Walk::Set(_))) => {
                self.leave(now.instant, false)
            }
            None | Some(RateOverride::Back) => {}
            Some(RateOverride::To(rate, length)) => {
                self.leave(now.instant, false);
                self.schedule_state.set_rate_override(Some((rate, now.wall + length)));
                self.walk = Some(Walk::Set(self.at_rate(rate, length, now.instant)));
            }
        }
    }

    /// A pacer for a rate that was set by hand.
    fn at_rate(&self, rate: Rate, length: Duration, now: Instant) -> Pacer {
        let load = Load::Constant(rate);
        let schedule = Schedule::new(vec![Phase { name: load.to_string(), load, length }]);
        let segment = Segment::whole_cycle(&schedule, 0, now);
        // Random arrivals draw a series of their own.
        let spread = ArrivalSpec {
            scenario: format!("{} by hand", self.spread.scenario),
            ..self.spread.clone()
        };
        Pacer::new(Arc::new(schedule), &spread, segment)
    }

    /// An arrival for a slot that is free, or when the next one has rested.
    fn fill(
        &mut self,
        phase: usize,
        slots: NonZeroU32,
        since: Instant,
        now: Instant,
        k: u64,
    ) -> Result<Step, Option<Instant>> {
        // A part of nothing was refused when the configuration was read.
        let mine = u32::try_from(self.spread.shard.part(slots.get().into()))
            .ok()
            .and_then(NonZeroU32::new);
        let due = self.slots.take(mine.unwrap_or(NonZeroU32::MIN), since, now)?;
        Ok(Step::Launch(
            Arrival { k, due, phase: Some(phase), lengths: None },
            Some(Slot::new(now, &self.mailbox)),
        ))
    }

    /// Goes on with a phase that counts its requests; nothing once they have ended.
    fn count_out(
        &mut self,
        phase: usize,
        slots: NonZeroU32,
        count: NonZeroU64,
        since: Instant,
        now: Moment,
    ) -> Option<Step> {
        let mut counting =
            self.counting.filter(|counting| counting.phase == phase).unwrap_or_else(|| {
                self.schedule_state.set_counting(Some(phase));
                Counting { phase, launched: 0 }
            });
        let mine = self.spread.shard.part(count.get());
        let step = if counting.launched < mine {
            // From the first prompt on, whatever was asked before.
            let k = self.spread.shard.arrival_number(counting.launched);
            let step = self.fill(phase, slots, since, now.instant, k);
            counting.launched += u64::from(step.is_ok());
            step.unwrap_or_else(|rested| Step::Wait(rested.unwrap_or(now.instant + NAP)))
        } else if self.slots.are_free() {
            self.counting = None;
            self.schedule_state.set_counting(None);
            if let Some(Walk::Scheduled(pacer)) = &mut self.walk {
                pacer.end_counted_phase(now.instant);
                let Segment { cycle, start, .. } = pacer.segment();
                self.schedule_state.cycle_shifted(cycle, start, now.wall_at(start));
            }
            return None;
        } else {
            Step::Wait(now.instant + NAP)
        };
        self.counting = Some(counting);
        Some(step)
    }

    /// Runs until nothing is to come or `stop` is cancelled, in the current runtime, as requests do.
    pub async fn run(&mut self, routes: &impl Launch, alarm: &mut Alarm, stop: &CancellationToken) {
        let runtime = Handle::current();
        let mailbox = Arc::clone(&self.mailbox);
        let mut launched = 0;
        while !stop.is_cancelled() {
            match self.step(alarm.now()) {
                Step::Launch(arrival, slot) => {
                    routes.launch(arrival, slot, &runtime);
                    launched += 1;
                    if launched == BURST {
                        launched = 0;
                        tokio::task::yield_now().await;
                    }
                }
                // What was launched goes out before the alarm is set.
                Step::Wait(_) if launched > 0 => {
                    launched = 0;
                    tokio::task::yield_now().await;
                }
                Step::Wait(until) => tokio::select! {
                    () = alarm.rings_at(until) => {}
                    () = mailbox.woken() => {}
                    () = stop.cancelled() => {}
                },
                Step::End => return,
            }
        }
    }

    /// Until something comes into the mailbox.
    pub async fn is_told(&self) {
        while !self.mailbox.has_commands() {
            self.mailbox.woken().await;
        }
    }
}
