//! The admin commands of a running daemon. The web server and the signal handlers send them, and
//! the daemon executes them. The reply to each command is a sentence for the user.

use tokio::sync::{mpsc, oneshot};

use crate::schedule_state::RateOverride;

/// The commands that can wait. If the queue is full, the next caller waits.
const QUEUE: usize = 16;

#[derive(Debug)]
pub enum AdminCommand {
    /// Reads the configuration again. An invalid configuration changes nothing.
    Reload,
    /// Drops all arrivals until `Resume`.
    Pause,
    Resume,
    /// Overrides the rate of a scenario, or ends the override.
    SetRate {
        scenario: String,
        rate: RateOverride,
    },
    /// Sends no new request, waits for the requests in flight, and ends the daemon.
    Quit,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The command names something that does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The daemon cannot execute the command now.
    #[error("{0}")]
    Unavailable(String),
    /// The new configuration is invalid. Nothing changed.
    #[error("{0}")]
    Invalid(String),
}

/// The caller possibly no longer waits for the result.
pub type Reply = oneshot::Sender<Result<String, CommandError>>;

#[derive(Debug)]
pub struct PendingCommand {
    pub command: AdminCommand,
    pub reply: Reply,
}

#[derive(Clone, Debug)]
pub struct AdminHandle(mpsc::Sender<PendingCommand>);

impl AdminHandle {
    pub fn new() -> (AdminHandle, mpsc::Receiver<PendingCommand>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (AdminHandle(sender), receiver)
    }

    /// Waits until the daemon has executed a command. Returns a sentence about the result.
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
