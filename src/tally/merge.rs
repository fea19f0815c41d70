//! Adds up the tallies of the shards of one run.

use super::{MAX_PHASES, RawStatistics, TallySnapshot, WindowCounts};

impl TallySnapshot {
    /// Adds the values of another shard. Both shards have the same phases, and their schedules
    /// start at the same instant.
    pub fn add_shard(&mut self, other: &TallySnapshot) {
        for (phase, others) in self.phases.iter_mut().zip(&other.phases) {
            phase.arrived.add(&others.arrived);
            phase.window.add_shard(&others.window);
        }
        self.tail.add_shard(&other.tail);
        self.timeline.add(&other.timeline);
        for (groups, others) in self.turns.iter_mut().zip(&other.turns) {
            for (group, other) in groups.iter_mut().zip(others.iter()) {
                group.add(other);
            }
        }
        if let Some(others) = &other.replay {
            self.replay.get_or_insert_default().add(others);
        }
        // The peaks of the shards are not at the same second.
        self.peak_chunks_per_second = None;
        self.add_up_phases();
    }

    /// Computes the totals from the phases.
    pub fn add_up_phases(&mut self) {
        // Phases can have different objectives, so the total has none.
        let (mut arrived, mut window) = (RawStatistics::default(), WindowCounts::default());
        for phase in &self.phases {
            arrived.add(&phase.arrived);
            window.add(&phase.window);
        }
        (self.arrived, self.window) = (arrived, window);
    }

    /// False if llmload cannot have recorded these values, so a file has been damaged.
    pub fn is_plausible(&self) -> bool {
        self.phases.len() <= MAX_PHASES && self.timeline.is_plausible()
    }
}

impl WindowCounts {
    /// Adds the counts of the same part of the run in another shard.
    fn add_shard(&mut self, other: &WindowCounts) {
        let length = self.length.max(other.length);
        // The highest numbers in flight were not at the same instant, so this is an upper limit.
        let peak_in_flight = self.peak_in_flight + other.peak_in_flight;
        self.add(other);
        (self.length, self.peak_in_flight) = (length, peak_in_flight);
        if self.spans.len() < other.spans.len() {
            self.spans.clone_from(&other.spans);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::sync::Arc;
    use std::time::Duration;

    use proptest::prelude::*;
    use tokio::time::Instant;

    use super::*;
    use crate::event::{Arrival, DropReason, Event, Evidence, Observe as _, RequestIds};
    use crate::measurement::{Anomalies, Failure, FailureDetail, Measurement, Usage};
    use crate::schedule::{Lengths, Load, Phase, Repeat, Schedule};
    use crate::schedule_state::PhaseWindows;
    use crate::slo::{Criterion, LatencyMetric, Objective, Share, Slo};
    use crate::tally::{PhaseRule, Tally};

    /// One arrival. All times are in microseconds.
    #[derive(Clone, Copy, Debug)]
    struct Request {
        due: u64,
        first: u64,
        rest: u64,
        tokens: u64,
        /// 0 is a drop, 1 a failure, and all others are successes.
        outcome: u8,
        shard: usize,
    }

    fn any_request() -> impl Strategy<Value = Request> {
        let times = (0..600_000_000_u64, 1..3_000_000_u64, 0..9_000_000_u64);
        (times, 1..500_u64, 0..10_u8, 0..4_usize).prop_map(
            |((due, first, rest), tokens, outcome, shard)| Request {
                due,
                first,
                rest,
                tokens,
                outcome,
                shard,
            },
        )
    }

    fn schedule() -> Schedule {
        let phase = |name: &str, seconds| Phase {
            name: name.to_owned(),
            load: Load::Concurrency(NonZeroU32::MIN),
            length: Duration::from_secs(seconds),
        };
        Schedule::new(vec![phase("low", 200), phase("high", 400)])
    }

    /// The tally of the requests for which `is_mine` is true.
    fn snapshot(
        requests: &[Request],
        origin: Instant,
        is_mine: impl Fn(&Request) -> bool,
    ) -> TallySnapshot {
        let schedule = schedule();
        let repeat = Repeat::Times(NonZeroU32::MIN);
        let windows = Arc::new(PhaseWindows::new(Arc::new(schedule.clone()), repeat));
        windows.begin(origin);
        let objective = Objective {
            criterion: Criterion::Latency(LatencyMetric::Ttft, Duration::from_secs(1)),
            share: Share::new(0.9).unwrap(),
        };
        let slo = Some(Arc::new(Slo { objectives: vec![objective], abort: false }));
        let rule = PhaseRule { slo, explore: false, most_arrivals: None };
        let tally = Tally::new(&schedule, windows, &[rule.clone(), rule], true).of_shard(true);
        let detail = FailureDetail::new(Failure::TimeoutIdle, "");
        let (ids, evidence) = (RequestIds::default(), Evidence::default());
        for request in requests.iter().filter(|request| is_mine(request)) {
            let Request { due: micros, first, rest, tokens, outcome, .. } = *request;
            let due = origin + Duration::from_micros(micros);
            let phase = Some(usize::from(micros >= 200_000_000));
            let lengths = tokens.is_multiple_of(2).then(Lengths::default);
            let arrival = Arrival { k: 0, due, phase, lengths, turn: 0 };
            if outcome == 0 {
                tally.observe(&arrival, Event::Dropped(DropReason::Late));
                continue;
            }
            let (zero, until_first) = (Duration::ZERO, Duration::from_micros(first));
            tally.observe(&arrival, Event::Sent { lag: zero, waited: zero });
            let since_due = until_first;
            tally.observe(&arrival, Event::FirstToken { since_sent: until_first, since_due });
            let total = Duration::from_micros(first + rest);
            if outcome == 1 {
                let (detail, ids, evidence) = (&detail, &ids, &evidence);
                let (duration, since_due) = (total, total);
                let failed = Event::Failed { detail, duration, since_due, ids, evidence };
                tally.observe(&arrival, failed);
                continue;
            }
            let measurement = Measurement {
                due,
                sent: due,
                first_token: Some(due + until_first),
                first_answer_token: None,
                last_token: Some(due + total),
                end: due + total,
                usage: Usage { input: Some(9), output: Some(tokens), ..Usage::default() },
                token_events: 1,
                reasoning_shown: false,
                anomalies: Anomalies::default(),
            };
            tally.observe(&arrival, Event::Succeeded(&measurement));
        }
        tally.read(origin + Duration::from_hours(1))
    }

    /// Sums of fractions depend on their order in the last digit, and the order of the shards is
    /// not the order of the requests.
    fn assert_close(one: f64, other: f64) -> Result<(), TestCaseError> {
        prop_assert!((one - other).abs() <= 1e-9 * one.abs().max(1.0), "{} {}", one, other);
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
        #[test]
        fn the_sum_of_all_shards_is_the_tally_of_all_requests(
            mut requests in prop::collection::vec(any_request(), 1..120),
        ) {
            requests.sort_by_key(|request| request.due);
            let origin = Instant::now();
            let all = snapshot(&requests, origin, |_| true);
            let shard = |index| {
                let shard = snapshot(&requests, origin, |request| request.shard == index);
                let text = serde_json::to_string(&shard).unwrap();
                let mut read: TallySnapshot = serde_json::from_str(&text).unwrap();
                read.add_up_phases();
                read
            };
            let mut sum = shard(0);
            (1..4).for_each(|index| sum.add_shard(&shard(index)));
            prop_assert!(sum.is_plausible());
            let rows = |tally: &TallySnapshot| {
                tally.replay.as_ref().map(|rows| (rows.dropped, rows.on_time, rows.lag.count()))
            };
            prop_assert_eq!(rows(&sum), rows(&all));
            let phases = sum.phases.iter().zip(&all.phases);
            let pairs = phases.map(|(one, other)| (&one.arrived, &other.arrived));
            for (one, other) in pairs.chain([(&sum.arrived, &all.arrived)]) {
                prop_assert_eq!(one.arrivals(), other.arrivals());
                prop_assert_eq!(one.failures, other.failures);
                prop_assert_eq!(one.tokens, other.tokens);
                prop_assert_eq!(&one.objectives, &other.objectives);
                prop_assert_eq!(one.total_duration, other.total_duration);
                for (one, other) in [
                    (&one.time_to_first_token, &other.time_to_first_token),
                    (&one.time_per_output_token, &other.time_per_output_token),
                    (&one.request_duration, &other.request_duration),
                    (&one.output_tokens_per_second, &other.output_tokens_per_second),
                    (&one.output_tokens, &other.output_tokens),
                ] {
                    prop_assert_eq!(one.values().collect::<Vec<_>>(), other.values().collect::<Vec<_>>());
                    prop_assert_eq!(one.extremes(), other.extremes());
                    for q in [0.5, 0.9, 0.99] {
                        prop_assert_eq!(one.quantile(q), other.quantile(q));
                    }
                    assert_close(one.sum(), other.sum())?;
                }
            }
            let windows = sum.phases.iter().zip(&all.phases).map(|(one, other)| (&one.window, &other.window));
            for (one, other) in windows.chain([(&sum.window, &all.window), (&sum.tail, &all.tail)]) {
                prop_assert_eq!(one.length, other.length);
                prop_assert_eq!((one.succeeded, one.failed, one.good), (other.succeeded, other.failed, other.good));
                prop_assert_eq!((one.tokens, one.in_flight_nanos), (other.tokens, other.in_flight_nanos));
                prop_assert_eq!(&one.spans, &other.spans);
                prop_assert!(one.peak_in_flight >= other.peak_in_flight);
            }
            let (one, other) = (&sum.timeline, &all.timeline);
            prop_assert_eq!(one.width(), other.width());
            prop_assert_eq!(one.intervals().len(), other.intervals().len());
            for (one, other) in one.intervals().iter().zip(other.intervals()) {
                prop_assert_eq!((one.arrivals, one.dropped), (other.arrivals, other.dropped));
                prop_assert_eq!((one.succeeded, one.failures), (other.succeeded, other.failures));
                let median = |times: &Option<crate::tally::Distribution>| times.as_ref()?.quantile(0.5);
                prop_assert_eq!(median(&one.time_to_first_token), median(&other.time_to_first_token));
            }
            for (one, other) in one.requests_in_flight().iter().zip(other.requests_in_flight()) {
                assert_close(*one, other)?;
            }
        }
    }
}
