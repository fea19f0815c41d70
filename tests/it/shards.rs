//! A simulation of a hundred shards: they keep one schedule, and the error of their clocks moves
//! arrivals by no more than itself.

use std::sync::Arc;
use std::time::Duration;

use llmload::pacer::{Next, Pacer, Segment};
use llmload::schedule::{ArrivalSpec, Arrivals, Load, Phase, Rate, Schedule, Shard};
use tokio::time::Instant;

const SHARDS: u32 = 100;

fn rate(text: &str) -> Rate {
    text.parse().unwrap()
}

/// A ramp, a pause and a plateau, with 78,950 arrivals.
fn schedule() -> Arc<Schedule> {
    let phases = [
        (Load::Ramp { from: rate("100/s"), to: rate("4000/s") }, 19),
        (Load::Pause, 2),
        (Load::Constant(rate("4000/s")), 10),
    ];
    let phase = |(load, seconds): (Load, u64)| Phase {
        name: load.to_string(),
        load,
        length: Duration::from_secs(seconds),
    };
    Arc::new(Schedule::new(phases.map(phase).to_vec()))
}

/// The time after the start and the number of each arrival of a shard.
fn arrivals(
    arrivals: Arrivals,
    shard: Shard,
    after: Option<Duration>,
    until: Duration,
) -> Vec<(Duration, u64)> {
    let (schedule, start) = (schedule(), Instant::now());
    let spec = ArrivalSpec { arrivals, seed: 9, scenario: "s".into(), shard };
    let segment =
        Segment { cycle: 0, cycle_start: start, after_offset: after, until_offset: until };
    let mut pacer = Pacer::new(schedule, &spec, segment);
    let mut found = Vec::new();
    while let Next::Due { due, k, .. } = pacer.poll(start + Duration::from_mins(1)) {
        found.push((due - start, k));
    }
    found
}

fn shard(index: u32) -> Shard {
    Shard::new(index, SHARDS).unwrap()
}

#[test]
fn a_hundred_shards_send_each_arrival_of_the_schedule_once_at_its_time() {
    // Each shard draws the random gaps of all shards, so the test draws fewer of them.
    for (kind, until) in [(Arrivals::Constant, 31), (Arrivals::Poisson, 8)] {
        let until = Duration::from_secs(until);
        let one_machine = arrivals(kind, Shard::ALL, None, until);
        let parts: Vec<_> =
            (0..SHARDS).map(|index| arrivals(kind, shard(index), None, until)).collect();
        let sizes = || parts.iter().map(Vec::len);
        assert!(sizes().max().unwrap() - sizes().min().unwrap() <= 1);
        let mut together = parts.concat();
        together.sort_unstable_by_key(|arrival| arrival.1);
        assert_eq!(together, one_machine);
        if kind == Arrivals::Constant {
            assert_eq!(together.len(), 19 * 2050 + 40_000);
        }
    }
}

#[test]
fn a_shard_that_restarts_lacks_only_its_arrivals_of_the_time_between() {
    let (killed, back) = (Duration::from_millis(17_003), Duration::from_millis(24_999));
    let end = schedule().length();
    for kind in [Arrivals::Constant, Arrivals::Poisson] {
        for index in [0, 17, 99] {
            let undisturbed = arrivals(kind, shard(index), None, end);
            let mut sent = arrivals(kind, shard(index), None, killed);
            sent.extend(arrivals(kind, shard(index), Some(back), end));
            let expected: Vec<_> =
                undisturbed.into_iter().filter(|(at, _)| *at <= killed || *at > back).collect();
            assert_eq!(sent, expected);
        }
    }
}

/// Each clock is wrong by up to `error`. So an arrival moves by up to `error`, and the number of
/// arrivals in any span differs only by those near its two ends.
#[test]
fn an_error_of_the_clocks_moves_each_arrival_by_no_more_than_itself() {
    let end = schedule().length();
    let exact = arrivals(Arrivals::Constant, Shard::ALL, None, end);
    let error = Duration::from_millis(10);
    // From 0 to twice the error, which stands for −error to +error.
    let skew = |index: u32| Duration::from_micros(u64::from(index) * 7919 % 20_001);
    let mut sent: Vec<(Duration, u64)> = (0..SHARDS)
        .flat_map(|index| {
            let of_shard = arrivals(Arrivals::Constant, shard(index), None, end);
            of_shard.into_iter().map(move |(at, k)| (at + skew(index), k))
        })
        .collect();
    sent.sort_unstable();
    assert_eq!(sent.len(), exact.len());
    let count = |all: &[(Duration, u64)], from: Duration, to: Duration| {
        all.partition_point(|(at, _)| *at < to)
            .saturating_sub(all.partition_point(|(at, _)| *at < from))
    };
    let mut is_different = false;
    for start in (0..30_000).step_by(37).map(Duration::from_millis) {
        for length in [15, 100, 1000].map(Duration::from_millis) {
            // The skew is later by `error` than the real one, so the span is too.
            let (from, to) = (start + error, start + length + error);
            let found = count(&sent, from, to);
            let most = count(&exact, from.saturating_sub(2 * error), to);
            let least = count(&exact, from, to.saturating_sub(2 * error).max(from));
            assert!(
                (least..=most).contains(&found),
                "{start:?} {length:?}: {least} {found} {most}"
            );
            is_different |= found != count(&exact, start, start + length);
        }
    }
    assert!(is_different, "the error has an effect");
}
