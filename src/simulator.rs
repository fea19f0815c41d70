//! The built-in OpenAI-compatible endpoint: something to put load on where there is no model.
//!
//! It behaves as an inference server does towards a client that measures: a fixed number of slots,
//! a line before them, prefill and decode times that follow from tokens and load, and faults in
//! set shares. Demonstrations, tests and people who learn the tool use it; it knows nothing of the
//! rest of the crate and runs on a thread and runtime of its own, so that its work neither delays
//! nor is delayed by the load it receives.
//!
//! | room | what it owns |
//! |---|---|
//! | `fate` | what chance decides about one request |
//! | `pace` | how long tokens take |
//! | `ask` | what a request body asks for, as a chat or as a completion |
//! | `prose` | the words of the answers |
//! | `engine` | slots, the line before them, counts |
//! | `first_tokens` | how soon first tokens came, as the server sees it |
//! | `generation` | one answer, token by token, in time |
//! | `answer` | the bytes of answers and errors |
//! | `http` | routes and connections |

mod answer;
mod ask;
mod engine;
mod fate;
mod first_tokens;
mod generation;
mod http;
mod pace;
mod prose;

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

/// How the simulated endpoint behaves.
#[derive(Clone, Debug, PartialEq)]
pub struct SimulatorOptions {
    /// The one model it serves.
    pub model: String,
    /// Requests it works on at once; more wait in the queue. Zero counts as one.
    pub slots: u32,
    /// Requests that may wait; one more is refused with 503.
    pub queue: u32,
    /// Prompt tokens read per second by one slot.
    pub prefill_tokens_per_second: f64,
    /// Output tokens per second of one request while it is alone.
    pub decode_tokens_per_second: f64,
    /// Share of `decode_tokens_per_second` that is left to each request when every slot is busy (0 to 1).
    pub full_load_speed: f64,
    /// Relative standard deviation of each delay (0 to 1).
    pub jitter: f64,
    /// Reasoning tokens before each answer; 0 for none.
    pub reasoning_tokens: u32,
    /// Time after start during which every request is answered 503, as a server that loads its
    /// model does; only `/metrics` answers as always.
    pub loading: Duration,
    /// Faults, each with the share of requests that meet it.
    pub faults: Faults,
    /// Everything random follows from it.
    pub seed: u64,
}

/// The share (0 to 1) of requests that meet each fault; together at most 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    /// Answered 429 at once, with `retry-after`.
    pub http_429: f64,
    /// Answered 500 at once.
    pub http_500: f64,
    /// Connection reset before the response head.
    pub reset: f64,
    /// Nothing more after a few tokens, until the client gives up.
    pub stall: f64,
    /// An error object inside the 200 stream after a few tokens.
    pub stream_error: f64,
    /// The connection breaks in the middle of the stream.
    pub truncation: f64,
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

/// An endpoint that runs on a thread of its own until it is dropped.
#[derive(Debug)]
pub struct Simulator {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Simulator {
    /// Serves the listener from a new thread; it answers from the moment this returns.
    ///
    /// # Errors
    /// When the listener cannot be used without blocking, or the system refuses a thread.
    pub fn start(
        settings: SimulatorOptions,
        listener: std::net::TcpListener,
    ) -> io::Result<Simulator> {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let (report, reported) = mpsc::sync_channel(1);
        let thread = thread::Builder::new().name("simulator".into()).spawn(move || {
            // Built here and not in the caller's thread: a runtime must not be dropped inside
            // another one, which is where the caller may well be.
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return report_to(&report, Err(error)),
            };
            runtime.block_on(async {
                match tokio::net::TcpListener::from_std(listener) {
                    Ok(listener) => {
                        report_to(&report, Ok(()));
                        // Sent or dropped: either way nobody wants the endpoint any longer.
                        serve(settings, listener, stopped.map(drop)).await;
                    }
                    Err(error) => report_to(&report, Err(error)),
                }
            });
        })?;
        reported.recv().map_err(|_| io::Error::other("the simulator's thread died"))??;
        Ok(Simulator { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// The caller waits for the report; if it is gone, so is whoever would care.
fn report_to(caller: &SyncSender<io::Result<()>>, report: io::Result<()>) {
    let _ = caller.send(report);
}

/// Stops at once: connections are closed, whatever they were doing, and the thread has ended
/// when this returns.
impl Drop for Simulator {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic over there was printed there, and a destructor has no better use for it.
            let _ = thread.join();
        }
    }
}

/// Connections beyond those that can have a request in a slot or in the queue: room to refuse
/// requests, to be scraped, and for idle ones.
const SPARE_CONNECTIONS: usize = 1024;

/// How long to leave `accept` alone after it failed; out of file descriptors, it fails again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves the listener until `stop` is ready, then closes every connection at once.
///
/// No task outlives it. Beyond the cap of connections, further ones wait to be accepted.
pub async fn serve(
    settings: SimulatorOptions,
    listener: tokio::net::TcpListener,
    stop: impl Future<Output = ()>,
) {
    let cap = (settings.slots as usize)
        .saturating_add(settings.queue as usize)
        .saturating_add(SPARE_CONNECTIONS);
    let engine = Arc::new(Engine::new(settings));
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept(), if connections.len() < cap => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(http::connection(stream, Arc::clone(&engine)));
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            // Ended ones are taken out as they end; the set would keep them for ever.
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
    drop(listener);
    connections.shutdown().await;
}
