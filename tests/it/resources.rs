//! What the machine has to give, and what is said when that is too little.

use std::process::Command;

use crate::binary::Daemon;

/// The binary, with this done first by a shell that then becomes it.
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
fn a_plan_that_may_open_more_files_than_allowed_is_refused_with_the_remedy() {
    let folder = configuration(256);
    let output = after("ulimit -n 64")
        .args(["daemon", "--web.listen-address", "127.0.0.1:0"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let last = said.lines().last().unwrap();
    for words in ["may open 64 files", "ulimit -n", "max_concurrency"] {
        assert!(last.contains(words), "{said}");
    }
}

/// Shells and service managers set the soft limit low for the sake of old programs; a process may
/// raise it up to the hard one.
#[test]
fn a_low_soft_limit_of_files_is_raised_rather_than_complained_about() {
    let daemon = Daemon::of(after("ulimit -Sn 64"), &[], configuration(16));
    assert_eq!(daemon.get("/-/healthy").0, 200);
}
