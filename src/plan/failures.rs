//! The archive of failed requests, as a configuration defines it.

use std::path::PathBuf;

/// The archive of failed requests of a daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureArchive {
    /// The folder of the files.
    pub dir: PathBuf,
    /// The highest size of all files together.
    pub max_bytes: u64,
    pub prompts: KeptPrompts,
}

/// The form in which the archive of failed requests contains the request bodies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeptPrompts {
    /// The complete body.
    Full,
    /// Only the size and a hash of the body.
    Hash,
    #[default]
    None,
}
