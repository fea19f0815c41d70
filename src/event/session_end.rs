//! The reasons for the early end of a session.

/// Why a session ended before its last turn. llmload repeats no turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SessionEnd {
    /// A turn failed.
    Failed,
    /// A guard dropped a turn.
    Dropped,
    /// llmload aborted a turn in flight.
    Aborted,
    /// The answer of a turn is longer than llmload keeps, or the histories of all sessions reached
    /// `max_history`.
    TooLarge,
    /// The next turn was due after the end of the schedule or of the run.
    ScheduleEnd,
    /// A reload changed the schedule or the prompts, or removed the scenario.
    Reload,
    /// llmload was shutting down.
    Shutdown,
}

impl SessionEnd {
    pub const ALL: [SessionEnd; 7] = [
        SessionEnd::Failed,
        SessionEnd::Dropped,
        SessionEnd::Aborted,
        SessionEnd::TooLarge,
        SessionEnd::ScheduleEnd,
        SessionEnd::Reload,
        SessionEnd::Shutdown,
    ];

    /// The value of the `reason` label.
    pub fn as_str(self) -> &'static str {
        match self {
            SessionEnd::Failed => "failed",
            SessionEnd::Dropped => "dropped",
            SessionEnd::Aborted => "aborted",
            SessionEnd::TooLarge => "too_large",
            SessionEnd::ScheduleEnd => "schedule_end",
            SessionEnd::Reload => "reload",
            SessionEnd::Shutdown => "shutdown",
        }
    }
}
