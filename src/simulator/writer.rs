//! The encoder of one response, in the format of its API.

use bytes::Bytes;

use super::api::{Api, ApiError, FinishReason};
use super::embeddings::{self, VectorForm};
use super::messages::MessageWriter;
use super::response::{Envelope, Usage};
use super::responses::ResponseWriter;

#[derive(Debug)]
pub(super) struct Writer {
    api: Api,
    format: Format,
}

#[derive(Debug)]
enum Format {
    Choices(Envelope),
    Response(ResponseWriter),
    Message(MessageWriter),
    Vectors(Envelope, VectorForm),
}

impl Writer {
    pub(super) fn new(envelope: Envelope, vectors: VectorForm) -> Writer {
        let api = envelope.api;
        let format = match api {
            Api::Chat | Api::Completions => Format::Choices(envelope),
            Api::Responses => Format::Response(ResponseWriter::new(envelope)),
            Api::Messages => Format::Message(MessageWriter::new(envelope)),
            Api::Embeddings => Format::Vectors(envelope, vectors),
        };
        Writer { api, format }
    }

    /// The events before the first token. `None` if the stream begins with the first token.
    pub(super) fn start(&mut self, usage: Usage) -> Option<Bytes> {
        match &mut self.format {
            Format::Choices(envelope) => envelope.role(),
            Format::Response(writer) => Some(writer.start()),
            Format::Message(writer) => Some(writer.start(usage)),
            Format::Vectors(..) => None,
        }
    }

    pub(super) fn reasoning(&mut self, text: &str) -> Bytes {
        match &mut self.format {
            Format::Choices(envelope) => envelope.reasoning(text),
            Format::Response(writer) => writer.reasoning(text),
            Format::Message(writer) => writer.reasoning(text),
            Format::Vectors(..) => Bytes::new(),
        }
    }

    pub(super) fn content(&mut self, text: &str) -> Bytes {
        match &mut self.format {
            Format::Choices(envelope) => envelope.content(text),
            Format::Response(writer) => writer.content(text),
            Format::Message(writer) => writer.content(text),
            Format::Vectors(..) => Bytes::new(),
        }
    }

    /// The last events of a stream. The client of chat or completions can request usage; the other
    /// APIs always send it.
    pub(super) fn end(&mut self, finish: FinishReason, usage: Usage, is_requested: bool) -> Bytes {
        match &mut self.format {
            Format::Choices(envelope) => envelope.end(finish, is_requested.then_some(usage)),
            Format::Response(writer) => writer.end(finish, usage),
            Format::Message(writer) => writer.end(finish, usage),
            Format::Vectors(..) => Bytes::new(),
        }
    }

    pub(super) fn error(&self, error: &ApiError) -> Bytes {
        error.event(self.api)
    }

    pub(super) fn error_body(&self, error: &ApiError) -> Bytes {
        error.body(self.api)
    }

    /// The body of a response without streaming.
    pub(super) fn unstreamed(
        &self,
        reasoning: &str,
        content: &str,
        finish: FinishReason,
        usage: Usage,
    ) -> Bytes {
        match &self.format {
            Format::Choices(envelope) => envelope.unstreamed(reasoning, content, finish, usage),
            Format::Response(writer) => writer.unstreamed(reasoning, content, finish, usage),
            Format::Message(writer) => writer.unstreamed(reasoning, content, finish, usage),
            Format::Vectors(envelope, form) => embeddings::body(envelope, form, usage),
        }
    }
}
