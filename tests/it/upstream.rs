//! Endpoints for tests: a scripted TCP server, which can misbehave in any way bytes can, and one in
//! memory for the paused clock.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use llmload::endpoint::{Endpoint, Request, Response};
use llmload::event::{Arrival, Event, Observe};
use llmload::measurement::{Failure, FailureDetail, Measurement};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What a scripted server does next with a connection that has sent a whole request.
#[derive(Clone, Debug)]
pub enum Act {
    Write(Vec<u8>),
    /// The same bytes again and again, so far apart, until the client goes.
    Trickle(Vec<u8>, Duration),
    /// Nothing for so long.
    Pause(Duration),
    /// Nothing until this is cancelled.
    WaitFor(CancellationToken),
    /// Nothing, until the client goes.
    Silence,
    /// RST.
    Reset,
    /// FIN.
    Close,
    /// Wait for the next request on the same connection; close at once when it comes.
    CloseOnNext,
}

/// A server that plays the script of each request. Ends with the test's runtime.
pub struct Upstream {
    pub address: SocketAddr,
    pub requests: Arc<AtomicU64>,
}

impl Upstream {
    pub async fn start(script: impl Fn(u64) -> Vec<Act> + Send + Sync + 'static) -> Upstream {
        Upstream::reading(move |number, _| script(number)).await
    }

    /// One whose script also depends on the head of the request.
    pub async fn reading(
        script: impl Fn(u64, &str) -> Vec<Act> + Send + Sync + 'static,
    ) -> Upstream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(AtomicU64::new(0));
        let (script, counter) = (Arc::new(script), Arc::clone(&requests));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (script, counter) = (Arc::clone(&script), Arc::clone(&counter));
                tokio::spawn(async move { converse(stream, &*script, &counter).await });
            }
        });
        Upstream { address, requests }
    }

    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }
}

async fn converse(
    mut stream: TcpStream,
    script: &(dyn Fn(u64, &str) -> Vec<Act> + Send + Sync),
    counter: &AtomicU64,
) {
    while let Some(head) = read_request(&mut stream).await {
        for act in script(counter.fetch_add(1, Ordering::Relaxed), &head) {
            let gone = match act {
                Act::Write(bytes) => stream.write_all(&bytes).await.is_err(),
                Act::Trickle(bytes, gap) => {
                    while stream.write_all(&bytes).await.is_ok() {
                        tokio::time::sleep(gap).await;
                    }
                    true
                }
                Act::Pause(time) => {
                    tokio::time::sleep(time).await;
                    false
                }
                Act::WaitFor(gate) => {
                    gate.cancelled().await;
                    false
                }
                Act::Silence => {
                    let mut rest = Vec::new();
                    let _gone = stream.read_to_end(&mut rest).await;
                    true
                }
                Act::Reset => {
                    stream.set_zero_linger().unwrap();
                    true
                }
                Act::Close => true,
                Act::CloseOnNext => {
                    let mut byte = [0];
                    let _next = stream.read(&mut byte).await;
                    // Unread bytes make the kernel answer with RST, as when a server closes an idle
                    // connection that a request is already on its way to.
                    true
                }
            };
            if gone {
                return;
            }
        }
    }
}

/// Reads a head and the body that its `content-length` announces; the head.
async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let lower = head.to_ascii_lowercase();
            let length =
                lower.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
            let length: usize = length.map_or(0, |l| l.trim().parse().unwrap());
            if bytes.len() >= end + 4 + length {
                return Some(head);
            }
        }
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return None,
            Ok(n) => bytes.extend_from_slice(&buffer[..n]),
        }
    }
}

/// A response head with these header lines.
pub fn head(status: &str, lines: &[&str]) -> Act {
    let mut head = format!("HTTP/1.1 {status}\r\n");
    for line in lines {
        head.push_str(line);
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    Act::Write(head.into_bytes())
}

/// The head of an event stream in chunks.
pub fn stream_head() -> Act {
    head("200 OK", &["content-type: text/event-stream", "transfer-encoding: chunked"])
}

/// One chunk of a chunked body.
pub fn chunk(text: &str) -> Act {
    Act::Write(format!("{:x}\r\n{text}\r\n", text.len()).into_bytes())
}

/// The end of a chunked body.
pub fn last_chunk() -> Act {
    Act::Write(b"0\r\n\r\n".to_vec())
}

pub fn token(text: &str) -> String {
    format!(
        "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":null}}]}}\n\n"
    )
}

pub const FINISH: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
pub const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2,\"total_tokens\":5}}\n\n";
pub const DONE: &str = "data: [DONE]\n\n";

/// A whole good answer.
pub fn good() -> Vec<Act> {
    vec![
        stream_head(),
        chunk(&token("a")),
        chunk(&token("b")),
        chunk(FINISH),
        chunk(USAGE),
        chunk(DONE),
        last_chunk(),
    ]
}

/// A complete answer with a body of known length.
pub fn plain(status: &str, kind: &str, body: &str) -> Vec<Act> {
    let length = format!("content-length: {}", body.len());
    vec![
        head(status, &[&format!("content-type: {kind}"), &length]),
        Act::Write(body.as_bytes().to_vec()),
    ]
}

/// What an answer in memory does next.
#[derive(Clone, Debug)]
pub enum Beat {
    /// One read brings this.
    Says(String),
    /// Nothing happens for so long.
    Waits(Duration),
    /// Nothing ever happens again.
    Mute,
    /// The connection breaks.
    Breaks,
    /// A defect of llmload's own.
    Panics,
}

/// One read that brings these events.
pub fn says(events: &[&str]) -> Beat {
    Beat::Says(events.concat())
}

/// An endpoint in memory: each answer takes its time on tokio's clock.
#[derive(Default)]
pub struct InMemory {
    /// Until the head; `None` never answers.
    pub takes: Option<Duration>,
    pub fails: bool,
    /// After the head; a clean end follows.
    pub body: Vec<Beat>,
    pub sent: Mutex<Vec<Instant>>,
    pub bodies: Mutex<Vec<bytes::Bytes>>,
    came: Notify,
}

impl InMemory {
    pub fn answering(takes: Duration) -> Arc<InMemory> {
        InMemory::playing(takes, vec![says(&[&token("a"), FINISH, USAGE, DONE])])
    }

    pub fn failing(takes: Duration) -> Arc<InMemory> {
        Arc::new(InMemory { takes: Some(takes), fails: true, ..InMemory::default() })
    }

    pub fn mute() -> Arc<InMemory> {
        Arc::default()
    }

    /// One whose head comes after `takes`, and then this.
    pub fn playing(takes: Duration, body: Vec<Beat>) -> Arc<InMemory> {
        Arc::new(InMemory { takes: Some(takes), body, ..InMemory::default() })
    }

    /// Until so many requests have come.
    pub async fn until_sent(&self, count: usize) {
        while self.sent.lock().unwrap().len() < count {
            self.came.notified().await;
        }
    }
}

/// So that a test can keep one end.
pub struct Shared(pub Arc<InMemory>);

impl Endpoint for Shared {
    type Response = Canned;

    async fn send(&self, request: Request) -> Result<Canned, FailureDetail> {
        self.0.sent.lock().unwrap().push(Instant::now());
        self.0.bodies.lock().unwrap().push(request.body.clone());
        self.0.came.notify_one();
        match self.0.takes {
            Some(time) => tokio::time::sleep(time).await,
            None => std::future::pending().await,
        }
        if self.0.fails {
            return Err(FailureDetail::new(Failure::Reset, "on purpose"));
        }
        Ok(Canned(self.0.body.iter().cloned().collect()))
    }
}

pub struct Canned(VecDeque<Beat>);

impl Response for Canned {
    fn status(&self) -> u16 {
        200
    }

    fn content_type(&self) -> Option<&str> {
        Some("text/event-stream")
    }

    fn content_encoding(&self) -> Option<&str> {
        None
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>, FailureDetail> {
        loop {
            match self.0.pop_front() {
                Some(Beat::Says(text)) => return Ok(Some(Bytes::from(text))),
                Some(Beat::Waits(time)) => tokio::time::sleep(time).await,
                Some(Beat::Mute) => std::future::pending().await,
                Some(Beat::Breaks) => {
                    return Err(FailureDetail::new(Failure::Truncated, "on purpose"));
                }
                Some(Beat::Panics) => panic!("a defect"),
                None => return Ok(None),
            }
        }
    }
}

/// An arrival that is due now.
pub fn arrival_now() -> Arrival {
    Arrival { k: 0, due: Instant::now(), phase: None, lengths: None }
}

/// Keeps what it is told.
#[derive(Debug, Default)]
pub struct Recorder {
    pub succeeded: Mutex<Vec<Measurement>>,
    pub failed: Mutex<Vec<FailureDetail>>,
    /// How long those took.
    pub failed_after: Mutex<Vec<Duration>>,
    pub first_tokens: AtomicU64,
    /// Cancelled with the first of them.
    pub first_token: CancellationToken,
    pub chunks: AtomicU64,
}

impl Observe for Recorder {
    fn observe(&self, _: &Arrival, event: Event<'_>) {
        match event {
            Event::Succeeded(measurement) => {
                self.succeeded.lock().unwrap().push(measurement.clone())
            }
            Event::Failed { detail, duration, .. } => {
                self.failed.lock().unwrap().push(detail.clone());
                self.failed_after.lock().unwrap().push(duration);
            }
            Event::FirstToken { .. } => {
                self.first_tokens.fetch_add(1, Ordering::Relaxed);
                self.first_token.cancel();
            }
            Event::Chunks { count, .. } => {
                _ = self.chunks.fetch_add(u64::from(count), Ordering::Relaxed)
            }
            _ => {}
        }
    }
}

/// TLS with a certificate that nobody vouches for.
pub fn self_signed() -> Arc<rustls::ServerConfig> {
    let certificate = include_bytes!("../fixtures/tls/self-signed.crt.der").to_vec().into();
    let key = include_bytes!("../fixtures/tls/self-signed.key.der").to_vec().try_into().unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    Arc::new(server)
}
