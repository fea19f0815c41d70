//! The request body of every API: the merge of the configured fields, the output limit, and the
//! place of a nonce.

use serde_json::{Map, Value, json};

use super::prompt::{Content, Prompt};
use super::{Api, Dialect, MaxTokensField, RequestParameters, responses};

/// The fields that limit the output tokens. An endpoint that knows several uses the first one.
pub(super) const LIMIT_FIELDS: [&str; 3] = [
    responses::LIMIT_FIELD,
    MaxTokensField::MaxCompletionTokens.as_str(),
    MaxTokensField::MaxTokens.as_str(),
];

/// Encodes a request. `text` has the fields with the conversation. It is empty for a recorded body,
/// which already contains its text.
///
/// If a field is set several times, the last setting applies. The order is: the scenario's
/// parameters, the target's `extra_body`, the scenario's `extra`, a recorded body, the settings of
/// this prompt.
///
/// The body contains at most one output limit, because servers that expect `max_completion_tokens`
/// refuse `max_tokens`. A limit with a name that the target does not know gets the name that the
/// target expects.
pub(super) fn encode(
    dialect: &Dialect,
    model: &str,
    parameters: &RequestParameters,
    prompt: &Prompt<'_>,
    text: impl IntoIterator<Item = (&'static str, Value)>,
) -> Vec<u8> {
    let mut body: Map<String, Value> =
        text.into_iter().map(|(field, text)| (field.to_owned(), text)).collect();
    let generates = dialect.api.generates_text();
    if let Some(temperature) = parameters.temperature.filter(|_| generates) {
        body.insert("temperature".into(), temperature.into());
    }
    if generates {
        body.insert(limit_field(dialect).into(), parameters.max_tokens.get().into());
    }
    if dialect.api == Api::Responses {
        // The server would keep every response for weeks.
        body.insert("store".into(), false.into());
    }
    merge_fields(&mut body, dialect.extra_body.iter());
    merge_fields(&mut body, parameters.extra.iter());
    if let Content::Payload(payload) = &prompt.content {
        merge_fields(&mut body, payload.iter());
    }
    for name in LIMIT_FIELDS {
        if !knows_limit(dialect, name)
            && let Some(limit) = body.remove(name)
            && generates
        {
            body.entry(limit_field(dialect)).or_insert(limit);
        }
    }
    let streams = dialect.streams(parameters);
    match dialect.api {
        Api::Chat | Api::Completions => {
            set_stream_options(&mut body, streams && dialect.include_usage);
        }
        _ if !streams => _ = body.remove("stream_options"),
        // Their streams end with the usage, so these APIs have no option for it.
        _ => {}
    }
    set_prompt_fields(&mut body, dialect, prompt);
    body.insert("model".into(), model.into());
    if dialect.api.has_streams() {
        body.insert("stream".into(), streams.into());
    } else {
        body.remove("stream");
    }
    Value::Object(body).to_string().into_bytes()
}

/// The name of the output limit in the requests of llmload.
fn limit_field(dialect: &Dialect) -> &'static str {
    match dialect.api {
        Api::Responses => responses::LIMIT_FIELD,
        _ => dialect.max_tokens_field.as_str(),
    }
}

/// Returns true if the endpoint accepts an output limit with this name.
fn knows_limit(dialect: &Dialect, name: &str) -> bool {
    match (dialect.api, dialect.max_tokens_field) {
        (Api::Chat | Api::Completions, MaxTokensField::MaxTokens) => name != responses::LIMIT_FIELD,
        _ => dialect.api.generates_text() && name == limit_field(dialect),
    }
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

fn set_prompt_fields(body: &mut Map<String, Value>, dialect: &Dialect, prompt: &Prompt<'_>) {
    let generates = dialect.api.generates_text();
    if let Some(limit) = prompt.max_tokens.filter(|_| generates) {
        let name = LIMIT_FIELDS.into_iter().find(|name| body.contains_key(*name));
        let name = name.unwrap_or(limit_field(dialect));
        body.insert(name.into(), limit.get().into());
    }
    if prompt.ignore_eos && generates {
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
    if !dialect.api.generates_text() {
        return Some(0);
    }
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
    if !dialect.api.generates_text() {
        return None;
    }
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

/// Returns the text that the model reads first: the system message, the first message, the `input`
/// or the `prompt`. If it is a list, returns the first text in the list.
pub(super) fn first_text(body: &mut Map<String, Value>) -> Option<&mut String> {
    let has = |name: &str| body.get(name).is_some_and(|value| !value.is_null());
    let first_message = body.get("messages").and_then(|messages| messages.get(0)?.get("content"));
    let has_item = body.get("input").is_some_and(|input| input.pointer("/0/content").is_some());
    let content = if first_message.is_some() && has("system") {
        body.get_mut("system")?
    } else if first_message.is_some() {
        body.get_mut("messages")?.get_mut(0)?.get_mut("content")?
    } else if has("input") && has("instructions") {
        body.get_mut("instructions")?
    } else if has_item {
        body.get_mut("input")?.get_mut(0)?.get_mut("content")?
    } else if has("input") {
        body.get_mut("input")?
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
