//! What can be asked of a running daemon. The asking and the doing are apart: whoever asks gets an
//! answer in words, and there is never more than a handful of questions on their way.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::schedule::Rate;

/// Questions on their way; whoever asks one more waits.
const ON_THEIR_WAY: usize = 16;

/// One question.
#[derive(Debug)]
pub enum AdminCommand {
    /// Read the configuration again and change over to it, or change nothing.
    Reload,
    /// Drop what comes due from now on, or send it again.
    Pause(bool),
    /// Set the rate of a scenario for a while, or go back to its schedule.
    SetRate {
        /// Its name.
        scenario: String,
        /// The rate and for how long.
        rate: Option<(Rate, Duration)>,
    },
    /// Drain and end.
    Quit,
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// There is no such thing.
    #[error("{0}")]
    Unknown(String),
    /// Not now.
    #[error("{0}")]
    NotNow(String),
    /// What was to be done is wrong in itself; nothing was changed.
    #[error("{0}")]
    Wrong(String),
}

/// An order, and where its answer goes.
pub type PendingCommand = (AdminCommand, oneshot::Sender<Result<String, CommandError>>);

/// A way to ask.
#[derive(Clone, Debug)]
pub struct AdminHandle(mpsc::Sender<PendingCommand>);

impl AdminHandle {
    /// A way to ask, and the end at which it is done.
    pub fn new() -> (AdminHandle, mpsc::Receiver<PendingCommand>) {
        let (asks, commands) = mpsc::channel(ON_THEIR_WAY);
        (AdminHandle(asks), commands)
    }

    /// Asks for something, and waits until it is done: then, what was done in words.
    ///
    /// # Errors
    /// If it was not done.
    pub async fn ask(&self, command: AdminCommand) -> Result<String, CommandError> {
        let gone = || CommandError::NotNow("llmload is shutting down".to_owned());
        let (answer, answered) = oneshot::channel();
        self.0.send((command, answer)).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}
