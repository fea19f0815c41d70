//! The admin commands of a running daemon. The web server and the signal handlers send the
//! commands, and the daemon executes them.
//!
//! A bounded channel transports the commands. The reply to each command is a sentence for the user.

use tokio::sync::{mpsc, oneshot};

use crate::schedule_state::RateOverride;

/// The highest number of commands that can wait in the channel. If the channel is full, the next
/// caller waits until the daemon has taken a command out.
const QUEUE: usize = 16;

/// A command to the daemon.
#[derive(Debug)]
pub enum AdminCommand {
    /// Reads the configuration again and applies it. If the configuration is invalid, nothing
    /// changes.
    Reload,
    /// Drops all arrivals until the load is resumed.
    Pause,
    /// Sends arrivals again after a pause.
    Resume,
    /// Overrides the rate of a scenario, or returns the scenario to its schedule.
    SetRate {
        /// The name of the scenario.
        scenario: String,
        /// The change.
        rate: RateOverride,
    },
    /// Stops sending, waits for the requests in flight, and ends the daemon.
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

/// Sends the result of a command to its caller, who possibly no longer waits for it.
pub type Reply = oneshot::Sender<Result<String, CommandError>>;

/// A command whose caller waits for the reply.
#[derive(Debug)]
pub struct PendingCommand {
    pub command: AdminCommand,
    pub reply: Reply,
}

/// A handle that sends commands to the daemon. All clones send to the same daemon.
#[derive(Clone, Debug)]
pub struct AdminHandle(mpsc::Sender<PendingCommand>);

impl AdminHandle {
    /// Returns a handle, and the receiver from which the daemon reads the commands.
    pub fn new() -> (AdminHandle, mpsc::Receiver<PendingCommand>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (AdminHandle(sender), receiver)
    }

    /// Sends a command and waits until the daemon has executed it. Returns a sentence that
    /// describes the result.
    ///
    /// # Errors
    /// Fails if the daemon did not execute the command.
    pub async fn execute(&self, command: AdminCommand) -> Result<String, CommandError> {
        let stopping = || CommandError::Unavailable("llmload is shutting down".to_owned());
        let (reply, result) = oneshot::channel();
        self.0.send(PendingCommand { command, reply }).await.map_err(|_| stopping())?;
        result.await.map_err(|_| stopping())?
    }
}
