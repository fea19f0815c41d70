//! The random choices for one request. With the same seed, the n-th request has the same fault,
//! length and jitter in every run.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::SimulatorOptions;
use super::faults::Fault;
use super::pace::Jitter;

#[derive(Clone, Debug)]
pub(super) struct Variation {
    pub(super) fault: Option<Fault>,
    /// The number of tokens before a fault inside the response.
    pub(super) fault_after: u32,
    /// The number of tokens of the answer, if the token limit is not lower.
    pub(super) natural_length: u32,
    /// The index of the first sentence of the answer.
    pub(super) topic: usize,
    pub(super) jitter: Jitter,
}

impl Variation {
    pub(super) fn draw(options: &SimulatorOptions, number: u64) -> Variation {
        // Keep the order of these draws: another order would change every run with a seed.
        let mut random = ChaCha8Rng::seed_from_u64(options.seed);
        random.set_stream(number);
        Variation {
            fault: Fault::choose(&options.faults, random.random()),
            fault_after: random.random_range(1..=5),
            natural_length: random.random_range(48..=160),
            topic: random.random::<u16>().into(),
            jitter: Jitter::new(random, options.jitter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::faults::Faults;
    use super::*;

    const MIXED: Faults = Faults {
        http_429: 0.10,
        http_500: 0.05,
        reset: 0.02,
        stall: 0.01,
        stream_error: 0.04,
        truncation: 0.03,
    };

    fn options(seed: u64, faults: Faults) -> SimulatorOptions {
        SimulatorOptions { faults, seed, ..SimulatorOptions::default() }
    }

    fn faults(
        options: &SimulatorOptions,
        numbers: impl Iterator<Item = u64>,
    ) -> Vec<Option<Fault>> {
        numbers.map(|k| Variation::draw(options, k).fault).collect()
    }

    #[test]
    fn each_fault_occurs_with_its_configured_frequency() {
        let count = 10_000;
        for seed in 0..5 {
            let drawn = faults(&options(seed, MIXED), 0..count);
            for fault in Fault::ALL {
                let fraction = fault.fraction(&MIXED);
                let expected = fraction * 10_000.0;
                let seen = drawn.iter().filter(|f| **f == Some(fault)).count();
                let seen = f64::from(u32::try_from(seen).unwrap());
                let deviation = (expected * (1.0 - fraction)).sqrt();
                assert!((seen - expected).abs() < 4.0 * deviation, "{fault:?}: {seen} of {count}");
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_choices_in_any_order_of_requests() {
        let options = options(7, MIXED);
        let forwards = faults(&options, 0..1000);
        let mut backwards = faults(&options, (0..1000).rev());
        backwards.reverse();
        assert_eq!(forwards, backwards);
        let (mut one, mut two) = (Variation::draw(&options, 3), Variation::draw(&options, 3));
        assert_eq!(one.natural_length, two.natural_length);
        assert_eq!(one.jitter.next_factor().to_bits(), two.jitter.next_factor().to_bits());
    }

    #[test]
    fn another_seed_gives_other_choices() {
        assert_ne!(faults(&options(1, MIXED), 0..1000), faults(&options(2, MIXED), 0..1000));
    }

    #[test]
    fn the_fraction_one_affects_every_request_and_zero_affects_none() {
        let always = Faults { truncation: 1.0, ..Faults::default() };
        let drawn = faults(&options(1, always), 0..1000);
        assert!(drawn.iter().all(|f| *f == Some(Fault::Truncation)));
        let drawn = faults(&options(1, Faults::default()), 0..1000);
        assert!(drawn.iter().all(Option::is_none));
    }

    #[test]
    fn faults_do_not_change_the_other_choices() {
        let (calm, rough) = (options(1, Faults::default()), options(1, MIXED));
        for number in 0..100 {
            let (calm, rough) = (Variation::draw(&calm, number), Variation::draw(&rough, number));
            assert_eq!(calm.natural_length, rough.natural_length);
            assert!((48..=160).contains(&calm.natural_length));
            assert!((1..=5).contains(&calm.fault_after));
        }
    }
}
