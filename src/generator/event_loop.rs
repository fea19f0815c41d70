//! The delay of the event loop, measured by a probe that is due at fixed instants.
//!
//! Each instant counts with its own delay, including those that passed while the loop was blocked: a
//! stop of three seconds delays everything that was due in these seconds, not only one probe.

use std::time::Duration;

use tokio::time::Instant;

/// The time between probes. To wake a sleeping runtime takes up to 0.1 ms on a virtual machine, so ten
/// probes a second take about a thousandth of a CPU.
pub(super) const INTERVAL: Duration = Duration::from_millis(100);
/// The highest number of probes that one wake-up counts: one minute. A longer stop counts as a minute.
const MAX_PROBES: u32 = 600;

/// The instants of the probes.
#[derive(Debug)]
pub(super) struct EventLoopProbe {
    next: Instant,
}

impl EventLoopProbe {
    pub(super) fn new(now: Instant) -> EventLoopProbe {
        EventLoopProbe { next: now + INTERVAL }
    }

    /// The instant of the next probe.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// Returns the delay of each probe that is due at `now`.
    pub(super) fn delays_at(&mut self, now: Instant) -> impl Iterator<Item = Duration> + use<> {
        // Beyond the limit, the oldest probes are ignored.
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
    fn a_stop_of_a_night_counts_as_a_minute() {
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
