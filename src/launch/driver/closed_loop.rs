//! The closed loops of a driver: phases that keep a number of requests in flight.

use std::num::{NonZeroU32, NonZeroU64};

use tokio::time::Instant;

use super::{CLOCK_CHECK, CountedPhase, Driver, Source, Step};
use crate::event::Arrival;
use crate::pacer::Segment;
use crate::timetable::Moment;

impl Driver {
    /// Launches an arrival in a free slot. If no slot is free, waits for a slot, at most until the
    /// end of the phase.
    pub(super) fn step_closed_loop(
        &mut self,
        phase: usize,
        slots: NonZeroU32,
        since: Instant,
        until: Instant,
        now: Instant,
    ) -> Step {
        let k = self.arrivals.shard.arrival_number(self.closed_loop_launched);
        match self.launch_in_slot(phase, slots, since, now, k) {
            Ok(launch) => {
                self.closed_loop_launched = self.closed_loop_launched.wrapping_add(1);
                launch
            }
            Err(backoff_end) => Step::Wait(backoff_end.map_or(until, |end| end.min(until))),
        }
    }

    /// Takes a free slot. Returns the step that launches an arrival in this slot.
    ///
    /// # Errors
    /// Fails if no slot is free. The error is the instant at which the first backoff ends, or
    /// `None` if no slot is in backoff.
    fn launch_in_slot(
        &mut self,
        phase: usize,
        slots: NonZeroU32,
        since: Instant,
        now: Instant,
        k: u64,
    ) -> Result<Step, Option<Instant>> {
        // The configuration reader rejects a shard without a slot, so the default is never used.
        let shard_slots = u32::try_from(self.arrivals.shard.part(slots.get().into()))
            .ok()
            .and_then(NonZeroU32::new)
            .unwrap_or(NonZeroU32::MIN);
        let (due, slot) = self.slots.acquire(shard_slots, since, now)?;
        Ok(Step::Launch(
            Arrival { k, due, phase: Some(phase), lengths: None, turn: 0 },
            Some(slot),
            None,
        ))
    }

    /// Continues a phase that ends after `count` requests. Returns `None` when the last request of
    /// the phase has ended.
    pub(super) fn step_counted_phase(
        &mut self,
        phase: usize,
        slots: NonZeroU32,
        count: NonZeroU64,
        since: Instant,
        now: Moment,
    ) -> Option<Step> {
        let launched = match self.counted_phase {
            Some(counted) if counted.phase == phase => counted.launched,
            _ => {
                self.schedule_state.start_counted_phase(phase);
                0
            }
        };
        self.counted_phase = Some(CountedPhase { phase, launched });
        if launched < self.arrivals.shard.part(count.get()) {
            // Arrival numbers count from the start of the phase, so the phase always begins with
            // the first prompt.
            let k = self.arrivals.shard.arrival_number(launched);
            return Some(match self.launch_in_slot(phase, slots, since, now.instant, k) {
                Ok(launch) => {
                    self.counted_phase = Some(CountedPhase { phase, launched: launched + 1 });
                    launch
                }
                Err(backoff_end) => Step::Wait(backoff_end.unwrap_or(now.instant + CLOCK_CHECK)),
            });
        }
        if self.slots.has_busy() {
            return Some(Step::Wait(now.instant + CLOCK_CHECK));
        }
        self.counted_phase = None;
        self.end_untimed_phase(now);
        None
    }

    /// Ends a `requests` phase or a search, so the schedule advances again. The rest of the cycle
    /// is delayed by the duration of the phase.
    pub(super) fn end_untimed_phase(&mut self, now: Moment) {
        if let Some(Source::Schedule(pacer)) = &mut self.source {
            pacer.end_untimed_phase(now.instant);
            let Segment { cycle, cycle_start: start, .. } = pacer.segment();
            let wall = now.wall_at(start);
            self.schedule_state.end_counted_phase(now.instant, cycle, start, wall);
        }
    }
}
