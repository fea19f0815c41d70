//! Encodes responses of the Responses API: typed events, the last of which contains the complete
//! response.

use bytes::Bytes;
use serde_json::{Value, json};

use super::api::{FinishReason, to_json, to_typed_event};
use super::response::{Envelope, Usage};

#[derive(Debug)]
pub(super) struct ResponseWriter {
    envelope: Envelope,
    /// The number of the next event.
    sequence: u64,
    reasoning: String,
    content: String,
}

impl ResponseWriter {
    pub(super) fn new(envelope: Envelope) -> ResponseWriter {
        ResponseWriter { envelope, sequence: 0, reasoning: String::new(), content: String::new() }
    }

    pub(super) fn start(&mut self) -> Bytes {
        let response = self.document("in_progress", &[], None);
        let created = self.event("response.created", json!({"response": response}));
        let response = self.document("in_progress", &[], None);
        let started = self.event("response.in_progress", json!({"response": response}));
        [created, started].concat().into()
    }

    pub(super) fn reasoning(&mut self, text: &str) -> Bytes {
        let mut events = Vec::new();
        if self.reasoning.is_empty() {
            let item = json!({"type": "reasoning", "id": self.item_id("rs"), "summary": []});
            let added = json!({"output_index": 0, "item": item});
            events.push(self.event("response.output_item.added", added));
        }
        self.reasoning.push_str(text);
        let delta = json!({"item_id": self.item_id("rs"), "output_index": 0, "content_index": 0, "delta": text});
        events.push(self.event("response.reasoning_text.delta", delta));
        events.concat().into()
    }

    pub(super) fn content(&mut self, text: &str) -> Bytes {
        let mut events = Vec::new();
        let index = self.content_index();
        if self.content.is_empty() {
            if let Some(item) = self.reasoning_item() {
                let done = json!({"output_index": 0, "item": item});
                events.push(self.event("response.output_item.done", done));
            }
            let item = json!({
                "type": "message", "id": self.item_id("msg"), "status": "in_progress",
                "role": "assistant", "content": [],
            });
            let added = json!({"output_index": index, "item": item});
            events.push(self.event("response.output_item.added", added));
            let part = json!({"type": "output_text", "text": "", "annotations": []});
            let added = json!({
                "item_id": self.item_id("msg"), "output_index": index, "content_index": 0, "part": part,
            });
            events.push(self.event("response.content_part.added", added));
        }
        self.content.push_str(text);
        let delta = json!({
            "item_id": self.item_id("msg"), "output_index": index, "content_index": 0, "delta": text,
        });
        events.push(self.event("response.output_text.delta", delta));
        events.concat().into()
    }

    pub(super) fn end(&mut self, finish: FinishReason, usage: Usage) -> Bytes {
        let mut events = Vec::new();
        if let Some(item) = self.message_item() {
            let index = self.content_index();
            let done = json!({
                "item_id": self.item_id("msg"), "output_index": index, "content_index": 0,
                "text": self.content,
            });
            events.push(self.event("response.output_text.done", done));
            let done = json!({"output_index": index, "item": item});
            events.push(self.event("response.output_item.done", done));
        }
        let items: Vec<Value> =
            self.reasoning_item().into_iter().chain(self.message_item()).collect();
        let status = status(finish);
        let response = self.document(status, &items, Some(usage));
        events.push(self.event(&format!("response.{status}"), json!({"response": response})));
        events.concat().into()
    }

    pub(super) fn unstreamed(
        &self,
        reasoning: &str,
        content: &str,
        finish: FinishReason,
        usage: Usage,
    ) -> Bytes {
        let complete = ResponseWriter {
            reasoning: reasoning.to_owned(),
            content: content.to_owned(),
            ..ResponseWriter::new(self.envelope.clone())
        };
        let items = complete.reasoning_item().into_iter().chain(complete.message_item());
        let items: Vec<Value> = items.collect();
        to_json(&complete.document(status(finish), &items, Some(usage))).into()
    }

    /// The index of the message in the output, after the reasoning.
    fn content_index(&self) -> u32 {
        u32::from(!self.reasoning.is_empty())
    }

    fn item_id(&self, kind: &str) -> String {
        format!("{kind}_{}", self.envelope.id)
    }

    fn reasoning_item(&self) -> Option<Value> {
        let text = json!({"type": "reasoning_text", "text": self.reasoning});
        let item = json!({"type": "reasoning", "id": self.item_id("rs"), "summary": [], "content": [text]});
        (!self.reasoning.is_empty()).then_some(item)
    }

    fn message_item(&self) -> Option<Value> {
        let text = json!({"type": "output_text", "text": self.content, "annotations": []});
        let item = json!({
            "type": "message", "id": self.item_id("msg"), "status": "completed",
            "role": "assistant", "content": [text],
        });
        (!self.content.is_empty()).then_some(item)
    }

    fn document(&self, status: &str, output: &[Value], usage: Option<Usage>) -> Value {
        let incomplete = (status == "incomplete").then(|| json!({"reason": "max_output_tokens"}));
        json!({
            "id": self.envelope.id,
            "object": "response",
            "created_at": self.envelope.created,
            "status": status,
            "error": null,
            "incomplete_details": incomplete,
            "model": self.envelope.model,
            "output": output,
            "store": false,
            "usage": usage.map(|usage| json!({
                "input_tokens": usage.prompt_tokens,
                "input_tokens_details": {"cached_tokens": usage.cached_tokens()},
                "output_tokens": usage.completion_tokens,
                "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens()},
                "total_tokens": usage.total_tokens,
            })),
        })
    }

    fn event(&mut self, kind: &str, mut document: Value) -> Bytes {
        document["type"] = kind.into();
        document["sequence_number"] = self.sequence.into();
        self.sequence += 1;
        to_typed_event(kind, &document)
    }
}

fn status(finish: FinishReason) -> &'static str {
    match finish {
        FinishReason::Stop => "completed",
        FinishReason::Length => "incomplete",
    }
}
