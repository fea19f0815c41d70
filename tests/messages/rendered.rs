//! The output of the commands as a user sees it: `check`, `run` and `compare`, with fixed inputs.

use std::process::Command;

use llmload::report::Report;

use crate::catalogue::assert_committed;
use crate::{read, repository};

/// Runs llmload in the folder of the fixtures, and returns stdout.
fn output(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_llmload"));
    let output =
        command.args(arguments).current_dir(repository("tests/messages")).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_output_of_check_is_in_the_catalogue() {
    let text = output(&["check", "check.yml"]);
    // The number of series depends on the control groups of this machine and their limits.
    let line = text.lines().find(|line| line.trim_start().starts_with("series ")).unwrap();
    let number = line.split_whitespace().nth(1).unwrap();
    assert!(number.starts_with("1,"), "{line}");
    let text = text.replace(&format!("{number} on /metrics"), "N on /metrics");
    assert_committed("check", &text);
}

#[test]
fn the_output_of_run_is_in_the_catalogue() {
    let report: Report = serde_json::from_str(&read("tests/messages/base.json")).unwrap();
    assert_committed("run", &llmload::report::text(&report));
}

#[test]
fn the_output_of_a_run_with_several_targets_is_in_the_catalogue() {
    let report: Report = serde_json::from_str(&read("tests/messages/several.json")).unwrap();
    assert_committed("several", &llmload::report::text(&report));
}

#[test]
fn the_output_of_compare_is_in_the_catalogue() {
    let mut all = String::new();
    for arguments in [
        &["base.json", "new.json"][..],
        &["base.json", "new.json", "--format", "markdown"],
        &["base.json", "base.json", "new.json"],
        &["base.json#chat/main", "new.json#chat/other"],
    ] {
        let arguments = [&["compare"], arguments].concat();
        let mut command = Command::new(env!("CARGO_BIN_EXE_llmload"));
        let command = command.args(&arguments).current_dir(repository("tests/messages"));
        let output = command.output().unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        let code = output.status.code().unwrap();
        all += &format!("$ llmload {}\n{text}(exit code {code})\n\n", arguments.join(" "));
    }
    assert_committed("compare", &all);
}
