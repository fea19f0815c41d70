//! Active windows: the days of the week and the hours in which load is sent.

use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use jiff::civil::{Date, DateTime};
use jiff::{Timestamp, ToSpan as _};

use super::{ParseError, Zone, position_of_name, timestamp};

/// A set of weekdays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Days {
    /// Bit 0 is Monday.
    week: u8,
}

const WEEK: [&str; 7] =
    ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

impl Days {
    /// Every day.
    pub const ALL: Days = Days { week: 0b111_1111 };

    /// The days that are in at least one of the two sets.
    #[must_use]
    pub fn union(self, other: Days) -> Days {
        Days { week: self.week | other.week }
    }

    fn contains(self, day: u32) -> bool {
        self.week & (1 << (day % 7)) != 0
    }
}

/// Parses one day, such as `mon` or `monday`, or a range of days, such as `mon-fri`. A range can
/// continue across the end of the week, such as `sat-mon`.
impl FromStr for Days {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Days, ParseError> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (Some(first), Some(last)) =
            (position_of_name(&WEEK, first.trim()), position_of_name(&WEEK, last.trim()))
        else {
            return Err(ParseError {
                problem: "not a day of the week".to_owned(),
                remedy: "write `mon`, or several as `mon-fri`".to_owned(),
            });
        };
        let days = (last + 7 - first) % 7;
        Ok(Days { week: (first..=first + days).fold(0, |week, day| week | 1 << (day % 7)) })
    }
}

/// The text form, such as `mon-fri`, `mon-wed,sat` or `daily`.
impl fmt::Display for Days {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Days::ALL {
            return f.write_str("daily");
        }
        let short =
            |day: u32| WEEK.get(day as usize).and_then(|name| name.get(..3)).unwrap_or_default();
        let is_first = |day: &u32| self.contains(*day) && (*day == 0 || !self.contains(*day - 1));
        for (i, first) in (0..7).filter(is_first).enumerate() {
            let last = (first..7).take_while(|day| self.contains(*day)).last().unwrap_or(first);
            let comma = if i > 0 { "," } else { "" };
            match last - first {
                0 => write!(f, "{comma}{}", short(first))?,
                _ => write!(f, "{comma}{}-{}", short(first), short(last))?,
            }
        }
        Ok(())
    }
}

/// A part of the day in local time. If the time of the end is before the time of the start, as in
/// `22:00-06:00`, the part ends on the next day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hours {
    /// The start in minutes since midnight. Less than a day.
    from: u16,
    /// The end in minutes since the same midnight. Greater than `from`, and more than a day if the
    /// part ends on the next day.
    to: u16,
}

/// The number of minutes in a day.
const DAY: u16 = 24 * 60;

impl Hours {
    /// The full day.
    pub const ALL: Hours = Hours { from: 0, to: DAY };
}

/// Parses a text such as `08:00-20:00`.
impl FromStr for Hours {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Hours, ParseError> {
        let wrong = |problem: &str, remedy: &str| ParseError {
            problem: format!("not a part of the day: {problem}"),
            remedy: remedy.to_owned(),
        };
        let parts = text.split_once('-').and_then(|(from, to)| minutes(from).zip(minutes(to)));
        let Some((from, to)) = parts else {
            return Err(wrong(
                "its two times are not valid",
                "write `08:00-20:00`, with times from 00:00 to 24:00",
            ));
        };
        match (from, to) {
            (DAY, _) => {
                Err(wrong("it cannot start at the end of the day", "write `00:00` for midnight"))
            }
            _ if from == to => Err(wrong(
                "its start and end are equal",
                "remove `hours` for the whole day, or write `08:00-20:00`",
            )),
            _ if from > to => Ok(Hours { from, to: to + DAY }),
            _ => Ok(Hours { from, to }),
        }
    }
}

/// Parses a time of day from `00:00` to `24:00`. Returns the minutes since midnight.
fn minutes(text: &str) -> Option<u16> {
    let (hours, minutes) = text.trim().split_once(':')?;
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if !digits(hours) || !digits(minutes) || !(1..=2).contains(&hours.len()) || minutes.len() != 2 {
        return None;
    }
    let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
    let time = hours * 60 + minutes;
    (minutes < 60 && time <= DAY).then_some(time)
}

/// The text form, such as `08:00-20:00` or `all day`.
impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Hours::ALL {
            return f.write_str("all day");
        }
        let to = if self.to > DAY { self.to - DAY } else { self.to };
        write!(f, "{:02}:{:02}-{:02}:{:02}", self.from / 60, self.from % 60, to / 60, to % 60)
    }
}

/// An active window: the same part of the day on some days of the week, in the local time of a
/// zone. A window that ends on the next day belongs to the day on which it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The days on which the window starts.
    pub days: Days,
    pub hours: Hours,
    pub zone: Zone,
}

impl Window {
    /// Returns the start and the end of the window on this day. `None` if the window does not start
    /// on this day, or if it is empty because the clock skips all of it.
    fn span_on(&self, date: Date) -> Option<(Timestamp, Timestamp)> {
        let day = u32::try_from(date.weekday().to_monday_zero_offset()).ok()?;
        let time = |minutes: u16| {
            let midnight = DateTime::from(date);
            self.zone.first_instant_of(midnight.saturating_add(i64::from(minutes).minutes()))
        };
        self.days.contains(day).then_some(())?;
        time(self.hours.from).zip(time(self.hours.to)).filter(|(begin, end)| begin < end)
    }
}

/// The times at which a scenario sends load: the union of several active windows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Windows(Vec<Window>);

impl Windows {
    /// The highest number of windows. The limit keeps [`Windows::state_at`] fast.
    pub const MAX_COUNT: usize = 64;

    /// Creates the union of the first [`Windows::MAX_COUNT`] of these windows.
    pub fn new(mut windows: Vec<Window>) -> Windows {
        windows.truncate(Windows::MAX_COUNT);
        Windows(windows)
    }

    /// The zone of the first window.
    pub fn zone(&self) -> Option<&Zone> {
        self.0.first().map(|window| &window.zone)
    }

    /// Returns true if `now` is inside a window. Also returns the next instant at which this state
    /// changes, or `None` if the state never changes. Two windows without a gap between them count
    /// as one window.
    pub fn state_at(&self, now: SystemTime) -> (bool, Option<SystemTime>) {
        let now = timestamp(now);
        // A window nearly always opens or closes within two weeks. The next change can be a year
        // away if windows in two zones have a gap between them only during daylight saving time.
        let (inside, change) = self
            .state_within(now, 15)
            .or_else(|| self.state_within(now, 400))
            .unwrap_or_else(|| {
                let inside =
                    self.spans_after(now, 0).first().is_some_and(|(begin, _)| *begin <= now);
                (inside, None)
            });
        (inside, change.map(SystemTime::from))
    }

    /// Returns the same as [`Windows::state_at`]; `None` if the state does not change within this
    /// number of days.
    fn state_within(&self, now: Timestamp, days: i64) -> Option<(bool, Option<Timestamp>)> {
        let mut inside: Option<Timestamp> = None;
        for (begin, end) in self.spans_after(now, days) {
            match inside {
                None if begin > now => return Some((false, Some(begin))),
                Some(last) if begin > last => return Some((true, Some(last))),
                last => inside = last.max(Some(end)),
            }
        }
        None
    }

    /// The start and the end of each window that closes after `now` and opens within this number of
    /// days. The windows are in the order of their starts.
    fn spans_after(&self, now: Timestamp, days: i64) -> Vec<(Timestamp, Timestamp)> {
        let spans = self.0.iter().flat_map(|window| {
            let today = window.zone.local_time(now).date();
            // After a change of the clock back across midnight, a window that started the day
            // before yesterday can still be open.
            let dates = (-2..=days).filter_map(move |day| today.checked_add(day.days()).ok());
            dates.filter_map(|date| window.span_on(date))
        });
        let mut spans: Vec<_> = spans.filter(|(_, end)| *end > now).collect();
        spans.sort_unstable();
        spans
    }
}

/// The text form, such as `mon-fri 08:00-20:00 Europe/Berlin, sat,sun all day UTC`.
impl fmt::Display for Windows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, Window { days, hours, zone }) in self.0.iter().enumerate() {
            let comma = if i > 0 { ", " } else { "" };
            write!(f, "{comma}{days} {hours} {zone}")?;
        }
        Ok(())
    }
}
