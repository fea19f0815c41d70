//! Budgets: the spending at a real server, restarts, kills, and a disk that is full or stuck.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::binary::{Daemon, TEST_TIMEOUT, assert_balanced, llmload, pause, request, sample};
use crate::upstream::{Act, Upstream, good, head, plain};

const USED: &str = "llmload_budget_used";
const DROPPED: &str = "llmload_arrivals_dropped_total";
const BUDGET: &[&str] = &["reason=\"budget\""];
const REQUESTS: &[&str] = &["unit=\"requests\""];

/// A server that counts the requests for completions.
struct Server {
    upstream: Upstream,
    sent: Arc<AtomicU64>,
}

impl Server {
    async fn start(script: impl Fn(u64) -> Vec<Act> + Send + Sync + 'static) -> Server {
        let sent = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&sent);
        // llmload also requests the models and the version.
        let upstream = Upstream::start_with_head(move |_, head| {
            if head.starts_with("POST ") {
                script(counter.fetch_add(1, Ordering::SeqCst))
            } else {
                plain("404 Not Found", "text/plain", "")
            }
        });
        Server { upstream: upstream.await, sent }
    }

    fn requests(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }

    /// A scenario with one target, prices and these settings.
    fn yaml(&self, settings: &str) -> String {
        format!(
            "target: {{base_url: '{}', model: m, prices: {{input_per_million: 1, \
             output_per_million: 4, currency: EUR}}}}\nstart: now\nmax_lag: 1m\n\
             prompts: [abcdefgh]\nrequest: {{max_tokens: 98}}\n{settings}\n",
            self.upstream.url()
        )
    }
}

/// Starts the daemon with the `llmload.yml` in a folder that survives the daemon.
fn start(folder: &Path) -> Daemon {
    let own = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(folder.join("llmload.yml"), own.path().join("llmload.yml")).unwrap();
    Daemon::of(Command::new(env!("CARGO_BIN_EXE_llmload")), &[], own)
}

/// Starts the daemon in a mount namespace, in which its `state_dir` is a disk of 64 KiB.
fn start_on_small_disk(folder: &Path) -> Daemon {
    let own = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(folder.join("llmload.yml"), own.path().join("llmload.yml")).unwrap();
    let state = folder.join("state");
    fs::create_dir(&state).unwrap();
    let mut command = Command::new("unshare");
    let mount = "mount -t tmpfs -o size=64k small \"$0\" && exec \"$@\"";
    command.args(["--mount", "--user", "--map-root-user", "sh", "-c", mount]);
    command.arg(state).arg(env!("CARGO_BIN_EXE_llmload"));
    Daemon::of(command, &[], own)
}

fn write(folder: &Path, yaml: &str) {
    let state = folder.join("state").display().to_string();
    let yaml = yaml.replace("state_dir: state", &format!("state_dir: '{state}'"));
    fs::write(folder.join("llmload.yml"), yaml).unwrap();
}

fn reload(daemon: &Daemon) {
    let (status, _, body) = request(daemon.address, "POST", "/-/reload").unwrap();
    assert_eq!(status, 200, "{body}");
}

/// Waits until a metric has at least this value. Returns the complete scrape.
fn wait_for(daemon: &mut Daemon, name: &str, labels: &[&str], least: f64) -> String {
    daemon.wait_for("/metrics", |scrape| {
        (sample(scrape, name, labels) >= least).then(|| scrape.to_owned())
    })
}

/// Waits until no request is in flight, so nothing is reserved.
fn wait_until_idle(daemon: &mut Daemon) -> String {
    daemon.wait_for("/metrics", |scrape| {
        (sample(scrape, "llmload_requests_in_flight", &[]) == 0.0).then(|| scrape.to_owned())
    })
}

/// Waits until the budget of requests is used up, then until llmload has dropped further arrivals
/// and no request is in flight. Returns the complete scrape.
fn use_up(daemon: &mut Daemon, limit: f64) -> String {
    let scrape = wait_for(daemon, USED, REQUESTS, limit);
    let dropped = sample(&scrape, DROPPED, BUDGET);
    wait_for(daemon, DROPPED, BUDGET, dropped + 5.0);
    let scrape = wait_until_idle(daemon);
    assert_balanced(&scrape);
    assert_eq!(sample(&scrape, USED, REQUESTS), limit, "{scrape}");
    scrape
}

async fn blocking(work: impl FnOnce() + Send + 'static) {
    tokio::task::spawn_blocking(work).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_of_requests_is_exact_and_survives_restarts_and_reloads() {
    let server = Server::start(|_| good()).await;
    blocking(move || {
        let folder = tempfile::tempdir().unwrap();
        let yaml = |limit: u32| {
            let budget = format!("budgets: [{{per: month, requests: {limit}}}]");
            server.yaml(&format!("rate: 200/s\n{budget}\nstate_dir: state"))
        };
        write(folder.path(), &yaml(40));
        let mut daemon = start(folder.path());
        let scrape = use_up(&mut daemon, 40.0);
        assert_eq!(server.requests(), 40);
        assert_eq!(sample(&scrape, "llmload_budget_limit", REQUESTS), 40.0);
        assert_eq!(sample(&scrape, "llmload_budgets_saved", &[]), 1.0);

        // A higher limit continues with the same spending. Another setting changes nothing.
        write(folder.path(), &yaml(60).replace("200/s", "150/s"));
        reload(&daemon);
        use_up(&mut daemon, 60.0);
        assert_eq!(server.requests(), 60);
        let status: Value = serde_json::from_str(&daemon.get("/api/v1/status").2).unwrap();
        let budget = &status["budgets"][0];
        assert_eq!(
            (&budget["per"], &budget["unit"], &budget["used"], &budget["limit"]),
            (&"month".into(), &"requests".into(), &60.0.into(), &60.0.into())
        );
        assert!(budget["resets"].as_f64() > status["now"].as_f64());
        assert_eq!(budget["used_up"], true);
        daemon.wait_for_log("requests per month is used up until");
        daemon.signal("TERM");
        let (status, log) = daemon.wait();
        assert_eq!(status.code(), Some(0), "{log}");

        // A clean end saves the exact spending, and `check` knows it.
        write(folder.path(), &yaml(80));
        let (code, out, err) =
            llmload(&["check", folder.path().join("llmload.yml").to_str().unwrap()]);
        assert_eq!(code, Some(0), "{err}");
        assert!(out.contains("80 requests per month, 75 % used already"), "{out}");
        write(folder.path(), &yaml(70));
        let mut daemon = start(folder.path());
        use_up(&mut daemon, 70.0);
        assert_eq!(server.requests(), 70);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_usage_of_a_response_replaces_the_reservation_of_its_request() {
    // The second request has no usage, the third is refused, the fourth loses its connection.
    let server = Server::start(|number| match number {
        1 => good().into_iter().enumerate().filter(|(i, _)| *i != 4).map(|(_, act)| act).collect(),
        2 => plain("429 Too Many Requests", "text/plain", "slow down"),
        3 => vec![head("200 OK", &["content-type: text/event-stream"]), Act::Reset],
        _ => good(),
    })
    .await;
    blocking(move || {
        let folder = tempfile::tempdir().unwrap();
        let budgets = "budgets: [{per: day, tokens: 1M}, {per: month, cost: 5, requests: 100}]";
        let schedule = "schedule: [{concurrency: 1, requests: 5}]\nrepeat: 1";
        write(folder.path(), &server.yaml(&format!("{schedule}\n{budgets}")));
        let mut daemon = start(folder.path());
        wait_for(&mut daemon, "llmload_requests_total", &[], 5.0);
        let scrape = wait_until_idle(&mut daemon);
        // A prompt has 2 tokens by its length, and a response at most 98. The server counts 3 and
        // 2.
        let tokens = 5.0 + 100.0 + 0.0 + 100.0 + 5.0;
        assert_eq!(sample(&scrape, USED, &["unit=\"tokens\""]), tokens, "{scrape}");
        assert_eq!(sample(&scrape, USED, REQUESTS), 5.0);
        let cost = (2.0 * (3.0 + 2.0 * 4.0) + 2.0 * (2.0 + 98.0 * 4.0)) / 1e6;
        let used = sample(&scrape, USED, &["unit=\"cost\""]);
        assert!((used - cost).abs() < 1e-8, "{used} {cost}");
        assert_eq!(sample(&scrape, "llmload_budgets_saved", &[]), 0.0, "there is no state_dir");
        daemon.wait_for_log("the budgets start again at 0 after a restart");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_targets_of_a_scenario_share_its_budget() {
    let (first, second) = (Server::start(|_| good()).await, Server::start(|_| good()).await);
    blocking(move || {
        let [a, b] = [&first, &second].map(|server| server.upstream.url());
        let mut daemon = Daemon::start(&format!(
            "targets: {{a: {{base_url: '{a}', model: m}}, b: {{base_url: '{b}', model: m}}}}\n\
             scenarios: {{s: {{targets: [a, b], rate: 100/s, start: now, max_lag: 1m, budgets: \
             [{{per: month, requests: 31}}]}}}}\n"
        ));
        use_up(&mut daemon, 31.0);
        assert_eq!((first.requests(), second.requests()), (16, 15));
    })
    .await;
}

/// Two numbers from a sequence, so every run of the test kills at other moments of the process.
fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

/// `LLMLOAD_BUDGET_KILLS` sets the number of kills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_killed_at_any_moment_has_never_spent_more_than_its_budget() {
    const LIMIT: u64 = 8000;
    const KILLS_OF_A_ROUND: u64 = 10;
    let kills = std::env::var("LLMLOAD_BUDGET_KILLS").ok().and_then(|text| text.parse().ok());
    let kills: u64 = kills.unwrap_or(KILLS_OF_A_ROUND);
    let server = Server::start(|_| good()).await;
    blocking(move || {
        let mut random = 7;
        for round in 0..kills.div_ceil(KILLS_OF_A_ROUND) {
            let folder = tempfile::tempdir().unwrap();
            let yaml = server.yaml(&format!(
                "rate: 300/s\nbudgets: [{{per: month, requests: {LIMIT}}}]\nstate_dir: state"
            ));
            write(folder.path(), &yaml);
            let before = server.requests();
            let spent = || server.requests() - before;
            let (mut last_spent, mut lost) = (0, 0.0);
            for kill in 0..KILLS_OF_A_ROUND {
                let mut daemon = start(folder.path());
                let scrape = daemon.get("/metrics").2;
                let used = sample(&scrape, USED, REQUESTS);
                assert!(used >= last_spent as f64, "round {round}, kill {kill}: {used}");
                lost = used - last_spent as f64;
                let goal = spent() + next_random(&mut random) % 150;
                let begun = Instant::now();
                while spent() < goal {
                    let ended = daemon.child.try_wait().unwrap();
                    assert!(ended.is_none() && begun.elapsed() < TEST_TIMEOUT, "{ended:?}");
                    let micros = next_random(&mut random) % 2000;
                    std::thread::park_timeout(Duration::from_micros(micros));
                }
                daemon.child.kill().unwrap();
                daemon.child.wait().unwrap();
                // The server can still read requests that the process had sent.
                let mut quiet_since = Instant::now();
                last_spent = spent();
                while quiet_since.elapsed() < Duration::from_millis(100) {
                    pause();
                    if spent() > last_spent {
                        (last_spent, quiet_since) = (spent(), Instant::now());
                    }
                }
                assert!(last_spent <= LIMIT, "round {round}, kill {kill}: {last_spent}");
            }
            // The rest of the budget can still be spent, but no more.
            write(folder.path(), &yaml.replace("300/s", "1000/s"));
            let mut daemon = start(folder.path());
            let scrape = wait_for(&mut daemon, USED, REQUESTS, LIMIT as f64);
            assert_eq!(sample(&scrape, USED, REQUESTS), LIMIT as f64);
            wait_until_idle(&mut daemon);
            let total = spent();
            println!("round {round}: {total} of {LIMIT} requests, {lost} lost by the kills");
            assert!(total <= LIMIT, "round {round}: {total}");
            assert!(total > last_spent, "round {round}: the last process has sent nothing");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_stops_the_spending_of_scenarios_with_budgets_and_only_of_them() {
    let server = Server::start(|_| good()).await;
    blocking(move || {
        let url = server.upstream.url();
        let folder = tempfile::tempdir().unwrap();
        let yaml = format!(
            "targets: {{t: {{base_url: '{url}', model: m}}}}\nstate_dir: state\nscenarios:\n\
             \x20 limited: {{rate: 100/s, start: now, max_lag: 1m, budgets: \
             [{{per: month, requests: 2k}}]}}\n\
             \x20 free: {{rate: 20/s, start: now, max_lag: 1m}}\n"
        );
        write(folder.path(), &yaml);
        let mut daemon = start_on_small_disk(folder.path());
        let limited = &["scenario=\"limited\""];
        wait_for(&mut daemon, "llmload_requests_total", limited, 20.0);
        // The mount exists only in the namespace of the daemon.
        let root = format!("/proc/{}/root", daemon.child.id());
        let state = folder.path().join("state");
        let filler = Path::new(&root).join(state.strip_prefix("/").unwrap()).join("filler");
        let file = fs::File::create(&filler).unwrap();
        // A write of the state that runs now can free a page after the disk was full.
        daemon.wait_for("/metrics", |scrape| {
            while (&file).write_all(&[0; 4096]).is_ok() {}
            (sample(scrape, "llmload_budgets_saved", &[]) == 0.0).then_some(())
        });
        daemon.wait_for_log("the budgets cannot be saved");
        let scrape = wait_for(&mut daemon, DROPPED, &["reason=\"budget\"", limited[0]], 5.0);
        assert_balanced(&scrape);
        assert_eq!(sample(&scrape, "llmload_budgets_saved", &[]), 0.0);
        assert_eq!(sample(&scrape, DROPPED, &["scenario=\"free\""]), 0.0);
        let used = sample(&scrape, USED, REQUESTS);
        assert!(used < 2000.0, "{used}");
        let free = sample(&scrape, "llmload_requests_total", &["scenario=\"free\""]);
        let more = free + 10.0;
        wait_for(&mut daemon, "llmload_requests_total", &["scenario=\"free\""], more);
        let status: Value = serde_json::from_str(&daemon.get("/api/v1/status").2).unwrap();
        assert_eq!(status["budgets"][0]["unsaved"], true);
        // The load continues when the disk accepts data again.
        drop(file);
        fs::remove_file(&filler).unwrap();
        wait_for(&mut daemon, USED, REQUESTS, used + 10.0);
        daemon.wait_for_log("the budgets are saved again");
        let log = daemon.log.lock().unwrap().clone();
        assert_eq!(log.matches("the budgets cannot be saved").count(), 1, "{log}");
    })
    .await;
}

/// A FIFO that nobody reads blocks its writer for ever, like a network disk that hangs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stuck_disk_delays_no_scrape_no_reload_and_no_end() {
    let server = Server::start(|_| good()).await;
    blocking(move || {
        let folder = tempfile::tempdir().unwrap();
        let budget = |limit: u32| format!("budgets: [{{per: month, requests: {limit}}}]");
        let yaml =
            |limit| server.yaml(&format!("rate: 100/s\n{}\nstate_dir: state", budget(limit)));
        write(folder.path(), &yaml(1000));
        let mut daemon = start(folder.path());
        let fifo = folder.path().join("state/budgets.json.new");
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let scrape = wait_for(&mut daemon, DROPPED, BUDGET, 5.0);
        assert_balanced(&scrape);
        assert_eq!(sample(&scrape, DROPPED, &["reason=\"late\""]), 0.0);
        assert!(sample(&scrape, USED, REQUESTS) < 1000.0);
        daemon.wait_for("/metrics", |scrape| {
            (sample(scrape, "llmload_budgets_saved", &[]) == 0.0).then_some(())
        });
        daemon.wait_for_log("the disk of state_dir does not respond");
        let status: Value = serde_json::from_str(&daemon.get("/api/v1/status").2).unwrap();
        assert_eq!(status["budgets"][0]["unsaved"], true);
        write(folder.path(), &yaml(2000));
        reload(&daemon);
        assert_eq!(sample(&daemon.get("/metrics").2, "llmload_budget_limit", REQUESTS), 2000.0);
        daemon.signal("TERM");
        let (status, log) = daemon.wait();
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(log.contains("the disk of state_dir is too slow"), "{log}");
        assert_eq!(log.matches("does not respond").count(), 1, "{log}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn costs_in_two_currencies_are_never_added_up() {
    let server = Server::start(|_| good()).await;
    blocking(move || {
        let folder = tempfile::tempdir().unwrap();
        let yaml = server.yaml("rate: 20/s\nbudgets: [{per: month, cost: 5}]\nstate_dir: state");
        write(folder.path(), &yaml);
        let mut daemon = start(folder.path());
        wait_for(&mut daemon, "llmload_requests_total", &[], 3.0);
        let status: Value = serde_json::from_str(&daemon.get("/api/v1/status").2).unwrap();
        let budget = &status["budgets"][0];
        assert_eq!((&budget["currency"], &budget["used_up"]), (&"EUR".into(), &false.into()));
        let in_dollars = yaml.replace("EUR", "USD");
        write(folder.path(), &in_dollars);
        let refused = "the budget per month of scenario default counts its cost in EUR until";
        let (code, _, body) = request(daemon.address, "POST", "/-/reload").unwrap();
        assert!(code == 500 && body.contains(refused), "{code} {body}");
        // The account also counts a cost that has no limit.
        write(folder.path(), &in_dollars.replace("cost: 5", "requests: 1M"));
        let (code, _, body) = request(daemon.address, "POST", "/-/reload").unwrap();
        assert!(code == 500 && body.contains(refused), "{code} {body}");
        daemon.signal("TERM");
        assert_eq!(daemon.wait().0.code(), Some(0));
        let start_fails = || {
            let file = folder.path().join("llmload.yml");
            let at = ["--web.listen-address", "127.0.0.1:0", "--config.file"];
            let (code, _, err) =
                llmload(&[&["daemon"], &at[..], &[file.to_str().unwrap()]].concat());
            assert_eq!(code, Some(1), "{err}");
            err
        };
        write(folder.path(), &in_dollars);
        let err = start_fails();
        assert!(err.contains(refused), "{err}");
        // A message contains its cause once.
        fs::remove_dir_all(folder.path().join("state")).unwrap();
        fs::write(folder.path().join("state"), "a file").unwrap();
        let err = start_fails();
        assert_eq!(err.matches("os error").count(), 1, "{err}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_that_llmload_cannot_trust_is_an_error_at_the_start() {
    let server = Server::start(|_| good()).await;
    blocking(move || {
        let folder = tempfile::tempdir().unwrap();
        let yaml = server.yaml("rate: 10/s\nbudgets: [{per: day, requests: 1k}]\nstate_dir: state");
        write(folder.path(), &yaml);
        let fails = |problem: &str| {
            let output = Command::new(env!("CARGO_BIN_EXE_llmload"))
                .args(["daemon", "--web.listen-address", "127.0.0.1:0", "--config.file"])
                .arg(folder.path().join("llmload.yml"))
                .output()
                .unwrap();
            let error = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{error}");
            assert!(error.contains(problem), "{error}");
        };
        let daemon = start(folder.path());
        fails("another llmload uses state_dir");
        drop(daemon);
        let state = folder.path().join("state/budgets.json");
        let good = fs::read_to_string(&state).unwrap();
        fs::write(&state, &good[..good.len() / 2]).unwrap();
        fails("is not a state file of budgets");
        assert_eq!(fs::read_to_string(&state).unwrap(), good[..good.len() / 2]);
        fs::write(&state, good).unwrap();
        let mut daemon = start(folder.path());
        // The running daemon cannot move its budgets to another folder.
        write(folder.path(), &yaml.replace("state_dir: state", "state_dir: other"));
        let (status, _, body) = request(daemon.address, "POST", "/-/reload").unwrap();
        assert!(status == 500 && body.contains("`state_dir` would change"), "{status} {body}");
        wait_for(&mut daemon, USED, REQUESTS, 1.0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_obeys_its_budgets() {
    let server = Server::start(|_| good()).await;
    blocking(move || {
        let folder = tempfile::tempdir().unwrap();
        let settings = "schedule: [{constant: 100/s, for: 200ms}]\nrepeat: 1\n\
                        budgets: [{per: month, requests: 7}]";
        write(folder.path(), &server.yaml(settings));
        let output = Command::new(env!("CARGO_BIN_EXE_llmload"))
            .args(["run", "--json", "--config.file"])
            .arg(folder.path().join("llmload.yml"))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let report: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(server.requests(), 7);
        assert_eq!(report["routes"][0]["ledger"]["dropped"]["budget"], 13, "{text}");
        assert_eq!(output.status.code(), Some(4), "drops prove nothing");
        assert!(text.contains("a budget of the scenario was used up"), "{text}");
        assert_eq!(report["verdict"]["reasons"][0]["code"], "budget", "{text}");
        let findings = report["findings"].as_array().unwrap();
        let steps = findings.iter().filter(|finding| finding["code"] == "next_step");
        let steps: Vec<&str> = steps.map(|finding| finding["text"].as_str().unwrap()).collect();
        assert!(steps.len() == 1 && steps[0].contains("raise `budgets`"), "{steps:?}");
    })
    .await;
}
