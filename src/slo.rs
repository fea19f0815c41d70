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

/// A threshold, and the share of requests that must stay within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Objective {
    /// What is held against it.
    pub measure: Measure,
    /// How many must: p99 is 99 %.
    pub share: Share,
    /// It.
    pub threshold: Duration,
}

/// The objectives of a scenario.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slo {
    /// Each with a threshold, in the order of [`Measure::ALL`] and of their shares.
    pub objectives: Vec<Objective>,
    /// The share of finished requests that must succeed.
    pub success_rate: Option<Share>,
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
    /// A request finished, so or with a failure: enters it for each objective, in their order.
    pub fn enter(&self, finished: Option<&Measurement>, tried: &mut [Tried]) {
        for (objective, tried) in self.objectives.iter().zip(tried) {
            match finished.map(|measurement| objective.measure.of(measurement)) {
                Some(Some(took)) => tried.enter(took <= objective.threshold),
                Some(None) => {}
                None => tried.enter(false),
            }
        }
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
        assert_eq!((Share::new(0.999).unwrap().to_string(), p99.to_string()), ("99.9".into(), "99".into()));
    }

    #[test]
    fn failures_miss_everything_and_what_has_no_measure_is_not_held_against_it() {
        let share = Share::new(0.5).unwrap();
        let objective =
            |measure, millis| Objective { measure, share, threshold: Duration::from_millis(millis) };
        let slo = Slo {
            objectives: vec![
                objective(Measure::Ttft, 100),
                objective(Measure::Tpot, 10),
                objective(Measure::E2eLatency, 499),
            ],
            success_rate: None,
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
        let mut tried = [Tried::default(); 3];
        slo.enter(Some(&of(31)), &mut tried);
        slo.enter(Some(&of(1)), &mut tried);
        slo.enter(None, &mut tried);
        let tried = tried.map(|tried| (tried.met, tried.of));
        assert_eq!(tried, [(2, 3), (1, 2), (0, 3)]);
    }
}
