//! The limit of open files, and the error if the configuration needs more open files.

use std::process::Command;

use crate::binary::Daemon;

/// Returns a command that starts a shell. The shell runs the text in `shell`, and then llmload.
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

/// Shells and service managers set a low soft limit for old programs. A process can raise its soft
/// limit up to the hard limit.
#[test]
fn llmload_raises_a_low_soft_limit_of_open_files() {
    let daemon = Daemon::of(after("ulimit -Sn 64"), &[], configuration(16));
    assert_eq!(daemon.get("/-/healthy").0, 200);
}
