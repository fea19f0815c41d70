//! The binary on a machine whose wall clock somebody sets. The library libfaketime shows the
//! process another wall time, and the true monotonic time.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::binary::{Daemon, assert_balanced, sample};

const YAML: &str = "
targets: {sim: {simulator: {slots: 100}, model: simulated-8b}}
prompts: {p: [Hi]}
scenarios:
  steady: {target: sim, prompts: p, request: {max_tokens: 1}, start: now, max_lag: 1m, rate: 20/s}
  minutely: {target: sim, prompts: p, request: {max_tokens: 1}, max_lag: 1m, \
    start: {cron: '* * * * *'}, schedule: [{constant: 10/s, for: 1s}]}
  wall: {target: sim, prompts: p, request: {max_tokens: 1}, max_lag: 1m, start: wall_clock, \
    schedule: [{constant: 5/s, for: 30s}, {pause: 30s}]}
";
const ARRIVALS: &str = "llmload_arrivals_total";
/// The rate of the scenario `steady`.
const RATE: f64 = 20.0;
const MINUTE: u64 = 60;

/// Returns the library, which the package `faketime` of Debian contains.
fn library() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").unwrap();
    let found = folders.map(|folder| folder.unwrap().path().join("faketime/libfaketimeMT.so.1"));
    let mut found = found.filter(|path| path.exists());
    found.next().expect("this test needs libfaketime; run `apt-get install faketime`")
}

/// The offset of the wall clock that the process shows, in seconds.
struct Clock {
    file: PathBuf,
    offset: i64,
}

impl Clock {
    fn new(folder: &Path) -> Clock {
        let mut clock = Clock { file: folder.join("offset"), offset: 0 };
        clock.set(0);
        clock
    }

    fn set(&mut self, offset: i64) {
        self.offset = offset;
        // The process must not read a half of the file.
        let new = self.file.with_extension("new");
        std::fs::write(&new, format!("{offset:+}\n")).unwrap();
        std::fs::rename(&new, &self.file).unwrap();
    }

    /// Moves the clock by about this time, to eight seconds before the start of a minute. llmload
    /// notices a step within five seconds.
    fn step(&mut self, by: i64) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let shown = now.as_secs().checked_add_signed(self.offset + by).unwrap();
        let to_end = (2 * MINUTE - 8 - shown % MINUTE) % MINUTE;
        self.set(self.offset + by + to_end.cast_signed());
    }
}

#[test]
fn arrivals_a_cron_and_a_wall_clock_schedule_continue_when_the_clock_is_set() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("llmload.yml"), YAML).unwrap();
    let mut clock = Clock::new(folder.path());
    let mut command = Command::new(env!("CARGO_BIN_EXE_llmload"));
    command
        .env("LD_PRELOAD", library())
        .env("FAKETIME_TIMESTAMP_FILE", &clock.file)
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    let begun = Instant::now();
    let mut daemon = Daemon::of(command, &[], folder);
    let of =
        |text: &str, scenario: &str| sample(text, ARRIVALS, &[&format!("scenario=\"{scenario}\"")]);
    let first =
        daemon.wait_for("/metrics", |text| (of(text, "steady") > 0.0).then(|| of(text, "steady")));
    let since = Instant::now();
    for by in [3600, -7200, 90 * 86_400, -86_400] {
        let before = daemon.get("/metrics").2;
        clock.step(by);
        // The status shows the new time.
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
        daemon.wait_for("/api/v1/status", |text| {
            let status: serde_json::Value = serde_json::from_str(text).unwrap();
            let now = status["now"].as_f64().unwrap();
            ((now - wall - clock.offset as f64).abs() < 60.0).then_some(())
        });
        // The next minute begins soon.
        let text = daemon.wait_for("/metrics", |text| {
            let grown = |name| of(text, name) - of(&before, name);
            (grown("minutely") >= 10.0 && grown("wall") >= 5.0 && grown("steady") >= RATE)
                .then(|| text.to_owned())
        });
        assert_balanced(&text);
        // The schedule began after the process.
        let most = RATE * begun.elapsed().as_secs_f64() + 1.0;
        assert!(of(&text, "steady") <= most, "an arrival is sent twice");
    }
    let least = since.elapsed().as_secs_f64();
    let text = daemon.get("/metrics").2;
    let most = begun.elapsed().as_secs_f64();
    let sent = of(&text, "steady");
    // The arrivals are in the middle of their intervals, and a driver that waits can be late.
    assert!(sent <= RATE * most + 1.0, "{sent} in {most}");
    let late = RATE * Duration::from_secs(5).as_secs_f64();
    assert!(sent - first >= RATE * least - late, "{sent} in {least}");
    assert_eq!(sample(&text, "llmload_arrivals_dropped_total", &[]), 0.0, "{text}");
    let steps = |direction| sample(&text, "llmload_clock_steps_total", &[direction]);
    assert!(steps("forward") >= 2.0 && steps("backward") >= 2.0, "{text}");
    assert!(!daemon.log.lock().unwrap().contains("panicked"));
}
