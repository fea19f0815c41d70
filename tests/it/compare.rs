//! Tests of `llmload compare` with the reports of real runs. A test changes values of a report to
//! know the right result.

use std::process::Command;
use std::sync::OnceLock;

use llmload::report::{Distortion, Outcome, Reason, ReasonCode, Report};
use serde_json::Value;

use crate::run::run;

/// The report of a valid run: one scenario with two targets and two phases.
fn base() -> Report {
    static BASE: OnceLock<Report> = OnceLock::new();
    let measure = || {
        let ran = run(
            "targets:
  one: {simulator: {decode_tokens_per_second: 2000}}
  two: {simulator: {decode_tokens_per_second: 2000}}
scenarios:
  s:
    targets: [one, two]
    request: {max_tokens: 3}
    schedule:
      - {name: open, constant: 50/s, for: 2s}
      - {name: closed, concurrency: 4, requests: 60}
",
            &[],
        );
        valid(ran.report.unwrap())
    };
    BASE.get_or_init(measure).clone()
}

/// A busy machine can distort a run. This does not matter here, because the tests only compare the
/// values.
fn valid(mut report: Report) -> Report {
    report.distortions = Vec::new();
    report.verdict.reasons = Vec::new();
    report.verdict.result = Outcome::Passed;
    report
}

fn with(change: impl FnOnce(&mut Report)) -> Report {
    let mut report = base();
    change(&mut report);
    report
}

/// The base report, with ten times the TTFT in one phase of the first target.
fn slower() -> Report {
    with(|report| {
        let phase = &mut report.routes[0].phases[1];
        let times = phase.distributions.get_mut("time_to_first_token_seconds").unwrap();
        for value in times {
            value.0 *= 10.0;
        }
    })
}

/// Runs `llmload compare` in a folder with the reports `0.json`, `1.json` and so on. Returns the
/// exit code and both outputs.
fn compare(reports: &[Report], arguments: &[&str]) -> (i32, String) {
    let folder = tempfile::tempdir().unwrap();
    for (index, report) in reports.iter().enumerate() {
        let text = serde_json::to_string(report).unwrap();
        std::fs::write(folder.path().join(format!("{index}.json")), text).unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_llmload"));
    let output = command.current_dir(folder.path()).arg("compare").args(arguments).output();
    let output = output.unwrap();
    let both = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(both).unwrap())
}

fn json(reports: &[Report], arguments: &[&str]) -> (i32, Value) {
    let (code, text) = compare(reports, &[arguments, &["--format", "json"]].concat());
    (code, serde_json::from_str(&text).unwrap())
}

/// The changes of a metric in each phase, as `route, phase: change`.
fn changes(comparison: &Value, metric: &str) -> Vec<String> {
    let mut found = Vec::new();
    for phase in comparison["phases"].as_array().unwrap() {
        for compared in phase["metrics"].as_array().unwrap() {
            if compared["name"] == metric {
                let change = compared["new"][0]["change"].as_str().unwrap();
                let (route, phase) = (&phase["route"], &phase["phase"]);
                let [route, phase] = [route, phase].map(|name| name.as_str().unwrap());
                found.push(format!("{route}, {phase}: {change}"));
            }
        }
    }
    found
}

#[test]
fn compare_rejects_a_file_without_an_end() {
    for file in ["/dev/zero", "/dev/stdin"] {
        let (code, out, err) = crate::binary::llmload(&["compare", file, file]);
        assert_eq!((code, out.as_str()), (Some(2), ""));
        assert!(err.contains("not a file; pass a report.json"), "{err}");
    }
}

#[test]
fn a_report_of_another_format_is_rejected() {
    for format in [1, 3] {
        let other = with(|report| report.llmload_report = format);
        let (code, text) = compare(&[base(), other], &["0.json", "1.json"]);
        let expected = format!("1.json: the report has format {format}");
        assert!(code == 2 && text.contains(&expected), "{code}: {text}");
    }
}

#[test]
fn equal_reports_have_no_change_and_every_interval_holds_its_value() {
    let (code, text) = compare(&[base()], &["0.json", "0.json"]);
    assert!(
        code == 0 && text.starts_with("llmload compare passed: no metric is worse"),
        "{code}: {text}"
    );
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let (_, comparison) = json(&[base()], &["0.json", "0.json"]);
    let mut estimates = 0;
    for phase in comparison["phases"].as_array().unwrap() {
        for metric in phase["metrics"].as_array().unwrap() {
            let number = |key: &str| metric["base"][key].as_f64();
            if let (Some(low), Some(high)) = (number("low"), number("high")) {
                let value = number("value").unwrap();
                assert!(low <= value && value <= high, "{metric}");
                estimates += 1;
            }
        }
    }
    // Two routes with two phases have at least the success rate and four medians each.
    assert!(estimates >= 2 * 2 * 5, "{comparison}");
}

#[test]
fn a_phase_that_is_slower_is_named_and_no_other_phase() {
    let reports = [base(), slower()];
    let (code, text) = compare(&reports, &["0.json", "1.json"]);
    assert_eq!(code, 3, "{text}");
    assert!(text.contains("✗ s → one, closed: the new run is worse in TTFT p50 (+900"), "{text}");
    let (_, comparison) = json(&reports, &["0.json", "1.json"]);
    let expected = [
        "s → one, open: none",
        "s → one, closed: worse",
        "s → two, open: none",
        "s → two, closed: none",
    ];
    assert_eq!(changes(&comparison, "TTFT p50"), expected);
    assert_eq!(comparison["result"], "failed");
    assert_eq!(comparison["reasons"][0]["code"], "worse");
    let (code, comparison) = json(&reports, &["1.json", "0.json"]);
    assert_eq!((code, &comparison["result"]), (0, &Value::from("passed")));
    assert_eq!(changes(&comparison, "TTFT p50")[1], "s → one, closed: better");
    assert_eq!(compare(&reports, &["0.json", "1.json", "--tolerance", "1000"]).0, 0);
}

#[test]
fn an_open_loop_that_keeps_up_has_no_change_of_qps() {
    // On a busy machine, the last responses of a phase can be late.
    let kept_up = with(|report| {
        for route in &mut report.routes {
            let statistics = &mut route.phases[0].statistics;
            statistics.queries_per_second = statistics.offered_per_second;
        }
    });
    let (_, comparison) = json(&[kept_up], &["0.json", "0.json"]);
    let qps = changes(&comparison, "QPS");
    assert!(qps.contains(&"s → one, open: none".to_owned()), "{qps:?}");
    // A phase of a second has too few intervals for a judgement.
    assert!(qps.contains(&"s → one, closed: too_few".to_owned()), "{qps:?}");
    // Requests in flight are compared only in a closed loop, and never judged.
    let in_flight = ["s → one, closed: not_judged", "s → two, closed: not_judged"];
    assert_eq!(changes(&comparison, "in flight"), in_flight);
}

#[test]
fn an_invalid_run_is_not_judged() {
    let text = "the run was interrupted before its schedule ended";
    let invalid = with(|report| {
        report.verdict.result = Outcome::Invalid;
        report.verdict.reasons = vec![Reason::new(ReasonCode::Interrupted, text)];
    });
    for arguments in [["0.json", "1.json"], ["1.json", "0.json"]] {
        let (code, shown) = compare(&[slower(), invalid.clone()], &arguments);
        assert_eq!(code, 4, "{shown}");
        assert!(shown.contains(&format!("run is invalid: {text}")), "{shown}");
        assert!(!shown.contains("TTFT"), "{shown}");
        let (_, comparison) = json(&[slower(), invalid.clone()], &arguments);
        assert_eq!(comparison["phases"], Value::Array(Vec::new()));
        assert_eq!(comparison["reasons"][0]["code"], "invalid_run");
    }
}

#[test]
fn only_the_reasons_of_the_chosen_route_make_a_run_invalid() {
    let invalid = |target: &str| {
        with(|report| {
            report.verdict.result = Outcome::Invalid;
            let reason = Reason::new(ReasonCode::Dropped, "arrivals were dropped");
            report.verdict.reasons =
                vec![Reason { route: Some(format!("s → {target}")), ..reason }];
        })
    };
    let chosen = ["0.json#s/one", "1.json#s/one"];
    assert_eq!(compare(&[base(), invalid("two")], &chosen).0, 0);
    assert_eq!(compare(&[base(), invalid("one")], &chosen).0, 4);
    // A distortion concerns all routes.
    let distorted = with(|report| {
        report.verdict.result = Outcome::Invalid;
        report.verdict.reasons = vec![Reason::new(ReasonCode::Distorted, "it was distorted")];
        let (kind, message) = ("cpu".to_owned(), String::new());
        report.distortions = vec![Distortion { kind, message }];
    });
    assert_eq!(compare(&[base(), distorted], &chosen).0, 4);
}

#[test]
fn different_schedules_are_rejected_with_their_differences() {
    let other = with(|report| {
        for route in &mut report.routes {
            route.phases[0].load = "constant 60/s".to_owned();
        }
        report.routes[1].phases.pop();
    });
    let reports = [base(), other];
    let (code, text) = compare(&reports, &["0.json", "1.json"]);
    assert_eq!(code, 2, "{text}");
    for expected in [
        "s → one: open is constant 50/s for 2 s in the base run and constant 60/s for 2 s in the new run",
        "s → two: the phase closed is not in the new run",
        "--allow-different-schedules",
    ] {
        assert!(text.contains(expected), "{text}");
    }
    let arguments = ["0.json", "1.json", "--allow-different-schedules"];
    let (code, comparison) = json(&reports, &arguments);
    assert_eq!(
        (code, changes(&comparison, "TTFT p50")),
        (0, vec!["s → one, closed: none".to_owned()])
    );
    assert_eq!(comparison["notes"].as_array().unwrap().len(), 3, "{comparison}");
}

#[test]
fn a_route_without_a_partner_is_a_difference_of_the_schedules() {
    let without = with(|report| {
        report.routes.clear();
    });
    let (code, text) = compare(&[base(), without], &["0.json", "1.json"]);
    let expected = "s → one is in the base run, but not in the new run";
    assert!(code == 2 && text.contains(expected), "{code}: {text}");
}

#[test]
fn a_route_is_compared_with_a_chosen_route_of_another_name() {
    let renamed = with(|report| {
        let route = &mut report.routes[0];
        (route.scenario, route.target) = ("night".to_owned(), "new/server".to_owned());
        route.model = "other".to_owned();
        route.max_tokens = Some(64);
    });
    let reports = [base(), renamed];
    let (code, text) = compare(&reports, &["0.json#s/one", "1.json#night/new/server"]);
    assert_eq!(code, 0, "{text}");
    for expected in [
        "s → one is compared with night → new/server of the new run",
        "in the base run and other in the new run",
        "max_tokens is 3 in the base run and 64 in the new run",
    ] {
        let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(flat.contains(expected), "{text}");
    }
    let (code, text) = compare(&reports, &["0.json#s/one", "1.json#s/one"]);
    let expected = "1.json: the report has no route `s/one`; write one of: night/new/server, s/two";
    assert!(code == 2 && text.contains(expected), "{code}: {text}");
    let (code, text) = compare(&reports, &["0.json#s/one", "1.json"]);
    let expected = "1.json has several routes (night → new/server, s → two); choose one";
    assert!(code == 2 && text.contains(expected), "{code}: {text}");
}

#[test]
fn several_runs_are_compared_with_the_first() {
    let reports = [base(), slower()];
    let (code, text) = compare(&reports, &["0.json", "0.json", "1.json"]);
    assert_eq!(code, 3, "{text}");
    assert!(text.contains("s → one, closed: run 3 is worse in TTFT p50"), "{text}");
    assert!(!text.contains("run 2 is worse"), "{text}");
    assert!(text.contains("run 2  0.json") && text.contains("run 3  1.json"), "{text}");
    let is_head = |line: &&str| ["base", "run 2", "run 3"].iter().all(|name| line.contains(name));
    assert_eq!(text.lines().filter(is_head).count(), 4, "one table per phase: {text}");
}

#[test]
fn a_phase_that_the_new_run_did_not_complete_is_not_judged() {
    let cut = with(|report| report.routes[0].phases[1].cut = true);
    let (code, comparison) = json(&[base(), cut], &["0.json", "1.json"]);
    assert_eq!(code, 4, "{comparison}");
    assert_eq!(comparison["reasons"][0]["code"], "not_measured");
    assert_eq!(changes(&comparison, "TTFT p50")[1], "s → one, closed: not_judged");
    // A server that no longer streams has no TTFT.
    let silent = with(|report| {
        report.routes[0].phases[0].distributions.remove("time_to_first_token_seconds");
    });
    let (code, text) = compare(&[base(), silent], &["0.json", "1.json"]);
    let expected = "s → one, open: the new run has no value for TTFT";
    assert!(code == 4 && text.contains(expected), "{code}: {text}");
}

#[test]
fn a_success_rate_that_falls_is_worse_without_tolerance() {
    let failing = with(|report| {
        let statistics = &mut report.routes[0].phases[0].statistics;
        let all = statistics.succeeded + statistics.failed;
        statistics.failed = all / 4;
        statistics.succeeded = all - statistics.failed;
    });
    let arguments = ["0.json", "1.json", "--tolerance", "1000"];
    let (code, text) = compare(&[base(), failing], &arguments);
    let expected = "s → one, open: the new run is worse in success rate (−25.0 %)";
    assert!(code == 3 && text.contains(expected), "{code}: {text}");
}

#[test]
fn markdown_has_the_changes_and_folds_the_details() {
    let renamed = |mut report: Report| {
        report.routes[0].phases[1].name = "<b>|closed".to_owned();
        report
    };
    let reports = [renamed(base()), renamed(slower())];
    let (code, text) = compare(&reports, &["0.json", "1.json", "--format", "markdown"]);
    assert_eq!(code, 3, "{text}");
    assert!(text.starts_with("### llmload compare failed: "), "{text}");
    let changed = text.split("<details>").next().unwrap();
    let name = "s → one, &lt;b&gt;\\|closed";
    assert!(changed.contains(&format!("| {name} | TTFT p50 | ")), "{text}");
    assert!(!changed.contains("TPOT") && !text.contains("<b>"), "{text}");
    assert_eq!(text.matches("<details>").count(), 4, "{text}");
    assert_eq!(text.matches("</details>").count(), 4, "{text}");
}

#[test]
fn half_of_the_throughput_in_a_closed_loop_is_worse() {
    let measure = |speed: u32| {
        let yaml = format!(
            "targets: {{sim: {{simulator: {{decode_tokens_per_second: {speed}}}}}}}
scenarios: {{s: {{target: sim, request: {{max_tokens: 16}}, schedule: [{{concurrency: 4, for: 8s}}]}}}}
"
        );
        move || valid(run(&yaml, &[]).report.unwrap())
    };
    let fast = std::thread::spawn(measure(400));
    let slow = measure(150)();
    let reports = [fast.join().unwrap(), slow];
    let (code, comparison) = json(&reports, &["0.json", "1.json"]);
    assert_eq!(code, 3, "{comparison}");
    for metric in ["QPS", "tokens/s", "TPOT p50", "ITL p50"] {
        assert_eq!(changes(&comparison, metric), ["s → sim, concurrency 4: worse"], "{comparison}");
    }
    let (code, comparison) = json(&reports, &["1.json", "0.json"]);
    assert_eq!(code, 0, "{comparison}");
    assert_eq!(changes(&comparison, "QPS"), ["s → sim, concurrency 4: better"]);
}
