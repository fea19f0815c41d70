//! Tests of the open loop on a paused clock. Only the schedule decides when an arrival is due;
//! responses have no influence.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, UNIX_EPOCH};

use llmload::calendar::Windows;
use llmload::event::{AbortReason, DropReason};
use llmload::guard::{Guard, Pause};
use llmload::launch::{
    Alarm, Driver, PromptSource, RequestTemplate, Route, RouteState, TestWallClock,
};
use llmload::ledger::LedgerCounts;
use llmload::measurement::{Failure, FailureDetail};
use llmload::plan::{self, RequestParameters, Timeouts};
use llmload::prompts::Prompts;
use llmload::protocol::{Dialect, Terminal};
use llmload::schedule::{ArrivalSpec, Load, Phase, Repeat, Schedule};
use llmload::schedule_state::ScheduleState;
use llmload::timetable::{Cycles, Moment, Timetable};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::upstream::{BodyStep, InMemory, InMemoryEndpoint, Recorder, data, token};

pub const ONCE: Repeat = Repeat::Times(NonZeroU32::MIN);

pub fn phase(load: Load, length: Duration) -> Phase {
    Phase { name: load.to_string(), load, length }
}

pub fn constant(rate: &str, seconds: u64) -> Phase {
    phase(Load::Constant(rate.parse().unwrap()), Duration::from_secs(seconds))
}

/// A route (one scenario on one target) to an endpoint in memory.
pub struct Bench {
    pub endpoint: Arc<InMemory>,
    pub route: Arc<Route<InMemoryEndpoint, Arc<Recorder>>>,
    pub recorder: Arc<Recorder>,
    pub stop: CancellationToken,
    pub paused: Pause,
    /// The start of the schedule.
    pub schedule_start: Instant,
    /// The instant and the wall-clock time at which the paused clock begins.
    pub clock_start: Moment,
}

impl Bench {
    pub fn new(endpoint: Arc<InMemory>, max_concurrency: u32) -> Bench {
        Bench::with_prompts(endpoint, max_concurrency, Prompts::builtin())
    }

    pub fn with_prompts(endpoint: Arc<InMemory>, max_concurrency: u32, prompts: Prompts) -> Bench {
        Bench::with_sessions(endpoint, max_concurrency, prompts, None)
    }

    pub fn with_sessions(
        endpoint: Arc<InMemory>,
        max_concurrency: u32,
        prompts: Prompts,
        settings: Option<plan::Sessions>,
    ) -> Bench {
        let (stop, paused) = (CancellationToken::new(), Pause::default());
        let recorder = Arc::new(Recorder::default());
        let parameters = RequestParameters {
            max_tokens: NonZeroU32::new(16).unwrap(),
            temperature: None,
            system: None,
            stream: true,
            extra: BTreeMap::new(),
        };
        let state = Arc::new(RouteState::default());
        let sessions = state.set_sessions(&prompts, 0).zip(settings);
        let limit = sessions.as_ref().map(|(sessions, plan)| sessions.limit(plan.max));
        let template = RequestTemplate {
            model: "m".into(),
            prompts: PromptSource {
                prompts,
                seed: 0,
                scenario: "s".into(),
                schedule: Arc::new(Schedule::new(Vec::new())),
            },
            parameters,
            dialect: Dialect::default(),
            traceparent: true,
            terminal: Terminal::FinishReason,
            timeouts: Timeouts::default(),
        };
        let (max_lag, max_concurrency) =
            (Duration::from_millis(500), NonZeroU32::new(max_concurrency).unwrap());
        let route = Route {
            target: "t".into(),
            endpoint: Arc::new(InMemoryEndpoint(Arc::clone(&endpoint))),
            template,
            guard: Guard::new(stop.clone(), paused.clone(), max_lag, max_concurrency)
                .with_sessions(limit),
            observer: Arc::clone(&recorder),
            sessions,
            state,
        };
        let route = Arc::new(route);
        let clock_start = Moment { instant: Instant::now(), wall: UNIX_EPOCH };
        Bench {
            endpoint,
            route,
            recorder,
            stop,
            paused,
            schedule_start: clock_start.instant,
            clock_start,
        }
    }

    pub fn driver(&self, phases: Vec<Phase>, repeat: Repeat) -> Driver {
        self.driver_with_cycles(
            phases,
            Cycles::BackToBack { repeat, when_ready: true },
            ArrivalSpec::default(),
        )
    }

    pub fn driver_with_cycles(
        &self,
        phases: Vec<Phase>,
        cycles: Cycles,
        arrivals: ArrivalSpec,
    ) -> Driver {
        self.driver_with_state(phases, cycles, arrivals, None).0
    }

    pub fn driver_with_state(
        &self,
        phases: Vec<Phase>,
        cycles: Cycles,
        arrivals: ArrivalSpec,
        active: Option<Windows>,
    ) -> (Driver, Arc<ScheduleState>) {
        let timetable = Timetable::new(Arc::new(Schedule::new(phases)), cycles, active);
        let schedule = Arc::clone(timetable.schedule());
        let schedule_state = Arc::new(ScheduleState::new(
            schedule,
            timetable.is_endless(),
            arrivals.shard,
            "the target",
        ));
        let state = Arc::clone(&schedule_state);
        (Driver::new(timetable, arrivals, state, self.schedule_start), schedule_state)
    }

    pub fn alarm(&self) -> Alarm {
        Alarm::on_test_clock(TestWallClock::new(self.clock_start))
    }

    /// Runs the driver until no more arrivals are due.
    pub async fn drive(&self, driver: &mut Driver) {
        driver.run(&self.route, &mut self.alarm(), &self.stop).await;
    }

    pub async fn run(&self, phases: Vec<Phase>) -> LedgerCounts {
        self.drive(&mut self.driver(phases, ONCE)).await;
        self.settle().await
    }

    pub async fn settle(&self) -> LedgerCounts {
        self.route.state.tasks.close();
        self.route.state.tasks.wait().await;
        self.counts()
    }

    pub fn counts(&self) -> LedgerCounts {
        let counts = self.route.state.ledger.counts();
        assert_eq!(counts.first_broken_equation(), None);
        counts
    }

    /// Returns the instant at which the n-th request reached the endpoint.
    pub fn sent_at(&self, number: usize) -> Instant {
        self.endpoint.sent.lock().unwrap()[number]
    }

    /// Returns the time of each request, from the start of the schedule.
    pub fn sent(&self) -> Vec<Duration> {
        self.endpoint.sent.lock().unwrap().iter().map(|at| *at - self.schedule_start).collect()
    }
}

pub fn dropped(counts: &LedgerCounts, reason: DropReason) -> u64 {
    counts.dropped().find(|d| d.0 == reason).map_or(0, |d| d.1)
}

#[tokio::test(start_paused = true)]
async fn a_target_that_never_responds_changes_no_arrival() {
    let bench = Bench::new(InMemory::silent(), 1000);
    let mut driver = bench.driver(vec![constant("10/s", 20)], ONCE);
    bench.drive(&mut driver).await;
    tokio::task::yield_now().await;
    let sent = bench.sent();
    assert_eq!(sent.len(), 200);
    for (k, at) in sent.iter().enumerate() {
        let due = Duration::from_millis(50 + 100 * k as u64);
        // tokio's timer rounds up to the next millisecond.
        assert!(*at >= due && *at < due + Duration::from_millis(2), "{k}: {at:?}");
    }
    bench.route.state.cancellation.cancel(AbortReason::Shutdown);
    let counts = bench.settle().await;
    assert_eq!(
        (counts.arrivals, counts.started, counts.finished, counts.in_flight),
        (200, 200, 0, 0)
    );
    assert_eq!(counts.aborted().map(|a| a.1).sum::<u64>(), 200);
}

#[tokio::test(start_paused = true)]
async fn an_arrival_at_max_concurrency_is_dropped_at_once_and_counted() {
    let bench = Bench::new(InMemory::silent(), 7);
    bench.drive(&mut bench.driver(vec![constant("10/s", 2)], ONCE)).await;
    let counts = bench.counts();
    assert_eq!((counts.arrivals, counts.started, counts.in_flight), (20, 7, 7));
    assert_eq!(dropped(&counts, DropReason::MaxConcurrency), 13);
    bench.route.state.cancellation.cancel(AbortReason::Shutdown);
    bench.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_stall_drops_old_arrivals_and_moves_no_due_time() {
    let bench = Bench::new(InMemory::responding_after(Duration::from_millis(1)), 1000);
    let (route, stop) = (Arc::clone(&bench.route), bench.stop.clone());
    let mut alarm = bench.alarm();
    let mut driver = bench.driver(vec![constant("100/s", 10)], ONCE);
    let running = tokio::spawn(async move { driver.run(&route, &mut alarm, &stop).await });
    bench.endpoint.wait_for_requests(300).await;
    // The clock jumps by 3 s, as after a suspended process.
    tokio::time::advance(Duration::from_secs(3)).await;
    let resumed = bench.schedule_start.elapsed();
    running.await.unwrap();
    let counts = bench.settle().await;
    assert_eq!(counts.arrivals, 1000);
    let late = dropped(&counts, DropReason::Late);
    assert!((249..=251).contains(&late), "{late}");
    assert_eq!(counts.succeeded, 1000 - late);
    let sent = bench.sent();
    let bunched =
        sent.iter().filter(|at| **at >= resumed && **at < resumed + Duration::from_millis(4));
    assert!(bunched.count() <= 51);
    // The last second has arrivals at 5 ms + 10 ms · k, as before the stall.
    for at in sent.iter().filter(|at| **at >= Duration::from_secs(9)) {
        let off = (at.as_micros() + 10_000 - 5_000) % 10_000;
        assert!(off < 2_000, "{at:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_ledger_balances_if_requests_succeed_and_if_they_fail() {
    for endpoint in [
        InMemory::responding_after(Duration::from_secs(1)),
        InMemory::failing_after(Duration::from_millis(300)),
    ] {
        let fails = endpoint.is_failing;
        let bench = Bench::new(endpoint, 5);
        let ramp = Load::Ramp { from: "0/s".parse().unwrap(), to: "20/s".parse().unwrap() };
        let counts =
            bench.run(vec![phase(ramp, Duration::from_secs(10)), constant("20/s", 5)]).await;
        assert_eq!(counts.arrivals, 200);
        assert_eq!(counts.in_flight, 0);
        assert_eq!(counts.succeeded, if fails { 0 } else { counts.started });
        assert_eq!(bench.sent().len() as u64, counts.started);
        assert_eq!(bench.recorder.succeeded.lock().unwrap().len() as u64, counts.succeeded);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_arrivals_at_once() {
    let bench = Bench::new(InMemory::responding_after(Duration::from_secs(5)), 1000);
    let (route, stop) = (Arc::clone(&bench.route), bench.stop.clone());
    let mut alarm = bench.alarm();
    let mut driver = bench.driver(vec![constant("100/s", 3600)], Repeat::Forever);
    let running = tokio::spawn(async move { driver.run(&route, &mut alarm, &stop).await });
    bench.endpoint.wait_for_requests(1000).await;
    let stopped = Instant::now();
    bench.stop.cancel();
    running.await.unwrap();
    assert_eq!(Instant::now(), stopped);
    let counts = bench.settle().await;
    assert_eq!(counts.arrivals, 1000);
    assert_eq!(counts.succeeded, counts.arrivals);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_request_is_one_internal_failure_for_ledger_and_observer() {
    let late =
        vec![data(&[&token("a")]), BodyStep::Pause(Duration::from_millis(400)), BodyStep::Panic];
    for (body, first_tokens) in [(vec![BodyStep::Panic], 0), (late, 20)] {
        let bench = Bench::new(InMemory::with_body(Duration::from_millis(100), body), 100);
        let counts = bench.run(vec![constant("10/s", 2)]).await;
        assert_eq!(
            (counts.arrivals, counts.finished, counts.succeeded, counts.in_flight),
            (20, 20, 0, 0)
        );
        let internal =
            counts.failures().find(|(failure, _)| *failure == Failure::Internal).unwrap();
        let reported = bench.recorder.failed.lock().unwrap();
        assert_eq!((internal.1, reported.len()), (20, 20));
        assert!(reported.iter().all(|detail| *detail
            == FailureDetail::new(Failure::Internal, "llmload panicked: on purpose")));
        assert_eq!(bench.recorder.first_tokens.load(Ordering::Relaxed), first_tokens);
        assert!(bench.recorder.succeeded.lock().unwrap().is_empty());
    }
}
