//! What chance decides about one request: a function of the seed and the request's number alone.
//!
//! Timing has no say in it, so the same seed gives the n-th request the same fault, length and
//! delays in every run, however the requests before it overlapped.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::pace::Jitter;
use super::{Faults, SimulatorOptions};

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Http429,
    Http500,
    Reset,
    Stall,
    StreamError,
    Truncation,
}

impl Fault {
    /// Every fault, in the order of the settings.
    pub(super) const ALL: [Fault; 6] = [
        Fault::Http429,
        Fault::Http500,
        Fault::Reset,
        Fault::Stall,
        Fault::StreamError,
        Fault::Truncation,
    ];

    /// Its name in the settings, and in `/metrics`.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Fault::Http429 => "http_429",
            Fault::Http500 => "http_500",
            Fault::Reset => "reset",
            Fault::Stall => "stall",
            Fault::StreamError => "stream_error",
            Fault::Truncation => "truncation",
        }
    }

    /// The share of requests that meet it.
    fn share(self, faults: &Faults) -> f64 {
        match self {
            Fault::Http429 => faults.http_429,
            Fault::Http500 => faults.http_500,
            Fault::Reset => faults.reset,
            Fault::Stall => faults.stall,
            Fault::StreamError => faults.stream_error,
            Fault::Truncation => faults.truncation,
        }
    }
}

/// What chance decided about one request.
#[derive(Clone, Debug)]
pub(super) struct Fate {
    /// What goes wrong, if anything does.
    pub(super) fault: Option<Fault>,
    /// Tokens after which a fault inside the answer strikes.
    pub(super) strikes_after: u32,
    /// Tokens of the answer where nothing cuts it short.
    pub(super) natural_length: u32,
    /// Which words it says.
    pub(super) topic: usize,
    /// What its delays are multiplied by.
    pub(super) jitter: Jitter,
}

impl Fate {
    /// The fate of the request with this number.
    pub(super) fn draw(settings: &SimulatorOptions, number: u64) -> Fate {
        // The seed opens a family of independent streams; each request reads its own.
        let mut random = ChaCha8Rng::seed_from_u64(settings.seed);
        random.set_stream(number);
        Fate {
            fault: fault_at(&settings.faults, random.random()),
            strikes_after: random.random_range(1..=5),
            natural_length: random.random_range(48..=160),
            topic: random.random::<u16>().into(),
            jitter: Jitter::new(random, settings.jitter),
        }
    }
}

/// The fault whose share covers the point, where the shares lie end to end from zero.
fn fault_at(faults: &Faults, point: f64) -> Option<Fault> {
    let mut end = 0.0;
    Fault::ALL.into_iter().find(|fault| {
        end += fault.share(faults);
        point < end
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIXED: Faults = Faults {
        http_429: 0.10,
        http_500: 0.05,
        reset: 0.02,
        stall: 0.01,
        stream_error: 0.04,
        truncation: 0.03,
    };

    fn settings(seed: u64, faults: Faults) -> SimulatorOptions {
        SimulatorOptions { faults, seed, ..SimulatorOptions::default() }
    }

    fn faults(
        settings: &SimulatorOptions,
        numbers: impl Iterator<Item = u64>,
    ) -> Vec<Option<Fault>> {
        numbers.map(|k| Fate::draw(settings, k).fault).collect()
    }

    #[test]
    fn shares_hold_within_sampling_error() {
        let count = 10_000;
        for seed in 0..5 {
            let drawn = faults(&settings(seed, MIXED), 0..count);
            for fault in Fault::ALL {
                let share = fault.share(&MIXED);
                let expected = share * 10_000.0;
                let seen = drawn.iter().filter(|f| **f == Some(fault)).count();
                let seen = f64::from(u32::try_from(seen).unwrap());
                let deviation = (expected * (1.0 - share)).sqrt();
                assert!((seen - expected).abs() < 4.0 * deviation, "{fault:?}: {seen} of {count}");
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_fates_in_any_order() {
        let settings = settings(7, MIXED);
        let forwards = faults(&settings, 0..1000);
        let mut backwards = faults(&settings, (0..1000).rev());
        backwards.reverse();
        assert_eq!(forwards, backwards);
        let (mut one, mut two) = (Fate::draw(&settings, 3), Fate::draw(&settings, 3));
        assert_eq!(one.natural_length, two.natural_length);
        assert_eq!(one.jitter.factor().to_bits(), two.jitter.factor().to_bits());
    }

    #[test]
    fn another_seed_gives_other_fates() {
        assert_ne!(faults(&settings(1, MIXED), 0..1000), faults(&settings(2, MIXED), 0..1000));
    }

    #[test]
    fn a_share_of_one_meets_every_request_and_no_share_none() {
        let always = Faults { truncation: 1.0, ..Faults::default() };
        let drawn = faults(&settings(1, always), 0..1000);
        assert!(drawn.iter().all(|f| *f == Some(Fault::Truncation)));
        let drawn = faults(&settings(1, Faults::default()), 0..1000);
        assert!(drawn.iter().all(Option::is_none));
    }

    #[test]
    fn faults_do_not_change_the_rest_of_a_fate() {
        let (calm, rough) = (settings(1, Faults::default()), settings(1, MIXED));
        for number in 0..100 {
            let (calm, rough) = (Fate::draw(&calm, number), Fate::draw(&rough, number));
            assert_eq!(calm.natural_length, rough.natural_length);
            assert!((48..=160).contains(&calm.natural_length));
            assert!((1..=5).contains(&calm.strikes_after));
        }
    }
}
