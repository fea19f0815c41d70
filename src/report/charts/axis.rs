//! The axes of a chart: the position of each value, and ticks at round values. The ends of an axis
//! always have a tick.

use crate::check::numbers::{duration, percent};

/// The most ticks on a linear axis, without the tick at zero.
const MOST_TICKS: f64 = 5.0;
/// The most ticks on an axis of time. Their labels are beside each other.
const MOST_TIMES: f64 = 6.0;
/// From this ratio of the highest to the lowest value on, an axis of latencies is logarithmic.
const WIDE_RATIO: f64 = 20.0;

#[derive(Clone, Debug)]
pub(super) struct Axis {
    is_logarithmic: bool,
    low: f64,
    high: f64,
    /// The value and the label of each tick, in ascending order.
    pub ticks: Vec<(f64, String)>,
}

impl Axis {
    /// A linear axis from zero to the first round value that is not below `highest`.
    pub fn linear(highest: f64, label: impl Fn(f64) -> String) -> Axis {
        let highest = if highest > 0.0 { highest } else { 1.0 };
        let step = round_step(highest, MOST_TICKS);
        let number = (highest / step - 1e-9).ceil().max(1.0);
        Axis::with_step(step, step * number, label)
    }

    /// A linear axis from 0 to 100 %.
    pub fn percentages() -> Axis {
        Axis::with_step(0.25, 1.0, percent)
    }

    /// A linear axis of time from zero to `end`. The last tick is the end.
    pub fn time(end: f64) -> Axis {
        let end = end.max(1e-3);
        let round = [1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0];
        let step = round.into_iter().find(|step| end / step <= MOST_TIMES && end > *step);
        let step = step.unwrap_or_else(|| match end {
            short if short <= 1.0 => round_step(short, MOST_TIMES),
            long => round_step(long / 3600.0, MOST_TIMES) * 3600.0,
        });
        let mut axis = Axis::with_step(step, end, duration);
        // The label of the end needs the space of a label before it.
        axis.ticks.retain(|(value, _)| end - value >= 0.75 * step);
        axis.ticks.push((end, duration(end)));
        axis
    }

    /// An axis of latencies. It is logarithmic if the values differ by orders of magnitude.
    pub fn latencies(lowest: f64, highest: f64) -> Axis {
        let lowest = lowest.max(1e-6);
        if highest < lowest * WIDE_RATIO {
            return Axis::linear(highest, duration);
        }
        // With too many decades, only the powers of ten have a tick.
        let digits: &[f64] = if highest / lowest > 1e3 { &[1.0] } else { &[1.0, 3.0] };
        let (first, last) = (lowest.log10().floor(), highest.log10().ceil());
        let mut ticks: Vec<f64> = Vec::new();
        let mut power = first;
        while power <= last {
            ticks.extend(digits.iter().map(|digit| digit * 10_f64.powf(power)));
            power += 1.0;
        }
        let from = ticks.iter().rposition(|tick| *tick <= lowest * 1.001).unwrap_or(0);
        let to = ticks.iter().position(|tick| *tick >= highest * 0.999).unwrap_or(ticks.len() - 1);
        let ticks = &ticks[from..=to.max(from)];
        Axis {
            is_logarithmic: true,
            low: ticks.first().copied().unwrap_or(lowest),
            high: ticks.last().copied().unwrap_or(highest),
            ticks: ticks.iter().map(|tick| (*tick, duration(*tick))).collect(),
        }
    }

    fn with_step(step: f64, high: f64, label: impl Fn(f64) -> String) -> Axis {
        let mut ticks = vec![(0.0, "0".to_owned())];
        let mut number = 1.0;
        while number * step <= high * (1.0 + 1e-9) {
            ticks.push((number * step, label(number * step)));
            number += 1.0;
        }
        Axis { is_logarithmic: false, low: 0.0, high, ticks }
    }

    /// Returns the position of a value: 0 at the start of the axis, 1 at its end.
    pub fn position(&self, value: f64) -> f64 {
        let position = if self.is_logarithmic {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        position.clamp(0.0, 1.0)
    }
}

/// Returns the distance between two ticks: 1, 2 or 5 times a power of ten, so that an axis up to
/// `total` has at most `most` ticks.
fn round_step(total: f64, most: f64) -> f64 {
    let power = 10_f64.powf((total / most).log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .map(|digit| digit * power)
        .into_iter()
        .find(|step| total / step <= most + 1e-9)
        .unwrap_or(total)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn assert_readable(axis: &Axis, highest: f64) {
        let values: Vec<f64> = axis.ticks.iter().map(|tick| tick.0).collect();
        assert!((2..=9).contains(&values.len()), "{axis:?}");
        assert!(values.is_sorted(), "{axis:?}");
        let ends = [values[0], values[values.len() - 1]].map(|tick| axis.position(tick));
        assert!(ends[0].abs() < 1e-6 && (ends[1] - 1.0).abs() < 1e-6, "{axis:?}");
        assert!(values[values.len() - 1] >= highest * 0.998, "{axis:?} ends before {highest}");
        let labels = axis.ticks.iter().map(|tick| &tick.1);
        assert!(!labels.clone().any(|label| label.contains("NaN")), "{axis:?}");
    }

    proptest! {
        #[test]
        fn both_ends_of_an_axis_have_a_tick_and_no_value_is_beyond_them(
            exponent in -6.0..7.0_f64,
            ratio in 1.0..1e5_f64,
        ) {
            let highest = 10_f64.powf(exponent);
            assert_readable(&Axis::linear(highest, |value| value.to_string()), highest);
            assert_readable(&Axis::latencies(highest / ratio, highest), highest);
            if highest > 0.01 {
                assert_readable(&Axis::time(highest), highest);
            }
        }
    }

    #[test]
    fn ticks_are_at_round_values_and_the_axis_of_time_ends_with_the_run() {
        let labels =
            |axis: Axis| axis.ticks.into_iter().map(|tick| tick.1).collect::<Vec<_>>().join(" ");
        assert_eq!(labels(Axis::time(47.0)), "0 10 s 20 s 30 s 47 s");
        assert_eq!(labels(Axis::time(600.0)), "0 2m 4m 6m 8m 10m");
        assert_eq!(labels(Axis::linear(2.06, duration)), "0 500 ms 1 s 1.5 s 2 s 2.5 s");
        assert_eq!(
            labels(Axis::latencies(0.0025, 2.06)),
            "1 ms 3 ms 10 ms 30 ms 100 ms 300 ms 1 s 3 s"
        );
        assert_eq!(labels(Axis::percentages()), "0 25 % 50 % 75 % 100 %");
        assert_eq!(labels(Axis::linear(0.0, duration)), "0 200 ms 400 ms 600 ms 800 ms 1 s");
    }
}
