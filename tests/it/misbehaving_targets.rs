//! Targets that try to use up the memory, the CPU or the series of a daemon for as long as it runs.

use std::cell::RefCell;

use crate::binary::{Daemon, assert_balanced, cpu_share, sample};
use crate::upstream::{Act, DONE, Upstream, chunk, head, last_chunk, plain, stream_head, token};

/// The most memory that a dropped arrival can keep, in bytes. The memory of a daemon varies by some
/// hundred KiB, which is less than this for each of the 9,900 arrivals in the second half.
const MAX_PER_DROP: f64 = 128.0;

/// The target accepts every connection and never responds. The load is 2,000/s with a cap of 200
/// for ten seconds, or for the seconds in `LLMLOAD_TEST_MUTE`, so llmload drops nearly every
/// arrival.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mute_target_keeps_exactly_max_concurrency_in_flight_in_flat_memory() {
    let length = std::env::var("LLMLOAD_TEST_MUTE");
    let seconds: u32 = length.map_or(10, |text| text.parse().unwrap());
    let upstream = Upstream::start(|_| vec![Act::Silence]).await;
    let yaml = format!(
        "targets: {{t: {{base_url: '{}', model: m, timeouts: {{first_token: 1d, total: 1d}}}}}}
scenarios:
  s:
    target: t
    start: now
    repeat: 1
    max_concurrency: 200
    max_lag: 30s
    schedule: [{{constant: 2000/s, for: {seconds}s}}]
",
        upstream.url()
    );
    tokio::task::spawn_blocking(move || {
        let mut daemon = Daemon::start(&yaml);
        let drops =
            |text: &str, label: &str| sample(text, "llmload_arrivals_dropped_total", &[label]);
        let capped = |text: &str| drops(text, "reason=\"max_concurrency\"");
        daemon.wait_for("/metrics", |text| (capped(text) > 0.0).then_some(()));
        let arrivals = 2000.0 * f64::from(seconds);
        let memory = RefCell::new([0.0_f64; 2]);
        let text = daemon.wait_for_long("/metrics", u64::from(seconds), |text| {
            assert_balanced(text);
            let half = usize::from(capped(text) > arrivals / 2.0);
            let highest = &mut memory.borrow_mut()[half];
            *highest = highest.max(sample(text, "process_resident_memory_bytes", &[]));
            assert_eq!(sample(text, "llmload_requests_in_flight", &[]), 200.0, "{text}");
            let all = sample(text, "llmload_arrivals_total", &[]);
            (all == arrivals).then(|| text.to_owned())
        });
        assert_eq!(capped(&text), arrivals - 200.0, "{text}");
        assert_eq!(drops(&text, ""), arrivals - 200.0, "{text}");
        assert_eq!(sample(&text, "llmload_requests_started_total", &[]), 200.0);
        let [first, second] = memory.into_inner();
        let per_drop = (second - first) / (arrivals / 2.0);
        assert!(first > 0.0 && per_drop < MAX_PER_DROP, "{per_drop} bytes, {first} to {second}");
    })
    .await
    .unwrap();
}

/// Each response has other models, finish reasons, error messages, codes and headers. The load is
/// 10,000 requests. The first 200 have every kind of response.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_different_texts_of_a_server_add_no_series() {
    let script = |k: u64| {
        let reason = format!(
            "data: {{\"model\":\"m{k}\",\"choices\":[{{\"index\":0,\"delta\":{{}},\"finish_reason\":\"r{k}\"}}]}}\n\n"
        );
        let error = format!(
            "{{\"error\":{{\"message\":\"message {k}\",\"type\":\"t{k}\",\"code\":\"c{k}\"}}}}"
        );
        let server = format!("server: s/{k}");
        match k % 5 {
            0 => plain("400 Bad Request", "application/json", &error),
            1 => plain(&format!("{} R{k}", 410 + k % 80), "text/plain", &format!("text {k}")),
            2 => vec![stream_head(), chunk(&format!("data: {error}\n\n")), last_chunk()],
            3 => vec![head("200 OK", &[&server, "content-length: 0"])],
            _ => vec![stream_head(), chunk(&token("a")), chunk(&reason), chunk(DONE), last_chunk()],
        }
    };
    let upstream = Upstream::start(script).await;
    let yaml = format!(
        "targets: {{t: {{base_url: '{}', model: m}}}}
scenarios:
  s:
    target: t
    start: now
    repeat: 1
    max_concurrency: 1000
    max_lag: 30s
    schedule: [{{constant: 400/s, for: 25s}}]
",
        upstream.url()
    );
    tokio::task::spawn_blocking(move || {
        let mut daemon = Daemon::start(&yaml);
        let after = |daemon: &mut Daemon, count: f64| {
            let text = daemon.wait_for("/metrics", |text| {
                let finished = sample(text, "llmload_requests_total", &[]);
                (finished >= count).then(|| text.to_owned())
            });
            assert_balanced(&text);
            let samples = text.lines().filter(|line| !line.starts_with('#'));
            let series = samples.map(|line| line.rsplit_once(' ').unwrap().0.to_owned());
            (series.collect::<Vec<_>>(), daemon.memory("VmRSS"))
        };
        let (before, small) = after(&mut daemon, 200.0);
        let (all, large) = after(&mut daemon, 10_000.0);
        assert_eq!(before, all);
        let growth = large.saturating_sub(small);
        assert!(growth < 12 << 20, "{growth} bytes");
        // The status shows the latest failures. It needs bounded memory too.
        let status = daemon.get("/api/v1/status").2;
        assert!(status.len() < 64 << 10, "{} bytes", status.len());
    })
    .await
    .unwrap();
}

/// The target closes its half of each connection in the middle of a response, and never closes the
/// other half. A closed half is always readable, so a careless client would read in a loop.
#[test]
fn targets_that_close_their_half_of_a_connection_use_no_cpu() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // The test ends with the process, and so does this thread.
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for (number, stream) in listener.incoming().flatten().enumerate() {
            use std::io::Write as _;
            let mut stream = stream;
            let starts: [&[u8]; 3] = [
                b"",
                b"HTTP/1.1 200 OK\r\ncontent-ty",
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n: one\n",
            ];
            let _gone = stream.write_all(starts[number % starts.len()]);
            let _gone = stream.shutdown(std::net::Shutdown::Write);
            open.push(stream);
        }
    });
    let mut daemon = Daemon::start(&format!(
        "targets: {{t: {{base_url: 'http://{address}/v1', model: m, keep_alive: 1h}}}}
scenarios:
  s: {{target: t, start: now, repeat: 1, schedule: [{{concurrency: 10, requests: 60}}]}}
"
    ));
    let text = daemon.wait_for("/metrics", |text| {
        (sample(text, "llmload_requests_total", &[]) == 60.0).then(|| text.to_owned())
    });
    assert_balanced(&text);
    for reason in ["reset", "incomplete"] {
        let label = format!("reason=\"{reason}\"");
        assert!(sample(&text, "llmload_request_failures_total", &[&label]) > 0.0, "{text}");
    }
    let cpu = cpu_share(&mut daemon);
    let mut idle = Daemon::start(
        "targets: {t: {simulator: {}, model: m}}
scenarios: {s: {target: t, start: now, schedule: [{pause: 1h}, {constant: 1/s, for: 1s}]}}
",
    );
    let idle = cpu_share(&mut idle);
    assert!(cpu < idle + 0.2, "llmload uses {cpu} CPUs, and {idle} without load");
    // llmload closes its half too.
    daemon
        .wait_for("/metrics", |text| (sample(text, "process_open_fds", &[]) < 60.0).then_some(()));
}
