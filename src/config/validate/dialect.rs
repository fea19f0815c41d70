//! Validates the dialect of a target: its API, and the fields that its requests need.

use super::Validator;
use crate::config::document::{Api, MaxTokensField, StreamOptions, Target};
use crate::protocol::{self, Dialect};

/// Fields that are not allowed in `extra_body`, each with the remedy.
const ELSEWHERE: [(&str, &str); 3] = [
    (
        "max_completion_tokens",
        "write `max_tokens_field: max_completion_tokens`, and the limit in `request.max_tokens`",
    ),
    (
        "stream_options",
        "write `stream_options: none` to omit it, or put its fields in `request.extra`",
    ),
    ("system", "write `request.system`"),
];

impl Validator<'_> {
    pub(super) fn dialect(&self, target: &Target) -> Option<Dialect> {
        let api = match target.api.present().map(|located| located.value) {
            None | Some(Api::Chat) => protocol::Api::Chat,
            Some(Api::Completions) => protocol::Api::Completions,
        };
        let max_tokens_field = match target.max_tokens_field.present() {
            Some(located) if matches!(located.value, MaxTokensField::MaxCompletionTokens) => {
                match api {
                    protocol::Api::Chat => protocol::MaxTokensField::MaxCompletionTokens,
                    protocol::Api::Completions => {
                        self.problem(
                            located.node,
                            "`/completions` does not have `max_completion_tokens`",
                            "remove `max_tokens_field`",
                        );
                        return None;
                    }
                }
            }
            _ => protocol::MaxTokensField::MaxTokens,
        };
        let options = target.stream_options.present().map(|located| located.value);
        let include_usage = options != Some(StreamOptions::None);
        let extra_body = self.body_fields(
            "extra_body",
            &target.extra_body,
            &[&ELSEWHERE, &super::request::RESERVED],
            |_, _| true,
        )?;
        Some(Dialect { api, max_tokens_field, include_usage, extra_body })
    }
}
