//! Service level objectives: what requests must meet, and the share of them that must.
//!
//! Requests are counted against a threshold as they end, so a verdict is exact at any threshold; no
//! quantile of a histogram is read. A request that failed misses every threshold.

use std::fmt;
use std::time::Duration;

use crate::measurement::Measurement;

/// What is held against a threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Measure {
    /// Time to the first token.
    Ttft,
    /// Time per output token.
    Tpot,
    /// Time to the end of the answer.
    E2eLatency,
}

impl Measure {
    /// Each of them.
    pub const ALL: [Measure; 3] = [Measure::Ttft, Measure::Tpot, Measure::E2eLatency];

    /// Its key in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Measure::Ttft => "ttft",
            Measure::Tpot => "tpot",
            Measure::E2eLatency => "e2e_latency",
        }
    }

    /// What a request took by this measure; nothing where it does not say: one token has no time
    /// between tokens.
    fn of(self, measurement: &Measurement) -> Option<Duration> {
        match self {
            Measure::Ttft => measurement.time_to_first_token(),
            Measure::Tpot => measurement.time_per_output_token(),
            Measure::E2eLatency => Some(measurement.duration()),
        }
    }
}

/// A share of requests, in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share(u32);

impl Share {
    /// One in a hundred.
    pub const PERCENT: Share = Share(10_000);

    /// A share above 0 and up to 1, to the nearest millionth.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn new(share: f64) -> Option<Share> {
        let millionths = (share * 1e6).round();
        (1.0..=1e6).contains(&millionths).then_some(Share(millionths as u32))
    }

    /// As a number from 0 to 1.
    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / 1e6
    }

    /// Whether `some` of `all` is more than this share.
    pub fn is_exceeded(self, some: u64, all: u64) -> bool {
        u128::from(some) * 1_000_000 > u128::from(all) * u128::from(self.0)
    }

    /// Whether `met` of `all` is at least this share.
    pub fn is_reached(self, met: u64, all: u64) -> bool {
        u128::from(met) * 1_000_000 >= u128::from(all) * u128::from(self.0)
    }
}

/// In percent: `99`, `99.9`.
impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", f64::from(self.0) / 1e4)
    }
}

/// What a request must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// Stay within a threshold.
    Within(Measure, Duration),
    /// Succeed.
    Succeed,
}

/// A goal, and the share of requests that must reach it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Objective {
    /// What they must do.
    pub goal: Goal,
    /// How many must: p99 is 99 %.
    pub share: Share,
}

impl Objective {
    /// Whether a request that finished, so or with a failure, reached it; nothing where it cannot be held
    /// against it.
    fn is_met(&self, finished: Option<&Measurement>) -> Option<bool> {
        match (self.goal, finished) {
            (Goal::Within(measure, threshold), Some(measurement)) => {
                Some(measure.of(measurement)? <= threshold)
            }
            (Goal::Succeed, Some(_)) => Some(true),
            (_, None) => Some(false),
        }
    }

    /// What it must stay within.
    pub fn threshold(&self) -> Option<Duration> {
        match self.goal {
            Goal::Within(_, threshold) => Some(threshold),
            Goal::Succeed => None,
        }
    }
}

/// The value of the `slo` label: `ttft_p99`, `success_rate`.
impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.goal {
            Goal::Within(measure, _) => write!(f, "{}_p{}", measure.as_str(), self.share),
            Goal::Succeed => f.write_str("success_rate"),
        }
    }
}

/// The objectives of a scenario.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slo {
    /// No two with the same label, in the order of [`Measure::ALL`] and of their shares.
    pub objectives: Vec<Objective>,
}

/// How many requests were held against something, and how many met it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tried {
    /// Those held against it.
    pub of: u64,
    /// Those within it.
    pub met: u64,
}

impl Tried {
    /// One more.
    pub fn enter(&mut self, met: bool) {
        self.of += 1;
        self.met += u64::from(met);
    }

    /// Those of both.
    pub fn add(&mut self, other: Tried) {
        self.of += other.of;
        self.met += other.met;
    }
}

impl Slo {
    /// A request finished, so or with a failure: which objectives it met, in their order, and nothing of
    /// those that it cannot be held against.
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
    fn a_share_is_reached_to_the_request() {
        let p99 = Share::new(0.99).unwrap();
        assert!(p99.is_reached(99, 100) && !p99.is_reached(98, 99));
        assert!(p99.is_reached(990_000_000_000_000, 1_000_000_000_000_000));
        assert!(!p99.is_reached(989_999_999_999_999, 1_000_000_000_000_000));
        let all = Share::new(1.0).unwrap();
        assert!(all.is_reached(7, 7) && !all.is_reached(6, 7));
        assert_eq!((Share::new(0.0), Share::new(1.1), Share::new(f64::NAN)), (None, None, None));
        assert_eq!(
            (Share::new(0.999).unwrap().to_string(), p99.to_string()),
            ("99.9".into(), "99".into())
        );
    }

    #[test]
    fn failures_miss_everything_and_what_has_no_measure_is_not_held_against_it() {
        let share = Share::new(0.5).unwrap();
        let within = |measure, millis| Objective {
            goal: Goal::Within(measure, Duration::from_millis(millis)),
            share,
        };
        let slo = Slo {
            objectives: vec![
                within(Measure::Ttft, 100),
                within(Measure::Tpot, 10),
                within(Measure::E2eLatency, 499),
                Objective { goal: Goal::Succeed, share },
            ],
        };
        let sent = Instant::now();
        let at = |millis| sent + Duration::from_millis(millis);
        let of = |output| Measurement {
            due: sent,
            sent,
            first_token: Some(at(100)),
            last_token: Some(at(400)),
            end: at(500),
            usage: Some(Usage { output, ..Usage::default() }),
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
