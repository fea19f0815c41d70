//! Recorded conversations. A row of a file contains one conversation with all its turns.
//!
//! A turn consists of the messages that llmload sends, and of the recorded answer of the model. In
//! the recording of an agent, a message can be the result of a tool call.

use std::borrow::Cow;
use std::num::NonZeroU32;
use std::time::Duration;

use serde_json::{Map, Value};

use super::format::{RowError, object, token_limit};
use crate::protocol::ToolCall;
use crate::protocol::prompt::{Message, Role};

/// The longest think time.
pub const MAX_THINK_TIME: Duration = Duration::from_hours(24);

/// One turn of a session.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Turn {
    /// The messages that follow the answer to the turn before.
    pub messages: Vec<Message<'static>>,
    /// The answer in the recording. Empty if there is none.
    pub recorded: Vec<Message<'static>>,
    /// Replaces the output limit of the scenario.
    pub max_tokens: Option<NonZeroU32>,
    /// True if the engine should generate as many tokens as the limit.
    pub ignore_eos: bool,
    /// The time from the end of this turn until the next turn is due. `None` after the last turn.
    pub think_time: Option<Duration>,
}

/// All turns of a recorded conversation, at least one. A turn without a recorded delay before it
/// has the think time `None`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Conversation {
    pub(super) turns: Vec<RecordedTurn>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct RecordedTurn {
    pub(super) messages: Vec<Message<'static>>,
    pub(super) recorded: Vec<Message<'static>>,
    pub(super) max_tokens: Option<NonZeroU32>,
    /// The recorded time between the answer before this turn and this turn.
    pub(super) delay: Option<Duration>,
}

impl Conversation {
    /// `None` if the row is valid but has no message from a user.
    pub(super) fn parse(row: &str) -> Result<Option<Conversation>, RowError> {
        let mut row = object(row)?;
        let limit = token_limit(&row, "output_tokens")?;
        let messages = row.remove("messages").or_else(|| row.remove("conversations"));
        let Some(Value::Array(messages)) = messages else {
            let problem = "the row has no list of `messages` or `conversations`";
            let remedy = r#"write {"messages": [{"role": "user", "content": "…"}, …]}"#;
            return Err(RowError::new(problem, remedy));
        };
        let mut turns: Vec<RecordedTurn> = Vec::new();
        // The model has answered the last turn, so the next message begins a turn.
        let mut is_answered = true;
        for (position, value) in messages.into_iter().enumerate() {
            let Value::Object(fields) = value else { return Err(wrong_message(position)) };
            let delay = delay(&fields)?;
            let own_limit = token_limit(&fields, "output_tokens")?;
            let message = message(fields).ok_or_else(|| wrong_message(position))?;
            if message.role == Role::Assistant {
                // Many chat templates refuse a conversation that begins with an answer.
                if let Some(turn) = turns.last_mut() {
                    turn.recorded.push(message);
                    is_answered = true;
                }
                continue;
            }
            if is_answered {
                turns.push(RecordedTurn { max_tokens: limit, ..RecordedTurn::default() });
                is_answered = false;
            }
            if let Some(turn) = turns.last_mut() {
                turn.delay = delay.or(turn.delay);
                turn.max_tokens = own_limit.or(turn.max_tokens);
                turn.messages.push(message);
            }
        }
        let is_from_user = |message: &Message<'_>| message.role == Role::User;
        let has_user = turns.iter().any(|turn| turn.messages.iter().any(is_from_user));
        Ok(has_user.then_some(Conversation { turns }))
    }
}

fn wrong_message(position: usize) -> RowError {
    RowError::new(
        format!("message {} has no known role, or its content is not text", position + 1),
        r#"write {"role": "user", "content": "…"}, or the role "system", "developer", "assistant" or "tool""#,
    )
}

/// Reads a message of the chat API, or of ShareGPT.
fn message(mut fields: Map<String, Value>) -> Option<Message<'static>> {
    let role = fields.remove("role").or_else(|| fields.remove("from"))?;
    let role = match role.as_str()? {
        "system" => Role::System,
        "developer" => Role::Developer,
        "user" | "human" => Role::User,
        "assistant" | "gpt" | "chatgpt" | "bot" | "model" => Role::Assistant,
        "tool" => Role::Tool,
        _ => return None,
    };
    let calls: Vec<ToolCall> = match fields.remove("tool_calls") {
        Some(Value::Array(calls)) => calls.iter().map(tool_call).collect::<Option<_>>()?,
        None | Some(Value::Null) => Vec::new(),
        Some(_) => return None,
    };
    let text = match fields.remove("content").or_else(|| fields.remove("value")) {
        Some(Value::String(text)) => text,
        None | Some(Value::Null) if !calls.is_empty() => String::new(),
        _ => return None,
    };
    let id = match fields.remove("tool_call_id") {
        Some(Value::String(id)) if role == Role::Tool => Some(Cow::Owned(id)),
        _ => None,
    };
    let tool_calls = if role == Role::Assistant { Cow::Owned(calls) } else { Cow::default() };
    Some(Message { tool_calls, tool_call_id: id, ..Message::new(role, text) })
}

fn tool_call(call: &Value) -> Option<ToolCall> {
    let function = call.get("function")?;
    let arguments = match function.get("arguments") {
        Some(Value::String(text)) => text.clone(),
        Some(object @ Value::Object(_)) => object.to_string(),
        _ => "{}".to_owned(),
    };
    let id = call.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
    Some(ToolCall { id, name: function.get("name")?.as_str()?.to_owned(), arguments })
}

fn delay(fields: &Map<String, Value>) -> Result<Option<Duration>, RowError> {
    let Some(value) = fields.get("delay").filter(|value| !value.is_null()) else { return Ok(None) };
    let seconds = value.as_f64().map(|milliseconds| milliseconds / 1000.0);
    let delay = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    match delay.filter(|delay| *delay <= MAX_THINK_TIME) {
        Some(delay) => Ok(Some(delay)),
        None => Err(RowError::new(
            "`delay` is not a valid time",
            "write a number of milliseconds, at most a day",
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(row: &Value) -> Result<Option<Conversation>, String> {
        Conversation::parse(&row.to_string()).map_err(|wrong| wrong.problem)
    }

    fn texts(messages: &[Message<'_>]) -> Vec<String> {
        messages.iter().map(|one| format!("{} {}", one.role.as_str(), one.text)).collect()
    }

    #[test]
    fn each_answer_of_the_model_ends_a_turn() {
        let row = json!({"output_tokens": 9, "messages": [
            {"role": "assistant", "content": "Welcome."},
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Why?"},
            {"role": "assistant", "content": "So."},
            {"role": "user", "content": "And?", "delay": 1500, "output_tokens": 3},
            {"role": "user", "content": "Please!"},
        ]});
        let turns = parse(&row).unwrap().unwrap().turns;
        assert_eq!(turns.len(), 2);
        assert_eq!(texts(&turns[0].messages), ["system Be brief.", "user Why?"]);
        assert_eq!(texts(&turns[0].recorded), ["assistant So."]);
        assert_eq!((turns[0].max_tokens, turns[0].delay), (NonZeroU32::new(9), None));
        assert_eq!(texts(&turns[1].messages), ["user And?", "user Please!"]);
        assert_eq!(turns[1].delay, Some(Duration::from_millis(1500)));
        assert_eq!(turns[1].max_tokens, NonZeroU32::new(3));
        assert!(turns[1].recorded.is_empty());
    }

    #[test]
    fn a_tool_call_of_an_agent_ends_a_turn_and_its_result_begins_the_next() {
        let call = json!({"id": "c1", "type": "function",
            "function": {"name": "get", "arguments": "{\"x\": 1}"}});
        let row = json!({"messages": [
            {"role": "user", "content": "Look."},
            {"role": "assistant", "content": null, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "2"},
            {"role": "assistant", "content": "It is 2."},
        ]});
        let turns = parse(&row).unwrap().unwrap().turns;
        let calls = &turns[0].recorded[0].tool_calls;
        assert_eq!((calls[0].name.as_str(), calls[0].arguments.as_str()), ("get", "{\"x\": 1}"));
        assert_eq!(turns[1].messages[0].tool_call_id.as_deref(), Some("c1"));
        assert_eq!(texts(&turns[1].messages), ["tool 2"]);
    }

    #[test]
    fn rows_of_sharegpt_have_all_their_turns() {
        let row = json!({"id": "x", "conversations": [
            {"from": "human", "value": "a"}, {"from": "gpt", "value": "b"},
            {"from": "human", "value": "c"}, {"from": "gpt", "value": "d"},
        ]});
        assert_eq!(parse(&row).unwrap().unwrap().turns.len(), 2);
        let row = json!({"conversations": [{"from": "gpt", "value": "b"}]});
        assert_eq!(parse(&row), Ok(None));
    }

    #[test]
    fn a_wrong_row_has_an_error() {
        for (row, problem) in [
            (json!({"prompt": "a"}), "no list of `messages`"),
            (json!({"messages": ["a"]}), "message 1 has no known role"),
            (json!({"messages": [{"role": "robot", "content": "a"}]}), "message 1"),
            (json!({"messages": [{"role": "user", "content": [1]}]}), "is not text"),
            (json!({"messages": [{"role": "user", "content": "a", "delay": -1}]}), "`delay`"),
            (json!({"messages": [{"role": "user", "content": "a", "delay": 1e12}]}), "`delay`"),
            (json!({"output_tokens": 0, "messages": []}), "`output_tokens`"),
        ] {
            let error = parse(&row).unwrap_err();
            assert!(error.contains(problem), "{row}: {error}");
        }
    }
}
