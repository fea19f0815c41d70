//! Token counts and token times. An unknown count is not 0, and tokens that arrive at once have no
//! speed.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::Duration;

use llmload::plan::Timeouts;
use llmload::report::Report;
use tokio_util::sync::CancellationToken;

use crate::binary::{Daemon, request, sample};
use crate::faults::{endpoint, send_recorded, target};
use crate::run::{command, on, run, run_against};
use crate::upstream::{
    Act, DONE, FINISH, Recorder, USAGE, Upstream, chunk, good, last_chunk, stream_head, token,
};

fn usage(object: &str) -> String {
    format!("data: {{\"choices\":[],\"usage\":{object}}}\n\n")
}

/// A response with all these events in one chunk, in one segment with its head.
fn at_once(events: &str) -> Vec<Act> {
    let (Act::Write(mut head), Act::Write(body), Act::Write(end)) =
        (stream_head(), chunk(events), last_chunk())
    else {
        unreachable!()
    };
    head.extend([body, end].concat());
    vec![Act::Write(head)]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_that_arrived_at_once_have_no_tpot_and_meet_no_objective() {
    let counted =
        |tokens: u32| usage(&format!("{{\"prompt_tokens\":3,\"completion_tokens\":{tokens}}}"));
    let many = [token("a").repeat(60), FINISH.into(), counted(60), DONE.into()].concat();
    let single = [token("a"), FINISH.into(), counted(20), DONE.into()].concat();
    for events in [many, single] {
        let upstream = Upstream::start(move |_| at_once(&events)).await;
        let yaml = on(&upstream.url(), "slo: {tpot: {p99: 1ms}}\n", "constant: 20/s, for: 500ms");
        let ran = run_against(yaml, &[]).await;
        let report = ran.report.unwrap();
        let route = &report.routes[0];
        let total = &route.total;
        assert_eq!(total.succeeded, 10);
        assert_eq!(total.time_to_first_token_seconds.count, 10);
        assert_eq!(total.time_per_output_token_seconds.count, 0);
        assert_eq!(total.output_tokens_per_second.count, 0);
        assert_eq!(total.response_anomalies.get("coalesced"), Some(&10));
        let objective = &route.phases[0].slo[0];
        assert_eq!((objective.judged, objective.met, objective.passed), (0, 0, false));
        assert_eq!(ran.code, 4, "an objective without a sample does not pass: {}", ran.table);
        let finding = "All tokens arrived at once in 10 of 10 successes";
        assert!(ran.table.contains(finding), "{}", ran.table);
    }
}

#[tokio::test]
async fn tokens_with_a_pause_have_a_speed_and_no_anomaly() {
    let recorder = Recorder::default();
    let seen = recorder.first_token.clone();
    let upstream = Upstream::start(move |_| {
        let pause = [Act::WaitFor(seen.clone()), Act::Pause(Duration::from_millis(20))];
        let end = [chunk(&token("b")), chunk(&[FINISH, USAGE, DONE].concat()), last_chunk()];
        [vec![stream_head(), chunk(&token("a"))], pause.to_vec(), end.to_vec()].concat()
    })
    .await;
    let mut target = target(&upstream.url());
    target.timeouts = Timeouts::default();
    let (outcome, _, recorder) = send_recorded(&endpoint(&target), &target, true, recorder).await;
    assert_eq!(outcome, Ok(()));
    let m = &recorder.succeeded.lock().unwrap()[0];
    assert!(m.time_per_output_token() >= Some(Duration::from_millis(20)), "{m:?}");
    assert!(m.tokens_per_second().unwrap() <= 50.0, "{m:?}");
    assert_eq!(m.anomalies.iter().count(), 0, "{m:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_usage_without_a_valid_count_is_not_counted() {
    for (object, input) in [
        ("{\"prompt_tokens\":12}", Some(120)),
        ("{\"prompt_tokens\":12,\"completion_tokens\":-1}", Some(120)),
        ("{\"prompt_tokens\":12,\"completion_tokens\":1e400}", Some(120)),
        ("{\"prompt_tokens\":0,\"completion_tokens\":0,\"total_tokens\":0}", None),
    ] {
        let events = [&token("a"), FINISH, &usage(object), DONE].concat();
        let upstream = Upstream::start(move |_| at_once(&events)).await;
        let ran = run_against(on(&upstream.url(), "", "constant: 20/s, for: 500ms"), &[]).await;
        let report = ran.report.unwrap();
        let total = &report.routes[0].total;
        assert_eq!((total.succeeded, total.uncounted), (10, 10), "{object}");
        assert_eq!((total.input_tokens, total.output_tokens), (input, None), "{object}");
        // Chunks stand in for tokens, and the report says so.
        assert!(total.is_token_estimate, "{object}");
        // The last response can end after the phase.
        let tokens = total.output_tokens_per_second_total.unwrap();
        assert!(tokens > 0.0 && tokens <= 20.0, "{object}: {tokens}");
        assert_eq!(total.response_anomalies.get("missing_usage"), Some(&10), "{object}");
        let row = ran.table.lines().find(|line| line.trim_start().starts_with("output tokens/s"));
        assert!(row.unwrap().contains(" ≈ "), "{object}: {}", ran.table);
        assert!(ran.table.contains("≈ estimated from chunks"), "{object}: {}", ran.table);
        assert!(ran.table.contains("no valid count of output tokens"), "{}", ran.table);
    }
}

#[test]
fn the_report_has_ttfo_only_if_the_model_reasons_before_its_answer() {
    let yaml = "targets:
  plain: {simulator: {decode_tokens_per_second: 500}}
  thinks: {simulator: {decode_tokens_per_second: 500, reasoning_tokens: 8}}
scenarios:
  s: {targets: [plain, thinks], request: {max_tokens: 12}, schedule: [{constant: 20/s, for: 2s}]}
";
    let ran = run(yaml, &[]);
    let [plain, thinks] = &ran.report.as_ref().unwrap().routes[..] else { panic!("{}", ran.table) };
    assert_eq!(plain.total.time_to_first_answer_token_seconds.count, 0);
    let [first, answer] = [
        &thinks.total.time_to_first_token_seconds,
        &thinks.total.time_to_first_answer_token_seconds,
    ];
    assert_eq!(answer.count, thinks.total.succeeded);
    assert!(answer.mean > first.mean, "{first:?} {answer:?}");
    assert!(answer.max <= thinks.total.request_duration_seconds.max, "{answer:?}");
    let rows = ran.table.lines().filter(|line| line.starts_with("  TTFO (answer) "));
    assert_eq!(rows.count(), 1, "{}", ran.table);
    assert!(!thinks.phases[0].distributions["time_to_first_answer_token_seconds"].is_empty());
    // Without reasoning, the simulator reports the count 0, and the table has no row about it.
    assert_eq!(plain.total.reasoning_token_ratio, Some(0.0));
    let per_request = &thinks.total.reasoning_tokens_per_request;
    assert_eq!((per_request.min, per_request.max), (Some(8.0), Some(8.0)));
    let reasoning = 8 * thinks.total.succeeded;
    assert_eq!(thinks.total.reasoning_tokens, Some(reasoning));
    let output = thinks.total.output_tokens.unwrap() as f64;
    assert_eq!(thinks.total.reasoning_token_ratio, Some(reasoning as f64 / output));
    let rows_of = |name: &str| {
        let rows = ran.table.lines().map(str::trim).filter(|line| line.starts_with(name));
        rows.map(|row| row.split_whitespace().map(str::to_owned).collect()).collect::<Vec<Vec<_>>>()
    };
    let per_request = rows_of("reasoning tokens ");
    assert_eq!(per_request.len(), 1, "{}", ran.table);
    assert_eq!(per_request[0][3], "8", "the median in {per_request:?}");
    let in_total = rows_of("of them reasoning ");
    assert_eq!(in_total.len(), 1, "{}", ran.table);
    assert_eq!(in_total[0][3], reasoning.to_string(), "{in_total:?}");
    assert!(in_total[0][4].starts_with("(6") && in_total[0].last().unwrap() == "%)");
}

#[test]
fn the_metrics_have_ttfo_and_reasoning_tokens_only_for_a_model_that_reasons() {
    let mut daemon = Daemon::start(
        "targets:
  plain: {simulator: {decode_tokens_per_second: 1000}}
  thinks: {simulator: {decode_tokens_per_second: 1000, reasoning_tokens: 8}}
scenarios:
  s: {targets: [plain, thinks], request: {max_tokens: 12}, max_lag: 1m, repeat: 1, schedule: [{constant: 20/s, for: 1s}]}
",
    );
    let text = daemon.wait_for("/metrics", |text| {
        (sample(text, "llmload_requests_total", &[]) >= 40.0).then(|| text.to_owned())
    });
    let of = |family: &str, target| sample(&text, family, &[&format!("target=\"{target}\"")]);
    for (target, answers, reasoning) in [("plain", 0.0, 0.0), ("thinks", 20.0, 160.0)] {
        let answer = "llmload_time_to_first_answer_token_seconds";
        assert_eq!(of(&format!("{answer}_count"), target), answers, "{target}");
        assert_eq!(of("llmload_request_reasoning_tokens_sum", target), reasoning, "{target}");
        assert_eq!(of("llmload_request_reasoning_tokens_count", target), 20.0, "{target}");
        assert_eq!(of("llmload_reasoning_tokens_total", target), reasoning, "{target}");
    }
    let sum = |family| of(family, "thinks");
    let first = sum("llmload_time_to_first_token_seconds_sum");
    assert!(sum("llmload_time_to_first_answer_token_seconds_sum") > first, "{text}");
}

/// Each response has two reads with text; the first read has two events. The last response waits
/// without text, so the test can read the metrics during the run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_and_report_agree_about_the_time_between_chunks() {
    let gate = CancellationToken::new();
    let held = gate.clone();
    let upstream = Upstream::start(move |number| {
        if number == 10 {
            return [vec![Act::WaitFor(held.clone())], good()].concat();
        }
        let mut acts = at_once(&token("a").repeat(2));
        let Some(Act::Write(head)) = acts.first_mut() else { unreachable!() };
        head.truncate(head.len() - b"0\r\n\r\n".len());
        acts.extend([Act::Pause(Duration::from_millis(100)), chunk(&token("b"))]);
        acts.push(chunk(&[FINISH, &usage("{\"completion_tokens\":3}"), DONE].concat()));
        acts.push(last_chunk());
        acts
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let yaml = on(&upstream.url(), "", "constant: 20/s, for: 550ms");
    let mut command = command(folder.path(), &yaml, &["--web.listen-address", "127.0.0.1:0"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let compared = tokio::task::spawn_blocking(move || {
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let address =
            lines.find_map(|line| Some(line.split_once("/metrics on http://")?.1.to_owned()));
        let address = address.unwrap().split('/').next().unwrap().parse().unwrap();
        let metrics = loop {
            let (_, _, text) = request(address, "GET", "/metrics").unwrap();
            if sample(&text, "llmload_requests_total", &[]) >= 10.0 {
                break text;
            }
            std::thread::yield_now();
        };
        gate.cancel();
        lines.for_each(drop);
        child.wait().unwrap();
        let report = std::fs::read_to_string(folder.path().join("out/report.json")).unwrap();
        let report: Report = serde_json::from_str(&report).unwrap();
        (metrics, report)
    });
    let (metrics, report) = compared.await.unwrap();
    let total = &report.routes[0].total;
    let gaps = &total.inter_chunk_latency_seconds;
    assert_eq!(
        total.output_chunks, 32,
        "three chunks in each of ten responses, and two at the end"
    );
    let in_metrics = sample(&metrics, "llmload_inter_chunk_latency_seconds_count", &[]);
    // If the two chunks of the last response arrive in two reads, the report has one more gap.
    let added = gaps.count as f64 - in_metrics;
    assert!(added == 0.0 || added == 1.0, "{in_metrics} in the metrics, {gaps:?} in the report");
    // Ten responses have at most two reads with text, and so at most one gap each.
    assert!((1.0..=10.0).contains(&in_metrics), "{in_metrics}");
}
