//! The shards of a run, and `llmload merge`, which joins their reports.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use llmload::calendar::rfc3339;
use llmload::report::{Outcome, Report};

use crate::truth::{self, REQUESTS};

const SHARDS: u32 = 4;

fn llmload(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_llmload"));
    command.current_dir(folder).args(arguments);
    command
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs all shards at the same time, and then `llmload merge`. The report of shard I is in the
/// folder `I`, and the merged report is in the folder `all`.
fn run_shards(folder: &Path, yaml: &str, start: SystemTime) -> Output {
    std::fs::write(folder.join("llmload.yml"), yaml).unwrap();
    let start = rfc3339(start);
    let shard = |index: u32| {
        let (shard, name) = (format!("{index}/{SHARDS}"), index.to_string());
        let options = ["run", "--shard", &shard, "--start-at", &start, "--report", &name, "--json"];
        llmload(folder, &options)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap()
    };
    let children: Vec<_> = (0..SHARDS).map(shard).collect();
    for mut child in children {
        child.wait().unwrap();
    }
    llmload(folder, &["merge", "0", "1", "2", "3", "--report", "all"]).output().unwrap()
}

fn read(file: &Path) -> Report {
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

/// On a busy machine, a shard can be late for its start, or read some events late. So the test
/// repeats the run with longer times.
#[test]
fn four_shards_send_one_schedule_and_their_merged_report_agrees_with_the_log_of_the_target() {
    let mut found = Vec::new();
    for (scale, rate, wait) in [(1, 60, 4), (4, 40, 10), (10, 20, 30), (10, 20, 60)] {
        let (url, log) = truth::start(scale);
        let prompts: Vec<String> =
            (0..REQUESTS).map(|number| format!("prompt {number}.")).collect();
        let yaml = format!(
            "target: {{base_url: '{url}', model: m, prices: {{input_per_million: 1, output_per_million: 2, currency: EUR}}}}
start: now
prompts: {}
max_lag: 1m
max_concurrency: 1000
slo: {{ttft: {{p50: 1m}}}}
schedule: [{{constant: {rate}/s, for: {}s}}]
",
            serde_json::to_string(&prompts).unwrap(),
            REQUESTS / rate
        );
        let folder = tempfile::tempdir().unwrap();
        let start = SystemTime::now() + Duration::from_secs(wait);
        let output = run_shards(folder.path(), &yaml, start);
        // A shard that was late for its start has sent nothing, and perhaps has no report.
        if output.status.code() == Some(2) {
            found = vec![stderr(&output)];
            continue;
        }
        let merged = read(&folder.path().join("all/report.json"));
        let logged = log.ended.lock().unwrap();
        let ledger = &merged.routes[0].ledger;
        if ledger.arrivals < REQUESTS {
            found = vec![format!("{} arrivals: {}", ledger.arrivals, stderr(&output))];
            continue;
        }
        found = truth::differences(&merged.routes[0].total, &logged);
        if !found.is_empty() {
            continue;
        }
        assert_eq!((ledger.arrivals, ledger.succeeded), (REQUESTS, REQUESTS));
        let mut sent: BTreeMap<usize, u32> = BTreeMap::new();
        for one in logged.iter() {
            let number = prompts.iter().position(|prompt| one.body.contains(prompt)).unwrap();
            *sent.entry(number).or_default() += 1;
        }
        assert_eq!(sent.len() as u64, REQUESTS, "each prompt is sent");
        assert!(sent.values().all(|count| *count == 1), "no prompt is sent twice: {sent:?}");
        let phase = &merged.routes[0].phases[0];
        assert_eq!(phase.planned_arrivals, Some(REQUESTS));
        assert_eq!((phase.slo[0].judged, phase.slo[0].met), (REQUESTS, REQUESTS));
        #[allow(clippy::cast_precision_loss)]
        let level = rate as f64;
        assert!((phase.level.unwrap().value - level).abs() < 1e-9);
        assert_eq!(merged.routes[0].timeline.arrivals.iter().sum::<u64>(), REQUESTS);
        assert!((phase.statistics.offered_per_second.unwrap() - level).abs() < 1e-6);
        let cost = phase.statistics.cost.as_ref().unwrap();
        #[allow(clippy::cast_precision_loss)]
        let expected = REQUESTS as f64 * (3.0 + 2.0 * 4.0) / 1e6;
        assert!((cost.amount - expected).abs() < 1e-12);
        // A busy machine can distort a run.
        let is_valid = merged.verdict.result == Outcome::Passed;
        assert_eq!(output.status.code(), Some(if is_valid { 0 } else { 4 }), "{}", stderr(&output));
        for index in 0..SHARDS {
            let part = read(&folder.path().join(index.to_string()).join("report.json"));
            assert_eq!(part.routes[0].ledger.arrivals, REQUESTS / u64::from(SHARDS));
            assert!((part.routes[0].phases[0].level.unwrap().value - level / 4.0).abs() < 1e-9);
        }
        assert_forms(folder.path());
        assert_documented(folder.path());
        assert_refusals(folder.path());
        return;
    }
    panic!("no run of 4 agrees with the log; the last one:\n{}", found.join("\n"));
}

/// All forms of the merged report exist.
fn assert_forms(folder: &Path) {
    for (name, text) in [
        ("report.md", "shards"),
        ("report.html", "</html>"),
        ("report.csv", "constant"),
        ("junit.xml", "ttft p50"),
    ] {
        let found = std::fs::read_to_string(folder.join("all").join(name)).unwrap();
        assert!(found.contains(text), "{name}: {found}");
    }
}

fn assert_documented(folder: &Path) {
    let page = include_str!("../../docs/report.md");
    let section = page.split_once("\n## Shards of a run\n").unwrap().1;
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let text = std::fs::read_to_string(folder.join("0/report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    let fields = report["shard"].as_object().unwrap().keys().cloned();
    assert_eq!(
        rows.map(|(field, _)| field.to_owned()).collect::<BTreeSet<_>>(),
        fields.collect::<BTreeSet<_>>()
    );
}

fn assert_refusals(folder: &Path) {
    let refusal = |arguments: &[&str]| {
        let output = llmload(folder, &[&["merge"], arguments].concat()).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        stderr(&output)
    };
    assert!(refusal(&["0", "1", "3"]).contains("shard 2 of 4 is missing"));
    assert!(refusal(&["0", "1", "2", "3", "1"]).contains("are both of shard 1"));
    assert!(refusal(&["all"]).contains("this is not the report of a shard"));
    let onto_itself = refusal(&["0", "1", "2", "3", "--report", "2"]);
    assert!(onto_itself.contains("would replace the report of a shard"), "{onto_itself}");
    assert!(folder.join("2/report.json").exists());
    // An edited report, in which a distribution lost a value.
    let text = std::fs::read_to_string(folder.join("1/report.json")).unwrap();
    let damaged = text.replacen("\"steps\": \"", "\"steps\": \"7:9999 ", 1);
    assert_ne!(damaged, text);
    std::fs::write(folder.join("damaged.json"), damaged).unwrap();
    let damaged = refusal(&["0", "damaged.json", "2", "3"]);
    assert!(damaged.contains("a distribution is damaged"), "{damaged}");
}

#[test]
fn a_shard_of_a_run_needs_a_start_in_the_future_and_phases_with_a_fixed_length() {
    let folder = tempfile::tempdir().unwrap();
    let write = |yaml: &str| std::fs::write(folder.path().join("llmload.yml"), yaml).unwrap();
    let target = "target: {base_url: 'http://127.0.0.1:9/v1', model: m}\n";
    write(&format!("{target}schedule: [{{constant: 1/s, for: 1s}}]\n"));
    let refusal = |command: &mut Command| {
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        stderr(&output)
    };
    let by_name = refusal(
        llmload(folder.path(), &["run"]).env("LLMLOAD_SHARDS", "3").env("HOSTNAME", "load-1"),
    );
    assert!(by_name.contains("this process is shard 1/3"), "{by_name}");
    assert!(by_name.contains("--start-at 2026-12-24T18:00:00Z"), "{by_name}");
    let run =
        |arguments: &[&str]| refusal(&mut llmload(folder.path(), &[&["run"], arguments].concat()));
    assert!(run(&["--shard", "0/2"]).contains("--start-at <TIME>"));
    let past = run(&["--start-at", "2020-01-01T00:00:00Z"]);
    assert!(past.contains("the time of --start-at has passed; set a later time"), "{past}");
    let local = run(&["--start-at", "2020-01-01 18:00"]);
    assert!(local.contains("with its offset from UTC"), "{local}");
    let future = ["--shard", "0/2", "--start-at", "2999-01-01T00:00:00Z"];
    write(&format!("{target}schedule: [{{concurrency: 4, requests: 9}}]\n"));
    let counted = run(&future);
    assert!(counted.contains("would not end at the same time on all shards"), "{counted}");
    write(&format!("{target}max_concurrency: 1\nschedule: [{{constant: 1/s, for: 1s}}]\n"));
    assert!(run(&future).contains("max_concurrency: 1 is too low for 2 shards"));
}

/// The target never becomes ready. The run does not begin late, but ends at the start.
#[test]
fn a_run_that_misses_its_start_is_invalid() {
    let folder = tempfile::tempdir().unwrap();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let yaml = format!(
        "target: {{base_url: 'http://{closed}/v1', model: m}}\nschedule: [{{constant: 1/s, for: 1s}}]\n"
    );
    std::fs::write(folder.path().join("llmload.yml"), yaml).unwrap();
    for wait in [3, 20, 100] {
        let start = rfc3339(SystemTime::now() + Duration::from_secs(wait));
        let output = llmload(folder.path(), &["run", "--start-at", &start]).output().unwrap();
        // On a busy machine, the start can pass before the process has read its options.
        if output.status.code() == Some(2) {
            continue;
        }
        let table = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(4), "{table}{}", stderr(&output));
        assert!(table.contains("was not ready at"), "{table}");
        return;
    }
    panic!("the process did not read its options within 100 s");
}
