//! Wall clock time: time zones, cycles counted from an epoch or from midnight, cron expressions,
//! active windows and calendar periods.
//!
//! No function reads a clock: the caller passes the current time.
//!
//! One rule handles the change to and from daylight saving time. A local time takes place when the
//! clock of the zone *first* shows this time or a later time:
//!
//! - If the clock skips a local time, the local time takes place once, at the end of the gap.
//! - If the clock shows a local time twice, the local time takes place once, the first time.
//!
//! [`Cron`] describes the exception: cron expressions whose minute or hour begins with `*`.

mod cron;
mod periods;
mod windows;

use std::fmt;
use std::time::{Duration, SystemTime};

use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Timestamp, ToSpan as _};

pub use cron::Cron;
pub use periods::Period;
pub use windows::{Days, Hours, Window, Windows};

/// An error in a text of the configuration. It does not contain the text. The caller decides how
/// much of it a message quotes, because a text can be a secret that the user wrote under the wrong
/// key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}; {remedy}")]
pub struct ParseError {
    /// The problem as a predicate: `not a day of the week` becomes the message "`xyz` is not a day
    /// of the week".
    pub problem: String,
    pub remedy: String,
}

/// A time zone by its name in the IANA database, such as `Europe/Berlin`.
///
/// The binary contains this database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone(TimeZone);

impl Zone {
    pub const UTC: Zone = Zone(TimeZone::UTC);

    /// Finds a zone by its name, in upper or lower case; `None` if the database has no such zone.
    pub fn by_name(name: &str) -> Option<Zone> {
        let zone = TimeZone::get(name).ok()?;
        (!zone.is_unknown()).then_some(Zone(zone))
    }

    pub fn names() -> impl Iterator<Item = String> {
        jiff::tz::db().available().map(|name| name.to_string())
    }

    /// The local time of day, such as `06:30`.
    pub fn time_of_day(&self, at: SystemTime) -> String {
        self.local_time(timestamp(at)).strftime("%H:%M").to_string()
    }

    /// The local day and time, such as `Sat 22 Nov 06:30`. Has a year if the year is not the year
    /// of `now`.
    pub fn day_and_time(&self, at: SystemTime, now: SystemTime) -> String {
        self.days_and_times(&[at], now).concat()
    }

    /// The local days and times, in minutes. Instants in different minutes have different texts.
    /// All texts have a year if one of the instants is not in the year of `now`. All texts have an
    /// offset from UTC if the offsets of two neighbours in the list differ.
    pub fn days_and_times(&self, times: &[SystemTime], now: SystemTime) -> Vec<String> {
        let zoned = |at: &SystemTime| timestamp(*at).to_zoned(self.0.clone());
        let this_year = zoned(&now).year();
        let times: Vec<_> = times.iter().map(zoned).collect();
        let has_year = times.iter().any(|time| time.year() != this_year);
        let has_offset = times.windows(2).any(|pair| pair[0].offset() != pair[1].offset());
        let format = match (has_year, has_offset) {
            (false, false) => "%a %-d %b %H:%M",
            (true, false) => "%a %-d %b %Y %H:%M",
            (false, true) => "%a %-d %b %H:%M %:z",
            (true, true) => "%a %-d %b %Y %H:%M %:z",
        };
        times.iter().map(|time| time.strftime(format).to_string()).collect()
    }

    fn local_time(&self, at: Timestamp) -> DateTime {
        self.0.to_datetime(at)
    }

    /// The first instant at which the clock of the zone shows this time or a later time. `None`
    /// after the year 9999.
    fn first_instant_of(&self, time: DateTime) -> Option<Timestamp> {
        match self.0.to_ambiguous_timestamp(time).offset() {
            AmbiguousOffset::Unambiguous { offset }
            | AmbiguousOffset::Fold { before: offset, .. } => offset.to_timestamp(time).ok(),
            AmbiguousOffset::Gap { after, .. } => {
                // With the offset after the gap, a time inside the gap becomes an instant before
                // the gap. So the next change of the clock is the end of the gap.
                let before = after.to_timestamp(time).ok()?;
                self.0.following(before).next().map(|change| change.timestamp())
            }
        }
    }

    /// The current day, its first instant and the first instant of the next day.
    fn current_day(&self, now: Timestamp) -> (Date, Timestamp, Timestamp) {
        let start_of = |date: Date| self.first_instant_of(date.into());
        let mut date = self.local_time(now).date();
        // If the clock goes back across midnight, it shows yesterday again. By the rule of this
        // module, today began at the first midnight.
        while let Some((tomorrow, true)) =
            date.tomorrow().ok().map(|day| (day, start_of(day).is_some_and(|start| start <= now)))
        {
            date = tomorrow;
        }
        let end = date.tomorrow().ok().and_then(start_of).unwrap_or(Timestamp::MAX);
        (date, start_of(date).unwrap_or(Timestamp::MIN), end)
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.iana_name().unwrap_or("UTC"))
    }
}

/// Formats an instant as in RFC 3339, in UTC.
pub fn rfc3339(at: SystemTime) -> String {
    timestamp(at).to_string()
}

/// Reads an instant in the format of RFC 3339, such as `2026-11-27T22:00:00Z`. `None` for any other
/// text, and for a time without an offset from UTC.
pub fn read_rfc3339(text: &str) -> Option<SystemTime> {
    text.parse::<Timestamp>().ok().map(SystemTime::from)
}

/// Formats an instant as in RFC 3339, in UTC and with milliseconds.
pub fn rfc3339_millis(at: SystemTime) -> String {
    format!("{:.3}", timestamp(at))
}

/// The start of cycle counting, for a schedule that follows the wall clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// The Unix epoch. Cycles are at the same instants on every machine and in every zone.
    Epoch,
    /// Local midnight of each day. A cycle that still runs at midnight ends there. If the clock
    /// skips midnight, the day begins at the end of the gap.
    Midnight(Zone),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cycle {
    /// The number of the cycle, which is the same on every machine. Numbers increase, sometimes by
    /// more than 1.
    pub number: u64,
    /// The start. [`Anchor::cycle_at`] returns a cycle that starts at or before `now`, except
    /// before 1970.
    pub start: SystemTime,
    /// The end: `start` plus the length of the schedule, or the next midnight if that is earlier.
    pub end: SystemTime,
}

/// Longer than any day: some days have 25 hours or more.
const LONGEST_DAY: Duration = Duration::from_hours(48);

impl Anchor {
    /// Returns the cycle at `now`, for a schedule of this length. Before 1970, returns the cycle at
    /// the Unix epoch.
    pub fn cycle_at(&self, length: Duration, now: SystemTime) -> Cycle {
        let length = length.max(Duration::from_nanos(1));
        match self {
            Anchor::Epoch => {
                let number = quotient(
                    now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default(),
                    length,
                );
                let start = SystemTime::UNIX_EPOCH + times(length, number);
                Cycle { number, start, end: start + length }
            }
            Anchor::Midnight(zone) => {
                let now = timestamp(now).max(Timestamp::UNIX_EPOCH);
                let (date, midnight, next) = zone.current_day(now);
                let index = quotient(now.duration_since(midnight).unsigned_abs(), length);
                let start = SystemTime::from(midnight) + times(length, index);
                let day = date.duration_since(Date::constant(1970, 1, 1)).as_hours() / 24;
                // West of Greenwich, the local date at the epoch is 31 December 1969, which is day
                // −1.
                let day = u64::try_from(day + 1).unwrap_or(0);
                let cycles_of_a_day = quotient(LONGEST_DAY, length) + 1;
                Cycle {
                    number: day.saturating_mul(cycles_of_a_day).saturating_add(index),
                    start,
                    end: (start + length).min(next.into()),
                }
            }
        }
    }
}

/// The text in a sentence, such as `cycles counted from the Unix epoch`.
impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Anchor::Epoch => f.write_str("cycles counted from the Unix epoch"),
            Anchor::Midnight(zone) => write!(f, "cycles counted from midnight in {zone}"),
        }
    }
}

fn quotient(time: Duration, length: Duration) -> u64 {
    u64::try_from(time.as_nanos() / length.as_nanos().max(1)).unwrap_or(u64::MAX)
}

fn times(length: Duration, count: u64) -> Duration {
    Duration::from_nanos_u128(length.as_nanos() * u128::from(count))
}

/// Limits the result to the years −9999 to 9999.
fn timestamp(time: SystemTime) -> Timestamp {
    let end = if time < SystemTime::UNIX_EPOCH { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::try_from(time).unwrap_or(end)
}

fn just_before(time: DateTime) -> DateTime {
    time.saturating_sub(1.nanosecond())
}

/// The position in `names` of a full name or of its first three letters, in upper or lower case.
fn position_of_name(names: &[&str], word: &str) -> Option<u32> {
    let word = word.to_ascii_lowercase();
    let is_match = |name: &str| name == word || name.get(..3).is_some_and(|short| short == word);
    names.iter().position(|name| is_match(name)).and_then(|position| u32::try_from(position).ok())
}

#[cfg(test)]
mod tests;
