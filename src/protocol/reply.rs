//! One streamed answer, from its first byte to the verdict.
//!
//! The shell around it reads the socket, stamps the instant, calls [`Reply::read`] and files what
//! comes back under that instant; at a clean end of the body it calls [`Reply::end`]. A body that
//! breaks off is the shell's own finding and needs no verdict from here.
//!
//! A failure inside the answer is not an early return: the read that brought it may have brought
//! the first token too, and both must be told. It sets [`Progress::finished`], and the verdict
//! names it.

use std::ops::ControlFlow;

use super::Terminal;
use super::chat::{self, Channel, Shape};
use super::ending::{Answer, Ending};
use super::fault::Fault;
use super::sse::{Decoder, Event, Limits};
use crate::measurement::{Failure, FailureDetail};

/// What one read brought. All of it bears the instant of that read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Events that carried text of any kind: content, reasoning, refusal, tool calls.
    pub token_events: u32,
    /// Events of any kind.
    pub events: u32,
    /// Nothing that matters will follow: `[DONE]` came, or a failure. Ask for the verdict.
    pub finished: bool,
}

/// What the end of the body brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// A last event without its blank line counts; it arrived with the last read.
    pub progress: Progress,
    /// The verdict.
    pub verdict: Result<Ending, FailureDetail>,
}

/// The answer to one streaming request.
#[derive(Debug)]
pub struct Reply {
    terminal: Terminal,
    decoder: Decoder,
    answer: Answer,
    finished: bool,
    /// The body was cut inside its last event.
    cut: bool,
}

impl Reply {
    /// An answer of which nothing has come yet.
    pub fn new(terminal: Terminal, limits: Limits) -> Reply {
        Reply {
            terminal,
            decoder: Decoder::new(limits),
            answer: Answer::default(),
            finished: false,
            cut: false,
        }
    }

    /// Notes the model that was asked for, so that an answer by another is seen.
    #[must_use]
    pub fn expecting_model(mut self, model: &str) -> Reply {
        self.answer.expect_model(model);
        self
    }

    /// Notes whether usage was asked for, so that its absence is odd.
    #[must_use]
    pub fn expecting_usage(mut self, asked: bool) -> Reply {
        self.answer.usage_unasked = !asked;
        self
    }

    /// Takes what one read brought. Text goes to `sink` with the index of its choice; pass
    /// [`no_sink`] to keep none. After the answer has finished, further bytes are ignored.
    pub fn read<S>(&mut self, bytes: &[u8], sink: &mut S) -> Progress
    where
        S: FnMut(u32, Channel, &str),
    {
        self.advance(Some(bytes), sink)
    }

    /// The body ended cleanly, or the answer has finished: the verdict.
    pub fn end<S>(&mut self, sink: &mut S) -> End
    where
        S: FnMut(u32, Channel, &str),
    {
        let mut progress = self.advance(None, sink);
        self.finished = true;
        progress.finished = true;
        let complete =
            self.answer.has_ended(self.terminal) && !(self.cut && self.terminal == Terminal::Eof);
        End { progress, verdict: self.answer.judge(complete, true) }
    }

    /// Whether the end that `terminal` names has come: from then on neither silence nor a broken
    /// connection disproves the answer. Never so for [`Terminal::Eof`], which only the shell sees,
    /// nor where text followed the finish reason: some servers send one with every event.
    pub fn terminal_seen(&self) -> bool {
        match self.terminal {
            Terminal::FinishReason => self.answer.finish.is_some() && !self.answer.spoke_on,
            Terminal::Done => self.answer.done,
            Terminal::Eof => false,
        }
    }

    /// Bytes of text so far on one channel.
    pub fn text_bytes(&self, channel: Channel) -> u64 {
        self.answer.text_bytes(channel)
    }

    /// Runs the decoder over a read, or over the end of the body, and gathers what came of it.
    fn advance<S>(&mut self, bytes: Option<&[u8]>, sink: &mut S) -> Progress
    where
        S: FnMut(u32, Channel, &str),
    {
        let mut progress = Progress { finished: self.finished, ..Progress::default() };
        if self.finished {
            return progress;
        }
        let events = self.decoder.events();
        let (answer, cut) = (&mut self.answer, &mut self.cut);
        let mut on_event = |event: Event<'_>| match take(answer, event, sink, &mut progress) {
            // The end of the body cut this event short: that is the defect, not its JSON.
            Err(BadFrame(_)) if bytes.is_none() => {
                *cut = true;
                ControlFlow::Continue(())
            }
            Err(BadFrame(why)) => {
                answer.fail(Failure::BadFrame, &why);
                ControlFlow::Break(())
            }
            Ok(flow) => flow,
        };
        let outcome = match bytes {
            Some(bytes) => self.decoder.feed(bytes, &mut on_event),
            None => self.decoder.finish(&mut on_event),
        };
        match outcome {
            Ok(flow) => self.finished = flow.is_break(),
            Err(limit) => {
                self.answer.fail(Failure::TooLarge, &limit.to_string());
                self.finished = true;
            }
        }
        progress.events = self.decoder.events() - events;
        progress.finished = self.finished;
        progress
    }
}

/// A sink that keeps nothing.
pub fn no_sink(_: u32, _: Channel, _: &str) {}

/// Why an event could not be read.
struct BadFrame(String);

/// Takes in one event; breaks where nothing after it matters.
fn take<S>(
    answer: &mut Answer,
    event: Event<'_>,
    sink: &mut S,
    progress: &mut Progress,
) -> Result<ControlFlow<()>, BadFrame>
where
    S: FnMut(u32, Channel, &str),
{
    if event.is_error() {
        answer.failed(&Fault::from_body(event.data));
        return Ok(ControlFlow::Break(()));
    }
    let data = event.data.trim_ascii();
    if data == b"[DONE]" {
        answer.done = true;
        return Ok(ControlFlow::Break(()));
    }
    if data.is_empty() || event.name == b"ping" {
        return Ok(ControlFlow::Continue(()));
    }
    let json = str::from_utf8(data).map_err(|_| BadFrame("an event is not valid UTF-8".into()))?;
    let frame = chat::decode(json, Shape::Stream, &mut |choice, channel, text: &str| {
        answer.heard(channel, text);
        sink(choice, channel, text);
    })
    .map_err(|error| BadFrame(format!("an event could not be read: {error}")))?;
    if answer.take(&frame, json) {
        progress.token_events += 1;
    }
    Ok(if answer.failure.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
}
