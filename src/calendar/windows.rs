//! Active windows: the days and the hours in which a scenario sends load.

use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use jiff::civil::{Date, DateTime};
use jiff::{Timestamp, ToSpan as _};

use super::{ParseError, Zone, position_of_name, timestamp};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Days {
    /// Bit 0 is Monday.
    week: u8,
}

const WEEK: [&str; 7] =
    ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

impl Days {
    pub const ALL: Days = Days { week: 0b111_1111 };

    /// The days of both sets.
    #[must_use]
    pub fn union(self, other: Days) -> Days {
        Days { week: self.week | other.week }
    }

    fn contains(self, day: u32) -> bool {
        self.week & (1 << (day % 7)) != 0
    }
}

/// Parses one day, such as `mon` or `monday`, or a range, such as `mon-fri` or `sat-mon`.
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

/// Formats the days as `mon-fri`, `mon-wed,sat` or `daily`.
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

/// Two times of day. `22:00-06:00` ends on the next day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hours {
    /// The start in minutes since midnight. Less than a day.
    from: u16,
    /// The end in minutes since the same midnight. For `22:00-06:00`, this is 30 × 60.
    to: u16,
}

const DAY: u16 = 24 * 60;

impl Hours {
    pub const ALL: Hours = Hours { from: 0, to: DAY };
}

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

/// Parses a time from `00:00` to `24:00` into minutes since midnight.
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

/// Formats the hours as `08:00-20:00` or `all day`.
impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Hours::ALL {
            return f.write_str("all day");
        }
        let to = if self.to > DAY { self.to - DAY } else { self.to };
        write!(f, "{:02}:{:02}-{:02}:{:02}", self.from / 60, self.from % 60, to / 60, to % 60)
    }
}

/// An active window, such as `mon-fri 22:00-06:00`. A window belongs to the day on which it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    pub days: Days,
    pub hours: Hours,
    pub zone: Zone,
}

impl Window {
    /// The start and the end of the window that starts on this date. `None` if no window starts on
    /// this date, or if the clock skips the complete window.
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

/// The union of the active windows of a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Windows(Vec<Window>);

impl Windows {
    /// A higher number would make [`Windows::state_at`] slow.
    pub const MAX_COUNT: usize = 64;

    /// Uses only the first [`Windows::MAX_COUNT`] windows.
    pub fn new(mut windows: Vec<Window>) -> Windows {
        windows.truncate(Windows::MAX_COUNT);
        Windows(windows)
    }

    pub fn zone(&self) -> Option<&Zone> {
        self.0.first().map(|window| &window.zone)
    }

    /// Returns true if a window is open, and the next instant at which this changes. `None` means
    /// that it never changes. Windows without a gap between them count as one window.
    pub fn state_at(&self, now: SystemTime) -> (bool, Option<SystemTime>) {
        let now = timestamp(now);
        // Windows in two zones can leave a gap only in summer. So the next change can be almost a
        // year away. Usually, it is within two weeks.
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

    /// Like [`Windows::state_at`], but sees only the changes of the next `days` days.
    fn state_within(&self, now: Timestamp, days: i64) -> Option<(bool, Option<Timestamp>)> {
        let mut open_until: Option<Timestamp> = None;
        for (begin, end) in self.spans_after(now, days) {
            match open_until {
                None if begin > now => return Some((false, Some(begin))),
                Some(last) if begin > last => return Some((true, Some(last))),
                last => open_until = last.max(Some(end)),
            }
        }
        None
    }

    /// The starts and ends of windows that close after `now` and open in the next `days` days,
    /// sorted by start.
    fn spans_after(&self, now: Timestamp, days: i64) -> Vec<(Timestamp, Timestamp)> {
        let spans = self.0.iter().flat_map(|window| {
            let today = window.zone.local_time(now).date();
            // If the clock goes back across midnight, a window of two days ago can still be open.
            let dates = (-2..=days).filter_map(move |day| today.checked_add(day.days()).ok());
            dates.filter_map(|date| window.span_on(date))
        });
        let mut spans: Vec<_> = spans.filter(|(_, end)| *end > now).collect();
        spans.sort_unstable();
        spans
    }
}

/// Formats the windows as `mon-fri 08:00-20:00 Europe/Berlin, sat,sun all day UTC`.
impl fmt::Display for Windows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, Window { days, hours, zone }) in self.0.iter().enumerate() {
            let comma = if i > 0 { ", " } else { "" };
            write!(f, "{comma}{days} {hours} {zone}")?;
        }
        Ok(())
    }
}
