//! The archive of failed requests: the facts in its records, and a disk that is full, read-only or
//! stuck. The archive never delays an arrival or the end of the process.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use llmload::archive::{Archive, ArchiveSettings, LossReason, RouteArchive, RouteFacts};
use llmload::event::{Arrival, Event, Evidence, Observe as _, RequestIds};
use llmload::measurement::{Failure, FailureDetail};
use llmload::plan::{FailureArchive, KeptPrompts};
use serde_json::Value;
use tokio::time::Instant;

use crate::binary::{Daemon, TEST_TIMEOUT, assert_balanced, pause, sample};
use crate::upstream::{Act, Upstream, chunk, good, head, plain, stream_head, token};

const ARCHIVED: &str = "llmload_failures_archived_total";
const NOT_ARCHIVED: &str = "llmload_failures_not_archived_total";
const FAILURES: &str = "llmload_request_failures_total";

fn records(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap();
    assert!(text.ends_with('\n'), "{text}");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Sends one request every 100 ms until the test ends.
fn endless(upstream: &Upstream, more: &str) -> String {
    format!(
        "target: {{base_url: '{}', model: m}}\nstart: now\nmax_lag: 1m\nrate: 10/s\n{more}\n",
        upstream.url()
    )
}

/// Waits until a metric has at least this value. Returns the complete scrape.
fn wait_for(daemon: &mut Daemon, name: &str, labels: &[&str], least: f64) -> String {
    daemon.wait_for("/metrics", |scrape| {
        (sample(scrape, name, labels) >= least).then(|| scrape.to_owned())
    })
}

async fn blocking(work: impl FnOnce() + Send + 'static) {
    tokio::task::spawn_blocking(work).await.unwrap();
}

/// Returns the failure of each of the first three requests.
fn fail(number: u64) -> Vec<Act> {
    match number {
        0 => vec![
            head(
                "503 Unavailable",
                &[
                    "content-type: text/plain",
                    "x-request-id: r-7",
                    "set-cookie: a=b",
                    "content-length: 4",
                ],
            ),
            Act::Write(b"full".to_vec()),
        ],
        1 => vec![stream_head(), chunk(&token("Hello")), Act::Close],
        2 => vec![Act::Reset],
        _ => good(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_has_the_facts_of_the_failed_request() {
    let sent = AtomicU64::new(0);
    let upstream = Upstream::start_with_head(move |_, request| {
        // llmload also requests the models and the version.
        if !request.starts_with("POST ") {
            return plain("404 Not Found", "text/plain", "");
        }
        fail(sent.fetch_add(1, Ordering::Relaxed))
    })
    .await;
    let yaml = format!(
        "targets: {{t: {{base_url: '{}', model: m, keep_alive: off}}}}\n\
         scenarios: {{s: {{target: t, start: now, repeat: 1, max_lag: 1m, max_concurrency: 1, prompts: [Say hello.],\n\
         \x20 schedule: [{{name: calm, pause: 10ms}}, {{name: peak, concurrency: 1, requests: 4}}]}}}}\n\
         failures: {{dir: kept/failures, prompts: full}}\n",
        upstream.url()
    );
    blocking(move || {
        let mut daemon = Daemon::start(&yaml);
        let scrape = wait_for(&mut daemon, ARCHIVED, &[], 3.0);
        assert_eq!(sample(&scrape, NOT_ARCHIVED, &[]), 0.0);
        let records = records(&daemon.folder.path().join("kept/failures/failures.jsonl"));
        let facts = |index: usize| {
            let record = &records[index];
            ["class", "blame", "status", "body", "body_bytes", "phase", "arrival"]
                .map(|name| record[name].to_string())
                .join(" ")
        };
        assert_eq!(facts(0), r#""overloaded" "target" 503 "full" 4 "peak" 0"#);
        assert_eq!(records[0]["message"], "HTTP 503: full");
        assert_eq!(records[0]["request_id"], "r-7");
        let lines = records[0]["head"].to_string();
        assert!(lines.contains("content-type: text/plain"), "{lines}");
        assert!(lines.contains("set-cookie: [redacted]"), "{lines}");
        let text = token("Hello");
        let body = Value::from(text.as_str()).to_string();
        assert_eq!(facts(1), format!(r#""truncated" "target" 200 {body} {} "peak" 1"#, text.len()));
        assert!(
            records[1]["first_token_seconds"].as_f64() < records[1]["duration_seconds"].as_f64()
        );
        assert!(records[1]["first_token_seconds"].is_number(), "{}", records[1]);
        assert_eq!(records[2]["status"], Value::Null, "{}", records[2]);
        for record in &records {
            assert_eq!(record["request"]["messages"][0]["content"], "Say hello.");
            assert_eq!(record["request_hash"], records[0]["request_hash"]);
            assert_eq!(record["trace_id"].as_str().unwrap().len(), 32);
            assert_eq!(record["scenario"], "s");
            let time = record["time"].as_str().unwrap();
            assert!(time.len() == 24 && time.ends_with('Z'), "{time}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_switches_the_archive_on_changes_it_and_switches_it_off() {
    let upstream = Upstream::start(|_| plain("500 Oops", "text/plain", "oops")).await;
    let yaml = move |more: &str| endless(&upstream, more);
    blocking(move || {
        let mut daemon = Daemon::start(&yaml(""));
        let folder = daemon.folder.path().to_owned();
        let reload = |daemon: &Daemon, more: &str| {
            fs::write(folder.join("llmload.yml"), yaml(more)).unwrap();
            let (status, _, body) =
                crate::binary::request(daemon.address, "POST", "/-/reload").unwrap();
            assert_eq!(status, 200, "{body}");
        };
        let scrape = wait_for(&mut daemon, FAILURES, &[], 3.0);
        assert_eq!(sample(&scrape, ARCHIVED, &[]), 0.0);
        reload(&daemon, "failures: {dir: first}");
        let failed_before = sample(&daemon.get("/metrics").2, FAILURES, &[]);
        wait_for(&mut daemon, ARCHIVED, &[], 3.0);
        assert_eq!(records(&folder.join("first/failures.jsonl"))[0]["request_hash"], Value::Null);
        reload(&daemon, "failures: {dir: second, prompts: hash}");
        let second = folder.join("second/failures.jsonl");
        let begun = Instant::now();
        while !second.exists() {
            assert!(begun.elapsed() < TEST_TIMEOUT);
            pause();
        }
        let scrape = daemon.get("/metrics").2;
        let more = sample(&scrape, ARCHIVED, &[]) + 3.0;
        wait_for(&mut daemon, ARCHIVED, &[], more);
        assert!(records(&second)[0]["request_hash"].is_string());
        reload(&daemon, "");
        let failed = sample(&daemon.get("/metrics").2, FAILURES, &[]);
        // If the archive were still on, it would now have more records than requests had failed
        // before the reload.
        let scrape = wait_for(&mut daemon, FAILURES, &[], failed + failed_before + 20.0);
        assert!(sample(&scrape, ARCHIVED, &[]) <= failed, "{scrape}");
        assert_eq!(sample(&scrape, NOT_ARCHIVED, &[]), 0.0, "{scrape}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_accepts_no_record_costs_counted_records_and_no_request() {
    let upstream = Upstream::start(|_| plain("500 Oops", "text/plain", "oops")).await;
    let full = endless(&upstream, "failures: {dir: full}");
    let blocked = endless(&upstream, "failures: {dir: blocked}");
    blocking(move || {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("full")).unwrap();
        std::os::unix::fs::symlink("/dev/full", folder.path().join("full/failures.jsonl")).unwrap();
        fs::write(folder.path().join("blocked"), "a file instead of a folder").unwrap();
        fs::write(folder.path().join("llmload.yml"), full).unwrap();
        let llmload = Command::new(env!("CARGO_BIN_EXE_llmload"));
        let mut daemon = Daemon::of(llmload, &[], folder);
        let disk = &["reason=\"disk\""];
        let scrape = wait_for(&mut daemon, NOT_ARCHIVED, disk, 5.0);
        assert_eq!(sample(&scrape, ARCHIVED, &[]), 0.0, "{scrape}");
        assert_balanced(&scrape);
        assert_eq!(sample(&scrape, "llmload_arrivals_dropped_total", &[]), 0.0, "{scrape}");
        daemon.wait_for_log("failed requests cannot be archived in");

        fs::write(daemon.folder.path().join("llmload.yml"), blocked).unwrap();
        crate::binary::request(daemon.address, "POST", "/-/reload").unwrap();
        let lost = sample(&daemon.get("/metrics").2, NOT_ARCHIVED, disk);
        wait_for(&mut daemon, NOT_ARCHIVED, disk, lost + 5.0);
        // When the folder can be created, the archive continues.
        fs::remove_file(daemon.folder.path().join("blocked")).unwrap();
        wait_for(&mut daemon, ARCHIVED, &[], 3.0);
        daemon.wait_for_log("failed requests are archived again");
        let log = daemon.log.lock().unwrap().clone();
        let lines = log.matches("cannot be archived").count();
        assert!(lines <= 3, "at most one line in a minute: {log}");
        assert!(!records(&daemon.folder.path().join("blocked/failures.jsonl")).is_empty());
    })
    .await;
}

/// A FIFO that nobody reads blocks its writer for ever, like a network disk that hangs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stuck_disk_delays_neither_the_load_nor_a_reload_nor_the_end() {
    let upstream = Upstream::start(|_| plain("500 Oops", "text/plain", "oops")).await;
    let yaml = endless(&upstream, "failures: {dir: stuck}").replace("10/s", "1000/s");
    blocking(move || {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("stuck")).unwrap();
        let fifo = folder.path().join("stuck/failures.jsonl");
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        fs::write(folder.path().join("llmload.yml"), &yaml).unwrap();
        let llmload = Command::new(env!("CARGO_BIN_EXE_llmload"));
        let mut daemon = Daemon::of(llmload, &[], folder);
        let scrape = wait_for(&mut daemon, NOT_ARCHIVED, &["reason=\"queue_full\""], 500.0);
        assert_eq!(sample(&scrape, ARCHIVED, &[]), 0.0);
        assert_balanced(&scrape);
        let late = sample(&scrape, "llmload_arrivals_dropped_total", &["reason=\"late\""]);
        assert_eq!(late, 0.0, "{scrape}");
        fs::write(daemon.folder.path().join("llmload.yml"), yaml.replace("1000/s", "20/s"))
            .unwrap();
        let (status, _, body) =
            crate::binary::request(daemon.address, "POST", "/-/reload").unwrap();
        assert_eq!(status, 200, "{body}");
        daemon.signal("TERM");
        let (status, log) = daemon.wait();
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(log.contains("the disk of the failure archive is too slow"), "{log}");
    })
    .await;
}

fn observe(archive: &RouteArchive, k: u64, failure: Failure, evidence: &Evidence) {
    let arrival = Arrival { k, due: Instant::now(), phase: None, lengths: None, turn: 0 };
    archive.observe(
        &arrival,
        Event::Failed {
            detail: &FailureDetail::new(failure, "no"),
            duration: Duration::from_millis(1),
            since_due: Duration::from_millis(2),
            ids: &RequestIds::default(),
            evidence,
        },
    );
}

fn route(archive: &Arc<Archive>) -> RouteArchive {
    let facts = RouteFacts {
        scenario: "s",
        target: "t",
        model: "m",
        path: "chat/completions",
        phases: Vec::new(),
    };
    RouteArchive::new(archive, facts, Arc::new(|text| text))
}

#[test]
fn a_hundred_thousand_failures_stay_within_the_size_and_push_out_no_rare_class() {
    const MAX_BYTES: u64 = 1 << 20;
    let folder = tempfile::tempdir().unwrap();
    let archive = Archive::new();
    archive.configure(Some(ArchiveSettings::rotating(&FailureArchive {
        dir: folder.path().to_owned(),
        max_bytes: MAX_BYTES,
        prompts: KeptPrompts::Full,
    })));
    let route = route(&archive);
    assert!(route.needs_evidence());
    let mut evidence = Evidence::new(true);
    evidence.add_request(&bytes::Bytes::from(format!("{{\"prompt\":\"{}\"}}", "x".repeat(900))));
    evidence.add_body(&[b'y'; 5000]);
    observe(&route, 0, Failure::BadFrame, &evidence);
    for k in 1..100_000 {
        // Five classes fail often, and their shares together are larger than the archive.
        let often =
            [Failure::RateLimited, Failure::Http5xx, Failure::Reset, Failure::Dns, Failure::Auth];
        observe(&route, k, often[usize::try_from(k % 5).unwrap()], &evidence);
        if k % 1000 == 0 {
            std::thread::yield_now();
        }
    }
    archive.close();
    let files: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    let size: u64 = files.iter().map(|file| file.metadata().unwrap().len()).sum();
    assert!(size <= MAX_BYTES, "{size}");
    let records: Vec<Value> = files.iter().flat_map(|file| records(file)).collect();
    assert!(records.iter().any(|record| record["class"] == "bad_frame"));
    let counts = archive.counts();
    let lost: u64 = counts.lost().map(|(_, count)| count).sum();
    assert_eq!(counts.archived() + lost, 100_000);
    assert!(counts.lost().all(|(reason, count)| reason != LossReason::Disk || count == 0));
    assert!(counts.archived() > 100, "{counts:?}");
}

#[test]
fn the_archive_of_a_run_has_a_limit_for_each_class_and_in_total() {
    let folder = tempfile::tempdir().unwrap();
    let archive = Archive::new();
    archive.configure(Some(ArchiveSettings::of_run(folder.path(), KeptPrompts::None)));
    let route = route(&archive);
    let (file, evidence) = (folder.path().join("failures.jsonl"), Evidence::new(true));
    let counts = Arc::clone(archive.counts());
    let handled = || counts.archived() + counts.lost().map(|(_, count)| count).sum::<u64>();
    for k in 0..3000 {
        // The test waits for the writer, so no record is lost because the queue is full.
        while k >= handled() + 500 {
            pause();
        }
        observe(&route, k, Failure::RateLimited, &evidence);
    }
    for k in 0..150 {
        observe(&route, k, Failure::Reset, &evidence);
    }
    archive.close();
    let of = |class: &str| records(&file).iter().filter(|record| record["class"] == class).count();
    assert_eq!((of("rate_limited"), of("reset")), (1100, 100));
    let lost: Vec<_> = counts.lost().collect();
    assert_eq!(lost[1], (LossReason::Share, 1900 + 50), "{lost:?}");
}
