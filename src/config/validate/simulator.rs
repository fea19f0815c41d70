//! Validates the settings of a simulated endpoint.

use std::time::Duration;

use super::Validator;
use crate::config::document::{self, Simulator};
use crate::config::field::Field;
use crate::config::scalar::{Number, Ratio};
use crate::config::tree::NodeId;
use crate::simulator::{Faults, SimulatorOptions};

impl Validator<'_> {
    pub(super) fn simulator(&self, keys: &Simulator, seed: u64) -> Option<SimulatorOptions> {
        let default = SimulatorOptions::default();
        let model = match &keys.model {
            Field::Absent => Some(default.model),
            Field::Invalid(_) => None,
            Field::Present(located) => self.model_name(located),
        };
        let slots = self.count(&keys.slots, default.slots, 1..=10_000);
        let queue = self.count(&keys.queue, default.queue, 0..=1_000_000);
        let prefill =
            self.speed(&keys.prefill_tokens_per_second, default.prefill_tokens_per_second);
        let decode = self.speed(&keys.decode_tokens_per_second, default.decode_tokens_per_second);
        let full_load_speed = ratio(&keys.full_load_speed, default.full_load_speed);
        if let (Some(share), Some(located)) = (full_load_speed, keys.full_load_speed.node())
            && share <= 0.0
        {
            self.problem(
                located,
                "with a speed of 0 no response ends",
                "write a percentage above 0%, such as `50%`",
            );
        }
        let jitter = ratio(&keys.jitter, default.jitter);
        let reasoning_tokens =
            self.count(&keys.reasoning_tokens, default.reasoning_tokens, 0..=100_000);
        let prefix_cache_tokens =
            self.count(&keys.prefix_cache_tokens, default.prefix_cache_tokens, 0..=100_000_000);
        let loading =
            self.span(&keys.loading, default.loading, Duration::ZERO..=Duration::from_hours(24));
        let faults = match &keys.faults {
            Field::Absent => Some(default.faults),
            Field::Invalid(_) => None,
            Field::Present(located) => self.faults(&located.value, located.node),
        };
        Some(SimulatorOptions {
            model: model?,
            slots: slots?,
            queue: queue?,
            prefill_tokens_per_second: prefill?,
            decode_tokens_per_second: decode?,
            full_load_speed: full_load_speed?,
            jitter: jitter?,
            reasoning_tokens: reasoning_tokens?,
            prefix_cache_tokens: prefix_cache_tokens?,
            loading: loading?,
            faults: faults?,
            seed,
        })
    }

    fn speed(&self, field: &Field<Number>, default: f64) -> Option<f64> {
        match field {
            Field::Absent => Some(default),
            Field::Invalid(_) => None,
            Field::Present(located) if (0.001..=1e9).contains(&located.value.0) => {
                Some(located.value.0)
            }
            Field::Present(located) => {
                self.problem(
                    located.node,
                    format!("{} is out of range", located.value),
                    "write a number from 0.001 to 1000000000",
                );
                None
            }
        }
    }

    fn faults(&self, keys: &document::Faults, node: NodeId) -> Option<Faults> {
        let faults = Faults {
            http_429: ratio(&keys.http_429, 0.0)?,
            http_500: ratio(&keys.http_500, 0.0)?,
            reset: ratio(&keys.reset, 0.0)?,
            stall: ratio(&keys.stall, 0.0)?,
            stream_error: ratio(&keys.stream_error, 0.0)?,
            truncation: ratio(&keys.truncation, 0.0)?,
        };
        let sum = faults.http_429
            + faults.http_500
            + faults.reset
            + faults.stall
            + faults.stream_error
            + faults.truncation;
        // A sum of percentages of exactly 100% can be slightly above 1, because of rounding.
        if sum > 1.0 + 1e-9 {
            self.problem(
                node,
                format!("the faults add up to {:.0}%", sum * 100.0),
                "write percentages with a sum of at most 100%",
            );
            return None;
        }
        Some(faults)
    }
}

fn ratio(field: &Field<Ratio>, default: f64) -> Option<f64> {
    match field {
        Field::Absent => Some(default),
        Field::Invalid(_) => None,
        Field::Present(located) => Some(located.value.0),
    }
}
