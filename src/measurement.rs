//! What one request amounted to: its timeline of raw marks, every number derived from them, and
//! how it ended.
//!
//! Each derived figure (TTFT, TPOT, tokens per second …) is defined here once; metrics, reports and
//! dashboards only carry it on. Nothing here reads a clock: marks arrive as instants.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

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
    /// Another 4xx: the request was refused.
    Http4xx "http_4xx" Policy,
    /// Another 5xx: the endpoint failed.
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
    /// A line, event or body exceeded its bound.
    TooLarge "too_large" Target,
    /// The answer was withheld or cut by a content filter.
    Filtered "filtered" Policy,
    /// The answer ended well and held nothing.
    EmptyOutput "empty_output" Target,
    /// A defect in llmload; please report it.
    Internal "internal" Client,
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
}

impl FailureDetail {
    /// The longest message kept, in bytes.
    pub const MESSAGE_LIMIT: usize = 256;

    /// A failure with its text cut to length and without control characters: it may come from the
    /// endpoint and must not forge log lines.
    pub fn new(failure: Failure, message: &str) -> FailureDetail {
        let mut safe = String::with_capacity(message.len().min(Self::MESSAGE_LIMIT));
        for c in message.trim().chars() {
            let c = if c.is_control() { ' ' } else { c };
            if safe.len() + c.len_utf8() > Self::MESSAGE_LIMIT - '…'.len_utf8() {
                safe.push('…');
                break;
            }
            safe.push(c);
        }
        FailureDetail {
            failure,
            message: safe,
        }
    }
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
