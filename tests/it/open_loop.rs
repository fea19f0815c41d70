//! The open loop on a paused clock: arrivals follow from the schedule alone.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, UNIX_EPOCH};

use llmload::calendar::Windows;
use llmload::event::{AbortReason, DropReason};
use llmload::guard::{Guard, Pause};
use llmload::launch::{Alarm, Driver, Route};
use llmload::ledger::LedgerCounts;
use llmload::measurement::{Failure, FailureDetail};
use llmload::plan::{RequestParameters, Timeouts};
use llmload::prompts::Prompts;
use llmload::protocol::{Dialect, Terminal};
use llmload::schedule::{ArrivalSpec, Load, Phase, Repeat, Schedule};
use llmload::schedule_state::ScheduleState;
use llmload::timetable::{Cycles, Moment, Timetable};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::upstream::{Beat, InMemory, Recorder, Shared, says, token};

pub const ONCE: Repeat = Repeat::Times(NonZeroU32::MIN);

pub fn phase(load: Load, length: Duration) -> Phase {
    Phase { name: load.to_string(), load, length }
}

pub fn constant(rate: &str, seconds: u64) -> Phase {
    phase(Load::Constant(rate.parse().unwrap()), Duration::from_secs(seconds))
}

/// A lane to an endpoint in memory, and what is needed to drive and watch it.
pub struct Bench {
    pub endpoint: Arc<InMemory>,
    pub route: Arc<Route<Shared, Arc<Recorder>>>,
    pub recorder: Arc<Recorder>,
    pub stop: CancellationToken,
    pub paused: Pause,
    pub origin: Instant,
    pub epoch: Moment,
}

impl Bench {
    pub fn new(endpoint: Arc<InMemory>, max_concurrency: u32) -> Bench {
        Bench::asking(endpoint, max_concurrency, Prompts::builtin())
    }

    pub fn asking(endpoint: Arc<InMemory>, max_concurrency: u32, prompts: Prompts) -> Bench {
        let (stop, paused) = (CancellationToken::new(), Pause::default());
        let recorder = Arc::new(Recorder::default());
        let parameters = RequestParameters {
            max_tokens: NonZeroU32::new(16).unwrap(),
            temperature: None,
            system: None,
            stream: true,
            extra: BTreeMap::new(),
        };
        let route = Route {
            target: "t".into(),
            endpoint: Arc::new(Shared(Arc::clone(&endpoint))),
            model: "m".into(),
            prompts,
            scenario: "s".into(),
            seed: 0,
            parameters,
            dialect: Dialect::default(),
            traceparent: true,
            terminal: Terminal::FinishReason,
            timeouts: Timeouts::default(),
            guard: Guard::new(
                stop.clone(),
                paused.clone(),
                Duration::from_millis(500),
                NonZeroU32::new(max_concurrency).unwrap(),
            ),
            observer: Arc::clone(&recorder),
            state: Arc::default(),
        };
        let route = Arc::new(route);
        let epoch = Moment { instant: Instant::now(), wall: UNIX_EPOCH };
        Bench { endpoint, route, recorder, stop, paused, origin: epoch.instant, epoch }
    }

    pub fn driver(&self, phases: Vec<Phase>, repeat: Repeat) -> Driver {
        self.driver_by(
            phases,
            Cycles::BackToBack { repeat, when_ready: true },
            ArrivalSpec::default(),
        )
    }

    pub fn driver_by(&self, phases: Vec<Phase>, cycles: Cycles, spread: ArrivalSpec) -> Driver {
        self.watched(phases, cycles, spread, None).0
    }

    pub fn watched(
        &self,
        phases: Vec<Phase>,
        cycles: Cycles,
        spread: ArrivalSpec,
        active: Option<Windows>,
    ) -> (Driver, Arc<ScheduleState>) {
        let timetable = Timetable::new(Arc::new(Schedule::new(phases)), cycles, active);
        let schedule = Arc::clone(timetable.schedule());
        let schedule_state =
            Arc::new(ScheduleState::new(schedule, timetable.is_endless(), spread.shard, "nothing"));
        (Driver::new(timetable, spread, Arc::clone(&schedule_state), self.origin), schedule_state)
    }

    /// Goes on until nothing is to come.
    pub async fn drive(&self, driver: &mut Driver) {
        driver.run(&self.route, &mut Alarm::Tokio(self.epoch), &self.stop).await;
    }

    /// Goes through the whole schedule and lets what is in flight end.
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
        let counts = self.route.state.ledger.read();
        assert_eq!(counts.imbalance(), None);
        counts
    }

    /// When a request, by its number, reached the endpoint.
    pub fn sent_at(&self, number: usize) -> Instant {
        self.endpoint.sent.lock().unwrap()[number]
    }

    pub fn sent(&self) -> Vec<Duration> {
        self.endpoint.sent.lock().unwrap().iter().map(|at| *at - self.origin).collect()
    }
}

pub fn dropped(counts: &LedgerCounts, reason: DropReason) -> u64 {
    counts.dropped().find(|d| d.0 == reason).map_or(0, |d| d.1)
}

#[tokio::test(start_paused = true)]
async fn a_target_that_never_answers_changes_no_arrival() {
    let bench = Bench::new(InMemory::mute(), 1000);
    let mut driver = bench.driver(vec![constant("10/s", 20)], ONCE);
    bench.drive(&mut driver).await;
    tokio::task::yield_now().await;
    let sent = bench.sent();
    assert_eq!(sent.len(), 200);
    for (k, at) in sent.iter().enumerate() {
        let due = Duration::from_millis(50 + 100 * k as u64);
        // tokio's wheel rounds up to the next millisecond.
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
async fn what_meets_the_cap_is_dropped_at_once_and_counted() {
    let bench = Bench::new(InMemory::mute(), 7);
    bench.drive(&mut bench.driver(vec![constant("10/s", 2)], ONCE)).await;
    let counts = bench.counts();
    assert_eq!((counts.arrivals, counts.started, counts.in_flight), (20, 7, 7));
    assert_eq!(dropped(&counts, DropReason::MaxConcurrency), 13);
    bench.route.state.cancellation.cancel(AbortReason::Shutdown);
    bench.settle().await;
}

#[tokio::test(start_paused = true)]
async fn after_a_stall_the_young_go_out_the_old_are_dropped_and_the_grid_stays() {
    let bench = Bench::new(InMemory::answering(Duration::from_millis(1)), 1000);
    let (route, stop, epoch) = (Arc::clone(&bench.route), bench.stop.clone(), bench.epoch);
    let mut driver = bench.driver(vec![constant("100/s", 10)], ONCE);
    let running =
        tokio::spawn(async move { driver.run(&route, &mut Alarm::Tokio(epoch), &stop).await });
    bench.endpoint.until_sent(300).await;
    // The clock leaps: 3 s in which nobody was asked.
    tokio::time::advance(Duration::from_secs(3)).await;
    let leapt = bench.origin.elapsed();
    running.await.unwrap();
    let counts = bench.settle().await;
    assert_eq!(counts.arrivals, 1000);
    let late = dropped(&counts, DropReason::Late);
    assert!((249..=251).contains(&late), "{late}");
    assert_eq!(counts.succeeded, 1000 - late);
    let sent = bench.sent();
    let bunched = sent.iter().filter(|at| **at >= leapt && **at < leapt + Duration::from_millis(4));
    assert!(bunched.count() <= 51);
    // The last second is back on the grid of 5 ms + 10 ms · k.
    for at in sent.iter().filter(|at| **at >= Duration::from_secs(9)) {
        let off = (at.as_micros() + 10_000 - 5_000) % 10_000;
        assert!(off < 2_000, "{at:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_ledger_is_whole_whatever_becomes_of_the_requests() {
    for endpoint in
        [InMemory::answering(Duration::from_secs(1)), InMemory::failing(Duration::from_millis(300))]
    {
        let fails = endpoint.fails;
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
    let bench = Bench::new(InMemory::answering(Duration::from_secs(5)), 1000);
    let (route, stop, epoch) = (Arc::clone(&bench.route), bench.stop.clone(), bench.epoch);
    let mut driver = bench.driver(vec![constant("100/s", 3600)], Repeat::Forever);
    let running =
        tokio::spawn(async move { driver.run(&route, &mut Alarm::Tokio(epoch), &stop).await });
    bench.endpoint.until_sent(1000).await;
    let stopped = Instant::now();
    bench.stop.cancel();
    running.await.unwrap();
    assert_eq!(Instant::now(), stopped);
    let counts = bench.settle().await;
    assert_eq!(counts.arrivals, 1000);
    assert_eq!(counts.succeeded, counts.arrivals);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_request_is_a_failure_that_everybody_is_told_of_once() {
    let late = vec![says(&[&token("a")]), Beat::Waits(Duration::from_millis(400)), Beat::Panics];
    for (body, first_tokens) in [(vec![Beat::Panics], 0), (late, 20)] {
        let bench = Bench::new(InMemory::playing(Duration::from_millis(100), body), 100);
        let counts = bench.run(vec![constant("10/s", 2)]).await;
        assert_eq!(
            (counts.arrivals, counts.finished, counts.succeeded, counts.in_flight),
            (20, 20, 0, 0)
        );
        let internal =
            counts.failures().find(|(failure, _)| *failure == Failure::Internal).unwrap();
        let told = bench.recorder.failed.lock().unwrap();
        assert_eq!((internal.1, told.len()), (20, 20));
        assert!(
            told.iter().all(
                |detail| *detail == FailureDetail::new(Failure::Internal, "panicked: a defect")
            )
        );
        assert_eq!(bench.recorder.first_tokens.load(Ordering::Relaxed), first_tokens);
        assert!(bench.recorder.succeeded.lock().unwrap().is_empty());
    }
}
