//! The configuration of the chaos test, and the number of arrivals that each scenario must have.

use std::fmt::Write as _;
use std::net::SocketAddr;

use tokio::time::Instant;

/// The scenarios whose schedules no action changes, with the area of their schedules in arrivals
/// per second of the test.
pub const FIXED: [(&str, f64); 3] = [("steady", 21.5), ("away", 8.0), ("paired", 5.0)];

/// The settings that the actions change.
#[derive(Clone, Debug)]
pub struct Settings {
    pub seconds: u32,
    pub seed: u64,
    /// The server with the faults listens on both.
    pub wire: [SocketAddr; 2],
    /// The simulator in another process.
    pub away: SocketAddr,
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
        let Settings { seconds, seed, rate, archive, max_tokens, .. } = self;
        let (wire, away) = (self.wire[self.address], self.away);
        let part = |tenths: u32| format!("{}ms", tenths * seconds * 100);
        let credentials = "api_key_env: CANARY_KEY, headers: {x-session: {env: CANARY_HEADER}}, \
                           query: {sig: {env: CANARY_QUERY}}, \
                           extra_body: {api_key: sk-cAnArY-body/0123456789}";
        let timeouts = "timeouts: {connect: 1s, first_token: 800ms, idle: 500ms, total: 3s}";
        let varied = if *rate == 0 {
            "[{pause: 1h}, {constant: 1/s, for: 1s}]".to_owned()
        } else {
            format!("[{{constant: {rate}/s, for: 1h}}]")
        };
        let mut yaml = format!(
            "seed: {seed}
metrics: {{max_combinations: 16}}
failures: {{dir: {archive}, max_bytes: 1MiB, prompts: full}}
targets:
  wire: {{base_url: 'http://{wire}/v1', model: m, {credentials}, {timeouts}}}
  away: {{base_url: 'http://{away}/v1', model: simulated-8b, {timeouts}}}
  inside:
    simulator:
      slots: 8
      decode_tokens_per_second: 400
      faults: {{http_429: 5%, http_500: 5%, reset: 5%, stall: 5%, stream_error: 5%, truncation: 5%}}
    model: simulated-8b
    {timeouts}
scenarios:
  steady:
    {{target: wire, start: now, repeat: 1, max_concurrency: 40, schedule: [
      {{name: level, constant: 25/s, for: {four}}},
      {{name: fall, ramp: {{from: 25/s, to: 10/s}}, for: {four}}},
      {{name: wave, sine: {{mean: 22.5/s, amplitude: 20/s, period: {two}}}, for: {two}}}]}}
  away:
    {{target: away, start: now, repeat: 1, max_concurrency: 30, request: {{max_tokens: 8}},
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
