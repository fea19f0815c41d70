//! The delay of the event loop. A probe, which is a timer with fixed due instants, measures it.
//!
//! A block of three seconds delays all work that was due in these seconds. So all 30 probes of
//! these seconds count, each with the time from its due instant to the end of the block.

use std::time::Duration;

use tokio::time::Instant;

/// The time between two probes. A probe wakes the runtime, which takes up to 0.1 ms on a virtual
/// machine. So the probes need about a thousandth of a CPU.
pub(super) const INTERVAL: Duration = Duration::from_millis(100);
/// The most probes that count after one block: the probes of a minute. A longer block counts as a
/// minute.
const MAX_PROBES: u32 = 600;

#[derive(Debug)]
pub(super) struct EventLoopProbe {
    next: Instant,
}

impl EventLoopProbe {
    pub(super) fn new(now: Instant) -> EventLoopProbe {
        EventLoopProbe { next: now + INTERVAL }
    }

    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// Returns the delay of each probe that is due at `now`.
    pub(super) fn delays_at(&mut self, now: Instant) -> impl Iterator<Item = Duration> + use<> {
        // The oldest probes above [`MAX_PROBES`] are skipped.
        self.next = now
            .checked_sub(INTERVAL * (MAX_PROBES - 1))
            .map_or(self.next, |oldest| self.next.max(oldest));
        let first = self.next;
        while self.next <= now {
            self.next += INTERVAL;
        }
        (0..MAX_PROBES).map_while(move |k| now.checked_duration_since(first + INTERVAL * k))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_probe_counts_once_with_its_own_delay() {
        let origin = Instant::now();
        let mut probe = EventLoopProbe::new(origin);
        let mut at = |milliseconds| -> Vec<u128> {
            probe
                .delays_at(origin + Duration::from_millis(milliseconds))
                .map(|delay| delay.as_millis())
                .collect()
        };
        assert_eq!(at(99), [0; 0]);
        assert_eq!(at(100), [0]);
        assert_eq!(at(100), [0; 0]);
        assert_eq!(at(201), [1]);
        assert_eq!(at(625), [325, 225, 125, 25]);
        assert_eq!(at(700), [0]);
        assert_eq!(probe.next(), origin + Duration::from_millis(800));
    }

    #[test]
    fn a_block_of_eight_hours_counts_as_one_minute() {
        let origin = Instant::now();
        let mut probe = EventLoopProbe::new(origin);
        let wake = origin + Duration::from_hours(8) + Duration::from_millis(7);
        let delays: Vec<_> = probe.delays_at(wake).collect();
        assert_eq!(delays.len(), MAX_PROBES as usize);
        assert_eq!(delays.last(), Some(&Duration::ZERO));
        assert!(probe.next() > wake && probe.next() <= wake + INTERVAL);
        assert_eq!(probe.delays_at(wake).count(), 0);
    }
}
