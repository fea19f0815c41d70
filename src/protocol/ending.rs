//! The verdict: what an answer that arrived in full amounts to.
//!
//! HTTP 200 says nothing and `[DONE]` says little: a dying engine sends both. These rules decide,
//! once for streamed and whole answers, what is a success, and what about a success was odd.

use super::Terminal;
use super::chat::{Channel, Frame};
use super::fault::Fault;
use crate::measurement::{
    Anomalies, Anomaly, Failure, FailureCause, FailureDetail, FinishReason, Usage,
};

/// A successful answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Why it says it stopped, if it says so.
    pub finish: Option<FinishReason>,
    /// The endpoint's own count. `None`: see `token_events` for an estimate.
    pub usage: Option<Usage>,
    /// Events that carried text. Not tokens: an event may hold several.
    pub token_events: u32,
    /// What was odd about it.
    pub anomalies: Anomalies,
}

/// What is known of an answer so far, streamed or whole.
#[derive(Debug, Default)]
pub(super) struct Answer {
    requested_model: Option<Box<str>>,
    pub(super) usage_unasked: bool,
    pub(super) finish: Option<FinishReason>,
    pub(super) usage: Option<Usage>,
    /// Text came in a later event than a finish reason.
    pub(super) spoke_on: bool,
    pub(super) done: bool,
    pub(super) token_events: u32,
    text: [u64; 4],
    /// Whether the first model it named is the one that was asked for.
    same_model: Option<bool>,
    /// The first thing that made it a failure.
    pub(super) failure: Option<FailureDetail>,
}

impl Answer {
    pub(super) fn expect_model(&mut self, model: &str) {
        self.requested_model = Some(model.into());
    }

    /// Bytes of text on one channel.
    pub(super) fn text_bytes(&self, channel: Channel) -> u64 {
        self.text[channel as usize]
    }

    pub(super) fn heard(&mut self, channel: Channel, text: &str) {
        self.text[channel as usize] += text.len() as u64;
    }

    /// Takes in a frame; `json` is where it came from, for the words of a failure. Whether it counts
    /// as a token event is returned.
    pub(super) fn take(&mut self, frame: &Frame<'_>, json: &str) -> bool {
        self.usage = frame.usage.or(self.usage);
        if frame.failed {
            self.failed(&Fault::from_body(json.as_bytes()));
            return false;
        }
        self.spoke_on |= frame.tokens && self.finish.is_some();
        self.finish = frame.finish.or(self.finish);
        self.token_events = self.token_events.saturating_add(u32::from(frame.tokens));
        if let (None, Some(named)) = (self.same_model, &frame.model) {
            let asked = self.requested_model.as_ref();
            self.same_model = Some(asked.is_none_or(|asked| same_model(asked, named)));
        }
        frame.tokens
    }

    /// The endpoint reported a failure inside its answer.
    pub(super) fn failed(&mut self, fault: &Fault) {
        self.failure.get_or_insert_with(|| fault.detail(Failure::StreamError));
    }

    pub(super) fn fail(&mut self, failure: Failure, message: &str) {
        self.failure.get_or_insert_with(|| FailureDetail::new(failure, message));
    }

    /// Judges an answer that has ended. `terminal` is the end that was seen to be missing or not:
    /// whole replies end with their closing brace, hence `complete`.
    pub(super) fn judge(&self, complete: bool, streamed: bool) -> Result<Ending, FailureDetail> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let fail = |failure, message| Err(FailureDetail::new(failure, message));
        match self.finish {
            Some(FinishReason::Error) => {
                return fail(Failure::StreamError, "the finish reason is an error");
            }
            Some(FinishReason::ContentFilter) => {
                return fail(Failure::Filtered, "cut by a content filter");
            }
            _ => {}
        }
        if !complete {
            let incomplete = FailureDetail::new(Failure::Incomplete, self.what_is_missing());
            return Err(FailureDetail { cause: self.missing_end(), ..incomplete });
        }
        // Text may be hidden (reasoning that is only counted), so a count will do as well.
        if self.token_events == 0 && self.usage.is_none_or(|usage| usage.output == 0) {
            return fail(Failure::EmptyOutput, "the answer ended well and held no text");
        }
        let mut anomalies = Anomalies::default();
        anomalies.note(Anomaly::MissingUsage, self.usage.is_none() && !self.usage_unasked);
        anomalies.note(Anomaly::MissingDone, streamed && !self.done);
        anomalies.note(Anomaly::MissingFinishReason, self.finish.is_none());
        anomalies.note(Anomaly::ModelMismatch, self.same_model == Some(false));
        Ok(Ending {
            finish: self.finish,
            usage: self.usage,
            token_events: self.token_events,
            anomalies,
        })
    }

    /// The one sign of the end that is missing, if the other one arrived.
    fn missing_end(&self) -> Option<FailureCause> {
        match (self.done, self.finish) {
            (true, None) => Some(FailureCause::NoFinishReason),
            (false, Some(_)) => Some(FailureCause::NoDone),
            _ => None,
        }
    }

    fn what_is_missing(&self) -> &'static str {
        match (self.done, self.finish) {
            (true, None) => "[DONE] without a finish reason",
            (false, Some(_)) => "the body ended without [DONE]",
            _ if self.token_events == 0 => "the body ended before any text",
            _ => "the body ended in the middle of the answer",
        }
    }

    /// Whether the end that `terminal` names has come, given that the body has ended.
    pub(super) fn has_ended(&self, terminal: Terminal) -> bool {
        match terminal {
            Terminal::FinishReason => self.finish.is_some(),
            Terminal::Done => self.done,
            Terminal::Eof => true,
        }
    }
}

/// Whether an answer's model is the one asked for: the same name up to case, its publisher's prefix,
/// a revision (`@main`), a tag (`:latest`) or a date (`-2024-08-06`).
fn same_model(asked: &str, named: &str) -> bool {
    let base = |name: &str| name.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    let (asked, named) = (base(asked), base(named));
    let Some(suffix) = named.strip_prefix(&asked) else {
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
    fn a_revision_of_the_same_model_is_no_mismatch() {
        for (asked, named, same) in [
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
            assert_eq!(same_model(asked, named), same, "{asked} {named}");
        }
    }

    #[test]
    fn anomalies_are_a_set() {
        let mut set = Anomalies::default();
        set.note(Anomaly::ModelMismatch, true);
        set.note(Anomaly::MissingUsage, true);
        set.note(Anomaly::MissingDone, false);
        assert_eq!(set.iter().collect::<Vec<_>>(), [Anomaly::MissingUsage, Anomaly::ModelMismatch]);
    }
}
