//! Reading the configuration again: all of it is valid and changes at once, or nothing does.

use std::path::PathBuf;

use super::Source;
use super::fleet::Fleet;
use crate::config::{self, Invalid};
use crate::control::Refused;
use crate::metrics::Metrics;
use crate::plan::Plan;
use crate::status::Board;

/// Knows where the configuration came from and what was read.
pub(super) struct Reloader {
    source: Option<Source>,
    /// The files that were read.
    files: Vec<PathBuf>,
    /// Of what stood in them when they were last read, well or not.
    fingerprint: u64,
}

impl Reloader {
    pub(super) fn new(source: Option<Source>, plan: &Plan) -> Reloader {
        let fingerprint = config::fingerprint(&plan.files);
        Reloader { source, files: plan.files.clone(), fingerprint }
    }

    /// Whether anything that was read has changed since. `ConfigMap`s swap links, so times say nothing;
    /// what stands in the files does.
    pub(super) async fn is_outdated(&self) -> bool {
        let files = self.files.clone();
        let now = tokio::task::spawn_blocking(move || config::fingerprint(&files)).await;
        self.source.is_some() && now.is_ok_and(|now| now != self.fingerprint)
    }

    /// Reads the configuration again and changes over to it; what was done, in words.
    pub(super) async fn reload(
        &mut self,
        fleet: &mut Fleet,
        metrics: &Metrics,
        board: &Board,
    ) -> Result<String, Refused> {
        let refused = |words: String| {
            metrics.config_refused();
            board.refuse(words.clone());
            tracing::error!("the configuration was not reloaded, the one before goes on: {words}");
            Err(Refused::Wrong(words))
        };
        let Some(source) = self.source.clone() else {
            return Err(Refused::NotNow("there is no file to read again".to_owned()));
        };
        let files = self.files.clone();
        let read = tokio::task::spawn_blocking(move || {
            // Before: what changes while it is read is read again.
            let fingerprint = config::fingerprint(&files);
            (fingerprint, source())
        });
        let plan: Result<Plan, Invalid> = match read.await {
            Ok((fingerprint, plan)) => {
                self.fingerprint = fingerprint;
                plan
            }
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        };
        let plan = match plan {
            Ok(plan) => plan,
            Err(invalid) => return refused(invalid.to_string()),
        };
        for warning in &plan.warnings {
            tracing::warn!("{warning}");
        }
        let files = plan.files.clone();
        if let Err(error) = fleet.change_to(plan).await {
            return refused(error.to_string());
        }
        if files != self.files {
            // Nobody looked at the others before they were read: once more will do no harm.
            self.fingerprint = 0;
            self.files = files;
        }
        let scenarios = fleet.len();
        tracing::info!(scenarios, "the configuration was reloaded");
        Ok(format!("The configuration was reloaded: {scenarios} scenarios."))
    }
}
