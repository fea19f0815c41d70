//! Tests of the counts of one step.

use super::*;
use crate::capacity::{Level, Limit, Reason, StepPlan};
use crate::measurement::{Anomalies, Usage};
use crate::schedule::{SearchRange, SearchSpec};
use crate::slo::{Objective, Slo};

const SECOND: Duration = Duration::from_secs(1);

/// A meter in a step that settles for 1 s and measures for 2 s, and the start of the step.
fn begun(level: Level) -> (SearchMeter, Instant) {
    let began = Instant::now();
    let rate = "10/s".parse().unwrap();
    let plan = StepPlan {
        level,
        reason: Reason::First,
        settle: SECOND,
        shortest: 2 * SECOND,
        longest: 8 * SECOND,
        requests: 1,
    };
    let objective = Objective { criterion: Criterion::Success, share: Share::percent(99) };
    let spec = Arc::new(SearchSpec {
        range: SearchRange::Rate { from: rate, to: rate },
        resolution: Share::percent(5),
        step: 2 * SECOND,
        slo: Slo { objectives: vec![objective], abort: false },
    });
    let planned = plan.measured_time().map(|_| 20);
    let window = StepWindow { phase: 0, plan, spec, began, from: began + SECOND, planned };
    let meter = SearchMeter::new(Arc::default(), GeneratorMonitor::new());
    meter.begin(window);
    (meter, began)
}

fn at_a_rate() -> Level {
    Level::Rate("10/s".parse().unwrap())
}

fn success(meter: &SearchMeter, sent: Instant, end: Instant) {
    let usage = Usage { output: Some(100), ..Usage::default() };
    let measurement = Measurement {
        due: sent,
        sent,
        first_token: Some(end),
        first_answer_token: None,
        last_token: Some(end),
        end,
        usage,
        token_events: 1,
        reasoning_shown: false,
        anomalies: Anomalies::default(),
    };
    let arrival = Arrival { k: 0, due: sent, phase: Some(0), lengths: None, turn: 0 };
    meter.steps.observe(&arrival, Event::Succeeded(&measurement));
}

fn ended(meter: &SearchMeter, began: Instant) -> StepResult {
    meter.close(began + 3 * SECOND);
    meter.end(began + 4 * SECOND)
}

#[test]
fn a_distortion_in_a_step_of_seconds_is_found() {
    let (meter, began) = begun(at_a_rate());
    assert_eq!(ended(&meter, began).distortion, None);
    // The load of another scenario was late before this step.
    meter.generator.record_sent(SECOND, Duration::ZERO);
    let (meter, began) = begun(at_a_rate());
    assert_eq!(ended(&meter, began).distortion, None);
    let (meter, began) = begun(at_a_rate());
    meter.generator.record_sent(SECOND, Duration::ZERO);
    let distortion = ended(&meter, began).distortion.unwrap();
    assert!(distortion.contains("1 of 1 arrivals were sent more than 100 ms late"));
}

#[test]
fn every_drop_of_a_step_counts_and_those_at_the_limit_of_requests_also_separately() {
    let (meter, began) = begun(at_a_rate());
    let arrival = Arrival { k: 0, due: began + SECOND, phase: Some(0), lengths: None, turn: 0 };
    for reason in [DropReason::MaxConcurrency, DropReason::Late, DropReason::RateLimit] {
        meter.steps.observe(&arrival, Event::Dropped(reason));
    }
    let result = ended(&meter, began);
    assert_eq!((result.requests, result.all_dropped, result.dropped), (3, 3, 1));
}

#[test]
fn the_latency_of_a_step_includes_its_requests_before_the_measured_time() {
    let (meter, began) = begun(at_a_rate());
    success(&meter, began, began + 3 * SECOND / 2);
    let result = ended(&meter, began);
    assert_eq!((result.requests, result.latency), (0, Some(1.5)));
    assert!((result.requests_per_second - 0.5).abs() < 1e-9);
}

#[test]
fn the_throughput_of_a_closed_loop_does_not_depend_on_the_phase_of_its_requests() {
    let slots = Level::Concurrency(std::num::NonZeroU32::new(3).unwrap());
    for shift in 0..8 {
        let (meter, began) = begun(slots);
        // Each slot sends requests of 0.8 s, and all slots send at the same time. The last ones
        // end after the measured time.
        for number in 0..5 {
            let sent = began + SECOND * shift / 10 + SECOND * number * 8 / 10;
            let end = sent + SECOND * 8 / 10;
            if end > began + 3 * SECOND {
                meter.close(began + 3 * SECOND);
            }
            for _ in 0..3 {
                success(&meter, sent, end);
            }
        }
        let result = meter.end(began + 6 * SECOND);
        let expected = 3.0 / 0.8;
        assert!((result.requests_per_second / expected - 1.0).abs() < 1e-6, "{result:?}");
        assert!((result.tokens_per_second / (100.0 * expected) - 1.0).abs() < 1e-6);
    }
}

#[test]
fn a_cancelled_step_counts_no_later_arrival() {
    let (meter, began) = begun(at_a_rate());
    success(&meter, began + SECOND, began + 2 * SECOND);
    assert!(meter.steps.lock().is_some());
    meter.cancel();
    success(&meter, began + SECOND, began + 2 * SECOND);
    assert!(meter.steps.lock().is_none() && !meter.steps.is_active.load(Relaxed));
    assert_eq!(ended(&meter, began), StepResult::default());
}

#[test]
fn a_step_has_a_limited_number_of_batches_however_late_its_requests_are_due() {
    let (meter, began) = begun(at_a_rate());
    let late = began + 1_000_000 * SECOND;
    success(&meter, late, late + SECOND);
    let batches = meter.end(late + SECOND).judged[0].len();
    // The longest measured time is 8 s, and a batch is a 24th of 2 s.
    assert_eq!(batches, 97);
}

#[test]
fn drops_by_rate_limits_and_budgets_distort_for_longer_than_one_step() {
    let cases = [
        (DropReason::RateLimit, "raise `rate_limits`", Some(Limit::Rate)),
        (DropReason::Budget, "raise `budgets`", Some(Limit::Budget)),
        (DropReason::Paused, "paused", None),
    ];
    for (reason, text, limit) in cases {
        let (meter, began) = begun(at_a_rate());
        let arrival = Arrival { k: 0, due: began + SECOND, phase: Some(0), lengths: None, turn: 0 };
        meter.steps.observe(&arrival, Event::Dropped(reason));
        let result = ended(&meter, began);
        assert!(result.distortion.as_ref().unwrap().contains(text), "{result:?}");
        assert_eq!(result.limit, limit, "{reason:?}");
    }
}
