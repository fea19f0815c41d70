//! The daemon's own port, among clients that behave badly.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use tokio::time::Instant;

use crate::binary::{Daemon, FOREVER, assert_balanced, pause, request, sample};

const ROUTES: [&str; 6] = ["/", "/metrics", "/-/healthy", "/-/ready", "/config", "/api/v1/status"];

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
    // A server that has seen enough may close before it has everything.
    let _refused_early = stream.write_all(bytes);
    stream
}

/// What comes until the server closes, in whatever way it does.
fn rest(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("still open: {error}"),
        _ => String::from_utf8_lossy(&answer).into_owned(),
    }
}

#[test]
fn clients_that_never_finish_a_head_keep_nobody_from_asking() {
    let daemon = Daemon::start(IDLE);
    let half = |_| connect(daemon.address, b"GET /metrics HTTP/1.1\r\nhost: t\r\nx-more: ");
    let open: Vec<_> = (0..200).map(half).collect();
    // Nor is an order waited for whose body does not come.
    let order = b"POST /api/v1/scenarios/idle/rate HTTP/1.1\r\nhost: t\r\nconnection: close\r\ncontent-length: 20\r\n\r\nrate=";
    let order = connect(daemon.address, order);
    for path in ["/-/healthy", "/-/ready", "/metrics"] {
        assert_eq!(daemon.get(path).0, 200, "{path}");
    }
    // They are cut off, rather than kept for as long as they like.
    let answer = rest(order);
    assert!(answer.contains("did not come in time"), "{answer}");
    for stream in open {
        assert!(!rest(stream).contains("200 OK"));
    }
    assert_eq!(daemon.get("/-/healthy").0, 200);
}

#[test]
fn a_client_that_never_reads_keeps_nobody_from_scraping() {
    let daemon = Daemon::start(IDLE);
    // Enough scrapes on one connection to fill every buffer between here and there.
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
fn the_announced_length_is_that_of_the_body_and_head_announces_it_too() {
    let daemon = Daemon::start(IDLE);
    let length = |head: &str| -> usize {
        let lines = head.lines().filter_map(|line| line.split_once(": "));
        let value = lines.into_iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        value.unwrap_or_else(|| panic!("no content-length: {head}")).1.parse().unwrap()
    };
    for path in ROUTES.into_iter().chain(["/nowhere"]) {
        let (status, head, body) = daemon.get(path);
        assert_eq!(length(&head), body.len(), "{path}");
        let (of_head, head, nothing) = request(daemon.address, "HEAD", path).unwrap();
        assert_eq!((of_head, nothing.as_str()), (status, ""), "{path}");
        // Figures change from one answer to the next; a page that does not is announced to the byte.
        if !matches!(path, "/metrics" | "/api/v1/status") {
            assert_eq!(length(&head), body.len(), "{path}");
        }
        assert!(length(&head) > 0, "{path}");
        let (_, head, body) = request(daemon.address, "DELETE", path).unwrap();
        assert_eq!(length(&head), body.len(), "DELETE {path}");
    }
}

#[test]
fn what_is_no_request_or_too_large_is_refused_and_the_daemon_lives() {
    let daemon = Daemon::start(IDLE);
    let many_headers = format!("GET / HTTP/1.1\r\n{}\r\n", "x-a: b\r\n".repeat(1000));
    let endless_path = format!("GET /{} HTTP/1.1\r\nhost: t\r\n\r\n", "a".repeat(100_000));
    for (what, bytes) in [
        ("a TLS client", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\r\n\r\n".to_vec()),
        ("words", b"hello?\r\n\r\n".to_vec()),
        ("zeroes", vec![0; 4096]),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        ("many headers", many_headers.into_bytes()),
        ("an endless path", endless_path.into_bytes()),
    ] {
        let answer = rest(connect(daemon.address, &bytes));
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert!(answer.is_empty() || status.starts_with('4'), "{what}: {answer}");
        assert_eq!(daemon.get("/-/healthy").0, 200, "{what}");
    }
    // A header without an end is not read for ever.
    let mut stream = connect(daemon.address, b"GET / HTTP/1.1\r\nx-a: ");
    let line = vec![b'a'; 64 * 1024];
    let refused = (0..1024).any(|_| stream.write_all(&line).is_err());
    assert!(refused, "64 MiB of one header were taken");
    assert_eq!(daemon.get("/-/healthy").0, 200);
}

#[test]
fn every_one_of_many_scrapes_at_once_sees_whole_books() {
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
                    assert!(arrivals >= before, "a counter went back");
                    before = arrivals;
                }
            });
        }
    });
    let failures = sample(&daemon.get("/metrics").2, "llmload_request_failures_total", &[]);
    assert!(failures > 0.0, "there was something to balance");
}

#[test]
fn whoever_fills_all_places_keeps_out_nobody() {
    rlimit::increase_nofile_limit(u64::MAX).unwrap();
    let daemon = Daemon::start(IDLE);
    let open: Vec<_> =
        (0..700).map(|_| connect(daemon.address, b"GET /-/healthy HTTP/1.1\r\n")).collect();
    assert_eq!(daemon.get("/-/healthy").0, 200);
    // The oldest are closed, once they have had a second to take what is on its way.
    let begun = Instant::now();
    while daemon.open_files() > 600 {
        assert!(begun.elapsed() < FOREVER, "{} files are open", daemon.open_files());
        pause();
    }
    drop(open);
}
