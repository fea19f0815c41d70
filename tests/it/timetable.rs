//! Schedules over hours and days: cron, active windows, the wall clock and shards.
//!
//! Each test runs a complete driver against an endpoint in memory, on a paused clock, so hours pass
//! in an instant.

use std::collections::BTreeSet;
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use llmload::calendar::{Anchor, Cron, Windows, Zone};
use llmload::config;
use llmload::plan::Start;
use llmload::schedule::{ArrivalSpec, Arrivals, Load, Phase, Repeat, Shard};
use llmload::schedule_state::RateOverride;
use llmload::timetable::Cycles;

use crate::open_loop::{Bench, ONCE, constant, phase};
use crate::upstream::InMemory;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn utc(text: &str) -> SystemTime {
    text.parse::<jiff::Timestamp>().unwrap().into()
}

/// Returns the times of the requests in full seconds after `from`.
fn sent_since(bench: &Bench, from: SystemTime) -> Vec<u64> {
    let offset = bench.clock_start.wall.duration_since(from).unwrap();
    bench.sent().iter().map(|at| (*at + offset).as_secs()).collect()
}

/// Returns the day and the time (UTC) of each request of a driver that sends one request at each
/// cron firing.
async fn sent_by_cron(cron: &str, zone: &str, from: &str, length: Duration) -> Vec<String> {
    let mut bench = Bench::new(InMemory::responding_after(Duration::from_millis(1)), 10);
    bench.clock_start.wall = utc(from);
    let cron = Cron::new(cron, Zone::by_name(zone).unwrap()).unwrap();
    let once = phase(Load::Constant("1/s".parse().unwrap()), seconds(1));
    let mut driver =
        bench.driver_with_cycles(vec![once], Cycles::Cron(cron, ONCE), ArrivalSpec::default());
    tokio::select! {
        () = bench.drive(&mut driver) => unreachable!("a cron never ends"),
        () = tokio::time::sleep(length) => {}
    }
    let sent = bench.sent();
    let at = |at: &Duration| jiff::Timestamp::try_from(bench.clock_start.wall + *at).unwrap();
    sent.iter().map(|sent| at(sent).strftime("%d %H:%M").to_string()).collect()
}

/// In Berlin, the clock skips 02:30 on 28 March 2027 and shows 02:30 twice on 25 October 2026.
#[tokio::test(start_paused = true)]
async fn cron_follows_local_time_across_clock_changes() {
    let nightly = "30 2 * * *";
    let four_days = seconds(4 * 86_400);
    let spring = sent_by_cron(nightly, "Europe/Berlin", "2027-03-26T12:00:00Z", four_days).await;
    assert_eq!(spring, ["27 01:30", "28 01:00", "29 00:30", "30 00:30"]);
    let autumn = sent_by_cron(nightly, "Europe/Berlin", "2026-10-23T12:00:00Z", four_days).await;
    assert_eq!(autumn, ["24 00:30", "25 00:30", "26 01:30", "27 01:30"]);
    let no_change = sent_by_cron(nightly, "Asia/Shanghai", "2026-10-23T12:00:00Z", four_days).await;
    assert_eq!(no_change, ["23 18:30", "24 18:30", "25 18:30", "26 18:30"]);
}

#[tokio::test(start_paused = true)]
async fn a_cron_firing_during_running_cycles_is_skipped_and_counted() {
    let mut bench = Bench::new(InMemory::responding_after(Duration::from_millis(1)), 10);
    bench.clock_start.wall = utc("2026-06-01T00:00:30Z");
    let cron = Cron::new("* * * * *", Zone::UTC).unwrap();
    // The firing at 00:01 starts two cycles of 50 s. They still run at the firing at 00:02, and
    // have ended at the firing at 00:03.
    let twice = Repeat::Times(NonZeroU32::new(2).unwrap());
    let (mut driver, schedule_state) = bench.driver_with_state(
        vec![constant("1/s", 50)],
        Cycles::Cron(cron, twice),
        ArrivalSpec::default(),
        None,
    );
    tokio::select! {
        () = bench.drive(&mut driver) => unreachable!("a cron never ends"),
        () = tokio::time::sleep(seconds(240)) => {}
    }
    assert_eq!(schedule_state.skipped_firings(), 1);
    let sent = sent_since(&bench, utc("2026-06-01T00:00:00Z"));
    assert_eq!(sent, (60..160).chain(180..270).collect::<Vec<_>>());
}

/// The first firing starts a cycle of ten seconds. A manual override follows for five minutes.
/// Firings during the override skip nothing, because no cycle is running.
#[tokio::test(start_paused = true)]
async fn a_cron_firing_during_a_manual_override_is_not_counted_as_skipped() {
    let mut bench = Bench::new(InMemory::responding_after(Duration::from_millis(1)), 10);
    bench.clock_start.wall = utc("2026-06-01T00:00:30Z");
    let cron = Cron::new("* * * * *", Zone::UTC).unwrap();
    let (mut driver, schedule_state) = bench.driver_with_state(
        vec![constant("1/s", 10)],
        Cycles::Cron(cron, ONCE),
        ArrivalSpec::default(),
        None,
    );
    let mailbox = driver.mailbox();
    let commands = async {
        tokio::time::sleep(seconds(60)).await;
        mailbox.set_rate(RateOverride::Set { rate: "6/m".parse().unwrap(), length: seconds(300) });
        tokio::time::sleep(seconds(360)).await;
        bench.stop.cancel();
    };
    tokio::join!(bench.drive(&mut driver), commands);
    assert_eq!(schedule_state.skipped_firings(), 0);
    let sent = sent_since(&bench, utc("2026-06-01T00:00:00Z"));
    let override_sent = (95..390).step_by(10);
    assert_eq!(sent, (60..70).chain(override_sent).chain(420..430).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_closed_window_stops_the_load_but_not_the_schedule_clock() {
    let mut bench = Bench::new(InMemory::responding_after(Duration::from_millis(1)), 10);
    bench.clock_start.wall = utc("2026-06-01T07:59:00Z");
    let text = "target: http://a/v1\nrate: 1/s\nactive: [{days: mon, hours: '08:00-08:01'}, \
                {days: mon, hours: '08:02-08:03'}]\n";
    let windows: Option<Windows> =
        config::parse(text, "x", None, &|_| None).unwrap().scenarios[0].active.clone();
    // The cycle begins when the first window opens. The second window opens two minutes later.
    let phases = vec![constant("1/s", 150), phase(Load::Pause, seconds(300))];
    let cycles = Cycles::BackToBack { repeat: Repeat::Forever, when_ready: false };
    let (mut driver, _) = bench.driver_with_state(phases, cycles, ArrivalSpec::default(), windows);
    tokio::select! {
        () = bench.drive(&mut driver) => unreachable!("the schedule never ends"),
        () = tokio::time::sleep(seconds(600)) => {}
    }
    let sent = sent_since(&bench, utc("2026-06-01T07:59:00Z"));
    assert_eq!(sent, (60..120).chain(180..210).collect::<Vec<_>>());
}

fn ramp() -> Vec<Phase> {
    let (from, to) = ("0/s".parse().unwrap(), "20/s".parse().unwrap());
    vec![phase(Load::Ramp { from, to }, seconds(60)), phase(Load::Pause, seconds(7))]
}

/// Returns the Unix time in milliseconds of each request, for a driver that runs from `from` for
/// `length`.
async fn sent_during(arrivals: &ArrivalSpec, from: SystemTime, length: Duration) -> Vec<u128> {
    let mut bench = Bench::new(InMemory::responding_after(Duration::from_millis(1)), 1000);
    bench.clock_start.wall = from;
    let mut driver =
        bench.driver_with_cycles(ramp(), Cycles::WallClock(Anchor::Epoch), arrivals.clone());
    tokio::select! {
        () = bench.drive(&mut driver) => unreachable!("a wall clock schedule never ends"),
        () = tokio::time::sleep(length) => {}
    }
    let from = from.duration_since(UNIX_EPOCH).unwrap();
    bench.sent().iter().map(|at| (*at + from).as_millis()).collect()
}

/// Daemons that run one after the other send the arrivals of one daemon that runs all the time.
#[tokio::test(start_paused = true)]
async fn a_wall_clock_schedule_continues_after_a_restart() {
    for arrivals in [Arrivals::Constant, Arrivals::Poisson] {
        let spec =
            ArrivalSpec { arrivals, seed: 3, scenario: "s".into(), ..ArrivalSpec::default() };
        let start = UNIX_EPOCH + seconds(1_790_000_000);
        let uninterrupted = sent_during(&spec, start, seconds(200)).await;
        let mut restarted = Vec::new();
        let mut at = 0;
        for length in [13, 40, 1, 67, 30, 49] {
            restarted.extend(sent_during(&spec, start + seconds(at), seconds(length)).await);
            at += length;
        }
        assert!(uninterrupted.len() > 1500, "{}", uninterrupted.len());
        assert_eq!(restarted.len(), uninterrupted.len());
        let pairs = restarted.iter().zip(&uninterrupted);
        let difference = pairs.map(|(one, other)| one.abs_diff(*other)).max();
        // Tokio's timers round up to milliseconds, so the times can differ by 1 ms.
        assert!(difference <= Some(1), "{difference:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn all_shards_together_send_the_schedule_once() {
    for arrivals in [Arrivals::Constant, Arrivals::Burstiness(0.5)] {
        let spec = |shard| ArrivalSpec { arrivals, seed: 3, scenario: "s".into(), shard };
        let start = UNIX_EPOCH + seconds(1_790_000_000);
        let unsharded = sent_during(&spec(Shard::ALL), start, seconds(150)).await;
        let mut sharded = Vec::new();
        for index in 0..3 {
            sharded.extend(
                sent_during(&spec(Shard::new(index, 3).unwrap()), start, seconds(150)).await,
            );
        }
        sharded.sort_unstable();
        assert!(unsharded.len() > 1000);
        assert_eq!(sharded.len(), unsharded.len());
        let pairs = sharded.iter().zip(&unsharded);
        let difference = pairs.map(|(one, other)| one.abs_diff(*other)).max();
        // Tokio's timers round up to milliseconds, so the times can differ by 1 ms.
        assert!(difference <= Some(1), "{difference:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn shards_divide_the_slots_and_the_requests_of_a_closed_loop() {
    let (mut prompts, mut at_once) = (BTreeSet::new(), 0);
    for index in 0..3 {
        let endpoint = InMemory::responding_after(seconds(1));
        let bench = Bench::new(Arc::clone(&endpoint), 1000);
        let (slots, count) = (NonZeroU32::new(7).unwrap(), NonZeroU64::new(40).unwrap());
        let counted = phase(Load::Requests { slots, count }, Duration::ZERO);
        let arrivals =
            ArrivalSpec { shard: Shard::new(index, 3).unwrap(), ..ArrivalSpec::default() };
        let cycles = Cycles::BackToBack { repeat: ONCE, when_ready: true };
        bench.drive(&mut bench.driver_with_cycles(vec![counted], cycles, arrivals)).await;
        bench.settle().await;
        at_once += bench.sent().iter().filter(|at| at.is_zero()).count();
        prompts.extend(endpoint.bodies.lock().unwrap().iter().cloned());
    }
    assert_eq!(at_once, 7);
    // The first 40 built-in prompts are all different.
    assert_eq!(prompts.len(), 40, "each of the first 40 prompts is sent once");
}

#[test]
fn shards_divide_max_concurrency() {
    let text = "
targets: {t: {base_url: 'http://localhost:1/v1'}}
scenarios:
  a: {rate: 5/s, start: wall_clock, max_concurrency: 8}
  b: {schedule: [{concurrency: 4, for: 1m}], start: wall_clock, max_concurrency: 4}
";
    let plan = || config::parse(text, "x.yml", None, &|_| None).unwrap();
    let max_concurrency = |count| -> Vec<u32> {
        let divided = (0..count).map(|index| {
            config::divide(plan(), "x.yml", Shard::new(index, count).unwrap()).unwrap()
        });
        divided.map(|plan| plan.scenarios[0].max_concurrency.get()).collect()
    };
    assert_eq!(max_concurrency(1), [8]);
    assert_eq!(max_concurrency(3), [3, 3, 2]);
    assert!(matches!(plan().scenarios[0].start, Start::WallClock(_)));
    let refused =
        config::divide(plan(), "x.yml", Shard::new(0, 5).unwrap()).unwrap_err().to_string();
    assert_eq!(
        refused,
        "x.yml: scenarios.b.schedule: the concurrency of phase `concurrency 4` is too low for 5 shards; write at least 5\n\
         x.yml: scenarios.b.max_concurrency: 4 is too low for 5 shards; write at least 5"
    );
    let text = "target: http://localhost:1/v1\nrate: 5/s\n";
    let plan = config::parse(text, "x.yml", None, &|_| None).unwrap();
    let refused = config::divide(plan, "x.yml", Shard::new(0, 2).unwrap()).unwrap_err().to_string();
    assert_eq!(
        refused,
        "x.yml: scenarios.default.start: the shards would not begin at the same time; write `start: wall_clock` or a \
         cron expression"
    );
}
