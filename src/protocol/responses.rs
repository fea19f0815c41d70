//! The Responses API. A request contains `input` and `instructions`. The events of a stream have
//! types, and the last one contains the complete response with its usage.

use serde_json::{Value, json};

use super::answer::{ToolCall, ToolCallPart};
use super::decoded::{Channel, DecodeError, DecodedEvent};
use super::lenient::{self, JsonDecoder};
use super::prompt::{Message, Prompt, Role};
use super::raw_json::{elements, fields, fields_or_null, is_truthy, string};
use super::reported_error::ReportedError;
use super::sse::SseEvent;
use super::{Dialect, RequestParameters, chat, request_body, usage};
use crate::measurement::FinishReason;

/// Relative to the base URL.
pub const PATH: &str = "responses";

/// The type of the last event of a complete stream.
pub(super) const END_MARKER: &str = "response.completed";

/// The output limit in a request.
pub(super) const LIMIT_FIELD: &str = "max_output_tokens";

pub(super) fn encode(
    dialect: &Dialect,
    model: &str,
    parameters: &RequestParameters,
    prompt: &Prompt<'_>,
) -> Vec<u8> {
    let text = prompt.content.messages(parameters).map(|messages| text_fields(&messages));
    request_body::encode(dialect, model, parameters, prompt, text.into_iter().flatten())
}

/// The system messages at the start become `instructions`.
fn text_fields(messages: &[Message<'_>]) -> Vec<(&'static str, Value)> {
    let system = messages.iter().take_while(|message| message.role.is_system()).count();
    let (system, input) = messages.split_at(system);
    let instructions: Vec<&str> = system.iter().map(|message| message.text.as_ref()).collect();
    let mut fields = vec![("input", input.iter().flat_map(input_items).collect())];
    if !instructions.is_empty() {
        fields.push(("instructions", instructions.join("\n\n").into()));
    }
    fields
}

/// Tool calls and their results are separate items of the input.
fn input_items(message: &Message<'_>) -> Vec<Value> {
    let text = message.text.as_ref();
    if message.role == Role::Tool {
        let id = message.tool_call_id.as_deref().unwrap_or_default();
        return vec![json!({"type": "function_call_output", "call_id": id, "output": text})];
    }
    let has_text = !text.is_empty() || message.tool_calls.is_empty();
    let item = has_text.then(|| json!({"role": message.role.as_str(), "content": text}));
    let calls = message.tool_calls.iter().map(|call| {
        let (id, name, arguments) = (&call.id, &call.name, &call.arguments);
        json!({"type": "function_call", "call_id": id, "name": name, "arguments": arguments})
    });
    item.into_iter().chain(calls).collect()
}

/// An event that has no data, or that only shows that the connection is alive, becomes an empty
/// [`DecodedEvent`]. So does `[DONE]`, which some servers add: it proves nothing.
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
        let [kind, delta, item, response, error, index] =
            fields(json, ["type", "delta", "item", "response", "error", "output_index"])?;
        let named = String::from_utf8_lossy(self.name);
        let kind = string(kind).unwrap_or(named);
        let mut decoded = DecodedEvent::default();
        let mut emit = |channel, text: &str| {
            if !text.is_empty() {
                decoded.has_text = true;
                sink(0, channel, text);
            }
        };
        if let Some(channel) = delta_channel(&kind) {
            emit_text(delta, channel, &mut emit)?;
        } else if kind == "response.output_item.added" {
            // The model has generated the name of a function before its arguments.
            let [item_kind, name] = fields_or_null(item, ["type", "name"])?;
            if is_call(item_kind) {
                emit_text(name, Channel::ToolCall, &mut emit)?;
            }
        }
        if kind == "response.output_item.done" {
            decoded.tool_calls.extend(call_part(index.parse().unwrap_or(0), item)?);
        }
        let [inner_error] = fields_or_null(response, ["error"])?;
        let is_failed = matches!(kind.as_ref(), "error" | "response.failed");
        read_response(response, &kind, &mut decoded)?;
        if is_failed || is_truthy(error) || is_truthy(inner_error) {
            decoded.error = Some(ReportedError::from_body(json.as_bytes()));
        }
        Ok(decoded)
    }
}

/// Returns the channel of the text in an event with this type. `None` if the event has no text, or
/// repeats the text of earlier events.
fn delta_channel(kind: &str) -> Option<Channel> {
    let name = kind.strip_prefix("response.")?.strip_suffix(".delta")?;
    Some(match name {
        "output_text" | "audio.transcript" | "output_audio_transcript" => Channel::Answer,
        "refusal" => Channel::Refusal,
        "audio" | "output_audio" => Channel::Audio,
        "function_call_arguments"
        | "custom_tool_call_input"
        | "mcp_call_arguments"
        | "code_interpreter_call_code" => Channel::ToolCall,
        // Servers call it reasoning_text, reasoning_summary_text, reasoning_summary or reasoning.
        name if name.starts_with("reasoning") => Channel::Reasoning,
        _ => return None,
    })
}

/// True for the raw type of an item that calls a function or a tool.
fn is_call(kind: &str) -> bool {
    matches!(kind, "\"function_call\"" | "\"custom_tool_call\"" | "\"mcp_call\"")
}

/// Returns the function call in a complete item. Leaves out the tools that the server itself runs.
fn call_part(index: usize, item: &str) -> serde_json::Result<Option<ToolCallPart>> {
    let [kind, id, name, arguments] =
        fields_or_null(item, ["type", "call_id", "name", "arguments"])?;
    let text = |raw| string(raw).unwrap_or_default().into_owned();
    Ok((kind == "\"function_call\"").then(|| {
        let (id, name, arguments) = (text(id), text(name), text(arguments));
        ToolCallPart { index, call: ToolCall { id, name, arguments } }
    }))
}

/// Emits a text, or the text in an object.
fn emit_text(
    raw: &str,
    channel: Channel,
    emit: &mut impl FnMut(Channel, &str),
) -> serde_json::Result<()> {
    if let Some(text) = string(raw) {
        emit(channel, &text);
        return Ok(());
    }
    let [text] = fields_or_null(raw, ["text"])?;
    if let Some(text) = string(text) {
        emit(channel, &text);
    }
    Ok(())
}

/// Reads the object `response` of an event, or a body, except its text.
fn read_response<'a>(
    response: &'a str,
    kind: &str,
    decoded: &mut DecodedEvent<'a>,
) -> serde_json::Result<()> {
    let [status, incomplete, counts, model, output] =
        fields_or_null(response, ["status", "incomplete_details", "usage", "model", "output"])?;
    decoded.usage = usage::read(counts)?;
    decoded.model = string(model).filter(|name| !name.is_empty());
    let kind = kind.strip_prefix("response.").unwrap_or_default();
    // vLLM ends each stream with `response.completed`, so the status is more exact than the type.
    let status = string(status);
    let status = status.as_deref().filter(|status| !status.is_empty()).unwrap_or(kind);
    if !matches!(kind, "completed" | "incomplete" | "cancelled" | "done") {
        return Ok(());
    }
    decoded.is_end = true;
    decoded.finish = Some(match status {
        "completed" | "done" => {
            let mut finish = FinishReason::Stop;
            elements(output, |item| {
                if let Ok([kind]) = fields_or_null(item, ["type"])
                    && is_call(kind)
                {
                    finish = FinishReason::ToolCalls;
                }
            })?;
            finish
        }
        "incomplete" => {
            let [reason] = fields_or_null(incomplete, ["reason"])?;
            let reason = string(reason).and_then(|reason| chat::finish_reason(&reason));
            reason.unwrap_or(FinishReason::Other)
        }
        "failed" | "cancelled" => FinishReason::Error,
        _ => FinishReason::Other,
    });
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
        let [kind, output, error, status] = fields(json, ["type", "output", "error", "status"])?;
        let mut decoded = DecodedEvent::default();
        let is_failed = matches!(status, "\"failed\"" | "\"cancelled\"");
        if kind == "\"error\"" || is_truthy(error) || is_failed {
            decoded.error = Some(ReportedError::from_body(json.as_bytes()));
            return Ok(decoded);
        }
        let mut done = Ok(());
        elements(output, |item| {
            let mut emit = |channel, text: &str| {
                if !text.is_empty() {
                    decoded.has_text = true;
                    sink(0, channel, text);
                }
            };
            if done.is_ok() {
                done = emit_item(item, &mut emit);
            }
            let index = decoded.tool_calls.len();
            decoded.tool_calls.extend(call_part(index, item).ok().flatten());
        })?;
        done?;
        // A response that still runs in the background has no end.
        let is_complete = matches!(status, "null" | "\"completed\"" | "\"incomplete\"");
        if is_complete && output.starts_with('[') {
            read_response(json.trim(), "response.completed", &mut decoded)?;
        }
        Ok(decoded)
    }
}

/// Emits the text of an item of a complete response.
fn emit_item(item: &str, emit: &mut impl FnMut(Channel, &str)) -> serde_json::Result<()> {
    let [kind, content, summary, name, arguments, input] =
        fields_or_null(item, ["type", "content", "summary", "name", "arguments", "input"])?;
    if is_call(kind) {
        for text in [name, arguments, input] {
            emit_text(text, Channel::ToolCall, emit)?;
        }
        return Ok(());
    }
    let is_reasoning = kind == "\"reasoning\"";
    let channel = if is_reasoning { Channel::Reasoning } else { Channel::Answer };
    // A summary repeats the reasoning.
    let parts = if is_reasoning && !is_truthy(content) { summary } else { content };
    let mut done = Ok(());
    elements(parts, |part| {
        if done.is_ok() {
            done = emit_part(part, channel, emit);
        }
    })?;
    done
}

fn emit_part(
    part: &str,
    channel: Channel,
    emit: &mut impl FnMut(Channel, &str),
) -> serde_json::Result<()> {
    let [refusal] = fields_or_null(part, ["refusal"])?;
    emit_text(refusal, Channel::Refusal, emit)?;
    emit_text(part, channel, emit)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::num::NonZeroU32;

    use serde_json::json;

    use super::*;
    use crate::protocol::Api;
    use crate::protocol::prompt::{Content, Message};

    #[test]
    fn a_function_call_is_decoded_and_sent_back_with_its_result() {
        let item = r#"{"type":"function_call","id":"i","call_id":"c1","name":"get","arguments":"{\"x\":1}"}"#;
        let call = ToolCall { id: "c1".into(), name: "get".into(), arguments: r#"{"x":1}"#.into() };
        let data =
            format!(r#"{{"type":"response.output_item.done","output_index":2,"item":{item}}}"#);
        let event = SseEvent { name: b"", data: data.as_bytes() };
        let decoded = decode_event(event, &mut |_, _, _: &str| {}).unwrap();
        assert_eq!(decoded.tool_calls, [ToolCallPart { index: 2, call: call.clone() }]);
        let body = format!(r#"{{"status":"completed","output":[{item}]}}"#);
        let decoded = decode_body(body.as_bytes(), &mut |_, _, _: &str| {}).unwrap();
        assert_eq!(decoded.tool_calls, [ToolCallPart { index: 0, call: call.clone() }]);

        let answer = Message { tool_calls: vec![call].into(), ..Message::new(Role::Assistant, "") };
        let result = Message { tool_call_id: Some("c1".into()), ..Message::new(Role::Tool, "2") };
        let input = text_fields(&[Message::new(Role::User, "Look."), answer, result]);
        assert_eq!(
            input[0].1,
            json!([
                {"role": "user", "content": "Look."},
                {"type": "function_call", "call_id": "c1", "name": "get", "arguments": "{\"x\":1}"},
                {"type": "function_call_output", "call_id": "c1", "output": "2"},
            ])
        );
    }

    fn encoded(stream: bool, extra: &Value, prompt: &Prompt<'_>) -> Value {
        let parameters = RequestParameters {
            max_tokens: NonZeroU32::new(16).unwrap(),
            temperature: Some(0.5),
            system: Some("Be brief.".into()),
            stream,
            extra: serde_json::from_value::<BTreeMap<_, _>>(extra.clone()).unwrap(),
        };
        let dialect = Dialect { api: Api::Responses, ..Dialect::default() };
        serde_json::from_slice(&dialect.encode("m", &parameters, prompt)).unwrap()
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
    fn a_request_has_instructions_and_is_not_stored() {
        let expected = json!({
            "model": "m", "instructions": "Be brief.", "max_output_tokens": 16, "temperature": 0.5,
            "input": [{"role": "user", "content": "Hi"}], "store": false, "stream": true,
        });
        assert_eq!(encoded(true, &json!({}), &"Hi".into()), expected);
        let body = encoded(false, &json!({"store": true}), &conversation());
        assert_eq!((&body["instructions"], &body["store"]), (&json!("Own."), &json!(true)));
        assert_eq!(body["input"].as_array().unwrap().len(), 3);
        assert_eq!(body["input"][1], json!({"role": "assistant", "content": "b"}));
    }

    #[test]
    fn an_output_limit_gets_the_name_of_this_api() {
        let recorded = json!({"input": "Hi", "max_tokens": 7});
        let own = Prompt { max_tokens: NonZeroU32::new(3), ..payload(&recorded) };
        for (extra, prompt, limit) in [
            (json!({}), payload(&recorded), 7),
            (json!({}), payload(&json!({"input": "Hi", "max_output_tokens": 8})), 8),
            (json!({"max_completion_tokens": 9}), "Hi".into(), 9),
            (json!({"max_completion_tokens": 9}), own, 3),
        ] {
            let body = encoded(true, &extra, &prompt);
            assert_eq!(body["max_output_tokens"], limit, "{body}");
            assert!(body.get("max_tokens").is_none(), "{body}");
            assert!(body.get("max_completion_tokens").is_none(), "{body}");
        }
    }

    #[test]
    fn stream_options_of_a_recorded_body_stay_in_a_stream() {
        let recorded =
            payload(&json!({"input": "Hi", "stream_options": {"include_obfuscation": false}}));
        let options = json!({"include_obfuscation": false});
        assert_eq!(encoded(true, &json!({}), &recorded)["stream_options"], options);
        assert_eq!(encoded(false, &json!({}), &recorded).get("stream_options"), None);
    }

    #[test]
    fn a_nonce_precedes_the_text_that_the_model_reads_first() {
        for (prompt, place) in [
            (conversation(), "/instructions"),
            (payload(&json!({"input": "Hi", "instructions": "I"})), "/instructions"),
            (payload(&json!({"input": "Hi", "instructions": null})), "/input"),
            (payload(&json!({"input": [{"role": "user", "content": "Hi"}]})), "/input/0/content"),
            (
                payload(&json!({"input": [{"content": [{"type": "input_text", "text": "Hi"}]}]})),
                "/input/0/content/0/text",
            ),
        ] {
            let bytes = prompt.content.text_bytes();
            assert!(prompt.clone().has_first_text());
            let body = encoded(true, &json!({}), &Prompt { nonce: Some("N. ".into()), ..prompt });
            let text = body.pointer(place).and_then(Value::as_str).unwrap();
            assert!(text.starts_with("N. ") && bytes >= 2, "{body}");
        }
    }
}
