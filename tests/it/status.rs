//! `docs/status.md` against a real answer: every field that is answered is there, and every field there
//! is answered.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::binary::{Daemon, FOREVER, pause, request};

/// What it takes to see every field: two targets that differ, failures and drops, schedules that wait,
/// are idle, or stand aside for a rate that is set by hand.
const EVERYTHING: &str = "
targets:
  one: {simulator: {faults: {http_429: 10%}}}
  two: {simulator: {decode_tokens_per_second: 30}}
  away: {base_url: 'http://127.0.0.1:9/v1'}
scenarios:
  both:
    {targets: [one, two], start: wall_clock, request: {max_tokens: 4}, schedule: [{ramp: {from: 60/s, to: 120/s}, for: 1h}]}
  tight: {target: two, start: wall_clock, rate: 40/s, max_concurrency: 2}
  by_hand: {target: one, start: {cron: '0 0 31 12 *'}, schedule: [{constant: 1/s, for: 1m}]}
  idle: {target: one, start: {cron: '0 0 31 12 *'}, schedule: [{constant: 1/s, for: 1m}]}
  waiting: {target: away, start: wall_clock, rate: 1/s}
";

/// The fields of an answer; those of all members of a list are one. What an empty or a missing one would
/// hold is not seen.
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
fn every_field_of_the_status_is_explained_and_every_explained_field_is_there() {
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
    let path = "/api/v1/scenarios/by_hand/rate?rate=1/s&for=1h";
    daemon.wait_for("/-/healthy", |_| {
        (request(address, "POST", path).unwrap().0 == 200).then_some(())
    });
    // Stopped, it is late: that is a distortion.
    daemon.signal("STOP");
    std::thread::park_timeout(Duration::from_secs(2));
    daemon.signal("CONT");
    let answered = |status: &str| {
        let mut answered = BTreeSet::new();
        fields(&serde_json::from_str(status).unwrap(), "", &mut answered);
        answered
    };
    let begun = Instant::now();
    loop {
        let answered = answered(&daemon.get("/api/v1/status").2);
        let unexplained: Vec<_> = answered.difference(&explained).collect();
        assert_eq!(unexplained, [""; 0], "not in docs/status.md");
        let missing: Vec<_> = explained.difference(&answered).collect();
        if missing.is_empty() {
            break;
        }
        assert!(begun.elapsed() < FOREVER, "only in docs/status.md: {missing:?}");
        pause();
    }
}
