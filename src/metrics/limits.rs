//! What an endpoint says of its limits. A gauge comes about with the first word of it: a 0 before would
//! say that nothing is granted any more.

use std::time::Duration;

use prometheus::{GaugeVec, Registry};

use super::table::{self, Family};
use super::{Labels, gauge};
use crate::protocol::RateLimits;

/// In the order of [`values`].
const FAMILIES: [&Family; 7] = [
    &table::RATE_LIMIT_REQUESTS_LIMIT,
    &table::RATE_LIMIT_REQUESTS_REMAINING,
    &table::RATE_LIMIT_REQUESTS_RESET,
    &table::RATE_LIMIT_TOKENS_LIMIT,
    &table::RATE_LIMIT_TOKENS_REMAINING,
    &table::RATE_LIMIT_TOKENS_RESET,
    &table::RETRY_AFTER,
];

fn values(limits: &RateLimits) -> [Option<f64>; FAMILIES.len()] {
    let RateLimits { requests, tokens, retry_after } = limits;
    let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
    [
        requests.limit,
        requests.remaining,
        seconds(requests.reset),
        tokens.limit,
        tokens.remaining,
        seconds(tokens.reset),
        seconds(*retry_after),
    ]
}

#[derive(Clone, Debug)]
pub(super) struct Families(Vec<GaugeVec>);

impl Families {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Families> {
        FAMILIES
            .iter()
            .map(|family| gauge(registry, family))
            .collect::<Result<_, _>>()
            .map(Families)
    }

    /// The gauges of a stream of load, none of which is there yet.
    pub(super) fn bind(&self, labels: &Labels) -> Limits {
        Limits { families: self.clone(), labels: labels.clone() }
    }

    pub(super) fn unbind(&self, labels: &Labels) {
        for family in &self.0 {
            let _gone = family.remove_label_values(&labels.values());
        }
    }
}

/// The gauges of one stream of load.
#[derive(Debug)]
pub(super) struct Limits {
    families: Families,
    labels: Labels,
}

impl Limits {
    pub(super) fn set(&self, limits: &RateLimits) {
        for (family, value) in self.families.0.iter().zip(values(limits)) {
            if let Some(value) = value {
                family.with_label_values(&self.labels.values()).set(value);
            }
        }
    }
}
