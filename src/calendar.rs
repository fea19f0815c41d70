//! The clock on the wall: time zones, cycles counted from an epoch or from midnight, cron, and the
//! windows in which load is active.
//!
//! Pure arithmetic over instants that are passed in. One rule decides what happens when clocks are
//! put forward or back: a local time is when the clock on the wall *first* reads it or something
//! later. What falls into a gap thus happens once, as the gap ends, and what exists twice happens
//! once, the first time. All else about daylight saving follows from that.

mod cron;
mod windows;

use std::fmt;
use std::time::{Duration, SystemTime};

use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Timestamp, ToSpan as _};

pub use cron::Cron;
pub use windows::{Days, Hours, Window, Windows};

/// Why a text is not what it should be, in words that go on from "`…` is": what is wrong and, after
/// a semicolon, what would be right. It quotes nothing of the text, which may hold a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseError(String);

/// A time zone by its name in the IANA database, such as `Europe/Berlin`.
///
/// The database is the one that was linked in: see `Cargo.toml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone(TimeZone);

impl Zone {
    /// Coordinated Universal Time.
    pub const UTC: Zone = Zone(TimeZone::UTC);

    /// The zone of this name, in upper or lower case.
    pub fn by_name(name: &str) -> Option<Zone> {
        let zone = TimeZone::get(name).ok()?;
        (!zone.is_unknown()).then_some(Zone(zone))
    }

    /// All names there are.
    pub fn names() -> impl Iterator<Item = String> {
        jiff::tz::db().available().map(|name| name.to_string())
    }

    /// The time of the day that its clock shows: `06:30`.
    pub fn time_of_day(&self, at: SystemTime) -> String {
        self.reading(timestamp(at)).strftime("%H:%M").to_string()
    }

    /// The same with the day: `Sat 22 Nov 06:30`.
    pub fn day_and_time(&self, at: SystemTime) -> String {
        self.reading(timestamp(at)).strftime("%a %-d %b %H:%M").to_string()
    }

    /// What the clock on the wall reads.
    fn reading(&self, at: Timestamp) -> DateTime {
        self.0.to_datetime(at)
    }

    /// The first instant at which the clock on the wall reads this or something later; nothing past
    /// the year 9999.
    fn first_reads(&self, time: DateTime) -> Option<Timestamp> {
        match self.0.to_ambiguous_timestamp(time).offset() {
            AmbiguousOffset::Unambiguous { offset }
            | AmbiguousOffset::Fold { before: offset, .. } => offset.to_timestamp(time).ok(),
            AmbiguousOffset::Gap { after, .. } => {
                // By the offset that holds after the gap, a time in it lies before the gap.
                let before = after.to_timestamp(time).ok()?;
                self.0.following(before).next().map(|change| change.timestamp())
            }
        }
    }

    /// The day that is on, by the clock of this zone, with its first instant and that of the next.
    fn day(&self, now: Timestamp) -> (Date, Timestamp, Timestamp) {
        let begins = |date: Date| self.first_reads(date.into());
        let mut date = self.reading(now).date();
        // A clock that is put back across midnight reads yesterday again, which is over.
        while let Some((tomorrow, true)) =
            date.tomorrow().ok().map(|day| (day, begins(day).is_some_and(|begin| begin <= now)))
        {
            date = tomorrow;
        }
        let end = date.tomorrow().ok().and_then(begins).unwrap_or(Timestamp::MAX);
        (date, begins(date).unwrap_or(Timestamp::MIN), end)
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.iana_name().unwrap_or("UTC"))
    }
}

/// An instant as RFC 3339 writes it, in UTC.
pub fn rfc3339(at: SystemTime) -> String {
    timestamp(at).to_string()
}

/// From where the cycles of a schedule are counted by the clock on the wall.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// From the Unix epoch, without end: the same on every machine, in every zone.
    Epoch,
    /// From local midnight, each day anew; the last cycle of a day is cut by the next midnight, also
    /// where the day has 23 or 25 hours. Where midnight does not exist, the day begins after the gap.
    Midnight(Zone),
}

/// One pass of a schedule, placed on the clock on the wall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cycle {
    /// Unique and increasing, though not without gaps; the same after a restart and on every machine.
    pub number: u64,
    /// When it began; not after the instant that was asked for.
    pub start: SystemTime,
    /// When it ends: a whole length later, or at the next midnight.
    pub end: SystemTime,
}

/// Longer than any day of any zone has been since the epoch.
const LONGEST_DAY: Duration = Duration::from_hours(48);

impl Anchor {
    /// The cycle that is on at `now`, of a schedule of this length. A clock set before 1970 is taken to
    /// stand at its beginning.
    pub fn cycle_at(&self, length: Duration, now: SystemTime) -> Cycle {
        let length = length.max(Duration::from_nanos(1));
        match self {
            Anchor::Epoch => {
                let number =
                    whole(now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default(), length);
                let start = SystemTime::UNIX_EPOCH + times(length, number);
                Cycle { number, start, end: start + length }
            }
            Anchor::Midnight(zone) => {
                let now = timestamp(now).max(Timestamp::UNIX_EPOCH);
                let (date, midnight, next) = zone.day(now);
                let index = whole(now.duration_since(midnight).unsigned_abs(), length);
                let start = SystemTime::from(midnight) + times(length, index);
                let day = date.duration_since(Date::constant(1970, 1, 1)).as_hours() / 24;
                // West of Greenwich the epoch lies in the last day of 1969.
                let day = u64::try_from(day + 1).unwrap_or(0);
                let cycles_of_a_day = whole(LONGEST_DAY, length) + 1;
                Cycle {
                    number: day.saturating_mul(cycles_of_a_day).saturating_add(index),
                    start,
                    end: (start + length).min(next.into()),
                }
            }
        }
    }
}

/// For a sentence: `cycles counted from the Unix epoch`.
impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Anchor::Epoch => f.write_str("cycles counted from the Unix epoch"),
            Anchor::Midnight(zone) => write!(f, "cycles counted from midnight in {zone}"),
        }
    }
}

/// How often `length` fits into a time.
fn whole(time: Duration, length: Duration) -> u64 {
    u64::try_from(time.as_nanos() / length.as_nanos().max(1)).unwrap_or(u64::MAX)
}

fn times(length: Duration, count: u64) -> Duration {
    Duration::from_nanos_u128(length.as_nanos() * u128::from(count))
}

/// An instant in the calendar, which ends with the year 9999.
fn timestamp(time: SystemTime) -> Timestamp {
    let end = if time < SystemTime::UNIX_EPOCH { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::try_from(time).unwrap_or(end)
}

/// The last reading before this one.
fn just_before(reading: DateTime) -> DateTime {
    reading.saturating_sub(1.nanosecond())
}

/// The place in a list of names of a word that is one of them or its first three letters.
fn named(names: &[&str], word: &str) -> Option<u32> {
    let word = word.to_ascii_lowercase();
    let is = |name: &str| name == word || name.get(..3).is_some_and(|short| short == word);
    names.iter().position(|name| is(name)).and_then(|place| u32::try_from(place).ok())
}

#[cfg(test)]
mod tests;
