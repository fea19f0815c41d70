//! When to send: governor on a clock of marks. The one home of the crate `governor`.
//!
//! Arrivals have marks in millionths of an arrival: evenly spaced, each 10⁶ after the one before.
//! governor's limiter replenishes one cell per unit of *its* clock, and its clock reads Λ(now) in
//! millionths, so a cell of weight 10⁶ conforms exactly when the next mark is reached: constant
//! rates, ramps and pauses are one code path, and no request leaves without governor's `Ok`.
//!
//! Three things keep it exact:
//! - The bucket is emptied at birth, so there is no initial burst.
//! - The clock is *set* before each question and never beyond what the emptied bucket can hold.
//!   GCRA forgets time past its burst; with this bound it never has any to forget, so nothing is
//!   skipped inside it, however long the process was stopped.
//! - Each cycle of the schedule has a limiter of its own, whose clock starts at the last mark of the
//!   cycle before; only that distance is carried over.
//!
//! [`Pacer`] is a synchronous value: time is passed in, and what it answers is obeyed elsewhere.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

use crate::schedule::{Area, Load, Repeat, Schedule};

/// The distance of evenly spaced arrivals.
const SPACING: NonZeroU32 = NonZeroU32::MIN.saturating_add(999_999);
/// What governor's bucket holds: over 4,000 arrivals, and the largest number it can count.
const BURST: NonZeroU32 = NonZeroU32::MAX;
const A_BILLION: NonZeroU32 = NonZeroU32::MIN.saturating_add(999_999_999);

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// An arrival was due at this instant, now or in the past.
    Due(Instant),
    /// Nothing before this instant.
    Wait(Instant),
    /// A closed-loop phase is on: keep so many requests in flight until this instant.
    Closed {
        /// How many.
        slots: NonZeroU32,
        /// The start of the phase.
        since: Instant,
        /// The end of the phase.
        until: Instant,
    },
    /// The schedule has ended.
    End,
}

/// Walks the arrivals of a schedule from a first instant.
#[derive(Debug)]
pub struct Pacer {
    schedule: Arc<Schedule>,
    repeat: Repeat,
    cycle: u64,
    cycle_start: Instant,
    /// From the last mark before this cycle to its start; half a spacing before the first, so that
    /// a phase of whole arrivals has none on its edges.
    carry: Area,
    /// The sum of the weights granted in this cycle.
    granted: u64,
    clock: MarkClock,
    limiter: Limiter,
}

type Limiter = RateLimiter<NotKeyed, InMemoryState, MarkClock, NoOpMiddleware<Nanos>>;

impl Pacer {
    /// A pacer whose schedule starts at `origin`.
    pub fn new(schedule: Arc<Schedule>, repeat: Repeat, origin: Instant) -> Pacer {
        let (clock, limiter) = limiter();
        let carry = Area::from_micro(u64::from(SPACING.get()) / 2);
        Pacer { schedule, repeat, cycle: 0, cycle_start: origin, carry, granted: 0, clock, limiter }
    }

    /// What to do at `now`. Each arrival is told once; ask again until it is time to wait.
    pub fn poll(&mut self, now: Instant) -> Next {
        while self.repeat.includes(self.cycle) {
            let elapsed = now.saturating_duration_since(self.cycle_start);
            let reading = (self.schedule.area(elapsed) + self.carry).micro();
            let most = self.granted + u64::from(BURST.get());
            self.clock.set(u64::try_from(reading).unwrap_or(u64::MAX).min(most));
            let wanted = match self.limiter.check_n(SPACING) {
                Ok(Ok(())) => {
                    self.granted += u64::from(SPACING.get());
                    return Next::Due(self.instant_of(self.granted).unwrap_or(now));
                }
                Ok(Err(not_until)) => not_until.earliest_possible().as_u64(),
                // Only a weight above the burst can come here, and the spacing is below it.
                Err(_) => return Next::End,
            };
            let end = self.cycle_start + self.schedule.length();
            if let Some(placed) = self.schedule.at(elapsed)
                && let Load::Concurrency(slots) = placed.phase.load
                && now >= self.cycle_start
            {
                let (since, until) = (self.cycle_start + placed.start, self.cycle_start + placed.end);
                return Next::Closed { slots, since, until };
            }
            let wake = self.instant_of(wanted).unwrap_or(end);
            let wake = self.next_closed_phase(elapsed).map_or(wake, |closed| wake.min(closed));
            if now < wake {
                return Next::Wait(wake);
            }
            self.start_next_cycle(end);
        }
        Next::End
    }

    /// When this cycle reaches a sum of weights, if it does.
    fn instant_of(&self, weights: u64) -> Option<Instant> {
        let due = self.schedule.due(Area::from_micro(weights) - self.carry)?;
        Some(self.cycle_start + due)
    }

    /// The start of the next closed-loop phase of this cycle.
    fn next_closed_phase(&self, elapsed: Duration) -> Option<Instant> {
        let here = self.schedule.at(elapsed)?.index;
        (here..self.schedule.phases().len())
            .filter_map(|index| self.schedule.placed(index))
            .find(|placed| matches!(placed.phase.load, Load::Concurrency(_)))
            .map(|placed| self.cycle_start + placed.start)
    }

    fn start_next_cycle(&mut self, start: Instant) {
        self.carry = self.schedule.total() + self.carry - Area::from_micro(self.granted);
        self.cycle += 1;
        self.cycle_start = start;
        self.granted = 0;
        (self.clock, self.limiter) = limiter();
    }
}

/// An emptied limiter and its clock, both at 0: the k-th cell from now on conforms at reading k.
fn limiter() -> (MarkClock, Limiter) {
    let clock = MarkClock::default();
    // A billion cells a second of its clock: one each time the reading rises by one.
    let quota = Quota::per_second(A_BILLION).allow_burst(BURST);
    let limiter = RateLimiter::direct_with_clock(quota, clock.clone());
    // A full bucket always holds its burst.
    let _emptied = limiter.check_n(BURST);
    (clock, limiter)
}

/// A clock for governor that stands wherever the pacer puts it.
#[derive(Clone, Debug, Default)]
struct MarkClock(Arc<AtomicU64>);

impl MarkClock {
    fn set(&self, reading: u64) {
        self.0.store(reading, Ordering::Relaxed);
    }
}

impl Clock for MarkClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::from(self.0.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::schedule::{Phase, Rate};

    fn schedule(phases: &[(Load, u64)]) -> Arc<Schedule> {
        let phases = phases.iter().map(|&(load, millis)| Phase {
            name: load.to_string(),
            load,
            length: Duration::from_millis(millis),
        });
        Arc::new(Schedule::new(phases.collect()))
    }

    fn rate(text: &str) -> Rate {
        text.parse().unwrap()
    }

    /// Everything due up to `until`, asked for only at the instants that `ask` picks.
    fn dues(pacer: &mut Pacer, origin: Instant, mut ask: impl Iterator<Item = Duration>) -> Vec<Duration> {
        let mut dues = Vec::new();
        let mut now = origin;
        loop {
            match pacer.poll(now) {
                Next::Due(due) => dues.push(due - origin),
                Next::End => return dues,
                _ => match ask.next() {
                    Some(at) => now = origin + at,
                    None => return dues,
                },
            }
        }
    }

    #[test]
    fn arrivals_come_when_they_are_due_if_its_advice_is_followed() {
        let load = [(Load::Ramp { from: Rate::ZERO, to: rate("400/s") }, 20_000)];
        let origin = Instant::now();
        let mut pacer = Pacer::new(schedule(&load), Repeat::Times(NonZeroU32::MIN), origin);
        let (mut now, mut count) = (origin, 0);
        loop {
            match pacer.poll(now) {
                Next::Due(due) => {
                    assert_eq!(due, now);
                    count += 1;
                }
                Next::Wait(until) => {
                    assert!(until > now);
                    now = until;
                }
                Next::Closed { .. } => unreachable!(),
                Next::End => break,
            }
        }
        assert_eq!(count, 4000);
    }

    #[test]
    fn a_long_stop_loses_nothing_and_keeps_the_grid() {
        let load = [(Load::Constant(rate("20000/s")), 10_000)];
        let origin = Instant::now();
        let once = Repeat::Times(NonZeroU32::MIN);
        let steady = dues(
            &mut Pacer::new(schedule(&load), once, origin),
            origin,
            (0..=10_000).map(Duration::from_millis),
        );
        // Asked at the start, then only after everything is over: 200,000 arrivals, far above the burst.
        let stopped = dues(
            &mut Pacer::new(schedule(&load), once, origin),
            origin,
            [Duration::from_mins(1)].into_iter(),
        );
        assert_eq!(steady.len(), 200_000);
        assert_eq!(steady, stopped);
    }

    #[test]
    fn cycles_carry_the_fraction_and_nothing_else() {
        // 0.7 arrivals a cycle: 1,000 cycles are one schedule of 700, never a tenth more or less.
        let load = [(Load::Constant(rate("7/s")), 100)];
        let origin = Instant::now();
        let mut pacer = Pacer::new(schedule(&load), Repeat::Times(NonZeroU32::new(1000).unwrap()), origin);
        let dues = dues(&mut pacer, origin, (0..=100).map(Duration::from_secs));
        assert_eq!(dues.len(), 700);
        for (k, due) in dues.iter().enumerate() {
            let exact = Duration::from_nanos(((2 * k as u64 + 1) * 1_000_000_000).div_ceil(14));
            assert_eq!(*due, exact, "arrival {k}");
        }
    }

    #[test]
    fn a_closed_phase_is_announced_at_its_start_and_lasts_to_its_end() {
        let slots = NonZeroU32::new(3).unwrap();
        let load =
            [(Load::Pause, 1000), (Load::Concurrency(slots), 2000), (Load::Constant(rate("1/s")), 1000)];
        let origin = Instant::now();
        let at = |millis| origin + Duration::from_millis(millis);
        let mut pacer = Pacer::new(schedule(&load), Repeat::Forever, origin);
        assert_eq!(pacer.poll(origin), Next::Wait(at(1000)));
        assert_eq!(pacer.poll(at(1000)), Next::Closed { slots, since: at(1000), until: at(3000) });
        assert_eq!(pacer.poll(at(2999)), Next::Closed { slots, since: at(1000), until: at(3000) });
        assert_eq!(pacer.poll(at(3000)), Next::Wait(at(3500)));
        assert_eq!(pacer.poll(at(3500)), Next::Due(at(3500)));
        assert_eq!(pacer.poll(at(3500)), Next::Wait(at(4000)));
        assert_eq!(pacer.poll(at(4000)), Next::Wait(at(5000)));
        assert_eq!(pacer.poll(at(5000)), Next::Closed { slots, since: at(5000), until: at(7000) });
    }

    #[test]
    fn before_its_origin_it_waits() {
        let origin = Instant::now() + Duration::from_secs(100);
        let load = [(Load::Constant(rate("1/h")), 3_600_000)];
        let mut pacer = Pacer::new(schedule(&load), Repeat::Forever, origin);
        assert_eq!(pacer.poll(Instant::now()), Next::Wait(origin + Duration::from_mins(30)));
    }

    proptest! {
        #[test]
        fn every_arrival_is_told_once_at_its_own_instant_however_rarely_it_is_asked(
            from in 0u32..2000, to in 1u32..2000, pause in 0u64..500, cycles in 1u32..4,
            gaps in prop::collection::vec(1u64..2_000_000_000, 1..50),
        ) {
            let (from, to) = (rate(&format!("{from}/s")), rate(&format!("{to}/s")));
            let load = [(Load::Ramp { from, to }, 333), (Load::Pause, pause + 1), (Load::Constant(to), 77)];
            let schedule = schedule(&load);
            let origin = Instant::now();
            let repeat = Repeat::Times(NonZeroU32::new(cycles).unwrap());
            let mut now = Duration::ZERO;
            let asked = gaps.iter().map(|gap| { now += Duration::from_nanos(*gap); now }).collect::<Vec<_>>();
            let end = schedule.length() * cycles;
            let told = dues(&mut Pacer::new(Arc::clone(&schedule), repeat, origin), origin,
                asked.into_iter().chain([end.max(now)]));
            // The same marks on one long Λ, without a limiter.
            let mut expected = Vec::new();
            for k in 0u64.. {
                let mark = Area::from_micro(k * 1_000_000 + 500_000);
                let mut rest = mark;
                let mut cycle = 0;
                while cycle < cycles && rest > schedule.total() { rest = rest - schedule.total(); cycle += 1; }
                if cycle == cycles { break; }
                expected.push(schedule.length() * cycle + schedule.due(rest).unwrap());
            }
            prop_assert_eq!(told, expected);
        }
    }
}
