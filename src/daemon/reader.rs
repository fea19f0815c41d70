//! Threads that read files. A network file system can hang for minutes. Only these threads wait for
//! it.

use tokio::sync::oneshot;

/// Runs a function on a new thread. The receiver gets its result, or an error if the thread could
/// not start or panicked.
pub(super) fn on_thread<T: Send + 'static>(
    function: impl FnOnce() -> T + Send + 'static,
) -> oneshot::Receiver<T> {
    let (sender, receiver) = oneshot::channel();
    let run = move || {
        // The daemon has possibly ended in the meantime.
        let _not_needed = sender.send(function());
    };
    if let Err(error) = std::thread::Builder::new().name("config".to_owned()).spawn(run) {
        tracing::error!(%error, "a thread could not be started");
    }
    receiver
}
