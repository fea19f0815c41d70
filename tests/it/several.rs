//! Several targets of one scenario receive the same requests at the same instants, and llmload
//! measures the differences.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use llmload::protocol::Api;
use llmload::report::comparison::{Change, Figure, FigureKind};

use crate::binary::{Daemon, assert_balanced, llmload, request, sample};
use crate::run::run;
use crate::upstream::{Act, Upstream, good};

/// The `content-length` line and the time of each request to a target.
type Received = Arc<Mutex<Vec<(String, tokio::time::Instant)>>>;

async fn target(acts: impl Fn(u64) -> Vec<Act> + Send + Sync + 'static) -> (Upstream, Received) {
    let received = Received::default();
    let log = Arc::clone(&received);
    let upstream = Upstream::start_with_head(move |_, head| {
        // A request with another method is not from the schedule.
        if !head.starts_with("POST") {
            return good();
        }
        let length =
            head.lines().find(|line| line.starts_with("content-length:")).unwrap_or_default();
        let mut log = log.lock().unwrap();
        log.push((length.to_owned(), tokio::time::Instant::now()));
        acts(log.len() as u64 - 1)
    })
    .await;
    (upstream, received)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn targets_get_the_same_prompts_and_are_compared_in_pairs() {
    let (fast, to_fast) = target(|_| good()).await;
    // This target responds 50 ms later, and fails every fifth request.
    let (slow, to_slow) = target(|number| {
        if number % 5 == 4 {
            // After this pause, llmload assumes that the server works on the request, and does not
            // send it once more.
            vec![Act::Pause(Duration::from_millis(200)), Act::Reset]
        } else {
            [vec![Act::Pause(Duration::from_millis(50))], good()].concat()
        }
    })
    .await;
    let prompts: Vec<String> = (1..=7).map(|length| "x".repeat(length)).collect();
    let yaml = format!(
        "targets:
  fast: {{base_url: '{}', model: m}}
  slow: {{base_url: '{}', model: m2}}
scenarios:
  both: {{targets: [fast, slow], prompts: {}, start: now, repeat: 1, max_lag: 1m, schedule: [{{constant: 50/s, for: 1s}}]}}
",
        fast.url(),
        slow.url(),
        serde_json::to_string(&prompts).unwrap()
    );
    let (status, exposition) = run_until_end(yaml).await;

    assert_balanced(&exposition);
    for target in ["target=\"fast\"", "target=\"slow\""] {
        assert_eq!(sample(&exposition, "llmload_arrivals_total", &[target]), 50.0);
    }
    assert_eq!(sample(&exposition, "llmload_request_failures_total", &["target=\"slow\""]), 10.0);
    let lengths = |received: &Received| {
        let mut lengths: Vec<_> =
            received.lock().unwrap().iter().map(|(length, _)| length.clone()).collect();
        lengths.sort_unstable();
        lengths
    };
    // The second model name is one letter longer, and so is each body.
    let (to_fast, to_slow) = (lengths(&to_fast), lengths(&to_slow));
    assert_eq!((to_fast.len(), to_slow.len()), (50, 50));
    let number = |length: &String| length.rsplit(' ').next().unwrap().parse::<u32>().unwrap();
    assert!(to_fast.iter().zip(&to_slow).all(|(fast, slow)| number(fast) + 1 == number(slow)));

    let scenarios = status["scenarios"].as_array().unwrap();
    assert!(scenarios[0].get("difference").is_none(), "the first target is the baseline target");
    assert_eq!(scenarios[1]["difference"]["baseline"], "fast");
    let difference = &scenarios[1]["difference"]["time_to_first_token"];
    assert_eq!(difference["pairs"], 40, "a pair counts only if both requests succeed");
    let mean = difference["mean_seconds"].as_f64().unwrap();
    assert!(mean > 0.0, "{mean}");
    // The metrics have the sums over the same pairs.
    let pair = ["target=\"slow\"", "scenario=\"both\"", "baseline=\"fast\""];
    let of = |name: &str, more: &[&str]| sample(&exposition, name, &[&pair[..], more].concat());
    for (count, sums, mean) in [
        (
            "llmload_paired_first_tokens_total",
            "llmload_paired_time_to_first_token_difference",
            mean,
        ),
        (
            "llmload_paired_requests_total",
            "llmload_paired_request_duration_difference",
            scenarios[1]["difference"]["duration"]["mean_seconds"].as_f64().unwrap(),
        ),
    ] {
        assert_eq!(of(count, &[]), 40.0);
        let sum = |direction: &str| of(&format!("{sums}_seconds_total"), &[direction]);
        let exact = (sum("direction=\"slower\"") - sum("direction=\"faster\"")) / 40.0;
        assert!((exact / mean - 1.0).abs() < 0.006, "{exact} {mean}");
        assert!(
            of(&format!("{sums}_seconds_squared_total"), &[])
                >= 40.0 * exact * exact * (1.0 - 1e-9)
        );
    }
    assert!(
        !exposition.contains("target=\"fast\",baseline")
            && !exposition.contains("baseline=\"slow\"")
    );
    let digits = difference["mean_seconds"].to_string();
    assert!(digits.trim_start_matches(['0', '.']).len() <= 3, "{digits}");
    assert!(difference["margin_seconds"].as_f64().unwrap() > 0.0);
}

#[test]
fn a_report_shows_the_targets_of_a_scenario_side_by_side() {
    let ran = run(
        "targets:
  fast: {simulator: {slots: 32, decode_tokens_per_second: 500}}
  slow: {simulator: {slots: 32, decode_tokens_per_second: 500, prefill_tokens_per_second: 400, faults: {http_429: 20%}}}
scenarios:
  alone: {target: fast, request: {max_tokens: 2}, schedule: [{constant: 10/s, for: 1s}]}
  both:
    targets: [fast, slow]
    request: {max_tokens: 8}
    schedule:
      - {name: calm, constant: 25/s, for: 2s}
      - {name: busy, constant: 50/s, for: 2s}
      - {name: more, constant: 50/s, for: 1s, explore: true}
",
        &[],
    );
    let report = ran.report.unwrap();
    let [all] = &report.side_by_side[..] else { panic!("{}", ran.table) };
    let columns: Vec<_> = all.columns.iter().map(|one| (&*one.scenario, &*one.target)).collect();
    assert_eq!(columns, [("both", "fast"), ("both", "slow")]);
    let names: Vec<_> = all.phases.iter().map(|phase| phase.phase.as_str()).collect();
    assert_eq!(names, ["calm", "busy", "more"]);
    let [_, fast, slow] = &report.routes[..] else { panic!("{}", ran.table) };
    assert_eq!(fast.total.failed, 0, "{}", ran.table);
    let mut pairs = 0;
    for (phase, measured) in all.phases.iter().zip(&slow.phases) {
        let of = |kind| {
            let figure = phase.figures.iter().find(|figure| figure.figure == kind).unwrap();
            assert_eq!(
                figure.by_target[0].difference, None,
                "the first target is the baseline target"
            );
            figure.by_target[1].clone()
        };
        let ttft = of(FigureKind::TimeToFirstTokenMean);
        assert_eq!(ttft.value, measured.statistics.time_to_first_token_seconds.mean);
        let difference = ttft.difference.unwrap();
        let succeeded = Some(measured.statistics.succeeded);
        assert_eq!(difference.pairs, succeeded, "a pair needs two successes");
        assert!(difference.paired.unwrap().mean_seconds > 0.0, "{difference:?}");
        let is_judged = phase.phase != "more";
        let worse = if is_judged { Change::Worse } else { Change::NotJudged };
        assert_eq!(difference.change, worse, "{}", ran.table);
        assert_eq!(of(FigureKind::SuccessRate).difference.unwrap().change, worse, "{}", ran.table);
        pairs += measured.difference.as_ref().unwrap().pairs;
    }
    assert_eq!(slow.difference.as_ref().unwrap().pairs, pairs);
    let part = ran.table.split("\nSide by side\n").nth(1).unwrap();
    let part = part.split("\n! ").next().unwrap();
    assert!(part.lines().all(|line| line.chars().count() <= 80), "{part}");
    assert_eq!(part.matches("  TTFT mean  ").count(), 3, "{part}");
    assert!(part.contains("worse and better: significant and more than 5 %"), "{part}");
    let [markdown, html] = &ran.files;
    let row = part.lines().find(|line| line.starts_with("  TTFT mean")).unwrap();
    let cells: Vec<&str> = row.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
    assert_eq!(cells.len(), 4, "{row}");
    assert!(markdown.contains(&format!("| {} |", cells.join(" | "))), "{markdown}");
    assert!(markdown.contains("| **busy** |  |  |  |"), "{markdown}");
    let last = format!("<td data-column=\"difference\" class=\"warning\">{}</td></tr>", cells[3]);
    assert!(html.contains(&last), "{last}");
}

#[test]
fn scenarios_that_differ_only_in_their_target_share_a_table_and_the_charts() {
    let ran = run(
        "targets:
  fast: {simulator: {slots: 32, decode_tokens_per_second: 500}}
  slow: {simulator: {slots: 32, decode_tokens_per_second: 500, prefill_tokens_per_second: 400}}
scenarios:
  one: {target: fast, request: {max_tokens: 4}, schedule: [{constant: 20/s, for: 2s}, {constant: 40/s, for: 2s}]}
  two: {target: slow, request: {max_tokens: 4}, schedule: [{constant: 20/s, for: 2s}, {constant: 40/s, for: 2s}]}
",
        &["--sequential"],
    );
    let report = ran.report.unwrap();
    let [all] = &report.side_by_side[..] else { panic!("{}", ran.table) };
    assert!(!all.is_paired && all.phases.len() == 2, "{}", ran.table);
    let is_ttft = |figure: &&Figure| figure.figure == FigureKind::TimeToFirstTokenP50;
    let ttft = &all.phases[1].figures.iter().find(is_ttft).unwrap().by_target;
    let difference = ttft[1].difference.as_ref().unwrap();
    assert_eq!((difference.change, difference.pairs), (Change::Worse, None), "{}", ran.table);
    let measured = &report.routes[1].phases[1].statistics.time_to_first_token_seconds;
    assert_eq!(ttft[1].value, measured.p50);
    let html = &ran.files[1];
    assert_eq!(html.matches("<h3>Throughput and TTFT ").count(), 1, "{html}");
    assert_eq!(html.matches("<h3>Output tokens per second</h3>").count(), 1, "{html}");
}

#[test]
fn paired_series_start_at_zero_and_a_reload_removes_them() {
    const PAIR: &str = "
targets:
  one: {base_url: 'http://127.0.0.1:1/v1', model: m}
  other: {base_url: 'http://127.0.0.1:1/v1', model: m}
scenarios: {both: {targets: [one, other], rate: 1/s}}
";
    let mut daemon = Daemon::start(PAIR);
    let paired = |page: &str| -> Vec<String> {
        page.lines().filter(|line| line.starts_with("llmload_paired_")).map(str::to_owned).collect()
    };
    let lines = paired(&daemon.get("/metrics").2);
    assert_eq!(lines.len(), 8, "{lines:?}");
    for line in &lines {
        assert!(line.contains("baseline=\"one\"") && line.contains("target=\"other\""), "{line}");
        assert!(line.ends_with(" 0"), "{line}");
    }
    let file = daemon.folder.path().join("llmload.yml");
    std::fs::write(&file, PAIR.replace("[one, other]", "[other, one]")).unwrap();
    assert_eq!(request(daemon.address, "POST", "/-/reload").unwrap().0, 200);
    daemon.wait_for("/metrics", |page| {
        let lines = paired(page);
        let is_reversed =
            lines.len() == 8 && lines.iter().all(|line| line.contains("baseline=\"other\""));
        is_reversed.then_some(())
    });
    std::fs::write(&file, PAIR.replace("[one, other]", "[other]")).unwrap();
    assert_eq!(request(daemon.address, "POST", "/-/reload").unwrap().0, 200);
    daemon.wait_for("/metrics", |page| paired(page).is_empty().then_some(()));
}

/// Returns the last status and the last exposition.
async fn run_until_end(yaml: String) -> (serde_json::Value, String) {
    let run = tokio::task::spawn_blocking(move || {
        let mut daemon = Daemon::start(&yaml);
        let status = daemon.wait_for("/api/v1/status", |text| {
            let status: serde_json::Value = serde_json::from_str(text).unwrap();
            let has_ended = |scenario: &serde_json::Value| {
                scenario["state"] == "ended" && scenario["ledger"]["in_flight"] == 0
            };
            status["scenarios"].as_array().unwrap().iter().all(has_ended).then_some(status)
        });
        (status, daemon.get("/metrics").2)
    });
    run.await.unwrap()
}

#[tokio::test]
async fn the_simulator_serves_every_api_with_the_same_faults() {
    // The n-th request has the same fault at each API.
    let simulator = "simulator: {slots: 100, decode_tokens_per_second: 100000, prefill_tokens_per_second: 1000000, \
                     faults: {http_429: 20%, http_500: 5%, stream_error: 20%, truncation: 20%}}";
    let apis = Api::ALL.map(Api::as_str);
    let targets = apis.map(|api| format!("{api}: {{{simulator}, api: {api}}}")).join(", ");
    for stream in [true, false] {
        let (_, page) = run_until_end(format!(
            "targets: {{{targets}}}
scenarios:
  all:
    {{targets: [{}], prompts: [Hi], request: {{max_tokens: 8, stream: {stream}}}, start: now, repeat: 1, max_lag: 1m,
     schedule: [{{constant: 100/s, for: 1s}}]}}
", apis.join(", ")
        ))
        .await;
        assert_balanced(&page);
        for api in Api::ALL {
            let target = &*format!("target=\"{}\"", api.as_str());
            let of =
                |name: &str, labels: &[&str]| sample(&page, name, &[labels, &[target]].concat());
            let succeeded = of("llmload_request_duration_seconds_count", &[]);
            let tokens = if api.generates_text() { succeeded * 8.0 } else { 0.0 };
            assert_eq!(of("llmload_requests_total", &[]), 100.0);
            assert!(succeeded > 0.0, "{target}, stream: {stream}\n{page}");
            assert_eq!(of("llmload_output_tokens_total", &[]), tokens, "{target}, {stream}");
            // A prompt of two characters is one token.
            assert_eq!(of("llmload_input_tokens_total", &[]), succeeded, "{target}, {stream}");
            let first_tokens = of("llmload_time_to_first_token_seconds_count", &[]);
            let has_first_tokens = stream && api.generates_text();
            assert_eq!(first_tokens > 0.0, has_first_tokens, "{target}, stream: {stream}");
            // The simulator is so fast that several tokens can arrive in one read.
            let coalesced = of("llmload_response_anomalies_total", &["kind=\"coalesced\""]);
            let anomalies = of("llmload_response_anomalies_total", &[]);
            assert_eq!(anomalies, coalesced, "{target}, stream: {stream}\n{page}");
            for reason in ["rate_limited", "http_5xx", "stream_error", "truncated"] {
                let name = format!("reason=\"{reason}\"");
                let failures =
                    |target| sample(&page, "llmload_request_failures_total", &[&name, target]);
                assert!(failures(target) > 0.0, "{target} {reason}, stream: {stream}\n{page}");
                let of_chat = failures("target=\"chat\"");
                assert_eq!(failures(target), of_chat, "{target} {reason}, stream: {stream}");
            }
        }
    }
}

#[tokio::test]
async fn more_than_32_pairs_of_scenario_and_target_work_if_the_file_allows_them() {
    let rest = "max_concurrency: 8, prompts: [Hi], request: {max_tokens: 1}, start: now, repeat: 1, max_lag: 1m, \
                schedule: [{constant: 2/s, for: 1s}]";
    let scenarios: Vec<_> = (0..40).map(|i| format!("  s{i}: {{target: sim, {rest}}}")).collect();
    let yaml = format!(
        "targets: {{sim: {{simulator: {{slots: 100, decode_tokens_per_second: 100000}}}}}}\nscenarios:\n{}\n",
        scenarios.join("\n")
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("many.yml");
    std::fs::write(&file, &yaml).unwrap();
    let (code, _, err) = llmload(&["--config.file", file.to_str().unwrap()]);
    assert_eq!(code, Some(2));
    assert!(
        err.contains("40 pairs of scenario and target")
            && err.contains("raise `metrics.max_combinations`"),
        "{err}"
    );

    let (status, page) = run_until_end(format!("metrics: {{max_combinations: 40}}\n{yaml}")).await;
    assert_eq!(status["scenarios"].as_array().unwrap().len(), 40);
    assert_balanced(&page);
    for i in 0..40 {
        let labels = [&*format!("scenario=\"s{i}\"")];
        assert_eq!(
            sample(&page, "llmload_request_duration_seconds_count", &labels),
            2.0,
            "s{i}\n{page}"
        );
    }
}
