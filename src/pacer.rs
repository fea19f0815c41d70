//! When to send: governor on a clock of marks. The one home of the crate `governor`.
//!
//! Arrivals have marks in millionths of an arrival, each so far after the one before as the series
//! says: 10⁶ if they stand evenly. governor's limiter replenishes one cell per unit of *its* clock,
//! and its clock reads Λ(now) in millionths, so cells of that weight conform exactly when the next
//! mark is reached: every shape of load and every spread of arrivals is one code path, and no
//! request leaves without governor's `Ok`.
//!
//! Three things keep it exact:
//! - The bucket is emptied at birth, so there is no initial burst.
//! - The clock is *set* before each question and never beyond what the emptied bucket can hold.
//!   GCRA forgets time past its burst; with this bound it never has any to forget, so nothing is
//!   skipped inside it, however long the process was stopped.
//! - Each cycle of the schedule has a limiter of its own, whose clock starts at the last mark of the
//!   cycle before; only that distance is carried over. A random series starts anew with each cycle,
//!   at its start, so that a cycle is a function of its number.
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

use crate::schedule::{Area, Arrivals, Load, Repeat, SPACING, Schedule, Series};

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

/// How the arrivals of a scenario are spread: what they are a function of, beside the schedule.
#[derive(Clone, Debug, Default)]
pub struct Spread {
    /// Evenly or at random.
    pub arrivals: Arrivals,
    /// The seed of the configuration.
    pub seed: u64,
    /// The scenario's name.
    pub scenario: String,
}

/// Walks the arrivals of a schedule from a first instant.
#[derive(Debug)]
pub struct Pacer {
    schedule: Arc<Schedule>,
    repeat: Repeat,
    spread: Spread,
    cycle: u64,
    cycle_start: Instant,
    /// From the last mark before this cycle to its start. Evenly spread arrivals begin with half a
    /// distance, so that a phase of whole arrivals has none on its edges.
    carry: Area,
    series: Series,
    /// The sum of the weights granted in this cycle.
    granted: u64,
    /// What is missing to the next mark.
    missing: u64,
    clock: MarkClock,
    limiter: Limiter,
}

type Limiter = RateLimiter<NotKeyed, InMemoryState, MarkClock, NoOpMiddleware<Nanos>>;

impl Pacer {
    /// A pacer whose schedule starts at `origin`.
    pub fn new(schedule: Arc<Schedule>, repeat: Repeat, spread: Spread, origin: Instant) -> Pacer {
        let (clock, limiter) = limiter();
        let mut series = spread.series(0);
        let carry = if series.is_even() { Area::from_micro(SPACING / 2) } else { Area::ZERO };
        let missing = series.next_distance();
        Pacer {
            schedule,
            repeat,
            spread,
            cycle: 0,
            cycle_start: origin,
            carry,
            series,
            granted: 0,
            missing,
            clock,
            limiter,
        }
    }

    /// What to do at `now`. Each arrival is told once; ask again until it is time to wait.
    pub fn poll(&mut self, now: Instant) -> Next {
        while self.repeat.includes(self.cycle) {
            let elapsed = now.saturating_duration_since(self.cycle_start);
            let reading = (self.schedule.area(elapsed) + self.carry).micro();
            let Err(wanted) = self.ask(u64::try_from(reading).unwrap_or(u64::MAX)) else {
                return Next::Due(self.mark_reached(now));
            };
            let end = self.cycle_start + self.schedule.length();
            if let Some(placed) = self.schedule.at(elapsed)
                && let Load::Concurrency(slots) = placed.phase.load
                && now >= self.cycle_start
            {
                let (since, until) = (self.cycle_start + placed.start, self.cycle_start + placed.end);
                return Next::Closed { slots, since, until };
            }
            let wake = match self.instant_of(wanted) {
                // Floating point may step back by a billionth where a sine is almost flat: what Λ⁻¹
                // calls reached has been reached.
                Some(due) if due <= now => match self.ask(wanted) {
                    Ok(()) => return Next::Due(self.mark_reached(now)),
                    Err(_) => continue,
                },
                Some(due) => due,
                None => end,
            };
            let wake = self.next_closed_phase(elapsed).map_or(wake, |closed| wake.min(closed));
            if now < wake {
                return Next::Wait(wake);
            }
            self.start_next_cycle(end);
        }
        Next::End
    }

    /// Puts the clock at a reading and asks governor for the next mark, in pieces that it can count.
    /// What it refuses comes with the reading at which it would not.
    fn ask(&mut self, reading: u64) -> Result<(), u64> {
        while let Some(piece) = NonZeroU32::new(u32::try_from(self.missing).unwrap_or(u32::MAX)) {
            self.clock.set(reading.min(self.granted + u64::from(BURST.get())));
            match self.limiter.check_n(piece) {
                Ok(Ok(())) => {}
                Ok(Err(not_until)) => return Err(not_until.earliest_possible().as_u64()),
                // Only a weight above the burst could come here, and no piece is.
                Err(_) => return Err(u64::MAX),
            }
            self.granted += u64::from(piece.get());
            self.missing -= u64::from(piece.get());
        }
        Ok(())
    }

    /// The due instant of the mark that governor has just granted; the next one becomes the goal.
    fn mark_reached(&mut self, now: Instant) -> Instant {
        self.missing = self.series.next_distance();
        self.instant_of(self.granted).unwrap_or(now)
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
        self.cycle += 1;
        self.cycle_start = start;
        if self.series.is_even() {
            self.carry = self.schedule.total() + self.carry - Area::from_micro(self.granted);
        } else {
            self.series = self.spread.series(self.cycle);
        }
        self.missing = self.series.next_distance();
        self.granted = 0;
        (self.clock, self.limiter) = limiter();
    }
}

impl Spread {
    fn series(&self, cycle: u64) -> Series {
        Series::new(self.arrivals, self.seed, &self.scenario, cycle)
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
        let phases = phases.iter().cloned().map(|(load, millis)| Phase {
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
        let mut pacer =
            Pacer::new(schedule(&load), Repeat::Times(NonZeroU32::MIN), Spread::default(), origin);
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
            &mut Pacer::new(schedule(&load), once, Spread::default(), origin),
            origin,
            (0..=10_000).map(Duration::from_millis),
        );
        // Asked at the start, then only after everything is over: 200,000 arrivals, far above the burst.
        let stopped = dues(
            &mut Pacer::new(schedule(&load), once, Spread::default(), origin),
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
        let mut pacer = Pacer::new(
            schedule(&load),
            Repeat::Times(NonZeroU32::new(1000).unwrap()),
            Spread::default(),
            origin,
        );
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
        let mut pacer = Pacer::new(schedule(&load), Repeat::Forever, Spread::default(), origin);
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
        let mut pacer = Pacer::new(schedule(&load), Repeat::Forever, Spread::default(), origin);
        assert_eq!(pacer.poll(Instant::now()), Next::Wait(origin + Duration::from_mins(30)));
    }

    #[test]
    fn random_arrivals_are_spread_about_the_same_rate_and_start_anew_with_each_cycle() {
        let load = [(Load::Constant(rate("100/s")), 10_000)];
        let origin = Instant::now();
        let twice = Repeat::Times(NonZeroU32::new(2).unwrap());
        let walk = |seed| {
            let spread = Spread { arrivals: Arrivals::Poisson, seed, scenario: "s".into() };
            let mut pacer = Pacer::new(schedule(&load), twice, spread, origin);
            dues(&mut pacer, origin, (0..=20).map(Duration::from_secs))
        };
        let dues = walk(1);
        assert_eq!(dues, walk(1));
        assert_ne!(dues, walk(2));
        // 2,000 expected, with a standard deviation of 45.
        assert!((1800..2200).contains(&dues.len()), "{}", dues.len());
        assert!(dues.is_sorted());
        let second: Vec<_> = dues.iter().filter_map(|due| due.checked_sub(Duration::from_secs(10))).collect();
        assert_ne!(second[..10], dues[..10], "a cycle draws its own");
    }

    /// Bursts so rare that their distances exceed what governor counts at once.
    #[test]
    fn a_distance_beyond_what_governor_can_count_is_walked_in_pieces() {
        let load = [(Load::Constant(rate("100000/s")), 10_000)];
        let origin = Instant::now();
        let once = Repeat::Times(NonZeroU32::MIN);
        let spread = Spread { arrivals: Arrivals::Burstiness(0.0001), seed: 5, scenario: "s".into() };
        let mut series = spread.series(0);
        let mut sum = 0;
        let marks: Vec<u64> = std::iter::repeat_with(|| {
            sum += series.next_distance();
            sum
        })
        .take_while(|mark| *mark <= 1_000_000_000_000)
        .collect();
        let far = marks.windows(2).any(|pair| pair[1] - pair[0] > u64::from(u32::MAX));
        assert!(far, "the seed has such a distance");
        let mut pacer = Pacer::new(schedule(&load), once, spread, origin);
        let dues = dues(&mut pacer, origin, (0..=10).map(Duration::from_secs));
        let exact: Vec<_> = marks.iter().map(|mark| Duration::from_nanos(mark.div_ceil(100))).collect();
        assert_eq!(dues, exact);
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
            let told = dues(&mut Pacer::new(Arc::clone(&schedule), repeat, Spread::default(), origin), origin,
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
