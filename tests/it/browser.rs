//! Tests of the status page in a real Chromium.

use std::fs::File;
use std::process::{Command, Stdio};

use tokio::time::Instant;

use crate::binary::{Daemon, TEST_TIMEOUT, pause};
use crate::upstream::{Upstream, plain};

/// Opens a page for nine seconds of virtual time, which stops while the browser waits for a
/// response. Returns the DOM and the lines of the console.
pub fn open(url: &str) -> (String, Vec<String>) {
    let (page, log) = chromium(&["--virtual-time-budget=9000", "--dump-dom"], url);
    (page, log.lines().filter(|line| line.contains(":CONSOLE")).map(str::to_owned).collect())
}

/// Runs Chromium without a window on a page. Returns stdout and the log.
pub fn chromium(arguments: &[&str], url: &str) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    let (page, log) = (folder.path().join("page"), folder.path().join("log"));
    let mut browser = Command::new("chromium")
        .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
        .args(["--no-first-run", "--disable-background-networking", "--disable-component-update"])
        .arg("--enable-logging=stderr")
        .args(arguments)
        .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
        .arg(url)
        .stdin(Stdio::null())
        // A full pipe would block the browser, so use files.
        .stdout(File::create(&page).unwrap())
        .stderr(File::create(&log).unwrap())
        .spawn()
        .expect("chromium must be installed");
    let begun = Instant::now();
    let ended = loop {
        if let Some(ended) = browser.try_wait().unwrap() {
            break Some(ended);
        }
        if begun.elapsed() > TEST_TIMEOUT {
            let _gone = browser.kill();
            let _gone = browser.wait();
            break None;
        }
        pause();
    };
    let read = |path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
    let (page, log) = (read(&page), read(&log));
    assert!(ended.is_some_and(|ended| ended.success()), "{ended:?}\n{log}");
    (page, log)
}

/// The number `name` of the first route on the page. A route is one scenario on one target.
fn value_of(page: &str, name: &str) -> f64 {
    let parts = page.split_once(&format!("<dt>{name}</dt><dd>"));
    let (_, after) = parts.unwrap_or_else(|| panic!("no {name}:\n{page}"));
    let number: String = after.chars().take_while(|c| !matches!(c, '<' | ' ' | '/')).collect();
    number.replace(',', "").parse().unwrap_or_else(|_| panic!("{name}: {number}"))
}

#[test]
fn the_status_page_refreshes_its_values_without_console_errors() {
    let mut daemon = Daemon::start(
        "
targets: {sim: {simulator: {slots: 8, faults: {http_429: 20%}}}}
scenarios: {evening: {target: sim, rate: 20/s, request: {max_tokens: 8}}}
",
    );
    daemon.wait_for("/api/v1/status", |status| {
        let status: serde_json::Value = serde_json::from_str(status).unwrap();
        let ledger = &status["scenarios"][0]["ledger"];
        (ledger["succeeded"].as_u64() > Some(0) && ledger["failed"].as_u64() > Some(0))
            .then_some(())
    });
    let url = format!("http://{}/", daemon.address);
    let (before, console) = open(&url);
    assert_eq!(console, [""; 0]);
    assert!(before.contains("<h2>evening</h2>"), "{before}");
    assert!(before.contains("<b>rate_limited</b>"), "{before}");
    let (after, console) = open(&url);
    assert_eq!(console, [""; 0]);
    for name in ["arrivals", "succeeded", "failed"] {
        assert!(value_of(&after, name) > value_of(&before, name), "{name} did not rise:\n{after}");
    }
    assert!((value_of(&after, "scheduled") - 20.0).abs() < f64::EPSILON);
    // The page computes this rate from two responses, so it has refreshed.
    assert!(value_of(&after, "offered rate") >= 0.0, "{after}");
}

/// Shows a status that `change` has edited, because the real state would take hours to reach.
async fn page_of(
    yaml: &'static str,
    change: impl FnOnce(&mut serde_json::Value) + Send + 'static,
) -> String {
    let status = tokio::task::spawn_blocking(move || {
        let mut daemon = Daemon::start(yaml);
        daemon.wait_for("/api/v1/status", |text| {
            let status: serde_json::Value = serde_json::from_str(text).unwrap();
            let failed =
                |scenario: &serde_json::Value| scenario["ledger"]["failed"].as_u64() > Some(0);
            let pairs = &status["scenarios"][1]["difference"]["duration"]["pairs"];
            let is_complete = status["scenarios"].as_array().unwrap().iter().all(failed)
                && pairs.as_u64() > Some(0);
            is_complete.then_some(status)
        })
    });
    let mut status = status.await.unwrap();
    change(&mut status);
    let page = Upstream::start_with_head(move |_, head| {
        if head.starts_with("GET /api/v1/status ") {
            plain("200 OK", "application/json", &status.to_string())
        } else {
            plain("200 OK", "text/html", include_str!("../../src/web/page.html"))
        }
    })
    .await;
    let url = format!("http://{}/", page.address);
    let (page, console) = tokio::task::spawn_blocking(move || open(&url)).await.unwrap();
    // The test server also responds to the request for an icon.
    assert_eq!(console, [""; 0]);
    page
}

const PAIR: &str = "
targets:
  one: {simulator: {faults: {http_429: 20%}}}
  other: {simulator: {faults: {http_500: 20%}}}
scenarios: {both: {targets: [one, other], rate: 50/s, request: {max_tokens: 2}}}
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn older_failures_are_folded_with_their_age() {
    let page = page_of(PAIR, |status| {
        let now = status["now"].as_f64().unwrap();
        status["scenarios"][0]["failures"][0]["last"] = (now - 2.0 * 3600.0).into();
        status["scenarios"][1]["failures"][0]["last"] = (now - 299.0).into();
    })
    .await;
    let older = "<details class=\"older\"><summary>Not in the last 5&nbsp;min: rate_limited 2h 0m ago</summary>";
    let (before, after) = page.split_once(older).unwrap_or_else(|| panic!("{page}"));
    assert!(
        !before.contains("<b>rate_limited</b>") && after.contains("<b>rate_limited</b>"),
        "{page}"
    );
    assert!(
        after.contains("<div class=\"failures\"><div class=\"failure\"><p><b>http_5xx</b>"),
        "{page}"
    );
    assert_eq!(page.matches("<details").count(), 1, "{page}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_difference_between_targets_is_shown_with_its_confidence_interval() {
    let page = page_of(PAIR, |status| {
        status["scenarios"][1]["difference"] = serde_json::json!({
            "baseline": "one",
            "time_to_first_token": {"pairs": 40, "mean_seconds": -0.0123, "margin_seconds": 0.002},
            "duration": {"pairs": 1234, "mean_seconds": 0.5, "margin_seconds": 0.75},
        });
    })
    .await;
    let assert_shown = |name: &str, value: &str, note: &str| {
        let cell = format!("<dt>{name}</dt><dd>{value} <small>{note}</small></dd>");
        assert!(page.replace("&nbsp;", " ").contains(&cell), "{cell}\n{page}");
    };
    assert!(page.contains("<h3>Compared with one</h3>"), "{page}");
    assert_shown(
        "mean TTFT",
        "12.3 ms faster",
        "95 % confidence: 10.3 ms to 14.3 ms faster, 40 pairs",
    );
    assert_shown(
        "mean request duration",
        "no clear difference",
        "95 % confidence: 250 ms faster to 1.25 s slower, 1,234 pairs",
    );

    let page = page_of(PAIR, |status| {
        status["scenarios"][1]["difference"] = serde_json::json!({
            "baseline": "one", "duration": {"pairs": 1, "mean_seconds": 0.5},
        });
    })
    .await;
    let few = "500&nbsp;ms slower <small>1&nbsp;pair: too few for a confidence interval</small>";
    assert!(page.contains(few), "{page}");
}

/// Proves that the other tests would notice an error on the console.
#[test]
fn a_script_error_appears_on_the_captured_console() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.html");
    std::fs::write(&page, "<p>text</p><script>nowhere.at.all()</script>").unwrap();
    let (page, console) = open(&format!("file://{}", page.display()));
    assert!(page.contains("<p>text</p>"), "{page}");
    assert!(
        matches!(console.as_slice(), [line] if line.contains("nowhere is not defined")),
        "{console:?}"
    );
}
