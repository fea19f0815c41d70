//! Tests of replayed traces against the simulator, with the daemon in a separate process.

use std::collections::HashSet;
use std::path::Path;

use serde_json::{Value, json};

use crate::binary::{Daemon, assert_balanced, sample};
use crate::run::run;

/// Runs one pass of a replay on a simulator with a prefix cache. Returns the last metrics.
fn replay(file: &Path, cache_tokens: u32) -> String {
    let yaml = format!(
        "targets:
  t:
    simulator:
      {{slots: 1, prefill_tokens_per_second: 1000000000, decode_tokens_per_second: 100000,
       prefix_cache_tokens: {cache_tokens}}}
prompts: {{p: {{synthetic: {{input_tokens: 100}}}}}}
scenarios:
  s: {{target: t, start: now, repeat: 1, max_lag: 1h, schedule: [{{replay: {{file: '{}'}}}}]}}
",
        file.display()
    );
    let mut daemon = Daemon::start(&yaml);
    daemon.wait_for("/api/v1/status", |text| {
        let status: Value = serde_json::from_str(text).unwrap();
        let scenario = &status["scenarios"][0];
        (scenario["state"] == "ended" && scenario["ledger"]["in_flight"] == 0).then_some(())
    });
    let exposition = daemon.get("/metrics").2;
    assert_balanced(&exposition);
    exposition
}

/// A trace of eight conversations with three turns each. The first block is a common system prompt,
/// and each turn repeats the blocks of the turn before. The last block is incomplete.
fn conversations() -> Vec<(u64, Vec<u64>)> {
    let turns = (0..24).map(|row| {
        let (conversation, turn) = (row % 8, row / 8);
        let own = (1..=3 * (turn + 1)).map(|block| 100 * conversation + block);
        let ids: Vec<u64> = [0].into_iter().chain(own).chain([10_000 + row]).collect();
        (512 * (ids.len() as u64 - 1) + 100 + row, ids)
    });
    turns.collect()
}

#[test]
fn a_replay_has_the_cached_percentage_that_its_hash_ids_predict() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trace.jsonl");
    let rows = conversations();
    let lines = rows.iter().enumerate().map(|(at, (length, ids))| {
        let row = json!({"timestamp": 10 * at, "input_length": length, "output_length": 2,
                         "hash_ids": ids});
        format!("{row}\n")
    });
    std::fs::write(&file, lines.collect::<String>()).unwrap();
    let input: u64 = rows.iter().map(|(length, _)| length).sum();
    let mut seen = HashSet::<u64>::new();
    let cached = rows.iter().map(|(_, ids)| {
        let known = ids.iter().take_while(|id| seen.contains(*id)).count();
        seen.extend(ids);
        512 * known as u64
    });
    let predicted = cached.sum::<u64>() as f64 / input as f64;

    let exposition = replay(&file, 1_000_000);
    let total = |name| sample(&exposition, name, &[]);
    assert_eq!(total("llmload_requests_started_total"), 24.0);
    assert_eq!(total("llmload_input_tokens_total"), input as f64);
    let measured = total("llmload_cached_input_tokens_total") / input as f64;
    assert!(predicted > 0.3, "{predicted}");
    assert!((measured - predicted).abs() < 0.01, "{measured} instead of {predicted}");

    let exposition = replay(&file, 0);
    assert_eq!(sample(&exposition, "llmload_cached_input_tokens_total", &[]), 0.0);
}

#[test]
fn the_report_contains_the_lag_and_the_drops_of_a_replay() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trace.csv");
    // Only one of the four rows at the end can be in flight.
    let rows = [0.0, 0.1, 0.2, 0.3, 0.4, 0.4, 0.4, 0.4].map(|at| format!("{at},9,2\n"));
    let header = "offset_seconds,input_tokens,output_tokens\n";
    std::fs::write(&file, format!("{header}{}", rows.concat())).unwrap();
    let ran = run(
        &format!(
            "target: {{simulator: {{decode_tokens_per_second: 20}}}}
max_concurrency: 1
max_lag: 1h
schedule: [{{constant: 10/s, for: 500ms}}, {{replay: {{file: '{}', speed: 0.5}}}}]
",
            file.display()
        ),
        &["--no-gate"],
    );
    let report = ran.report.unwrap();
    let route = &report.routes[0];
    let (replay, ledger) = (route.replay.as_ref().unwrap(), &route.ledger);
    assert_eq!((ledger.arrivals, replay.rows), (13, 8));
    assert!(replay.dropped >= 3, "{replay:?}");
    assert!(replay.dropped <= ledger.dropped["max_concurrency"], "{ledger:?}");
    assert_eq!(replay.lag_seconds.count, 8 - replay.dropped);
    assert!(replay.on_time * 8.0 <= (8 - replay.dropped) as f64, "{replay:?}");
    assert!(ran.table.contains("rows sent within 100 ms of the trace"), "{}", ran.table);
}

#[test]
fn a_run_without_a_trace_has_no_replay_in_its_report() {
    let ran = run("target: {simulator: {}}\nschedule: [{constant: 20/s, for: 200ms}]\n", &[]);
    assert_eq!(ran.report.unwrap().routes[0].replay, None);
}
