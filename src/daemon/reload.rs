//! Reloads the configuration. An invalid configuration changes nothing.
//!
//! One thread at a time reads the files and prepares the change. A reload that arrives meanwhile
//! waits for the thread, because the thread has possibly missed the latest edit. All waiting
//! reloads become one reload.

use std::path::PathBuf;

use tokio::sync::oneshot;

use super::ConfigSource;
use super::preparation::{Preparation, PreparedChange};
use super::reader::on_thread;
use crate::config::{self, Invalid};
use crate::control::{CommandError, Reply};
use crate::plan::Plan;

pub(super) struct Reloader {
    source: Option<ConfigSource>,
    known: KnownFiles,
    /// The running thread: its work, and the channel for its result.
    job: Option<(Work, oneshot::Receiver<Finished>)>,
    /// The callers of the running reload.
    callers: Vec<Reply>,
    /// The callers of the next reload; `None` if nobody requested another reload.
    next: Option<Vec<Reply>>,
}

#[derive(Clone)]
struct KnownFiles {
    files: Vec<PathBuf>,
    /// A hash of the contents of `files`, from just before the configuration was last read.
    fingerprint: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// Compares the files with the fingerprint.
    Check,
    /// Reads the configuration and prepares the change.
    Read,
}

pub(super) enum Finished {
    Checked {
        has_changed: bool,
    },
    Read(ReadConfiguration),
    /// The thread could not start, or it panicked.
    Failed,
}

pub(super) struct ReadConfiguration(KnownFiles, Result<PreparedChange, String>);

impl Reloader {
    /// Reads the files of `plan` once for their fingerprint.
    pub(super) async fn new(source: Option<ConfigSource>, plan: &Plan) -> Reloader {
        let files = plan.files.clone();
        let known =
            on_thread(move || KnownFiles { fingerprint: config::fingerprint(&files), files });
        // Fingerprint 0 differs from the files, so the first check reloads them.
        let known = known.await.unwrap_or(KnownFiles { files: Vec::new(), fingerprint: 0 });
        Reloader { source, known, job: None, callers: Vec::new(), next: None }
    }

    pub(super) fn request(&mut self, caller: Option<Reply>) {
        if self.source.is_some() {
            let callers = self.next.get_or_insert_default();
            // While a disk hangs, callers that gave up must not use memory.
            callers.retain(|caller| !caller.is_closed());
            callers.extend(caller);
        } else if let Some(caller) = caller {
            let _gone = caller.send(Err(CommandError::Unavailable(
                "the configuration is not from a file, so it cannot be reloaded".to_owned(),
            )));
        }
    }

    /// Starts the requested reload, unless a thread is running.
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

    /// Starts a thread that looks for changed contents. Modification times are not enough, because
    /// Kubernetes updates a `ConfigMap` by swapping symbolic links.
    pub(super) fn check_files(&mut self) {
        if self.job.is_some() || self.source.is_none() {
            return;
        }
        let KnownFiles { files, fingerprint } = self.known.clone();
        let check =
            move || Finished::Checked { has_changed: config::fingerprint(&files) != fingerprint };
        self.job = Some((Work::Check, on_thread(check)));
    }

    /// Waits for the result of the running thread. Waits forever if no thread is running.
    pub(super) async fn finished(&mut self) -> Finished {
        match &mut self.job {
            Some((_, job)) => job.await.unwrap_or(Finished::Failed),
            None => std::future::pending().await,
        }
    }

    /// Handles the result of a thread. Returns the prepared change or the problem after a reload,
    /// and `None` after a check.
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
            // Only a check failed, so llmload rejects no configuration. The next check tries again.
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

    /// Drops all callers, so they get an error. A thread that still reads is not interrupted.
    pub(super) fn stop(&mut self) {
        (self.callers, self.next, self.job) = (Vec::new(), None, None);
    }

    pub(super) fn reply(&mut self, result: &Result<String, CommandError>) {
        for caller in self.callers.drain(..) {
            let _gone = caller.send(result.clone());
        }
    }
}

/// Returns the configuration, and the fingerprint that its files had before the read. If a file
/// changes during the read, the next check finds a different fingerprint and reloads.
fn read(source: &ConfigSource, known_files: Vec<PathBuf>) -> (Result<Plan, Invalid>, KnownFiles) {
    let mut files = known_files;
    loop {
        let fingerprint = config::fingerprint(&files);
        let plan = source();
        // An invalid configuration has files too: a change of its prompt file can make it valid.
        let read_files = match &plan {
            Ok(plan) => &plan.files,
            Err(invalid) => &invalid.files,
        };
        // The configuration names other files than `files`, so read it again with a fingerprint of
        // these.
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
            // A thread that cannot start drops its sender.
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
