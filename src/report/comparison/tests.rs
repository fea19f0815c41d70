//! Comparisons of resampled runs: how often is an alarm false, and how often is a slower server
//! found? The values are drawn from the report of a real run.

#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

use rand::RngExt as _;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::report::{Level, LevelKind, Report};

/// The number of requests of each phase.
const REQUESTS: u32 = 1000;
const PAIRS: u64 = 200;
const SECONDS: u32 = 60;
const TTFT: &str = "time_to_first_token_seconds";
const TPOT: &str = "time_per_output_token_seconds";
const DURATION: &str = "request_duration_seconds";
const RULES: Rules = Rules { tolerance: TOLERANCE, allow_different_schedules: false };

fn recorded() -> Report {
    read(include_str!("../../../tests/messages/base.json")).unwrap()
}

fn run(report: Report) -> Run {
    Run::new("report.json", report, None).unwrap()
}

/// Recorded values, from which a test draws with replacement.
struct Recorded<'a> {
    values: &'a [(f64, u64)],
    /// The index of each value, as often as it was recorded.
    indices: Vec<usize>,
}

impl Recorded<'_> {
    fn new<'a>(route: &'a RouteReport, key: &str) -> Recorded<'a> {
        let values = route.distributions[key].as_slice();
        let copies = values.iter().enumerate();
        let indices =
            copies.flat_map(|(index, value)| std::iter::repeat_n(index, value.1 as usize));
        Recorded { indices: indices.collect(), values }
    }

    fn draw(&self, random: &mut ChaCha8Rng) -> usize {
        self.indices[random.random_range(0..self.indices.len())]
    }

    /// Draws one value for each request.
    fn sample(&self, factor: f64, random: &mut ChaCha8Rng) -> Vec<(f64, u64)> {
        let mut counts = vec![0; self.values.len()];
        for _ in 0..REQUESTS {
            counts[self.draw(random)] += 1;
        }
        let drawn = self.values.iter().zip(counts).filter(|(_, count)| *count > 0);
        drawn.map(|(value, count)| (value.0 * factor, count)).collect()
    }

    /// Draws four gaps for each request. All gaps of a request depend on its speed.
    fn gaps(&self, random: &mut ChaCha8Rng) -> Vec<(f64, u64)> {
        let mut counts = vec![0; 1000];
        for _ in 0..REQUESTS {
            let speed = self.values[self.draw(random)].0;
            for _ in 0..4 {
                // Steps of 20 µs.
                let step = (speed * random.random_range(0.7..1.3) * 5e4).round() as usize;
                counts[step.min(999)] += 1;
            }
        }
        let drawn = counts.into_iter().enumerate().filter(|(_, count)| *count > 0);
        drawn.map(|(step, count)| (step as f64 / 5e4, count)).collect()
    }
}

/// A closed-loop run with three phases of a minute. The TTFT of the second phase is multiplied by
/// `slower`.
fn resampled(recorded: &Report, slower: f64, random: &mut ChaCha8Rng) -> Run {
    let mut report = recorded.clone();
    let [ttft, tpot, duration] =
        [TTFT, TPOT, DURATION].map(|key| Recorded::new(&recorded.routes[0], key));
    let route = &mut report.routes[0];
    route.timeline.start_seconds = 0.0;
    route.timeline.succeeded.clear();
    route.timeline.output_tokens_per_second.clear();
    for (index, phase) in route.phases.iter_mut().enumerate() {
        phase.level = Some(Level { kind: LevelKind::Concurrency, value: 8.0 });
        let factor = if index == 1 { slower } else { 1.0 };
        for (key, values) in [
            (TTFT, ttft.sample(factor, random)),
            (TPOT, tpot.sample(1.0, random)),
            (DURATION, duration.sample(1.0, random)),
            ("inter_chunk_latency_seconds", tpot.gaps(random)),
        ] {
            phase.distributions.insert(key.to_owned(), values);
        }
        let statistics = &mut phase.statistics;
        statistics.time_per_output_token_seconds.count = REQUESTS.into();
        statistics.failed = (0..REQUESTS).filter(|_| random.random_bool(0.01)).count() as u64;
        statistics.succeeded = u64::from(REQUESTS) - statistics.failed;
        let from = index as f64 * f64::from(SECONDS);
        phase.spans = vec![(from, from + f64::from(SECONDS))];
        let timeline = &mut route.timeline;
        let mut total = 0;
        for _ in 0..SECONDS {
            let ended = (0..40).filter(|_| random.random_bool(0.5)).count() as u64;
            total += ended;
            timeline.succeeded.push(ended);
            timeline.output_tokens_per_second.push(Some(ended as f64 * 16.0));
        }
        let qps = total as f64 / f64::from(SECONDS);
        statistics.queries_per_second = Some(qps);
        statistics.output_tokens_per_second_total = Some(qps * 16.0);
    }
    run(report)
}

/// The metrics with a change of this kind.
fn changed(comparison: &Comparison, change: Change) -> Vec<String> {
    let all = comparison.phases.iter().flat_map(|phase| {
        let of = phase.metrics.iter().filter(|metric| metric.new[0].change == change);
        of.map(|metric| format!("{}: {}", phase.phase, metric.name))
    });
    all.collect()
}

#[test]
fn two_equal_runs_have_a_false_alarm_in_less_than_5_of_100_pairs() {
    let (recorded, mut random) = (recorded(), ChaCha8Rng::seed_from_u64(12));
    let (mut worse, mut any, mut tests) = (0, 0, 0);
    for _ in 0..PAIRS {
        let [base, new] = [1.0, 1.0].map(|factor| resampled(&recorded, factor, &mut random));
        // Without a tolerance, the significance alone must prevent false alarms.
        let rules = Rules { tolerance: 0.0, ..RULES };
        let comparison = Comparison::new(&base, &[new], rules).unwrap();
        let metrics = comparison.phases.iter().flat_map(|phase| &phase.metrics);
        tests = metrics.filter(|metric| metric.new[0].probability.is_some()).count();
        worse += u32::from(comparison.result == Outcome::Failed);
        any += u32::from(
            comparison.number_of(Change::Worse) + comparison.number_of(Change::Better) > 0,
        );
    }
    println!("{PAIRS} equal pairs with {tests} tests: {worse} worse, {any} with any change");
    assert_eq!(tests, 3 * 15);
    assert!(any * 20 < u32::try_from(PAIRS).unwrap(), "{any} of {PAIRS}");
}

#[test]
fn a_ttft_that_is_10_percent_slower_is_found_in_more_than_95_of_100_pairs() {
    let (recorded, mut random) = (recorded(), ChaCha8Rng::seed_from_u64(13));
    let (mut found, mut elsewhere) = (0, 0);
    for _ in 0..PAIRS {
        let [base, new] = [1.0, 1.1].map(|factor| resampled(&recorded, factor, &mut random));
        let comparison = Comparison::new(&base, &[new], RULES).unwrap();
        let worse = changed(&comparison, Change::Worse);
        found += u32::from(worse.iter().any(|name| name.starts_with("concurrency 2: TTFT")));
        elsewhere += u32::from(worse.iter().any(|name| !name.starts_with("concurrency 2: TTFT")));
    }
    println!("10 % slower in {found} of {PAIRS} pairs, a false alarm in {elsewhere}");
    assert!(u64::from(found) * 100 > PAIRS * 95, "{found} of {PAIRS}");
    assert!(elsewhere * 20 < u32::try_from(PAIRS).unwrap(), "{elsewhere} of {PAIRS}");
}

#[test]
fn an_open_loop_that_keeps_up_with_the_offered_rate_has_no_change_of_qps() {
    let qps = |base: f64, new: f64| {
        let [base, new] = [base, new].map(|qps| {
            let mut report = recorded();
            let statistics = &mut report.routes[0].phases[0].statistics;
            statistics.seconds = 60.0;
            statistics.offered_per_second = Some(40.0);
            statistics.requests_in_flight = Some(2.4);
            statistics.queries_per_second = Some(qps);
            run(report)
        });
        let comparison = Comparison::new(&base, &[new], RULES).unwrap();
        comparison.phases[0].metrics[0].new[0].change
    };
    assert_eq!(qps(40.0, 39.95), Change::None);
    // 5 requests are missing at the end of the phase, but only 2.4 were in flight.
    assert_eq!(qps(40.0, 39.9), Change::TooFew);
}

#[test]
fn a_change_counts_only_if_it_is_significant_and_above_the_tolerance() {
    let ttft = Metric::Latency("TTFT", TTFT, 0.5);
    assert_eq!(change(ttft.rule(), 1.0, 1.2, true, 0.05), Change::Worse);
    assert_eq!(change(ttft.rule(), 1.0, 0.8, true, 0.05), Change::Better);
    assert_eq!(change(ttft.rule(), 1.0, 1.2, true, 0.25), Change::Tolerated);
    assert_eq!(change(ttft.rule(), 1.0, 1.2, false, 0.05), Change::Unclear);
    assert_eq!(change(ttft.rule(), 1.0, 1.04, false, 0.05), Change::None);
    assert_eq!(change(Metric::Qps.rule(), 10.0, 8.0, true, 0.05), Change::Worse);
    // A lower success rate has no tolerance.
    assert_eq!(change(Metric::SuccessRate.rule(), 1.0, 0.99, true, 0.05), Change::Worse);
}
