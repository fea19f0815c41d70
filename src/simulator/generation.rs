//! The generation of one response over time: the queue, prefill, and then each token.
//!
//! Each delay starts at the due instant of the previous event, not when the timer fired. So the
//! errors of the timers do not add up.

use tokio::time::{Instant, sleep_until};

use super::api::{FinishReason, OutputLength};
use super::engine::{Admission, Ending};
use super::faults::Fault;
use super::pace::MAX_DELAY;
use super::prefix_cache::PromptTokens;
use super::request::TextRequest;
use super::text::SampleText;
use super::variation::Variation;

/// The events of a response, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The end of prefill. The first token follows at once.
    Start,
    Reasoning(&'static str),
    Content(&'static str),
    /// The end of the response. Its slot is already free.
    Finish(FinishReason),
    /// A fault: an error object ends the response.
    Error,
    /// A fault: the connection breaks.
    Disconnect,
}

/// A response in progress. Its slot becomes free when it is dropped.
#[derive(Debug)]
pub(super) struct Generation {
    /// `None` after the last event.
    admission: Option<Admission>,
    variation: Variation,
    output: OutputLength,
    /// The prompt, and then also the response. A later prompt can contain both.
    context: PromptTokens,
    /// The number of prompt tokens in the prefix cache.
    cached_tokens: u32,
    /// The due instant of the latest event; `None` before prefill.
    due: Option<Instant>,
    sent_tokens: u32,
    reasoning: SampleText,
    answer: SampleText,
}

impl Generation {
    pub(super) fn new(
        admission: Admission,
        request: TextRequest,
        output: OutputLength,
        variation: Variation,
    ) -> Generation {
        Generation {
            admission: Some(admission),
            output,
            context: request.prompt,
            cached_tokens: 0,
            due: None,
            sent_tokens: 0,
            reasoning: SampleText::reasoning(variation.topic),
            answer: SampleText::answer(variation.topic),
            variation,
        }
    }

    /// Returns the next event when it is due; `None` after the last event.
    pub(super) async fn next(&mut self) -> Option<Event> {
        let admission = self.admission.as_mut()?;
        let Some(due) = self.due else {
            admission.acquire_slot().await;
            let pace = admission.engine().pace();
            self.cached_tokens = admission.cached_tokens(&self.context);
            let uncached = self.context.count() - self.cached_tokens;
            let prefill = pace.prefill(uncached, &mut self.variation.jitter);
            let due = Instant::now() + prefill;
            sleep_until(due).await;
            self.due = Some(due);
            admission.count_prompt(&self.context, self.cached_tokens);
            self.context.begin_message("assistant");
            return Some(Event::Start);
        };
        if let Some(fault) = self.variation.fault
            && self.sent_tokens >= self.variation.fault_after.min(self.output.total)
        {
            return Some(self.fail(fault).await);
        }
        if self.sent_tokens == self.output.total {
            admission.cache(&self.context);
            self.leave(Ending::Finished(self.output.finish_reason));
            return Some(Event::Finish(self.output.finish_reason));
        }
        // Prefill produces the first token, so this token has no delay.
        if self.sent_tokens > 0 {
            let engine = admission.engine();
            let due = due + engine.pace().decode(engine.running(), &mut self.variation.jitter);
            sleep_until(due).await;
            self.due = Some(due);
        } else {
            admission.record_first_token();
        }
        admission.count_token();
        self.sent_tokens += 1;
        let is_reasoning = self.sent_tokens <= self.output.reasoning;
        let text = if is_reasoning { &mut self.reasoning } else { &mut self.answer };
        let token = text.next_token();
        self.context.push_text(token);
        Some(if is_reasoning { Event::Reasoning(token) } else { Event::Content(token) })
    }

    /// The number of prompt tokens in the prefix cache; 0 before [`Event::Start`].
    pub(super) fn cached_tokens(&self) -> u32 {
        self.cached_tokens
    }

    async fn fail(&mut self, fault: Fault) -> Event {
        if let Some(admission) = &self.admission {
            admission.engine().count_fault(fault);
        }
        if fault == Fault::StreamError {
            self.leave(Ending::Error);
            return Event::Error;
        }
        if fault == Fault::Stall {
            // The client should close the connection. If the client has vanished, the slot becomes
            // free after this limit.
            tokio::time::sleep(MAX_DELAY).await;
        }
        // Let the connection write the previous events before it breaks.
        tokio::task::yield_now().await;
        self.leave(Ending::Error);
        Event::Disconnect
    }

    fn leave(&mut self, ending: Ending) {
        if let Some(admission) = self.admission.take() {
            admission.leave(ending);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::SimulatorOptions;
    use super::super::api::Api;
    use super::super::engine::Engine;
    use super::super::faults::Faults;
    use super::*;

    fn options() -> SimulatorOptions {
        SimulatorOptions {
            slots: 2,
            prefill_tokens_per_second: 100.0,
            decode_tokens_per_second: 300.0,
            full_load_speed: 0.5,
            jitter: 0.0,
            ..SimulatorOptions::default()
        }
    }

    fn generation(engine: &Arc<Engine>, max_tokens: u32) -> Generation {
        request(engine, "Hi there", max_tokens)
    }

    fn request(engine: &Arc<Engine>, text: &str, max_tokens: u32) -> Generation {
        let body = format!(
            r#"{{"messages":[{{"role":"user","content":"{text}"}}],"max_tokens":{max_tokens},"ignore_eos":true}}"#
        );
        let request = TextRequest::parse(Api::Chat, body.as_bytes(), "").unwrap();
        let variation = Variation::draw(engine.options(), engine.count_request());
        let output = request.output_length(engine.options(), &variation);
        Generation::new(engine.admit().unwrap(), request, output, variation)
    }

    async fn all(mut generation: Generation) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = generation.next().await {
            events.push(event);
        }
        events
    }

    fn near(instant: Instant, start: Instant, micros: u64) -> bool {
        // Within one tick of the timer, even late in the response.
        let late = (instant - start).checked_sub(Duration::from_micros(micros));
        late.is_some_and(|late| late <= Duration::from_millis(1))
    }

    #[tokio::test(start_paused = true)]
    async fn timer_inaccuracies_do_not_add_up_from_token_to_token() {
        let engine = Arc::new(Engine::new(options()));
        let mut generation = generation(&engine, 301);
        let start = Instant::now();
        assert_eq!(generation.next().await, Some(Event::Start));
        assert!(near(Instant::now(), start, 20_000), "two tokens of prompt at 100/s");
        let first = Instant::now();
        assert!(matches!(generation.next().await, Some(Event::Content(_))));
        assert_eq!(Instant::now(), first, "the first token is sent right after prefill");
        for _ in 0..300 {
            assert!(matches!(generation.next().await, Some(Event::Content(_))));
        }
        assert!(near(Instant::now(), start, 1_020_000), "{:?}", Instant::now() - start);
        assert_eq!(engine.running(), 1);
        assert_eq!(generation.next().await, Some(Event::Finish(FinishReason::Length)));
        assert_eq!(engine.running(), 0, "the slot is free before the last event");
        assert_eq!(generation.next().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn cached_tokens_need_no_prefill() {
        let engine =
            Arc::new(Engine::new(SimulatorOptions { prefix_cache_tokens: 1600, ..options() }));
        let words = |count| vec!["word"; count].join(" ");
        let prefill = async |text: &str| {
            let mut generation = request(&engine, text, 1);
            let start = Instant::now();
            assert_eq!(generation.next().await, Some(Event::Start));
            (Instant::now() - start, generation.cached_tokens())
        };
        let (took, cached) = prefill(&words(100)).await;
        assert!(near(Instant::now(), Instant::now() - took, 1_000_000), "{took:?}");
        assert_eq!(cached, 0);
        let (took, cached) = prefill(&words(120)).await;
        assert!(near(Instant::now(), Instant::now() - took, 240_000), "{took:?}");
        assert_eq!(cached, 96, "six blocks of the first prompt");
        assert!(
            engine
                .metrics()
                .contains("vllm:prefix_cache_hits_total{model_name=\"simulated-8b\"} 96\n")
        );
    }

    #[tokio::test(start_paused = true)]
    async fn two_requests_in_two_slots_run_at_the_speed_of_a_full_server() {
        let engine = Arc::new(Engine::new(options()));
        let (one, two) = (generation(&engine, 301), generation(&engine, 301));
        let start = Instant::now();
        tokio::join!(all(one), all(two));
        assert!(near(Instant::now(), start, 2_020_000), "{:?}", Instant::now() - start);
    }

    #[tokio::test(start_paused = true)]
    async fn reasoning_tokens_are_first_and_are_part_of_the_total() {
        let engine = Arc::new(Engine::new(SimulatorOptions { reasoning_tokens: 3, ..options() }));
        let events = all(generation(&engine, 5)).await;
        let reasoning = events.iter().filter(|e| matches!(e, Event::Reasoning(_))).count();
        let content = events.iter().filter(|e| matches!(e, Event::Content(_))).count();
        assert_eq!((reasoning, content, events.len()), (3, 2, 7));
        assert!(matches!(events[1], Event::Reasoning(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_fault_happens_after_a_few_tokens_whatever_the_token_limit() {
        for (faults, last) in [
            (Faults { stream_error: 1.0, ..Faults::default() }, Event::Error),
            (Faults { truncation: 1.0, ..Faults::default() }, Event::Disconnect),
        ] {
            for tokens in [1, 100] {
                let engine = Arc::new(Engine::new(SimulatorOptions { faults, ..options() }));
                let events = all(generation(&engine, tokens)).await;
                assert_eq!(events.last(), Some(&last));
                assert!((3..=7).contains(&events.len()), "{events:?}");
                assert_eq!(engine.running(), 0);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_response_keeps_its_slot_until_it_is_dropped() {
        let faults = Faults { stall: 1.0, ..Faults::default() };
        let engine = Arc::new(Engine::new(SimulatorOptions { faults, ..options() }));
        let mut stalled = generation(&engine, 100);
        let silence = tokio::time::timeout(Duration::from_mins(10), async {
            while stalled.next().await.is_some() {}
        });
        assert!(silence.await.is_err());
        assert_eq!(engine.running(), 1);
        drop(stalled);
        assert_eq!(engine.running(), 0);
    }
}
