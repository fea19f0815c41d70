//! One answer as it comes into being: the line, prefill, then token after token, each in its time.
//!
//! It knows when things happen and not what they look like on the wire. Every delay counts from
//! the instant at which the one before was due, so that what a timer rounds does not add up.

use tokio::time::{Instant, sleep_until};

use super::ask::{Ask, Finish, Outline};
use super::engine::{Ending, Place};
use super::fate::{Fate, Fault};
use super::pace::LONGEST;
use super::prose::Prose;

/// What a client comes to see of an answer, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Prefill is done; the first token follows at once.
    Begin,
    /// A token of reasoning.
    Reasoning(&'static str),
    /// A token of the answer.
    Content(&'static str),
    /// The end, and why. The slot is free by now.
    Finish(Finish),
    /// A fault: an error is said, and nothing after it.
    Error,
    /// A fault: the connection breaks.
    Break,
}

/// An answer in the making. Dropped before its end, it frees its slot.
#[derive(Debug)]
pub(super) struct Generation {
    /// None once it has left the engine: nothing comes any more.
    place: Option<Place>,
    fate: Fate,
    outline: Outline,
    prompt_tokens: u32,
    /// When the latest event was due; none before the slot was reached.
    due: Option<Instant>,
    sent: u32,
    reasoning: Prose,
    answer: Prose,
}

impl Generation {
    /// The answer to a request that was admitted.
    pub(super) fn new(place: Place, ask: &Ask, outline: Outline, fate: Fate) -> Generation {
        Generation {
            place: Some(place),
            outline,
            prompt_tokens: ask.prompt_tokens,
            due: None,
            sent: 0,
            reasoning: Prose::reasoning(fate.topic),
            answer: Prose::answer(fate.topic),
            fate,
        }
    }

    /// Waits for what comes next; none after the end.
    pub(super) async fn next(&mut self) -> Option<Event> {
        let place = self.place.as_mut()?;
        let Some(due) = self.due else {
            place.work().await;
            let prefill = place.engine().pace().prefill(self.prompt_tokens, &mut self.fate.jitter);
            let due = Instant::now() + prefill;
            sleep_until(due).await;
            self.due = Some(due);
            place.read_prompt(self.prompt_tokens);
            return Some(Event::Begin);
        };
        if let Some(fault) = self.fate.fault
            && self.sent >= self.fate.strikes_after.min(self.outline.total)
        {
            return Some(self.fail(fault).await);
        }
        if self.sent == self.outline.total {
            self.leave(Ending::Finished(self.outline.finish));
            return Some(Event::Finish(self.outline.finish));
        }
        // The first token comes with the end of prefill, as it does in a real engine.
        if self.sent > 0 {
            let engine = place.engine();
            let due = due + engine.pace().decode(engine.running(), &mut self.fate.jitter);
            sleep_until(due).await;
            self.due = Some(due);
        } else {
            place.first_token();
        }
        place.generate();
        self.sent += 1;
        Some(if self.sent <= self.outline.reasoning {
            Event::Reasoning(self.reasoning.token())
        } else {
            Event::Content(self.answer.token())
        })
    }

    /// What a fault does to the answer.
    async fn fail(&mut self, fault: Fault) -> Event {
        if let Some(place) = &self.place {
            place.engine().strike(fault);
        }
        if fault == Fault::StreamError {
            self.leave(Ending::Error);
            return Event::Error;
        }
        if fault == Fault::Stall {
            // The client is the one to end this. It may have gone in a way that nobody notices,
            // though, and nothing is held for ever.
            tokio::time::sleep(LONGEST).await;
        }
        // Whoever writes must get its turn before the break, or what was said would not arrive.
        tokio::task::yield_now().await;
        self.leave(Ending::Error);
        Event::Break
    }

    fn leave(&mut self, ending: Ending) {
        if let Some(place) = self.place.take() {
            place.leave(ending);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::ask::Api;
    use super::super::engine::Engine;
    use super::super::{Faults, SimulatorOptions};
    use super::*;

    fn settings() -> SimulatorOptions {
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
        let body = format!(
            r#"{{"messages":[{{"role":"user","content":"12345678"}}],"max_tokens":{max_tokens},"ignore_eos":true}}"#
        );
        let ask = Ask::read(Api::Chat, body.as_bytes(), "").unwrap();
        let fate = Fate::draw(engine.settings(), engine.receive());
        let outline = ask.outline(engine.settings(), &fate);
        Generation::new(engine.admit().unwrap(), &ask, outline, fate)
    }

    async fn all(mut generation: Generation) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = generation.next().await {
            events.push(event);
        }
        events
    }

    fn near(instant: Instant, start: Instant, micros: u64) -> bool {
        // One turn of the timer's wheel, wherever in the answer it is.
        let late = (instant - start).checked_sub(Duration::from_micros(micros));
        late.is_some_and(|late| late <= Duration::from_millis(1))
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_come_when_they_are_due_and_rounding_does_not_add_up() {
        let engine = Arc::new(Engine::new(settings()));
        let mut generation = generation(&engine, 301);
        let start = Instant::now();
        assert_eq!(generation.next().await, Some(Event::Begin));
        assert!(near(Instant::now(), start, 20_000), "two tokens of prompt at 100/s");
        let first = Instant::now();
        assert!(matches!(generation.next().await, Some(Event::Content(_))));
        assert_eq!(Instant::now(), first, "the first token comes right after prefill");
        for _ in 0..300 {
            assert!(matches!(generation.next().await, Some(Event::Content(_))));
        }
        assert!(near(Instant::now(), start, 1_020_000), "{:?}", Instant::now() - start);
        assert_eq!(engine.running(), 1);
        assert_eq!(generation.next().await, Some(Event::Finish(Finish::Length)));
        assert_eq!(engine.running(), 0, "the slot is free before the end is told");
        assert_eq!(generation.next().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn two_requests_in_two_slots_share_the_speed_that_is_left_at_full_load() {
        let engine = Arc::new(Engine::new(settings()));
        let (one, two) = (generation(&engine, 301), generation(&engine, 301));
        let start = Instant::now();
        tokio::join!(all(one), all(two));
        assert!(near(Instant::now(), start, 2_020_000), "{:?}", Instant::now() - start);
    }

    #[tokio::test(start_paused = true)]
    async fn reasoning_comes_first_and_is_part_of_the_total() {
        let engine = Arc::new(Engine::new(SimulatorOptions { reasoning_tokens: 3, ..settings() }));
        let events = all(generation(&engine, 5)).await;
        let reasoning = events.iter().filter(|e| matches!(e, Event::Reasoning(_))).count();
        let content = events.iter().filter(|e| matches!(e, Event::Content(_))).count();
        assert_eq!((reasoning, content, events.len()), (3, 2, 7));
        assert!(matches!(events[1], Event::Reasoning(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn faults_strike_after_a_few_tokens_even_in_an_answer_of_one() {
        for (faults, last) in [
            (Faults { stream_error: 1.0, ..Faults::default() }, Event::Error),
            (Faults { truncation: 1.0, ..Faults::default() }, Event::Break),
        ] {
            for tokens in [1, 100] {
                let engine = Arc::new(Engine::new(SimulatorOptions { faults, ..settings() }));
                let events = all(generation(&engine, tokens)).await;
                assert_eq!(events.last(), Some(&last));
                assert!((3..=7).contains(&events.len()), "{events:?}");
                assert_eq!(engine.running(), 0);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stall_holds_its_slot_until_it_is_dropped() {
        let faults = Faults { stall: 1.0, ..Faults::default() };
        let engine = Arc::new(Engine::new(SimulatorOptions { faults, ..settings() }));
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
