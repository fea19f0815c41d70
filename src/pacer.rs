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
//! - A pacer walks one stretch of one cycle with a limiter of its own. Where the marks of a cycle
//!   stand follows from the cycle's number alone, so nothing is handed from one pacer to the next.
//!
//! [`Pacer`] is a synchronous value: time is passed in, and what it answers is obeyed elsewhere.

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

use crate::schedule::{Area, Lengths, Load, Schedule, Series, Spread};

/// What governor's bucket holds: over 4,000 arrivals, and the largest number it can count.
const BURST: NonZeroU32 = NonZeroU32::MAX;
const A_BILLION: NonZeroU32 = NonZeroU32::MIN.saturating_add(999_999_999);

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// An arrival was due at this instant, now or in the past.
    Due {
        /// The instant.
        due: Instant,
        /// Its number in the one series that all shards share.
        k: u64,
        /// How long its prompt and answer shall be, where a trace says so.
        lengths: Option<Lengths>,
    },
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
    /// A closed-loop phase that counts requests is on; when they have ended, [`Pacer::go_on`].
    Counted {
        /// The position of the phase.
        phase: usize,
        /// How many in flight.
        slots: NonZeroU32,
        /// How many in all.
        count: NonZeroU64,
        /// The start of the phase.
        since: Instant,
    },
    /// The stretch ended at this instant.
    Over(Instant),
}

/// A part of one cycle of a schedule, on the monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// The number of the cycle.
    pub cycle: u64,
    /// When the cycle began.
    pub start: Instant,
    /// What was due up to this time of the cycle is not part of the stretch; `None` takes all of it.
    pub after: Option<Duration>,
    /// The time of the cycle at which the stretch ends: at most the length of the schedule.
    pub until: Duration,
}

impl Stretch {
    /// A whole cycle.
    pub fn whole(schedule: &Schedule, cycle: u64, start: Instant) -> Stretch {
        Stretch { cycle, start, after: None, until: schedule.length() }
    }
}

/// Walks the arrivals of one stretch.
#[derive(Debug)]
pub struct Pacer {
    schedule: Arc<Schedule>,
    stretch: Stretch,
    /// From the last mark before this cycle to its start.
    carry: Area,
    series: Series,
    /// The number of the next arrival.
    next: u64,
    /// How much further the arrival after it is.
    step: u64,
    /// Where the next mark is, once what is missing is there.
    granted: u64,
    /// What is missing to the next mark.
    missing: u64,
    /// Where the clock of the limiter stood at its birth.
    born: u64,
    /// The position of the first phase that may still be counted out.
    uncounted: usize,
    clock: MarkClock,
    limiter: Limiter,
}

type Limiter = RateLimiter<NotKeyed, InMemoryState, MarkClock, NoOpMiddleware<Nanos>>;

impl Pacer {
    /// A pacer for a stretch of a schedule.
    pub fn new(schedule: Arc<Schedule>, spread: &Spread, stretch: Stretch) -> Pacer {
        let mut series = Series::new(spread, stretch.cycle);
        let (before, left_over) = schedule.before(stretch.cycle);
        // A random series starts anew at the start of its cycle, so that a cycle is a function of its
        // number.
        let carry = if series.is_even() { left_over } else { Area::ZERO };
        let (mut next, step) = (before.wrapping_add(spread.shard.number(0)), spread.shard.number(1));
        let step = step - spread.shard.number(0);
        let (mut granted, mut missing, mut uncounted) = (0, series.next_distance(), 0);
        if let Some(after) = stretch.after {
            let passed = micro(schedule.area(after) + carry);
            // Even marks are skipped in one step.
            if series.is_even() && passed > granted + missing {
                let distance = series.next_distance();
                let marks = (passed - granted - missing) / distance;
                granted += missing + marks * distance;
                next = next.wrapping_add((marks + 1).wrapping_mul(step));
                missing = distance;
            }
            while granted + missing <= passed {
                granted += missing;
                missing = series.next_distance();
                next = next.wrapping_add(step);
            }
            let begun = |index| schedule.placed(index).is_some_and(|placed| placed.start < after);
            uncounted = (0..schedule.phases().len()).find(|index| !begun(*index)).unwrap_or(usize::MAX);
        }
        let (clock, limiter) = limiter();
        let born = granted;
        Pacer {
            schedule,
            stretch,
            carry,
            series,
            next,
            step,
            granted,
            missing,
            born,
            uncounted,
            clock,
            limiter,
        }
    }

    /// The cycle that it walks, as it stands now: one that was counted out began later.
    pub fn stretch(&self) -> Stretch {
        self.stretch
    }

    /// What to do at `now`. Each arrival is told once; ask again until it is time to wait.
    pub fn poll(&mut self, now: Instant) -> Next {
        let Barrier { time, area, counted } = self.barrier();
        let barrier = self.stretch.start + time;
        let elapsed = now.saturating_duration_since(self.stretch.start).min(time);
        let reached =
            if now < self.stretch.start { Area::ZERO } else { self.schedule.area(elapsed).min(area) };
        let mut reading = micro(reached + self.carry);
        loop {
            let Err(wanted) = self.ask(reading) else {
                return self.mark_reached(now);
            };
            if let Some(placed) = self.schedule.at(elapsed)
                && let Load::Concurrency(slots) = placed.phase.load
                && now >= self.stretch.start
                && now < barrier
            {
                let until = (self.stretch.start + placed.end).min(barrier);
                return Next::Closed { slots, since: self.stretch.start + placed.start, until };
            }
            match self.instant_of(wanted).filter(|_| wanted <= micro(area + self.carry)) {
                // Floating point may step back by a billionth where a sine is almost flat: what Λ⁻¹
                // calls reached has been reached.
                Some(due) if due <= now => reading = wanted,
                due => {
                    let wake = due.map_or(barrier, |due| due.min(barrier));
                    let wake = self.next_closed_phase(elapsed).map_or(wake, |closed| wake.min(closed));
                    return match counted {
                        _ if now < wake => Next::Wait(wake),
                        Some((phase, slots, count)) => Next::Counted { phase, slots, count, since: barrier },
                        None => Next::Over(barrier),
                    };
                }
            }
        }
    }

    /// The requests that were counted have ended: the schedule, which stood still, goes on.
    pub fn go_on(&mut self, now: Instant) {
        let Barrier { time, counted: Some((phase, ..)), .. } = self.barrier() else { return };
        self.uncounted = phase + 1;
        self.stretch.start += now.saturating_duration_since(self.stretch.start + time);
    }

    /// What stops the schedule next: requests to be counted, or the end of the stretch.
    fn barrier(&self) -> Barrier {
        let phases = self.schedule.phases().iter().enumerate().skip(self.uncounted);
        let counted = phases.filter_map(|(index, phase)| match phase.load {
            Load::Requests { slots, count } => Some((index, slots, count)),
            _ => None,
        });
        let first =
            counted.take(1).find_map(|counted| Some((counted, self.schedule.placed(counted.0)?.start)));
        match first.filter(|(_, start)| *start <= self.stretch.until) {
            Some((counted, time)) => {
                Barrier { time, area: self.schedule.area_before(counted.0), counted: Some(counted) }
            }
            None => {
                let time = self.stretch.until;
                Barrier { time, area: self.schedule.area(time), counted: None }
            }
        }
    }

    /// Puts the clock at a reading and asks governor for the next mark, in pieces that it can count.
    /// What it refuses comes with the reading at which it would not.
    fn ask(&mut self, reading: u64) -> Result<(), u64> {
        while let Some(piece) = NonZeroU32::new(u32::try_from(self.missing).unwrap_or(u32::MAX)) {
            let most = self.granted + u64::from(BURST.get());
            self.clock.set(reading.min(most).saturating_sub(self.born));
            match self.limiter.check_n(piece) {
                Ok(Ok(())) => {}
                Ok(Err(not_until)) => return Err(self.born + not_until.earliest_possible().as_u64()),
                // Only a weight above the burst could come here, and no piece is.
                Err(_) => return Err(u64::MAX),
            }
            self.granted += u64::from(piece.get());
            self.missing -= u64::from(piece.get());
        }
        Ok(())
    }

    /// The mark that governor has just granted is due; the next one becomes the goal.
    fn mark_reached(&mut self, now: Instant) -> Next {
        self.missing = self.series.next_distance();
        let due = self.instant_of(self.granted).unwrap_or(now);
        let k = self.next;
        self.next = self.next.wrapping_add(self.step);
        let lengths = self.schedule.lengths_at(Area::from_micro(self.granted) - self.carry);
        Next::Due { due, k, lengths }
    }

    /// When this cycle reaches a sum of weights, if it does.
    fn instant_of(&self, weights: u64) -> Option<Instant> {
        let due = self.schedule.due(Area::from_micro(weights) - self.carry)?;
        Some(self.stretch.start + due)
    }

    /// The start of the next closed-loop phase of this cycle.
    fn next_closed_phase(&self, elapsed: Duration) -> Option<Instant> {
        let here = self.schedule.at(elapsed)?.index;
        (here..self.schedule.phases().len())
            .filter_map(|index| self.schedule.placed(index))
            .find(|placed| matches!(placed.phase.load, Load::Concurrency(_)))
            .map(|placed| self.stretch.start + placed.start)
    }
}

/// Where the walk along the schedule stops next.
struct Barrier {
    time: Duration,
    area: Area,
    counted: Option<(usize, NonZeroU32, NonZeroU64)>,
}

fn micro(area: Area) -> u64 {
    u64::try_from(area.micro()).unwrap_or(u64::MAX)
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
    use crate::schedule::{Arrivals, Phase, Rate, Shard};

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

    fn whole(load: &[(Load, u64)], origin: Instant) -> Pacer {
        let schedule = schedule(load);
        let stretch = Stretch::whole(&schedule, 0, origin);
        Pacer::new(schedule, &Spread::default(), stretch)
    }

    /// Everything due in so many cycles, asked for only at the instants that `ask` picks.
    fn dues(
        schedule: &Arc<Schedule>,
        cycles: u64,
        spread: &Spread,
        mut ask: impl Iterator<Item = Duration>,
    ) -> Vec<Duration> {
        let origin = Instant::now();
        let (mut dues, mut now, mut start) = (Vec::new(), origin, origin);
        for cycle in 0..cycles {
            let mut pacer = Pacer::new(Arc::clone(schedule), spread, Stretch::whole(schedule, cycle, start));
            loop {
                match pacer.poll(now) {
                    Next::Due { due, .. } => dues.push(due - origin),
                    Next::Over(at) => break start = at,
                    _ => match ask.next() {
                        Some(at) => now = origin + at,
                        None => return dues,
                    },
                }
            }
        }
        dues
    }

    #[test]
    fn arrivals_come_when_they_are_due_if_its_advice_is_followed() {
        let load = [(Load::Ramp { from: Rate::ZERO, to: rate("400/s") }, 20_000)];
        let origin = Instant::now();
        let mut pacer = whole(&load, origin);
        let (mut now, mut count) = (origin, 0);
        loop {
            match pacer.poll(now) {
                Next::Due { due, k, lengths } => {
                    assert_eq!((due, k, lengths), (now, count, None));
                    count += 1;
                }
                Next::Wait(until) => {
                    assert!(until > now);
                    now = until;
                }
                Next::Closed { .. } | Next::Counted { .. } => unreachable!(),
                Next::Over(_) => break,
            }
        }
        assert_eq!(count, 4000);
    }

    #[test]
    fn a_long_stop_loses_nothing_and_keeps_the_grid() {
        let schedule = schedule(&[(Load::Constant(rate("20000/s")), 10_000)]);
        let even = Spread::default();
        let steady = dues(&schedule, 1, &even, (0..=10_000).map(Duration::from_millis));
        // Asked at the start, then only after everything is over: 200,000 arrivals, far above the burst.
        let stopped = dues(&schedule, 1, &even, [Duration::from_mins(1)].into_iter());
        assert_eq!(steady.len(), 200_000);
        assert_eq!(steady, stopped);
    }

    #[test]
    fn cycles_carry_the_fraction_and_nothing_else() {
        // 0.7 arrivals a cycle: 1,000 cycles are one schedule of 700, never a tenth more or less.
        let schedule = schedule(&[(Load::Constant(rate("7/s")), 100)]);
        let dues = dues(&schedule, 1000, &Spread::default(), (0..=100).map(Duration::from_secs));
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
        let mut pacer = whole(&load, origin);
        assert_eq!(pacer.poll(origin), Next::Wait(at(1000)));
        assert_eq!(pacer.poll(at(1000)), Next::Closed { slots, since: at(1000), until: at(3000) });
        assert_eq!(pacer.poll(at(2999)), Next::Closed { slots, since: at(1000), until: at(3000) });
        assert_eq!(pacer.poll(at(3000)), Next::Wait(at(3500)));
        assert_eq!(pacer.poll(at(3500)), Next::Due { due: at(3500), k: 0, lengths: None });
        assert_eq!(pacer.poll(at(3500)), Next::Wait(at(4000)));
        assert_eq!(pacer.poll(at(4000)), Next::Over(at(4000)));
    }

    #[test]
    fn a_counted_phase_holds_the_schedule_until_it_is_told_to_go_on() {
        let (slots, count) = (NonZeroU32::new(3).unwrap(), NonZeroU64::new(10).unwrap());
        let load = [
            (Load::Requests { slots, count }, 0),
            (Load::Constant(rate("1/s")), 2000),
            (Load::Requests { slots, count }, 0),
            (Load::Requests { slots, count }, 0),
        ];
        let origin = Instant::now();
        let at = |millis| origin + Duration::from_millis(millis);
        let counted = |phase, since| Next::Counted { phase, slots, count, since };
        let mut pacer = whole(&load, origin);
        assert_eq!(pacer.poll(origin), counted(0, origin));
        assert_eq!(pacer.poll(at(700)), counted(0, origin));
        pacer.go_on(at(700));
        assert_eq!(pacer.poll(at(700)), Next::Wait(at(1200)));
        assert_eq!(pacer.poll(at(5000)), Next::Due { due: at(1200), k: 0, lengths: None });
        assert_eq!(pacer.poll(at(5000)), Next::Due { due: at(2200), k: 1, lengths: None });
        assert_eq!(pacer.poll(at(5000)), counted(2, at(2700)));
        pacer.go_on(at(5000));
        assert_eq!(pacer.poll(at(5000)), counted(3, at(5000)));
        pacer.go_on(at(6000));
        assert_eq!(pacer.poll(at(6000)), Next::Over(at(6000)));
    }

    #[test]
    fn before_its_origin_it_waits() {
        let origin = Instant::now() + Duration::from_secs(100);
        let load = [(Load::Constant(rate("1/h")), 3_600_000)];
        let mut pacer = whole(&load, origin);
        assert_eq!(pacer.poll(Instant::now()), Next::Wait(origin + Duration::from_mins(30)));
    }

    #[test]
    fn random_arrivals_are_spread_about_the_same_rate_and_start_anew_with_each_cycle() {
        let schedule = schedule(&[(Load::Constant(rate("100/s")), 10_000)]);
        let walk = |seed| {
            let spread =
                Spread { arrivals: Arrivals::Poisson, seed, scenario: "s".into(), shard: Shard::ALL };
            dues(&schedule, 2, &spread, (0..=20).map(Duration::from_secs))
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
        let schedule = schedule(&[(Load::Constant(rate("100000/s")), 10_000)]);
        let arrivals = Arrivals::Burstiness(0.0001);
        let spread = Spread { arrivals, seed: 5, scenario: "s".into(), shard: Shard::ALL };
        let mut series = Series::new(&spread, 0);
        let mut sum = 0;
        let marks: Vec<u64> = std::iter::repeat_with(|| {
            sum += series.next_distance();
            sum
        })
        .take_while(|mark| *mark <= 1_000_000_000_000)
        .collect();
        let far = marks.windows(2).any(|pair| pair[1] - pair[0] > u64::from(u32::MAX));
        assert!(far, "the seed has such a distance");
        let dues = dues(&schedule, 1, &spread, (0..=10).map(Duration::from_secs));
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
            let mut now = Duration::ZERO;
            let asked = gaps.iter().map(|gap| { now += Duration::from_nanos(*gap); now }).collect::<Vec<_>>();
            let end = schedule.length() * cycles;
            let told = dues(&schedule, u64::from(cycles), &Spread::default(), asked.into_iter().chain([end.max(now)]));
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

        #[test]
        fn a_cycle_cut_anywhere_tells_each_arrival_once_and_by_the_same_number(
            cycle in 0u64..1_000_000, cut in 0u64..1400, seed in 0u64..50, random: bool, index in 0u32..3,
        ) {
            let load = [
                (Load::Ramp { from: rate("3/s"), to: rate("700/s") }, 700),
                (Load::Pause, 200),
                (Load::Constant(rate("90/s")), 500),
            ];
            let schedule = schedule(&load);
            let arrivals = if random { Arrivals::Poisson } else { Arrivals::Constant };
            let shard = Shard::new(index, 3).unwrap();
            let spread = Spread { arrivals, seed, scenario: "s".into(), shard };
            let start = Instant::now();
            let walk = |after: Option<Duration>, until: Duration| {
                let stretch = Stretch { cycle, start, after, until };
                let mut pacer = Pacer::new(Arc::clone(&schedule), &spread, stretch);
                let mut told = Vec::new();
                while let Next::Due { due, k, .. } = pacer.poll(start + Duration::from_secs(10)) {
                    told.push((due - start, k));
                }
                told
            };
            let cut = Duration::from_millis(cut);
            let whole = walk(None, schedule.length());
            let mut parts = walk(None, cut);
            parts.extend(walk(Some(cut), schedule.length()));
            prop_assert!(parts.iter().all(|(_, k)| k % 3 == (whole.first().unwrap().1 % 3)));
            prop_assert_eq!(whole, parts);
        }
    }
}
