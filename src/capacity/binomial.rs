//! The exact reasoning about a percentage of requests: does a sample prove that the percentage of
//! all requests is above or below a required percentage?
//!
//! If a fraction `p` of all requests meets an objective, the number of requests that meet it in a
//! sample of `n` is binomial. The tests here are the two one-sided tests that belong to the exact
//! interval of Clopper and Pearson ("The use of confidence or fiducial limits illustrated in the
//! case of the binomial", Biometrika 26, 1934). Their tails are values of the regularised
//! incomplete beta function I (NIST Digital Library of Mathematical Functions, 8.17.5):
//!
//! - P(at least `m` of `n` meet it) = I(p; m, n − m + 1)
//! - P(at most `m` of `n` meet it) = I(1 − p; n − m, m + 1)
//!
//! `n` and `m` are real numbers, because requests of one run are not independent: the requests
//! behind a slow request are slow too. The caller divides both numbers by the design effect.

/// A number of judged requests, and the number of them that met the objective. Both numbers are
/// real, and `met` is at most `judged`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sample {
    pub judged: f64,
    pub met: f64,
}

impl Sample {
    /// Returns true if the sample proves that at least the fraction `required` of all requests
    /// meets the objective. If the fraction is lower, this is true with a probability of at most
    /// `error`.
    pub(super) fn proves_met(self, required: f64, error: f64) -> bool {
        self.met > 0.0 && incomplete_beta(required, self.met, self.judged - self.met + 1.0) <= error
    }

    /// Returns true if the sample proves that less than the fraction `required` of all requests
    /// meets the objective. If the fraction is not lower, this is true with a probability of at
    /// most `error`.
    pub(super) fn proves_missed(self, required: f64, error: f64) -> bool {
        let missed = self.judged - self.met;
        missed > 0.0 && incomplete_beta(1.0 - required, missed, self.met + 1.0) <= error
    }
}

/// Returns true if `met` of `judged` independent requests prove that less than the fraction
/// `required` of all requests meets an objective. If the fraction is not lower, this is true with a
/// probability of at most 2.5 %. So `required` is then above the two-sided interval of 95 %.
#[allow(clippy::cast_precision_loss)]
pub fn proves_miss(met: u64, judged: u64, required: f64) -> bool {
    Sample { judged: judged as f64, met: met as f64 }.proves_missed(required, 0.025)
}

/// Returns the lowest number of requests that can prove that the fraction `required` of all
/// requests meets an objective, if no request misses it: the lowest `n` with `required`ⁿ ≤ `error`.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub(super) fn fewest_to_prove(required: f64, error: f64) -> u64 {
    let n = (error.ln() / required.ln()).ceil();
    if n.is_finite() { n.clamp(1.0, 1e9) as u64 } else { 1_000_000_000 }
}

/// The regularised incomplete beta function I(x; a, b), by its continued fraction (NIST Digital
/// Library of Mathematical Functions, 8.17.22) with the algorithm of Lentz. `a` and `b` are above
/// 0.
fn incomplete_beta(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    // The fraction converges fast only on this side.
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(1.0 - x, b, a);
    }
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (-x).ln_1p()).exp();
    front * continued_fraction(x, a, b) / a
}

#[allow(clippy::many_single_char_names, reason = "the names of the formula")]
fn continued_fraction(x: f64, a: f64, b: f64) -> f64 {
    /// The number of turns grows with the root of `a` and `b`, so this is enough for billions of
    /// requests.
    const MOST_TURNS: u32 = 100_000;
    let nonzero = |value: f64| if value.abs() < 1e-300 { 1e-300 } else { value };
    let (mut c, mut d) = (1.0, 1.0 / nonzero(1.0 - (a + b) * x / (a + 1.0)));
    let mut result = d;
    for turn in 1..MOST_TURNS {
        let m = f64::from(turn);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / nonzero(1.0 + even * d);
        c = nonzero(1.0 + even / c);
        result *= d * c;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / nonzero(1.0 + odd * d);
        c = nonzero(1.0 + odd / c);
        let factor = d * c;
        result *= factor;
        if (factor - 1.0).abs() < 1e-14 {
            break;
        }
    }
    result
}

/// The logarithm of the gamma function for a number above 0, by the approximation of Lanczos with
/// g = 7 and nine terms. Its relative error is below 10⁻¹³.
#[allow(clippy::excessive_precision, clippy::unreadable_literal)]
fn ln_gamma(x: f64) -> f64 {
    const TERMS: [f64; 8] = [
        676.5203681218851,
        -1259.1392167224028,
        771.32342877765313,
        -176.61502916214059,
        12.507343278686905,
        -0.13857109526572012,
        9.9843695780195716e-6,
        1.5056327351493116e-7,
    ];
    let mut sum = 0.999_999_999_999_809_93;
    let mut denominator = x;
    for term in TERMS {
        sum += term / denominator;
        denominator += 1.0;
    }
    let t = x + 6.5;
    0.5 * std::f64::consts::TAU.ln() + (x - 0.5) * t.ln() - t + sum.ln()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The sum of the binomial probabilities, term by term.
    fn at_least(m: u32, n: u32, p: f64) -> f64 {
        let mut term = (1.0 - p).powi(n.cast_signed());
        let mut sum = 0.0;
        for k in 0..=n {
            if k >= m {
                sum += term;
            }
            term *= f64::from(n - k) / f64::from(k + 1) * p / (1.0 - p);
        }
        sum
    }

    proptest! {
        #[test]
        fn the_tails_equal_the_sums_of_binomial_probabilities(
            n in 1_u32..200, part in 0.0..=1.0_f64, p in 0.01..0.95_f64,
        ) {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let m = (f64::from(n) * part) as u32;
            let (real_m, real_n) = (f64::from(m), f64::from(n));
            if m > 0 {
                let tail = incomplete_beta(p, real_m, real_n - real_m + 1.0);
                prop_assert!((tail - at_least(m, n, p)).abs() < 1e-9, "{tail}");
            }
            if m < n {
                let tail = incomplete_beta(1.0 - p, real_n - real_m, real_m + 1.0);
                prop_assert!((tail - (1.0 - at_least(m + 1, n, p))).abs() < 1e-9, "{tail}");
            }
        }
    }

    #[test]
    fn a_perfect_sample_proves_a_p99_from_299_requests_on_at_95_percent() {
        let perfect = |n| Sample { judged: n, met: n };
        assert_eq!(fewest_to_prove(0.99, 0.05), 299);
        assert!(!perfect(298.0).proves_met(0.99, 0.05));
        assert!(perfect(299.0).proves_met(0.99, 0.05));
        assert!(!perfect(0.0).proves_met(0.99, 0.05));
        assert!(!perfect(1e6).proves_missed(0.99, 0.05));
    }

    #[test]
    fn a_sample_far_below_the_requirement_proves_a_miss_and_one_on_it_proves_nothing() {
        let sample = |judged, met| Sample { judged, met };
        assert!(sample(100.0, 90.0).proves_missed(0.99, 0.01));
        assert!(sample(10.0, 0.0).proves_missed(0.99, 0.01));
        for n in [100.0, 1e4, 1e6] {
            assert!(!sample(n, 0.99 * n).proves_missed(0.99, 0.05));
            assert!(!sample(n, 0.99 * n).proves_met(0.99, 0.05));
        }
        assert!(sample(1e6, 0.9905e6).proves_met(0.99, 0.01));
        assert!(sample(1e6, 0.9895e6).proves_missed(0.99, 0.01));
    }
}
