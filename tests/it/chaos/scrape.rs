//! Reads `/metrics` and the other pages again and again, and checks the invariants each time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::guarded::CONCURRENCY;
use crate::binary::request;
use crate::secrets::assert_clean;

/// The limit of the memory of the daemon, in bytes. `deploy/sidecar` grants the same to a pod.
const MEMORY: f64 = (256_u32 << 20) as f64;
/// The scenarios that a reload removes or adds. Their counters can begin again at 0.
const COME_AND_GO: [&str; 2] = ["guest", "closed"];
/// The highest number of series. The plan of the test needs about half of it.
const MAX_SERIES: usize = 8_000;
/// The tokens that the servers behind guards count for each request.
const TOKENS: u32 = 5;

/// The samples of one scrape. The key is the name of the metric with its labels.
pub struct Scrape(BTreeMap<String, f64>);

/// The counters of one route: arrivals, dropped, started, finished, aborted and in flight.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    arrivals: f64,
    dropped: f64,
    started: f64,
    finished: f64,
    aborted: f64,
    in_flight: f64,
    limit: f64,
}

impl Scrape {
    pub fn of(address: SocketAddr) -> Scrape {
        let (status, head, page) = request(address, "GET", "/metrics").expect("a scrape");
        assert_eq!(status, 200, "{head}\n{page}");
        Scrape::parse(&page)
    }

    fn parse(page: &str) -> Scrape {
        assert!(page.ends_with('\n'), "the page is cut off");
        assert_clean("/metrics", page);
        let samples = page.lines().filter(|line| !line.starts_with('#')).map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            (series.to_owned(), value.parse::<f64>().unwrap())
        });
        Scrape(samples.collect())
    }

    pub fn series(&self) -> BTreeSet<&str> {
        self.0.keys().map(String::as_str).collect()
    }

    /// Returns the sum of the samples of the metric `name` with this label.
    pub fn sum(&self, name: &str, label: &str) -> f64 {
        let wanted = self.0.iter().filter(|(series, _)| {
            let rest = series.strip_prefix(name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('{'))
                && series.contains(label)
        });
        wanted.map(|(_, value)| value).sum()
    }

    pub fn arrivals(&self, scenario: &str) -> f64 {
        self.sum("llmload_arrivals_total", &format!("scenario=\"{scenario}\""))
    }

    pub fn dropped(&self, scenario: &str, reason: &str) -> f64 {
        let labels = [format!("scenario=\"{scenario}\""), format!("reason=\"{reason}\"")];
        let wanted = self.0.iter().filter(|(series, _)| {
            series.starts_with("llmload_arrivals_dropped_total{")
                && labels.iter().all(|label| series.contains(label))
        });
        wanted.map(|(_, value)| value).sum()
    }

    pub fn in_flight(&self) -> f64 {
        self.sum("llmload_requests_in_flight", "")
    }

    /// Checks every invariant that one scrape can show.
    pub fn check(&self) {
        assert!(self.0.len() <= MAX_SERIES, "{} series", self.0.len());
        let memory = self.sum("process_resident_memory_bytes", "");
        assert!(memory <= MEMORY, "{memory} bytes of memory");
        for (route, counts) in self.routes() {
            let Counts { arrivals, dropped, started, finished, aborted, in_flight, limit } = counts;
            assert_eq!(arrivals, started + dropped, "{route}: {counts:?}");
            assert_eq!(started, finished + aborted + in_flight, "{route}: {counts:?}");
            assert!((0.0..=limit).contains(&in_flight), "{route}: {counts:?}");
        }
        for (series, value) in &self.0 {
            if let Some(labels) = series.strip_prefix("llmload_budget_used") {
                let limit = self.0[&format!("llmload_budget_limit{labels}")];
                // Each request in flight can end with more tokens than its reservation.
                let in_flight =
                    if labels.contains("\"tokens\"") { TOKENS * CONCURRENCY } else { 0 };
                assert!(*value <= limit + f64::from(in_flight), "{series} {value} of {limit}");
            }
            let is_signed = series.contains("difference") || series.contains("margin");
            assert!(*value >= 0.0 || is_signed || value.is_nan(), "{series} {value}");
        }
    }

    /// Checks that no counter has decreased since an earlier scrape.
    pub fn check_after(&self, before: &Scrape) {
        for (series, value) in &self.0 {
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let is_counter = ["_total", "_count", "_bucket"].iter().any(|end| name.ends_with(end));
            let comes_and_goes = COME_AND_GO
                .iter()
                .any(|scenario| labels.contains(&format!("scenario=\"{scenario}\"")));
            if is_counter && !comes_and_goes {
                let earlier = before.0.get(series).copied().unwrap_or(0.0);
                assert!(*value >= earlier, "{series} decreased from {earlier} to {value}");
            }
        }
    }

    fn routes(&self) -> BTreeMap<String, Counts> {
        let mut routes: BTreeMap<String, Counts> = BTreeMap::new();
        for (series, value) in &self.0 {
            let Some((name, labels)) = series.split_once('{') else { continue };
            let field: fn(&mut Counts) -> &mut f64 = match name {
                "llmload_arrivals_total" => |counts| &mut counts.arrivals,
                "llmload_arrivals_dropped_total" => |counts| &mut counts.dropped,
                "llmload_requests_started_total" => |counts| &mut counts.started,
                "llmload_requests_total" => |counts| &mut counts.finished,
                "llmload_requests_aborted_total" => |counts| &mut counts.aborted,
                "llmload_requests_in_flight" => |counts| &mut counts.in_flight,
                "llmload_requests_in_flight_limit" => |counts| &mut counts.limit,
                _ => continue,
            };
            let is_route = |label: &&str| {
                ["target=", "model=", "scenario="].iter().any(|name| label.starts_with(name))
            };
            let labels: Vec<&str> =
                labels.trim_end_matches('}').split(',').filter(is_route).collect();
            *field(routes.entry(labels.join(",")).or_default()) += value;
        }
        routes
    }
}

/// Scrapes until `stop` is true, and reads one of the other pages after each scrape. Returns the
/// number of scrapes.
pub fn watch(address: SocketAddr, stop: &Arc<AtomicBool>) -> u64 {
    let mut before: Option<Scrape> = None;
    let mut scrapes = 0;
    for path in ["/api/v1/status", "/config", "/", "/-/healthy", "/-/ready"].iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let scrape = Scrape::of(address);
        scrape.check();
        if let Some(before) = &before {
            scrape.check_after(before);
        }
        before = Some(scrape);
        scrapes += 1;
        let (status, _, page) = request(address, "GET", path).expect("a page");
        assert_eq!(status, 200, "{path}: {page}");
        assert_clean(path, &page);
        if *path == "/api/v1/status" {
            check_status(&page);
        }
    }
    scrapes
}

/// Checks the equations of every ledger in the status.
fn check_status(page: &str) {
    let status: serde_json::Value = serde_json::from_str(page).unwrap();
    for scenario in status["scenarios"].as_array().unwrap() {
        assert_eq!(scenario["ledger"]["balanced"], true, "{scenario}");
    }
}

/// A page that keeps every invariant.
const GOOD: &str = "\
process_resident_memory_bytes 100000000
llmload_arrivals_total{target=\"t\",model=\"m\",scenario=\"s\"} 12
llmload_arrivals_dropped_total{target=\"t\",model=\"m\",scenario=\"s\",reason=\"late\"} 2
llmload_requests_started_total{target=\"t\",model=\"m\",scenario=\"s\"} 10
llmload_requests_total{target=\"t\",model=\"m\",scenario=\"s\"} 6
llmload_requests_aborted_total{target=\"t\",model=\"m\",scenario=\"s\",reason=\"drain\"} 1
llmload_requests_in_flight{target=\"t\",model=\"m\",scenario=\"s\"} 3
llmload_requests_in_flight_limit{target=\"t\",model=\"m\",scenario=\"s\"} 3
llmload_budget_used{scenario=\"s\",per=\"day\",unit=\"requests\"} 10
llmload_budget_limit{scenario=\"s\",per=\"day\",unit=\"requests\"} 10
";

/// Returns true if a check fails.
pub fn is_refused(check: impl FnOnce()) -> bool {
    std::panic::catch_unwind(AssertUnwindSafe(check)).is_err()
}

/// If the checks accepted a broken page, the chaos test would prove nothing.
#[test]
fn every_broken_invariant_of_a_page_is_found() {
    Scrape::parse(GOOD).check();
    for (value, broken) in [
        ("_bytes 100000000", "_bytes 268435457"),
        ("_arrivals_total{target=\"t\",model=\"m\",scenario=\"s\"} 12", "_arrivals_total{} 13"),
        ("reason=\"late\"} 2", "reason=\"late\"} 1"),
        ("reason=\"drain\"} 1", "reason=\"drain\"} 0"),
        ("_in_flight{target=\"t\",model=\"m\",scenario=\"s\"} 3", "_in_flight{} -1"),
        (
            "_limit{target=\"t\",model=\"m\",scenario=\"s\"} 3",
            "_limit{target=\"t\",model=\"m\",\
          scenario=\"s\"} 2",
        ),
        (
            "unit=\"requests\"} 10\nllmload_budget_limit",
            "unit=\"requests\"} 11\n\
          llmload_budget_limit",
        ),
    ] {
        assert!(GOOD.contains(value), "{value}");
        let page = GOOD.replacen(value, broken, 1);
        assert!(is_refused(|| Scrape::parse(&page).check()), "{broken}");
    }
    let many = (0..=MAX_SERIES).map(|k| format!("x{{k=\"{k}\"}} 1")).collect::<Vec<_>>();
    let many = many.join("\n") + "\n";
    assert!(is_refused(|| Scrape::parse(&many).check()));
    assert!(is_refused(|| _ = Scrape::parse(GOOD.trim_end())), "the page is cut off");
    let secret = GOOD.replace("\"m\"", "\"sk-cAnArY\"");
    assert!(is_refused(|| _ = Scrape::parse(&secret)));
}

#[test]
fn a_counter_that_decreases_is_found_unless_its_scenario_was_removed() {
    let before = Scrape::parse(GOOD);
    let less = GOOD.replace("\"s\"} 6", "\"s\"} 5");
    assert!(is_refused(|| Scrape::parse(&less).check_after(&Scrape::parse(GOOD))));
    Scrape::parse(GOOD).check_after(&before);
    let guest = |page: &str| Scrape::parse(&page.replace("\"s\"", "\"guest\""));
    guest(&less).check_after(&guest(GOOD));
    assert!(is_refused(|| check_status(r#"{"scenarios":[{"ledger":{"balanced":false}}]}"#)));
    check_status(r#"{"scenarios":[{"ledger":{"balanced":true}}]}"#);
}
