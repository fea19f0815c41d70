//! Tests of the binary, as a user starts it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

/// The limit of each wait. Even on the slowest machine, only an endless wait reaches it.
pub const TEST_TIMEOUT: Duration = Duration::from_mins(2);

/// A running daemon with its log. `drop` kills the daemon.
pub struct Daemon {
    pub child: Child,
    pub address: SocketAddr,
    pub log: Arc<Mutex<String>>,
    pub folder: tempfile::TempDir,
}

impl Daemon {
    /// Starts a daemon with this configuration on a free port. Returns when its web server listens.
    pub fn start(yaml: &str) -> Daemon {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("llmload.yml"), yaml).unwrap();
        Daemon::of(Command::new(env!("CARGO_BIN_EXE_llmload")), &[], folder)
    }

    /// Starts a daemon with the `llmload.yml` in `folder`. `command` is llmload without arguments.
    /// Returns when the web server listens.
    pub fn of(mut command: Command, more: &[&str], folder: tempfile::TempDir) -> Daemon {
        let mut child = command
            .args(["daemon", "--web.listen-address", "127.0.0.1:0", "--config.file"])
            .arg(folder.path().join("llmload.yml"))
            .args(more)
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = Arc::new(Mutex::new(String::new()));
        let Some(address) = address_of(&mut lines, &log) else {
            // `drop` cannot kill the child, because no `Daemon` exists yet.
            let _gone = child.kill();
            let ended = child.wait();
            panic!("the web server did not start ({ended:?}):\n{}", log.lock().unwrap());
        };
        let copy = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                *copy.lock().unwrap() += &(line + "\n");
            }
        });
        Daemon { child, address, log, folder }
    }

    pub fn get(&self, path: &str) -> (u16, String, String) {
        request(self.address, "GET", path).unwrap()
    }

    /// Repeats a request until `wanted` returns a value for the body. Fails if the daemon ends or
    /// takes too long.
    pub fn wait_for<T>(&mut self, path: &str, wanted: impl Fn(&str) -> Option<T>) -> T {
        self.wait_for_long(path, 0, wanted)
    }

    /// Like `wait_for`, for something that takes `seconds` even on a fast machine.
    pub fn wait_for_long<T>(
        &mut self,
        path: &str,
        seconds: u64,
        wanted: impl Fn(&str) -> Option<T>,
    ) -> T {
        let begun = Instant::now();
        let limit = TEST_TIMEOUT + Duration::from_secs(seconds);
        loop {
            let body = self.get(path).2;
            if let Some(found) = wanted(&body) {
                return found;
            }
            let ended = self.child.try_wait().unwrap();
            let log = self.log.lock().unwrap().clone();
            assert!(ended.is_none(), "the daemon ended ({ended:?}):\n{log}");
            assert!(begun.elapsed() < limit, "the response never matched:\n{body}\n{log}");
            pause();
        }
    }

    /// Fails if the daemon ends or takes too long.
    pub fn wait_for_log(&mut self, text: &str) {
        let begun = Instant::now();
        while !self.log.lock().unwrap().contains(text) {
            let ended = self.child.try_wait().unwrap();
            let log = self.log.lock().unwrap().clone();
            assert!(
                ended.is_none() && begun.elapsed() < TEST_TIMEOUT,
                "the log lacks {text} ({ended:?}):\n{log}"
            );
            pause();
        }
    }

    pub fn open_files(&self) -> usize {
        open_files(self.child.id())
    }

    pub fn threads(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap().count()
    }

    /// Returns a value of `/proc/PID/status` in bytes, such as `VmRSS`, the resident memory, or
    /// `VmHWM`, its maximum.
    pub fn memory(&self, key: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.unwrap().trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    pub fn threads_named(&self, name: &str) -> usize {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        // An ended thread has no name.
        let names =
            tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
        names.filter(|thread| thread.trim() == name).count()
    }

    pub fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    pub fn wait(mut self) -> (ExitStatus, String) {
        let status = self.child.wait().unwrap();
        let log = self.log.lock().unwrap().clone();
        (status, log)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// Returns the number of open files of a llmload process. llmload prevents core dumps, so only root
/// can list its files. Since Linux 6.2, every user can read their number.
pub fn open_files(process: u32) -> usize {
    let folder = format!("/proc/{process}/fd");
    match std::fs::read_dir(&folder) {
        Ok(files) => files.count(),
        Err(_) => usize::try_from(std::fs::metadata(&folder).unwrap().len()).unwrap(),
    }
}

fn address_of(
    lines: &mut impl Iterator<Item = std::io::Result<String>>,
    log: &Mutex<String>,
) -> Option<SocketAddr> {
    for line in lines {
        let line = line.ok()?;
        *log.lock().unwrap() += &(line.clone() + "\n");
        let url = line.split_once("/metrics on http").and_then(|(_, rest)| rest.split_once("://"));
        if let Some((_, rest)) = url {
            return rest.split('/').next()?.parse().ok();
        }
    }
    None
}

/// Returns the CPUs that a daemon uses over about three seconds. A loop that never waits uses one
/// CPU, even on a busy machine about half of one.
pub fn cpu_share(daemon: &mut Daemon) -> f64 {
    let cpu = |text: &str| sample(text, "process_cpu_seconds_total", &[]);
    let uptime = || {
        let text = std::fs::read_to_string("/proc/uptime").unwrap();
        text.split(' ').next().unwrap().parse::<f64>().unwrap()
    };
    // llmload reads its CPU time each second, so wait for a new value at both ends.
    let next = |daemon: &mut Daemon, before: f64| {
        daemon.wait_for("/metrics", |text| (cpu(text) > before).then(|| (cpu(text), uptime())))
    };
    let now = cpu(&daemon.get("/metrics").2);
    let (first, begin) = next(daemon, now);
    daemon.wait_for("/-/healthy", |_| (uptime() > begin + 3.0).then_some(()));
    let now = cpu(&daemon.get("/metrics").2);
    let (last, end) = next(daemon, now);
    (last - first) / (end - begin)
}

pub fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args(["-s", name, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

/// Gives the daemon processor time between two checks.
pub fn pause() {
    std::thread::park_timeout(Duration::from_millis(20));
}

/// Sends a request without a body. Returns the status, the head and the body.
pub fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
) -> std::io::Result<(u16, String, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    write!(stream, "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or((&response, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    Ok((status, head.to_owned(), body.to_owned()))
}

/// Returns the sum of all samples of the metric `name` with these labels.
pub fn sample(exposition: &str, name: &str, labels: &[&str]) -> f64 {
    exposition
        .lines()
        .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
        .filter(|line| labels.iter().all(|label| line.contains(label)))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum()
}

/// Checks the equations of the ledger, the counters of all arrivals, in a scrape.
pub fn assert_balanced(exposition: &str) {
    let get = |name: &str| sample(exposition, name, &[]);
    let (arrivals, started) =
        (get("llmload_arrivals_total"), get("llmload_requests_started_total"));
    let finished = get("llmload_requests_total");
    assert_eq!(arrivals, started + get("llmload_arrivals_dropped_total"), "{exposition}");
    let open = get("llmload_requests_in_flight") + get("llmload_requests_aborted_total");
    assert_eq!(started, finished + open, "{exposition}");
}

pub fn llmload(args: &[&str]) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_llmload"))
        .args(args)
        .current_dir(folder.path())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn without_a_configuration_the_error_names_the_demo() {
    let (code, out, err) = llmload(&[]);
    assert_eq!(code, Some(2));
    assert_eq!(out, "");
    assert!(err.contains("llmload.yml") && err.contains("llmload demo"), "{err}");
    let (code, _, err) = llmload(&["check", "missing.yml"]);
    assert_eq!((code, err.as_str()), (Some(2), "missing.yml: there is no such file\n"));
}

#[test]
fn a_mistyped_command_is_not_used_as_an_endpoint() {
    let (code, _, err) = llmload(&["chekc"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("--help"), "{err}");
}

#[test]
fn a_port_in_use_is_reported_before_anything_starts() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, _, err) = llmload(&["demo", "--web.listen-address", &address]);
    assert_eq!(code, Some(1));
    assert!(err.contains(&address) && err.contains("--web.listen-address"), "{err}");
}

#[test]
fn check_prints_a_forecast_or_all_problems() {
    let examples = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("config/demo.yml");
    let (code, out, _) = llmload(&["check", examples.to_str().unwrap()]);
    assert_eq!(code, Some(0));
    assert!(out.contains("climb") && out.contains(" in 24 h"), "{out}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.yml");
    std::fs::write(&file, "target: localhost\nrate: 5\nspeed: 3\n").unwrap();
    let (code, _, err) = llmload(&["check", file.to_str().unwrap()]);
    assert_eq!(code, Some(2));
    for place in [":1:", ":2:", ":3:"] {
        assert!(err.contains(place), "{err}");
    }
}

#[test]
fn the_schema_equals_the_one_in_the_repository() {
    let (code, out, _) = llmload(&["schema"]);
    assert_eq!(code, Some(0));
    let committed = include_str!("../../config/llmload.schema.json");
    let parse = |text| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(parse(&out), parse(committed), "run `llmload schema > config/llmload.schema.json`");
}

#[test]
fn only_log_options_are_accepted_before_every_command() {
    let (code, out, err) = llmload(&["--log.level", "debug", "schema"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.starts_with('{'));
    let (code, _, err) = llmload(&["--config.file", "x.yml", "demo"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("--config.file") && err.contains("demo"), "{err}");
    let (code, _, err) =
        llmload(&["http://127.0.0.1:1/v1", "--rate", "1/s", "--config.file", "x.yml"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("--config.file") && err.contains("cannot be used with"), "{err}");
    let (code, _, err) = llmload(&["--log.level", "inof", "demo"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("inof") && err.contains("info"), "{err}");
    let (code, _, err) = llmload(&["http://127.0.0.1:1/v1", "--rate", "fast"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("5/s"), "{err}");
}

#[test]
fn output_to_a_full_disk_fails_and_output_to_a_closed_pipe_succeeds() {
    let examples = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("config/demo.yml");
    for args in [vec!["schema"], vec!["check", examples.to_str().unwrap()], vec!["--help"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = Command::new(env!("CARGO_BIN_EXE_llmload"))
            .args(&args)
            .stdout(writer)
            .output()
            .unwrap();
        assert_eq!(
            (output.status.code(), output.stderr.as_slice()),
            (Some(0), &b""[..]),
            "{args:?}"
        );
    }
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output =
        Command::new(env!("CARGO_BIN_EXE_llmload")).arg("schema").stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "a failed write is an error");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mistyped =
        Command::new(env!("CARGO_BIN_EXE_llmload")).arg("check").arg("x").stderr(writer).status();
    assert_eq!(mistyped.unwrap().code(), Some(2));
}

/// `llmload demo 2>&1 | head` must continue after `head` has ended.
#[test]
fn a_daemon_outlives_the_reader_of_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = "target: {simulator: {}}\nrate: 1/s\n";
    std::fs::write(folder.path().join("llmload.yml"), yaml).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_llmload"))
        .args(["--web.listen-address", "127.0.0.1:0"])
        .current_dir(folder.path())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    log.read_line(&mut String::new()).unwrap();
    drop(log);
    let kill = |name: &str| {
        Command::new("kill").args(["-s", name, &child.id().to_string()]).status().unwrap()
    };
    // SIGHUP causes a log line.
    assert!(kill("HUP").success());
    assert!(kill("TERM").success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
