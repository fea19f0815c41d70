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
    assert_committed("check", &output(&["check", "check.yml"]));
}

#[test]
fn the_output_of_run_is_in_the_catalogue() {
    let report: Report = serde_json::from_str(&read("tests/messages/base.json")).unwrap();
    assert_committed("run", &llmload::report::text(&report));
}

#[test]
fn the_output_of_compare_is_in_the_catalogue() {
    assert_committed("compare", &output(&["compare", "base.json", "new.json"]));
}
