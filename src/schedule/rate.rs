//! Rates such as `5/s`, and the areas under rates.

use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;
use std::time::Duration;

/// A rate of arrivals, such as `5/s`, `300/m` or `40/h`. It is exact to a millionth of an arrival
/// per hour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rate {
    micro_per_hour: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseRateError {
    #[error("`{0}` is not a rate; write a number and a unit, such as `5/s`, `300/m` or `40/h`")]
    Form(String),
    #[error("`{0}` has too many decimals; round it: the finest step of a rate is 0.000001/h")]
    TooFine(String),
    #[error("`{0}` is above the highest rate, 100000/s")]
    TooHigh(String),
}

impl Rate {
    pub const ZERO: Rate = Rate { micro_per_hour: 0 };
    /// 100,000 per second.
    pub const MAX: Rate = Rate { micro_per_hour: 100_000 * MICRO_PER_HOUR_AT_ONE_PER_SECOND };

    /// `None` above [`Rate::MAX`].
    pub fn from_micro_per_hour(micro_per_hour: u64) -> Option<Rate> {
        (micro_per_hour <= Rate::MAX.micro_per_hour).then_some(Rate { micro_per_hour })
    }

    pub fn micro_per_hour(self) -> u64 {
        self.micro_per_hour
    }

    /// For display and metrics.
    #[allow(clippy::cast_precision_loss)]
    pub fn per_second(self) -> f64 {
        self.micro_per_hour as f64 / MICRO_PER_HOUR_AT_ONE_PER_SECOND as f64
    }

    pub fn is_zero(self) -> bool {
        self.micro_per_hour == 0
    }
}

const MICRO_PER_HOUR_AT_ONE_PER_SECOND: u64 = 3_600_000_000;

impl FromStr for Rate {
    type Err = ParseRateError;

    fn from_str(text: &str) -> Result<Rate, ParseRateError> {
        let form = || ParseRateError::Form(text.to_owned());
        let (number, unit) = text.split_once('/').ok_or_else(form)?;
        let (number, unit) = (number.trim(), unit.trim());
        let scale: u64 = match unit {
            "s" => MICRO_PER_HOUR_AT_ONE_PER_SECOND,
            "m" | "min" => MICRO_PER_HOUR_AT_ONE_PER_SECOND / 60,
            "h" => MICRO_PER_HOUR_AT_ONE_PER_SECOND / 3600,
            _ => return Err(form()),
        };
        let (integer, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if (integer.is_empty() && fraction.is_empty()) || !digits(integer) || !digits(fraction) {
            return Err(form());
        }
        let too_high = || ParseRateError::TooHigh(text.to_owned());
        let fraction = fraction.trim_end_matches('0');
        if fraction.len() > 15 {
            return Err(ParseRateError::TooFine(text.to_owned()));
        }
        let integer: u128 =
            if integer.is_empty() { 0 } else { integer.parse().map_err(|_| too_high())? };
        let ten_to = 10u128.pow(u32::try_from(fraction.len()).unwrap_or(u32::MAX));
        let part: u128 =
            if fraction.is_empty() { 0 } else { fraction.parse().map_err(|_| form())? };
        let scaled = part * u128::from(scale);
        if !scaled.is_multiple_of(ten_to) {
            return Err(ParseRateError::TooFine(text.to_owned()));
        }
        let micro = integer
            .checked_mul(u128::from(scale))
            .and_then(|w| w.checked_add(scaled / ten_to))
            .filter(|m| *m <= u128::from(Rate::MAX.micro_per_hour))
            .ok_or_else(too_high)?;
        Ok(Rate { micro_per_hour: u64::try_from(micro).map_err(|_| too_high())? })
    }
}

/// The shortest exact form, such as `5/s`, `0.2/s`, `90/m` or `7/h`.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, scale) in [("s", 1), ("m", 60), ("h", 3600)] {
            let scale = MICRO_PER_HOUR_AT_ONE_PER_SECOND / scale;
            let (integer, rest) = (self.micro_per_hour / scale, self.micro_per_hour % scale);
            // If a rate needs more than three decimals, a longer unit is easier to read.
            if unit == "h" || rest * 1000 % scale == 0 {
                let digits = if unit == "h" { 6 } else { 3 };
                let fraction = u128::from(rest) * 10u128.pow(digits) / u128::from(scale);
                let fraction = format!("{fraction:0width$}", width = digits as usize);
                let fraction = fraction.trim_end_matches('0');
                return if fraction.is_empty() {
                    write!(f, "{integer}/{unit}")
                } else {
                    write!(f, "{integer}.{fraction}/{unit}")
                };
            }
        }
        Ok(())
    }
}

/// The area under a rate, which is an exact number of expected arrivals.
///
/// The unit is 1/(7.2·10¹⁸) of an arrival. The module [`schedule`](super) explains it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Area(pub(super) u128);

impl Area {
    pub const ZERO: Area = Area(0);
    pub const MICRO: Area = Area(7_200_000_000_000);
    pub const ARRIVAL: Area = Area(1_000_000 * Area::MICRO.0);

    /// The area under a constant rate in `time` nanoseconds.
    pub fn constant(rate: Rate, time: u64) -> Area {
        Area(2 * u128::from(rate.micro_per_hour) * u128::from(time))
    }

    /// The area under the first `time` nanoseconds of a ramp, rounded down. The rate changes from
    /// `from` to `to` in `length` nanoseconds.
    pub fn ramp(from: Rate, to: Rate, time: u64, length: u64) -> Area {
        let base = Area::constant(from, time).0;
        let slope = u128::from(to.micro_per_hour.abs_diff(from.micro_per_hour));
        let (time, length) = (u128::from(time), u128::from(length));
        // This computes slope·time²/length in 128 bits, because time ≤ length < 2⁵⁵ and slope <
        // 2⁴⁹.
        let (quotient, rest) = (slope * time / length, slope * time % length);
        if to >= from {
            Area(base + quotient * time + rest * time / length)
        } else {
            Area(base - quotient * time - (rest * time).div_ceil(length))
        }
    }

    /// The area under the first `time` nanoseconds of mean + amplitude · sin(2πt/period).
    ///
    /// The integral is mean · t + amplitude · period/π · sin²(πt/period). The first term is exact.
    /// The second is a floating-point number with an error below 10⁻¹² of an arrival, which does
    /// not accumulate.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn sine(mean: Rate, amplitude: Rate, period: u64, time: u64) -> Area {
        let turn = (time % period) as f64 / period as f64;
        let sine = (std::f64::consts::PI * turn).sin();
        let swing = 2.0 * amplitude.micro_per_hour as f64 * period as f64 / std::f64::consts::PI
            * sine
            * sine;
        Area(Area::constant(mean, time).0 + swing.round() as u128)
    }

    /// The nanoseconds, rounded up, after which a rate reaches this area. The rate must not be
    /// zero.
    pub(super) fn time_at_rate(self, rate: Rate) -> u64 {
        let time = self.0.div_ceil(2 * u128::from(rate.micro_per_hour.max(1)));
        u64::try_from(time).unwrap_or(u64::MAX)
    }

    pub fn from_micro(micro: u64) -> Area {
        Area(u128::from(micro) * Area::MICRO.0)
    }

    /// Rounded down.
    pub fn arrivals(self) -> u128 {
        self.0 / Area::ARRIVAL.0
    }

    /// Rounded down.
    pub fn micro(self) -> u128 {
        self.0 / Area::MICRO.0
    }

    /// For estimates and display.
    #[allow(clippy::cast_precision_loss)]
    pub fn as_f64(self) -> f64 {
        self.0 as f64 / Area::ARRIVAL.0 as f64
    }
}

impl Add for Area {
    type Output = Area;

    fn add(self, other: Area) -> Area {
        Area(self.0 + other.0)
    }
}

impl Sub for Area {
    type Output = Area;

    fn sub(self, other: Area) -> Area {
        Area(self.0 - other.0)
    }
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
