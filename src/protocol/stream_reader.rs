//! Reads one streamed response, from its first byte to the verdict: success or failure.
//!
//! The caller reads the socket, reads the clock, and calls [`StreamReader::read`] with the bytes.
//! When the body has ended cleanly, the caller calls [`StreamReader::end`]. If the connection
//! breaks, the caller reports this failure without the reader.
//!
//! [`StreamReader::read`] never returns an error, because the bytes that contain an error can also
//! contain the first token, and the caller must record both. Instead, an error in the stream sets
//! [`Progress::finished`], and [`StreamReader::end`] returns the error as the verdict.

use std::ops::ControlFlow;

use super::Terminal;
use super::decoded::Channel;
use super::dialect::Api;
use super::response::{CompletedResponse, ResponseState};
use super::sse::{Decoder, ResponseLimits, SseEvent};
use crate::measurement::{Failure, FailureDetail};

/// The events that one read from the connection has completed. llmload cannot know when each of
/// them arrived, so the caller gives all of them the time of this read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The number of events that contain text on any channel.
    pub token_events: u32,
    /// The number of events of any kind.
    pub events: u32,
    /// True if the end marker or an error has arrived, so the verdict cannot change any more. The
    /// caller then stops reading and calls [`StreamReader::end`].
    pub finished: bool,
}

/// The result of a stream that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamEnd {
    /// The last event, if the body ended without the blank line that terminates a server-sent
    /// event. Otherwise, no event.
    /// The bytes of this event arrived with the last read, so the caller gives it the time of that
    /// read.
    pub progress: Progress,
    /// The successful response, or the failure.
    pub verdict: Result<CompletedResponse, FailureDetail>,
}

/// The reader of the response to one streaming request.
#[derive(Debug)]
pub struct StreamReader {
    terminal: Terminal,
    decoder: Decoder,
    response: ResponseState,
    finished: bool,
    /// True if the body ended inside its last event.
    is_cut: bool,
}

impl StreamReader {
    pub fn new(api: Api, terminal: Terminal, limits: ResponseLimits) -> StreamReader {
        StreamReader {
            terminal,
            decoder: Decoder::new(limits),
            response: ResponseState::new(api),
            finished: false,
            is_cut: false,
        }
    }

    /// Sets the requested model. A response that names another model has an anomaly.
    #[must_use]
    pub fn with_requested_model(mut self, model: &str) -> StreamReader {
        self.response.set_requested_model(model);
        self
    }

    /// Sets whether llmload requested usage. The default is true. A response without the requested
    /// usage has an anomaly.
    #[must_use]
    pub fn with_expected_usage(mut self, expects_usage: bool) -> StreamReader {
        self.response.set_expects_usage(expects_usage);
        self
    }

    /// Decodes the bytes of one read. Passes each piece of text to `sink`, with the index of the
    /// choice that contains it. A caller that needs no text passes
    /// [`discard_text`](super::discard_text). After [`Progress::finished`], bytes are ignored.
    pub fn read<S>(&mut self, bytes: &[u8], sink: &mut S) -> Progress
    where
        S: FnMut(u32, Channel, &str),
    {
        self.advance(Some(bytes), sink)
    }

    /// Returns the verdict. Call this method when the body has ended cleanly or when
    /// [`Progress::finished`] is true.
    pub fn end<S>(&mut self, sink: &mut S) -> StreamEnd
    where
        S: FnMut(u32, Channel, &str),
    {
        let mut progress = self.advance(None, sink);
        self.finished = true;
        progress.finished = true;
        let is_complete = self.response.has_ended(self.terminal)
            && !(self.is_cut && self.terminal == Terminal::Eof);
        let verdict = self.response.stream_verdict(is_complete, self.decoder.stray_text());
        StreamEnd { progress, verdict }
    }

    /// Returns true if the end of the response that [`Terminal`] names has arrived. The body can
    /// still be open. Such a response stays a success even if the connection breaks or becomes
    /// silent afterwards. For [`Terminal::Eof`], the result is always false.
    pub fn is_complete(&self) -> bool {
        self.response.is_complete(self.terminal)
    }

    /// Returns the length of the text that has arrived on one channel, in bytes.
    pub fn text_bytes(&self, channel: Channel) -> u64 {
        self.response.text_bytes(channel)
    }

    /// Decodes the bytes of one read. If `bytes` is `None`, the body has ended, and this method
    /// decodes the buffered rest.
    fn advance<S>(&mut self, bytes: Option<&[u8]>, sink: &mut S) -> Progress
    where
        S: FnMut(u32, Channel, &str),
    {
        let mut progress = Progress { finished: self.finished, ..Progress::default() };
        if self.finished {
            return progress;
        }
        let events = self.decoder.events();
        let (response, is_cut) = (&mut self.response, &mut self.is_cut);
        let mut on_event = |event: SseEvent<'_>| {
            let decoded = response.api().decode_event(event, &mut |choice, channel, text: &str| {
                response.count_text(channel, text);
                sink(choice, channel, text);
            });
            match decoded {
                Ok(decoded) => progress.token_events += u32::from(response.apply(decoded)),
                // The body ended inside this event, so its JSON cannot be valid. The failure is the
                // missing end, not the JSON.
                Err(_) if bytes.is_none() => *is_cut = true,
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
        progress.finished = self.finished;
        progress
    }
}
