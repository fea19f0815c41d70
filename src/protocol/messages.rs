//! The Messages API of Anthropic. A request contains `messages` and `system`. The events of a
//! stream have types; the usage is in two of them, and the finish reason is `stop_reason`.

use serde_json::{Value, json};

use super::answer::{ToolCall, ToolCallPart};
use super::decoded::{Channel, DecodeError, DecodedEvent, SeparateCache};
use super::lenient::{self, JsonDecoder};
use super::prompt::{Message, Prompt, Role};
use super::raw_json::{elements, fields, fields_or_null, is_truthy, string};
use super::reported_error::ReportedError;
use super::sse::SseEvent;
use super::{Dialect, RequestParameters, chat, request_body, usage};
use crate::measurement::Usage;

/// Relative to the base URL.
pub const PATH: &str = "messages";

/// The type of the last event of a stream.
pub(super) const END_MARKER: &str = "message_stop";

/// The API requires a version in each request.
pub(super) const HEADERS: &[(&str, &str)] = &[("anthropic-version", "2023-06-01")];

pub(super) fn encode(
    dialect: &Dialect,
    model: &str,
    parameters: &RequestParameters,
    prompt: &Prompt<'_>,
) -> Vec<u8> {
    let text = prompt.content.messages(parameters).map(|messages| text_fields(&messages));
    request_body::encode(dialect, model, parameters, prompt, text.into_iter().flatten())
}

/// A message cannot have the role of the system, so all system messages become `system`.
fn text_fields(messages: &[Message<'_>]) -> Vec<(&'static str, Value)> {
    let (system, others): (Vec<_>, Vec<_>) =
        messages.iter().partition(|message| message.role.is_system());
    let system: Vec<&str> = system.iter().map(|message| message.text.as_ref()).collect();
    let mut fields = vec![("messages", others.into_iter().map(message_value).collect())];
    if !system.is_empty() {
        fields.push(("system", system.join("\n\n").into()));
    }
    fields
}

/// Tool calls and their results are parts of the content. A result has the role of the user.
fn message_value(message: &Message<'_>) -> Value {
    let text = message.text.as_ref();
    if message.role == Role::Tool {
        let id = message.tool_call_id.as_deref().unwrap_or_default();
        let result = json!({"type": "tool_result", "tool_use_id": id, "content": text});
        return json!({"role": "user", "content": [result]});
    }
    if message.tool_calls.is_empty() {
        return json!({"role": message.role.as_str(), "content": text});
    }
    let text = (!text.is_empty()).then(|| json!({"type": "text", "text": text}));
    let calls = message.tool_calls.iter().map(|call| {
        // The API expects an object. A model can write something else.
        let input = serde_json::from_str(&call.arguments).ok().filter(Value::is_object);
        let input = input.unwrap_or_else(|| json!({}));
        json!({"type": "tool_use", "id": call.id, "name": call.name, "input": input})
    });
    let content: Vec<Value> = text.into_iter().chain(calls).collect();
    json!({"role": message.role.as_str(), "content": content})
}

/// An event that has no data, or that only shows that the connection is alive, becomes an empty
/// [`DecodedEvent`]. So does `[DONE]`, which some gateways add: it proves nothing.
///
/// # Errors
/// The data is not JSON, or its structure does not fit the API.
pub(super) fn decode_event<'a, S>(
    event: SseEvent<'a>,
    sink: &mut S,
) -> Result<DecodedEvent<'a>, DecodeError>
where
    S: FnMut(u32, Channel, &str),
{
    if chat::is_end_marker(event) {
        return Ok(DecodedEvent::default());
    }
    lenient::decode_event(event, StreamEvent { name: event.name }, sink)
}

/// # Errors
/// The body is not JSON, or its structure does not fit the API.
pub(super) fn decode_body<'a, S>(
    body: &'a [u8],
    sink: &mut S,
) -> Result<DecodedEvent<'a>, DecodeError>
where
    S: FnMut(u32, Channel, &str),
{
    lenient::decode(body, Body, sink)
}

/// An event of a stream.
#[derive(Clone, Copy)]
struct StreamEvent<'n> {
    /// The value of the `event` field, which is the type if the JSON has none.
    name: &'n [u8],
}

impl JsonDecoder for StreamEvent<'_> {
    fn decode<'a, S>(self, json: &'a str, sink: &mut S) -> serde_json::Result<DecodedEvent<'a>>
    where
        S: FnMut(u32, Channel, &str),
    {
        let [kind, delta, block, message, counts, error, index] =
            fields(json, ["type", "delta", "content_block", "message", "usage", "error", "index"])?;
        let named = String::from_utf8_lossy(self.name);
        let kind = string(kind).unwrap_or(named);
        let mut decoded = DecodedEvent::default();
        match kind.as_ref() {
            "message_start" => {
                let [model, counts] = fields_or_null(message, ["model", "usage"])?;
                read_usage(counts, &mut decoded)?;
                // The model has generated nothing yet, and servers send 0, 1 or another number.
                decoded.usage = Usage { output: None, ..decoded.usage };
                decoded.model = string(model).filter(|name| !name.is_empty());
            }
            "content_block_start" | "content_block_delta" => {
                let block = if kind == "content_block_start" { block } else { delta };
                decoded.has_text = emit_block(block, sink)?;
                let part = call_part(index.parse().unwrap_or(0), block)?;
                decoded.tool_calls.extend(part);
            }
            "message_delta" => {
                let [reason] = fields_or_null(delta, ["stop_reason"])?;
                decoded.finish = string(reason).and_then(|reason| chat::finish_reason(&reason));
                read_usage(counts, &mut decoded)?;
            }
            END_MARKER => decoded.is_end = true,
            _ => {}
        }
        if kind == "error" || is_truthy(error) {
            decoded.error = Some(ReportedError::from_body(json.as_bytes()));
        }
        Ok(decoded)
    }
}

/// Emits the text of a content block, or of a delta of one. Returns true if there is text.
fn emit_block<S>(block: &str, sink: &mut S) -> serde_json::Result<bool>
where
    S: FnMut(u32, Channel, &str),
{
    let [kind, text, thinking, arguments, name, input] =
        fields_or_null(block, ["type", "text", "thinking", "partial_json", "name", "input"])?;
    let is_call = kind.ends_with("tool_use\"");
    let mut has_text = false;
    for (channel, raw) in [
        (Channel::Answer, text),
        (Channel::Reasoning, thinking),
        (Channel::ToolCall, arguments),
        (Channel::ToolCall, if is_call { name } else { "null" }),
    ] {
        if let Some(text) = string(raw).filter(|text| !text.is_empty()) {
            has_text = true;
            sink(0, channel, &text);
        }
    }
    // Only a body has the input as an object that is not empty.
    if is_call && is_truthy(input) {
        has_text = true;
        sink(0, Channel::ToolCall, input);
    }
    Ok(has_text)
}

/// Returns the piece of a tool call in a content block, or in a delta of one. Leaves out the tools
/// that the server itself runs.
fn call_part(index: usize, block: &str) -> serde_json::Result<Option<ToolCallPart>> {
    let [kind, id, name, arguments, input] =
        fields_or_null(block, ["type", "id", "name", "partial_json", "input"])?;
    let is_call = kind == "\"tool_use\"";
    if !is_call && arguments == "null" {
        return Ok(None);
    }
    let text = |raw| string(raw).unwrap_or_default().into_owned();
    let (id, name) = (text(id), text(name));
    let has_input = is_call && is_truthy(input);
    let arguments = if has_input { input.to_owned() } else { text(arguments) };
    Ok(Some(ToolCallPart { index, call: ToolCall { id, name, arguments } }))
}

fn read_usage(raw: &str, decoded: &mut DecodedEvent<'_>) -> serde_json::Result<()> {
    let names = ["cache_read_input_tokens", "cache_creation_input_tokens"];
    let [read, written] = fields_or_null(raw, names)?.map(usage::count);
    decoded.usage = usage::read(raw)?;
    decoded.separate_cache = SeparateCache { read, written };
    Ok(())
}

/// A response without streaming.
#[derive(Clone, Copy)]
struct Body;

impl JsonDecoder for Body {
    fn decode<'a, S>(self, json: &'a str, sink: &mut S) -> serde_json::Result<DecodedEvent<'a>>
    where
        S: FnMut(u32, Channel, &str),
    {
        let [kind, content, reason, counts, model, error] =
            fields(json, ["type", "content", "stop_reason", "usage", "model", "error"])?;
        let mut decoded = DecodedEvent::default();
        if kind == "\"error\"" || is_truthy(error) {
            decoded.error = Some(ReportedError::from_body(json.as_bytes()));
            return Ok(decoded);
        }
        let (mut done, mut index) = (Ok(false), 0);
        elements(content, |block| {
            if let Ok(has_text) = done {
                done = emit_block(block, sink).map(|more| has_text || more);
            }
            decoded.tool_calls.extend(call_part(index, block).ok().flatten());
            index += 1;
        })?;
        decoded.has_text = done?;
        decoded.finish = string(reason).and_then(|reason| chat::finish_reason(&reason));
        decoded.model = string(model).filter(|name| !name.is_empty());
        read_usage(counts, &mut decoded)?;
        Ok(decoded)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::num::NonZeroU32;

    use serde_json::json;

    use super::*;
    use crate::protocol::Api;
    use crate::protocol::prompt::{Content, Message};

    fn encoded(stream: bool, extra: &Value, prompt: &Prompt<'_>) -> Value {
        let parameters = RequestParameters {
            max_tokens: NonZeroU32::new(16).unwrap(),
            temperature: Some(0.5),
            system: Some("Be brief.".into()),
            stream,
            extra: serde_json::from_value::<BTreeMap<_, _>>(extra.clone()).unwrap(),
        };
        let dialect = Dialect { api: Api::Messages, ..Dialect::default() };
        serde_json::from_slice(&dialect.encode("m", &parameters, prompt)).unwrap()
    }

    #[test]
    fn a_tool_call_is_decoded_and_sent_back_with_its_result() {
        let event = |data: &str| {
            let event = SseEvent { name: b"", data: data.as_bytes() };
            decode_event(event, &mut |_, _, _: &str| {}).unwrap().tool_calls
        };
        let start = r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"t1","name":"get","input":{}}}"#;
        let delta = r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"x\":1}"}}"#;
        let text =
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}"#;
        let call = |id: &str, name: &str, arguments: &str| {
            let [id, name, arguments] = [id, name, arguments].map(str::to_owned);
            ToolCallPart { index: 1, call: ToolCall { id, name, arguments } }
        };
        assert_eq!(event(start), [call("t1", "get", "")]);
        assert_eq!(event(delta), [call("", "", r#"{"x":1}"#)]);
        assert_eq!(event(text), []);
        let body = r#"{"content":[{"type":"text","text":"a"},{"type":"tool_use","id":"t1","name":"get","input":{"x":1}}]}"#;
        let decoded = decode_body(body.as_bytes(), &mut |_, _, _: &str| {}).unwrap();
        assert_eq!(decoded.tool_calls, [call("t1", "get", r#"{"x":1}"#)]);

        let calls = vec![call("t1", "get", r#"{"x":1}"#).call];
        let answer = Message { tool_calls: calls.into(), ..Message::new(Role::Assistant, "") };
        let result = Message { tool_call_id: Some("t1".into()), ..Message::new(Role::Tool, "2") };
        let history = vec![Message::new(Role::User, "Look."), answer, result];
        let body = encoded(true, &json!({}), &Content::Conversation(history).into());
        assert_eq!(
            body["messages"],
            json!([
                {"role": "user", "content": "Look."},
                {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "get", "input": {"x": 1}}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "2"}]},
            ])
        );
    }

    fn payload(body: &Value) -> Prompt<'static> {
        Content::Payload(body.as_object().unwrap().clone()).into()
    }

    fn conversation() -> Prompt<'static> {
        let message = |role, text: &'static str| Message::new(role, text);
        let turns = [
            message(Role::System, "Own."),
            message(Role::User, "a"),
            message(Role::Assistant, "b"),
            message(Role::User, "c"),
        ];
        Content::Conversation(turns.to_vec()).into()
    }

    #[test]
    fn a_request_has_its_system_message_outside_of_the_messages() {
        let expected = json!({
            "model": "m", "system": "Be brief.", "max_tokens": 16, "temperature": 0.5,
            "messages": [{"role": "user", "content": "Hi"}], "stream": true,
        });
        assert_eq!(encoded(true, &json!({}), &"Hi".into()), expected);
        let body = encoded(false, &json!({}), &conversation());
        assert_eq!((&body["system"], &body["stream"]), (&json!("Own."), &json!(false)));
        let roles = body["messages"].as_array().unwrap().iter().map(|m| m["role"].as_str());
        assert_eq!(roles.collect::<Vec<_>>(), [Some("user"), Some("assistant"), Some("user")]);
    }

    #[test]
    fn a_recorded_body_keeps_its_fields_and_gets_the_limit_of_this_api() {
        let recorded = json!({
            "system": [{"type": "text", "text": "I"}], "max_completion_tokens": 7,
            "messages": [{"role": "user", "content": "Hi"}], "thinking": {"type": "enabled"},
        });
        let body = encoded(true, &json!({}), &payload(&recorded));
        assert_eq!((&body["max_tokens"], body.get("max_completion_tokens")), (&json!(7), None));
        assert_eq!(
            (&body["system"], &body["thinking"]),
            (&recorded["system"], &recorded["thinking"])
        );
        let nonce = Prompt { nonce: Some("N. ".into()), ..payload(&recorded) };
        assert_eq!(encoded(true, &json!({}), &nonce)["system"][0]["text"], "N. I");
        let nonce = Prompt { nonce: Some("N. ".into()), ..conversation() };
        assert_eq!(encoded(true, &json!({}), &nonce)["system"], "N. Own.");
    }
}
