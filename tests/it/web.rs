//! The web port of the daemon with misbehaving clients.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use tokio::time::Instant;

use crate::binary::{Daemon, TEST_TIMEOUT, assert_balanced, cpu_share, pause, request, sample};

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
    // The server can close the connection before it has read everything.
    let _refused_early = stream.write_all(bytes);
    stream
}

/// Returns the bytes until the server closes or resets the connection.
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
    // This request announces a body that never arrives.
    let request = b"POST /api/v1/scenarios/idle/rate HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 20\r\n\r\nrate=";
    let unfinished = connect(daemon.address, request);
    for path in ["/-/healthy", "/-/ready", "/metrics"] {
        assert_eq!(daemon.get(path).0, 200, "{path}");
    }
    // The server closes these connections after a timeout.
    let answer = rest(unfinished);
    assert!(answer.contains("did not arrive in time"), "{answer}");
    for stream in open {
        assert!(!rest(stream).contains("200 OK"));
    }
    assert_eq!(daemon.get("/-/healthy").0, 200);
}

/// A closed half of a connection is always readable, so a careless server would read in a loop.
#[test]
fn clients_that_close_their_half_of_a_connection_use_no_cpu() {
    let mut daemon = Daemon::start(IDLE);
    let parts: [&[u8]; 4] = [
        b"",
        b"GET /metrics HTTP/1.1\r\nhost: t\r\nx-more: ",
        b"POST /api/v1/scenarios/idle/rate HTTP/1.1\r\nhost: localhost\r\ncontent-length: 20\r\n\r\nrate=",
        b"GET /metrics HTTP/1.1\r\nhost: t\r\n\r\n",
    ];
    let open: Vec<_> = (0..80)
        .map(|number| {
            let stream = connect(daemon.address, parts[number % parts.len()]);
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            stream
        })
        .collect();
    let cpu = cpu_share(&mut daemon);
    assert!(cpu < 0.5, "llmload uses {cpu} CPUs");
    drop(open);
    assert_eq!(daemon.get("/-/healthy").0, 200);
}

#[test]
fn a_client_that_never_reads_does_not_block_scrapes() {
    let daemon = Daemon::start(IDLE);
    // The responses to these requests fill all buffers.
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
        // The length of these bodies differs between two requests, because they contain current
        // values.
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
    // A header that never ends.
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
    // A response has one second to end before the server closes its connection.
    let begun = Instant::now();
    while daemon.open_files() > 600 {
        assert!(begun.elapsed() < TEST_TIMEOUT, "{} files are open", daemon.open_files());
        pause();
    }
    drop(open);
}

/// Returns the status and the complete response.
fn send(daemon: &Daemon, request_line: &str, headers: &str) -> (u16, String) {
    let text = format!("{request_line} HTTP/1.1\r\nconnection: close\r\n{headers}\r\n");
    let response = rest(connect(daemon.address, text.as_bytes()));
    let status = response.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or_else(|| panic!("{response}")), response)
}

/// If DNS resolves the name of an attacker to the address of llmload, the attacker's page can reach
/// llmload under this name.
#[test]
fn under_the_name_of_another_site_only_metrics_and_health_are_readable() {
    let daemon = Daemon::start(IDLE);
    let evil = "host: evil.example:9899\r\n";
    for path in ["/metrics", "/-/healthy", "/-/ready", "/"] {
        assert_eq!(send(&daemon, &format!("GET {path}"), evil).0, 200, "{path}");
    }
    for path in ["/config", "/api/v1/status", "/api/v1/scenarios/idle/rate"] {
        let (status, response) = send(&daemon, &format!("GET {path}"), evil);
        assert_eq!(status, 403, "{path}");
        assert!(response.contains("use localhost"), "{response}");
        for host in ["LOCALHOST", "127.0.0.1:1", "[::1]:9899", "192.0.2.1"] {
            let status = send(&daemon, &format!("GET {path}"), &format!("host: {host}\r\n")).0;
            assert_eq!(status, 200, "{path} at {host}");
        }
    }
    // The host of the URL has priority over the header.
    let own = "host: localhost\r\n";
    assert_eq!(send(&daemon, "GET http://evil.example/config", own).0, 403);
    assert_eq!(send(&daemon, "GET http://localhost/config", evil).0, 200);
    let (status, response) = send(&daemon, "POST /-/pause", evil);
    assert_eq!(status, 403, "{response}");
    assert_eq!(send(&daemon, "POST /-/resume", "host: LocalHost:9899\r\n").0, 200);
    if let Ok(name) = std::fs::read_to_string("/proc/sys/kernel/hostname") {
        let host = format!("host: {}:9899\r\n", name.trim());
        assert_eq!(send(&daemon, "GET /config", &host).0, 200, "{host}");
        assert_eq!(send(&daemon, "POST /-/resume", &host).0, 200, "{host}");
    }
    assert!(daemon.get("/metrics").2.contains("llmload_paused 0"));
}

/// Programs use the name of a Kubernetes service. Browsers send `origin`.
#[test]
fn with_the_lifecycle_flag_programs_can_use_any_name_but_browsers_cannot() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("llmload.yml"), IDLE).unwrap();
    let llmload = Command::new(env!("CARGO_BIN_EXE_llmload"));
    let daemon = Daemon::of(llmload, &["--web.enable-lifecycle"], folder);
    let service = "host: llmload.monitoring.svc:9899\r\n";
    assert_eq!(send(&daemon, "POST /-/pause", service).0, 200);
    assert_eq!(send(&daemon, "GET /api/v1/status", service).0, 200);
    let (status, response) = send(&daemon, "GET /config", service);
    assert_eq!(status, 403, "{response}");
    assert!(response.contains("use localhost") && !response.contains("lifecycle"), "{response}");
    assert_eq!(send(&daemon, "GET /config", "host: 127.0.0.1:9899\r\n").0, 200);
    let rebinding = "host: evil.example\r\norigin: http://evil.example\r\n";
    let (status, response) = send(&daemon, "POST /-/resume", rebinding);
    assert_eq!(status, 403, "{response}");
    assert!(response.contains("localhost or at its IP address"), "{response}");
    assert!(daemon.get("/metrics").2.contains("llmload_paused 1"));
}

#[test]
fn no_response_can_be_framed_or_read_as_another_type() {
    let daemon = Daemon::start(IDLE);
    for path in PATHS.into_iter().chain(["/nowhere"]) {
        let head = daemon.get(path).1.to_lowercase();
        assert!(head.contains("x-content-type-options: nosniff"), "{path}: {head}");
    }
    let head = daemon.get("/").1.to_lowercase();
    for part in ["x-frame-options: deny", "default-src 'none'", "frame-ancestors 'none'"] {
        assert!(head.contains(part), "{part}: {head}");
    }
}

/// `prlimit` lowers the limit of the running process until no file number is free.
#[test]
fn the_web_port_responds_while_no_file_is_free() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("llmload.yml"), IDLE).unwrap();
    let llmload = Command::new(env!("CARGO_BIN_EXE_llmload"));
    // Without this option, only root can see the files of the process.
    let mut daemon = Daemon::of(llmload, &["--debug.core-dumps"], folder);
    let process = daemon.child.id();
    let is_open = |number: &u32| std::fs::exists(format!("/proc/{process}/fd/{number}")).unwrap();
    let free = (0..1000).find(|number| !is_open(number)).unwrap();
    let limit = format!("--nofile={free}");
    let status = Command::new("prlimit").args([&limit, "--pid", &process.to_string()]).status();
    assert!(status.unwrap().success());
    for _ in 0..50 {
        for path in ["/metrics", "/-/healthy", "/-/ready"] {
            assert_eq!(daemon.get(path).0, 200, "{path}");
        }
    }
    let text = daemon.get("/metrics").2;
    assert_eq!(sample(&text, "process_max_fds", &[]), f64::from(free), "{text}");
    // Kernels before 6.2 cannot count the files of a process at its limit.
    if text.contains("\nprocess_open_fds ") {
        daemon.wait_for("/metrics", |text| {
            let kind = "kind=\"files\"";
            (sample(text, "llmload_generator_distortion", &[kind]) == 1.0).then_some(())
        });
    }
    // These clients keep their connections and use up the reserve, so the oldest must leave.
    let open: Vec<_> = (0..20)
        .map(|_| connect(daemon.address, b"GET /-/healthy HTTP/1.1\r\nhost: t\r\n\r\n"))
        .collect();
    assert_eq!(daemon.get("/-/healthy").0, 200);
    drop(open);
    daemon.wait_for_log("uses its reserve of files");
    let log = daemon.log.lock().unwrap().clone();
    assert_eq!(log.matches("reserve of files").count(), 1, "{log}");
}
