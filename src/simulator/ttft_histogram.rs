//! The histogram of TTFT, as in vLLM. The time starts when the engine admits the request.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The upper bounds in milliseconds, as in vLLM.
const BOUNDS: [u64; 22] = [
    1, 5, 10, 20, 40, 60, 80, 100, 250, 500, 750, 1000, 2500, 5000, 7500, 10_000, 20_000, 40_000,
    80_000, 160_000, 640_000, 2_560_000,
];

#[derive(Debug, Default)]
pub(super) struct TtftHistogram {
    /// A time counts only in the lowest bucket that it fits. The last bucket has no upper bound.
    counts: [AtomicU64; BOUNDS.len() + 1],
    sum_micros: AtomicU64,
}

impl TtftHistogram {
    pub(super) fn observe(&self, time: Duration) {
        let bucket = BOUNDS.partition_point(|bound| Duration::from_millis(*bound) < time);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        let time = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.sum_micros.fetch_add(time, Ordering::Relaxed);
    }

    pub(super) fn write(&self, text: &mut String, labels: &str) {
        const NAME: &str = "vllm:time_to_first_token_seconds";
        let sum = Duration::from_micros(self.sum_micros.load(Ordering::Relaxed)).as_secs_f64();
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "# HELP {NAME} Time from the arrival of a request to its first token.\n# TYPE {NAME} histogram"
        );
        let mut cumulative = 0;
        for (at, count) in self.counts.iter().enumerate() {
            cumulative += count.load(Ordering::Relaxed);
            let bound = BOUNDS.get(at).map(|bound| Duration::from_millis(*bound).as_secs_f64());
            let bound = bound.map_or("+Inf".to_owned(), |bound| format!("{bound:?}"));
            let _ = writeln!(text, "{NAME}_bucket{{{labels},le=\"{bound}\"}} {cumulative}");
        }
        let _ =
            writeln!(text, "{NAME}_sum{{{labels}}} {sum}\n{NAME}_count{{{labels}}} {cumulative}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_counted_in_its_bucket_and_in_all_buckets_above() {
        let times = TtftHistogram::default();
        for millis in [1, 2, 5, 3_000_000] {
            times.observe(Duration::from_millis(millis));
        }
        let mut text = String::new();
        times.write(&mut text, "model_name=\"m\"");
        let value = |le: &str| {
            let line = text.lines().find(|line| line.contains(&format!("le=\"{le}\"")));
            line.and_then(|line| line.rsplit(' ').next()).unwrap().to_owned()
        };
        assert_eq!(
            ["0.001", "0.005", "1.0", "2560.0", "+Inf"].map(value),
            ["1", "3", "3", "3", "4"]
        );
        assert!(text.ends_with("_sum{model_name=\"m\"} 3000.008\nvllm:time_to_first_token_seconds_count{model_name=\"m\"} 4\n"), "{text}");
    }
}
