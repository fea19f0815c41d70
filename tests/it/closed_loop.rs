//! The closed loop of a concurrency phase, on a paused clock.

use std::num::NonZeroU32;
use std::time::Duration;

use llmload::schedule::{Load, Phase};

use crate::open_loop::{Bench, constant, phase};
use crate::upstream::InMemory;

fn concurrency(slots: u32, seconds: u64) -> Phase {
    phase(Load::Concurrency(NonZeroU32::new(slots).unwrap()), Duration::from_secs(seconds))
}

#[tokio::test(start_paused = true)]
async fn each_slot_is_filled_again_as_its_request_ends() {
    let bench = Bench::new(InMemory::answering(Duration::from_millis(250)), 100);
    let books = bench.run(vec![concurrency(5, 10)]).await;
    // 5 slots × 4 a second × 10 s, give or take the rounding of tokio's clock.
    assert!((195..=205).contains(&books.succeeded), "{}", books.succeeded);
    assert_eq!(books.arrivals, books.succeeded);
    assert_eq!(bench.sent().iter().filter(|at| **at < Duration::from_millis(250)).count(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_slot_whose_request_failed_rests_until_a_second_after_the_attempt() {
    let bench = Bench::new(InMemory::failing(Duration::from_millis(10)), 100);
    let books = bench.run(vec![concurrency(3, 10)]).await;
    assert!((27..=33).contains(&books.started), "{}", books.started);
    assert_eq!(books.succeeded, 0);
}

#[tokio::test(start_paused = true)]
async fn a_refused_slot_rests_too_and_is_counted() {
    // The cap is below the concurrency asked for: configuration refuses that, the loop survives it.
    let bench = Bench::new(InMemory::answering(Duration::from_secs(100)), 2);
    let driver = bench.driver(vec![concurrency(4, 10)], crate::open_loop::ONCE);
    driver.run_on_tokio(&bench.lane, &bench.stop).await;
    let books = bench.settle().await;
    assert_eq!(books.started, 2);
    assert!((18..=22).contains(&(books.arrivals - books.started)), "{}", books.arrivals);
}

#[tokio::test(start_paused = true)]
async fn what_is_still_in_flight_holds_its_slot_in_the_next_phase() {
    let bench = Bench::new(InMemory::answering(Duration::from_secs(5)), 100);
    let books = bench.run(vec![concurrency(3, 2), concurrency(4, 2)]).await;
    assert_eq!(books.arrivals, 4);
}

#[tokio::test(start_paused = true)]
async fn open_and_closed_phases_take_turns() {
    let bench = Bench::new(InMemory::answering(Duration::from_millis(100)), 100);
    let books = bench.run(vec![constant("10/s", 2), concurrency(1, 2), constant("10/s", 2)]).await;
    assert!((58..=62).contains(&books.succeeded), "{}", books.succeeded);
    let sent = bench.sent();
    assert_eq!(sent.iter().filter(|at| **at < Duration::from_secs(2)).count(), 20);
    assert_eq!(sent.iter().filter(|at| **at > Duration::from_secs(4)).count(), 20);
}
