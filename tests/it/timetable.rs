//! Cycles by the wall clock, by cron and in shards, through the whole loop on a paused clock.

use std::collections::BTreeSet;
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use llmload::calendar::{Anchor, Cron, Windows, Zone};
use llmload::config;
use llmload::plan::Start;
use llmload::schedule::{Arrivals, Load, Phase, Repeat, Shard, Spread};
use llmload::timetable::Cycles;

use crate::open_loop::{Bench, ONCE, constant, phase};
use crate::upstream::InMemory;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn utc(text: &str) -> SystemTime {
    text.parse::<jiff::Timestamp>().unwrap().into()
}

/// When requests were sent, by the wall clock, in whole seconds since `from`.
fn sent_since(bench: &Bench, from: SystemTime) -> Vec<u64> {
    let offset = bench.epoch.wall.duration_since(from).unwrap();
    bench.sent().iter().map(|at| (*at + offset).as_secs()).collect()
}

/// One request at each firing, for as long as said; when they were sent.
async fn fires(cron: &str, zone: &str, from: &str, length: Duration) -> Vec<String> {
    let mut bench = Bench::new(InMemory::answering(Duration::from_millis(1)), 10);
    bench.epoch.wall = utc(from);
    let cron = Cron::new(cron, Zone::named(zone).unwrap()).unwrap();
    let once = phase(Load::Constant("1/s".parse().unwrap()), seconds(1));
    let mut driver = bench.driver_by(vec![once], Cycles::Cron(cron, ONCE), Spread::default());
    tokio::select! {
        () = bench.drive(&mut driver) => unreachable!("a cron goes on"),
        () = tokio::time::sleep(length) => {}
    }
    let sent = bench.sent();
    let at = |at: &Duration| jiff::Timestamp::try_from(bench.epoch.wall + *at).unwrap();
    sent.iter().map(|sent| at(sent).strftime("%d %H:%M").to_string()).collect()
}

/// Half past two does not exist on 28 March 2027 in Berlin, and exists twice on 25 October 2026.
#[tokio::test(start_paused = true)]
async fn cron_goes_with_the_local_clock_across_its_changes() {
    let nightly = "30 2 * * *";
    let four_days = seconds(4 * 86_400);
    let spring = fires(nightly, "Europe/Berlin", "2027-03-26T12:00:00Z", four_days).await;
    assert_eq!(spring, ["27 01:30", "28 01:00", "29 00:30", "30 00:30"]);
    let autumn = fires(nightly, "Europe/Berlin", "2026-10-23T12:00:00Z", four_days).await;
    assert_eq!(autumn, ["24 00:30", "25 00:30", "26 01:30", "27 01:30"]);
    let none = fires(nightly, "Asia/Shanghai", "2026-10-23T12:00:00Z", four_days).await;
    assert_eq!(none, ["23 18:30", "24 18:30", "25 18:30", "26 18:30"]);
}

#[tokio::test(start_paused = true)]
async fn a_firing_while_the_schedule_is_on_is_skipped_and_counted() {
    let mut bench = Bench::new(InMemory::answering(Duration::from_millis(1)), 10);
    bench.epoch.wall = utc("2026-06-01T00:00:30Z");
    let cron = Cron::new("* * * * *", Zone::UTC).unwrap();
    // Two passes of 50 s: the firing at 00:02 comes in between, that at 00:03 finds it idle again.
    let twice = Repeat::Times(NonZeroU32::new(2).unwrap());
    let (mut driver, schedule_state) = bench.watched(
        vec![constant("1/s", 50)],
        Cycles::Cron(cron, twice),
        Spread::default(),
        None,
    );
    tokio::select! {
        () = bench.drive(&mut driver) => unreachable!("a cron goes on"),
        () = tokio::time::sleep(seconds(240)) => {}
    }
    assert_eq!(schedule_state.skipped_firings(), 1);
    let sent = sent_since(&bench, utc("2026-06-01T00:00:00Z"));
    assert_eq!(sent, (60..160).chain(180..270).collect::<Vec<_>>());
}

/// A rate that was set by hand for five minutes: what fired meanwhile met nothing that was on.
#[tokio::test(start_paused = true)]
async fn a_firing_while_a_rate_is_set_by_hand_is_no_skipped_one() {
    let mut bench = Bench::new(InMemory::answering(Duration::from_millis(1)), 10);
    bench.epoch.wall = utc("2026-06-01T00:00:30Z");
    let cron = Cron::new("* * * * *", Zone::UTC).unwrap();
    let (mut driver, schedule_state) =
        bench.watched(vec![constant("1/s", 10)], Cycles::Cron(cron, ONCE), Spread::default(), None);
    let mailbox = driver.mailbox();
    let orders = async {
        tokio::time::sleep(seconds(60)).await;
        mailbox.set_rate(Some(("6/m".parse().unwrap(), seconds(300))));
        tokio::time::sleep(seconds(360)).await;
        bench.stop.cancel();
    };
    tokio::join!(bench.drive(&mut driver), orders);
    assert_eq!(schedule_state.skipped_firings(), 0);
    let sent = sent_since(&bench, utc("2026-06-01T00:00:00Z"));
    let by_hand = (95..390).step_by(10);
    assert_eq!(sent, (60..70).chain(by_hand).chain(420..430).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn outside_of_its_windows_nothing_is_due_and_the_schedule_goes_on() {
    let mut bench = Bench::new(InMemory::answering(Duration::from_millis(1)), 10);
    bench.epoch.wall = utc("2026-06-01T07:59:00Z");
    let text = "target: http://a/v1\nrate: 1/s\nactive: [{days: mon, hours: '08:00-08:01'}, \
                {days: mon, hours: '08:02-08:03'}]\n";
    let windows: Option<Windows> =
        config::parse(text, "x", None, &|_| None).unwrap().scenarios[0].active.clone();
    // It begins as the first window opens, and the second finds it two minutes on.
    let phases = vec![constant("1/s", 150), phase(Load::Pause, seconds(300))];
    let cycles = Cycles::Running { repeat: Repeat::Forever, when_ready: false };
    let (mut driver, _) = bench.watched(phases, cycles, Spread::default(), windows);
    tokio::select! {
        () = bench.drive(&mut driver) => unreachable!("it goes on"),
        () = tokio::time::sleep(seconds(600)) => {}
    }
    let sent = sent_since(&bench, utc("2026-06-01T07:59:00Z"));
    assert_eq!(sent, (60..120).chain(180..210).collect::<Vec<_>>());
}

fn ramp() -> Vec<Phase> {
    let (from, to) = ("0/s".parse().unwrap(), "20/s".parse().unwrap());
    vec![phase(Load::Ramp { from, to }, seconds(60)), phase(Load::Pause, seconds(7))]
}

/// What a daemon sends that lives from one instant to another.
async fn lived(spread: &Spread, from: SystemTime, length: Duration) -> Vec<u128> {
    let mut bench = Bench::new(InMemory::answering(Duration::from_millis(1)), 1000);
    bench.epoch.wall = from;
    let mut driver = bench.driver_by(ramp(), Cycles::WallClock(Anchor::Epoch), spread.clone());
    tokio::select! {
        () = bench.drive(&mut driver) => unreachable!("the wall clock goes on"),
        () = tokio::time::sleep(length) => {}
    }
    let from = from.duration_since(UNIX_EPOCH).unwrap();
    bench.sent().iter().map(|at| (*at + from).as_millis()).collect()
}

/// Whenever it is killed and begun anew, a daemon sends what one sends that was never stopped.
#[tokio::test(start_paused = true)]
async fn by_the_wall_clock_the_curve_goes_on_after_a_restart() {
    for arrivals in [Arrivals::Constant, Arrivals::Poisson] {
        let spread = Spread { arrivals, seed: 3, scenario: "s".into(), ..Spread::default() };
        let start = UNIX_EPOCH + seconds(1_790_000_000);
        let whole = lived(&spread, start, seconds(200)).await;
        let mut pieces = Vec::new();
        let mut at = 0;
        for length in [13, 40, 1, 67, 30, 49] {
            pieces.extend(lived(&spread, start + seconds(at), seconds(length)).await);
            at += length;
        }
        // Tokio's clock rounds up to whole milliseconds; which second it was is beyond doubt.
        assert!(whole.len() > 1500, "{}", whole.len());
        assert_eq!(pieces.len(), whole.len());
        let apart = pieces.iter().zip(&whole).map(|(piece, whole)| piece.abs_diff(*whole)).max();
        assert!(apart <= Some(1), "{apart:?}");
    }
}

/// Three daemons send exactly the arrivals of one, each once, and ask the same prompts.
#[tokio::test(start_paused = true)]
async fn shards_together_send_the_one_schedule() {
    for arrivals in [Arrivals::Constant, Arrivals::Burstiness(0.5)] {
        let spread = |shard| Spread { arrivals, seed: 3, scenario: "s".into(), shard };
        let start = UNIX_EPOCH + seconds(1_790_000_000);
        let whole = lived(&spread(Shard::ALL), start, seconds(150)).await;
        let mut dealt = Vec::new();
        for index in 0..3 {
            dealt.extend(lived(&spread(Shard::new(index, 3).unwrap()), start, seconds(150)).await);
        }
        dealt.sort_unstable();
        assert!(whole.len() > 1000);
        assert_eq!(dealt.len(), whole.len());
        let apart = dealt.iter().zip(&whole).map(|(dealt, whole)| dealt.abs_diff(*whole)).max();
        assert!(apart <= Some(1), "{apart:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn shards_divide_slots_and_counted_requests() {
    let (mut prompts, mut at_once) = (BTreeSet::new(), 0);
    for index in 0..3 {
        let endpoint = InMemory::answering(seconds(1));
        let bench = Bench::new(Arc::clone(&endpoint), 1000);
        let (slots, count) = (NonZeroU32::new(7).unwrap(), NonZeroU64::new(40).unwrap());
        let counted = phase(Load::Requests { slots, count }, Duration::ZERO);
        let spread = Spread { shard: Shard::new(index, 3).unwrap(), ..Spread::default() };
        let cycles = Cycles::Running { repeat: ONCE, when_ready: true };
        bench.drive(&mut bench.driver_by(vec![counted], cycles, spread)).await;
        bench.settle().await;
        at_once += bench.sent().iter().filter(|at| at.is_zero()).count();
        prompts.extend(endpoint.bodies.lock().unwrap().iter().cloned());
    }
    assert_eq!(at_once, 7);
    // The built-in source has more than 40.
    assert_eq!(prompts.len(), 40, "each of the first 40 prompts is asked, and once");
}

/// What divides the caps of a plan.
#[test]
fn a_plan_is_divided_so_that_the_sum_is_what_it_says() {
    let text = "
targets: {t: {base_url: 'http://localhost:1/v1'}}
scenarios:
  a: {rate: 5/s, start: wall_clock, max_concurrency: 8}
  b: {schedule: [{concurrency: 4, for: 1m}], start: wall_clock, max_concurrency: 4}
";
    let plan = || config::parse(text, "x.yml", None, &|_| None).unwrap();
    let caps = |count| -> Vec<u32> {
        let divided = (0..count).map(|index| {
            config::divide(plan(), "x.yml", Shard::new(index, count).unwrap()).unwrap()
        });
        divided.map(|plan| plan.scenarios[0].max_concurrency.get()).collect()
    };
    assert_eq!(caps(1), [8]);
    assert_eq!(caps(3), [3, 3, 2]);
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
