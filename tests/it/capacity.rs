//! Searches for the capacity of a target: in simulated time against a server in memory, and the
//! command `capacity` against the simulator.

use std::collections::{BTreeSet, VecDeque};
use std::num::NonZeroU32;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use llmload::capacity::{Ending, Level, Outcome, Reason, Search};
use llmload::endpoint::{Endpoint, Request, SendStep};
use llmload::generator::GeneratorMonitor;
use llmload::guard::{Guard, Pause};
use llmload::launch::{Mailbox, Route};
use llmload::measurement::FailureDetail;
use llmload::report::{ReasonCode, SearchReport};
use llmload::schedule::{ArrivalSpec, Load, Phase, SearchRange, SearchSpec};
use llmload::schedule_state::{RateOverride, ScheduleState};
use llmload::simulator::{Simulator, SimulatorOptions};
use llmload::slo::{Criterion, LatencyMetric, Objective, Share, Slo};
use llmload::tally::{SearchMeter, StepMeter};
use llmload::timetable::Cycles;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::binary::{Daemon, sample};
use crate::open_loop::{Bench, ONCE, constant, phase};
use crate::run::{RunOutput, on, ran, run_against};
use crate::upstream::{
    Act, DONE, FINISH, InMemory, InMemoryResponse, USAGE, Upstream, data, good, plain, token,
};

/// A server that works on some requests at a time, one second on each. The others wait.
struct SlottedEndpoint {
    slots: Semaphore,
    in_flight: AtomicUsize,
    /// The number of requests in flight at the arrival of each request, without this request.
    before_each: Mutex<Vec<usize>>,
}

struct Leaves<'a>(&'a AtomicUsize);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Endpoint for SlottedEndpoint {
    type Response = InMemoryResponse;

    async fn send(
        &self,
        _: Request,
        mut report: impl FnMut(SendStep) + Send,
    ) -> Result<InMemoryResponse, FailureDetail> {
        report(SendStep::Begun { waited: Duration::ZERO });
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.before_each.lock().unwrap().push(before);
        // A request that times out ends at once.
        let _leaves = Leaves(&self.in_flight);
        let _slot = self.slots.acquire().await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(InMemoryResponse(VecDeque::from([data(&[&token("a"), FINISH, USAGE, DONE])])))
    }
}

/// The outcome of a search, with the search itself.
struct Searched {
    outcome: Outcome,
    search: Search,
    server: Arc<SlottedEndpoint>,
    state: Arc<ScheduleState>,
}

impl Searched {
    fn met(&self) -> f64 {
        self.outcome.met.as_ref().unwrap().plan.level.value()
    }

    fn interval(&self) -> (f64, f64) {
        let (lower, upper) = self.outcome.interval;
        (lower.unwrap().value(), upper.unwrap().value())
    }
}

/// A search against a server with four slots. 90 % of the requests must wait at most half a second
/// for a slot.
async fn search(range: SearchRange, commands: impl AsyncFnOnce(&Mailbox)) -> Searched {
    search_after(constant("1/s", 3), range, commands).await
}

/// The same search after another phase.
async fn search_after(
    before: Phase,
    range: SearchRange,
    commands: impl AsyncFnOnce(&Mailbox),
) -> Searched {
    let criterion = Criterion::Latency(LatencyMetric::Ttft, Duration::from_millis(1500));
    let objective = Objective { criterion, share: Share::percent(90) };
    let spec = SearchSpec {
        range,
        resolution: Share::percent(5),
        step: Duration::from_mins(1),
        slo: Slo { objectives: vec![objective], abort: false },
    };
    let bench = Bench::new(InMemory::silent(), 256);
    let search = phase(Load::Search(Arc::new(spec)), Duration::ZERO);
    let phases = vec![before, search, constant("1/s", 3)];
    let cycles = Cycles::BackToBack { repeat: ONCE, when_ready: false };
    let (driver, state) = bench.driver_with_state(phases, cycles, ArrivalSpec::default(), None);
    let steps = Arc::<StepMeter>::default();
    let generator = GeneratorMonitor::new();
    let mut driver = driver.with_meter(Arc::new(SearchMeter::new(Arc::clone(&steps), generator)));
    let server = Arc::new(SlottedEndpoint {
        slots: Semaphore::new(4),
        in_flight: AtomicUsize::new(0),
        before_each: Mutex::default(),
    });
    let (mailbox, mut alarm, stop) = (driver.mailbox(), bench.alarm(), bench.stop.clone());
    let route = Arc::new(Route {
        target: "t".into(),
        endpoint: Arc::clone(&server),
        template: Arc::into_inner(bench.route).unwrap().template,
        guard: Guard::new(
            stop.clone(),
            Pause::default(),
            Duration::from_millis(500),
            NonZeroU32::new(256).unwrap(),
        ),
        observer: steps,
        sessions: None,
        state: Arc::default(),
    });
    tokio::join!(driver.run(&route, &mut alarm, &stop), commands(&mailbox));
    let counts = route.state.ledger.counts();
    assert_eq!(counts.first_broken_equation(), None);
    let [last] = <[_; 1]>::try_from(state.searches.states()).unwrap();
    Searched { outcome: last.outcome.unwrap(), search: last.search, server, state }
}

fn rates(from: &str, to: &str) -> SearchRange {
    SearchRange::Rate { from: from.parse().unwrap(), to: to.parse().unwrap() }
}

fn concurrencies(from: u32, to: u32) -> SearchRange {
    let slots = |count| NonZeroU32::new(count).unwrap();
    SearchRange::Concurrency { from: slots(from), to: slots(to) }
}

#[tokio::test(start_paused = true)]
async fn a_search_by_rate_finds_the_slots_divided_by_the_service_time() {
    let searched = search(rates("1/s", "50/s"), async |_| {}).await;
    assert_eq!(searched.outcome.ending, Ending::Found);
    assert!((3.8..=4.1).contains(&searched.met()), "{}", searched.met());
    let (lower, upper) = searched.interval();
    assert!(lower <= 4.0 && 4.0 <= upper && upper / lower < 1.15, "{lower} to {upper}");
    let (capacity, _) = searched.state.searches.capacity().unwrap();
    assert!((capacity.requests_per_second - searched.met()).abs() < 1e-9);
    assert_eq!(capacity.concurrency, None);
}

#[tokio::test(start_paused = true)]
async fn a_search_by_concurrency_finds_the_longest_wait_that_is_allowed() {
    // With six requests at a time, each waits half a second on average, and two of six a second.
    let searched = search(concurrencies(1, 100), async |_| {}).await;
    assert_eq!(searched.outcome.ending, Ending::Found);
    assert!((4.0..=6.0).contains(&searched.met()), "{}", searched.met());
    let (capacity, _) = searched.state.searches.capacity().unwrap();
    assert_eq!(capacity.concurrency, Some(searched.met()));
    assert!((3.5..=4.1).contains(&capacity.requests_per_second), "{capacity:?}");
}

/// The requests of an overloaded step must not slow the next step down.
#[tokio::test(start_paused = true)]
async fn each_step_begins_when_no_request_is_in_flight() {
    let searched = search(rates("2/s", "50/s"), async |_| {}).await;
    let before_each = searched.server.before_each.lock().unwrap();
    let highest = *before_each.iter().max().unwrap();
    assert!(highest > 20, "no step was overloaded: {highest}");
    // An arrival finds the server empty only at the start of a step, because the other steps of
    // this search have more than one request in flight on average.
    let steps = searched.search.steps();
    let fast = steps.iter().filter(|step| step.plan.level > Level::Rate("2/s".parse().unwrap()));
    let empty = before_each.iter().filter(|before| **before == 0).count();
    assert!(empty >= fast.count(), "{empty} of {}", steps.len());
    let waits = steps.iter().filter(|step| step.plan.level.value() < 3.9);
    for step in waits {
        // A request in an empty server takes a second, so no earlier request was in the way.
        assert!(step.result.time_to_first_token.p99.unwrap() < 1.01, "{step:?}");
    }
}

/// The four slots need 15 s for the 60 requests of the phase before.
#[tokio::test(start_paused = true)]
async fn the_first_step_begins_when_no_request_of_the_phase_before_is_in_flight() {
    for range in [rates("2/s", "50/s"), concurrencies(1, 100)] {
        let searched = search_after(constant("20/s", 3), range, async |_| {}).await;
        let before_each = searched.server.before_each.lock().unwrap();
        assert!(before_each[59] > 40, "{before_each:?}");
        assert_eq!(before_each[60], 0, "{:?}", &before_each[55..65]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_counts_the_arrivals_after_the_time_to_settle_and_no_others() {
    let searched = search(rates("1/s", "50/s"), async |_| {}).await;
    for step in searched.search.steps().iter().filter(|step| !step.result.is_cut_short) {
        let expected = step.plan.level.value() * step.result.measured.as_secs_f64();
        #[allow(clippy::cast_precision_loss)]
        let counted = step.result.requests as f64;
        assert!((counted - expected).abs() <= 1.0, "{step:?}");
        let ended = step.result.succeeded + step.result.failed + step.result.dropped;
        assert_eq!(ended, step.result.requests);
        assert!(step.plan.settle >= Duration::from_secs(12), "{step:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_manual_rate_ends_a_search_without_a_result() {
    let searched = search(rates("1/s", "50/s"), async |mailbox| {
        tokio::time::sleep(Duration::from_secs(100)).await;
        let (rate, length) = ("1/s".parse().unwrap(), Duration::from_secs(30));
        mailbox.set_rate(RateOverride::Set { rate, length });
    })
    .await;
    assert_eq!(searched.outcome.ending, Ending::Interrupted);
    assert_eq!(searched.search.steps()[0].plan.reason, Reason::First);
    assert_eq!(searched.state.searches.capacity(), None);
}

/// Runs `llmload capacity` in an empty folder. A busy machine can distort the same step twice, so
/// the search is repeated then.
async fn capacity(url: String, arguments: &'static [&'static str]) -> RunOutput {
    for _ in 0..10 {
        let url = url.clone();
        let run = move || {
            let folder = tempfile::tempdir().unwrap();
            let mut command = Command::new(env!("CARGO_BIN_EXE_llmload"));
            command.current_dir(folder.path()).args(["capacity", &url, "--report", "out"]);
            let output = command.args(arguments).output().unwrap();
            ran(folder.path(), &output)
        };
        let ran = tokio::task::spawn_blocking(run).await.unwrap();
        let is_distorted = ran.report.as_ref().is_some_and(|report| {
            let phases = report.routes.iter().flat_map(|route| &route.phases);
            let mut searches = phases.filter_map(|phase| phase.search.as_ref());
            searches.any(|search| search.ending == "distorted")
        });
        if !is_distorted {
            return ran;
        }
    }
    panic!("this machine distorted ten searches");
}

/// Two slots, and 0.2 s for each request.
fn simulator() -> Simulator {
    let options = SimulatorOptions {
        slots: 2,
        prefill_tokens_per_second: 1e6,
        decode_tokens_per_second: 640.0,
        full_load_speed: 1.0,
        jitter: 0.0,
        ..SimulatorOptions::default()
    };
    Simulator::start(options, std::net::TcpListener::bind("127.0.0.1:0").unwrap()).unwrap()
}

#[tokio::test]
async fn the_command_ends_in_one_sentence_with_every_step_in_the_report() {
    let simulator = simulator();
    let url = format!("http://{}/v1", simulator.address());
    // The median waits less than a service time as long as fewer than four requests are in flight.
    let arguments =
        &["--slo", "ttft p50<150ms, success>50%", "--from", "1", "--to", "16", "--for", "1s"];
    let ran = capacity(url, arguments).await;
    assert_eq!(ran.code, 0, "{}\n{}", ran.table, ran.log);
    let report = ran.report.as_ref().unwrap();
    let search = report.routes[0].phases[0].search.as_ref().unwrap();
    let met = search.met.unwrap();
    assert!((2.0..=4.0).contains(&met), "{}", ran.table);
    assert!(search.sentence.contains("ttft p50 ≤ 150 ms and success ≥ 50 %"), "{}", ran.table);
    assert!(search.steps.len() >= 3 && search.steps[0].reason == "first");
    assert!(ran.table.contains("llmload capacity passed: the capacity is"), "{}", ran.table);
    assert!(ran.table.lines().all(|line| line.chars().count() <= 80), "{}", ran.table);
    assert!(ran.log.contains("step 1: 1 at a time"), "{}", ran.log);
    let [markdown, html] = &ran.files;
    assert!(markdown.contains("Steps of the search"), "{markdown}");
    assert!(html.contains("TTFT p50 of each step") && html.contains("meets the objectives"));
    let csv = llmload::report::csv(report);
    let rows: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(rows.len(), 1 + search.steps.len(), "{csv}");
    let cell = |row: &[&str], name: &str| {
        row[rows[0].iter().position(|column| *column == name).unwrap()].to_owned()
    };
    for (number, (row, step)) in rows[1..].iter().zip(&search.steps).enumerate() {
        assert_eq!(cell(row, "step"), (number + 1).to_string());
        assert_eq!((cell(row, "level_kind"), cell(row, "level")), level(step.level));
        assert_eq!(cell(row, "queries_per_second"), step.requests_per_second.to_string());
        let excluded = if step.unsettled { "unsettled" } else { "distorted" };
        let verdict = step.verdict.as_deref().unwrap_or(excluded);
        assert_eq!(cell(row, "step_verdict"), verdict);
        let is_met = cell(row, "objectives_met").contains("ttft p50");
        assert_eq!(is_met, verdict.ends_with("met"), "{csv}");
    }
}

fn level(concurrency: f64) -> (String, String) {
    ("concurrency".to_owned(), concurrency.to_string())
}

#[tokio::test]
async fn a_lowest_level_that_misses_the_objectives_gives_exit_code_3() {
    let simulator = simulator();
    let url = format!("http://{}/v1", simulator.address());
    let arguments =
        &["--slo", "e2e_latency p50<1ms", "--by", "rate", "--from", "5/s", "--for", "2s"];
    let ran = capacity(url, arguments).await;
    assert_eq!(ran.code, 3, "{}\n{}", ran.table, ran.log);
    assert!(ran.table.contains("Not even 5/s meets e2e_latency p50 ≤ 1 ms"), "{}", ran.table);
}

/// A server stops for a second, as for a very long prompt. About 12 % of the requests of the step
/// wait for longer than the objective, so at that time, its latency rises steeply.
#[tokio::test]
async fn a_stall_of_a_real_server_does_not_end_a_step_whose_objective_permits_it() {
    for _ in 0..10 {
        let (number, stall) = (AtomicUsize::new(0), CancellationToken::new());
        let server = Upstream::start_with_head(move |_, head| {
            if head.starts_with("GET") {
                return plain("200 OK", "application/json", r#"{"data":[{"id":"m"}]}"#);
            }
            let number = number.fetch_add(1, Ordering::Relaxed);
            // At 20/s, this is a second later.
            if number == 60 {
                stall.cancel();
            }
            let wait = (number >= 40).then(|| Act::WaitFor(stall.clone()));
            wait.into_iter().chain(good()).collect()
        })
        .await;
        let yaml = on(
            &server.url(),
            "slo: {ttft: {p80: 400ms}}\n",
            "search: {rate: {from: 20/s, to: 100/s}}, for: 5s",
        );
        // The time is enough for one step.
        let ran = run_against(yaml, &["--for", "8s"]).await;
        let report = ran.report.unwrap();
        let search = report.routes[0].phases[0].search.as_ref().unwrap();
        let Some(step) = search.steps.first().filter(|step| step.distortion.is_none()) else {
            continue;
        };
        let objective = &step.objectives[0];
        assert!(objective.judged - objective.met >= 5, "no request waited: {step:?}");
        assert!(!step.cut_short && step.requests >= 99, "{step:?}");
        assert!(step.verdict.as_deref().unwrap().ends_with("met"), "{step:?}");
        return;
    }
    panic!("this machine distorted ten steps");
}

#[test]
fn the_objectives_of_the_daemon_do_not_judge_the_requests_of_a_search() {
    let mut daemon = Daemon::start(
        "target: {simulator: {}}\nslo: {success_rate: 50%}\nrepeat: 1\nschedule:\n  \
         - {constant: 20/s, for: 1s}\n  - {search: {rate: {from: 20/s, to: 40/s}}, for: 1s}\n",
    );
    let text = daemon.wait_for("/metrics", |text| {
        (sample(text, "llmload_requests_total", &[]) >= 50.0).then(|| text.to_owned())
    });
    for family in ["llmload_slo_requests_total", "llmload_slo_good_requests_total"] {
        let judged = sample(&text, family, &[]);
        assert!((judged - 20.0).abs() < 0.5, "{family}: {judged}");
    }
}

/// At 20/s, a limit of 60 requests per minute drops arrivals, and this would repeat in each step.
#[tokio::test]
async fn a_search_that_rate_limits_end_names_this_limit_and_no_higher_concurrency() {
    let simulator = simulator();
    let target = format!(
        "{{base_url: 'http://{}/v1', rate_limits: {{requests_per_minute: 60}}}}",
        simulator.address()
    );
    let yaml = format!(
        "target: {target}\nslo: {{success_rate: 90%}}\nschedule:\n  \
         - {{search: {{rate: {{from: 20/s, to: 40/s}}}}, for: 1s}}\n"
    );
    let ran = run_against(yaml, &[]).await;
    assert_eq!(ran.code, 4, "{}", ran.table);
    let unwrapped = ran.table.split_whitespace().collect::<Vec<_>>().join(" ");
    let headline = "llmload capacity invalid: the load reached the rate limits of the target";
    assert!(unwrapped.starts_with(headline), "{}", ran.table);
    for text in ["raise `rate_limits` of the target", "Next, raise `rate_limits`", "limited"] {
        assert!(unwrapped.contains(text), "{text}: {}", ran.table);
    }
    let report = ran.report.unwrap();
    assert_eq!(report.routes[0].phases[0].search.as_ref().unwrap().ending, "limited");
    assert!(report.verdict.has(ReasonCode::RateLimits));
}

/// Adds the names of all fields of a JSON value.
fn fields(value: &serde_json::Value, found: &mut BTreeSet<String>) {
    match value {
        serde_json::Value::Object(members) => {
            for (name, member) in members {
                found.insert(name.clone());
                fields(member, found);
            }
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| fields(item, found)),
        _ => {}
    }
}

/// Every word in code font in the first two columns of the table.
#[tokio::test(start_paused = true)]
async fn the_documentation_explains_exactly_the_fields_of_a_search() {
    let page = include_str!("../../docs/capacity.md");
    let table = page.split_once("## Fields").unwrap().1;
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    let first = rows.flat_map(|row| row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2));
    let mut explained: BTreeSet<String> = first.map(str::to_owned).collect();
    // The rows of `from`, `to` and of the latencies explain the fields inside them.
    explained.extend(["kind", "value", "p50", "p90", "p99"].map(str::to_owned));
    let searched = search(rates("1/s", "50/s"), async |_| {}).await;
    let mut report = SearchReport::new(&searched.state.searches.states()[0]);
    report.steps[0].distortion = Some(String::new());
    report.steps[0].limit = Some(String::new());
    let mut there = BTreeSet::new();
    fields(&serde_json::to_value(&report).unwrap(), &mut there);
    assert_eq!(there, explained);
    let read: SearchReport =
        serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
    assert_eq!(read, report);
}
