//! Reloads the configuration. A reload applies the complete configuration, or nothing if the
//! configuration is invalid.
//!
//! A thread reads the files and prepares the change, so the daemon never waits for a disk. One
//! thread works at a time. A reload that is requested in the meantime starts after it, because the
//! thread has possibly read the files before the latest edit. All requests that wait share one
//! reload.

use std::path::PathBuf;

use tokio::sync::oneshot;

use super::ConfigSource;
use super::preparation::{Preparation, PreparedChange};
use super::reader::on_thread;
use crate::config::{self, Invalid};
use crate::control::{CommandError, Reply};
use crate::plan::Plan;

/// The source of the configuration, and the work of the thread that reads it.
pub(super) struct Reloader {
    source: Option<ConfigSource>,
    known: KnownFiles,
    /// The thread that works now, and its result.
    job: Option<(Work, oneshot::Receiver<Finished>)>,
    /// The callers that wait for the reload that runs now.
    callers: Vec<Reply>,
    /// The callers that wait for the next reload. `None` if no further reload is requested.
    next: Option<Vec<Reply>>,
}

/// All files of the configuration, including prompts and secrets.
#[derive(Clone)]
struct KnownFiles {
    files: Vec<PathBuf>,
    /// The fingerprint of the contents of `files` when the configuration was last read. An invalid
    /// configuration updates the fingerprint too.
    fingerprint: u64,
}

/// The work of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// The thread compares the files with the configuration in effect.
    Check,
    /// The thread reads the configuration.
    Read,
}

/// The result of a thread.
pub(super) enum Finished {
    /// The thread has compared the files with the configuration in effect.
    Checked { has_changed: bool },
    /// The thread has read the configuration.
    Read(ReadConfiguration),
    /// The thread could not start, or it panicked.
    Failed,
}

/// The files that a thread has read, and the change or the reason why it was rejected.
pub(super) struct ReadConfiguration(KnownFiles, Result<PreparedChange, String>);

impl Reloader {
    /// Returns a reloader for the configuration that `plan` is from. Reads its files.
    pub(super) async fn new(source: Option<ConfigSource>, plan: &Plan) -> Reloader {
        let files = plan.files.clone();
        let known =
            on_thread(move || KnownFiles { fingerprint: config::fingerprint(&files), files });
        // Without a fingerprint, the first check reads the configuration again.
        let known = known.await.unwrap_or(KnownFiles { files: Vec::new(), fingerprint: 0 });
        Reloader { source, known, job: None, callers: Vec::new(), next: None }
    }

    /// Requests a reload. `caller` gets the result.
    pub(super) fn request(&mut self, caller: Option<Reply>) {
        if self.source.is_some() {
            let callers = self.next.get_or_insert_default();
            // Callers that gave up must not add up while a thread waits for a disk.
            callers.retain(|caller| !caller.is_closed());
            callers.extend(caller);
        } else if let Some(caller) = caller {
            let _gone = caller.send(Err(CommandError::Unavailable(
                "the configuration is not from a file, so it cannot be reloaded".to_owned(),
            )));
        }
    }

    /// Starts the requested reload, unless a thread works already.
    pub(super) fn start(&mut self, preparation: impl FnOnce() -> Preparation) {
        if self.job.is_some() {
            return;
        }
        let (Some(callers), Some(source)) = (self.next.take(), self.source.clone()) else { return };
        self.callers = callers;
        let (preparation, files) = (preparation(), self.known.files.clone());
        let job = on_thread(move || {
            let (plan, known) = read(&source, files);
            let change = plan.map_err(|invalid| invalid.to_string());
            let change = change
                .and_then(|plan| preparation.prepare(plan).map_err(|error| error.to_string()));
            Finished::Read(ReadConfiguration(known, change))
        });
        self.job = Some((Work::Read, job));
    }

    /// Starts a check that requests a reload if the contents of a file have changed since the
    /// configuration was last read. Modification times cannot show this, because Kubernetes changes
    /// a `ConfigMap` by swapping symbolic links.
    pub(super) fn check_files(&mut self) {
        if self.job.is_some() || self.source.is_none() {
            return;
        }
        let KnownFiles { files, fingerprint } = self.known.clone();
        let check =
            move || Finished::Checked { has_changed: config::fingerprint(&files) != fingerprint };
        self.job = Some((Work::Check, on_thread(check)));
    }

    /// Waits for the thread that works now, forever if there is none.
    pub(super) async fn finished(&mut self) -> Finished {
        match &mut self.job {
            Some((_, job)) => job.await.unwrap_or(Finished::Failed),
            None => std::future::pending().await,
        }
    }

    /// Handles the result of the thread. Returns the change to apply, or the reason why the
    /// configuration was rejected. Returns `None` if there was no reload.
    pub(super) fn handle(&mut self, finished: Finished) -> Option<Result<PreparedChange, String>> {
        let work = self.job.take().map(|(work, _)| work);
        match finished {
            Finished::Checked { has_changed: false } => None,
            Finished::Checked { has_changed: true } => {
                self.request(None);
                None
            }
            Finished::Read(ReadConfiguration(known, change)) => {
                self.known = known;
                Some(change)
            }
            // Nothing has read the configuration, so llmload does not reject it. The next check
            // compares the files again.
            Finished::Failed if work == Some(Work::Check) => {
                tracing::warn!(
                    "llmload could not check the files of the configuration for changes"
                );
                None
            }
            Finished::Failed => Some(Err(
                "the thread that reads the configuration could not start or panicked; the log has \
                 the reason"
                    .to_owned(),
            )),
        }
    }

    /// Ends the wait of all callers. A thread that still reads files is left alone.
    pub(super) fn stop(&mut self) {
        (self.callers, self.next, self.job) = (Vec::new(), None, None);
    }

    /// Sends the result of a reload to its callers.
    pub(super) fn reply(&mut self, result: &Result<String, CommandError>) {
        for caller in self.callers.drain(..) {
            // The caller possibly no longer waits.
            let _gone = caller.send(result.clone());
        }
    }
}

/// Reads the configuration. Returns the plan, and its files with the fingerprint that these files
/// had just before they were read. If a file changes while it is read, the next check finds a
/// different fingerprint and reads the configuration again.
fn read(source: &ConfigSource, known_files: Vec<PathBuf>) -> (Result<Plan, Invalid>, KnownFiles) {
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
            return (plan, KnownFiles { files, fingerprint });
        }
        files.clone_from(read_files);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_check_that_fails_is_no_rejected_configuration() {
        for (work, is_rejected) in [(Work::Check, false), (Work::Read, true)] {
            // The sender is dropped, as for a thread that cannot start.
            let job = (work, oneshot::channel().1);
            let known = KnownFiles { files: Vec::new(), fingerprint: 0 };
            let mut reloader =
                Reloader { source: None, known, job: Some(job), callers: Vec::new(), next: None };
            let finished = reloader.finished().await;
            assert_eq!(reloader.handle(finished).is_some(), is_rejected, "{work:?}");
            assert!(reloader.job.is_none(), "the next check can start");
        }
    }
}
