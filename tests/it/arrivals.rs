//! Tests that count the requests at a target, with the daemon in a separate process.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use crate::binary::{Daemon, assert_balanced, sample};
use crate::upstream::{Upstream, good};

/// Sends one cycle of a schedule. Returns the instants of the requests at the target, and the last
/// metrics.
async fn send(
    schedule: &str,
    disturb: impl Fn(&Daemon) + Send + 'static,
) -> (Vec<Instant>, String) {
    let arrived = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&arrived);
    let upstream = Upstream::start_with_head(move |_, head| {
        // GET requests are for the version of the server.
        if head.starts_with("POST ") {
            log.lock().unwrap().push(Instant::now());
        }
        good()
    })
    .await;
    let yaml = format!(
        "targets: {{t: {{base_url: '{}', model: m}}}}
scenarios:
  s: {{target: t, start: now, repeat: 1, max_concurrency: 1000, schedule: {schedule}}}
",
        upstream.url()
    );
    let exposition = tokio::task::spawn_blocking(move || {
        let mut daemon = Daemon::start(&yaml);
        disturb(&daemon);
        daemon.wait_for("/api/v1/status", |text| {
            let status: serde_json::Value = serde_json::from_str(text).unwrap();
            let scenario = &status["scenarios"][0];
            (scenario["state"] == "ended" && scenario["ledger"]["in_flight"] == 0).then_some(())
        });
        daemon.get("/metrics").2
    });
    let exposition = exposition.await.unwrap();
    assert_balanced(&exposition);
    let arrived = arrived.lock().unwrap().clone();
    (arrived, exposition)
}

/// Stops the daemon for `time` after its 50th request.
fn freeze_for(time: Duration) -> impl Fn(&Daemon) + Send + 'static {
    move |daemon| {
        while sample(&daemon.get("/metrics").2, "llmload_requests_started_total", &[]) < 50.0 {
            crate::binary::pause();
        }
        daemon.signal("STOP");
        std::thread::park_timeout(time);
        daemon.signal("CONT");
    }
}

fn dropped(exposition: &str) -> f64 {
    sample(exposition, "llmload_arrivals_dropped_total", &[])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_number_of_arrivals_is_the_area_under_the_rate() {
    for (schedule, area) in [
        ("[{constant: 200/s, for: 3s}]", 600),
        ("[{ramp: {from: 0/s, to: 400/s}, for: 2s}, {pause: 1s}]", 400),
    ] {
        let (arrived, exposition) = send(schedule, |_| {}).await;
        assert_eq!(sample(&exposition, "llmload_arrivals_total", &[]), f64::from(area));
        assert_eq!(
            sample(&exposition, "llmload_requests_started_total", &[]),
            arrived.len() as f64
        );
        assert_eq!(arrived.len() as f64 + dropped(&exposition), f64::from(area));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_sends_its_rows_and_is_silent_between_them() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trace.jsonl");
    let instants = [0, 0, 0, 0, 6000, 6000, 6000];
    let row = |at| format!("{{\"timestamp\": {at}, \"input_length\": 9, \"output_length\": 3}}\n");
    std::fs::write(&file, instants.map(row).concat()).unwrap();
    // A phase of half a second at 1/s is half an arrival. One such phase is before the replay and
    // one is after it, so together they send one arrival.
    let around = "{constant: 1/s, for: 500ms}";
    let schedule =
        format!("[{around}, {{replay: {{file: '{}', speed: 2}}}}, {around}]", file.display());
    let (arrived, exposition) = send(&schedule, |_| {}).await;
    assert_eq!(sample(&exposition, "llmload_arrivals_total", &[]), 8.0);
    assert_eq!(arrived.len() as f64 + dropped(&exposition), 8.0);
    if arrived.len() == 8 {
        // The arrival of these two phases is due at the end of the first phase. At this instant,
        // four rows are due too. So five requests precede the silence.
        let longest = (1..8).max_by_key(|i| arrived[*i] - arrived[i - 1]);
        assert_eq!(longest, Some(5), "{arrived:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_freeze_loses_no_arrival() {
    let (arrived, exposition) =
        send("[{constant: 200/s, for: 5s}]", freeze_for(Duration::from_millis(300))).await;
    assert_eq!(sample(&exposition, "llmload_arrivals_total", &[]), 1000.0);
    // A very slow machine can cause a few more drops.
    assert_eq!(arrived.len() as f64 + dropped(&exposition), 1000.0);
    assert!(arrived.len() >= 900, "{}", arrived.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_freeze_drops_late_arrivals_and_sends_no_burst() {
    let (arrived, exposition) =
        send("[{constant: 200/s, for: 8s}]", freeze_for(Duration::from_secs(3))).await;
    assert_eq!(sample(&exposition, "llmload_arrivals_total", &[]), 1600.0);
    let late = sample(&exposition, "llmload_arrivals_dropped_total", &["reason=\"late\""]);
    // 600 arrivals were due during the stop. The daemon still sends those of the last half second.
    assert!((400.0..=700.0).contains(&late), "{late}");
    assert_eq!(arrived.len() as f64 + late, 1600.0);
    let within = Duration::from_millis(100);
    let most = (0..arrived.len())
        .map(|i| arrived[i..].iter().take_while(|at| **at - arrived[i] < within).count())
        .max();
    // In 100 ms, the daemon sends up to rate × max_lag late arrivals, and the arrivals that are due
    // in this time. Without drops, it would send 600 at once.
    assert!(most < Some(300), "{most:?}");
}
