//! The archive of failed requests: files with one line of JSON for each record.
//!
//! The archive never delays a request. An observer puts a failed request into a bounded queue, and
//! a separate thread masks its secrets and writes it. If the queue is full, if the failure class
//! has used up its share, or if the disk does not accept the record, llmload drops the record and
//! counts it. A disk that hangs stops only the thread.

mod files;
mod observer;
mod reader;
mod record;
mod share;
mod writer;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::measurement::Failure;
use crate::plan::{FailureArchive, KeptPrompts};
use files::Folder;
pub use observer::{RouteArchive, RouteFacts};
pub use reader::{Entry, Reader};
use record::Draft;
pub use record::{FailureRecord, MASK, Mask};
use share::{Amount, Limits, Shares};

/// The name of the newest file of an archive.
pub const FILE_NAME: &str = "failures.jsonl";

/// The number of files of a daemon's archive, which have the same highest size.
const FILES: usize = 4;
/// A class can use this part of the archive at once.
const CLASS_PART: u64 = 8;
/// If a class fails without a pause, its records would fill the archive in this time.
const FILL_TIME: Duration = Duration::from_hours(24);

/// The highest size of the archive of a run, in bytes.
pub const RUN_BYTES: u64 = 16 << 20;
/// The highest number of records of a class in the archive of a run, before the class uses the
/// common allowance.
pub const RUN_CLASS_RECORDS: u64 = 100;
/// The highest number of records in the common allowance of a run.
pub const RUN_COMMON_RECORDS: u64 = 1000;
/// The part of the archive of a run that is reserved for each class.
const RUN_CLASS_BYTES: u64 = RUN_BYTES / 32;
const _: () = assert!(RUN_CLASS_BYTES * (Failure::ALL.len() as u64) < RUN_BYTES);

/// The longest request body that a record contains, in bytes.
const REQUEST_LIMIT: u64 = 256 << 10;
/// The highest number of records in the queue.
const QUEUE_RECORDS: usize = 1024;
/// The highest size of all request bodies in the queue, in bytes.
const QUEUE_BYTES: usize = 8 << 20;

/// [`Archive::close`] gives up if the thread has written nothing for this time.
const STUCK_DISK: Duration = Duration::from_millis(500);
/// The longest time of [`Archive::close`], if the disk is slow.
const SLOW_DISK: Duration = Duration::from_secs(2);

/// Why a failed request is not in the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossReason {
    /// The queue of the writer was full.
    QueueFull,
    /// The failure class has used up its share of the archive.
    Share,
    /// The record could not be written.
    Disk,
}

impl LossReason {
    pub const ALL: [LossReason; 3] = [LossReason::QueueFull, LossReason::Share, LossReason::Disk];

    /// Returns the value of the label `reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            LossReason::QueueFull => "queue_full",
            LossReason::Share => "share",
            LossReason::Disk => "disk",
        }
    }
}

/// The numbers of records since the start.
#[derive(Debug, Default)]
pub struct ArchiveCounts {
    archived: AtomicU64,
    lost: [AtomicU64; LossReason::ALL.len()],
}

impl ArchiveCounts {
    /// Returns the number of records that were written.
    pub fn archived(&self) -> u64 {
        self.archived.load(Relaxed)
    }

    /// Returns the number of records that were not written, by reason.
    pub fn lost(&self) -> impl Iterator<Item = (LossReason, u64)> + '_ {
        LossReason::ALL.into_iter().map(|reason| (reason, self.lost[reason as usize].load(Relaxed)))
    }

    fn count_lost(&self, reason: LossReason, records: usize) {
        self.lost[reason as usize].fetch_add(records as u64, Relaxed);
    }
}

/// The place and the limits of an archive.
#[derive(Clone, Debug, PartialEq)]
pub struct ArchiveSettings {
    folder: Folder,
    limits: Limits,
    prompts: KeptPrompts,
}

impl ArchiveSettings {
    /// Returns the settings of a daemon's archive, whose files rotate.
    #[allow(clippy::cast_precision_loss)]
    pub fn rotating(archive: &FailureArchive) -> ArchiveSettings {
        let FailureArchive { dir, max_bytes, prompts } = archive;
        ArchiveSettings {
            folder: Folder {
                path: dir.clone(),
                file_bytes: max_bytes / FILES as u64,
                files: FILES,
            },
            limits: Limits {
                class: Amount { records: u64::MAX, bytes: max_bytes / CLASS_PART },
                bytes_per_second: *max_bytes as f64 / FILL_TIME.as_secs_f64(),
                common: Amount::NOTHING,
            },
            prompts: *prompts,
        }
    }

    /// Returns the settings of the archive of a run, which is one file.
    pub fn of_run(folder: &Path, prompts: KeptPrompts) -> ArchiveSettings {
        let reserved = RUN_CLASS_BYTES * Failure::ALL.len() as u64;
        ArchiveSettings {
            folder: Folder { path: folder.to_owned(), file_bytes: RUN_BYTES, files: 1 },
            limits: Limits {
                class: Amount { records: RUN_CLASS_RECORDS, bytes: RUN_CLASS_BYTES },
                bytes_per_second: 0.0,
                common: Amount { records: RUN_COMMON_RECORDS, bytes: RUN_BYTES - reserved },
            },
            prompts,
        }
    }

    /// The folder of the archive.
    pub fn folder(&self) -> &PathBuf {
        &self.folder.path
    }

    /// The longest request body that a record contains. A small archive holds only short bodies.
    fn request_limit(&self) -> usize {
        let limit = REQUEST_LIMIT.min(self.folder.file_bytes / 8).min(self.limits.class.bytes / 2);
        usize::try_from(limit).unwrap_or(usize::MAX)
    }
}

/// The queue of failed requests, and the thread that writes them. Without settings, the archive is
/// off.
#[derive(Debug, Default)]
pub struct Archive {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Notified when the queue is no longer empty, when it has a complete batch and when the
    /// archive closes. A notification for each record would wake the thread too often.
    arrived: Condvar,
    /// Notified when a batch is written.
    written: Condvar,
    is_on: AtomicBool,
    counts: Arc<ArchiveCounts>,
}

/// The lock is never held while the thread masks or writes.
#[derive(Debug, Default)]
struct State {
    active: Option<Active>,
    /// The records, each with the settings at the time of its failure.
    queue: VecDeque<(Arc<ArchiveSettings>, Draft)>,
    /// The size of all request bodies in the queue.
    queue_bytes: usize,
    has_thread: bool,
    is_writing: bool,
    /// The number of records that were masked and of batches that were written. A rising number
    /// shows that the thread works.
    progress: u64,
    is_closed: bool,
}

/// The settings in effect, and the shares that are left under them.
#[derive(Debug)]
struct Active {
    settings: Arc<ArchiveSettings>,
    shares: Shares,
}

impl State {
    fn is_idle(&self) -> bool {
        self.queue.is_empty() && !self.is_writing
    }
}

impl Archive {
    /// Returns an archive that is off.
    pub fn new() -> Arc<Archive> {
        Arc::default()
    }

    /// Returns the counts of records.
    pub fn counts(&self) -> &Arc<ArchiveCounts> {
        &self.shared.counts
    }

    /// Applies settings, or switches the archive off. Failed requests in the queue follow the
    /// previous settings.
    pub fn configure(&self, settings: Option<ArchiveSettings>) {
        let mut state = self.shared.lock();
        let before = state.active.as_ref().map(|active| &*active.settings);
        if before == settings.as_ref() {
            return;
        }
        let is_on = settings.is_some();
        state.active = settings.map(|settings| Active {
            shares: Shares::new(settings.limits, Instant::now()),
            settings: Arc::new(settings),
        });
        if is_on && !state.has_thread {
            state.has_thread = writer::start(&self.shared);
        }
        self.shared.is_on.store(is_on && state.has_thread, Relaxed);
    }

    /// Returns true if failed requests are archived.
    fn is_on(&self) -> bool {
        self.shared.is_on.load(Relaxed)
    }

    /// Queues a failed request, or counts it as lost. Never waits for the disk.
    fn offer(&self, class: Failure, request_bytes: usize, draft: impl FnOnce() -> Draft) {
        if !self.is_on() {
            return;
        }
        let mut state = self.shared.lock();
        let state = &mut *state;
        let Some(active) = &mut state.active else { return };
        if !active.shares.has_room(class, Instant::now()) {
            return self.shared.counts.count_lost(LossReason::Share, 1);
        }
        let keeps_request = active.settings.prompts != KeptPrompts::None;
        let bytes = if keeps_request { request_bytes } else { 0 };
        let is_full = state.queue.len() >= QUEUE_RECORDS || state.queue_bytes + bytes > QUEUE_BYTES;
        // A request that is larger than the complete queue can still be the only one.
        if is_full && !state.queue.is_empty() {
            return self.shared.counts.count_lost(LossReason::QueueFull, 1);
        }
        let mut draft = draft();
        if !keeps_request {
            draft.evidence.request = bytes::Bytes::new();
        }
        state.queue_bytes += bytes;
        let settings = Arc::clone(&active.settings);
        state.queue.push_back((settings, draft));
        if matches!(state.queue.len(), 1 | writer::BATCH) {
            self.shared.arrived.notify_one();
        }
    }

    /// Writes the records in the queue, and ends the thread. Gives up if the disk hangs: see
    /// `STUCK_DISK`. Call it once, after the last request.
    pub fn close(&self) {
        let end = Instant::now() + SLOW_DISK;
        let mut state = self.shared.lock();
        state.is_closed = true;
        self.shared.is_on.store(false, Relaxed);
        self.shared.arrived.notify_one();
        while state.has_thread && !state.is_idle() {
            let progress = state.progress;
            let patience = STUCK_DISK.min(end.saturating_duration_since(Instant::now()));
            let waited = self.shared.written.wait_timeout_while(state, patience, |state| {
                !state.is_idle() && state.progress == progress
            });
            let timeout;
            (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            if timeout.timed_out() {
                let records = state.queue.len();
                tracing::warn!(
                    records,
                    "the disk of the failure archive is too slow; failed requests are lost"
                );
                return;
            }
        }
    }
}

/// Ends the thread, which writes the rest of the queue first. Does not wait for it.
impl Drop for Archive {
    fn drop(&mut self) {
        self.shared.lock().is_closed = true;
        self.shared.arrived.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
