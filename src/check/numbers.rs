//! Formats numbers for people.

use std::time::Duration;

use crate::config::HumanDuration;

/// A count with separators: `1,000`. A fraction below 10 has two decimals: `0.70`.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub fn count(number: f64) -> String {
    if number < 10.0 && (number - number.round()).abs() > 0.005 {
        return format!("{number:.2}");
    }
    integer(number.round() as u64)
}

/// A sum of money with two decimals. A sum below a cent has two significant digits.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub fn money(amount: f64) -> String {
    if amount > 0.0 && amount < 0.01 {
        let decimals = (-amount.log10()).ceil() as usize + 1;
        return format!("{amount:.decimals$}");
    }
    let cents = (amount * 100.0).round() as u64;
    format!("{}.{:02}", integer(cents / 100), cents % 100)
}

/// A rate per second, per minute or per hour, with three significant digits: `5/s`, `20/m`, `40/h`.
pub fn rate(per_second: f64) -> String {
    if per_second <= 0.0 {
        return "0/s".to_owned();
    }
    let units = [("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let is_readable = |scale: f64| {
        let scaled = per_second * scale;
        scaled >= 1.0 || (scaled >= 0.1 && (scaled * 10.0 - (scaled * 10.0).round()).abs() < 1e-4)
    };
    let (unit, scale) =
        units.into_iter().find(|(_, scale)| is_readable(*scale)).unwrap_or(("h", 3600.0));
    format!("{}/{unit}", three_digits(per_second * scale))
}

/// Seconds with three significant digits: `0.4 s`, `12.8 s`, `256 s`.
pub fn short_seconds(seconds: f64) -> String {
    format!("{} s", three_digits(seconds))
}

/// A number with three significant digits. Below 1, it has two significant digits and at most three
/// decimals. From 100 on, it is an integer.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub fn three_digits(number: f64) -> String {
    let decimals = match number {
        large if large >= 99.95 => return count(large),
        ten if ten >= 9.995 => 1,
        one if one >= 0.9995 => 2,
        tiny if tiny < 0.001 && tiny > 1e-9 => (-tiny.log10()).ceil() as usize + 1,
        _ => 3,
    };
    let text = format!("{number:.decimals$}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A fraction as a percentage: `99.5 %`. Only 1 is shown as 100 %.
pub fn percent(fraction: f64) -> String {
    let text = format!("{:.2}", fraction * 100.0);
    let text = if fraction < 1.0 && text == "100.00" { "99.99".to_owned() } else { text };
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

/// The sign of a change: `−` or `+`.
pub fn sign(change: f64) -> &'static str {
    if change < 0.0 { "−" } else { "+" }
}

/// A duration with three significant digits: `850 µs`, `12.5 ms`, `1.2 s`, `5m 12s`.
pub fn duration(seconds: f64) -> String {
    match seconds {
        long if long >= 99.95 => {
            // A number from a report file can be too large for a `Duration`.
            let rounded = Duration::from_secs_f64(long.min(1e10).round());
            HumanDuration(rounded).to_string()
        }
        short if short >= 0.9995 => format!("{} s", three_digits(short)),
        milli if milli >= 0.000_999_5 => format!("{} ms", three_digits(milli * 1e3)),
        micro => format!("{} µs", three_digits(micro * 1e6)),
    }
}

/// A range of times that are only estimates: `10m to 41m`.
pub fn time_range((least, most): (Duration, Duration)) -> String {
    let rounded = |time: Duration| {
        let unit = if time < Duration::from_mins(2) { 1 } else { 60 };
        Duration::from_secs(time.as_secs().next_multiple_of(unit))
    };
    let (least, most) = (HumanDuration(rounded(least)), HumanDuration(rounded(most)));
    if least.0 == most.0 { most.to_string() } else { format!("{least} to {most}") }
}

/// A duration with all its digits, at most to a microsecond: `1.002 s`, `250 ms`.
pub fn exact_duration(seconds: f64) -> String {
    let (value, unit) = match seconds {
        long if long >= 1.0 => (long, "s"),
        milli if milli >= 1e-3 => (milli * 1e3, "ms"),
        micro => (micro * 1e6, "µs"),
    };
    let text = format!("{value:.6}");
    format!("{} {unit}", text.trim_end_matches('0').trim_end_matches('.'))
}

/// A whole number with separators: `1,000`.
pub fn integer(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_has_separators_and_a_small_fraction_has_decimals() {
        for (number, text) in [
            (0.0, "0"),
            (0.7, "0.70"),
            (3.0, "3"),
            (999.6, "1,000"),
            (1_728_000_000.2, "1,728,000,000"),
        ] {
            assert_eq!(count(number), text);
        }
    }

    #[test]
    fn money_has_two_decimals_or_two_significant_digits() {
        for (amount, text) in [
            (0.0, "0.00"),
            (0.00012, "0.00012"),
            (0.5, "0.50"),
            (1.999, "2.00"),
            (12_345.678, "12,345.68"),
        ] {
            assert_eq!(money(amount), text);
        }
    }

    #[test]
    fn a_rate_is_shown_per_second_per_minute_or_per_hour() {
        for (per_second, text) in [
            (0.0, "0/s"),
            (5.0, "5/s"),
            (0.2, "0.2/s"),
            (0.1, "0.1/s"),
            (1.0 / 3.0, "20/m"),
            (40.0 / 3600.0, "40/h"),
            (49.999_999, "50/s"),
            (12.345, "12.3/s"),
            (1.5, "1.5/s"),
            (99.96, "100/s"),
            (0.999_99, "1/s"),
            (100_000.0, "100,000/s"),
            (0.5 / 3600.0, "0.5/h"),
            (0.0001 / 3600.0, "0.0001/h"),
            (0.000_001 / 3600.0, "0.000001/h"),
        ] {
            assert_eq!(rate(per_second), text);
        }
    }
}
