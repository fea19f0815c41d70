//! SIGHUP. A daemon with a file reloads it (see `reload`). Any other command ends, because a hangup
//! means a closed terminal.

use std::process::{Child, Command, Stdio};

use crate::binary::{Daemon, TEST_TIMEOUT, pause, signal};

/// Starts llmload in a shell, waits until its log contains `text`, sends SIGHUP, and calls `then`.
/// Returns the exit code and the log.
fn hang_up(shell: &str, args: &[&str], text: &str, then: impl Fn(&Child)) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let mut child = Command::new("sh")
        .args(["-c", &format!("{shell} exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_llmload")])
        .args(args)
        .current_dir(folder.path())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let begun = tokio::time::Instant::now();
    let read = || std::fs::read_to_string(&log).unwrap();
    while !read().contains(text) {
        let ended = child.try_wait().unwrap();
        assert!(ended.is_none() && begun.elapsed() < TEST_TIMEOUT, "{ended:?}: {}", read());
        pause();
    }
    signal(&child, "HUP");
    then(&child);
    let status = child.wait().unwrap();
    (status.code(), read())
}

const URL: &[&str] =
    &["http://127.0.0.1:1/v1", "--rate", "1/s", "--web.listen-address", "127.0.0.1:0"];

#[test]
fn a_hangup_ends_every_command_that_has_no_file_to_reload() {
    let port = ["--web.listen-address", "127.0.0.1:0"];
    let demo = [&["demo"], &port[..]].concat();
    let simulator = [&["simulator"], &port[..]].concat();
    for (args, text) in
        [(URL, "/metrics on"), (&demo[..], "/metrics on"), (&simulator[..], "simulator on")]
    {
        let (code, log) = hang_up("", args, text, |_| {});
        assert_eq!(code, Some(0), "{args:?}: {log}");
        assert_eq!(log.contains("stopped"), args != simulator, "{args:?}: {log}");
    }
}

#[test]
fn a_hangup_changes_nothing_under_nohup() {
    let (code, log) = hang_up("trap '' HUP;", URL, "/metrics on", |child| {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
        let mask = u64::from_str_radix(mask.trim(), 16).unwrap();
        assert_eq!(mask & 1, 1, "the lowest bit is for SIGHUP: {mask:x}");
        signal(child, "TERM");
    });
    assert_eq!((code, log.matches("stopping").count()), (Some(0), 1), "{log}");
}

/// Without a handler, the kernel would kill the process.
#[test]
fn the_signals_for_users_have_no_effect() {
    let daemon = Daemon::start(
        "targets: {t: {base_url: 'http://127.0.0.1:1/v1', model: m}}
scenarios: {s: {target: t, rate: 1/s}}
",
    );
    for name in ["USR1", "USR2"] {
        daemon.signal(name);
        assert_eq!(daemon.get("/-/healthy").0, 200, "{name}");
    }
    daemon.signal("TERM");
    let (status, log) = daemon.wait();
    assert_eq!(status.code(), Some(0), "{log}");
}
