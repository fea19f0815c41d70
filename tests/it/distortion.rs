//! Tests of distortions: problems of llmload or its machine that can falsify the results. A test
//! stops or throttles a daemon, and the daemon must report it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::binary::{Daemon, pause, sample};
use crate::upstream::{Act, DONE, FINISH, USAGE, Upstream, chunk, last_chunk, stream_head, token};

fn kinds(status: &str) -> Vec<String> {
    let status: Value = serde_json::from_str(status).unwrap();
    let distortions = status["measurement"]["distortions"].as_array().unwrap();
    assert_eq!(status["measurement"]["valid"], distortions.is_empty(), "{status}");
    for distortion in distortions {
        let message = distortion["message"].as_str().unwrap();
        assert!(message.contains("; "), "the message has no remedy: {message}");
        assert!(distortion["last"].as_f64() <= status["now"].as_f64());
    }
    distortions.iter().map(|distortion| distortion["kind"].as_str().unwrap().to_owned()).collect()
}

fn is_active(exposition: &str, kind: &str) -> bool {
    sample(exposition, "llmload_generator_distortion", &[&format!("kind=\"{kind}\"")]) == 1.0
}

fn assert_agreed(exposition: &str) {
    let reasons = sample(exposition, "llmload_generator_distortion", &[]);
    let valid = sample(exposition, "llmload_measurement_valid", &[]);
    assert_eq!(valid == 1.0, reasons == 0.0, "{exposition}");
}

#[test]
fn a_stop_of_three_seconds_is_reported_as_a_distortion() {
    let mut daemon = Daemon::start(
        "targets: {sim: {simulator: {}}}
scenarios:
  s: {target: sim, repeat: 1, request: {max_tokens: 4}, schedule: [{constant: 100/s, for: 8s}]}
",
    );
    daemon.wait_for("/metrics", |text| {
        (sample(text, "llmload_requests_started_total", &[]) >= 50.0).then_some(())
    });
    daemon.signal("STOP");
    std::thread::park_timeout(Duration::from_secs(3));
    daemon.signal("CONT");
    // The stop delayed 300 arrivals, and 30 probes of the event loop.
    daemon.wait_for("/api/v1/status", |text| {
        let kinds = kinds(text);
        ["dispatch_lag", "event_loop_delay"]
            .iter()
            .all(|kind| kinds.contains(&(*kind).to_owned()))
            .then_some(())
    });
    let text = daemon.get("/metrics").2;
    assert_agreed(&text);
    assert_eq!(sample(&text, "llmload_measurement_valid", &[]), 0.0);
    assert!(is_active(&text, "dispatch_lag") && is_active(&text, "event_loop_delay"), "{text}");
    let slow = sample(&text, "llmload_event_loop_delay_seconds_bucket", &["le=\"+Inf\""])
        - sample(&text, "llmload_event_loop_delay_seconds_bucket", &["le=\"0.1\""]);
    assert!(slow >= 25.0, "only {slow} probes were delayed");
    while !daemon.log.lock().unwrap().contains("llmload distorts the measurement: ") {
        pause();
    }
    // The schedule has ended, so no arrival is late any more. On a busy machine, other distortions
    // can stay.
    daemon.wait_for("/metrics", |text| {
        assert_agreed(text);
        (!is_active(text, "dispatch_lag")).then_some(())
    });
    assert!(!kinds(&daemon.get("/api/v1/status").2).contains(&"dispatch_lag".to_owned()));
}

/// The target sends an event every 0.1 s, even during the stop, which is longer than the timeout.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_of_llmload_is_not_a_timeout_of_the_target() {
    let gap = Duration::from_millis(100);
    let stream = move |_| {
        let mut acts = vec![stream_head()];
        for _ in 0..80 {
            acts.extend([chunk(&token("a")), Act::Pause(gap)]);
        }
        acts.extend([chunk(FINISH), chunk(USAGE), chunk(DONE), last_chunk()]);
        acts
    };
    let upstream = Upstream::start(stream).await;
    let yaml = format!(
        "targets: {{t: {{base_url: '{}', model: m, timeouts: {{idle: 3s}}}}}}
scenarios: {{s: {{start: now, repeat: 1, max_lag: 30s, schedule: [{{constant: 20/s, for: 2s}}]}}}}
",
        upstream.url()
    );
    tokio::task::spawn_blocking(move || {
        let mut daemon = Daemon::start(&yaml);
        daemon.wait_for("/metrics", |text| {
            (sample(text, "llmload_requests_in_flight", &[]) == 40.0).then_some(())
        });
        daemon.signal("STOP");
        std::thread::park_timeout(Duration::from_secs(5));
        daemon.signal("CONT");
        let text = daemon.wait_for("/metrics", |text| {
            (sample(text, "llmload_requests_total", &[]) == 40.0).then(|| text.to_owned())
        });
        let failures = sample(&text, "llmload_request_failures_total", &[]);
        assert_eq!(failures, 0.0, "{}", daemon.log.lock().unwrap());
    })
    .await
    .unwrap();
}

/// llmload sends no row of a prompt file that has changed, so these requests fail.
#[test]
fn requests_that_fail_in_llmload_itself_are_reported_as_a_distortion() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = std::fs::File::create(folder.path().join("prompts.txt")).unwrap();
    // For a file of this size, llmload reads each row from the disk.
    let row = [vec![b'a'; 1 << 14], vec![b'\n']].concat();
    for _ in 0..4_200 {
        file.write_all(&row).unwrap();
    }
    let yaml = "
targets: {sim: {simulator: {prefill_tokens_per_second: 1000000}}}
prompts: {large: {lines: prompts.txt}}
scenarios: {s: {target: sim, prompts: large, rate: 20/s, request: {max_tokens: 4}}}
";
    std::fs::write(folder.path().join("llmload.yml"), yaml).unwrap();
    let mut daemon = Daemon::of(Command::new(env!("CARGO_BIN_EXE_llmload")), &[], folder);
    daemon.wait_for("/metrics", |text| {
        let failures = sample(text, "llmload_request_failures_total", &[]);
        assert_eq!(failures, 0.0, "{text}");
        (sample(text, "llmload_requests_total", &[]) >= 5.0).then_some(())
    });
    file.write_all(b"one more\n").unwrap();
    daemon.wait_for("/metrics", |text| is_active(text, "client_resource").then_some(()));
    let text = daemon.get("/metrics").2;
    assert_agreed(&text);
    assert_eq!(sample(&text, "llmload_measurement_valid", &[]), 0.0);
    let status = daemon.get("/api/v1/status").2;
    assert!(kinds(&status).contains(&"client_resource".to_owned()));
    let status: Value = serde_json::from_str(&status).unwrap();
    let message = |kind: &str| {
        let all = status["measurement"]["distortions"].as_array().unwrap().iter();
        let mut of_kind = all.filter(|distortion| distortion["kind"] == kind);
        of_kind.next().unwrap()["message"].as_str().unwrap().to_owned()
    };
    let message = message("client_resource");
    assert!(message.contains("a prompt file has changed"), "{message}");
    let remedy = status["scenarios"][0]["failures"][0]["remedy"].as_str().unwrap();
    assert!(remedy.contains("prompt file"), "{remedy}");
    for misleading in ["ulimit", "ports", "memory"] {
        assert!(
            !message.contains(misleading) && !remedy.contains(misleading),
            "{message} {remedy}"
        );
    }
}

/// A cgroup with a limit. `drop` removes it.
struct ControlGroup {
    folder: PathBuf,
}

/// Files, each with its text.
type Files = &'static [(&'static str, &'static str)];

impl ControlGroup {
    /// Creates a cgroup with a controller such as `cpu`. The files are for version 1 and version 2.
    fn new(controller: &str, one: Files, two: Files) -> std::io::Result<ControlGroup> {
        let name = format!("llmload-test-{controller}-{}", std::process::id());
        let tree = Path::new("/sys/fs/cgroup").join(controller);
        let (folder, files) = if tree.is_dir() {
            (tree.join(name), one)
        } else {
            (Path::new("/sys/fs/cgroup").join(name), two)
        };
        std::fs::create_dir(&folder)?;
        let group = ControlGroup { folder };
        for (file, text) in files {
            std::fs::write(group.folder.join(file), text)?;
        }
        Ok(group)
    }

    /// Returns a shell that enters the cgroup, runs `shell`, and then runs llmload.
    fn enter(&self, shell: &str) -> Command {
        let mut command = Command::new("sh");
        let group = self.folder.display();
        let enter = format!("echo $$ > {group}/cgroup.procs && {shell} && exec \"$0\" \"$@\"");
        command.args(["-c", &enter, env!("CARGO_BIN_EXE_llmload")]);
        command
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        // The cgroup cannot be removed before its last process has been reaped.
        for _ in 0..100 {
            if std::fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            pause();
        }
    }
}

/// In most containers, this test cannot create a cgroup. Then it only checks that the daemon does
/// not report a low quota.
#[test]
fn throttling_by_a_control_group_is_reported_as_a_distortion() {
    let yaml = "targets: {sim: {simulator: {}}}\nscenarios: {s: {target: sim, rate: 20/s}}\n";
    let one = &[("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "2000")];
    let Ok(group) = ControlGroup::new("cpu", one, &[("cpu.max", "2000 100000")]) else {
        let text = Daemon::start(yaml).get("/metrics").2;
        assert!(sample(&text, "llmload_cpus_allowed", &[]) > 0.02, "{text}");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("llmload.yml"), yaml).unwrap();
    let mut daemon = Daemon::of(group.enter("true"), &[], folder);
    daemon.wait_for("/metrics", |text| {
        (is_active(text, "throttled") && is_active(text, "cpu")).then_some(())
    });
    let text = daemon.get("/metrics").2;
    assert_agreed(&text);
    assert_eq!(sample(&text, "llmload_cpus_allowed", &[]), 0.02);
    assert!(sample(&text, "llmload_cgroup_cpu_throttled_periods_total", &[]) > 3.0, "{text}");
    assert!(sample(&text, "llmload_cgroup_cpu_throttled_seconds_total", &[]) > 0.0, "{text}");
}

/// The cgroup can use 256 MiB, and a file in memory has 228 of them. In most containers, this test
/// cannot create a cgroup. Then it only checks that the daemon reports no lack of memory.
#[test]
fn a_memory_limit_that_is_nearly_reached_is_reported_as_a_distortion() {
    let yaml = "targets: {sim: {simulator: {}}}\nscenarios: {s: {target: sim, rate: 1/s}}\n";
    let shared = tempfile::tempdir_in("/dev/shm");
    let group = ControlGroup::new(
        "memory",
        &[("memory.limit_in_bytes", "256M")],
        &[("memory.max", "256M")],
    );
    let (Ok(group), Ok(shared)) = (group, shared) else {
        assert!(!is_active(&Daemon::start(yaml).get("/metrics").2, "memory"));
        return;
    };
    let fill = |mebibytes: u32| {
        let file = shared.path().join("file");
        let shell = format!("head -c {mebibytes}M /dev/zero > {}", file.display());
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("llmload.yml"), yaml).unwrap();
        Daemon::of(group.enter(&shell), &[], folder)
    };
    let memory = |text: &str, what: &str| {
        sample(text, &format!("llmload_cgroup_memory_{what}_bytes"), &[]) / f64::from(1 << 20)
    };
    let text = fill(100).get("/metrics").2;
    assert_eq!(memory(&text, "limit"), 256.0);
    assert!((100.0..200.0).contains(&memory(&text, "used")), "{text}");
    assert!(!is_active(&text, "memory"), "{text}");
    let mut daemon = fill(228);
    daemon.wait_for("/metrics", |text| is_active(text, "memory").then_some(()));
    let text = daemon.get("/metrics").2;
    assert_agreed(&text);
    assert!(memory(&text, "used") > 230.0, "{text}");
    let status: Value = serde_json::from_str(&daemon.get("/api/v1/status").2).unwrap();
    let mut all = status["measurement"]["distortions"].as_array().unwrap().iter();
    let message = all.rfind(|distortion| distortion["kind"] == "memory").unwrap();
    let message = message["message"].as_str().unwrap();
    assert!(message.contains("its limit is 256 MiB; raise the limit"), "{message}");
}
