//! The knee of a search by concurrency: the level from which on throughput does not grow. Above it,
//! requests only wait longer, so the capacity by the objectives can be a higher level.

use std::collections::BTreeMap;

use super::{Level, Search};

/// Throughput has stopped growing if no higher level has more than this much of it.
const NO_GROWTH: f64 = 1.1;
/// The highest level is this much higher, or else its throughput would not show that it could grow.
const HIGHER_LEVEL: f64 = 1.25;
/// The fewest requests at a level whose throughput is compared.
const FEWEST_REQUESTS: f64 = 30.0;

/// The level from which on throughput does not grow, below the highest level that meets the
/// objectives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Knee {
    pub level: Level,
    /// The throughput there.
    pub requests_per_second: f64,
    /// The throughput at the highest level that meets the objectives.
    pub highest_per_second: f64,
}

/// The throughput at a level, from all its steps that count.
#[derive(Clone, Copy, Debug, Default)]
struct Throughput {
    seconds: f64,
    requests: f64,
    tokens: f64,
}

impl Throughput {
    fn grows_to(&self, higher: &Throughput) -> bool {
        higher.requests / higher.seconds > self.requests / self.seconds * NO_GROWTH
            || higher.tokens / higher.seconds > self.tokens / self.seconds * NO_GROWTH
    }
}

impl Search {
    /// Returns the lowest level that no higher level up to the result exceeds by more than a tenth.
    /// `None` for a search by rate, because there the throughput is the rate.
    pub(super) fn knee(&self) -> Option<Knee> {
        let met @ Level::Concurrency(_) = self.highest_met()? else { return None };
        let mut levels: BTreeMap<Level, Throughput> = BTreeMap::new();
        let counts = self.steps.iter().filter(|step| step.verdict.is_some());
        for step in counts.filter(|step| step.plan.level <= met) {
            let seconds = step.result.measured.as_secs_f64();
            let at = levels.entry(step.plan.level).or_default();
            at.seconds += seconds;
            at.requests += step.result.requests_per_second * seconds;
            at.tokens += step.result.tokens_per_second * seconds;
        }
        levels.retain(|_, at| at.seconds > 0.0 && at.requests >= FEWEST_REQUESTS);
        let highest = *levels.get(&met)?;
        let stops_at = |(level, at): &(&Level, &Throughput)| {
            let is_lower = level.value() * HIGHER_LEVEL <= met.value();
            is_lower && !levels.range(**level..).any(|(_, higher)| at.grows_to(higher))
        };
        let (level, at) = levels.iter().find(stops_at)?;
        Some(Knee {
            level: *level,
            requests_per_second: at.requests / at.seconds,
            highest_per_second: highest.requests / highest.seconds,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::capacity::{Decision, Ending, StepResult};
    use crate::schedule::{SearchRange, SearchSpec};
    use crate::slo::{Criterion, LatencyMetric, Objective, ObjectiveCounts, Share, Slo};

    /// Searches a server whose requests meet the objective up to 24 at a time. `throughput` gives
    /// the requests per second at a level. Returns the knee and the sentence.
    fn knee(throughput: impl Fn(f64) -> f64, range: SearchRange) -> (Option<Knee>, String) {
        let metric = LatencyMetric::Ttft;
        let criterion = Criterion::Latency(metric, Duration::from_secs(1));
        let objective = Objective { criterion, share: Share::percent(90) };
        let spec = Arc::new(SearchSpec {
            range,
            resolution: Share::percent(5),
            step: Duration::from_mins(1),
            slo: Slo { objectives: vec![objective], abort: false },
        });
        let mut search = Search::new(Arc::clone(&spec));
        loop {
            match search.next() {
                Decision::End(ending) => {
                    assert_eq!(ending, Ending::Found);
                    let outcome = search.outcome(ending);
                    return (outcome.knee, outcome.sentence(&spec));
                }
                Decision::Step(plan) => {
                    let met = if plan.level.value() <= 24.0 { 500 } else { 0 };
                    let rate = throughput(plan.level.value());
                    let result = StepResult {
                        elapsed: Duration::from_secs(70),
                        measured: Duration::from_mins(1),
                        requests_per_second: rate,
                        ended_per_second: rate,
                        judged: vec![vec![ObjectiveCounts { judged: 500, met }.into()]],
                        ..StepResult::default()
                    };
                    search.record(plan, result);
                }
            }
        }
    }

    fn concurrencies() -> SearchRange {
        let [from, to] = [1, 256].map(|slots| NonZeroU32::new(slots).unwrap());
        SearchRange::Concurrency { from, to }
    }

    #[test]
    fn throughput_that_stopped_growing_below_the_capacity_is_in_the_sentence() {
        // The server works on 16 requests at once.
        let (found, sentence) = knee(|level| level.min(16.0), concurrencies());
        assert_eq!(found.map(|knee| knee.level.value()), Some(16.0));
        let expected = "Throughput stops growing at 16 at a time: 16.0 requests/s there, 16.0 requests/s at 24 \
             at a time.";
        assert!(sentence.ends_with(expected), "{sentence}");
    }

    #[test]
    fn throughput_that_grows_up_to_the_capacity_has_no_knee() {
        assert_eq!(knee(|level| level, concurrencies()).0, None);
        // From 16 to 24 at a time, throughput grows by more than a tenth.
        let slowly = |level: f64| level.min(16.0 + (level - 16.0) / 4.0);
        assert_eq!(knee(slowly, concurrencies()).0, None);
        // 20 at a time is less than 25 % below 24 at a time.
        let (found, _) = knee(|level| level.min(20.0), concurrencies());
        assert_eq!(found, None);
        let few = |level: f64| level.min(16.0) / 60.0;
        assert_eq!(knee(few, concurrencies()).0, None);
    }

    #[test]
    fn a_search_by_rate_has_no_knee() {
        let [from, to] = ["1/s", "200/s"].map(|rate| rate.parse().unwrap());
        assert_eq!(knee(|_| 5.0, SearchRange::Rate { from, to }).0, None);
    }
}
