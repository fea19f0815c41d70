//! Validates the guards: the rate limits of a target, and the breaker of a scenario.

use std::num::NonZeroU32;
use std::time::Duration;

use super::Validator;
use crate::config::document;
use crate::config::duration::HumanDuration;
use crate::config::field::{Field, Located};
use crate::config::scalar::{Amount, Count};
use crate::plan;
use crate::slo::Share;

/// The highest rate of a schedule, 100,000/s.
const MOST_REQUESTS_PER_MINUTE: u32 = 6_000_000;
const MOST_TOKENS_PER_MINUTE: u32 = 4_000_000_000;

const HALF: Share = Share::percent(50);
const DEFAULT_OVER: Duration = Duration::from_mins(1);
const DEFAULT_AT_LEAST: u32 = 20;
const MOST_AT_LEAST: u32 = 1_000_000;
const DEFAULT_PAUSE: Duration = Duration::from_mins(1);
const DEFAULT_MAX_PAUSE: Duration = Duration::from_mins(15);
const SHORTEST_OVER: Duration = Duration::from_secs(1);
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const DAY: Duration = Duration::from_hours(24);

impl Validator<'_> {
    /// Returns `None` for a mistake, and `Some(None)` if the target has no rate limits.
    #[allow(clippy::option_option)]
    pub(super) fn rate_limits(
        &self,
        field: &Field<document::RateLimits>,
    ) -> Option<Option<plan::RateLimits>> {
        let Located { node, value: keys } = match field {
            Field::Absent => return Some(None),
            Field::Invalid(_) => return None,
            Field::Present(located) => located,
        };
        let requests = self.limit(&keys.requests_per_minute, MOST_REQUESTS_PER_MINUTE);
        let tokens = self.limit(&keys.tokens_per_minute, MOST_TOKENS_PER_MINUTE);
        let retry_after = keys.retry_after.present().is_some_and(|located| located.value);
        let is_valid = !matches!(keys.retry_after, Field::Invalid(_));
        let limits = plan::RateLimits { requests: requests?, tokens: tokens?, retry_after };
        if is_valid && limits == plan::RateLimits::default() {
            self.missing(
                *node,
                "the rate limits contain no limit",
                "write `requests_per_minute`, `tokens_per_minute` or `retry_after: true`",
            );
        }
        Some(Some(limits))
    }

    #[allow(clippy::option_option)]
    fn limit(&self, field: &Field<Amount>, highest: u32) -> Option<Option<NonZeroU32>> {
        match field {
            Field::Absent => Some(None),
            Field::Invalid(_) => None,
            Field::Present(Located { node, value: Amount(count) }) => {
                let count = Field::Present(Located { node: *node, value: Count(*count) });
                self.positive(&count, 1, highest).map(Some)
            }
        }
    }

    /// Returns `None` for a mistake, and `Some(None)` if the scenario has no breaker.
    #[allow(clippy::option_option)]
    pub(super) fn breaker(
        &self,
        field: &Field<document::Breaker>,
    ) -> Option<Option<plan::Breaker>> {
        let keys = match field {
            Field::Absent => return Some(None),
            Field::Invalid(_) => return None,
            Field::Present(located) => &located.value,
        };
        let failures = match &keys.failures {
            Field::Absent => Some(HALF),
            Field::Invalid(_) => None,
            Field::Present(located) => {
                let share = Share::new(located.value.0);
                if share.is_none() {
                    self.problem(
                        located.node,
                        "a breaker at 0% would open without a failure",
                        "write a percentage above 0%, such as `50%`",
                    );
                }
                share
            }
        };
        let over = self.span(&keys.over, DEFAULT_OVER, SHORTEST_OVER..=DAY);
        let at_least = self.positive(&keys.at_least, DEFAULT_AT_LEAST, MOST_AT_LEAST);
        let pause = self.span(&keys.pause, DEFAULT_PAUSE, SHORTEST_PAUSE..=DAY);
        let default = DEFAULT_MAX_PAUSE.max(pause.unwrap_or_default());
        let max_pause = self.span(&keys.max_pause, default, SHORTEST_PAUSE..=DAY);
        let (pause, max_pause) = (pause?, max_pause?);
        if let (true, Some(node)) = (max_pause < pause, keys.max_pause.node()) {
            let (pause, max_pause) = (HumanDuration(pause), HumanDuration(max_pause));
            self.problem(
                node,
                format!("`max_pause` ({max_pause}) is shorter than `pause` ({pause})"),
                format!("write at least {pause}"),
            );
            return None;
        }
        Some(Some(plan::Breaker {
            failures: failures?,
            over: over?,
            at_least: at_least?,
            pause,
            max_pause,
        }))
    }
}
