//! Tests of the findings of `llmload run` against simulators whose capacity follows from their
//! parameters. A busy machine slows all levels down, so the tests compare levels of the same run.

use llmload::report::{Finding, FindingCode};

use crate::run::run;

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
    assert!(in_service.is_none_or(|count| (13.0..18.0).contains(count)), "{}", queue.text);
}
