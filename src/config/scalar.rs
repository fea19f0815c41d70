//! Reads single values in the form that people write: rates, durations, ratios, counts and numbers.
//!
//! Each type has a separate reader, because each has its typical mistakes: a rate without a unit, a
//! percentage without `%`, a number in quotes.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Visitor};

use super::duration::{PATTERN, read_duration};
use super::problem::Mistake;
use super::reader::into_serde;
use super::size::{self, read_size};
use super::tree::excerpt;
use crate::schedule::{self, ParseRateError};

/// A number of arrivals per second, minute or hour: `5/s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(pub schedule::Rate);

/// A duration: `1h30m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

/// A fraction from 0 to 1. A user writes `1%` or `0.01`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio(pub f64);

/// A whole number of 0 or more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count(pub u64);

/// A large whole number. A user writes `20000`, `50M` or `1.5M`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amount(pub u64);

/// A finite number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Number(pub f64);

/// Prints at most 17 digits, so a message about 1e300 does not contain 300 zeros.
impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.abs() {
            0.0 | 1e-6..1e15 => write!(f, "{}", self.0),
            _ => write!(f, "{:e}", self.0),
        }
    }
}

/// A number of bytes: `256MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

/// The number of cycles: `forever` or a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    Forever,
    Times(u64),
}

/// The time for which an idle connection stays open: `off` or a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepAlive {
    Off,
    For(Duration),
}

/// A type whose values are YAML scalars. YAML distinguishes texts, whole numbers and other numbers,
/// and the trait has a function for each.
trait Scalar: Sized {
    /// A description of a valid value, for a message.
    const EXPECTED: &'static str;
    fn from_text(text: &str) -> Result<Self, Mistake>;
    fn from_count(value: u64) -> Result<Self, Mistake>;
    fn from_number(value: f64) -> Result<Self, Mistake>;
}

struct ScalarVisitor<T>(PhantomData<T>);

#[allow(clippy::cast_precision_loss)]
impl<T: Scalar> Visitor<'_> for ScalarVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        T::from_text(text.trim()).map_err(into_serde)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<T, E> {
        T::from_count(value).map_err(into_serde)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<T, E> {
        T::from_number(value as f64).map_err(into_serde)
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<T, E> {
        T::from_number(value).map_err(into_serde)
    }
}

impl Scalar for Rate {
    const EXPECTED: &'static str = "a rate such as `5/s`";

    fn from_text(text: &str) -> Result<Rate, Mistake> {
        text.parse().map(Rate).map_err(|error: ParseRateError| {
            let text = excerpt(text);
            match error {
                ParseRateError::Form(_) => Mistake::new(
                    format!("`{text}` is not a rate"),
                    "write a number and a unit, such as `5/s`, `300/m` or `40/h`",
                ),
                ParseRateError::TooFine(_) => Mistake::new(
                    format!("`{text}` has too many decimals"),
                    "round it: the finest step is 0.000001/h",
                ),
                ParseRateError::TooHigh(_) => Mistake::new(
                    format!("`{text}` is above the highest rate"),
                    "write at most 100000/s",
                ),
            }
        })
    }

    fn from_count(value: u64) -> Result<Rate, Mistake> {
        Err(rate_without_unit(value))
    }

    fn from_number(value: f64) -> Result<Rate, Mistake> {
        Err(rate_without_unit(Number(value)))
    }
}

fn rate_without_unit(value: impl fmt::Display) -> Mistake {
    Mistake::new("a rate needs a unit", format!("write `{value}/s`, `{value}/m` or `{value}/h`"))
}

impl Scalar for Span {
    const EXPECTED: &'static str = "a duration such as `90s`";

    fn from_text(text: &str) -> Result<Span, Mistake> {
        read_duration(text).map(Span)
    }

    fn from_count(value: u64) -> Result<Span, Mistake> {
        let remedy = format!("write `{value}s`, `{value}m` or `{value}ms`");
        Err(Mistake::new("a duration needs a unit", remedy))
    }

    fn from_number(_: f64) -> Result<Span, Mistake> {
        let message = "a duration needs a unit and a whole number";
        Err(Mistake::new(message, "write one such as `90s` or `500ms`"))
    }
}

impl Scalar for Ratio {
    const EXPECTED: &'static str = "a ratio such as `1%`";

    fn from_text(text: &str) -> Result<Ratio, Mistake> {
        const REMEDY: &str = "write one such as `1%` or `0.01`";
        let wrong_form = || Mistake::new(format!("`{}` is not a ratio", excerpt(text)), REMEDY);
        let number = text.strip_suffix('%').ok_or_else(wrong_form)?;
        let percent: f64 = number.trim().parse().map_err(|_| wrong_form())?;
        if (0.0..=100.0).contains(&percent) {
            Ok(Ratio(percent / 100.0))
        } else {
            let message = format!("`{}` is not between 0% and 100%", excerpt(text));
            Err(Mistake::new(message, "write a percentage from 0% to 100%, such as `50%`"))
        }
    }

    #[allow(clippy::cast_precision_loss)]
    fn from_count(value: u64) -> Result<Ratio, Mistake> {
        Ratio::from_number(value as f64)
    }

    fn from_number(value: f64) -> Result<Ratio, Mistake> {
        if (0.0..=1.0).contains(&value) {
            return Ok(Ratio(value));
        }
        let remedy = if (1.0..=100.0).contains(&value) {
            format!("for percent write `{}%`", Number(value))
        } else {
            "write a ratio such as `1%` or `0.01`".to_owned()
        };
        Err(Mistake::new(format!("{} is not between 0 and 1", Number(value)), remedy))
    }
}

/// Returns the mistake for a text instead of a number. `is_number` is true if the text would be a
/// valid number without its quotes.
fn not_a_number(text: &str, expected: &str, is_number: bool) -> Mistake {
    let digits = text.trim_start_matches('0');
    // YAML reads a number with a leading zero as text, even without quotes.
    let has_leading_zero =
        text.starts_with('0') && digits.starts_with(|c: char| c.is_ascii_digit());
    let remedy = match (is_number, has_leading_zero) {
        (true, true) => format!("write `{}`, without a zero at the start", excerpt(digits)),
        (true, false) => "remove the quotes".to_owned(),
        (false, _) => "write only digits".to_owned(),
    };
    Mistake::new(format!("`{}` is not {expected}", excerpt(text)), remedy)
}

/// Returns a number without a fraction as a count. A template can write `1.0`.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn whole(value: f64) -> Option<u64> {
    /// Up to 2^53, every whole number is exact.
    const HIGHEST: f64 = 9_007_199_254_740_992.0;
    ((0.0..=HIGHEST).contains(&value) && value.fract() == 0.0).then_some(value as u64)
}

impl Scalar for Count {
    const EXPECTED: &'static str = "a whole number";

    fn from_text(text: &str) -> Result<Count, Mistake> {
        let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        Err(not_a_number(text, Count::EXPECTED, is_number))
    }

    fn from_count(value: u64) -> Result<Count, Mistake> {
        Ok(Count(value))
    }

    fn from_number(value: f64) -> Result<Count, Mistake> {
        whole(value).map(Count).ok_or_else(|| {
            let message = format!("{} is not a whole number", Number(value));
            Mistake::new(message, "write a whole number of 0 or more")
        })
    }
}

impl Scalar for Amount {
    const EXPECTED: &'static str = "a count such as `20000` or `50M`";

    fn from_text(text: &str) -> Result<Amount, Mistake> {
        const UNITS: [(char, f64); 4] = [('k', 1e3), ('K', 1e3), ('M', 1e6), ('G', 1e9)];
        let unit = UNITS.iter().find_map(|(unit, value)| Some((text.strip_suffix(*unit)?, value)));
        let number = unit.map(|(number, value)| (number.trim_end(), value));
        let amount = number
            .filter(|(number, _)| number.bytes().all(|b| b.is_ascii_digit() || b == b'.'))
            .and_then(|(number, value)| whole(number.parse::<f64>().ok()? * value));
        amount.map(Amount).ok_or_else(|| {
            let message = format!("`{}` is not a count", excerpt(text));
            Mistake::new(message, "write a whole number, such as `20000`, `20k`, `50M` or `1.5G`")
        })
    }

    fn from_count(value: u64) -> Result<Amount, Mistake> {
        Ok(Amount(value))
    }

    fn from_number(value: f64) -> Result<Amount, Mistake> {
        Count::from_number(value).map(|count| Amount(count.0))
    }
}

impl Scalar for Number {
    const EXPECTED: &'static str = "a number";

    fn from_text(text: &str) -> Result<Number, Mistake> {
        let is_number = text.parse::<f64>().is_ok_and(f64::is_finite);
        Err(not_a_number(text, Number::EXPECTED, is_number))
    }

    #[allow(clippy::cast_precision_loss)]
    fn from_count(value: u64) -> Result<Number, Mistake> {
        Ok(Number(value as f64))
    }

    fn from_number(value: f64) -> Result<Number, Mistake> {
        if value.is_finite() {
            Ok(Number(value))
        } else {
            Err(Mistake::new(format!("{value} is not a finite number"), "write a finite number"))
        }
    }
}

impl Scalar for Size {
    const EXPECTED: &'static str = "a size such as `256MiB`";

    fn from_text(text: &str) -> Result<Size, Mistake> {
        read_size(text).map(Size)
    }

    fn from_count(value: u64) -> Result<Size, Mistake> {
        let remedy = format!("write `{value}MiB`, `{value}KiB` or `{value}GiB`");
        Err(Mistake::new("a size needs a unit", remedy))
    }

    fn from_number(_: f64) -> Result<Size, Mistake> {
        Err(Mistake::new("a size needs a unit and a whole number", "write one such as `256MiB`"))
    }
}

impl Scalar for Repeat {
    const EXPECTED: &'static str = "`forever` or a count";

    fn from_text(text: &str) -> Result<Repeat, Mistake> {
        if text == "forever" {
            Ok(Repeat::Forever)
        } else {
            let message = format!("`{}` is not a valid choice", excerpt(text));
            Err(Mistake::new(message, "write `forever` or a count"))
        }
    }

    fn from_count(value: u64) -> Result<Repeat, Mistake> {
        Ok(Repeat::Times(value))
    }

    fn from_number(value: f64) -> Result<Repeat, Mistake> {
        whole(value).map(Repeat::Times).ok_or_else(|| {
            let message = format!("{} is not a count", Number(value));
            Mistake::new(message, "write `forever` or a whole number")
        })
    }
}

impl Scalar for KeepAlive {
    const EXPECTED: &'static str = "`off` or a duration such as `4s`";

    fn from_text(text: &str) -> Result<KeepAlive, Mistake> {
        if text == "off" {
            return Ok(KeepAlive::Off);
        }
        read_duration(text).map(KeepAlive::For).map_err(|_| {
            let message = format!("`{}` is neither `off` nor a duration", excerpt(text));
            Mistake::new(message, "write `off`, or a duration such as `4s`")
        })
    }

    fn from_count(value: u64) -> Result<KeepAlive, Mistake> {
        Span::from_count(value).map(|span| KeepAlive::For(span.0))
    }

    fn from_number(value: f64) -> Result<KeepAlive, Mistake> {
        Span::from_number(value).map(|span| KeepAlive::For(span.0))
    }
}

macro_rules! scalars {
    ($($name:ident: $read:ident, $schema:tt;)+) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<$name, D::Error> {
                from.$read(ScalarVisitor(PhantomData))
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    )+};
}

// Each schema also accepts a text with `${NAME}`.
scalars! {
    Rate: deserialize_str, {
        "type": "string",
        "pattern": r"^\s*([0-9]+(\.[0-9]*)?|\.[0-9]+)\s*/\s*(s|m|min|h)\s*$|\$\{",
        "examples": ["5/s", "300/m", "0.2/s", "40/h"]
    };
    Span: deserialize_str, {
        "type": "string",
        "pattern": PATTERN,
        "examples": ["90s", "10m", "1h30m", "500ms"]
    };
    KeepAlive: deserialize_str, {
        "anyOf": [{ "const": "off" }, { "type": "string", "pattern": PATTERN }],
        "examples": ["4s", "off"]
    };
    Size: deserialize_str, {
        "type": "string",
        "pattern": size::PATTERN,
        "examples": ["256MiB", "10GB"]
    };
    Ratio: deserialize_f64, {
        "anyOf": [
            { "type": "number", "minimum": 0, "maximum": 1 },
            { "type": "string", "pattern": r"^\s*[0-9]+(\.[0-9]*)?\s*%\s*$|\$\{" }
        ],
        "examples": ["1%", 0.01]
    };
    Count: deserialize_u64, {
        "anyOf": [{ "type": "integer", "minimum": 0 }, { "type": "string", "pattern": r"\$\{" }]
    };
    Amount: deserialize_u64, {
        "anyOf": [
            { "type": "integer", "minimum": 0 },
            { "type": "string", "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*[kKMG]\s*$|\$\{" }
        ],
        "examples": [20000, "50M"]
    };
    Repeat: deserialize_u64, {
        "anyOf": [
            { "const": "forever" },
            { "type": "integer", "minimum": 1 },
            { "type": "string", "pattern": r"\$\{" }
        ]
    };
    Number: deserialize_f64, {
        "anyOf": [{ "type": "number" }, { "type": "string", "pattern": r"\$\{" }]
    };
}
