//! The current second and the nine seconds before it in a run, for the progress on the terminal.

use std::time::Duration;

use tokio::time::Instant;

use crate::event::{Arrival, Event};
use crate::measurement::Measurement;
use crate::recent::LogHistogram;

/// The number of steps. Each step covers one second.
const STEPS: usize = 10;

/// A ring buffer: the step of second N is at position N modulo [`STEPS`].
#[derive(Clone, Debug)]
pub(super) struct LastSeconds {
    /// The time of the first sending.
    origin: Option<Instant>,
    steps: Vec<Step>,
    /// The output tokens of all successes whose response has a token count.
    counted_tokens: u64,
    /// The events with text of the same successes.
    counted_chunks: u64,
    /// True if a response was streamed.
    is_streamed: bool,
}

#[derive(Clone, Debug)]
struct Step {
    second: u64,
    first_token: LogHistogram,
    chunks: u64,
    /// The output tokens of the successes that ended.
    tokens: u64,
    failed: u64,
}

/// The events of the current second and of the nine seconds before it.
#[derive(Clone, Debug)]
pub struct RecentEvents {
    /// TTFT in seconds.
    pub first_token: LogHistogram,
    pub failed: u64,
    /// The output tokens that arrived. If a response is not streamed, its tokens arrive at its end.
    pub output_tokens: f64,
    /// The length of the time that these values cover: from nine to ten seconds, or less at the
    /// start of a run.
    pub length: Duration,
}

impl Default for LastSeconds {
    fn default() -> LastSeconds {
        let step =
            Step { second: 0, first_token: LogHistogram::new(), chunks: 0, tokens: 0, failed: 0 };
        LastSeconds {
            origin: None,
            steps: vec![step; STEPS],
            counted_tokens: 0,
            counted_chunks: 0,
            is_streamed: false,
        }
    }
}

impl LastSeconds {
    pub fn record(&mut self, arrival: &Arrival, event: Event<'_>) {
        match event {
            Event::Sent { lag, .. } => {
                self.origin.get_or_insert(arrival.due + lag);
            }
            Event::FirstToken { since_sent, since_due } => {
                if let Some(step) = self.step(arrival.due + since_due) {
                    step.first_token.record(since_sent.as_secs_f64());
                }
            }
            Event::Chunks { count, at, .. } => {
                self.is_streamed = true;
                if let Some(step) = self.step(at) {
                    step.chunks += u64::from(count);
                }
            }
            Event::Succeeded(Measurement { end, usage, token_events, .. }) => {
                let Some(tokens) = usage.output else { return };
                self.counted_tokens += tokens;
                self.counted_chunks += u64::from(*token_events);
                if let Some(step) = self.step(*end) {
                    step.tokens += tokens;
                }
            }
            Event::Failed { since_due, .. } => {
                if let Some(step) = self.step(arrival.due + since_due) {
                    step.failed += 1;
                }
            }
            _ => {}
        }
    }

    /// Returns the step of an instant. `None` before the first sending, and if the step is
    /// already in use for a later second.
    fn step(&mut self, at: Instant) -> Option<&mut Step> {
        let second = at.saturating_duration_since(self.origin?).as_secs();
        let step = self.steps.get_mut(usize::try_from(second % STEPS as u64).ok()?)?;
        if step.second < second {
            (step.second, step.chunks, step.tokens, step.failed) = (second, 0, 0, 0);
            step.first_token.clear();
        }
        (step.second == second).then_some(step)
    }

    #[allow(clippy::cast_precision_loss)]
    pub fn read(&self, now: Instant) -> RecentEvents {
        let elapsed = self.origin.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let first = (elapsed.as_secs() + 1).saturating_sub(STEPS as u64);
        let mut sum = RecentEvents {
            first_token: LogHistogram::new(),
            failed: 0,
            output_tokens: 0.0,
            length: elapsed.saturating_sub(Duration::from_secs(first)),
        };
        let (mut chunks, mut tokens) = (0, 0);
        for step in self.steps.iter().filter(|step| step.second >= first) {
            sum.first_token.add(&step.first_token);
            sum.failed += step.failed;
            chunks += step.chunks;
            tokens += step.tokens;
        }
        sum.output_tokens = match (self.is_streamed, self.counted_chunks) {
            (false, _) => tokens as f64,
            (true, 0) => chunks as f64,
            (true, counted) => chunks as f64 * self.counted_tokens as f64 / counted as f64,
        };
        sum
    }
}

impl RecentEvents {
    /// Adds the events of another route in the same time.
    pub fn add(&mut self, other: &RecentEvents) {
        self.first_token.add(&other.first_token);
        self.failed += other.failed;
        self.output_tokens += other.output_tokens;
        self.length = self.length.max(other.length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measurement::{Anomalies, Usage};

    fn arrival(due: Instant) -> Arrival {
        Arrival { k: 0, due, phase: Some(0), lengths: None, turn: 0 }
    }

    /// Each second, llmload sends a request. It gets two tokens in one event, 250 ms after its
    /// sending.
    #[test]
    #[allow(clippy::cast_precision_loss, clippy::float_cmp)]
    fn the_values_cover_ten_steps_and_the_number_of_tokens_is_exact() {
        let origin = Instant::now();
        let (mut last, since) = (LastSeconds::default(), Duration::from_millis(250));
        for second in 0..30 {
            let due = origin + Duration::from_secs(second);
            let (arrival, end) = (arrival(due), due + since);
            let mut record = |event: Event<'_>| last.record(&arrival, event);
            record(Event::Sent { lag: Duration::ZERO, waited: Duration::ZERO });
            record(Event::FirstToken { since_sent: since, since_due: since });
            record(Event::Chunks { count: 1, at: end, gap: None });
            record(Event::Succeeded(&Measurement {
                due,
                sent: due,
                first_token: Some(end),
                first_answer_token: None,
                last_token: Some(end),
                end,
                usage: Usage { output: Some(2), ..Usage::default() },
                token_events: 1,
                reasoning_shown: false,
                anomalies: Anomalies::default(),
            }));
            let read = last.read(due + Duration::from_millis(999));
            let requests = second.min(9) + 1;
            assert_eq!(read.first_token.count(), requests);
            assert!((read.output_tokens - 2.0 * requests as f64).abs() < 1e-9, "{read:?}");
            assert_eq!(read.length, Duration::from_millis(999 + 1000 * second.min(9)));
        }
        let later = last.read(origin + Duration::from_mins(1));
        assert_eq!((later.first_token.count(), later.output_tokens), (0, 0.0));
        assert_eq!(LastSeconds::default().read(origin).length, Duration::ZERO);
    }
}
