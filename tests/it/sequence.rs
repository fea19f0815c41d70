//! Scenarios that run one after the other: `after` in the file, and `llmload run --sequential`.

use std::sync::{Arc, Mutex};

use tokio_util::sync::CancellationToken;

use crate::binary::{Daemon, assert_balanced, request};
use crate::run::run_against;
use crate::upstream::{
    Act, DONE, FINISH, USAGE, Upstream, chunk, good, last_chunk, stream_head, token,
};

/// Returns the state of a scenario, its sent requests and its requests in flight.
fn state(status: &str, name: &str) -> (String, u64, u64) {
    let status: serde_json::Value = serde_json::from_str(status).unwrap();
    let scenarios = status["scenarios"].as_array().unwrap();
    let scenario = scenarios.iter().find(|scenario| scenario["scenario"] == name).unwrap();
    let count = |key: &str| scenario["ledger"][key].as_u64().unwrap();
    let state = scenario["state"].as_str().unwrap().to_owned();
    (state, count("started"), count("in_flight"))
}

/// The waiting scenario is first in the file. While it waits, a reload changes the running
/// scenario.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scenario_starts_when_the_schedule_and_the_requests_of_another_have_ended() {
    let gate = CancellationToken::new();
    let held = gate.clone();
    let upstream = Upstream::start_with_head(move |_, head| {
        if !head.contains("/first/") {
            return good();
        }
        let mut acts = vec![stream_head(), chunk(&token("a")), Act::WaitFor(held.clone())];
        acts.extend([chunk(FINISH), chunk(USAGE), chunk(DONE), last_chunk()]);
        acts
    })
    .await;
    let url = format!("http://{}", upstream.address);
    let yaml = move |limit: u32| {
        format!(
            "targets:
  a: {{base_url: '{url}/first/v1', model: m}}
  b: {{base_url: '{url}/second/v1', model: m}}
scenarios:
  second: {{target: b, start: now, after: first, repeat: 1, schedule: [{{constant: 20/s, for: 200ms}}]}}
  first: {{target: a, start: now, repeat: 1, max_concurrency: {limit}, schedule: [{{constant: 20/s, for: 200ms}}]}}
"
        )
    };
    tokio::task::spawn_blocking(move || {
        let mut daemon = Daemon::start(&yaml(10));
        daemon.wait_for("/api/v1/status", |status| {
            (state(status, "first") == ("ended".to_owned(), 4, 4)).then_some(())
        });
        std::fs::write(daemon.folder.path().join("llmload.yml"), yaml(11)).unwrap();
        let (status, _, reply) = request(daemon.address, "POST", "/-/reload").unwrap();
        assert_eq!(status, 200, "{reply}");
        assert!(reply.contains("1 changed (first)"), "{reply}");
        let status = daemon.get("/api/v1/status").2;
        assert_eq!(state(&status, "second"), ("waiting".to_owned(), 0, 0));
        assert!(status.contains("scenario `first` to end"), "{status}");
        gate.cancel();
        daemon.wait_for("/api/v1/status", |status| {
            (state(status, "second") == ("ended".to_owned(), 4, 0)).then_some(())
        });
        assert_balanced(&daemon.get("/metrics").2);
    })
    .await
    .unwrap();
}

/// The first scenario takes longer than `--wait`, which limits only the wait for a target.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sequential_run_runs_the_scenarios_in_the_order_of_the_file() {
    let order = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&order);
    let upstream = Upstream::start_with_head(move |_, head| {
        let path = head.split('/').nth(1).unwrap_or_default().to_owned();
        record.lock().unwrap().push(path);
        good()
    })
    .await;
    let scenario = |name: &str, seconds: &str| {
        format!(
            "  {name}: {{target: {name}, start: now, schedule: [{{constant: 4/s, for: {seconds}}}]}}\n"
        )
    };
    let target = |name: &str| {
        format!("  {name}: {{base_url: 'http://{}/{name}/v1', model: m}}\n", upstream.address)
    };
    let names = ["z", "a", "m"];
    let targets: String = names.iter().map(|name| target(name)).collect();
    let scenarios: String =
        names.iter().zip(["3s", "1s", "1s"]).map(|(name, length)| scenario(name, length)).collect();
    let yaml = format!("targets:\n{targets}scenarios:\n{scenarios}");
    let ran = run_against(yaml.clone(), &["--sequential", "--wait", "2s"]).await;
    let log = ran.log;
    let report = ran.report.unwrap();
    assert!(report.verdict.has_passed(), "{log}");
    let started: Vec<u64> = report.routes.iter().map(|route| route.ledger.started).collect();
    assert_eq!(started, [12, 4, 4]);
    let mut seen = std::mem::take(&mut *order.lock().unwrap());
    seen.dedup();
    assert_eq!(seen, names, "{log}");
    assert!(log.contains("waiting for scenario `z` to end"), "{log}");
    let alone = run_against(
        yaml.replace("m: {target: m,", "m: {target: m, after: a, repeat: 1,")
            .replace("a: {target: a,", "a: {target: a, repeat: 1,"),
        &["--scenario", "m"],
    )
    .await;
    assert_eq!(alone.report.unwrap().routes[0].ledger.started, 4, "{}", alone.log);
    let seen = order.lock().unwrap();
    assert!(seen.iter().all(|path| path == "m"), "it waits for no other scenario");
}
