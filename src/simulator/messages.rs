//! Encodes responses of the Messages API of Anthropic: typed events with content blocks. The usage
//! is in the first and in the last event but one.

use bytes::Bytes;
use serde_json::{Value, json};

use super::api::{FinishReason, to_json, to_typed_event};
use super::response::{Envelope, Usage};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    Thinking,
    Text,
}

#[derive(Debug)]
pub(super) struct MessageWriter {
    envelope: Envelope,
    /// The open content block.
    block: Option<Block>,
    /// The index of the open block, or of the next one.
    index: u32,
}

impl MessageWriter {
    pub(super) fn new(envelope: Envelope) -> MessageWriter {
        MessageWriter { envelope, block: None, index: 0 }
    }

    pub(super) fn start(&self, usage: Usage) -> Bytes {
        let message = self.document(&[], None, &counts(usage, 1));
        let start = event("message_start", json!({"message": message}));
        [start, event("ping", json!({}))].concat().into()
    }

    pub(super) fn reasoning(&mut self, text: &str) -> Bytes {
        let open = self.open(Block::Thinking);
        [open, self.delta(&json!({"type": "thinking_delta", "thinking": text}))].concat().into()
    }

    pub(super) fn content(&mut self, text: &str) -> Bytes {
        let open = self.open(Block::Text);
        [open, self.delta(&json!({"type": "text_delta", "text": text}))].concat().into()
    }

    pub(super) fn end(&mut self, finish: FinishReason, usage: Usage) -> Bytes {
        let stop = self.close();
        let delta = json!({"stop_reason": stop_reason(finish), "stop_sequence": null});
        let usage = json!({"output_tokens": usage.completion_tokens});
        let end = event("message_delta", json!({"delta": delta, "usage": usage}));
        [stop, end, event("message_stop", json!({}))].concat().into()
    }

    pub(super) fn unstreamed(
        &self,
        reasoning: &str,
        content: &str,
        finish: FinishReason,
        usage: Usage,
    ) -> Bytes {
        let thinking = json!({"type": "thinking", "thinking": reasoning, "signature": ""});
        let text = json!({"type": "text", "text": content});
        let blocks = [(reasoning, thinking), (content, text)];
        let blocks = blocks.into_iter().filter(|(text, _)| !text.is_empty());
        let blocks: Vec<Value> = blocks.map(|(_, block)| block).collect();
        let usage = counts(usage, usage.completion_tokens);
        to_json(&self.document(&blocks, Some(finish), &usage)).into()
    }

    fn document(&self, blocks: &[Value], finish: Option<FinishReason>, usage: &Value) -> Value {
        json!({
            "id": self.envelope.id,
            "type": "message",
            "role": "assistant",
            "model": self.envelope.model,
            "content": blocks,
            "stop_reason": finish.map(stop_reason),
            "stop_sequence": null,
            "usage": usage,
        })
    }

    /// Closes a block of another kind, and opens a block of this kind.
    fn open(&mut self, block: Block) -> Bytes {
        if self.block == Some(block) {
            return Bytes::new();
        }
        let closed = self.close();
        self.block = Some(block);
        let content_block = match block {
            Block::Thinking => json!({"type": "thinking", "thinking": "", "signature": ""}),
            Block::Text => json!({"type": "text", "text": ""}),
        };
        let start = json!({"index": self.index, "content_block": content_block});
        [closed, event("content_block_start", start)].concat().into()
    }

    fn close(&mut self) -> Bytes {
        if self.block.take().is_none() {
            return Bytes::new();
        }
        let stop = event("content_block_stop", json!({"index": self.index}));
        self.index += 1;
        stop
    }

    fn delta(&self, delta: &Value) -> Bytes {
        event("content_block_delta", json!({"index": self.index, "delta": delta}))
    }
}

fn event(kind: &str, mut document: Value) -> Bytes {
    document["type"] = kind.into();
    to_typed_event(kind, &document)
}

/// The input tokens do not include those from the prefix cache.
fn counts(usage: Usage, output_tokens: u32) -> Value {
    json!({
        "input_tokens": usage.prompt_tokens - usage.cached_tokens(),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens(),
        "output_tokens": output_tokens,
    })
}

fn stop_reason(finish: FinishReason) -> &'static str {
    match finish {
        FinishReason::Stop => "end_turn",
        FinishReason::Length => "max_tokens",
    }
}
