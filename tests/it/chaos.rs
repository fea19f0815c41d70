//! A daemon under load, with faults that a seed chooses, on the side of the servers and on the side
//! of the clients.
//!
//! The test checks only invariants: the ledger at every scrape, no request in flight at the end,
//! the number of arrivals of each schedule, the guards, limited memory, no secret in any output,
//! and a response to every scrape. `docs/soak.md` explains how to run it for ten minutes.

mod guarded;
mod plan;
mod scrape;
mod server;
mod tls;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tokio::time::Instant;

use crate::binary::{Daemon, TEST_TIMEOUT, pause, request, signal};
use crate::secrets::{assert_clean, llmload};
use crate::upstream::Upstream;
use guarded::Guarded;
use plan::{FIXED, Rates, Settings};
use scrape::{Scrape, watch};
pub use server::Kind;
use tls::Secure;

/// The highest number of clients of the web server that the test keeps open.
const MAX_CLIENTS: usize = 60;
/// On a slow machine, the test takes longer than its schedules.
const MIN_ACTIONS: usize = 30;
/// The folders of the archive: a normal one, one on a full disk, and one that cannot be created.
const ARCHIVES: [&str; 3] = ["failures", "full", "blocked/failures"];

const RESET: &str = "llmload_budget_reset_timestamp_seconds";

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

/// A simulator in another process, which the test can kill, stop and start again.
struct Away {
    child: Option<Child>,
    address: SocketAddr,
    is_stopped: bool,
}

impl Away {
    fn start() -> Away {
        let mut away = Away { child: None, address: ([127, 0, 0, 1], 0).into(), is_stopped: false };
        assert!(away.spawn(), "the simulator did not start");
        away
    }

    /// Starts the simulator at its last address. Returns false if another process has taken the
    /// port.
    fn spawn(&mut self) -> bool {
        let mut child = Command::new(env!("CARGO_BIN_EXE_llmload"))
            .args(["simulator", "--web.listen-address", &self.address.to_string()])
            .args(["--decode-tokens-per-second", "400"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while log.read_line(&mut line).unwrap() > 0 {
            if let Some((_, rest)) = line.split_once("simulator on http://") {
                self.address = rest.split('/').next().unwrap().parse().unwrap();
                // The simulator writes nothing more. An unread pipe would not stop it anyway.
                self.child = Some(child);
                self.is_stopped = false;
                return true;
            }
            line.clear();
        }
        let _ended = child.wait();
        false
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _gone = child.kill();
            let _gone = child.wait();
        }
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The state of the budget of `capped`.
#[derive(Clone, Copy, Debug)]
struct Budget {
    used: f64,
    /// The end of the month, as Unix time.
    reset: f64,
}

struct Chaos {
    random: ChaCha8Rng,
    daemon: Daemon,
    away: Away,
    settings: Settings,
    guarded: Guarded,
    /// The end of the month in which the test began, as Unix time.
    reset: f64,
    varied: Rates,
    manual: Rates,
    /// Connections to the web server that send no complete request or read no response.
    clients: Vec<TcpStream>,
    stop: Arc<AtomicBool>,
    watcher: Option<JoinHandle<u64>>,
    /// The last actions, for the message of a failure.
    actions: Vec<&'static str>,
    /// The end of the log, for the message of a failure.
    log: String,
}

impl Drop for Chaos {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if std::thread::panicking() {
            let recent = self.actions.len().saturating_sub(30);
            let (seed, actions) = (self.settings.seed, &self.actions[recent..]);
            let log = self.log.clone() + &self.daemon.log.lock().unwrap();
            let message = format!("chaos seed {seed}, last actions {actions:?}\n{log}\n");
            let _written = std::io::stderr().write_all(message.as_bytes());
        }
    }
}

impl Chaos {
    fn start(
        seed: u64,
        seconds: u32,
        wire: [SocketAddr; 2],
        secure: Secure,
        guarded: Guarded,
    ) -> Chaos {
        let away = Away::start();
        let settings = Settings {
            seconds,
            seed,
            wire,
            secure,
            away: away.address,
            limited: guarded.limited.address,
            paid: guarded.paid.address,
            fragile: guarded.fragile.address,
            has_guarded_load: true,
            address: 0,
            rate: 15,
            archive: ARCHIVES[0],
            has_guest: false,
            has_closed_loop: true,
            max_tokens: 8,
        };
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("llmload.yml"), settings.yaml()).unwrap();
        std::fs::write(at("blocked"), "a file instead of a folder").unwrap();
        std::fs::create_dir(at("full")).unwrap();
        std::os::unix::fs::symlink("/dev/full", at("full/failures.jsonl")).unwrap();
        let before = Instant::now();
        let daemon = Daemon::of(llmload(), &["--log.level", "trace"], folder);
        let (stop, address) = (Arc::new(AtomicBool::new(false)), daemon.address);
        let stopped = Arc::clone(&stop);
        let mut chaos = Chaos {
            random: ChaCha8Rng::seed_from_u64(seed),
            daemon,
            away,
            settings,
            guarded,
            reset: 0.0,
            varied: Rates::default(),
            manual: Rates::default(),
            clients: Vec::new(),
            stop,
            watcher: Some(std::thread::spawn(move || watch(address, &stopped))),
            actions: Vec::new(),
            log: String::new(),
        };
        // The schedules begin with their first arrivals at the latest.
        for scenario in ["varied", "manual"] {
            chaos.wait_until(|chaos| Scrape::of(chaos.daemon.address).arrivals(scenario) > 0.0);
        }
        let now = Instant::now();
        chaos.reset = Scrape::of(chaos.daemon.address).sum(RESET, "scenario=\"capped\"");
        chaos.varied.change(15.0, before, now);
        chaos.manual.change(4.0, before, now);
        chaos
    }

    fn post(&self, path: &str) -> (u16, String) {
        let (status, _, body) = request(self.daemon.address, "POST", path).expect("a response");
        assert_clean(path, &body);
        (status, body)
    }

    /// Fails if the daemon has ended, or if the watcher has found a broken invariant.
    fn check_running(&mut self) {
        let ended = self.daemon.child.try_wait().unwrap();
        assert!(ended.is_none(), "the daemon ended: {ended:?}");
        if self.watcher.as_ref().is_some_and(JoinHandle::is_finished) {
            let watched = self.watcher.take().unwrap().join();
            panic!("the watcher ended: {watched:?}");
        }
        let log = std::mem::take(&mut *self.daemon.log.lock().unwrap());
        if !log.is_empty() {
            assert_clean("the log", &log);
            assert!(!log.contains("panicked"), "{log}");
            self.log += &log;
            let old = self.log.len().saturating_sub(20_000);
            self.log.drain(..self.log.ceil_char_boundary(old));
        }
    }

    fn wait_until(&mut self, is_done: impl Fn(&Chaos) -> bool) {
        let begun = Instant::now();
        while !is_done(self) {
            self.check_running();
            assert!(begun.elapsed() < TEST_TIMEOUT, "the condition never became true");
            pause();
        }
    }

    /// Replaces the configuration file at one instant, as a reload can read it at any time.
    fn write(&self, yaml: &str) {
        let folder = self.daemon.folder.path();
        std::fs::write(folder.join("next.yml"), yaml).unwrap();
        std::fs::rename(folder.join("next.yml"), folder.join("llmload.yml")).unwrap();
    }

    fn reload(&mut self) {
        let after = Instant::now();
        self.write(&self.settings.yaml());
        let (status, body) = self.post("/-/reload");
        assert_eq!(status, 200, "{body}");
        // A schedule that has not changed continues.
        let rate = self.settings.rate.into();
        if self.varied.last() != Some(rate) {
            self.varied.change(rate, after, Instant::now());
        }
    }

    fn reload_broken_file(&mut self) {
        let broken = ["    speed: 3\n", "target: 5\n", "{{{{", "rate: 5\n", "\t", "- x\n", "\0"];
        let broken = broken[self.random.random_range(0..broken.len())];
        self.write(&(self.settings.yaml() + broken));
        let (status, body) = self.post("/-/reload");
        assert_eq!(status, 500, "{broken:?}: {body}");
    }

    fn set_manual_rate(&mut self) {
        let rate = self.random.random_range(1..=30_u32);
        let after = Instant::now();
        let path = format!("/api/v1/scenarios/manual/rate?rate={rate}/s&for=1h");
        let (status, body) = self.post(&path);
        assert_eq!(status, 200, "{body}");
        self.manual.change(rate.into(), after, Instant::now());
    }

    fn clear_manual_rate(&mut self) {
        let after = Instant::now();
        let path = "/api/v1/scenarios/manual/rate";
        let (status, _, body) = request(self.daemon.address, "DELETE", path).unwrap();
        assert_eq!(status, 200, "{body}");
        self.manual.change(4.0, after, Instant::now());
    }

    /// Stops the daemon for less than a second.
    fn freeze(&mut self) {
        let time = Duration::from_millis(self.random.random_range(50..900));
        signal(&self.daemon.child, "STOP");
        std::thread::park_timeout(time);
        signal(&self.daemon.child, "CONT");
    }

    /// Opens a connection to the web server that sends `text` and reads nothing.
    fn open_client(&mut self, text: &str) {
        let mut client = TcpStream::connect(self.daemon.address).unwrap();
        // The daemon can close a client that sends nonsense.
        let _written = client.write_all(text.as_bytes());
        self.clients.push(client);
        if self.clients.len() > MAX_CLIENTS {
            self.clients.remove(0);
        }
    }

    fn close_clients(&mut self) {
        let count = self.random.random_range(0..=self.clients.len());
        for mut client in self.clients.drain(..count) {
            let _set = client.set_nonblocking(true);
            let _read = client.read(&mut [0; 100]);
        }
    }

    fn change_target_process(&mut self) {
        match (&self.away.child, self.away.is_stopped) {
            (None, _) => _ = self.away.spawn(),
            (Some(child), true) => {
                signal(child, "CONT");
                self.away.is_stopped = false;
            }
            (Some(_), false) if self.random.random_bool(0.5) => self.away.kill(),
            // The kernel accepts connections, but the target does not respond.
            (Some(child), false) => {
                signal(child, "STOP");
                self.away.is_stopped = true;
            }
        }
    }

    /// Executes one action at random. Returns its name.
    fn act(&mut self) -> &'static str {
        match self.random.random_range(0..20) {
            0 => {
                assert_eq!(self.post("/-/pause").0, 200);
                "pause"
            }
            1..=2 => {
                assert_eq!(self.post("/-/resume").0, 200);
                "resume"
            }
            3 => {
                self.settings.rate = self.random.random_range(1..=40);
                self.reload();
                "reload with another rate"
            }
            4 => {
                self.settings.address = 1 - self.settings.address;
                self.reload();
                "reload with another target"
            }
            5 => {
                self.settings.has_guest = !self.settings.has_guest;
                self.settings.has_closed_loop = self.random.random_bool(0.7);
                self.settings.max_tokens = self.random.random_range(1..20);
                self.reload();
                "reload with other scenarios"
            }
            6 => {
                self.settings.archive = ARCHIVES[self.random.random_range(0..ARCHIVES.len())];
                self.reload();
                "reload with another archive"
            }
            7 => {
                self.reload_broken_file();
                "reload with a broken file"
            }
            8 => {
                signal(&self.daemon.child, "HUP");
                "SIGHUP"
            }
            9..=10 => {
                self.freeze();
                "SIGSTOP"
            }
            11 => {
                self.open_client("GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n");
                "a scraper that never reads"
            }
            12 => {
                self.open_client("GET /metrics HTTP/1.1\r\nhost: loc");
                "half a request"
            }
            13 => {
                self.open_client("\u{16}\u{3}\u{1} nonsense\r\n\r\nPOST / HTTP/9\r\n\r\n");
                "a request that is not HTTP"
            }
            14 => {
                self.close_clients();
                "closed clients"
            }
            15 => {
                self.set_manual_rate();
                "a manual rate"
            }
            16 => {
                self.clear_manual_rate();
                "no manual rate"
            }
            17..=18 => {
                self.guarded.change_health(self.random.random_range(0..3));
                "another health of a server"
            }
            _ => {
                self.change_target_process();
                "another state of the target process"
            }
        }
    }

    fn have_fixed_schedules_ended(&self) -> bool {
        let (_, _, page) = request(self.daemon.address, "GET", "/api/v1/status").unwrap();
        let status: serde_json::Value = serde_json::from_str(&page).unwrap();
        let scenarios = status["scenarios"].as_array().unwrap();
        FIXED.iter().all(|(name, _)| {
            let mut found = scenarios.iter().filter(|scenario| scenario["scenario"] == *name);
            found.all(|scenario| scenario["state"] == "ended")
        })
    }

    /// Waits until each guard has dropped arrivals.
    fn wait_for_guards(&mut self) {
        if !self.guarded.is_sick() {
            self.guarded.change_health(self.random.random_range(0..3));
        }
        let begun = Instant::now();
        while !self.guarded.has_only_probes() {
            self.check_running();
            self.guarded.check_breaker(self.daemon.address);
            assert!(begun.elapsed() < TEST_TIMEOUT, "the breaker never opened");
            pause();
        }
        let refusals = [
            ("shared", "rate_limit"),
            ("metered", "budget"),
            ("capped", "budget"),
            ("fragile", "breaker"),
        ];
        self.wait_until(|chaos| {
            let scrape = Scrape::of(chaos.daemon.address);
            refusals.iter().all(|(scenario, reason)| scrape.dropped(scenario, reason) > 0.0)
        });
        self.guarded.check_breaker(self.daemon.address);
        self.guarded.change_health(0);
        self.wait_until(|chaos| {
            let scrape = Scrape::of(chaos.daemon.address);
            scrape.sum("llmload_breaker_open", "scenario=\"fragile\"") == 0.0
        });
    }

    /// Ends all faults and all load.
    fn calm_down(&mut self) {
        self.clients.clear();
        assert_eq!(self.post("/-/resume").0, 200);
        self.wait_for_guards();
        self.settings.has_guarded_load = false;
        // A manual rate cannot be 0. At this rate, the first arrival is due in half an hour.
        let after = Instant::now();
        let (status, body) = self.post("/api/v1/scenarios/manual/rate?rate=1/h&for=1h");
        assert_eq!(status, 200, "{body}");
        self.manual.change(0.0, after, Instant::now());
        self.settings.rate = 0;
        self.settings.has_closed_loop = false;
        self.settings.has_guest = false;
        self.settings.archive = ARCHIVES[0];
        self.reload();
        self.wait_until(|chaos| {
            let scrape = Scrape::of(chaos.daemon.address);
            scrape.in_flight() == 0.0
                && scrape
                    .series()
                    .iter()
                    .all(|series| !series.contains("\"guest\"") && !series.contains("\"closed\""))
        });
    }

    fn check_arrivals(&self) {
        let scrape = Scrape::of(self.daemon.address);
        for (scenario, per_second) in FIXED {
            // A scenario with two targets counts each arrival once for each target.
            let targets = if scenario == "paired" { 2.0 } else { 1.0 };
            let area = per_second * f64::from(self.settings.seconds) * targets;
            let arrivals = scrape.arrivals(scenario);
            assert!(
                (arrivals - area).abs() <= targets,
                "{scenario}: {arrivals} arrivals, but the area is {area}"
            );
        }
        for (scenario, rates) in [("varied", &self.varied), ("manual", &self.manual)] {
            let (least, most) = rates.arrivals();
            let arrivals = scrape.arrivals(scenario);
            assert!(
                (least..=most).contains(&arrivals),
                "{scenario}: {arrivals} arrivals instead of {least} to {most}"
            );
        }
    }

    /// Checks the files that the daemon has written.
    fn check_files(&self) {
        let folder = self.daemon.folder.path().join(ARCHIVES[0]);
        let (mut size, mut has_quote) = (0, false);
        for entry in std::fs::read_dir(folder).unwrap() {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            size += text.len();
            assert_clean("the archive", &text);
            has_quote |= text.contains("[redacted]");
            for line in text.lines() {
                assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line}");
            }
        }
        assert!((1..=1 << 20).contains(&size), "the archive has {size} bytes");
        assert!(has_quote, "a server has quoted a secret");
    }

    /// Checks the budget of `capped` against the requests that its server has counted.
    fn check_budget(&self) -> Budget {
        let scrape = Scrape::of(self.daemon.address);
        let budget = Budget {
            used: scrape.sum("llmload_budget_used", "scenario=\"capped\""),
            reset: scrape.sum(RESET, "scenario=\"capped\""),
        };
        // A test that runs at the end of a month has spent two budgets.
        if budget.reset == self.reset {
            let arrived = self.guarded.paid.requests() as f64;
            assert_eq!(arrived, budget.used, "the server has counted other requests");
            assert!(arrived <= f64::from(self.settings.seconds), "{arrived} requests");
        }
        budget
    }

    /// Checks that a normal end has saved the exact spending of `capped`.
    fn check_state_file(&self, budget: Budget) {
        let path = self.daemon.folder.path().join("state/budgets.json");
        let text = std::fs::read_to_string(path).unwrap();
        assert_clean("the state file", &text);
        let state: serde_json::Value = serde_json::from_str(&text).unwrap();
        let mut entries = state["budgets"].as_array().unwrap().iter();
        let capped = entries.find(|entry| entry["scenario"] == "capped").unwrap();
        if capped["current"]["to"].as_f64() == Some(budget.reset) {
            assert_eq!(capped["current"]["requests"].as_f64(), Some(budget.used), "{text}");
        }
    }

    /// Prints the values for `docs/soak.md`.
    #[allow(clippy::print_stdout)]
    fn print_figures(&self, scrapes: u64) {
        let scrape = Scrape::of(self.daemon.address);
        let sum = |name: &str| scrape.sum(name, "");
        let refused = |reason: &str| {
            scrape.sum("llmload_arrivals_dropped_total", &format!("reason=\"{reason}\""))
        };
        println!(
            "seed {}: {} actions, {scrapes} scrapes, {} series, {} arrivals, {} dropped ({} by \
             budgets, {} by rate limits, {} by breakers), {} failures, {} connection retries, \
             {:.0} MiB of memory",
            self.settings.seed,
            self.actions.len(),
            scrape.series().len(),
            sum("llmload_arrivals_total"),
            sum("llmload_arrivals_dropped_total"),
            refused("budget"),
            refused("rate_limit"),
            refused("breaker"),
            sum("llmload_request_failures_total"),
            sum("llmload_connection_retries_total"),
            sum("process_resident_memory_bytes") / f64::from(1 << 20),
        );
    }

    fn run(mut self) {
        let (files, threads) = (self.daemon.open_files(), self.daemon.threads());
        while self.actions.len() < MIN_ACTIONS || !self.have_fixed_schedules_ended() {
            self.check_running();
            let action = self.act();
            self.actions.push(action);
            self.guarded.check_breaker(self.daemon.address);
            std::thread::park_timeout(Duration::from_millis(self.random.random_range(0..200)));
        }
        self.calm_down();
        self.check_arrivals();
        self.guarded.check_requests();
        let budget = self.check_budget();
        // Idle connections end after four seconds.
        self.wait_until(|chaos| chaos.daemon.open_files() <= files + 5);
        assert!(self.daemon.threads() <= threads + 2, "{} threads", self.daemon.threads());
        self.check_running();
        self.stop.store(true, Ordering::Relaxed);
        let scrapes = self.watcher.take().unwrap().join().unwrap();
        self.print_figures(scrapes);
        signal(&self.daemon.child, "TERM");
        let status = self.daemon.child.wait().unwrap();
        assert_eq!(status.code(), Some(0));
        self.check_files();
        self.check_state_file(budget);
    }
}

/// Runs for 30 seconds. `LLMLOAD_TEST_CHAOS=600` sets the time in seconds, and
/// `LLMLOAD_TEST_CHAOS_SEED` the seed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_any_faults_the_ledger_balances_rates_and_guards_hold_and_no_secret_is_shown() {
    let seconds = u32::try_from(from_environment("LLMLOAD_TEST_CHAOS", 30)).unwrap();
    let seed = from_environment("LLMLOAD_TEST_CHAOS_SEED", 0);
    let mut wire = Vec::new();
    for _ in 0..2 {
        let upstream = Upstream::start_with_head(move |number, request| {
            let quote = request.replace("\r\n", " | ");
            Kind::choose(seed, number).script(number, &quote)
        })
        .await;
        wire.push(upstream.address);
    }
    let wire = [wire[0], wire[1]];
    let secure = Secure::start(seed, wire[0]).await;
    let guarded = Guarded::start().await;
    let run = move || Chaos::start(seed, seconds, wire, secure, guarded).run();
    tokio::task::spawn_blocking(run).await.unwrap();
}
