//! Validates the dialect of a target: its API, and the fields that its requests need.

use std::sync::Arc;

use super::Validator;
use crate::config::document::{Api, MaxTokensField, Request, StreamOptions, Target};
use crate::config::field::Field;
use crate::plan;
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
        let api = api(target);
        let newer = target
            .max_tokens_field
            .present()
            .filter(|located| matches!(located.value, MaxTokensField::MaxCompletionTokens));
        let has_options = matches!(api, protocol::Api::Chat | protocol::Api::Completions);
        let unknown_options = target.stream_options.node().filter(|_| !has_options);
        if let Some(located) = newer.filter(|_| api != protocol::Api::Chat) {
            self.problem(
                located.node,
                format!("`/{}` does not have `max_completion_tokens`", api.path()),
                "remove `max_tokens_field`",
            );
        }
        if let Some(node) = unknown_options {
            let message = format!("`/{}` has no option for token counts", api.path());
            self.problem(node, message, "remove `stream_options`");
        }
        let max_tokens_field = match newer {
            Some(_) => protocol::MaxTokensField::MaxCompletionTokens,
            None => protocol::MaxTokensField::MaxTokens,
        };
        if !api.has_streams()
            && let Some(node) = target.terminal.node()
        {
            let message = format!("`/{}` has no streams, so `terminal` has no effect", api.path());
            self.warn(node, message, "remove it");
        }
        let options = target.stream_options.present().map(|located| located.value);
        let include_usage = options != Some(StreamOptions::None);
        let extra_body = self.body_fields(
            "extra_body",
            &target.extra_body,
            &[&ELSEWHERE, &super::request::RESERVED],
            |_, _| true,
        )?;
        let is_valid = unknown_options.is_none() && (newer.is_none() || api == protocol::Api::Chat);
        is_valid.then_some(Dialect { api, max_tokens_field, include_usage, extra_body })
    }

    /// Warns of settings that have no effect, because no target of the scenario generates text.
    pub(super) fn warn_of_text_settings(
        &self,
        request: &Field<Request>,
        targets: &[Arc<plan::Target>],
    ) {
        let Some(located) = request.present() else { return };
        let has_text = targets.iter().any(|target| target.dialect.api.generates_text());
        if targets.is_empty() || has_text {
            return;
        }
        let Request { max_tokens, temperature, stream, .. } = &located.value;
        let stream = stream.present().filter(|stream| stream.value).map(|stream| stream.node);
        for (name, node) in [
            ("max_tokens", max_tokens.node()),
            ("temperature", temperature.node()),
            ("stream", stream),
        ] {
            if let Some(node) = node {
                let message = format!("`{name}` has no effect with `api: embeddings`");
                self.warn(node, message, "remove it");
            }
        }
    }
}

/// Returns the API of a target. An invalid value, which is a reported problem, counts as chat.
pub(super) fn api(target: &Target) -> protocol::Api {
    match target.api.present().map(|located| located.value) {
        None | Some(Api::Chat) => protocol::Api::Chat,
        Some(Api::Completions) => protocol::Api::Completions,
        Some(Api::Responses) => protocol::Api::Responses,
        Some(Api::Messages) => protocol::Api::Messages,
        Some(Api::Embeddings) => protocol::Api::Embeddings,
    }
}
