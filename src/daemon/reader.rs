//! Threads that read files. A disk or a network file system can take long or hang. So llmload reads
//! files on separate threads, and nothing else waits for these threads: not the load, a scrape, an
//! admin command or the end of the process.

use tokio::sync::oneshot;

/// Runs a function on a new thread and sends its result. If the thread cannot start or panics, the
/// receiver gets an error.
pub(super) fn on_thread<T: Send + 'static>(
    function: impl FnOnce() -> T + Send + 'static,
) -> oneshot::Receiver<T> {
    let (sender, receiver) = oneshot::channel();
    let run = move || {
        // Nobody needs the result if the daemon has ended in the meantime.
        let _not_needed = sender.send(function());
    };
    if let Err(error) = std::thread::Builder::new().name("config".to_owned()).spawn(run) {
        tracing::error!(%error, "a thread could not be started");
    }
    receiver
}
