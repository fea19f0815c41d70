//! Tests of the commands `run` and `compare`. A run ends with its schedule and prints a report. Its
//! exit code is the verdict.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use llmload::report::{self, Outcome, ReasonCode, Report};
use tokio_util::sync::CancellationToken;

use crate::binary::request;
use crate::upstream::{
    Act, DONE, FINISH, USAGE, Upstream, chunk, good, last_chunk, plain, stream_head, token,
};

/// The output of `llmload run`.
pub struct RunOutput {
    pub code: i32,
    pub table: String,
    pub log: String,
    /// `None` if the run wrote no report.
    pub report: Option<Report>,
    /// `report.md` and `report.html`.
    pub files: [String; 2],
}

pub fn command(folder: &Path, yaml: &str, arguments: &[&str]) -> Command {
    std::fs::write(folder.join("llmload.yml"), yaml).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_llmload"));
    command.current_dir(folder).args(["run", "--report", "out"]).args(arguments);
    command
}

pub fn ran(folder: &Path, output: &Output) -> RunOutput {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let read =
        |name: &str| std::fs::read_to_string(folder.join("out").join(name)).unwrap_or_default();
    let report = Some(read("report.json")).filter(|text| !text.is_empty());
    RunOutput {
        code: output.status.code().unwrap(),
        table: text(&output.stdout),
        log: text(&output.stderr),
        report: report.map(|text| serde_json::from_str(&text).unwrap()),
        files: [read("report.md"), read("report.html")],
    }
}

pub fn run(yaml: &str, arguments: &[&str]) -> RunOutput {
    let folder = tempfile::tempdir().unwrap();
    let output = command(folder.path(), yaml, arguments).output().unwrap();
    ran(folder.path(), &output)
}

impl RunOutput {
    /// Checks the exit code. A busy machine can distort a run, which is then invalid.
    pub fn assert_code(&self, expected: i32) {
        let verdict = self.report.as_ref().map(|report| &report.verdict);
        let is_distorted = verdict.is_some_and(|verdict| verdict.has(ReasonCode::Distorted));
        let expected = if is_distorted { 4 } else { expected };
        assert_eq!(self.code, expected, "{}\n{}", self.table, self.log);
    }
}

/// Runs `llmload run` without blocking the server that the test started.
pub async fn run_against(yaml: String, arguments: &'static [&'static str]) -> RunOutput {
    tokio::task::spawn_blocking(move || run(&yaml, arguments)).await.unwrap()
}

/// Returns a configuration with one phase. `keys` are further lines of the configuration.
pub fn on(url: &str, keys: &str, phase: &str) -> String {
    format!("target: {{base_url: '{url}', model: m}}\nstart: now\n{keys}schedule: [{{{phase}}}]\n")
}

/// The ledger is the set of counters that account for every arrival. Checks that the ledger, the
/// totals, the phases and the timeline of a report agree.
fn assert_consistent(report: &Report) {
    for route in &report.routes {
        let (ledger, total) = (&route.ledger, &route.total);
        assert_eq!(ledger.arrivals, ledger.started + ledger.total_dropped());
        let aborted: u64 = ledger.aborted.values().sum();
        assert_eq!(ledger.started, ledger.finished + aborted);
        assert_eq!(ledger.finished, ledger.succeeded + ledger.total_failed());
        assert_eq!(
            (total.arrivals, total.sent, total.dropped, total.succeeded, total.failed),
            (
                ledger.arrivals,
                ledger.started,
                ledger.total_dropped(),
                ledger.succeeded,
                ledger.total_failed()
            )
        );
        let sum = |of: fn(&report::PhaseReport) -> u64| route.phases.iter().map(of).sum::<u64>();
        assert_eq!(
            [
                sum(|phase| phase.statistics.arrivals),
                sum(|phase| phase.statistics.succeeded),
                sum(|phase| phase.statistics.output_tokens.unwrap_or(0)),
                sum(|phase| phase.statistics.window.succeeded) + route.tail.window.succeeded,
                sum(|phase| phase.statistics.window.failed) + route.tail.window.failed,
            ],
            [
                total.arrivals,
                total.succeeded,
                total.output_tokens.unwrap_or(0),
                total.succeeded,
                total.failed
            ]
        );
        // Little's law: the mean number of requests in flight is the sum of all durations, divided
        // by the test time.
        if aborted == 0 {
            let in_flight = total.window.request_seconds + route.tail.window.request_seconds;
            let difference = (in_flight - total.request_seconds).abs();
            assert!(difference < 1e-3 + 0.01 * total.request_seconds, "{in_flight} {total:?}");
        }
        let over_time = |counts: &[u64]| counts.iter().sum::<u64>();
        let timeline = &route.timeline;
        assert_eq!(
            [&timeline.arrivals, &timeline.dropped, &timeline.succeeded, &timeline.failed]
                .map(|c| over_time(c)),
            [total.arrivals, total.dropped, total.succeeded, total.failed]
        );
        let classes = timeline.failures.iter();
        let classes: Vec<_> =
            classes.map(|(class, counts)| (class.clone(), over_time(counts))).collect();
        assert_eq!(classes, Vec::from_iter(ledger.failed.clone()));
        if aborted == 0 {
            let in_flight: f64 = timeline.requests_in_flight.iter().sum();
            let difference = in_flight * timeline.interval_seconds - total.request_seconds;
            assert!(difference.abs() < 1e-3 + 0.01 * total.request_seconds, "{timeline:?}");
        }
        if let Some(tokens) = total.output_tokens.filter(|_| total.failed == 0) {
            let rates = timeline.output_tokens_per_second.iter().flatten();
            let over_time = rates.sum::<f64>() * timeline.interval_seconds;
            assert!((over_time / tokens as f64 - 1.0).abs() < 1e-6, "{tokens} {timeline:?}");
        }
        let values: u64 =
            route.distributions["request_duration_seconds"].iter().map(|value| value.1).sum();
        assert_eq!(
            (values, total.request_duration_seconds.count),
            (total.succeeded, total.succeeded)
        );
    }
}

#[test]
fn a_run_that_meets_all_objectives_passes_and_reports_each_phase() {
    let ran = run(
        "seed: 3
targets: {sim: {simulator: {jitter: 0}}}
scenarios:
  s:
    target: sim
    request: {max_tokens: 4}
    slo: {ttft: {p50: 1m, p99: 2m}, e2e_latency: {p95: 5m}, success_rate: 99%}
    schedule:
      - {name: steady, constant: 20/s, for: 2s}
      - {repeat: 2, phases: [{name: burst, constant: 50/s, for: 200ms}, {pause: 100ms}]}
      - {name: counted, concurrency: 3, requests: 9}
",
        &[],
    );
    assert_eq!(ran.code, 0, "{}\n{}", ran.table, ran.log);
    let report = ran.report.unwrap();
    assert_consistent(&report);
    let route = &report.routes[0];
    let rows: Vec<_> = route
        .phases
        .iter()
        .map(|phase| (phase.name.as_str(), phase.load.as_str(), phase.statistics.sent))
        .collect();
    assert_eq!(
        rows,
        [
            ("steady", "constant 20/s", 40),
            ("burst", "constant 50/s", 20),
            ("pause", "pause", 0),
            ("counted", "concurrency 3, 9 requests", 9)
        ]
    );
    let planned: Vec<_> = route
        .phases
        .iter()
        .map(|phase| (phase.planned_seconds, phase.planned_arrivals, phase.sent, phase.cut))
        .collect();
    assert_eq!(
        planned,
        [
            (Some(2.0), Some(40), true, false),
            (Some(0.4), Some(20), true, false),
            (Some(0.2), Some(0), true, false),
            (None, Some(9), true, false)
        ]
    );
    for phase in &route.phases[..3] {
        let seconds = phase.statistics.seconds;
        assert!((seconds - phase.planned_seconds.unwrap()).abs() < 1e-6, "{phase:?}");
    }
    assert_eq!(route.phases[0].statistics.offered_per_second, Some(20.0));
    assert_eq!(route.phases[1].spans.len(), 2);
    assert_eq!(
        (route.ledger.succeeded, route.total.output_tokens, report.seed),
        (69, Some(69 * 4), 3)
    );
    for phase in route.levels() {
        let counts = |result: &report::ObjectiveResult| (result.met, result.judged);
        let counts: Vec<_> = phase.slo.iter().map(counts).collect();
        assert_eq!(counts, [(phase.statistics.sent, phase.statistics.sent); 4]);
        // Fewer than 100 requests say little about a p99.
        assert!(phase.slo.iter().any(|result| !result.sure), "{phase:?}");
    }
    let speed = &route.total.output_tokens_per_second;
    assert!(speed.count > 0 && speed.mean.is_none(), "a mean of ratios is misleading");
    // 69 requests are too few for a p99.
    let first = &route.total.time_to_first_token_seconds;
    assert!(first.p95.is_some() && first.p99.is_none() && first.max >= first.p95);
    assert!(
        ran.table.starts_with("llmload run passed: all objectives met, some by too few requests"),
        "{}",
        ran.table
    );
    assert!(ran.table.contains("69 arrivals = 69 sent + 0 dropped"), "{}", ran.table);
    assert!(ran.log.contains("junit.xml to out"), "{}", ran.log);
    assert!(!ran.log.contains("serves"), "no port is opened:\n{}", ran.log);
    // The report that was read from the JSON file renders as the same text, Markdown and HTML.
    for (again, first) in report::text(&report).lines().zip(ran.table.lines()) {
        assert_eq!(again, first);
    }
    assert_eq!(report::text(&report).trim_end(), ran.table.trim_end());
    assert_eq!([report::markdown(&report), report::html(&report).unwrap()], ran.files);
}

#[test]
fn a_missed_objective_gives_exit_code_3_unless_no_gate_is_set() {
    let yaml = "targets: {sim: {simulator: {faults: {http_500: 50%}}}}
scenarios: {s: {target: sim, request: {max_tokens: 2}, slo: {ttft: {p90: 1m}, success_rate: 90%}, schedule: [{constant: 50/s, for: 1s}]}}
";
    let missed = run(yaml, &[]);
    missed.assert_code(3);
    let report = missed.report.unwrap();
    assert_consistent(&report);
    let failed = report.routes[0].ledger.total_failed();
    assert!(failed > 5, "{failed}");
    // A failed request misses every objective.
    assert!(
        report.routes[0].phases[0]
            .slo
            .iter()
            .all(|objective| objective.judged == 50 && objective.met == 50 - failed)
    );
    let is_missed = |one: &&report::Reason| one.code == ReasonCode::ObjectiveMissed;
    assert_eq!(report.verdict.reasons.iter().filter(is_missed).count(), 2);
    let expected = format!("objective 60 s: {} of 50 met it", 50 - failed);
    assert!(missed.table.contains(&expected), "{}", missed.table);
    assert_eq!(run(yaml, &["--no-gate"]).code, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_without_a_valid_measurement_does_not_pass() {
    // Every request fails.
    let upstream =
        Upstream::start(|_| plain("500 Internal Server Error", "text/plain", "no")).await;
    let failing = run_against(on(&upstream.url(), "", "constant: 20/s, for: 500ms"), &[]).await;
    failing.assert_code(3);
    assert!(failing.table.contains("all 10 requests failed: 10 http_5xx"), "{}", failing.table);
    // llmload drops more than one arrival in a hundred.
    let upstream =
        Upstream::start(|_| vec![Act::Pause(std::time::Duration::from_millis(300)), Act::Close])
            .await;
    let yaml = on(&upstream.url(), "max_concurrency: 1\n", "constant: 20/s, for: 500ms");
    let capped = run_against(yaml, &[]).await;
    assert_eq!(capped.code, 4, "{}", capped.log);
    assert!(capped.table.contains("arrivals were dropped, more than 1 %"), "{}", capped.table);
    // One request in ten fails, and the run has no objective that permits failures.
    let upstream = Upstream::start(|number| {
        if number % 10 == 9 {
            plain("500 Internal Server Error", "text/plain", "no")
        } else {
            good()
        }
    })
    .await;
    let flaky = run_against(on(&upstream.url(), "", "constant: 50/s, for: 1s"), &[]).await;
    flaky.assert_code(3);
    assert!(flaky.table.contains("5 of 50 requests failed, more than 1 %"), "{}", flaky.table);
    let permitted = run_against(
        on(&upstream.url(), "slo: {success_rate: 80%}\n", "constant: 50/s, for: 1s"),
        &[],
    )
    .await;
    permitted.assert_code(0);
    for ran in [failing, capped, flaky, permitted] {
        assert_consistent(&ran.report.unwrap());
    }
}

/// The run has 30 local ports, and the load needs more connections at a time. The objectives are
/// met, because llmload judges them by few requests or allows many failures.
#[test]
fn a_run_without_enough_local_ports_does_not_pass_whatever_its_objectives_are() {
    for slo in ["{success_rate: 10%}", "{ttft: {p10: 1m}}"] {
        let folder = tempfile::tempdir().unwrap();
        let yaml = format!(
            "target: {{simulator: {{slots: 200, decode_tokens_per_second: 40}}}}
request: {{max_tokens: 80}}
max_lag: 30s
slo: {slo}
schedule: [{{constant: 50/s, for: 2s}}]
"
        );
        let run = command(folder.path(), &yaml, &[]);
        let few_ports = "ip link set lo up && \
             echo 41000 41029 > /proc/sys/net/ipv4/ip_local_port_range && exec \"$@\"";
        let mut unshare = Command::new("unshare");
        unshare.args(["--net", "--user", "--map-root-user", "sh", "-c", few_ports, "sh"]);
        unshare.arg(run.get_program()).args(run.get_args()).current_dir(folder.path());
        let output = unshare.output().expect("unshare must be installed; it is in util-linux");
        let run = ran(folder.path(), &output);
        assert_eq!(run.code, 4, "{}\n{}", run.table, run.log);
        let report = run.report.unwrap();
        assert_consistent(&report);
        // On a busy machine, other distortions can add reasons.
        let is_of_client = |reason: &&report::Reason| reason.code == ReasonCode::ClientFailures;
        let reasons: Vec<_> = report.verdict.reasons.iter().filter(is_of_client).collect();
        let [reason] = reasons[..] else { panic!("{:?}", report.verdict) };
        let text = &reason.text;
        assert!(text.contains("ip_local_port_range") && !text.contains("ulimit"), "{text}");
        assert!(!run.table.contains("slo.success_rate"), "{}", run.table);
        let results = report.routes[0].phases.iter().flat_map(|phase| &phase.slo);
        assert!(results.into_iter().all(|objective| objective.passed), "{}", run.table);
        assert!(report.distortions.iter().any(|found| found.kind == "client_resource"));
    }
}

/// If the run did not wait, its results would not include slow responses at the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_waits_for_its_last_response() {
    let late = |_| {
        let mut acts = vec![
            stream_head(),
            chunk(&token("a")),
            Act::Pause(std::time::Duration::from_millis(1200)),
        ];
        acts.extend([chunk(FINISH), chunk(USAGE), chunk(DONE), last_chunk()]);
        acts
    };
    let upstream = Upstream::start(late).await;
    let ran = run_against(on(&upstream.url(), "", "constant: 20/s, for: 300ms"), &[]).await;
    assert_eq!(ran.code, 0, "{}\n{}", ran.table, ran.log);
    let report = ran.report.unwrap();
    assert_consistent(&report);
    assert_eq!(report.routes[0].ledger.succeeded, 6);
    assert!(report.routes[0].total.request_duration_seconds.min > Some(1.1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_limits_an_endless_rate_and_ignores_the_cron() {
    let upstream = Upstream::start(|_| good()).await;
    let url = upstream.url();
    let yaml = format!(
        "targets: {{t: {{base_url: '{url}', model: m}}}}
scenarios:
  endless: {{target: t, start: now, rate: 20/s}}
  nightly: {{target: t, start: {{cron: '0 2 29 2 *'}}, schedule: [{{constant: 10/s, for: 500ms}}]}}
"
    );
    let (first, second) = (yaml.clone(), yaml);
    let cut = run_against(first, &["--for", "1s", "--scenario", "endless"]).await;
    cut.assert_code(0);
    let report = cut.report.unwrap();
    assert_consistent(&report);
    assert_eq!(report.routes.len(), 1);
    assert_eq!(report.routes[0].ledger.arrivals, 20);
    assert!(!cut.log.contains("stopp"), "{}", cut.log);
    let nightly = run_against(second, &["--scenario", "nightly"]).await;
    assert_eq!(nightly.report.unwrap().routes[0].ledger.succeeded, 5);
    assert!(nightly.log.contains("a run starts at once"), "{}", nightly.log);
    let folder = tempfile::tempdir().unwrap();
    let address = url.clone();
    let quick = move || {
        let mut command = command(
            folder.path(),
            "",
            &[&address, "--rate", "20/s", "--for", "500ms", "--model", "m"],
        );
        ran(folder.path(), &command.output().unwrap())
    };
    let quick = tokio::task::spawn_blocking(quick).await.unwrap();
    assert_eq!(
        (quick.code, quick.report.unwrap().routes[0].ledger.arrivals),
        (0, 10),
        "{}",
        quick.log
    );
}

/// Returns a configuration with three levels, and an objective for each of them.
fn levels(slo: &str) -> String {
    format!(
        "targets: {{sim: {{simulator: {{decode_tokens_per_second: 2000}}}}}}
scenarios:
  s:
    target: sim
    request: {{max_tokens: 2}}
    {slo}
    schedule:
      - {{name: low, constant: 20/s, for: 1s}}
      - {{name: middle, constant: 40/s, for: 10m}}
      - {{name: high, constant: 60/s, for: 10m}}
"
    )
}

#[test]
fn a_run_that_is_cut_names_the_phases_that_were_not_sent_and_does_not_pass() {
    let cut = run(&levels("slo: {success_rate: 50%}"), &["--for", "1500ms"]);
    cut.assert_code(4);
    let report = cut.report.unwrap();
    assert_consistent(&report);
    assert_eq!(report.verdict.result, Outcome::Invalid);
    let is_cut = |one: &&report::Reason| one.code == ReasonCode::CutShort;
    let reason = report.verdict.reasons.iter().find(is_cut).unwrap();
    let text =
        "--for 1.5 s ended the schedule: middle was cut after 500 ms of 10m; high was not sent";
    assert_eq!(reason.text, text);
    let states: Vec<_> =
        report.routes[0].phases.iter().map(|phase| (phase.sent, phase.cut)).collect();
    assert_eq!(states, [(true, false), (true, true), (false, false)]);
    let seconds: Vec<f64> =
        report.routes[0].phases.iter().map(|phase| phase.statistics.seconds).collect();
    assert_eq!(seconds, [1.0, 0.5, 0.0]);
    for text in ["middle (cut)", "high (not sent)"] {
        assert!(cut.table.contains(text), "{}", cut.table);
    }
    // Without objectives, the missing phases are only a finding.
    let cut = run(&levels(""), &["--for", "1500ms"]);
    cut.assert_code(0);
    let findings = cut.report.unwrap().findings;
    let is_about_cut = |finding: &report::Finding| finding.text.contains("high was not sent");
    assert!(findings.iter().any(is_about_cut), "{findings:?}");
}

/// The objective is missed by the phase that was complete, whatever the other phases would have
/// shown.
#[test]
fn an_objective_that_is_missed_for_certain_decides_although_the_run_was_cut() {
    let missed = run(&levels("slo: {ttft: {p50: 1us}}"), &["--for", "1500ms"]);
    missed.assert_code(3);
    let verdict = missed.report.unwrap().verdict;
    assert!(verdict.has(ReasonCode::CutShort), "{verdict:?}");
    let low = verdict.reasons.iter().find(|reason| reason.phase.as_deref() == Some("low"));
    let low = low.unwrap();
    assert_eq!(low.objective.as_deref(), Some("ttft p50"));
    assert!(low.text.starts_with("low: ttft p50 was ") && low.text.contains("objective 1 µs"));
}

#[test]
fn the_first_table_of_a_run_fits_80_columns_and_has_a_row_for_each_level() {
    let ran = run(
        "targets: {sim: {simulator: {decode_tokens_per_second: 2000}}}
scenarios:
  s:
    target: sim
    request: {max_tokens: 2}
    slo: {ttft: {p50: 1m, p99: 1us}, e2e_latency: {p95: 5m}, success_rate: 99%}
    schedule:
      - {name: a-phase-with-a-name-that-is-longer-than-the-column, constant: 100/s, for: 1s}
      - {pause: 100ms}
      - {concurrency: [2, 3], for: 500ms}
",
        &["--title", "the  model", "--label", "gpu=H100", "--label", "build=a b"],
    );
    ran.assert_code(3);
    for line in ran.table.lines() {
        assert!(line.chars().count() <= 80, "{} columns: {line}", line.chars().count());
    }
    let header = "QPS  mean latency";
    let rows: Vec<&str> = ran
        .table
        .lines()
        .skip_while(|line| !line.contains(header))
        .take_while(|line| !line.is_empty())
        .collect();
    assert!(rows[1].contains("a-phase-with") && rows[1].contains('…'), "{rows:?}");
    assert!(rows[2].contains("concurrency 2") && rows[3].contains("concurrency 3"), "{rows:?}");
    let objectives = ran.table.lines().find(|line| line.contains("objective  ")).unwrap();
    for name in ["ttft p50", "ttft p99", "e2e_latency p95", "success_rate"] {
        assert!(objectives.contains(name), "{objectives}");
    }
    let report = ran.report.unwrap();
    let first: Vec<&str> = ran.table.lines().take_while(|line| !line.contains('✗')).collect();
    assert!(first.join(" ").ends_with(" · the  model"), "{first:?}");
    assert_eq!(report.tested.labels["build"], "a b");
    assert!(report.tested.command.unwrap().contains("--label 'build=a b'"));
    assert!(report.routes[0].server_version.is_some(), "the simulator reports its version");
}

/// The first phase has strict objectives and explores. The second phase has other objectives, which
/// its requests meet.
#[test]
fn a_phase_can_have_other_objectives_or_decide_nothing() {
    let yaml = |explore: bool| {
        format!(
            "targets: {{sim: {{simulator: {{decode_tokens_per_second: 2000}}}}}}
scenarios:
  s:
    target: sim
    request: {{max_tokens: 2}}
    slo: {{ttft: {{p50: 1us}}}}
    schedule:
      - {{name: strict, constant: 40/s, for: 500ms, explore: {explore}}}
      - {{name: lenient, constant: 20/s, for: 500ms, slo: {{e2e_latency: {{p50: 5m}}}}}}
"
        )
    };
    let explored = run(&yaml(true), &[]);
    explored.assert_code(0);
    let report = explored.report.unwrap();
    assert_consistent(&report);
    let [strict, lenient] = &report.routes[0].phases[..] else { panic!("{report:?}") };
    assert!(strict.explore && !strict.slo[0].passed, "{strict:?}");
    assert!(!lenient.explore && lenient.slo[0].passed, "{lenient:?}");
    assert_eq!(
        (strict.slo[0].label(), lenient.slo[0].label()),
        ("ttft p50".into(), "e2e_latency p50".into())
    );
    assert!(explored.table.contains("strict (explores)  missed"), "{}", explored.table);
    let judged = run(&yaml(false), &[]);
    judged.assert_code(3);
    let reasons = judged.report.unwrap().verdict.reasons;
    let missed: Vec<_> =
        reasons.iter().filter(|reason| reason.code == ReasonCode::ObjectiveMissed).collect();
    let [missed] = &missed[..] else { panic!("{reasons:?}") };
    assert_eq!(missed.phase.as_deref(), Some("strict"));
}

/// The first phase has 20 requests, and all of them miss the objective. After 11 misses, the other
/// 9 cannot repair it.
#[test]
fn a_run_ends_early_if_an_objective_with_abort_cannot_be_met() {
    let yaml = "targets: {sim: {simulator: {decode_tokens_per_second: 2000}}}
scenarios:
  s:
    target: sim
    request: {max_tokens: 2}
    slo: {ttft: {p50: 1us}, abort: true}
    schedule:
      - {name: hopeless, concurrency: 1, requests: 20}
      - {name: long, constant: 20/s, for: 10m}
";
    let aborted = run(yaml, &["--wait", "1m"]);
    aborted.assert_code(3);
    let report = aborted.report.unwrap();
    assert_consistent(&report);
    assert!(!report.interrupted && report.seconds < 300.0, "{}", report.seconds);
    let text = "phase hopeless on target sim can no longer meet its objective ttft_p50";
    assert!(report.verdict.reasons[0].text.contains(text), "{:?}", report.verdict);
    let [hopeless, long] = &report.routes[0].phases[..] else { panic!("{report:?}") };
    assert!(hopeless.statistics.sent >= 11, "{hopeless:?}");
    // A busy machine can need a moment for the decision.
    assert!(long.statistics.sent < 1000, "{long:?}");
    for text in ["can no longer meet", "hopeless: ttft p50 was"] {
        assert!(aborted.table.replace("\n    ", " ").contains(text), "{}", aborted.table);
    }
}

#[test]
fn the_recorded_command_contains_no_user_of_a_url() {
    let url = "http://me:secret@127.0.0.1:1/v1";
    let ran = run("", &[url, "--rate", "5/s", "--for", "1s", "--wait", "100ms", "--model", "m"]);
    let command = ran.report.expect(&ran.log).tested.command.unwrap();
    assert!(command.contains("***@127.0.0.1:1/v1"), "{command}");
    assert!(!command.contains("secret"), "{command}");
}

#[test]
fn an_unreachable_target_ends_the_run_with_the_reason() {
    let ran =
        run("target: http://127.0.0.1:1/v1\nrate: 5/s\n", &["--for", "1s", "--wait", "300ms"]);
    assert_eq!(ran.code, 4, "{}", ran.log);
    assert!(ran.table.contains("connect_refused"), "{}", ran.table);
    assert!(ran.log.contains("connect_refused") && ran.log.contains("--wait"), "{}", ran.log);
    let verdict = ran.report.unwrap().verdict;
    assert_eq!((verdict.result, verdict.reasons[0].code), (Outcome::Invalid, ReasonCode::NotReady));
    assert!(verdict.reasons[0].text.contains("connect_refused"), "{verdict:?}");
}

#[test]
fn invalid_arguments_are_refused_before_anything_is_sent() {
    let yaml = "target: http://127.0.0.1:1/v1\nrate: 5/s\n";
    for (arguments, message) in [
        (vec!["--scenario", "other"], "scenario `other` does not exist; use one of default"),
        (vec!["http://127.0.0.1:1/v1", "--rate", "5/s"], "--for 1m"),
        (vec!["http://127.0.0.1:1/v1", "--for", "5s"], "--rate"),
        (vec!["--for", "soon"], "duration"),
        (vec!["--config.file", "llmload.yml", "--rate", "50/s"], "cannot be used with"),
        (vec![], "scenario `default` never ends"),
    ] {
        let ran = run(yaml, &arguments);
        assert!(
            ran.code == 2 && ran.log.contains(message),
            "{arguments:?}: {} {}",
            ran.code,
            ran.log
        );
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("out"), "a file").unwrap();
    let output = command(folder.path(), yaml, &["--for", "1s"]).output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && log.contains("--report out"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_run_reports_the_interruption_and_the_measured_values() {
    let interrupted = CancellationToken::new();
    let trigger = interrupted.clone();
    let upstream = Upstream::start(move |number| {
        if number == 5 {
            trigger.cancel();
        }
        good()
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let mut command =
        command(folder.path(), &on(&upstream.url(), "", "constant: 20/s, for: 1m"), &[]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    interrupted.cancelled().await;
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-s", "INT", &pid]).status().unwrap().success());
    let output =
        tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
    let ran = ran(folder.path(), &output);
    assert_eq!(ran.code, 4, "{}", ran.log);
    assert!(ran.table.contains("the run was interrupted"), "{}", ran.table);
    let report = ran.report.unwrap();
    assert_consistent(&report);
    // The phase was on until the signal, not only until the last response.
    let phase = &report.routes[0].phases[0];
    let offered = phase.statistics.offered_per_second.unwrap();
    assert!(phase.sent && phase.cut && phase.statistics.seconds > 0.1, "{phase:?}");
    assert!((offered - 20.0) * phase.statistics.seconds < 1.0, "{phase:?}");
    assert!(
        report.interrupted && report.routes[0].ledger.succeeded >= 4,
        "{:?}",
        report.routes[0].ledger
    );
}

/// A quit command interrupts the run, as a signal does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_refuses_rate_overrides_and_fails_after_a_quit_command() {
    let upstream = Upstream::start(|_| good()).await;
    let folder = tempfile::tempdir().unwrap();
    let yaml = on(&upstream.url(), "", "constant: 20/s, for: 1m");
    let mut command = command(folder.path(), &yaml, &["--web.listen-address", "127.0.0.1:0"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let code = tokio::task::spawn_blocking(move || {
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let address =
            lines.find_map(|line| Some(line.split_once("/metrics on http://")?.1.to_owned()));
        let address = address.unwrap().split('/').next().unwrap().parse().unwrap();
        let rate = request(address, "DELETE", "/api/v1/scenarios/default/rate").unwrap();
        assert!(rate.0 == 409 && rate.2.contains("a run follows its schedule"), "{rate:?}");
        assert_eq!(request(address, "POST", "/-/quit").unwrap().0, 200);
        lines.for_each(drop);
        child.wait().unwrap().code()
    });
    assert_eq!(code.await.unwrap(), Some(4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_messages_are_escaped_in_markdown_and_html() {
    let message = "a < b && <i | [a](http://b) *c*";
    let upstream = Upstream::start(move |_| plain("400 Bad Request", "text/plain", message)).await;
    let ran = run_against(on(&upstream.url(), "", "constant: 20/s, for: 100ms"), &[]).await;
    let [markdown, html] = ran.files;
    assert!(ran.table.contains(message), "{}", ran.table);
    assert!(html.contains("a &lt; b &amp;&amp; &lt;i | ") && !html.contains("<i |"));
    assert!(markdown.contains(r"a &lt; b &amp;&amp; &lt;i \| \[a\](http://b) \*c\*"), "{markdown}");
}

/// Adds all field names of a JSON value to `found`. The keys of a map such as `dropped` are reasons
/// or kinds, so they are not field names.
fn keys(value: &serde_json::Value, found: &mut std::collections::BTreeSet<String>) {
    const BY_REASON: [&str; 7] =
        ["dropped", "failed", "aborted", "response_anomalies", "distributions", "labels", "values"];
    match value {
        serde_json::Value::Object(members) => {
            for (name, member) in members {
                found.insert(name.clone());
                if !BY_REASON.contains(&name.as_str()) {
                    keys(member, found);
                }
            }
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| keys(item, found)),
        _ => {}
    }
}

#[test]
#[allow(clippy::cast_precision_loss)]
fn the_documentation_explains_exactly_the_fields_of_a_report() {
    let page = include_str!("../../docs/report.md");
    let fields = page.split_once("\n## Fields\n").unwrap().1;
    let fields = fields.split("\n## ").next().unwrap();
    let rows = fields.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let explained = rows.map(|(field, _)| field.to_owned()).collect();
    let ran = run(
        "targets:
  one: {simulator: {faults: {http_500: 10%}}, observe: {vllm: /metrics, node: /nothing}}
  two: {simulator: {}, prices: {input_per_million: 1, output_per_million: 1, currency: USD}}
scenarios:
  s:
    targets: [one, two]
    request: {max_tokens: 2}
    slo: {ttft: {p90: 1m}}
    schedule: [{constant: 25/s, for: 3s}]
",
        &[],
    );
    let mut report = ran.report.unwrap();
    assert!(report.routes[1].difference.as_ref().unwrap().pairs >= 30);
    let early = [("failed".to_owned(), 1)].into();
    report.routes[0].sessions = Some(report::SessionReport {
        sessions_ended_early: early,
        turns: vec![report::TurnReport::default()],
        ..report::SessionReport::default()
    });
    let route = &report.routes[1];
    let cost = route.total.cost.as_ref().unwrap();
    let tokens = route.total.input_tokens.unwrap() + route.total.output_tokens.unwrap();
    assert!((cost.amount * 1e6 - tokens as f64).abs() < 1e-6, "{cost:?}");
    // This run had no distortion, but the page must explain the fields of a distortion too.
    let (kind, message) = (String::new(), String::new());
    report.distortions.push(report::Distortion { kind, message });
    // Nor did it replay a trace.
    report.routes[0].replay = Some(Box::default());
    // The keys of this map are the classes of failure, as in the ledger.
    for route in &mut report.routes {
        route.timeline.failures.clear();
    }
    let mut there = std::collections::BTreeSet::new();
    keys(&serde_json::to_value(&report).unwrap(), &mut there);
    assert_eq!(there, explained);
}

#[test]
fn two_reports_are_compared() {
    let yaml = "target: {simulator: {}}\nrequest: {max_tokens: 2}\nschedule: [{constant: 50/s, for: 1s}]\n";
    let folder = tempfile::tempdir().unwrap();
    let ran = ran(folder.path(), &command(folder.path(), yaml, &[]).output().unwrap());
    let mut compare = Command::new(env!("CARGO_BIN_EXE_llmload"));
    let output = compare.current_dir(folder.path()).args(["compare", "out", "out"]).output();
    let output = output.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    // A busy machine can distort the run, which is then invalid.
    assert_eq!(output.status.code(), Some(ran.code), "{text}");
    let expected = if ran.code == 0 { "passed: no metric is worse" } else { "invalid" };
    assert!(text.starts_with(&format!("llmload compare {expected}")), "{text}");
}
