//! Tests of `llmload check`, which sends nothing.

use std::net::TcpListener;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::binary::{Daemon, llmload};

fn written(yaml: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("llmload.yml");
    std::fs::write(&file, yaml).unwrap();
    let path = file.to_str().unwrap().to_owned();
    (folder, path)
}

fn in_json(path: &str) -> (Option<i32>, Value) {
    let (code, out, err) = llmload(&["check", path, "--json"]);
    assert_eq!(err, "", "the document contains all messages");
    (code, serde_json::from_str(&out).unwrap())
}

#[test]
fn the_forecast_is_printed_as_text_and_as_json_and_nothing_is_sent() {
    let endpoint = TcpListener::bind("127.0.0.1:0").unwrap();
    let (_folder, path) = written(&format!(
        "target: {{base_url: 'http://{}/v1', model: m, prices: {{input_per_million: 1, output_per_million: 2}}}}
prompts: [{:?}]
request: {{max_tokens: 100}}
max_concurrency: 8
schedule: [{{name: low, constant: 1/s, for: 12h}}, {{name: high, constant: 3/s, for: 12h}}]
",
        endpoint.local_addr().unwrap(),
        "Four ".repeat(80),
    ));
    let (code, out, err) = llmload(&["check", &path]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    for text in [
        "172,800 in 24 h (mean 2/s, peak 3/s)",
        "about 17,280,000 (4 bytes per token)",
        "at most 17,280,000",
        "at most 51.84 USD in 24 h; 1,555.20 in 30 days at this load",
        "at most 8 (max_concurrency); at 3/s, this limit is reached if each response takes 2.67 s",
        "warning: ",
        "the only prompt is sent 172,800 times per day",
    ] {
        let flat = out.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(flat.contains(text), "{text}\n{out}");
    }
    assert!(
        out.lines().all(|line| line.chars().count() <= 80 || line.contains("127.0.0.1")),
        "{out}"
    );
    assert!(!out.contains('\u{1b}'), "only a terminal gets colours");

    let (code, document) = in_json(&path);
    assert_eq!(code, Some(0));
    let [file] = document["files"].as_array().unwrap().as_slice() else { panic!("{document}") };
    assert_eq!((&file["file"], &file["problems"]), (&json!(path), &json!([])));
    let warnings = file["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert!(warnings[2].as_str().unwrap().contains("has no budget"), "{warnings:?}");
    assert!(
        warnings[1].as_str().unwrap().contains("max_concurrency 8 is low: at 3/s,"),
        "{warnings:?}"
    );
    let forecast = &file["forecast"];
    assert_eq!(
        (&forecast["span_seconds"], &forecast["bucket_seconds"]),
        (&json!(86400.0), &json!(900.0))
    );
    let scenario = &forecast["scenarios"][0];
    assert_eq!(scenario["amounts"]["requests"], json!(172_800.0));
    assert_eq!(scenario["cost_at_most"], json!({"amount": 51.84, "currency": "USD"}));
    assert_eq!(scenario["phases"][1]["name"], json!("high"));
    assert_eq!(scenario["buckets"].as_array().unwrap().len(), 96);
    assert_eq!(scenario["buckets"][95]["rate_max"], json!(3.0));
    assert_eq!(scenario["in_flight"]["at_most"], json!(8));
    assert_eq!(forecast["sum"]["peak_rate"], json!(3.0));

    endpoint.set_nonblocking(true).unwrap();
    assert_eq!(endpoint.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn the_json_contains_the_problems_of_one_file_and_the_forecast_of_another() {
    let (_folder, bad) = written("target: localhost\nrate: 5\n");
    let good = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("config/demo.yml");
    let (code, out, err) =
        llmload(&["check", "--json", &bad, good.to_str().unwrap(), "nowhere.yml"]);
    assert_eq!((code, err.as_str()), (Some(2), ""));
    let document: Value = serde_json::from_str(&out).unwrap();
    let [bad, good, nowhere] = document["files"].as_array().unwrap().as_slice() else {
        panic!("{out}")
    };
    assert_eq!(bad["forecast"], Value::Null);
    let rate = json!({
        "line": 2, "column": 7, "path": "rate",
        "message": "a rate needs a unit", "remedy": "write `5/s`, `5/m` or `5/h`",
    });
    assert_eq!((bad["problems"].as_array().unwrap().len(), &bad["problems"][1]), (2, &rate));
    assert!(good["forecast"]["series"].as_u64().unwrap() > 100);
    assert_eq!(nowhere["problems"][0]["message"], json!("there is no such file"));
}

#[test]
fn the_forecast_uses_the_token_counts_that_prompts_set() {
    let (folder, path) = written(
        "targets: {local: {base_url: 'http://localhost:1/v1'}}
prompts:
  questions: {jsonl: questions.jsonl}
  bodies: {payloads: bodies.jsonl}
  made: {synthetic: {input_tokens: 30, output_tokens: 5}}
  all: {mix: {questions: 2, bodies: 1, made: 1}}
scenarios:
  questions: {prompts: questions, rate: 1/h, request: {max_tokens: 100}}
  bodies: {prompts: bodies, rate: 1/h, request: {max_tokens: 100}}
  made: {prompts: made, rate: 1/h, request: {max_tokens: 100}}
  all: {prompts: all, rate: 1/h, request: {max_tokens: 100}}
",
    );
    let file = |name: &str, rows: &str| std::fs::write(folder.path().join(name), rows).unwrap();
    file("questions.jsonl", "{\"prompt\": \"Hi\", \"output_tokens\": 20}\n{\"prompt\": \"Hi\"}\n");
    file(
        "bodies.jsonl",
        "{\"prompt\": \"Hi\", \"max_completion_tokens\": 40}\n{\"prompt\": \"Hi\", \"max_tokens\": 200}\n",
    );
    let (code, document) = in_json(&path);
    assert_eq!(code, Some(0), "{document}");
    let scenarios = document["files"][0]["forecast"]["scenarios"].as_array().unwrap();
    let output = |index: usize| {
        scenarios[index]["amounts"]["output_tokens_at_most"].as_f64().unwrap() / 24.0
    };
    assert_eq!([0, 1, 2, 3].map(output), [60.0, 120.0, 5.0, (2.0 * 60.0 + 120.0 + 5.0) / 4.0]);
    assert_eq!(scenarios[2]["amounts"]["input_tokens_estimated"], json!(720.0));
}

#[test]
fn input_tokens_are_estimated_from_the_prompts_and_skipped_rows_are_reported() {
    let (folder, path) = written(
        "target: {base_url: 'http://localhost:1/v1', proxy: 'http://proxy.internal:3128'}
prompts: {talks: {sharegpt: talks.json}}
rate: 1/h
",
    );
    let talk = |question: String| {
        json!({"conversations": [
            {"from": "human", "value": question}, {"from": "gpt", "value": "So. ".repeat(500)},
        ]})
    };
    let talks: Vec<Value> =
        (0..5).map(|n| talk("Why?".repeat(if n == 0 { 0 } else { 25 }))).collect();
    std::fs::write(folder.path().join("talks.json"), json!(talks).to_string()).unwrap();
    let (code, document) = in_json(&path);
    assert_eq!(code, Some(0), "{document}");
    let file = &document["files"][0];
    let amounts = &file["forecast"]["scenarios"][0]["amounts"];
    assert_eq!(amounts["input_tokens_estimated"], json!(24.0 * 25.0));
    let warning = file["warnings"][0].as_str().unwrap();
    let expected = "1 of 5 rows have no question, so llmload skips them";
    assert!(warning.contains(expected), "{warning}");
    let (_, out, _) = llmload(&["check", &path]);
    let flat = out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        flat.contains(
            "default at http://localhost:1/v1 through the proxy http://proxy.internal:3128"
        ),
        "{out}"
    );
    assert!(flat.contains("about 25 tokens each"), "{out}");
}

/// Runs `check` with `text` on standard input, in a folder with a file of prompts.
fn check_input(args: &[&str], text: &str) -> (Option<i32>, String) {
    use std::io::Write as _;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("p.txt"), "Hi\n").unwrap();
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_llmload"))
        .arg("check")
        .args(args)
        .current_dir(folder.path())
        .env_remove("LLMLOAD_NOT_SET")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout) + &text(output.stderr))
}

#[test]
fn a_configuration_can_be_piped_into_check() {
    let text = "target: http://localhost:1/v1\nrate: 1/s\nprompts: {p: {lines: p.txt}}\n";
    for input in ["-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"] {
        let (code, out) = check_input(&[input], text);
        assert_eq!(code, Some(0), "{input}: {out}");
        assert!(out.starts_with(&format!("{input}: valid")), "{out}");
    }
    let (code, out) = check_input(&["-"], "target: http://localhost:1/v1\nrate: 1\n");
    assert_eq!(
        (code, out.as_str()),
        (Some(2), "-:2:7: rate: a rate needs a unit; write `1/s`, `1/m` or `1/h`\n")
    );
}

#[test]
fn without_secrets_a_ci_can_check_a_file() {
    let text = "target: {base_url: 'https://h/v1', api_key_env: LLMLOAD_NOT_SET}\nrate: 1/s\n";
    let (code, out) = check_input(&["-"], text);
    assert_eq!(code, Some(2), "{out}");
    let (code, out) = check_input(&["-", "--without-secrets"], text);
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("from the variable LLMLOAD_NOT_SET, as bearer token"), "{out}");
    let (code, out) =
        check_input(&["-", "--without-secrets"], &text.replace("1/s", "${LLMLOAD_NOT_SET}"));
    assert_eq!(code, Some(2), "{out}");
}

#[test]
fn cron_firings_are_instants_in_json() {
    let (_folder, path) = written(
        "target: http://localhost:1/v1
start: {cron: '0 3 * * *', timezone: Asia/Shanghai}
schedule: [{constant: 1/s, for: 10m}]
",
    );
    let (_, document) = in_json(&path);
    let forecast = &document["files"][0]["forecast"];
    let time = |at: &Value| seconds(at.as_str().unwrap());
    assert_eq!(time(&forecast["to"]) - time(&forecast["from"]), 86_400);
    let firings = forecast["scenarios"][0]["next_firings"].as_array().unwrap();
    assert_eq!(firings.len(), 3);
    // 03:00 in Shanghai is always 19:00 UTC.
    assert!(firings.iter().all(|at| at.as_str().unwrap().ends_with("T19:00:00Z")), "{firings:?}");
    assert!((time(&forecast["from"])..=time(&forecast["to"])).contains(&time(&firings[0])));
}

/// A shard is one of several daemons that divide one configuration.
#[test]
fn a_shard_is_checked_with_the_limits_and_the_load_of_this_shard() {
    let (_folder, bad) = written(
        "target: http://localhost:1/v1\nmax_concurrency: 2\nschedule: [{concurrency: 2, for: 1m}]\n",
    );
    assert_eq!(llmload(&["check", &bad]).0, Some(0));
    let (code, _, err) = llmload(&["check", "--shard", "0/3", &bad]);
    assert_eq!(code, Some(2));
    for words in [
        "scenarios.default.start: the shards would not begin at the same time; write",
        "the concurrency of phase `concurrency 2` is too low for 3 shards; write at least 3",
        "scenarios.default.max_concurrency: 2 is too low for 3 shards",
    ] {
        assert!(err.contains(words), "{words}\n{err}");
    }
    let (code, _, err) = llmload(&["check", "--shard", "3/3", &bad]);
    assert!(code == Some(2) && err.contains("3/3"), "{err}");

    let (_folder, good) = written(
        "target: http://localhost:1/v1\nstart: wall_clock\nmax_concurrency: 10\n\
         schedule: [{constant: 3/s, for: 1h}]\n",
    );
    let output = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_llmload"));
        let output =
            command.arg("check").args(arguments).envs(variables.iter().copied()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let by_option = output(&["--shard", "1/3", "--json", &good], &[]);
    let by_variable = output(&["--json", &good], &[("LLMLOAD_SHARD", "1/3")]);
    for text in [by_option, by_variable] {
        let document: Value = serde_json::from_str(&text).unwrap();
        let forecast = &document["files"][0]["forecast"];
        assert_eq!(forecast["shard"], json!("1/3"));
        assert_eq!(forecast["scenarios"][0]["amounts"]["requests"], json!(86_400.0));
        assert_eq!(forecast["scenarios"][0]["in_flight"]["max_concurrency"], json!(3));
    }
}

/// Returns seconds since the epoch.
fn seconds(text: &str) -> i64 {
    text.parse::<jiff::Timestamp>().unwrap().as_second()
}

#[test]
fn the_forecast_counts_all_series_of_a_scrape() {
    let yaml = "
targets:
  paid: {simulator: {}, model: m, prices: {input_per_million: 1, output_per_million: 1}}
  free: {simulator: {}}
scenarios:
  a: {target: paid, schedule: [{name: x, constant: 9/s, for: 100ms}, {repeat: 2, phases: [{name: y, pause: 100ms}]}]}
  b: {target: free, arrivals: poisson, repeat: 1, schedule: [{concurrency: [1, 2], for: 100ms}]}
  c: {targets: [free, paid], rate: 1/s}
";
    let (_folder, path) = written(yaml);
    let (_, document) = in_json(&path);
    let forecast = document["files"][0]["forecast"]["series"].as_u64().unwrap();
    let mut daemon = Daemon::start(yaml);
    let count = |text: &str| {
        text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).count() as u64
    };
    daemon.wait_for("/metrics", |text| {
        assert!(
            count(text) <= forecast,
            "{} series, but the forecast is {forecast}\n{text}",
            count(text)
        );
        (count(text) == forecast).then_some(())
    });
}
