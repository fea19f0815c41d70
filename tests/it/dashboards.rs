//! Evaluates every query of every dashboard with a real Prometheus. It scrapes a daemon that runs a
//! short ramp, and the simulator that is the target of the daemon.

use std::net::TcpListener;
use std::path::Path;

use llmload::simulator::{Faults, Simulator, SimulatorOptions};
use serde_json::Value;

use crate::binary::{assert_balanced, request, sample};
use crate::machine::with_nvidia_smi;
use crate::prometheus::Prometheus;

/// The value of the variable `window`.
const RANGE: &str = "10s";

/// A query without variables, and its place in a dashboard.
struct Query {
    place: String,
    expression: String,
}

/// Returns all queries of panels, variables and annotations.
fn queries() -> Vec<Query> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("grafana/dashboards");
    let mut queries = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let dashboard: Value = serde_json::from_str(&text).unwrap();
        let list = |value: &Value| value.as_array().unwrap().clone();
        let variables = list(&dashboard["templating"]["list"]);
        let mut add = |element: &str, expression: &str| {
            let place = format!("{} / {element}", dashboard["title"].as_str().unwrap());
            queries.push(Query { place, expression: filled(expression, &variables) });
        };
        for variable in variables.iter().filter(|variable| variable["type"] == "query") {
            let query = variable["query"]["query"].as_str().unwrap();
            let (series, label) = query
                .strip_prefix("label_values(")
                .unwrap()
                .trim_end_matches(')')
                .rsplit_once(", ")
                .unwrap();
            add(variable["name"].as_str().unwrap(), &format!("count by ({label}) ({series})"));
        }
        for annotation in list(&dashboard["annotations"]["list"]) {
            add(annotation["name"].as_str().unwrap(), annotation["expr"].as_str().unwrap());
        }
        for panel in list(&dashboard["panels"]) {
            for target in panel["targets"].as_array().into_iter().flatten() {
                add(panel["title"].as_str().unwrap(), target["expr"].as_str().unwrap());
            }
        }
    }
    queries
}

/// Replaces variables by values, as Grafana does.
fn filled(expression: &str, variables: &[Value]) -> String {
    let mut values: Vec<(&str, &str)> = vec![
        ("__rate_interval", RANGE),
        ("__interval", "5s"),
        ("__range", "30s"),
        ("window", RANGE),
        // On a dashboard, the baseline is at least ten minutes old. In this test, it is five
        // seconds old.
        ("ago", "5s"),
        // One request in ten fails. With a stricter objective, some queries would return nothing.
        ("slo_objective", "0.5"),
    ];
    for variable in variables {
        let name = variable["name"].as_str().unwrap();
        match variable["type"].as_str().unwrap() {
            "query" => values.push((name, ".+")),
            "custom" if !values.iter().any(|(known, _)| *known == name) => {
                values.push((name, variable["current"]["value"].as_str().unwrap()));
            }
            _ => {}
        }
    }
    values.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
    let mut filled = expression.to_owned();
    for (name, value) in values {
        filled = filled.replace(&format!("${name}"), value);
    }
    assert!(!filled.contains('$'), "a variable without a value: {filled}");
    filled
}

/// A load whose metrics give every query of the dashboards a value. `port` is the port of the
/// target `staging`.
fn load_with_all_values(port: u16) -> String {
    format!(
        "
resources: {{host: true, gpu: true}}
state_dir: state
targets:
  staging: {{base_url: 'http://localhost:{}/v1', prices: {{input_per_million: 1, output_per_million: 2}}}}
  demo: {{simulator: {{reasoning_tokens: 2}}}}
  small: {{simulator: {{}}}}
prompts: {{few: ['Say hello.'], talks: {{synthetic: {{input_tokens: 20, turns: 9, think_time: 200ms}}}}}}
scenarios:
  chat:
    prompts: few
    target: staging
    request: {{max_tokens: 48}}
    slo: {{ttft: {{p50: 300ms, p99: 1s}}, success_rate: 90%}}
    breaker: {{}}
    schedule:
      - {{name: climb, ramp: {{from: 5/s, to: 20/s}}, for: 10s}}
      - {{name: steady, constant: 20/s, for: 1h}}
  pairs: {{targets: [demo, staging], prompts: few, rate: 6/s, request: {{max_tokens: 8}}}}
  beside: {{target: demo, prompts: few, rate: 1/s, request: {{max_tokens: 8}}, budgets: [{{per: day, requests: 100k, tokens: 10M}}]}}
  # A busy machine distorts some of these searches, but not all.
  limits: {{target: small, prompts: few, slo: {{success_rate: 50%}}, request: {{max_tokens: 2}}, schedule: [{{search: {{concurrency: {{from: 1, to: 2}}, resolution: 50%}}, for: 1s}}]}}
  talks: {{target: demo, prompts: talks, rate: 2/s, request: {{max_tokens: 8}}}}
  recorded: {{target: demo, prompts: few, schedule: [{{replay: {{file: '{}/config/traces/afternoon.csv', speed: 5}}, for: 5s}}]}}
  seldom: {{target: staging, prompts: few, rate: 12/m, request: {{max_tokens: 8}}}}  # each opens a connection
",
        port,
        env!("CARGO_MANIFEST_DIR")
    )
}

#[test]
fn every_query_of_every_dashboard_returns_true_values() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let settings = SimulatorOptions {
        slots: 64,
        faults: Faults { http_429: 0.1, ..Faults::default() },
        seed: 7,
        ..SimulatorOptions::default()
    };
    let simulator = Simulator::start(settings, listener).unwrap();
    let yaml = load_with_all_values(simulator.address().port());
    let mut daemon = with_nvidia_smi(&yaml, "echo '0, 87, 1024, 81920, 312.45, 61'");
    let prometheus =
        Prometheus::scraping(&[("load", daemon.address), ("server", simulator.address())]);
    let values =
        |query: &str| prometheus.values(query).unwrap_or_else(|error| panic!("{query}: {error}"));
    // After half a minute, the windows of the queries no longer contain the ramp.
    prometheus.wait_for_value("sum(count_over_time(up{job=\"load\"}[5m])) >= 30");
    prometheus.wait_for_value(
        "min(min_over_time(llmload_schedule_phase_active{scenario=\"chat\",phase=\"steady\"}[15s])) == 1",
    );

    prometheus.wait_for_value("llmload_capacity_concurrency{scenario=\"limits\"} == 2");

    let mut wrong = Vec::new();
    let queries = queries();
    assert!(queries.len() > 100, "{}", queries.len());
    // These queries can return nothing: a machine can lack cgroups, a CPU quota or a memory limit,
    // and the simulator has no rate limits.
    let may_be_empty = |expression: &str| {
        expression.contains("llmload_cgroup_") || expression.contains("llmload_rate_limit_")
    };
    for Query { place, expression } in
        queries.iter().filter(|query| !may_be_empty(&query.expression))
    {
        match prometheus.values(expression) {
            Ok(values) if values.is_empty() => {
                wrong.push(format!("{place}: no value for {expression}"));
            }
            Ok(values) if values.iter().all(|value| value.is_finite()) => {}
            other => wrong.push(format!("{place}: {other:?} for {expression}")),
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));

    let one = |query: &str| prometheus.wait_for_value(query);
    let (set, offered) = (
        one(
            "sum(avg_over_time(llmload_schedule_target_requests_per_second{scenario!=\"talks\"}[10s]))",
        ),
        one("sum(rate(llmload_arrivals_total{scenario!~\"limits|talks\"}[10s]))"),
    );
    assert!((offered - set).abs() <= 0.02 * set, "offered {offered} of {set} per second");
    let in_flight = one("sum(avg_over_time(llmload_requests_in_flight[10s]))");
    // Little's law: requests in flight are the arrival rate times the mean duration.
    let little = one(
        "sum(rate(llmload_request_duration_seconds_sum[10s])) + sum(rate(llmload_request_failure_duration_seconds_sum[10s]))",
    );
    assert!((in_flight - little).abs() <= 0.15 * little, "in flight {in_flight}, λW {little}");
    let rules = prometheus.get("/api/v1/rules").1;
    let groups = rules["data"]["groups"].as_array().unwrap();
    let rules: Vec<&Value> =
        groups.iter().flat_map(|group| group["rules"].as_array().unwrap()).collect();
    assert!(rules.len() > 30, "{rules:?}");
    for rule in rules {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
    // These alerts must not fire. The list has no alerts about distortions, which depend on the
    // machine.
    let ours =
        "LlmloadDown|LlmloadGone|LlmloadConfigReloadFailed|LlmloadNoTraffic|LlmloadTargetNotReady";
    let ours = values(&format!("count(ALERTS{{alertname=~\"{ours}\"}})"));
    assert_eq!(ours, Vec::<f64>::new(), "{:?}", prometheus.get("/api/v1/alerts").1);
    let burning =
        values("count(ALERTS{alertname=\"LlmloadSuccessBudgetSlowBurn\",scenario=\"chat\"})");
    assert_eq!(burning, [1.0], "10 % of requests fail, and the alert allows 6 %");

    // After the last request, the counts of the daemon and the simulator must be equal.
    assert_eq!(request(daemon.address, "POST", "/-/pause").unwrap().0, 200);
    let text = daemon.wait_for("/metrics", |text| {
        (sample(text, "llmload_requests_in_flight", &[]) == 0.0).then(|| text.to_owned())
    });
    assert_balanced(&text);
    let theirs = request(simulator.address(), "GET", "/metrics").unwrap().2;
    let sent = |family, label| sample(&text, family, &["target=\"staging\"", label]);
    let started = sent("llmload_requests_started_total", "");
    assert_eq!(sample(&theirs, "simulator_requests_total", &[]), started);
    let limited = sent("llmload_request_failures_total", "reason=\"rate_limited\"");
    assert_eq!(limited, sample(&theirs, "simulator_faults_total", &["fault=\"http_429\""]));
    // Five standard deviations, if the true fraction is 10 %.
    let error = 5.0 * (0.1 * 0.9 / started).sqrt();
    assert!((limited / started - 0.1).abs() < error, "{limited} of {started}");
}
