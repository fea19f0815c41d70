//! The start of a schedule and the active windows, as a file writes them.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::field::{Field, FieldList};

/// The start of a schedule.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename = "$shape", rename_all = "lowercase")]
#[schemars(rename = "Start", untagged, inline)]
pub enum Start {
    // Read as any text, so that the message about `start: cron` can show the form of a cron start.
    /// The start by name.
    Text(#[schemars(with = "StartName")] String),
    /// A start by the wall clock in a time zone, or by a cron expression.
    Map(StartKeys),
}

/// The names of a start, for the schema only.
#[derive(JsonSchema)]
#[schemars(inline, rename_all = "snake_case", description = "The start of a schedule.")]
#[allow(dead_code)]
pub enum StartName {
    /// When `/models` of the target responds with a status below 500.
    WhenReady,
    /// Immediately.
    Now,
    /// In the middle of the current cycle, with cycles counted from the Unix epoch. So the position
    /// is the same on every machine and after every restart.
    WallClock,
}

/// The start of a schedule in local time: exactly one of `wall_clock` and `cron`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields, inline)]
pub struct StartKeys {
    /// A start in the middle of the current cycle, with cycles counted from midnight of each day.
    /// Example: `{timezone: Europe/Berlin}`.
    pub wall_clock: Field<WallClock>,
    /// A cron expression with five fields: minute, hour, day of the month, month and weekday. Each
    /// firing starts the schedule. A firing is skipped if the schedule still runs.
    /// Example: `0 2 * * *`.
    pub cron: Field<String>,
    /// The time zone of the cron expression, by its IANA name. Default: `UTC`. Example:
    /// `Asia/Shanghai`.
    #[schemars(extend("default" = "UTC"))]
    pub timezone: Field<String>,
}

/// The time zone whose midnight begins the first cycle of a day.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields, inline)]
pub struct WallClock {
    /// The time zone, by its IANA name. Required. Example: `Europe/Berlin`.
    pub timezone: Field<String>,
}

/// The windows of time in which llmload sends load.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename = "$shape", rename_all = "lowercase")]
#[schemars(rename = "Active", untagged, inline)]
pub enum Active {
    /// One window.
    Map(Window),
    /// Several windows. Load is sent in any of them.
    List(FieldList<Window>),
}

/// A window of time on some days of the week. At least one of `days` and `hours` is needed.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Window {
    /// The days on which the window begins: `mon`, `mon-fri`, or a list of both. Default: all days.
    pub days: Field<Days>,
    /// The start and the end of the window. `22:00-06:00` ends on the next day. Default: the whole
    /// day. Example: `08:00-20:00`.
    pub hours: Field<String>,
    /// The time zone, by its IANA name. Default: `UTC`. Example: `Europe/Berlin`.
    #[schemars(extend("default" = "UTC"))]
    pub timezone: Field<String>,
}

/// Days of the week.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename = "$shape", rename_all = "lowercase")]
#[schemars(rename = "Days", untagged, inline)]
pub enum Days {
    /// One day, or a range of days. Example: `mon-fri`.
    Text(String),
    /// Several days or ranges. Example: `[mon-thu, sun]`.
    List(FieldList<String>),
}
