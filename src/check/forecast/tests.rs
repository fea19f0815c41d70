//! Forecasts of small plans by hand, and of any plan by a walk that nobody would wait for.

#![allow(clippy::float_cmp)]

use proptest::prelude::*;

use super::*;

fn plan(text: &str) -> Plan {
    crate::config::parse(text, "test", None, &|_| None).unwrap()
}

/// The forecast of one scenario.
fn of(keys: &str) -> (Forecast, Stream) {
    let forecast = Forecast::of(&plan(&format!("target: http://localhost:1/v1\n{keys}\n")), 0);
    let stream = forecast.scenarios[0].clone();
    (forecast, stream)
}

#[test]
fn a_day_is_cut_into_quarters_of_an_hour_that_add_up() {
    let (forecast, stream) =
        of("schedule: [{constant: 6/m, for: 6h}, {ramp: {to: 1/s}, for: 6h}, {pause: 12h}]");
    assert_eq!((forecast.span, forecast.bucket), (DAY, Duration::from_mins(15)));
    let bucket = |hour: usize| stream.buckets[hour * 4];
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
    // Half-way up the ramp: from 0.55/s, and 0.9/s higher after six hours.
    let middle = bucket(9);
    assert_eq!((middle.rate_min, middle.rate_max), (0.55, 0.5875));
    assert_eq!(middle.requests, 511.875);
    assert_eq!((bucket(12).requests, bucket(12).rate_max), (0.0, 0.0));
    assert_eq!((stream.amounts.requests, stream.peak_rate), (2160.0 + 11_880.0, 1.0));
    assert_eq!(stream.phases[1].requests, 11_880.0);
}

#[test]
fn what_ends_sooner_is_looked_at_until_it_ends() {
    let two = plan(
        "targets: {t: {base_url: 'http://localhost:1/v1'}}
scenarios:
  short: {repeat: 2, schedule: [{constant: 4/s, for: 10m}]}
  long: {repeat: 1, schedule: [{constant: 1/s, for: 40m}]}",
    );
    let forecast = Forecast::of(&two, 7);
    assert_eq!((forecast.span, forecast.series), (Duration::from_mins(40), 7));
    let [short, long] = forecast.scenarios.as_slice() else { panic!() };
    assert_eq!((short.amounts.requests, long.amounts.requests), (4800.0, 2400.0));
    // It ends in the middle, between two buckets.
    let rates = |index: usize| (short.buckets[index].rate_min, short.buckets[index].rate_max);
    assert_eq!((rates(47), rates(48)), ((4.0, 4.0), (0.0, 0.0)));
    assert_eq!((forecast.sum.peak_rate, forecast.sum.amounts.requests), (5.0, 7200.0));
    assert_eq!(forecast.sum.buckets[95].rate_mean, 1.0);
}

#[test]
fn a_bucket_of_many_cycles_has_the_extremes_of_all() {
    let (_, stream) = of("schedule: [{constant: 5/s, for: 10s}, {pause: 10s}, {concurrency: 3, for: 10s}]");
    for bucket in &stream.buckets {
        assert_eq!((bucket.rate_min, bucket.rate_max, bucket.closed_loop_slots), (0.0, 5.0, 3));
        assert_eq!((bucket.requests, bucket.rate_mean), (1500.0, 1.666_667));
    }
    assert_eq!((stream.closed_loop_slots, stream.amounts.requests), (3, 144_000.0));
}

#[test]
fn tokens_and_cost_follow_from_prompts_and_prices() {
    let text = "target: {base_url: 'http://localhost:1/v1', prices: {input_per_million: 1000000, output_per_million: 500000, currency: EUR}}
prompts: ['12345678', '1234']
request: {max_tokens: 7, system: ab}
repeat: 1
schedule: [{constant: 1/s, for: 10s}]";
    let forecast = Forecast::of(&plan(text), 0);
    let stream = &forecast.scenarios[0];
    // (8 + 4) / 2 bytes of a prompt and 2 of the system message are two tokens.
    let amounts = Amounts { requests: 10.0, input_tokens_estimated: 20.0, output_tokens_at_most: 70.0 };
    assert_eq!(stream.amounts, amounts);
    assert_eq!(stream.cost_at_most, Some(Cost { amount: 20.0 + 35.0, currency: "EUR".into() }));
    assert_eq!(forecast.sum.cost_at_most, BTreeMap::from([("EUR".to_owned(), 55.0)]));
    let extra = text.replace("max_tokens: 7", "max_tokens: 7, extra: {max_completion_tokens: 9}");
    assert_eq!(Forecast::of(&plan(&extra), 0).sum.amounts.output_tokens_at_most, 90.0, "as it is sent");
}

#[test]
fn in_flight_is_littles_law_within_the_cap() {
    let timeouts = "{base_url: 'http://localhost:1/v1', timeouts: {total: 20s}}";
    let flight = |keys: &str| {
        let plan = plan(&format!("target: {timeouts}\n{keys}"));
        Forecast::of(&plan, 0).scenarios[0].in_flight
    };
    let low = flight("rate: 3/s");
    assert_eq!((low.at_most, low.by_littles_law, low.seconds_to_fill), (60, 60.0, Some(256.0 / 3.0)));
    let high = flight("rate: 30/s");
    assert_eq!((high.at_most, high.by_littles_law), (256, 600.0));
    let closed = flight("concurrency: 9");
    assert_eq!((closed.at_most, closed.seconds_to_fill), (9, None));
    let both = flight("schedule: [{constant: 1/s, for: 1m}, {concurrency: 9, for: 1m}]");
    assert_eq!(both.at_most, 29, "requests of the phase before are in flight still");
}

/// Milliseconds and rates that meet in one cycle, so that buckets cut them everywhere.
fn phases() -> impl Strategy<Value = Vec<String>> {
    let phase = (0..4u8, 1..5_000_000u64, 1..100u32, 1..100u32).prop_map(|(kind, millis, a, b)| match kind {
        0 => format!("{{constant: {a}/s, for: {millis}ms}}"),
        1 => format!("{{ramp: {{from: {a}/s, to: {b}/s}}, for: {millis}ms}}"),
        2 => format!(
            "{{sine: {{mean: {}/s, amplitude: {a}/s, period: {}ms}}, for: {millis}ms}}",
            a + b,
            millis / 3 + 1
        ),
        _ => format!("{{pause: {millis}ms}}"),
    });
    proptest::collection::vec(phase, 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Cycle by cycle and moment by moment, as nobody would compute it.
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
        let forecast = Forecast::of(&plan, 0);
        let stream = &forecast.scenarios[0];

        let (mut walked, mut start, mut cycle) = (0.0, Duration::ZERO, 0);
        while start < forecast.span && scenario.repeat.includes(cycle) {
            walked += schedule.area(length.min(forecast.span.saturating_sub(start))).as_f64();
            (start, cycle) = (start + length, cycle + 1);
        }
        let near = |a: f64, b: f64| (a - b).abs() <= 1e-6 * b.abs() + 1e-3;
        prop_assert!(near(stream.amounts.requests, walked), "{} {walked}", stream.amounts.requests);
        let added: f64 = stream.buckets.iter().map(|bucket| bucket.requests).sum();
        prop_assert!(near(added, walked), "{added} {walked}");

        for (index, bucket) in (0..).zip(&stream.buckets) {
            let (from, to) = (forecast.span * index / BUCKETS, forecast.span * (index + 1) / BUCKETS);
            let moments = (0..50).map(|part| from + to.saturating_sub(from) * part / 50);
            for moment in moments.filter(|moment| *moment < end(scenario)) {
                let rate = schedule.rate(Duration::from_nanos_u128(moment.as_nanos() % length.as_nanos()));
                let inside = bucket.rate_min - 1e-5 <= rate && rate <= bucket.rate_max + 1e-5;
                prop_assert!(inside, "{rate} at {moment:?} is not in {bucket:?}");
            }
            prop_assert!(bucket.rate_min <= bucket.rate_mean + 1e-3, "{bucket:?}");
            prop_assert!(bucket.rate_mean <= bucket.rate_max + 1e-3, "{bucket:?}");
        }
        let highest = stream.phases.iter().map(|phase| phase.rate_max).fold(0.0, f64::max);
        prop_assert!(stream.peak_rate <= highest);
        if forecast.span >= length {
            prop_assert_eq!(stream.peak_rate, highest);
        }
    }
}
