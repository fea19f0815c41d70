//! The request body of chat and completions. The two APIs differ only in the field with the text.

use serde_json::{Map, Value, json};

use super::prompt::{Content, Prompt};
use super::{Dialect, MaxTokensField, RequestParameters};

/// The fields that limit the output tokens. An endpoint that knows both uses the first one.
pub(super) const LIMIT_FIELDS: [&str; 2] =
    [MaxTokensField::MaxCompletionTokens.as_str(), MaxTokensField::MaxTokens.as_str()];

/// Encodes a request. `text` is the field with the conversation and its value. `None` means a
/// recorded body, which already contains its text.
///
/// If a field is set several times, the last setting applies. The order is: the scenario's
/// parameters, the target's `extra_body`, the scenario's `extra`, a recorded body, the settings of
/// this prompt.
///
/// The body contains exactly one output limit, because servers that expect `max_completion_tokens`
/// refuse `max_tokens`. If the target expects `max_completion_tokens`, the limit gets this name.
/// Otherwise, it keeps the name that was configured or recorded.
pub(super) fn encode(
    dialect: &Dialect,
    model: &str,
    parameters: &RequestParameters,
    prompt: &Prompt<'_>,
    text: Option<(&'static str, Value)>,
) -> Vec<u8> {
    let mut body: Map<String, Value> =
        text.into_iter().map(|(field, text)| (field.to_owned(), text)).collect();
    body.insert(dialect.max_tokens_field.as_str().into(), parameters.max_tokens.get().into());
    if let Some(temperature) = parameters.temperature {
        body.insert("temperature".into(), temperature.into());
    }
    merge_fields(&mut body, dialect.extra_body.iter());
    merge_fields(&mut body, parameters.extra.iter());
    if let Content::Payload(payload) = &prompt.content {
        merge_fields(&mut body, payload.iter());
    }
    if dialect.max_tokens_field == MaxTokensField::MaxCompletionTokens
        && let Some(limit) = body.remove(MaxTokensField::MaxTokens.as_str())
    {
        body.insert(MaxTokensField::MaxCompletionTokens.as_str().into(), limit);
    }
    set_stream_options(&mut body, parameters.stream && dialect.include_usage);
    set_prompt_fields(&mut body, prompt);
    body.insert("model".into(), model.into());
    body.insert("stream".into(), parameters.stream.into());
    Value::Object(body).to_string().into_bytes()
}

/// Requests usage if `include_usage` is true. Otherwise, removes `stream_options`, which endpoints
/// refuse in a request without streaming.
fn set_stream_options(body: &mut Map<String, Value>, include_usage: bool) {
    match body.get_mut("stream_options") {
        _ if !include_usage => _ = body.remove("stream_options"),
        Some(Value::Object(options)) => _ = options.insert("include_usage".into(), true.into()),
        _ => _ = body.insert("stream_options".into(), json!({"include_usage": true})),
    }
}

fn set_prompt_fields(body: &mut Map<String, Value>, prompt: &Prompt<'_>) {
    if let Some(limit) = prompt.max_tokens {
        let name = LIMIT_FIELDS.into_iter().find(|name| body.contains_key(*name));
        let name = name.unwrap_or(MaxTokensField::MaxTokens.as_str());
        body.insert(name.into(), limit.get().into());
    }
    if prompt.ignore_eos {
        body.insert("ignore_eos".into(), true.into());
    }
    if let Some(nonce) = &prompt.nonce {
        // Only a prompt without text gets no nonce, and the configuration rejects nonces for such
        // prompts.
        if let Some(text) = first_text(body) {
            text.insert_str(0, nonce);
        }
    }
    if let Some(salt) = &prompt.cache_salt {
        body.insert("cache_salt".into(), salt.as_str().into());
    }
}

/// Sets fields in the body. If the old and the new value are both objects, merges them. A new
/// output limit replaces the old one, even if their names differ.
fn merge_fields<'a>(
    body: &mut Map<String, Value>,
    fields: impl Iterator<Item = (&'a String, &'a Value)> + Clone,
) {
    if let Some((name, limit)) = output_limit(&fields) {
        for name in LIMIT_FIELDS {
            body.remove(name);
        }
        body.insert(name.to_owned(), limit.clone());
    }
    for (key, value) in fields.filter(|(key, _)| !LIMIT_FIELDS.contains(&key.as_str())) {
        match (body.get_mut(key), value) {
            (Some(Value::Object(old)), Value::Object(new)) => {
                old.extend(new.iter().map(|(k, v)| (k.clone(), v.clone())));
            }
            _ => _ = body.insert(key.clone(), value.clone()),
        }
    }
}

/// Returns the output limit of a request whose prompt sets none. `None` if the configuration
/// removes the limit with `null`.
pub(super) fn configured_limit(dialect: &Dialect, parameters: &RequestParameters) -> Option<u64> {
    let set = output_limit(&parameters.extra.iter());
    match set.or_else(|| output_limit(&dialect.extra_body.iter())) {
        Some((_, limit)) => limit.as_u64(),
        None => Some(parameters.max_tokens.get().into()),
    }
}

/// Returns the field with which the configuration removes the output limit of all requests.
pub(super) fn removed_limit(
    dialect: &Dialect,
    parameters: &RequestParameters,
) -> Option<&'static str> {
    let set = output_limit(&parameters.extra.iter());
    let (name, limit) = set.or_else(|| output_limit(&dialect.extra_body.iter()))?;
    limit.as_u64().is_none().then_some(name)
}

/// Returns the name and the value of the output limit. If the fields contain both names, returns
/// the first in [`LIMIT_FIELDS`] that is not `null`.
pub(super) fn output_limit<'a>(
    fields: &(impl Iterator<Item = (&'a String, &'a Value)> + Clone),
) -> Option<(&'static str, &'a Value)> {
    let limits = LIMIT_FIELDS.into_iter().filter_map(|name| {
        fields.clone().find_map(|(key, value)| (key == name).then_some((name, value)))
    });
    limits.clone().find(|(_, value)| !value.is_null()).or_else(|| limits.clone().next())
}

/// Returns the `prompt`, or the content of the first message. If it is a list, returns the first
/// text in the list.
pub(super) fn first_text(body: &mut Map<String, Value>) -> Option<&mut String> {
    let first_message = body.get("messages").and_then(|messages| messages.get(0)?.get("content"));
    let content = if first_message.is_some() {
        body.get_mut("messages")?.get_mut(0)?.get_mut("content")?
    } else {
        body.get_mut("prompt")?
    };
    let text = match content {
        Value::Array(parts) => parts.iter_mut().find_map(|part| match part {
            Value::Object(part) => part.get_mut("text"),
            text => Some(text),
        })?,
        content => content,
    };
    match text {
        Value::String(text) => Some(text),
        _ => None,
    }
}

impl Prompt<'_> {
    /// Returns the output limit of this prompt, which replaces the limit of the scenario.
    pub fn own_output_limit(&self) -> Option<u64> {
        let recorded = match &self.content {
            Content::Payload(body) => output_limit(&body.iter()),
            Content::Conversation(_) => None,
        };
        let own = self.max_tokens.map(|limit| u64::from(limit.get()));
        own.or_else(|| recorded.and_then(|(_, limit)| limit.as_u64()))
    }

    /// Returns the field with which this prompt removes the limit of the scenario. `None` if it
    /// does not remove the limit, or sets another one.
    pub fn removed_output_limit(&self) -> Option<&'static str> {
        let Content::Payload(body) = &self.content else { return None };
        let (name, _) = output_limit(&body.iter())?;
        self.own_output_limit().is_none().then_some(name)
    }

    /// Returns true if a nonce can precede the text. This is false for token ids, and for a first
    /// message with only an image.
    pub fn has_first_text(self) -> bool {
        match self.content {
            Content::Conversation(_) => true,
            Content::Payload(mut body) => first_text(&mut body).is_some(),
        }
    }
}
