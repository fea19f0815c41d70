//! Sessions of a daemon, over real sockets.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use llmload::simulator::{Simulator, SimulatorOptions};
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::binary::{Daemon, assert_balanced, request, sample};
use crate::upstream::{
    Act, DONE, FINISH, USAGE, Upstream, chunk, good, head, last_chunk, perform, plain,
    read_request, stream_head, token,
};

const THINK_TIME: Duration = Duration::from_secs(1);

/// One request at the target.
#[derive(Clone, Copy, Debug)]
struct Visit {
    arrived: Instant,
    /// Just before the end of the response was written.
    ended: Instant,
}

/// A server that records the requests of each session, by the session header.
struct LoggingTarget {
    address: SocketAddr,
    sessions: Arc<Mutex<BTreeMap<String, Vec<Visit>>>>,
}

impl LoggingTarget {
    async fn start() -> LoggingTarget {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let sessions: Arc<Mutex<BTreeMap<String, Vec<Visit>>>> = Arc::default();
        let log = Arc::clone(&sessions);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                let log = Arc::clone(&log);
                tokio::spawn(async move {
                    while let Some(head) = read_request(&mut stream).await {
                        let arrived = Instant::now();
                        if !head.starts_with("POST") {
                            for act in plain("404 Not Found", "text/plain", "") {
                                perform(act, &mut stream).await;
                            }
                            continue;
                        }
                        let session =
                            head.lines().find_map(|line| line.strip_prefix("x-session-id: "));
                        let session = session.expect("a session header").to_owned();
                        let start = [stream_head(), chunk(&token("a"))];
                        for act in start.into_iter().chain([Act::Pause(Duration::from_millis(40))])
                        {
                            perform(act, &mut stream).await;
                        }
                        let visit = Visit { arrived, ended: Instant::now() };
                        log.lock().unwrap().entry(session).or_default().push(visit);
                        for act in [chunk(FINISH), chunk(USAGE), chunk(DONE), last_chunk()] {
                            perform(act, &mut stream).await;
                        }
                    }
                });
            }
        });
        LoggingTarget { address, sessions }
    }
}

fn count(exposition: &str, name: &str) -> f64 {
    sample(exposition, name, &[])
}

fn ended(exposition: &str, reason: &str) -> f64 {
    let reason = format!("reason=\"{reason}\"");
    sample(exposition, "llmload_sessions_ended_early_total", &[&reason])
}

/// Both ledgers hold.
fn assert_sessions_balanced(exposition: &str) {
    assert_balanced(exposition);
    let started = count(exposition, "llmload_sessions_started_total");
    let completed = count(exposition, "llmload_sessions_completed_total");
    let open = count(exposition, "llmload_sessions_in_progress");
    let early = count(exposition, "llmload_sessions_ended_early_total");
    assert_eq!(started, completed + early + open, "{exposition}");
}

/// `LLMLOAD_TEST_SESSIONS` is the length of the load in seconds.
fn seconds(default: u64) -> u64 {
    std::env::var("LLMLOAD_TEST_SESSIONS").map_or(default, |text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_sees_each_turn_after_the_think_time_of_the_turn_before() {
    let target = LoggingTarget::start().await;
    let length = seconds(8);
    let yaml = format!(
        "targets: {{t: {{base_url: 'http://{}/v1', model: m}}}}
prompts: {{talks: {{synthetic: {{input_tokens: 20, turns: 4, think_time: 1s}}}}}}
scenarios:
  s: {{start: now, repeat: 1, max_lag: 1h, session_header: x-session-id, schedule: [{{constant: 2/s, for: {length}s}}, {{pause: 15s}}]}}
",
        target.address
    );
    let exposition = tokio::task::spawn_blocking(move || {
        let mut daemon = Daemon::start(&yaml);
        daemon.wait_for_long("/metrics", length + 15, |text| {
            let completed = count(text, "llmload_sessions_completed_total");
            (completed == 2.0 * length as f64).then(|| text.to_owned())
        })
    });
    let exposition = exposition.await.unwrap();
    assert_sessions_balanced(&exposition);
    let sessions = target.sessions.lock().unwrap().clone();
    assert_eq!(sessions.len() as u64, 2 * length, "the schedule determines the number of sessions");
    assert_eq!(count(&exposition, "llmload_arrivals_total"), 8.0 * length as f64);
    let mut late = Vec::new();
    for visits in sessions.values() {
        assert_eq!(visits.len(), 4);
        for pair in visits.windows(2) {
            let due = pair[0].ended + THINK_TIME;
            assert!(pair[1].arrived >= due, "{pair:?}");
            late.push(pair[1].arrived - due);
        }
    }
    late.sort();
    let quantile = |part: usize| late[(late.len() - 1) * part / 100];
    println!(
        "{} turns after a think time: late by {:?} (median), {:?} (p90), {:?} (p99)",
        late.len(),
        quantile(50),
        quantile(90),
        quantile(99)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ledgers_hold_with_failures_drops_reloads_and_a_shutdown() {
    let (is_held, requests) = (Arc::new(AtomicBool::new(false)), AtomicU64::new(0));
    let gate = tokio_util::sync::CancellationToken::new();
    let (sees_held, sees_gate) = (Arc::clone(&is_held), gate.clone());
    let upstream = Upstream::start_with_head(move |_, request| {
        if !request.starts_with("POST") {
            return plain("404 Not Found", "text/plain", "");
        }
        if sees_held.load(Ordering::Relaxed) {
            return [vec![Act::WaitFor(sees_gate.clone())], good()].concat();
        }
        if requests.fetch_add(1, Ordering::Relaxed) % 9 == 8 {
            return vec![head("500 Internal Server Error", &["content-length: 0"])];
        }
        good()
    })
    .await;
    let url = upstream.url();
    let yaml = move |turns: u32, more: &str| {
        format!(
            "targets: {{t: {{base_url: '{url}', model: m}}}}
prompts: {{talks: {{synthetic: {{input_tokens: 20, turns: {turns}, think_time: 100ms}}}}}}
scenarios:
  s: {{start: now, rate: 30/s, max_sessions: 12, max_lag: 1h{more}}}
"
        )
    };
    tokio::task::spawn_blocking(move || {
        let mut daemon = Daemon::start(&yaml(5, ""));
        let reload = |daemon: &Daemon, yaml: &str| {
            std::fs::write(daemon.folder.path().join("llmload.yml"), yaml).unwrap();
            assert_eq!(request(daemon.address, "POST", "/-/reload").unwrap().0, 200);
        };
        let wait = |daemon: &mut Daemon, wanted: &dyn Fn(&str) -> bool| {
            daemon.wait_for("/metrics", |text| {
                assert_sessions_balanced(text);
                wanted(text).then(|| text.to_owned())
            })
        };
        wait(&mut daemon, &|text| {
            let drops = ["reason=\"max_sessions\""];
            ended(text, "failed") > 3.0
                && count(text, "llmload_sessions_completed_total") > 3.0
                && sample(text, "llmload_arrivals_dropped_total", &drops) > 0.0
        });

        reload(&daemon, &yaml(5, ", request: {max_tokens: 5}"));
        let before = wait(&mut daemon, &|_| true);
        let completed = count(&before, "llmload_sessions_completed_total");
        let after = wait(&mut daemon, &|text| {
            count(text, "llmload_sessions_completed_total") > completed + 3.0
        });
        assert_eq!(ended(&after, "reload"), 0.0, "the conversations are unchanged");

        reload(&daemon, &yaml(4, ""));
        // The pause needs new sessions, whose next turns it drops.
        wait(&mut daemon, &|text| {
            ended(text, "reload") > 0.0 && count(text, "llmload_sessions_in_progress") > 5.0
        });

        assert_eq!(request(daemon.address, "POST", "/-/pause").unwrap().0, 200);
        wait(&mut daemon, &|text| {
            ended(text, "dropped") > 0.0 && count(text, "llmload_sessions_in_progress") == 0.0
        });
        assert_eq!(request(daemon.address, "POST", "/-/resume").unwrap().0, 200);

        is_held.store(true, Ordering::Relaxed);
        wait(&mut daemon, &|text| count(text, "llmload_requests_in_flight") == 12.0);
        daemon.signal("TERM");
        daemon.wait_for_log("stopping:");
        wait(&mut daemon, &|text| count(text, "llmload_sessions_in_progress") == 12.0);
        // The requests in flight succeed, and their next turns do not follow.
        gate.cancel();
        let (status, log) = daemon.wait();
        assert!(status.success() && log.contains("stopped"), "{log}");
    })
    .await
    .unwrap();
}

/// A session needs only its texts and a clock. The server is in this process, so the memory of the
/// daemon contains only the sessions.
#[test]
fn sessions_in_progress_need_constant_memory() {
    let users = if std::env::var_os("LLMLOAD_TEST_SESSIONS").is_some() { 1000 } else { 100 };
    let options = SimulatorOptions {
        slots: 1000,
        prefill_tokens_per_second: 1e6,
        decode_tokens_per_second: 1e4,
        ..SimulatorOptions::default()
    };
    let listener = StdListener::bind("127.0.0.1:0").unwrap();
    let simulator = Simulator::start(options, listener).unwrap();
    let length = seconds(10);
    let mut daemon = Daemon::start(&format!(
        "targets: {{t: {{base_url: 'http://{}/v1'}}}}
prompts: {{talks: {{synthetic: {{input_tokens: 100, output_tokens: 50, turns: 8, think_time: {{mean: 2s, stddev: 1s}}}}}}}}
scenarios:
  s: {{start: now, concurrency: {users}, max_concurrency: 1000}}
",
        simulator.address()
    ));
    let enough = f64::from(users);
    // After the first sessions, each user is at another turn.
    daemon.wait_for_long("/metrics", 60, |text| {
        (count(text, "llmload_sessions_completed_total") >= enough).then_some(())
    });
    let (begun, before) = (Instant::now(), daemon.memory("VmRSS"));
    let mut memory = vec![before];
    while begun.elapsed() < Duration::from_secs(length) {
        std::thread::park_timeout(Duration::from_secs((length / 20).max(1)));
        memory.push(daemon.memory("VmRSS"));
    }
    let exposition = daemon.get("/metrics").2;
    assert_sessions_balanced(&exposition);
    assert_eq!(count(&exposition, "llmload_sessions_in_progress"), enough);
    let mebibytes: Vec<u64> = memory.iter().map(|bytes| bytes >> 20).collect();
    println!(
        "{users} sessions for {length} s, {} completed; memory in MiB: {mebibytes:?}",
        count(&exposition, "llmload_sessions_completed_total")
    );
    let after = *memory.last().unwrap();
    assert!(after < before + before / 4 + (16 << 20), "{mebibytes:?}");
}
