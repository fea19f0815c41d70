//! The configuration of the chaos test, and the number of arrivals that each scenario must have.

use std::fmt::Write as _;
use std::net::SocketAddr;

use tokio::time::Instant;

use super::guarded::{CONCURRENCY, PAUSE, PER_MINUTE};
use super::tls::Secure;

/// The scenarios whose schedules no action changes, with the area of their schedules in arrivals
/// per second of the test.
pub const FIXED: [(&str, f64); 5] =
    [("steady", 21.5), ("away", 8.0), ("paired", 5.0), ("secure", 5.0), ("streams", 8.0)];

/// The settings that the actions change.
#[derive(Clone, Debug)]
pub struct Settings {
    pub seconds: u32,
    pub seed: u64,
    /// The server with the faults listens on both.
    pub wire: [SocketAddr; 2],
    /// The servers behind TLS.
    pub secure: Secure,
    /// The simulator in another process.
    pub away: SocketAddr,
    /// The servers behind guards: with a rate limit, a budget and a breaker.
    pub limited: SocketAddr,
    pub paid: SocketAddr,
    pub fragile: SocketAddr,
    /// False if the schedules of the scenarios with guards only wait.
    pub has_guarded_load: bool,
    /// The address of `wire` that is used.
    pub address: usize,
    /// The rate of the scenario `varied`, in requests per second. 0 is a schedule that only waits.
    pub rate: u32,
    pub archive: &'static str,
    pub has_guest: bool,
    pub has_closed_loop: bool,
    pub max_tokens: u32,
}

impl Settings {
    pub fn yaml(&self) -> String {
        let Settings { seconds, seed, rate, archive, max_tokens, limited, paid, fragile, .. } =
            self;
        let (wire, away) = (self.wire[self.address], self.away);
        let Secure { http1, http2 } = self.secure;
        let part = |tenths: u32| format!("{}ms", tenths * seconds * 100);
        let credentials = "api_key_env: CANARY_KEY, headers: {x-session: {env: CANARY_HEADER}}, \
                           query: {sig: {env: CANARY_QUERY}}, \
                           extra_body: {api_key: sk-cAnArY-body/0123456789}";
        let timeouts = "timeouts: {connect: 1s, first_token: 800ms, idle: 500ms, total: 3s}";
        // A request that llmload gave up could reach a busy server at any time.
        let patient = "timeouts: {connect: 1m, first_token: 2m, idle: 2m, total: 5m}";
        let varied = schedule(*rate);
        let mut yaml = format!(
            "seed: {seed}
metrics: {{max_combinations: 16}}
failures: {{dir: {archive}, max_bytes: 1MiB, prompts: full}}
state_dir: state
targets:
  wire: {{base_url: 'http://{wire}/v1', model: m, {credentials}, {timeouts}}}
  secure:
    {{base_url: 'https://{http1}/v1', model: m, {credentials}, {timeouts},
      tls: {{insecure_skip_verify: true}}}}
  streams:
    {{base_url: 'https://{http2}/v1', model: m, {credentials}, {timeouts}, http2: true,
      tls: {{insecure_skip_verify: true}}}}
  away: {{base_url: 'http://{away}/v1', model: simulated-8b, {timeouts}}}
  inside:
    simulator:
      slots: 8
      decode_tokens_per_second: 400
      faults: {{http_429: 5%, http_500: 5%, reset: 5%, stall: 5%, stream_error: 5%, truncation: 5%}}
    model: simulated-8b
    {timeouts}
  limited:
    base_url: 'http://{limited}/v1'
    model: m
    {patient}
    rate_limits: {{requests_per_minute: {PER_MINUTE}, retry_after: true}}
  paid: {{base_url: 'http://{paid}/v1', model: m, {patient}}}
  fragile: {{base_url: 'http://{fragile}/v1', model: m, {patient}}}
scenarios:
  steady:
    {{target: wire, start: now, repeat: 1, max_concurrency: 40, schedule: [
      {{name: level, constant: 25/s, for: {four}}},
      {{name: fall, ramp: {{from: 25/s, to: 10/s}}, for: {four}}},
      {{name: wave, sine: {{mean: 22.5/s, amplitude: 20/s, period: {two}}}, for: {two}}}]}}
  away:
    {{target: away, start: now, repeat: 1, max_concurrency: 30, request: {{max_tokens: 8}},
      schedule: [{{constant: 8/s, for: {seconds}s}}]}}
  secure:
    {{target: secure, start: now, repeat: 1, max_concurrency: 20,
      schedule: [{{constant: 5/s, for: {seconds}s}}]}}
  streams:
    {{target: streams, start: now, repeat: 1, max_concurrency: 20,
      schedule: [{{constant: 8/s, for: {seconds}s}}]}}
  paired:
    {{targets: [wire, inside], start: now, repeat: 1, max_concurrency: 10,
      request: {{max_tokens: {max_tokens}}}, schedule: [{{constant: 5/s, for: {seconds}s}}]}}
  varied: {{target: wire, start: now, max_concurrency: 30, schedule: {varied}}}
  manual:
    {{target: inside, start: now, max_concurrency: 20, request: {{max_tokens: {max_tokens}}},
      schedule: [{{constant: 4/s, for: 1h}}]}}
",
            four = part(4),
            two = part(2),
        );
        yaml += &self.guarded();
        if self.has_closed_loop {
            yaml += "  closed: {target: wire, start: now, concurrency: 4, max_concurrency: 4}\n";
        }
        if self.has_guest {
            writeln!(
                yaml,
                "  guest: {{target: inside, start: now, rate: 10/s, max_concurrency: 9}}"
            )
            .unwrap();
        }
        yaml
    }

    /// The scenarios with guards. The reloads that change `max_tokens` replace them, but not their
    /// guards.
    fn guarded(&self) -> String {
        let Settings { seconds, max_tokens, .. } = self;
        let load = |rate: u32| {
            let schedule = schedule(if self.has_guarded_load { rate } else { 0 });
            format!(
                "start: now, prompts: [abcdefgh], request: {{max_tokens: {max_tokens}}}, \
                 schedule: {schedule}"
            )
        };
        let tokens = 40 + 2 * seconds;
        format!(
            "  shared: {{target: limited, max_concurrency: {CONCURRENCY}, {six}}}
  metered:
    {{target: limited, max_concurrency: {CONCURRENCY}, {four},
      budgets: [{{per: day, tokens: {tokens}}}]}}
  capped:
    {{target: paid, max_concurrency: {CONCURRENCY}, {four},
      budgets: [{{per: month, requests: {seconds}}}]}}
  fragile:
    {{target: fragile, max_concurrency: 4, {ten},
      breaker: {{over: 1s, at_least: 3, pause: {pause}ms, max_pause: 1s}}}}
",
            six = load(6),
            four = load(4),
            ten = load(10),
            pause = PAUSE.as_millis(),
        )
    }
}

/// A schedule with this rate in requests per second. 0 is a schedule that only waits.
fn schedule(rate: u32) -> String {
    if rate == 0 {
        "[{pause: 1h}, {constant: 1/s, for: 1s}]".to_owned()
    } else {
        format!("[{{constant: {rate}/s, for: 1h}}]")
    }
}

/// The rates of one scenario over time. Each change has its effect between two instants.
#[derive(Debug, Default)]
pub struct Rates(Vec<(f64, Instant, Instant)>);

impl Rates {
    /// Records that the rate changed after the first instant and before the second.
    pub fn change(&mut self, rate: f64, after: Instant, before: Instant) {
        self.0.push((rate, after, before));
    }

    pub fn last(&self) -> Option<f64> {
        self.0.last().map(|(rate, _, _)| *rate)
    }

    /// Returns the lowest and the highest number of arrivals until the last change, whose rate must
    /// be 0. Each change can round the number by one arrival.
    pub fn arrivals(&self) -> (f64, f64) {
        let mut bounds = (0.0, 0.0);
        for pair in self.0.windows(2) {
            let [(rate, after, before), (_, next_after, next_before)] = pair else {
                unreachable!()
            };
            bounds.0 += rate * next_after.saturating_duration_since(*before).as_secs_f64() - 1.0;
            bounds.1 += rate * next_before.duration_since(*after).as_secs_f64() + 1.0;
        }
        bounds
    }
}
