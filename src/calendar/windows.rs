//! Active windows: on which days of the week, from when to when, load is sent.

use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use jiff::civil::{Date, DateTime};
use jiff::{Timestamp, ToSpan as _};

use super::{ParseError, Zone, named, timestamp};

/// A set of weekdays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Days {
    /// Bit 0 is Monday.
    week: u8,
}

const WEEK: [&str; 7] =
    ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

impl Days {
    /// All of them.
    pub const ALL: Days = Days { week: 0b111_1111 };

    /// Those of both.
    #[must_use]
    pub fn union(self, other: Days) -> Days {
        Days { week: self.week | other.week }
    }

    fn holds(self, day: u32) -> bool {
        self.week & (1 << (day % 7)) != 0
    }
}

/// Reads one day, `mon` or `monday`, or some in a row, `mon-fri`, also across the end of the week.
impl FromStr for Days {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Days, ParseError> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (Some(first), Some(last)) = (named(&WEEK, first.trim()), named(&WEEK, last.trim()))
        else {
            return Err(ParseError(
                "not a day of the week; write `mon`, or several as `mon-fri`".to_owned(),
            ));
        };
        let days = (last + 7 - first) % 7;
        Ok(Days { week: (first..=first + days).fold(0, |week, day| week | 1 << (day % 7)) })
    }
}

/// `mon-fri`, `mon-wed,sat`, `daily`.
impl fmt::Display for Days {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Days::ALL {
            return f.write_str("daily");
        }
        let short =
            |day: u32| WEEK.get(day as usize).and_then(|name| name.get(..3)).unwrap_or_default();
        let begins = |day: &u32| self.holds(*day) && (*day == 0 || !self.holds(*day - 1));
        for (i, first) in (0..7).filter(begins).enumerate() {
            let last = (first..7).take_while(|day| self.holds(*day)).last().unwrap_or(first);
            let comma = if i > 0 { "," } else { "" };
            match last - first {
                0 => write!(f, "{comma}{}", short(first))?,
                _ => write!(f, "{comma}{}-{}", short(first), short(last))?,
            }
        }
        Ok(())
    }
}

/// A part of the day by the clock on the wall; one that ends earlier than it begins goes on into
/// the next day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hours {
    /// In minutes from midnight, below a day.
    from: u16,
    /// In minutes from the same midnight, above `from`.
    to: u16,
}

const DAY: u16 = 24 * 60;

impl Hours {
    /// From midnight to midnight.
    pub const ALL: Hours = Hours { from: 0, to: DAY };
}

/// Reads `08:00-20:00`.
impl FromStr for Hours {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Hours, ParseError> {
        let wrong = |what: &str| ParseError(format!("not a part of the day: {what}"));
        let parts = text.split_once('-').and_then(|(from, to)| minutes(from).zip(minutes(to)));
        let Some((from, to)) = parts else {
            return Err(wrong(
                "its two times cannot be read; write `08:00-20:00`, from 00:00 up to 24:00",
            ));
        };
        match (from, to) {
            (DAY, _) => Err(wrong("a day cannot begin at its end; write `00:00` for midnight")),
            _ if from == to => Err(wrong(
                "it ends as it begins; leave `hours` out for the whole day, or write `08:00-20:00`",
            )),
            _ if from > to => Ok(Hours { from, to: to + DAY }),
            _ => Ok(Hours { from, to }),
        }
    }
}

/// `HH:MM` in minutes, `24:00` among them.
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

/// `08:00-20:00`, `all day`.
impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Hours::ALL {
            return f.write_str("all day");
        }
        let to = if self.to > DAY { self.to - DAY } else { self.to };
        write!(f, "{:02}:{:02}-{:02}:{:02}", self.from / 60, self.from % 60, to / 60, to % 60)
    }
}

/// A part of some days of the week in the local time of a zone. It belongs to the day on which it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The days on which it begins.
    pub days: Days,
    /// From when to when.
    pub hours: Hours,
    /// Whose clock is meant.
    pub zone: Zone,
}

impl Window {
    /// When it begins and ends, where it begins on this day. A window that lies in the gap as clocks
    /// are put forward is empty.
    fn on(&self, date: Date) -> Option<(Timestamp, Timestamp)> {
        let day = u32::try_from(date.weekday().to_monday_zero_offset()).ok()?;
        let time = |minutes: u16| {
            let midnight = DateTime::from(date);
            self.zone.first_reads(midnight.saturating_add(i64::from(minutes).minutes()))
        };
        self.days.holds(day).then_some(())?;
        time(self.hours.from).zip(time(self.hours.to)).filter(|(begin, end)| begin < end)
    }
}

/// When load is active: in any of these windows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Windows(Vec<Window>);

impl Windows {
    /// The most there may be, so that asking stays cheap.
    pub const MAX_COUNT: usize = 64;

    /// The union of these windows, of which only the first [`Windows::MAX_COUNT`] count.
    pub fn new(mut windows: Vec<Window>) -> Windows {
        windows.truncate(Windows::MAX_COUNT);
        Windows(windows)
    }

    /// Whose clock the first of them means.
    pub fn zone(&self) -> Option<&Zone> {
        self.0.first().map(|window| &window.zone)
    }

    /// Whether an instant is inside a window, and when that changes next; `None` where it never does.
    /// A window begins and ends when the clock on the wall first reads so, and what touches is one.
    pub fn state_at(&self, now: SystemTime) -> (bool, Option<SystemTime>) {
        let now = timestamp(now);
        // A fortnight tells nearly always; a year, what only daylight saving interrupts.
        let (inside, change) =
            self.within(now, 15).or_else(|| self.within(now, 400)).unwrap_or_else(|| {
                let inside = self.ahead(now, 0).first().is_some_and(|(begin, _)| *begin <= now);
                (inside, None)
            });
        (inside, change.map(SystemTime::from))
    }

    /// The answer as far as the windows of so many days tell.
    fn within(&self, now: Timestamp, days: i64) -> Option<(bool, Option<Timestamp>)> {
        let mut inside: Option<Timestamp> = None;
        for (begin, end) in self.ahead(now, days) {
            match inside {
                None if begin > now => return Some((false, Some(begin))),
                Some(last) if begin > last => return Some((true, Some(last))),
                last => inside = last.max(Some(end)),
            }
        }
        None
    }

    /// What has not ended at `now`, by its beginning: of so many days from then on.
    fn ahead(&self, now: Timestamp, days: i64) -> Vec<(Timestamp, Timestamp)> {
        let spans = self.0.iter().flat_map(|window| {
            let today = window.zone.reading(now).date();
            // What began the day before yesterday may last until a clock put back has gone round.
            let dates = (-2..=days).filter_map(move |day| today.checked_add(day.days()).ok());
            dates.filter_map(|date| window.on(date))
        });
        let mut spans: Vec<_> = spans.filter(|(_, end)| *end > now).collect();
        spans.sort_unstable();
        spans
    }
}

/// `mon-fri 08:00-20:00 Europe/Berlin, sat,sun all day UTC`.
impl fmt::Display for Windows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, Window { days, hours, zone }) in self.0.iter().enumerate() {
            let comma = if i > 0 { ", " } else { "" };
            write!(f, "{comma}{days} {hours} {zone}")?;
        }
        Ok(())
    }
}
