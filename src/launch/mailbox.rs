//! The commands that a running driver has not applied yet.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::schedule::ArrivalSpec;
use crate::schedule_state::RateOverride;
use crate::timetable::Timetable;

/// The pending commands to a driver, at most one of each kind. A newer command replaces an older
/// one.
#[derive(Debug, Default)]
pub struct Mailbox {
    commands: Mutex<DriverCommands>,
    notify: Notify,
}

/// The commands that the driver has not applied yet.
#[derive(Debug, Default)]
pub(super) struct DriverCommands {
    /// Replaces the schedule.
    pub schedule: Option<(Timetable, ArrivalSpec)>,
    /// Changes the manual rate override.
    pub rate: Option<RateOverride>,
    /// True if the target is ready again.
    pub is_target_ready: bool,
    /// True if all sessions end, because a reload has changed their conversations.
    pub ends_sessions: bool,
}

impl DriverCommands {
    fn is_empty(&self) -> bool {
        let Self { schedule, rate, is_target_ready, ends_sessions } = self;
        schedule.is_none() && rate.is_none() && !is_target_ready && !ends_sessions
    }
}

impl Mailbox {
    /// Replaces the schedule, and ends any manual rate override.
    pub fn replace_schedule(&self, timetable: Timetable, arrivals: ArrivalSpec) {
        let mut commands = self.lock();
        commands.schedule = Some((timetable, arrivals));
        commands.rate = None;
        self.notify.notify_one();
    }

    /// Sets or clears a manual rate override. If the driver has not applied the previous change
    /// yet, replaces that change and returns it.
    pub fn set_rate(&self, rate: RateOverride) -> Option<RateOverride> {
        let replaced = self.lock().rate.replace(rate);
        self.notify.notify_one();
        replaced
    }

    /// Reports that the target is ready. A cycle that waits for the target then begins.
    pub fn set_target_ready(&self) {
        self.lock().is_target_ready = true;
        self.notify.notify_one();
    }

    /// Ends all sessions in progress. Each turn in flight still ends normally.
    pub fn end_sessions(&self) {
        self.lock().ends_sessions = true;
        self.notify.notify_one();
    }

    /// Waits for a command. Returns at once if a command has arrived since the last call.
    pub(super) async fn notified(&self) {
        self.notify.notified().await;
    }

    pub(super) fn take_commands(&self) -> DriverCommands {
        std::mem::take(&mut *self.lock())
    }

    pub(super) fn has_commands(&self) -> bool {
        !self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, DriverCommands> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
