//! Answers that come at once: the reply to a request that asked for no stream, and what came in
//! place of a stream that was asked for.

use serde_json::error::Category;

use super::chat::{self, Channel, Shape};
use super::ending::{Answer, Ending};
use super::fault::Fault;
use super::sse::{Limits, TooLarge};
use crate::measurement::{Failure, FailureCause, FailureDetail};

/// The answer to a request that asked for no stream. Its end is its closing brace, whatever
/// `terminal` the target names.
#[derive(Debug)]
pub struct WholeReply {
    body: Vec<u8>,
    limit: usize,
    answer: Answer,
}

impl WholeReply {
    /// An answer of which nothing has come yet.
    pub fn new(limits: Limits) -> WholeReply {
        WholeReply { body: Vec::new(), limit: limits.whole, answer: Answer::default() }
    }

    /// Notes the model that was asked for, so that an answer by another is seen.
    #[must_use]
    pub fn expecting_model(mut self, model: &str) -> WholeReply {
        self.answer.expect_model(model);
        self
    }

    /// Takes what one read brought. `false`: it is too large, and there is no point in reading on.
    pub fn read(&mut self, bytes: &[u8]) -> bool {
        if self.body.len() + bytes.len() > self.limit {
            self.answer.fail(Failure::TooLarge, &TooLarge::Body.to_string());
            self.body = Vec::new();
        }
        if self.answer.failure.is_none() {
            self.body.extend_from_slice(bytes);
        }
        self.answer.failure.is_none()
    }

    /// The body ended cleanly: the verdict.
    ///
    /// # Errors
    /// The answer is a failure of the class given.
    pub fn end<S>(&mut self, sink: &mut S) -> Result<Ending, FailureDetail>
    where
        S: FnMut(u32, Channel, &str),
    {
        if self.answer.failure.is_none() {
            let body = std::mem::take(&mut self.body);
            self.parse(&body, sink);
        }
        self.answer.judge(true, false)
    }

    fn parse<S>(&mut self, body: &[u8], sink: &mut S)
    where
        S: FnMut(u32, Channel, &str),
    {
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        let Ok(json) = str::from_utf8(body) else {
            self.answer.fail(Failure::BadFrame, "the answer is not valid UTF-8");
            return;
        };
        let answer = &mut self.answer;
        let frame = chat::decode(json, Shape::Whole, &mut |choice, channel, text: &str| {
            answer.heard(channel, text);
            sink(choice, channel, text);
        });
        match frame {
            Ok(frame) => {
                self.answer.take(&frame, json);
            }
            Err(error) if error.classify() == Category::Eof => {
                self.answer.fail(Failure::Incomplete, "the body ended in the middle of the answer");
            }
            Err(error) => {
                self.answer
                    .fail(Failure::BadFrame, &format!("the answer could not be read: {error}"));
            }
        }
    }

    /// Bytes of text on one channel, once judged.
    pub fn text_bytes(&self, channel: Channel) -> u64 {
        self.answer.text_bytes(channel)
    }
}

/// What a 200 amounts to that is no event stream though one was asked for: an error the endpoint
/// wrapped in a 200, or not our protocol at all (a whole completion, a login page).
pub fn not_a_stream(body: &[u8]) -> FailureDetail {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let frame = str::from_utf8(body)
        .ok()
        .and_then(|json| chat::decode(json, Shape::Whole, &mut super::reply::no_sink).ok());
    match frame {
        Some(frame) if frame.failed => Fault::from_body(body).detail(Failure::StreamError),
        Some(frame) if frame.tokens || frame.finish.is_some() => {
            FailureDetail::new(Failure::NotSse, "a whole completion came instead of a stream")
                .with_cause(FailureCause::WholeCompletion)
        }
        _ => Fault::from_body(body).detail(Failure::NotSse),
    }
}
