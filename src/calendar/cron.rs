//! Cron expressions with five fields. They follow the local time of a zone and the rules of Vixie
//! cron.
//!
//! llmload does not use a crate for cron, because the crates that we tried miss firings. For
//! example, one crate stops firing after a day that the zone skips.

use std::fmt;
use std::time::{Duration, SystemTime};

use jiff::civil::{Date, DateTime, Time};
use jiff::{Timestamp, ToSpan as _};

use super::{ParseError, Zone, just_before, position_of_name, timestamp};

/// The Gregorian calendar repeats after this number of years. So an expression that does not fire
/// within this time never fires.
const CALENDAR_CYCLE: i64 = 400;

/// A cron expression with five fields, and the zone of its local times.
///
/// An expression has *fixed times* if neither its minute nor its hour begins with `*`. If the clock
/// skips a fixed time, the expression fires once, at the end of the gap. If the clock shows a fixed
/// time twice, the expression fires only the first time.
///
/// Every other expression fires each time the clock shows a matching time: never for a time that
/// the clock skips, and twice for a time that the clock shows twice.
///
/// Two fields select days: the day of the month and the weekday. As in Vixie cron, a day must match
/// both fields if one of them begins with `*`. Otherwise, a day must match one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    text: String,
    zone: Zone,
    minute: Field,
    hour: Field,
    day: Field,
    month: Field,
    weekday: Field,
}

/// The values that one field of an expression matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Field {
    /// A bit mask. Bit n is set if the field matches the value n.
    values: u64,
    is_wildcard: bool,
}

impl Field {
    fn matches(self, value: i8) -> bool {
        u32::try_from(value).is_ok_and(|value| self.values & bit(value) != 0)
    }

    fn next_from(self, value: i8) -> Option<i8> {
        (value..60).find(|value| self.matches(*value))
    }
}

fn bit(value: u32) -> u64 {
    1_u64.checked_shl(value).unwrap_or(0)
}

/// One of the five fields, such as the minute, with its permitted values.
struct FieldKind {
    name: &'static str,
    lowest: u32,
    highest: u32,
    /// The name of each value, such as `jan`, from the lowest value up.
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

const MINUTE: FieldKind = FieldKind { name: "minute", lowest: 0, highest: 59, names: &[] };
const HOUR: FieldKind = FieldKind { name: "hour", lowest: 0, highest: 23, names: &[] };
const DAY: FieldKind = FieldKind { name: "day of the month", lowest: 1, highest: 31, names: &[] };
const MONTH: FieldKind = FieldKind { name: "month", lowest: 1, highest: 12, names: MONTHS };
/// The values 0 and 7 both mean Sunday.
const WEEKDAY: FieldKind = FieldKind { name: "weekday", lowest: 0, highest: 7, names: WEEKDAYS };

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
    /// Parses an expression, such as `0 2 * * *` or `@daily`, for the local time of a zone.
    ///
    /// # Errors
    /// The text is not a cron expression, or the expression never fires.
    pub fn new(text: &str, zone: Zone) -> Result<Cron, ParseError> {
        let text = text.trim();
        let nickname = NICKNAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
        let fields: Vec<&str> =
            nickname.map_or(text, |(_, meaning)| meaning).split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields.as_slice() else {
            let count = match fields.len() {
                1 => "one field".to_owned(),
                count => format!("{count} fields"),
            };
            let remedy = if fields.len() == 6 { "leave out the seconds, " } else { "" };
            let remedy = format!(
                "{remedy}write five: minute, hour, day of the month, month and weekday, such as \
                 `0 2 * * *`"
            );
            return Err(not_a_cron(&format!("it has {count}"), remedy));
        };
        let mut cron = Cron {
            text: text.to_owned(),
            zone,
            minute: MINUTE.parse(minute)?,
            hour: HOUR.parse(hour)?,
            day: DAY.parse(day)?,
            month: MONTH.parse(month)?,
            weekday: WEEKDAY.parse(weekday)?,
        };
        if cron.weekday.matches(7) {
            cron.weekday.values |= bit(0);
        }
        if cron.local_time_after(Date::constant(2000, 1, 1).into()).is_none() {
            return Err(ParseError {
                problem: "a cron expression that never fires".to_owned(),
                remedy: "choose a day that exists in its months".to_owned(),
            });
        }
        Ok(cron)
    }

    pub fn zone(&self) -> &Zone {
        &self.zone
    }

    pub fn has_fixed_times(&self) -> bool {
        !self.minute.is_wildcard && !self.hour.is_wildcard
    }

    /// The first firing after an instant. `None` if there is no firing before the year 10000.
    pub fn next_after(&self, after: SystemTime) -> Option<SystemTime> {
        let after = timestamp(after);
        let next =
            if self.has_fixed_times() { self.next_fixed(after) } else { self.next_shown(after) };
        next.map(SystemTime::from)
    }

    /// Returns true if any two consecutive firings are less than `length` apart.
    ///
    /// The search ends after 5,000 firings, or earlier after eight years. Eight years contain a
    /// leap day and all changes of daylight saving time. The search always starts at the same
    /// instant, so the result for an expression never changes.
    pub fn has_interval_below(&self, length: Duration) -> bool {
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

    /// The next instant at which the clock shows a matching time, even if it has shown this time
    /// before. Between two changes of the clock, the offset of the zone is constant, so each of
    /// these intervals has a separate search.
    fn next_shown(&self, after: Timestamp) -> Option<Timestamp> {
        let zone = &self.zone.0;
        let (mut at, mut time) = (after, self.zone.local_time(after));
        loop {
            let next = zone.to_offset(at).to_timestamp(self.local_time_after(time)?).ok()?;
            match zone.following(at).next() {
                Some(change) if change.timestamp() <= next => {
                    at = change.timestamp();
                    time = just_before(self.zone.local_time(at));
                }
                _ => return Some(next),
            }
        }
    }

    /// The next instant at which the clock first shows, or skips, a matching time.
    fn next_fixed(&self, after: Timestamp) -> Option<Timestamp> {
        let mut time = self.zone.local_time(after);
        loop {
            time = self.local_time_after(time)?;
            let next = self.zone.first_instant_of(time)?;
            // If `next` is in the past, the clock shows this hour for the second time, and the
            // expression fired the first time.
            if next > after {
                return Some(next);
            }
        }
    }

    fn local_time_after(&self, time: DateTime) -> Option<DateTime> {
        let mut date = time.date();
        if self.matches_date(date)
            && let Some(later) = self.time_of_day(time.hour(), time.minute() + 1)
        {
            return Some(date.to_datetime(later));
        }
        let end = date.saturating_add(CALENDAR_CYCLE.years());
        loop {
            date = if self.month.matches(date.month()) {
                date.tomorrow().ok()?
            } else {
                date.last_of_month().tomorrow().ok()?
            };
            if date > end {
                return None;
            }
            if self.matches_date(date) {
                return self.time_of_day(0, 0).map(|first| date.to_datetime(first));
            }
        }
    }

    fn matches_date(&self, date: Date) -> bool {
        let day = self.day.matches(date.day());
        let weekday = self.weekday.matches(date.weekday().to_sunday_zero_offset());
        let one_is_enough = !self.day.is_wildcard && !self.weekday.is_wildcard;
        self.month.matches(date.month())
            && if one_is_enough { day || weekday } else { day && weekday }
    }

    fn time_of_day(&self, hour: i8, minute: i8) -> Option<Time> {
        let this_hour = self.hour.matches(hour).then(|| self.minute.next_from(minute)).flatten();
        let (hour, minute) = match this_hour {
            Some(minute) => (hour, minute),
            None => (self.hour.next_from(hour + 1)?, self.minute.next_from(0)?),
        };
        Time::new(hour, minute, 0, 0).ok()
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FieldKind {
    fn parse(&self, text: &str) -> Result<Field, ParseError> {
        let values = text.split(',').try_fold(0, |values, item| Ok(values | self.item(item)?))?;
        Ok(Field { values, is_wildcard: text.starts_with('*') })
    }

    /// Parses one item of a list, such as `*`, `5`, `1-5`, `*/2` or `1-5/2`.
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
                let remedy = format!("write `{value}-{highest}/{step}`");
                return Err(self.wrong("has a step without a range", remedy));
            }
        };
        let is_week = self.names.len() == 7;
        // Sunday is 0 and 7. `fri-0` means 5 to 7, because 5 to 0 would go backwards.
        let last = if is_week && last == 0 && first > 0 { 7 } else { last };
        if first > last {
            let (lowest, highest) = (self.lowest, if is_week { 6 } else { self.highest });
            let step = step.map(|step| format!("/{step}")).unwrap_or_default();
            let remedy = format!("write `{first}-{highest}{step},{lowest}-{last}{step}`");
            return Err(self.wrong("goes backwards", remedy));
        }
        let step = step.unwrap_or(1) as usize;
        Ok((first..=last).step_by(step).fold(0, |values, value| values | bit(value)))
    }

    fn step(&self, text: &str) -> Result<u32, ParseError> {
        let longest = self.highest - self.lowest;
        let step = number(text).filter(|step| (1..=longest).contains(step));
        step.ok_or_else(|| {
            self.wrong("has an invalid step", format!("write a step from 1 to {longest}"))
        })
    }

    fn value(&self, text: &str) -> Result<u32, ParseError> {
        let value = number(text)
            .or_else(|| position_of_name(self.names, text).map(|position| position + self.lowest));
        let (lowest, highest) = (self.lowest, self.highest);
        let Some(value) = value else {
            let names = match self.names {
                [first, second, ..] => {
                    format!(" or names such as `{}` and `{}`", &first[..3], &second[..3])
                }
                _ => String::new(),
            };
            let remedy = format!(
                "write `*`, numbers from {lowest} to {highest}{names}, a list `1,2`, a range `1-5` or a \
                 step `*/2`"
            );
            return Err(self.wrong("is not valid", remedy));
        };
        if !(lowest..=highest).contains(&value) {
            return Err(self.wrong("is out of range", format!("write {lowest} to {highest}")));
        }
        Ok(value)
    }

    /// `problem` is a predicate, such as `goes backwards`.
    fn wrong(&self, problem: &str, remedy: String) -> ParseError {
        not_a_cron(&format!("its {} {problem}", self.name), remedy)
    }
}

/// `u32::from_str` would also accept `+5`.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn not_a_cron(problem: &str, remedy: String) -> ParseError {
    ParseError { problem: format!("not a cron expression: {problem}"), remedy }
}
