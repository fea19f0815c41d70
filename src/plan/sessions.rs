//! The sessions of a scenario whose prompts are conversations.

use std::num::NonZeroU32;

/// The settings of the sessions. A session is a conversation of several turns, and each turn is a
/// request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sessions {
    /// The highest number of sessions in progress.
    pub max: NonZeroU32,
    pub history: History,
    /// The highest length of the histories of all sessions in progress, in bytes.
    pub max_history: u64,
    /// The header that carries the id of the session.
    pub header: Option<http::HeaderName>,
}

/// The answers that a later turn sends back to the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum History {
    /// The answers that the model really gave.
    #[default]
    Live,
    /// The answers in the file of conversations.
    Recorded,
}

impl History {
    /// The value in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            History::Live => "live",
            History::Recorded => "recorded",
        }
    }
}
