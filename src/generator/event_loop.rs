//! How late the event loop is: a probe that wants to wake on a fixed grid.
//!
//! Every instant of the grid counts with its own delay, also those that went by while the loop
//! stood still: a stop of three seconds delays whatever would have happened in them, not one
//! probe.

use std::time::Duration;

use tokio::time::Instant;

/// Ten times a second. To wake a runtime that sleeps costs up to a tenth of a millisecond on a virtual
/// machine: so it is about a thousandth of a CPU.
pub(super) const INTERVAL: Duration = Duration::from_millis(100);
/// A stop of more than a minute tells nothing that a minute would not.
const MOST: u32 = 600;

/// The grid.
#[derive(Debug)]
pub(super) struct EventLoopProbe {
    next: Instant,
}

impl EventLoopProbe {
    pub(super) fn new(now: Instant) -> EventLoopProbe {
        EventLoopProbe { next: now + INTERVAL }
    }

    /// When to wake.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// The delay of each instant of the grid that has come.
    pub(super) fn woke(&mut self, now: Instant) -> impl Iterator<Item = Duration> + use<> {
        // The oldest of too many are let go.
        self.next = now
            .checked_sub(INTERVAL * (MOST - 1))
            .map_or(self.next, |oldest| self.next.max(oldest));
        let first = self.next;
        while self.next <= now {
            self.next += INTERVAL;
        }
        (0..MOST).map_while(move |k| now.checked_duration_since(first + INTERVAL * k))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instant_of_the_grid_counts_once_with_its_own_delay() {
        let origin = Instant::now();
        let mut probe = EventLoopProbe::new(origin);
        let mut at = |milliseconds| -> Vec<u128> {
            probe
                .woke(origin + Duration::from_millis(milliseconds))
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
    fn a_night_asleep_counts_as_a_minute() {
        let origin = Instant::now();
        let mut probe = EventLoopProbe::new(origin);
        let woke = origin + Duration::from_hours(8) + Duration::from_millis(7);
        let delays: Vec<_> = probe.woke(woke).collect();
        assert_eq!(delays.len(), MOST as usize);
        assert_eq!(delays.last(), Some(&Duration::ZERO));
        assert!(probe.next() > woke && probe.next() <= woke + INTERVAL);
        assert_eq!(probe.woke(woke).count(), 0);
    }
}
