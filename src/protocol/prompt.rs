//! The prompt of one request: a conversation or a recorded request body. The prompt sources create
//! it, and a [`Dialect`](super::Dialect) encodes it.

use std::borrow::Cow;
use std::num::NonZeroU32;

use serde_json::{Map, Value};

use super::RequestParameters;
use super::answer::ToolCall;

#[derive(Clone, Debug, PartialEq)]
pub struct Prompt<'a> {
    pub content: Content<'a>,
    /// Replaces the output limits of the scenario, the target and a recorded body.
    pub max_tokens: Option<NonZeroU32>,
    /// True if the engine should generate as many tokens as the limit. `ignore_eos` is a field of
    /// vLLM, SGLang and llama.cpp.
    pub ignore_eos: bool,
    /// A unique text before the first message. With it, an engine cannot find the prompt in its
    /// prefix cache.
    pub nonce: Option<String>,
    /// A field of vLLM. Only requests with the same salt share cached prefixes.
    pub cache_salt: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Content<'a> {
    /// A system message at the start replaces the system message of the scenario.
    Conversation(Vec<Message<'a>>),
    /// A recorded request body. Its fields override the parameters of the scenario, except two:
    /// `model`, which is a label of the metrics, and `stream`, which decides how llmload reads the
    /// response.
    Payload(Map<String, Value>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    pub role: Role,
    pub text: Cow<'a, str>,
    /// The calls that the model requested, in a message of the assistant.
    pub tool_calls: Cow<'a, [ToolCall]>,
    /// The call whose result is in this message, with [`Role::Tool`].
    pub tool_call_id: Option<Cow<'a, str>>,
}

impl<'a> Message<'a> {
    /// A message without tool calls.
    pub fn new(role: Role, text: impl Into<Cow<'a, str>>) -> Message<'a> {
        Message { role, text: text.into(), tool_calls: Cow::Borrowed(&[]), tool_call_id: None }
    }

    /// Returns the same message without a copy of its text.
    pub fn borrowed(&self) -> Message<'_> {
        Message {
            role: self.role,
            text: Cow::Borrowed(&self.text),
            tool_calls: Cow::Borrowed(&self.tool_calls),
            tool_call_id: self.tool_call_id.as_deref().map(Cow::Borrowed),
        }
    }

    /// The length of the text that the model reads, in bytes.
    pub fn text_bytes(&self) -> u64 {
        let calls: usize = self.tool_calls.iter().map(ToolCall::bytes).sum();
        (self.text.len() + calls) as u64
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    System,
    /// The newer name of [`Role::System`].
    Developer,
    User,
    /// The model, in an earlier turn.
    Assistant,
    /// The result of a tool call.
    Tool,
}

impl Role {
    /// The roles of messages that contain only text.
    pub const PLAIN: [Role; 4] = [Role::System, Role::Developer, Role::User, Role::Assistant];

    /// True for a message that precedes the conversation.
    pub fn is_system(self) -> bool {
        matches!(self, Role::System | Role::Developer)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::Developer => "developer",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        }
    }
}

impl<'a> From<Content<'a>> for Prompt<'a> {
    fn from(content: Content<'a>) -> Prompt<'a> {
        Prompt { content, max_tokens: None, ignore_eos: false, nonce: None, cache_salt: None }
    }
}

/// A conversation with one user message.
impl<'a> From<Cow<'a, str>> for Prompt<'a> {
    fn from(text: Cow<'a, str>) -> Prompt<'a> {
        Content::Conversation(vec![Message::new(Role::User, text)]).into()
    }
}

impl<'a> From<&'a str> for Prompt<'a> {
    fn from(text: &'a str) -> Prompt<'a> {
        Cow::Borrowed(text).into()
    }
}

impl Content<'_> {
    /// The length of the text that the model reads, in bytes. A token id counts as four bytes.
    /// Images and tools in a recorded body do not count.
    pub fn text_bytes(&self) -> u64 {
        match self {
            Content::Conversation(messages) => messages.iter().map(Message::text_bytes).sum(),
            Content::Payload(body) => {
                let contents = body.get("messages").and_then(Value::as_array);
                let contents = contents.into_iter().flatten().filter_map(|m| m.get("content"));
                let others = ["prompt", "input", "instructions", "system"];
                let others = others.into_iter().filter_map(|name| body.get(name));
                contents.chain(others).map(text_bytes).sum()
            }
        }
    }

    /// Returns the messages of a conversation. Adds the system message of the scenario at the start
    /// if they have none. `None` for a recorded body.
    pub(super) fn messages<'a>(
        &'a self,
        parameters: &'a RequestParameters,
    ) -> Option<Vec<Message<'a>>> {
        let Content::Conversation(messages) = self else { return None };
        let has_own_system = messages.first().is_some_and(|first| first.role.is_system());
        let system = parameters.system.as_deref().filter(|_| !has_own_system);
        let system = system.map(|text| Message::new(Role::System, text));
        Some(system.into_iter().chain(messages.iter().map(Message::borrowed)).collect())
    }
}

/// The length of the text in a `content`, `prompt` or `input`, in bytes. The value is a text, or a
/// list of texts, messages, parts or token ids.
fn text_bytes(value: &Value) -> u64 {
    match value {
        Value::String(text) => text.len() as u64,
        Value::Number(_) => 4,
        Value::Array(parts) => parts.iter().map(text_bytes).sum(),
        Value::Object(part) => part.get("text").or(part.get("content")).map_or(0, text_bytes),
        Value::Null | Value::Bool(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::protocol::request_body::LIMIT_FIELDS;
    use crate::protocol::{Dialect, MaxTokensField};

    fn parameters(extra: &Value, stream: bool) -> RequestParameters {
        RequestParameters {
            max_tokens: NonZeroU32::new(16).unwrap(),
            temperature: Some(0.5),
            system: Some("Be brief.".into()),
            stream,
            extra: serde_json::from_value(extra.clone()).unwrap(),
        }
    }

    fn encoded(prompt: &Prompt<'_>, extra: &Value, stream: bool) -> Value {
        serde_json::from_slice(&Dialect::default().encode("m", &parameters(extra, stream), prompt))
            .unwrap()
    }

    fn payload(body: &Value) -> Prompt<'static> {
        Content::Payload(body.as_object().unwrap().clone()).into()
    }

    #[test]
    fn a_recorded_body_overrides_the_parameters_except_model_and_stream() {
        let body = json!({
            "model": "other", "stream": false, "messages": [{"role": "user", "content": "Hi"}], "temperature": 1,
            "max_tokens": 7, "stream_options": {"include_usage": false, "chunks": 2}, "top_k": 3,
        });
        let expected = json!({
            "model": "m", "stream": true, "messages": [{"role": "user", "content": "Hi"}], "temperature": 1,
            "max_tokens": 7, "stream_options": {"include_usage": true, "chunks": 2}, "top_k": 3, "top_p": 0.9,
        });
        let extra = json!({"top_p": 0.9, "max_completion_tokens": 9});
        assert_eq!(encoded(&payload(&body), &extra, true), expected);
        let unstreamed = encoded(&payload(&body), &json!({}), false);
        assert_eq!(
            (unstreamed.get("stream_options"), &unstreamed["stream"]),
            (None, &json!(false))
        );
        let odd = json!({"prompt": "Hi", "stream_options": null, "max_completion_tokens": 5});
        let odd = encoded(&payload(&odd), &json!({}), true);
        assert_eq!(odd["stream_options"], json!({"include_usage": true}));
        assert_eq!((odd.get("max_tokens"), &odd["max_completion_tokens"]), (None, &json!(5)));
    }

    #[test]
    fn the_text_of_a_body_is_counted_without_its_other_fields() {
        for (body, bytes) in [
            (json!({"prompt": "Hi", "top_k": 3, "user": "somebody"}), 2),
            (json!({"prompt": [[1, 2, 3]]}), 12),
            (
                json!({"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "ä"}]}),
                11,
            ),
            (
                json!({"messages": [{"role": "user", "content": [
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                    {"type": "text", "text": "What?"},
                ]}, {"role": "assistant", "content": null, "tool_calls": []}]}),
                5,
            ),
        ] {
            assert_eq!(payload(&body).content.text_bytes(), bytes, "{body}");
        }
        assert_eq!(Prompt::from("ä b").content.text_bytes(), 4);
    }

    #[test]
    fn a_body_has_one_output_limit_with_the_name_that_the_endpoint_expects() {
        let (old, new) = ("max_tokens", "max_completion_tokens");
        let newer =
            Dialect { max_tokens_field: MaxTokensField::MaxCompletionTokens, ..Dialect::default() };
        let encoded_limits = |dialect: &Dialect, extra: &Value, body: &Value| {
            let mut body = body.as_object().unwrap().clone();
            body.insert("prompt".into(), "Hi".into());
            let prompt: Prompt<'_> = Content::Payload(body).into();
            let own = prompt.own_output_limit();
            let bytes = dialect.encode("m", &parameters(extra, true), &prompt);
            let mut body: Map<String, Value> = serde_json::from_slice(&bytes).unwrap();
            body.retain(|key, _| LIMIT_FIELDS.contains(&key.as_str()));
            (Value::Object(body), own)
        };
        let none = json!({});
        for (dialect, extra, recorded, bound, own) in [
            (&newer, &none, &none, json!({new: 16}), None),
            (&newer, &none, &json!({old: 7}), json!({new: 7}), Some(7)),
            (&newer, &none, &json!({old: 7, new: 9}), json!({new: 9}), Some(9)),
            (&newer, &json!({old: 5}), &none, json!({new: 5}), None),
            (&Dialect::default(), &none, &json!({new: 7}), json!({new: 7}), Some(7)),
            (&Dialect::default(), &none, &json!({old: 7, new: 9}), json!({new: 9}), Some(9)),
            (&Dialect::default(), &none, &json!({old: 7, new: null}), json!({old: 7}), Some(7)),
            (&Dialect::default(), &json!({new: 5}), &json!({old: 7}), json!({old: 7}), Some(7)),
        ] {
            assert_eq!(
                encoded_limits(dialect, extra, recorded),
                (bound, own),
                "{dialect:?} {extra} {recorded}"
            );
        }
    }

    #[test]
    fn fields_of_the_prompt_override_all_others() {
        let prompt = Prompt {
            max_tokens: NonZeroU32::new(3),
            ignore_eos: true,
            cache_salt: Some("salt".into()),
            ..Prompt::from("Hi")
        };
        let body = encoded(&prompt, &json!({}), true);
        assert_eq!((&body["max_tokens"], &body["ignore_eos"]), (&json!(3), &json!(true)));
        assert_eq!(body["cache_salt"], "salt");
        // The endpoint expects this name.
        let body = encoded(&prompt, &json!({"max_completion_tokens": 9}), true);
        assert_eq!((&body["max_completion_tokens"], body.get("max_tokens")), (&json!(3), None));
        let plain = encoded(&"Hi".into(), &json!({}), true);
        assert!(plain.get("ignore_eos").is_none() && plain.get("cache_salt").is_none());
    }

    #[test]
    fn a_conversation_without_a_system_message_gets_the_system_message_of_the_scenario() {
        let message = |role, text: &'static str| Message::new(role, text);
        let turns =
            vec![message(Role::User, "a"), message(Role::Assistant, "b"), message(Role::User, "c")];
        let body = encoded(&Content::Conversation(turns.clone()).into(), &json!({}), true);
        let roles = |body: &Value| -> Vec<String> {
            let messages = body["messages"].as_array().unwrap();
            messages
                .iter()
                .map(|m| format!("{} {}", m["role"].as_str().unwrap(), m["content"]))
                .collect()
        };
        assert_eq!(
            roles(&body),
            ["system \"Be brief.\"", "user \"a\"", "assistant \"b\"", "user \"c\""]
        );
        for role in [Role::System, Role::Developer] {
            let own = [vec![message(role, "Be long.")], turns.clone()].concat();
            let body = encoded(&Content::Conversation(own).into(), &json!({}), true);
            assert_eq!(roles(&body)[0], format!("{} \"Be long.\"", role.as_str()));
            assert_eq!(roles(&body).len(), 4);
        }
    }

    #[test]
    fn a_nonce_precedes_the_first_text_of_every_kind_of_body() {
        let nonce = |prompt: Prompt<'static>| {
            let prompt = Prompt { nonce: Some("N. ".into()), ..prompt };
            encoded(&prompt, &json!({}), true)
        };
        let first = |body: &Value| body["messages"][0]["content"].clone();
        assert_eq!(first(&nonce("Hi".into())), "N. Be brief.");
        let bodies = [
            (json!({"messages": [{"role": "user", "content": "Hi"}]}), "/messages/0/content"),
            (
                json!({"messages": [{"role": "user", "content": [{"type": "image_url"}, {"type": "text", "text": "Hi"}]}]}),
                "/messages/0/content/1/text",
            ),
            (json!({"prompt": "Hi"}), "/prompt"),
            (json!({"prompt": ["Hi"]}), "/prompt/0"),
        ];
        for (body, place) in bodies {
            assert_eq!(nonce(payload(&body)).pointer(place), Some(&json!("N. Hi")), "{body}");
            assert!(payload(&body).has_first_text(), "{body}");
        }
        for body in [
            json!({"prompt": [[1, 2, 3]]}),
            json!({"prompt": [1]}),
            json!({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
            json!({"messages": [{"role": "assistant", "content": null}], "prompt": "Hi"}),
        ] {
            assert!(!payload(&body).has_first_text(), "{body}");
            assert!(!nonce(payload(&body)).to_string().contains("N. "), "{body}");
        }
    }
}
