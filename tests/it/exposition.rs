//! Tests of `/metrics`, with promtool and a real Prometheus.

use std::fmt::Write as _;
use std::io::Write;
use std::net::TcpStream;
use std::process::{Command, Stdio};

use llmload::metrics::table::{ALL, PROCESS};

use crate::binary::{Daemon, assert_balanced, request, sample};
use crate::prometheus::Prometheus;

const QUIET: &str = "
state_dir: state
targets:
  sim: {simulator: {}, model: simulated-8b, prices: {input_per_million: 1, output_per_million: 2}}
prompts: {talks: {synthetic: {input_tokens: 9, turns: 2}}}
scenarios:
  idle:
    target: sim
    slo: {ttft: {p99: 1s}, success_rate: 99%}
    budgets: [{per: day, requests: 1000}]
    schedule: [{pause: 1h}, {constant: 1/s, for: 1s}]
";

#[test]
fn every_series_exists_at_zero_from_the_start() {
    let daemon = Daemon::start(QUIET);
    let (_, _, text) = daemon.get("/metrics");
    for family in ALL.iter().chain(PROCESS) {
        assert!(
            text.contains(&format!("# TYPE {} ", family.name))
                // A machine without cgroups does not have these metrics.
                || family.name.starts_with("llmload_cgroup_")
                || llmload::metrics::table::ABSENT_AT_START.contains(family),
            "{} is missing",
            family.name
        );
    }
    let labels = "model=\"simulated-8b\",scenario=\"idle\",target=\"sim\"";
    for line in [
        format!("llmload_arrivals_total{{{labels}}} 0"),
        format!("llmload_requests_in_flight{{{labels}}} 0"),
        format!("llmload_sessions_started_total{{{labels}}} 0"),
        format!("llmload_time_to_first_token_seconds_count{{{labels}}} 0"),
        format!("llmload_queries_per_second_count{{{labels}}} 0"),
        "llmload_slo_violations_total{model=\"simulated-8b\",scenario=\"idle\",slo=\"ttft_p99\",target=\"sim\"} 0".into(),
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
    let failures = text.lines().filter(|line| line.starts_with("llmload_request_failures_total{"));
    assert_eq!(failures.count(), llmload::measurement::Failure::ALL.len());
    let kinds = text.lines().filter(|line| line.starts_with("llmload_generator_distortion{"));
    assert_eq!(kinds.count(), llmload::generator::Distortion::ALL.len());
}

#[test]
fn promtool_reports_no_problem_and_prometheus_3_accepts_the_content_type() {
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
        .expect("promtool must be installed; it is in Debian's package prometheus");
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    assert!(!text.is_empty());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn paths_and_methods_agree_with_those_of_prometheus() {
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

/// The two prices differ, so the test would notice if input and output were swapped.
#[test]
fn cost_follows_from_counted_tokens_and_is_absent_without_prices() {
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
    let lines: Vec<_> =
        text.lines().filter(|line| line.starts_with("llmload_cost_total{")).collect();
    assert!(matches!(lines.as_slice(), [one] if one.contains("currency=\"EUR\"")), "{lines:?}");
}

#[test]
fn a_real_prometheus_scrapes_and_queries_the_series() {
    let mut daemon = Daemon::start(
        "targets: {sim: {simulator: {faults: {http_429: 20%}}}}\nscenarios: {s: {target: sim, rate: 40/s, request: {max_tokens: 16}}}\n",
    );
    daemon.wait_for("/metrics", |text| {
        (sample(text, "llmload_requests_total", &[]) > 0.0).then_some(())
    });
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

/// Returns the bounds in the first series of a histogram.
fn bounds<'a>(exposition: &'a str, family: &str) -> Vec<&'a str> {
    let prefix = format!("{family}_bucket{{");
    let lines = exposition.lines().filter(|line| line.starts_with(&prefix));
    lines.filter_map(|line| line.split_once("le=\"")?.1.split('"').next()).collect()
}

#[test]
fn buckets_follow_the_configuration_and_a_reload_cannot_change_them() {
    let yaml = |bounds: &str, rate: u32| {
        let buckets =
            format!("time_to_first_token_seconds: {bounds}, event_loop_delay_seconds: [0.5]");
        format!(
            "target: {{simulator: {{}}}}\nrate: {rate}/s\nmetrics: {{buckets: {{{buckets}}}}}\n"
        )
    };
    let mut daemon = Daemon::start(&yaml("[0.25, 5]", 1));
    let ttft = "llmload_time_to_first_token_seconds";
    // While the model becomes known, a scrape can contain some of the series.
    let is_complete =
        |text: &str| [ttft, "llmload_dispatch_lag_seconds"].iter().all(|name| text.contains(name));
    let text = daemon.wait_for("/metrics", |text| is_complete(text).then(|| text.to_owned()));
    assert_eq!(bounds(&text, ttft), ["0.25", "5", "+Inf"]);
    assert_eq!(bounds(&text, "llmload_event_loop_delay_seconds"), ["0.5", "+Inf"]);
    assert_eq!(
        bounds(&text, "llmload_dispatch_lag_seconds").len(),
        15,
        "the bounds of other histograms are the defaults"
    );
    let mut reload = |yaml: String| {
        std::fs::write(daemon.folder.path().join("llmload.yml"), yaml).unwrap();
        let (status, _, response) = request(daemon.address, "POST", "/-/reload").unwrap();
        let rate = daemon.wait_for("/metrics", |text| {
            let rate = sample(text, "llmload_schedule_target_requests_per_second", &[]);
            // During a restart of the schedule, the rate is 0.
            (rate > 0.0).then_some(rate)
        });
        (status, response, rate)
    };
    let (status, response, rate) = reload(yaml("[0.25, 5, 10]", 2));
    assert_eq!((status, rate), (500, 1.0), "a rejected reload must change nothing: {response}");
    assert!(
        response.contains("`time_to_first_token_seconds`") && response.contains("restart llmload"),
        "{response}"
    );
    assert!(!response.contains("event_loop"), "{response}");
    // The same bounds in another form: `0.250` is `0.25`.
    let (status, response, rate) = reload(yaml("[0.250, 5.0]", 2));
    assert_eq!((status, rate), (200, 2.0), "{response}");
    assert_eq!(bounds(&daemon.get("/metrics").2, ttft), ["0.25", "5", "+Inf"]);
}

/// Returns the memory of a process in bytes.
fn resident(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Each client requests a page of more than a megabyte and never reads it. Some clients request it
/// many times. All clients share the pages in memory.
#[test]
fn memory_does_not_grow_with_the_number_of_clients_that_never_read() {
    rlimit::increase_nofile_limit(u64::MAX).unwrap();
    let mut yaml = "targets: {sim: {simulator: {}, model: m}}\nscenarios:\n".to_owned();
    for i in 0..32 {
        writeln!(
            yaml,
            "  s{i}: {{target: sim, schedule: [{{pause: 1h}}, {{constant: 1/s, for: 1s}}]}}"
        )
        .unwrap();
    }
    let daemon = Daemon::start(&yaml);
    let page = (0..10).map(|_| daemon.get("/metrics").2.len()).max().unwrap();
    assert!(page > 1 << 20, "{page}");
    let before = resident(daemon.child.id());
    let hang = |number: usize| {
        let mut stream = TcpStream::connect(daemon.address).unwrap();
        stream.set_nonblocking(true).unwrap();
        let path = if number.is_multiple_of(5) { "/api/v1/status" } else { "/metrics" };
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        let requests = request.repeat(if number.is_multiple_of(2) { 1 } else { 50 });
        // The server can close the connection early.
        let _as_much_as_fits = stream.write(requests.as_bytes());
        stream
    };
    let mut most = before;
    let mut hanging = Vec::new();
    for number in 0..500 {
        hanging.push(hang(number));
        if number.is_multiple_of(20) {
            // A client that reads gets every page.
            let (status, _, text) = daemon.get("/metrics");
            // The length of some values varies.
            assert_eq!((status, text.len() > page / 100 * 99), (200, true));
            most = most.max(resident(daemon.child.id()));
        }
    }
    for _ in 0..10 {
        assert_eq!(daemon.get("/-/healthy").0, 200);
        assert_balanced(&daemon.get("/metrics").2);
        most = most.max(resident(daemon.child.id()));
    }
    drop(hanging);
    let growth = (most - before) >> 20;
    assert!(growth <= 16, "{growth} MiB");
}

/// Runs as many routes (one scenario on one target each) as `check` accepts without a warning.
/// Meanwhile, many clients request `/metrics` without reading. llmload must send every arrival, and
/// a client that reads must get all metrics.
#[test]
fn ten_thousand_series_and_clients_that_never_read_delay_no_arrival() {
    const SCENARIOS: usize = 32;
    const EACH: usize = 30;
    // With these limits, llmload drops nothing: max_concurrency is the number of all requests, and
    // max_lag is longer than the delay of a slow machine.
    let mut yaml =
        "targets: {sim: {simulator: {slots: 256, queue: 1000}, model: m}}\nscenarios:\n".to_owned();
    for i in 0..SCENARIOS {
        let limits = format!("max_concurrency: {EACH}, max_lag: 10m, request: {{max_tokens: 4}}");
        let load = format!("repeat: 1, schedule: [{{constant: {}/s, for: 6s}}]", EACH / 6);
        writeln!(yaml, "  s{i}: {{target: sim, {limits}, {load}}}").unwrap();
    }
    let mut daemon = Daemon::start(&yaml);
    let hang = || {
        let mut stream = TcpStream::connect(daemon.address).unwrap();
        stream.set_nonblocking(true).unwrap();
        // These responses do not fit into the buffers of the connection.
        stream.write_all(&b"GET /metrics HTTP/1.1\r\nhost: t\r\n\r\n".repeat(20)).unwrap();
        stream
    };
    let hanging: Vec<_> = (0..40).map(|_| hang()).collect();
    let all = (SCENARIOS * EACH) as f64;
    let text = daemon.wait_for("/metrics", |text| {
        assert_balanced(text);
        (sample(text, "llmload_requests_total", &[]) == all).then(|| text.to_owned())
    });
    drop(hanging);
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    assert!(series >= 9_000, "{series}");
    assert_eq!(sample(&text, "llmload_arrivals_total", &[]), all);
    assert_eq!(sample(&text, "llmload_requests_started_total", &[]), all);
    assert_eq!(sample(&text, "llmload_arrivals_dropped_total", &[]), 0.0);
    for i in 0..SCENARIOS {
        let label = format!("scenario=\"s{i}\"");
        assert_eq!(sample(&text, "llmload_arrivals_total", &[&label]), EACH as f64, "{label}");
    }
}
