//! The alarm that wakes a driver at an instant.
//!
//! tokio's timer wheel has a resolution of one millisecond. A kernel timer (`timerfd`) is a file
//! that tokio's event loop watches. The timer fires within some hundredths of a millisecond, and
//! wakes the worker thread that then starts the request, so no thread has to wake another thread.
//! Tests on a paused clock and systems without `timerfd` use tokio's timer.

use std::time::SystemTime;

use tokio::time::Instant;

use crate::timetable::Moment;

/// The clock that a driver reads, and the timer that wakes the driver.
#[derive(Debug)]
pub enum Alarm {
    /// The clocks of the machine, and a kernel timer.
    #[cfg(target_os = "linux")]
    Kernel(kernel::Timer),
    /// tokio's clock and timer. The wall clock starts at this moment and advances together with
    /// tokio's clock, which tests can pause.
    Tokio(Moment),
}

impl Alarm {
    /// Returns the most precise alarm that this machine supports. Call this function in a tokio
    /// runtime.
    pub fn most_precise() -> Alarm {
        #[cfg(target_os = "linux")]
        match kernel::Timer::new() {
            Ok(timer) => return Alarm::Kernel(timer),
            Err(error) => {
                tracing::warn!(
                    "no kernel timer is available, so an arrival can be a millisecond late: {error}"
                );
            }
        }
        Alarm::Tokio(Moment { instant: Instant::now(), wall: SystemTime::now() })
    }

    pub(super) fn now(&self) -> Moment {
        let instant = Instant::now();
        match self {
            #[cfg(target_os = "linux")]
            Alarm::Kernel(_) => Moment { instant, wall: SystemTime::now() },
            Alarm::Tokio(start) => Moment { instant, wall: start.wall_at(instant) },
        }
    }

    /// Waits until the instant. Yields to other tasks even if the instant has passed.
    pub(super) async fn sleep_until(&mut self, until: Instant) {
        if until <= Instant::now() {
            return tokio::task::yield_now().await;
        }
        match self {
            #[cfg(target_os = "linux")]
            Alarm::Kernel(timer) => timer.sleep_until(until).await,
            Alarm::Tokio(_) => tokio::time::sleep_until(until).await,
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
