//! Reading the configuration again: all of it is valid and changes at once, or nothing does.

use std::path::PathBuf;

use super::Source;
use super::supervisor::Supervisor;
use crate::config::{self, Invalid};
use crate::control::CommandError;
use crate::metrics::Metrics;
use crate::plan::Plan;
use crate::status::StatusBoard;

/// Knows where the configuration came from and what was read.
pub(super) struct Reloader {
    source: Option<Source>,
    /// The files that were read.
    files: Vec<PathBuf>,
    /// Of what stood in them when they were last read, well or not.
    fingerprint: u64,
}

impl Reloader {
    pub(super) async fn new(source: Option<Source>, plan: &Plan) -> Reloader {
        let (files, taken) = (plan.files.clone(), plan.files.clone());
        let fingerprint = aside(move || config::fingerprint(&taken)).await;
        Reloader { source, files, fingerprint }
    }

    /// Whether anything that was read has changed since. `ConfigMap`s swap links, so times say nothing;
    /// what stands in the files does.
    pub(super) async fn is_outdated(&self) -> bool {
        let files = self.files.clone();
        self.source.is_some()
            && aside(move || config::fingerprint(&files)).await != self.fingerprint
    }

    /// Reads the configuration again and changes over to it; what was done, in words.
    pub(super) async fn reload(
        &mut self,
        supervisor: &mut Supervisor,
        metrics: &Metrics,
        board: &StatusBoard,
    ) -> Result<String, CommandError> {
        let refused = |words: String| {
            metrics.config_rejected();
            board.set_reload_error(words.clone());
            tracing::error!("the configuration was not reloaded, the one before goes on: {words}");
            Err(CommandError::Wrong(words))
        };
        let Some(source) = self.source.clone() else {
            return Err(CommandError::NotNow("there is no file to read again".to_owned()));
        };
        let files = self.files.clone();
        let plan;
        (plan, self.files, self.fingerprint) = aside(move || read(&source, files)).await;
        let plan = match plan {
            Ok(plan) => plan,
            Err(invalid) => return refused(invalid.to_string()),
        };
        for warning in &plan.warnings {
            tracing::warn!("{warning}");
        }
        match supervisor.change_to(plan).await {
            Ok(changes) => {
                tracing::info!("the configuration was reloaded: {changes}");
                Ok(format!("The configuration was reloaded: {changes}."))
            }
            Err(error) => refused(error.to_string()),
        }
    }
}

/// The configuration, the files that it was read from, and what stood in them before: what changes
/// while it is read is read again.
fn read(source: &Source, known: Vec<PathBuf>) -> (Result<Plan, Invalid>, Vec<PathBuf>, u64) {
    let mut files = known;
    loop {
        let fingerprint = config::fingerprint(&files);
        let plan = source();
        // Of one that is refused too: who mends the prompts that it names mends it.
        let taken = match &plan {
            Ok(plan) => &plan.files,
            Err(invalid) => &invalid.files,
        };
        if *taken == files {
            return (plan, files, fingerprint);
        }
        files.clone_from(taken);
    }
}

/// Does what reads files where it holds up nobody.
async fn aside<T: Send + 'static>(handle: impl FnOnce() -> T + Send + 'static) -> T {
    let done = tokio::task::spawn_blocking(handle).await;
    done.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
}
