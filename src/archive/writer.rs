//! The thread that masks and writes the records of the archive. Only this thread waits for the
//! disk.

use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::record::Draft;
use super::{ArchiveSettings, LossReason, Shared, State};
use crate::measurement::Failure;

/// The highest number of records that the thread writes at once.
pub(super) const BATCH: usize = 128;
/// The time that a record waits for others, so the thread wakes up rarely.
const BATCH_DELAY: Duration = Duration::from_millis(100);
/// The priority of the thread, from -20 to 19. It masks records only if no thread that sends
/// requests needs the processor.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;
/// The shortest time between two log lines about a disk that does not work.
const LOG_INTERVAL: Duration = Duration::from_mins(1);

/// Starts the thread. Returns false if the system allows no more threads.
pub(super) fn start(shared: &Arc<Shared>) -> bool {
    let shared = Arc::clone(shared);
    let run = move || {
        yield_to_the_load();
        let mut disk = DiskLog::default();
        while let Some((settings, drafts)) = shared.next_batch() {
            let (written, result) = shared.write(&settings, drafts);
            disk.record(&settings, written, result);
            let mut state = shared.lock();
            state.is_writing = false;
            state.progress += 1;
            drop(state);
            shared.written.notify_all();
        }
    };
    match std::thread::Builder::new().name("archive".to_owned()).spawn(run) {
        Ok(_runs_until_the_archive_closes) => true,
        Err(error) => {
            tracing::error!(
                "failed requests are not archived, because the thread that writes them could not \
                 be started; raise the limit of threads (`ulimit -u`): {error}"
            );
            false
        }
    }
}

/// Lowers the priority of this thread. On Linux, each thread has its own priority.
fn yield_to_the_load() {
    // The thread also works with the priority of the others.
    #[cfg(target_os = "linux")]
    let _ignored = rustix::process::setpriority_process(None, NICE);
}

impl Shared {
    /// Waits for records. Returns `None` when the archive is closed and its queue is empty.
    fn next_batch(&self) -> Option<(Arc<ArchiveSettings>, Vec<Draft>)> {
        let state = self.lock();
        let is_idle = |state: &mut State| state.queue.is_empty() && !state.is_closed;
        let state = self.arrived.wait_while(state, is_idle).unwrap_or_else(PoisonError::into_inner);
        let is_small = |state: &mut State| state.queue.len() < BATCH && !state.is_closed;
        let waited = self.arrived.wait_timeout_while(state, BATCH_DELAY, is_small);
        let (mut state, _is_complete) = waited.unwrap_or_else(PoisonError::into_inner);
        state.take_batch()
    }

    /// Writes the records that are within the share of their class. Returns the number of written
    /// records, and the error that prevented others.
    fn write(&self, settings: &ArchiveSettings, drafts: Vec<Draft>) -> (usize, io::Result<()>) {
        let limit = settings.request_limit();
        let mut lines = Vec::new();
        for draft in drafts {
            let line = draft.line(settings.prompts, limit);
            if self.takes_share(draft.detail.failure, line.len()) {
                lines.push(line);
            } else {
                self.counts.count_lost(LossReason::Share, 1);
            }
        }
        let (written, result) = settings.folder.append(&lines);
        self.counts.archived.fetch_add(written as u64, Relaxed);
        self.counts.count_lost(LossReason::Disk, lines.len() - written);
        (written, result)
    }

    fn takes_share(&self, class: Failure, bytes: usize) -> bool {
        let mut state = self.lock();
        state.progress += 1;
        let active = state.active.as_mut();
        active.is_none_or(|active| active.shares.take(class, bytes as u64, Instant::now()))
    }
}

impl State {
    /// Takes the next records, which have the same settings.
    fn take_batch(&mut self) -> Option<(Arc<ArchiveSettings>, Vec<Draft>)> {
        let settings = Arc::clone(&self.queue.front()?.0);
        let same = self.queue.iter().take_while(|(other, _)| Arc::ptr_eq(other, &settings));
        let count = same.count().min(BATCH);
        let batch: Vec<Draft> = self.queue.drain(..count).map(|(_, draft)| draft).collect();
        let bytes: usize = batch.iter().map(|draft| draft.evidence.request.len()).sum();
        self.queue_bytes -= bytes;
        self.is_writing = true;
        Some((settings, batch))
    }
}

/// Logs the beginning and the end of a time in which the disk does not accept records.
#[derive(Default)]
struct DiskLog {
    has_failed: bool,
    logged_at: Option<Instant>,
}

impl DiskLog {
    fn record(&mut self, settings: &ArchiveSettings, written: usize, result: io::Result<()>) {
        let folder = settings.folder().display();
        match result {
            Ok(()) if written > 0 && self.has_failed => {
                self.has_failed = false;
                tracing::info!("failed requests are archived again in {folder}");
            }
            Ok(()) => {}
            Err(error) => {
                self.has_failed = true;
                let now = Instant::now();
                let is_due = |at: Instant| now.saturating_duration_since(at) >= LOG_INTERVAL;
                if self.logged_at.is_none_or(is_due) {
                    self.logged_at = Some(now);
                    tracing::warn!(
                        "failed requests cannot be archived in {folder}: {error}; free space there, \
                         or make the folder writable"
                    );
                }
            }
        }
    }
}
