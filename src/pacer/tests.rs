//! The pacer, asked at all kinds of instants.

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

fn whole(load: &[(Load, u64)], origin: Instant) -> Pacer {
    let schedule = schedule(load);
    let segment = Segment::whole(&schedule, 0, origin);
    Pacer::new(schedule, &Spread::default(), segment)
}

/// Everything due in so many cycles, asked for only at the instants that `ask` picks.
fn dues(
    schedule: &Arc<Schedule>,
    cycles: u64,
    spread: &Spread,
    mut ask: impl Iterator<Item = Duration>,
) -> Vec<Duration> {
    let origin = Instant::now();
    let (mut dues, mut now, mut start) = (Vec::new(), origin, origin);
    for cycle in 0..cycles {
        let mut pacer =
            Pacer::new(Arc::clone(schedule), spread, Segment::whole(schedule, cycle, start));
        loop {
            match pacer.poll(now) {
                Next::Due { due, .. } => dues.push(due - origin),
                Next::Over(at) => break start = at,
                _ => match ask.next() {
                    Some(at) => now = origin + at,
                    None => return dues,
                },
            }
        }
    }
    dues
}

#[test]
fn arrivals_come_when_they_are_due_if_its_advice_is_followed() {
    let load = [(Load::Ramp { from: Rate::ZERO, to: rate("400/s") }, 20_000)];
    let origin = Instant::now();
    let mut pacer = whole(&load, origin);
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
            Next::Closed { .. } | Next::Counted { .. } => unreachable!(),
            Next::Over(_) => break,
        }
    }
    assert_eq!(count, 4000);
}

#[test]
fn a_long_stop_loses_nothing_and_keeps_the_grid() {
    let schedule = schedule(&[(Load::Constant(rate("20000/s")), 10_000)]);
    let even = Spread::default();
    let steady = dues(&schedule, 1, &even, (0..=10_000).map(Duration::from_millis));
    // Asked at the start, then only after everything is over: 200,000 arrivals, far above the burst.
    let stopped = dues(&schedule, 1, &even, [Duration::from_mins(1)].into_iter());
    assert_eq!(steady.len(), 200_000);
    assert_eq!(steady, stopped);
}

#[test]
fn cycles_carry_the_fraction_and_nothing_else() {
    // 0.7 arrivals a cycle: 1,000 cycles are one schedule of 700, never a tenth more or less.
    let schedule = schedule(&[(Load::Constant(rate("7/s")), 100)]);
    let dues = dues(&schedule, 1000, &Spread::default(), (0..=100).map(Duration::from_secs));
    assert_eq!(dues.len(), 700);
    for (k, due) in dues.iter().enumerate() {
        let exact = Duration::from_nanos(((2 * k as u64 + 1) * 1_000_000_000).div_ceil(14));
        assert_eq!(*due, exact, "arrival {k}");
    }
}

#[test]
fn a_closed_phase_is_announced_at_its_start_and_lasts_to_its_end() {
    let slots = NonZeroU32::new(3).unwrap();
    let load = [
        (Load::Pause, 1000),
        (Load::Concurrency(slots), 2000),
        (Load::Constant(rate("1/s")), 1000),
    ];
    let origin = Instant::now();
    let at = |millis| origin + Duration::from_millis(millis);
    let mut pacer = whole(&load, origin);
    assert_eq!(pacer.poll(origin), Next::Wait(at(1000)));
    assert_eq!(
        pacer.poll(at(1000)),
        Next::Closed { phase: 1, slots, since: at(1000), until: at(3000) }
    );
    assert_eq!(
        pacer.poll(at(2999)),
        Next::Closed { phase: 1, slots, since: at(1000), until: at(3000) }
    );
    assert_eq!(pacer.poll(at(3000)), Next::Wait(at(3500)));
    assert_eq!(pacer.poll(at(3500)), Next::Due { due: at(3500), k: 0, phase: 2, lengths: None });
    assert_eq!(pacer.poll(at(3500)), Next::Wait(at(4000)));
    assert_eq!(pacer.poll(at(4000)), Next::Over(at(4000)));
}

#[test]
fn a_counted_phase_holds_the_schedule_until_it_is_told_to_go_on() {
    let (slots, count) = (NonZeroU32::new(3).unwrap(), NonZeroU64::new(10).unwrap());
    let load = [
        (Load::Requests { slots, count }, 0),
        (Load::Constant(rate("1/s")), 2000),
        (Load::Requests { slots, count }, 0),
        (Load::Requests { slots, count }, 0),
    ];
    let origin = Instant::now();
    let at = |millis| origin + Duration::from_millis(millis);
    let counted = |phase, since| Next::Counted { phase, slots, count, since };
    let mut pacer = whole(&load, origin);
    assert_eq!(pacer.poll(origin), counted(0, origin));
    assert_eq!(pacer.poll(at(700)), counted(0, origin));
    pacer.resume(at(700));
    assert_eq!(pacer.poll(at(700)), Next::Wait(at(1200)));
    assert_eq!(pacer.poll(at(5000)), Next::Due { due: at(1200), k: 0, phase: 1, lengths: None });
    assert_eq!(pacer.poll(at(5000)), Next::Due { due: at(2200), k: 1, phase: 1, lengths: None });
    assert_eq!(pacer.poll(at(5000)), counted(2, at(2700)));
    pacer.resume(at(5000));
    assert_eq!(pacer.poll(at(5000)), counted(3, at(5000)));
    pacer.resume(at(6000));
    assert_eq!(pacer.poll(at(6000)), Next::Over(at(6000)));
}

#[test]
fn before_its_origin_it_waits() {
    let origin = Instant::now() + Duration::from_secs(100);
    let load = [(Load::Constant(rate("1/h")), 3_600_000)];
    let mut pacer = whole(&load, origin);
    assert_eq!(pacer.poll(Instant::now()), Next::Wait(origin + Duration::from_mins(30)));
}

#[test]
fn random_arrivals_are_spread_about_the_same_rate_and_start_anew_with_each_cycle() {
    let schedule = schedule(&[(Load::Constant(rate("100/s")), 10_000)]);
    let walk = |seed| {
        let spread =
            Spread { arrivals: Arrivals::Poisson, seed, scenario: "s".into(), shard: Shard::ALL };
        dues(&schedule, 2, &spread, (0..=20).map(Duration::from_secs))
    };
    let dues = walk(1);
    assert_eq!(dues, walk(1));
    assert_ne!(dues, walk(2));
    // 2,000 expected, with a standard deviation of 45.
    assert!((1800..2200).contains(&dues.len()), "{}", dues.len());
    assert!(dues.is_sorted());
    let second: Vec<_> =
        dues.iter().filter_map(|due| due.checked_sub(Duration::from_secs(10))).collect();
    assert_ne!(second[..10], dues[..10], "a cycle draws its own");
}

/// Bursts so rare that their distances exceed what governor counts at once.
#[test]
fn a_random_cycle_is_joined_hours_in_a_piece_at_a_time_and_goes_on_as_if_it_had_been_walked() {
    let spread = Spread { arrivals: Arrivals::Poisson, ..Spread::default() };
    let schedule = schedule(&[(Load::Constant(rate("2/s")), 4 * 3_600_000)]);
    let (start, after) = (Instant::now(), Duration::from_hours(3));
    let (now, until) = (start + after, schedule.length());
    let mut walked =
        Pacer::new(Arc::clone(&schedule), &spread, Segment::whole(&schedule, 0, start));
    while let Next::Due { .. } = walked.poll(now) {}
    let mut joined =
        Pacer::new(schedule, &spread, Segment { cycle: 0, start, after: Some(after), until });
    let pieces =
        std::iter::repeat_with(|| joined.poll(now)).take_while(|next| *next == Next::Wait(now));
    assert_eq!(pieces.count(), 2 * 3 * 3600 / PIECE as usize);
    let end = start + until;
    let rest = |pacer: &mut Pacer| {
        let all = std::iter::repeat_with(|| pacer.poll(end))
            .take_while(|next| matches!(next, Next::Due { .. }));
        all.collect::<Vec<_>>()
    };
    let walked = rest(&mut walked);
    assert!(walked.len() > 7000);
    assert_eq!(rest(&mut joined), walked);
}

#[test]
fn a_distance_beyond_what_governor_can_count_is_walked_in_pieces() {
    let schedule = schedule(&[(Load::Constant(rate("100000/s")), 10_000)]);
    let arrivals = Arrivals::Burstiness(0.0001);
    let spread = Spread { arrivals, seed: 5, scenario: "s".into(), shard: Shard::ALL };
    let mut series = Series::new(&spread, 0, 0);
    let mut sum = 0;
    let marks: Vec<u64> = std::iter::repeat_with(|| {
        sum += series.next_distance();
        sum
    })
    .take_while(|mark| *mark <= 1_000_000_000_000)
    .collect();
    let far = marks.windows(2).any(|pair| pair[1] - pair[0] > u64::from(u32::MAX));
    assert!(far, "the seed has such a distance");
    let dues = dues(&schedule, 1, &spread, (0..=10).map(Duration::from_secs));
    let exact: Vec<_> = marks.iter().map(|mark| Duration::from_nanos(mark.div_ceil(100))).collect();
    assert_eq!(dues, exact);
}

proptest! {
    #[test]
    fn every_arrival_is_told_once_at_its_own_instant_however_rarely_it_is_asked(
        from in 0u32..2000, to in 1u32..2000, pause in 0u64..500, cycles in 1u32..4,
        gaps in prop::collection::vec(1u64..2_000_000_000, 1..50),
    ) {
        let (from, to) = (rate(&format!("{from}/s")), rate(&format!("{to}/s")));
        let load = [(Load::Ramp { from, to }, 333), (Load::Pause, pause + 1), (Load::Constant(to), 77)];
        let schedule = schedule(&load);
        let mut now = Duration::ZERO;
        let asked = gaps.iter().map(|gap| { now += Duration::from_nanos(*gap); now }).collect::<Vec<_>>();
        let end = schedule.length() * cycles;
        let told = dues(&schedule, u64::from(cycles), &Spread::default(), asked.into_iter().chain([end.max(now)]));
        // The same marks on one long Λ, without a limiter.
        let mut expected = Vec::new();
        for k in 0u64.. {
            let mark = Area::from_micro(k * 1_000_000 + 500_000);
            let mut rest = mark;
            let mut cycle = 0;
            while cycle < cycles && rest > schedule.total() { rest = rest - schedule.total(); cycle += 1; }
            if cycle == cycles { break; }
            expected.push(schedule.length() * cycle + schedule.due(rest).unwrap());
        }
        prop_assert_eq!(told, expected);
    }

    #[test]
    fn a_cycle_cut_anywhere_tells_each_arrival_once_and_by_the_same_number(
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
        let spread = Spread { arrivals, seed, scenario: "s".into(), shard };
        let start = Instant::now();
        let walk = |after: Option<Duration>, until: Duration| {
            let segment = Segment { cycle, start, after, until };
            let mut pacer = Pacer::new(Arc::clone(&schedule), &spread, segment);
            let mut told = Vec::new();
            while let Next::Due { due, k, .. } = pacer.poll(start + Duration::from_secs(10)) {
                told.push((due - start, k));
            }
            told
        };
        let cut = Duration::from_millis(cut);
        let whole = walk(None, schedule.length());
        let mut parts = walk(None, cut);
        parts.extend(walk(Some(cut), schedule.length()));
        prop_assert!(parts.iter().all(|(_, k)| k % 3 == (whole.first().unwrap().1 % 3)));
        prop_assert_eq!(whole, parts);
    }
}
