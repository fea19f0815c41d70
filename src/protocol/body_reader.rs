//! Reads responses without a stream: llmload did not request a stream, or the server sent something
//! else.

use super::answer::Answer;
use super::decoded::{Channel, DecodedEvent, discard_text};
use super::dialect::Api;
use super::reported_error::ReportedError;
use super::response::{CompletedResponse, ResponseState};
use super::sse::{ResponseLimits, size};
use crate::measurement::{Failure, FailureCause, FailureDetail};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads the response to a request without streaming. It is complete when its JSON is complete, so
/// `terminal` does not apply.
#[derive(Debug)]
pub struct BodyReader {
    body: Vec<u8>,
    /// In bytes.
    limit: usize,
    response: ResponseState,
}

impl BodyReader {
    pub fn new(api: Api, limits: ResponseLimits) -> BodyReader {
        let limit = if api.generates_text() { limits.unstreamed_body } else { limits.vectors_body };
        BodyReader { body: Vec::new(), limit, response: ResponseState::new(api) }
    }

    /// A response from another model has an anomaly.
    #[must_use]
    pub fn with_requested_model(mut self, model: &str) -> BodyReader {
        self.response.set_requested_model(model);
        self
    }

    /// A response with another number of vectors is a failure. The default is 1.
    #[must_use]
    pub fn with_expected_vectors(mut self, expected: usize) -> BodyReader {
        self.response.set_expected_vectors(expected);
        self
    }

    /// With true, [`BodyReader::take_answer`] returns the answer.
    #[must_use]
    pub fn with_answer(mut self, is_kept: bool) -> BodyReader {
        if is_kept {
            self.response.keep_answer();
        }
        self
    }

    /// Returns the answer after [`BodyReader::end`]; `None` without [`BodyReader::with_answer`].
    pub fn take_answer(&mut self) -> Option<Answer> {
        self.response.take_answer()
    }

    /// Takes the bytes of one read. Returns false if the body is too large and reading can stop.
    pub fn read(&mut self, bytes: &[u8]) -> bool {
        if self.body.len() + bytes.len() > self.limit {
            self.response
                .fail(Failure::TooLarge, &format!("the body is longer than {}", size(self.limit)));
            self.body = Vec::new();
        }
        if !self.response.has_failed() {
            self.body.extend_from_slice(bytes);
        }
        !self.response.has_failed()
    }

    /// Returns the verdict. Call this when the body has ended cleanly.
    ///
    /// # Errors
    /// The response is a failure.
    pub fn end<S>(&mut self, sink: &mut S) -> Result<CompletedResponse, FailureDetail>
    where
        S: FnMut(u32, Channel, &str),
    {
        if !self.response.has_failed() {
            let body = std::mem::take(&mut self.body);
            self.decode(&body, sink);
        }
        self.response.verdict(true)
    }

    fn decode<S>(&mut self, body: &[u8], sink: &mut S)
    where
        S: FnMut(u32, Channel, &str),
    {
        let response = &mut self.response;
        let decoded = decode(response.api(), body, &mut |choice, channel, text: &str| {
            response.count_text(choice, channel, text);
            sink(choice, channel, text);
        });
        match decoded {
            Ok(decoded) => _ = response.apply(decoded),
            Err(error) if error.is_cut_short() => {
                response.fail(Failure::Incomplete, "the body ended in the middle of the response");
            }
            Err(error) => {
                let message = format!("cannot decode the response: {error}");
                response.fail(Failure::BadFrame, &message);
            }
        }
    }

    /// In bytes. 0 before [`BodyReader::end`].
    pub fn text_bytes(&self, channel: Channel) -> u64 {
        self.response.text_bytes(channel)
    }
}

/// Decodes a complete body. A byte order mark is allowed.
fn decode<'a, S>(
    api: Api,
    body: &'a [u8],
    sink: &mut S,
) -> Result<DecodedEvent<'a>, super::DecodeError>
where
    S: FnMut(u32, Channel, &str),
{
    api.decode_body(body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body), sink)
}

/// The failure of a response that has status 200 but is not the requested event stream. It can be
/// an error of the endpoint, a completion in one piece, or a login page.
pub fn explain_missing_stream(api: Api, body: &[u8]) -> FailureDetail {
    match decode(api, body, &mut discard_text) {
        Ok(DecodedEvent { error: Some(error), .. }) => error.detail(Failure::StreamError),
        Ok(decoded) if decoded.has_text || decoded.finish.is_some() => FailureDetail::new(
            Failure::NotSse,
            "the server sent the completion in one piece instead of a stream",
        )
        .with_cause(FailureCause::UnstreamedCompletion),
        _ => {
            let body = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
            ReportedError::from_body(body).detail(Failure::NotSse)
        }
    }
}
