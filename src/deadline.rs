//! Timeouts that count only the time in which llmload ran.
//!
//! The operating system can stop llmload for some seconds, for example if a virtual machine pauses.
//! The response of a server then waits in the socket. A usual timer would expire before llmload
//! reads this response, and the report would blame the server.
//!
//! So a timer of this module also rings several times before its deadline. If a ring is 3 s late,
//! llmload did not run for 3 s, and the deadline moves by 3 s. If the deadline has passed at a late
//! ring, llmload first gets a short time to read from all sockets.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

/// A ring is late if its delay is longer than this. The probe of the event loop has the same
/// tolerance.
const TOLERANCE: Duration = Duration::from_millis(25);
/// The number of rings in the shortest timeout.
const RINGS: u32 = 10;
/// The shortest time between two rings, because more rings would need too much CPU.
const MIN_INTERVAL: Duration = Duration::from_millis(50);
const MAX_INTERVAL: Duration = Duration::from_millis(500);
/// A second look: the time to read from the sockets, if the deadline has passed at a late ring.
const SECOND_LOOK: Duration = Duration::from_millis(100);
/// The most second looks of one timer. Otherwise it would never expire if every ring is late.
const MAX_SECOND_LOOKS: u8 = 10;

/// Measures the time in which llmload did not run, by the late rings of one timer.
#[derive(Debug)]
pub struct StallMeter {
    interval: Duration,
    /// The instant of the next ring.
    due: Instant,
    lost: Duration,
    second_looks: u8,
}

impl StallMeter {
    /// Returns a meter for timeouts of at least `shortest`.
    pub fn new(now: Instant, shortest: Duration) -> StallMeter {
        let interval = (shortest / RINGS).clamp(MIN_INTERVAL, MAX_INTERVAL);
        StallMeter { interval, due: now, lost: Duration::ZERO, second_looks: 0 }
    }

    /// Returns the time in which llmload did not run. It can be too short by one interval for each
    /// stall, because a stall can begin just after a ring.
    pub fn lost(&self) -> Duration {
        self.lost
    }

    /// Returns the instant of the next ring: the deadline, or earlier.
    pub fn schedule(&mut self, now: Instant, deadline: Instant) -> Instant {
        self.due = deadline.min(now + self.interval).max(now);
        self.due
    }

    /// Records that llmload ran at `now`. If the ring was late, adds the delay to the lost time and
    /// returns true.
    pub fn record_run(&mut self, now: Instant) -> bool {
        let late = now.saturating_duration_since(self.due);
        if late <= TOLERANCE {
            return false;
        }
        self.lost += late;
        self.due = now;
        true
    }

    /// Returns the next ring after a ring at `now`, or `None` if the timer expires. `is_late` is
    /// the result of [`StallMeter::record_run`]. `deadline` already includes the lost time.
    pub fn next_ring(&mut self, now: Instant, deadline: Instant, is_late: bool) -> Option<Instant> {
        if now < deadline {
            return Some(self.schedule(now, deadline));
        }
        if !is_late || self.second_looks == MAX_SECOND_LOOKS {
            return None;
        }
        self.second_looks += 1;
        Some(self.schedule(now, now + SECOND_LOOK))
    }
}

/// Waits for `work` up to `timeout`, not counting the time in which llmload did not run. Returns
/// `None` after the timeout.
pub async fn within<T>(timeout: Duration, work: impl Future<Output = T>) -> Option<T> {
    let begin = Instant::now();
    let mut stalls = StallMeter::new(begin, timeout);
    let first = stalls.schedule(begin, begin + timeout);
    let (mut work, mut sleep) = (pin!(work), pin!(tokio::time::sleep_until(first)));
    poll_fn(|context| {
        if let Poll::Ready(value) = work.as_mut().poll(context) {
            return Poll::Ready(Some(value));
        }
        while sleep.as_mut().poll(context).is_ready() {
            let now = Instant::now();
            let is_late = stalls.record_run(now);
            match stalls.next_ring(now, begin + timeout + stalls.lost(), is_late) {
                Some(at) => sleep.as_mut().reset(at),
                None => return Poll::Ready(None),
            }
        }
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// A timer with a timeout of two seconds from instant 0. All instants are in milliseconds.
    struct Timer {
        begin: Instant,
        stalls: StallMeter,
    }

    impl Timer {
        fn new() -> Timer {
            let begin = Instant::now();
            let mut stalls = StallMeter::new(begin, millis(2_000));
            assert_eq!(stalls.schedule(begin, begin + millis(2_000)), begin + millis(200));
            Timer { begin, stalls }
        }

        fn ring(&mut self, at: u64) -> Option<u128> {
            let now = self.begin + millis(at);
            let is_late = self.stalls.record_run(now);
            let deadline = self.begin + millis(2_000) + self.stalls.lost();
            Some((self.stalls.next_ring(now, deadline, is_late)? - self.begin).as_millis())
        }
    }

    #[test]
    fn rings_in_time_move_no_deadline() {
        let mut timer = Timer::new();
        for ring in 1..10 {
            // Each ring is as late as the tolerance allows.
            let at = ring * 200 + if ring == 9 { 25 } else { 0 };
            assert_eq!(timer.ring(at), Some(u128::from(at + 200).min(2_000)));
        }
        assert_eq!(timer.ring(2_025), None);
        assert_eq!(timer.stalls.lost(), Duration::ZERO);
    }

    #[test]
    fn a_deadline_moves_by_the_time_in_which_llmload_did_not_run() {
        let mut timer = Timer::new();
        assert_eq!(timer.ring(200), Some(400));
        // llmload was stopped from 300 to 5300. The ring was due at 400.
        assert_eq!(timer.ring(5_300), Some(5_500));
        assert_eq!(timer.stalls.lost(), millis(4_900));
        for at in (5_500..6_700).step_by(200) {
            assert_eq!(timer.ring(at), Some(u128::from(at + 200)));
        }
        assert_eq!(timer.ring(6_700), Some(6_900));
        assert_eq!(timer.ring(6_900), None);
    }

    #[test]
    fn a_deadline_that_passes_in_a_stall_gives_time_for_a_second_look() {
        let mut timer = Timer::new();
        for at in (200..2_000).step_by(200) {
            timer.ring(at);
        }
        assert_eq!(timer.ring(3_000), Some(3_100));
        // A second stall in this time gives another second look.
        assert_eq!(timer.ring(4_000), Some(4_100));
        assert_eq!(timer.ring(4_100), None);
    }

    #[test]
    fn a_timer_expires_even_if_every_ring_is_late() {
        let mut timer = Timer::new();
        let mut at = 230;
        let mut rings = 0;
        while let Some(next) = timer.ring(at) {
            at = u64::try_from(next).unwrap() + 30;
            rings += 1;
        }
        assert!(rings < 25, "{rings}");
    }

    #[test]
    fn a_read_after_a_stall_counts_the_stall_once() {
        let mut timer = Timer::new();
        let read = timer.begin + millis(1_200);
        assert!(timer.stalls.record_run(read));
        assert!(!timer.stalls.record_run(read));
        assert_eq!(timer.ring(1_200), Some(1_400));
        assert_eq!(timer.stalls.lost(), millis(1_000));
    }

    #[test]
    fn the_time_between_rings_is_a_tenth_of_the_timeout_within_limits() {
        let now = Instant::now();
        let far = now + Duration::from_hours(1);
        for (timeout, interval) in [(100, 50), (2_000, 200), (600_000, 500)] {
            let ring = StallMeter::new(now, millis(timeout)).schedule(now, far);
            assert_eq!(ring - now, millis(interval));
        }
        let ring = StallMeter::new(now, millis(2_000)).schedule(now, now);
        assert_eq!(ring, now);
    }

    #[tokio::test(start_paused = true)]
    async fn work_within_the_timeout_returns_its_value() {
        let begin = Instant::now();
        assert_eq!(within(millis(500), tokio::time::sleep(millis(499))).await, Some(()));
        assert_eq!(within(millis(500), std::future::pending::<()>()).await, None);
        assert_eq!(begin.elapsed(), millis(999));
    }

    /// The value has arrived, but llmload was stopped beyond the timeout.
    #[tokio::test(start_paused = true)]
    async fn a_stop_beyond_the_timeout_does_not_lose_a_value_that_has_arrived() {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let waiting = tokio::spawn(within(millis(500), receiver));
        tokio::task::yield_now().await;
        let _passing_on = tokio::spawn(async move {
            tokio::time::sleep(millis(100)).await;
            // A value from a socket needs several turns of the runtime to reach a request.
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            sender.send(7)
        });
        tokio::task::yield_now().await;
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(waiting.await.unwrap(), Some(Ok(7)));
    }
}
