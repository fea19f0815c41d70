//! Tests of the findings of `llmload run` against simulators whose capacity follows from their
//! parameters. A busy machine slows all levels down, so the tests compare levels of the same run.

use std::process::Command;

use llmload::report::{Finding, FindingCode, ReasonCode};

use crate::run::{command, ran, run};

/// The findings of a run with 2, 8 and 32 requests at a time against a simulator with this number
/// of slots.
fn findings(slots: u32) -> Vec<Finding> {
    let yaml = format!(
        "targets:\n  sim:\n    simulator: {{slots: {slots}, prefill_tokens_per_second: 100000, \
         decode_tokens_per_second: 60}}\n\
         scenarios:\n  s:\n    prompts: [\"Say hello.\"]\n    request: {{max_tokens: 8}}\n    \
         schedule: [{{concurrency: [2, 8, 32], for: 6s}}]\n"
    );
    run(&yaml, &["--no-gate"]).report.unwrap().findings
}

fn find(findings: &[Finding], code: FindingCode) -> Option<&Finding> {
    findings.iter().find(|finding| finding.code == code)
}

#[test]
fn the_findings_name_the_saturation_and_the_slots_of_the_server() {
    let few = findings(4);
    let knee = find(&few, FindingCode::ThroughputKnee).unwrap();
    assert_eq!((knee.phase.as_deref(), knee.values["level"]), (Some("concurrency 8"), 8.0));
    let queue = find(&few, FindingCode::RequestsQueue).unwrap();
    let in_service = queue.values["requests_in_service"];
    assert!((3.0..5.0).contains(&in_service), "{}", queue.text);
    assert_eq!(find(&few, FindingCode::RoomAtTop), None);

    let many = findings(16);
    let knee = find(&many, FindingCode::ThroughputKnee);
    assert!(knee.is_none_or(|knee| knee.values["level"] >= 8.0), "{knee:?}");
    let queue = find(&many, FindingCode::RequestsQueue).unwrap();
    let in_service = queue.values.get("requests_in_service");
    assert!(in_service.is_none_or(|count| (12.0..22.0).contains(count)), "{}", queue.text);
}

/// The simulator of the file starts again for the search, so the search sends the same requests.
#[test]
fn the_next_step_is_a_command_that_finds_the_limit_with_the_file_of_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = "targets:\n  sim:\n    simulator: {slots: 4, prefill_tokens_per_second: 100000, \
                decode_tokens_per_second: 60}\n\
                scenarios:\n  night:\n    request: {max_tokens: 8}\n    \
                slo: {ttft: {p50: 250ms}}\n    schedule: [{concurrency: [2, 32], for: 5s}]\n";
    let ran = ran(folder.path(), &command(folder.path(), yaml, &[]).output().unwrap());
    let report = ran.report.unwrap();
    if report.verdict.has(ReasonCode::Distorted) {
        return;
    }
    let next = &find(&report.findings, FindingCode::NextStep).unwrap().text;
    let advised = next.split('`').nth(1).unwrap();
    let started = "llmload capacity --config.file llmload.yml --scenario night --slo ";
    assert!(advised.starts_with(started) && advised.ends_with("--from 2 --to 32"), "{next}");
    // A shell splits the command, as it does for a person.
    let line = format!("{advised} --resolution 50% --for 1s");
    let line = line.replacen("llmload", env!("CARGO_BIN_EXE_llmload"), 1);
    let searched = Command::new("sh").args(["-c", &line]).current_dir(folder.path()).output();
    let searched = searched.unwrap();
    let text = String::from_utf8_lossy(&searched.stdout);
    assert!(text.starts_with("llmload capacity "), "{searched:?}");
    assert!([0, 3, 4].contains(&searched.status.code().unwrap()), "{searched:?}");
}
