//! The clocks that a driver reads, and the alarm that wakes it at an instant.
//!
//! tokio's timer wheel has a resolution of one millisecond. A kernel timer (`timerfd`) is a file
//! that tokio's event loop watches. The timer fires within some hundredths of a millisecond, and
//! wakes the worker thread that then starts the request, so no thread has to wake another thread.
//! Tests on a paused clock and systems without `timerfd` use tokio's timer.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::timetable::Moment;

/// The clocks that a driver reads, and the timer that wakes the driver.
#[derive(Debug)]
pub struct Alarm {
    timer: Timer,
    /// The wall clock of a test; `None` for the wall clock of the machine.
    wall_clock: Option<TestWallClock>,
}

#[derive(Debug)]
enum Timer {
    #[cfg(target_os = "linux")]
    Kernel(kernel::Timer),
    Tokio,
}

/// A wall clock that advances together with tokio's clock, which tests can pause. A test can set
/// it, as a person can set the clock of a machine.
#[derive(Clone, Debug)]
pub struct TestWallClock(Arc<Mutex<Moment>>);

impl TestWallClock {
    /// Returns a wall clock that shows `start.wall` at `start.instant`.
    pub fn new(start: Moment) -> TestWallClock {
        TestWallClock(Arc::new(Mutex::new(start)))
    }

    /// Sets the clock to this time.
    pub fn set(&self, wall: SystemTime) {
        let now = Moment { instant: Instant::now(), wall };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// Reads tokio's clock and this clock.
    pub fn now(&self) -> Moment {
        let (set, instant) =
            (*self.0.lock().unwrap_or_else(PoisonError::into_inner), Instant::now());
        Moment { instant, wall: set.wall_at(instant) }
    }
}

/// Reads the monotonic clock and the wall clock of this machine at the same instant.
pub fn read_clocks() -> Moment {
    /// If reading the clocks takes longer, the process was suspended between the two readings. The
    /// two times then belong to different instants, and their difference would look like a step of
    /// the wall clock.
    const LONGEST: Duration = Duration::from_millis(100);
    const ATTEMPTS: usize = 10;
    let mut now = Moment { instant: Instant::now(), wall: SystemTime::now() };
    for _ in 1..ATTEMPTS {
        if now.instant.elapsed() <= LONGEST {
            break;
        }
        now = Moment { instant: Instant::now(), wall: SystemTime::now() };
    }
    now
}

impl Alarm {
    /// Returns the most precise alarm that this machine supports. Call this function in a tokio
    /// runtime.
    pub fn most_precise() -> Alarm {
        #[cfg(target_os = "linux")]
        match kernel::Timer::new() {
            Ok(timer) => return Alarm { timer: Timer::Kernel(timer), wall_clock: None },
            Err(error) => {
                tracing::warn!(
                    "no kernel timer is available, so an arrival can be a millisecond late: {error}"
                );
            }
        }
        Alarm { timer: Timer::Tokio, wall_clock: None }
    }

    /// Returns an alarm on tokio's clock, which tests can pause, with the wall clock of a test.
    pub fn on_test_clock(wall_clock: TestWallClock) -> Alarm {
        Alarm { timer: Timer::Tokio, wall_clock: Some(wall_clock) }
    }

    pub(super) fn now(&self) -> Moment {
        self.wall_clock.as_ref().map_or_else(read_clocks, TestWallClock::now)
    }

    /// Waits until the instant. Yields to other tasks even if the instant has passed.
    pub(super) async fn sleep_until(&mut self, until: Instant) {
        if until <= Instant::now() {
            return tokio::task::yield_now().await;
        }
        match &mut self.timer {
            #[cfg(target_os = "linux")]
            Timer::Kernel(timer) => timer.sleep_until(until).await,
            Timer::Tokio => tokio::time::sleep_until(until).await,
        }
    }
}

#[cfg(target_os = "linux")]
mod kernel {
    use std::io;
    use std::os::fd::OwnedFd;
    use std::time::Duration;

    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };
    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;
    use tokio::time::Instant;

    /// A kernel timer. tokio's event loop watches its file descriptor.
    #[derive(Debug)]
    pub struct Timer(AsyncFd<OwnedFd>);

    impl Timer {
        pub(super) fn new() -> io::Result<Timer> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let file = timerfd_create(TimerfdClockId::Monotonic, flags)?;
            #[expect(
                deprecated,
                reason = "sound because the descriptor cannot change; the new function is unsafe"
            )]
            let file = AsyncFd::with_interest(file, Interest::READABLE)?;
            Ok(Timer(file))
        }

        /// Waits until the instant. If the kernel timer fails, tokio's timer takes over and fires
        /// up to a millisecond late.
        pub(super) async fn sleep_until(&mut self, until: Instant) {
            if self.try_sleep_until(until).await.is_err() {
                tokio::time::sleep_until(until).await;
            }
        }

        async fn try_sleep_until(&mut self, until: Instant) -> io::Result<()> {
            while Instant::now() < until {
                // The timer is set again in each turn, because it can have fired for an earlier
                // wait.
                self.set(until)?;
                let mut guard = self.0.readable().await?;
                let mut expirations = [0; 8];
                match rustix::io::read(self.0.get_ref(), &mut expirations) {
                    Ok(_) | Err(rustix::io::Errno::AGAIN) => guard.clear_ready(),
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(())
        }

        fn set(&self, until: Instant) -> io::Result<()> {
            // Zero would disarm the timer.
            let wait = until.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
            let once = Itimerspec {
                it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
                it_value: Timespec::try_from(wait).map_err(io::Error::other)?,
            };
            timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &once)?;
            Ok(())
        }
    }
}
