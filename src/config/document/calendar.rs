//! The start of a schedule and the active windows, as a file writes them.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::field::{Field, FieldList};

/// The start of a schedule.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename = "$node_type", rename_all = "lowercase")]
#[schemars(rename = "Start", untagged, inline)]
pub enum Start {
    // Any text is accepted here, so the message about `start: cron` can show a cron start.
    /// The name of a start without further keys.
    Text(#[schemars(with = "StartName")] String),
    /// A start by the wall clock in a time zone, or by a cron expression.
    Map(StartKeys),
}

/// The names of a start, for the schema only.
#[derive(JsonSchema)]
#[schemars(inline, rename_all = "snake_case", description = "The start of a schedule.")]
#[allow(dead_code)]
pub enum StartName {
    /// The schedule starts when the target responds to `/models` with a status below 500.
    WhenReady,
    /// The schedule starts immediately.
    Now,
    /// The schedule starts in the middle of its current cycle. llmload counts cycles from the Unix
    /// epoch, so the position in the cycle is the same on every machine and after every restart.
    WallClock,
}

/// The start of a schedule in local time, with exactly one of `wall_clock` and `cron`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields, inline)]
pub struct StartKeys {
    /// A start in the middle of the current cycle. llmload counts cycles from midnight of each day
    /// in this time zone. Write exactly one of `wall_clock` and `cron`. Example:
    /// `{timezone: Europe/Berlin}`.
    pub wall_clock: Field<WallClock>,
    /// A cron expression with five fields: minute, hour, day of the month, month and weekday. The
    /// schedule starts at each cron firing. llmload skips a firing if the schedule is still
    /// running. Write exactly one of `wall_clock` and `cron`. Example: `0 2 * * *`.
    pub cron: Field<String>,
    /// The time zone of the cron expression, as an IANA name. `timezone` is allowed only next to
    /// `cron`. Default: `UTC`. Example: `Asia/Shanghai`.
    #[schemars(extend("default" = "UTC"))]
    pub timezone: Field<String>,
}

/// The time zone whose midnight begins the first cycle of a day.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields, inline)]
pub struct WallClock {
    /// The time zone whose midnight begins the first cycle of each day, as an IANA name. Required.
    /// Example: `Europe/Berlin`.
    pub timezone: Field<String>,
}

/// The windows of time in which llmload sends requests.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename = "$node_type", rename_all = "lowercase")]
#[schemars(rename = "Active", untagged, inline)]
pub enum Active {
    /// One window.
    Map(Window),
    /// Several windows. llmload sends requests during each of them.
    List(FieldList<Window>),
}

/// A window of time on some days of the week. A window needs `days`, `hours` or both.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Window {
    /// The days of the week on which the window begins: a day such as `mon`, a range such as
    /// `mon-fri`, or a list of days and ranges. Default: all days.
    pub days: Field<Days>,
    /// The start and the end of the window, as times from 00:00 to 24:00. A window such as
    /// `22:00-06:00` ends on the next day. Default: all 24 hours. Example: `08:00-20:00`.
    pub hours: Field<String>,
    /// The time zone of `days` and `hours`, as an IANA name. Default: `UTC`. Example:
    /// `Europe/Berlin`.
    #[schemars(extend("default" = "UTC"))]
    pub timezone: Field<String>,
}

/// Days of the week.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename = "$node_type", rename_all = "lowercase")]
#[schemars(rename = "Days", untagged, inline)]
pub enum Days {
    /// One day, or a range of days. Example: `mon-fri`.
    Text(String),
    /// Several days or ranges. Example: `[mon-thu, sun]`.
    List(FieldList<String>),
}
