//! The limit of open files, and the error for a configuration above it.

use std::process::Command;
use std::time::Duration;

use llmload::plan::OTHER_FILES;
use tokio_util::sync::CancellationToken;

use crate::binary::{Daemon, assert_balanced, open_files, pause, request, sample};
use crate::upstream::{Act, DONE, FINISH, Upstream, chunk, good, stream_head, token};

/// Returns a shell that runs `shell` and then llmload.
fn after(shell: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{shell} && exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_llmload")]);
    command
}

fn configuration(max_concurrency: u32) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let yaml = format!(
        "targets: {{t: {{base_url: 'http://127.0.0.1:1/v1', model: m}}}}
scenarios: {{s: {{target: t, rate: 1/s, max_concurrency: {max_concurrency}}}}}
"
    );
    std::fs::write(folder.path().join("llmload.yml"), yaml).unwrap();
    folder
}

#[test]
fn a_configuration_that_needs_more_open_files_than_the_limit_is_rejected_with_a_remedy() {
    let folder = configuration(256);
    let output = after("ulimit -n 64")
        .args(["daemon", "--web.listen-address", "127.0.0.1:0"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let last = stderr.lines().last().unwrap();
    for part in ["can open only 64 files", "ulimit -n", "max_concurrency"] {
        assert!(last.contains(part), "{stderr}");
    }
}

/// Shells and service managers set a low soft limit for old programs. A process can raise it up to
/// the hard limit.
#[test]
fn llmload_raises_a_low_soft_limit_of_open_files() {
    let daemon = Daemon::of(after("ulimit -Sn 64"), &[], configuration(16));
    assert_eq!(daemon.get("/-/healthy").0, 200);
}

/// A connection whose request has ended can still wait for the end of its body. So a route needs a
/// quarter more connections than `max_concurrency`.
#[test]
fn a_plan_needs_connections_for_each_route_and_both_ends_of_a_simulated_one() {
    let plan = llmload::config::parse(
        "targets:
  one: {base_url: 'http://127.0.0.1:1/v1', model: m}
  other: {base_url: 'http://127.0.0.1:2/v1', model: m}
  sim: {simulator: {}}
scenarios:
  pair: {targets: [one, other], rate: 1/s, max_concurrency: 100}
  simulated: {target: sim, rate: 1/s, max_concurrency: 10}
  single: {target: one, rate: 1/s, max_concurrency: 1}
",
        "the test",
        None,
        &|_| None,
    );
    assert_eq!(plan.unwrap().open_files(), 2 * 125 + 2 * 10 + 2 + OTHER_FILES);
}

/// The server leaves each body open. llmload waits for the end of a body only for a short time, and
/// only on a quarter of `max_concurrency` connections.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fast_server_that_ends_no_body_cannot_use_up_the_open_files() {
    let upstream = Upstream::start(|_| {
        vec![stream_head(), chunk(&token("a")), chunk(FINISH), chunk(DONE), Act::Silence]
    })
    .await;
    let yaml = format!(
        "targets: {{t: {{base_url: '{}', model: m}}}}
scenarios:
  s: {{target: t, start: now, max_concurrency: 20, schedule: [{{pause: 1s}}, {{concurrency: 20, for: 1h}}]}}
",
        upstream.url()
    );
    let (before, most) = tokio::task::spawn_blocking(move || {
        let mut daemon = Daemon::start(&yaml);
        let before = daemon.open_files();
        let most = std::cell::Cell::new(0);
        let (address, process) = (daemon.address, daemon.child.id());
        daemon.wait_for("/-/healthy", |_| {
            most.set(open_files(process).max(most.get()));
            let text = request(address, "GET", "/metrics").unwrap().2;
            assert_eq!(sample(&text, "llmload_request_failures_total", &[]), 0.0, "{text}");
            (sample(&text, "llmload_requests_total", &[]) >= 2000.0).then_some(())
        });
        (before, most.get())
    })
    .await
    .unwrap();
    // Without the limit, more than a hundred connections would wait.
    assert!(most < before + 75, "{most} files are open, and {before} at the start");
}

/// The limit is enough for the new plan, but not together with the requests of a removed scenario.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_counts_the_files_of_requests_that_still_run() {
    let gate = CancellationToken::new();
    let held = gate.clone();
    let upstream =
        Upstream::start(move |_| [vec![Act::WaitFor(held.clone())], good()].concat()).await;
    let url = upstream.url();
    let yaml = move |name: &str, max_concurrency: u32| {
        let load = "start: now, repeat: 1, schedule: [{concurrency: 100, for: 1s}]";
        format!(
            "targets: {{t: {{base_url: '{url}', model: m}}}}
scenarios: {{{name}: {{target: t, max_concurrency: {max_concurrency}, {load}}}}}
"
        )
    };
    tokio::task::spawn_blocking(move || {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("llmload.yml");
        let change = |yaml: String| std::fs::write(&file, yaml).unwrap();
        change(yaml("first", 100));
        let mut daemon = Daemon::of(after("ulimit -n 830"), &[], folder);
        let in_flight = |text: &str, count: f64| {
            (sample(text, "llmload_requests_in_flight", &[]) == count).then_some(())
        };
        daemon.wait_for("/metrics", |text| in_flight(text, 100.0));
        let reload = || request(daemon.address, "POST", "/-/reload").unwrap();
        change(yaml("second", 100));
        let (status, _, reply) = reload();
        assert_eq!(status, 500, "{reply}");
        for part in ["830 files", "need 765 files", "still use 100 files", "20 s", "ulimit -n"] {
            assert!(reply.contains(part), "{part}: {reply}");
        }
        // The same scenario uses its connections again.
        change(yaml("first", 101));
        let (status, _, reply) = reload();
        assert_eq!(status, 200, "{reply}");
        gate.cancel();
        daemon.wait_for("/metrics", |text| in_flight(text, 0.0));
        change(yaml("second", 100));
        let (status, _, reply) = request(daemon.address, "POST", "/-/reload").unwrap();
        assert_eq!(status, 200, "{reply}");
    })
    .await
    .unwrap();
}

/// `prlimit` lowers the limit of the running process, and raises it again. The load needs 50
/// connections at a time, and each request needs a new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_without_a_free_file_fail_as_client_resource_and_the_next_ones_succeed_again() {
    let slow = [vec![Act::Pause(Duration::from_millis(200))], good()].concat();
    let upstream = Upstream::start(move |_| slow.clone()).await;
    let yaml = format!(
        "targets: {{t: {{base_url: '{}', model: m, keep_alive: off}}}}
scenarios: {{s: {{target: t, start: now, schedule: [{{concurrency: 50, for: 1h}}]}}}}
",
        upstream.url()
    );
    tokio::task::spawn_blocking(move || {
        let mut daemon = Daemon::start(&yaml);
        let process = daemon.child.id();
        let set_limit = |limit: usize| {
            let limit = format!("--nofile={limit}:");
            let status =
                Command::new("prlimit").args([&limit, "--pid", &process.to_string()]).status();
            assert!(status.unwrap().success());
        };
        let succeeded = |text: &str| sample(text, "llmload_request_duration_seconds_count", &[]);
        let failed =
            |text: &str, label: &str| sample(text, "llmload_request_failures_total", &[label]);
        daemon.wait_for("/metrics", |text| (succeeded(text) >= 50.0).then_some(()));
        let most = (0..50).map(|_| {
            pause();
            daemon.open_files()
        });
        set_limit(most.max().unwrap() - 30);
        let text = daemon.wait_for("/metrics", |text| {
            (failed(text, "reason=\"client_resource\"") >= 50.0).then(|| text.to_owned())
        });
        assert_balanced(&text);
        assert_eq!(failed(&text, ""), failed(&text, "blame=\"client\""), "{text}");
        daemon.wait_for("/metrics", |text| {
            let kind = "kind=\"client_resource\"";
            (sample(text, "llmload_generator_distortion", &[kind]) == 1.0).then_some(())
        });
        set_limit(1000);
        daemon.wait_for("/metrics", |text| {
            (sample(text, "llmload_requests_in_flight", &[]) == 50.0).then_some(())
        });
    })
    .await
    .unwrap();
}
