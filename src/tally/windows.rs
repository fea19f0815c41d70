//! The events while each phase was on. The rates of a phase follow from these counts.
//!
//! A request that arrives in one phase can end in the next phase. Its latency belongs to the phase
//! of its arrival, but its end belongs to the phase that was on at that instant. So the rate of a
//! phase does not depend on the latency, and the counts of all phases and of the tail add up to the
//! counts of the run.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::event::{Arrival, Event};
use crate::measurement::{Measurement, Usage};
use crate::schedule_state::{PhaseWindows, Place};

/// The most occurrences of a phase whose start and end are kept for the charts.
const MAX_SPANS: usize = 100;

/// The events in a part of the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WindowCounts {
    /// The length of this part. For the tail: the time until the last request ended.
    pub length: Duration,
    /// The number of successes that ended.
    pub succeeded: u64,
    /// The number of failures that ended.
    pub failed: u64,
    /// The number of successes that ended and met all objectives.
    pub good: u64,
    /// The token counts of the successes that ended.
    pub tokens: Usage,
    /// The number of events with text that arrived.
    pub chunks: u64,
    /// The integral of the number of requests in flight over the time, in nanoseconds.
    pub in_flight_nanos: i128,
    pub peak_in_flight: u64,
    /// The start and the end of each occurrence, from the start of the schedule.
    pub spans: Vec<(Duration, Duration)>,
}

impl WindowCounts {
    /// Adds the counts of another part.
    pub fn add(&mut self, other: &WindowCounts) {
        self.length += other.length;
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        self.good += other.good;
        self.tokens.add(other.tokens);
        self.chunks += other.chunks;
        self.in_flight_nanos += other.in_flight_nanos;
        self.peak_in_flight = self.peak_in_flight.max(other.peak_in_flight);
    }

    fn extend_span(&mut self, from: Duration, to: Duration) {
        if let Some(last) = self.spans.last_mut().filter(|last| last.1 == from) {
            last.1 = to;
        } else if self.spans.len() < MAX_SPANS {
            self.spans.push((from, to));
        }
    }
}

/// The counts of all phases and of the tail.
#[derive(Clone, Debug)]
pub(super) struct WindowTally {
    windows: Arc<PhaseWindows>,
    /// One entry for each entry of the tally.
    pub entries: Vec<WindowCounts>,
    pub tail: WindowCounts,
    pub peak_chunks: PeakRate,
    in_flight: u64,
    /// The integrals contain the time up to this instant.
    advanced_to: Option<Instant>,
}

impl WindowTally {
    pub fn new(windows: Arc<PhaseWindows>, entries: usize) -> WindowTally {
        WindowTally {
            windows,
            entries: vec![WindowCounts::default(); entries],
            tail: WindowCounts::default(),
            peak_chunks: PeakRate::default(),
            in_flight: 0,
            advanced_to: None,
        }
    }

    pub fn place(&self, at: Instant) -> Place {
        self.windows.place(at)
    }

    /// Returns the start of the first cycle.
    pub fn origin(&self) -> Option<Instant> {
        self.windows.origin()
    }

    /// Records an event. `entry_of` maps the index of a phase to the index of an entry. `is_good`
    /// is true for a success that met all objectives.
    pub fn record(
        &mut self,
        arrival: &Arrival,
        event: Event<'_>,
        entry_of: &[usize],
        is_good: bool,
    ) {
        match event {
            Event::Sent { lag, .. } => self.change_in_flight(arrival.due + lag, 1, entry_of),
            Event::Chunks { count, at, .. } => {
                self.peak_chunks.record(at, u64::from(count));
                self.part_at(at, entry_of).chunks += u64::from(count);
            }
            Event::Succeeded(&Measurement { end, usage, .. }) => {
                self.change_in_flight(end, -1, entry_of);
                let part = self.ended_at(end, entry_of);
                part.succeeded += 1;
                part.good += u64::from(is_good);
                part.tokens.add(usage);
            }
            Event::Failed { since_due, .. } => {
                let end = arrival.due + since_due;
                self.change_in_flight(end, -1, entry_of);
                self.ended_at(end, entry_of).failed += 1;
            }
            _ => {}
        }
    }

    /// Extends the integrals to `now`. A request that has not ended is in flight until then.
    pub fn advance(&mut self, now: Instant, entry_of: &[usize]) {
        let from = self.advanced_to.or_else(|| self.origin());
        if let Some(from) = from.filter(|from| *from < now) {
            self.integrate(from, now, i128::from(self.in_flight), true, entry_of);
        }
        self.advanced_to = self.advanced_to.max(Some(now));
    }

    /// Changes the number of requests in flight at an instant. Events can arrive a little out of
    /// order, so the instant can be before the end of the integrals, which are then corrected.
    fn change_in_flight(&mut self, at: Instant, change: i64, entry_of: &[usize]) {
        self.advance(at, entry_of);
        self.in_flight = self.in_flight.saturating_add_signed(change);
        if let Some(end) = self.advanced_to.filter(|end| at < *end) {
            self.integrate(at, end, change.into(), false, entry_of);
        }
        let in_flight = self.in_flight;
        let part = self.part_at(at, entry_of);
        part.peak_in_flight = part.peak_in_flight.max(in_flight);
    }

    /// Adds `count` requests in flight from one instant to another. `is_new` is true if the
    /// integrals have not yet reached this time.
    fn integrate(
        &mut self,
        from: Instant,
        to: Instant,
        count: i128,
        is_new: bool,
        entry_of: &[usize],
    ) {
        let WindowTally { windows, entries, tail, in_flight, .. } = self;
        let Some(origin) = windows.origin() else { return };
        windows.visit(from, to, |place, from, to| {
            let length = to.saturating_duration_since(from);
            let nanos = count * i128::try_from(length.as_nanos()).unwrap_or(i128::MAX);
            let part = match place {
                Place::Phase(phase) => entries.get_mut(entry_of.get(phase).copied().unwrap_or(0)),
                Place::Before => None,
                Place::Tail => Some(&mut *tail),
            };
            let Some(part) = part else { return };
            part.in_flight_nanos += nanos;
            if is_new {
                part.peak_in_flight = part.peak_in_flight.max(*in_flight);
            }
            if is_new && place != Place::Tail {
                part.length += length;
                part.extend_span(
                    from.saturating_duration_since(origin),
                    to.saturating_duration_since(origin),
                );
            }
        });
    }

    fn part_at(&mut self, at: Instant, entry_of: &[usize]) -> &mut WindowCounts {
        match self.windows.place(at) {
            Place::Phase(phase) => {
                let entry = entry_of.get(phase).copied().unwrap_or(0);
                self.entries.get_mut(entry).unwrap_or(&mut self.tail)
            }
            // No request is sent before the first window.
            Place::Before | Place::Tail => &mut self.tail,
        }
    }

    /// Returns the part in which a request ended. The end in the tail makes the tail longer.
    fn ended_at(&mut self, end: Instant, entry_of: &[usize]) -> &mut WindowCounts {
        if self.windows.place(end) == Place::Tail {
            let last = self.windows.end_before(end).unwrap_or(end);
            self.tail.length = self.tail.length.max(end.saturating_duration_since(last));
        }
        self.part_at(end, entry_of)
    }
}

/// The highest count in one second. The seconds begin with the first event.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PeakRate {
    second: Option<(Instant, u64)>,
    highest: u64,
}

impl PeakRate {
    fn record(&mut self, at: Instant, count: u64) {
        let second = Duration::from_secs(1);
        let (start, so_far) = self.second.unwrap_or((at, 0));
        let elapsed = at.saturating_duration_since(start);
        let (start, so_far) = if elapsed < second {
            (start, so_far)
        } else {
            (start + Duration::from_secs(elapsed.as_secs()), 0)
        };
        self.second = Some((start, so_far + count));
        self.highest = self.highest.max(so_far + count);
    }

    /// The highest count in one second; `None` without an event.
    pub fn highest(self) -> Option<u64> {
        (self.highest > 0).then_some(self.highest)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

    use std::num::NonZeroU32;

    use proptest::prelude::*;

    use super::*;
    use crate::event::{Evidence, RequestIds};
    use crate::measurement::{Failure, FailureDetail};
    use crate::pacer::{Next, Pacer, Segment};
    use crate::schedule::{ArrivalSpec, Arrivals, Load, Phase, Rate, Repeat, Schedule, Shard};
    use crate::tally::Tally;

    fn rate(thousandths: u64) -> Rate {
        Rate::from_micro_per_hour(thousandths * 3_600_000).unwrap()
    }

    /// Open-loop phases of all shapes, with up to 20 arrivals per second.
    fn any_schedule() -> impl Strategy<Value = Schedule> {
        let load = prop_oneof![
            (1_u64..20_000).prop_map(|r| Load::Constant(rate(r))),
            (0_u64..20_000, 1_u64..20_000)
                .prop_map(|(from, to)| Load::Ramp { from: rate(from), to: rate(to) }),
            (1_000_u64..10_000, 2_u64..9).prop_map(|(mean, period)| Load::Sine {
                mean: rate(mean),
                amplitude: rate(mean / 2),
                period: Duration::from_secs(period),
            }),
            Just(Load::Pause),
        ];
        prop::collection::vec((load, 500_u64..20_000), 1..6).prop_map(|phases| {
            let phases = phases.into_iter().enumerate().map(|(index, (load, millis))| Phase {
                name: index.to_string(),
                load,
                length: Duration::from_millis(millis),
            });
            Schedule::new(phases.collect())
        })
    }

    /// Sends all arrivals of some cycles to a target with a fixed latency. Every event is observed
    /// in the order of time, and some are one event too late.
    fn tally(schedule: &Arc<Schedule>, cycles: u32, latency: Duration, origin: Instant) -> Tally {
        let repeat = Repeat::Times(NonZeroU32::new(cycles).unwrap());
        let windows = PhaseWindows::new(Arc::clone(schedule), repeat);
        windows.begin(origin);
        let tally = Tally::new(schedule, Arc::new(windows), &[], cycles == 1);
        let spec = ArrivalSpec {
            arrivals: Arrivals::Constant,
            seed: 1,
            scenario: "s".to_owned(),
            shard: Shard::ALL,
        };
        let mut events: Vec<(Instant, Arrival, bool)> = Vec::new();
        let mut start = origin;
        for cycle in 0..cycles {
            let segment = Segment::full_cycle(schedule, cycle.into(), start);
            let mut pacer = Pacer::new(Arc::clone(schedule), &spec, segment);
            let end = start + schedule.length();
            while let Next::Due { due, k, phase, lengths } = pacer.poll(end) {
                let arrival = Arrival { k, due, phase: Some(phase), lengths, turn: 0 };
                events.push((due, arrival, true));
                events.push((due + latency, arrival, false));
            }
            start = end;
        }
        events.sort_by_key(|event| event.0);
        for pair in events.chunks_mut(2).skip(1).step_by(3) {
            // The events of one request stay in their order.
            if let [one, other] = pair
                && one.1.k != other.1.k
            {
                std::mem::swap(one, other);
            }
        }
        let detail = FailureDetail::new(Failure::Reset, "");
        for (_, arrival, is_sent) in events {
            let zero = Duration::ZERO;
            let event = if is_sent {
                Event::Sent { lag: zero, waited: zero }
            } else {
                Event::Failed {
                    detail: &detail,
                    duration: latency,
                    since_due: latency,
                    ids: &RequestIds::default(),
                    evidence: &Evidence::default(),
                }
            };
            crate::event::Observe::observe(&tally, &arrival, event);
        }
        tally
    }

    proptest! {
        /// The requests that end in a phase are those that arrived one latency earlier.
        #[test]
        fn the_rate_of_a_phase_is_its_offered_rate_one_latency_earlier(
            schedule in any_schedule(),
            cycles in 1_u32..4,
            latency in prop_oneof![Just(1_u64), 1..30_000_u64],
        ) {
            let (schedule, latency) = (Arc::new(schedule), Duration::from_millis(latency));
            let origin = Instant::now();
            let tally = tally(&schedule, cycles, latency, origin);
            let total = schedule.length() * cycles;
            let snapshot = tally.read(origin + total + latency);
            // The number of arrivals until an instant of the run.
            let arrived = |time: Option<Duration>| {
                let Some(time) = time else { return 0.0 };
                let length = schedule.length().as_nanos();
                let done = (time.as_nanos() / length).min(cycles.into());
                let rest = if done == cycles.into() { 0 } else { time.as_nanos() % length };
                done as f64 * schedule.total().as_f64()
                    + if rest > 0 { schedule.area(Duration::from_nanos(rest as u64)).as_f64() }
                    else { 0.0 }
            };
            let mut ended = 0;
            for (index, phase) in snapshot.phases.iter().enumerate() {
                let span = schedule.phase_span(index).unwrap();
                let occurrences = (0..cycles).map(|cycle| {
                    let start = schedule.length() * cycle;
                    let (from, to) = (start + span.start, start + span.end);
                    arrived(to.checked_sub(latency)) - arrived(from.checked_sub(latency))
                });
                let expected: f64 = occurrences.sum();
                let within = f64::from(cycles);
                prop_assert!(
                    (phase.window.failed as f64 - expected).abs() <= within,
                    "phase {} of {:?}: {} instead of {}", index, schedule, phase.window.failed, expected
                );
                prop_assert_eq!(phase.window.length, span.phase.length * cycles);
                ended += phase.window.failed;
            }
            prop_assert_eq!(ended + snapshot.tail.failed, snapshot.arrived.failed());
            // Little's law: the sum of all durations is the integral of the requests in flight.
            let in_flight = snapshot.window.in_flight_nanos + snapshot.tail.in_flight_nanos;
            let durations = i128::try_from(snapshot.arrived.total_duration.as_nanos()).unwrap();
            prop_assert_eq!(in_flight, durations);
        }
    }

    #[test]
    fn the_tail_counts_in_no_phase() {
        let phase = |name: &str, load| Phase {
            name: name.to_owned(),
            load,
            length: Duration::from_secs(10),
        };
        let phases = vec![
            phase("low", Load::Constant(rate(5_000))),
            phase("high", Load::Constant(rate(50_000))),
        ];
        let (schedule, origin) = (Arc::new(Schedule::new(phases)), Instant::now());
        let snapshot = tally(&schedule, 1, Duration::from_secs(3), origin)
            .read(origin + Duration::from_mins(1));
        let counts: Vec<_> = snapshot.phases.iter().map(|phase| phase.window.failed).collect();
        // In the first 3 s of a phase, the requests of the phase before it end.
        assert_eq!((counts, snapshot.tail.failed), (vec![35, 15 + 350], 150));
        // The last request arrives 10 ms before the end of its phase.
        assert_eq!(snapshot.tail.length, Duration::from_millis(2_990));
        // At an equal instant, the order of an end and a sending is open.
        assert!((150..=151).contains(&snapshot.window.peak_in_flight));
        let spans = |index: usize| {
            let spans = &snapshot.phases[index].window.spans;
            spans.iter().map(|(from, to)| (from.as_secs(), to.as_secs())).collect::<Vec<_>>()
        };
        assert_eq!((spans(0), spans(1)), (vec![(0, 10)], vec![(10, 20)]));
    }

    #[test]
    fn a_request_without_an_end_is_in_flight_until_the_run_was_stopped() {
        let phases = vec![Phase {
            name: "a".to_owned(),
            load: Load::Constant(rate(1_000)),
            length: Duration::from_mins(1),
        }];
        let (schedule, origin) = (Arc::new(Schedule::new(phases)), Instant::now());
        let windows = Arc::new(PhaseWindows::new(Arc::clone(&schedule), Repeat::Forever));
        windows.begin(origin);
        let tally = Tally::new(&schedule, Arc::clone(&windows), &[], true);
        let arrival = Arrival { k: 0, due: origin, phase: Some(0), lengths: None, turn: 0 };
        let (lag, waited) = (Duration::from_secs(1), Duration::ZERO);
        crate::event::Observe::observe(&tally, &arrival, Event::Sent { lag, waited });
        windows.limit(origin + Duration::from_secs(7));
        let window = tally.read(origin + Duration::from_secs(9)).window;
        assert_eq!((window.length.as_secs(), window.in_flight_nanos), (7, 6_000_000_000));
    }
}
