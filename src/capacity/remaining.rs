//! The time that a search is expected to need. It depends on the target, so the result is a range.

use std::time::Duration;

use super::evidence::{MOST_LOOKS, fewest_requests, requests_per_miss};
use super::level::Level;
use super::limits::{LONGEST, REPEATED, halvings, longest_time};
use super::step::{Reason, StepPlan};
use super::{Evidence, Search};

/// A search repeats a step on both ends of the interval.
const SIDES: u32 = 2;

impl Search {
    /// Returns the least and the most time that the search is expected to need from now on. Steps
    /// that are distorted or unsettled come in addition.
    pub fn expected_time(&self) -> (Duration, Duration) {
        let (from, to) = Level::ends(self.spec.range);
        let (met, missed) = (self.highest_met(), self.lowest_missed());
        let (mut least, mut most) = (Duration::ZERO, Duration::ZERO);
        let mut add = |time: Duration, (few, many): (u32, u32)| {
            least = least.saturating_add(time.saturating_mul(few));
            most = most.saturating_add(time.saturating_mul(many));
        };
        if missed.is_none() {
            // The next level misses the objectives, or only the highest level does.
            let mut level = met.map_or(from, |met| met.doubled(to));
            add(self.first_visit(level), (1, 1));
            while level < to {
                level = level.doubled(to);
                add(self.first_visit(level), (0, 1));
            }
        }
        let halvings = whole(match (met, missed) {
            (Some(met), Some(missed)) => halvings(missed.value() / met.value(), &self.spec),
            (None, Some(_)) => 0.0,
            (_, None) => halvings(2.0, &self.spec),
        });
        // At a low rate, a step needs more time for its requests.
        let low = met.or(missed).unwrap_or(from);
        let high = missed.unwrap_or(to);
        add(self.first_visit(high), (halvings, 0));
        add(self.first_visit(low), (0, halvings));
        let is_final = |level: &Level| self.levels.get(level).is_some_and(Evidence::is_final);
        let proven = if missed.is_some() && halvings == 0 {
            met.iter().chain(&missed).filter(|level| is_final(level)).count()
        } else {
            0
        };
        let few = SIDES.saturating_sub(u32::try_from(proven).unwrap_or(SIDES));
        let shortest = self.spec.step * REPEATED;
        let requests = 2 * fewest_requests(&self.spec.slo.objectives);
        add(self.step_time(high, shortest, requests), (few, 0));
        let longest = self.settle(low).saturating_add(self.spec.step * LONGEST);
        add(longest, (0, SIDES * MOST_LOOKS));
        let rest = longest_time(&self.spec).saturating_sub(self.elapsed);
        (least.min(rest), most.min(rest))
    }

    /// The time of the first step at a level.
    fn first_visit(&self, level: Level) -> Duration {
        self.step_time(level, self.spec.step, requests_per_miss(&self.spec.slo.objectives))
    }

    fn step_time(&self, level: Level, shortest: Duration, requests: u64) -> Duration {
        let shortest = self.shortest(level, shortest);
        let plan = StepPlan {
            level,
            reason: Reason::First,
            settle: self.settle(level),
            shortest,
            longest: self.spec.step * LONGEST,
            requests,
        };
        // The rate of a closed loop depends on the target.
        plan.settle.saturating_add(plan.measured_time().unwrap_or(shortest))
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

    /// The factors of the command line help and of the documentation.
    #[test]
    fn a_search_takes_about_10_to_45_times_as_long_as_a_step() {
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
            let (least, most) = Search::new(Arc::new(spec)).expected_time();
            assert!((9..=11).contains(&(least.as_secs() / 60)), "{least:?}");
            assert!((38..=46).contains(&(most.as_secs() / 60)), "{most:?}");
        }
    }
}
