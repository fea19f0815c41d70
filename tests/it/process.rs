//! The process of llmload: its threads, and its core dumps.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;

use crate::binary::Daemon;

const IDLE: &str = "
targets: {t: {base_url: 'http://127.0.0.1:1/v1', model: m, api_key_env: KEY}}
scenarios: {s: {target: t, schedule: [{pause: 1h}, {constant: 1/s, for: 1s}]}}
";

/// Starts a daemon after some commands of a shell.
fn start(shell: &str, args: &[&str]) -> Daemon {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("llmload.yml"), IDLE).unwrap();
    let mut command = Command::new("sh");
    let enter = format!("cd {}; {shell}; exec \"$0\" \"$@\"", folder.path().display());
    command.args(["-c", &enter, env!("CARGO_BIN_EXE_llmload")]).env("KEY", "sk-canary-0123456789");
    Daemon::of(command, args, folder)
}

/// Returns the soft and the hard limit.
fn core_limit(daemon: &Daemon) -> String {
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", daemon.child.id())).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max core file size"));
    line.unwrap().split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

/// SIGQUIT makes a process write a core dump, if the system allows core dumps.
#[test]
fn a_crash_writes_no_core_dump_unless_a_flag_allows_it() {
    let raise = "ulimit -c unlimited 2>/dev/null";
    let mut allowed = start(raise, &["--debug.core-dumps"]);
    let shell = format!("{raise}; ulimit -c");
    let machine = Command::new("sh").args(["-c", &shell]).output().unwrap().stdout;
    let machine = String::from_utf8(machine).unwrap().trim().to_owned();
    assert!(core_limit(&allowed).starts_with(&machine), "{machine}");
    allowed.signal("QUIT");
    assert_eq!(allowed.child.wait().unwrap().signal(), Some(3));

    let mut prevented = start(raise, &[]);
    assert_eq!(core_limit(&prevented), "0 0");
    prevented.signal("QUIT");
    let ended = prevented.child.wait().unwrap();
    assert_eq!((ended.signal(), ended.core_dumped()), (Some(3), false));
    let files = std::fs::read_dir(prevented.folder.path()).unwrap();
    let names: Vec<_> = files.map(|file| file.unwrap().file_name()).collect();
    assert_eq!(names, ["llmload.yml"]);
}

/// More threads than CPUs would only wait for each other. `taskset` allows one CPU.
#[test]
fn the_runtime_has_one_thread_for_each_cpu_and_at_most_16() {
    let threads = |daemon: &Daemon| daemon.threads_named("llmload-worker");
    let cpus = std::thread::available_parallelism().unwrap().get();
    assert_eq!(threads(&start("true", &[])), cpus.min(16));
    let first =
        "cpus=$(taskset -cp $$ | sed 's/.*: //; s/[^0-9].*//'); taskset -cp $cpus $$ >/dev/null";
    assert_eq!(threads(&start(first, &[])), 1);
}
