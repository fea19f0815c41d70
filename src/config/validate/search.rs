//! Validates the phases that search the capacity of a target.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::Validator;
use super::shapes::ShapeContext;
use crate::config::document::{Phase, Scenario, Search};
use crate::config::field::Located;
use crate::config::tree::NodeId;
use crate::schedule::{Load, Schedule, SearchRange, SearchSpec};
use crate::slo::{Share, Slo};

/// The default of `resolution`.
const DEFAULT_RESOLUTION: Share = Share::percent(5);
/// In a shorter step, hardly a request ends.
const SHORTEST_STEP: Duration = Duration::from_secs(1);
const LONGEST_STEP: Duration = Duration::from_hours(24);

/// The objectives of a scenario, which its searches need.
#[derive(Clone)]
pub(super) enum Objectives {
    Absent,
    /// The objectives have a mistake.
    Invalid,
    Present(Slo),
}

impl Validator<'_> {
    pub(super) fn search(&self, phase: &Located<Phase>, context: &ShapeContext) -> Option<Load> {
        let Located { node, value: search } = phase.value.search.present()?;
        let range = self.search_range(*node, search, context);
        let resolution = self.resolution(search);
        let step = self.step_length(phase);
        let abort = phase.value.slo.present().and_then(|slo| slo.value.abort.node());
        if let Some(abort) = abort {
            self.problem(
                abort,
                "a search ends a hopeless step itself, so `abort` has no effect",
                "remove it",
            );
        }
        let slo = match &context.objectives {
            Objectives::Present(slo) => Some(slo.clone()),
            Objectives::Invalid => None,
            Objectives::Absent => {
                self.problem(
                    *node,
                    "a search needs objectives",
                    "add them to the scenario, such as `slo: {ttft: {p99: 1s}, success_rate: 99%}`",
                );
                None
            }
        };
        let spec = SearchSpec { range: range?, resolution: resolution?, step: step?, slo: slo? };
        Some(Load::Search(Arc::new(spec)))
    }

    fn search_range(
        &self,
        node: NodeId,
        search: &Search,
        context: &ShapeContext,
    ) -> Option<SearchRange> {
        match (search.rate.node(), search.concurrency.node()) {
            (Some(_), None) => self.rate_range(search),
            (None, Some(_)) => self.concurrency_range(search, context.max_concurrency),
            (None, None) => {
                self.missing(
                    node,
                    "the search has no range",
                    "write `rate: {from: 1/s, to: 200/s}` or `concurrency: {from: 1, to: 256}`",
                );
                None
            }
            (Some(_), Some(second)) => {
                self.problem(
                    second,
                    "a search cannot have both `rate` and `concurrency`",
                    "write a separate phase for each",
                );
                None
            }
        }
    }

    fn rate_range(&self, search: &Search) -> Option<SearchRange> {
        let Located { node, value: range } = search.rate.present()?;
        for (key, is_absent) in [("from", range.from.is_absent()), ("to", range.to.is_absent())] {
            if is_absent {
                let message = format!("`{key}` is missing");
                self.missing(*node, message, "write `{from: 1/s, to: 200/s}`");
            }
        }
        let (from, to) = (range.from.present()?, range.to.present()?);
        if from.value.0.is_zero() {
            self.problem(from.node, "a rate of 0 sends nothing", "write a rate such as `1/s`");
            return None;
        }
        if from.value.0 >= to.value.0 {
            self.empty_range(to.node);
            return None;
        }
        Some(SearchRange::Rate { from: from.value.0, to: to.value.0 })
    }

    fn concurrency_range(
        &self,
        search: &Search,
        max_concurrency: Option<NonZeroU32>,
    ) -> Option<SearchRange> {
        let Located { node, value: range } = search.concurrency.present()?;
        for (key, is_absent) in [("from", range.from.is_absent()), ("to", range.to.is_absent())] {
            if is_absent {
                self.missing(*node, format!("`{key}` is missing"), "write `{from: 1, to: 256}`");
            }
        }
        let level = |count: &Located<crate::config::scalar::Count>| {
            let load = self.concurrency_level(count.node, count.value.0, max_concurrency)?;
            load.slots()
        };
        let (from, to) = (range.from.present()?, range.to.present()?);
        let (lowest, highest) = (level(from), level(to));
        let (from, highest) = (lowest?, highest?);
        if from >= highest {
            self.empty_range(to.node);
            return None;
        }
        Some(SearchRange::Concurrency { from, to: highest })
    }

    fn empty_range(&self, to: NodeId) {
        self.problem(to, "`to` is not above `from`", "write a higher `to`, or a lower `from`");
    }

    fn resolution(&self, search: &Search) -> Option<Share> {
        if search.resolution.is_absent() {
            return Some(DEFAULT_RESOLUTION);
        }
        let written = search.resolution.present()?;
        let share = Share::new(written.value.0);
        let share = share.filter(|share| (Share::PERCENT..=Share::percent(50)).contains(share));
        if share.is_none() {
            self.problem(
                written.node,
                "the resolution is out of range",
                "write a resolution from 1% to 50%, such as `5%`",
            );
        }
        share
    }

    fn step_length(&self, phase: &Located<Phase>) -> Option<Duration> {
        let length = self.written_length(phase)?;
        let node = phase.value.r#for.node().unwrap_or(phase.node);
        if length < SHORTEST_STEP || length > LONGEST_STEP {
            self.problem(
                node,
                "the time for a step of the search is out of range",
                "write a time from 1s to 1d, such as `for: 1m`",
            );
            return None;
        }
        Some(length)
    }

    /// A search measures one target.
    pub(super) fn reject_search_with_targets(&self, scenario: &Scenario, schedule: &Schedule) {
        let Some(targets) = scenario.targets.present() else { return };
        if schedule.has_search() && targets.value.0.len() > 1 {
            self.problem(
                targets.node,
                "a search measures one target",
                "write a scenario with a search for each target",
            );
        }
    }
}
