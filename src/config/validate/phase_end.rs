//! Validates the end of a phase. A phase ends after a length of time or after a number of requests.

use std::num::NonZeroU64;
use std::time::Duration;

use super::Validator;
use super::shapes::Level;
use crate::config::document::{Phase, Requests, RequestsName};
use crate::config::field::{Field, Located};
use crate::config::scalar::Span;
use crate::schedule;

const MAX_REQUESTS: u64 = 1_000_000_000;

#[derive(Clone, Copy)]
pub(super) enum PromptCount {
    Known(u64),
    /// llmload generates the prompts.
    Endless,
    /// The prompts have a mistake, so their number is unknown.
    Invalid,
}

pub(super) enum RequestCount {
    /// The phase ends after its length.
    Unlimited,
    Count(NonZeroU64),
    /// The key `requests` has a mistake.
    Invalid,
}

impl Validator<'_> {
    pub(super) fn request_count(&self, phase: &Phase, prompts: PromptCount) -> RequestCount {
        let located = match &phase.requests {
            Field::Absent => return RequestCount::Unlimited,
            Field::Invalid(_) => return RequestCount::Invalid,
            Field::Present(located) => located,
        };
        let invalid = |node, message: String, remedy: String| {
            self.problem(node, message, remedy);
            RequestCount::Invalid
        };
        if phase.concurrency.is_absent() {
            return invalid(
                located.node,
                "`requests` is allowed only next to `concurrency`".to_owned(),
                "write `for: 10m` instead, or add `concurrency: 10`".to_owned(),
            );
        }
        if let Some(length) = phase.r#for.node() {
            return invalid(
                length,
                "a phase cannot have both `for` and `requests`".to_owned(),
                "remove one of them".to_owned(),
            );
        }
        let count = match (&located.value, prompts) {
            (Requests::Number(count), _) => count.0,
            (Requests::Text(RequestsName::EachPrompt), PromptCount::Known(prompts)) => prompts,
            (_, PromptCount::Endless) => {
                return invalid(
                    located.node,
                    "the number of synthetic prompts has no limit".to_owned(),
                    "write a count, such as `requests: 100`".to_owned(),
                );
            }
            (_, PromptCount::Invalid) => return RequestCount::Invalid,
        };
        match NonZeroU64::new(count).filter(|count| count.get() <= MAX_REQUESTS) {
            Some(count) => RequestCount::Count(count),
            None => invalid(
                located.node,
                format!("{count} is out of range"),
                format!("write a count from 1 to {MAX_REQUESTS}, or `each_prompt`"),
            ),
        }
    }

    /// Returns the length of each phase of a schedule entry: zero if the phases count requests
    /// instead.
    pub(super) fn phase_length(
        &self,
        phase: &Located<Phase>,
        levels: Option<&[Level]>,
    ) -> Option<Duration> {
        if !phase.value.requests.is_absent() || !phase.value.search.is_absent() {
            return Some(Duration::ZERO);
        }
        match (&phase.value.replay, &phase.value.r#for, levels) {
            (Field::Present(replay), Field::Absent, Some([Level { load, .. }])) => {
                self.length_of_trace(replay, load)
            }
            (Field::Present(_) | Field::Invalid(_), Field::Absent, _) => None,
            _ => self.written_length(phase),
        }
    }

    /// Returns the value of `pause` or of `for`.
    pub(super) fn written_length(
        &self,
        Located { node, value: phase }: &Located<Phase>,
    ) -> Option<Duration> {
        let field: &Field<Span> = match (&phase.pause, &phase.r#for) {
            (Field::Absent, length) => length,
            (pause, Field::Absent) => pause,
            (_, length) => {
                self.problem(
                    length.node().unwrap_or(*node),
                    "`for` is not allowed next to `pause`",
                    "remove `for`, because the value of `pause` is already the length",
                );
                return None;
            }
        };
        if field.is_absent() {
            self.missing(
                *node,
                "`for` is missing",
                "write the length of the phase, such as `for: 10m`",
            );
            return None;
        }
        let length = field.present()?;
        let (message, remedy) = if length.value.0 < schedule::Phase::SHORTEST {
            ("the phase is shorter than 1ms", "write a longer time, such as `10m`")
        } else if length.value.0 > schedule::Phase::LONGEST {
            ("the phase is longer than 366 days", "write at most `366d`, or write several phases")
        } else {
            return Some(length.value.0);
        };
        self.problem(length.node, message, remedy);
        None
    }
}
