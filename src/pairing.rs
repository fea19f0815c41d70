//! The difference between two targets that receive the same requests at the same instants.
//!
//! The two requests of one arrival are a pair. A pair counts only if both requests succeed. The
//! mean difference of all pairs has a 95 % confidence interval.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The timing of a successful request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// TTFT. `None` if the response was not streamed.
    pub first_token: Option<Duration>,
    /// TPOT. `None` if it is undefined.
    pub time_per_output_token: Option<Duration>,
    /// From the sending to the end of the response.
    pub duration: Duration,
}

/// The differences between a target and the baseline target, the first target of the scenario.
#[derive(Debug, Default)]
pub struct PairedComparison(Mutex<Differences>);

#[derive(Debug, Default)]
struct Differences {
    total: PairedSnapshot,
    /// One entry per phase of the schedule. Empty if the phases are not separate.
    phases: Vec<PairedSnapshot>,
}

/// The differences at one instant, in seconds: this target minus the baseline target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PairedSnapshot {
    pub first_token: DifferenceSums,
    pub time_per_output_token: DifferenceSums,
    pub duration: DifferenceSums,
}

/// The sums from which the mean and its margin are computed. Each sum only rises. So Prometheus can
/// subtract two instants for the pairs between them, and add two processes for the pairs of both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DifferenceSums {
    pub count: u64,
    /// The sum of the positive differences, in which this target was slower.
    pub slower: f64,
    /// The sum of the negative differences, without their sign. In these pairs, this target was
    /// faster.
    pub faster: f64,
    /// The sum of the squares of all differences.
    pub squares: f64,
}

impl PairedComparison {
    /// Creates an empty comparison that also keeps each phase separate. `phases` is the number of
    /// phases of the schedule.
    pub fn by_phase(phases: usize) -> PairedComparison {
        let phases = vec![PairedSnapshot::default(); phases];
        PairedComparison(Mutex::new(Differences { phases, ..Differences::default() }))
    }

    /// Adds a pair. `phase` is the position of its phase in the schedule.
    pub fn record(&self, phase: Option<usize>, baseline: Timing, other: Timing) {
        let mut all = self.lock();
        all.total.add(baseline, other);
        if let Some(of_phase) = phase.and_then(|phase| all.phases.get_mut(phase)) {
            of_phase.add(baseline, other);
        }
    }

    /// Removes all pairs, because another target has become the baseline target.
    pub fn reset(&self) {
        let mut all = self.lock();
        all.total = PairedSnapshot::default();
        all.phases.fill(PairedSnapshot::default());
    }

    pub fn snapshot(&self) -> PairedSnapshot {
        self.lock().total
    }

    /// The differences in the phases at these positions of the schedule.
    pub fn snapshot_of(&self, positions: &[usize]) -> PairedSnapshot {
        let all = self.lock();
        let phases = positions.iter().filter_map(|position| all.phases.get(*position));
        phases.fold(PairedSnapshot::default(), |mut sum, phase| {
            sum.merge(phase);
            sum
        })
    }

    fn lock(&self) -> MutexGuard<'_, Differences> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PairedSnapshot {
    /// Adds the pairs of another phase or of another shard.
    pub fn merge(&mut self, other: &PairedSnapshot) {
        self.first_token.merge(&other.first_token);
        self.time_per_output_token.merge(&other.time_per_output_token);
        self.duration.merge(&other.duration);
    }

    fn add(&mut self, baseline: Timing, other: Timing) {
        let Timing { first_token, time_per_output_token, duration } = baseline;
        self.duration.add(Some(duration), Some(other.duration));
        self.first_token.add(first_token, other.first_token);
        self.time_per_output_token.add(time_per_output_token, other.time_per_output_token);
    }
}

impl DifferenceSums {
    /// Adds a pair, if both requests have the value.
    fn add(&mut self, baseline: Option<Duration>, other: Option<Duration>) {
        let Some((baseline, other)) = baseline.zip(other) else { return };
        let difference = other.as_secs_f64() - baseline.as_secs_f64();
        self.count += 1;
        *(if difference < 0.0 { &mut self.faster } else { &mut self.slower }) += difference.abs();
        self.squares += difference * difference;
    }

    fn merge(&mut self, other: &DifferenceSums) {
        self.count += other.count;
        self.slower += other.slower;
        self.faster += other.faster;
        self.squares += other.squares;
    }

    /// In seconds. `None` without a pair.
    #[allow(clippy::cast_precision_loss)]
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| (self.slower - self.faster) / self.count as f64)
    }

    /// Returns half of the width of the 95 % confidence interval, in seconds: 1.96 standard errors.
    /// `None` below 30 pairs, because this interval would be too narrow.
    #[allow(clippy::cast_precision_loss)]
    pub fn margin(&self) -> Option<f64> {
        let (count, mean) = (self.count as f64, self.mean().filter(|_| self.count >= 30)?);
        // If all differences are equal, rounding can make the variance negative.
        let variance = (self.squares - count * mean * mean).max(0.0) / (count - 1.0);
        Some(1.96 * (variance / count).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comparison_has_the_mean_of_its_pairs_and_a_confidence_interval() {
        let difference = PairedComparison::by_phase(3);
        let timing = |first: u64, total: u64| Timing {
            first_token: Some(Duration::from_millis(first)),
            time_per_output_token: None,
            duration: Duration::from_millis(total),
        };
        for i in 0..40 {
            // TTFT is higher by 10 ± 2 ms, and the duration is lower by 100 ms.
            let phase = usize::try_from(i % 4).unwrap();
            difference.record(Some(phase), timing(50, 900), timing(58 + 4 * (i % 2), 800));
        }
        let unstreamed = Timing { first_token: None, ..timing(0, 800) };
        difference.record(None, timing(50, 900), unstreamed);
        let PairedSnapshot { first_token, duration, .. } = difference.snapshot();
        assert_eq!((first_token.count, duration.count), (40, 41));
        let mean = |sums: DifferenceSums| sums.mean().unwrap();
        assert!((mean(first_token) - 0.010).abs() < 1e-9 && (mean(duration) + 0.1).abs() < 1e-9);
        // A standard deviation of 2.0255 ms, divided by the square root of 40.
        assert!((first_token.margin().unwrap() - 1.96 * 0.002_025_5 / 40_f64.sqrt()).abs() < 1e-6);
        assert_eq!(
            duration.margin().map(|margin| margin < 1e-9),
            Some(true),
            "all differences are equal"
        );
        assert_eq!(DifferenceSums { count: 29, ..first_token }.margin(), None);
        assert_eq!(DifferenceSums::default().mean(), None);
    }

    #[test]
    fn phases_are_separate_and_can_be_added_up() {
        let difference = PairedComparison::by_phase(3);
        let timing = |micros: u64| Timing {
            first_token: None,
            time_per_output_token: (micros > 0).then(|| Duration::from_micros(micros)),
            duration: Duration::from_millis(micros),
        };
        for (phase, base, other) in [(0, 100, 300), (0, 200, 100), (1, 0, 700), (2, 50, 60)] {
            difference.record(Some(phase), timing(base), timing(other));
        }
        // No phase of the schedule has this position.
        difference.record(Some(3), timing(1), timing(2));
        let of = |positions: &[usize]| {
            let PairedSnapshot { time_per_output_token, duration, .. } =
                difference.snapshot_of(positions);
            (time_per_output_token.count, time_per_output_token.mean(), duration.count)
        };
        let first = of(&[0]);
        assert_eq!((first.0, first.2), (2, 2));
        assert!((first.1.unwrap() - 50e-6).abs() < 1e-12);
        assert_eq!(of(&[1]), (0, None, 1));
        assert_eq!((of(&[0, 2]).0, of(&[0, 1, 2]).2, of(&[]).2), (3, 4, 0));
        assert_eq!(difference.snapshot().duration.count, 5);
        difference.reset();
        assert_eq!((of(&[0, 1, 2]).2, difference.snapshot().duration.count), (0, 0));
    }
}
