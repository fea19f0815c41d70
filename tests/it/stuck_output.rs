//! If nobody reads the output, the load, the scrapes and the end of the process are still on time.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};

use tokio::time::Instant;

use crate::binary::{TEST_TIMEOUT, assert_balanced, pause, request, sample, signal};

/// 150 requests in three seconds. No arrival is late, even on a slow machine.
const LOAD: &str = "
targets: {sim: {simulator: {}}}
scenarios:
  s:
    target: sim
    repeat: 1
    max_lag: 1m
    request: {max_tokens: 2}
    schedule: [{constant: 50/s, for: 3s}]
";

/// A daemon whose log nobody reads after its first lines. Dropping it kills the process.
struct Unread {
    child: Child,
    address: SocketAddr,
    log: BufReader<ChildStderr>,
    _folder: tempfile::TempDir,
}

impl Unread {
    /// Starts a daemon, and fills its log until lines are lost.
    fn start(arguments: &[&str]) -> Unread {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("llmload.yml");
        std::fs::write(&file, LOAD).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_llmload"))
            .args(["--web.listen-address", "127.0.0.1:0", "--config.file"])
            .arg(&file)
            .args(arguments)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let address = loop {
            let mut line = String::new();
            log.read_line(&mut line).unwrap();
            assert!(!line.is_empty(), "the web server did not start");
            if let Some((_, rest)) = line.split_once("/metrics on http://") {
                break rest.split('/').next().unwrap().parse().unwrap();
            }
        };
        let daemon = Unread { child, address, log, _folder: folder };
        assert_eq!(daemon.dropped_lines(), 0.0, "{}", daemon.get("/metrics"));
        // Each rejected reload logs thousands of bytes.
        let mut invalid = String::new();
        for number in 0..100 {
            writeln!(invalid, "u{number}: 1").unwrap();
        }
        std::fs::write(file, invalid).unwrap();
        let begun = Instant::now();
        while daemon.dropped_lines() == 0.0 {
            assert_eq!(request(daemon.address, "POST", "/-/reload").unwrap().0, 500);
            assert!(begun.elapsed() < TEST_TIMEOUT);
        }
        daemon
    }

    fn get(&self, path: &str) -> String {
        let (status, _, body) = request(self.address, "GET", path).unwrap();
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    fn dropped_lines(&self) -> f64 {
        let scrape = self.get("/metrics");
        assert!(scrape.contains("\nllmload_log_lines_dropped_total "), "{scrape}");
        sample(&scrape, "llmload_log_lines_dropped_total", &[])
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

fn wait(child: &mut Child) -> ExitStatus {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(begun.elapsed() < TEST_TIMEOUT, "the process does not end");
        pause();
    }
}

#[test]
fn a_log_that_nobody_reads_delays_no_arrival_no_scrape_and_no_drain() {
    let mut daemon = Unread::start(&[]);
    let begun = Instant::now();
    while !daemon.get("/api/v1/status").contains("\"ended\"") {
        assert!(begun.elapsed() < TEST_TIMEOUT);
        pause();
    }
    let scrape = daemon.get("/metrics");
    assert_balanced(&scrape);
    assert_eq!(sample(&scrape, "llmload_requests_started_total", &[]), 150.0, "{scrape}");
    assert_eq!(daemon.get("/-/healthy").trim(), "llmload is healthy.");
    signal(&daemon.child, "TERM");
    assert_eq!(wait(&mut daemon.child).code(), Some(0));
}

#[test]
fn the_log_reports_the_number_of_lost_lines_when_somebody_reads_it_again() {
    for arguments in [&[][..], &["--log.format", "json"]] {
        let mut daemon = Unread::start(arguments);
        let lost = daemon.dropped_lines();
        signal(&daemon.child, "TERM");
        let mut log = String::new();
        daemon.log.read_to_string(&mut log).unwrap();
        assert_eq!(wait(&mut daemon.child).code(), Some(0));
        let reported = log.lines().filter(|line| line.contains("log lines were lost"));
        let reported = reported.map(|line| {
            if arguments.is_empty() {
                return line.split_once("lines=").unwrap().1.parse::<f64>().unwrap();
            }
            let json: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(json["level"], "WARN");
            json["lines"].as_f64().unwrap()
        });
        assert_eq!(reported.sum::<f64>(), lost, "{log}");
        let last = log.lines().last().unwrap();
        assert!(last.contains("stopped") && last.contains("aborted"), "{last}");
    }
}

/// The table does not fit into a pipe.
#[test]
fn one_signal_ends_a_run_whose_table_nobody_reads_after_its_report_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut yaml = "metrics: {max_combinations: 60}
targets: {sim: {simulator: {slots: 200}}}
scenarios:
"
    .to_owned();
    for number in 0..60 {
        writeln!(
            yaml,
            "  s{number}: {{target: sim, max_concurrency: 2, request: {{max_tokens: 2}}, \
             schedule: [{{constant: 5/s, for: 400ms}}]}}"
        )
        .unwrap();
    }
    std::fs::write(folder.path().join("llmload.yml"), yaml).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_llmload"))
        .args(["run", "--no-gate", "--report", "out"])
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut table = child.stdout.take().unwrap();
    table.read_exact(&mut [0]).unwrap();
    let report = std::fs::read_to_string(folder.path().join("out/report.json")).unwrap();
    assert!(serde_json::from_str::<serde_json::Value>(&report).is_ok());
    assert!(child.try_wait().unwrap().is_none(), "the table fits into the pipe");
    signal(&child, "INT");
    let status = wait(&mut child);
    assert_eq!(status.code(), Some(0), "the result of the run");
    let mut rest = String::new();
    table.read_to_string(&mut rest).unwrap();
    let complete = std::fs::read_to_string(folder.path().join("out/report.md")).unwrap();
    assert!(
        complete.contains("Test setup") && !rest.contains("Test setup"),
        "the table is complete"
    );
}

#[test]
fn an_invalid_file_ends_the_process_although_nobody_reads_its_problems() {
    let folder = tempfile::tempdir().unwrap();
    // Each problem begins with the path, so the problems do not fit into a pipe.
    let deep = folder.path().join(["long-name".repeat(20).as_str(); 10].join("/"));
    std::fs::create_dir_all(&deep).unwrap();
    let file = deep.join("llmload.yml");
    let mut invalid = String::new();
    for number in 0..100 {
        writeln!(invalid, "u{number}: 1").unwrap();
    }
    std::fs::write(&file, invalid).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_llmload"))
        .arg("--config.file")
        .arg(&file)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    assert_eq!(wait(&mut child).code(), Some(2));
    let mut problems = Vec::new();
    child.stderr.take().unwrap().read_to_end(&mut problems).unwrap();
    assert!(problems.len() >= 64 * 1024, "{} bytes do not fill a pipe", problems.len());
}
