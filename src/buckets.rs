//! The default buckets of each histogram.
//!
//! The configuration needs the names of the histograms, and `metrics::table` needs their bounds.
//! Both import this module, because `config` must not import `metrics`.

use std::collections::BTreeMap;

/// The bounds for dispatch lag and event loop delay, in seconds.
pub const LAG: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// The bounds for the replay lag, in seconds. A session with a slow target can fall minutes behind
/// its trace.
pub const REPLAY_LAGS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    300.0, 1800.0,
];
/// The bounds for DNS lookup time and connect time, in seconds.
pub const CONNECT: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// The bounds for the times to the first token and to the first answer token, in seconds. The last
/// bound is above the default timeout.
pub const FIRST_TOKEN: &[f64] = &[
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 7.5,
    10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 90.0,
];
/// The bounds for the time between two reads that returned text, in seconds.
pub const GAP: &[f64] = &[
    0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5,
    1.0, 2.5, 5.0, 10.0, 30.0, 80.0,
];
/// The bounds for the time per output token, in seconds.
pub const PER_TOKEN: &[f64] = &[
    0.0025, 0.005, 0.0075, 0.01, 0.0125, 0.015, 0.0175, 0.02, 0.025, 0.03, 0.035, 0.04, 0.05, 0.06,
    0.08, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0, 10.0,
];
/// The bounds for the duration of a request, in seconds.
pub const DURATION: &[f64] = &[
    0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0,
    180.0, 300.0, 600.0, 1200.0,
];
/// The bounds for the number of input, output or reasoning tokens of a request.
pub const TOKENS: &[f64] = &[
    1.0, 4.0, 16.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0, 32768.0,
    131_072.0,
];
/// The bounds for output tokens per second.
pub const TOKENS_PER_SECOND: &[f64] = &[
    1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 40.0, 50.0, 60.0, 80.0, 100.0, 150.0, 200.0,
    300.0, 500.0, 1000.0,
];
/// The bounds for successful requests per second.
pub const QUERIES_PER_SECOND: &[f64] =
    &[0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0];

/// The name of each histogram in the configuration, and its default bounds.
pub const HISTOGRAMS: &[(&str, &[f64])] = &[
    ("session_turn_time_to_first_token_seconds", FIRST_TOKEN),
    ("dispatch_lag_seconds", LAG),
    ("replay_lag_seconds", REPLAY_LAGS),
    ("dns_duration_seconds", CONNECT),
    ("connect_duration_seconds", CONNECT),
    ("time_to_first_token_seconds", FIRST_TOKEN),
    ("time_to_first_token_from_schedule_seconds", FIRST_TOKEN),
    ("time_to_first_answer_token_seconds", FIRST_TOKEN),
    ("inter_chunk_latency_seconds", GAP),
    ("time_per_output_token_seconds", PER_TOKEN),
    ("output_tokens_per_second", TOKENS_PER_SECOND),
    ("request_duration_seconds", DURATION),
    ("request_duration_from_schedule_seconds", DURATION),
    ("request_failure_duration_seconds", DURATION),
    ("queries_per_second", QUERIES_PER_SECOND),
    ("request_input_tokens", TOKENS),
    ("request_output_tokens", TOKENS),
    ("request_reasoning_tokens", TOKENS),
    ("event_loop_delay_seconds", LAG),
];

/// The upper bounds of every histogram.
#[derive(Clone, Debug, PartialEq)]
pub struct Buckets(BTreeMap<&'static str, Vec<f64>>);

impl Default for Buckets {
    fn default() -> Buckets {
        Buckets(HISTOGRAMS.iter().map(|(name, bounds)| (*name, bounds.to_vec())).collect())
    }
}

impl Buckets {
    /// Sets the bounds of a histogram. The bounds must be finite and ascending. Returns false if no
    /// histogram has this name.
    pub fn set_bounds(&mut self, name: &str, bounds: Vec<f64>) -> bool {
        self.0.get_mut(name).map(|old| *old = bounds).is_some()
    }

    /// The bounds of a histogram; empty if no histogram has this name.
    pub fn bounds(&self, name: &str) -> &[f64] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// The names of the histograms whose bounds differ from the bounds in `other`.
    pub fn changed_histograms(&self, other: &Buckets) -> Vec<&'static str> {
        self.0
            .iter()
            .filter(|(name, bounds)| other.bounds(name) != **bounds)
            .map(|(name, _)| *name)
            .collect()
    }
}
