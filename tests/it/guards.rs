//! Rate limits and breakers of a daemon, over real sockets.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use crate::binary::{Daemon, assert_balanced, llmload, request, sample};
use crate::upstream::{Act, Upstream, good, head, plain};

/// A server that responds with a failure while `is_sick` is set. It records when requests arrive.
struct Server {
    upstream: Upstream,
    is_sick: Arc<AtomicBool>,
    arrived: Arc<Mutex<Vec<Instant>>>,
}

impl Server {
    async fn start(sick: Vec<Act>) -> Server {
        let (is_sick, arrived) = (Arc::new(AtomicBool::new(true)), Arc::default());
        let (sees_sick, sees_arrived) = (Arc::clone(&is_sick), Arc::clone(&arrived));
        let script = move |_, head: &str| {
            // llmload also asks for the version of the server.
            if !head.starts_with("POST") {
                return plain("404 Not Found", "text/plain", "");
            }
            let arrived: &Mutex<Vec<Instant>> = &sees_arrived;
            arrived.lock().unwrap().push(Instant::now());
            if sees_sick.load(Ordering::Relaxed) { sick.clone() } else { good() }
        };
        Server { upstream: Upstream::start_with_head(script).await, is_sick, arrived }
    }

    async fn rejecting_keys() -> Server {
        Server::start(plain("401 Unauthorized", "application/json", "{}")).await
    }

    /// The times between successive requests.
    fn gaps(&self) -> Vec<Duration> {
        let arrived = self.arrived.lock().unwrap();
        arrived.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    #[allow(clippy::cast_precision_loss)]
    fn count(&self) -> f64 {
        self.arrived.lock().unwrap().len() as f64
    }
}

fn count(exposition: &str, name: &str) -> f64 {
    sample(exposition, name, &["scenario=\"s\""])
}

fn dropped(exposition: &str, reason: &str) -> f64 {
    let reason = format!("reason=\"{reason}\"");
    sample(exposition, "llmload_arrivals_dropped_total", &["scenario=\"s\"", &reason])
}

/// Waits until the daemon has dropped this number of arrivals for this reason. Returns the scrape.
fn wait_for_drops(daemon: &mut Daemon, reason: &str, at_least: f64) -> String {
    let exposition = daemon
        .wait_for("/metrics", |text| (dropped(text, reason) >= at_least).then(|| text.to_owned()));
    assert_balanced(&exposition);
    exposition
}

fn reload(daemon: &Daemon, yaml: &str) {
    std::fs::write(daemon.folder.path().join("llmload.yml"), yaml).unwrap();
    assert_eq!(request(daemon.address, "POST", "/-/reload").unwrap().0, 200);
}

/// Runs a test with blocking calls beside a server in this runtime.
async fn blocking<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(test).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_breaker_sends_single_probes_after_doubling_pauses_and_closes_after_a_success() {
    let server = Server::rejecting_keys().await;
    let yaml = format!(
        "targets: {{t: {{base_url: '{}', model: m}}}}
scenarios:
  s: {{start: now, rate: 50/s, max_concurrency: 1, max_lag: 1h, breaker: {{pause: 200ms, max_pause: 800ms}}}}",
        server.upstream.url()
    );
    let is_sick = Arc::clone(&server.is_sick);
    let arrived = Arc::clone(&server.arrived);
    let log = blocking(move || {
        let mut daemon = Daemon::start(&yaml);
        // The first request opens the breaker, and the next five are probes.
        daemon.wait_for("/metrics", |text| {
            (arrived.lock().unwrap().len() >= 6).then(|| assert_balanced(text))
        });
        let exposition = daemon.get("/metrics").2;
        assert_eq!(count(&exposition, "llmload_breaker_open"), 1.0);
        assert!(dropped(&exposition, "breaker") > 0.0);
        is_sick.store(false, Ordering::Relaxed);
        let healthy = daemon.wait_for("/metrics", |text| {
            let has_traffic = count(text, "llmload_requests_started_total") > 30.0;
            has_traffic.then(|| text.to_owned())
        });
        assert_eq!(count(&healthy, "llmload_breaker_open"), 0.0);
        assert_balanced(&healthy);
        daemon.signal("TERM");
        daemon.wait().1
    })
    .await;
    let lines = |text: &str| log.lines().filter(|line| line.contains(text)).count();
    assert_eq!((lines("breaker open:"), lines("breaker closed")), (1, 1), "{log}");
    // Each pause begins after the end of a request, so a gap is never shorter than its pause.
    for (gap, pause) in server.gaps().into_iter().zip([200, 400, 800, 800, 800]) {
        assert!(gap >= Duration::from_millis(pause), "{gap:?} {pause}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_target_has_a_separate_breaker() {
    let healthy = Server::start(good()).await;
    let sick = Server::start(plain("500 Oops", "text/plain", "sick")).await;
    let yaml = format!(
        "targets: {{h: {{base_url: '{}', model: m}}, i: {{base_url: '{}', model: m}}}}
scenarios:
  s: {{targets: [h, i], start: now, rate: 50/s, max_lag: 1h, breaker: {{at_least: 10, pause: 1h, max_pause: 1h}}}}",
        healthy.upstream.url(),
        sick.upstream.url()
    );
    let exposition = blocking(move || {
        let mut daemon = Daemon::start(&yaml);
        daemon.wait_for("/metrics", |text| {
            let dropped = &["target=\"i\"", "reason=\"breaker\""];
            let is_open = sample(text, "llmload_arrivals_dropped_total", dropped) >= 20.0;
            let sent = sample(text, "llmload_requests_total", &["target=\"h\""]);
            (is_open && sent >= 40.0).then(|| text.to_owned())
        })
    })
    .await;
    assert_balanced(&exposition);
    let value = |name, target| sample(&exposition, name, &[target]);
    let open = ["target=\"h\"", "target=\"i\""].map(|target| value("llmload_breaker_open", target));
    assert_eq!(open, [0.0, 1.0]);
    let healthy = &["target=\"h\"", "reason=\"breaker\""];
    assert_eq!(sample(&exposition, "llmload_arrivals_dropped_total", healthy), 0.0);
    assert!(value("llmload_requests_total", "target=\"i\"") >= 10.0, "enough to judge");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_breaker_keeps_its_state_over_a_reload_until_it_changes() {
    let server = Server::rejecting_keys().await;
    let url = server.upstream.url();
    let arrived = Arc::clone(&server.arrived);
    let yaml = move |max_lag: &str, pause: &str| {
        format!(
            "targets: {{t: {{base_url: '{url}', model: m}}}}
scenarios:
  s: {{start: now, rate: 50/s, max_concurrency: 1, max_lag: {max_lag}, breaker: {{pause: {pause}, max_pause: 2h}}}}"
        )
    };
    blocking(move || {
        let mut daemon = Daemon::start(&yaml("1h", "1h"));
        let before = dropped(&wait_for_drops(&mut daemon, "breaker", 1.0), "breaker");
        assert_eq!(arrived.lock().unwrap().len(), 1);
        reload(&daemon, &yaml("59m", "1h"));
        wait_for_drops(&mut daemon, "breaker", before + 20.0);
        assert_eq!(arrived.lock().unwrap().len(), 1, "the breaker is still open");
        reload(&daemon, &yaml("59m", "2h"));
        daemon.wait_for("/metrics", |text| {
            (count(text, "llmload_requests_total") >= 2.0).then(|| assert_balanced(text))
        });
        assert_eq!(arrived.lock().unwrap().len(), 2, "another breaker is closed first");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_slots_of_a_closed_loop_rest_for_a_second_while_the_breaker_is_open() {
    let server = Server::rejecting_keys().await;
    let yaml = format!(
        "targets: {{t: {{base_url: '{}', model: m}}}}
scenarios: {{s: {{start: now, concurrency: 3, breaker: {{pause: 1h, max_pause: 1h}}}}}}",
        server.upstream.url()
    );
    let begun = Instant::now();
    let (exposition, elapsed) = blocking(move || {
        let mut daemon = Daemon::start(&yaml);
        let exposition = wait_for_drops(&mut daemon, "breaker", 6.0);
        (exposition, begun.elapsed())
    })
    .await;
    // Each slot has one attempt at once, and then at most one per second.
    let most = 3.0 * (elapsed.as_secs_f64() + 1.0);
    assert!(count(&exposition, "llmload_arrivals_total") <= most, "{elapsed:?} {exposition}");
    assert!(server.count() <= 3.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_phase_with_several_levels_ignores_the_breaker() {
    let server = Server::rejecting_keys().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("llmload.yml");
    let yaml = format!(
        "targets: {{t: {{base_url: '{}', model: m}}}}
scenarios:
  s:
    start: now
    breaker: {{pause: 1h, max_pause: 1h}}
    max_lag: 1h
    schedule:
      - {{steps: {{from: 20/s, to: 40/s, by: 20/s}}, for: 500ms}}
      - {{concurrency: [1, 2], for: 2s}}
      - {{constant: 20/s, for: 1s}}",
        server.upstream.url()
    );
    std::fs::write(&file, yaml).unwrap();
    let report = folder.path().join("report");
    let paths = [file.to_str().unwrap().to_owned(), report.to_str().unwrap().to_owned()];
    blocking(move || {
        let [file, report] = &paths;
        llmload(&["run", "--config.file", file, "--report", report]);
    })
    .await;
    let report = std::fs::read_to_string(report.join("report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let phases = report["routes"][0]["phases"].as_array().unwrap();
    let failed = |phase: &serde_json::Value| phase["statistics"]["failed"].as_u64().unwrap();
    let dropped = report["routes"][0]["ledger"]["dropped"]["breaker"].as_u64().unwrap();
    let levels: Vec<u64> = phases[..4].iter().map(failed).collect();
    assert_eq!((levels[0], levels[1]), (10, 20), "every arrival of the steps was sent");
    assert!(levels[2] >= 1 && levels[3] >= 1, "{levels:?}");
    assert_eq!(failed(&phases[4]) + dropped, 20, "the breaker applies to the last phase only");
    assert!(dropped > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_scenarios_of_a_target_share_its_rate_limits() {
    let server = Server::start(good()).await;
    let yaml = format!(
        "targets: {{t: {{base_url: '{}', model: m, rate_limits: {{requests_per_minute: 600}}}}}}
scenarios:
  s: {{start: now, rate: 30/s, max_lag: 1h}}
  other: {{start: now, rate: 30/s, max_lag: 1h}}",
        server.upstream.url()
    );
    let begun = Instant::now();
    let exposition = blocking(move || {
        let mut daemon = Daemon::start(&yaml);
        daemon.wait_for("/metrics", |text| {
            let sent = sample(text, "llmload_requests_started_total", &[]);
            (dropped(text, "rate_limit") >= 40.0 && sent >= 15.0).then(|| text.to_owned())
        })
    })
    .await;
    assert_balanced(&exposition);
    // The burst has the requests of a second.
    let most = 10.0 * (begun.elapsed().as_secs_f64() + 1.0);
    let sent = server.count();
    assert!(sent <= most, "{sent} {most}");
    let other = &["scenario=\"other\"", "reason=\"rate_limit\""];
    assert!(sample(&exposition, "llmload_arrivals_dropped_total", other) > 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rate_limits_count_warm_up_requests_and_keep_their_state_over_a_reload() {
    let server = Server::start(good()).await;
    let (url, arrived) = (server.upstream.url(), Arc::clone(&server.arrived));
    let yaml = move |max_lag: &str, tokens: u32| {
        format!(
            "targets: {{t: {{base_url: '{url}', model: m, rate_limits: {{tokens_per_minute: {tokens}}}}}}}
scenarios:
  s:
    {{start: now, warmup: 2, rate: 50/s, max_lag: {max_lag}, prompts: ['12345678'], request: {{max_tokens: 18}}}}"
        )
    };
    blocking(move || {
        // A request needs 20 tokens. After a request, the bucket needs more than 19 s for another.
        let mut daemon = Daemon::start(&yaml("1h", 60));
        let before = dropped(&wait_for_drops(&mut daemon, "rate_limit", 1.0), "rate_limit");
        let begun = Instant::now();
        let sent = arrived.lock().unwrap().len();
        assert!(sent >= 3, "two warm-up requests and one arrival: {sent}");
        reload(&daemon, &yaml("59m", 60));
        wait_for_drops(&mut daemon, "rate_limit", before + 20.0);
        if begun.elapsed() < Duration::from_secs(15) {
            let sent_after = arrived.lock().unwrap().len();
            assert!(sent_after <= sent + 1, "a new bucket would have three: {sent_after} {sent}");
        }
        reload(&daemon, &yaml("59m", 600));
        daemon.wait_for("/metrics", |text| {
            (count(text, "llmload_requests_total") >= 25.0).then(|| assert_balanced(text))
        });
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn llmload_obeys_retry_after_only_if_the_target_says_so() {
    let limited = || {
        let lines = ["content-length: 2", "content-type: application/json", "retry-after: 3600"];
        vec![head("429 Too Many Requests", &lines), Act::Write(b"{}".to_vec())]
    };
    let (obeying, ignoring) = (Server::start(limited()).await, Server::start(limited()).await);
    let yaml = format!(
        "targets:
  obeying: {{base_url: '{}', model: m, rate_limits: {{retry_after: true}}}}
  ignoring: {{base_url: '{}', model: m}}
scenarios:
  s: {{target: obeying, start: now, rate: 50/s, max_concurrency: 1, max_lag: 1h}}
  other: {{target: ignoring, start: now, rate: 50/s, max_lag: 1h}}",
        obeying.upstream.url(),
        ignoring.upstream.url()
    );
    let status = blocking(move || {
        let mut daemon = Daemon::start(&yaml);
        wait_for_drops(&mut daemon, "rate_limit", 20.0);
        let other = &["scenario=\"other\""];
        daemon.wait_for("/metrics", |text| {
            (sample(text, "llmload_requests_total", other) >= 20.0).then_some(())
        });
        daemon.get("/api/v1/status").2
    })
    .await;
    assert_eq!(obeying.count(), 1.0);
    assert!(ignoring.count() >= 20.0);
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let wait = status["scenarios"][0]["retry_after_seconds"].as_f64().unwrap();
    assert!(wait > 0.0 && wait <= 600.0, "at most ten minutes: {wait}");
    assert!(status["scenarios"][1].get("retry_after_seconds").is_none());
}
