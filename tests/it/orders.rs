//! Admin commands and signals during a reload from a disk that does not respond. Instead of a file,
//! a function waits for a permission of the test.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use llmload::archive::Archive;
use llmload::control::{AdminCommand, AdminHandle};
use llmload::daemon::{self, DaemonOptions, EndReason};
use llmload::generator::GeneratorMonitor;
use llmload::schedule_state::RateOverride;
use llmload::status::{RouteMonitor, StatusBoard};
use llmload::web::{Listener, WebOptions, WebSecurity};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::binary::{TEST_TIMEOUT, pause, request, sample};

/// A daemon in this process. Each reload waits for a permission.
struct SlowDisk {
    address: SocketAddr,
    stop: CancellationToken,
    force_stop: CancellationToken,
    /// Allows one reload to read.
    permit: mpsc::Sender<()>,
    /// The rate in the file.
    rate: Arc<AtomicUsize>,
    /// The reloads that have begun to read.
    reads: Arc<AtomicUsize>,
    running: JoinHandle<Result<EndReason, daemon::Error>>,
}

fn plan(rate: usize) -> Result<llmload::plan::Plan, llmload::config::Invalid> {
    let yaml = format!(
        "target: {{simulator: {{decode_tokens_per_second: 1, full_load_speed: 100%}}, model: simulated-8b}}
request: {{max_tokens: 600}}
start: now
rate: {rate}/s
"
    );
    llmload::config::parse(&yaml, "the test", None, &|_| None)
}

fn web_on(listener: std::net::TcpListener) -> WebOptions {
    let listeners = vec![Listener::Tcp(listener)];
    WebOptions { listeners, lifecycle: false, security: WebSecurity::default() }
}

impl SlowDisk {
    fn start() -> SlowDisk {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (permit, permits) = mpsc::channel();
        let (reads, rate) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(20)));
        let (read, file, permits) = (Arc::clone(&reads), Arc::clone(&rate), Mutex::new(permits));
        let source = move || {
            read.fetch_add(1, Ordering::Relaxed);
            // After the end of the test, there are no more permissions.
            let _permitted = permits.lock().unwrap().recv();
            plan(file.load(Ordering::Relaxed))
        };
        let (stop, force_stop) = (CancellationToken::new(), CancellationToken::new());
        let options = DaemonOptions {
            plan: plan(20).unwrap(),
            source: Some(Arc::new(source)),
            auto_reload: false,
            web: Some(web_on(listener)),
            run_options: None,
            board: Arc::default(),
            generator: GeneratorMonitor::new(),
            archive: Archive::new(),
        };
        let running = daemon::run(options, AdminHandle::new(), stop.clone(), force_stop.clone());
        let running = tokio::spawn(running);
        SlowDisk { address, stop, force_stop, permit, rate, reads, running }
    }

    fn post(&self, path: &str) -> (u16, String) {
        let (status, _, body) = request(self.address, "POST", path).unwrap();
        (status, body)
    }

    /// Starts a reload in another thread.
    fn reload(&self) -> std::thread::JoinHandle<(u16, String)> {
        let address = self.address;
        std::thread::spawn(move || {
            let (status, _, body) = request(address, "POST", "/-/reload").unwrap();
            (status, body)
        })
    }

    fn wait_until_reading(&self, reads: usize) {
        wait_until(|| self.reads.load(Ordering::Relaxed) == reads);
    }

    fn metric(&self, name: &str) -> f64 {
        sample(&request(self.address, "GET", "/metrics").unwrap().2, name, &[])
    }
}

fn wait_until(condition: impl Fn() -> bool) {
    let begun = tokio::time::Instant::now();
    while !condition() {
        assert!(begun.elapsed() < TEST_TIMEOUT);
        pause();
    }
}

const RATE: &str = "llmload_schedule_target_requests_per_second";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_a_rate_and_a_scrape_do_not_wait_for_a_reload() {
    let disk = SlowDisk::start();
    let disk = tokio::task::spawn_blocking(move || {
        wait_until(|| disk.metric("llmload_requests_in_flight") > 0.0);
        disk.rate.store(30, Ordering::Relaxed);
        let reload = disk.reload();
        disk.wait_until_reading(1);
        assert_eq!(disk.post("/-/pause").0, 200);
        assert_eq!(disk.metric("llmload_paused"), 1.0);
        wait_until(|| disk.metric("llmload_arrivals_dropped_total") > 0.0);
        assert_eq!(disk.post("/-/resume").0, 200);
        assert_eq!(disk.post("/api/v1/scenarios/default/rate?rate=7/s&for=10m").0, 200);
        wait_until(|| disk.metric(RATE) == 7.0);
        assert!(!reload.is_finished());
        disk.permit.send(()).unwrap();
        let (status, reply) = reload.join().unwrap();
        assert_eq!(status, 200, "{reply}");
        wait_until(|| disk.metric(RATE) == 30.0);
        disk
    });
    let disk = disk.await.unwrap();
    disk.stop.cancel();
    disk.force_stop.cancel();
    assert_eq!(disk.running.await.unwrap().unwrap(), EndReason::Stopped);
}

/// The first reload can have read the file before the latest edit, so the others wait for a second
/// reload, which they share.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_that_are_requested_during_a_reload_share_the_next_one() {
    let disk = SlowDisk::start();
    let disk = tokio::task::spawn_blocking(move || {
        let first = disk.reload();
        disk.wait_until_reading(1);
        let others: Vec<_> = (0..5).map(|_| disk.reload()).collect();
        // The daemon handles commands in their order. So a refused command proves that it has
        // received the earlier ones.
        wait_until(|| disk.post("/api/v1/scenarios/none/rate?rate=7/s&for=10m").0 == 404);
        disk.permit.send(()).unwrap();
        assert_eq!(first.join().unwrap().0, 200);
        disk.wait_until_reading(2);
        disk.rate.store(40, Ordering::Relaxed);
        for _ in 0..others.len() {
            disk.permit.send(()).unwrap();
        }
        for other in others {
            let (status, reply) = other.join().unwrap();
            assert_eq!(status, 200, "{reply}");
        }
        let reads = disk.reads.load(Ordering::Relaxed);
        assert!(reads <= 3, "{reads} reads for six requests");
        wait_until(|| disk.metric(RATE) == 40.0);
        disk
    });
    let disk = disk.await.unwrap();
    disk.stop.cancel();
    disk.force_stop.cancel();
    disk.running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_signals_end_the_daemon_during_a_reload_that_never_ends() {
    let disk = SlowDisk::start();
    let disk = tokio::task::spawn_blocking(move || {
        wait_until(|| disk.metric("llmload_requests_in_flight") > 0.0);
        let reload = disk.reload();
        disk.wait_until_reading(1);
        disk.stop.cancel();
        let (status, reply) = reload.join().unwrap();
        assert_eq!((status, reply.as_str()), (409, "llmload is shutting down\n"));
        disk
    });
    let disk = disk.await.unwrap();
    disk.force_stop.cancel();
    let ended = tokio::time::timeout(TEST_TIMEOUT, disk.running).await;
    assert_eq!(ended.unwrap().unwrap().unwrap(), EndReason::Stopped);
    assert_eq!(disk.reads.load(Ordering::Relaxed), 1);
}

/// The last requests of a run can take long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_waits_for_its_last_requests_can_be_ended() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let yaml = "target: {simulator: {decode_tokens_per_second: 1, full_load_speed: 100%}, model: simulated-8b}
request: {max_tokens: 600}
start: now
repeat: 1
schedule: [{constant: 20/s, for: 200ms}]
";
    let plan = llmload::config::parse(yaml, "the test", None, &|_| None).unwrap();
    let (stop, force_stop) = (CancellationToken::new(), CancellationToken::new());
    let options = DaemonOptions {
        plan,
        source: None,
        auto_reload: false,
        web: Some(web_on(listener)),
        run_options: Some(llmload::scenario::RunOptions {
            start_at: None,
            time_limit: None,
            ready_timeout: TEST_TIMEOUT,
        }),
        board: Arc::default(),
        generator: GeneratorMonitor::new(),
        archive: Archive::new(),
    };
    let has_ended = Arc::new(AtomicBool::new(false));
    let running = daemon::run(options, AdminHandle::new(), stop, force_stop.clone());
    let ended = Arc::clone(&has_ended);
    let running = tokio::spawn(async move {
        let result = running.await;
        ended.store(true, Ordering::Relaxed);
        result
    });
    let quit = tokio::task::spawn_blocking(move || {
        wait_until(|| {
            let status = request(address, "GET", "/api/v1/status").unwrap().2;
            status.contains("\"ended\"") && status.contains("\"in_flight\":4")
        });
        assert!(!has_ended.load(Ordering::Relaxed));
        request(address, "POST", "/-/quit").unwrap().0
    });
    assert_eq!(quit.await.unwrap(), 200);
    force_stop.cancel();
    assert_eq!(running.await.unwrap().unwrap(), EndReason::Stopped);
}

/// No user can set an override of this length: the end of the override is after the last time that
/// the system can represent, so the schedule of `broken` panics.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schedule_that_panics_ends_the_daemon_after_a_drain_with_an_error_that_names_it() {
    let yaml = "targets: {sim: {simulator: {decode_tokens_per_second: 20, slots: 100, full_load_speed: 100%},
  model: simulated-8b}}
scenarios:
  broken: {target: sim, start: now, rate: 1/s, request: {max_tokens: 8}}
  steady: {target: sim, start: now, rate: 20/s, request: {max_tokens: 8}}
";
    let plan = llmload::config::parse(yaml, "the test", None, &|_| None).unwrap();
    let board: Arc<StatusBoard> = Arc::default();
    let options = DaemonOptions {
        plan,
        source: None,
        auto_reload: false,
        web: None,
        run_options: None,
        board: Arc::clone(&board),
        generator: GeneratorMonitor::new(),
        archive: Archive::new(),
    };
    let (control, commands) = AdminHandle::new();
    let (stop, force_stop) = (CancellationToken::new(), CancellationToken::new());
    let running = daemon::run(options, (control.clone(), commands), stop, force_stop);
    let running = tokio::spawn(running);
    let watched = Arc::clone(&board);
    let steady = tokio::task::spawn_blocking(move || {
        let has_begun = |monitor: &Arc<RouteMonitor>| monitor.state.ledger.counts().arrivals > 0;
        wait_until(|| watched.monitors().iter().filter(|monitor| has_begun(monitor)).count() == 2);
        let monitors = watched.monitors();
        monitors.into_iter().find(|monitor| monitor.scenario == "steady").unwrap()
    });
    let steady = steady.await.unwrap();
    let rate = RateOverride::Set { rate: "1/s".parse().unwrap(), length: Duration::MAX };
    let set = AdminCommand::SetRate { scenario: "broken".to_owned(), rate };
    control.execute(set).await.unwrap();
    let error = running.await.unwrap().unwrap_err().to_string();
    assert_eq!(
        error,
        "the schedule of scenario broken panicked; please report this with the panic message above"
    );
    let counts = steady.state.ledger.counts();
    assert!(counts.in_flight == 0 && counts.succeeded > 0, "{counts:?}");
    assert_eq!(counts.aborted().map(|(_, count)| count).sum::<u64>(), 0, "{counts:?}");
    assert_eq!(counts.first_broken_equation(), None);
}
