//! Tests of lookups by a resolver that is slow or never responds.
//!
//! Each test starts itself again in a network namespace, in which name servers drop all questions.
//! Without root, the namespace is inside a user namespace.

use std::net::UdpSocket;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::Ordering;

use crate::binary::{Daemon, assert_balanced, sample};
use crate::upstream::{Upstream, good};

/// Contains the folder with the files of the namespace. Not set outside the namespace.
const INSIDE: &str = "LLMLOAD_TEST_LOOKUPS";

/// Runs the test `name` in a namespace whose resolver never responds. There, returns the folder of
/// its file `hosts`. Outside, returns `None` when the test in the namespace has ended.
fn inside(name: &str) -> Option<(PathBuf, UdpSocket)> {
    if let Some(folder) = std::env::var_os(INSIDE) {
        // Nothing reads the questions that this socket receives.
        return Some((folder.into(), UdpSocket::bind("127.0.0.1:53").unwrap()));
    }
    let folder = tempfile::tempdir().unwrap();
    for (file, text) in [
        // Longer than any test.
        ("resolv.conf", "nameserver 127.0.0.1\noptions timeout:30 attempts:5\n"),
        ("hosts", "127.0.0.1 localhost\n"),
    ] {
        std::fs::write(folder.path().join(file), text).unwrap();
    }
    let mut unshare = Command::new("unshare");
    unshare.args(["--net", "--mount"]);
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        unshare.args(["--user", "--map-root-user"]);
    }
    let steps = "ip link set lo up && mount --bind \"$0/resolv.conf\" /etc/resolv.conf && \
                 mount --bind \"$0/hosts\" /etc/hosts && exec \"$@\"";
    let output = unshare
        .args(["sh", "-c", steps])
        .arg(folder.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &format!("lookups::{name}"), "--nocapture"])
        .env(INSIDE, folder.path())
        .output()
        .expect("unshare must be installed; it is in util-linux");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    None
}

fn add_host(folder: &Path, name: &str) {
    let hosts = format!("127.0.0.1 localhost\n127.0.0.1 {name}\n");
    std::fs::write(folder.join("hosts"), hosts).unwrap();
}

fn remove_hosts(folder: &Path) {
    std::fs::write(folder.join("hosts"), "127.0.0.1 localhost\n").unwrap();
}

#[test]
fn a_resolver_that_never_responds_fails_only_the_requests_that_need_it() {
    let test = "a_resolver_that_never_responds_fails_only_the_requests_that_need_it";
    let Some((_folder, _name_server)) = inside(test) else { return };
    let mut daemon = Daemon::start(
        "
targets:
  named: {base_url: 'http://model.example/v1', model: m, timeouts: {connect: 1s}}
  addressed: {simulator: {slots: 64}}
scenarios:
  named: {target: named, rate: 100/s, start: now, max_concurrency: 1000, max_lag: 60s}
  addressed: {target: addressed, rate: 100/s, start: now, max_concurrency: 1000, max_lag: 60s, \
              request: {max_tokens: 2}}
",
    );
    let of = |page: &str, name: &str, labels: &[&str]| sample(page, name, labels);
    let failed = "llmload_request_failures_total";
    let page = daemon.wait_for("/metrics", |page| {
        assert_balanced(page);
        (of(page, failed, &["scenario=\"named\"", "reason=\"dns\""]) >= 400.0)
            .then(|| page.to_owned())
    });
    let all = of(&page, failed, &["scenario=\"named\""]);
    assert_eq!(of(&page, failed, &["scenario=\"named\"", "reason=\"dns\""]), all, "{page}");
    assert_eq!(of(&page, failed, &["scenario=\"addressed\""]), 0.0, "{page}");
    assert_eq!(of(&page, "llmload_arrivals_dropped_total", &[]), 0.0, "{page}");
    // Lookups that never end keep their threads. The highest number of threads for one name is 4.
    assert_eq!(daemon.threads_named("lookup"), 4);
    let status: serde_json::Value = serde_json::from_str(&daemon.get("/api/v1/status").2).unwrap();
    let status = status["scenarios"].to_string();
    assert!(status.contains("the name `model.example` was not resolved within 1s"), "{status}");
    assert!(status.contains("check the name servers"), "{status}");
    daemon.signal("TERM");
    let (ended, log) = daemon.wait();
    assert!(ended.success(), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_connection_needs_no_lookup() {
    let Some((folder, _name_server)) = inside("an_open_connection_needs_no_lookup") else {
        return;
    };
    add_host(&folder, "warm.example");
    let upstream = Upstream::start(|_| good()).await;
    let yaml = format!(
        "
targets:
  warm: {{base_url: 'http://warm.example:{port}/v1', model: m}}
  cold: {{base_url: 'http://cold.example:{port}/v1', model: m, timeouts: {{connect: 100ms}}}}
scenarios:
  warm: {{target: warm, concurrency: 1, start: now}}
  cold: {{target: cold, rate: 50/s, start: now}}
",
        port = upstream.address.port()
    );
    let work = move || {
        let mut daemon = Daemon::start(&yaml);
        let succeeded = |page: &str| {
            let all = sample(page, "llmload_requests_total", &["scenario=\"warm\""]);
            all - sample(page, "llmload_request_failures_total", &["scenario=\"warm\""])
        };
        daemon.wait_for("/metrics", |page| (succeeded(page) >= 1.0).then_some(()));
        remove_hosts(&folder);
        let before = daemon.wait_for("/metrics", |page| Some(succeeded(page)));
        let page = daemon.wait_for("/metrics", |page| {
            let failed = sample(page, "llmload_request_failures_total", &["scenario=\"cold\""]);
            (succeeded(page) >= before + 100.0 && failed >= 50.0).then(|| page.to_owned())
        });
        assert_eq!(
            sample(&page, "llmload_request_failures_total", &["scenario=\"warm\""]),
            0.0,
            "{page}"
        );
    };
    tokio::task::spawn_blocking(work).await.unwrap();
    assert!(upstream.requests.load(Ordering::Relaxed) > 100);
}
