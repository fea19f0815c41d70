//! Endpoints for tests: a TCP server with a script, and an endpoint in memory for a paused clock.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use llmload::endpoint::{Endpoint, Request, Response, SendStep};
use llmload::event::{Arrival, Event, Observe};
use llmload::measurement::{Failure, FailureDetail, Measurement};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// One step in the script of an [`Upstream`]. The script starts after a complete request.
#[derive(Clone, Debug)]
pub enum Act {
    Write(Vec<u8>),
    /// Writes the same bytes at this interval until the client disconnects.
    Trickle(Vec<u8>, Duration),
    Pause(Duration),
    /// Waits until the test cancels the token.
    WaitFor(CancellationToken),
    /// Sends nothing until the client disconnects.
    Silence,
    /// Closes the connection with RST.
    Reset,
    /// Closes the connection with FIN.
    Close,
    /// Waits for the next request on this connection, and then closes the connection.
    CloseOnNext,
}

/// A server that follows a script for each request. It ends with the runtime of the test.
pub struct Upstream {
    pub address: SocketAddr,
    pub requests: Arc<AtomicU64>,
}

impl Upstream {
    pub async fn start(script: impl Fn(u64) -> Vec<Act> + Send + Sync + 'static) -> Upstream {
        Upstream::start_with_head(move |number, _| script(number)).await
    }

    /// `script` gets the number of the request, from 0, and the request head.
    pub async fn start_with_head(
        script: impl Fn(u64, &str) -> Vec<Act> + Send + Sync + 'static,
    ) -> Upstream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(AtomicU64::new(0));
        let (script, counter) = (Arc::new(script), Arc::clone(&requests));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (script, counter) = (Arc::clone(&script), Arc::clone(&counter));
                tokio::spawn(async move { play(stream, &*script, &counter).await });
            }
        });
        Upstream { address, requests }
    }

    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }
}

async fn play(
    mut stream: TcpStream,
    script: &(dyn Fn(u64, &str) -> Vec<Act> + Send + Sync),
    counter: &AtomicU64,
) {
    // Otherwise the kernel delays a small write until the client has confirmed the previous one.
    // The client would then receive two writes with a pause in one read.
    stream.set_nodelay(true).unwrap();
    while let Some(head) = read_request(&mut stream).await {
        for act in script(counter.fetch_add(1, Ordering::Relaxed), &head) {
            if !perform(act, &mut stream).await {
                return;
            }
        }
    }
}

/// Returns false if the connection ends.
pub async fn perform(act: Act, stream: &mut TcpStream) -> bool {
    match act {
        Act::Write(bytes) => stream.write_all(&bytes).await.is_ok(),
        Act::Trickle(bytes, gap) => {
            while stream.write_all(&bytes).await.is_ok() {
                tokio::time::sleep(gap).await;
            }
            false
        }
        Act::Pause(time) => {
            tokio::time::sleep(time).await;
            true
        }
        Act::WaitFor(gate) => {
            gate.cancelled().await;
            true
        }
        Act::Silence => {
            let mut rest = Vec::new();
            let _gone = stream.read_to_end(&mut rest).await;
            false
        }
        Act::Reset => {
            stream.set_zero_linger().unwrap();
            false
        }
        Act::Close => false,
        Act::CloseOnNext => {
            let mut byte = [0];
            let _next = stream.read(&mut byte).await;
            // The new request is not read, so the kernel sends RST. The same happens if a server
            // closes an idle connection while a request arrives.
            false
        }
    }
}

/// Reads a request with its body, and returns the head.
pub async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
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

/// Writes a response head with these header lines.
pub fn head(status: &str, lines: &[&str]) -> Act {
    let mut head = format!("HTTP/1.1 {status}\r\n");
    for line in lines {
        head.push_str(line);
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    Act::Write(head.into_bytes())
}

/// Writes the response head of an event stream with a chunked body.
pub fn stream_head() -> Act {
    head("200 OK", &["content-type: text/event-stream", "transfer-encoding: chunked"])
}

/// Writes one chunk of a chunked body.
pub fn chunk(text: &str) -> Act {
    Act::Write(format!("{:x}\r\n{text}\r\n", text.len()).into_bytes())
}

/// Writes the end of a chunked body.
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

/// Sends a complete stream of two tokens.
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

/// Sends a complete response with a `content-length`.
pub fn plain(status: &str, kind: &str, body: &str) -> Vec<Act> {
    let length = format!("content-length: {}", body.len());
    vec![
        head(status, &[&format!("content-type: {kind}"), &length]),
        Act::Write(body.as_bytes().to_vec()),
    ]
}

/// One step in the response body of an [`InMemory`] endpoint.
#[derive(Clone, Debug)]
pub enum BodyStep {
    /// The next read of the client returns this text.
    Data(String),
    Pause(Duration),
    /// The body never continues.
    Silence,
    /// The connection breaks.
    Break,
    /// The next read of the client panics, as if llmload had a bug.
    Panic,
}

/// The next read of the client returns all these events.
pub fn data(events: &[&str]) -> BodyStep {
    BodyStep::Data(events.concat())
}

/// An endpoint in memory, with delays on tokio's clock.
#[derive(Default)]
pub struct InMemory {
    /// `None` means that no response head arrives.
    pub head_delay: Option<Duration>,
    pub is_failing: bool,
    /// After the last step, the body ends normally.
    pub body: Vec<BodyStep>,
    pub sent: Mutex<Vec<Instant>>,
    pub bodies: Mutex<Vec<bytes::Bytes>>,
    arrived: Notify,
}

impl InMemory {
    pub fn responding_after(head_delay: Duration) -> Arc<InMemory> {
        InMemory::with_body(head_delay, vec![data(&[&token("a"), FINISH, USAGE, DONE])])
    }

    pub fn failing_after(head_delay: Duration) -> Arc<InMemory> {
        Arc::new(InMemory { head_delay: Some(head_delay), is_failing: true, ..InMemory::default() })
    }

    pub fn silent() -> Arc<InMemory> {
        Arc::default()
    }

    pub fn with_body(head_delay: Duration, body: Vec<BodyStep>) -> Arc<InMemory> {
        Arc::new(InMemory { head_delay: Some(head_delay), body, ..InMemory::default() })
    }

    pub async fn wait_for_requests(&self, count: usize) {
        while self.sent.lock().unwrap().len() < count {
            self.arrived.notified().await;
        }
    }
}

/// An [`InMemory`] endpoint for the code under test, while the test keeps another `Arc`.
pub struct InMemoryEndpoint(pub Arc<InMemory>);

impl Endpoint for InMemoryEndpoint {
    type Response = InMemoryResponse;

    async fn send(
        &self,
        request: Request,
        mut report: impl FnMut(SendStep) + Send,
    ) -> Result<InMemoryResponse, FailureDetail> {
        report(SendStep::Begun { waited: Duration::ZERO });
        self.0.sent.lock().unwrap().push(Instant::now());
        self.0.bodies.lock().unwrap().push(request.body.clone());
        self.0.arrived.notify_one();
        match self.0.head_delay {
            Some(time) => tokio::time::sleep(time).await,
            None => std::future::pending().await,
        }
        if self.0.is_failing {
            return Err(FailureDetail::new(Failure::Reset, "on purpose"));
        }
        Ok(InMemoryResponse(self.0.body.iter().cloned().collect()))
    }
}

pub struct InMemoryResponse(pub VecDeque<BodyStep>);

impl Response for InMemoryResponse {
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
                Some(BodyStep::Data(text)) => return Ok(Some(Bytes::from(text))),
                Some(BodyStep::Pause(time)) => tokio::time::sleep(time).await,
                Some(BodyStep::Silence) => std::future::pending().await,
                Some(BodyStep::Break) => {
                    return Err(FailureDetail::new(Failure::Truncated, "on purpose"));
                }
                Some(BodyStep::Panic) => panic!("on purpose"),
                None => return Ok(None),
            }
        }
    }
}

pub fn arrival_now() -> Arrival {
    Arrival { k: 0, due: Instant::now(), phase: None, lengths: None, turn: 0 }
}

/// Records the events about requests, for the test.
#[derive(Debug, Default)]
pub struct Recorder {
    pub succeeded: Mutex<Vec<Measurement>>,
    pub failed: Mutex<Vec<FailureDetail>>,
    /// The durations of the failed requests.
    pub failed_after: Mutex<Vec<Duration>>,
    pub first_tokens: AtomicU64,
    /// The times of the first answer tokens.
    pub first_answers: Mutex<Vec<Duration>>,
    /// The requests that llmload sent once more.
    pub retries: AtomicU64,
    /// Cancelled when the first token arrives.
    pub first_token: CancellationToken,
    pub chunks: AtomicU64,
}

impl Observe for Recorder {
    fn observe(&self, _: &Arrival, event: Event<'_>) {
        match event {
            Event::Succeeded(measurement) => {
                self.succeeded.lock().unwrap().push(measurement.clone());
            }
            Event::Failed { detail, duration, .. } => {
                self.failed.lock().unwrap().push(detail.clone());
                self.failed_after.lock().unwrap().push(duration);
            }
            Event::FirstToken { .. } => {
                self.first_tokens.fetch_add(1, Ordering::Relaxed);
                self.first_token.cancel();
            }
            Event::FirstAnswerToken { since_sent } => {
                self.first_answers.lock().unwrap().push(since_sent);
            }
            Event::ConnectionRetried => _ = self.retries.fetch_add(1, Ordering::Relaxed),
            Event::Chunks { count, .. } => {
                _ = self.chunks.fetch_add(u64::from(count), Ordering::Relaxed);
            }
            _ => {}
        }
    }
}

/// A TLS server with a self-signed certificate.
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
