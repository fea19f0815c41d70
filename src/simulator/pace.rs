//! The delays of tokens, with random jitter.

use std::f64::consts::TAU;
use std::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::SimulatorOptions;

/// A speed of 0 causes this delay instead of an infinite one.
pub(super) const MAX_DELAY: Duration = Duration::from_hours(1);

#[derive(Clone, Debug)]
pub(super) struct Pace {
    prefill: f64,
    decode: f64,
    full_load_speed: f64,
    slots: u32,
}

impl Pace {
    pub(super) fn new(options: &SimulatorOptions) -> Pace {
        Pace {
            prefill: options.prefill_tokens_per_second,
            decode: options.decode_tokens_per_second,
            full_load_speed: options.full_load_speed,
            slots: options.slots.max(1),
        }
    }

    /// Returns the time to read a prompt.
    pub(super) fn prefill(&self, tokens: u32, jitter: &mut Jitter) -> Duration {
        duration(f64::from(tokens) / self.prefill * jitter.next_factor())
    }

    /// Returns the time between two tokens while `active` requests are in slots.
    pub(super) fn decode(&self, active: u32, jitter: &mut Jitter) -> Duration {
        duration(jitter.next_factor() / self.speed(active))
    }

    /// Returns the decode speed of one request in tokens per second, while `active` requests are in
    /// slots. With one request, this is full speed. It falls linearly to `full_load_speed` when
    /// every slot is busy.
    pub(super) fn speed(&self, active: u32) -> f64 {
        let others = active.clamp(1, self.slots) - 1;
        let load = f64::from(others) / f64::from((self.slots - 1).max(1));
        self.decode * (1.0 - load * (1.0 - self.full_load_speed))
    }
}

/// `seconds` is a quotient, so it can be infinite or NaN.
fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).map_or(MAX_DELAY, |d| d.min(MAX_DELAY))
}

/// Random factors for delays. They are lognormal with mean 1, because real delays are positive and
/// right-skewed too.
#[derive(Clone, Debug)]
pub(super) struct Jitter {
    random: ChaCha8Rng,
    sigma: f64,
}

impl Jitter {
    /// `deviation` is the standard deviation of the factors.
    pub(super) fn new(random: ChaCha8Rng, deviation: f64) -> Jitter {
        Jitter { random, sigma: deviation.mul_add(deviation, 1.0).ln().sqrt() }
    }

    pub(super) fn next_factor(&mut self) -> f64 {
        if self.sigma == 0.0 {
            return 1.0;
        }
        // The Box–Muller transform. `random` returns values below 1, so the argument of `ln` is
        // never 0.
        let radius = (-2.0 * (1.0 - self.random.random::<f64>()).ln()).sqrt();
        let normal = radius * (TAU * self.random.random::<f64>()).cos();
        (self.sigma * normal - self.sigma * self.sigma / 2.0).exp()
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn pace(slots: u32, full_load_speed: f64) -> Pace {
        Pace::new(&SimulatorOptions {
            slots,
            full_load_speed,
            prefill_tokens_per_second: 1000.0,
            decode_tokens_per_second: 100.0,
            ..SimulatorOptions::default()
        })
    }

    fn jitter(deviation: f64) -> Jitter {
        Jitter::new(ChaCha8Rng::seed_from_u64(1), deviation)
    }

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn speed_falls_linearly_to_the_configured_fraction_at_full_load() {
        let pace = pace(5, 0.2);
        for (active, speed) in [(1, 100.0), (2, 80.0), (3, 60.0), (4, 40.0), (5, 20.0)] {
            assert!(close(pace.speed(active), speed), "{active} active: {}", pace.speed(active));
        }
    }

    #[test]
    fn speed_is_limited_to_its_values_for_one_request_and_for_full_slots() {
        let several = pace(5, 0.2);
        assert!(close(several.speed(0), 100.0));
        assert!(close(several.speed(9), 20.0));
        assert!(close(pace(1, 0.2).speed(1), 100.0));
    }

    #[test]
    fn without_jitter_a_delay_is_tokens_divided_by_speed() {
        let pace = pace(5, 0.2);
        let jitter = &mut jitter(0.0);
        assert_eq!(pace.prefill(250, jitter), Duration::from_millis(250));
        assert_eq!(pace.decode(1, jitter), Duration::from_millis(10));
        assert_eq!(pace.decode(5, jitter), Duration::from_millis(50));
    }

    #[test]
    fn every_delay_is_limited_for_all_options() {
        for speed in [0.0, -1.0, f64::NAN, f64::MIN_POSITIVE] {
            let pace = Pace::new(&SimulatorOptions {
                prefill_tokens_per_second: speed,
                decode_tokens_per_second: speed,
                ..SimulatorOptions::default()
            });
            assert_eq!(pace.prefill(1, &mut jitter(0.0)), MAX_DELAY, "{speed}");
            assert_eq!(pace.decode(1, &mut jitter(0.0)), MAX_DELAY, "{speed}");
        }
    }

    #[test]
    fn jitter_has_mean_one_and_the_requested_deviation() {
        for deviation in [0.05, 0.2, 1.0] {
            let mut jitter = jitter(deviation);
            let count = 100_000;
            let factors: Vec<f64> = (0..count).map(|_| jitter.next_factor()).collect();
            assert!(factors.iter().all(|f| *f > 0.0));
            let mean = factors.iter().sum::<f64>() / f64::from(count);
            let variance =
                factors.iter().map(|f| (f - mean).powi(2)).sum::<f64>() / f64::from(count);
            assert!((mean - 1.0).abs() < 0.02, "mean {mean}");
            assert!(
                (variance.sqrt() / deviation - 1.0).abs() < 0.1,
                "{} for {deviation}",
                variance.sqrt()
            );
        }
    }
}
