//! The interface between a search and the module that counts the requests of its steps.

use std::fmt::Debug;
use std::sync::Arc;

use tokio::time::Instant;

use super::step::{StepPlan, StepResult};
use crate::schedule::SearchSpec;

/// The part of a step that is measured. The requests of the step are the arrivals of the phase that
/// are due in this window, whenever they end.
#[derive(Clone, Debug)]
pub struct StepWindow {
    /// The index of the phase in the schedule.
    pub phase: usize,
    pub plan: StepPlan,
    pub spec: Arc<SearchSpec>,
    /// The start of the step. The requests until `from` settle the target and are not counted.
    pub began: Instant,
    pub from: Instant,
    /// The number of requests in the window, at a constant rate.
    pub planned: Option<u64>,
}

/// Counts the requests of the steps of a search.
pub trait MeasureSteps: Debug + Send + Sync {
    /// Begins to count a step.
    fn begin(&self, window: StepWindow);

    /// Returns true if the current step cannot meet its objectives any more.
    fn is_hopeless(&self) -> bool;

    /// Ends the window of the current step. Arrivals that are due at `until` or later do not count.
    fn close(&self, until: Instant);

    /// Ends the step without a result. Later arrivals do not count.
    fn cancel(&self);

    /// Ends the step, after its last request has ended. Returns its result.
    fn end(&self, now: Instant) -> StepResult;
}
