//! Tests of steps of the wall clock: somebody sets the clock, or the machine was suspended. Each
//! test runs a driver on a paused clock, and sets its wall clock.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use llmload::calendar::{Anchor, Cron, Windows, Zone};
use llmload::config;
use llmload::launch::{Alarm, Driver, TestWallClock};
use llmload::ledger::LedgerCounts;
use llmload::schedule::{ArrivalSpec, Arrivals, Load, Phase, Repeat};
use llmload::schedule_state::{Activity, RateOverride, ScheduleState};
use llmload::timetable::Cycles;

use crate::open_loop::{Bench, ONCE, constant, phase};
use crate::upstream::InMemory;

const MINUTE: i64 = 60;
const HOUR: i64 = 3600;
const DAY: i64 = 86_400;

/// The driver notices a step within this number of seconds.
const NOTICED: f64 = 5.0;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn moved(time: SystemTime, by: i64) -> SystemTime {
    let size = seconds(by.unsigned_abs());
    if by < 0 { time - size } else { time + size }
}

/// The second of a step, and its size in seconds.
type Step = (u64, i64);

/// A scenario whose wall clock the test sets.
struct SteppedScenario {
    bench: Bench,
    driver: Driver,
    schedule_state: Arc<ScheduleState>,
    wall_clock: TestWallClock,
    start: SystemTime,
}

impl SteppedScenario {
    fn new(
        phases: Vec<Phase>,
        cycles: Cycles,
        active: Option<Windows>,
        from: &str,
    ) -> SteppedScenario {
        SteppedScenario::with_arrivals(phases, cycles, active, from, ArrivalSpec::default())
    }

    fn with_arrivals(
        phases: Vec<Phase>,
        cycles: Cycles,
        active: Option<Windows>,
        from: &str,
        arrivals: ArrivalSpec,
    ) -> SteppedScenario {
        let mut bench = Bench::new(InMemory::responding_after(Duration::from_millis(1)), 1000);
        let start = from.parse::<jiff::Timestamp>().unwrap().into();
        bench.clock_start.wall = start;
        let wall_clock = TestWallClock::new(bench.clock_start);
        let (driver, schedule_state) = bench.driver_with_state(phases, cycles, arrivals, active);
        SteppedScenario { bench, driver, schedule_state, wall_clock, start }
    }

    async fn run(&mut self, steps: &[Step], length: u64) -> LedgerCounts {
        let begin = self.bench.schedule_start;
        let mut alarm = Alarm::on_test_clock(self.wall_clock.clone());
        let wall_clock = &self.wall_clock;
        let stop = &self.bench.stop;
        let set_clock = async {
            for (at, size) in steps {
                tokio::time::sleep_until(begin + seconds(*at)).await;
                wall_clock.set(moved(wall_clock.now().wall, *size));
            }
            tokio::time::sleep_until(begin + seconds(length)).await;
            stop.cancel();
        };
        tokio::join!(self.driver.run(&self.bench.route, &mut alarm, stop), set_clock);
        self.bench.settle().await
    }

    /// The instants of the requests, in seconds after the start.
    fn sent(&self) -> Vec<f64> {
        self.bench.sent().iter().map(Duration::as_secs_f64).collect()
    }

    /// The same instants, rounded down.
    fn sent_seconds(&self) -> Vec<u64> {
        self.bench.sent().iter().map(Duration::as_secs).collect()
    }

    /// Checks that the driver sent one request in each second with an active wall time, and no
    /// other requests. Skips the seconds in which the driver has not noticed a step.
    fn assert_sent_while(
        &self,
        steps: &[Step],
        length: u64,
        is_active: impl Fn(SystemTime) -> bool,
    ) {
        let wall_at = |second: f64| {
            let passed = steps.iter().filter(|step| step.0 as f64 <= second);
            let offset = passed.map(|step| step.1).sum();
            moved(self.start + Duration::from_secs_f64(second), offset)
        };
        let is_checked = |second: &f64| {
            !steps.iter().any(|step| (0.0..NOTICED + 0.01).contains(&(second - step.0 as f64)))
        };
        let expected: Vec<f64> = (0..length)
            .map(|second| second as f64 + 0.5)
            .filter(|second| is_active(wall_at(*second)))
            .filter(is_checked)
            .collect();
        let sent: Vec<f64> = self.sent().into_iter().filter(is_checked).collect();
        assert!(expected.len() > 60, "the test is not empty");
        assert_eq!(sent.len(), expected.len(), "{sent:?} {expected:?}");
        for (sent, expected) in sent.iter().zip(&expected) {
            assert!((sent - expected).abs() < 0.01, "{sent} {expected}");
        }
        assert!(self.sent().is_sorted_by(|one, other| one < other), "no arrival is sent twice");
    }
}

fn cron(text: &str) -> Cycles {
    Cycles::Cron(Cron::new(text, Zone::UTC).unwrap(), ONCE)
}

fn seconds_of_day(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() % 86_400
}

/// 1/s in even minutes, and 0 in odd minutes.
#[tokio::test(start_paused = true)]
async fn a_wall_clock_schedule_follows_the_new_time_after_every_step() {
    let phases = vec![constant("1/s", 60), phase(Load::Pause, seconds(60))];
    let steps =
        [(30, HOUR + MINUTE), (200, -MINUTE), (300, -3 * HOUR), (400, -400 * DAY), (500, 7)];
    let mut stepped = SteppedScenario::new(
        phases,
        Cycles::WallClock(Anchor::Epoch),
        None,
        "2026-06-01T12:00:00Z",
    );
    let counts = stepped.run(&steps, 700).await;
    assert_eq!(counts.succeeded, counts.arrivals, "no arrival is late");
    stepped.assert_sent_while(&steps, 700, |time| (seconds_of_day(time) / 60).is_multiple_of(2));
}

#[tokio::test(start_paused = true)]
async fn an_active_window_ends_and_begins_at_the_new_time() {
    let text = "target: http://a/v1\nrate: 1/s\nactive: [{hours: '08:00-20:00'}]\n";
    let windows = config::parse(text, "x", None, &|_| None).unwrap().scenarios[0].active.clone();
    let cycles = Cycles::BackToBack { repeat: Repeat::Forever, when_ready: false };
    let steps = [
        (100, 2 * HOUR),
        (1000, -2 * HOUR),
        (1100, -365 * DAY),
        (1200, -12 * HOUR),
        (1300, DAY / 2),
    ];
    let phases = vec![constant("1/s", 86_400)];
    let mut stepped = SteppedScenario::new(phases, cycles, windows, "2026-06-01T19:00:00Z");
    let counts = stepped.run(&steps, 1400).await;
    assert_eq!(counts.succeeded, counts.arrivals, "no arrival is late");
    stepped.assert_sent_while(&steps, 1400, |time| {
        (8 * 3600..20 * 3600).contains(&seconds_of_day(time))
    });
}

#[tokio::test(start_paused = true)]
async fn a_step_moves_no_due_time_of_a_schedule_that_does_not_follow_the_wall_clock() {
    let cycles = Cycles::BackToBack { repeat: ONCE, when_ready: false };
    let mut stepped =
        SteppedScenario::new(vec![constant("1/s", 300)], cycles, None, "2026-06-01T12:00:00Z");
    let steps = [(50, HOUR), (100, -DAY), (101, 5), (200, 300 * DAY)];
    assert_eq!(stepped.run(&steps, 400).await.succeeded, 300);
    for (k, sent) in stepped.sent().iter().enumerate() {
        assert!((sent - k as f64 - 0.5).abs() < 0.01, "{k}: {sent}");
    }
}

fn one_request() -> Vec<Phase> {
    vec![constant("1/s", 1)]
}

/// A `*` also matches a minute that the clock shows a second time.
#[tokio::test(start_paused = true)]
async fn a_cron_with_a_wildcard_follows_a_clock_that_was_set_back() {
    let mut stepped =
        SteppedScenario::new(one_request(), cron("* * * * *"), None, "2026-06-01T12:00:00Z");
    stepped.run(&[(90, -HOUR), (150, -30 * DAY)], 400).await;
    assert_eq!(stepped.sent_seconds(), [60, 120, 180, 240, 300, 360]);
    assert_eq!(stepped.schedule_state.skipped_firings(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_fixed_firing_takes_place_once_if_the_clock_is_set_back_by_less_than_three_hours() {
    let day = 86_400;
    let sent = async |from: &str, steps: &[Step], length| {
        let mut stepped = SteppedScenario::new(one_request(), cron("30 2 * * *"), None, from);
        stepped.run(steps, length).await;
        stepped.sent_seconds()
    };
    // From 02:31 back to 02:01.
    let half_an_hour = [(120, -30 * MINUTE)];
    assert_eq!(sent("2026-06-02T02:29:00Z", &half_an_hour, 2 * day).await, [60, 60 + day + 1800]);
    // From 02:31 back to 22:31.
    let four_hours = [(120, -4 * HOUR)];
    let next = 120 + 4 * 3600 - 60;
    assert_eq!(sent("2026-06-02T02:29:00Z", &four_hours, day).await, [60, next]);
    // From 02:45 back to 02:25. The daemon started after 02:30, so 02:30 is still due.
    let not_done = [(300, -20 * MINUTE)];
    assert_eq!(sent("2026-06-02T02:40:00Z", &not_done, 3600).await, [600]);
}

#[tokio::test(start_paused = true)]
async fn a_firing_that_a_step_passed_over_is_skipped_and_counted() {
    let mut stepped =
        SteppedScenario::new(one_request(), cron("30 2 * * *"), None, "2026-06-02T02:29:00Z");
    let counts = stepped.run(&[(30, HOUR)], 86_400).await;
    assert_eq!((counts.arrivals, stepped.schedule_state.skipped_firings()), (1, 1));
    assert_eq!(stepped.sent_seconds(), [86_400 - 3600 + 60]);
}

/// A step from 02:29:30 to 02:30:15.
#[tokio::test(start_paused = true)]
async fn a_firing_that_a_step_passed_over_by_less_than_a_minute_starts_complete_cycles() {
    let phases = vec![constant("10/s", 10)];
    let mut stepped =
        SteppedScenario::new(phases, cron("30 2 * * *"), None, "2026-06-02T02:29:00Z");
    let counts = stepped.run(&[(30, 45)], 3600).await;
    assert_eq!((counts.succeeded, counts.arrivals), (100, 100), "no arrival is late");
    assert_eq!(stepped.schedule_state.skipped_firings(), 0);
    let sent = stepped.sent();
    assert!(sent[0] > 30.0 && sent[0] < 30.0 + NOTICED + 0.1, "{sent:?}");
}

/// A machine without a clock battery starts in 1970.
#[tokio::test(start_paused = true)]
async fn millions_of_passed_over_firings_are_counted_only_up_to_a_limit() {
    let mut stepped =
        SteppedScenario::new(one_request(), cron("*/5 * * * *"), None, "1970-01-01T00:00:00Z");
    stepped.run(&[(390, 20_000 * DAY)], 700).await;
    assert_eq!(stepped.sent_seconds(), [300, 600]);
    assert_eq!(stepped.schedule_state.skipped_firings(), 1000);
}

#[tokio::test(start_paused = true)]
async fn cycles_of_a_cron_firing_continue_through_a_step() {
    for step in [20 * MINUTE, -20 * MINUTE, -DAY, DAY] {
        let mut stepped = SteppedScenario::new(
            vec![constant("1/s", 600)],
            cron("30 2 * * *"),
            None,
            "2026-06-02T02:29:00Z",
        );
        stepped.run(&[(300, step)], 900).await;
        assert_eq!(stepped.sent_seconds(), (60..660).collect::<Vec<_>>(), "{step}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_during_a_manual_override_changes_its_end_on_the_wall_clock_but_not_its_length() {
    let phases = vec![constant("1/s", 60), phase(Load::Pause, seconds(60))];
    let mut stepped = SteppedScenario::new(
        phases,
        Cycles::WallClock(Anchor::Epoch),
        None,
        "2026-06-01T12:00:00Z",
    );
    let override_rate = RateOverride::Set { rate: "1/s".parse().unwrap(), length: seconds(100) };
    stepped.driver.mailbox().set_rate(override_rate);
    let begin = stepped.bench.schedule_start;
    let schedule_state = Arc::clone(&stepped.schedule_state);
    let observed = async {
        tokio::time::sleep_until(begin + seconds(50)).await;
        schedule_state.position(tokio::time::Instant::now()).override_until
    };
    let start = stepped.start;
    let (_, until) = tokio::join!(stepped.run(&[(20, HOUR)], 400), observed);
    assert_eq!(until, Some(moved(start, HOUR + 100)));
    // After the override, the wall clock shows 13:01:40, in an odd minute.
    let sent = stepped.sent_seconds();
    let expected: Vec<u64> = (0..100).chain(120..180).chain(240..300).chain(360..400).collect();
    assert_eq!(sent, expected);
}

/// Random arrivals, in a cycle of a month.
#[tokio::test(start_paused = true)]
async fn the_load_keeps_its_rate_through_many_small_steps() {
    let arrivals = ArrivalSpec { arrivals: Arrivals::Poisson, ..ArrivalSpec::default() };
    let mut stepped = SteppedScenario::with_arrivals(
        vec![constant("20/s", 30 * 86_400)],
        Cycles::WallClock(Anchor::Epoch),
        None,
        "2026-06-01T12:00:00Z",
        arrivals,
    );
    let steps: Vec<Step> =
        (1..28).map(|step| (step * 7, if step % 2 == 0 { 3 } else { -2 })).collect();
    let counts = stepped.run(&steps, 200).await;
    assert_eq!(counts.succeeded, counts.arrivals, "no arrival is late");
    // The expected number is 4,000, and the standard deviation is 63.
    assert!(counts.arrivals.abs_diff(4000) < 400, "{}", counts.arrivals);
    assert!(stepped.sent().is_sorted());
}

#[tokio::test(start_paused = true)]
async fn the_state_shows_the_idle_time_at_the_new_time() {
    let mut stepped =
        SteppedScenario::new(one_request(), cron("30 2 * * *"), None, "2026-06-02T12:00:00Z");
    stepped.run(&[(60, -DAY)], 70).await;
    let until = "2026-06-02T02:30:00Z".parse::<jiff::Timestamp>().unwrap();
    let ended = stepped.schedule_state.activity();
    assert_eq!(ended, Activity::Idle(until.into()));
}
