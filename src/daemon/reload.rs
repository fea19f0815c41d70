//! Reloads the configuration. A reload applies the complete configuration, or nothing if the
//! configuration is invalid.

use std::path::PathBuf;

use super::ConfigSource;
use super::supervisor::Supervisor;
use crate::config::{self, Invalid};
use crate::control::CommandError;
use crate::metrics::Metrics;
use crate::plan::Plan;
use crate::status::StatusBoard;

/// The source of the configuration, and all files that belong to the configuration.
pub(super) struct Reloader {
    source: Option<ConfigSource>,
    /// All files of the configuration, including prompts and secrets.
    files: Vec<PathBuf>,
    /// The fingerprint of the contents of `files` when the configuration was last read. An invalid
    /// configuration updates the fingerprint too.
    fingerprint: u64,
}

impl Reloader {
    pub(super) async fn new(source: Option<ConfigSource>, plan: &Plan) -> Reloader {
        let files = plan.files.clone();
        let fingerprint = fingerprint(files.clone()).await;
        Reloader { source, files, fingerprint }
    }

    /// Returns true if the contents of a file have changed since the configuration was last read.
    /// Modification times cannot show this, because Kubernetes changes a `ConfigMap` by swapping
    /// symbolic links.
    pub(super) async fn has_changed_files(&self) -> bool {
        self.source.is_some() && fingerprint(self.files.clone()).await != self.fingerprint
    }

    /// Reads the configuration again and applies it. Returns a sentence that describes the result.
    pub(super) async fn reload(
        &mut self,
        supervisor: &mut Supervisor,
        metrics: &Metrics,
        board: &StatusBoard,
    ) -> Result<String, CommandError> {
        let reject = |problem: String| {
            metrics.config_rejected();
            board.set_reload_error(problem.clone());
            tracing::error!(
                "configuration rejected; the previous configuration stays in effect: {problem}"
            );
            Err(CommandError::Invalid(problem))
        };
        let Some(source) = self.source.clone() else {
            return Err(CommandError::Unavailable(
                "the configuration is not from a file, so it cannot be reloaded".to_owned(),
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

/// Reads the configuration. Returns the plan, its files, and the fingerprint that these files had
/// just before they were read. If a file changes while it is read, the next check finds a different
/// fingerprint and reads the configuration again.
fn read(
    source: &ConfigSource,
    known_files: Vec<PathBuf>,
) -> (Result<Plan, Invalid>, Vec<PathBuf>, u64) {
    let mut files = known_files;
    loop {
        let fingerprint = config::fingerprint(&files);
        let plan = source();
        // The files of an invalid configuration matter too, because a change of a prompt file can
        // make the configuration valid.
        let read_files = match &plan {
            Ok(plan) => &plan.files,
            Err(invalid) => &invalid.files,
        };
        // If the list of files has changed, the fingerprint covers the wrong files, so the loop
        // reads the configuration again.
        if *read_files == files {
            return (plan, files, fingerprint);
        }
        files.clone_from(read_files);
    }
}

async fn fingerprint(files: Vec<PathBuf>) -> u64 {
    run_blocking(move || config::fingerprint(&files)).await
}

/// Runs a function that reads files. It runs on a blocking thread, so it cannot delay requests.
async fn run_blocking<T: Send + 'static>(function: impl FnOnce() -> T + Send + 'static) -> T {
    let result = tokio::task::spawn_blocking(function).await;
    result.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
}
