//! The measurement of one request: its instants, the values derived from them, and its failure.
//!
//! Metrics, reports and dashboards show the values that this file defines. This module reads no
//! clock; the caller passes each instant.
//!
//! | value | formula | unit |
//! |---|---|---|
//! | TTFT, time to first token | `first_token − sent` | seconds |
//! | TTFO, time to first answer token | `first_answer_token − sent` | seconds |
//! | TPOT, time per output token | `(last_token − first_token) / (n − 1)` | seconds per token |
//! | TPS, output tokens per second | `(n − 1) / (last_token − first_token)` | tokens per second |
//! | duration | `end − sent` | seconds |
//!
//! `n` is the number of output tokens in the `usage` of the response. The first token can be
//! reasoning text, because the model needs the same time for it. TTFO exists only if reasoning came
//! before the answer.
//!
//! If all tokens arrived at once, TPOT and TPS are undefined, and no metric counts them.
//! [`MIN_DECODE_TIME`] and [`MIN_TOKEN_TIME`] define "at once".
//!
//! The `MLPerf` Inference rules and vLLM's `bench serve` define TTFT and TPOT in the same way.
//!
//! A failed request has these values:
//!
//! * [`Failure`], the class, such as `tls` or `timeout_idle`, is the value of a label.
//! * [`FailureDetail`] adds a message for people and, if known, the cause.
//! * [`FailureCause`] is more exact than the class and selects a remedy. Its enums [`TlsFault`] and
//!   [`ClientFault`] divide `tls` and `client_resource`.

mod anomaly;
mod cause;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

pub use anomaly::{Anomalies, Anomaly};
pub use cause::{ClientFault, FailureCause, LookupFault, TlsFault};

/// The party at fault for a failure. An objective can ignore failures that are not the fault of the
/// endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Blame {
    Target,
    /// The network between llmload and the endpoint, or the name resolution.
    Network,
    Client,
    /// A rule of the endpoint, such as a required key, a quota, a rate limit or a content filter.
    Policy,
}

impl Blame {
    /// Every value, in the order in which the documentation lists them.
    pub const ALL: [Blame; 4] = [Blame::Target, Blame::Network, Blame::Client, Blame::Policy];

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
        /// The class of a failure, which is the value of a label. The text of an error never
        /// becomes a class.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Failure {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Failure {
            /// Every class, in the order in which they can occur during a request.
            pub const ALL: [Failure; [$(Failure::$variant),+].len()] = [$(Failure::$variant),+];

            pub fn as_str(self) -> &'static str {
                match self { $(Failure::$variant => $label,)+ }
            }

            pub fn blame(self) -> Blame {
                match self { $(Failure::$variant => Blame::$blame,)+ }
            }

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
    /// The machine of llmload ran out of file descriptors, ports, threads or memory, no HTTP/2
    /// stream was free before the timeout, or a prompt file changed.
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
    /// reason, or without a vector for each input.
    Incomplete "incomplete" Target,
    /// An event or a body is not valid JSON, or its structure does not fit the API.
    BadFrame "bad_frame" Target,
    /// The response head, an event, the number of events or the body exceeded a limit of llmload.
    TooLarge "too_large" Target,
    /// A content filter withheld or shortened the response.
    Filtered "filtered" Policy,
    /// The response was complete but contained no text, or an empty vector.
    EmptyOutput "empty_output" Target,
    /// A defect in llmload; please report it.
    Internal "internal" Client,
}

impl Failure {
    pub fn is_timeout(self) -> bool {
        use Failure::{ConnectTimeout, TimeoutFirstToken, TimeoutIdle, TimeoutTotal};
        matches!(self, ConnectTimeout | TimeoutFirstToken | TimeoutIdle | TimeoutTotal)
    }

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

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureDetail {
    pub failure: Failure,
    /// A message for logs and the status page, never for a label. It is [`printable`] and has at
    /// most [`FailureDetail::MESSAGE_LIMIT`] bytes.
    pub message: String,
    pub cause: Option<FailureCause>,
    /// True if llmload certainly sent no part of the request.
    pub is_unsent: bool,
}

impl FailureDetail {
    /// In bytes.
    pub const MESSAGE_LIMIT: usize = 256;

    pub fn new(failure: Failure, message: &str) -> FailureDetail {
        let message = printable(message, Self::MESSAGE_LIMIT);
        FailureDetail { failure, message, cause: None, is_unsent: false }
    }

    #[must_use]
    pub fn with_cause(self, cause: FailureCause) -> FailureDetail {
        FailureDetail { cause: Some(cause), ..self }
    }

    #[must_use]
    pub fn unsent(self) -> FailureDetail {
        FailureDetail { is_unsent: true, ..self }
    }

    #[must_use]
    pub fn with_message(self, message: &str) -> FailureDetail {
        FailureDetail { message: printable(message, Self::MESSAGE_LIMIT), ..self }
    }
}

/// Makes a text from a server safe for a log. Replaces control characters, which could forge a log
/// line, and keeps at most `limit` bytes.
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

/// The token counts in the `usage` of a response. `None` is an unknown count, which is not 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub input: Option<u64>,
    /// The number of generated tokens, including hidden reasoning.
    pub output: Option<u64>,
    /// The part of `input` that was in the prefix cache.
    pub cached_input: Option<u64>,
    /// The part of `output` that is reasoning.
    pub reasoning: Option<u64>,
}

impl Usage {
    /// Fills each unknown count from an earlier `usage` of the same response.
    #[must_use]
    pub fn or(self, earlier: Usage) -> Usage {
        Usage {
            input: self.input.or(earlier.input),
            output: self.output.or(earlier.output),
            cached_input: self.cached_input.or(earlier.cached_input),
            reasoning: self.reasoning.or(earlier.reasoning),
        }
    }

    /// Adds the counts of another response. An unknown count adds nothing.
    pub fn add(&mut self, other: Usage) {
        let sum = |total: &mut Option<u64>, more: Option<u64>| {
            *total = total.zip(more).map(|(total, more)| total + more).or(*total).or(more);
        };
        sum(&mut self.input, other.input);
        sum(&mut self.output, other.output);
        sum(&mut self.cached_input, other.cached_input);
        sum(&mut self.reasoning, other.reasoning);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FinishReason {
    /// The model ended the text, or generated a stop sequence.
    Stop,
    Length,
    ToolCalls,
    ContentFilter,
    Error,
    Other,
}

/// If the time from the first to the last token is shorter, TPOT and TPS are undefined.
///
/// The event loop notices a read some tens of microseconds late. In a decode time of 0.1 ms, this
/// error would be half of the value.
pub const MIN_DECODE_TIME: Duration = Duration::from_millis(1);

/// If the mean time between two tokens is shorter, TPOT and TPS are undefined.
///
/// The fastest engines need some hundreds of microseconds for a token. If a proxy has buffered the
/// stream, llmload reads a token every few microseconds. This would measure llmload or the proxy.
pub const MIN_TOKEN_TIME: Duration = Duration::from_micros(10);

#[derive(Clone, Debug, PartialEq)]
pub struct Measurement {
    pub due: Instant,
    /// When llmload passed the request to the HTTP client. The time to connect comes after it.
    pub sent: Instant,
    /// The first event with text, including reasoning. `None` without streaming.
    pub first_token: Option<Instant>,
    /// The first event with text that is not reasoning. `None` if no reasoning came before it,
    /// because it is then the first token.
    pub first_answer_token: Option<Instant>,
    /// The last event with text, including reasoning. `None` without streaming.
    pub last_token: Option<Instant>,
    /// When the response was complete.
    pub end: Instant,
    pub usage: Usage,
    /// The number of events with text.
    pub token_events: u32,
    /// True if the response contained text of reasoning.
    pub reasoning_shown: bool,
    pub anomalies: Anomalies,
}

impl Measurement {
    /// Returns `end − sent`.
    pub fn duration(&self) -> Duration {
        self.end.saturating_duration_since(self.sent)
    }

    pub fn time_to_first_token(&self) -> Option<Duration> {
        self.first_token.map(|first| first.saturating_duration_since(self.sent))
    }

    /// Returns TTFO.
    pub fn time_to_first_answer_token(&self) -> Option<Duration> {
        self.first_answer_token.map(|first| first.saturating_duration_since(self.sent))
    }

    /// Returns `end − due`, which is the duration plus the dispatch lag (`sent − due`).
    pub fn duration_from_schedule(&self) -> Duration {
        self.end.saturating_duration_since(self.due)
    }

    /// Returns TPOT: `(last_token − first_token) / (n − 1)`. `None` if `n` is unknown or less than
    /// 2, or if the tokens arrived at once.
    ///
    /// `n` excludes hidden reasoning, because the model generates it before the first visible
    /// token.
    #[allow(clippy::cast_precision_loss)]
    pub fn time_per_output_token(&self) -> Option<Duration> {
        let intervals = self.token_intervals()?;
        let time = self.decode_time()?;
        self.has_decode_time(intervals)
            .then(|| Duration::from_secs_f64(time.as_secs_f64() / intervals as f64))
    }

    /// Returns TPS, which is 1 / TPOT.
    #[allow(clippy::cast_precision_loss)]
    pub fn tokens_per_second(&self) -> Option<f64> {
        let intervals = self.token_intervals()?;
        let time = self.decode_time()?;
        self.has_decode_time(intervals).then(|| intervals as f64 / time.as_secs_f64())
    }

    /// Returns true if at least two tokens arrived at once. Without `usage`, counts each event with
    /// text as one token.
    pub fn is_coalesced(&self) -> bool {
        let intervals = match self.usage.output {
            Some(_) => self.token_intervals(),
            None => self.token_events.checked_sub(1).filter(|n| *n > 0).map(u64::from),
        };
        self.decode_time().is_some()
            && intervals.is_some_and(|intervals| !self.has_decode_time(intervals))
    }

    fn has_decode_time(&self, intervals: u64) -> bool {
        let shortest = MIN_TOKEN_TIME.as_nanos() * u128::from(intervals);
        self.decode_time()
            .is_some_and(|time| time >= MIN_DECODE_TIME && time.as_nanos() >= shortest)
    }

    fn decode_time(&self) -> Option<Duration> {
        Some(self.last_token?.saturating_duration_since(self.first_token?))
    }

    /// Returns `n − 1` if `n` is at least 2.
    fn token_intervals(&self) -> Option<u64> {
        let hidden = if self.reasoning_shown { 0 } else { self.usage.reasoning.unwrap_or(0) };
        self.usage.output?.saturating_sub(hidden).checked_sub(1).filter(|n| *n > 0)
    }
}

#[cfg(test)]
mod tests;
