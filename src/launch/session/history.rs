//! The history of a session: the messages that each later turn sends again.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::protocol::prompt::{Message, Role};
use crate::protocol::{Answer, ToolCall};

/// The result of a tool call that the recording does not contain.
const NO_RESULT: &str = "{}";

/// The messages of the earlier turns. `total` is the length of all histories of the route.
#[derive(Debug)]
pub(super) struct History {
    messages: Vec<Message<'static>>,
    bytes: u64,
    total: Arc<AtomicU64>,
}

impl History {
    pub(super) fn new(total: &Arc<AtomicU64>) -> History {
        History { messages: Vec::new(), bytes: 0, total: Arc::clone(total) }
    }

    pub(super) fn messages(&self) -> &[Message<'static>] {
        &self.messages
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The length of all histories of the route, in bytes.
    pub(super) fn bytes_of_all(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    pub(super) fn extend(&mut self, messages: impl Iterator<Item = Message<'static>>) {
        for message in messages {
            let bytes = message.text_bytes();
            self.bytes += bytes;
            self.total.fetch_add(bytes, Ordering::Relaxed);
            self.messages.push(message);
        }
    }

    /// The tool calls of the last answer.
    pub(super) fn last_calls(&self) -> &[ToolCall] {
        self.messages.last().map_or(&[], |message| &message.tool_calls)
    }
}

impl Drop for History {
    fn drop(&mut self) {
        self.total.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Returns the answer of turn `turn` as a message of the history. A server needs an id for each
/// tool call.
pub(super) fn message(answer: Answer, turn: u32) -> Message<'static> {
    let Answer { text, mut tool_calls, .. } = answer;
    // A server that runs its own tools sends pieces without a name.
    tool_calls.retain(|call| !call.name.is_empty());
    for (position, call) in tool_calls.iter_mut().enumerate() {
        if call.id.is_empty() {
            call.id = format!("call_{turn}_{position}");
        }
    }
    Message { tool_calls: Cow::Owned(tool_calls), ..Message::new(Role::Assistant, text) }
}

/// Returns the messages of a recorded turn in a form that fits the calls of the model. Each call
/// gets one result, the recorded ones first. A recorded result without a call becomes a message of
/// the user, because servers refuse a result without a call.
pub(super) fn follow_calls(
    calls: &[ToolCall],
    messages: Vec<Message<'static>>,
) -> Vec<Message<'static>> {
    let (results, others): (Vec<_>, Vec<_>) =
        messages.into_iter().partition(|message| message.role == Role::Tool);
    let mut results: VecDeque<_> = results.into();
    let answered = calls.iter().map(|call| {
        let text = results.pop_front().map_or(Cow::Borrowed(NO_RESULT), |result| result.text);
        let id = Some(Cow::Owned(call.id.clone()));
        Message { tool_call_id: id, ..Message::new(Role::Tool, text) }
    });
    let mut followed: Vec<_> = answered.collect();
    followed.extend(results.into_iter().map(|result| Message::new(Role::User, result.text)));
    followed.extend(others);
    followed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(id: &str) -> ToolCall {
        ToolCall { id: id.to_owned(), ..ToolCall::default() }
    }

    fn texts(messages: &[Message<'_>]) -> Vec<String> {
        let text = |message: &Message<'_>| {
            let id = message.tool_call_id.as_deref().unwrap_or("-");
            format!("{} {id} {}", message.role.as_str(), message.text)
        };
        messages.iter().map(text).collect()
    }

    #[test]
    fn each_call_gets_one_result_and_a_result_without_a_call_becomes_text() {
        let recorded = || {
            vec![
                Message::new(Role::Tool, "1"),
                Message::new(Role::Tool, "2"),
                Message::new(Role::User, "Go on."),
            ]
        };
        let followed = |calls: &[ToolCall]| texts(&follow_calls(calls, recorded()));
        assert_eq!(followed(&[]), ["user - 1", "user - 2", "user - Go on."]);
        assert_eq!(followed(&[call("a")]), ["tool a 1", "user - 2", "user - Go on."]);
        assert_eq!(
            followed(&[call("a"), call("b"), call("c")]),
            ["tool a 1", "tool b 2", "tool c {}", "user - Go on."]
        );
    }

    #[test]
    fn the_length_of_all_histories_ends_at_zero() {
        let total = Arc::default();
        let (mut one, mut other) = (History::new(&total), History::new(&total));
        one.extend([Message::new(Role::User, "12345")].into_iter());
        let mut answer = Answer::default();
        answer.tool_calls.push(ToolCall { name: "get".to_owned(), ..ToolCall::default() });
        other.extend([message(answer, 3)].into_iter());
        assert_eq!(other.last_calls()[0].id, "call_3_0");
        assert_eq!((one.bytes(), one.bytes_of_all()), (5, 5 + 11));
        drop(one);
        drop(other);
        assert_eq!(total.load(Ordering::Relaxed), 0);
    }
}
