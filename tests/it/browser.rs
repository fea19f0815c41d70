//! The status page in a real browser: Debian's Chromium, without a screen.

use std::fs::File;
use std::process::{Command, Stdio};

use tokio::time::Instant;

use crate::binary::{Daemon, FOREVER, pause};
use crate::upstream::{Upstream, plain};

/// Opens a page for some seconds of the browser's own time, which does not pass while an answer is
/// awaited; what it looks like then, and what the page had to say on its console.
fn open(url: &str) -> (String, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let (page, log) = (folder.path().join("page"), folder.path().join("log"));
    let mut browser = Command::new("chromium")
        .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
        .args(["--no-first-run", "--disable-background-networking", "--disable-component-update"])
        .args(["--enable-logging=stderr", "--virtual-time-budget=9000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
        .arg(url)
        .stdin(Stdio::null())
        // Into files: nobody has to read them while it runs.
        .stdout(File::create(&page).unwrap())
        .stderr(File::create(&log).unwrap())
        .spawn()
        .expect("chromium, which Debian has under this name");
    let begun = Instant::now();
    let ended = loop {
        if let Some(ended) = browser.try_wait().unwrap() {
            break Some(ended);
        }
        if begun.elapsed() > FOREVER {
            let _gone = browser.kill();
            let _gone = browser.wait();
            break None;
        }
        pause();
    };
    let read = |path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
    let (page, log) = (read(&page), read(&log));
    assert!(ended.is_some_and(|ended| ended.success()), "{ended:?}\n{log}");
    (page, log.lines().filter(|line| line.contains(":CONSOLE")).map(str::to_owned).collect())
}

/// What stands beside a name in the figures of the first stream of load.
fn figure(page: &str, name: &str) -> f64 {
    let beside = page.split_once(&format!("<dt>{name}</dt><dd>"));
    let (_, after) = beside.unwrap_or_else(|| panic!("no {name}:\n{page}"));
    let number: String = after.chars().take_while(|c| !matches!(c, '<' | ' ' | '/')).collect();
    number.replace(',', "").parse().unwrap_or_else(|_| panic!("{name}: {number}"))
}

#[test]
fn the_status_page_shows_moving_figures_and_its_console_is_empty() {
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
        assert!(figure(&after, name) > figure(&before, name), "{name} stands still:\n{after}");
    }
    assert!((figure(&after, "asked for") - 20.0).abs() < f64::EPSILON);
    // A figure at all, since the page asks again by itself: rates are taken between two answers.
    assert!(figure(&after, "offered") >= 0.0, "{after}");
}

/// The page over an answer that a daemon gave, changed by `change`: for what takes hours to come about.
async fn over(
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
            let there = status["scenarios"].as_array().unwrap().iter().all(failed)
                && pairs.as_u64() > Some(0);
            there.then_some(status)
        })
    });
    let mut status = status.await.unwrap();
    change(&mut status);
    let page = Upstream::reading(move |_, head| {
        if head.starts_with("GET /api/v1/status ") {
            plain("200 OK", "application/json", &status.to_string())
        } else {
            plain("200 OK", "text/html", include_str!("../../src/web/page.html"))
        }
    })
    .await;
    let url = format!("http://{}/", page.address);
    let (page, console) = tokio::task::spawn_blocking(move || open(&url)).await.unwrap();
    // It asks for an icon, and gets the page.
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
async fn failures_that_are_over_are_folded_away_with_their_age() {
    let page = over(PAIR, |status| {
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
async fn a_difference_between_targets_is_told_in_words_with_how_sure_it_is() {
    let page = over(PAIR, |status| {
        status["scenarios"][1]["difference"] = serde_json::json!({
            "baseline": "one",
            "time_to_first_token": {"pairs": 40, "mean_seconds": -0.0123, "margin_seconds": 0.002},
            "duration": {"pairs": 1234, "mean_seconds": 0.5, "margin_seconds": 0.75},
        });
    })
    .await;
    let told = |name: &str, value: &str, note: &str| {
        let cell = format!("<dt>{name}, on average</dt><dd>{value} <small>{note}</small></dd>");
        assert!(page.replace("&nbsp;", " ").contains(&cell), "{cell}\n{page}");
    };
    assert!(page.contains("<h3>Compared with one</h3>"), "{page}");
    told(
        "first token",
        "12.3 ms sooner",
        "95 % sure: between 10.3 ms and 14.3 ms sooner, from 40 pairs",
    );
    told(
        "end of the answer",
        "no clear difference",
        "95 % sure: between 250 ms sooner and 1.25 s later, from 1,234 pairs",
    );

    let page = over(PAIR, |status| {
        status["scenarios"][1]["difference"] = serde_json::json!({
            "baseline": "one", "duration": {"pairs": 1, "mean_seconds": 0.5},
        });
    })
    .await;
    let few = "500&nbsp;ms later <small>of 1&nbsp;pair: too few to say how sure that is</small>";
    assert!(page.contains(few), "{page}");
}

/// A console that nobody hears is empty too.
#[test]
fn a_page_that_breaks_is_heard() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.html");
    std::fs::write(&page, "<p>there</p><script>nowhere.at.all()</script>").unwrap();
    let (page, console) = open(&format!("file://{}", page.display()));
    assert!(page.contains("<p>there</p>"), "{page}");
    assert!(
        matches!(console.as_slice(), [line] if line.contains("nowhere is not defined")),
        "{console:?}"
    );
}
