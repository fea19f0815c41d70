//! The built-in OpenAI-compatible endpoint.

mod answer;
mod ask;
mod engine;
mod fate;
mod generation;
mod pace;
mod prose;

use std::time::Duration;

/// How the simulated endpoint behaves.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The one model it serves.
    pub model: String,
    /// Requests it works on at once; more wait in the queue. Zero counts as one.
    pub slots: u32,
    /// Requests that may wait; one more is refused with 503.
    pub queue: u32,
    /// Prompt tokens read per second by one slot.
    pub prefill_tokens_per_second: f64,
    /// Output tokens per second of one request while it is alone.
    pub decode_tokens_per_second: f64,
    /// Share of `decode_tokens_per_second` that is left to each request when every slot is busy (0 to 1).
    pub full_load_speed: f64,
    /// Relative standard deviation of each delay (0 to 1).
    pub jitter: f64,
    /// Reasoning tokens before each answer; 0 for none.
    pub reasoning_tokens: u32,
    /// Time after start during which every request is answered 503, as a server that loads its
    /// model does; only `/metrics` answers as always.
    pub loading: Duration,
    /// Faults, each with the share of requests that meet it.
    pub faults: Faults,
    /// Everything random follows from it.
    pub seed: u64,
}

/// The share (0 to 1) of requests that meet each fault; together at most 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    /// Answered 429 at once, with `retry-after`.
    pub http_429: f64,
    /// Answered 500 at once.
    pub http_500: f64,
    /// Connection reset before the response head.
    pub reset: f64,
    /// Nothing more after a few tokens, until the client gives up.
    pub stall: f64,
    /// An error object inside the 200 stream after a few tokens.
    pub stream_error: f64,
    /// The connection breaks in the middle of the stream.
    pub truncation: f64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            model: "simulated-8b".into(),
            slots: 16,
            queue: 256,
            prefill_tokens_per_second: 4000.0,
            decode_tokens_per_second: 60.0,
            full_load_speed: 0.5,
            jitter: 0.1,
            reasoning_tokens: 0,
            loading: Duration::ZERO,
            faults: Faults::default(),
            seed: 0,
        }
    }
}
