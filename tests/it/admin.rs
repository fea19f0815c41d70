//! Tests of commands to a running driver, which sends the requests of a schedule. The clock is
//! paused. A command has its effect at one instant, and no planned request (arrival) is lost or
//! sent twice.

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::time::Duration;

use llmload::event::DropReason;
use llmload::launch::ReadinessGate;
use llmload::schedule::{ArrivalSpec, Load, Repeat, Schedule};
use llmload::schedule_state::RateOverride;
use llmload::timetable::{Cycles, Timetable};

use crate::open_loop::{Bench, ONCE, constant, dropped, phase};
use crate::upstream::InMemory;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn bench() -> Bench {
    Bench::new(InMemory::responding_after(Duration::from_millis(1)), 1000)
}

/// Returns the number of sent requests in each second.
fn by_second(bench: &Bench) -> Vec<usize> {
    let sent = bench.sent();
    let last = sent.last().map_or(0, Duration::as_secs);
    (0..=last).map(|second| sent.iter().filter(|at| at.as_secs() == second).count()).collect()
}

#[tokio::test(start_paused = true)]
async fn arrivals_during_a_pause_are_dropped_and_counted() {
    let bench = bench();
    let (mut driver, paused) =
        (bench.driver(vec![constant("10/s", 9)], ONCE), bench.paused.clone());
    let pauses = async {
        tokio::time::sleep(seconds(3)).await;
        assert!(paused.set(true));
        tokio::time::sleep(seconds(3)).await;
        assert!(paused.set(false));
    };
    tokio::join!(bench.drive(&mut driver), pauses);
    let counts = bench.settle().await;
    assert_eq!(
        (counts.arrivals, counts.started, dropped(&counts, DropReason::Paused)),
        (90, 60, 30)
    );
    assert_eq!(by_second(&bench), [10, 10, 10, 0, 0, 0, 10, 10, 10]);
}

#[tokio::test(start_paused = true)]
async fn a_manual_override_does_not_delay_the_schedule() {
    let bench = bench();
    let ramp = Load::Ramp { from: "0/s".parse().unwrap(), to: "100/s".parse().unwrap() };
    let (mut driver, schedule_state) = bench.driver_with_state(
        vec![phase(ramp, seconds(10))],
        Cycles::BackToBack { repeat: ONCE, when_ready: true },
        ArrivalSpec::default(),
        None,
    );
    let mailbox = driver.mailbox();
    let commands = async {
        tokio::time::sleep(seconds(2)).await;
        mailbox.set_rate(RateOverride::Set { rate: "4/s".parse().unwrap(), length: seconds(60) });
        tokio::time::sleep(seconds(1)).await;
        let position = schedule_state.position(tokio::time::Instant::now());
        assert!((position.rate - 4.0).abs() < 1e-9 && position.override_until.is_some());
        mailbox.set_rate(RateOverride::Set { rate: "8/s".parse().unwrap(), length: seconds(60) });
        tokio::time::sleep(seconds(3)).await;
        mailbox.set_rate(RateOverride::Clear);
        tokio::time::sleep(seconds(1)).await;
        let position = schedule_state.position(tokio::time::Instant::now());
        assert!(position.override_until.is_none() && (position.rate - 70.0).abs() < 1e-9);
    };
    tokio::join!(bench.drive(&mut driver), commands);
    bench.settle().await;
    assert_eq!(by_second(&bench), [5, 15, 4, 8, 8, 8, 65, 75, 85, 95]);
}

#[tokio::test(start_paused = true)]
async fn a_manual_override_works_after_the_end_of_the_schedule() {
    let bench = bench();
    let mut driver = bench.driver(vec![constant("2/s", 3)], ONCE);
    let mailbox = driver.mailbox();
    bench.drive(&mut driver).await;
    mailbox.set_rate(RateOverride::Set { rate: "5/s".parse().unwrap(), length: seconds(2) });
    bench.drive(&mut driver).await;
    bench.settle().await;
    assert_eq!(by_second(&bench), [2, 2, 2, 5, 5]);
}

#[tokio::test(start_paused = true)]
async fn a_new_schedule_begins_at_the_instant_of_the_command() {
    let bench = bench();
    let mut driver = bench.driver(vec![constant("10/s", 60)], Repeat::Forever);
    let mailbox = driver.mailbox();
    let commands = async {
        bench.endpoint.wait_for_requests(25).await;
        let schedule = Schedule::new(vec![phase(Load::Pause, seconds(1)), constant("40/s", 2)]);
        let cycles = Cycles::BackToBack { repeat: ONCE, when_ready: true };
        mailbox.replace_schedule(
            Timetable::new(Arc::new(schedule), cycles, None),
            ArrivalSpec::default(),
        );
    };
    tokio::join!(bench.drive(&mut driver), commands);
    let counts = bench.settle().await;
    assert_eq!((counts.arrivals, counts.succeeded), (25 + 80, 25 + 80));
    // The command arrives at 2.45 s, with the 25th request. The new schedule begins with a pause of
    // 1 s, so 40/s begins at 3.45 s, and its first arrival is due 12.5 ms later.
    assert_eq!(by_second(&bench), [10, 10, 5, 22, 40, 18]);
}

/// The commands arrive at many different instants. Each arrival belongs to the schedule that was
/// active at its due time.
#[tokio::test(start_paused = true)]
async fn a_hundred_schedule_changes_lose_and_double_no_arrival() {
    let bench = bench();
    let mut driver = bench.driver(vec![constant("200/s", 60)], Repeat::Forever);
    let mailbox = driver.mailbox();
    let commands = async {
        for turn in 0..100 {
            tokio::time::sleep(Duration::from_millis(37 + turn % 11)).await;
            let schedule = Arc::new(Schedule::new(vec![constant("200/s", 60)]));
            let cycles = Cycles::BackToBack { repeat: Repeat::Forever, when_ready: true };
            mailbox
                .replace_schedule(Timetable::new(schedule, cycles, None), ArrivalSpec::default());
        }
        tokio::time::sleep(seconds(1)).await;
        bench.stop.cancel();
    };
    tokio::join!(bench.drive(&mut driver), commands);
    let counts = bench.settle().await;
    assert_eq!(counts.arrivals, counts.succeeded);
    // Each schedule has an arrival every 5 ms, the first 2.5 ms after the command.
    let expected: u64 = (0..100).map(|turn| (37 + turn % 11 + 2) / 5).sum::<u64>() + 200;
    assert!(
        counts.arrivals.abs_diff(expected) <= 1,
        "{} arrivals, but {expected} expected",
        counts.arrivals
    );
}

#[tokio::test(start_paused = true)]
async fn a_phase_of_n_requests_ends_with_the_last_request() {
    let bench = Bench::new(InMemory::responding_after(Duration::from_millis(500)), 100);
    let count = |slots, count| {
        let (slots, count) = (NonZeroU32::new(slots).unwrap(), NonZeroU64::new(count).unwrap());
        phase(Load::Requests { slots, count }, Duration::ZERO)
    };
    let phases = vec![count(5, 12), constant("10/s", 1), count(2, 3)];
    let twice = Repeat::Times(NonZeroU32::new(2).unwrap());
    bench.drive(&mut bench.driver(phases, twice)).await;
    let counts = bench.settle().await;
    assert_eq!((counts.arrivals, counts.succeeded), (50, 50));
    // A cycle takes about 3.5 s: three times 0.5 s for 12 requests in 5 slots, 1 s at 10/s, and two
    // times 0.5 s for 3 requests in 2 slots. The last phase begins while requests of the phase
    // before it are in flight.
    let sent = bench.sent();
    let second_pass = sent[25];
    assert!((seconds(3)..seconds(4)).contains(&second_pass), "{second_pass:?}");
    assert!(
        sent[12] >= Duration::from_millis(1500),
        "the schedule did not advance during the first phase"
    );
}

/// While the target is away, the readiness gate holds the next cycle. The current cycle continues.
#[tokio::test(start_paused = true)]
async fn an_unavailable_target_delays_the_next_cycle_and_removes_none_of_its_arrivals() {
    let bench = bench();
    let gate = Arc::new(ReadinessGate::default());
    let phases = vec![constant("10/s", 2), phase(Load::Pause, seconds(1))];
    let (driver, schedule_state) = bench.driver_with_state(
        phases,
        Cycles::BackToBack { repeat: Repeat::Times(NonZeroU32::new(2).unwrap()), when_ready: true },
        ArrivalSpec::default(),
        None,
    );
    let mut driver = driver.with_gate(Arc::clone(&gate));
    let mailbox = driver.mailbox();
    let away = async {
        tokio::time::sleep(seconds(1)).await;
        gate.connection_failed();
        gate.cycle_waiting().await;
        assert_eq!(
            bench.schedule_start.elapsed(),
            seconds(3),
            "the wait of the next cycle begins at the end of this cycle"
        );
        tokio::time::sleep(seconds(60)).await;
        assert!(matches!(schedule_state.activity(), llmload::schedule_state::Activity::Waiting(_)));
        mailbox.set_target_ready();
    };
    tokio::join!(bench.drive(&mut driver), away);
    bench.settle().await;
    let sent = bench.sent();
    assert_eq!(sent.len(), 40);
    assert_eq!(sent.iter().filter(|at| **at < seconds(2)).count(), 20);
    assert!(sent[20] >= seconds(63), "{:?}", sent[20]);
}
