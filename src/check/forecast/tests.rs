//! Tests of forecasts: small plans with known results, and random plans. For the random plans, a
//! slow walk through every cycle or arrival computes the expected result.

#![allow(clippy::float_cmp)]

use std::num::NonZeroU32;
use std::sync::Arc;

use proptest::prelude::*;
use tokio::time::Instant;

use super::*;
use crate::pacer::{Next, Pacer};
use crate::schedule::{ArrivalSpec, Arrivals, Lengths, Load, Phase, Schedule, Trace, TraceRow};
use crate::timetable::{Moment, Timetable, TimetableEntry};

fn plan(text: &str) -> Plan {
    crate::config::parse(text, "test", None, &|_| None).unwrap()
}

const NOW: SystemTime = SystemTime::UNIX_EPOCH;

fn forecast_of(plan: &Plan) -> Forecast {
    Forecast::new(plan, NOW, 0)
}

fn forecast_of_keys(keys: &str) -> (Forecast, ScenarioForecast) {
    let forecast = forecast_of(&plan(&format!("target: http://localhost:1/v1\n{keys}\n")));
    let one = forecast.scenarios[0].clone();
    (forecast, one)
}

#[test]
fn a_day_has_buckets_of_15_minutes() {
    let (forecast, one) = forecast_of_keys(
        "schedule: [{constant: 6/m, for: 6h}, {ramp: {to: 1/s}, for: 6h}, {pause: 12h}]",
    );
    assert_eq!((forecast.span, forecast.bucket), (DAY, Duration::from_mins(15)));
    let bucket = |hour: usize| one.buckets[hour * 4];
    assert_eq!(
        bucket(0),
        Bucket {
            start_seconds: 0.0,
            requests: 90.0,
            rate_min: 0.1,
            rate_mean: 0.1,
            rate_max: 0.1,
            closed_loop_slots: 0
        }
    );
    // This bucket begins three hours after the start of a ramp from 0.1/s to 1/s in six hours.
    let middle = bucket(9);
    assert_eq!((middle.rate_min, middle.rate_max), (0.55, 0.5875));
    assert_eq!(middle.requests, 512.0, "511.875 are expected");
    assert_eq!((bucket(12).requests, bucket(12).rate_max), (0.0, 0.0));
    assert_eq!((one.amounts.requests, one.peak_rate), (2160.0 + 11_880.0, 1.0));
    assert_eq!(one.phases[1].requests, 11_880.0);
}

#[test]
fn a_plan_that_ends_within_a_day_is_forecast_until_its_end() {
    let two = plan(
        "targets: {t: {base_url: 'http://localhost:1/v1'}}
scenarios:
  short: {repeat: 2, schedule: [{constant: 4/s, for: 10m}]}
  long: {repeat: 1, schedule: [{constant: 1/s, for: 40m}]}",
    );
    let forecast = Forecast::new(&two, NOW, 7);
    assert_eq!((forecast.span, forecast.series), (Duration::from_mins(40), 7));
    let [short, long] = forecast.scenarios.as_slice() else { panic!() };
    assert_eq!((short.amounts.requests, long.amounts.requests), (4800.0, 2400.0));
    // The short schedule ends between the buckets 47 and 48.
    let rates = |index: usize| (short.buckets[index].rate_min, short.buckets[index].rate_max);
    assert_eq!((rates(47), rates(48)), ((4.0, 4.0), (0.0, 0.0)));
    assert_eq!((forecast.sum.peak_rate, forecast.sum.amounts.requests), (5.0, 7200.0));
    assert_eq!(forecast.sum.buckets[95].rate_mean, 1.0);
}

#[test]
fn a_bucket_with_many_cycles_has_the_extremes_of_all_its_cycles() {
    let (_, one) = forecast_of_keys(
        "schedule: [{constant: 5/s, for: 10s}, {pause: 10s}, {concurrency: 3, for: 10s}]",
    );
    for bucket in &one.buckets {
        assert_eq!((bucket.rate_min, bucket.rate_max, bucket.closed_loop_slots), (0.0, 5.0, 3));
        assert_eq!((bucket.requests, bucket.rate_mean), (1500.0, 1.666_667));
    }
    assert_eq!((one.closed_loop_slots, one.amounts.requests), (3, 144_000.0));
}

#[test]
fn tokens_and_cost_follow_from_prompts_and_prices() {
    let text = "target: {base_url: 'http://localhost:1/v1', prices: {input_per_million: 1000000, output_per_million: 500000, currency: EUR}}
prompts: ['12345678', '1234']
request: {max_tokens: 7, system: ab}
repeat: 1
schedule: [{constant: 1/s, for: 10s}]";
    let forecast = forecast_of(&plan(text));
    let one = &forecast.scenarios[0];
    // A mean of 6 bytes for the prompt, and 2 bytes for the system message, are two tokens.
    let amounts =
        Amounts { requests: 10.0, input_tokens_estimated: 20.0, output_tokens_at_most: 70.0 };
    assert_eq!(one.amounts, amounts);
    assert_eq!(one.cost_at_most, Some(Cost { amount: 20.0 + 35.0, currency: "EUR".into() }));
    assert_eq!(forecast.sum.cost_at_most, BTreeMap::from([("EUR".to_owned(), 55.0)]));
    let extra = text.replace("max_tokens: 7", "max_tokens: 7, extra: {max_completion_tokens: 9}");
    assert_eq!(
        forecast_of(&plan(&extra)).sum.amounts.output_tokens_at_most,
        90.0,
        "the request contains this limit"
    );
}

#[test]
fn requests_in_flight_follow_littles_law_up_to_max_concurrency() {
    let timeouts = "{base_url: 'http://localhost:1/v1', timeouts: {total: 20s}}";
    let flight = |keys: &str| {
        let plan = plan(&format!("target: {timeouts}\n{keys}"));
        forecast_of(&plan).scenarios[0].in_flight
    };
    let low = flight("rate: 3/s");
    assert_eq!(
        (low.at_most, low.by_littles_law, low.seconds_to_fill),
        (60, 60.0, Some(256.0 / 3.0))
    );
    let high = flight("rate: 30/s");
    assert_eq!((high.at_most, high.by_littles_law), (256, 600.0));
    let closed = flight("concurrency: 9");
    assert_eq!((closed.at_most, closed.seconds_to_fill), (9, None));
    let both = flight("schedule: [{constant: 1/s, for: 1m}, {concurrency: 9, for: 1m}]");
    assert_eq!(both.at_most, 29, "requests of the previous phase are still in flight");
}

/// Phases in milliseconds, so that buckets begin and end anywhere in a cycle.
fn phases() -> impl Strategy<Value = Vec<String>> {
    let phase =
        (0..4u8, 1..5_000_000u64, 1..100u32, 1..100u32).prop_map(
            |(kind, millis, a, b)| match kind {
                0 => format!("{{constant: {a}/s, for: {millis}ms}}"),
                1 => format!("{{ramp: {{from: {a}/s, to: {b}/s}}, for: {millis}ms}}"),
                2 => format!(
                    "{{sine: {{mean: {}/s, amplitude: {a}/s, period: {}ms}}, for: {millis}ms}}",
                    a + b,
                    millis / 3 + 1000
                ),
                _ => format!("{{pause: {millis}ms}}"),
            },
        );
    proptest::collection::vec(phase, 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A walk through every cycle computes the expected values. llmload itself does not walk,
    /// because that is too slow.
    #[test]
    fn buckets_agree_with_a_walk_through_every_cycle(phases in phases(), times in 0..4u32) {
        let repeat = if times == 0 { "forever".to_owned() } else { times.to_string() };
        let text = format!(
            "target: http://localhost:1/v1\nrepeat: {repeat}\nschedule: [{{constant: 1/s, for: 1ms}}, {}]",
            phases.join(", ")
        );
        let plan = plan(&text);
        let scenario = &plan.scenarios[0];
        let (schedule, length) = (&scenario.schedule, scenario.schedule.length());
        let end = match scenario.repeat {
            Repeat::Forever => Duration::MAX,
            Repeat::Times(times) => length * times.get(),
        };
        let forecast = forecast_of(&plan);
        let one = &forecast.scenarios[0];

        let (mut walked, mut start, mut cycle) = (0.0, Duration::ZERO, 0);
        while start < forecast.span && scenario.repeat.includes(cycle) {
            walked += schedule.area(length.min(forecast.span.saturating_sub(start))).as_f64();
            (start, cycle) = (start + length, cycle + 1);
        }
        let sent = one.amounts.requests;
        prop_assert!((sent - walked).abs() <= 0.501, "{sent} {walked}");
        let added: f64 = one.buckets.iter().map(|bucket| bucket.requests).sum();
        prop_assert_eq!(added, sent);
        let mean = one.buckets.iter().map(|bucket| bucket.rate_mean).sum::<f64>() / f64::from(BUCKETS);
        let expected = walked / forecast.span.as_secs_f64();
        prop_assert!((mean - expected).abs() <= 1e-6 * expected + 1e-6, "{mean} {expected}");

        for (index, bucket) in (0..).zip(&one.buckets) {
            let (from, to) = (forecast.span * index / BUCKETS, forecast.span * (index + 1) / BUCKETS);
            let moments = (0..50).map(|part| from + to.saturating_sub(from) * part / 50);
            for moment in moments.filter(|moment| *moment < end) {
                let rate = schedule.rate(Duration::from_nanos_u128(moment.as_nanos() % length.as_nanos()));
                let inside = bucket.rate_min - 1e-5 <= rate && rate <= bucket.rate_max + 1e-5;
                prop_assert!(inside, "{rate} at {moment:?} is not in {bucket:?}");
            }
            prop_assert!(bucket.rate_min <= bucket.rate_mean + 1e-3, "{bucket:?}");
            prop_assert!(bucket.rate_mean <= bucket.rate_max + 1e-3, "{bucket:?}");
        }
        let highest = one.phases.iter().map(|phase| phase.rate_max).fold(0.0, f64::max);
        prop_assert!(one.peak_rate <= highest);
        if forecast.span >= length {
            prop_assert_eq!(one.peak_rate, highest);
        }
    }
}

/// Returns the due times of all arrivals, from the same loop as the driver in `launch`, but without
/// a wait for the clock.
fn due(plan: &Plan, now: SystemTime, ahead: Duration) -> Vec<Duration> {
    let (scenario, origin) = (&plan.scenarios[0], Instant::now());
    let spread = ArrivalSpec {
        arrivals: Arrivals::Constant,
        seed: 0,
        scenario: String::new(),
        shard: plan.shard,
    };
    let (mut timetable, mut at, end) = (Timetable::for_scenario(scenario), origin, origin + ahead);
    let mut all = Vec::new();
    while at < end {
        match timetable.next_entry(Moment { instant: at, wall: now + (at - origin) }) {
            TimetableEntry::Ended => break,
            TimetableEntry::IdleUntil(until) => at = until,
            TimetableEntry::Active(segment) => {
                let mut pacer = Pacer::new(Arc::clone(&scenario.schedule), &spread, segment);
                at = loop {
                    match pacer.poll(end) {
                        Next::Due { due, .. } => all.push(due - origin),
                        Next::CountedRequests { since, .. } => pacer.end_untimed_phase(since),
                        Next::End(over) => break over,
                        Next::Search { .. } => unreachable!("these schedules have no search"),
                        Next::Wait(_) | Next::ClosedLoop { .. } => break end,
                    }
                };
                timetable.leave_segment(pacer.segment(), true);
            }
        }
    }
    all
}

fn starts() -> impl Strategy<Value = String> {
    let zone = prop_oneof![Just("UTC"), Just("Europe/Berlin"), Just("America/New_York")];
    let windows =
        (0..24u32, 0..24u32).prop_filter("the window has a length", |(from, to)| from != to);
    let active = proptest::option::of(windows);
    (0..6u8, zone, active, 1..24u32).prop_map(|(kind, zone, active, hours)| {
        let start = match kind {
            0 => "start: now\n".to_owned(),
            1 => "start: now\nrepeat: 3\n".to_owned(),
            2 => "start: wall_clock\n".to_owned(),
            3 => format!("start: {{wall_clock: {{timezone: {zone}}}}}\n"),
            4 => format!("start: {{cron: '7 */{hours} * * *', timezone: {zone}}}\n"),
            _ => format!("start: {{cron: '*/40 2,{hours} * * *', timezone: {zone}}}\nrepeat: 2\n"),
        };
        let active = active.map(|(from, to)| {
            format!("active: {{hours: '{from:02}:30-{to:02}:30', timezone: {zone}}}\n")
        });
        start + &active.unwrap_or_default()
    })
}

fn long_phases() -> impl Strategy<Value = Vec<String>> {
    let phase =
        (0..5u8, 40..20_000u32, 1..60u32, 1..60u32).prop_map(|(kind, seconds, a, b)| match kind {
            0 => format!("{{constant: {a}/m, for: {seconds}s}}"),
            1 => format!("{{constant: {a}/h, for: {seconds}s}}"),
            2 => format!("{{ramp: {{from: {a}/m, to: {b}/m}}, for: {seconds}s}}"),
            3 => format!("{{pause: {seconds}s}}"),
            _ => format!("{{concurrency: {a}, for: {seconds}s}}"),
        });
    proptest::collection::vec(phase, 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The expected values are the arrivals of the pacer, on days when the clocks change.
    #[test]
    fn buckets_agree_with_the_pacer_walking_the_timetable(
        start in starts(),
        phases in long_phases(),
        shards in 1..4u32,
        summer in any::<bool>(),
        minutes in 0..2000u64,
    ) {
        let text = format!(
            "target: http://localhost:1/v1\n{start}schedule: [{{constant: 7/h, for: 40s}}, {}]",
            phases.join(", ")
        );
        let mut plan = plan(&text);
        plan.shard = Shard::new(shards - 1, shards).unwrap();
        // Days around 30 March and 26 October 2025, when the clocks change in Europe.
        let change = if summer { 1_743_228_000 } else { 1_761_372_000 };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(change + minutes * 60 + 11);
        let forecast = Forecast::new(&plan, now, 0);
        let one = &forecast.scenarios[0];
        let due = due(&plan, now, forecast.span);
        prop_assert_eq!(one.amounts.requests, f64::from(u32::try_from(due.len()).unwrap()), "{}", text);
        for (index, bucket) in (0..).zip(&one.buckets) {
            let (from, to) = (forecast.span * index / BUCKETS, forecast.span * (index + 1) / BUCKETS);
            let walked = due.iter().filter(|due| **due > from && **due <= to).count();
            let walked = f64::from(u32::try_from(walked).unwrap());
            prop_assert!((bucket.requests - walked).abs() <= 1.0, "{walked} {bucket:?}\n{text}");
        }
    }
}

#[test]
fn cycles_of_a_millisecond_are_not_walked_one_by_one() {
    for start in
        ["start: wall_clock", "start: {wall_clock: {timezone: Europe/Berlin}}", "start: now"]
    {
        let active = "active: {hours: '08:00-20:00', timezone: Europe/Berlin}";
        let (_, one) = forecast_of_keys(&format!(
            "{start}\n{active}\nschedule: [{{constant: 1/s, for: 1ms}}]"
        ));
        assert_eq!(one.active_time, Duration::from_hours(12), "{start}");
        assert!((one.amounts.requests - 43_200.0).abs() <= 2.0, "{start} {}", one.amounts.requests);
    }
}

#[test]
fn firings_while_the_schedule_runs_are_skipped_and_reported() {
    let (forecast, one) =
        forecast_of_keys("start: {cron: '0 */2 * * *'}\nschedule: [{constant: 1/m, for: 3h}]");
    // The schedule runs at 2, 6, 10, 14, 18 and 22 o'clock. The forecast ends in the last run.
    assert_eq!(
        (forecast.span, one.firings_skipped, one.active_time),
        (DAY, 5, Duration::from_hours(17))
    );
    assert_eq!(one.amounts.requests, 17.0 * 60.0);
    let firings: Vec<String> = one.next_firings.iter().map(|at| rfc3339(*at)).collect();
    assert_eq!(firings, ["1970-01-01T02:00:00Z", "1970-01-01T04:00:00Z", "1970-01-01T06:00:00Z"]);
}

/// The trace has rows at 0 s and at 0.5 s, three rows at 10 s, and one row at its end.
#[test]
fn a_replay_is_forecast_from_its_rows() {
    let mut plan = plan(
        "target: http://localhost:1/v1
prompts: {made: {synthetic: {input_tokens: 100, output_tokens: 10}}}
start: now
repeat: 2
schedule: [{constant: 1/h, for: 1h}]",
    );
    let lengths =
        |input| Lengths { input: NonZeroU32::new(input), output: NonZeroU32::new(7), row: None };
    let row = |(millis, input)| TraceRow::new(Duration::from_millis(millis), lengths(input));
    let rows = [(0, 1000), (500, 0), (10_000, 1), (10_000, 1), (10_000, 1), (20_000, 1)].map(row);
    let load = Load::Replay(Trace::new("t.csv", rows.to_vec()));
    let phase = |name: &str, load, seconds| Phase {
        name: name.into(),
        load,
        length: Duration::from_secs(seconds),
    };
    plan.scenarios[0].schedule =
        Arc::new(Schedule::new(vec![phase("trace", load, 20), phase("rest", Load::Pause, 76)]));
    let forecast = forecast_of(&plan);
    let one = &forecast.scenarios[0];
    assert_eq!((one.amounts.requests, one.peak_rate), (12.0, 3.0));
    assert_eq!(one.amounts.input_tokens_estimated, 2.0 * (1000.0 + 100.0 + 4.0));
    assert_eq!(one.amounts.output_tokens_at_most, 2.0 * 6.0 * 7.0);
    assert_eq!((one.phases[0].rate_min, one.phases[0].requests), (0.0, 6.0));
    let sent: Vec<f64> = one.buckets.iter().map(|bucket| bucket.requests).collect();
    // A bucket has two seconds, and includes the arrivals at its end. The second pass begins at 96
    // s, the end of bucket 47.
    assert_eq!((sent[0], sent[4], sent[9]), (2.0, 3.0, 1.0));
    assert_eq!((sent[47], sent[48], sent.iter().sum()), (1.0, 1.0, 12.0));
    plan.shard = Shard::new(1, 2).unwrap();
    let half = forecast_of(&plan);
    assert_eq!((half.scenarios[0].amounts.requests, half.scenarios[0].peak_rate), (6.0, 1.5));
}

#[test]
fn the_forecast_of_a_shard_contains_its_part_of_the_load() {
    let mut plan = plan(
        "target: http://localhost:1/v1
start: wall_clock
schedule: [{constant: 6/s, for: 30m}, {concurrency: 7, for: 30m}]",
    );
    plan.shard = Shard::new(0, 3).unwrap();
    let forecast = forecast_of(&plan);
    let one = &forecast.scenarios[0];
    assert_eq!((forecast.shard.as_str(), one.peak_rate, one.closed_loop_slots), ("0/3", 2.0, 3));
    assert_eq!((one.amounts.requests, one.phases[0].requests), (86_400.0, 3600.0));
}

#[test]
fn several_targets_multiply_requests_and_cost() {
    let forecast = forecast_of(&plan(
        "targets:
  a: {base_url: 'http://localhost:1/v1', prices: {input_per_million: 0, output_per_million: 500000}}
  b: {base_url: 'http://localhost:2/v1', prices: {input_per_million: 0, output_per_million: 1000000}, timeouts: {total: 60s}}
scenarios:
  s: {targets: [a, b], schedule: [{constant: 1/h, for: 1h}], repeat: 1, request: {max_tokens: 2}}",
    ));
    let one = &forecast.scenarios[0];
    assert_eq!((one.amounts.requests, one.other_targets.len()), (1.0, 1));
    let amount = |cost: &Option<Cost>| cost.as_ref().unwrap().amount;
    assert_eq!((amount(&one.cost_at_most), amount(&one.other_targets[0].cost_at_most)), (1.0, 2.0));
    assert_eq!((forecast.sum.amounts.requests, forecast.sum.cost_at_most["USD"]), (2.0, 3.0));
    assert_eq!(forecast.sum.in_flight_at_most, 2);
}

#[test]
fn a_scenario_with_after_begins_in_the_forecast_at_the_end_of_the_other() {
    let once = |schedule: &str, more: &str| {
        format!("{{max_concurrency: 10, repeat: 1, schedule: [{schedule}]{more}}}")
    };
    let plan = plan(&format!(
        "targets: {{a: {{base_url: 'http://localhost:1/v1'}}}}\nscenarios:\n  \
         last: {}\n  first: {}\n  middle: {}\n  endless: {{rate: 1/s, after: last}}\n  \
         other: {}",
        once("{constant: 1/s, for: 1h}", ", after: middle"),
        once("{constant: 2/s, for: 1h}", ""),
        once("{concurrency: 7, requests: 10}, {pause: 2h}", ", after: first"),
        once("{concurrency: 3, for: 1m}", ""),
    ));
    let forecast = forecast_of(&plan);
    let begins: Vec<_> = forecast
        .scenarios
        .iter()
        .map(|one| one.buckets.iter().find(|bucket| bucket.rate_max > 0.0))
        .map(|bucket| bucket.map(|bucket| bucket.start_seconds / 3600.0))
        .collect();
    assert_eq!(begins, [Some(3.0), Some(0.0), None, Some(4.0), None]);
    assert_eq!(forecast.scenarios[0].amounts.requests, 3600.0);
    assert_eq!(forecast.sum.in_flight_at_most, 256 + 3, "the others never run together");
}
