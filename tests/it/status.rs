//! Checks that `docs/status.md` explains exactly the fields of `/api/v1/status` of a real daemon.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::binary::{Daemon, TEST_TIMEOUT, pause, request};

/// With this configuration, every field appears in the status. The test overrides the rate of the
/// scenario `overridden`.
const EVERYTHING: &str = "
targets:
  one: {simulator: {faults: {http_429: 10%}}}
  two: {simulator: {decode_tokens_per_second: 30}}
  away: {base_url: 'http://127.0.0.1:9/v1', prices: {input_per_million: 1, output_per_million: 2}}
  limited: {simulator: {faults: {http_429: 100%}}, rate_limits: {requests_per_minute: 1200, retry_after: true}}
prompts: {talks: {synthetic: {input_tokens: 9, turns: 2}}}
scenarios:
  both:
    {targets: [one, two], prompts: builtin, start: wall_clock, request: {max_tokens: 4}, schedule: [{ramp: {from: 60/s, to: 120/s}, for: 1h}]}
  tight: {target: two, prompts: builtin, start: wall_clock, rate: 40/s, max_concurrency: 2, budgets: [{per: day, requests: 1M}]}
  overridden: {target: one, prompts: builtin, start: {cron: '0 0 31 12 *'}, schedule: [{constant: 1/s, for: 1m}]}
  idle: {target: one, prompts: builtin, start: {cron: '0 0 31 12 *'}, schedule: [{constant: 1/s, for: 1m}]}
  refused: {target: limited, prompts: builtin, start: wall_clock, rate: 40/s}
  broken: {target: one, prompts: builtin, start: wall_clock, rate: 40/s, breaker: {failures: 1%, pause: 1h, max_pause: 1h}}
  waiting: {target: away, prompts: builtin, start: wall_clock, rate: 1/s, budgets: [{per: day, cost: 9}]}
  talks: {target: limited, prompts: talks, start: wall_clock, rate: 4/s}
";

/// Collects the paths of all fields, such as `scenarios[].target`.
fn fields(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            let dot = if path.is_empty() { "" } else { "." };
            members
                .iter()
                .for_each(|(name, member)| fields(member, &format!("{path}{dot}{name}"), found));
        }
        Value::Array(items) => {
            found.insert(path.to_owned());
            let members = items.iter().filter(|item| item.is_object());
            members.for_each(|item| fields(item, &format!("{path}[]"), found));
        }
        _ => _ = found.insert(path.to_owned()),
    }
}

#[test]
fn docs_status_md_explains_exactly_the_fields_of_the_status() {
    let page = include_str!("../../docs/status.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let explained: BTreeSet<String> = rows.map(|(field, _)| field.to_owned()).collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("llmload.yml");
    std::fs::write(&file, EVERYTHING).unwrap();
    let llmload = Command::new(env!("CARGO_BIN_EXE_llmload"));
    let mut daemon = Daemon::of(llmload, &["--shard", "0/2"], folder);
    std::fs::write(&file, "nothing").unwrap();
    assert_eq!(request(daemon.address, "POST", "/-/reload").unwrap().0, 500);
    let address = daemon.address;
    let path = "/api/v1/scenarios/overridden/rate?rate=1/s&for=1h";
    daemon.wait_for("/-/healthy", |_| {
        (request(address, "POST", path).unwrap().0 == 200).then_some(())
    });
    // After a stop, the process sends arrivals late, which is a distortion.
    daemon.signal("STOP");
    std::thread::park_timeout(Duration::from_secs(2));
    daemon.signal("CONT");
    let returned = |status: &str| {
        let mut fields_of_status = BTreeSet::new();
        fields(&serde_json::from_str(status).unwrap(), "", &mut fields_of_status);
        fields_of_status
    };
    let begun = Instant::now();
    loop {
        let returned = returned(&daemon.get("/api/v1/status").2);
        let unexplained: Vec<_> = returned.difference(&explained).collect();
        assert_eq!(unexplained, [""; 0], "these fields are missing in docs/status.md");
        let missing: Vec<_> = explained.difference(&returned).collect();
        if missing.is_empty() {
            break;
        }
        assert!(
            begun.elapsed() < TEST_TIMEOUT,
            "these fields in docs/status.md never appear: {missing:?}"
        );
        pause();
    }
}
