//! Validates the highest number of routes, and the buckets of the histograms.

use std::num::NonZeroU32;

use super::Validator;
use crate::buckets::{Buckets, HISTOGRAMS};
use crate::config::document;
use crate::config::field::{Field, FieldList, FieldMap};
use crate::config::hints;
use crate::config::problem::Mistake;
use crate::config::scalar::Number;
use crate::config::tree::{NodeId, excerpt};

/// The default of the highest number of routes. Any Prometheus can scrape 32 routes.
const DEFAULT_MAX_ROUTES: u32 = 32;
/// The largest configurable number of routes. 1024 routes have about 300,000 series, and no scrape
/// should have more.
const MAX_ROUTES: u32 = 1024;
/// The highest number of buckets of a histogram. Each bucket adds one series for each route.
const MAX_BUCKETS: usize = 60;

impl Validator<'_> {
    pub(super) fn metrics(
        &self,
        field: &Field<document::Metrics>,
    ) -> (Option<NonZeroU32>, Buckets) {
        let none = document::Metrics::default();
        let keys = match field {
            Field::Invalid(_) => return (None, Buckets::default()),
            Field::Absent => &none,
            Field::Present(located) => &located.value,
        };
        let limit = self.positive(&keys.max_combinations, DEFAULT_MAX_ROUTES, MAX_ROUTES);
        (limit, self.buckets(&keys.buckets))
    }

    /// Records a mistake if the file has more than `limit` routes.
    pub(super) fn limit_routes(&self, node: NodeId, routes: usize, limit: NonZeroU32) {
        if u32::try_from(routes).is_ok_and(|routes| routes <= limit.get()) {
            return;
        }
        self.problem(
            node,
            format!("the file has {routes} pairs of scenario and target, but the limit is {limit}"),
            "remove some pairs, or raise `metrics.max_combinations`; each pair adds some hundred \
             series to every scrape",
        );
    }

    fn buckets(&self, field: &Field<FieldMap<FieldList<Number>>>) -> Buckets {
        let mut buckets = Buckets::default();
        let names = HISTOGRAMS.iter().map(|(name, _)| *name);
        for (name, list) in field.present().into_iter().flat_map(|located| &located.value.0) {
            let Some(list) = list.present() else { continue };
            let bounds = self.bounds(list.node, &list.value);
            if !buckets.set_bounds(&name.value, bounds) {
                // A user can copy the full name, with `llmload_`, from `/metrics`.
                let short = name.value.strip_prefix("llmload_").unwrap_or(&name.value);
                let mistake = match hints::nearest_name(short, names.clone()) {
                    Some(near) => Mistake::new(
                        format!("there is no histogram `{}`", excerpt(&name.value)),
                        format!("did you mean `{near}`?"),
                    ),
                    None => hints::unknown_reference("histogram", &name.value, names.clone()),
                };
                self.report(name.node, mistake);
            }
        }
        buckets
    }

    fn bounds(&self, node: NodeId, list: &FieldList<Number>) -> Vec<f64> {
        let length = list.0.len();
        if !(1..=MAX_BUCKETS).contains(&length) {
            self.problem(
                node,
                format!("the histogram has {length} buckets"),
                format!("write 1 to {MAX_BUCKETS} upper bounds"),
            );
        }
        let mut bounds = Vec::new();
        let mut before = 0.0;
        for located in list.0.iter().take(MAX_BUCKETS).filter_map(Field::present) {
            let bound = located.value.0;
            if bound <= 0.0 {
                self.problem(
                    located.node,
                    format!("{} is out of range", located.value),
                    "write upper bounds above 0",
                );
            } else if bound <= before {
                self.problem(
                    located.node,
                    format!("{bound} is not greater than the previous bound, {before}"),
                    "write bounds in rising order",
                );
            }
            before = bound.max(before);
            bounds.push(bound);
        }
        bounds
    }
}
