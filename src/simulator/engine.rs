//! The engine of the simulator: the slots, the queue for the slots, and the counters.
//!
//! Each request in the engine has an [`Admission`]. When the request ends or its client
//! disconnects, the admission is dropped, which frees the slot.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::SimulatorOptions;
use super::api::FinishReason;
use super::faults::Fault;
use super::pace::Pace;
use super::prefix_cache::{PrefixCache, PromptTokens};
use super::ttft_histogram::TtftHistogram;

/// A longer loading time could overflow an instant.
const MAX_LOADING: Duration = Duration::from_hours(365 * 24);

#[derive(Debug)]
pub(super) struct Engine {
    options: SimulatorOptions,
    pace: Pace,
    ready_at: Instant,
    /// The free slots. The semaphore serves waiting requests in order. A dropped request leaves the
    /// queue.
    slots: Arc<Semaphore>,
    /// Requests in the queue and in slots.
    admitted: AtomicU32,
    /// Requests in slots.
    running: AtomicU32,
    prefix_cache: Mutex<PrefixCache>,
    counters: Counters,
}

#[derive(Debug, Default)]
struct Counters {
    received: AtomicU64,
    refused: AtomicU64,
    faults: [AtomicU64; Fault::ALL.len()],
    endings: [AtomicU64; ENDINGS.len()],
    prompt_tokens: AtomicU64,
    cached_tokens: AtomicU64,
    output_tokens: AtomicU64,
    ttft: TtftHistogram,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Finished(FinishReason),
    /// The client disconnected, or the simulator stopped.
    Abort,
    Error,
}

/// The values of the label `finished_reason`, as in vLLM.
const ENDINGS: [&str; 4] = ["stop", "length", "abort", "error"];

impl Ending {
    fn index(self) -> usize {
        match self {
            Ending::Finished(FinishReason::Stop) => 0,
            Ending::Finished(FinishReason::Length) => 1,
            Ending::Abort => 2,
            Ending::Error => 3,
        }
    }
}

impl Engine {
    /// The loading of the model begins now.
    pub(super) fn new(options: SimulatorOptions) -> Engine {
        let slots = options.slots.max(1) as usize;
        Engine {
            pace: Pace::new(&options),
            ready_at: Instant::now() + options.loading.min(MAX_LOADING),
            slots: Arc::new(Semaphore::new(slots.min(Semaphore::MAX_PERMITS))),
            admitted: AtomicU32::new(0),
            running: AtomicU32::new(0),
            prefix_cache: Mutex::new(PrefixCache::new(options.prefix_cache_tokens)),
            counters: Counters::default(),
            options,
        }
    }

    pub(super) fn options(&self) -> &SimulatorOptions {
        &self.options
    }

    pub(super) fn pace(&self) -> &Pace {
        &self.pace
    }

    pub(super) fn is_loading(&self) -> bool {
        Instant::now() < self.ready_at
    }

    /// Counts a request and returns its number, from 0.
    pub(super) fn count_request(&self) -> u64 {
        self.counters.received.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn count_fault(&self, fault: Fault) {
        self.counters.faults[fault as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn running(&self) -> u32 {
        self.running.load(Ordering::Relaxed)
    }

    /// `None` if every slot is busy and the queue is full.
    pub(super) fn admit(self: &Arc<Engine>) -> Option<Admission> {
        let capacity = self.options.slots.max(1).saturating_add(self.options.queue);
        let admitted = self.admitted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| {
            (n < capacity).then_some(n + 1)
        });
        if admitted.is_err() {
            self.counters.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(Admission {
            engine: Arc::clone(self),
            admitted_at: Instant::now(),
            slot: None,
            ending: Ending::Abort,
        })
    }

    /// Returns the metrics in the text format of Prometheus. Their names are from vLLM, if vLLM has
    /// them.
    pub(super) fn metrics(&self) -> String {
        // Read in this order: a request that gets a slot between the two reads must not count as
        // both running and waiting.
        let admitted = self.admitted.load(Ordering::Relaxed);
        let running = self.running().min(admitted);
        let model = format!("model_name=\"{}\"", label_value(&self.options.model));
        let counters = &self.counters;
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
        let slots = f64::from(self.options.slots.max(1));
        let _ = writeln!(
            text,
            "# HELP vllm:kv_cache_usage_perc Share of the cache in use: each slot has an equal part.\n\
             # TYPE vllm:kv_cache_usage_perc gauge\n\
             vllm:kv_cache_usage_perc{{{model}}} {}",
            f64::from(running) / slots
        );
        counters.ttft.write(&mut text, &model);
        let endings = ENDINGS.iter().zip(&counters.endings).map(|(ending, count)| {
            (format!("finished_reason=\"{ending}\",{model}"), count.load(Ordering::Relaxed))
        });
        family(
            &mut text,
            "vllm:request_success_total counter",
            "Requests that left the engine, by finish reason.",
            endings,
        );
        for (name, help, count) in [
            ("vllm:prompt_tokens_total", "Prompt tokens read.", &counters.prompt_tokens),
            ("vllm:generation_tokens_total", "Tokens generated.", &counters.output_tokens),
            ("simulator_requests_total", "Text requests received.", &counters.received),
            (
                "simulator_requests_refused_total",
                "Text requests refused because the queue was full.",
                &counters.refused,
            ),
        ] {
            let labels = if name.starts_with("vllm") { model.clone() } else { String::new() };
            let kind = format!("{name} counter");
            family(&mut text, &kind, help, [(labels, count.load(Ordering::Relaxed))]);
        }
        if self.options.prefix_cache_tokens > 0 {
            for (name, help, count) in [
                (
                    "queries",
                    "Prompt tokens looked up in the prefix cache.",
                    &counters.prompt_tokens,
                ),
                ("hits", "Prompt tokens found in the prefix cache.", &counters.cached_tokens),
            ] {
                let kind = format!("vllm:prefix_cache_{name}_total counter");
                family(&mut text, &kind, help, [(model.clone(), count.load(Ordering::Relaxed))]);
            }
        }
        let faults = Fault::ALL.iter().zip(&counters.faults).map(|(fault, count)| {
            (format!("fault=\"{}\"", fault.as_str()), count.load(Ordering::Relaxed))
        });
        family(&mut text, "simulator_faults_total counter", "Faults injected.", faults);
        text
    }
}

/// Writes a metric family. `name_and_kind` is the text after `TYPE`.
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

/// A request in the engine. It is in the queue until [`Admission::acquire_slot`] returns, and then
/// in a slot.
#[derive(Debug)]
pub(super) struct Admission {
    engine: Arc<Engine>,
    admitted_at: Instant,
    slot: Option<OwnedSemaphorePermit>,
    ending: Ending,
}

impl Admission {
    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(super) async fn acquire_slot(&mut self) {
        if self.slot.is_none() {
            // The semaphore is never closed, so this never fails.
            self.slot = Arc::clone(&self.engine.slots).acquire_owned().await.ok();
            self.engine.running.fetch_add(u32::from(self.slot.is_some()), Ordering::Relaxed);
        }
    }

    /// Returns the number of prompt tokens in the prefix cache.
    pub(super) fn cached_tokens(&self, prompt: &PromptTokens) -> u32 {
        self.prefix_cache(|cache| cache.cached_tokens(prompt))
    }

    /// Counts a prompt that the engine has read, and caches it.
    pub(super) fn count_prompt(&self, prompt: &PromptTokens, cached: u32) {
        let counters = &self.engine.counters;
        counters.prompt_tokens.fetch_add(prompt.count().into(), Ordering::Relaxed);
        counters.cached_tokens.fetch_add(cached.into(), Ordering::Relaxed);
        self.prefix_cache(|cache| cache.insert(prompt));
    }

    /// Caches a prompt with its response.
    pub(super) fn cache(&self, context: &PromptTokens) {
        self.prefix_cache(|cache| cache.insert(context));
    }

    fn prefix_cache<T>(&self, action: impl FnOnce(&mut PrefixCache) -> T) -> T {
        // The cache is consistent even after a panic, which no action causes.
        action(&mut self.engine.prefix_cache.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Call this when the first token is sent.
    pub(super) fn record_first_token(&self) {
        self.engine.counters.ttft.observe(self.admitted_at.elapsed());
    }

    pub(super) fn count_token(&self) {
        self.engine.counters.output_tokens.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the request with this ending. An admission that is only dropped counts as an abort.
    pub(super) fn leave(mut self, ending: Ending) {
        self.ending = ending;
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let engine = &self.engine;
        engine.counters.endings[self.ending.index()].fetch_add(1, Ordering::Relaxed);
        if let Some(slot) = self.slot.take() {
            // Decrease the count before the slot is free. Otherwise, the next request would count
            // together with this request.
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
    async fn slots_and_queue_limit_the_admitted_requests() {
        let engine = engine(2, 1);
        let admissions: Vec<_> = (0..3).map(|_| engine.admit().unwrap()).collect();
        assert!(engine.admit().is_none());
        drop(admissions);
        assert!(engine.admit().is_some());
        assert_eq!(counts(&engine), (0, 0));
        assert!(engine.metrics().contains("simulator_requests_refused_total 1\n"));
    }

    #[tokio::test]
    async fn the_queue_is_served_in_order_and_skips_a_client_that_left() {
        let engine = engine(1, 3);
        let mut first = engine.admit().unwrap();
        first.acquire_slot().await;
        let mut others: Vec<_> = (0..3).map(|_| engine.admit().unwrap()).collect();
        let mut last = others.pop().unwrap();
        let mut middle = others.pop().unwrap();
        let mut leaver = others.pop().unwrap();
        let mut leaver_waits = Box::pin(leaver.acquire_slot());
        let mut middle_waits = Box::pin(middle.acquire_slot());
        let mut last_waits = pin!(last.acquire_slot());
        assert!((&mut leaver_waits).now_or_never().is_none());
        assert!((&mut middle_waits).now_or_never().is_none());
        assert!((&mut last_waits).now_or_never().is_none());
        drop(leaver_waits);
        drop(leaver);
        first.leave(Ending::Finished(FinishReason::Stop));
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
            Ending::Finished(FinishReason::Stop),
            Ending::Finished(FinishReason::Length),
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
    async fn faults_are_counted_by_name() {
        let engine = engine(1, 0);
        for (times, fault) in Fault::ALL.into_iter().enumerate() {
            (0..=times).for_each(|_| engine.count_fault(fault));
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
    async fn the_model_is_loaded_after_the_configured_time() {
        let loading = Duration::from_secs(5);
        let engine = Engine::new(SimulatorOptions { loading, ..SimulatorOptions::default() });
        assert!(engine.is_loading());
        tokio::time::advance(loading).await;
        assert!(!engine.is_loading());
    }
}
