//! Reloading the configuration. A reload applies all of it, or nothing if it is invalid.

use std::path::PathBuf;

use super::ConfigSource;
use super::supervisor::Supervisor;
use crate::config::{self, Invalid};
use crate::control::CommandError;
use crate::metrics::Metrics;
use crate::plan::Plan;
use crate::status::StatusBoard;

/// The source of the configuration, and the files that it consists of.
pub(super) struct Reloader {
    source: Option<ConfigSource>,
    /// All files that were read, such as prompts and secrets.
    files: Vec<PathBuf>,
    /// The fingerprint of their contents at the last read, even if the configuration was invalid.
    fingerprint: u64,
}

impl Reloader {
    pub(super) async fn new(source: Option<ConfigSource>, plan: &Plan) -> Reloader {
        let files = plan.files.clone();
        let fingerprint = fingerprint(files.clone()).await;
        Reloader { source, files, fingerprint }
    }

    /// Returns true if the contents of a file have changed since the last read. Modification times
    /// are no help, because a `ConfigMap` changes by swapping symbolic links.
    pub(super) async fn has_changed_files(&self) -> bool {
        self.source.is_some() && fingerprint(self.files.clone()).await != self.fingerprint
    }

    /// Reads the configuration again and applies it. Returns a sentence that says what was done.
    pub(super) async fn reload(
        &mut self,
        supervisor: &mut Supervisor,
        metrics: &Metrics,
        board: &StatusBoard,
    ) -> Result<String, CommandError> {
        let reject = |problem: String| {
            metrics.config_rejected();
            board.set_reload_error(problem.clone());
            tracing::error!("configuration rejected, the previous one stays in effect: {problem}");
            Err(CommandError::Invalid(problem))
        };
        let Some(source) = self.source.clone() else {
            return Err(CommandError::Unavailable(
                "the configuration did not come from a file, so it cannot be reloaded".to_owned(),
            ));
        };
        let files = self.files.clone();
        let plan;
        (plan, self.files, self.fingerprint) = run_blocking(move || read(&source, files)).await;
        let plan = match plan {
            Ok(plan) => plan,
            Err(invalid) => return reject(invalid.to_string()),
        };
        for warning in &plan.warnings {
            tracing::warn!("{warning}");
        }
        match supervisor.change_to(plan).await {
            Ok(changes) => {
                tracing::info!("configuration reloaded: {changes}");
                Ok(format!("The configuration was reloaded: {changes}."))
            }
            Err(error) => reject(error.to_string()),
        }
    }
}

/// Reads the configuration. Returns it with its files, and with their fingerprint from before the
/// read. If a file changes during the read, the fingerprint differs from the new contents, so the
/// next check reads it again.
fn read(
    source: &ConfigSource,
    known_files: Vec<PathBuf>,
) -> (Result<Plan, Invalid>, Vec<PathBuf>, u64) {
    let mut files = known_files;
    loop {
        let fingerprint = config::fingerprint(&files);
        let plan = source();
        // An invalid configuration counts too: a change of its prompt file may make it valid.
        let read_files = match &plan {
            Ok(plan) => &plan.files,
            Err(invalid) => &invalid.files,
        };
        if *read_files == files {
            return (plan, files, fingerprint);
        }
        files.clone_from(read_files);
    }
}

async fn fingerprint(files: Vec<PathBuf>) -> u64 {
    run_blocking(move || config::fingerprint(&files)).await
}

/// Runs a function that reads files, on a thread where it blocks no request.
async fn run_blocking<T: Send + 'static>(function: impl FnOnce() -> T + Send + 'static) -> T {
    let result = tokio::task::spawn_blocking(function).await;
    result.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
}
