//! Single values as people write them: rates, durations, ratios, counts, numbers.
//!
//! Each has a reader of its own because each answers another slip: a rate without a unit, a
//! percentage without its sign, a number in quotes.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Visitor};

use super::duration::{PATTERN, read_duration};
use super::tree::excerpt;
use crate::schedule;

/// Arrivals per time: `5/s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(pub schedule::Rate);

/// A length of time: `1h30m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

/// A share from 0 to 1: `1%` or `0.01`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio(pub f64);

/// A whole number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count(pub u64);

/// A finite number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Number(pub f64);

/// How often: `forever` or a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// For as long as the daemon lives.
    Forever,
    /// So many times.
    Times(u64),
}

/// Reads one scalar: what the three shapes of a scalar mean for a type.
trait Scalar: Sized {
    /// What belongs here, for a message.
    const WANTED: &'static str;
    fn from_text(text: &str) -> Result<Self, String>;
    fn from_count(value: u64) -> Result<Self, String>;
    fn from_number(value: f64) -> Result<Self, String>;
}

struct Read<T>(std::marker::PhantomData<T>);

#[allow(clippy::cast_precision_loss)]
impl<T: Scalar> Visitor<'_> for Read<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::WANTED)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        T::from_text(text.trim()).map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<T, E> {
        T::from_count(value).map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<T, E> {
        T::from_number(value as f64).map_err(E::custom)
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<T, E> {
        T::from_number(value).map_err(E::custom)
    }
}

impl Scalar for Rate {
    const WANTED: &'static str = "a rate such as `5/s`";

    fn from_text(text: &str) -> Result<Rate, String> {
        text.parse().map(Rate).map_err(|error: schedule::ParseRateError| {
            let message = error.to_string();
            if excerpt(text) == text { message } else { message.replace(text, &excerpt(text)) }
        })
    }

    fn from_count(value: u64) -> Result<Rate, String> {
        Err(format!("a rate needs a unit; write `{value}/s`, `{value}/m` or `{value}/h`"))
    }

    fn from_number(value: f64) -> Result<Rate, String> {
        Err(format!("a rate needs a unit; write `{value}/s`, `{value}/m` or `{value}/h`"))
    }
}

impl Scalar for Span {
    const WANTED: &'static str = "a duration such as `90s`";

    fn from_text(text: &str) -> Result<Span, String> {
        read_duration(text).map(Span)
    }

    fn from_count(value: u64) -> Result<Span, String> {
        Err(format!("a duration needs a unit; write `{value}s`, `{value}m` or `{value}ms`"))
    }

    fn from_number(_: f64) -> Result<Span, String> {
        Err("a duration needs a unit and no fraction; write one such as `90s` or `500ms`".into())
    }
}

impl Scalar for Ratio {
    const WANTED: &'static str = "a ratio such as `1%`";

    fn from_text(text: &str) -> Result<Ratio, String> {
        let form =
            || format!("`{}` is not a ratio; write one such as `1%` or `0.01`", excerpt(text));
        let number = text.strip_suffix('%').ok_or_else(form)?;
        let percent: f64 = number.trim().parse().map_err(|_| form())?;
        if (0.0..=100.0).contains(&percent) {
            Ok(Ratio(percent / 100.0))
        } else {
            Err(format!("`{}` is not between 0% and 100%", excerpt(text)))
        }
    }

    #[allow(clippy::cast_precision_loss)]
    fn from_count(value: u64) -> Result<Ratio, String> {
        Ratio::from_number(value as f64)
    }

    fn from_number(value: f64) -> Result<Ratio, String> {
        if (0.0..=1.0).contains(&value) {
            Ok(Ratio(value))
        } else if (1.0..=100.0).contains(&value) {
            Err(format!("{value} is not between 0 and 1; for percent write `{value}%`"))
        } else {
            Err(format!("{value} is not between 0 and 1; write a ratio such as `1%` or `0.01`"))
        }
    }
}

impl Scalar for Count {
    const WANTED: &'static str = "a whole number";

    fn from_text(text: &str) -> Result<Count, String> {
        let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let remedy = if plain { "leave out the quotes" } else { "write digits only" };
        Err(format!("`{}` is not a whole number; {remedy}", excerpt(text)))
    }

    fn from_count(value: u64) -> Result<Count, String> {
        Ok(Count(value))
    }

    fn from_number(value: f64) -> Result<Count, String> {
        Err(format!("{value} is not a whole number of 0 or more"))
    }
}

impl Scalar for Number {
    const WANTED: &'static str = "a number";

    fn from_text(text: &str) -> Result<Number, String> {
        let plain = text.parse::<f64>().is_ok_and(f64::is_finite);
        let remedy = if plain { "leave out the quotes" } else { "write digits only" };
        Err(format!("`{}` is not a number; {remedy}", excerpt(text)))
    }

    #[allow(clippy::cast_precision_loss)]
    fn from_count(value: u64) -> Result<Number, String> {
        Ok(Number(value as f64))
    }

    fn from_number(value: f64) -> Result<Number, String> {
        if value.is_finite() {
            Ok(Number(value))
        } else {
            Err(format!("{value} is not a finite number"))
        }
    }
}

impl Scalar for Repeat {
    const WANTED: &'static str = "`forever` or a count";

    fn from_text(text: &str) -> Result<Repeat, String> {
        if text == "forever" {
            Ok(Repeat::Forever)
        } else {
            Err(format!("`{}` is not a choice here; write `forever` or a count", excerpt(text)))
        }
    }

    fn from_count(value: u64) -> Result<Repeat, String> {
        Ok(Repeat::Times(value))
    }

    fn from_number(value: f64) -> Result<Repeat, String> {
        Err(format!("{value} is not a count; write `forever` or a whole number"))
    }
}

macro_rules! scalars {
    ($($name:ident: $read:ident, $schema:tt;)+) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<$name, D::Error> {
                from.$read(Read(std::marker::PhantomData))
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

// Wherever a number may stand, `${NAME}` may stand as well.
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
