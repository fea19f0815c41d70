//! Tests of the text and the charts that `llmload check` prints.

use std::time::{Duration, SystemTime};

use super::*;
use crate::check::FileCheck;
use crate::check::warnings::SystemLimits;

/// A Saturday, some hours before daylight saving time begins in Europe.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_hours(484_244)
}

fn text_of(text: &str, width: usize, colours: bool) -> String {
    let plan = crate::config::parse(text, "test", None, &|_| None).unwrap();
    let checked = FileCheck::valid("test", &plan, now(), SystemLimits::default(), &[]).unwrap();
    checked.text(&plan, TextStyle { width, colours }).unwrap().to_string()
}

/// Returns the last entry with this name in the forecast of a schedule.
fn entry(name: &str, schedule: &str) -> String {
    let text = format!(
        "target: http://localhost:1/v1\nrequest: {{max_tokens: 10}}\nschedule: [{schedule}]\n"
    );
    let text = text_of(&text, 200, false);
    let line = text.lines().rev().find_map(|line| line.strip_prefix(&format!("  {name:14} ")));
    line.unwrap_or_default().to_owned()
}

#[test]
fn a_forecast_of_a_day_shows_its_requests() {
    assert_eq!(entry("requests", "{constant: 1/s, for: 1h}"), "86,400 in 24 h (always 1/s)");
    assert_eq!(entry("output tokens", "{constant: 1/s, for: 1h}"), "at most 864,000");
    assert_eq!(
        entry("requests", "{concurrency: 2, for: 1h}"),
        "not known in advance: closed-loop phases depend on the response times"
    );
    let both = "12 in 24 h (mean 0.5/h, peak 1/h), plus the closed-loop requests";
    assert_eq!(entry("requests", "{constant: 1/h, for: 1h}, {concurrency: 2, for: 1h}"), both);
    let late = "none: the first phase with load starts after 1d6h";
    assert_eq!(entry("requests", "{pause: 30h}, {constant: 1/s, for: 1h}"), late);
    assert_eq!(entry("requests", "{pause: 30h}, {concurrency: 2, for: 1h}"), late);
    let only_open = entry("requests", "{constant: 1/h, for: 30h}, {concurrency: 2, for: 1h}");
    assert_eq!(only_open, "24 in 24 h (always 1/h)");
}

/// The mean of a column hides a burst of ten seconds, but the endpoint gets the burst.
#[test]
fn the_peak_is_exact_even_if_it_is_short() {
    let text = "
target: {simulator: {}}
schedule:
  - {name: calm, constant: 1/s, for: 12h}
  - {name: burst, constant: 1234/s, for: 10s}
  - {name: rest, constant: 1/s, for: 11h}
";
    let drawn = text_of(text, 80, false);
    let chart: Vec<&str> =
        drawn.lines().skip_while(|line| !line.contains("peak")).take(2).collect();
    assert_eq!(chart[0], "           peak 1,234/s in burst (10s)", "{drawn}");
    assert!(chart[1].starts_with("  1,234/s ┤"), "{drawn}");
    assert!(
        drawn.contains("           █ mean rate of a column, ░ highest rate of a column\n"),
        "{drawn}"
    );
    let plan = crate::config::parse(text, "test", None, &|_| None).unwrap();
    let checked = FileCheck::valid("test", &plan, now(), SystemLimits::default(), &[]).unwrap();
    let forecast = serde_json::to_value(&checked).unwrap()["forecast"]["scenarios"][0].clone();
    assert_eq!(
        (&forecast["peak_rate"], &forecast["peak_phase"]),
        (&1234.0.into(), &"burst".into())
    );
}

/// All twenty rows of the trace are due in the first of a hundred seconds. The header, the scale,
/// the table and the totals show the peak of 20/s. All bars are means on the same scale.
#[test]
fn the_peak_of_a_replay_is_the_same_in_all_places() {
    let folder = tempfile::tempdir().unwrap();
    let rows = (0..20).map(|row| format!("0.0{row:02},1,1")).collect::<Vec<_>>().join("\n");
    std::fs::write(
        folder.path().join("t.csv"),
        format!("offset_seconds,input_tokens,output_tokens\n{rows}"),
    )
    .unwrap();
    let text = "
target: {simulator: {}}
repeat: 1
schedule:
  - {name: trace, replay: {file: t.csv}, for: 100s}
  - {name: calm, constant: 5/s, for: 100s}
";
    let plan = crate::config::parse(text, "test", Some(folder.path()), &|_| None).unwrap();
    let checked = FileCheck::valid("test", &plan, now(), SystemLimits::default(), &[]).unwrap();
    let drawn = checked.text(&plan, TextStyle { width: 80, colours: false }).unwrap().to_string();
    for text in [
        "peak 20/s in trace (1m40s), counted per second\n",
        "     20/s ┤",
        "trace  1m40s  up to 20/s   20 requests\n",
        "▂▂▂▂▂▂▂▂  calm   1m40s  5/s",
        "(mean 2.6/s, peak 20/s)",
    ] {
        assert!(drawn.contains(text), "{text}\n{drawn}");
    }
}

/// A Chinese character needs two columns of a terminal.
#[test]
fn names_of_phases_in_any_script_keep_their_columns() {
    let names = ["平稳", "并发 35 个请求的长时间压力测试", "plain"];
    let phases = names.map(|name| format!("  - {{name: {name}, constant: 5/s, for: 1m}}\n"));
    let text =
        text_of(&format!("target: {{simulator: {{}}}}\nschedule:\n{}", phases.concat()), 80, false);
    let rows: Vec<&str> = text.lines().filter(|line| line.ends_with("300 requests")).collect();
    assert_eq!(rows.len(), 3, "{text}");
    let lengths = rows.iter().map(|row| width(row.split("1m").next().unwrap()));
    let lengths: Vec<usize> = lengths.collect();
    assert!(lengths.iter().all(|length| *length == lengths[0]), "{text}");
    assert!(rows[1].contains("并发 35 个请求的长时间…"), "{text}");
}

/// The cycle length of `rate: 5/s` is internal.
#[test]
fn a_rate_that_never_changes_shows_no_cycle_length() {
    for load in ["rate: 5/s", "schedule: [{constant: 5/s, for: 7m}]"] {
        let text = text_of(&format!("target: {{simulator: {{}}}}\n{load}\n"), 80, false);
        let expected =
            "  schedule       the same load for ever\n    ████████  constant 5/s  for ever  5/s\n";
        assert!(text.contains(expected), "{text}");
        assert!(!text.contains("peak"), "{text}");
    }
    let closed = text_of("target: {simulator: {}}\nconcurrency: 5\n", 80, false);
    assert!(closed.contains("concurrency 5  for ever  5 in flight\n"), "{closed}");
    let once = text_of(
        "target: {simulator: {}}\nrepeat: 1\nschedule: [{constant: 5/s, for: 7m}]\n",
        80,
        false,
    );
    assert!(
        once.contains("  schedule       7m, once\n") && once.contains("2,100 requests"),
        "{once}"
    );
}

/// Both targets get all requests. A value for one target has the name of the target.
#[test]
fn each_value_names_its_target_and_the_sum_includes_all_targets() {
    let text = "
targets:
  a: {base_url: 'http://a/v1', prices: {input_per_million: 0, output_per_million: 2}}
  b: {base_url: 'http://b/v1', prices: {input_per_million: 0, output_per_million: 3}, timeouts: {total: 2m}}
scenarios:
  both: {targets: [a, b], request: {max_tokens: 100}, schedule: [{constant: 1/s, for: 1h}, {concurrency: 3, for: 1h}]}
";
    let drawn = text_of(text, 200, false);
    for line in [
        "  requests       43,200 in 24 h to each of the 2 targets (mean 0.5/s, peak 1/s), plus the closed-loop \
         requests\n",
        "  output tokens  at most 4,320,000 for each of the 2 targets\n",
        "  cost           a: at most 8.64 USD in 24 h",
        "  cost           b: at most 12.96 USD in 24 h",
        "  in flight      a: at most 256 (max_concurrency); ",
        "                 b: at most 123\n",
        "all 2 targets together\n",
        "  6 slots ",
        "  requests       86,400 in 24 h (mean 1/s, peak 2/s), plus the closed-loop requests\n",
        "  output tokens  at most 8,640,000\n",
        "  cost           at most 21.60 USD in 24 h",
        "  in flight      at most 379\n",
    ] {
        assert!(drawn.contains(line), "{line}\n{drawn}");
    }
}

#[test]
fn a_mix_shows_the_percentages_of_its_sources() {
    let text = "
targets: {a: {simulator: {}}}
prompts: {short: [a], long: [b, c], all: {mix: {short: 3, long: 1}}}
scenarios: {s: {prompts: all, rate: 1/s}, t: {prompts: short, rate: 1/s}, u: {prompts: long, rate: 1/s}}
";
    let drawn = text_of(text, 120, false);
    assert!(
        drawn.contains(
            "  prompts        all: 3 prompts in a mix of 75 % short, 25 % long, about 1 token each\n"
        ),
        "{drawn}"
    );
    assert!(drawn.contains("  prompts        short: 1 prompt, about 1 token each\n"), "{drawn}");
}

/// If this test fails, look at the new chart before you change the test.
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
    let drawn = text_of(text, 80, false);
    let expected = "\
      8/s ┤                                 ▁▄▇
          │                               ▃▆███
          │                            ▂▅██████
      4/s ┤                         ▁▄▇████████
          │▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▆███████████
          │████████████████████████████████████
        0 └┬───────────┬───────────┬───────────┬───────────┐
          0s          6m          12m         18m         24m
  4 slots                                      ████████████  closed loop

  schedule       24m, once
    ▂▂▂▂▂▂▂▂  low     12m  2/s          1,440 requests
    ▂▃▄▅▅▆▇█  up       6m  2/s to 8/s   1,800 requests
    ████████  closed   6m  4 in flight
";
    assert!(drawn.contains(expected), "{drawn}");
}

#[test]
fn lines_fit_the_width_and_only_terminals_get_colours() {
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
        let output = text_of(text, width, false);
        let widest = output.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= width.max(80), "{widest} of {width}\n{output}");
        assert_eq!(output.matches("warning:").count(), 2, "{output}");
        assert!(!output.contains('\u{1b}'));
    }
    assert!(text_of(text, 80, true).contains("\u{1b}[33mwarning:\u{1b}[0m"));
}

/// The forecast begins at 20:00 in London, which is 21:00 in Berlin. Five hours later, the clock in
/// Berlin jumps from 2:00 to 3:00.
#[test]
fn a_scenario_with_a_time_zone_shows_its_clock_times() {
    let text = "
target: {simulator: {}}
prompts: [Hi]
start: {cron: '30 3 * * *', timezone: Europe/Berlin}
active: {hours: '01:00-04:00', timezone: Europe/London}
schedule: [{name: night, constant: 1/s, for: 3h}]
";
    let drawn = text_of(text, 80, false);
    let expected = "\
      1/s ┤           ███
        0 └┬───────────┬───────────┬───────────┬───────────┐
         21:00       04:00       10:00       16:00       22:00
           times in Europe/Berlin, from Sat 29 Mar 21:00
";
    let flat = drawn.split_whitespace().collect::<Vec<_>>().join(" ");
    for text in [
        "in Europe/Berlin; next Sun 30 Mar 03:30, Mon 31 Mar 03:30, Tue 1 Apr 03:30",
        "active daily 01:00-04:00 Europe/London; now inactive until Sun 30 Mar 02:00",
        "schedule 3h, once per cron firing",
        // The schedule runs from 01:30 UTC to the end of the window at 03:00 UTC.
        "requests 5,400 in 24 h",
    ] {
        assert!(flat.contains(text), "{text}\n{drawn}");
    }
    let chart: Vec<&str> = drawn.lines().collect();
    for line in expected.lines().skip(1) {
        assert!(chart.contains(&line), "{line}\n{drawn}");
    }
}

#[test]
fn phases_with_a_number_of_requests_have_no_length() {
    let once = |phases: &str| {
        text_of(
            &format!("target: {{simulator: {{}}}}\nrepeat: 2\nschedule: [{phases}]"),
            200,
            false,
        )
    };
    let only = once("{name: c, concurrency: 3, requests: 50}");
    assert!(
        only.contains("schedule       unknown length (`requests` phases), 2 times\n"),
        "{only}"
    );
    assert!(only.contains("    ████████  c  ?  3 in flight  50 requests\n"), "{only}");
    assert!(
        only.contains("requests       100\n") && only.contains("in flight      at most 3\n"),
        "{only}"
    );
    let beside = once("{constant: 1/s, for: 1m}, {name: c, concurrency: 3, requests: 50}");
    assert!(beside.contains("schedule       1m plus the `requests` phases, 2 times\n"), "{beside}");
    assert!(
        beside.contains("requests       220 in 2m (")
            && beside.contains("note           The length of `requests` phases"),
        "{beside}"
    );
    let endless =
        text_of("target: {simulator: {}}\nschedule: [{concurrency: 3, requests: 50}]", 200, false);
    assert!(endless.contains("requests       not known in advance: "), "{endless}");
}
