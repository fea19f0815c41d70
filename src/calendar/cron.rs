//! Cron: five fields, evaluated over the local time of a zone as Vixie's cron does.
//!
//! The crates for it were tried and lose firings: one ends for good at a day that a zone skips, and
//! takes `0,30 2 * * *` for an interval that need not happen on the day when clocks are put forward.

use std::fmt;
use std::time::{Duration, SystemTime};

use jiff::civil::{Date, DateTime, Time};
use jiff::{Timestamp, ToSpan as _};

use super::{ParseError, Zone, just_before, named, timestamp};

/// What repeats after so many years repeats for ever: the cycle of the Gregorian calendar.
const CALENDAR_CYCLE: i64 = 400;

/// An expression of five fields in a zone.
///
/// A job at fixed times (neither the minute nor the hour begins with `*`) fires once when clocks are put
/// forward over it, as the gap ends, and once when they are put back to it, the first time. Any other
/// fires whenever the clock on the wall reads so: never within a gap, twice where the clock reads it twice.
///
/// As in every cron, a day has to match the day of the month and the weekday where one of the two
/// begins with `*`, and else either of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    written: String,
    zone: Zone,
    minute: Field,
    hour: Field,
    day: Field,
    month: Field,
    weekday: Field,
}

/// The values that a field takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Field {
    /// Bit by value.
    values: u64,
    /// Whether it begins with `*`.
    wild: bool,
}

impl Field {
    fn takes(self, value: i8) -> bool {
        u32::try_from(value).is_ok_and(|value| self.values & bit(value) != 0)
    }

    /// The first value not below this one.
    fn not_below(self, value: i8) -> Option<i8> {
        (value..60).find(|value| self.takes(*value))
    }
}

fn bit(value: u32) -> u64 {
    1_u64.checked_shl(value).unwrap_or(0)
}

/// What may stand in a field.
struct Kind {
    name: &'static str,
    lowest: u32,
    highest: u32,
    /// Beginning with the lowest value.
    names: &'static [&'static str],
}

const MONTHS: &[&str] = &[
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];
const WEEKDAYS: &[&str] =
    &["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];

const MINUTE: Kind = Kind { name: "minute", lowest: 0, highest: 59, names: &[] };
const HOUR: Kind = Kind { name: "hour", lowest: 0, highest: 23, names: &[] };
const DAY: Kind = Kind { name: "day of the month", lowest: 1, highest: 31, names: &[] };
const MONTH: Kind = Kind { name: "month", lowest: 1, highest: 12, names: MONTHS };
/// 7 is Sunday too.
const WEEKDAY: Kind = Kind { name: "weekday", lowest: 0, highest: 7, names: WEEKDAYS };

/// Short for an expression.
const NICKNAMES: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

impl Cron {
    /// Reads an expression, such as `0 2 * * *` or `@daily`, for the local time of a zone.
    ///
    /// # Errors
    /// Where it is none, or one that never fires.
    pub fn new(text: &str, zone: Zone) -> Result<Cron, ParseError> {
        let written = text.trim();
        let nickname = NICKNAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(written));
        let fields: Vec<&str> =
            nickname.map_or(written, |(_, meaning)| meaning).split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields.as_slice() else {
            let count = match fields.len() {
                1 => "one field".to_owned(),
                count => format!("{count} fields"),
            };
            let remedy = if fields.len() == 6 { "leave out the seconds, " } else { "" };
            return Err(not_a_cron(&format!(
                "it has {count}; {remedy}write five: minute, hour, day of the month, month and weekday, \
                 such as `0 2 * * *`"
            )));
        };
        let mut cron = Cron {
            written: written.to_owned(),
            zone,
            minute: MINUTE.read(minute)?,
            hour: HOUR.read(hour)?,
            day: DAY.read(day)?,
            month: MONTH.read(month)?,
            weekday: WEEKDAY.read(weekday)?,
        };
        if cron.weekday.takes(7) {
            cron.weekday.values |= bit(0);
        }
        if cron.time_after(Date::constant(2000, 1, 1).into()).is_none() {
            return Err(ParseError(
                "a cron expression that never fires; name a day that its months have".to_owned(),
            ));
        }
        Ok(cron)
    }

    /// Where the local time is that it speaks of.
    pub fn zone(&self) -> &Zone {
        &self.zone
    }

    /// The first firing strictly after an instant; `None` only when the calendar ends, with the year
    /// 9999.
    pub fn next_after(&self, after: SystemTime) -> Option<SystemTime> {
        let after = timestamp(after);
        let wild = self.minute.wild || self.hour.wild;
        let next = if wild { self.next_reading(after) } else { self.next_first_reading(after) };
        next.map(SystemTime::from)
    }

    /// Whether a firing ever comes sooner than this after the one before: of some thousand, or those of
    /// eight years, with leap days and daylight saving. They are the same ones whenever this is asked,
    /// so that a file means the same every day.
    pub fn fires_within(&self, length: Duration) -> bool {
        const FROM: Duration = Duration::from_hours(56 * 8766);
        const YEARS: Duration = Duration::from_hours(8 * 8766);
        let from = SystemTime::UNIX_EPOCH + FROM;
        let firings = std::iter::successors(self.next_after(from), |last| self.next_after(*last));
        let mut last: Option<SystemTime> = None;
        firings
            .take(5_000)
            .take_while(|firing| *firing < from + YEARS)
            .any(|firing| last.replace(firing).is_some_and(|last| last + length > firing))
    }

    /// Goes along with the clock as it reads, from one change of its offset to the next.
    fn next_reading(&self, after: Timestamp) -> Option<Timestamp> {
        let zone = &self.zone.0;
        let (mut at, mut reading) = (after, self.zone.reading(after));
        loop {
            let next = zone.to_offset(at).to_timestamp(self.time_after(reading)?).ok()?;
            match zone.following(at).next() {
                Some(change) if change.timestamp() <= next => {
                    at = change.timestamp();
                    reading = just_before(self.zone.reading(at));
                }
                _ => return Some(next),
            }
        }
    }

    fn next_first_reading(&self, after: Timestamp) -> Option<Timestamp> {
        let mut time = self.zone.reading(after);
        loop {
            time = self.time_after(time)?;
            let next = self.zone.first_reads(time)?;
            // While the clock goes through an hour again, its times have been.
            if next > after {
                return Some(next);
            }
        }
    }

    /// The next local time that the fields name.
    fn time_after(&self, time: DateTime) -> Option<DateTime> {
        let mut date = time.date();
        if self.names(date)
            && let Some(later) = self.time_of_day(time.hour(), time.minute() + 1)
        {
            return Some(date.to_datetime(later));
        }
        let end = date.saturating_add(CALENDAR_CYCLE.years());
        loop {
            date = if self.month.takes(date.month()) {
                date.tomorrow().ok()?
            } else {
                date.last_of_month().tomorrow().ok()?
            };
            if date > end {
                return None;
            }
            if self.names(date) {
                return self.time_of_day(0, 0).map(|first| date.to_datetime(first));
            }
        }
    }

    fn names(&self, date: Date) -> bool {
        let day = self.day.takes(date.day());
        let weekday = self.weekday.takes(date.weekday().to_sunday_zero_offset());
        let either = !self.day.wild && !self.weekday.wild;
        self.month.takes(date.month()) && if either { day || weekday } else { day && weekday }
    }

    /// The first time of a day that is not before this one.
    fn time_of_day(&self, hour: i8, minute: i8) -> Option<Time> {
        let this_hour = self.hour.takes(hour).then(|| self.minute.not_below(minute)).flatten();
        let (hour, minute) = match this_hour {
            Some(minute) => (hour, minute),
            None => (self.hour.not_below(hour + 1)?, self.minute.not_below(0)?),
        };
        Time::new(hour, minute, 0, 0).ok()
    }
}

/// The expression as it was written.
impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

impl Kind {
    fn read(&self, text: &str) -> Result<Field, ParseError> {
        let values = text.split(',').try_fold(0, |values, item| Ok(values | self.item(item)?))?;
        Ok(Field { values, wild: text.starts_with('*') })
    }

    /// One item of a list: `*`, `5`, `1-5`, each but the second with a step.
    fn item(&self, item: &str) -> Result<u64, ParseError> {
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some(self.step(step)?)),
            None => (item, None),
        };
        let (first, last) = match (range, range.split_once('-')) {
            ("*", _) => (self.lowest, self.highest),
            (_, Some((first, last))) => (self.value(first)?, self.value(last)?),
            (one, None) => {
                let (value, highest) = (self.value(one)?, self.highest);
                let Some(step) = step else { return Ok(bit(value)) };
                return Err(self.wrong(&format!(
                    "has a step without a range; write `{value}-{highest}/{step}`"
                )));
            }
        };
        let is_week = self.names.len() == 7;
        // A week may end on Sunday, which is 0 and 7.
        let last = if is_week && last == 0 && first > 0 { 7 } else { last };
        if first > last {
            let (lowest, highest) = (self.lowest, if is_week { 6 } else { self.highest });
            let step = step.map(|step| format!("/{step}")).unwrap_or_default();
            return Err(self.wrong(&format!(
                "goes backwards; write `{first}-{highest}{step},{lowest}-{last}{step}`"
            )));
        }
        let step = step.unwrap_or(1) as usize;
        Ok((first..=last).step_by(step).fold(0, |values, value| values | bit(value)))
    }

    fn step(&self, text: &str) -> Result<u32, ParseError> {
        let most = self.highest - self.lowest;
        let step = number(text).filter(|step| (1..=most).contains(step));
        step.ok_or_else(|| {
            self.wrong(&format!("has a step that leads nowhere; write a step from 1 to {most}"))
        })
    }

    fn value(&self, text: &str) -> Result<u32, ParseError> {
        let value =
            number(text).or_else(|| named(self.names, text).map(|place| place + self.lowest));
        let (lowest, highest) = (self.lowest, self.highest);
        let Some(value) = value else {
            let names = match self.names {
                [first, second, ..] => {
                    format!(" or names such as `{}` and `{}`", &first[..3], &second[..3])
                }
                _ => String::new(),
            };
            return Err(self.wrong(&format!(
                "cannot be read; write `*`, numbers from {lowest} to {highest}{names}, a list `1,2`, a range \
                 `1-5` or a step `*/2`"
            )));
        };
        if !(lowest..=highest).contains(&value) {
            return Err(self.wrong(&format!("is out of range; write {lowest} to {highest}")));
        }
        Ok(value)
    }

    fn wrong(&self, what: &str) -> ParseError {
        not_a_cron(&format!("its {} {what}", self.name))
    }
}

/// Digits and nothing else: a sign is no part of a number here.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn not_a_cron(why: &str) -> ParseError {
    ParseError(format!("not a cron expression: {why}"))
}
