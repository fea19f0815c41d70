//! Tests of `llmload health`, for a container image without a shell.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

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
    assert!(
        err.contains("responded with `HTTP/1.1 404`; correct the path; llmload serves"),
        "{err}"
    );
    daemon.child.kill().unwrap();
    daemon.child.wait().unwrap();
    let (code, _, err) = llmload(&["health", &healthy]);
    assert_eq!(code, Some(1));
    assert!(err.contains(&healthy) && err.contains("refused"), "{err}");
    assert!(
        err.contains("start llmload, or name the address of its --web.listen-address"),
        "{err}"
    );
}

/// A response, the exit code, and a part of the error.
const RESPONSES: &[(&[&[u8]], i32, &str)] = &[
    (&[b"HTTP/1.1 401 Unauthorized\r\n\r\n"], 1, "; write --user, and --password-file"),
    (&[b"HTTP/1.0 400 Bad Request\r\n\r\n"], 1, "; use https:// if the port expects TLS"),
    (&[b"HTTP/1.1 301 Moved\r\n\r\n"], 1, "; name the URL to which this one redirects"),
    (&[b"\x15\x03\x01\0\x02\x02\x0a"], 1, "; use https:// if the port expects TLS"),
    (&[b"HTTP/1.1 200 OK\r\n\r\n"], 0, ""),
    (&[b"H", b"TTP/1.", b"0 2", b"00", b"\r\n\r\n"], 0, ""),
    (&[b"HTTP/1.1 503 Service Unavailable\r\n\r\n"], 1, "503"),
    (&[b"HTTP/1.1 2"], 1, "timed out; check the address"),
    (&[b"SSH-2.0-OpenSSH_9 200\r\n"], 1, "SSH-2.0-Open`; correct the address"),
    (&[b"\x1b[2J\x1b[2J\x1b[2J\x1b[2J"], 1, "\\u{1b}"),
    (&[], 1, "does not respond: timed out; check the address"),
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

#[test]
fn each_problem_of_a_unix_socket_has_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| format!("unix:{}", folder.path().join(name).display());
    drop(UnixListener::bind(folder.path().join("old.sock")).unwrap());
    std::fs::write(folder.path().join("file"), "").unwrap();
    let long = "x".repeat(200);
    for (name, remedy) in [
        ("absent.sock", "or correct the path: no such file exists"),
        ("old.sock", "; start llmload: nothing listens at the socket"),
        ("file", "; correct the path: the file is no socket"),
        (long.as_str(), "; use a shorter path"),
    ] {
        let (code, _, err) = llmload(&["health", &place(name)]);
        assert_eq!(code, Some(1), "{name}");
        assert!(err.contains("does not respond: ") && err.contains(remedy), "{name}: {err}");
    }
    for (name, remedy) in [
        ("absent/a.sock", "; create its folder, or correct the path"),
        ("file/a.sock", "; correct the path: a part of it is a file, not a folder"),
        ("file", "; remove this file, which is no socket, or choose another path"),
        (long.as_str(), "; use a shorter path"),
    ] {
        let (code, _, err) = llmload(&["demo", "--web.listen-address", &place(name)]);
        assert_eq!(code, Some(1), "{name}: {err}");
        assert!(err.contains("cannot listen on unix:") && err.contains(remedy), "{name}: {err}");
    }
    let _listener = UnixListener::bind(folder.path().join("new.sock")).unwrap();
    let (code, _, err) = llmload(&["demo", "--web.listen-address", &place("new.sock")]);
    assert_eq!(code, Some(1));
    assert!(err.contains("; end the process that listens there"), "{err}");
}

#[test]
fn a_file_that_is_no_certificate_is_not_called_a_silent_server() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("notes.txt");
    std::fs::write(&file, "no certificate").unwrap();
    let file = file.to_str().unwrap();
    let url = "https://127.0.0.1:1/-/healthy";
    let (code, _, err) = llmload(&["health", url, "--ca-file", file]);
    let expected = "notes.txt contains no valid certificate in PEM format; name a file that starts";
    assert_eq!(code, Some(1));
    assert!(err.contains(expected) && !err.contains("respond"), "{err}");
}
