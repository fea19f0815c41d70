//! The end of a phase: after its length, or after a number of requests.

use std::num::NonZeroU64;
use std::time::Duration;

use super::Validator;
use super::shapes::Level;
use crate::config::document::{Phase, Requests, RequestsName};
use crate::config::field::{Field, Located};
use crate::config::scalar::Span;
use crate::schedule;

/// The highest number of requests that a phase may count.
const MAX_REQUESTS: u64 = 1_000_000_000;

/// The number of different prompts of a scenario, for `requests: each_prompt`.
#[derive(Clone, Copy)]
pub(super) enum PromptCount {
    Known(u64),
    /// Synthetic prompts have no number.
    Endless,
    /// The prompts have a mistake.
    Invalid,
}

/// The end of a phase of concurrency, if it is a number of requests.
pub(super) enum RequestCount {
    /// The phase ends after its length.
    Unlimited,
    Count(NonZeroU64),
    /// It has a mistake.
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
                "`requests` without `concurrency`".to_owned(),
                "write `for: 10m` instead, or add `concurrency: 10`".to_owned(),
            );
        }
        if let Some(length) = phase.r#for.node() {
            return invalid(
                length,
                "`for` next to `requests`, although the phase ends with the last request"
                    .to_owned(),
                "remove one of them".to_owned(),
            );
        }
        let count = match (&located.value, prompts) {
            (Requests::Number(count), _) => count.0,
            (Requests::Text(RequestsName::EachPrompt), PromptCount::Known(prompts)) => prompts,
            (_, PromptCount::Endless) => {
                return invalid(
                    located.node,
                    "synthetic prompts have no number".to_owned(),
                    "write a count, such as `requests: 100`".to_owned(),
                );
            }
            // The mistake of the prompts has been reported.
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

    /// The length of the phases of an entry. Zero if they count requests.
    pub(super) fn phase_length(
        &self,
        phase: &Located<Phase>,
        levels: Option<&[Level]>,
    ) -> Option<Duration> {
        if !phase.value.requests.is_absent() {
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

    /// The length in the file: of the pause, or under `for`.
    fn written_length(&self, Located { node, value: phase }: &Located<Phase>) -> Option<Duration> {
        let field: &Field<Span> = match (&phase.pause, &phase.r#for) {
            (Field::Absent, length) => length,
            (pause, Field::Absent) => pause,
            (_, length) => {
                self.problem(
                    length.node().unwrap_or(*node),
                    "`for` next to `pause`, which is itself a length",
                    "write only `pause: 1m`",
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
            ("shorter than 1ms", "write a longer phase, such as `10m`")
        } else if length.value.0 > schedule::Phase::LONGEST {
            ("longer than 366 days", "shorten it, since the schedule repeats anyway")
        } else {
            return Some(length.value.0);
        };
        self.problem(length.node, message, remedy);
        None
    }
}
