//! Reads one streamed response.
//!
//! The caller passes the bytes of each read to [`StreamReader::read`]. After the body has ended
//! cleanly, [`StreamReader::end`] returns success or failure. If the connection breaks, the caller
//! knows the failure without the reader.
//!
//! [`StreamReader::read`] returns no error, because the bytes with an error can also contain the
//! first token, and the caller must record both. Instead, an error sets [`Progress::finished`], and
//! [`StreamReader::end`] returns it.

use std::ops::ControlFlow;

use super::Terminal;
use super::answer::Answer;
use super::decoded::{Channel, DecodedEvent};
use super::dialect::Api;
use super::pattern::{EventPattern, EventTexts};
use super::response::{CompletedResponse, ResponseState};
use super::sse::{Decoder, ResponseLimits, SseEvent};
use crate::measurement::{Failure, FailureDetail};

/// The events that one read has completed. The caller gives all of them the time of this read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The number of events with text on any channel.
    pub token_events: u32,
    /// True if this read contains the first text of the answer, and reasoning came before it.
    pub starts_answer: bool,
    pub events: u32,
    /// True after the end marker or an error. The caller then stops reading and calls
    /// [`StreamReader::end`].
    pub finished: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamEnd {
    /// The last event, if its blank line is missing. The caller gives it the time of the last read.
    pub progress: Progress,
    pub verdict: Result<CompletedResponse, FailureDetail>,
}

/// The reader of one streamed response.
#[derive(Debug)]
pub struct StreamReader {
    terminal: Terminal,
    decoder: Decoder,
    response: ResponseState,
    /// `None` if the reader parses every event.
    pattern: Option<EventPattern>,
    finished: bool,
    ends_inside_event: bool,
}

impl StreamReader {
    pub fn new(api: Api, terminal: Terminal, limits: ResponseLimits) -> StreamReader {
        StreamReader {
            terminal,
            decoder: Decoder::new(limits),
            response: ResponseState::new(api),
            pattern: Some(EventPattern::default()),
            finished: false,
            ends_inside_event: false,
        }
    }

    /// A response from another model has an anomaly.
    #[must_use]
    pub fn with_requested_model(mut self, model: &str) -> StreamReader {
        self.response.set_requested_model(model);
        self
    }

    /// With true, which is the default, a response without usage has an anomaly.
    #[must_use]
    pub fn with_expected_usage(mut self, expects_usage: bool) -> StreamReader {
        self.response.set_expects_usage(expects_usage);
        self
    }

    /// Parses the JSON of every event, also if it differs from an earlier event only in its text.
    /// The result is the same. Tests and benchmarks compare both ways.
    #[must_use]
    pub fn with_every_event_parsed(mut self) -> StreamReader {
        self.pattern = None;
        self
    }

    /// With true, [`StreamReader::take_answer`] returns the answer.
    #[must_use]
    pub fn with_answer(mut self, is_kept: bool) -> StreamReader {
        if is_kept {
            self.response.keep_answer();
        }
        self
    }

    /// Returns the answer so far; `None` without [`StreamReader::with_answer`].
    pub fn take_answer(&mut self) -> Option<Answer> {
        self.response.take_answer()
    }

    /// Decodes the bytes of one read. Passes each text to `sink`, with the index of its choice;
    /// [`discard_text`](super::discard_text) ignores the text. After [`Progress::finished`], this
    /// method ignores all bytes.
    pub fn read<S>(&mut self, bytes: &[u8], sink: &mut S) -> Progress
    where
        S: FnMut(u32, Channel, &str),
    {
        self.advance(Some(bytes), sink)
    }

    /// Call this after [`Progress::finished`], or when the body has ended cleanly.
    pub fn end<S>(&mut self, sink: &mut S) -> StreamEnd
    where
        S: FnMut(u32, Channel, &str),
    {
        let mut progress = self.advance(None, sink);
        self.finished = true;
        progress.finished = true;
        let is_complete = self.response.has_ended(self.terminal)
            && !(self.ends_inside_event && self.terminal == Terminal::Eof);
        let verdict = self.response.stream_verdict(is_complete, self.decoder.stray_text());
        StreamEnd { progress, verdict }
    }

    /// Returns true if the proof of [`Terminal`] has arrived, even if the body is still open. Such
    /// a response stays a success if the connection then breaks. Always false for
    /// [`Terminal::Eof`].
    pub fn is_complete(&self) -> bool {
        self.response.is_complete(self.terminal)
    }

    /// In bytes.
    pub fn text_bytes(&self, channel: Channel) -> u64 {
        self.response.text_bytes(channel)
    }

    /// Decodes the bytes of one read. `None` means the end of the body, which completes the last
    /// event.
    fn advance<S>(&mut self, bytes: Option<&[u8]>, sink: &mut S) -> Progress
    where
        S: FnMut(u32, Channel, &str),
    {
        let mut progress = Progress { finished: self.finished, ..Progress::default() };
        if self.finished {
            return progress;
        }
        let events = self.decoder.events();
        let had_answer = self.response.has_answer_after_reasoning();
        let (response, ends_inside_event) = (&mut self.response, &mut self.ends_inside_event);
        let pattern = &mut self.pattern;
        let mut on_event = |event: SseEvent<'_>| {
            let known = pattern.as_ref().and_then(|pattern| pattern.text_of(event));
            if let Some((choice, channel, text)) = known {
                response.count_text(choice, channel, text);
                response.count_token_event();
                sink(choice, channel, text);
                progress.token_events += 1;
                return ControlFlow::Continue(());
            }
            let mut texts = EventTexts::default();
            let decoded = response.api().decode_event(event, &mut |choice, channel, text: &str| {
                texts.add(event, choice, channel, text);
                response.count_text(choice, channel, text);
                sink(choice, channel, text);
            });
            // A known text is not decoded, so the answer would lose the pieces of a tool call.
            let needs_calls = |decoded: &DecodedEvent<'_>| {
                response.keeps_answer() && !decoded.tool_calls.is_empty()
            };
            if let (Some(pattern), Ok(decoded)) = (pattern.as_mut(), &decoded)
                && !needs_calls(decoded)
            {
                pattern.learn(event, decoded, &texts);
            }
            match decoded {
                Ok(decoded) => progress.token_events += u32::from(response.apply(decoded)),
                // The body ended inside this event. The failure is the missing end, not the invalid
                // JSON.
                Err(_) if bytes.is_none() => *ends_inside_event = true,
                Err(error) => {
                    response.fail(Failure::BadFrame, &format!("cannot decode an event: {error}"));
                }
            }
            if response.is_decided() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let outcome = match bytes {
            Some(bytes) => self.decoder.feed(bytes, &mut on_event),
            None => self.decoder.finish(&mut on_event),
        };
        match outcome {
            Ok(flow) => self.finished = flow.is_break(),
            Err(limit) => {
                let message = self.decoder.limits().message(limit);
                self.response.fail(Failure::TooLarge, &message);
                self.finished = true;
            }
        }
        progress.events = self.decoder.events() - events;
        progress.starts_answer = !had_answer && self.response.has_answer_after_reasoning();
        progress.finished = self.finished;
        progress
    }
}
