//! Tests of the arithmetic of a schedule.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn rate(text: &str) -> Rate {
    text.parse().unwrap()
}

fn phase(load: Load, seconds: u64) -> Phase {
    Phase { name: load.to_string(), load, length: Duration::from_secs(seconds) }
}

fn constant(text: &str, seconds: u64) -> Phase {
    phase(Load::Constant(rate(text)), seconds)
}

fn ramp(from: &str, to: &str, seconds: u64) -> Phase {
    phase(Load::Ramp { from: rate(from), to: rate(to) }, seconds)
}

/// The mark of even arrival k, from 0, is k + ½.
fn mark(k: u64) -> Area {
    Area::from_micro(k * 1_000_000 + 500_000)
}

#[test]
fn constant_arrivals_are_due_in_the_middle_of_equal_intervals() {
    let schedule = Schedule::new(vec![constant("200/s", 30)]);
    assert_eq!(schedule.total().arrivals(), 6000);
    assert_eq!(schedule.due(mark(0)), Some(Duration::from_micros(2500)));
    assert_eq!(schedule.due(mark(5999)), Some(Duration::from_micros(29_997_500)));
    assert_eq!(schedule.due(mark(6000)), None);
}

#[test]
fn a_ramp_from_zero_has_half_the_arrivals_of_its_end_rate() {
    let schedule = Schedule::new(vec![ramp("0/s", "400/s", 20)]);
    assert_eq!(schedule.total().arrivals(), 4000);
    // Λ(t) = 10 t², so the first mark ½ is reached at √0.05 s.
    assert_eq!(schedule.due(mark(0)), Some(Duration::from_nanos(223_606_798)));
    assert!(schedule.due(mark(3999)).unwrap() < Duration::from_secs(20));
}

#[test]
fn an_area_on_a_plateau_is_reached_at_the_first_instant_of_the_plateau() {
    let schedule =
        Schedule::new(vec![constant("1/s", 1), phase(Load::Pause, 5), constant("1/s", 1)]);
    assert_eq!(schedule.due(Area::ARRIVAL), Some(Duration::from_secs(1)));
    assert_eq!(schedule.due(Area::ARRIVAL + Area(1)), Some(Duration::from_nanos(6_000_000_001)));
}

#[test]
fn areas_are_exact_for_the_lowest_and_highest_rates_and_the_longest_phases() {
    let schedule = Schedule::new(vec![constant("1/h", 1)]);
    assert_eq!(schedule.total(), Area(2_000_000 * 1_000_000_000));
    assert_eq!(schedule.due(Area::ARRIVAL), None);
    let year = Schedule::new(vec![constant("100000/s", 366 * 86_400)]);
    assert_eq!(year.total().arrivals(), 100_000 * 366 * 86_400);
    let long = Schedule::new(vec![ramp("0/s", "100000/s", 366 * 86_400)]);
    assert_eq!(long.total().arrivals(), 50_000 * 366 * 86_400);
    let down = Schedule::new(vec![ramp("100000/s", "0/s", 366 * 86_400)]);
    assert_eq!(down.total(), long.total());
    assert_eq!(down.due(down.total()), Some(down.length()));
}

fn sine(mean: &str, amplitude: &str, period: u64, seconds: u64) -> Phase {
    let load = Load::Sine {
        mean: rate(mean),
        amplitude: rate(amplitude),
        period: Duration::from_secs(period),
    };
    phase(load, seconds)
}

#[test]
fn a_sine_has_its_mean_rate_over_complete_periods() {
    let schedule = Schedule::new(vec![sine("20/s", "15/s", 3600, 6 * 3600)]);
    assert_eq!(schedule.total().arrivals(), 20 * 6 * 3600);
    // In the first half period, the integral of the sine term is amplitude · period/π.
    let half = schedule.area(Duration::from_mins(30)).as_f64();
    assert!((half - (36_000.0 + 15.0 * 3600.0 / std::f64::consts::PI)).abs() < 1e-6);
    assert!((schedule.rate(Duration::from_mins(15)) - 35.0).abs() < 1e-9);
    assert!((schedule.rate(Duration::from_mins(45)) - 5.0).abs() < 1e-9);
    assert_eq!(schedule.due(mark(0)), Some(Duration::from_nanos(24_999_591)));
}

/// Integrates the rate with Simpson's rule in steps of one second, without the closed formula of
/// the code.
#[test]
fn a_sine_is_the_integral_of_its_rate_at_every_second() {
    let schedule = Schedule::new(vec![sine("20/s", "20/s", 600, 1200)]);
    let mut integral = 0.0;
    for second in 0..1200u64 {
        let rate = |millis: u64| schedule.rate(Duration::from_millis(second * 1000 + millis));
        integral +=
            (rate(0) + 4.0 * rate(500) + if second == 1199 { 20.0 } else { rate(1000) }) / 6.0;
        let area = schedule.area(Duration::from_secs(second + 1)).as_f64();
        assert!((area - integral).abs() < 1e-6, "{second}: {area} {integral}");
    }
}

#[test]
fn a_phase_includes_its_start_and_excludes_its_end() {
    let schedule = Schedule::new(vec![constant("1/s", 1), phase(Load::Pause, 5)]);
    assert_eq!(schedule.phase_at(Duration::ZERO).unwrap().index, 0);
    assert_eq!(schedule.phase_at(Duration::from_secs(1)).unwrap().index, 1);
    assert!(schedule.phase_at(Duration::from_secs(6)).is_none());
    assert!((schedule.rate(Duration::from_millis(10)) - 1.0).abs() < 1e-12);
    assert!(schedule.rate(Duration::from_secs(2)).abs() < 1e-12);
}

/// A trace with rows at these milliseconds. The prompt of row k has k + 1 tokens.
fn replay(millis: &[u64], length: u64) -> Phase {
    let row = |(k, at): (usize, &u64)| {
        let input = NonZeroU32::new(u32::try_from(k).unwrap() + 1);
        TraceRow::new(Duration::from_millis(*at), Lengths { input, ..Lengths::default() })
    };
    let trace = Trace::new("trace.csv", millis.iter().enumerate().map(row).collect());
    Phase {
        name: "replay".into(),
        load: Load::Replay(trace),
        length: Duration::from_millis(length),
    }
}

#[test]
fn a_replay_sends_each_row_at_its_due_time_with_its_lengths() {
    let rows = [0, 0, 250, 1000, 1000, 4000];
    let schedule = Schedule::new(vec![constant("2/s", 1), replay(&rows, 4000), constant("2/s", 1)]);
    assert_eq!(schedule.total().arrivals(), 10);
    let millis = |k| schedule.due(mark(k)).unwrap().as_nanos() / 1_000_000;
    assert_eq!(
        (0..10).map(millis).collect::<Vec<_>>(),
        [250, 750, 1000, 1000, 1250, 2000, 2000, 5000, 5250, 5750]
    );
    let input = |k| {
        schedule
            .phase_and_lengths(mark(k))
            .and_then(|(_, lengths)| Some(lengths?.input.unwrap().get()))
    };
    assert_eq!(
        (0..11).map(input).collect::<Vec<_>>(),
        [None, None, Some(1), Some(2), Some(3), Some(4), Some(5), Some(6), None, None, None]
    );
    let totals: Vec<_> = (0..3).map(|i| schedule.phase_span(i).unwrap().total.arrivals()).collect();
    assert_eq!(totals, [2, 6, 2]);
}

#[test]
fn a_replay_sends_nothing_after_its_phase_or_its_last_row() {
    let cut = Schedule::new(vec![replay(&[0, 250, 1000, 4000], 1000)]);
    assert_eq!((cut.total().arrivals(), cut.due(mark(3))), (3, None));
    let long = Schedule::new(vec![replay(&[0, 250, 1000, 4000], 60_000), constant("1/s", 1)]);
    assert_eq!(long.due(mark(3)), Some(Duration::from_secs(4)));
    assert_eq!(long.due(mark(4)), Some(Duration::from_millis(60_500)));
}

#[test]
fn the_rate_of_a_replay_is_its_mean_over_ten_seconds() {
    let rows: Vec<u64> = (0..200).map(|k| k * 500).collect();
    let schedule = Schedule::new(vec![replay(&rows, 200_000)]);
    let rate = |second| schedule.rate(Duration::from_secs(second));
    // The ten seconds include the rows at both ends, so they have 21 rows at 2/s.
    assert!((rate(50) - 2.1).abs() < 1e-9, "{}", rate(50));
    assert!(
        (rate(0) - 2.2).abs() < 1e-9,
        "at the start, the window is only the first five seconds: {}",
        rate(0)
    );
    assert!(rate(150).abs() < 1e-9);
    let short = Schedule::new(vec![Phase { length: Phase::SHORTEST, ..replay(&[0], 0) }]);
    assert!((short.rate(Duration::ZERO) - 1000.0).abs() < 1e-9);
}

fn any_rate() -> impl Strategy<Value = Rate> {
    prop_oneof![
        Just(Rate::ZERO),
        Just(Rate::MAX),
        (1u32..200_000).prop_map(|n| rate(&format!("{n}/h"))),
        (1u32..100_000_000).prop_map(|n| rate(&format!(
            "{}.{:03}/s",
            n / 1000 % 100_000,
            n % 1000
        ))),
    ]
}

fn any_phase() -> impl Strategy<Value = Phase> {
    let load = prop_oneof![
        4 => any_rate().prop_map(Load::Constant),
        4 => (any_rate(), any_rate()).prop_map(|(from, to)| Load::Ramp { from, to }),
        4 => (any_rate(), 0.0f64..1.0, 1u64..100_000_000_000_000).prop_map(|(mean, fraction, period)| {
            #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let amplitude = (mean.micro_per_hour() as f64 * fraction) as u64;
            let amplitude = Rate::from_micro_per_hour(amplitude).unwrap();
            Load::Sine { mean, amplitude, period: Duration::from_nanos(period) }
        }),
        4 => prop::collection::vec(0u64..20_000_000_000, 1..40).prop_map(|instants| {
            let row = |at| TraceRow::new(Duration::from_nanos(at), Lengths::default());
            Load::Replay(Trace::new("trace.csv", instants.into_iter().map(row).collect()))
        }),
        1 => Just(Load::Pause),
    ];
    let length = prop_oneof![1u64..1_000_000, 1u64..10_000_000_000, 1u64..31_622_400_000_000_000];
    (load, length).prop_map(|(load, length)| Phase {
        name: load.to_string(),
        load,
        length: Duration::from_nanos(length),
    })
}

fn any_schedule() -> impl Strategy<Value = Schedule> {
    prop::collection::vec(any_phase(), 1..6).prop_map(Schedule::new)
}

proptest! {
    #[test]
    fn due_is_the_first_nanosecond_at_which_the_area_is_reached(
        schedule in any_schedule(), fraction in 0.0f64..=1.0
    ) {
        let total = schedule.total();
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let wanted = Area((total.0 as f64 * fraction) as u128).min(total);
        let due = schedule.due(wanted).unwrap();
        prop_assert!(due <= schedule.length());
        prop_assert!(schedule.area(due) >= wanted);
        if let Some(before) = due.checked_sub(Duration::from_nanos(1)) {
            prop_assert!(schedule.area(before) < wanted);
        }
        prop_assert_eq!(schedule.due(total + Area(1)), None);
    }

    #[test]
    fn the_area_never_decreases_and_ends_at_the_total(schedule in any_schedule(), a: u64, b: u64) {
        let length = u64::try_from(schedule.length().as_nanos()).unwrap();
        let (a, b) = (a % length, b % length);
        let (early, late) = (Duration::from_nanos(a.min(b)), Duration::from_nanos(a.max(b)));
        prop_assert!(schedule.area(early) <= schedule.area(late));
        prop_assert!(schedule.area(late) <= schedule.total());
        prop_assert_eq!(schedule.area(schedule.length()), schedule.total());
    }

    /// Phases before and after the replay, and the start of the cycle, are at any fraction of an
    /// arrival. Every row must still be exactly one arrival.
    #[test]
    fn a_replay_between_fractions_of_arrivals_sends_each_row_once(
        before in 0u64..100_000_000_000, after in 0u64..100_000_000_000, carry in 0u64..1_000_000,
        gaps in prop::collection::vec(prop_oneof![Just(0u64), 1u64..5000], 1..50), silence in 0u64..1000,
    ) {
        let mut at = 0;
        let rows: Vec<u64> = gaps.iter().map(|gap| { at += gap; at }).collect();
        let rate = |micro| Load::Constant(Rate::from_micro_per_hour(micro).unwrap());
        let (first, last) = (phase(rate(before), 1), phase(rate(after), 1));
        let schedule = Schedule::new(vec![first, replay(&rows, at + 1 + silence), last]);

        // All marks of the cycle, relative to its start.
        let mark = |k| Area::from_micro(k * MEAN_GAP - carry);
        let count = u64::try_from(schedule.total().arrivals()).unwrap() + 1;
        let marks: Vec<Area> = (1..=count).map(mark).filter(|mark| *mark <= schedule.total()).collect();
        let arrivals: Vec<(u64, u32)> = marks
            .iter()
            .filter_map(|mark| {
                let input = schedule.phase_and_lengths(*mark)?.1?.input?;
                Some((u64::try_from(schedule.due(*mark)?.as_nanos()).ok()?, input.get()))
            })
            .collect();
        let expected: Vec<(u64, u32)> =
            rows.iter().zip(1..).map(|(at, k)| (1_000_000_000 + at * 1_000_000, k)).collect();
        prop_assert_eq!(arrivals, expected);
        prop_assert_eq!(schedule.due(schedule.total() + Area(1)), None);
    }

    #[test]
    fn the_area_of_a_ramp_agrees_with_a_slow_exact_computation(
        from in any_rate(), to in any_rate(), length in 1u64..3_600_000_000_000, at: u64
    ) {
        let time = at % (length + 1);
        let schedule = Schedule::new(vec![Phase {
            name: String::new(), load: Load::Ramp { from, to }, length: Duration::from_nanos(length),
        }]);
        let exact = ramp_oracle(from, to, time, length);
        prop_assert_eq!(schedule.area(Duration::from_nanos(time)).0, exact);
    }

    #[test]
    fn the_text_of_a_rate_parses_to_the_same_rate(micro in 0u64..=360_000_000_000_000) {
        let rate = Rate::from_micro_per_hour(micro).unwrap();
        prop_assert_eq!(rate.to_string().parse::<Rate>().unwrap(), rate);
    }
}

/// (2·from·length + (to − from)·time)·time/length, rounded down. Computes the product and the
/// quotient bit by bit, so that nothing exceeds 128 bits.
fn ramp_oracle(from: Rate, to: Rate, time: u64, length: u64) -> u128 {
    let (from, to) = (i128::from(from.micro_per_hour()), i128::from(to.micro_per_hour()));
    let factor = 2 * from * i128::from(length) + (to - from) * i128::from(time);
    let (factor, length) = (u128::try_from(factor).unwrap(), u128::from(length));
    let (mut quotient, mut rest) = (0u128, 0u128);
    for bit in (0..64).rev() {
        quotient *= 2;
        rest *= 2;
        if time >> bit & 1 == 1 {
            quotient += factor / length;
            rest += factor % length;
        }
        quotient += rest / length;
        rest %= length;
    }
    quotient
}

#[test]
fn rates_parse_as_people_write_them() {
    for (text, micro) in [
        ("5/s", 18_000_000_000),
        ("0.2/s", 720_000_000),
        (".5/s", 1_800_000_000),
        ("300/m", 18_000_000_000),
        ("40/h", 40_000_000),
        ("0.000001/h", 1),
        ("20000/s", 72_000_000_000_000),
    ] {
        assert_eq!(rate(text).micro_per_hour(), micro, "{text}");
    }
    for text in
        ["5", "5/", "/s", "5/d", "-5/s", "1e3/s", "5 per s", "5/s/s", "", "NaN/s", "1.2.3/s"]
    {
        assert!(matches!(text.parse::<Rate>(), Err(ParseRateError::Form(_))), "{text}");
    }
    assert!(matches!("0.0000001/h".parse::<Rate>(), Err(ParseRateError::TooFine(_))));
    assert!(matches!("100001/s".parse::<Rate>(), Err(ParseRateError::TooHigh(_))));
    assert!(matches!(
        "99999999999999999999999999999999999999999999/s".parse::<Rate>(),
        Err(ParseRateError::TooHigh(_))
    ));
    assert_eq!(rate("300/m").to_string(), "5/s");
    assert_eq!(rate("90/m").to_string(), "1.5/s");
    assert_eq!(rate("7/h").to_string(), "7/h");
}
