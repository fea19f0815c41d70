//! What one request amounted to: its timeline of raw marks, every number derived from them, and
//! how it ended.
//!
//! Each derived figure (TTFT, TPOT, tokens per second …) is defined here once; metrics, reports and
//! dashboards only carry it on. Nothing here reads a clock: marks arrive as instants.

mod cause;

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

pub use cause::{FailureCause, TlsFault};

/// Whom a failure speaks against. A function of [`Failure`], so that an objective can leave out
/// what was not the endpoint's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Blame {
    /// The endpoint under load.
    Target,
    /// Something between the two: name resolution, routes.
    Network,
    /// llmload or the machine it runs on.
    Client,
    /// The endpoint did what it was told: a key, a quota, a content rule.
    Policy,
}

impl Blame {
    /// Every value, in the order of the label's documentation.
    pub const ALL: [Blame; 4] = [Blame::Target, Blame::Network, Blame::Client, Blame::Policy];

    /// The value of the `blame` label.
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
        /// Why a request that was sent did not succeed. The set is closed: an error's text is never
        /// a class, and a new class does not compile until metrics know it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Failure {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Failure {
            /// Every class, in the order of a request's life.
            pub const ALL: [Failure; [$(Failure::$variant),+].len()] = [$(Failure::$variant),+];

            /// The value of the `reason` label.
            pub fn as_str(self) -> &'static str {
                match self { $(Failure::$variant => $label,)+ }
            }

            /// Whom it speaks against.
            pub fn blame(self) -> Blame {
                match self { $(Failure::$variant => Blame::$blame,)+ }
            }

            /// One sentence for the documentation and the status page.
            pub fn meaning(self) -> &'static str {
                match self { $(Failure::$variant => concat!($($doc),+),)+ }
            }
        }
    };
}

failures! {
    /// The host name did not resolve.
    Dns "dns" Network,
    /// Nothing listens at the address.
    ConnectRefused "connect_refused" Target,
    /// The connection was not established within `timeouts.connect`.
    ConnectTimeout "connect_timeout" Network,
    /// Another error while connecting, such as no route to the host.
    ConnectOther "connect_other" Network,
    /// The TLS handshake failed: certificate, name or protocol.
    Tls "tls" Target,
    /// This machine ran out of something: file descriptors, ports, memory.
    ClientResource "client_resource" Client,
    /// A kept-alive connection proved dead before the first byte of the answer.
    StaleConnection "stale_connection" Client,
    /// The connection was reset before the response head.
    Reset "reset" Target,
    /// The answer is not valid HTTP.
    HttpProtocol "http_protocol" Target,
    /// No first token within `timeouts.first_token`.
    TimeoutFirstToken "timeout_first_token" Target,
    /// The stream fell silent for `timeouts.idle` after its first token.
    TimeoutIdle "timeout_idle" Target,
    /// The answer was not complete within `timeouts.total`.
    TimeoutTotal "timeout_total" Target,
    /// 401 or 403: the credentials were not accepted.
    Auth "auth" Policy,
    /// 402, or a body that says the account's quota or balance is used up.
    Quota "quota" Policy,
    /// 429: the endpoint limits the rate.
    RateLimited "rate_limited" Policy,
    /// 503, 529 or 498: the endpoint says that it is overloaded.
    Overloaded "overloaded" Target,
    /// A 4xx without a class of its own: the endpoint refused the request.
    Http4xx "http_4xx" Policy,
    /// A 5xx other than an overload: the endpoint failed.
    Http5xx "http_5xx" Target,
    /// A status that does not answer such a request: 1xx, 204, 205, 3xx, another 2xx.
    HttpUnexpected "http_unexpected" Target,
    /// 200, but not the event stream that was asked for.
    NotSse "not_sse" Target,
    /// An error object inside a 200 answer.
    StreamError "stream_error" Target,
    /// The connection broke in the middle of the answer.
    Truncated "truncated" Target,
    /// The answer ended cleanly but without the end that `terminal` names.
    Incomplete "incomplete" Target,
    /// An event is not valid UTF-8 or JSON, or not of the API's shape.
    BadFrame "bad_frame" Target,
    /// A head, line, event or body exceeded its bound.
    TooLarge "too_large" Target,
    /// The answer was withheld or cut by a content filter.
    Filtered "filtered" Policy,
    /// The answer ended well and held nothing.
    EmptyOutput "empty_output" Target,
    /// A defect in llmload; please report it.
    Internal "internal" Client,
}

impl Failure {
    /// Whether it took longer than was granted.
    pub fn is_timeout(self) -> bool {
        use Failure::{ConnectTimeout, TimeoutFirstToken, TimeoutIdle, TimeoutTotal};
        matches!(self, ConnectTimeout | TimeoutFirstToken | TimeoutIdle | TimeoutTotal)
    }

    /// Whether no connection came about.
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

/// What a failed request left behind for people: its class and the text that came with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureDetail {
    /// The class, which is all that metrics see.
    pub failure: Failure,
    /// The endpoint's or the client's own words, made safe to print and at most
    /// [`FailureDetail::MESSAGE_LIMIT`] bytes. Shown in logs and on the status page, never a label.
    pub message: String,
    /// The cause, if the code that saw the error knows more than its class.
    pub cause: Option<FailureCause>,
}

impl FailureDetail {
    /// The longest message kept, in bytes.
    pub const MESSAGE_LIMIT: usize = 256;

    /// A failure with its words, made [`printable`].
    pub fn new(failure: Failure, message: &str) -> FailureDetail {
        FailureDetail { failure, message: printable(message, Self::MESSAGE_LIMIT), cause: None }
    }

    /// The same failure with its cause.
    #[must_use]
    pub fn with_cause(self, cause: FailureCause) -> FailureDetail {
        FailureDetail { cause: Some(cause), ..self }
    }

    /// The same failure with another message, made [`printable`].
    #[must_use]
    pub fn with_message(self, message: &str) -> FailureDetail {
        FailureDetail { message: printable(message, Self::MESSAGE_LIMIT), ..self }
    }
}

/// Text from outside, fit to be shown: at most `limit` bytes, and without control characters, so
/// that it cannot forge log lines.
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

/// Tokens as the endpoint's own `usage` counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub input: u64,
    /// Tokens generated, hidden reasoning included.
    pub output: u64,
    /// The part of `input` that came from a prefix cache.
    pub cached_input: u64,
    /// The part of `output` spent on reasoning.
    pub reasoning: u64,
}

/// Why the endpoint says it stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FinishReason {
    /// A natural end or a stop sequence.
    Stop,
    /// The token limit.
    Length,
    /// The model calls a tool.
    ToolCalls,
    /// A content filter.
    ContentFilter,
    /// The endpoint says it failed.
    Error,
    /// Any other reason.
    Other,
}

/// How a success bent the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Anomaly {
    /// No usage came, though it was asked for: its tokens are not counted.
    MissingUsage,
    /// A stream ended without `[DONE]`.
    MissingDone,
    /// No finish reason came.
    MissingFinishReason,
    /// The answer names another model than the request.
    ModelMismatch,
}

impl Anomaly {
    /// Every value, in the order of the label's documentation.
    pub const ALL: [Anomaly; 4] = [
        Anomaly::MissingUsage,
        Anomaly::MissingDone,
        Anomaly::MissingFinishReason,
        Anomaly::ModelMismatch,
    ];

    /// The value of the `kind` label.
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
    /// Adds one where `holds`.
    pub fn note(&mut self, anomaly: Anomaly, holds: bool) {
        self.0 |= u8::from(holds) << anomaly as u8;
    }

    /// Whether it is in the set.
    pub fn contains(self, anomaly: Anomaly) -> bool {
        self.0 & (1 << anomaly as u8) != 0
    }

    /// What is in the set, in the order of [`Anomaly::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Anomaly> {
        Anomaly::ALL.into_iter().filter(move |anomaly| self.contains(*anomaly))
    }
}

/// The raw marks of a request that succeeded, and every figure derived from them.
#[derive(Clone, Debug, PartialEq)]
pub struct Measurement {
    /// When the schedule wanted it sent.
    pub due: Instant,
    /// When it was handed to the HTTP client, connecting included in what follows.
    pub sent: Instant,
    /// The first event that carried text of any kind; `None` without streaming.
    pub first_token: Option<Instant>,
    /// The last such event.
    pub last_token: Option<Instant>,
    /// When the answer was complete.
    pub end: Instant,
    /// What the endpoint counted.
    pub usage: Option<Usage>,
    /// Whether reasoning was sent as text.
    pub reasoning_shown: bool,
    /// How it bent the protocol.
    pub anomalies: Anomalies,
}

impl Measurement {
    /// From sending to the end.
    pub fn duration(&self) -> Duration {
        self.end.saturating_duration_since(self.sent)
    }

    /// From sending to the first token, where there was one to see.
    pub fn time_to_first_token(&self) -> Option<Duration> {
        self.first_token.map(|first| first.saturating_duration_since(self.sent))
    }

    /// From the due instant to the end.
    pub fn duration_from_schedule(&self) -> Duration {
        self.end.saturating_duration_since(self.due)
    }

    /// TPOT: (last token − first token) / (n − 1), with n ≥ 2 tokens as the endpoint counted them.
    /// Reasoning that was never shown lies before the first token and does not count.
    #[allow(clippy::cast_precision_loss)]
    pub fn time_per_output_token(&self) -> Option<Duration> {
        let intervals = self.intervals()?;
        Some(Duration::from_secs_f64(self.decoding()?.as_secs_f64() / intervals as f64))
    }

    /// TPS of this request: (n − 1) / (last token − first token), where that time is not zero.
    #[allow(clippy::cast_precision_loss)]
    pub fn tokens_per_second(&self) -> Option<f64> {
        let decoding = self.decoding().filter(|time| !time.is_zero())?;
        Some(self.intervals()? as f64 / decoding.as_secs_f64())
    }

    fn decoding(&self) -> Option<Duration> {
        Some(self.last_token?.saturating_duration_since(self.first_token?))
    }

    /// n − 1, where n ≥ 2.
    fn intervals(&self) -> Option<u64> {
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
    fn token_rates_come_from_the_intervals_between_tokens() {
        let m = measurement(31, 0, false);
        assert_eq!(m.time_per_output_token(), Some(Duration::from_millis(10)));
        assert_eq!(m.tokens_per_second(), Some(100.0));
        assert_eq!(measurement(1, 0, false).time_per_output_token(), None);
        assert_eq!(measurement(0, 0, false).tokens_per_second(), None);
    }

    #[test]
    fn reasoning_counts_only_where_it_was_shown() {
        assert_eq!(measurement(331, 300, false).tokens_per_second(), Some(100.0));
        assert_eq!(measurement(331, 300, true).tokens_per_second(), Some(1100.0));
        assert_eq!(measurement(300, 300, false).tokens_per_second(), None);
    }

    #[test]
    fn tokens_that_came_all_at_once_have_no_speed() {
        let mut m = measurement(31, 0, false);
        m.last_token = m.first_token;
        assert_eq!(m.tokens_per_second(), None);
        assert_eq!(m.time_per_output_token(), Some(Duration::ZERO));
    }

    #[test]
    fn a_message_cannot_forge_a_log_line_and_has_an_end() {
        let long = format!("a\nb\u{1b}[31m{}", "é".repeat(500));
        let detail = FailureDetail::new(Failure::StreamError, &long);
        assert!(detail.message.len() <= FailureDetail::MESSAGE_LIMIT);
        assert!(!detail.message.contains(char::is_control));
        assert!(detail.message.ends_with('…'));
        assert_eq!(FailureDetail::new(Failure::Auth, " no key ").message, "no key");
    }
}
