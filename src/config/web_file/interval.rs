//! Durations in the syntax of Go, such as `1.5s`, because web configuration files of other
//! exporters contain them. A number without a unit counts nanoseconds.

use std::fmt;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, Visitor};

use crate::config::problem::Mistake;
use crate::config::reader::into_serde;
use crate::config::tree::excerpt;

/// The longest interval of a rate limit.
pub(super) const LONGEST_INTERVAL: Duration = Duration::from_hours(24);

/// The units with their lengths in nanoseconds. A unit must be before every unit that it begins
/// with, such as `ms` before `m`.
const UNITS: [(&str, f64); 8] = [
    ("ns", 1.0),
    ("us", 1e3),
    ("µs", 1e3),
    ("μs", 1e3),
    ("ms", 1e6),
    ("s", 1e9),
    ("m", 60e9),
    ("h", 3600e9),
];
/// The length of the longest duration in Go, about 292 years, in nanoseconds.
const LONGEST: f64 = 9.2e18;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Interval(pub(super) Duration);

impl<'de> Deserialize<'de> for Interval {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Interval, D::Error> {
        from.deserialize_any(IntervalVisitor)
    }
}

struct IntervalVisitor;

impl Visitor<'_> for IntervalVisitor {
    type Value = Interval;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration such as `1s`")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Interval, E> {
        parse(text).map(Interval).ok_or_else(|| {
            let message = format!("`{}` is not a duration", excerpt(text));
            into_serde(Mistake::new(message, "write one such as `1s`, `250ms` or `1m30s`"))
        })
    }

    fn visit_u64<E: de::Error>(self, nanos: u64) -> Result<Interval, E> {
        Ok(Interval(Duration::from_nanos(nanos)))
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn parse(text: &str) -> Option<Duration> {
    let text = text.strip_prefix('+').unwrap_or(text);
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (mut rest, mut nanos) = (text, 0.0);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        let (name, length) = UNITS.iter().find(|(name, _)| rest[end..].starts_with(name))?;
        nanos += number * length;
        rest = &rest[end + name.len()..];
    }
    (!text.is_empty() && nanos < LONGEST).then(|| Duration::from_nanos(nanos.round() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_has_the_syntax_of_go() {
        for (text, millis) in [
            ("1s", 1000),
            ("250ms", 250),
            ("1m30s", 90_000),
            ("1.5h", 5_400_000),
            (".5s", 500),
            ("+2s", 2000),
            ("1000us", 1),
            ("1000µs", 1),
            ("1s1s", 2000),
            ("0", 0),
            ("0s", 0),
        ] {
            assert_eq!(parse(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "1", "s", "-1s", "1d", "1 s", "1s ", ".", ".s", "1..5s", "1e3s", "∞s"] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse(&format!("{}h", u64::MAX)), None);
    }
}
