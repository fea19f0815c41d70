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
//! TPOT and TPS are undefined if the tokens arrived at once. [`MIN_DECODE_TIME`] and
//! [`MIN_TOKEN_TIME`] define "at once". An undefined value is observed nowhere.
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

mod anomaly;
mod cause;

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

pub use anomaly::{Anomalies, Anomaly};
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
    /// reason.
    Incomplete "incomplete" Target,
    /// An event or a body is not valid JSON, or its structure does not fit the API.
    BadFrame "bad_frame" Target,
    /// The response head, an event, the number of events or the body exceeded a limit of llmload.
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

/// The token counts in the `usage` of the endpoint. A count that the endpoint does not report is
/// `None`, because an unknown count is not 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The number of tokens in the prompt.
    pub input: Option<u64>,
    /// The number of generated tokens, including hidden reasoning.
    pub output: Option<u64>,
    /// The part of `input` that the engine found in its prefix cache.
    pub cached_input: Option<u64>,
    /// The part of `output` that is reasoning.
    pub reasoning: Option<u64>,
}

impl Usage {
    /// Returns these counts, completed by the counts of an earlier usage of the same response.
    #[must_use]
    pub fn or(self, earlier: Usage) -> Usage {
        Usage {
            input: self.input.or(earlier.input),
            output: self.output.or(earlier.output),
            cached_input: self.cached_input.or(earlier.cached_input),
            reasoning: self.reasoning.or(earlier.reasoning),
        }
    }

    /// Adds the counts of another response. A sum is `None` until the first count is added.
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

/// The shortest time from the first to the last token that has information about the speed of the
/// endpoint.
///
/// The instant of a read is late by the time that the event loop needs to notice the bytes. This
/// time is some tens of microseconds on an idle machine. In a shorter decode time than this
/// constant, the error would be a large part of the value.
pub const MIN_DECODE_TIME: Duration = Duration::from_millis(1);

/// The shortest mean time between two tokens that has information about the speed of the endpoint.
///
/// If all events of a stream wait in the buffer of a socket, llmload reads them as fast as it can,
/// which takes some microseconds for each event. Below this constant, the value would describe
/// llmload or a proxy. The fastest engines need some hundreds of microseconds for a token.
pub const MIN_TOKEN_TIME: Duration = Duration::from_micros(10);

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
    pub usage: Usage,
    /// The number of events with text.
    pub token_events: u32,
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
    /// 2 or unknown, and if the tokens arrived at once.
    ///
    /// The tokens of hidden reasoning are subtracted from `n`, because they are generated before
    /// the first visible token.
    #[allow(clippy::cast_precision_loss)]
    pub fn time_per_output_token(&self) -> Option<Duration> {
        let intervals = self.token_intervals()?;
        let time = self.decode_time()?;
        self.has_decode_time(intervals)
            .then(|| Duration::from_secs_f64(time.as_secs_f64() / intervals as f64))
    }

    /// Returns TPS, the output tokens per second of this request: `(n − 1) / (last_token −
    /// first_token)`. It is the inverse of [`Measurement::time_per_output_token`], and it is `None`
    /// for the same responses.
    #[allow(clippy::cast_precision_loss)]
    pub fn tokens_per_second(&self) -> Option<f64> {
        let intervals = self.token_intervals()?;
        let time = self.decode_time()?;
        self.has_decode_time(intervals).then(|| intervals as f64 / time.as_secs_f64())
    }

    /// Returns true if the response has at least two tokens and they arrived at once, so their
    /// speed is unknown. If the endpoint did not count the tokens, each event with text counts as a
    /// token. Returns false without streaming.
    pub fn is_coalesced(&self) -> bool {
        let intervals = match self.usage.output {
            Some(_) => self.token_intervals(),
            None => self.token_events.checked_sub(1).filter(|n| *n > 0).map(u64::from),
        };
        self.decode_time().is_some()
            && intervals.is_some_and(|intervals| !self.has_decode_time(intervals))
    }

    /// Returns true if the time from the first to the last token is long enough to compute a speed
    /// from it.
    fn has_decode_time(&self, intervals: u64) -> bool {
        let shortest = MIN_TOKEN_TIME.as_nanos() * u128::from(intervals);
        self.decode_time()
            .is_some_and(|time| time >= MIN_DECODE_TIME && time.as_nanos() >= shortest)
    }

    /// Returns `last_token − first_token`.
    fn decode_time(&self) -> Option<Duration> {
        Some(self.last_token?.saturating_duration_since(self.first_token?))
    }

    /// Returns `n − 1`, the number of intervals between tokens, if `n` is at least 2.
    fn token_intervals(&self) -> Option<u64> {
        let hidden = if self.reasoning_shown { 0 } else { self.usage.reasoning.unwrap_or(0) };
        self.usage.output?.saturating_sub(hidden).checked_sub(1).filter(|n| *n > 0)
    }
}

#[cfg(test)]
mod tests;
