//! Reads one streamed response, from its first byte to the verdict.
//!
//! The caller reads the socket, stamps the instant, and calls [`StreamReader::read`]. At a clean
//! end of the body it calls [`StreamReader::end`]. If the connection breaks, the caller itself
//! reports the failure.
//!
//! An error inside the stream is not returned early: the read that brought it may have brought the
//! first token too, and both must be recorded. It sets [`Progress::finished`], and the verdict
//! names the error.

use std::ops::ControlFlow;

use super::Terminal;
use super::decoded::Channel;
use super::dialect::Api;
use super::response::{CompletedResponse, ResponseState};
use super::sse::{Decoder, ResponseLimits, SseEvent};
use crate::measurement::{Failure, FailureDetail};

/// The events of one read. All of them have the instant of that read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Events that carried text on any channel.
    pub token_events: u32,
    /// Events of any kind.
    pub events: u32,
    /// True once the verdict is certain: the end marker or an error arrived. Call
    /// [`StreamReader::end`] then.
    pub finished: bool,
}

/// The result of the end of the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamEnd {
    /// A last event without its blank line. It arrived with the last read.
    pub progress: Progress,
    pub verdict: Result<CompletedResponse, FailureDetail>,
}

/// Reads the response to one streaming request.
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

    /// Sets the requested model, so a response by another model is an anomaly.
    #[must_use]
    pub fn with_requested_model(mut self, model: &str) -> StreamReader {
        self.response.set_requested_model(model);
        self
    }

    /// Sets the expectation of usage, which is true by default. If usage is expected, its absence
    /// is an anomaly.
    #[must_use]
    pub fn with_expected_usage(mut self, expects_usage: bool) -> StreamReader {
        self.response.set_expects_usage(expects_usage);
        self
    }

    /// Takes the bytes of one read. Text goes to `sink` with the index of its choice; pass
    /// [`discard_text`](super::discard_text) to keep none. Bytes after the end are ignored.
    pub fn read<S>(&mut self, bytes: &[u8], sink: &mut S) -> Progress
    where
        S: FnMut(u32, Channel, &str),
    {
        self.advance(Some(bytes), sink)
    }

    /// Returns the verdict, given that the body ended cleanly or a read has finished the stream.
    pub fn end<S>(&mut self, sink: &mut S) -> StreamEnd
    where
        S: FnMut(u32, Channel, &str),
    {
        let mut progress = self.advance(None, sink);
        self.finished = true;
        progress.finished = true;
        let is_complete = self.response.has_ended(self.terminal)
            && !(self.is_cut && self.terminal == Terminal::Eof);
        StreamEnd { progress, verdict: self.response.stream_verdict(is_complete) }
    }

    /// Returns true once the end that `terminal` names has arrived. From then on neither silence
    /// nor a broken connection makes the response a failure.
    pub fn is_complete(&self) -> bool {
        self.response.is_complete(self.terminal)
    }

    /// Returns the bytes of text so far on one channel.
    pub fn text_bytes(&self, channel: Channel) -> u64 {
        self.response.text_bytes(channel)
    }

    /// Decodes the bytes of a read, or the rest of the body if `bytes` is `None`.
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
                // The end of the body cut this event short. That is the defect, not its JSON.
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
                self.response.fail(Failure::TooLarge, &limit.to_string());
                self.finished = true;
            }
        }
        progress.events = self.decoder.events() - events;
        progress.finished = self.finished;
        progress
    }
}
