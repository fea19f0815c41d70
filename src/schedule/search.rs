//! The phase that searches the capacity of a target: its range, its resolution and its objectives.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use super::Rate;
use crate::slo::{Share, Slo};

/// The levels among which a search looks for the highest level that meets the objectives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SearchRange {
    /// Open loop at constant rates. `from` is above 0 and below `to`.
    Rate { from: Rate, to: Rate },
    /// Closed loop with fixed numbers of requests in flight. `from` is below `to`.
    Concurrency { from: NonZeroU32, to: NonZeroU32 },
}

impl fmt::Display for SearchRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SearchRange::Rate { from, to } => write!(f, "{from} to {to}"),
            SearchRange::Concurrency { from, to } => write!(f, "concurrency {from} to {to}"),
        }
    }
}

/// A search for the capacity of a target.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SearchSpec {
    pub range: SearchRange,
    /// The search ends when the highest level that meets the objectives and the lowest level that
    /// misses them differ by at most this fraction.
    pub resolution: Share,
    /// The shortest time in which a step measures one level. The time to settle comes in addition.
    pub step: Duration,
    /// The objectives that a level must meet. At least one.
    pub slo: Slo,
}
