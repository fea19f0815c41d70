//! The forms of a report for CI: JSON on stdout, CSV and `JUnit` XML. Every ended run has all of
//! them, also if llmload sent nothing.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::Ordering::Relaxed;

use llmload::report::{Outcome, ReasonCode, Report};
use tokio_util::sync::CancellationToken;

use crate::run::{command, on};
use crate::upstream::{Upstream, good, plain};

const FILES: [&str; 5] = ["report.json", "report.md", "report.html", "report.csv", "junit.xml"];

fn read(folder: &Path, name: &str) -> String {
    std::fs::read_to_string(folder.join("out").join(name)).unwrap()
}

fn report(folder: &Path) -> Report {
    serde_json::from_str(&read(folder, "report.json")).unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Reads CSV. Returns the header and the records.
fn records(csv: &str) -> (Vec<String>, Vec<Vec<String>>) {
    let mut reader = csv_core::Reader::new();
    let (mut input, mut records) = (csv.as_bytes(), Vec::new());
    let (mut cells, mut ends) = (vec![0; csv.len() + 1], vec![0; 1000]);
    loop {
        let (result, read, _, count) = reader.read_record(input, &mut cells, &mut ends);
        input = &input[read..];
        match result {
            csv_core::ReadRecordResult::Record => {
                let starts = std::iter::once(0).chain(ends.iter().copied());
                let bounds = starts.zip(&ends[..count]);
                records.push(bounds.map(|(start, end)| text(&cells[start..*end])).collect());
            }
            csv_core::ReadRecordResult::End => break,
            csv_core::ReadRecordResult::InputEmpty => {}
            other => panic!("{other:?}"),
        }
    }
    (records.remove(0), records)
}

/// Returns the cases of a `JUnit` file: the suite, the name, and the element of the result with its
/// type and its message. Checks the counts of the suites.
fn cases(xml: &str) -> Vec<(String, String, Option<[String; 3]>)> {
    let document = roxmltree::Document::parse(xml).unwrap();
    let root = document.root_element();
    assert_eq!(root.tag_name().name(), "testsuites");
    let mut found = Vec::new();
    for suite in root.children().filter(|node| node.has_tag_name("testsuite")) {
        let before = found.len();
        for case in suite.children().filter(|node| node.has_tag_name("testcase")) {
            let attribute =
                |node: roxmltree::Node, name| node.attribute(name).unwrap_or_default().to_owned();
            assert!(case.attribute("classname").is_some() && case.attribute("time").is_some());
            let result = case.children().find(roxmltree::Node::is_element).map(|node| {
                let name = node.tag_name().name().to_owned();
                [name, attribute(node, "type"), attribute(node, "message")]
            });
            found.push((attribute(suite, "name"), attribute(case, "name"), result));
        }
        let of_suite = &found[before..];
        let count = |name: &str| {
            let is_one = |result: &[String; 3]| result[0] == name;
            of_suite.iter().filter(|case| case.2.as_ref().is_some_and(is_one)).count().to_string()
        };
        assert_eq!(suite.attribute("tests"), Some(of_suite.len().to_string().as_str()));
        for (attribute, element) in
            [("failures", "failure"), ("errors", "error"), ("skipped", "skipped")]
        {
            assert_eq!(suite.attribute(attribute), Some(count(element).as_str()), "{xml}");
        }
    }
    found
}

const TWO_LEVELS: &str = "targets: {one: {simulator: {}}, two: {simulator: {}}}
scenarios:
  s:
    targets: [one, two]
    request: {max_tokens: 2}
    slo: {ttft: {p50: 1us, p90: 1m}}
    schedule:
      - {name: 'low, \"easy\" <&>', constant: 20/s, for: 500ms}
      - {pause: 100ms}
      - {name: high, concurrency: 3, requests: 12}
";

#[test]
fn every_form_of_a_report_has_the_values_of_the_json() {
    let folder = tempfile::tempdir().unwrap();
    let output = command(folder.path(), TWO_LEVELS, &["--json", "--title", "a & b"]).output();
    let output = output.unwrap();
    // stdout has the report, and nothing else.
    assert_eq!(text(&output.stdout).trim_end(), read(folder.path(), "report.json"));
    let report = report(folder.path());
    assert_eq!(report.routes.len(), 2);
    let csv = read(folder.path(), "report.csv");
    let (header, rows) = records(&csv);
    assert_eq!(rows.len(), 4, "two levels on two targets: {csv}");
    let phases = report.routes.iter().flat_map(|route| {
        route.phases.iter().filter(|phase| phase.load != "pause").map(move |phase| (route, phase))
    });
    for (row, (route, phase)) in rows.iter().zip(phases) {
        assert_eq!(row.len(), header.len());
        let cell = |name: &str| row[header.iter().position(|one| one == name).unwrap()].as_str();
        let number = |name: &str| cell(name).parse::<f64>().ok();
        assert_eq!(
            [cell("title"), cell("scenario"), cell("target"), cell("phase"), cell("state")],
            ["a & b", "s", &route.target, &phase.name, "sent"]
        );
        assert_eq!(
            [cell("objectives_met"), cell("objectives_missed"), cell("objectives_not_judged")],
            ["ttft p90", "ttft p50", ""]
        );
        let statistics = &phase.statistics;
        assert_eq!(cell("succeeded"), statistics.succeeded.to_string());
        for (name, value) in [
            ("level", phase.level.map(|level| level.value)),
            ("seconds", Some(statistics.seconds)),
            ("queries_per_second", statistics.queries_per_second),
            ("time_to_first_token_seconds_p90", statistics.time_to_first_token_seconds.p90),
            ("time_to_first_token_seconds_p99", statistics.time_to_first_token_seconds.p99),
            ("request_duration_seconds_max", statistics.request_duration_seconds.max),
        ] {
            assert_eq!(number(name), value, "{name}");
        }
    }
    let cases = cases(&read(folder.path(), "junit.xml"));
    let of_suite: Vec<_> = cases.iter().filter(|case| case.0 == "s → two").collect();
    let names: Vec<_> = of_suite.iter().map(|case| case.1.as_str()).collect();
    assert_eq!(
        names,
        [
            "measurement is valid",
            "requests succeed",
            "low, \"easy\" <&>: ttft p50 ≤ 1 µs",
            "low, \"easy\" <&>: ttft p90 ≤ 60 s",
            "high: ttft p50 ≤ 1 µs",
            "high: ttft p90 ≤ 60 s",
        ]
    );
    if report.verdict.has(ReasonCode::Distorted) {
        return;
    }
    assert_eq!(output.status.code(), Some(3));
    for case in &of_suite {
        let result = case.2.as_ref().map(|result| [result[0].as_str(), result[1].as_str()]);
        let expected = case.1.contains("p50").then_some(["failure", "objective_missed"]);
        assert_eq!(result, expected, "{case:?}");
    }
    let message = &of_suite[2].2.as_ref().unwrap()[2];
    assert!(
        message.starts_with("ttft p50 was ") && message.contains("objective 1 µs"),
        "{message}"
    );
}

#[test]
fn a_result_that_chance_can_decide_is_explained_in_every_form_for_people() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = "target: {simulator: {}}\nrequest: {max_tokens: 2}\nslo: {ttft: {p50: 1m, p99: 1m}}\n\
                schedule: [{constant: 20/s, for: 1s}]\n";
    let output = command(folder.path(), yaml, &[]).output().unwrap();
    let unwrapped = text(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
    let legend = "met? = met, but by so few requests that chance can decide: ttft p99 needs 100 \
                  requests";
    for form in [unwrapped, read(folder.path(), "report.md"), read(folder.path(), "report.html")] {
        assert!(form.contains("met? ") && form.contains(legend), "{form}");
    }
}

#[test]
fn the_command_of_a_run_is_code_and_each_heading_follows_a_blank_line() {
    let folder = tempfile::tempdir().unwrap();
    let title = "a<b> | `c`";
    command(folder.path(), TWO_LEVELS, &["--title", title]).output().unwrap();
    let markdown = read(folder.path(), "report.md");
    // The delimiters are longer than the backticks of the command, and a pipe ends no cell.
    let command = "| command | ``llmload run ";
    let line = markdown.lines().find(|line| line.starts_with(command)).unwrap();
    assert!(line.ends_with("'a<b> \\| `c`'`` |"), "{line}");
    let lines: Vec<&str> = markdown.lines().collect();
    for pair in lines.windows(2).filter(|pair| pair[1].starts_with('#')) {
        assert_eq!(pair[0], "", "before {}", pair[1]);
    }
    let page = read(folder.path(), "report.html");
    assert!(page.contains("<code>llmload run "), "{page}");
}

#[test]
fn the_documentation_explains_exactly_the_columns_of_the_csv() {
    let page = include_str!("../../docs/report.md");
    let section = page.split_once("## Columns of report.csv").unwrap().1;
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let mut explained = Vec::new();
    for (column, _) in rows {
        match column.strip_suffix("_*") {
            Some(name) => explained.extend(
                ["mean", "p50", "p90", "p95", "p99", "max"].map(|value| format!("{name}_{value}")),
            ),
            None => explained.push(column.to_owned()),
        }
    }
    let report: Report = serde_json::from_str(include_str!("../messages/base.json")).unwrap();
    assert_eq!(records(&llmload::report::csv(&report)).0, explained);
}

/// Runs llmload until it ends. The server of the test continues.
async fn output(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// Checks that a run that sent nothing has all files, and returns the code of its first reason.
fn assert_explained(folder: &Path, output: &Output, reason: &str) -> ReasonCode {
    assert_eq!(output.status.code(), Some(4), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    assert!(table.starts_with("llmload run invalid: "), "{table}");
    let unwrapped = table.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(unwrapped.contains(reason), "{table}");
    assert!(table.contains("(not sent)") && !table.contains("test time"), "{table}");
    for name in FILES {
        assert!(!read(folder, name).is_empty(), "{name}");
    }
    let report = report(folder);
    assert_eq!(report.verdict.result, Outcome::Invalid);
    let (header, rows) = records(&read(folder, "report.csv"));
    let state = header.iter().position(|name| name == "state").unwrap();
    assert!(rows.iter().all(|row| row[state] == "not sent"), "{rows:?}");
    for (_, name, result) in cases(&read(folder, "junit.xml")) {
        let element = if name == "measurement is valid" { "error" } else { "skipped" };
        assert_eq!(result.unwrap()[0], element, "{name}");
    }
    report.verdict.reasons[0].code
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_could_send_nothing_still_writes_every_form_of_its_report() {
    let slo = "slo: {ttft: {p99: 1s}}";
    let level = "schedule: [{constant: 10/s, for: 1s}]";
    // No target is ready.
    let folder = tempfile::tempdir().unwrap();
    let yaml = format!("target: http://127.0.0.1:1/v1\n{slo}\n{level}\n");
    let ended = output(command(folder.path(), &yaml, &["--wait", "300ms"])).await;
    let code = assert_explained(folder.path(), &ended, "connect_refused");
    assert_eq!(code, ReasonCode::NotReady);
    // One of two targets is not ready.
    let upstream = Upstream::start(|_| good()).await;
    let url = upstream.url();
    let targets =
        format!("up: {{base_url: '{url}', model: m}}, down: {{base_url: 'http://127.0.0.1:1/v1'}}");
    let yaml = format!(
        "targets: {{{targets}}}\nscenarios: {{s: {{targets: [up, down], {slo}, {level}}}}}\n"
    );
    let folder = tempfile::tempdir().unwrap();
    let ended = output(command(folder.path(), &yaml, &["--wait", "300ms"])).await;
    let code = assert_explained(folder.path(), &ended, "connect_refused");
    assert_eq!(code, ReasonCode::NotReady);
    // The target refuses the key.
    let refusing = Upstream::start(|_| plain("401 Unauthorized", "application/json", "{}")).await;
    let folder = tempfile::tempdir().unwrap();
    let yaml = format!("target: {}\n{slo}\n{level}\n", refusing.url());
    let ended = output(command(folder.path(), &yaml, &["--wait", "10m"])).await;
    let code = assert_explained(folder.path(), &ended, "/models returned 401");
    assert_eq!(code, ReasonCode::Refused);
    assert_eq!(refusing.requests.load(Relaxed), 1);
    // Nothing is due.
    let folder = tempfile::tempdir().unwrap();
    let yaml = on(&url, &format!("{slo}\n"), "constant: 1/h, for: 200ms");
    let ended = output(command(folder.path(), &yaml, &[])).await;
    assert_eq!(ended.status.code(), Some(4), "{}", text(&ended.stderr));
    assert!(text(&ended.stdout).contains("no request was sent"), "{}", text(&ended.stdout));
    assert!(report(folder.path()).verdict.has(ReasonCode::NothingSent));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_interrupted_while_it_waits_writes_its_report() {
    let asked = CancellationToken::new();
    let trigger = asked.clone();
    let loading = Upstream::start(move |_| {
        trigger.cancel();
        plain("503 Service Unavailable", "text/plain", "loading")
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let yaml = format!(
        "target: {}\nslo: {{ttft: {{p99: 1s}}}}\nschedule: [{{constant: 10/s, for: 1s}}]\n",
        loading.url()
    );
    let mut command = command(folder.path(), &yaml, &[]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    asked.cancelled().await;
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-s", "INT", &pid]).status().unwrap().success());
    let ended =
        tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
    let code = assert_explained(folder.path(), &ended, "the run was interrupted");
    assert_eq!(code, ReasonCode::Interrupted);
}

/// The folder of the report is a disk of 8 KiB in a mount namespace.
#[test]
fn a_run_whose_report_does_not_fit_on_the_disk_prints_its_table_and_leaves_no_part_of_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = "target: {simulator: {}, model: simulated-8b}
request: {max_tokens: 4}
schedule: [{constant: 20/s, for: 1s}]
";
    let run = command(folder.path(), yaml, &[]);
    let small = "mkdir out && mount -t tmpfs -o size=8k small out && \
                 { \"$@\"; code=$?; ls out >names; exit $code; }";
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--user", "--map-root-user", "sh", "-c", small, "sh"]);
    unshare.arg(run.get_program()).args(run.get_args()).current_dir(folder.path());
    let output = unshare.output().expect("unshare must be installed; it is in util-linux");
    let log = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("report.json") && log.contains("free space on that disk"), "{log}");
    assert!(text(&output.stdout).contains("success"), "{}", text(&output.stdout));
    let names = std::fs::read_to_string(folder.path().join("names")).unwrap();
    assert!(!names.contains("report.json") && !names.contains("partial"), "{names}");
}

#[test]
fn a_report_on_stdout_that_cannot_be_written_gives_exit_code_1_and_keeps_the_files() {
    for json in [&[][..], &["--json"]] {
        let folder = tempfile::tempdir().unwrap();
        let yaml = "target: {simulator: {}}\nrequest: {max_tokens: 2}\n\
                    schedule: [{constant: 20/s, for: 200ms}]\n";
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let mut command = command(folder.path(), yaml, json);
        let ended = command.stdout(full).stderr(Stdio::piped()).spawn().unwrap();
        let ended = ended.wait_with_output().unwrap();
        assert_eq!(ended.status.code(), Some(1), "{}", text(&ended.stderr));
        assert!(text(&ended.stderr).contains("cannot write to stdout"));
        for name in FILES {
            assert!(!read(folder.path(), name).is_empty(), "{name}");
        }
    }
}

/// An older file could be mistaken for the result of this run.
#[test]
fn a_run_removes_every_file_of_an_older_report_before_it_starts() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("out")).unwrap();
    for name in FILES {
        std::fs::write(folder.path().join("out").join(name), "old").unwrap();
    }
    let endless = "target: {simulator: {}}\nrate: 1/s\n";
    let ended = command(folder.path(), endless, &["--scenario", "other"]).output().unwrap();
    assert_eq!(ended.status.code(), Some(2), "{}", text(&ended.stderr));
    assert_eq!(read(folder.path(), "junit.xml"), "old", "a wrong option changes no file");
    let arguments = ["--for", "1s", "--web.listen-address", "1.2.3.4:1"];
    let ended = command(folder.path(), endless, &arguments).output().unwrap();
    assert_eq!(ended.status.code(), Some(1), "{}", text(&ended.stderr));
    let left: Vec<_> = std::fs::read_dir(folder.path().join("out")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}
