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
/// The time between two probes without load, when no measurement can be wrong. llmload then wakes
/// an idle machine rarely.
const IDLE_INTERVAL: Duration = Duration::from_secs(1);
/// The time without load after which probes become rare. It is longer than the gaps between the
/// arrivals of a normal load.
const IDLE_AFTER: Duration = Duration::from_secs(5);

/// The load of the last seconds.
#[derive(Debug)]
pub(super) struct RecentLoad {
    /// All arrivals until `last_seen`.
    arrivals: u64,
    last_seen: Instant,
}

impl RecentLoad {
    pub(super) fn new(now: Instant) -> RecentLoad {
        RecentLoad { arrivals: 0, last_seen: now }
    }

    /// Returns true if requests are in flight, or if one arrived or was in flight in the last
    /// [`IDLE_AFTER`].
    pub(super) fn was_seen(&mut self, now: Instant, arrivals: u64, has_requests: bool) -> bool {
        if has_requests || arrivals != self.arrivals {
            *self = RecentLoad { arrivals, last_seen: now };
        }
        now.saturating_duration_since(self.last_seen) < IDLE_AFTER
    }
}

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

    /// Makes the next probe due after [`IDLE_INTERVAL`].
    pub(super) fn skip_idle_time(&mut self) {
        self.next += IDLE_INTERVAL.saturating_sub(INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::Ordering::Relaxed;

    use super::super::{GeneratorMonitor, probe_event_loop};
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

    #[test]
    fn without_load_a_probe_is_due_each_second() {
        let origin = Instant::now();
        let at = |tenths: u32| origin + INTERVAL * tenths;
        let mut probe = EventLoopProbe::new(origin);
        assert_eq!(probe.delays_at(at(1)).count(), 1);
        probe.skip_idle_time();
        assert_eq!(probe.next(), at(11));
        // A block still counts as many probes as its length contains.
        assert_eq!(probe.delays_at(at(15)).count(), 5);
        assert_eq!(probe.next(), at(16));
    }

    #[test]
    fn a_load_is_recent_for_five_seconds_after_the_last_request() {
        let origin = Instant::now();
        let mut load = RecentLoad::new(origin);
        let mut was_seen = |seconds, arrivals, has_requests| {
            load.was_seen(origin + Duration::from_secs(seconds), arrivals, has_requests)
        };
        assert!(was_seen(4, 0, false), "just after the start");
        assert!(!was_seen(5, 0, false));
        assert!(was_seen(20, 1, false), "an arrival");
        assert!(was_seen(24, 1, false));
        assert!(!was_seen(25, 1, false));
        assert!(was_seen(90, 1, true), "a slow request");
        assert!(!was_seen(95, 1, false));
    }

    #[tokio::test]
    async fn a_blocked_event_loop_is_detected() {
        let generator = GeneratorMonitor::new();
        let delays = Mutex::new(Vec::new());
        let record = |delay| delays.lock().unwrap().push(delay);
        let watched = probe_event_loop(&generator, || true, record);
        let block = async {
            tokio::time::sleep(INTERVAL).await;
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_millis(600) {
                std::hint::spin_loop();
            }
            while generator.delayed.load(Relaxed) == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = watched => {}
            () = block => {}
        }
        // 600 ms contain six probes. At least five of them were delayed.
        assert!(generator.delayed.load(Relaxed) >= 5, "{generator:?}");
        let delays = delays.into_inner().unwrap();
        assert_eq!(delays.len() as u64, generator.probes.load(Relaxed));
        assert!(delays.iter().max() > Some(&Duration::from_millis(490)), "{delays:?}");
    }
}
