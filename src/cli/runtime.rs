//! The runtime of a command: its number of threads, and its end.

use std::time::Duration;

use anyhow::Context as _;

/// The longest time that the end of the process waits for other threads, which can hang in a name
/// lookup or in a file.
const SHUTDOWN: Duration = Duration::from_millis(500);

/// The most threads of the runtime. Each thread keeps freed memory in a separate arena of the
/// allocator, so many threads need much memory.
const MAX_WORKER_THREADS: usize = 16;

/// Runs a future on a new runtime.
///
/// # Errors
/// If the runtime cannot start.
pub(super) fn block_on<T>(future: impl Future<Output = T>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(worker_threads())
        .thread_name("llmload-worker")
        .enable_all()
        .build()
        .context("the runtime could not be started")?;
    let result = runtime.block_on(future);
    runtime.shutdown_timeout(SHUTDOWN);
    Ok(result)
}

/// Returns one thread for each CPU that llmload can use. The standard library reads the CPU
/// affinity and the CPU quotas of the cgroups, and rounds a quota down. With more threads than its
/// quota, llmload would use up its CPU time in the first part of each period, and then stop.
fn worker_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(MAX_WORKER_THREADS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing can end a thread that waits for a name lookup or a file.
    #[test]
    fn a_blocked_thread_does_not_delay_the_end_of_the_process() {
        let (release, blocked) = std::sync::mpsc::channel::<()>();
        block_on(async move {
            let _blocked = tokio::task::spawn_blocking(move || blocked.recv());
        })
        .unwrap();
        // If `block_on` waited for the thread, the test would hang before this line.
        drop(release);
    }
}
