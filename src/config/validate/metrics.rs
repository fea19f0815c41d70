//! How much the exposition may hold, and where its buckets lie.

use std::num::NonZeroU32;

use super::Validator;
use crate::buckets::{Buckets, HISTOGRAMS};
use crate::config::document;
use crate::config::field::{Field, FieldList, FieldMap};
use crate::config::hints;
use crate::config::scalar::Number;
use crate::config::tree::{NodeId, excerpt};

/// Streams of load that a scrape holds without a thought.
const DEFAULT_COMBINATIONS: u32 = 32;
/// Beyond a third of a million series nobody scrapes one process.
const MOST_COMBINATIONS: u32 = 1024;
/// Each is a series for each stream of load.
const MOST_BUCKETS: usize = 60;

impl Validator<'_> {
    /// The most streams of load, and the buckets.
    pub(super) fn metrics(
        &self,
        field: &Field<document::Metrics>,
    ) -> (Option<NonZeroU32>, Buckets) {
        let none = document::Metrics::default();
        let given = match field {
            Field::Invalid(_) => return (None, Buckets::default()),
            Field::Absent => &none,
            Field::Present(located) => &located.value,
        };
        let most = self.positive(&given.max_combinations, DEFAULT_COMBINATIONS, MOST_COMBINATIONS);
        (most, self.buckets(&given.buckets))
    }

    /// Whether so many streams of load are within the limit.
    pub(super) fn combinations(&self, node: NodeId, streams: usize, most: NonZeroU32) {
        if u32::try_from(streams).is_ok_and(|streams| streams <= most.get()) {
            return;
        }
        self.problem(
            node,
            format!(
                "{streams} scenarios, counted once for each of their targets, are more than {most}; write \
                 fewer, as each is a set of histograms of its own in every scrape, or raise \
                 `metrics.max_combinations`"
            ),
        );
    }

    fn buckets(&self, field: &Field<FieldMap<FieldList<Number>>>) -> Buckets {
        let mut buckets = Buckets::default();
        let names = HISTOGRAMS.iter().map(|(name, _)| *name);
        for (name, list) in field.present().into_iter().flat_map(|located| &located.value.0) {
            let Some(list) = list.present() else { continue };
            let bounds = self.bounds(list.node, &list.value);
            if !buckets.set(&name.value, bounds) {
                // As it is called in the exposition.
                let meant = name.value.strip_prefix("llmload_").unwrap_or(&name.value);
                let message = match hints::nearest_name(meant, names.clone()) {
                    Some(near) => {
                        format!(
                            "there is no histogram `{}`; did you mean `{near}`?",
                            excerpt(&name.value)
                        )
                    }
                    None => hints::unknown_reference("histogram", &name.value, names.clone()),
                };
                self.problem(name.node, message);
            }
        }
        buckets
    }

    fn bounds(&self, node: NodeId, list: &FieldList<Number>) -> Vec<f64> {
        let length = list.0.len();
        if !(1..=MOST_BUCKETS).contains(&length) {
            self.problem(node, format!("{length} buckets; write 1 to {MOST_BUCKETS} upper bounds"));
        }
        let mut bounds = Vec::new();
        let mut before = 0.0;
        for located in list.0.iter().take(MOST_BUCKETS).filter_map(Field::present) {
            let bound = located.value.0;
            if bound <= 0.0 {
                self.problem(
                    located.node,
                    format!("{bound} is out of range; write upper bounds above 0"),
                );
            } else if bound <= before {
                self.problem(
                    located.node,
                    format!("{bound} does not lie above {before}; write bounds that rise"),
                );
            }
            before = bound.max(before);
            bounds.push(bound);
        }
        bounds
    }
}
