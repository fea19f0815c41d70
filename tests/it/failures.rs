//! `llmload run --report` keeps its failed requests, and `llmload failures` lists them, shows one
//! and sends one again.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::upstream::{Act, Upstream, good, plain};

const SECRET: &str = "sk-canary-0123456789";

fn llmload(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_llmload"))
        .args(args)
        .current_dir(folder)
        .env("FAILURES_KEY", SECRET)
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    text
}

/// Fails every request until the flag is set. The errors quote the key.
async fn upstream(is_healthy: &Arc<AtomicBool>) -> Upstream {
    let is_healthy = Arc::clone(is_healthy);
    Upstream::start_with_head(move |number, request| -> Vec<Act> {
        if !request.starts_with("POST ") {
            return plain("404 Not Found", "text/plain", "");
        }
        match number % 4 {
            _ if is_healthy.load(Ordering::Relaxed) => good(),
            0 => plain("429 Too Many Requests", "text/plain", "slow down"),
            _ => plain("500 Oops", "text/plain", &format!("\x1b[31mno {SECRET}")),
        }
    })
    .await
}

fn configuration(upstream: &Upstream) -> String {
    format!(
        "target: {{base_url: '{}', model: m, api_key_env: FAILURES_KEY, extra_body: {{token: '{SECRET}'}}}}\n\
         prompts: [Say hello.]\nstart: now\nmax_lag: 1m\nrepeat: 1\n\
         schedule: [{{name: peak, concurrency: 1, requests: 12}}]\n",
        upstream.url()
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_failures_of_a_run_are_listed_shown_and_sent_again() {
    let is_healthy = Arc::new(AtomicBool::new(false));
    let upstream = upstream(&is_healthy).await;
    let yaml = configuration(&upstream);
    let work = move || {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        std::fs::write(path.join("llmload.yml"), yaml).unwrap();
        let ran = llmload(path, &["run", "--report", "out", "--archive-prompts", "full"]);
        assert!(path.join("out/failures.jsonl").exists(), "{ran:?}");
        let log = String::from_utf8_lossy(&ran.stderr);
        assert!(log.contains("junit.xml, failures.jsonl to out"), "{log}");
        let archive = std::fs::read_to_string(path.join("out/failures.jsonl")).unwrap();
        assert!(!archive.contains("canary") && archive.contains("[redacted]"), "{archive}");

        for name in ["report.md", "report.html"] {
            let report = std::fs::read_to_string(path.join("out").join(name)).unwrap();
            assert!(report.contains("all 12 failed requests"), "{name}: {report}");
        }
        let listed = stdout(&llmload(path, &["failures", "out/failures.jsonl"]));
        assert!(listed.contains("12 failures"), "{listed}");
        assert!(listed.contains("http_5xx") && listed.contains("rate_limited"), "{listed}");
        assert!(listed.contains("peak") && !listed.contains('\x1b'), "{listed}");
        let only = stdout(&llmload(path, &["failures", "out", "--class", "rate_limited"]));
        assert!(!only.contains("http_5xx") && only.contains("rate_limited"), "{only}");
        let document = llmload(path, &["failures", "out", "--json"]);
        let document: Value = serde_json::from_slice(&document.stdout).unwrap();
        assert_eq!(document["failures"].as_array().unwrap().len(), 12);
        assert_eq!(document["unreadable_lines"], 0);

        let failures = document["failures"].as_array().unwrap();
        let failed = failures.iter().find(|failure| failure["class"] == "http_5xx").unwrap();
        let number = failed["number"].to_string();
        let shown = stdout(&llmload(path, &["failures", "out", "--show", &number]));
        for part in ["http_5xx (blame: target)", "Say hello.", "no [redacted]", "content-type"] {
            assert!(shown.contains(part), "{part}: {shown}");
        }

        // The endpoint still fails, and then it works.
        let resend = ["failures", "out", "--resend", &number];
        let mut again = llmload(path, &resend);
        while stdout(&again).contains("429") {
            again = llmload(path, &resend);
        }
        assert_eq!(again.status.code(), Some(1), "{again:?}");
        assert!(stdout(&again).contains("failed again, with the same class"), "{again:?}");
        assert!(!String::from_utf8_lossy(&again.stdout).contains("canary"));
        is_healthy.store(true, Ordering::Relaxed);
        let again = llmload(path, &resend);
        assert_eq!(again.status.code(), Some(0), "{again:?}");
        assert!(stdout(&again).contains("The request succeeded."), "{again:?}");
        assert!(stdout(&again).contains("3 input, 2 output"), "{again:?}");
    };
    tokio::task::spawn_blocking(work).await.unwrap();
}

/// A server that keeps the body of the last POST request.
async fn recorder() -> (String, Arc<Mutex<String>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let body = Arc::new(Mutex::new(String::new()));
    let last = Arc::clone(&body);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                request.extend_from_slice(&buffer[..count]);
                let text = String::from_utf8_lossy(&request).into_owned();
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                let length = head.to_ascii_lowercase();
                let length = length.split("content-length: ").nth(1).unwrap_or("0");
                let length: usize = length.lines().next().unwrap().parse().unwrap();
                if body.len() >= length {
                    // llmload also requests the models and the version.
                    if head.starts_with("POST ") {
                        body.clone_into(&mut last.lock().unwrap());
                    }
                    break;
                }
            }
            let response = "HTTP/1.1 503 No\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
            let _gone = stream.write_all(response.as_bytes()).await;
        }
    });
    (url, body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_sent_again_as_it_was_with_the_secrets_of_the_configuration() {
    let (url, body) = recorder().await;
    let work = move || {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let yaml = format!(
            "target: {{base_url: '{url}', model: m, extra_body: {{token: '{SECRET}'}}}}\n\
             prompts: [Say hello.]\nrequest: {{max_tokens: 7}}\nstart: now\nmax_lag: 1m\nrepeat: 1\n\
             schedule: [{{concurrency: 1, requests: 1}}]\n"
        );
        std::fs::write(path.join("llmload.yml"), yaml).unwrap();
        llmload(path, &["run", "--report", "out", "--archive-prompts", "full"]);
        let sent: Value = serde_json::from_str(&body.lock().unwrap()).unwrap();
        assert_eq!((&sent["token"], &sent["max_tokens"]), (&SECRET.into(), &7.into()));
        body.lock().unwrap().clear();
        llmload(path, &["failures", "out", "--resend", "1"]);
        let again: Value = serde_json::from_str(&body.lock().unwrap()).unwrap();
        assert_eq!(again, sent);
        // A URL has no secrets, and the output says so.
        let by_url = llmload(path, &["failures", "out", &url, "--resend", "1"]);
        assert!(stdout(&by_url).contains("the archive has masked"), "{by_url:?}");
        let again: Value = serde_json::from_str(&body.lock().unwrap()).unwrap();
        assert_eq!(again["token"], "[redacted]");
        assert_eq!(again["messages"], sent["messages"]);
    };
    tokio::task::spawn_blocking(work).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_report_or_a_failure_there_is_no_archive_and_without_prompts_no_resend() {
    let is_healthy = Arc::new(AtomicBool::new(false));
    let upstream = upstream(&is_healthy).await;
    let yaml = configuration(&upstream) + "failures: {dir: unused}\n";
    let work = move || {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        std::fs::write(path.join("llmload.yml"), yaml).unwrap();
        llmload(path, &["run"]);
        assert!(!path.join("unused").exists(), "a run ignores `failures`");
        llmload(path, &["run", "--report", "out"]);
        let archive = std::fs::read_to_string(path.join("out/failures.jsonl")).unwrap();
        assert!(!archive.contains("Say hello."), "{archive}");
        let refused = llmload(path, &["failures", "out", "--resend", "1"]);
        let error = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(1));
        assert!(error.contains("--archive-prompts full"), "{error}");
        is_healthy.store(true, Ordering::Relaxed);
        llmload(path, &["run", "--report", "out"]);
        assert!(!path.join("out/failures.jsonl").exists(), "the file of the previous run is gone");
        let missing = llmload(path, &["failures", "out"]);
        assert_eq!(missing.status.code(), Some(2));
        let error = String::from_utf8(missing.stderr).unwrap();
        assert!(error.contains("Without a failed request"), "{error}");
    };
    tokio::task::spawn_blocking(work).await.unwrap();
}

#[test]
fn foreign_and_cut_lines_are_counted_and_a_wrong_number_names_the_range() {
    let folder = tempfile::tempdir().unwrap();
    let record = r#"{"time":"2026-11-27T15:00:00.000Z","scenario":"s","target":"t","model":"m","arrival":1,"class":"dns","blame":"network","message":"x","lag_seconds":0,"duration_seconds":1,"path":"p"}"#;
    let text = format!("{record}\nforeign\n{}\n\u{0}\n{record}\n{}", &record[..50], &record[..9]);
    std::fs::write(folder.path().join("f.jsonl"), text).unwrap();
    let listed = stdout(&llmload(folder.path(), &["failures", "f.jsonl"]));
    assert!(listed.contains("2 failures on 2026-11-27 (UTC): 2 dns"), "{listed}");
    assert!(listed.contains("4 lines are no records"), "{listed}");
    for (args, expected) in [
        (&["failures", "f.jsonl", "--show", "3"][..], "use 1 to 2"),
        (&["failures", "f.jsonl", "--class", "dsn"], "use one of dns,"),
        (&["failures", "missing.jsonl"], "pass a failures.jsonl"),
        (&["failures", "f.jsonl", "http://127.0.0.1:1/v1"], "--resend"),
    ] {
        let output = llmload(folder.path(), args);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

/// Every field of a record has a row in the documentation.
#[test]
fn the_documentation_explains_each_field_of_a_record() {
    let page = include_str!("../../docs/failures.md");
    let source = include_str!("../../src/archive/record.rs");
    let body = source.split("pub struct FailureRecord {").nth(1).unwrap();
    let fields = body.split("\n}").next().unwrap().lines();
    let fields = fields.filter_map(|line| line.trim().strip_prefix("pub ")?.split(':').next());
    let fields: Vec<_> = fields.collect();
    assert!(fields.len() > 20, "{fields:?}");
    for field in fields {
        assert!(page.contains(&format!("\n| `{field}` |")), "{field}");
    }
}
