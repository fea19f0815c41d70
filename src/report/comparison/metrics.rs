//! The metrics of a phase: their values, and the test of two runs.

use super::super::routes::SEVERAL_LOADS;
use super::super::{
    Distributions, LevelKind, PhaseReport, RouteReport, Statistics, TimelineReport,
};
use super::significance::{
    Batches, Estimate, Sample, quantiles_differ, rates_differ, share, shares_differ,
};
use crate::check::numbers::{duration, percent, three_digits};

/// A metric of the comparison.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Metric {
    Qps,
    OutputTokens,
    InFlight,
    SuccessRate,
    /// The name, the key of the distribution, and the quantile.
    Latency(&'static str, &'static str, f64),
}

pub(super) const TTFT: (&str, &str) = ("TTFT", "time_to_first_token_seconds");
const TTFO: (&str, &str) = ("TTFO", "time_to_first_answer_token_seconds");
pub(super) const TPOT: (&str, &str) = ("TPOT", "time_per_output_token_seconds");
const ITL: (&str, &str) = ("ITL", "inter_chunk_latency_seconds");
pub(super) const DURATION: (&str, &str) = ("duration", "request_duration_seconds");

/// The rules by which a change of a value is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub is_better_if_lower: bool,
    /// True if a change within the tolerance does not count.
    pub has_tolerance: bool,
}

impl Rule {
    pub(super) const LATENCY: Rule = Rule { is_better_if_lower: true, has_tolerance: true };
}

/// The result of a test of two runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Evidence {
    /// The probability of such a difference, if both runs measure the same.
    Probability(f64),
    /// Both runs have the value that the load determines.
    Equal,
    /// The metric is not a result of the target.
    NotJudged,
    /// At least one run has too few values.
    TooFew,
}

/// One run of a phase.
#[derive(Clone, Copy, Debug)]
pub(super) struct PhaseRun<'a> {
    pub route: &'a RouteReport,
    pub phase: &'a PhaseReport,
}

impl Metric {
    pub(super) fn all() -> Vec<Metric> {
        let mut all =
            vec![Metric::Qps, Metric::OutputTokens, Metric::InFlight, Metric::SuccessRate];
        for (name, key) in [TTFT, TTFO, TPOT, ITL, DURATION] {
            all.extend([0.5, 0.9, 0.99].map(|q| Metric::Latency(name, key, q)));
        }
        all
    }

    pub(super) fn name(self) -> String {
        match self {
            Metric::Qps => "QPS".to_owned(),
            Metric::OutputTokens => "tokens/s".to_owned(),
            Metric::InFlight => "in flight".to_owned(),
            Metric::SuccessRate => "success rate".to_owned(),
            Metric::Latency(name, _, q) => format!("{name} p{:.0}", q * 100.0),
        }
    }

    pub(super) fn rule(self) -> Rule {
        match self {
            Metric::Latency(..) => Rule::LATENCY,
            Metric::SuccessRate => Rule { is_better_if_lower: false, has_tolerance: false },
            Metric::Qps | Metric::OutputTokens | Metric::InFlight => {
                Rule { is_better_if_lower: false, has_tolerance: true }
            }
        }
    }

    pub(super) fn show(self, value: f64) -> String {
        match self {
            Metric::Qps | Metric::OutputTokens | Metric::InFlight => three_digits(value),
            Metric::SuccessRate => percent(value),
            Metric::Latency(..) => duration(value),
        }
    }

    /// Returns the value of a run. `None` if the run has no such value.
    pub(super) fn estimate(self, run: PhaseRun<'_>) -> Option<Estimate> {
        let statistics = &run.phase.statistics;
        match self {
            Metric::Qps | Metric::OutputTokens => {
                let value = self.rate(statistics)?;
                let batches = self.batches(run);
                Some(batches.map_or_else(
                    || Estimate::without_interval(value),
                    |batches| batches.interval(value),
                ))
            }
            Metric::InFlight => {
                // In an open loop, this number follows from the rate and the duration.
                let is_closed_loop = is_closed_loop(run.phase);
                let value = statistics.requests_in_flight.filter(|_| is_closed_loop)?;
                Some(Estimate::without_interval(value))
            }
            Metric::SuccessRate => {
                share(statistics.succeeded, statistics.succeeded + statistics.failed)
            }
            Metric::Latency(_, key, q) => sample(run.phase, key)?.quantile(q),
        }
    }

    /// Tests whether two runs differ. Both runs have an estimate.
    pub(super) fn evidence(self, base: PhaseRun<'_>, new: PhaseRun<'_>) -> Evidence {
        match self {
            Metric::InFlight => Evidence::NotJudged,
            Metric::Qps | Metric::OutputTokens => self.evidence_of_rates(base, new),
            Metric::SuccessRate => {
                let counts = |run: PhaseRun<'_>| {
                    let Statistics { succeeded, failed, .. } = run.phase.statistics;
                    (succeeded, succeeded + failed)
                };
                Evidence::Probability(shares_differ(counts(base), counts(new)))
            }
            Metric::Latency(_, key, q) => {
                let (one, other) = (sample(base.phase, key), sample(new.phase, key));
                let has_interval = |sample: Option<Sample<'_>>| {
                    let estimate = sample.and_then(|sample| sample.quantile(q));
                    estimate.is_some_and(|estimate| estimate.has_interval())
                };
                match (one, other) {
                    (Some(base), Some(new)) if has_interval(one) && has_interval(other) => {
                        Evidence::Probability(quantiles_differ(base, new, q))
                    }
                    _ => Evidence::TooFew,
                }
            }
        }
    }

    fn evidence_of_rates(self, base: PhaseRun<'_>, new: PhaseRun<'_>) -> Evidence {
        if keeps_up(base.phase) && keeps_up(new.phase) {
            // The offered rate determines QPS. The tokens then depend only on the length of the
            // responses.
            return if self == Metric::Qps { Evidence::Equal } else { Evidence::NotJudged };
        }
        let rates = (self.rate(&base.phase.statistics), self.rate(&new.phase.statistics));
        match (rates, self.batches(base), self.batches(new)) {
            ((Some(one), Some(other)), Some(base), Some(new)) => {
                Evidence::Probability(rates_differ(other - one, base, new))
            }
            _ => Evidence::TooFew,
        }
    }

    fn rate(self, statistics: &Statistics) -> Option<f64> {
        match self {
            Metric::Qps => statistics.queries_per_second,
            Metric::OutputTokens => statistics.output_tokens_per_second_total,
            _ => None,
        }
    }

    /// Returns the batches of a rate within the phase.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn batches(self, run: PhaseRun<'_>) -> Option<Batches> {
        let timeline = &run.route.timeline;
        let seconds = timeline.interval_seconds;
        // A request that takes longer than a batch would end in another batch than its neighbours.
        let latency = run.phase.statistics.request_duration_seconds.mean.unwrap_or_default();
        let shortest = (2.0 * latency / seconds).ceil().clamp(1.0, 1e6) as usize;
        Batches::new(&self.per_interval(timeline, &run.phase.spans)?, shortest)
    }

    /// Returns the rate in each interval of the timeline that is completely within a span.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn per_interval(self, timeline: &TimelineReport, spans: &[(f64, f64)]) -> Option<Vec<f64>> {
        /// More intervals than a timeline has.
        const MOST: f64 = 1000.0;
        let (start, seconds) = (timeline.start_seconds, timeline.interval_seconds);
        let values: Vec<f64> = match self {
            Metric::Qps => timeline.succeeded.iter().map(|count| *count as f64 / seconds).collect(),
            Metric::OutputTokens => {
                let tokens = &timeline.output_tokens_per_second;
                tokens.iter().map(|value| value.unwrap_or_default()).collect()
            }
            _ => return None,
        };
        if seconds <= 0.0 || values.is_empty() {
            return None;
        }
        let indices = spans.iter().flat_map(|(from, to)| {
            let first = ((from - start) / seconds - 1e-6).ceil().clamp(0.0, MOST);
            let end = ((to - start) / seconds + 1e-6).floor().clamp(0.0, MOST);
            first as usize..end as usize
        });
        // The timeline ends with the last event, so nothing ended in a later interval.
        Some(indices.map(|index| values.get(index).copied().unwrap_or_default()).collect())
    }
}

fn is_closed_loop(phase: &PhaseReport) -> bool {
    phase.level.is_some_and(|level| level.kind == LevelKind::Concurrency)
}

/// Returns true if the successes of an open-loop phase keep up with the offered rate. At the start
/// and at the end of the phase, the requests in flight belong to another phase, so QPS can differ
/// from the offered rate by this number of requests.
fn keeps_up(phase: &PhaseReport) -> bool {
    let Statistics { seconds, offered_per_second, queries_per_second, .. } = phase.statistics;
    let in_flight = phase.statistics.requests_in_flight.unwrap_or_default();
    let (Some(offered), Some(qps)) = (offered_per_second, queries_per_second) else { return false };
    let is_open_loop = !is_closed_loop(phase) && phase.load != SEVERAL_LOADS;
    is_open_loop && (offered - qps).abs() * seconds <= in_flight + 1.0
}

fn sample<'a>(phase: &'a PhaseReport, key: &str) -> Option<Sample<'a>> {
    let values = distribution(&phase.distributions, key)?;
    let requests = phase.statistics.time_per_output_token_seconds.count;
    Sample::new(values, (key == ITL.1).then_some(requests))
}

fn distribution<'a>(all: &'a Distributions, key: &str) -> Option<&'a [(f64, u64)]> {
    all.get(key).map(Vec::as_slice).filter(|values| !values.is_empty())
}

/// Returns the names of the latencies that the base run has and the new run has not.
pub(super) fn missing(base: &PhaseReport, new: &PhaseReport) -> Vec<&'static str> {
    let has = |phase: &PhaseReport, key| distribution(&phase.distributions, key).is_some();
    let measures = [TTFT, TTFO, TPOT, ITL, DURATION].into_iter();
    measures.filter(|(_, key)| has(base, key) && !has(new, key)).map(|measure| measure.0).collect()
}
