//! Calendar periods: the hours, days and months of a time zone.
//!
//! The periods of a kind follow each other without gaps, also on the days on which clocks change. A
//! day can have 23 or 25 hours.

use std::fmt;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;

use super::{Zone, timestamp};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Period {
    Hour,
    Day,
    Month,
}

impl Period {
    pub const ALL: [Period; 3] = [Period::Hour, Period::Day, Period::Month];

    /// The value in the configuration, and the value of a label.
    pub fn as_str(self) -> &'static str {
        match self {
            Period::Hour => "hour",
            Period::Day => "day",
            Period::Month => "month",
        }
    }

    /// Returns the start and the end of the period that contains `now`. The end belongs to the next
    /// period.
    pub fn around(self, zone: &Zone, now: SystemTime) -> (SystemTime, SystemTime) {
        let now = timestamp(now);
        let (from, to) = match self {
            Period::Hour => zone.current_hour(now),
            Period::Day => {
                let (_, from, to) = zone.current_day(now);
                (from, to)
            }
            Period::Month => zone.current_month(now),
        };
        (from.into(), to.into())
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Zone {
    /// The current hour. A change of the clock begins a new hour, so the hour before a change of 30
    /// minutes is shorter.
    fn current_hour(&self, now: Timestamp) -> (Timestamp, Timestamp) {
        const HOUR: i64 = 3600;
        let offset = i64::from(self.0.to_offset(now).seconds());
        let start = (now.as_second() + offset).div_euclid(HOUR) * HOUR - offset;
        let second = |second| Timestamp::from_second(second).ok();
        // `preceding` returns only changes before its argument.
        let just_after = now.checked_add(Duration::from_nanos(1)).unwrap_or(now);
        let last_change = self.0.preceding(just_after).next().map(|change| change.timestamp());
        let next_change = self.0.following(now).next().map(|change| change.timestamp());
        let from = second(start).unwrap_or(Timestamp::MIN);
        let to = second(start + HOUR).unwrap_or(Timestamp::MAX);
        (last_change.map_or(from, |change| from.max(change)), next_change.map_or(to, |c| to.min(c)))
    }

    fn current_month(&self, now: Timestamp) -> (Timestamp, Timestamp) {
        // The clock can go back across midnight at the end of a month. So the day decides.
        let (today, ..) = self.current_day(now);
        let first = today.first_of_month();
        let next = today.last_of_month().tomorrow().ok();
        let from = self.first_instant_of(first.into()).unwrap_or(Timestamp::MIN);
        let to = next.and_then(|next| self.first_instant_of(next.into()));
        (from, to.unwrap_or(Timestamp::MAX))
    }
}
