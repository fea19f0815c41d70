//! The web port of the daemon with misbehaving clients.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use tokio::time::Instant;

use crate::binary::{Daemon, TEST_TIMEOUT, assert_balanced, pause, request, sample};

const PATHS: [&str; 6] = ["/", "/metrics", "/-/healthy", "/-/ready", "/config", "/api/v1/status"];

const IDLE: &str = "
targets: {sim: {simulator: {}, model: simulated-8b}}
scenarios: {idle: {target: sim, schedule: [{pause: 1h}, {constant: 1/s, for: 1s}]}}
";

const BUSY: &str = "
targets:
  sim:
    simulator: {slots: 8, decode_tokens_per_second: 400, faults: {http_429: 20%, reset: 20%, truncation: 20%}}
scenarios:
  open: {target: sim, rate: 100/s, max_concurrency: 20, request: {max_tokens: 16}}
  closed: {target: sim, request: {max_tokens: 16}, schedule: [{concurrency: 5, for: 1h}]}
";

fn connect(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    // An error is ignored: the server can close the connection before it has read everything.
    let _refused_early = stream.write_all(bytes);
    stream
}

/// Returns everything that arrives until the server closes or resets the connection.
fn rest(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("still open: {error}"),
        _ => String::from_utf8_lossy(&answer).into_owned(),
    }
}

#[test]
fn clients_that_never_finish_a_request_do_not_block_others() {
    let daemon = Daemon::start(IDLE);
    let half = |_| connect(daemon.address, b"GET /metrics HTTP/1.1\r\nhost: t\r\nx-more: ");
    let open: Vec<_> = (0..200).map(half).collect();
    // This admin request announces a body that never arrives.
    let request = b"POST /api/v1/scenarios/idle/rate HTTP/1.1\r\nhost: t\r\nconnection: close\r\ncontent-length: 20\r\n\r\nrate=";
    let unfinished = connect(daemon.address, request);
    for path in ["/-/healthy", "/-/ready", "/metrics"] {
        assert_eq!(daemon.get(path).0, 200, "{path}");
    }
    // The server closes all these connections after a timeout.
    let answer = rest(unfinished);
    assert!(answer.contains("did not arrive in time"), "{answer}");
    for stream in open {
        assert!(!rest(stream).contains("200 OK"));
    }
    assert_eq!(daemon.get("/-/healthy").0, 200);
}

#[test]
fn a_client_that_never_reads_does_not_block_scrapes() {
    let daemon = Daemon::start(IDLE);
    // Send so many requests on one connection that the responses fill all buffers.
    let mut greedy = connect(daemon.address, b"");
    greedy.set_nonblocking(true).unwrap();
    let ask = b"GET /metrics HTTP/1.1\r\nhost: t\r\n\r\n".repeat(500);
    let _as_much_as_fits = greedy.write(&ask);
    for _ in 0..5 {
        let (status, _, body) = daemon.get("/metrics");
        assert_eq!(status, 200);
        assert_balanced(&body);
    }
    drop(greedy);
    assert_eq!(daemon.get("/metrics").0, 200);
}

#[test]
fn content_length_matches_the_body_even_for_head_requests() {
    let daemon = Daemon::start(IDLE);
    let length = |head: &str| -> usize {
        let lines = head.lines().filter_map(|line| line.split_once(": "));
        let value = lines.into_iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        value.unwrap_or_else(|| panic!("no content-length: {head}")).1.parse().unwrap()
    };
    for path in PATHS.into_iter().chain(["/nowhere"]) {
        let (status, head, body) = daemon.get(path);
        assert_eq!(length(&head), body.len(), "{path}");
        let (head_status, head, nothing) = request(daemon.address, "HEAD", path).unwrap();
        assert_eq!((head_status, nothing.as_str()), (status, ""), "{path}");
        // The length of some bodies changes between two requests, because these bodies contain
        // current values.
        if !matches!(path, "/metrics" | "/api/v1/status") {
            assert_eq!(length(&head), body.len(), "{path}");
        }
        assert!(length(&head) > 0, "{path}");
        let (_, head, body) = request(daemon.address, "DELETE", path).unwrap();
        assert_eq!(length(&head), body.len(), "DELETE {path}");
    }
}

#[test]
fn invalid_or_oversized_requests_are_rejected_and_the_daemon_stays_healthy() {
    let daemon = Daemon::start(IDLE);
    let many_headers = format!("GET / HTTP/1.1\r\n{}\r\n", "x-a: b\r\n".repeat(1000));
    let endless_path = format!("GET /{} HTTP/1.1\r\nhost: t\r\n\r\n", "a".repeat(100_000));
    for (name, bytes) in [
        ("a TLS client", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\r\n\r\n".to_vec()),
        ("plain text", b"hello?\r\n\r\n".to_vec()),
        ("zeroes", vec![0; 4096]),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        ("many headers", many_headers.into_bytes()),
        ("an endless path", endless_path.into_bytes()),
    ] {
        let answer = rest(connect(daemon.address, &bytes));
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert!(answer.is_empty() || status.starts_with('4'), "{name}: {answer}");
        assert_eq!(daemon.get("/-/healthy").0, 200, "{name}");
    }
    // The server closes the connection if a header never ends.
    let mut stream = connect(daemon.address, b"GET / HTTP/1.1\r\nx-a: ");
    let line = vec![b'a'; 64 * 1024];
    let refused = (0..1024).any(|_| stream.write_all(&line).is_err());
    assert!(refused, "the server accepted 64 MiB of one header");
    assert_eq!(daemon.get("/-/healthy").0, 200);
}

#[test]
fn the_ledger_balances_in_all_concurrent_scrapes() {
    let mut daemon = Daemon::start(BUSY);
    daemon.wait_for("/metrics", |text| {
        (sample(text, "llmload_requests_total", &[]) > 20.0).then_some(())
    });
    let address = daemon.address;
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut before = 0.0;
                for _ in 0..15 {
                    let (status, _, text) = request(address, "GET", "/metrics").unwrap();
                    assert_eq!(status, 200);
                    assert_balanced(&text);
                    let arrivals = sample(&text, "llmload_arrivals_total", &[]);
                    assert!(arrivals >= before, "a counter decreased");
                    before = arrivals;
                }
            });
        }
    });
    let failures = sample(&daemon.get("/metrics").2, "llmload_request_failures_total", &[]);
    assert!(failures > 0.0, "the load produced no failures");
}

#[test]
fn a_client_that_takes_all_connections_does_not_block_others() {
    rlimit::increase_nofile_limit(u64::MAX).unwrap();
    let daemon = Daemon::start(IDLE);
    let open: Vec<_> =
        (0..700).map(|_| connect(daemon.address, b"GET /-/healthy HTTP/1.1\r\n")).collect();
    assert_eq!(daemon.get("/-/healthy").0, 200);
    // The server gives responses one second to end before it closes the oldest connections.
    let begun = Instant::now();
    while daemon.open_files() > 600 {
        assert!(begun.elapsed() < TEST_TIMEOUT, "{} files are open", daemon.open_files());
        pause();
    }
    drop(open);
}
