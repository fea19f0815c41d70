//! Reads and prints durations in the form that people write: `90s`, `1h30m`.
//!
//! Reading and printing use the same units, so a user can paste a printed duration into a file.
//! There is no unit for months, because `M` looks like `m` for minutes.

use std::fmt;
use std::time::Duration;

use super::problem::Mistake;
use super::tree::excerpt;

/// The regular expression of a duration in the JSON Schema. It also accepts a text with `${NAME}`,
/// and the units in any order.
pub(super) const PATTERN: &str = r"^\s*([0-9]+\s*(ns|us|ms|s|m|h|d)\s*)+$|^\s*0\s*$|\$\{";

/// The units with their lengths in nanoseconds, from the largest to the smallest.
const UNITS: [(&str, u64); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Reads a duration such as `1h30m`.
///
/// # Errors
/// A message for the author of the text, if the text is not a duration.
pub fn read_duration(text: &str) -> Result<Duration, Mistake> {
    parts(text.trim()).map(Duration::from_nanos).ok_or_else(|| {
        Mistake::new(
            format!("`{}` is not a duration", excerpt(text)),
            "write whole numbers of `d`, `h`, `m` (minutes), `s`, `ms`, `us` or `ns`, each unit at \
             most once and in this order, such as `90s`, `1h30m` or `500ms`",
        )
    })
}

/// Returns the sum of all parts in nanoseconds, and at most `u64::MAX`. Each unit must be smaller
/// than the unit before it, because `1h1h` is probably a typing error.
fn parts(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let (mut rest, mut total, mut units) = (text, None, &UNITS[..]);
    while !rest.is_empty() {
        let (number, after) = split_after(rest, |c| c.is_ascii_digit());
        let (unit, after) = split_after(after.trim_start(), |c| c.is_ascii_alphabetic());
        let position = units.iter().position(|(name, _)| *name == unit)?;
        let (_, nanos) = units[position];
        units = &units[position + 1..];
        if number.is_empty() {
            return None;
        }
        let part = number.parse().unwrap_or(u64::MAX).saturating_mul(nanos);
        total = Some(part.saturating_add(total.unwrap_or(0)));
        rest = after.trim_start();
    }
    total
}

fn split_after(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !belongs(c)).unwrap_or(text.len()))
}

/// A duration that prints in the syntax of [`read_duration`], such as `1h30m`.
#[derive(Clone, Copy, Debug)]
pub struct HumanDuration(pub Duration);

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_nanos();
        if rest == 0 {
            return f.write_str("0s");
        }
        for (name, nanos) in UNITS {
            let (count, left) = (rest / u128::from(nanos), rest % u128::from(nanos));
            if count > 0 {
                write!(f, "{count}{name}")?;
            }
            rest = left;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reader_and_the_schema_accept_the_same_texts() {
        let pattern = regex_lite::Regex::new(PATTERN).unwrap();
        let second = 1_000_000_000;
        for (text, nanos) in [
            ("90s", 90 * second),
            ("10m", 600 * second),
            ("1h30m", 5400 * second),
            ("1h 30m", 5400 * second),
            ("5 m", 300 * second),
            (" 2 d ", 172_800 * second),
            ("500ms", second / 2),
            ("3us", 3000),
            ("7ns", 7),
            ("0", 0),
            ("0s", 0),
            ("99999999999999999999d", u64::MAX),
        ] {
            assert_eq!(read_duration(text), Ok(Duration::from_nanos(nanos)), "{text}");
            assert!(pattern.is_match(text), "{text}");
        }
        for text in [
            "", " ", "1M", "1y", "1w", "1month", "1min", "5sec", "2days", "1H", "5 S", "1.5h",
            "0.5s", ".5s", "1µs", "5", "00", "s", "-1s", "+1s", "1s,", "1hm", "1h30", "1m s",
            "1e3s", "１s",
        ] {
            let message = read_duration(text).unwrap_err().to_string();
            assert!(
                message.contains("is not a duration; write") && message.contains("(minutes)"),
                "{message}"
            );
            assert!(!pattern.is_match(text), "{text}");
        }
        for text in ["1h1h", "1m 1m", "30m1h", "1s1ms1s", "1ns1us"] {
            assert!(read_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_printed_duration_has_the_form_of_a_written_one() {
        for text in ["0s", "1d", "1d2h3m4s5ms6us7ns", "90d", "500ms", "1h30m"] {
            assert_eq!(HumanDuration(read_duration(text).unwrap()).to_string(), text);
        }
    }
}
