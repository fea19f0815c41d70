//! Service level objectives. An objective consists of a criterion for one request, and the
//! percentage of requests that must meet the criterion.
//!
//! llmload judges each request when the request ends. The result is therefore exact for any
//! threshold, and does not depend on the buckets of a histogram. A failed request misses every
//! objective.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::measurement::Measurement;

/// A latency that an objective limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LatencyMetric {
    /// Time to the first token.
    Ttft,
    /// Time per output token.
    Tpot,
    /// Time from sending to the end of the response.
    E2eLatency,
}

impl LatencyMetric {
    pub const ALL: [LatencyMetric; 3] =
        [LatencyMetric::Ttft, LatencyMetric::Tpot, LatencyMetric::E2eLatency];

    /// The key in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            LatencyMetric::Ttft => "ttft",
            LatencyMetric::Tpot => "tpot",
            LatencyMetric::E2eLatency => "e2e_latency",
        }
    }

    /// Returns the latency of a request. `None` if the request does not have this latency. For
    /// example, a response of a single token has no time per output token.
    fn latency(self, measurement: &Measurement) -> Option<Duration> {
        match self {
            LatencyMetric::Ttft => measurement.time_to_first_token(),
            LatencyMetric::Tpot => measurement.time_per_output_token(),
            LatencyMetric::E2eLatency => Some(measurement.duration()),
        }
    }
}

/// A fraction of requests, in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share(u32);

impl Share {
    /// 1 %.
    pub const PERCENT: Share = Share::percent(1);

    /// Creates a share from a whole number of percent.
    pub const fn percent(percent: u8) -> Share {
        Share(percent as u32 * 10_000)
    }

    /// Creates a share from a whole number of thousandths.
    pub const fn permille(permille: u16) -> Share {
        Share(permille as u32 * 1_000)
    }

    /// Creates a share from a fraction above 0 and up to 1, rounded to the nearest millionth.
    /// `None` for any other number.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn new(share: f64) -> Option<Share> {
        let millionths = (share * 1e6).round();
        (1.0..=1e6).contains(&millionths).then_some(Share(millionths as u32))
    }

    /// Returns twice this share, but at most 100 %.
    #[must_use]
    pub fn doubled(self) -> Share {
        Share((self.0 * 2).min(1_000_000))
    }

    /// Returns the fraction, from 0 to 1.
    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / 1e6
    }

    /// Returns true if `some` is more than this fraction of `all`.
    pub fn is_exceeded(self, some: u64, all: u64) -> bool {
        u128::from(some) * 1_000_000 > u128::from(all) * u128::from(self.0)
    }

    /// Returns true if `met` is at least this fraction of `all`.
    pub fn is_reached(self, met: u64, all: u64) -> bool {
        u128::from(met) * 1_000_000 >= u128::from(all) * u128::from(self.0)
    }

    /// Returns the lowest number for which [`Share::is_reached`] is true.
    pub fn needed(self, all: u64) -> u64 {
        let needed = (u128::from(all) * u128::from(self.0)).div_ceil(1_000_000);
        u64::try_from(needed).unwrap_or(u64::MAX)
    }
}

/// Prints the percentage without the unit: `99`, `99.9`.
impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", f64::from(self.0) / 1e4)
    }
}

/// The condition that one request must meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Criterion {
    /// The latency is at most this duration.
    Latency(LatencyMetric, Duration),
    /// The request succeeds.
    Success,
}

/// A criterion for one request, and the fraction of requests that must meet the criterion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Objective {
    pub criterion: Criterion,
    /// The required fraction. For a p99, it is 99 %.
    pub share: Share,
}

impl Objective {
    /// Returns true if a request met the criterion. `finished` is the measurement of a success, and
    /// `None` for a failed request. The result is `None` if the request does not have the latency
    /// of this criterion.
    pub fn is_met(&self, finished: Option<&Measurement>) -> Option<bool> {
        match (self.criterion, finished) {
            (Criterion::Latency(metric, threshold), Some(measurement)) => {
                Some(metric.latency(measurement)? <= threshold)
            }
            (Criterion::Success, Some(_)) => Some(true),
            (_, None) => Some(false),
        }
    }

    /// The latency of a request that the objective limits. `None` if it limits none, or if the
    /// request does not have this latency.
    pub fn latency(&self, measurement: &Measurement) -> Option<Duration> {
        match self.criterion {
            Criterion::Latency(metric, _) => metric.latency(measurement),
            Criterion::Success => None,
        }
    }

    /// The highest permitted latency. `None` for the success rate.
    pub fn threshold(&self) -> Option<Duration> {
        match self.criterion {
            Criterion::Latency(_, threshold) => Some(threshold),
            Criterion::Success => None,
        }
    }
}

/// Prints the value of the label `slo`: `ttft_p99`, `success_rate`.
impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.criterion {
            Criterion::Latency(metric, _) => write!(f, "{}_p{}", metric.as_str(), self.share),
            Criterion::Success => f.write_str("success_rate"),
        }
    }
}

/// The objectives of a scenario.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Slo {
    /// The objectives, sorted by metric in the order of [`LatencyMetric::ALL`], then by share. No
    /// two objectives have the same label.
    pub objectives: Vec<Objective>,
    /// True if a run ends as soon as it can no longer meet one of the objectives.
    pub abort: bool,
}

/// The number of requests that an objective judged, and the number that met the objective.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectiveCounts {
    pub judged: u64,
    pub met: u64,
}

impl ObjectiveCounts {
    /// Counts one request.
    pub fn record(&mut self, met: bool) {
        self.judged += 1;
        self.met += u64::from(met);
    }

    /// Adds other counts to these counts.
    pub fn add(&mut self, other: ObjectiveCounts) {
        self.judged += other.judged;
        self.met += other.met;
    }
}

impl Slo {
    /// The lowest threshold of TTFT.
    pub fn strictest_ttft(&self) -> Option<Duration> {
        let thresholds = self.objectives.iter().filter_map(|objective| match objective.criterion {
            Criterion::Latency(LatencyMetric::Ttft, threshold) => Some(threshold),
            _ => None,
        });
        thresholds.min()
    }

    /// The highest quantile of TTFT with a threshold, from 0 to 1.
    pub fn ttft_quantile(&self) -> Option<f64> {
        let of_ttft = self.objectives.iter().filter(|objective| {
            matches!(objective.criterion, Criterion::Latency(LatencyMetric::Ttft, _))
        });
        of_ttft.map(|objective| objective.share.as_f64()).reduce(f64::max)
    }

    /// Judges a request by each objective, in the order of `objectives`. `finished` is the
    /// measurement of a success, and `None` for a failed request. An item is `None` if the request
    /// does not have the latency of the objective.
    pub fn judge(&self, finished: Option<&Measurement>) -> impl Iterator<Item = Option<bool>> {
        self.objectives.iter().map(move |objective| objective.is_met(finished))
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::measurement::{Anomalies, Usage};

    #[test]
    fn a_share_is_compared_exactly_to_one_request() {
        let p99 = Share::new(0.99).unwrap();
        assert!(p99.is_reached(99, 100) && !p99.is_reached(98, 99));
        assert!(p99.is_reached(990_000_000_000_000, 1_000_000_000_000_000));
        assert!(!p99.is_reached(989_999_999_999_999, 1_000_000_000_000_000));
        assert_eq!([0, 1, 100, 101].map(|all| p99.needed(all)), [0, 1, 99, 100]);
        let all = Share::new(1.0).unwrap();
        assert!(all.is_reached(7, 7) && !all.is_reached(6, 7));
        assert_eq!((Share::new(0.0), Share::new(1.1), Share::new(f64::NAN)), (None, None, None));
        assert_eq!(
            (Share::new(0.999).unwrap().to_string(), p99.to_string()),
            ("99.9".into(), "99".into())
        );
    }

    #[test]
    fn a_failure_misses_every_objective_and_a_missing_latency_is_not_judged() {
        let share = Share::new(0.5).unwrap();
        let within = |metric, millis| Objective {
            criterion: Criterion::Latency(metric, Duration::from_millis(millis)),
            share,
        };
        let slo = Slo {
            objectives: vec![
                within(LatencyMetric::Ttft, 100),
                within(LatencyMetric::Tpot, 10),
                within(LatencyMetric::E2eLatency, 499),
                Objective { criterion: Criterion::Success, share },
            ],
            abort: false,
        };
        let sent = Instant::now();
        let at = |millis| sent + Duration::from_millis(millis);
        let of = |output| Measurement {
            due: sent,
            sent,
            first_token: Some(at(100)),
            first_answer_token: None,
            last_token: Some(at(400)),
            end: at(500),
            usage: Usage { output: Some(output), ..Usage::default() },
            token_events: 1,
            reasoning_shown: false,
            anomalies: Anomalies::default(),
        };
        let judged = |finished: Option<&Measurement>| slo.judge(finished).collect::<Vec<_>>();
        assert_eq!(judged(Some(&of(31))), [Some(true), Some(true), Some(false), Some(true)]);
        assert_eq!(judged(Some(&of(1))), [Some(true), None, Some(false), Some(true)]);
        assert_eq!(judged(None), [Some(false); 4]);
        let names: Vec<_> = slo.objectives.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["ttft_p50", "tpot_p50", "e2e_latency_p50", "success_rate"]);
    }
}
