//! Tests of the means and maxima of the quantities, by phase and over time.

#![allow(clippy::float_cmp)]

use proptest::prelude::*;

use super::*;
use crate::observe::PageReader;

/// A page of vLLM with these numbers of running requests, preemptions, prefix cache hits and prefix
/// cache queries.
fn vllm(running: f64, preemptions: f64, hits: f64, queries: f64) -> Page {
    let mut reader = PageReader::new(MetricsSource::Vllm);
    let text = format!(
        "vllm:num_requests_running {running}\nvllm:num_preemptions_total {preemptions}\n\
         vllm:prefix_cache_hits_total {hits}\nvllm:prefix_cache_queries_total {queries}\n"
    );
    reader.push(text.as_bytes());
    reader.finish()
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn level(levels: &Levels, series: &Series, quantity: Quantity) -> Option<(f64, f64)> {
    let index = series.quantities().position(|known| known == quantity).unwrap();
    let level = levels.get(index).copied().flatten()?;
    Some((level.mean(), level.max()))
}

/// Returns the mean and the maximum of a quantity in a phase.
fn of_phase(series: &Series, phase: &str, quantity: Quantity) -> Option<(f64, f64)> {
    level(&series.phase(phase)?.levels, series, quantity)
}

/// Returns the mean of the running requests in each interval.
fn running(series: &Series, origin: Instant, width: f64, count: usize) -> Vec<Option<f64>> {
    let intervals = series.timeline(origin, seconds(width), count);
    intervals
        .iter()
        .map(|levels| Some(level(levels, series, Quantity::RequestsRunning)?.0))
        .collect()
}

#[test]
fn each_phase_has_the_mean_and_the_maximum_of_its_own_pages() {
    let (origin, mut series) = (Instant::now(), Series::new(MetricsSource::Vllm));
    let pages = [(None, 90.0), (Some("low"), 2.0), (Some("low"), 4.0), (Some("high"), 9.0)];
    for (second, (phase, running)) in (0..).zip(pages) {
        let at = origin + Duration::from_secs(second);
        series.record(at, vllm(running, 0.0, 0.0, 0.0), phase.map(str::to_owned));
    }
    let running = |phase| of_phase(&series, phase, Quantity::RequestsRunning);
    assert_eq!(running("low"), Some((3.0, 4.0)));
    assert_eq!(running("high"), Some((9.0, 9.0)));
    assert_eq!(running("absent"), None);
    assert_eq!(of_phase(&series, "low", Quantity::RequestsWaiting), None, "not on the page");
    let hits = of_phase(&series, "low", Quantity::PrefixCacheHitRate);
    assert_eq!(hits, None, "without queries there is no rate");
}

#[test]
fn an_increase_across_two_phases_counts_in_neither_and_a_restarted_counter_begins_at_zero() {
    let (origin, mut series) = (Instant::now(), Series::new(MetricsSource::Vllm));
    let pages = [
        ("a", 100.0, 1000.0, 2000.0),
        ("a", 104.0, 1010.0, 2100.0),
        // The server has restarted.
        ("a", 2.0, 90.0, 100.0),
        ("b", 50.0, 190.0, 200.0),
        ("b", 50.0, 190.0, 200.0),
    ];
    for (index, (phase, preemptions, hits, queries)) in (0..).zip(pages) {
        let page = vllm(1.0, preemptions, hits, queries);
        series.record(origin + Duration::from_secs(2 * index), page, Some(phase.to_owned()));
    }
    let of = |phase, quantity| of_phase(&series, phase, quantity);
    // 4 + 2 preemptions in 4 seconds, and at most 4 in 2 seconds.
    assert_eq!(of("a", Quantity::Preemptions), Some((1.5, 2.0)));
    assert_eq!(of("b", Quantity::Preemptions), Some((0.0, 0.0)));
    // A ratio of sums: (10 + 90) / (100 + 100).
    assert_eq!(of("a", Quantity::PrefixCacheHitRate), Some((0.5, 0.9)));
    assert_eq!(of("b", Quantity::PrefixCacheHitRate), None);
}

#[test]
fn the_cpu_use_is_the_part_of_the_time_that_was_not_idle() {
    let (origin, mut series) = (Instant::now(), Series::new(MetricsSource::Node));
    for (second, (idle, user)) in (0..).zip([(10.0, 5.0), (11.0, 8.0)]) {
        let mut reader = PageReader::new(MetricsSource::Node);
        let text = format!(
            "node_cpu_seconds_total{{cpu=\"0\",mode=\"idle\"}} {idle}\n\
             node_cpu_seconds_total{{cpu=\"0\",mode=\"user\"}} {user}\n\
             node_memory_MemTotal_bytes 8e9\nnode_memory_MemAvailable_bytes 2e9\n"
        );
        reader.push(text.as_bytes());
        let at = origin + Duration::from_secs(second);
        series.record(at, reader.finish(), Some("p".to_owned()));
    }
    assert_eq!(of_phase(&series, "p", Quantity::CpuUse), Some((0.75, 0.75)));
    assert_eq!(of_phase(&series, "p", Quantity::MemoryUsed), Some((6e9, 6e9)));
}

#[test]
fn a_time_without_pages_is_a_gap_and_a_timeline_can_begin_at_any_instant() {
    let (origin, mut series) = (Instant::now(), Series::new(MetricsSource::Vllm));
    for (second, value) in [(0.0, 1.0), (1.1, 2.0), (4.0, 5.0), (5.0, 7.0)] {
        series.record(origin + seconds(second), vllm(value, 0.0, 0.0, 0.0), None);
    }
    let gap = [Some(1.0), Some(2.0), None, None, Some(5.0), Some(7.0)];
    assert_eq!(running(&series, origin, 1.0, 6), gap);
    assert_eq!(running(&series, origin, 2.0, 3), [Some(1.5), None, Some(6.0)]);
    let later = origin + seconds(0.9);
    assert_eq!(running(&series, later, 1.0, 3), [Some(2.0), None, None]);
    assert_eq!(running(&series, origin, 0.5, 4), [Some(1.0), Some(1.0), Some(2.0), Some(2.0)]);
    // Pages of polls one second apart can arrive up to about two seconds apart.
    let mut late = Series::new(MetricsSource::Vllm);
    for (second, value) in [(0.0, 1.0), (1.99, 2.0), (3.01, 3.0), (5.0, 4.0)] {
        late.record(origin + seconds(second), vllm(value, 0.0, 0.0, 0.0), None);
    }
    let bridged = [Some(1.0), Some(2.0), Some(3.0), Some(3.0), Some(4.0), Some(4.0)];
    assert_eq!(running(&late, origin, 1.0, 6), bridged);
    assert_eq!(running(&Series::new(MetricsSource::Tgi), origin, 1.0, 2), [None, None]);
}

#[test]
fn a_long_run_has_a_bounded_number_of_intervals_and_phases() {
    let (origin, mut series) = (Instant::now(), Series::new(MetricsSource::Vllm));
    for second in 0..20_000_u32 {
        let at = origin + Duration::from_secs(second.into());
        let phase = format!("phase {}", second % 1000);
        series.record(at, vllm(f64::from(second % 2), 0.0, 0.0, 0.0), Some(phase));
    }
    assert!(series.intervals.len() <= MAX_INTERVALS && series.phases.len() <= MAX_PHASES);
    assert_eq!(series.width, Duration::from_secs(32));
    let means = running(&series, origin, 32.0, 625);
    assert!(means.iter().all(|mean| *mean == Some(0.5)), "{means:?}");
}

proptest! {
    #[test]
    fn the_rate_of_a_counter_is_exact_for_any_times_of_the_pages(
        pages in prop::collection::vec((200_u64..9000, any::<bool>()), 2..40),
        speed in 0.0_f64..50.0,
    ) {
        let (mut at, mut series) = (Instant::now(), Series::new(MetricsSource::Vllm));
        let (mut counter, mut is_whole) = (0.0, true);
        for (gap, has_restarted) in pages {
            let gap = Duration::from_millis(gap);
            at += gap;
            let increase = speed * gap.as_secs_f64();
            // The server restarts in the middle of the gap, so the new counter has only the second
            // half of the increase.
            counter = if has_restarted { increase / 2.0 } else { counter + increase };
            is_whole &= !has_restarted;
            series.record(at, vllm(1.0, counter, 0.0, 0.0), Some("p".to_owned()));
        }
        let (mean, max) = of_phase(&series, "p", Quantity::Preemptions).unwrap();
        let tolerance = 1e-9 * (1.0 + speed);
        prop_assert!(mean >= 0.0 && mean <= max + tolerance && max <= speed + tolerance);
        prop_assert!(!is_whole || (mean - speed).abs() <= tolerance, "{mean} {speed}");
    }
}
