//! Tests of a closed loop on a paused clock. A closed loop has a number of slots, and each slot
//! sends its next request after its last one has ended.

use std::num::NonZeroU32;
use std::time::Duration;

use llmload::event::AbortReason;
use llmload::schedule::{Load, Phase};

use crate::open_loop::{Bench, ONCE, constant, phase};
use crate::upstream::{BodyStep, DONE, FINISH, InMemory, USAGE, data, token};

fn concurrency(slots: u32, seconds: u64) -> Phase {
    phase(Load::Concurrency(NonZeroU32::new(slots).unwrap()), Duration::from_secs(seconds))
}

#[tokio::test(start_paused = true)]
async fn each_slot_is_used_again_when_its_request_ends() {
    let bench = Bench::new(InMemory::responding_after(Duration::from_millis(250)), 100);
    let counts = bench.run(vec![concurrency(5, 10)]).await;
    // 5 slots × 4 requests per second × 10 s, apart from rounding in the clock of tokio.
    assert!((195..=205).contains(&counts.succeeded), "{}", counts.succeeded);
    assert_eq!(counts.arrivals, counts.succeeded);
    assert_eq!(bench.sent().iter().filter(|at| **at < Duration::from_millis(250)).count(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_slot_makes_at_most_one_failing_attempt_per_second() {
    let bench = Bench::new(InMemory::failing_after(Duration::from_millis(10)), 100);
    let counts = bench.run(vec![concurrency(3, 10)]).await;
    assert!((27..=33).contains(&counts.started), "{}", counts.started);
    assert_eq!(counts.succeeded, 0);
}

#[tokio::test(start_paused = true)]
async fn a_slot_whose_arrival_was_dropped_backs_off_too() {
    // The configuration rejects a max_concurrency below the concurrency of a phase, but the driver
    // must survive it.
    let bench = Bench::new(InMemory::responding_after(Duration::from_secs(100)), 2);
    let mut driver = bench.driver(vec![concurrency(4, 10)], ONCE);
    bench.drive(&mut driver).await;
    let counts = bench.settle().await;
    assert_eq!(counts.started, 2);
    assert!((18..=22).contains(&(counts.arrivals - counts.started)), "{}", counts.arrivals);
}

#[tokio::test(start_paused = true)]
async fn a_request_still_in_flight_holds_its_slot_in_the_next_phase() {
    let bench = Bench::new(InMemory::responding_after(Duration::from_secs(5)), 100);
    let counts = bench.run(vec![concurrency(3, 2), concurrency(4, 2)]).await;
    assert_eq!(counts.arrivals, 4);
}

#[tokio::test(start_paused = true)]
async fn open_and_closed_loop_phases_alternate() {
    let bench = Bench::new(InMemory::responding_after(Duration::from_millis(100)), 100);
    let counts = bench.run(vec![constant("10/s", 2), concurrency(1, 2), constant("10/s", 2)]).await;
    assert!((58..=62).contains(&counts.succeeded), "{}", counts.succeeded);
    let sent = bench.sent();
    assert_eq!(sent.iter().filter(|at| **at < Duration::from_secs(2)).count(), 20);
    assert_eq!(sent.iter().filter(|at| **at > Duration::from_secs(4)).count(), 20);
}

/// A response that ends with `[DONE]`. Its connection stays open.
fn lingering() -> Vec<BodyStep> {
    vec![data(&[&token("a"), FINISH, USAGE, DONE]), BodyStep::Silence]
}

#[tokio::test(start_paused = true)]
async fn a_slot_is_free_as_soon_as_its_response_is_complete() {
    let bench = Bench::new(InMemory::with_body(Duration::from_millis(100), lingering()), 1);
    let counts = bench.run(vec![concurrency(1, 10)]).await;
    // The slot sends ten requests per second. If it waited for the end of each connection, it would
    // send five.
    assert!((98..=100).contains(&counts.succeeded), "{}", counts.succeeded);
    assert_eq!(counts.arrivals, counts.succeeded, "no arrival was dropped at max_concurrency");
}

#[tokio::test(start_paused = true)]
async fn a_completed_request_is_not_in_flight_and_cannot_be_aborted() {
    let bench = Bench::new(InMemory::with_body(Duration::from_millis(10), lingering()), 1);
    // A schedule of 100 ms with one arrival, at 50 ms.
    let schedule = phase(Load::Constant("10/s".parse().unwrap()), Duration::from_millis(100));
    bench.drive(&mut bench.driver(vec![schedule], ONCE)).await;
    tokio::time::sleep_until(bench.sent_at(0) + Duration::from_millis(80)).await;
    let counts = bench.counts();
    assert_eq!(
        (counts.succeeded, counts.in_flight, bench.route.state.tasks.len()),
        (1, 0, 1),
        "the task still reads the rest of the body"
    );
    bench.route.state.cancellation.cancel(AbortReason::Shutdown);
    let counts = bench.settle().await;
    assert_eq!(bench.sent_at(0).elapsed().as_millis(), 80, "the abort ends the task at once");
    assert_eq!((counts.succeeded, counts.aborted().map(|a| a.1).sum::<u64>()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn the_rest_of_an_endless_body_is_read_for_a_limited_time() {
    let bench = Bench::new(InMemory::with_body(Duration::from_millis(10), lingering()), 1);
    let mut driver = bench.driver(vec![constant("1/s", 1)], ONCE);
    bench.drive(&mut driver).await;
    bench.settle().await;
    assert!(bench.sent_at(0).elapsed() < Duration::from_secs(1));
}
