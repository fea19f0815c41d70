//! Tests of the start, the drain and the end of a daemon.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::binary::{Daemon, TEST_TIMEOUT, assert_balanced, pause, request, sample};
use crate::upstream::{
    Act, DONE, FINISH, Upstream, chunk, good, last_chunk, plain, stream_head, token,
};

const MIXED: &str = "
seed: 3
targets:
  sim:
    simulator:
      slots: 8
      prefill_tokens_per_second: 20000
      decode_tokens_per_second: 400
      faults: {http_429: 10%, http_500: 10%, reset: 10%, stall: 5%, stream_error: 10%, truncation: 10%}
    timeouts: {first_token: 2s, idle: 1s, total: 5s}
scenarios:
  open:
    target: sim
    request: {max_tokens: 32}
    max_concurrency: 20
    repeat: 1
    schedule:
      - {ramp: {from: 0/s, to: 60/s}, for: 3s}
      - {constant: 60/s, for: 2s}
  closed:
    target: sim
    request: {max_tokens: 32}
    repeat: 1
    schedule:
      - {concurrency: 5, for: 4s}
";

#[test]
fn under_every_fault_the_ledger_balances_at_every_scrape_and_after_the_drain() {
    let mut daemon = Daemon::start(MIXED);
    let address = daemon.address;
    let drained = daemon.wait_for("/api/v1/status", |status| {
        let (code, _, exposition) = request(address, "GET", "/metrics").unwrap();
        assert_eq!(code, 200);
        assert_balanced(&exposition);
        let status: serde_json::Value = serde_json::from_str(status).unwrap();
        let has_ended = status["scenarios"].as_array().unwrap().iter().all(|s| {
            assert_eq!(s["ledger"]["balanced"], true);
            s["state"] == "ended" && s["ledger"]["in_flight"] == 0
        });
        has_ended.then_some(exposition)
    });
    let exposition = request(address, "GET", "/metrics").unwrap().2;
    assert_balanced(&exposition);
    assert_eq!(sample(&exposition, "llmload_requests_in_flight", &[]), 0.0);
    // A ramp to 60/s in 3 s has 90 arrivals, and 2 s at 60/s have 120.
    assert_eq!(sample(&exposition, "llmload_arrivals_total", &["scenario=\"open\""]), 210.0);
    let finished = sample(&exposition, "llmload_requests_total", &[]);
    let failed = sample(&exposition, "llmload_request_failures_total", &[]);
    let succeeded = sample(&exposition, "llmload_request_duration_seconds_count", &[]);
    assert_eq!(finished, failed + succeeded);
    for reason in ["rate_limited", "http_5xx", "reset", "timeout_idle", "stream_error", "truncated"]
    {
        let label = format!("reason=\"{reason}\"");
        assert!(
            sample(&exposition, "llmload_request_failures_total", &[&label]) > 0.0,
            "{reason}\n{drained}"
        );
    }
    // The daemon continues after its schedule has ended.
    assert_eq!(daemon.get("/-/ready").0, 200);
    assert_eq!(sample(&exposition, "llmload_schedule_target_requests_per_second", &[]), 0.0);
}

const SLOW: &str = "
targets:
  sim: {simulator: {decode_tokens_per_second: 5, full_load_speed: 1, slots: 64}}
scenarios:
  s: {target: sim, rate: 20/s, request: {max_tokens: 20}}
";

#[test]
fn a_second_signal_aborts_requests_in_flight_and_the_exit_code_is_0() {
    let mut daemon = Daemon::start(SLOW);
    daemon.wait_for("/metrics", |text| {
        (sample(text, "llmload_requests_in_flight", &[]) > 5.0).then_some(())
    });
    daemon.signal("TERM");
    daemon.wait_for("/-/ready", |text| text.contains("shutting down").then_some(()));
    let before = daemon.get("/metrics").2;
    assert_balanced(&before);
    assert!(sample(&before, "llmload_requests_in_flight", &[]) > 0.0);
    let after = daemon.get("/metrics").2;
    let arrivals = |text: &str| sample(text, "llmload_arrivals_total", &[]);
    assert_eq!(arrivals(&before), arrivals(&after));
    assert_eq!(daemon.get("/-/healthy").0, 200);
    daemon.signal("TERM");
    let (status, log) = daemon.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("stopped"), "{log}");
}

/// The target never responds. The daemon drains for 20 s.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_ends_with_the_grace_period_and_can_be_scraped_until_then() {
    let upstream = Upstream::start(|_| vec![Act::Silence]).await;
    let yaml = format!(
        "targets: {{t: {{base_url: '{}', model: m}}}}
scenarios: {{s: {{target: t, start: now, rate: 20/s, max_concurrency: 10}}}}
",
        upstream.url()
    );
    tokio::task::spawn_blocking(move || {
        let mut daemon = Daemon::start(&yaml);
        let in_flight = |text: &str| sample(text, "llmload_requests_in_flight", &[]);
        daemon.wait_for("/metrics", |text| (in_flight(text) == 10.0).then_some(()));
        daemon.signal("TERM");
        let (address, begun) = (daemon.address, Instant::now());
        while request(address, "GET", "/-/ready").is_ok_and(|(status, ..)| status == 200) {
            assert!(begun.elapsed() < TEST_TIMEOUT);
            pause();
        }
        let (mut scrapes, mut arrivals) = (0, None);
        while let Ok((200, _, text)) = request(address, "GET", "/metrics") {
            assert_balanced(&text);
            let all = sample(&text, "llmload_arrivals_total", &[]);
            assert_eq!(*arrivals.get_or_insert(all), all, "llmload sends during the drain");
            scrapes += 1;
            assert!(begun.elapsed() < TEST_TIMEOUT);
            pause();
        }
        let (status, log) = daemon.wait();
        assert!(scrapes > 10, "{scrapes} scrapes\n{log}");
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(log.contains("aborted=10"), "{log}");
        assert!(begun.elapsed().as_secs() >= 15, "the drain took only {:?}", begun.elapsed());
    })
    .await
    .unwrap();
}

#[test]
fn a_request_that_ends_in_the_grace_period_is_not_aborted() {
    let mut daemon = Daemon::start(
        "targets: {sim: {simulator: {}}}\nscenarios: {s: {target: sim, rate: 50/s, request: {max_tokens: 8}}}\n",
    );
    daemon.wait_for("/metrics", |text| {
        (sample(text, "llmload_requests_total", &[]) > 5.0).then_some(())
    });
    daemon.signal("INT");
    let (status, log) = daemon.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("aborted=0"), "{log}");
}

#[test]
fn the_schedule_does_not_start_while_its_target_is_absent() {
    let mut daemon = Daemon::start("target: http://127.0.0.1:1/v1\nrate: 100/s\n");
    let waiting = daemon.wait_for("/api/v1/status", |status| {
        let status: serde_json::Value = serde_json::from_str(status).unwrap();
        let scenario = status["scenarios"][0].clone();
        scenario["waiting_for"].as_str()?.contains("connect_refused").then_some(scenario)
    });
    assert_eq!(waiting["state"], "waiting");
    assert_eq!(waiting["ledger"]["arrivals"], 0);
    assert_eq!(daemon.get("/-/ready").0, 200);
    assert_eq!(sample(&daemon.get("/metrics").2, "llmload_target_ready", &[]), 0.0);
}

/// A 404 needs a change by a person, so it causes a warning with a remedy. A server that does not
/// respond yet causes no warning.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lasting_problem_of_a_target_is_logged_once_as_a_warning() {
    let upstream = Upstream::start(|_| plain("404 Not Found", "text/plain", "")).await;
    let yaml = format!("target: http://{}\nrate: 100/s\n", upstream.address);
    tokio::task::spawn_blocking(move || {
        let mut daemon = Daemon::start(&yaml);
        daemon.wait_for_log("waiting for a model");
        // After three requests, llmload has met the 404 more than once.
        daemon.wait_for("/metrics", |_| {
            (upstream.requests.load(std::sync::atomic::Ordering::Relaxed) >= 3).then_some(())
        });
        let log = daemon.log.lock().unwrap().clone();
        let lines: Vec<_> = log.lines().filter(|line| line.contains("waiting for")).collect();
        assert_eq!(lines.len(), 1, "{log}");
        assert!(lines[0].contains("WARN") && lines[0].contains("/v1 if `/v1` is missing"), "{log}");
    })
    .await
    .unwrap();
}

/// The server lists its model once. Then it fails, so the second cycle waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_readiness_check_between_cycles_is_logged_once_for_each_reason() {
    let checks = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&checks);
    let upstream = Upstream::start_with_head(move |_, head| {
        let is_check = head.starts_with("GET /v1/models ");
        if is_check && counted.fetch_add(1, Ordering::Relaxed) == 0 {
            return plain("200 OK", "application/json", r#"{"data":[{"id":"m"}]}"#);
        }
        plain("503 Service Unavailable", "text/plain", "")
    })
    .await;
    let yaml = format!(
        "target: {}\nschedule: [{{constant: 50/s, for: 200ms}}, {{constant: 20/s, for: 100ms}}]\nmax_lag: 1m\n",
        upstream.url()
    );
    tokio::task::spawn_blocking(move || {
        let mut daemon = Daemon::start(&yaml);
        daemon.wait_for_log("the readiness check fails: status 503; the next cycle begins when");
        let before = checks.load(Ordering::Relaxed);
        daemon
            .wait_for("/metrics", |_| (checks.load(Ordering::Relaxed) >= before + 3).then_some(()));
        let log = daemon.log.lock().unwrap().clone();
        assert_eq!(log.matches("the readiness check fails").count(), 1, "{log}");
    })
    .await
    .unwrap();
}

/// The target holds every response until 1,000 responses are open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_streams_at_once_leave_no_open_file_and_no_thread_behind() {
    rlimit::increase_nofile_limit(u64::MAX).unwrap();
    let gate = CancellationToken::new();
    let held = gate.clone();
    let upstream = Upstream::start(move |_| {
        let mut acts = vec![stream_head(), chunk(&token("a")), Act::WaitFor(held.clone())];
        acts.extend([chunk(FINISH), chunk(DONE), last_chunk()]);
        acts
    })
    .await;
    let yaml = format!(
        "targets: {{t: {{base_url: '{}', model: m}}}}
scenarios:
  s:
    target: t
    start: now
    repeat: 1
    max_concurrency: 1000
    schedule: [{{pause: 1s}}, {{concurrency: 1000, for: 1s}}]
",
        upstream.url()
    );
    let failures = tokio::task::spawn_blocking(move || {
        let mut daemon = Daemon::start(&yaml);
        let before = daemon.open_files();
        let chunks = |text: &str| sample(text, "llmload_output_chunks_total", &[]);
        daemon.wait_for("/metrics", |text| (chunks(text) == 1000.0).then_some(()));
        daemon.wait_for("/api/v1/status", |text| text.contains("\"ended\"").then_some(()));
        assert!(daemon.open_files() >= 1000, "each stream has a connection");
        let threads = daemon.threads();
        gate.cancel();
        let finished = |text: &str| sample(text, "llmload_requests_total", &[]);
        daemon.wait_for("/metrics", |text| (finished(text) == 1000.0).then_some(()));
        // Idle connections close after four seconds.
        let begun = Instant::now();
        while daemon.open_files() > before + 4 {
            assert!(
                begun.elapsed() < TEST_TIMEOUT,
                "{} files are open, but only {before} were open before the load",
                daemon.open_files()
            );
            pause();
        }
        assert!(daemon.threads() <= threads);
        let text = daemon.get("/metrics").2;
        assert_balanced(&text);
        assert_eq!(sample(&text, "llmload_requests_in_flight", &[]), 0.0);
        sample(&text, "llmload_request_failures_total", &[])
    });
    assert_eq!(failures.await.unwrap(), 0.0);
}

/// Sends 300 streams at a time, and compares the memory after 1,000 and 6,000 requests.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_does_not_grow_with_the_number_of_requests() {
    let upstream = Upstream::start(|_| good()).await;
    let yaml = format!(
        "targets: {{t: {{base_url: '{}', model: m}}}}
scenarios:
  s:
    target: t
    start: now
    max_concurrency: 300
    schedule: [{{concurrency: 300, for: 1s}}]
",
        upstream.url()
    );
    let growth = tokio::task::spawn_blocking(move || {
        let mut daemon = Daemon::start(&yaml);
        let mut resident_after = |requests: f64| {
            daemon.wait_for("/metrics", |text| {
                let enough = sample(text, "llmload_requests_total", &[]) >= requests;
                enough.then(|| sample(text, "process_resident_memory_bytes", &[]))
            })
        };
        let (first, last) = (resident_after(1000.0), resident_after(6000.0));
        last - first
    });
    // Records of 5,000 requests would need more than a megabyte, but the memory of an allocator
    // also varies by more than that.
    let growth = growth.await.unwrap();
    assert!(growth < f64::from(12 << 20), "{growth} bytes");
}
