//! "Is it me?": a daemon that is held up from outside says that it is.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::binary::{Daemon, pause, sample};

fn kinds(status: &str) -> Vec<String> {
    let status: Value = serde_json::from_str(status).unwrap();
    let distortions = status["measurement"]["distortions"].as_array().unwrap();
    assert_eq!(status["measurement"]["valid"], distortions.is_empty(), "{status}");
    for distortion in distortions {
        let message = distortion["message"].as_str().unwrap();
        assert!(message.contains("; "), "a remedy: {message}");
        assert!(distortion["last"].as_f64() <= status["now"].as_f64());
    }
    distortions.iter().map(|distortion| distortion["kind"].as_str().unwrap().to_owned()).collect()
}

fn stands(exposition: &str, kind: &str) -> bool {
    sample(exposition, "llmload_generator_distortion", &[&format!("kind=\"{kind}\"")]) == 1.0
}

/// The verdict and its reasons come from one copy.
fn assert_agreed(exposition: &str) {
    let reasons = sample(exposition, "llmload_generator_distortion", &[]);
    let valid = sample(exposition, "llmload_measurement_valid", &[]);
    assert_eq!(valid == 1.0, reasons == 0.0, "{exposition}");
}

#[test]
fn stopped_for_three_seconds_it_says_that_it_is_to_blame_and_recovers() {
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
    // Three hundred arrivals were held up, and thirty instants of the event loop.
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
    assert!(stands(&text, "dispatch_lag") && stands(&text, "event_loop_delay"), "{text}");
    let slow = sample(&text, "llmload_event_loop_delay_seconds_bucket", &["le=\"+Inf\""])
        - sample(&text, "llmload_event_loop_delay_seconds_bucket", &["le=\"0.1\""]);
    assert!(slow >= 25.0, "{slow} instants were held up");
    while !daemon.log.lock().unwrap().contains("llmload distorts what it measures: ") {
        pause();
    }
    // Nothing is sent any more, so nothing is late; the machine may be busy for another reason.
    daemon.wait_for("/metrics", |text| {
        assert_agreed(text);
        (!stands(text, "dispatch_lag")).then_some(())
    });
    assert!(!kinds(&daemon.get("/api/v1/status").2).contains(&"dispatch_lag".to_owned()));
}

/// A control group below our own that may use the fiftieth part of a CPU; gone when dropped.
struct Squeeze {
    folder: PathBuf,
}

impl Squeeze {
    fn new() -> std::io::Result<Squeeze> {
        let name = format!("llmload-test-{}", std::process::id());
        let one = Path::new("/sys/fs/cgroup/cpu");
        let (folder, files) = if one.is_dir() {
            (one.join(name), &[("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "2000")][..])
        } else {
            (Path::new("/sys/fs/cgroup").join(name), &[("cpu.max", "2000 100000")][..])
        };
        std::fs::create_dir(&folder)?;
        let squeeze = Squeeze { folder };
        for (file, text) in files {
            std::fs::write(squeeze.folder.join(file), text)?;
        }
        Ok(squeeze)
    }
}

impl Drop for Squeeze {
    fn drop(&mut self) {
        // It is busy until its last process has been reaped.
        for _ in 0..100 {
            if std::fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            pause();
        }
    }
}

/// Where no control group may be made, as in most containers, what is left to see is that none is made up.
#[test]
fn squeezed_by_its_control_group_it_says_so() {
    let yaml = "targets: {sim: {simulator: {}}}\nscenarios: {s: {target: sim, rate: 20/s}}\n";
    let Ok(squeeze) = Squeeze::new() else {
        let text = Daemon::start(yaml).get("/metrics").2;
        assert!(sample(&text, "llmload_cpus_allowed", &[]) > 0.02, "{text}");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("llmload.yml"), yaml).unwrap();
    let mut command = Command::new("sh");
    let enter =
        format!("echo $$ > {}/cgroup.procs && exec \"$0\" \"$@\"", squeeze.folder.display());
    command.args(["-c", &enter, env!("CARGO_BIN_EXE_llmload")]);
    let mut daemon = Daemon::of(command, &[], folder);
    daemon.wait_for("/metrics", |text| {
        (stands(text, "throttled") && stands(text, "cpu")).then_some(())
    });
    let text = daemon.get("/metrics").2;
    assert_agreed(&text);
    assert_eq!(sample(&text, "llmload_cpus_allowed", &[]), 0.02);
    assert!(sample(&text, "llmload_cgroup_cpu_throttled_periods_total", &[]) > 3.0, "{text}");
    assert!(sample(&text, "llmload_cgroup_cpu_throttled_seconds_total", &[]) > 0.0, "{text}");
}
