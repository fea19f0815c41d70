//! The built-in OpenAI-compatible endpoint: a target for demonstrations, tests and learning that
//! needs no real model.
//!
//! It simulates an inference server: a fixed number of slots, a queue for the slots, prefill and
//! decode times, and faults in configured percentages of the requests. A request occupies a slot
//! while it runs. The times depend on the numbers of tokens and of occupied slots. The simulator
//! runs on a separate thread with a separate tokio runtime. So the simulator does not delay
//! llmload's requests, and the requests do not delay the simulator. It does not use other modules
//! of this crate.
//!
//! | module | content |
//! |---|---|
//! | `api` | the chat and completions APIs, finish reasons, errors |
//! | `faults` | the faults and how often they occur |
//! | `pace` | the delays of tokens |
//! | `variation` | the random choices for one request |
//! | `text` | the text of the responses |
//! | `request` | the parsing of request bodies |
//! | `ttft_histogram` | the histogram of TTFT that the simulator exposes |
//! | `engine` | the slots, the queue for the slots, counters |
//! | `generation` | one response, token by token, over time |
//! | `response` | the bytes of responses |
//! | `http` | paths and connections |

mod api;
mod engine;
mod faults;
mod generation;
mod http;
mod pace;
mod request;
mod response;
mod text;
mod ttft_histogram;
mod variation;

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::{self, SyncSender};
use std::thread;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use engine::Engine;
pub use faults::Faults;

/// The behaviour of the simulated endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct SimulatorOptions {
    /// The name of the only model.
    pub model: String,
    /// The number of slots: the highest number of requests that run at once. Further requests wait
    /// in the queue. 0 has the same effect as 1.
    pub slots: u32,
    /// The highest number of requests in the queue. Further requests get a 503.
    pub queue: u32,
    /// The prefill speed of one slot, in prompt tokens per second.
    pub prefill_tokens_per_second: f64,
    /// The decode speed in output tokens per second, if only one request is in a slot.
    pub decode_tokens_per_second: f64,
    /// The fraction (0 to 1) of `decode_tokens_per_second` that each request gets if every slot is
    /// busy.
    pub full_load_speed: f64,
    /// The relative standard deviation of each delay (0 to 1).
    pub jitter: f64,
    /// The number of reasoning tokens before each answer.
    pub reasoning_tokens: u32,
    /// The time to load the model. For this time after the start, every request except `/metrics`
    /// gets a 503.
    pub loading: Duration,
    pub faults: Faults,
    /// The seed of all random choices.
    pub seed: u64,
}

impl Default for SimulatorOptions {
    fn default() -> SimulatorOptions {
        SimulatorOptions {
            model: "simulated-8b".into(),
            slots: 16,
            queue: 256,
            prefill_tokens_per_second: 4000.0,
            decode_tokens_per_second: 60.0,
            full_load_speed: 0.5,
            jitter: 0.1,
            reasoning_tokens: 0,
            loading: Duration::ZERO,
            faults: Faults::default(),
            seed: 0,
        }
    }
}

/// A running simulator. It runs on a separate thread until it is dropped.
#[derive(Debug)]
pub struct Simulator {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Simulator {
    /// Starts a simulator that serves this listener on a new thread. When this function returns,
    /// the simulator accepts requests.
    ///
    /// # Errors
    /// If the listener cannot be made non-blocking, or the system cannot start a thread.
    pub fn start(
        options: SimulatorOptions,
        listener: std::net::TcpListener,
    ) -> io::Result<Simulator> {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let (result, started) = mpsc::sync_channel(1);
        let thread = thread::Builder::new().name("simulator".into()).spawn(move || {
            // The runtime is built on this thread. The caller can be inside another runtime, and a
            // runtime must not be dropped inside another runtime.
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return send_result(&result, Err(error)),
            };
            runtime.block_on(async {
                match tokio::net::TcpListener::from_std(listener) {
                    Ok(listener) => {
                        send_result(&result, Ok(()));
                        // If the sender is dropped, the simulator stops too.
                        serve(options, listener, stopped.map(drop)).await;
                    }
                    Err(error) => send_result(&result, Err(error)),
                }
            });
        })?;
        started.recv().map_err(|_| io::Error::other("the simulator's thread panicked"))??;
        Ok(Simulator { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Returns the address on which the simulator listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Sends the result of the start to the caller. If sending fails, the caller has gone, and nobody
/// needs the result.
fn send_result(caller: &SyncSender<io::Result<()>>, result: io::Result<()>) {
    let _ = caller.send(result);
}

/// Closes all connections at once, even in the middle of a request. Waits until the thread has
/// ended.
impl Drop for Simulator {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // The result is ignored: a thread that panicked has already printed its panic.
            let _ = thread.join();
        }
    }
}

/// The limit of connections is slots + queue + this number. The additional connections are for
/// refused requests, scrapes and idle connections.
const SPARE_CONNECTIONS: usize = 1024;

/// The pause after a failed `accept`. If there are no free file descriptors, `accept` would fail
/// again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves the listener until `stop` is ready. Then it closes every connection at once, and returns
/// after all its tasks have ended. At the limit of connections, further connections have to wait
/// until another connection ends.
pub async fn serve(
    options: SimulatorOptions,
    listener: tokio::net::TcpListener,
    stop: impl Future<Output = ()>,
) {
    let limit = (options.slots as usize)
        .saturating_add(options.queue as usize)
        .saturating_add(SPARE_CONNECTIONS);
    let engine = Arc::new(Engine::new(options));
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept(), if connections.len() < limit => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(http::connection(stream, Arc::clone(&engine)));
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            // Remove the connections that have ended: the set keeps them until they are joined.
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
    drop(listener);
    connections.shutdown().await;
}
