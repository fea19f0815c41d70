//! The transitions of the breaker, one by one and as properties of random histories.

use std::num::NonZeroU32;

use proptest::prelude::*;

use super::*;
use crate::slo::Share;

fn settings(percent: u8, at_least: u32) -> plan::Breaker {
    plan::Breaker {
        failures: Share::percent(percent),
        over: Duration::from_mins(1),
        at_least: NonZeroU32::new(at_least).unwrap(),
        pause: Duration::from_mins(1),
        max_pause: Duration::from_secs(200),
    }
}

const FAILED: Option<Failure> = Some(Failure::Http5xx);

/// A breaker on a clock in seconds.
struct Bench {
    machine: Machine,
    start: Instant,
}

impl Bench {
    fn new(settings: plan::Breaker) -> Bench {
        Bench { machine: Machine::new(settings), start: Instant::now() }
    }

    fn at(&self, seconds: u64) -> Instant {
        self.start + Duration::from_secs(seconds)
    }

    fn admit(&mut self, seconds: u64) -> Option<Ticket> {
        self.machine.admit(self.at(seconds))
    }

    /// Sends a request that begins and ends at this time.
    fn request(&mut self, seconds: u64, failure: Option<Failure>) -> Option<BreakerChange> {
        let ticket = self.admit(seconds).expect("the breaker admits the request");
        self.machine.record(ticket, failure, self.at(seconds))
    }

    fn is_open(&self) -> bool {
        self.machine.open_for(self.start).is_some()
    }
}

#[test]
fn it_opens_at_the_share_of_failures_and_not_before_enough_requests() {
    let mut bench = Bench::new(settings(50, 20));
    for _ in 0..10 {
        assert_eq!(bench.request(0, FAILED), None);
    }
    for _ in 0..9 {
        assert_eq!(bench.request(1, None), None);
    }
    let cause = OpenCause::Failures { failed: 10, finished: 20 };
    let pause = Duration::from_mins(1);
    assert_eq!(bench.request(2, None), Some(BreakerChange::Opened { cause, pause }));
    assert_eq!(bench.admit(61), None);
    assert_eq!(bench.machine.open_for(bench.at(32)), Some(Duration::from_secs(30)));
}

#[test]
fn failures_outside_the_window_do_not_count() {
    let mut bench = Bench::new(settings(50, 4));
    for seconds in [0, 1, 2, 70, 71, 72, 140] {
        assert_eq!(bench.request(seconds, FAILED), None, "at {seconds} s");
    }
    assert!(bench.request(141, FAILED).is_none() && bench.request(142, None).is_none());
    assert!(bench.request(143, FAILED).is_some());
}

#[test]
fn a_rejected_key_and_a_used_up_quota_open_at_once() {
    for refused in [Failure::Auth, Failure::Quota] {
        let mut bench = Bench::new(settings(100, 1_000));
        assert_eq!(bench.request(0, None), None);
        let (cause, pause) = (OpenCause::Refused(refused), Duration::from_mins(1));
        assert_eq!(bench.request(1, Some(refused)), Some(BreakerChange::Opened { cause, pause }));
    }
}

#[test]
fn failures_of_llmload_itself_do_not_count() {
    let mut bench = Bench::new(settings(1, 1));
    for failure in [Failure::ClientResource, Failure::Internal] {
        assert_eq!(bench.request(0, Some(failure)), None);
    }
    assert!(bench.request(0, Some(Failure::Auth)).is_some());
    let probe = bench.admit(60).unwrap();
    assert_eq!(bench.machine.record(probe, Some(Failure::Internal), bench.at(61)), None);
    assert_eq!(bench.machine.open_for(bench.at(61)), Some(Duration::from_mins(1)), "not doubled");
}

#[test]
fn a_failed_probe_doubles_the_pause_up_to_its_limit_and_a_success_closes() {
    let mut bench = Bench::new(settings(50, 1));
    assert!(bench.request(0, FAILED).is_some());
    for (probe, next) in [(60, 120), (180, 200), (380, 200)] {
        assert_eq!(bench.admit(probe - 1), None);
        assert_eq!(bench.request(probe, FAILED), None);
        let pause = Duration::from_secs(next);
        assert_eq!(bench.machine.open_for(bench.at(probe)), Some(pause), "after {probe} s");
    }
    let after = Duration::from_secs(580);
    assert_eq!(bench.request(580, None), Some(BreakerChange::Closed { after }));
    assert!(!bench.is_open());
    let pause = Duration::from_mins(1);
    let cause = OpenCause::Failures { failed: 1, finished: 1 };
    assert_eq!(bench.request(581, FAILED), Some(BreakerChange::Opened { cause, pause }));
}

#[test]
fn there_is_one_probe_at_a_time() {
    let mut bench = Bench::new(settings(50, 1));
    assert!(bench.request(0, FAILED).is_some());
    let probe = bench.admit(60).unwrap();
    assert_eq!((bench.admit(60), bench.admit(3_600)), (None, None), "the probe has not ended");
    assert_eq!(bench.machine.open_for(bench.at(70)), Some(Duration::ZERO));
    bench.machine.abandon(probe);
    let second = bench.admit(61).expect("an abandoned probe is repeated at once");
    assert_eq!(bench.machine.record(probe, None, bench.at(62)), None, "the first probe is over");
    assert!(bench.machine.record(second, None, bench.at(62)).is_some());
}

#[test]
fn requests_from_before_a_change_do_not_count_after_it() {
    let mut bench = Bench::new(settings(50, 1));
    let (old, older) = (bench.admit(0).unwrap(), bench.admit(0).unwrap());
    assert!(bench.request(0, FAILED).is_some());
    assert_eq!(bench.machine.record(old, None, bench.at(1)), None);
    bench.machine.abandon(older);
    assert!(bench.is_open());
    assert!(bench.request(60, None).is_some());
    assert_eq!(bench.machine.record(old, FAILED, bench.at(61)), None);
    assert!(!bench.is_open());
}

#[derive(Clone, Debug)]
enum Act {
    /// An arrival after this number of milliseconds.
    Arrive(u64),
    /// The end of one of the requests in flight.
    End(prop::sample::Index, Option<Failure>),
    /// The abort of one of the requests in flight.
    Abort(prop::sample::Index),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let failure = prop_oneof![
        3 => Just(None),
        3 => Just(FAILED),
        1 => Just(Some(Failure::Auth)),
        1 => Just(Some(Failure::Internal)),
    ];
    let act = prop_oneof![
        4 => (0_u64..30_000).prop_map(Act::Arrive),
        4 => (any::<prop::sample::Index>(), failure).prop_map(|(index, end)| Act::End(index, end)),
        1 => any::<prop::sample::Index>().prop_map(Act::Abort),
    ];
    prop::collection::vec(act, 1..300)
}

proptest! {
    /// While the breaker is open, it admits at most one request per pause, and never two at once.
    /// The pauses double up to the limit. The breaker closes only after a success.
    #[test]
    fn an_open_breaker_admits_single_probes_after_doubling_pauses(acts in acts()) {
        let settings = settings(40, 5);
        let mut machine = Machine::new(settings);
        let mut now = Instant::now();
        let mut in_flight: Vec<Ticket> = Vec::new();
        // The open state as the rules define it: the end of the pause, its length, and the probe.
        let mut open: Option<(Instant, Duration, Option<Ticket>)> = None;
        for act in acts {
            match act {
                Act::Arrive(millis) => {
                    now += Duration::from_millis(millis);
                    let ticket = machine.admit(now);
                    if let Some((until, _, probe)) = &mut open {
                        prop_assert_eq!(ticket.is_some(), probe.is_none() && now >= *until);
                        *probe = probe.or(ticket);
                    } else {
                        prop_assert!(ticket.is_some());
                    }
                    in_flight.extend(ticket);
                }
                Act::End(index, failure) if !in_flight.is_empty() => {
                    let ticket = in_flight.swap_remove(index.index(in_flight.len()));
                    let change = machine.record(ticket, failure, now);
                    match (&mut open, change) {
                        (None, Some(BreakerChange::Opened { cause, pause })) => {
                            prop_assert_eq!(pause, settings.pause);
                            if let OpenCause::Failures { failed, finished } = cause {
                                prop_assert!(finished >= 5 && failed * 10 >= finished * 4);
                            }
                            open = Some((now + pause, pause, None));
                        }
                        (Some((.., probe)), Some(BreakerChange::Closed { .. })) => {
                            prop_assert!(*probe == Some(ticket) && failure.is_none());
                            open = None;
                        }
                        (Some((until, pause, probe)), None) if *probe == Some(ticket) => {
                            let is_own = failure == Some(Failure::Internal);
                            prop_assert!(failure.is_some());
                            *pause = if is_own { *pause } else { settings.max_pause.min(*pause * 2) };
                            (*until, *probe) = (now + *pause, None);
                        }
                        (_, None) => {}
                        (_, Some(change)) => prop_assert!(false, "{change:?}"),
                    }
                }
                Act::Abort(index) if !in_flight.is_empty() => {
                    let ticket = in_flight.swap_remove(index.index(in_flight.len()));
                    machine.abandon(ticket);
                    if let Some((.., probe)) = &mut open {
                        *probe = probe.filter(|probe| *probe != ticket);
                    }
                }
                Act::End(..) | Act::Abort(_) => {}
            }
            prop_assert_eq!(machine.open_for(now).is_some(), open.is_some());
        }
    }
}
