//! Temporary.
use std::time::{Duration, SystemTime, UNIX_EPOCH};
/// A
#[derive(Clone, Debug, PartialEq)]
pub enum Anchor {
    /// E
    Epoch,
}
/// C
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cycle {
    /// n
    pub number: u64,
    /// s
    pub start: SystemTime,
    /// e
    pub end: SystemTime,
}
impl Anchor {
    /// c
    pub fn cycle_at(&self, length: Duration, now: SystemTime) -> Cycle {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let number = since / length.as_nanos().max(1);
        let start = UNIX_EPOCH + Duration::from_nanos((number * length.as_nanos()) as u64);
        Cycle { number: number as u64, start, end: start + length }
    }
}
/// C
#[derive(Clone, Debug, PartialEq)]
pub struct Cron(pub Duration);
impl Cron {
    /// n
    pub fn next_after(&self, after: SystemTime) -> Option<SystemTime> {
        let since = after.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let n = since / self.0.as_nanos() + 1;
        Some(UNIX_EPOCH + Duration::from_nanos((n * self.0.as_nanos()) as u64))
    }
}
/// W
#[derive(Clone, Debug, PartialEq)]
pub struct Windows;
impl Windows {
    /// a
    pub fn at(&self, _now: SystemTime) -> (bool, Option<SystemTime>) {
        (true, None)
    }
}
