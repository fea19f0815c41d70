//! Reads and prints sizes in the form that people write: `256MiB`, `10GB`.

use std::fmt;

use super::problem::Mistake;
use super::tree::excerpt;

/// The regular expression of a size in the JSON Schema. It also accepts a text with `${NAME}`.
pub(super) const PATTERN: &str = r"^\s*[0-9]+\s*(KiB|MiB|GiB|TiB|KB|MB|GB|TB|kB)\s*$|\$\{";

/// The units with their lengths in bytes. The first units are those that llmload prints, from the
/// largest to the smallest.
const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("kB", 1_000),
];

/// Reads a size such as `256MiB`, and returns its bytes. A size that is too large becomes the
/// largest `u64`, which no caller accepts.
pub(super) fn read_size(text: &str) -> Result<u64, Mistake> {
    let text = text.trim();
    let (number, unit) =
        text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let unit = UNITS.iter().find(|(name, _)| *name == unit.trim_start());
    match unit {
        Some((_, bytes)) if !number.is_empty() => {
            Ok(number.parse().unwrap_or(u64::MAX).saturating_mul(*bytes))
        }
        _ => Err(Mistake::new(
            format!("`{}` is not a size", excerpt(text)),
            "write a whole number and a unit, such as `64KiB`, `256MiB` or `10GB`",
        )),
    }
}

/// A size that prints in the syntax of `read_size`, such as `256MiB`.
#[derive(Clone, Copy, Debug)]
pub struct HumanSize(pub u64);

impl fmt::Display for HumanSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS.iter().find(|(_, bytes)| self.0 > 0 && self.0.is_multiple_of(*bytes));
        match unit {
            Some((name, bytes)) => write!(f, "{}{name}", self.0 / bytes),
            None => write!(f, "{} bytes", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_size_is_a_whole_number_with_a_unit() {
        for (text, bytes) in
            [("64KiB", 65_536), (" 256 MiB ", 268_435_456), ("10GB", 10_000_000_000), ("3kB", 3000)]
        {
            assert_eq!(read_size(text).unwrap(), bytes, "{text}");
        }
        assert_eq!(read_size("99999999999999999999TiB").unwrap(), u64::MAX);
        for text in ["", "MiB", "1.5MiB", "1", "1M", "1 mib", "-1MiB", "1MiB2"] {
            assert!(read_size(text).is_err(), "{text}");
        }
        assert_eq!(HumanSize(1 << 30).to_string(), "1GiB");
        assert_eq!(HumanSize(7).to_string(), "7 bytes");
    }

    proptest! {
        #[test]
        fn a_printed_size_is_read_as_the_same_size(number in 1u64..5000, unit in 0..UNITS.len()) {
            let bytes = number * UNITS[unit].1;
            prop_assert_eq!(read_size(&HumanSize(bytes).to_string()).unwrap(), bytes);
        }
    }
}
