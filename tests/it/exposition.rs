//! What Prometheus gets, by Prometheus' own tools.

use std::io::Write;
use std::process::{Command, Stdio};

use llmload::metrics::table::{ALL, PROCESS};

use crate::binary::{Daemon, request, sample};
use crate::prometheus::Prometheus;

const QUIET: &str = "
targets:
  sim: {simulator: {}, model: simulated-8b, prices: {input_per_million: 1, output_per_million: 2}}
scenarios:
  idle:
    target: sim
    schedule: [{pause: 1h}, {constant: 1/s, for: 1s}]
";

#[test]
fn every_series_is_there_at_zero_before_anything_happens() {
    let daemon = Daemon::start(QUIET);
    let (_, _, text) = daemon.get("/metrics");
    for family in ALL.iter().chain(PROCESS) {
        assert!(
            text.contains(&format!("# TYPE {} ", family.name))
                // Absent where there are no control groups.
                || family.name.starts_with("llmload_cgroup_")
                || llmload::metrics::table::LATE.contains(family),
            "{} is missing",
            family.name
        );
    }
    let labels = "model=\"simulated-8b\",scenario=\"idle\",target=\"sim\"";
    for line in [
        format!("llmload_arrivals_total{{{labels}}} 0"),
        format!("llmload_requests_in_flight{{{labels}}} 0"),
        format!("llmload_time_to_first_token_seconds_count{{{labels}}} 0"),
        format!("llmload_queries_per_second_count{{{labels}}} 0"),
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
    let failures = text.lines().filter(|line| line.starts_with("llmload_request_failures_total{"));
    assert_eq!(failures.count(), llmload::measurement::Failure::ALL.len());
    let kinds = text.lines().filter(|line| line.starts_with("llmload_generator_distortion{"));
    assert_eq!(kinds.count(), llmload::generator::Distortion::ALL.len());
}

#[test]
fn promtool_finds_nothing_to_say_and_the_content_type_suits_prometheus_3() {
    let daemon = Daemon::start(QUIET);
    let (status, head, text) = daemon.get("/metrics");
    assert_eq!(status, 200);
    let kind = head.lines().find(|line| line.to_lowercase().starts_with("content-type")).unwrap();
    assert_eq!(kind.split_once(": ").unwrap().1, "text/plain; version=0.0.4; charset=utf-8");
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool, which Debian's package prometheus has");
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    assert!(!text.is_empty());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn routes_answer_as_those_of_prometheus_do() {
    let daemon = Daemon::start("target: http://127.0.0.1:1/v1\nrate: 1/s\n");
    for (path, kind) in [
        ("/", "text/html"),
        ("/metrics", "text/plain; version=0.0.4"),
        ("/-/healthy", "text/plain"),
        ("/-/ready", "text/plain"),
        ("/config", "application/yaml"),
        ("/api/v1/status", "application/json"),
    ] {
        let (status, head, body) = daemon.get(path);
        assert_eq!(status, 200, "{path}");
        assert!(head.to_lowercase().contains(&format!("content-type: {kind}")), "{path}: {head}");
        assert!(!body.is_empty());
        let (status, head, _) = request(daemon.address, "POST", path).unwrap();
        assert_eq!(status, 405, "{path}");
        assert!(head.to_lowercase().contains("allow: get, head"), "{head}");
        assert_eq!(request(daemon.address, "HEAD", path).unwrap().2, "");
    }
    assert_eq!(daemon.get("/nope").0, 404);
    assert!(daemon.get("/config").2.contains("127.0.0.1"));
}

/// The prices have no power of ten in common, so that what was multiplied by what shows.
#[test]
fn cost_follows_from_counted_tokens_and_is_there_only_where_prices_are() {
    let mut daemon = Daemon::start(
        "
targets:
  paid: {simulator: {}, prices: {input_per_million: 30, output_per_million: 700, currency: EUR}}
  free: {simulator: {}}
scenarios:
  s: {target: paid, repeat: 1, schedule: [{constant: 20/s, for: 1s}], request: {max_tokens: 7}}
  t: {target: free, repeat: 1, schedule: [{constant: 20/s, for: 1s}], request: {max_tokens: 7}}
",
    );
    let text = daemon.wait_for("/metrics", |text| {
        (sample(text, "llmload_requests_total", &[]) >= 40.0).then(|| text.to_owned())
    });
    let paid = |family| sample(&text, family, &["scenario=\"s\""]);
    let (input, output) = (paid("llmload_input_tokens_total"), paid("llmload_output_tokens_total"));
    assert!(input > 0.0 && output > 0.0, "{text}");
    let cost = paid("llmload_cost_total");
    assert!((cost - (30.0 * input + 700.0 * output) / 1e6).abs() < 1e-9, "{cost}\n{text}");
    let lines: Vec<_> = text.lines().filter(|line| line.starts_with("llmload_cost_total{")).collect();
    assert!(matches!(lines.as_slice(), [one] if one.contains("currency=\"EUR\"")), "{lines:?}");
}

/// A real Prometheus scrapes the daemon and answers the questions that dashboards ask.
#[test]
fn a_real_prometheus_scrapes_it_and_answers() {
    let mut daemon = Daemon::start(
        "targets: {sim: {simulator: {faults: {http_429: 20%}}}}\nscenarios: {s: {target: sim, rate: 40/s, request: {max_tokens: 16}}}\n",
    );
    daemon.wait_for("/metrics", |text| (sample(text, "llmload_requests_total", &[]) > 0.0).then_some(()));
    let prometheus = Prometheus::scraping(&[("llmload", daemon.address)]);
    let selector = "{scenario=\"s\"}[10s]";
    for query in [
        "up == 1".to_owned(),
        format!(
            "histogram_quantile(0.99, sum by (le) (rate(llmload_time_to_first_token_seconds_bucket{selector})))"
        ),
        format!("sum(rate(llmload_output_tokens_total{selector})) > 0"),
        format!("sum(rate(llmload_requests_total{selector})) > 0"),
        format!(
            "sum(rate(llmload_request_failures_total{selector})) / sum(rate(llmload_requests_total{selector})) > 0"
        ),
        format!(
            "histogram_quantile(0.5, sum by (le) (rate(llmload_output_tokens_per_second_bucket{selector}))) > 0"
        ),
        format!(
            "histogram_quantile(0.5, sum by (le) (rate(llmload_queries_per_second_bucket{selector}))) > 0"
        ),
    ] {
        let value = prometheus.wait_for_value(&query);
        assert!(value.is_finite(), "{query} = {value}");
    }
}
