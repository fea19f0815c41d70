//! The admin commands of a running daemon: the web server and the signal handlers give them, the
//! daemon executes them.
//!
//! A bounded channel carries the commands. The reply to each is a sentence for people.

use tokio::sync::{mpsc, oneshot};

use crate::schedule_state::RateOverride;

/// The number of commands that wait for the daemon. One more makes its caller wait.
const QUEUE: usize = 16;

/// A command to the daemon.
#[derive(Debug)]
pub enum AdminCommand {
    /// Reads the configuration again and applies all of it, or nothing if it is invalid.
    Reload,
    /// Drops all arrivals from now on.
    Pause,
    /// Sends arrivals again.
    Resume,
    /// Overrides the rate of a scenario, or returns it to its schedule.
    SetRate {
        /// The name of the scenario.
        scenario: String,
        /// The change.
        rate: RateOverride,
    },
    /// Drains and ends the daemon.
    Quit,
}

/// Why the daemon did not execute a command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The command names something that does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The daemon cannot execute the command in its present state.
    #[error("{0}")]
    Unavailable(String),
    /// The daemon rejected the new configuration. Nothing changed.
    #[error("{0}")]
    Invalid(String),
}

/// A command whose caller waits for the reply.
#[derive(Debug)]
pub struct PendingCommand {
    /// The command.
    pub command: AdminCommand,
    /// Receives the result. The caller may be gone by then.
    pub reply: oneshot::Sender<Result<String, CommandError>>,
}

/// A handle that gives commands to the daemon. All clones reach the same daemon.
#[derive(Clone, Debug)]
pub struct AdminHandle(mpsc::Sender<PendingCommand>);

impl AdminHandle {
    /// Returns a handle, and the receiver for the daemon.
    pub fn new() -> (AdminHandle, mpsc::Receiver<PendingCommand>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (AdminHandle(sender), receiver)
    }

    /// Gives a command, waits until the daemon has executed it, and returns a sentence that says
    /// what was done.
    ///
    /// # Errors
    /// If the daemon did not execute the command.
    pub async fn execute(&self, command: AdminCommand) -> Result<String, CommandError> {
        let stopping = || CommandError::Unavailable("llmload is shutting down".to_owned());
        let (reply, result) = oneshot::channel();
        self.0.send(PendingCommand { command, reply }).await.map_err(|_| stopping())?;
        result.await.map_err(|_| stopping())?
    }
}
