//! What reaches the driver of a scenario from outside: slots that become free, and what it is told.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::slots::Return;
use crate::schedule::{ArrivalSpec, Rate};
use crate::timetable::Timetable;

/// Slots on their way back, never more than are in use, and at most one order of each kind.
#[derive(Debug, Default)]
pub struct Mailbox {
    inner: Mutex<Inner>,
    woken: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    returned: Vec<Return>,
    commands: DriverCommands,
}

/// What becomes of a rate that is set by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RateOverride {
    /// It holds for so long.
    To(Rate, Duration),
    /// The schedule holds again.
    Back,
}

/// What the driver was told since it last looked.
#[derive(Debug, Default)]
pub(super) struct DriverCommands {
    /// Another schedule, from now on.
    pub replacement: Option<(Timetable, ArrivalSpec)>,
    /// Another rate for a time, or none any more.
    pub rate: Option<RateOverride>,
    /// What a cycle waited for is there.
    pub ready: bool,
}

impl DriverCommands {
    pub(super) fn is_empty(&self) -> bool {
        self.replacement.is_none() && self.rate.is_none() && !self.ready
    }
}

impl Mailbox {
    /// From now on this schedule, and any rate that was set is forgotten.
    pub fn replace(&self, timetable: Timetable, spread: ArrivalSpec) {
        self.command(|commands| {
            commands.replacement = Some((timetable, spread));
            commands.rate = None;
        });
    }

    /// Arrivals at this rate for a while, in place of those of the schedule; `None` goes back to it.
    /// Whether the order that nobody has taken yet, and that this one replaces, set a rate.
    pub fn set_rate(&self, rate: Option<(Rate, Duration)>) -> Option<bool> {
        let set = rate.map_or(RateOverride::Back, |(rate, length)| RateOverride::To(rate, length));
        self.command(|commands| commands.rate.replace(set))
            .map(|before| before != RateOverride::Back)
    }

    /// What a cycle waited for is there.
    pub fn ready(&self) {
        self.command(|commands| commands.ready = true);
    }

    /// Until something came in since this was last asked.
    pub(super) async fn woken(&self) {
        self.woken.notified().await;
    }

    pub(super) fn put_back(&self, slot: Return) {
        self.lock().returned.push(slot);
        self.woken.notify_one();
    }

    pub(super) fn returned(&self) -> Vec<Return> {
        std::mem::take(&mut self.lock().returned)
    }

    pub(super) fn commands(&self) -> DriverCommands {
        std::mem::take(&mut self.lock().commands)
    }

    pub(super) fn has_commands(&self) -> bool {
        !self.lock().commands.is_empty()
    }

    fn command<T>(&self, give: impl FnOnce(&mut DriverCommands) -> T) -> T {
        let given = give(&mut self.lock().commands);
        self.woken.notify_one();
        given
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
