//! The limit of routes, and the buckets of the histograms.

use std::num::NonZeroU32;

use super::Validator;
use crate::buckets::{Buckets, HISTOGRAMS};
use crate::config::document;
use crate::config::field::{Field, FieldList, FieldMap};
use crate::config::hints;
use crate::config::problem::Mistake;
use crate::config::scalar::Number;
use crate::config::tree::{NodeId, excerpt};

/// The default limit of routes, which any Prometheus can scrape.
const DEFAULT_MAX_ROUTES: u32 = 32;
/// The highest limit of routes. It gives a third of a million series, the most that makes sense in
/// one scrape.
const MAX_ROUTES: u32 = 1024;
/// The highest number of buckets of a histogram. Each bucket is one series per route.
const MAX_BUCKETS: usize = 60;

impl Validator<'_> {
    /// Reads the limit of routes, and the buckets.
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

    /// Checks the number of routes.
    pub(super) fn limit_routes(&self, node: NodeId, routes: usize, limit: NonZeroU32) {
        if u32::try_from(routes).is_ok_and(|routes| routes <= limit.get()) {
            return;
        }
        self.problem(
            node,
            format!(
                "{routes} scenarios, counted once for each target, exceed the limit of {limit}"
            ),
            "write fewer, since each adds some 300 series to every scrape, or raise \
             `metrics.max_combinations`",
        );
    }

    fn buckets(&self, field: &Field<FieldMap<FieldList<Number>>>) -> Buckets {
        let mut buckets = Buckets::default();
        let names = HISTOGRAMS.iter().map(|(name, _)| *name);
        for (name, list) in field.present().into_iter().flat_map(|located| &located.value.0) {
            let Some(list) = list.present() else { continue };
            let bounds = self.bounds(list.node, &list.value);
            if !buckets.set_bounds(&name.value, bounds) {
                // A user may copy the full name from the exposition.
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
                format!("{length} buckets"),
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
                    format!("{bound} is out of range"),
                    "write upper bounds above 0",
                );
            } else if bound <= before {
                self.problem(
                    located.node,
                    format!("{bound} does not lie above {before}"),
                    "write bounds in rising order",
                );
            }
            before = bound.max(before);
            bounds.push(bound);
        }
        bounds
    }
}
