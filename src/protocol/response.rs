//! The verdict on a response: success or failure.
//!
//! Neither status 200 nor `[DONE]` proves a success, because an engine that crashes can send both.
//! The same rules apply with and without streaming.

use super::Terminal;
use super::answer::Answer;
use super::decoded::{Channel, DecodedEvent, SeparateCache, VectorCounts};
use super::dialect::Api;
use super::reported_error::ReportedError;
use crate::measurement::{
    Anomalies, Anomaly, Failure, FailureCause, FailureDetail, FinishReason, Usage,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompletedResponse {
    pub finish: Option<FinishReason>,
    pub usage: Usage,
    /// Each can contain several tokens.
    pub token_events: u32,
    pub anomalies: Anomalies,
}

/// The facts about a response that determine the verdict.
#[derive(Debug)]
pub(super) struct ResponseState {
    api: Api,
    requested_model: Option<Box<str>>,
    expects_usage: bool,
    finish: Option<FinishReason>,
    usage: Usage,
    separate_cache: SeparateCache,
    vectors: Option<VectorCounts>,
    expected_vectors: usize,
    /// True if text arrived after a finish reason.
    has_text_after_finish: bool,
    has_end_marker: bool,
    token_events: u32,
    /// In bytes.
    text_bytes: [u64; Channel::ALL.len()],
    /// True if reasoning came before the first text on another channel. `None` until such text
    /// arrives.
    has_answer_after_reasoning: Option<bool>,
    /// True if the first named model is the requested model. `None` until the response names a
    /// model.
    is_requested_model: Option<bool>,
    /// `None` if nobody needs the answer.
    answer: Option<Answer>,
    failure: Option<FailureDetail>,
}

impl ResponseState {
    pub(super) fn new(api: Api) -> ResponseState {
        ResponseState {
            api,
            requested_model: None,
            expects_usage: true,
            finish: None,
            usage: Usage::default(),
            separate_cache: SeparateCache::default(),
            vectors: None,
            expected_vectors: 1,
            has_text_after_finish: false,
            has_end_marker: false,
            token_events: 0,
            text_bytes: [0; Channel::ALL.len()],
            has_answer_after_reasoning: None,
            is_requested_model: None,
            answer: None,
            failure: None,
        }
    }

    pub(super) fn api(&self) -> Api {
        self.api
    }

    pub(super) fn set_requested_model(&mut self, model: &str) {
        self.requested_model = Some(model.into());
    }

    pub(super) fn set_expected_vectors(&mut self, expected: usize) {
        self.expected_vectors = expected;
    }

    pub(super) fn set_expects_usage(&mut self, expects_usage: bool) {
        self.expects_usage = expects_usage;
    }

    /// Keeps the text of the answer from now on.
    pub(super) fn keep_answer(&mut self) {
        self.answer = Some(Answer::default());
    }

    pub(super) fn keeps_answer(&self) -> bool {
        self.answer.is_some()
    }

    pub(super) fn take_answer(&mut self) -> Option<Answer> {
        self.answer.take()
    }

    pub(super) fn text_bytes(&self, channel: Channel) -> u64 {
        self.text_bytes[channel as usize]
    }

    /// A refusal, a tool call and sound are parts of the answer.
    pub(super) fn has_answer_after_reasoning(&self) -> bool {
        self.has_answer_after_reasoning == Some(true)
    }

    pub(super) fn count_text(&mut self, choice: u32, channel: Channel, text: &str) {
        if channel != Channel::Reasoning && self.has_answer_after_reasoning.is_none() {
            self.has_answer_after_reasoning = Some(self.text_bytes(Channel::Reasoning) > 0);
        }
        self.text_bytes[channel as usize] += text.len() as u64;
        if let Some(answer) = &mut self.answer {
            answer.add_text(choice, channel, text);
        }
    }

    /// Adds an event. Returns true if it is a token event: it has text and reports no error.
    pub(super) fn apply(&mut self, decoded: DecodedEvent<'_>) -> bool {
        self.usage = decoded.usage.or(self.usage);
        self.separate_cache = decoded.separate_cache.or(self.separate_cache);
        self.vectors = decoded.vectors.or(self.vectors);
        if let Some(error) = decoded.error {
            self.failure.get_or_insert_with(|| error.detail(Failure::StreamError));
            return false;
        }
        if let Some(answer) = &mut self.answer {
            decoded.tool_calls.into_iter().for_each(|part| answer.add_call(part));
        }
        self.has_end_marker |= decoded.is_end;
        if decoded.has_text {
            self.count_token_event();
        }
        self.finish = decoded.finish.or(self.finish);
        if let (None, Some(named)) = (self.is_requested_model, &decoded.model) {
            let requested = self.requested_model.as_ref();
            self.is_requested_model =
                Some(requested.is_none_or(|requested| is_same_model(requested, named)));
        }
        decoded.has_text
    }

    /// Adds an event that has text and no other facts. Its model is already known.
    pub(super) fn count_token_event(&mut self) {
        self.has_text_after_finish |= self.finish.is_some();
        self.token_events = self.token_events.saturating_add(1);
    }

    /// Records a failure. Only the first failure counts.
    pub(super) fn fail(&mut self, failure: Failure, message: &str) {
        self.failure.get_or_insert_with(|| FailureDetail::new(failure, message));
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    /// Returns true if no later event can change the verdict.
    pub(super) fn is_decided(&self) -> bool {
        self.has_end_marker || self.has_failed()
    }

    /// Call this when the body has ended. Returns true if the response contains the proof of
    /// completeness that `terminal` requires.
    pub(super) fn has_ended(&self, terminal: Terminal) -> bool {
        match terminal {
            Terminal::FinishReason => self.finish.is_some(),
            Terminal::Done => self.has_end_marker,
            Terminal::Eof => true,
        }
    }

    /// Returns true if the response is complete although its body has not ended. A finish reason
    /// counts only while no text has arrived after it, because some servers send one with every
    /// event. Always false for [`Terminal::Eof`].
    pub(super) fn is_complete(&self, terminal: Terminal) -> bool {
        match terminal {
            Terminal::FinishReason => self.finish.is_some() && !self.has_text_after_finish,
            Terminal::Done => self.has_end_marker,
            Terminal::Eof => false,
        }
    }

    /// Returns the verdict on a stream. A missing end marker is an anomaly.
    ///
    /// Some servers write an error as plain text into the stream, such as `Internal Server Error`.
    /// The message of an incomplete response quotes it.
    pub(super) fn stream_verdict(
        &self,
        is_complete: bool,
        stray_text: &[u8],
    ) -> Result<CompletedResponse, FailureDetail> {
        let mut completed = self.verdict(is_complete).map_err(|detail| {
            if detail.failure != Failure::Incomplete || stray_text.is_empty() {
                return detail;
            }
            let text = ReportedError::from_body(stray_text).message;
            let message = format!("{}; outside of any event, it contains: {text}", detail.message);
            detail.with_message(&message)
        })?;
        completed.anomalies.add_if(Anomaly::MissingDone, !self.has_end_marker);
        Ok(completed)
    }

    /// Returns the verdict. `is_complete` is false if the proof that the [`Terminal`] of the target
    /// requires is missing.
    pub(super) fn verdict(&self, is_complete: bool) -> Result<CompletedResponse, FailureDetail> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let fail = |failure, message: &str| Err(FailureDetail::new(failure, message));
        match self.finish {
            Some(FinishReason::Error) => {
                return fail(Failure::StreamError, "the finish reason is an error");
            }
            Some(FinishReason::ContentFilter) => {
                return fail(Failure::Filtered, "a content filter ended the response");
            }
            _ => {}
        }
        if !is_complete {
            return Err(self.incomplete());
        }
        // Treat a count of 0 as unknown: it is wrong for a prompt, and for a response with text.
        let counted = |tokens: Option<u64>| tokens.filter(|tokens| *tokens > 0);
        let usage = self.separate_cache.added_to(self.usage);
        let (input, output) = (counted(usage.input), counted(usage.output));
        if !self.api.generates_text() {
            return self.vector_verdict(Usage { input, ..usage });
        }
        // A response without text but with counted output tokens is not empty: a server can count
        // hidden reasoning without sending it.
        if self.token_events == 0 && output.is_none() {
            return fail(Failure::EmptyOutput, "the response is complete but contains no text");
        }
        let mut anomalies = Anomalies::default();
        anomalies.add_if(Anomaly::MissingUsage, output.is_none() && self.expects_usage);
        anomalies.add_if(Anomaly::MissingFinishReason, self.finish.is_none());
        anomalies.add_if(Anomaly::MissingText, self.token_events == 0);
        anomalies.add_if(Anomaly::ModelMismatch, self.is_requested_model == Some(false));
        Ok(CompletedResponse {
            finish: self.finish,
            usage: Usage { input, output, ..usage },
            token_events: self.token_events,
            anomalies,
        })
    }

    /// Returns the verdict on a response with vectors.
    fn vector_verdict(&self, usage: Usage) -> Result<CompletedResponse, FailureDetail> {
        let VectorCounts { total, empty, not_numeric } = self.vectors.unwrap_or_default();
        let expected = self.expected_vectors;
        let (failure, message) = if total == 0 {
            (Failure::EmptyOutput, "the response contains no vector".to_owned())
        } else if total != expected {
            let message =
                format!("the number of vectors is {total}, but the number of inputs is {expected}");
            (Failure::Incomplete, message)
        } else if empty > 0 {
            (Failure::EmptyOutput, format!("{empty} of {total} vectors are empty"))
        } else if not_numeric > 0 {
            let message =
                format!("{not_numeric} of {total} vectors contain a value that is not a number");
            (Failure::BadFrame, message)
        } else {
            let mut anomalies = Anomalies::default();
            anomalies.add_if(Anomaly::MissingUsage, usage.input.is_none() && self.expects_usage);
            anomalies.add_if(Anomaly::ModelMismatch, self.is_requested_model == Some(false));
            return Ok(CompletedResponse { finish: None, usage, token_events: 0, anomalies });
        };
        Err(FailureDetail::new(failure, &message))
    }

    fn incomplete(&self) -> FailureDetail {
        let marker = self.api.end_marker().unwrap_or("the end");
        let fail = |message: &str| FailureDetail::new(Failure::Incomplete, message);
        match (self.has_end_marker, self.finish) {
            (true, None) => fail(&format!("{marker} arrived without a finish reason"))
                .with_cause(FailureCause::NoFinishReason),
            (false, Some(_)) => fail(&format!("the body ended without {marker}"))
                .with_cause(FailureCause::NoEndMarker),
            _ if self.token_events == 0 => fail("the body ended before any text"),
            _ => fail("the body ended in the middle of the response"),
        }
    }
}

/// Ignores case and the prefix of a publisher in both names. In `named`, also ignores a revision
/// (`@main`), a tag (`:latest`) or a date (`-2024-08-06`).
fn is_same_model(requested: &str, named: &str) -> bool {
    let base = |name: &str| name.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    let (requested, named) = (base(requested), base(named));
    let Some(suffix) = named.strip_prefix(&requested) else {
        return false;
    };
    match suffix.strip_prefix('-') {
        Some(date) => date.len() >= 4 && date.chars().all(|c| c.is_ascii_digit() || c == '-'),
        None => suffix.is_empty() || suffix.starts_with(['@', ':']),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_of_the_requested_model_is_no_mismatch() {
        for (requested, named, same) in [
            ("gpt-4o", "gpt-4o", true),
            ("gpt-4o", "gpt-4o-2024-08-06", true),
            ("gpt-4", "gpt-4-0613", true),
            ("model/tinyhf", "model/tinyhf@main", true),
            ("Qwen/Qwen2.5-7B-Instruct", "qwen2.5-7b-instruct", true),
            ("llama3", "llama3:latest", true),
            ("gpt-4o", "gpt-4o-mini", false),
            ("gpt-4", "gpt-4o", false),
            ("no-such-model", "gemma-3-270m", false),
            ("m", "mé", false),
        ] {
            assert_eq!(is_same_model(requested, named), same, "{requested} {named}");
        }
    }
}
