//! Tests of hours, days and months on which clocks change.

use proptest::prelude::*;

use super::*;

fn around(period: Period, name: &str, now: &str) -> [String; 2] {
    let zone = zone(name);
    let (from, to) = period.around(&zone, at(now));
    [shown(from, &zone), shown(to, &zone)]
}

#[test]
fn a_period_begins_and_ends_at_the_local_time_of_its_zone() {
    assert_eq!(
        around(Period::Hour, BERLIN, "2027-01-05T12:34:56+01"),
        ["01-05 12:00 +01:00", "01-05 13:00 +01:00"]
    );
    // The difference to UTC is 5 hours and 45 minutes.
    assert_eq!(
        around(Period::Hour, "Asia/Kathmandu", "2027-01-05T12:34+05:45"),
        ["01-05 12:00 +05:45", "01-05 13:00 +05:45"]
    );
    assert_eq!(
        around(Period::Day, "Asia/Shanghai", "2027-01-05T00:00+08"),
        ["01-05 00:00 +08:00", "01-06 00:00 +08:00"]
    );
    assert_eq!(
        around(Period::Month, "UTC", "2028-02-29T23:59:59Z"),
        ["02-01 00:00 +00:00", "03-01 00:00 +00:00"]
    );
}

#[test]
fn a_change_of_the_clock_makes_a_day_shorter_or_longer_and_repeats_an_hour() {
    assert_eq!(
        around(Period::Day, BERLIN, "2027-03-28T12:00+02"),
        ["03-28 00:00 +01:00", "03-29 00:00 +02:00"]
    );
    assert_eq!(
        around(Period::Month, BERLIN, "2027-10-31T12:00+01"),
        ["10-01 00:00 +02:00", "11-01 00:00 +01:00"]
    );
    assert_eq!(
        around(Period::Hour, BERLIN, "2027-10-31T02:30+02"),
        ["10-31 02:00 +02:00", "10-31 02:00 +01:00"]
    );
    assert_eq!(
        around(Period::Hour, BERLIN, "2027-10-31T02:30+01"),
        ["10-31 02:00 +01:00", "10-31 03:00 +01:00"]
    );
    // The clock goes back from 02:00 to 01:30.
    assert_eq!(
        around(Period::Hour, LORD_HOWE, "2027-04-04T01:40+10:30"),
        ["04-04 01:30 +10:30", "04-04 02:00 +10:30"]
    );
}

proptest! {
    #[test]
    fn periods_follow_each_other_without_gaps(
        period in 0..Period::ALL.len(),
        name in 0..ZONES.len(),
        seconds in 0_u64..4_000_000_000,
        nanos in 0_u32..1_000_000_000,
    ) {
        let (period, zone) = (Period::ALL[period], zone(ZONES[name]));
        let now = SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos);
        let (from, to) = period.around(&zone, now);
        prop_assert!(from <= now && now < to);
        prop_assert_eq!(period.around(&zone, from), (from, to));
        prop_assert_eq!(period.around(&zone, to - Duration::from_nanos(1)), (from, to));
        prop_assert_eq!(period.around(&zone, to).0, to);
        prop_assert_eq!(period.around(&zone, from - Duration::from_nanos(1)).1, from);
        let whole_seconds = |time: SystemTime| {
            time.duration_since(SystemTime::UNIX_EPOCH).is_ok_and(|since| since.subsec_nanos() == 0)
        };
        prop_assert!(whole_seconds(to));
    }
}
