//! The time that a search is expected to need. It depends on the target, so the result is a range.

use std::time::Duration;

use super::Search;
use super::evidence::{MOST_LOOKS, REQUESTS_OF_A_QUEUE, fewest_requests, requests_per_miss};
use super::level::Level;
use super::limits::{LONGEST, REPEATED, halvings, longest_time};

/// A search proves both ends of the interval.
const SIDES: u32 = 2;
/// The geometric mean of two levels is rounded, and a proof can contradict a bisection. So a search
/// can take more bisections than the gap needs.
const CORRECTIONS: u32 = 2;

impl Search {
    /// Returns the least and the most time that the search is expected to need from now on, if the
    /// current step began `in_step` ago. Steps that are distorted or unsettled come in addition.
    pub fn expected_time(&self, in_step: Duration) -> (Duration, Duration) {
        let (from, to) = Level::ends(self.spec.range);
        let (met, missed) = (self.highest_met(), self.lowest_missed());
        let (mut least, mut most) = (Duration::ZERO, Duration::ZERO);
        let mut add = |time: Duration, (few, many): (u32, u32)| {
            least = least.saturating_add(time.saturating_mul(few));
            most = most.saturating_add(time.saturating_mul(many));
        };
        if missed.is_none() && met != Some(to) {
            // The next level misses the objectives, or only the highest level does.
            let mut level = met.map_or(from, |met| met.doubled(to));
            add(self.first_visit(level), (1, 1));
            while level < to {
                level = level.doubled(to);
                add(self.first_visit(level), (0, 1));
            }
        }
        let (few, many) = match (met, missed) {
            (Some(met), Some(missed)) => {
                let halvings = self.halvings(met, missed);
                (halvings, halvings)
            }
            (None, Some(_)) => (0, 0),
            (Some(met), None) if met == to => (0, 0),
            (met, None) => {
                let low = met.unwrap_or(from);
                (self.halvings(low, low.doubled(to)), whole(halvings(2.0, &self.spec)))
            }
        };
        let halvings = (few, if many > 0 { many + CORRECTIONS } else { 0 });
        // At a low rate, a step needs more time for its requests.
        let low = met.or(missed).unwrap_or(from);
        let high = missed.unwrap_or(to);
        add(self.first_visit(high), (halvings.0, 0));
        add(self.first_visit(low), (0, halvings.1));
        let (few, many) = self.expected_proofs(met, missed, many);
        let shortest = self.spec.step * REPEATED;
        add(self.proof_time(high, shortest, shortest), (few, 0));
        let longest = self.requests(low, REQUESTS_OF_A_QUEUE).max(shortest);
        add(self.proof_time(low, longest, self.spec.step * LONGEST), (0, many));
        let rest = longest_time(&self.spec).saturating_sub(self.elapsed);
        let left = |time: Duration| time.min(rest).saturating_sub(in_step);
        (left(least), left(most))
    }

    /// The number of bisections of the gap between two levels.
    fn halvings(&self, low: Level, high: Level) -> u32 {
        let halvings = halvings(high.value() / low.value(), &self.spec);
        whole(match (low, high) {
            // No level is between two neighbouring numbers.
            (Level::Concurrency(low), Level::Concurrency(high)) => {
                halvings.min(f64::from(high.get() - low.get()).log2().ceil())
            }
            _ => halvings,
        })
    }

    /// The fewest and the most steps for proofs that the search still takes.
    fn expected_proofs(
        &self,
        met: Option<Level>,
        missed: Option<Level>,
        halvings: u32,
    ) -> (u32, u32) {
        let (_, to) = Level::ends(self.spec.range);
        let looks_left = |level: Level| match self.levels.get(&level) {
            Some(at) if at.is_final => 0,
            Some(at) => MOST_LOOKS.saturating_sub(at.looks),
            None => MOST_LOOKS - 1,
        };
        let (few, many) = match (met, missed) {
            (None, Some(only)) => (looks_left(only).min(1), looks_left(only)),
            (Some(only), None) if only == to => (looks_left(only).min(1), looks_left(only)),
            (Some(met), Some(missed)) if halvings == 0 => {
                if self.next_proof(met, missed).is_none() {
                    return (0, 0);
                }
                let looks = [met, missed].map(looks_left);
                let open = looks.iter().filter(|looks| **looks > 0).count();
                let few = u32::try_from(open).unwrap_or(SIDES).max(1);
                (few, if self.has_long_steps() { u32::MAX } else { looks.iter().sum() })
            }
            _ => (SIDES, if self.has_long_steps() { u32::MAX } else { SIDES * (MOST_LOOKS - 1) }),
        };
        (few.min(self.proofs_left()), many.min(self.proofs_left()))
    }

    /// The time of the first step at a level.
    fn first_visit(&self, level: Level) -> Duration {
        let requests = requests_per_miss(&self.spec.slo.objectives);
        self.step_time(level, self.spec.step, requests, self.spec.step)
    }

    /// The time of a step for a proof that measures at least `shortest`. If its rate is not known,
    /// it measures `unknown`.
    fn proof_time(&self, level: Level, shortest: Duration, unknown: Duration) -> Duration {
        self.step_time(level, shortest, 2 * fewest_requests(&self.spec.slo.objectives), unknown)
    }

    /// The time of a step with the wait for its last request.
    fn step_time(
        &self,
        level: Level,
        shortest: Duration,
        requests: u64,
        unknown: Duration,
    ) -> Duration {
        let rate = match level {
            Level::Rate(rate) => Some(rate.per_second()),
            // The rate of a closed loop depends on the target.
            Level::Concurrency(_) => self.ended_per_second(level),
        };
        #[allow(clippy::cast_precision_loss)]
        let needed = rate.map_or(unknown, |rate| {
            Duration::try_from_secs_f64(requests as f64 / rate).unwrap_or(Duration::MAX)
        });
        let longest = self.spec.step * LONGEST;
        let measured = needed.max(self.shortest(level, shortest)).min(longest);
        let wait = self.requests(level, 1.0);
        self.settle(level).saturating_add(measured).saturating_add(wait)
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn whole(number: f64) -> u32 {
    number as u32
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::schedule::{SearchRange, SearchSpec};
    use crate::slo::{Criterion, Objective, Share, Slo};

    /// The upper factor of the command line help and of the documentation. A search takes the least
    /// time only if the second level misses an objective.
    #[test]
    fn a_search_takes_at_most_about_50_times_as_long_as_a_step() {
        let [from, to] = ["1/s", "200/s"].map(|rate| rate.parse().unwrap());
        let [one, many] = [1, 256].map(|slots| std::num::NonZeroU32::new(slots).unwrap());
        for range in
            [SearchRange::Rate { from, to }, SearchRange::Concurrency { from: one, to: many }]
        {
            let objective = Objective { criterion: Criterion::Success, share: Share::percent(99) };
            let spec = SearchSpec {
                range,
                resolution: Share::percent(5),
                step: Duration::from_mins(1),
                slo: Slo { objectives: vec![objective], abort: false },
            };
            let (least, most) = Search::new(Arc::new(spec)).expected_time(Duration::ZERO);
            assert!((5..=11).contains(&(least.as_secs() / 60)), "{least:?}");
            assert!((40..=50).contains(&(most.as_secs() / 60)), "{most:?}");
        }
    }
}
