//! Targets at unix sockets.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use llmload::simulator::{Simulator, SimulatorOptions};

use crate::binary::llmload;

/// A simulator that clients reach through a unix socket.
struct Server {
    folder: tempfile::TempDir,
    _simulator: Simulator,
}

impl Server {
    fn start() -> Server {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let simulator = Simulator::start(SimulatorOptions::default(), listener).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixListener::bind(folder.path().join("vllm.sock")).unwrap();
        let address = simulator.address();
        std::thread::spawn(move || {
            for client in socket.incoming().map_while(Result::ok) {
                std::thread::spawn(move || relay(client, address));
            }
        });
        Server { folder, _simulator: simulator }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("vllm.sock")
    }

    fn url(&self) -> String {
        format!("unix:{}:/v1", self.socket().display())
    }
}

fn relay(mut client: UnixStream, server: SocketAddr) {
    let mut server = TcpStream::connect(server).unwrap();
    let (mut requests, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let forward = std::thread::spawn(move || {
        let _gone = io::copy(&mut requests, &mut to_server);
        let _gone = to_server.shutdown(Shutdown::Write);
    });
    let _gone = io::copy(&mut server, &mut client);
    let _gone = client.shutdown(Shutdown::Both);
    forward.join().unwrap();
}

#[test]
fn a_run_sends_its_load_and_reads_a_metrics_page_through_a_unix_socket() {
    let server = Server::start();
    let yaml = format!(
        "targets:
  local: {{base_url: '{}', observe: {{vllm: /metrics}}}}
scenarios:
  main: {{target: local, request: {{max_tokens: 4}}, repeat: 1, schedule: [{{constant: 20/s, for: 2s}}]}}
",
        server.url()
    );
    let file = server.folder.path().join("llmload.yml");
    std::fs::write(&file, yaml).unwrap();
    let (code, out, err) = llmload(&["run", "--json", "--config.file", file.to_str().unwrap()]);
    let report: serde_json::Value = serde_json::from_str(&out).unwrap_or_default();
    let ledger = &report["total"];
    assert_eq!(code, Some(0), "{err}\n{ledger}");
    assert!(out.contains("\"succeeded\": 40"), "{out}");
    assert!(!err.contains("metrics page"), "{err}");
}

#[test]
fn probe_and_check_accept_a_unix_socket_and_name_its_problems() {
    let server = Server::start();
    let (code, out, err) = llmload(&["probe", &server.url()]);
    assert_eq!(code, Some(0), "{out}\n{err}");
    let encoded = server.socket().to_str().unwrap().replace('/', "%2F");
    let (code, out, _) = llmload(&["probe", &format!("http+unix://{encoded}/v1")]);
    assert_eq!(code, Some(0), "{out}");
    let (code, out, _) = llmload(&["probe", "unix:/run/does-not-exist.sock:/v1"]);
    assert_eq!(code, Some(1));
    // The report wraps its lines.
    let out = out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(out.contains("/run/does-not-exist.sock does not exist"), "{out}");
    assert!(out.contains("start the server, or correct the path"), "{out}");
    assert!(!out.contains("https"), "{out}");
    for (target, place) in [
        ("{base_url: 'unix:vllm.sock:/v1'}", ":1:20"),
        ("{base_url: 'unix:/a.sock:/v1', http2: true}", ":1:47"),
        ("{base_url: 'unix:/a.sock:/v1', proxy: 'http://p:1'}", ":1:47"),
        ("{base_url: 'unix:/a.sock:/v1', tls: {insecure_skip_verify: true}}", ":1:40"),
    ] {
        let file = server.folder.path().join("bad.yml");
        std::fs::write(&file, format!("target: {target}\nrate: 1/s\n")).unwrap();
        let (code, _, err) = llmload(&["check", file.to_str().unwrap()]);
        assert_eq!(code, Some(2), "{target}");
        assert!(err.contains(place), "{target}: {err}");
    }
}
