//! The times in a report, against the log of the target. The target is a server without llmload's
//! code. It logs the instant of each request and of each event that it writes.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use llmload::report::{Statistics, Summary};
use tokio::time::Instant;

use crate::run::run;
use crate::upstream::{DONE, FINISH, token};

pub const REQUESTS: u64 = 240;
const TOKENS: u64 = 4;
/// The first event, which has a role but no text. It is not the first token.
const ROLE: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n";

/// The instants of one request at the target.
pub struct Logged {
    /// The body of the request, in lower case.
    pub body: String,
    received: Instant,
    /// The instant before the writing of each token.
    tokens: Vec<Instant>,
    ended: Instant,
}

#[derive(Default)]
pub struct Log {
    requests: AtomicU64,
    pub ended: Mutex<Vec<Logged>>,
}

/// Starts the target. It ends with the process of the test. `scale` multiplies all times.
pub fn start(scale: u64) -> (String, Arc<Log>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let log = Arc::new(Log::default());
    let written = Arc::clone(&log);
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let log = Arc::clone(&written);
            std::thread::spawn(move || serve(connection, scale, &log));
        }
    });
    (url, log)
}

/// Serves the requests of one connection, until the client closes it.
fn serve(mut connection: TcpStream, scale: u64, log: &Log) -> Option<()> {
    connection.set_nodelay(true).ok()?;
    loop {
        let (received, body) = read_request(&mut connection)?;
        // The number of the request is the seed.
        let mut random = log.requests.fetch_add(1, Ordering::Relaxed);
        let mut between = |low: u64, high: u64| {
            // The constants of the linear congruential generator of MMIX, by Knuth.
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            Duration::from_micros(scale * (low + (random >> 33) % (high - low)))
        };
        let mut write = |text: &str| connection.write_all(text.as_bytes()).ok();
        write("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n")?;
        write("transfer-encoding: chunked\r\n\r\n")?;
        write(&chunk(ROLE))?;
        let mut tokens = Vec::new();
        for index in 0..TOKENS {
            let (low, high) = if index == 0 { (150_000, 600_000) } else { (100_000, 300_000) };
            std::thread::sleep(between(low, high));
            tokens.push(Instant::now());
            write(&chunk(&token("a")))?;
        }
        let usage = format!(
            "data: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":3,\"completion_tokens\":{TOKENS}}}}}\n\n"
        );
        let ended = Instant::now();
        write(&(chunk(&[FINISH, &usage, DONE].concat()) + "0\r\n\r\n"))?;
        log.ended.lock().ok()?.push(Logged { body, received, tokens, ended });
    }
}

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

/// Reads a request. Returns the instant at which the request was complete, and its body in lower
/// case. The target has no other path than that of chat completions.
fn read_request(connection: &mut TcpStream) -> Option<(Instant, String)> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let count = connection.read(&mut buffer).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
        if body.len() >= length.map_or(0, |length| length.trim().parse().unwrap()) {
            let received = Instant::now();
            if head.starts_with("post /v1/chat/completions ") {
                return Some((received, body.to_owned()));
            }
            connection.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").ok()?;
            bytes.clear();
        }
    }
}

/// The quantile that the report defines: the value of the rank ⌈n·q⌉.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn quantile(values: &mut [f64], q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[(values.len() as f64 * q).ceil() as usize - 1]
}

/// A row for each quantile that differs from the log by more than 1 % and more than 1 ms.
pub fn differences(total: &Statistics, log: &[Logged]) -> Vec<String> {
    let since = |from: Instant, to: Instant| (to - from).as_secs_f64();
    let all = |value: &dyn Fn(&Logged) -> f64| log.iter().map(value).collect::<Vec<f64>>();
    #[allow(clippy::cast_precision_loss)]
    let intervals = (TOKENS - 1) as f64;
    let last = |one: &Logged| one.tokens[one.tokens.len() - 1];
    let gaps = log.iter().flat_map(|one| one.tokens.windows(2).map(|pair| since(pair[0], pair[1])));
    let quantities: [(&str, &Summary, Vec<f64>); 4] = [
        (
            "TTFT",
            &total.time_to_first_token_seconds,
            all(&|one| since(one.received, one.tokens[0])),
        ),
        (
            "TPOT",
            &total.time_per_output_token_seconds,
            all(&|one| since(one.tokens[0], last(one)) / intervals),
        ),
        ("ITL", &total.inter_chunk_latency_seconds, gaps.collect()),
        ("duration", &total.request_duration_seconds, all(&|one| since(one.received, one.ended))),
    ];
    let mut found = Vec::new();
    for (name, summary, mut values) in quantities {
        let Summary { count, p50, p90, p95, p99, .. } = *summary;
        // Two events can arrive in one read, so there can be fewer times between chunks.
        if count != values.len() as u64 {
            found.push(format!("{name}: {count} values, the log has {}", values.len()));
        }
        for (q, reported) in [(0.5, p50), (0.9, p90), (0.95, p95), (0.99, p99)] {
            let (reported, truth) = (reported.unwrap(), quantile(&mut values, q));
            let row = format!("{name} p{}: {reported:.6} s, the log has {truth:.6} s", q * 100.0);
            if (reported - truth).abs() > (truth * 0.01).max(0.001) {
                found.push(row);
            }
        }
    }
    found
}

/// On a busy machine, the client reads some events late, so the test repeats the run with longer
/// times. A wrong definition of a value changes every run.
#[test]
fn the_quantiles_of_a_report_are_those_of_the_log_of_the_target() {
    let mut found = Vec::new();
    for (scale, rate) in [(1, 60), (4, 40), (10, 20), (10, 20)] {
        let (url, log) = start(scale);
        let yaml = format!(
            "target: {{base_url: '{url}', model: m}}
start: now
max_lag: 1m
max_concurrency: 1000
schedule: [{{constant: {rate}/s, for: {}s}}]
",
            REQUESTS / rate
        );
        let ran = run(&yaml, &[]);
        let total = &ran.report.unwrap_or_else(|| panic!("{}", ran.log)).routes[0].total;
        assert_eq!((total.succeeded, total.failed), (REQUESTS, 0), "{}", ran.table);
        found = differences(total, &log.ended.lock().unwrap());
        if found.is_empty() {
            return;
        }
    }
    panic!("values differ in each of 4 runs; in the last run:\n{}", found.join("\n"));
}
