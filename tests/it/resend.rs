//! Tests of requests that llmload sends once more, because their connection ended before the server
//! could work on them, and of responses that arrive before the server has read the request.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use llmload::exchange::exchange;
use llmload::measurement::Failure;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::binary::{Daemon, request, sample};
use crate::faults::{endpoint, request_spec, send_spec, target};
use crate::run::run_against;
use crate::upstream::{
    Act, DONE, FINISH, Recorder, USAGE, Upstream, arrival_now, chunk, good, head, last_chunk,
    perform,
};
use crate::upstream::{plain, read_request, self_signed, token};

// ---- A server that ends its connections ---------------------------------------------------------

/// The way in which a server ends a connection.
#[derive(Clone, Copy, Debug)]
enum End {
    /// With FIN right after the response, like llama.cpp.
    Fin,
    /// With RST right after the response.
    Reset,
    /// With FIN when the next request has arrived.
    FinAtNextRequest,
    /// With RST when the next request has arrived.
    ResetAtNextRequest,
}

/// A server that promises to keep each connection open and ends it after one response.
struct ShortLived {
    address: SocketAddr,
    /// For each response, the time from the request to the first token.
    first_tokens: Arc<Mutex<Vec<Duration>>>,
    /// The number of requests without a response.
    unanswered: Arc<AtomicU64>,
}

impl ShortLived {
    async fn start(end: End) -> ShortLived {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (first_tokens, unanswered) = (Arc::default(), Arc::default());
        let server = ShortLived {
            address,
            first_tokens: Arc::clone(&first_tokens),
            unanswered: Arc::clone(&unanswered),
        };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (times, unanswered) = (Arc::clone(&first_tokens), Arc::clone(&unanswered));
                tokio::spawn(async move {
                    serve_once(stream, end, &times, &unanswered).await;
                });
            }
        });
        server
    }

    fn median_first_token(&self) -> Duration {
        let mut times = self.first_tokens.lock().unwrap().clone();
        times.sort();
        times[times.len() / 2]
    }
}

async fn serve_once(
    mut stream: TcpStream,
    end: End,
    first_tokens: &Mutex<Vec<Duration>>,
    unanswered: &AtomicU64,
) {
    let Some(_) = read_request(&mut stream).await else { return };
    let start = Instant::now();
    let lines = [
        "content-type: text/event-stream",
        "connection: keep-alive",
        "keep-alive: timeout=5, max=100",
        "transfer-encoding: chunked",
    ];
    // The time of the model: the TTFT is longer than the time to send a request.
    let prefill = Act::Pause(Duration::from_millis(5));
    for act in [head("200 OK", &lines), prefill, chunk(&token("a"))] {
        if !perform(act, &mut stream).await {
            return;
        }
    }
    first_tokens.lock().unwrap().push(start.elapsed());
    for act in [chunk(&token("b")), chunk(FINISH), chunk(USAGE), chunk(DONE), last_chunk()] {
        if !perform(act, &mut stream).await {
            return;
        }
    }
    if let End::FinAtNextRequest | End::ResetAtNextRequest = end
        && read_request(&mut stream).await.is_some()
    {
        unanswered.fetch_add(1, Ordering::Relaxed);
    }
    let last = match end {
        End::Reset | End::ResetAtNextRequest => Act::Reset,
        End::Fin | End::FinAtNextRequest => Act::Close,
    };
    perform(last, &mut stream).await;
}

/// The order of the requests.
#[derive(Clone, Copy, Debug)]
enum Loop {
    /// Two workers, each of which sends its next request after the end of the previous one.
    Closed,
    /// A request every 5 ms.
    Open,
}

/// Sends 1,000 requests to a [`ShortLived`] server. Checks that no request fails, that the retries
/// are counted and that the TTFT is right.
async fn send_to_short_lived(end: End, order: Loop) {
    const REQUESTS: usize = 1000;
    let server = ShortLived::start(end).await;
    let target = target(&format!("http://{}/v1", server.address));
    let (endpoint, recorder) = (Arc::new(endpoint(&target)), Arc::new(Recorder::default()));
    let send = || {
        let (endpoint, recorder) = (Arc::clone(&endpoint), Arc::clone(&recorder));
        let spec = request_spec(&target, true);
        async move {
            exchange(&*endpoint, arrival_now(), || Ok(spec), &*recorder).await.drain_body().await;
        }
    };
    let mut tasks = tokio::task::JoinSet::new();
    match order {
        Loop::Closed => {
            for _ in 0..2 {
                let requests: Vec<_> = (0..REQUESTS / 2).map(|_| send()).collect();
                tasks.spawn(async move {
                    for request in requests {
                        request.await;
                    }
                });
            }
        }
        Loop::Open => {
            let mut interval = tokio::time::interval(Duration::from_millis(5));
            for _ in 0..REQUESTS {
                interval.tick().await;
                tasks.spawn(send());
            }
        }
    }
    tasks.join_all().await;
    let failed = recorder.failed.lock().unwrap();
    let failed_after = recorder.failed_after.lock().unwrap();
    let succeeded = recorder.succeeded.lock().unwrap();
    let case = format!("{end:?} {order:?}");
    assert_eq!(failed.len() + succeeded.len(), REQUESTS, "{case}");
    // A connection that ends more than 50 ms after the request counts as a failure of the server. A
    // test machine that is busy can delay single requests by that much. Without the second sending,
    // hundreds of requests fail within a few milliseconds.
    let is_late = |after: &Duration| *after > Duration::from_millis(50);
    assert!(failed_after.iter().all(is_late), "{case}: {failed_after:?} {failed:?}");
    let retries = recorder.retries.load(Ordering::Relaxed);
    match end {
        // The HTTP client sometimes sees the end of a connection before it reuses it.
        End::Fin | End::Reset => {}
        End::FinAtNextRequest | End::ResetAtNextRequest => {
            let unanswered = server.unanswered.load(Ordering::Relaxed);
            assert!(retries > 100, "{case}: {retries} retries, {failed:?}");
            assert_eq!(unanswered, retries + failed.len() as u64, "{case}: {failed:?}");
        }
    }
    // A busy test machine makes the TTFT longer, but not that of the fastest request.
    let mut first_tokens: Vec<_> =
        succeeded.iter().map(|success| success.time_to_first_token().unwrap()).collect();
    first_tokens.sort();
    let (shortest, median) = (first_tokens[0], first_tokens[first_tokens.len() / 2]);
    let theirs = server.median_first_token();
    assert!(median >= theirs.mul_f64(0.9), "{case}: median TTFT {median:?}, server {theirs:?}");
    assert!(shortest <= theirs * 4, "{case}: shortest TTFT {shortest:?}, server {theirs:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_loop_survives_a_server_that_ends_each_connection() {
    for end in [End::Fin, End::Reset, End::FinAtNextRequest, End::ResetAtNextRequest] {
        send_to_short_lived(end, Loop::Closed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_loop_survives_a_server_that_ends_each_connection() {
    for end in [End::Fin, End::FinAtNextRequest] {
        send_to_short_lived(end, Loop::Open).await;
    }
}

#[tokio::test]
async fn a_report_counts_and_explains_the_connection_retries() {
    let server = ShortLived::start(End::FinAtNextRequest).await;
    let yaml = format!(
        "target: {{base_url: 'http://{}/v1', model: m}}\nstart: now\n\
         schedule: [{{concurrency: 2, requests: 100}}]\n",
        server.address
    );
    let ran = run_against(yaml, &[]).await;
    let report = ran.report.unwrap();
    let total = &report.routes[0].total;
    assert_eq!(total.arrivals, 100);
    let (retries, unanswered) =
        (total.connection_retries, server.unanswered.load(Ordering::Relaxed));
    assert!(retries > 0 && retries <= unanswered, "{retries} retries, {unanswered} unanswered");
    assert!(ran.table.contains(&format!(" {retries} retries")), "{}", ran.table);
    let texts: Vec<_> = report.findings.iter().map(|finding| &finding.text).collect();
    assert!(texts.iter().any(|text| text.contains("once more")), "{texts:?}");
}

// ---- The decision to send a request once more ---------------------------------------------------

/// Sends one request. Returns its result and the number of retries.
async fn outcome(
    endpoint: &llmload::endpoint::HttpEndpoint,
    url: &str,
) -> (Result<(), Failure>, u64) {
    let mut target = target(url);
    target.timeouts.first_token = Duration::from_secs(20);
    target.timeouts.total = Duration::from_secs(20);
    let (outcome, _, recorder) =
        send_spec(endpoint, request_spec(&target, true), Recorder::default()).await;
    (outcome, recorder.retries.load(Ordering::Relaxed))
}

/// The first request on a connection succeeds. Then the server gets each further request and resets
/// the connection after a time.
#[tokio::test]
async fn a_server_that_crashes_while_it_works_is_to_blame() {
    for (seconds, expected, requests) in
        [(0, (Err(Failure::Reset), 1), 3), (1, (Err(Failure::Reset), 0), 2)]
    {
        let upstream = Upstream::start(move |k| match k {
            0 => good(),
            _ => vec![Act::Pause(Duration::from_secs(seconds)), Act::Reset],
        })
        .await;
        let endpoint = endpoint(&target(&upstream.url()));
        assert_eq!(outcome(&endpoint, &upstream.url()).await, (Ok(()), 0));
        assert_eq!(outcome(&endpoint, &upstream.url()).await, expected, "after {seconds} s");
        assert_eq!(upstream.requests.load(Ordering::Relaxed), requests, "after {seconds} s");
    }
    assert_eq!(Failure::Reset.blame().as_str(), "target");
}

#[tokio::test]
async fn a_new_connection_that_ends_at_once_is_the_fault_of_the_server() {
    for end in [Act::Reset, Act::Close] {
        let upstream = Upstream::start(move |_| vec![end.clone()]).await;
        let endpoint = endpoint(&target(&upstream.url()));
        assert_eq!(outcome(&endpoint, &upstream.url()).await, (Err(Failure::Reset), 0));
        assert_eq!(upstream.requests.load(Ordering::Relaxed), 1);
    }
}

/// All idle connections end together, for example if a load balancer restarts. The second sending
/// must not use another one of them.
#[tokio::test]
async fn a_request_is_sent_once_more_on_a_new_connection() {
    let all_sent = tokio_util::sync::CancellationToken::new();
    let gate = all_sent.clone();
    let upstream = Upstream::start(move |k| match k {
        // Four requests at once open four connections.
        0..4 => [vec![Act::WaitFor(gate.clone())], good(), vec![Act::CloseOnNext]].concat(),
        _ => good(),
    })
    .await;
    let (endpoint, url) = (endpoint(&target(&upstream.url())), upstream.url());
    let requests = (0..4).map(|_| outcome(&endpoint, &url));
    let open = async {
        while upstream.requests.load(Ordering::Relaxed) < 4 {
            tokio::task::yield_now().await;
        }
        all_sent.cancel();
    };
    let (outcomes, ()) = tokio::join!(futures_util::future::join_all(requests), open);
    assert_eq!(outcomes, vec![(Ok(()), 0); 4]);
    assert_eq!(outcome(&endpoint, &url).await, (Ok(()), 1));
    // The new connection is open, and it became idle last.
    for _ in 0..4 {
        assert_eq!(outcome(&endpoint, &url).await, (Ok(()), 0));
    }
}

/// llmload requests the list of models before the load begins. The load can reuse the connection of
/// this request. The connections of the other requests about the endpoint can end too.
#[tokio::test]
async fn a_connection_used_for_the_list_of_models_counts_as_reused() {
    let upstream = Upstream::start(|k| match k {
        0 | 2 => [
            plain("200 OK", "application/json", r#"{"data":[{"id":"m"}]}"#),
            vec![Act::CloseOnNext],
        ]
        .concat(),
        1 => good(),
        _ => plain("200 OK", "application/json", r#"{"data":[{"id":"m"}]}"#),
    })
    .await;
    let endpoint = endpoint(&target(&upstream.url()));
    let expected = (200, vec!["m".to_owned()]);
    assert_eq!(endpoint.models(Duration::from_secs(5)).await.unwrap(), expected);
    assert_eq!(outcome(&endpoint, &upstream.url()).await, (Ok(()), 1));
    assert_eq!(endpoint.models(Duration::from_secs(5)).await.unwrap(), expected);
    assert_eq!(endpoint.models(Duration::from_secs(5)).await.unwrap(), expected);
}

/// The connect time shows that the server is far away, so the end of a connection may arrive late.
/// The TTFT begins with the first sending.
#[tokio::test]
async fn a_far_server_has_more_time_and_the_times_begin_with_the_first_sending() {
    const ROUND_TRIP: Duration = Duration::from_millis(300);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/v1", listener.local_addr().unwrap());
    let acceptor = tokio_rustls::TlsAcceptor::from(self_signed());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                tokio::time::sleep(ROUND_TRIP).await;
                let mut stream = acceptor.accept(stream).await.unwrap();
                let Some(_) = read_request(&mut stream).await else { return };
                for act in good() {
                    let Act::Write(bytes) = act else { unreachable!() };
                    stream.write_all(&bytes).await.unwrap();
                }
                stream.flush().await.unwrap();
                let Some(_) = read_request(&mut stream).await else { return };
                tokio::time::sleep(ROUND_TRIP).await;
            });
        }
    });
    let mut target = target(&url);
    target.connection.insecure_skip_verify = true;
    target.timeouts.first_token = Duration::from_secs(20);
    target.timeouts.total = Duration::from_secs(20);
    let endpoint = endpoint(&target);
    for (retries, shortest) in [(0, ROUND_TRIP), (1, 2 * ROUND_TRIP)] {
        let spec = request_spec(&target, true);
        let (outcome, message, recorder) = send_spec(&endpoint, spec, Recorder::default()).await;
        assert_eq!(outcome, Ok(()), "{message}");
        assert_eq!(recorder.retries.load(Ordering::Relaxed), retries);
        let first_token = recorder.succeeded.lock().unwrap()[0].time_to_first_token().unwrap();
        assert!(first_token >= shortest, "{first_token:?}");
    }
}

// ---- Connections that are not kept --------------------------------------------------------------

#[tokio::test]
async fn without_keep_alive_each_request_has_its_own_connection() {
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&heads);
    let upstream = Upstream::start_with_head(move |_, head| {
        seen.lock().unwrap().push(head.to_ascii_lowercase());
        // The server ends each connection at the second request.
        [good(), vec![Act::CloseOnNext]].concat()
    })
    .await;
    let mut target = target(&upstream.url());
    target.connection.keep_alive = None;
    let endpoint = endpoint(&target);
    for _ in 0..3 {
        assert_eq!(outcome(&endpoint, &upstream.url()).await, (Ok(()), 0));
    }
    assert!(heads.lock().unwrap().iter().all(|head| head.contains("\r\nconnection: close")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_applies_keep_alive() {
    let closes = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&closes);
    let upstream = Upstream::start_with_head(move |_, head| {
        let is_last = head.to_ascii_lowercase().contains("\r\nconnection: close");
        counter.fetch_add(u64::from(is_last), Ordering::Relaxed);
        good()
    })
    .await;
    let url = upstream.url();
    let yaml = move |keep_alive: &str| {
        format!(
            "target: {{base_url: '{url}', model: m, keep_alive: {keep_alive}}}\nrate: 50/s\n\
             start: now\n"
        )
    };
    let closing = Arc::clone(&closes);
    tokio::task::spawn_blocking(move || {
        let mut daemon = Daemon::start(&yaml("4s"));
        let succeeded = |text: &str| sample(text, "llmload_request_duration_seconds_count", &[]);
        daemon.wait_for("/metrics", |text| (succeeded(text) > 10.0).then_some(()));
        assert_eq!(closing.load(Ordering::Relaxed), 0);
        std::fs::write(daemon.folder.path().join("llmload.yml"), yaml("off")).unwrap();
        assert_eq!(request(daemon.address, "POST", "/-/reload").unwrap().0, 200);
        daemon.wait_for("/metrics", |_| (closing.load(Ordering::Relaxed) > 10).then_some(()));
        let text = daemon.get("/metrics").2;
        assert_eq!(sample(&text, "llmload_connection_retries_total", &[]), 0.0);
    })
    .await
    .unwrap();
}

// ---- Responses before the end of the request ----------------------------------------------------

/// Reads the head and `body` bytes of the body, responds with status 413 and closes the connection.
/// The rest of the request is unread, so the kernel resets the connection.
async fn refuse(mut stream: TcpStream, body: usize) -> std::io::Result<()> {
    let (mut received, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        let end = received.windows(4).position(|four| four == b"\r\n\r\n");
        if end.is_some_and(|end| received.len() >= end + 4 + body) {
            break;
        }
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            n => received.extend_from_slice(&buffer[..n]),
        }
    }
    // Without `connection: close`, the next request could begin on this connection.
    let text = "HTTP/1.1 413 Payload Too Large\r\nconnection: close\r\ncontent-length: 9\r\n\r\n\
                too large";
    stream.write_all(text.as_bytes()).await
}

/// Prints the figures of `docs/decisions/0033-own-http1-client.md`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_before_the_end_of_a_large_request_is_read() {
    for read_by_the_server in [0, 1 << 20] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut target = target(&format!("http://{}/v1", listener.local_addr().unwrap()));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move { _ = refuse(stream, read_by_the_server).await });
            }
        });
        target.timeouts.first_token = Duration::from_secs(20);
        target.timeouts.total = Duration::from_secs(20);
        for tenths_of_a_megabyte in [15, 25, 40, 80, 100] {
            let endpoint = endpoint(&target);
            let body = Bytes::from(vec![b'x'; tenths_of_a_megabyte * 100_000]);
            let (mut right, mut retries, mut wrong) = (0, 0, Vec::new());
            for _ in 0..50 {
                let mut spec = request_spec(&target, true);
                spec.request.body = body.clone();
                let (outcome, message, recorder) =
                    send_spec(&endpoint, spec, Recorder::default()).await;
                retries += recorder.retries.load(Ordering::Relaxed);
                if outcome == Err(Failure::Http4xx) && message.starts_with("HTTP 413") {
                    right += 1;
                } else {
                    wrong.push((outcome, message));
                }
            }
            println!(
                "{} bytes, {read_by_the_server} read: {right} of 50 right, {retries} sent twice {wrong:?}",
                body.len()
            );
            assert_eq!((right, retries), (50, 0), "{} bytes: {wrong:?}", body.len());
        }
    }
}
