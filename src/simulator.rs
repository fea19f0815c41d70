//! The built-in OpenAI-compatible endpoint, for demonstrations, tests and learning.
//!
//! It simulates an inference server with slots, a queue, prefill and decode times, and faults. A
//! request occupies a slot while it runs. More tokens and more occupied slots make requests slower.
//! The simulator has a separate thread and tokio runtime, so it does not delay the load. It uses no
//! other module of this crate.
//!
//! | module | content |
//! |---|---|
//! | `api` | the APIs, finish reasons, errors |
//! | `faults` | the faults and how often they occur |
//! | `pace` | the delays of tokens |
//! | `tokenizer` | the division of a text into tokens |
//! | `prefix_cache` | the blocks of recent prompts |
//! | `variation` | the random choices for one request |
//! | `text` | the text of the responses |
//! | `request` | the parsing of request bodies |
//! | `ttft_histogram` | the histogram of TTFT that the simulator exposes |
//! | `engine` | the slots, the queue for the slots, counters |
//! | `generation` | one response, token by token, over time |
//! | `writer` | the bytes of one response, in the format of its API |
//! | `response` | the formats of chat and completions, and of other pages |
//! | `responses`, `messages`, `embeddings` | the formats of these APIs |
//! | `http` | paths and connections |

mod api;
mod embeddings;
mod engine;
mod faults;
mod generation;
mod http;
mod messages;
mod pace;
mod prefix_cache;
mod request;
mod response;
mod responses;
mod text;
mod tokenizer;
mod ttft_histogram;
mod variation;
mod writer;

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

#[derive(Clone, Debug, PartialEq)]
pub struct SimulatorOptions {
    pub model: String,
    /// The highest number of requests that run at once. 0 means 1.
    pub slots: u32,
    /// The highest number of requests that wait for a slot. Further requests get a 503.
    pub queue: u32,
    /// In prompt tokens per second and slot.
    pub prefill_tokens_per_second: f64,
    /// In output tokens per second, if only one slot is busy.
    pub decode_tokens_per_second: f64,
    /// The fraction (0 to 1) of `decode_tokens_per_second` for each request if every slot is busy.
    pub full_load_speed: f64,
    /// The relative standard deviation of each delay (0 to 1).
    pub jitter: f64,
    pub reasoning_tokens: u32,
    /// The size of the prefix cache in tokens; 0 means no cache.
    pub prefix_cache_tokens: u32,
    /// The time after the start in which every path except `/metrics` returns a 503.
    pub loading: Duration,
    pub faults: Faults,
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
            prefix_cache_tokens: 0,
            loading: Duration::ZERO,
            faults: Faults::default(),
            seed: 0,
        }
    }
}

/// A running simulator, until it is dropped.
#[derive(Debug)]
pub struct Simulator {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Simulator {
    /// Starts a simulator on a new thread. It accepts requests when this function returns.
    ///
    /// # Errors
    /// The listener cannot be made non-blocking, or the system cannot start a thread.
    pub fn start(
        options: SimulatorOptions,
        listener: std::net::TcpListener,
    ) -> io::Result<Simulator> {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let (result, started) = mpsc::sync_channel(1);
        let thread = thread::Builder::new().name("simulator".into()).spawn(move || {
            // The caller can be in a runtime, and a runtime must not be dropped inside another
            // runtime.
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return send_result(&result, Err(error)),
            };
            runtime.block_on(async {
                match tokio::net::TcpListener::from_std(listener) {
                    Ok(listener) => {
                        send_result(&result, Ok(()));
                        // A dropped sender stops the simulator too.
                        serve(options, listener, stopped.map(drop)).await;
                    }
                    Err(error) => send_result(&result, Err(error)),
                }
            });
        })?;
        started.recv().map_err(|_| io::Error::other("the simulator's thread panicked"))??;
        Ok(Simulator { address, stop: Some(stop), thread: Some(thread) })
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Ignores an error: a caller that has gone needs no result.
fn send_result(caller: &SyncSender<io::Result<()>>, result: io::Result<()>) {
    let _ = caller.send(result);
}

/// Closes all connections at once, even during a request, and waits for the end of the thread.
impl Drop for Simulator {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has already printed its panic.
            let _ = thread.join();
        }
    }
}

/// The limit of connections is slots + queue + this number. It leaves room for refused requests,
/// scrapes and idle connections.
const SPARE_CONNECTIONS: usize = 1024;

/// The pause after a failed `accept`, which would fail again at once without free file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves the listener until `stop` is ready. Then closes all connections and returns after all
/// tasks have ended. At the limit of connections, a new connection waits until another one ends.
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
            // The set holds ended connections until they are joined.
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
    drop(listener);
    connections.shutdown().await;
}
