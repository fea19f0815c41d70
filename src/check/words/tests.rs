//! What is drawn and said, to the letter where a reader would notice.

use std::time::SystemTime;

use super::*;
use crate::check::Checked;

/// A Saturday, hours before clocks are put forward in Europe.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_hours(484_244)
}

fn words(text: &str, width: usize, colours: bool) -> String {
    let plan = crate::config::parse(text, "test", None, &|_| None).unwrap();
    let checked = Checked::plan("test", &plan, now()).unwrap();
    checked.words(&plan, Paper { width, colours }).unwrap().to_string()
}

/// What is said under this name of a schedule.
fn said(name: &str, schedule: &str) -> String {
    let text =
        format!("target: http://localhost:1/v1\nrequest: {{max_tokens: 10}}\nschedule: [{schedule}]\n");
    let words = words(&text, 200, false);
    let line = words.lines().rev().find_map(|line| line.strip_prefix(&format!("  {name:14} ")));
    line.unwrap_or_default().to_owned()
}

#[test]
fn a_day_is_told_by_what_it_holds() {
    assert_eq!(said("requests", "{constant: 1/s, for: 1h}"), "86,400 in 24 h (always 1/s)");
    assert_eq!(said("output tokens", "{constant: 1/s, for: 1h}"), "at most 864,000");
    assert_eq!(said("requests", "{concurrency: 2, for: 1h}"), "as many as the closed-loop phases make");
    let both = "12 in 24 h (on average 0.5/h, at most 1/h), besides what the closed-loop phases send";
    assert_eq!(said("requests", "{constant: 1/h, for: 1h}, {concurrency: 2, for: 1h}"), both);
    let late = "none: the first phase with load comes after 1d6h";
    assert_eq!(said("requests", "{pause: 30h}, {constant: 1/s, for: 1h}"), late);
    assert_eq!(said("requests", "{pause: 30h}, {concurrency: 2, for: 1h}"), late);
    let only_open = said("requests", "{constant: 1/h, for: 30h}, {concurrency: 2, for: 1h}");
    assert_eq!(only_open, "24 in 24 h (always 1/h)");
}

/// Where something is drawn differently, look at it before this is changed.
#[test]
fn a_schedule_is_drawn_over_its_time() {
    let text = "
target: {simulator: {}}
prompts: [Hi]
repeat: 1
schedule:
  - {name: low, constant: 2/s, for: 12m}
  - {name: up, ramp: {to: 8/s}, for: 6m}
  - {name: closed, concurrency: 4, for: 6m}
";
    let drawn = words(text, 80, false);
    let expected = "\
      8/s ┤                                 ▁▄▇
          │                               ▃▆███
          │                            ▂▅██████
      4/s ┤                         ▁▄▇████████
          │▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▆███████████
          │████████████████████████████████████
        0 └┬───────────┬───────────┬───────────┬───────────┐
          0s          6m          12m         18m         24m
   4 open                                      ████████████  closed loop

  schedule       24m, once
    ▂▂▂▂▂▂▂▂  low     12m  2/s          1,440 requests
    ▂▃▄▅▅▆▇█  up       6m  2/s to 8/s   1,800 requests
    ████████  closed   6m  4 in flight
";
    assert!(drawn.contains(expected), "{drawn}");
}

#[test]
fn nothing_is_wider_than_the_paper_and_colours_are_for_terminals() {
    let text = "
target: https://a.example/v1
prompts: ['a prompt that is really and truly long enough to be worth its place in a cache, and so goes on and on for a while, and goes \
on and on until there is nothing more to be said about anything at all that is worth its place in a cache of prompts of any kind whatever, however large']
max_concurrency: 9
schedule:
  - {name: a name that is longer than any column for names should be, constant: 2000/s, for: 1s}
  - {sine: {mean: 20/s, amplitude: 20/s, period: 7h}, for: 40h}
  - {concurrency: 9, for: 1h}
";
    for width in [60, 80, 120, 200] {
        let words = words(text, width, false);
        let widest = words.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= width.max(80), "{widest} of {width}\n{words}");
        assert_eq!(words.matches("warning:").count(), 2, "{words}");
        assert!(!words.contains('\u{1b}'));
    }
    assert!(words(text, 80, true).contains("\u{1b}[33mwarning:\u{1b}[0m"));
}

/// 20:00 in London and 21:00 in Berlin, where the clock then leaps from two to three.
#[test]
fn what_goes_by_the_wall_is_told_by_its_clock() {
    let text = "
target: {simulator: {}}
prompts: [Hi]
start: {cron: '30 3 * * *', timezone: Europe/Berlin}
active: {hours: '01:00-04:00', timezone: Europe/London}
schedule: [{name: night, constant: 1/s, for: 3h}]
";
    let drawn = words(text, 80, false);
    let expected = "\
      1/s ┤           ███
        0 └┬───────────┬───────────┬───────────┬───────────┐
         21:00       04:00       10:00       16:00       22:00
           from Sat 29 Mar 21:00 on, the time in Europe/Berlin
";
    let flat = drawn.split_whitespace().collect::<Vec<_>>().join(" ");
    for said in [
        "fires in Europe/Berlin: next Sun 30 Mar 03:30, Mon 31 Mar 03:30, Tue 1 Apr 03:30",
        "active daily 01:00-04:00 Europe/London; now closed until Sun 30 Mar 02:00",
        "schedule 3h, once at each firing",
        // From 01:30 UTC until the window closes at 03:00 UTC.
        "requests 5,400 in 24 h",
    ] {
        assert!(flat.contains(said), "{said}\n{drawn}");
    }
    let chart: Vec<&str> = drawn.lines().collect();
    for line in expected.lines().skip(1) {
        assert!(chart.contains(&line), "{line}\n{drawn}");
    }
}

#[test]
fn phases_that_count_requests_are_told_without_a_time() {
    let once = |phases: &str| {
        words(&format!("target: {{simulator: {{}}}}\nrepeat: 2\nschedule: [{phases}]"), 200, false)
    };
    let only = once("{name: c, concurrency: 3, requests: 50}");
    assert!(only.contains("schedule       as long as answers take, 2 times\n"), "{only}");
    assert!(only.contains("    ████████  c  ?  3 in flight  50 requests\n"), "{only}");
    assert!(only.contains("requests       100\n") && only.contains("in flight      at most 3\n"), "{only}");
    let beside = once("{constant: 1/s, for: 1m}, {name: c, concurrency: 3, requests: 50}");
    assert!(beside.contains("schedule       1m and as long as answers take, 2 times\n"), "{beside}");
    assert!(
        beside.contains("requests       220 in 2m (") && beside.contains("counted        told as if"),
        "{beside}"
    );
    let endless = words("target: {simulator: {}}\nschedule: [{concurrency: 3, requests: 50}]", 200, false);
    assert!(endless.contains("requests       as many as the closed-loop phases make\n"), "{endless}");
}
