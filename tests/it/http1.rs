//! Tests of the HTTP/1.1 client over real sockets: framing, reuse of connections, interim responses
//! and the end of connections.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use llmload::measurement::Failure;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::binary::{Daemon, assert_balanced, sample};
use crate::connections::{request, target};
use crate::faults::{endpoint, request_spec, send_spec};
use crate::upstream::{
    Act, DONE, FINISH, Recorder, USAGE, Upstream, arrival_now, chunk, good, head, last_chunk,
    plain, read_request, stream_head, token,
};

const COMPLETION: &str = r#"{"choices":[{"message":{"content":"Hi"},"finish_reason":"stop"}]}"#;

fn events() -> String {
    [&token("a"), &token("b"), FINISH, USAGE, DONE].concat()
}

fn write(text: impl Into<Vec<u8>>) -> Act {
    Act::Write(text.into())
}

// ---- Framing ------------------------------------------------------------------------------------

/// The responses with every framing that a server can use. `true` means that the connection can
/// carry another request.
fn framings() -> Vec<(&'static str, Vec<Act>, bool)> {
    let kind = "content-type: text/event-stream";
    let events = events();
    let length = format!("content-length: {}", events.len());
    let interim = "HTTP/1.1 103 Early Hints\r\nlink: </style.css>\r\n\r\n";
    let extended = format!(
        "{:X};name=value;quoted=\"a b\" \r\n{events}\r\n000\r\nx-checksum: abc\r\n\r\n",
        events.len()
    );
    let old = |lines: &str| {
        write(format!("HTTP/1.0 200 OK\r\n{kind}\r\n{length}\r\n{lines}\r\n{events}"))
    };
    let lengths = head("200 OK", &[kind, &length]);
    let both = head("200 OK", &[kind, "content-length: 7", "transfer-encoding: chunked"]);
    let chunks = || vec![chunk(&events), last_chunk()];
    let closing = head("200 OK", &[kind, "transfer-encoding: chunked", "Connection: Close"]);
    let stray = [good(), vec![write("HTTP/1.1 200 OK\r\n")]].concat();
    let early = |k| write("HTTP/1.1 100 Continue\r\n\r\n".repeat(k) + interim);
    vec![
        ("chunks", good(), true),
        ("a length", vec![lengths, write(events.clone())], true),
        ("extensions and trailers", vec![stream_head(), write(extended)], true),
        ("interim responses", [vec![early(99)], good()].concat(), true),
        ("HTTP/1.0 with keep-alive", vec![old("connection: keep-alive\r\n")], true),
        ("HTTP/1.0", vec![old("")], false),
        ("connection: close", [vec![closing], chunks()].concat(), false),
        (
            "the end of the connection",
            vec![head("200 OK", &[kind]), write(events.clone()), Act::Close],
            false,
        ),
        ("a length and chunks", [vec![both], chunks()].concat(), false),
        ("bytes after the response", stray, false),
    ]
}

#[tokio::test]
async fn a_stream_is_read_with_every_framing_and_its_connection_reused_if_it_can_be() {
    for (name, script, is_reusable) in framings() {
        for is_split in [false, true] {
            let acts: Vec<Act> = script
                .iter()
                .flat_map(|act| match act {
                    Act::Write(bytes) if is_split => {
                        bytes.chunks(3).map(|part| Act::Write(part.to_vec())).collect()
                    }
                    act => vec![act.clone()],
                })
                .collect();
            let upstream = Upstream::start(move |_| acts.clone()).await;
            let target = target(&upstream.url(), "");
            for k in 0..3 {
                let (outcome, observed) = request(&target, true).await;
                assert_eq!(outcome, Ok(()), "{name}: {:?}", observed.failed.lock().unwrap());
                let is_new = !observed.connected.lock().unwrap().is_empty();
                // The client can see the end of the stream before the end of the body. It then
                // reads the rest, and the connection is free after that.
                assert_eq!(is_new, k == 0 || !is_reusable, "{name}, request {k}");
                assert_eq!(observed.retries.load(Ordering::Relaxed), 0, "{name}, request {k}");
            }
        }
    }
}

#[tokio::test]
async fn a_response_without_a_body_leaves_its_connection_free() {
    let upstream = Upstream::start(|k| match k {
        0 => vec![head("204 No Content", &[])],
        1 => vec![head("304 Not Modified", &["content-length: 5"])],
        2 => vec![head("500 Oops", &["content-length: 0"])],
        _ => plain("200 OK", "application/json", COMPLETION),
    })
    .await;
    let target = target(&upstream.url(), "");
    let expected =
        [Err(Failure::HttpUnexpected), Err(Failure::HttpUnexpected), Err(Failure::Http5xx), Ok(())];
    for (k, expected) in expected.into_iter().enumerate() {
        let (outcome, observed) = request(&target, false).await;
        assert_eq!(outcome, expected);
        assert_eq!(observed.connected.lock().unwrap().len(), usize::from(k == 0), "request {k}");
    }
}

#[tokio::test]
async fn a_response_that_breaks_the_rules_of_http_is_a_protocol_failure() {
    let lengths = ["content-length: 5", "content-length: 6"];
    for (name, acts) in [
        ("two lengths", vec![head("200 OK", &lengths), write("hello")]),
        ("no number", vec![head("200 OK", &["content-length: five"]), write("hello")]),
        (
            "chunks in HTTP/1.0",
            vec![write("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")],
        ),
        ("HTTP/2", vec![write("HTTP/2 200\r\n\r\n")]),
        ("a long extension", vec![stream_head(), write(format!("1;{}", "x".repeat(5000)))]),
        ("long trailers", vec![stream_head(), write(format!("0\r\n{}", "x".repeat(20_000)))]),
        ("an SSH server that waits", vec![write("SSH-2.0-OpenSSH_9.2\r\n"), Act::Silence]),
    ] {
        let upstream = Upstream::start(move |_| acts.clone()).await;
        let (outcome, observed) = request(&target(&upstream.url(), ""), true).await;
        assert_eq!(outcome, Err(Failure::HttpProtocol), "{name}: {observed:?}");
    }
}

// ---- Interim responses --------------------------------------------------------------------------

#[tokio::test]
async fn a_flood_of_interim_responses_or_empty_lines_is_a_protocol_failure() {
    let interim = "HTTP/1.1 102 Processing\r\n\r\n";
    for (bytes, count, text) in
        [(interim, 1000, "interim"), (interim, 1, "interim"), ("\r\n", 9, "lines")]
    {
        let acts = vec![Act::Trickle(bytes.repeat(count).into(), Duration::ZERO)];
        let upstream = Upstream::start(move |_| acts.clone()).await;
        let (outcome, observed) = request(&target(&upstream.url(), ""), true).await;
        assert_eq!(outcome, Err(Failure::HttpProtocol), "{observed:?}");
        let (message, _) = observed.failed.lock().unwrap().clone().unwrap();
        assert!(message.contains(text), "{message}");
    }
}

/// A server can send anything, but it must not change the arrivals at other servers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_floods_its_connections_delays_no_arrival_at_another_server() {
    let interim = "HTTP/1.1 102 Processing\r\n\r\n".repeat(2000).into_bytes();
    let lines = b"\r\n".repeat(20_000);
    let upstream = Upstream::start(move |k| {
        let bytes = if k % 2 == 0 { interim.clone() } else { lines.clone() };
        vec![Act::Trickle(bytes, Duration::ZERO)]
    })
    .await;
    let yaml = format!(
        "targets:
  flooding: {{base_url: '{}', model: m, timeouts: {{first_token: 1s, total: 1s}}}}
  other: {{simulator: {{slots: 64}}}}
scenarios:
  flooding: {{target: flooding, start: now, rate: 20/s, max_concurrency: 64}}
  other: {{target: other, start: now, rate: 100/s, max_concurrency: 1000, max_lag: 2s, \
           request: {{max_tokens: 2}}}}
",
        upstream.url()
    );
    let work = move || {
        let mut daemon = Daemon::start(&yaml);
        let failed = "llmload_request_failures_total";
        let page = daemon.wait_for("/metrics", |page| {
            assert_balanced(page);
            let flooded = sample(page, failed, &["scenario=\"flooding\""]);
            let others = sample(page, "llmload_requests_total", &["scenario=\"other\""]);
            (flooded >= 40.0 && others >= 300.0).then(|| page.to_owned())
        });
        let protocol = &["scenario=\"flooding\"", "reason=\"http_protocol\""];
        let flooded = sample(&page, failed, &["scenario=\"flooding\""]);
        assert_eq!(sample(&page, failed, protocol), flooded, "{page}");
        assert_eq!(sample(&page, failed, &["scenario=\"other\""]), 0.0, "{page}");
        let dropped = sample(&page, "llmload_arrivals_dropped_total", &["scenario=\"other\""]);
        assert_eq!(dropped, 0.0, "{page}");
    };
    tokio::task::spawn_blocking(work).await.unwrap();
}

// ---- The end of connections ---------------------------------------------------------------------

/// The kernel knows that the server has closed the connection, so no request is sent on it.
#[tokio::test]
async fn a_connection_that_ended_while_it_was_idle_is_not_used() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let (closed, mut is_closed) = tokio::sync::mpsc::channel(1);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            read_request(&mut stream).await.unwrap();
            for act in plain("200 OK", "application/json", COMPLETION) {
                let Act::Write(bytes) = act else { unreachable!() };
                stream.write_all(&bytes).await.unwrap();
            }
            drop(stream);
            closed.send(()).await.unwrap();
        }
    });
    let target = target(&url, "");
    for _ in 0..50 {
        let (outcome, observed) = request(&target, false).await;
        assert_eq!(outcome, Ok(()), "{observed:?}");
        assert_eq!(observed.retries.load(Ordering::Relaxed), 0);
        is_closed.recv().await.unwrap();
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_keep_alive_even_if_no_request_follows() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_request(&mut stream).await.unwrap();
        for act in good() {
            let Act::Write(bytes) = act else { unreachable!() };
            stream.write_all(&bytes).await.unwrap();
        }
        stream.read(&mut [0]).await.unwrap()
    });
    let target = target(&url, ", keep_alive: 100ms");
    assert_eq!(request(&target, true).await.0, Ok(()));
    assert_eq!(server.await.unwrap(), 0, "the client left the connection open");
}

#[tokio::test]
async fn a_response_that_is_not_needed_any_more_closes_its_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_request(&mut stream).await.unwrap();
        for act in [stream_head(), chunk(&token("a"))] {
            let Act::Write(bytes) = act else { unreachable!() };
            stream.write_all(&bytes).await.unwrap();
        }
        stream.read(&mut [0]).await
    });
    let (target, endpoint) = target(&url, "");
    let recorder = Recorder::default();
    let first_token = recorder.first_token.clone();
    let spec = request_spec(&target, true);
    let running = llmload::exchange::exchange(&endpoint, arrival_now(), || Ok(spec), &recorder);
    tokio::select! {
        _finished = running => unreachable!("the server does not end the stream"),
        () = first_token.cancelled() => {}
    }
    assert!(matches!(server.await.unwrap(), Ok(0) | Err(_)), "the client left the connection open");
}

/// The server resets the connection right after the last byte of the response.
#[tokio::test]
async fn a_response_before_a_reset_is_complete() {
    let upstream = Upstream::start(|_| [good(), vec![Act::Reset]].concat()).await;
    let target = target(&upstream.url(), "");
    for k in 0..100 {
        let (outcome, observed) = request(&target, true).await;
        assert_eq!(outcome, Ok(()), "request {k}: {observed:?}");
    }
}

/// llmload sends a request once more only if no byte of a response has arrived (the rule of
/// `endpoint::resend`). So half a head is a failure, even if it arrives within a round trip on an
/// idle connection.
#[tokio::test]
async fn half_a_response_head_on_a_reused_connection_is_a_failure_of_the_server() {
    let upstream = Upstream::start(|k| match k {
        0 => good(),
        _ => vec![write("HTTP/1.1 200 O"), Act::Close],
    })
    .await;
    let target = target(&upstream.url(), "");
    assert_eq!(request(&target, true).await.0, Ok(()));
    let (outcome, observed) = request(&target, true).await;
    assert_eq!(outcome, Err(Failure::Reset), "{observed:?}");
    assert_eq!(observed.retries.load(Ordering::Relaxed), 0);
    assert_eq!(upstream.requests.load(Ordering::Relaxed), 2);
}

/// The server accepts the connection and stays silent.
#[tokio::test]
async fn a_tls_handshake_that_never_ends_is_a_connect_timeout_that_names_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/v1", listener.local_addr().unwrap());
    let target = target(&url, ", timeouts: {connect: 200ms}");
    let (outcome, observed) = request(&target, true).await;
    assert_eq!(outcome, Err(Failure::ConnectTimeout), "{observed:?}");
    let (message, _) = observed.failed.lock().unwrap().clone().unwrap();
    assert!(message.contains("TLS handshake"), "{message}");
}

// ---- A response before the end of the request ---------------------------------------------------

/// The server begins its stream before it has read the request, and then reads the request to its
/// end.
#[tokio::test]
async fn a_stream_that_begins_early_does_not_cut_off_the_request() {
    const LENGTH: usize = 8 << 20;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut target =
        crate::faults::target(&format!("http://{}/v1", listener.local_addr().unwrap()));
    target.timeouts = llmload::plan::Timeouts::default();
    let has_begun = CancellationToken::new();
    let recorder = Recorder { first_token: has_begun.clone(), ..Recorder::default() };
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        for act in [stream_head(), chunk(&token("a"))] {
            let Act::Write(bytes) = act else { unreachable!() };
            stream.write_all(&bytes).await.unwrap();
        }
        has_begun.cancelled().await;
        let (mut received, mut buffer) = (0, vec![0; 64 * 1024]);
        while received < LENGTH {
            received += stream.read(&mut buffer).await.unwrap();
        }
        for act in [chunk(&token("b")), chunk(FINISH), chunk(DONE), last_chunk()] {
            let Act::Write(bytes) = act else { unreachable!() };
            stream.write_all(&bytes).await.unwrap();
        }
    });
    let mut spec = request_spec(&target, true);
    spec.timeouts = target.timeouts;
    spec.request.body = Bytes::from(vec![b'x'; LENGTH]);
    let client = Arc::new(endpoint(&target));
    let (outcome, message, _) = send_spec(&client, spec, recorder).await;
    assert_eq!(outcome, Ok(()), "{message}");
    server.await.unwrap();
}
