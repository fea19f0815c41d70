//! Servers behind rate limits, budgets and a breaker. They count the requests that arrive, so the
//! test can compare the guards with the view of the servers.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use super::scrape::{Scrape, is_refused};
use crate::upstream::{Act, Upstream, good, head, plain};

/// The limit of the target `limited`, in requests per minute.
pub const PER_MINUTE: u32 = 240;
/// The highest `max_concurrency` of the two scenarios of the target `limited`, and of `capped`.
pub const CONCURRENCY: u32 = 2;
/// The shortest pause of the breaker.
pub const PAUSE: Duration = Duration::from_millis(300);
/// The statuses of a sick server. The breaker opens at once after the first two.
const SICK: [&str; 3] = ["401 Unauthorized", "402 Payment Required", "500 Oops"];
const FRAGILE: &str = "scenario=\"fragile\"";

/// A request at a server.
#[derive(Clone, Copy, Debug)]
struct Arrived {
    at: Instant,
    was_sick: bool,
}

/// A server with correct responses, except while it is sick.
pub struct Server {
    pub address: SocketAddr,
    arrived: Arc<Mutex<Vec<Arrived>>>,
    /// 0 is a healthy server. Any other number is a status of `SICK`, from 1.
    sickness: Arc<AtomicUsize>,
}

impl Server {
    /// `refuses` chooses the requests that the server refuses with `retry-after`.
    async fn start(refuses: fn(usize) -> bool) -> Server {
        let arrived: Arc<Mutex<Vec<Arrived>>> = Arc::default();
        let sickness: Arc<AtomicUsize> = Arc::default();
        let (log, health) = (Arc::clone(&arrived), Arc::clone(&sickness));
        let script = move |_, request: &str| {
            // llmload also requests the models and the version.
            if !request.starts_with("POST ") {
                return plain("404 Not Found", "text/plain", "");
            }
            let mut arrived = log.lock().unwrap();
            let sickness = health.load(Ordering::SeqCst);
            arrived.push(Arrived { at: Instant::now(), was_sick: sickness > 0 });
            match sickness.checked_sub(1) {
                Some(index) => plain(SICK[index], "application/json", "{}"),
                None if refuses(arrived.len()) => too_many_requests(),
                None => good(),
            }
        };
        let address = Upstream::start_with_head(script).await.address;
        Server { address, arrived, sickness }
    }

    fn arrived(&self) -> MutexGuard<'_, Vec<Arrived>> {
        self.arrived.lock().unwrap()
    }

    pub fn requests(&self) -> usize {
        self.arrived().len()
    }
}

fn too_many_requests() -> Vec<Act> {
    vec![head("429 Too Many Requests", &["retry-after: 1", "content-length: 0"])]
}

/// The knowledge of the test about the breaker of `fragile` while the server is sick. A sick server
/// lets no probe succeed, so an open breaker stays open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Nothing,
    Open,
    /// The breaker is open, and all requests from the time before it opened have ended.
    OnlyProbes,
}

/// The three servers behind guards.
pub struct Guarded {
    /// Two scenarios share its rate limits. One of them has a budget of tokens.
    pub limited: Server,
    /// Its scenario has a budget of requests.
    pub paid: Server,
    /// Its scenario has a breaker.
    pub fragile: Server,
    known: Known,
    /// The number of requests at `fragile` when it became sick.
    healthy_until: usize,
    /// The instants from which only probes arrive at `fragile`, until one succeeds.
    only_probes_from: Vec<Instant>,
}

impl Guarded {
    pub async fn start() -> Guarded {
        Guarded {
            limited: Server::start(|number| number.is_multiple_of(40)).await,
            paid: Server::start(|_| false).await,
            fragile: Server::start(|_| false).await,
            known: Known::Nothing,
            healthy_until: 0,
            only_probes_from: Vec::new(),
        }
    }

    pub fn is_sick(&self) -> bool {
        self.fragile.sickness.load(Ordering::SeqCst) > 0
    }

    /// Makes the server `fragile` sick if it is healthy, else healthy.
    pub fn change_health(&mut self, choice: usize) {
        let sickness = if self.is_sick() { 0 } else { 1 + choice % SICK.len() };
        self.known = Known::Nothing;
        let arrived = self.fragile.arrived();
        self.healthy_until = arrived.len();
        self.fragile.sickness.store(sickness, Ordering::SeqCst);
    }

    /// Returns true if the breaker is certainly open and lets only probes through.
    pub fn has_only_probes(&self) -> bool {
        self.known == Known::OnlyProbes
    }

    /// Checks the breaker of `fragile` while the server is sick.
    pub fn check_breaker(&mut self, address: SocketAddr) {
        // Before the first failure, a probe can still have a success from the healthy server.
        if !self.is_sick() || self.fragile.requests() == self.healthy_until {
            return;
        }
        let scrape = Scrape::of(address);
        let is_open = scrape.sum("llmload_breaker_open", FRAGILE) == 1.0;
        let in_flight = scrape.sum("llmload_requests_in_flight", FRAGILE);
        match self.known {
            Known::Nothing if is_open => self.known = Known::Open,
            Known::Nothing => {}
            Known::Open | Known::OnlyProbes => {
                assert!(is_open, "the breaker closed without a success ({:?})", self.known);
                if self.known == Known::OnlyProbes {
                    assert!(in_flight <= 1.0, "{in_flight} requests, but a probe is a single one");
                } else if in_flight == 0.0 {
                    self.known = Known::OnlyProbes;
                    self.only_probes_from.push(Instant::now());
                }
            }
        }
    }

    /// Checks the requests at `limited` and `fragile`.
    pub fn check_requests(&self) {
        self.check_rate();
        self.check_probes();
    }

    /// In each span of time, the server has received no more requests than the limit of this span,
    /// its burst, and the requests that were in flight when the span began.
    fn check_rate(&self) {
        let arrived = self.limited.arrived();
        let most = f64::from(PER_MINUTE / 60 + 2 * CONCURRENCY);
        let mut least = f64::INFINITY;
        for (number, request) in arrived.iter().enumerate() {
            let seconds = request.at.duration_since(arrived[0].at).as_secs_f64();
            let above = number as f64 - seconds * f64::from(PER_MINUTE) / 60.0;
            least = least.min(above);
            let burst = above + 1.0 - least;
            assert!(burst <= most + 0.001, "a burst of {burst} requests, but {most} are allowed");
        }
    }

    /// A pause begins after the end of a probe, so two probes are never closer than a pause.
    fn check_probes(&self) {
        let arrived = self.fragile.arrived();
        for from in &self.only_probes_from {
            let probes = arrived.iter().skip_while(|request| request.at <= *from);
            let mut before: Option<Instant> = None;
            for probe in probes {
                let gap = before.map(|before| probe.at - before);
                assert!(gap.is_none_or(|gap| gap >= PAUSE), "{gap:?} between two probes");
                before = Some(probe.at);
                if !probe.was_sick {
                    break;
                }
            }
        }
    }
}

/// Servers at which requests arrived at these times, in milliseconds.
fn after(limited: &[u64], fragile: &[u64]) -> Guarded {
    let start = Instant::now();
    let server = |times: &[u64]| {
        let arrived =
            |time: &u64| Arrived { at: start + Duration::from_millis(*time), was_sick: true };
        let arrived = Arc::new(Mutex::new(times.iter().map(arrived).collect()));
        Server { address: ([127, 0, 0, 1], 0).into(), arrived, sickness: Arc::default() }
    };
    Guarded {
        limited: server(limited),
        paid: server(&[]),
        fragile: server(fragile),
        known: Known::Nothing,
        healthy_until: 0,
        only_probes_from: vec![start],
    }
}

/// If the checks accepted these requests, the chaos test would prove nothing.
#[test]
fn a_broken_rate_limit_and_a_broken_breaker_are_found() {
    // A burst of 4, and 4 requests in flight. One more is due after 250 ms.
    let burst = [0; 8];
    after(&[&burst[..], &[250]].concat(), &[1, 301]).check_requests();
    assert!(is_refused(|| after(&[&burst[..], &[200]].concat(), &[]).check_requests()));
    let late_burst: Vec<u64> = [0].into_iter().chain([60_000; 9]).collect();
    assert!(is_refused(|| after(&late_burst, &[]).check_requests()));
    assert!(is_refused(|| after(&[], &[1, 300]).check_requests()));
}
