//! Compares the calendar with a simulated clock that advances minute by minute.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use jiff::civil::DateTime;
use jiff::{Timestamp, ToSpan as _};
use proptest::prelude::*;

use super::{ZONES, at, zone};
use crate::calendar::{Anchor, Cron, Days, Window, Windows, Zone, timestamp};

const MINUTE: Duration = Duration::from_mins(1);

/// Every minute of two days: the instant, the local time, and the latest local time that the clock
/// has shown up to this minute.
fn observed(zone: &Zone, from: SystemTime) -> Vec<(SystemTime, DateTime, DateTime)> {
    // Begin a day early, because the clock can have shown a later time on the day before.
    let start = from - Duration::from_hours(24);
    let mut latest = DateTime::MIN;
    let minutes = (0..3 * 24 * 60).map(|minute| start + MINUTE * minute);
    let mut all: Vec<_> = minutes
        .map(|at| {
            let reading = zone.local_time(timestamp(at));
            latest = latest.max(reading);
            (at, reading, latest)
        })
        .collect();
    all.drain(..24 * 60);
    all
}

/// A zone, and the start of a minute near a change of the zone's clock.
fn zones_and_instants() -> impl Strategy<Value = (Zone, SystemTime)> {
    let near = (0..ZONES.len(), 0_i64..1_700_000_000, 0_u32..40 * 60);
    near.prop_map(|(which, second, minutes)| {
        let zone = zone(ZONES[which]);
        let from = Timestamp::from_second(300_000_000 + second).unwrap();
        let change = zone.0.following(from).next().map_or(from, |change| change.timestamp());
        let minute =
            SystemTime::from(Timestamp::from_second(change.as_second() / 60 * 60).unwrap());
        (zone, minute - MINUTE * minutes)
    })
}

/// The values of one field of a cron expression. An empty set means `*`.
fn values(range: std::ops::Range<i8>) -> impl Strategy<Value = BTreeSet<i8>> {
    prop_oneof![1 => Just(BTreeSet::new()), 2 => proptest::collection::btree_set(range, 1..6)]
}

fn field(values: &BTreeSet<i8>) -> String {
    let list = values.iter().map(i8::to_string).collect::<Vec<_>>().join(",");
    if list.is_empty() { "*".to_owned() } else { list }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]

    #[test]
    fn firings_agree_with_an_observed_clock(
        (zone, from) in zones_and_instants(),
        // Clocks change at night, so half of the cases use hours from 0 to 3.
        minutes in values(0..60), hours in prop_oneof![values(0..24), values(0..4)],
        days in values(1..32), weekdays in values(0..7),
    ) {
        let text =
            format!("{} {} {} * {}", field(&minutes), field(&hours), field(&days), field(&weekdays));
        let cron = Cron::new(&text, zone.clone()).unwrap();
        let has = |values: &BTreeSet<i8>, value| values.is_empty() || values.contains(&value);
        let matches = |time: DateTime| {
            let day = days.contains(&time.day());
            let weekday = weekdays.contains(&time.date().weekday().to_sunday_zero_offset());
            let is_right_day = match (days.is_empty(), weekdays.is_empty()) {
                (true, true) => true,
                (true, false) => weekday,
                (false, true) => day,
                (false, false) => day || weekday,
            };
            is_right_day && has(&minutes, time.minute()) && has(&hours, time.hour())
        };
        let has_star = minutes.is_empty() || hours.is_empty();
        let observed = observed(&zone, from);
        let mut expected = Vec::new();
        for (before, (at, reading, latest)) in observed.iter().zip(&observed[1..]) {
            let fires = if has_star {
                matches(*reading)
            } else {
                // All local times that the clock showed or skipped in this minute, for the first
                // time.
                let mut time = before.2;
                std::iter::from_fn(|| {
                    time = time.saturating_add(1.minute());
                    (time <= *latest).then_some(time)
                })
                .any(matches)
            };
            if fires {
                expected.push(*at);
            }
        }
        let end = observed.last().unwrap().0;
        let next = |last: &SystemTime| cron.next_after(*last).filter(|next| *next <= end);
        let firings: Vec<_> = std::iter::successors(next(&observed[0].0), next).collect();
        prop_assert_eq!(firings, expected, "{} {}", text, zone);
    }

    #[test]
    fn windows_agree_with_an_observed_clock(
        (zone, from) in zones_and_instants(),
        begin in 0_u16..1440, length in 1_u16..=1440, week in 1_u8..128,
    ) {
        let window = Window {
            days: (0..7).filter(|day| week & 1 << day != 0).fold(None::<Days>, |days, day| {
                let day: Days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"][day].parse().unwrap();
                Some(days.map_or(day, |days| days.union(day)))
            }).unwrap(),
            hours: {
                let end = begin + length;
                let end = if end > 1440 { end - 1440 } else { end };
                let text = format!("{:02}:{:02}-{:02}:{:02}", begin / 60, begin % 60, end / 60, end % 60);
                prop_assume!(begin != end);
                text.parse().unwrap()
            },
            zone: zone.clone(),
        };
        let windows = Windows::new(vec![window]);
        let observed = observed(&zone, from);
        let open = |latest: DateTime| {
            [0, 1].iter().any(|back: &i64| {
                let day = latest.date().saturating_sub(back.days());
                let midnight = DateTime::from(day);
                let from = midnight.saturating_add(i64::from(begin).minutes());
                let to = from.saturating_add(i64::from(length).minutes());
                let is_right_day = week & 1 << day.weekday().to_monday_zero_offset() != 0;
                is_right_day && (from..to).contains(&latest)
            })
        };
        let mut until: Option<(bool, SystemTime)> = None;
        for (at, _, latest) in observed {
            let (inside, next) = match until {
                Some((inside, next)) if at < next => (inside, Some(next)),
                _ => windows.state_at(at),
            };
            prop_assert_eq!(inside, open(latest), "{} at {}", windows, latest);
            until = next.map(|next| (inside, next));
            prop_assert!(next.is_none_or(|next| next > at));
        }
    }

    #[test]
    fn cycles_cover_all_of_time(
        (zone, from) in zones_and_instants(), epoch in proptest::bool::weighted(0.1), minutes in 10_u32..4_000, part in 0.0..1.0,
    ) {
        let anchor = if epoch { Anchor::Epoch } else { Anchor::Midnight(zone) };
        let length = MINUTE * minutes + Duration::from_millis(1);
        let mut cycle = anchor.cycle_at(length, from);
        for _ in 0..100 {
            prop_assert!(cycle.start < cycle.end && cycle.end <= cycle.start + length);
            let lasts = cycle.end.duration_since(cycle.start).unwrap();
            prop_assert_eq!(anchor.cycle_at(length, cycle.start + lasts.mul_f64(part * 0.999)), cycle);
            prop_assert_eq!(anchor.cycle_at(length, cycle.end - Duration::from_nanos(1)), cycle);
            let next = anchor.cycle_at(length, cycle.end);
            prop_assert_eq!(next.start, cycle.end);
            prop_assert!(next.number > cycle.number);
            cycle = next;
        }
    }
}

#[test]
fn no_change_of_a_clock_leaves_a_gap_between_cycles() {
    for name in ZONES {
        let anchor = Anchor::Midnight(zone(name));
        let length = Duration::from_hours(7);
        let mut cycle = anchor.cycle_at(length, at("2010-01-01T00:00Z"));
        while cycle.end < at("2019-01-01T00:00Z") {
            let next = anchor.cycle_at(length, cycle.end);
            assert_eq!(next.start, cycle.end, "{name}");
            assert!(next.number > cycle.number, "{name}");
            // A clock that went back across midnight shows yesterday again in these minutes.
            let within =
                next.start + (MINUTE * 30).min(next.end.duration_since(next.start).unwrap() / 2);
            assert_eq!(anchor.cycle_at(length, within), next, "{name}");
            cycle = next;
        }
    }
}
