//! Tests of `llmload health`, for a container image without a shell.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use crate::binary::{Daemon, llmload};

/// Responds with these bytes, one write for each piece. Returns the URL.
fn responding(pieces: &'static [&'static [u8]]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_nodelay(true).unwrap();
        let _request = stream.read(&mut [0; 1024]).unwrap();
        for piece in pieces {
            stream.write_all(piece).unwrap();
        }
        // Let the client close first. If the server closed first, unread bytes of the request would
        // cause a reset.
        let _gone = stream.read(&mut [0; 1]);
    });
    format!("http://{address}/health")
}

#[test]
fn a_daemon_is_healthy_while_it_waits_and_while_it_drains() {
    let mut daemon = Daemon::start("target: http://127.0.0.1:1/v1\nrate: 1/s\n");
    let healthy = format!("http://{}/-/healthy", daemon.address);
    assert_eq!(llmload(&["health", &healthy]), (Some(0), String::new(), String::new()));
    let by_name = format!("http://localhost:{}/-/ready", daemon.address.port());
    assert_eq!(llmload(&["health", &by_name]).0, Some(0));
    let (code, _, err) = llmload(&["health", &format!("http://{}/nowhere", daemon.address)]);
    assert_eq!(code, Some(1));
    assert!(err.contains("responded with `HTTP/1.1 404`"), "{err}");
    daemon.child.kill().unwrap();
    daemon.child.wait().unwrap();
    let (code, _, err) = llmload(&["health", &healthy]);
    assert_eq!(code, Some(1));
    assert!(err.contains(&healthy) && err.contains("refused"), "{err}");
}

/// A response, the exit code, and a part of the error.
const RESPONSES: &[(&[&[u8]], i32, &str)] = &[
    (&[b"HTTP/1.1 200 OK\r\n\r\n"], 0, ""),
    (&[b"H", b"TTP/1.", b"0 2", b"00", b"\r\n\r\n"], 0, ""),
    (&[b"HTTP/1.1 503 Service Unavailable\r\n\r\n"], 1, "503"),
    (&[b"HTTP/1.1 2"], 1, "does not respond"),
    (&[b"SSH-2.0-OpenSSH_9 200\r\n"], 1, "SSH"),
    (&[b"\x1b[2J\x1b[2J\x1b[2J\x1b[2J"], 1, "\\u{1b}"),
    (&[], 1, "timed out"),
];

#[test]
fn only_status_200_is_healthy() {
    for (pieces, code, part) in RESPONSES {
        let url = responding(pieces);
        let (exit, _, err) = llmload(&["health", &url]);
        assert_eq!(exit, Some(*code), "{pieces:?}: {err}");
        assert!(err.contains(part) && !err.contains('\x1b'), "{pieces:?}: {err}");
    }
}

#[test]
fn a_url_without_http_or_host_is_a_usage_error() {
    for url in
        ["https:///-/healthy", "127.0.0.1:9899", "/-/healthy", "http://", "ftp://x/", "unix:"]
    {
        let (code, _, err) = llmload(&["health", url]);
        assert_eq!(code, Some(2), "{url}");
        assert!(err.contains("http://127.0.0.1:9899/-/healthy") || url == "unix:", "{url}: {err}");
    }
}

#[test]
fn a_password_in_the_url_is_refused_and_not_shown() {
    for url in ["http://ann:canary@127.0.0.1:1/-/healthy", "https://canary@localhost/"] {
        let (code, out, err) = llmload(&["health", url]);
        assert_eq!(code, Some(1), "{err}");
        assert!(err.contains("--password-file"), "{err}");
        assert!(!out.contains("canary") && !err.contains("canary"), "{out}{err}");
    }
}
