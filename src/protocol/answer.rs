//! The answer of a model, as far as a later turn of the same session sends it back: the text and
//! the tool calls, without reasoning.

use super::decoded::Channel;

/// A longer answer is cut. No model sends as much text in one response.
const MAX_BYTES: usize = 4 << 20;
const MAX_CALLS: usize = 1024;

/// A call of a tool that a model requested.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolCall {
    pub id: String,
    pub name: String,
    /// JSON, as the model wrote it.
    pub arguments: String,
}

impl ToolCall {
    pub fn bytes(&self) -> usize {
        self.id.len() + self.name.len() + self.arguments.len()
    }
}

/// A piece of a tool call in one event. A stream can send the name and the arguments in many
/// pieces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolCallPart {
    /// The position of the call in the answer.
    pub index: usize,
    /// Empty if this event does not contain it.
    pub call: ToolCall,
}

/// The answer of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub text: String,
    pub tool_calls: Vec<ToolCall>,
    /// True if the answer was longer than llmload keeps, so its end is missing.
    pub is_cut: bool,
    /// The index of each call in the events.
    indexes: Vec<usize>,
    bytes: usize,
}

impl Answer {
    /// Adds text of the answer. Ignores reasoning and sound, and all choices except the first.
    pub(super) fn add_text(&mut self, choice: u32, channel: Channel, text: &str) {
        let is_kept = matches!(channel, Channel::Answer | Channel::Refusal);
        if choice == 0 && is_kept && self.has_room(text.len()) {
            self.text.push_str(text);
        }
    }

    /// Adds a piece of a tool call. Some servers send every call with the same index, so a new id
    /// begins a new call.
    pub(super) fn add_call(&mut self, part: ToolCallPart) {
        let ToolCallPart { index, call: ToolCall { id, name, arguments } } = part;
        let is_same = |call: &ToolCall| id.is_empty() || call.id.is_empty() || call.id == id;
        let same = self.indexes.iter().rposition(|known| *known == index);
        let same = same.filter(|at| self.tool_calls.get(*at).is_some_and(is_same));
        let count = self.tool_calls.len();
        match same.and_then(|at| self.tool_calls.get_mut(at)) {
            Some(call) => {
                let is_new = call.id.is_empty();
                let added = name.len() + arguments.len() + if is_new { id.len() } else { 0 };
                if self.bytes + added > MAX_BYTES {
                    self.is_cut = true;
                    return;
                }
                self.bytes += added;
                if is_new {
                    call.id = id;
                }
                call.name.push_str(&name);
                call.arguments.push_str(&arguments);
            }
            None if count == MAX_CALLS => self.is_cut = true,
            None => {
                if self.has_room(id.len() + name.len() + arguments.len()) {
                    self.tool_calls.push(ToolCall { id, name, arguments });
                    self.indexes.push(index);
                }
            }
        }
    }

    fn has_room(&mut self, bytes: usize) -> bool {
        let has_room = self.bytes + bytes <= MAX_BYTES;
        if has_room {
            self.bytes += bytes;
        }
        self.is_cut |= !has_room;
        has_room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(index: usize, id: &str, name: &str, arguments: &str) -> ToolCallPart {
        let [id, name, arguments] = [id, name, arguments].map(str::to_owned);
        ToolCallPart { index, call: ToolCall { id, name, arguments } }
    }

    #[test]
    fn the_pieces_of_a_call_are_joined_and_a_new_id_begins_a_call() {
        let mut answer = Answer::default();
        for part in [
            part(0, "a", "get", ""),
            part(0, "", "", "{\"x\""),
            part(1, "b", "set", ""),
            part(0, "", "", ":1}"),
            part(0, "a", "", " "),
            part(0, "c", "other", "{}"),
        ] {
            answer.add_call(part);
        }
        let calls: Vec<_> = answer
            .tool_calls
            .iter()
            .map(|call| format!("{} {} {}", call.id, call.name, call.arguments))
            .collect();
        assert_eq!(calls, ["a get {\"x\":1} ", "b set ", "c other {}"]);
    }

    #[test]
    fn reasoning_sound_and_other_choices_are_left_out() {
        let mut answer = Answer::default();
        answer.add_text(0, Channel::Reasoning, "Hm. ");
        answer.add_text(0, Channel::Answer, "Yes");
        answer.add_text(1, Channel::Answer, "No");
        answer.add_text(0, Channel::Audio, "AAAA");
        answer.add_text(0, Channel::Refusal, ".");
        assert_eq!((answer.text.as_str(), answer.is_cut), ("Yes.", false));
    }

    #[test]
    fn an_answer_has_a_longest_length() {
        let mut answer = Answer::default();
        let piece = "x".repeat(1 << 20);
        for _ in 0..6 {
            answer.add_text(0, Channel::Answer, &piece);
            answer.add_call(part(0, "", "", &piece));
        }
        assert!(answer.is_cut);
        assert!(answer.text.len() + answer.tool_calls[0].bytes() <= MAX_BYTES);
    }
}
