//! Renders a report as `JUnit` XML, which GitHub, GitLab and Jenkins show as test results.
//!
//! Each route (one scenario on one target) is a test suite. A missed objective is a *failure*,
//! because the target did not meet a requirement. A reason why the run proves nothing is an
//! *error*. An objective that decides nothing is *skipped*.

use std::fmt::Write as _;

use super::{ObjectiveResult, Outcome, PhaseReport, Reason, ReasonCode, Report, RouteReport};

/// A test case.
struct Case {
    name: String,
    seconds: f64,
    result: CaseResult,
}

enum CaseResult {
    Passed,
    Failed { code: &'static str, message: String },
    Error { code: &'static str, message: String },
    Skipped { message: String },
}

#[derive(Clone, Copy, Default)]
struct Counts {
    tests: usize,
    failures: usize,
    errors: usize,
    skipped: usize,
}

/// Renders the test suites. The names of suites and cases depend only on the configuration, so a CI
/// can follow a case from run to run.
pub fn junit(report: &Report) -> String {
    let suites: Vec<(&RouteReport, Vec<Case>)> =
        report.routes.iter().map(|route| (route, cases(report, route))).collect();
    let all = Counts::new(suites.iter().flat_map(|suite| &suite.1));
    let mut out = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_owned();
    let name = report.tested.title.as_deref().unwrap_or("llmload run");
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "<testsuites name=\"{}\" {} time=\"{:.3}\">",
        escaped(name),
        all.attributes(),
        report.seconds
    );
    for (route, cases) in suites {
        suite(&mut out, report, route, &cases);
    }
    out.push_str("</testsuites>\n");
    out
}

fn suite(out: &mut String, report: &Report, route: &RouteReport, cases: &[Case]) {
    let _ = writeln!(
        out,
        "  <testsuite name=\"{}\" {} time=\"{:.3}\" timestamp=\"{}\" hostname=\"{}\">",
        escaped(&route.route()),
        Counts::new(cases).attributes(),
        route.total.seconds,
        escaped(&report.started),
        escaped(report.tested.host.as_deref().unwrap_or_default())
    );
    let labels = report.tested.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let properties =
        [("model", route.model.as_str()), ("address", &route.address)].into_iter().chain(labels);
    out.push_str("    <properties>\n");
    for (name, value) in properties {
        let (name, value) = (escaped(name), escaped(value));
        let _ = writeln!(out, "      <property name=\"{name}\" value=\"{value}\"/>");
    }
    out.push_str("    </properties>\n");
    let class = escaped(&format!("{}.{}", route.scenario, route.target));
    for Case { name, seconds, result } in cases {
        let _ = write!(
            out,
            "    <testcase classname=\"{class}\" name=\"{}\" time=\"{seconds:.3}\"",
            escaped(name)
        );
        let (element, code, message) = match result {
            CaseResult::Passed => {
                out.push_str("/>\n");
                continue;
            }
            CaseResult::Failed { code, message } => ("failure", Some(code), message),
            CaseResult::Error { code, message } => ("error", Some(code), message),
            CaseResult::Skipped { message } => ("skipped", None, message),
        };
        let (code, message) =
            (code.map_or_else(String::new, |code| format!(" type=\"{code}\"")), escaped(message));
        let _ = writeln!(out, ">\n      <{element}{code} message=\"{message}\"/>\n    </testcase>");
    }
    out.push_str("  </testsuite>\n");
}

/// Returns the cases of a route: its measurement, its requests, and its objectives by phase.
fn cases(report: &Report, route: &RouteReport) -> Vec<Case> {
    let name = route.route();
    let of_route: Vec<&Reason> = report
        .verdict
        .reasons
        .iter()
        .filter(|reason| reason.route.as_ref().is_none_or(|of| *of == name))
        .collect();
    let is_valid = report.verdict.result != Outcome::Invalid;
    let invalid: Vec<_> = of_route.iter().filter(|one| !one.code.is_of_target()).collect();
    let measurement = match invalid.first() {
        None => CaseResult::Passed,
        Some(first) => {
            let texts: Vec<_> = invalid.iter().map(|reason| reason.text.as_str()).collect();
            CaseResult::Error { code: first.code.as_str(), message: texts.join("; ") }
        }
    };
    let failures = of_route.iter().find(|reason| reason.code == ReasonCode::Failures);
    let requests = match failures {
        _ if route.ledger.finished == 0 => CaseResult::skipped("no request has ended"),
        None => CaseResult::Passed,
        Some(reason) => CaseResult::missed(reason.code, reason.text.clone(), is_valid),
    };
    let of_run =
        |name: &str, result| Case { name: name.to_owned(), seconds: route.total.seconds, result };
    let mut cases =
        vec![of_run("measurement is valid", measurement), of_run("requests succeed", requests)];
    for phase in route.levels() {
        if phase.is_search() {
            let missed = of_route.iter().find(|reason| {
                reason.code == ReasonCode::ObjectiveMissed
                    && reason.phase.as_deref() == Some(&phase.name)
            });
            let result = match missed {
                _ if phase.search.is_none() => CaseResult::skipped("the phase was not sent"),
                None if is_valid => CaseResult::Passed,
                None => CaseResult::skipped("the run proves nothing"),
                Some(reason) => CaseResult::missed(reason.code, reason.text.clone(), is_valid),
            };
            let name = format!("{}: the lowest level meets the objectives", phase.name);
            cases.push(Case { name, seconds: phase.statistics.seconds, result });
        }
        cases.extend(phase.slo.iter().map(|objective| Case {
            name: format!("{}: {}", phase.name, objective.criterion()),
            seconds: phase.statistics.seconds,
            result: judged(phase, objective, is_valid),
        }));
    }
    cases
}

fn judged(phase: &PhaseReport, objective: &ObjectiveResult, is_valid: bool) -> CaseResult {
    let measured = objective.measured_text();
    match (phase.sent, objective.judged) {
        (false, _) => CaseResult::skipped("the phase was not sent"),
        (true, 0) => CaseResult::skipped("no request can be judged"),
        _ if phase.explore => CaseResult::Skipped {
            message: format!("the phase explores and decides nothing; measured {measured}"),
        },
        _ if objective.passed && is_valid => CaseResult::Passed,
        _ if objective.passed => {
            CaseResult::Skipped { message: format!("the run proves nothing; measured {measured}") }
        }
        _ => {
            let text = objective.miss(phase.statistics.failed);
            CaseResult::missed(ReasonCode::ObjectiveMissed, text, is_valid)
        }
    }
}

impl CaseResult {
    fn skipped(message: &str) -> CaseResult {
        CaseResult::Skipped { message: message.to_owned() }
    }

    /// A requirement that the target did not meet. In an invalid run, llmload itself can have
    /// caused this, so the requirement is not judged.
    fn missed(code: ReasonCode, text: String, is_valid: bool) -> CaseResult {
        if is_valid {
            CaseResult::Failed { code: code.as_str(), message: text }
        } else {
            CaseResult::Skipped { message: format!("the run proves nothing; {text}") }
        }
    }
}

impl Counts {
    fn new<'a>(cases: impl IntoIterator<Item = &'a Case>) -> Counts {
        let mut counts = Counts::default();
        for case in cases {
            counts.tests += 1;
            match case.result {
                CaseResult::Passed => {}
                CaseResult::Failed { .. } => counts.failures += 1,
                CaseResult::Error { .. } => counts.errors += 1,
                CaseResult::Skipped { .. } => counts.skipped += 1,
            }
        }
        counts
    }

    fn attributes(self) -> String {
        let Counts { tests, failures, errors, skipped } = self;
        format!(
            "tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\" skipped=\"{skipped}\""
        )
    }
}

/// Escapes a text for an attribute. Removes characters that XML 1.0 forbids even as references,
/// because a message can contain bytes of a server.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // A parser would replace them by spaces.
            '\t' => out.push_str("&#9;"),
            '\n' => out.push_str("&#10;"),
            '\r' => out.push_str("&#13;"),
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => {}
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_with_markup_and_control_characters_is_valid_in_an_attribute() {
        let text = "a<b> & \"c\"\n\u{1b}[31m\0\u{ffff}é’😀";
        assert_eq!(escaped(text), "a&lt;b&gt; &amp; &quot;c&quot;&#10;[31mé’😀");
    }
}
