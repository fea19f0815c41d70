//! The search against servers whose true capacity is known, in simulated time. The load and the
//! servers are random, so each property is checked for many seeds.

mod distorted;
mod remaining;
mod server;

use std::fmt::Write as _;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use server::{Load, Server, Service};

use super::Reason::{Bisection, First, Growth};
use super::*;
use crate::schedule::SearchRange;
use crate::slo::{Criterion, LatencyMetric, Objective, ObjectiveCounts, Share, Slo};

const SEEDS: u64 = 20;
/// The number of seeds that must give a correct result.
const ENOUGH: usize = 18;

fn ttft(share: f64, millis: u64) -> Objective {
    let criterion = Criterion::Latency(LatencyMetric::Ttft, Duration::from_millis(millis));
    Objective { criterion, share: Share::new(share).unwrap() }
}

fn spec(range: SearchRange, resolution: f64, objective: Objective) -> Arc<SearchSpec> {
    spec_with_steps(Duration::from_mins(1), range, resolution, objective)
}

fn spec_with_steps(
    step: Duration,
    range: SearchRange,
    resolution: f64,
    objective: Objective,
) -> Arc<SearchSpec> {
    Arc::new(SearchSpec {
        range,
        resolution: Share::new(resolution).unwrap(),
        step,
        slo: Slo { objectives: vec![objective], abort: false },
    })
}

fn rates(from: &str, to: &str) -> SearchRange {
    SearchRange::Rate { from: from.parse().unwrap(), to: to.parse().unwrap() }
}

fn rate(text: &str) -> Level {
    Level::Rate(text.parse().unwrap())
}

fn concurrencies(from: u32, to: u32) -> SearchRange {
    let slots = |count| NonZeroU32::new(count).unwrap();
    SearchRange::Concurrency { from: slots(from), to: slots(to) }
}

/// Runs a search to its end. Returns the outcome and the search.
fn search(spec: &Arc<SearchSpec>, server: &mut Server) -> (Outcome, Search) {
    let mut search = Search::new(Arc::clone(spec));
    loop {
        match search.next() {
            Decision::End(ending) => return (search.outcome(ending), search),
            Decision::Step(plan) => {
                let result = server.run(&plan, &spec.slo.objectives);
                search.record(plan, result);
            }
        }
    }
}

/// Checks, for many seeds, that the result is within 5 % of the truth, and that the interval
/// contains the truth.
fn assert_finds(spec: &Arc<SearchSpec>, truth: f64, server: impl Fn(u64) -> Server) {
    let (mut close, mut contained, mut report) = (0, 0, String::new());
    for seed in 0..SEEDS {
        let (outcome, search) = search(spec, &mut server(seed));
        let found = outcome.met.as_ref().map_or(0.0, |met| met.plan.level.value());
        let (lower, upper) = outcome.interval;
        let contains = lower.is_none_or(|lower| lower.value() <= truth)
            && upper.is_none_or(|upper| truth <= upper.value());
        close += usize::from((found / truth - 1.0).abs() <= 0.05);
        contained += usize::from(contains);
        let _written = writeln!(
            report,
            "seed {seed}: {found:.2} of {truth:.2}, {:?} to {:?}, {:?}, {} steps, {} min",
            lower.map(Level::value),
            upper.map(Level::value),
            outcome.ending,
            search.steps().len(),
            search.elapsed.as_secs() / 60,
        );
    }
    assert!(close >= ENOUGH && contained >= ENOUGH, "{close} {contained}\n{report}");
}

/// Checks, for many seeds, that the interval has two ends and contains the truth although the steps
/// are short.
fn assert_contains(spec: &Arc<SearchSpec>, truth: f64, server: impl Fn(u64) -> Server) {
    let (mut contained, mut confident, mut closed, mut report) = (0, 0, 0, String::new());
    for seed in 0..SEEDS {
        let (outcome, _) = search(spec, &mut server(seed));
        let (lower, upper) = outcome.interval;
        contained += usize::from(
            lower.is_none_or(|lower| lower.value() <= truth)
                && upper.is_none_or(|upper| truth <= upper.value()),
        );
        closed += usize::from(lower.is_some() && upper.is_some());
        confident += usize::from(outcome.is_confident(spec));
        let _written = writeln!(
            report,
            "seed {seed}: {:?} to {:?} of {truth:.2}, {:?}",
            lower.map(Level::value),
            upper.map(Level::value),
            outcome.step_for_confidence,
        );
    }
    let is_enough = contained >= ENOUGH && closed >= ENOUGH && confident >= ENOUGH - 3;
    assert!(is_enough, "{contained} {closed} {confident}\n{report}");
}

/// Returns the probability that a request waits longer than `wait` for one of `slots` servers, for
/// random arrivals and exponential service times (the formula of Erlang C).
fn erlang_c(rate: f64, slots: u32, service: f64, wait: f64) -> f64 {
    let load = rate * service;
    let busy = load / f64::from(slots);
    if busy >= 1.0 {
        return 1.0;
    }
    // The recursion of Erlang B avoids large factorials.
    let blocked = (1..=slots).fold(1.0, |b, n| load * b / (f64::from(n) + load * b));
    let waits = blocked / (1.0 - busy * (1.0 - blocked));
    waits * (-(f64::from(slots) / service - rate) * wait).exp()
}

/// Returns the number between `low` and `high` at which a growing function becomes positive.
fn root(mut low: f64, mut high: f64, f: impl Fn(f64) -> f64) -> f64 {
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if f(middle) > 0.0 { high = middle } else { low = middle }
    }
    low
}

#[test]
fn the_capacity_under_even_load_is_slots_divided_by_service_time() {
    // 16 slots, 2 s for each request on average: 8/s. At a rate 1 % above the capacity, the wait
    // grows by 10 ms a second, so it passes the 500 ms of the objective within a one-minute step.
    let spec = spec(rates("1/s", "100/s"), 0.02, ttft(0.99, 500));
    let server = |seed| Server::new(seed, 16, Service::Uniform(1.8, 2.2), Load::Even);
    assert_finds(&spec, 8.0, server);
}

#[test]
fn the_capacity_of_a_server_with_random_service_times_follows_from_queueing_theory() {
    // A busy queue remembers its past for many seconds, so short steps would prove little.
    let step = Duration::from_mins(4);
    let spec = spec_with_steps(step, rates("1/s", "100/s"), 0.03, ttft(0.95, 250));
    let truth = root(1.0, 16.0, |rate| erlang_c(rate, 16, 1.0, 0.25) - 0.05);
    let server = |seed| Server::new(seed, 16, Service::Exponential(1.0), Load::Random);
    assert_finds(&spec, truth, server);
}

#[test]
fn the_highest_concurrency_follows_from_the_wait_for_a_slot() {
    // With `n` requests at a time, each waits (n − 16)/16 · 2 s. The wait is 1 s at 24.
    let spec = spec(concurrencies(1, 256), 0.02, ttft(0.9, 1000));
    let server = |seed| Server::new(seed, 16, Service::Uniform(1.0, 3.0), Load::Even);
    let long = StepPlan {
        level: Level::Concurrency(NonZeroU32::MIN),
        reason: Reason::First,
        settle: Duration::from_mins(1),
        shortest: Duration::from_mins(50),
        longest: Duration::from_mins(50),
        requests: 0,
    };
    let meets = |slots: u32| {
        let level = Level::Concurrency(NonZeroU32::new(slots).unwrap());
        let result = server(99).run(&StepPlan { level, ..long }, &spec.slo.objectives);
        let ObjectiveCounts { judged, met } = total(&result.judged[0]);
        spec.slo.objectives[0].share.is_reached(met, judged)
    };
    let truth = (16..40).rfind(|slots| meets(*slots)).unwrap();
    assert!((20..=24).contains(&truth), "{truth}");
    assert_finds(&spec, f64::from(truth), server);
}

/// In a step of a few requests, an overloaded server can meet its objectives, because its queue is
/// still short. A step proves no more than the rate at which its requests ended.
#[test]
fn the_interval_of_short_steps_under_even_load_contains_the_capacity() {
    let step = Duration::from_secs(24);
    let server = |seed| Server::new(seed, 16, Service::Uniform(1.8, 2.2), Load::Even);
    assert_contains(
        &spec_with_steps(step, rates("1/s", "100/s"), 0.05, ttft(0.9, 500)),
        8.0,
        server,
    );
    assert_contains(
        &spec_with_steps(step, rates("1/s", "100/s"), 0.02, ttft(0.99, 500)),
        8.0,
        server,
    );
}

/// The requests that wait in one queue are slow together, so they prove less than their number.
#[test]
fn the_interval_of_short_steps_under_random_load_contains_the_capacity() {
    let step = Duration::from_secs(24);
    let spec = spec_with_steps(step, rates("1/s", "100/s"), 0.03, ttft(0.95, 250));
    let truth = root(1.0, 16.0, |rate| erlang_c(rate, 16, 1.0, 0.25) - 0.05);
    let server = |seed| Server::new(seed, 16, Service::Exponential(1.0), Load::Random);
    assert_contains(&spec, truth, server);
}

/// With random arrivals, the requests that wait in one queue are slow together.
#[test]
fn a_level_with_a_queue_is_proven_by_steps_of_the_recommended_length() {
    let spec = |step| spec_with_steps(step, rates("1/s", "100/s"), 0.03, ttft(0.95, 250));
    let (mut proven, mut dependent, mut report) = (0, 0, String::new());
    for seed in 0..SEEDS {
        let server = || Server::new(seed, 16, Service::Exponential(1.0), Load::Random);
        let (first, _) = search(&spec(Duration::from_secs(6)), &mut server());
        let step = first.advised_step();
        let spec = spec(step);
        let (outcome, search) = search(&spec, &mut server());
        let (lower, upper) = outcome.interval;
        let found = outcome.met.as_ref().unwrap().plan.level.value();
        let is_near = lower.is_some_and(|lower| lower.value() >= 0.6 * found);
        proven += usize::from(is_near && outcome.is_confident(&spec));
        let queues = search.highest_proven_success().map(|lower| {
            let judged = &search.levels[&lower].judged;
            judged.iter().any(|all| batch::effect_of_latencies(all) > 1.0)
        });
        dependent += usize::from(queues == Some(true));
        for record in search.steps() {
            assert_eq!(record.verdict, record.verdicts.iter().min().copied());
        }
        let _written = writeln!(
            report,
            "seed {seed}: {found} in {lower:?} to {upper:?}, {queues:?}, {step:?} for {:?}, {} \
             steps, {:?}",
            outcome.step_for_confidence,
            search.steps().len(),
            search.elapsed,
        );
    }
    assert!(proven >= ENOUGH && dependent >= 5, "{proven} {dependent}\n{report}");
}

#[test]
fn steps_that_are_hardly_longer_than_a_request_give_no_confidence() {
    let step = Duration::from_secs(6);
    let spec = spec_with_steps(step, rates("1/s", "100/s"), 0.05, ttft(0.9, 500));
    let mut server = Server::new(1, 16, Service::Fixed(2.0), Load::Even);
    let (outcome, _) = search(&spec, &mut server);
    assert!(!outcome.is_confident(&spec), "{outcome:?}");
    let text = outcome.sentence(&spec);
    let end = "but steps of 6 s are too short for a confidence; use steps of 20 s.";
    assert!(text.contains("; probably within") && text.ends_with(end), "{text}");
}

/// A request takes 2 s. The first step of 2 s would settle for 0.4 s.
#[test]
fn a_step_that_has_not_settled_is_repeated_with_a_longer_time_and_does_not_count() {
    let step = Duration::from_secs(2);
    let spec = spec_with_steps(step, rates("2/s", "100/s"), 0.05, ttft(0.9, 500));
    let mut server = Server::new(1, 16, Service::Fixed(2.0), Load::Even);
    let (outcome, search) = search(&spec, &mut server);
    let [first, second, ..] = search.steps() else { panic!("two steps must follow") };
    assert!(first.is_unsettled && first.verdict.is_none(), "{first:?}");
    assert_eq!((second.plan.level, second.plan.reason), (first.plan.level, Reason::Unsettled));
    for step in &search.steps()[1..] {
        let is_long = step.plan.settle >= Duration::from_secs(4);
        assert!(is_long && step.plan.shortest >= Duration::from_secs(8), "{step:?}");
    }
    let found = outcome.met.unwrap().plan.level.value();
    assert!((7.6..=8.4).contains(&found), "{found}");
}

/// A request takes 10 s, and a step settles for at most 4 s.
#[test]
fn a_search_whose_steps_cannot_settle_has_no_result() {
    let step = Duration::from_secs(1);
    for range in [rates("1/s", "100/s"), concurrencies(1, 100)] {
        let spec = spec_with_steps(step, range, 0.05, ttft(0.9, 500));
        let mut server = Server::new(1, 16, Service::Fixed(10.0), Load::Even);
        let (outcome, search) = search(&spec, &mut server);
        assert_eq!((outcome.ending, outcome.met.as_ref()), (Ending::StepsTooShort, None));
        assert_eq!((search.steps().len(), outcome.capacity(range)), (2, None));
        let text = outcome.sentence(&spec);
        assert!(text.contains("use longer steps, at least as long as a request"), "{text}");
    }
}

/// A server stops for a second in each step, as for a very long prompt. After the stall, a queue of
/// λ requests shrinks by 16 − λ a second. A request waits longer than half a second while the queue
/// has more than 8 requests, so for (λ − 8)/(16 − λ) seconds. Together with the second of the
/// stall, that is a tenth of a one-minute step at 14.7/s. If the stall is near the end of a step,
/// fewer requests miss, so the result can be up to 16.2/s. If a step ended because its latency
/// rises, the stall would wrongly end steps below 14.7/s too.
#[test]
fn a_stall_in_a_step_does_not_end_the_step_and_hardly_changes_the_capacity() {
    let spec = spec(rates("1/s", "100/s"), 0.02, ttft(0.9, 500));
    let server = |seed| {
        Server::new(seed, 16, Service::Fixed(1.0), Load::Even).with_stall(Duration::from_secs(1))
    };
    for seed in 0..SEEDS {
        let (outcome, search) = search(&spec, &mut server(seed));
        for step in search.steps() {
            let is_overload = step.plan.level.value() > 14.7;
            assert!(!step.result.is_cut_short || is_overload, "seed {seed}: {step:?}");
        }
        let found = outcome.met.unwrap().plan.level.value();
        assert!((14.2..=16.2).contains(&found), "seed {seed}: {found}");
    }
}

#[test]
fn an_overloaded_step_ends_early() {
    let objectives = [ttft(0.99, 500)];
    let plan = StepPlan {
        level: Level::Rate("20/s".parse().unwrap()),
        reason: Reason::Growth,
        settle: Duration::from_secs(12),
        shortest: Duration::from_mins(1),
        longest: Duration::from_mins(4),
        requests: 100,
    };
    let mut server = Server::new(1, 16, Service::Fixed(2.0), Load::Even);
    let result = server.run(&plan, &objectives);
    assert!(result.is_cut_short && result.measured < Duration::from_secs(50), "{result:?}");
    let verdict = evidence::judge_all(&objectives, &result.judged);
    assert_eq!(verdict, Verdict::Missed);
}

/// The result of an undistorted step in which `missed` of 2,000 requests missed the objective.
fn result(missed: u64) -> StepResult {
    StepResult {
        elapsed: Duration::from_secs(70),
        measured: Duration::from_mins(1),
        ended_per_second: f64::INFINITY,
        judged: vec![vec![ObjectiveCounts { judged: 2000, met: 2000 - missed }.into()]],
        ..StepResult::default()
    }
}

/// Runs a search in which `missed` gives the number of misses of 2,000 requests at each level.
fn decide(range: SearchRange, missed: impl Fn(f64) -> u64) -> (Outcome, Vec<(f64, Reason)>) {
    let mut search = Search::new(spec(range, 0.05, ttft(0.99, 500)));
    loop {
        match search.next() {
            Decision::End(ending) => {
                let steps = search.steps().iter();
                let steps = steps.map(|step| (step.plan.level.value(), step.plan.reason));
                return (search.outcome(ending), steps.collect());
            }
            Decision::Step(plan) => {
                search.record(plan, result(missed(plan.level.value())));
            }
        }
    }
}

#[test]
fn levels_double_until_a_step_misses_and_then_halve_the_gap() {
    let (outcome, steps) =
        decide(concurrencies(1, 100), |level| if level > 13.0 { 2000 } else { 0 });
    let expected = [
        (1.0, First),
        (2.0, Growth),
        (4.0, Growth),
        (8.0, Growth),
        (16.0, Growth),
        (11.0, Bisection),
        (13.0, Bisection),
        (14.0, Bisection),
    ];
    assert_eq!(steps, expected);
    assert_eq!(outcome.ending, Ending::Found);
    let level = |count| Some(Level::Concurrency(NonZeroU32::new(count).unwrap()));
    assert_eq!(outcome.interval, (level(13), level(14)));
    assert_eq!(outcome.met.map(|step| step.plan.level), level(13));
    assert_eq!(outcome.missed.map(|step| step.plan.level), level(14));
}

#[test]
fn the_ends_of_the_range_are_results_too() {
    let (outcome, steps) = decide(rates("5/s", "50/s"), |_| 2000);
    assert_eq!((outcome.ending, outcome.met, steps.len()), (Ending::FirstMissed, None, 1));
    let (outcome, steps) = decide(rates("5/s", "50/s"), |_| 0);
    assert_eq!((outcome.ending, steps.len()), (Ending::LastMet, 5));
    assert_eq!(outcome.interval.1, None);
}

#[test]
fn a_level_that_no_further_step_can_prove_is_inside_the_interval() {
    // From 15.5/s to 16.5/s, exactly 1 % of the requests miss the objective.
    let (outcome, steps) = decide(rates("1/s", "100/s"), |level| match level {
        level if level < 15.5 => 0,
        level if level <= 16.5 => 20,
        _ => 2000,
    });
    assert_eq!(outcome.ending, Ending::Found);
    assert_eq!(steps.iter().filter(|(level, _)| (*level - 16.0).abs() < 0.01).count(), 2);
    let (lower, upper) = outcome.interval;
    assert!((14.0..15.5).contains(&lower.unwrap().value()), "{lower:?}");
    assert!((16.5..18.0).contains(&upper.unwrap().value()), "{upper:?}");
    assert_eq!(outcome.met.unwrap().plan.level, rate("16/s"));
}

#[test]
fn the_search_does_not_go_down_level_by_level_if_nothing_can_be_proven() {
    // Exactly 1 % of the requests miss the objective at each level below 15.5/s.
    let (outcome, steps) =
        decide(rates("1/s", "100/s"), |level| if level < 15.5 { 20 } else { 2000 });
    assert_eq!((outcome.ending, outcome.interval.0), (Ending::Found, None));
    let is_lower = |(_, reason): &&(f64, Reason)| *reason == Reason::LowerEnd;
    let mut levels: Vec<f64> = steps.iter().filter(is_lower).map(|(level, _)| *level).collect();
    levels.dedup();
    assert!((1..=4).contains(&levels.len()), "{levels:?}");
}

#[test]
fn every_search_ends_within_its_limit_of_steps() {
    // The verdicts of neighbouring levels contradict each other: the number of misses is
    // pseudo-random in the level.
    for pattern in 0_u64..64 {
        let (outcome, steps) = decide(rates("0.01/s", "100/s"), |level| {
            (level.to_bits() >> 30).wrapping_mul(pattern) % 7 * 8
        });
        let spec = spec(rates("0.01/s", "100/s"), 0.05, ttft(0.99, 500));
        assert!(steps.len() <= most_steps(&spec), "{pattern}: {}", steps.len());
        let proofs = steps.iter().filter(|(_, reason)| reason.is_proof()).count();
        assert!(proofs <= 6 && (proofs == 6 || !outcome.is_out_of_proofs), "{pattern}: {proofs}");
    }
}
