//! The built-in OpenAI-compatible endpoint: a target for load if no model is available.
//!
//! To a client that measures, it behaves like an inference server: a fixed number of slots, a queue
//! for them, prefill and decode times that follow from tokens and load, and faults in configured
//! shares. It serves demonstrations, tests and people who learn the tool. It uses no other module of
//! the crate. It runs on a separate thread and runtime, so it does not delay the load it receives, and
//! the load does not delay it.
//!
//! | module | content |
//! |---|---|
//! | `api` | the two text APIs, finish reasons, errors |
//! | `faults` | the faults and their shares |
//! | `pace` | the delays of tokens |
//! | `variation` | the random choices for one request |
//! | `text` | the text of the answers |
//! | `request` | the parsing of request bodies |
//! | `ttft_histogram` | the server's own histogram of the time to first token |
//! | `engine` | slots, their queue, counters |
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
    /// The name of its only model.
    pub model: String,
    /// The highest number of requests that run at once; more wait in the queue. Zero counts as one.
    pub slots: u32,
    /// The highest number of requests that wait; one more is refused with 503.
    pub queue: u32,
    /// Prompt tokens per second that one slot reads.
    pub prefill_tokens_per_second: f64,
    /// Output tokens per second of a single request.
    pub decode_tokens_per_second: f64,
    /// The share (0 to 1) of `decode_tokens_per_second` that each request gets when every slot is
    /// busy.
    pub full_load_speed: f64,
    /// The relative standard deviation of each delay (0 to 1).
    pub jitter: f64,
    /// Reasoning tokens before each answer.
    pub reasoning_tokens: u32,
    /// The time after the start in which every request gets a 503, as from a server that loads its
    /// model. `/metrics` works from the start.
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

/// An endpoint that runs on a separate thread until it is dropped.
#[derive(Debug)]
pub struct Simulator {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Simulator {
    /// Serves the listener from a new thread. It accepts requests when this returns.
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
            // Built on this thread, because the caller may be inside another runtime, and a
            // runtime must not be dropped there.
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return send_result(&result, Err(error)),
            };
            runtime.block_on(async {
                match tokio::net::TcpListener::from_std(listener) {
                    Ok(listener) => {
                        send_result(&result, Ok(()));
                        // Dropping the sender stops the endpoint, too.
                        serve(options, listener, stopped.map(drop)).await;
                    }
                    Err(error) => send_result(&result, Err(error)),
                }
            });
        })?;
        started.recv().map_err(|_| io::Error::other("the simulator's thread panicked"))??;
        Ok(Simulator { address, stop: Some(stop), thread: Some(thread) })
    }

    /// The address on which the endpoint listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Sends the result of the start. The send fails only if the caller no longer waits for it.
fn send_result(caller: &SyncSender<io::Result<()>>, result: io::Result<()>) {
    let _ = caller.send(result);
}

/// Closes all connections at once, also those with a request. The thread has ended when this returns.
impl Drop for Simulator {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // The thread has printed its panic, if there was one, and a destructor cannot return it.
            let _ = thread.join();
        }
    }
}

/// The number of connections beyond those with a request in a slot or in the queue: to refuse
/// requests, for scrapes, and for idle connections.
const SPARE_CONNECTIONS: usize = 1024;

/// The pause after a failed `accept`. Without file descriptors, it would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves the listener until `stop` is ready, then closes every connection at once.
///
/// No task outlives it. At the limit of connections, further ones wait to be accepted.
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
            // The set keeps ended connections until they are joined.
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
    drop(listener);
    connections.shutdown().await;
}
