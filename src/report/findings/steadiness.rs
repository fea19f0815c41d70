//! Latency that rises or falls within a level. The values of such a level depend on its length.

use super::{Code, Draft, label};
use crate::check::numbers::duration;
use crate::report::{PhaseReport, RouteReport, TimelineReport};

/// The fewest intervals of a trend.
const FEWEST_INTERVALS: usize = 10;
/// The part of a phase at its start that belongs to no trend, because the load only begins.
const START: f64 = 0.2;
/// The level of significance of the trend: the score of a normal distribution for p < 0.002.
const SIGNIFICANT: f64 = 3.1;
/// The lowest change of the median from the first to the last third.
const LARGE_CHANGE: f64 = 1.5;

pub(super) fn not_steady(route: &RouteReport) -> Vec<Draft> {
    let draft = |phase: &PhaseReport| {
        phase.level?;
        let (first, last) = trend(&values(phase, &route.timeline)?)?;
        let verb = if last > first { "rose" } else { "fell" };
        let text = format!(
            "{} was not steady: TTFT p50 {verb} from about {} to {} within it; a longer level shows \
             the lasting value",
            label(phase),
            duration(first),
            duration(last)
        );
        let values = [("first_ttft_p50_seconds", first), ("last_ttft_p50_seconds", last)];
        Some(Draft::new(Code::NotSteady, text).about(phase).with(values))
    };
    route.levels().filter_map(draft).collect()
}

/// Returns TTFT p50 of the intervals within a phase that occurs once.
fn values(phase: &PhaseReport, timeline: &TimelineReport) -> Option<Vec<f64>> {
    let [(from, to)] = phase.spans.as_slice() else { return None };
    let (from, width) = (from + (to - from) * START, timeline.interval_seconds);
    let medians = timeline.time_to_first_token_p50_seconds.iter().enumerate();
    #[allow(clippy::cast_precision_loss)]
    let within = medians.filter(|(index, _)| {
        let start = timeline.start_seconds + *index as f64 * width;
        start >= from && start + width <= *to
    });
    Some(within.filter_map(|(_, median)| *median).collect())
}

/// Returns the medians of the first and the last third of the values, if the values have a trend.
///
/// The test is that of Mann and Kendall: the number of rising pairs minus the number of falling
/// pairs, divided by its standard deviation without a trend, √(n(n−1)(2n+5)/18).
#[allow(clippy::cast_precision_loss)]
fn trend(values: &[f64]) -> Option<(f64, f64)> {
    let n = values.len();
    if n < FEWEST_INTERVALS {
        return None;
    }
    let pairs = values.iter().enumerate().flat_map(|(index, earlier)| {
        values[index + 1..].iter().map(move |later| later.total_cmp(earlier) as i64)
    });
    let sum = pairs.sum::<i64>() as f64;
    let n_f64 = n as f64;
    let deviation = (n_f64 * (n_f64 - 1.0) * (2.0 * n_f64 + 5.0) / 18.0).sqrt();
    let (first, last) = (median(&values[..n / 3]), median(&values[n - n / 3..]));
    let ratio = if last > first { last / first } else { first / last };
    (sum.abs() / deviation >= SIGNIFICANT && ratio >= LARGE_CHANGE).then_some((first, last))
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trend_is_significant_and_large() {
        let rising: Vec<f64> = (0..12).map(|i| 1.0 + 0.1 * f64::from(i)).collect();
        let (first, last) = trend(&rising).unwrap();
        assert!((first - 1.2).abs() < 1e-9 && (last - 2.0).abs() < 1e-9, "{first} {last}");
        let falling: Vec<f64> = rising.iter().rev().copied().collect();
        assert!(trend(&falling).is_some_and(|(first, last)| first > last));
        // Near misses: too small a change, too few values, and values without an order.
        assert_eq!(trend(&rising.iter().map(|value| value + 2.0).collect::<Vec<_>>()), None);
        assert_eq!(trend(&rising[..9]), None);
        let noise: Vec<f64> = (0..40).map(|i| 1.0 + f64::from(i * 7 % 11)).collect();
        assert_eq!(trend(&noise), None);
        assert_eq!(trend(&[1.0; 40]), None);
    }

    #[test]
    fn the_start_of_a_phase_and_other_phases_belong_to_no_trend() {
        let phase = PhaseReport { spans: vec![(10.0, 20.0)], ..PhaseReport::default() };
        let timeline = TimelineReport {
            interval_seconds: 1.0,
            start_seconds: 0.5,
            time_to_first_token_p50_seconds: (0..40).map(|i| Some(f64::from(i))).collect(),
            ..TimelineReport::default()
        };
        // The intervals begin at 0.5, 1.5 and so on. The phase counts from 12 to 20.
        assert_eq!(values(&phase, &timeline).unwrap(), [12.0, 13.0, 14.0, 15.0, 16.0, 17.0, 18.0]);
        let twice = PhaseReport { spans: vec![(0.0, 5.0), (10.0, 20.0)], ..phase };
        assert_eq!(values(&twice, &timeline), None);
    }
}
