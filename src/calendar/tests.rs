//! Tests of days on which clocks change, and of messages about invalid texts.

mod periods;
mod watched;

use std::time::{Duration, SystemTime};

use jiff::{Timestamp, Zoned};

use super::*;

const BERLIN: &str = "Europe/Berlin";
const LORD_HOWE: &str = "Australia/Lord_Howe";

/// Zones whose clocks change in unusual ways: by half an hour, at midnight, at short notice, across
/// a complete day, or never.
const ZONES: &[&str] = &[
    "UTC",
    BERLIN,
    "America/New_York",
    "Asia/Shanghai",
    LORD_HOWE,
    "Pacific/Apia",
    "America/Sao_Paulo",
    "America/Havana",
    "America/Moncton",
    "Africa/Casablanca",
    "Antarctica/Casey",
    "America/St_Johns",
    "Asia/Kathmandu",
];

fn zone(name: &str) -> Zone {
    Zone::by_name(name).unwrap_or_else(|| panic!("no zone {name}"))
}

fn cron(text: &str, name: &str) -> Cron {
    Cron::new(text, zone(name)).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Parses a local time with its offset, such as `2027-03-28T03:00+02`.
fn at(text: &str) -> SystemTime {
    text.parse::<Timestamp>().unwrap().into()
}

fn shown(time: SystemTime, zone: &Zone) -> String {
    let zoned = Zoned::new(timestamp(time), zone.0.clone());
    zoned.strftime("%m-%d %H:%M %:z").to_string()
}

fn firings(text: &str, name: &str, after: &str, count: usize) -> Vec<String> {
    let cron = cron(text, name);
    let next = |last: &SystemTime| cron.next_after(*last);
    let all = std::iter::successors(next(&at(after)), next).take(count);
    all.map(|firing| shown(firing, cron.zone())).collect()
}

#[test]
fn a_fixed_time_in_a_gap_fires_once_at_the_end_of_the_gap() {
    let spring = |text| firings(text, BERLIN, "2027-03-27T20:00+01", 3);
    assert_eq!(
        spring("30 2 * * *"),
        ["03-28 03:00 +02:00", "03-29 02:30 +02:00", "03-30 02:30 +02:00"]
    );
    assert_eq!(
        spring("0 2 * * *"),
        ["03-28 03:00 +02:00", "03-29 02:00 +02:00", "03-30 02:00 +02:00"]
    );
    assert_eq!(
        spring("0,30 2 * * *"),
        ["03-28 03:00 +02:00", "03-29 02:00 +02:00", "03-29 02:30 +02:00"]
    );
    assert_eq!(
        spring("0 2,3 * * *"),
        ["03-28 03:00 +02:00", "03-29 02:00 +02:00", "03-29 03:00 +02:00"]
    );
    let york = firings("30 2 * * *", "America/New_York", "2027-03-13T12:00-05", 2);
    assert_eq!(york, ["03-14 03:00 -04:00", "03-15 02:30 -04:00"]);
    // The clock skips half an hour, from 02:00 to 02:30.
    let howe = firings("15 2 * * *", LORD_HOWE, "2026-10-03T12:00+10:30", 2);
    assert_eq!(howe, ["10-04 02:30 +11:00", "10-05 02:15 +11:00"]);
    // The clock skipped midnight.
    let paulo = firings("0 0 * * *", "America/Sao_Paulo", "2018-11-03T12:00-03", 2);
    assert_eq!(paulo, ["11-04 01:00 -02:00", "11-05 00:00 -02:00"]);
    // The zone skipped the full day of 30 December.
    let apia = firings("0 12 * * *", "Pacific/Apia", "2011-12-28T23:00-10", 3);
    assert_eq!(apia, ["12-29 12:00 -10:00", "12-31 00:00 +14:00", "12-31 12:00 +14:00"]);
}

#[test]
fn a_fixed_time_that_the_clock_shows_twice_fires_once() {
    let autumn = |text| firings(text, BERLIN, "2026-10-24T22:00+02", 3);
    assert_eq!(
        autumn("30 2 * * *"),
        ["10-25 02:30 +02:00", "10-26 02:30 +01:00", "10-27 02:30 +01:00"]
    );
    assert_eq!(
        autumn("30 1-3 * * *"),
        ["10-25 01:30 +02:00", "10-25 02:30 +02:00", "10-25 03:30 +01:00"]
    );
    let within = firings("30 2 * * *", BERLIN, "2026-10-25T02:10+01", 1);
    assert_eq!(
        within,
        ["10-26 02:30 +01:00"],
        "the clock shows this hour for the second time, so the cron has fired before"
    );
    let howe = firings("45 1 * * *", LORD_HOWE, "2026-04-04T12:00+11", 2);
    assert_eq!(howe, ["04-05 01:45 +11:00", "04-06 01:45 +10:30"]);
}

#[test]
fn an_expression_with_a_star_fires_each_time_the_clock_shows_a_matching_time() {
    let spring = firings("*/30 * * * *", BERLIN, "2027-03-28T01:00+01", 3);
    assert_eq!(spring, ["03-28 01:30 +01:00", "03-28 03:00 +02:00", "03-28 03:30 +02:00"]);
    let spring = firings("15 */2 * * *", BERLIN, "2027-03-28T00:00+01", 3);
    assert_eq!(spring, ["03-28 00:15 +01:00", "03-28 04:15 +02:00", "03-28 06:15 +02:00"]);
    let autumn = firings("0 * * * *", BERLIN, "2026-10-25T01:00+02", 3);
    assert_eq!(autumn, ["10-25 02:00 +02:00", "10-25 02:00 +01:00", "10-25 03:00 +01:00"]);
    let howe = firings("*/15 * * * *", LORD_HOWE, "2026-04-05T01:30+11", 4);
    assert_eq!(
        howe,
        ["04-05 01:45 +11:00", "04-05 01:30 +10:30", "04-05 01:45 +10:30", "04-05 02:00 +10:30"]
    );
}

#[test]
fn a_daily_cron_fires_every_24_hours_in_a_zone_without_daylight_saving_time() {
    for day in ["2026-10-24T20:00+08", "2027-03-27T20:00+08"] {
        let cron = cron("30 2 * * *", "Asia/Shanghai");
        let first = cron.next_after(at(day)).unwrap();
        let second = cron.next_after(first).unwrap();
        assert_eq!(second.duration_since(first).unwrap(), Duration::from_hours(24));
    }
}

/// The search begins a fraction of a second before and after a firing.
#[test]
fn a_cron_fires_at_the_start_of_a_minute_whenever_the_search_begins() {
    let cron = cron("*/5 * * * *", "UTC");
    let five = at("2026-11-20T12:05Z");
    for (early, nanos) in [(300_000, 1), (1_500, 0), (0, 1)] {
        let before = five - Duration::from_millis(early) - Duration::from_nanos(nanos);
        let expected = if early == 300_000 { at("2026-11-20T12:00Z") } else { five };
        assert_eq!(cron.next_after(before), Some(expected));
    }
    assert_eq!(cron.next_after(five), Some(at("2026-11-20T12:10Z")));
    assert_eq!(cron.next_after(five + Duration::from_nanos(1)), Some(at("2026-11-20T12:10Z")));
}

#[test]
fn days_match_by_the_rules_of_cron() {
    let utc = |text: &str| -> Vec<String> {
        firings(text, "UTC", "2026-01-01T00:00Z", 3)
            .iter()
            .map(|firing| firing[..5].to_owned())
            .collect()
    };
    assert_eq!(
        utc("0 0 13 * 5"),
        ["01-02", "01-09", "01-13"],
        "if both are set, a day must match one of them"
    );
    assert_eq!(
        utc("0 0 */5 * 1"),
        ["01-26", "02-16", "03-16"],
        "if one begins with a star, a day must match both"
    );
    assert_eq!(utc("0 0 * * 7"), ["01-04", "01-11", "01-18"]);
    assert_eq!(utc("0 0 * JAN mon-fri"), ["01-02", "01-05", "01-06"]);
    assert_eq!(utc("0 0 * * sat-sun"), ["01-03", "01-04", "01-10"]);
    assert_eq!(utc("0 0 31 * *"), ["01-31", "03-31", "05-31"]);
    assert_eq!(utc("@monthly"), ["02-01", "03-01", "04-01"]);
    let leap = cron("0 0 29 2 */7", "UTC");
    assert_eq!(
        leap.next_after(at("2004-03-01T00:00Z")),
        Some(at("2032-02-29T00:00Z")),
        "this 29 February is a Sunday"
    );
    assert_eq!(
        leap.next_after(at("2088-03-01T00:00Z")),
        Some(at("2128-02-29T00:00Z")),
        "the year 2100 has no 29 February"
    );
    assert_eq!(
        leap.next_after(at("9996-03-01T00:00Z")),
        None,
        "the calendar ends with the year 9999"
    );
}

#[test]
fn an_invalid_expression_has_an_error_with_a_remedy() {
    for (text, message) in [
        ("", "it has 0 fields; write five: minute"),
        ("often", "it has one field; write five"),
        ("0 0 2 * * *", "it has 6 fields; leave out the seconds, write five"),
        ("60 * * * *", "its minute is out of range; write 0 to 59"),
        ("0 24 * * *", "its hour is out of range; write 0 to 23"),
        ("0 0 0 * *", "its day of the month is out of range; write 1 to 31"),
        ("0 0 * * 8", "its weekday is out of range; write 0 to 7"),
        ("0 22-6 * * *", "its hour goes backwards; write `22-23,0-6`"),
        ("0 0 * * fri-mon", "its weekday goes backwards; write `5-6,0-1`"),
        ("*/0 * * * *", "its minute has an invalid step; write a step from 1 to 59"),
        ("*/90 * * * *", "its minute has an invalid step"),
        ("5/15 * * * *", "its minute has a step without a range; write `5-59/15`"),
        ("0 0 L * *", "its day of the month is not valid; write `*`, numbers from 1 to 31, a list"),
        (
            "0 0 * * mo",
            "its weekday is not valid; write `*`, numbers from 0 to 7 or names such as `sun`",
        ),
        ("+5 * * * *", "its minute is not valid"),
        ("1,,2 * * * *", "its minute is not valid"),
        ("1-2-3 * * * *", "its minute is not valid"),
        ("99999999999 * * * *", "its minute is not valid"),
    ] {
        let error = Cron::new(text, Zone::UTC).unwrap_err().to_string();
        assert!(error.starts_with(&format!("not a cron expression: {message}")), "{text}: {error}");
    }
    for never in ["0 0 30 2 *", "0 0 31 4,6,9,11 *"] {
        let error = Cron::new(never, Zone::UTC).unwrap_err().to_string();
        assert_eq!(
            error,
            "a cron expression that never fires; choose a day that exists in its months"
        );
    }
}

#[test]
fn a_cron_interval_below_a_length_is_found() {
    let hours = Duration::from_hours;
    assert!(!cron("0 2 * * *", "UTC").has_interval_below(hours(24)));
    assert!(cron("0 2 * * *", BERLIN).has_interval_below(hours(24)), "one day has 23 hours");
    assert!(!cron("0 2 * * *", "Asia/Shanghai").has_interval_below(hours(24)));
    assert!(cron("* * * * *", "UTC").has_interval_below(Duration::from_secs(61)));
    assert!(
        cron("0 0 28,29 2 *", "UTC").has_interval_below(hours(25)),
        "in a leap year, the two firings are one day apart"
    );
    assert!(!cron("0 0 29 2 *", "UTC").has_interval_below(hours(24 * 366)));
}

#[test]
fn midnight_ends_a_cycle_on_days_of_23_24_and_25_hours() {
    let anchor = Anchor::Midnight(zone(BERLIN));
    for (now, start, end) in [
        ("2027-03-28T23:30+02", "2027-03-28T22:00+02", "2027-03-29T00:00+02"),
        ("2026-10-25T23:30+01", "2026-10-25T20:00+01", "2026-10-26T00:00+01"),
        ("2026-11-20T23:30+01", "2026-11-20T21:00+01", "2026-11-21T00:00+01"),
    ] {
        let cycle = anchor.cycle_at(Duration::from_hours(7), at(now));
        assert_eq!((cycle.start, cycle.end), (at(start), at(end)), "{now}");
    }
    // When the clock is set back across midnight, it shows an hour of a day that has ended.
    let anchor = Anchor::Midnight(zone("America/Moncton"));
    for now in ["2005-10-30T00:00:30-03", "2005-10-29T23:30-04", "2005-10-30T00:00:30-04"] {
        assert_eq!(
            anchor.cycle_at(Duration::from_hours(7), at(now)).start,
            at("2005-10-30T00:00-03"),
            "{now}"
        );
    }
    // If the clock skips midnight, the day begins at the end of the gap.
    let anchor = Anchor::Midnight(zone("America/Sao_Paulo"));
    let cycle = anchor.cycle_at(Duration::from_hours(7), at("2018-11-04T02:00-02"));
    assert_eq!(cycle.start, at("2018-11-04T01:00-02"));
    let same = anchor.cycle_at(Duration::from_hours(7), cycle.end - Duration::from_nanos(1));
    assert_eq!(same, cycle);
}

#[test]
fn cycles_from_the_epoch_depend_only_on_the_length_of_the_schedule() {
    let length = Duration::from_hours(7);
    let cycle = Anchor::Epoch.cycle_at(length, SystemTime::UNIX_EPOCH + Duration::from_hours(700));
    let start = SystemTime::UNIX_EPOCH + Duration::from_hours(700);
    assert_eq!(cycle, Cycle { number: 100, start, end: start + length });
    let early = SystemTime::UNIX_EPOCH - Duration::from_hours(1);
    assert_eq!(Anchor::Epoch.cycle_at(length, early).number, 0);
}

fn windows(all: &[(&str, &str, &str)]) -> Windows {
    let window = |(days, hours, name): &(&str, &str, &str)| Window {
        days: days.parse().unwrap(),
        hours: hours.parse().unwrap(),
        zone: zone(name),
    };
    Windows::new(all.iter().map(window).collect())
}

fn changes(windows: &Windows, name: &str, after: &str, count: usize) -> Vec<String> {
    let mut now = at(after);
    let mut all = Vec::new();
    for _ in 0..count {
        let (inside, Some(next)) = windows.state_at(now) else { break };
        assert_ne!(windows.state_at(next).0, inside, "the state differs after a change");
        all.push(format!("{} {}", if inside { "off" } else { "on" }, shown(next, &zone(name))));
        now = next;
    }
    all
}

#[test]
fn windows_open_and_close_by_local_time() {
    let office = windows(&[("mon-fri", "08:00-20:00", BERLIN)]);
    assert_eq!(
        changes(&office, BERLIN, "2027-03-26T12:00+01", 3),
        ["off 03-26 20:00 +01:00", "on 03-29 08:00 +02:00", "off 03-29 20:00 +02:00"]
    );
    assert!(
        office.state_at(at("2027-03-26T08:00+01")).0
            && !office.state_at(at("2027-03-26T20:00+01")).0
    );
    // The clock skips one hour in the night from Saturday to Sunday.
    let nights = windows(&[("fri-sat", "22:00-06:00", BERLIN)]);
    assert_eq!(
        changes(&nights, BERLIN, "2027-03-26T12:00+01", 4),
        [
            "on 03-26 22:00 +01:00",
            "off 03-27 06:00 +01:00",
            "on 03-27 22:00 +01:00",
            "off 03-28 06:00 +02:00"
        ]
    );
    // The clock skips the complete window on that day.
    let gap = windows(&[("sun", "02:15-02:45", BERLIN)]);
    assert_eq!(changes(&gap, BERLIN, "2027-03-27T12:00+01", 1), ["on 04-04 02:15 +02:00"]);
    // The clock shows the times of this window twice.
    let twice = windows(&[("sun", "02:15-02:45", BERLIN)]);
    assert_eq!(
        changes(&twice, BERLIN, "2026-10-24T12:00+02", 3),
        ["on 10-25 02:15 +02:00", "off 10-25 02:45 +02:00", "on 11-01 02:15 +01:00"]
    );
    let weekend = windows(&[("sat", "12:00-24:00", BERLIN), ("sun", "00:00-12:00", BERLIN)]);
    assert_eq!(
        changes(&weekend, BERLIN, "2026-11-20T12:00+01", 2),
        ["on 11-21 12:00 +01:00", "off 11-22 12:00 +01:00"]
    );
    let always = windows(&[("mon-thu", "00:00-24:00", BERLIN), ("fri-sun", "00:00-24:00", BERLIN)]);
    assert_eq!(always.state_at(at("2026-11-20T12:00+01")), (true, None));
    // In summer, Berlin closes at 10:00 UTC and the other window opens at 11:00 UTC. In winter,
    // there is no gap.
    let meet = windows(&[("mon-sun", "00:00-12:00", BERLIN), ("mon-sun", "11:00-23:00", "UTC")]);
    let first = changes(&meet, BERLIN, "2026-11-20T12:30+01", 1);
    assert_eq!(first, ["off 03-28 12:00 +02:00"]);
}

#[test]
fn windows_are_shown_in_the_form_of_the_configuration() {
    let all = windows(&[("mon-fri", "8:00-20:00", BERLIN), ("sun", "22:00-06:00", "utc")]);
    assert_eq!(all.to_string(), "mon-fri 08:00-20:00 Europe/Berlin, sun 22:00-06:00 UTC");
    let days = |text: &str| text.parse::<Days>().map(|days| days.to_string());
    assert_eq!(days("Saturday - mon").unwrap(), "mon,sat-sun");
    assert_eq!(days("tue-mon").unwrap(), "daily");
    assert!(days("workdays").is_err() && days("").is_err() && days("mon-").is_err());
    let hours = |text: &str| text.parse::<Hours>().map(|hours| hours.to_string());
    assert_eq!(hours("00:00-24:00").unwrap(), "all day");
    assert_eq!(hours("22:00-00:00").unwrap(), "22:00-24:00");
    for wrong in [
        "",
        "8-20",
        "08:00",
        "08:00-24:01",
        "08:60-09:00",
        "24:00-06:00",
        "08:00-08:00",
        "+8:00-9:00",
    ] {
        assert!(hours(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn zones_do_not_depend_on_the_time_zone_database_of_the_system() {
    assert_eq!(zone("europe/berlin").to_string(), BERLIN);
    assert_eq!((zone("UTC"), Zone::UTC.to_string()), (Zone::UTC, "UTC".to_owned()));
    for unknown in
        ["", "Berlin", "Etc/Unknown", "../../etc/passwd", "/usr/share/zoneinfo/UTC", "localtime"]
    {
        assert!(Zone::by_name(unknown).is_none(), "{unknown}");
    }
    assert!(Zone::names().count() > 400);
}

#[test]
fn a_list_of_times_has_years_and_offsets_only_if_they_differ() {
    let shown = |text: &str, now: &str| {
        let cron = cron(text, BERLIN);
        let next = |last: &SystemTime| cron.next_after(*last);
        let times: Vec<_> = std::iter::successors(next(&at(now)), next).take(3).collect();
        cron.zone().days_and_times(&times, at(now))
    };
    let may = "2027-05-01T00:00Z";
    assert_eq!(shown("30 6 * * *", may), ["Sat 1 May 06:30", "Sun 2 May 06:30", "Mon 3 May 06:30"]);
    assert_eq!(
        shown("0 0 29 2 *", may),
        ["Tue 29 Feb 2028 00:00", "Sun 29 Feb 2032 00:00", "Fri 29 Feb 2036 00:00"]
    );
    assert_eq!(
        shown("*/30 * * * *", "2027-10-31T00:15Z"),
        ["Sun 31 Oct 02:30 +02:00", "Sun 31 Oct 02:00 +01:00", "Sun 31 Oct 02:30 +01:00"]
    );
    assert_eq!(
        shown("0 0 1 */6 *", "2027-08-01T00:00Z"),
        [
            "Sat 1 Jan 2028 00:00 +01:00",
            "Sat 1 Jul 2028 00:00 +02:00",
            "Mon 1 Jan 2029 00:00 +01:00"
        ]
    );
}
