//! What wakes a driver at an instant.
//!
//! tokio's timer wheel knows whole milliseconds. A timer of the kernel is a file to its event loop: it
//! rings to some hundredths of a millisecond, on the very worker that then starts the request, so that
//! no thread has to wake another. Time is otherwise tokio's, and so is the alarm of tests on paused time
//! and of systems without such files.

use std::time::SystemTime;

use tokio::time::Instant;

use crate::timetable::Moment;

/// A clock and its alarm.
#[derive(Debug)]
pub enum Alarm {
    /// The clocks of the machine.
    #[cfg(target_os = "linux")]
    Kernel(kernel::Timer),
    /// tokio's clock, with a wall clock that goes with it from this moment on.
    Tokio(Moment),
}

impl Alarm {
    /// The most precise that the machine has, in the current runtime.
    pub fn of_this_machine() -> Alarm {
        #[cfg(target_os = "linux")]
        match kernel::Timer::new() {
            Ok(timer) => return Alarm::Kernel(timer),
            Err(error) => {
                tracing::warn!("arrivals are paced to a millisecond only: no timer file: {error}")
            }
        }
        Alarm::Tokio(Moment { instant: Instant::now(), wall: SystemTime::now() })
    }

    pub(super) fn now(&self) -> Moment {
        let instant = Instant::now();
        match self {
            #[cfg(target_os = "linux")]
            Alarm::Kernel(_) => Moment { instant, wall: SystemTime::now() },
            Alarm::Tokio(epoch) => Moment { instant, wall: epoch.wall_at(instant) },
        }
    }

    /// Waits until then, and lets others run in any case.
    pub(super) async fn rings_at(&mut self, until: Instant) {
        if until <= Instant::now() {
            return tokio::task::yield_now().await;
        }
        match self {
            #[cfg(target_os = "linux")]
            Alarm::Kernel(timer) => timer.rings_at(until).await,
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

    /// A timer that is a file.
    #[derive(Debug)]
    pub struct Timer(AsyncFd<OwnedFd>);

    impl Timer {
        pub(super) fn new() -> io::Result<Timer> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let file = timerfd_create(TimerfdClockId::Monotonic, flags)?;
            #[expect(
                deprecated,
                reason = "sound where the descriptor cannot change, as here; its successor is unsafe"
            )]
            let file = AsyncFd::with_interest(file, Interest::READABLE)?;
            Ok(Timer(file))
        }

        /// What cannot be set rings a little late, by tokio's clock.
        pub(super) async fn rings_at(&mut self, until: Instant) {
            if self.ring(until).await.is_err() {
                tokio::time::sleep_until(until).await;
            }
        }

        async fn ring(&mut self, until: Instant) -> io::Result<()> {
            while Instant::now() < until {
                // Anew each time: it may have rung for what was waited for before.
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
            // Zero would disarm it.
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
