//! Tests of the metrics pages of a server (the key `observe`): a run reads them, and its report
//! shows their values for each phase.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use llmload::report::{ObservedPhase, ObservedReport, RouteReport};

use crate::binary::Daemon;
use crate::run::{RunOutput, command, ran, run, run_against};
use crate::upstream::{Act, Upstream, good, plain};

fn phase<'a>(page: &'a ObservedReport, quantity: &str, name: &str) -> Option<&'a ObservedPhase> {
    let quantity = page.quantities.iter().find(|known| known.quantity == quantity)?;
    quantity.phases.iter().find(|phase| phase.phase == name)
}

/// Checks the mean and the maximum of a quantity in the phase `p`.
fn assert_values(page: &ObservedReport, quantity: &str, mean: f64, max: f64) {
    let phase = phase(page, quantity, "p").unwrap_or_else(|| panic!("no {quantity}: {page:?}"));
    let is_close = |value: f64, expected: f64| (value - expected).abs() <= 1e-6 * expected;
    assert!(is_close(phase.mean, mean) && is_close(phase.max, max), "{quantity}: {phase:?}");
}

fn route<'a>(ran: &'a RunOutput, target: &str) -> &'a RouteReport {
    let report = ran.report.as_ref().unwrap();
    report.routes.iter().find(|route| route.target == target).unwrap()
}

fn assert_on_the_axis_of(page: &ObservedReport, route: &RouteReport) {
    let length = route.timeline.arrivals.len();
    for quantity in &page.quantities {
        assert_eq!(
            (quantity.timeline_mean.len(), quantity.timeline_max.len()),
            (length, length),
            "{}",
            quantity.quantity
        );
    }
}

/// The simulator has the metrics page of vLLM. It serves four requests at a time.
#[test]
fn the_report_shows_for_each_phase_the_requests_that_the_server_runs_and_queues() {
    let ran = run(
        "targets:
  sim:
    simulator: {slots: 4, decode_tokens_per_second: 40, jitter: 0}
    observe: {vllm: /metrics}
scenarios:
  s:
    request: {max_tokens: 10}
    schedule:
      - {name: free, concurrency: 2, for: 5s}
      - {name: full, concurrency: 9, for: 8s}
",
        &[],
    );
    let route = route(&ran, "sim");
    let [page] = route.observed.as_slice() else { panic!("{:?}", route.observed) };
    assert_eq!((page.source.as_str(), page.failed_reads), ("vllm", 0), "{page:?}");
    let of = |quantity, name| phase(page, quantity, name).unwrap();
    let (free, full) = (of("requests_running", "free"), of("requests_running", "full"));
    assert!(free.max <= 2.0 && free.mean <= free.max, "{free:?}");
    assert!(full.max == 4.0 && full.mean > 2.0, "{full:?}");
    let (free, full) = (of("requests_waiting", "free"), of("requests_waiting", "full"));
    assert!(free.max == 0.0, "{free:?}");
    assert!(full.max > 0.0 && full.max <= 5.0 && full.mean <= full.max, "{full:?}");
    let (free, full) = (of("kv_cache_use", "free"), of("kv_cache_use", "full"));
    assert!(free.max <= 0.5 && full.max == 1.0, "{free:?} {full:?}");
    assert_on_the_axis_of(page, route);
    let [markdown, html] = &ran.files;
    for text in [&ran.table, markdown, html] {
        // The page has spaces that do not break between a number and its unit.
        let text = text.replace("&#x2f;", "/").replace('\u{a0}', " ");
        assert!(text.contains("vLLM, mean/max"), "{text}");
        assert!(text.contains("full: the KV cache of vLLM was full: 100 % in use"), "{text}");
    }
    assert!(html.contains("Requests at the server (vLLM)"));
    let head = ran.table.lines().find(|line| line.contains("vLLM, mean/max")).unwrap();
    assert!(head.chars().count() <= 80, "{}", ran.table);
}

fn page(text: &str) -> Vec<Act> {
    plain("200 OK", "text/plain; version=0.0.4", text)
}

/// Serves the recorded page of each program below `/pages/`, two pages whose counters rise, and
/// chat responses.
async fn exporters() -> Upstream {
    let reads = AtomicU64::new(0);
    Upstream::start_with_head(move |_, head| {
        let path = head.split(' ').nth(1).unwrap();
        let Some(name) = path.strip_prefix("/pages/") else { return good() };
        match name {
            "vllm" => page(include_str!("../fixtures/metrics-pages/vllm.txt")),
            "sglang" => page(include_str!("../fixtures/metrics-pages/sglang.txt")),
            "llamacpp" => page(include_str!("../fixtures/metrics-pages/llamacpp.txt")),
            "tgi" => page(include_str!("../fixtures/metrics-pages/tgi.txt")),
            "dcgm" => page(include_str!("../fixtures/metrics-pages/dcgm.txt")),
            "node?collect=all" => {
                let n = reads.fetch_add(1, Ordering::Relaxed);
                let recorded = include_str!("../fixtures/metrics-pages/node.txt");
                page(&format!(
                    "{recorded}node_cpu_seconds_total{{cpu=\"1\",mode=\"idle\"}} {}\n\
                     node_cpu_seconds_total{{cpu=\"1\",mode=\"user\"}} {}\n",
                    1000 + n,
                    7 + 3 * n
                ))
            }
            "prefixes" => {
                let n = reads.fetch_add(1, Ordering::Relaxed);
                page(&format!(
                    "vllm:prefix_cache_hits_total {}\nvllm:prefix_cache_queries_total {}\n\
                     vllm:num_preemptions_total {}\n",
                    60 * n,
                    100 * n,
                    5 * n,
                ))
            }
            _ => plain("404 Not Found", "text/plain", "no such page"),
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_values_of_each_program_are_in_the_report() {
    let server = exporters().await;
    let (url, root) = (server.url(), server.address);
    let target = |name: &str, observe: &str| {
        format!("  {name}: {{base_url: '{url}', model: m, observe: {{{observe}}}}}\n")
    };
    let yaml = [
        "targets:\n".to_owned(),
        target("vllm", "vllm: /pages/vllm, dcgm: /pages/dcgm"),
        target("sglang", &format!("sglang: 'http://{root}/pages/sglang'")),
        target("llamacpp", "llamacpp: /pages/llamacpp, node: '/pages/node?collect=all'"),
        target("tgi", "tgi: /pages/tgi"),
        target("prefixes", "vllm: /pages/prefixes"),
        "scenarios:\n  s:\n    targets: [vllm, sglang, llamacpp, tgi, prefixes]\n    \
         prompts: [hi]\n    start: now\n    schedule: [{name: p, constant: 4/s, for: 6s}]\n"
            .to_owned(),
    ]
    .concat();
    let ran = run_against(yaml, &[]).await;
    let observed = |target: &str, source: &str| {
        let pages = route(&ran, target).observed.iter();
        pages.clone().find(|page| page.source == source).unwrap_or_else(|| panic!("{}", ran.log))
    };
    let vllm = observed("vllm", "vllm");
    assert_values(vllm, "requests_running", 35.0, 35.0);
    assert_values(vllm, "requests_waiting", 12.0, 12.0);
    assert_values(vllm, "kv_cache_use", 0.987_149_532_710_280_4, 0.987_149_532_710_280_4);
    assert_values(vllm, "preemptions", 0.0, 0.0);
    assert!(phase(vllm, "prefix_cache_hit_rate", "p").is_none(), "the counters do not rise");
    let dcgm = observed("vllm", "dcgm");
    assert_values(dcgm, "gpu_use", 0.485, 0.97);
    assert_values(dcgm, "gpu_memory_used", 40.0 * 1_073_741_824.0, 40.0 * 1_073_741_824.0);
    assert_values(dcgm, "gpu_power", 350.0, 350.0);
    let sglang = observed("sglang", "sglang");
    assert_values(sglang, "requests_running", 161.0, 161.0);
    assert_values(sglang, "requests_waiting", 2826.0, 2826.0);
    assert_values(sglang, "kv_cache_use", 0.28, 0.28);
    let llamacpp = observed("llamacpp", "llamacpp");
    assert_values(llamacpp, "requests_running", 4.0, 4.0);
    assert_values(llamacpp, "requests_waiting", 46.0, 46.0);
    assert!(phase(llamacpp, "kv_cache_use", "p").is_none(), "not on the page");
    let node = observed("llamacpp", "node");
    assert_eq!(node.page, format!("http://{root}/pages/node"), "the query can contain a key");
    assert_values(node, "cpu_use", 0.75, 0.75);
    assert_values(
        node,
        "memory_used",
        67_379_503_104.0 - 19_327_676_416.0,
        67_379_503_104.0 - 19_327_676_416.0,
    );
    let tgi = observed("tgi", "tgi");
    assert_values(tgi, "requests_running", 4.0, 4.0);
    assert_values(tgi, "requests_waiting", 7.0, 7.0);
    let prefixes = observed("prefixes", "vllm");
    assert_values(prefixes, "prefix_cache_hit_rate", 0.6, 0.6);
    assert!(phase(prefixes, "preemptions", "p").unwrap().mean > 0.0);
    for target in ["vllm", "sglang", "llamacpp", "tgi", "prefixes"] {
        for page in &route(&ran, target).observed {
            assert_on_the_axis_of(page, route(&ran, target));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_without_values_is_reported_once_and_stops_no_arrival() {
    let passwords = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&passwords);
    let server = Upstream::start_with_head(move |_, head| {
        let path = head.split(' ').nth(1).unwrap();
        // me:cAnArY
        let has_password = head.contains("bWU6Y0FuQXJZ");
        match path {
            "/silent" => vec![Act::Silence],
            "/gone?token=cAnArY-token" => {
                seen.fetch_add(has_password.into(), Ordering::Relaxed);
                plain("404 Not Found", "text/plain", "no page for cAnArY-token")
            }
            "/other" => plain("200 OK", "text/html", "<html>up 1\n</html>"),
            _ => {
                assert!(!has_password, "the password is only for the page");
                good()
            }
        }
    })
    .await;
    let root = server.address;
    let yaml = format!(
        "target:
  base_url: '{}'
  model: m
  observe: {{vllm: /silent, dcgm: 'http://me:cAnArY@{root}/gone?token=${{PAGE_TOKEN}}', node: /other}}
start: now
max_lag: 10s
schedule: [{{name: p, constant: 20/s, for: 3s}}]
",
        server.url()
    );
    let folder = tempfile::tempdir().unwrap();
    let mut command = command(folder.path(), &yaml, &[]);
    command.env("PAGE_TOKEN", "cAnArY-token");
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let ran = ran(folder.path(), &output);
    let report = ran.report.as_ref().unwrap();
    let route = &report.routes[0];
    assert_eq!((route.ledger.arrivals, route.ledger.succeeded), (60, 60), "{}", ran.log);
    assert!(passwords.load(Ordering::Relaxed) > 0, "the page gets its user and password");
    let texts: Vec<_> = report.findings.iter().map(|finding| finding.text.as_str()).collect();
    let gone = format!(
        "The metrics of dcgm-exporter at http://{root}/gone are missing: the page has the HTTP \
         status 404"
    );
    let other = format!(
        "The metrics of node_exporter at http://{root}/other are missing: the page has no metric \
         of node_exporter that llmload knows"
    );
    let silent = format!("The metrics of vLLM at http://{root}/silent are missing: ");
    assert!(texts.contains(&gone.as_str()) && texts.contains(&other.as_str()), "{texts:?}");
    assert!(texts.iter().any(|text| text.starts_with(&silent)), "{texts:?}");
    assert_eq!(ran.log.matches("/gone are missing").count(), 1, "{}", ran.log);
    let json = serde_json::to_string(report).unwrap();
    for output in [&ran.log, &ran.table, &ran.files[0], &ran.files[1], &json] {
        assert!(!output.contains("cAnArY"), "{output}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_leaves_the_pages_to_prometheus() {
    let reads = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&reads);
    let server = Upstream::start_with_head(move |_, head| {
        if head.starts_with("GET /metrics ") {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        good()
    })
    .await;
    let yaml = format!(
        "target: {{base_url: '{}', model: m, observe: {{vllm: /metrics}}}}\nstart: now\nrate: 20/s\n",
        server.url()
    );
    let requests = Arc::clone(&server.requests);
    tokio::task::spawn_blocking(move || {
        let mut daemon = Daemon::start(&yaml);
        daemon.wait_for("/-/ready", |_| (requests.load(Ordering::Relaxed) > 40).then_some(()));
    })
    .await
    .unwrap();
    assert_eq!(reads.load(Ordering::Relaxed), 0);
}
