//! The one engine behind the endpoint: its slots, the line before them, and what it has counted.
//!
//! A request is in the engine exactly as long as its [`Place`] lives. Whatever ends it, a client
//! that leaves included, drops the place, and with it the slot and the spot in the line.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::SimulatorOptions;
use super::ask::Finish;
use super::fate::Fault;
use super::first_tokens::FirstTokens;
use super::pace::Pace;

/// The longest time of loading: a year, which an instant can surely hold.
const LONGEST_LOADING: Duration = Duration::from_hours(365 * 24);

/// The state that all connections share.
#[derive(Debug)]
pub(super) struct Engine {
    settings: SimulatorOptions,
    pace: Pace,
    ready_at: Instant,
    /// First come, first served, and a waiter that leaves leaves the line.
    slots: Arc<Semaphore>,
    /// Requests in the line and in slots together.
    admitted: AtomicU32,
    /// Requests in slots.
    running: AtomicU32,
    tally: Tally,
}

/// What only ever grows.
#[derive(Debug, Default)]
struct Tally {
    received: AtomicU64,
    refused: AtomicU64,
    faults: [AtomicU64; Fault::ALL.len()],
    endings: [AtomicU64; ENDINGS.len()],
    prompt_tokens: AtomicU64,
    output_tokens: AtomicU64,
    first_tokens: FirstTokens,
}

/// How a request leaves the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// With its whole answer.
    Finished(Finish),
    /// Because the client left, or the endpoint was stopped.
    Abort,
    /// By a fault.
    Error,
}

/// The values of `finished_reason`, as vLLM names them.
const ENDINGS: [&str; 4] = ["stop", "length", "abort", "error"];

impl Ending {
    fn index(self) -> usize {
        match self {
            Ending::Finished(Finish::Stop) => 0,
            Ending::Finished(Finish::Length) => 1,
            Ending::Abort => 2,
            Ending::Error => 3,
        }
    }
}

impl Engine {
    /// An idle engine that starts to load its model now.
    pub(super) fn new(settings: SimulatorOptions) -> Engine {
        let slots = settings.slots.max(1) as usize;
        Engine {
            pace: Pace::new(&settings),
            ready_at: Instant::now() + settings.loading.min(LONGEST_LOADING),
            slots: Arc::new(Semaphore::new(slots.min(Semaphore::MAX_PERMITS))),
            admitted: AtomicU32::new(0),
            running: AtomicU32::new(0),
            tally: Tally::default(),
            settings,
        }
    }

    pub(super) fn settings(&self) -> &SimulatorOptions {
        &self.settings
    }

    pub(super) fn pace(&self) -> &Pace {
        &self.pace
    }

    /// Whether the model is still being loaded.
    pub(super) fn loading(&self) -> bool {
        Instant::now() < self.ready_at
    }

    /// Counts a chat request; what it gets is its number, from 0.
    pub(super) fn receive(&self) -> u64 {
        self.tally.received.fetch_add(1, Ordering::Relaxed)
    }

    /// Counts a fault that strikes.
    pub(super) fn strike(&self, fault: Fault) {
        self.tally.faults[fault as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Requests in slots.
    pub(super) fn running(&self) -> u32 {
        self.running.load(Ordering::Relaxed)
    }

    /// A place in the engine, or none when every slot is busy and the line is full.
    pub(super) fn admit(self: &Arc<Engine>) -> Option<Place> {
        let room = self.settings.slots.max(1).saturating_add(self.settings.queue);
        let admitted = self
            .admitted
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < room).then_some(n + 1));
        if admitted.is_err() {
            self.tally.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(Place {
            engine: Arc::clone(self),
            since: Instant::now(),
            slot: None,
            ending: Ending::Abort,
        })
    }

    /// The counts in Prometheus' text format, named as vLLM names them where it has a name.
    pub(super) fn metrics(&self) -> String {
        // In this order, so that a request that moves on between the two is not counted twice.
        let admitted = self.admitted.load(Ordering::Relaxed);
        let running = self.running().min(admitted);
        let model = format!("model_name=\"{}\"", label_value(&self.settings.model));
        let tally = &self.tally;
        let mut text = String::with_capacity(2048);
        family(
            &mut text,
            "vllm:num_requests_running gauge",
            "Requests in slots.",
            [(model.clone(), running.into())],
        );
        family(
            &mut text,
            "vllm:num_requests_waiting gauge",
            "Requests in the queue.",
            [(model.clone(), (admitted - running).into())],
        );
        let slots = f64::from(self.settings.slots.max(1));
        let _ = writeln!(
            text,
            "# HELP vllm:kv_cache_usage_perc Share of the cache in use: each slot has an equal part.\n\
             # TYPE vllm:kv_cache_usage_perc gauge\n\
             vllm:kv_cache_usage_perc{{{model}}} {}",
            f64::from(running) / slots
        );
        tally.first_tokens.write(&mut text, &model);
        let endings = ENDINGS.iter().zip(&tally.endings).map(|(ending, count)| {
            (format!("finished_reason=\"{ending}\",{model}"), count.load(Ordering::Relaxed))
        });
        family(
            &mut text,
            "vllm:request_success_total counter",
            "Requests that left the engine, by the way they did.",
            endings,
        );
        for (name, help, count) in [
            ("vllm:prompt_tokens_total", "Prompt tokens read.", &tally.prompt_tokens),
            ("vllm:generation_tokens_total", "Tokens generated.", &tally.output_tokens),
            ("simulator_requests_total", "Chat requests received.", &tally.received),
            (
                "simulator_requests_refused_total",
                "Chat requests refused because the queue was full.",
                &tally.refused,
            ),
        ] {
            let labels = if name.starts_with("vllm") { model.clone() } else { String::new() };
            let kind = format!("{name} counter");
            family(&mut text, &kind, help, [(labels, count.load(Ordering::Relaxed))]);
        }
        let faults = Fault::ALL.iter().zip(&tally.faults).map(|(fault, count)| {
            (format!("fault=\"{}\"", fault.as_str()), count.load(Ordering::Relaxed))
        });
        family(&mut text, "simulator_faults_total counter", "Faults that struck.", faults);
        text
    }
}

/// One family of series in the text format; `name_and_kind` as its TYPE line wants them.
fn family(
    text: &mut String,
    name_and_kind: &str,
    help: &str,
    series: impl IntoIterator<Item = (String, u64)>,
) {
    let name = name_and_kind.split_once(' ').map_or(name_and_kind, |(name, _)| name);
    // Writing to a string cannot fail.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name_and_kind}");
    for (labels, value) in series {
        let _ = if labels.is_empty() {
            writeln!(text, "{name} {value}")
        } else {
            writeln!(text, "{name}{{{labels}}} {value}")
        };
    }
}

fn label_value(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// One request's stay in the engine: in the line until [`Place::work`] returns, then in a slot.
#[derive(Debug)]
pub(super) struct Place {
    engine: Arc<Engine>,
    since: Instant,
    slot: Option<OwnedSemaphorePermit>,
    ending: Ending,
}

impl Place {
    /// The engine it is in.
    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Waits for a slot.
    pub(super) async fn work(&mut self) {
        if self.slot.is_none() {
            // An error would mean that the semaphore is closed, which nobody does.
            self.slot = Arc::clone(&self.engine.slots).acquire_owned().await.ok();
            self.engine.running.fetch_add(u32::from(self.slot.is_some()), Ordering::Relaxed);
        }
    }

    /// Counts a prompt as read.
    pub(super) fn read_prompt(&self, tokens: u32) {
        self.engine.tally.prompt_tokens.fetch_add(tokens.into(), Ordering::Relaxed);
    }

    /// Counts how long the request has waited for its first token, which comes now.
    pub(super) fn first_token(&self) {
        self.engine.tally.first_tokens.observe(self.since.elapsed());
    }

    /// Counts one token as generated.
    pub(super) fn generate(&self) {
        self.engine.tally.output_tokens.fetch_add(1, Ordering::Relaxed);
    }

    /// Leaves the engine. A place that is merely dropped counts as an abort.
    pub(super) fn leave(mut self, ending: Ending) {
        self.ending = ending;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let engine = &self.engine;
        engine.tally.endings[self.ending.index()].fetch_add(1, Ordering::Relaxed);
        if let Some(slot) = self.slot.take() {
            // Before the slot goes to the next in line, or both would seem to run.
            engine.running.fetch_sub(1, Ordering::Relaxed);
            drop(slot);
        }
        engine.admitted.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt;

    use super::*;

    fn engine(slots: u32, queue: u32) -> Arc<Engine> {
        Arc::new(Engine::new(SimulatorOptions { slots, queue, ..SimulatorOptions::default() }))
    }

    fn counts(engine: &Engine) -> (u32, u32) {
        (engine.running(), engine.admitted.load(Ordering::Relaxed))
    }

    #[tokio::test]
    async fn slots_and_queue_bound_what_is_admitted() {
        let engine = engine(2, 1);
        let places: Vec<_> = (0..3).map(|_| engine.admit().unwrap()).collect();
        assert!(engine.admit().is_none());
        drop(places);
        assert!(engine.admit().is_some());
        assert_eq!(counts(&engine), (0, 0));
        assert!(engine.metrics().contains("simulator_requests_refused_total 1\n"));
    }

    #[tokio::test]
    async fn the_line_is_served_in_order_and_one_that_leaves_is_skipped() {
        let engine = engine(1, 3);
        let mut first = engine.admit().unwrap();
        first.work().await;
        let mut others: Vec<_> = (0..3).map(|_| engine.admit().unwrap()).collect();
        let mut last = others.pop().unwrap();
        let mut middle = others.pop().unwrap();
        let mut leaver = others.pop().unwrap();
        let mut leaver_waits = Box::pin(leaver.work());
        let mut middle_waits = Box::pin(middle.work());
        let mut last_waits = pin!(last.work());
        assert!((&mut leaver_waits).now_or_never().is_none());
        assert!((&mut middle_waits).now_or_never().is_none());
        assert!((&mut last_waits).now_or_never().is_none());
        drop(leaver_waits);
        drop(leaver);
        first.leave(Ending::Finished(Finish::Stop));
        assert!((&mut last_waits).now_or_never().is_none());
        assert!((&mut middle_waits).now_or_never().is_some());
        drop(middle_waits);
        assert_eq!(counts(&engine), (1, 2));
        drop(middle);
        assert!((&mut last_waits).now_or_never().is_some());
    }

    #[tokio::test]
    async fn every_ending_is_counted_once() {
        let engine = engine(4, 0);
        for ending in [
            Ending::Finished(Finish::Stop),
            Ending::Finished(Finish::Length),
            Ending::Abort,
            Ending::Error,
        ] {
            engine.admit().unwrap().leave(ending);
        }
        drop(engine.admit());
        let metrics = engine.metrics();
        for (ending, count) in [("stop", 1), ("length", 1), ("abort", 2), ("error", 1)] {
            let line =
                format!("{{finished_reason=\"{ending}\",model_name=\"simulated-8b\"}} {count}\n");
            assert!(metrics.contains(&line), "{metrics}");
        }
    }

    #[tokio::test]
    async fn faults_are_counted_by_their_own_name() {
        let engine = engine(1, 0);
        for (times, fault) in Fault::ALL.into_iter().enumerate() {
            (0..=times).for_each(|_| engine.strike(fault));
        }
        let metrics = engine.metrics();
        for (times, fault) in Fault::ALL.into_iter().enumerate() {
            let line = format!("{{fault=\"{}\"}} {}\n", fault.as_str(), times + 1);
            assert!(metrics.contains(&line), "{metrics}");
        }
    }

    #[tokio::test]
    async fn a_model_name_cannot_break_the_text_format() {
        let engine = Engine::new(SimulatorOptions {
            model: "a\"b\\c\nd".into(),
            ..SimulatorOptions::default()
        });
        assert!(engine.metrics().contains(r#"{model_name="a\"b\\c\nd"} 0"#));
    }

    #[tokio::test(start_paused = true)]
    async fn loading_ends() {
        let loading = Duration::from_secs(5);
        let engine = Engine::new(SimulatorOptions { loading, ..SimulatorOptions::default() });
        assert!(engine.loading());
        tokio::time::advance(loading).await;
        assert!(!engine.loading());
    }
}
