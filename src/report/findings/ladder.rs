//! The levels of a schedule, from the lowest to the highest, and how throughput grows with them.

use crate::report::{Level, LevelKind, PhaseReport, RouteReport};

/// The fewest successes in the time of a level from which its throughput is taken. With fewer
/// successes, one more or less changes the throughput too much.
const FEWEST_SUCCESSES: u64 = 30;
/// The lowest success rate of a level from which its throughput is taken. With more failures, the
/// failures explain a low throughput.
const LOWEST_SUCCESS_RATE: f64 = 0.9;
/// Throughput has stopped growing if no higher level has more than this much of it.
pub(super) const NO_GROWTH: f64 = 1.1;
/// A higher level is that much higher, or else a throughput that could grow would not show it.
const HIGHER_LEVEL: f64 = 1.25;

/// Levels of the same kind, in ascending order. A level occurs once.
#[derive(Debug)]
pub(super) struct Ladder<'a> {
    /// Every level that was sent completely.
    pub sent: Vec<&'a PhaseReport>,
    /// The levels whose throughput is known.
    pub measured: Vec<&'a PhaseReport>,
}

/// The level from which on throughput does not grow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Knee<'a> {
    pub level: &'a PhaseReport,
    /// The highest level.
    pub top: &'a PhaseReport,
}

impl<'a> Ladder<'a> {
    pub(super) fn new(route: &'a RouteReport) -> Ladder<'a> {
        let of_kind = |kind: LevelKind| {
            let is_of_kind = |level: &Level| level.kind == kind;
            let sent = route.phases.iter().filter(|phase| phase.sent && !phase.cut);
            let mut sent: Vec<&PhaseReport> =
                sent.filter(|phase| phase.level.as_ref().is_some_and(is_of_kind)).collect();
            sent.sort_by(|one, other| value(one).total_cmp(&value(other)));
            sent.dedup_by(|one, other| value(one).total_cmp(&value(other)).is_eq());
            sent
        };
        let [rates, slots] = [LevelKind::Rate, LevelKind::Concurrency].map(of_kind);
        let sent = if rates.len() > slots.len() { rates } else { slots };
        let has_throughput = |phase: &PhaseReport| {
            phase.statistics.window.succeeded >= FEWEST_SUCCESSES
                && phase.statistics.success_rate.is_some_and(|rate| rate >= LOWEST_SUCCESS_RATE)
        };
        let measured =
            sent.iter().take_while(|phase| has_throughput(phase)).copied().collect::<Vec<_>>();
        Ladder { sent, measured }
    }

    /// The lowest and the highest measured level, if they differ.
    pub(super) fn ends(&self) -> Option<(&'a PhaseReport, &'a PhaseReport)> {
        match self.measured.as_slice() {
            [first, .., last] => Some((first, last)),
            _ => None,
        }
    }

    /// Returns the lowest level that no higher level exceeds by more than a tenth.
    pub(super) fn knee(&self) -> Option<Knee<'a>> {
        let (_, top) = self.ends()?;
        let stops_at = |index: &usize| {
            let (level, higher) = (self.measured[*index], &self.measured[index + 1..]);
            let grows = |other: &&PhaseReport| {
                queries(other) > queries(level) * NO_GROWTH
                    || tokens(other) > tokens(level) * NO_GROWTH
            };
            value(top) >= value(level) * HIGHER_LEVEL && !higher.iter().any(grows)
        };
        let index = (0..self.measured.len() - 1).find(stops_at)?;
        Some(Knee { level: self.measured[index], top })
    }

    /// Returns the growth of throughput from the second highest to the highest level, as a part of
    /// the growth of the level.
    pub(super) fn growth_at_top(&self) -> Option<(&'a PhaseReport, &'a PhaseReport, f64)> {
        let [.., before, top] = self.measured.as_slice() else { return None };
        let growth = |of: fn(&PhaseReport) -> f64| of(top) / of(before) - 1.0;
        (value(top) >= value(before) * HIGHER_LEVEL)
            .then(|| (*before, *top, growth(queries) / growth(value)))
    }
}

/// The rate or the number of requests in flight.
pub(super) fn value(phase: &PhaseReport) -> f64 {
    phase.level.map_or(0.0, |level| level.value)
}

/// Successes per second.
pub(super) fn queries(phase: &PhaseReport) -> f64 {
    phase.statistics.queries_per_second.unwrap_or_default()
}

/// Output tokens per second; 0 if they are unknown.
pub(super) fn tokens(phase: &PhaseReport) -> f64 {
    phase.statistics.output_tokens_per_second_total.unwrap_or_default()
}
