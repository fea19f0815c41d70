//! Tests of the metrics about the machine of llmload, with a program that stands in for nvidia-smi.

use std::path::Path;
use std::process::Command;

use crate::binary::{Daemon, TEST_TIMEOUT, pause, request, sample};

const BOTH: &str = "resources: {host: true, gpu: true}\n";
const IDLE: &str = "
targets: {sim: {simulator: {}, model: m}}
scenarios: {s: {target: sim, schedule: [{pause: 1h}, {constant: 1/s, for: 1s}]}}
";
const TWO_GPUS: &str =
    "printf '%s\\n' '0, 87, 1024, 81920, 312.45, 61' '1, [N/A], 0, 81920, [N/A], 33'";

fn write(daemon: &Daemon, name: &str, text: &str) {
    std::fs::write(daemon.folder.path().join(name), text).unwrap();
}

/// Starts a daemon that finds a program nvidia-smi. The program executes `script`.
pub fn with_nvidia_smi(yaml: &str, script: &str) -> Daemon {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("llmload.yml"), yaml).unwrap();
    std::fs::write(folder.path().join("script"), script).unwrap();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/nvidia-smi");
    let (fixtures, commands) = (fixtures.display(), folder.path().display());
    let path = format!("{fixtures}:{commands}:{}", std::env::var("PATH").unwrap());
    let mut command = Command::new(env!("CARGO_BIN_EXE_llmload"));
    command.env("PATH", path);
    Daemon::of(command, &[], folder)
}

fn has_gpus(text: &str) -> bool {
    text.contains("\nllmload_gpu_")
}

/// The log lines about GPUs.
fn gpu_lines(daemon: &Daemon) -> Vec<String> {
    let log = daemon.log.lock().unwrap();
    log.lines().filter(|line| line.contains("no GPU metrics")).map(str::to_owned).collect()
}

#[test]
fn cpu_memory_and_gpus_of_the_machine_are_exposed_if_they_are_configured() {
    let mut daemon = with_nvidia_smi(&format!("{BOTH}{IDLE}"), TWO_GPUS);
    let text = daemon.wait_for("/metrics", |text| has_gpus(text).then(|| text.to_owned()));
    let gpu = |name: &str, gpu: u8| {
        let prefix = format!("llmload_gpu_{name}{{gpu=\"{gpu}\"}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&prefix));
        line.map(|value| value.parse::<f64>().unwrap())
    };
    assert_eq!(gpu("utilization_ratio", 0), Some(0.87));
    assert_eq!(gpu("memory_used_bytes", 0), Some(f64::from(1 << 30)));
    assert_eq!(gpu("memory_bytes", 1), Some(80.0 * f64::from(1 << 30)));
    assert_eq!(gpu("power_watts", 0), Some(312.45));
    assert_eq!(gpu("temperature_celsius", 1), Some(33.0));
    assert_eq!((gpu("utilization_ratio", 1), gpu("power_watts", 1)), (None, None));
    let text = daemon.wait_for("/metrics", |text| {
        text.contains("\nllmload_host_cpu_seconds_total{").then(|| text.to_owned())
    });
    let stat = std::fs::read_to_string("/proc/stat").unwrap();
    let idle: f64 = stat.split_whitespace().nth(4).unwrap().parse().unwrap();
    let reported = sample(&text, "llmload_host_cpu_seconds_total", &["mode=\"idle\""]);
    assert!(reported > 0.0 && reported <= idle / 100.0, "{reported} {idle}");
    let memory = sample(&text, "llmload_host_memory_bytes", &[]);
    let available = sample(&text, "llmload_host_memory_available_bytes", &[]);
    assert!(available > 0.0 && available < memory, "{available} {memory}");
    assert_eq!(gpu_lines(&daemon), [""; 0]);

    write(&daemon, "llmload.yml", IDLE);
    assert_eq!(request(daemon.address, "POST", "/-/reload").unwrap().0, 200);
    let text = daemon.get("/metrics").2;
    assert!(!has_gpus(&text) && !text.contains("\nllmload_host_"), "{text}");
}

/// Each problem hides the GPUs. llmload logs the first one, and is silent until the program
/// succeeds again.
#[test]
fn a_program_that_fails_hides_the_gpus_and_is_logged_once() {
    let mut daemon = with_nvidia_smi(&format!("{BOTH}{IDLE}"), TWO_GPUS);
    daemon.wait_for("/metrics", |text| has_gpus(text).then_some(()));
    write(&daemon, "script", "echo 'driver \u{1b}[31m mismatch'; exit 9");
    daemon.wait_for("/metrics", |text| (!has_gpus(text)).then_some(()));
    // An endless output ends with a limit.
    write(&daemon, "script", "echo x >> \"$SCRIPT.runs\"; exec yes 0, 1, 2, 3, 4, 5");
    let runs = daemon.folder.path().join("script.runs");
    daemon.wait_for("/metrics", |text| {
        assert!(!has_gpus(text), "{text}");
        let runs = std::fs::read_to_string(&runs).unwrap_or_default();
        (runs.lines().count() >= 2).then_some(())
    });
    let lines = gpu_lines(&daemon);
    let [line] = &lines[..] else { panic!("{lines:?}") };
    assert!(line.contains("exit status: 9") && line.contains("mismatch"), "{line}");
    assert!(!line.contains('\u{1b}'), "{line}");
    write(&daemon, "script", TWO_GPUS);
    daemon.wait_for("/metrics", |text| has_gpus(text).then_some(()));
}

#[test]
fn a_program_that_hangs_is_killed_and_blocks_nothing() {
    let script = "echo $$ >> \"$SCRIPT.pids\"; exec sleep 1000";
    let mut daemon = with_nvidia_smi(&format!("{BOTH}{IDLE}"), script);
    let file = daemon.folder.path().join("script.pids");
    let first = daemon.wait_for("/metrics", |text| {
        assert!(!has_gpus(text), "{text}");
        let pids = std::fs::read_to_string(&file).unwrap_or_default();
        let mut pids = pids.lines().map(str::to_owned);
        pids.next().filter(|_| pids.next().is_some())
    });
    // llmload starts a second program only after the end of the first.
    assert!(!Path::new(&format!("/proc/{first}")).exists(), "process {first}");
    let lines = gpu_lines(&daemon);
    let [line] = &lines[..] else { panic!("{lines:?}") };
    assert!(line.contains("did not end within 5 s"), "{line}");
    daemon.wait_for("/metrics", |text| {
        (sample(text, "llmload_host_memory_bytes", &[]) > 0.0).then_some(())
    });
    daemon.signal("TERM");
    let begun = tokio::time::Instant::now();
    while daemon.child.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < TEST_TIMEOUT);
        pause();
    }
}

/// The first program leaves two others, which have its output. The second one of them is in another
/// process group, so llmload cannot kill it.
#[test]
fn a_program_that_leaves_other_programs_does_not_stop_the_metrics() {
    let script = format!(
        "if [ -e \"$SCRIPT.left\" ]; then {TWO_GPUS}; else
  sleep 1000 & echo $! > \"$SCRIPT.left\"
  setsid sleep 60 &
fi"
    );
    let mut daemon = with_nvidia_smi(&format!("{BOTH}{IDLE}"), &script);
    daemon.wait_for("/metrics", |text| has_gpus(text).then_some(()));
    let left = std::fs::read_to_string(daemon.folder.path().join("script.left")).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", left.trim()));
    // A killed program without a parent can stay as a zombie.
    assert!(status.is_err() || status.unwrap().contains("State:\tZ"), "process {left}");
    let lines = gpu_lines(&daemon);
    let [line] = &lines[..] else { panic!("{lines:?}") };
    assert!(line.contains("did not end within 5 s"), "{line}");
}

#[test]
fn without_the_program_there_are_no_gpus_and_one_line_in_the_log() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("llmload.yml"), format!("{BOTH}{IDLE}")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_llmload"));
    command.env("PATH", folder.path());
    let mut daemon = Daemon::of(command, &[], folder);
    daemon.wait_for_log("no program nvidia-smi");
    let time = |text: &str| sample(text, "llmload_host_cpu_seconds_total", &[]);
    let before = daemon.wait_for("/metrics", |text| Some(time(text)).filter(|time| *time > 0.0));
    // After two new values, the thread has decided twice more whether to start the program.
    let between = daemon.wait_for("/metrics", |text| Some(time(text)).filter(|t| *t > before));
    daemon.wait_for("/metrics", |text| (time(text) > between).then_some(()));
    assert_eq!(gpu_lines(&daemon).len(), 1);
    assert!(!has_gpus(&daemon.get("/metrics").2));
}
