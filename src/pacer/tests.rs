//! Tests that poll the pacer often, rarely, early and late.

use proptest::prelude::*;

use super::*;
use crate::schedule::{Arrivals, Load, Phase, Rate, Shard};

fn schedule(phases: &[(Load, u64)]) -> Arc<Schedule> {
    let phases = phases.iter().cloned().map(|(load, millis)| Phase {
        name: load.to_string(),
        load,
        length: Duration::from_millis(millis),
    });
    Arc::new(Schedule::new(phases.collect()))
}

fn rate(text: &str) -> Rate {
    text.parse().unwrap()
}

fn full_cycle(load: &[(Load, u64)], origin: Instant) -> Pacer {
    let schedule = schedule(load);
    let segment = Segment::full_cycle(&schedule, 0, origin);
    Pacer::new(schedule, &ArrivalSpec::default(), segment)
}

/// The due times in the first cycles. Polls the pacer at the start, and then at the offsets in
/// `polls` only.
fn dues(
    schedule: &Arc<Schedule>,
    cycles: u64,
    spec: &ArrivalSpec,
    mut polls: impl Iterator<Item = Duration>,
) -> Vec<Duration> {
    let origin = Instant::now();
    let (mut dues, mut now, mut start) = (Vec::new(), origin, origin);
    for cycle in 0..cycles {
        let mut pacer =
            Pacer::new(Arc::clone(schedule), spec, Segment::full_cycle(schedule, cycle, start));
        loop {
            match pacer.poll(now) {
                Next::Due { due, .. } => dues.push(due - origin),
                Next::End(at) => break start = at,
                _ => match polls.next() {
                    Some(at) => now = origin + at,
                    None => return dues,
                },
            }
        }
    }
    dues
}

#[test]
fn the_pacer_waits_exactly_until_the_next_due_time() {
    let load = [(Load::Ramp { from: Rate::ZERO, to: rate("400/s") }, 20_000)];
    let origin = Instant::now();
    let mut pacer = full_cycle(&load, origin);
    let (mut now, mut count) = (origin, 0);
    loop {
        match pacer.poll(now) {
            Next::Due { due, k, lengths, .. } => {
                assert_eq!((due, k, lengths), (now, count, None));
                count += 1;
            }
            Next::Wait(until) => {
                assert!(until > now);
                now = until;
            }
            Next::ClosedLoop { .. } | Next::CountedRequests { .. } | Next::Search { .. } => {
                unreachable!()
            }
            Next::End(_) => break,
        }
    }
    assert_eq!(count, 4000);
}

#[test]
fn a_long_stop_loses_no_arrival_and_moves_no_due_time() {
    let schedule = schedule(&[(Load::Constant(rate("20000/s")), 10_000)]);
    let even = ArrivalSpec::default();
    let steady = dues(&schedule, 1, &even, (0..=10_000).map(Duration::from_millis));
    // The only poll after the start is late, so 200,000 arrivals are due at once. The bucket of the
    // limiter holds only 4,294.
    let stopped = dues(&schedule, 1, &even, [Duration::from_mins(1)].into_iter());
    assert_eq!(steady.len(), 200_000);
    assert_eq!(steady, stopped);
}

#[test]
fn only_a_fraction_of_an_arrival_carries_over_to_the_next_cycle() {
    // A cycle holds 0.7 arrivals, so 1,000 cycles hold exactly 700.
    let schedule = schedule(&[(Load::Constant(rate("7/s")), 100)]);
    let dues = dues(&schedule, 1000, &ArrivalSpec::default(), (0..=100).map(Duration::from_secs));
    assert_eq!(dues.len(), 700);
    for (k, due) in dues.iter().enumerate() {
        let exact = Duration::from_nanos(((2 * k as u64 + 1) * 1_000_000_000).div_ceil(14));
        assert_eq!(*due, exact, "arrival {k}");
    }
}

#[test]
fn the_pacer_returns_a_closed_loop_phase_from_its_start_to_its_end() {
    let slots = NonZeroU32::new(3).unwrap();
    let load = [
        (Load::Pause, 1000),
        (Load::Concurrency(slots), 2000),
        (Load::Constant(rate("1/s")), 1000),
    ];
    let origin = Instant::now();
    let at = |millis| origin + Duration::from_millis(millis);
    let mut pacer = full_cycle(&load, origin);
    assert_eq!(pacer.poll(origin), Next::Wait(at(1000)));
    assert_eq!(
        pacer.poll(at(1000)),
        Next::ClosedLoop { phase: 1, slots, since: at(1000), until: at(3000) }
    );
    assert_eq!(
        pacer.poll(at(2999)),
        Next::ClosedLoop { phase: 1, slots, since: at(1000), until: at(3000) }
    );
    assert_eq!(pacer.poll(at(3000)), Next::Wait(at(3500)));
    assert_eq!(pacer.poll(at(3500)), Next::Due { due: at(3500), k: 0, phase: 2, lengths: None });
    assert_eq!(pacer.poll(at(3500)), Next::Wait(at(4000)));
    assert_eq!(pacer.poll(at(4000)), Next::End(at(4000)));
}

#[test]
fn the_schedule_clock_stops_during_a_phase_of_counted_requests() {
    let (slots, count) = (NonZeroU32::new(3).unwrap(), NonZeroU64::new(10).unwrap());
    let load = [
        (Load::Requests { slots, count }, 0),
        (Load::Constant(rate("1/s")), 2000),
        (Load::Requests { slots, count }, 0),
        (Load::Requests { slots, count }, 0),
    ];
    let origin = Instant::now();
    let at = |millis| origin + Duration::from_millis(millis);
    let counted = |phase, since| Next::CountedRequests { phase, slots, count, since };
    let mut pacer = full_cycle(&load, origin);
    assert_eq!(pacer.poll(origin), counted(0, origin));
    assert_eq!(pacer.poll(at(700)), counted(0, origin));
    pacer.end_untimed_phase(at(700));
    assert_eq!(pacer.poll(at(700)), Next::Wait(at(1200)));
    assert_eq!(pacer.poll(at(5000)), Next::Due { due: at(1200), k: 0, phase: 1, lengths: None });
    assert_eq!(pacer.poll(at(5000)), Next::Due { due: at(2200), k: 1, phase: 1, lengths: None });
    assert_eq!(pacer.poll(at(5000)), counted(2, at(2700)));
    pacer.end_untimed_phase(at(5000));
    assert_eq!(pacer.poll(at(5000)), counted(3, at(5000)));
    pacer.end_untimed_phase(at(6000));
    assert_eq!(pacer.poll(at(6000)), Next::End(at(6000)));
}

#[test]
fn the_pacer_waits_if_the_cycle_has_not_started() {
    let origin = Instant::now() + Duration::from_secs(100);
    let load = [(Load::Constant(rate("1/h")), 3_600_000)];
    let mut pacer = full_cycle(&load, origin);
    assert_eq!(pacer.poll(Instant::now()), Next::Wait(origin + Duration::from_mins(30)));
}

#[test]
fn random_arrivals_keep_the_mean_rate_and_start_anew_with_each_cycle() {
    let schedule = schedule(&[(Load::Constant(rate("100/s")), 10_000)]);
    let walk = |seed| {
        let spec = ArrivalSpec {
            arrivals: Arrivals::Poisson,
            seed,
            scenario: "s".into(),
            shard: Shard::ALL,
        };
        dues(&schedule, 2, &spec, (0..=20).map(Duration::from_secs))
    };
    let dues = walk(1);
    assert_eq!(dues, walk(1));
    assert_ne!(dues, walk(2));
    // The expected number is 2,000, and the standard deviation is 45.
    assert!((1800..2200).contains(&dues.len()), "{}", dues.len());
    assert!(dues.is_sorted());
    let second: Vec<_> =
        dues.iter().filter_map(|due| due.checked_sub(Duration::from_secs(10))).collect();
    assert_ne!(second[..10], dues[..10], "each cycle draws its own gaps");
}

#[test]
fn a_pacer_that_joins_random_arrivals_late_returns_the_remaining_arrivals() {
    let spec = ArrivalSpec { arrivals: Arrivals::Poisson, ..ArrivalSpec::default() };
    let schedule = schedule(&[(Load::Constant(rate("2/s")), 4 * 3_600_000)]);
    let (start, after) = (Instant::now(), Duration::from_hours(3));
    let (now, until_offset) = (start + after, schedule.length());
    let mut full =
        Pacer::new(Arc::clone(&schedule), &spec, Segment::full_cycle(&schedule, 0, start));
    while let Next::Due { .. } = full.poll(now) {}
    let mut joined = Pacer::new(
        schedule,
        &spec,
        Segment { cycle: 0, cycle_start: start, after_offset: Some(after), until_offset },
    );
    assert!(matches!(joined.poll(now), Next::Wait(until) if until > now));
    let end = start + until_offset;
    let rest = |pacer: &mut Pacer| {
        let all = std::iter::repeat_with(|| pacer.poll(end))
            .take_while(|next| matches!(next, Next::Due { .. }));
        all.collect::<Vec<_>>()
    };
    let expected = rest(&mut full);
    assert!(expected.len() > 7000);
    assert_eq!(rest(&mut joined), expected);
}

#[test]
fn a_gap_larger_than_the_bucket_of_the_limiter_moves_no_due_time() {
    let schedule = schedule(&[(Load::Constant(rate("100000/s")), 10_000)]);
    let arrivals = Arrivals::Burstiness(0.0001);
    let spec = ArrivalSpec { arrivals, seed: 5, scenario: "s".into(), shard: Shard::ALL };
    let mut all = ArrivalMarks::new(&spec, 0, 0, 0);
    let marks: Vec<u64> = std::iter::repeat_with(|| {
        let mark = all.position();
        all.advance();
        mark
    })
    .take_while(|mark| *mark <= 1_000_000_000_000)
    .collect();
    let has_long_gap = marks.windows(2).any(|pair| pair[1] - pair[0] > u64::from(u32::MAX));
    assert!(has_long_gap, "this seed has a gap larger than the bucket of the limiter");
    let dues = dues(&schedule, 1, &spec, (0..=10).map(Duration::from_secs));
    let exact: Vec<_> = marks.iter().map(|mark| Duration::from_nanos(mark.div_ceil(100))).collect();
    assert_eq!(dues, exact);
}

proptest! {
    #[test]
    fn rare_polls_lose_no_arrival_and_move_no_due_time(
        from in 0u32..2000, to in 1u32..2000, pause in 0u64..500, cycles in 1u32..4,
        gaps in prop::collection::vec(1u64..2_000_000_000, 1..50),
    ) {
        let (from, to) = (rate(&format!("{from}/s")), rate(&format!("{to}/s")));
        let load = [(Load::Ramp { from, to }, 333), (Load::Pause, pause + 1), (Load::Constant(to), 77)];
        let schedule = schedule(&load);
        let mut now = Duration::ZERO;
        let polls = gaps.iter().map(|gap| { now += Duration::from_nanos(*gap); now }).collect::<Vec<_>>();
        let end = schedule.length() * cycles;
        let returned = dues(&schedule, u64::from(cycles), &ArrivalSpec::default(), polls.into_iter().chain([end.max(now)]));
        // The expected due times follow from the marks and Λ⁻¹, without a limiter.
        let mut expected = Vec::new();
        for k in 0u64.. {
            let mark = Area::from_micro(k * 1_000_000 + 500_000);
            let mut rest = mark;
            let mut cycle = 0;
            while cycle < cycles && rest > schedule.total() { rest = rest - schedule.total(); cycle += 1; }
            if cycle == cycles { break; }
            expected.push(schedule.length() * cycle + schedule.due(rest).unwrap());
        }
        prop_assert_eq!(returned, expected);
    }

    #[test]
    fn two_segments_of_a_cycle_have_the_arrivals_of_the_full_cycle(
        cycle in 0u64..1_000_000, cut in 0u64..1400, seed in 0u64..50, random: bool, index in 0u32..3,
    ) {
        let load = [
            (Load::Ramp { from: rate("3/s"), to: rate("700/s") }, 700),
            (Load::Pause, 200),
            (Load::Constant(rate("90/s")), 500),
        ];
        let schedule = schedule(&load);
        let arrivals = if random { Arrivals::Poisson } else { Arrivals::Constant };
        let shard = Shard::new(index, 3).unwrap();
        let spec = ArrivalSpec { arrivals, seed, scenario: "s".into(), shard };
        let start = Instant::now();
        let walk = |after_offset: Option<Duration>, until_offset: Duration| {
            let segment = Segment { cycle, cycle_start: start, after_offset, until_offset };
            let mut pacer = Pacer::new(Arc::clone(&schedule), &spec, segment);
            let mut arrivals = Vec::new();
            while let Next::Due { due, k, .. } = pacer.poll(start + Duration::from_secs(10)) {
                arrivals.push((due - start, k));
            }
            arrivals
        };
        let cut = Duration::from_millis(cut);
        let undivided = walk(None, schedule.length());
        let mut parts = walk(None, cut);
        parts.extend(walk(Some(cut), schedule.length()));
        prop_assert!(parts.iter().all(|(_, k)| k % 3 == (undivided.first().unwrap().1 % 3)));
        prop_assert_eq!(undivided, parts);
    }
}
