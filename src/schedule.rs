//! When requests are due: phases, the integral Λ of their rate, and its inverse.
//!
//! A schedule is a pure function of time. It is computed in integers throughout, so that a month
//! of uptime is as exact as the first second; there is no tick and nothing accumulates.
//!
//! Areas under the rate line are counted in [`Area`] units of 1/(7.2·10¹⁸) of an arrival. That
//! odd unit makes each area a whole number: rates are millionths of an arrival per hour, times are
//! nanoseconds (3.6·10¹² to the hour), and a ramp halves once.

mod rate;

use std::num::NonZeroU32;
use std::time::Duration;

pub use rate::{Area, ParseRateError, Rate};

/// What a phase asks for while it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Load {
    /// Open loop at one rate.
    Constant(Rate),
    /// Open loop at a rate that moves in a straight line.
    Ramp {
        /// Rate at the start.
        from: Rate,
        /// Rate at the end.
        to: Rate,
    },
    /// No load.
    Pause,
    /// Closed loop: this many requests in flight, each replaced as it ends.
    Concurrency(NonZeroU32),
}

/// One entry of a schedule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Phase {
    /// Shown on dashboards; unique within a schedule.
    pub name: String,
    /// What is asked for.
    pub load: Load,
    /// For how long; more than zero.
    pub length: Duration,
}

/// How often the whole schedule is gone through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Repeat {
    /// For as long as the daemon lives.
    Forever,
    /// So many times.
    Times(NonZeroU32),
}

/// Phases in order, gone through once. See the module's documentation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    phases: Vec<Phase>,
}

impl Schedule {
    /// A schedule of these phases.
    pub fn new(phases: Vec<Phase>) -> Schedule {
        Schedule { phases }
    }

    /// In order.
    pub fn phases(&self) -> &[Phase] {
        &self.phases
    }
}
