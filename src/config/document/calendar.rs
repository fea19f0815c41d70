//! When load is sent, by the clock on the wall, as a file may write it.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::field::{Field, FieldList};

/// When a schedule begins.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename = "$shape", rename_all = "lowercase")]
#[schemars(rename = "Start", untagged, inline)]
pub enum Start {
    // Read as any text, so that whoever writes `cron` here is told how it is written.
    /// By name.
    Text(#[schemars(with = "StartName")] String),
    /// With a time zone.
    Map(StartKeys),
}

/// When a schedule begins. Only the schema is made of it.
#[derive(JsonSchema)]
#[schemars(inline, rename_all = "snake_case", description = "When a schedule begins.")]
#[allow(dead_code)]
pub enum StartName {
    /// Once `/models` of the target answers anything below 500.
    WhenReady,
    /// At once.
    Now,
    /// In the midst of the cycle that is on by the clock, counted from the Unix epoch: the same on every
    /// machine and after every restart.
    WallClock,
}

/// When a schedule begins, in local time: one of `wall_clock` and `cron`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields, inline)]
pub struct StartKeys {
    /// In the midst of the cycle that is on by the clock, counted from midnight, each day anew.
    pub wall_clock: Field<WallClock>,
    /// At each firing of a cron expression: minute, hour, day of the month, month and weekday. One that
    /// comes while the schedule still runs is skipped.
    pub cron: Field<String>,
    /// Time zone of the cron, by its IANA name.
    #[schemars(extend("default" = "UTC"))]
    pub timezone: Field<String>,
}

/// From whose midnight cycles are counted.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields, inline)]
pub struct WallClock {
    /// Time zone by its IANA name, such as `Europe/Berlin`.
    pub timezone: Field<String>,
}

/// When load is sent at all.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename = "$shape", rename_all = "lowercase")]
#[schemars(rename = "Active", untagged, inline)]
pub enum Active {
    /// In one window.
    Map(Window),
    /// In any of these.
    List(FieldList<Window>),
}

/// A part of some days of the week.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Window {
    /// Days on which the window begins: `mon`, `mon-fri`, or a list of such. Default: all.
    pub days: Field<Days>,
    /// From when to when, such as `08:00-20:00`; `22:00-06:00` goes on into the next day. Default: the whole
    /// day.
    pub hours: Field<String>,
    /// Time zone by its IANA name.
    #[schemars(extend("default" = "UTC"))]
    pub timezone: Field<String>,
}

/// Days of the week.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename = "$shape", rename_all = "lowercase")]
#[schemars(rename = "Days", untagged, inline)]
pub enum Days {
    /// One, or some in a row.
    Text(String),
    /// Several.
    List(FieldList<String>),
}
