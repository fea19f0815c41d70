//! The status page in a real browser: Debian's Chromium, without a screen.

use std::fs::File;
use std::process::{Command, Stdio};

use tokio::time::Instant;

use crate::binary::{Daemon, FOREVER, pause};

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
        (ledger["succeeded"].as_u64() > Some(0) && ledger["failed"].as_u64() > Some(0)).then_some(())
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

/// A console that nobody hears is empty too.
#[test]
fn a_page_that_breaks_is_heard() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.html");
    std::fs::write(&page, "<p>there</p><script>nowhere.at.all()</script>").unwrap();
    let (page, console) = open(&format!("file://{}", page.display()));
    assert!(page.contains("<p>there</p>"), "{page}");
    assert!(matches!(console.as_slice(), [line] if line.contains("nowhere is not defined")), "{console:?}");
}
