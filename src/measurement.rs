//! The measurement of one request: its instants, the values derived from its instants, and its
//! failure.
//!
//! This file contains the only definition of each derived value. Metrics, reports and dashboards
//! show these values. This module does not read a clock. The caller passes the instants in.
//!
//! | value | formula | unit |
//! |---|---|---|
//! | TTFT, time to first token | `first_token − sent` | seconds |
//! | TPOT, time per output token | `(last_token − first_token) / (n − 1)` | seconds per token |
//! | TPS, output tokens per second | `(n − 1) / (last_token − first_token)` | tokens per second |
//! | duration | `end − sent` | seconds |
//!
//! `n` is the number of output tokens that the endpoint counts in `usage`. The first token is the
//! first text on any channel. Reasoning text counts too, because the model needs the same time for
//! a token of reasoning as for a token of the answer.
//!
//! The `MLPerf` Inference rules and vLLM's `bench serve` define TTFT and TPOT in the same way.
//! Their TPOT is `(latency − TTFT) / (n − 1)`, where the latency ends at the last token.
//!
//! Five types describe a request that failed:
//!
//! - [`Failure`] is the class of the failure, such as `tls` or `timeout_idle`. It is the value of a
//!   label.
//! - [`FailureDetail`] is the class together with a message for people and, if known, the cause.
//! - [`FailureCause`] is a more exact reason than the class. It selects a remedy.
//! - [`TlsFault`] is the more exact reason for a failure of the class `tls`.
//! - [`ClientFault`] is the more exact reason for a failure in llmload or its machine.

mod cause;

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

pub use cause::{ClientFault, FailureCause, LookupFault, TlsFault};

/// The party at fault for a failure. Each [`Failure`] has one, so an objective can ignore failures
/// that are not the fault of the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Blame {
    /// The endpoint to which llmload sends requests.
    Target,
    /// The network between llmload and the endpoint, including name resolution.
    Network,
    /// llmload or its machine.
    Client,
    /// A rule of the endpoint, such as a required key, a quota, a rate limit or a content filter.
    Policy,
}

impl Blame {
    /// Every value, in the order in which the documentation lists them.
    pub const ALL: [Blame; 4] = [Blame::Target, Blame::Network, Blame::Client, Blame::Policy];

    /// Returns the value of the `blame` label.
    pub fn as_str(self) -> &'static str {
        match self {
            Blame::Target => "target",
            Blame::Network => "network",
            Blame::Client => "client",
            Blame::Policy => "policy",
        }
    }
}

macro_rules! failures {
    ($($(#[doc = $doc:literal])+ $variant:ident $label:literal $blame:ident,)+) => {
        /// The class of a failure, which is the value of a label. The set is closed: the text of an
        /// error never becomes a class. If a class is added, the code does not compile until the
        /// metrics handle it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Failure {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Failure {
            /// Every class, in the order in which they can occur during a request.
            pub const ALL: [Failure; [$(Failure::$variant),+].len()] = [$(Failure::$variant),+];

            /// Returns the value of the `reason` label.
            pub fn as_str(self) -> &'static str {
                match self { $(Failure::$variant => $label,)+ }
            }

            /// Returns the party at fault.
            pub fn blame(self) -> Blame {
                match self { $(Failure::$variant => Blame::$blame,)+ }
            }

            /// Returns a sentence for the documentation and the status page.
            pub fn meaning(self) -> &'static str {
                match self { $(Failure::$variant => concat!($($doc),+),)+ }
            }
        }
    };
}

failures! {
    /// The host name was not resolved to an address, or not within `timeouts.connect`.
    Dns "dns" Network,
    /// No process listens at the address.
    ConnectRefused "connect_refused" Target,
    /// The connection was not established within `timeouts.connect`.
    ConnectTimeout "connect_timeout" Network,
    /// The connection failed for another reason, such as an unreachable network.
    ConnectOther "connect_other" Network,
    /// The TLS handshake failed because of the certificate, the host name or the protocol.
    Tls "tls" Target,
    /// The machine of llmload ran out of file descriptors, ports or memory, or a prompt file
    /// changed.
    ClientResource "client_resource" Client,
    /// The connection broke before the response head arrived.
    Reset "reset" Target,
    /// The response is not valid HTTP.
    HttpProtocol "http_protocol" Target,
    /// No first token arrived within `timeouts.first_token`.
    TimeoutFirstToken "timeout_first_token" Target,
    /// After the first token, no data arrived for the time `timeouts.idle`.
    TimeoutIdle "timeout_idle" Target,
    /// The response was not complete within `timeouts.total`.
    TimeoutTotal "timeout_total" Target,
    /// HTTP status 401 or 403: the endpoint rejected the credentials.
    Auth "auth" Policy,
    /// The quota or the balance of the account is used up (HTTP status 402, or such an error).
    Quota "quota" Policy,
    /// HTTP status 429: the endpoint limits the rate of requests or tokens.
    RateLimited "rate_limited" Policy,
    /// HTTP status 503, 529 or 498: the endpoint is overloaded.
    Overloaded "overloaded" Target,
    /// Any other HTTP status 4xx: the endpoint rejected the request.
    Http4xx "http_4xx" Policy,
    /// Any other HTTP status 5xx: the endpoint failed.
    Http5xx "http_5xx" Target,
    /// An HTTP status that llmload cannot use: 1xx, 3xx, or a 2xx other than 200.
    HttpUnexpected "http_unexpected" Target,
    /// The HTTP status is 200, but the response is not the requested event stream.
    NotSse "not_sse" Target,
    /// The HTTP status is 200, but the response reports an error.
    StreamError "stream_error" Target,
    /// The connection broke after the response head and before the response was complete.
    Truncated "truncated" Target,
    /// The response ended normally, but without the sign that `terminal` requires, such as a finish
    /// reason.
    Incomplete "incomplete" Target,
    /// An event or a body is not valid UTF-8 or JSON, or its structure does not fit the API.
    BadFrame "bad_frame" Target,
    /// The response head, a line, an event or the body exceeded a limit of llmload.
    TooLarge "too_large" Target,
    /// A content filter withheld or shortened the response.
    Filtered "filtered" Policy,
    /// The response was complete but contained no text.
    EmptyOutput "empty_output" Target,
    /// A defect in llmload; please report it.
    Internal "internal" Client,
}

impl Failure {
    /// Returns true if a timeout ended the request.
    pub fn is_timeout(self) -> bool {
        use Failure::{ConnectTimeout, TimeoutFirstToken, TimeoutIdle, TimeoutTotal};
        matches!(self, ConnectTimeout | TimeoutFirstToken | TimeoutIdle | TimeoutTotal)
    }

    /// Returns true if the client could not connect to the endpoint.
    pub fn is_connecting(self) -> bool {
        use Failure::{ConnectOther, ConnectRefused, ConnectTimeout, Dns, Tls};
        matches!(self, Dns | ConnectRefused | ConnectTimeout | ConnectOther | Tls)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A failure with a message for people and, if known, its cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureDetail {
    /// The class. Metrics use only the class, not the message and not the cause.
    pub failure: Failure,
    /// The message of the endpoint or of the client. It is safe to print and has at most
    /// [`FailureDetail::MESSAGE_LIMIT`] bytes. Logs and the status page show the message. It is
    /// never the value of a label.
    pub message: String,
    /// The cause, if a more exact reason than the class is known.
    pub cause: Option<FailureCause>,
}

impl FailureDetail {
    /// The length to which a message is shortened, in bytes.
    pub const MESSAGE_LIMIT: usize = 256;

    /// Creates a failure without a cause. The message is made [`printable`].
    pub fn new(failure: Failure, message: &str) -> FailureDetail {
        FailureDetail { failure, message: printable(message, Self::MESSAGE_LIMIT), cause: None }
    }

    /// Returns the same failure with this cause.
    #[must_use]
    pub fn with_cause(self, cause: FailureCause) -> FailureDetail {
        FailureDetail { cause: Some(cause), ..self }
    }

    /// Returns the same failure with this message, made [`printable`].
    #[must_use]
    pub fn with_message(self, message: &str) -> FailureDetail {
        FailureDetail { message: printable(message, Self::MESSAGE_LIMIT), ..self }
    }
}

/// Makes a text from outside llmload safe to print. Replaces control characters, so the text cannot
/// forge log lines, and shortens the text to `limit` bytes.
pub fn printable(text: &str, limit: usize) -> String {
    let mut safe = String::with_capacity(text.len().min(limit));
    for c in text.trim().chars() {
        let c = if c.is_control() { ' ' } else { c };
        if safe.len() + c.len_utf8() + '…'.len_utf8() > limit {
            safe.push('…');
            break;
        }
        safe.push(c);
    }
    safe
}

/// The token counts in the `usage` of the endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The number of tokens in the prompt.
    pub input: u64,
    /// The number of generated tokens, including hidden reasoning.
    pub output: u64,
    /// The part of `input` that the engine found in its prefix cache.
    pub cached_input: u64,
    /// The part of `output` that is reasoning.
    pub reasoning: u64,
}

/// The reason why the model stopped, as the endpoint reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FinishReason {
    /// The model ended the text, or generated a stop sequence.
    Stop,
    /// The text reached the token limit.
    Length,
    /// The model calls a tool.
    ToolCalls,
    /// A content filter stopped the model.
    ContentFilter,
    /// The endpoint failed.
    Error,
    /// Any other reason.
    Other,
}

/// A deviation from the protocol in a successful response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Anomaly {
    /// The response contains no usage, although llmload requested usage (`include_usage`). The
    /// token metrics do not count this response.
    MissingUsage,
    /// The stream ended without `[DONE]`.
    MissingDone,
    /// The response contains no finish reason.
    MissingFinishReason,
    /// The response names another model than the request.
    ModelMismatch,
}

impl Anomaly {
    /// Every value, in the order in which the documentation lists them.
    pub const ALL: [Anomaly; 4] = [
        Anomaly::MissingUsage,
        Anomaly::MissingDone,
        Anomaly::MissingFinishReason,
        Anomaly::ModelMismatch,
    ];

    /// Returns the value of the `kind` label.
    pub fn as_str(self) -> &'static str {
        match self {
            Anomaly::MissingUsage => "missing_usage",
            Anomaly::MissingDone => "missing_done",
            Anomaly::MissingFinishReason => "missing_finish_reason",
            Anomaly::ModelMismatch => "model_mismatch",
        }
    }
}

/// A set of anomalies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Anomalies(u8);

impl Anomalies {
    /// Adds an anomaly if the condition is true.
    pub fn add_if(&mut self, anomaly: Anomaly, condition: bool) {
        self.0 |= u8::from(condition) << anomaly as u8;
    }

    /// Returns true if the anomaly is in the set.
    pub fn contains(self, anomaly: Anomaly) -> bool {
        self.0 & (1 << anomaly as u8) != 0
    }

    /// Returns the anomalies in the order of [`Anomaly::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Anomaly> {
        Anomaly::ALL.into_iter().filter(move |anomaly| self.contains(*anomaly))
    }
}

/// The instants of a successful request. The methods calculate all other values from the instants.
#[derive(Clone, Debug, PartialEq)]
pub struct Measurement {
    /// The due instant in the schedule.
    pub due: Instant,
    /// The instant at which llmload passed the request to the HTTP client. The time to connect
    /// follows this instant, so it is part of the duration.
    pub sent: Instant,
    /// The arrival of the first event with text on any channel. `None` without streaming.
    pub first_token: Option<Instant>,
    /// The arrival of the last event with text on any channel. `None` without streaming.
    pub last_token: Option<Instant>,
    /// The instant at which the response was complete.
    pub end: Instant,
    /// The token counts of the endpoint.
    pub usage: Option<Usage>,
    /// True if the response contained reasoning as text.
    pub reasoning_shown: bool,
    /// The deviations from the protocol.
    pub anomalies: Anomalies,
}

impl Measurement {
    /// Returns the duration of the request: `end − sent`.
    pub fn duration(&self) -> Duration {
        self.end.saturating_duration_since(self.sent)
    }

    /// Returns TTFT: `first_token − sent`. Returns `None` without streaming.
    pub fn time_to_first_token(&self) -> Option<Duration> {
        self.first_token.map(|first| first.saturating_duration_since(self.sent))
    }

    /// Returns `end − due`: the duration plus the dispatch lag.
    pub fn duration_from_schedule(&self) -> Duration {
        self.end.saturating_duration_since(self.due)
    }

    /// Returns TPOT, the time per output token: `(last_token − first_token) / (n − 1)`, where `n`
    /// is the number of output tokens that the endpoint counts. Returns `None` if `n` is less than
    /// 2 or unknown.
    ///
    /// The tokens of hidden reasoning are subtracted from `n`, because they are generated before
    /// the first visible token.
    #[allow(clippy::cast_precision_loss)]
    pub fn time_per_output_token(&self) -> Option<Duration> {
        let intervals = self.token_intervals()?;
        Some(Duration::from_secs_f64(self.decode_time()?.as_secs_f64() / intervals as f64))
    }

    /// Returns TPS, the output tokens per second of this request: `(n − 1) / (last_token −
    /// first_token)`. [`Measurement::time_per_output_token`] defines `n`. Returns `None` if all
    /// tokens arrived at the same instant.
    #[allow(clippy::cast_precision_loss)]
    pub fn tokens_per_second(&self) -> Option<f64> {
        let decode_time = self.decode_time().filter(|time| !time.is_zero())?;
        Some(self.token_intervals()? as f64 / decode_time.as_secs_f64())
    }

    /// Returns `last_token − first_token`.
    fn decode_time(&self) -> Option<Duration> {
        Some(self.last_token?.saturating_duration_since(self.first_token?))
    }

    /// Returns `n − 1`, the number of intervals between tokens, if `n` is at least 2.
    fn token_intervals(&self) -> Option<u64> {
        let usage = self.usage?;
        let hidden = if self.reasoning_shown { 0 } else { usage.reasoning };
        usage.output.saturating_sub(hidden).checked_sub(1).filter(|n| *n > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measurement(output: u64, reasoning: u64, reasoning_shown: bool) -> Measurement {
        let sent = Instant::now();
        let at = |millis| sent + Duration::from_millis(millis);
        Measurement {
            due: sent,
            sent,
            first_token: Some(at(100)),
            last_token: Some(at(400)),
            end: at(500),
            usage: Some(Usage { output, reasoning, ..Usage::default() }),
            reasoning_shown,
            anomalies: Anomalies::default(),
        }
    }

    #[test]
    fn a_set_of_anomalies_contains_the_added_anomalies() {
        let mut set = Anomalies::default();
        set.add_if(Anomaly::ModelMismatch, true);
        set.add_if(Anomaly::MissingUsage, true);
        set.add_if(Anomaly::MissingDone, false);
        assert_eq!(set.iter().collect::<Vec<_>>(), [Anomaly::MissingUsage, Anomaly::ModelMismatch]);
    }

    #[test]
    fn tpot_and_tps_follow_from_the_intervals_between_tokens() {
        let m = measurement(31, 0, false);
        assert_eq!(m.time_per_output_token(), Some(Duration::from_millis(10)));
        assert_eq!(m.tokens_per_second(), Some(100.0));
        assert_eq!(measurement(1, 0, false).time_per_output_token(), None);
        assert_eq!(measurement(0, 0, false).tokens_per_second(), None);
    }

    #[test]
    fn hidden_reasoning_does_not_count_in_tpot_and_tps() {
        assert_eq!(measurement(331, 300, false).tokens_per_second(), Some(100.0));
        assert_eq!(measurement(331, 300, true).tokens_per_second(), Some(1100.0));
        assert_eq!(measurement(300, 300, false).tokens_per_second(), None);
    }

    #[test]
    fn tokens_that_arrived_at_one_instant_have_no_tps() {
        let mut m = measurement(31, 0, false);
        m.last_token = m.first_token;
        assert_eq!(m.tokens_per_second(), None);
        assert_eq!(m.time_per_output_token(), Some(Duration::ZERO));
    }

    #[test]
    fn a_message_cannot_forge_a_log_line_and_is_bounded() {
        let long = format!("a\nb\u{1b}[31m{}", "é".repeat(500));
        let detail = FailureDetail::new(Failure::StreamError, &long);
        assert!(detail.message.len() <= FailureDetail::MESSAGE_LIMIT);
        assert!(!detail.message.contains(char::is_control));
        assert!(detail.message.ends_with('…'));
        assert_eq!(FailureDetail::new(Failure::Auth, " no key ").message, "no key");
    }
}
