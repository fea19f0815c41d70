//! Whatever bytes come, nothing panics, nothing outgrows its bound, and where the reads fall changes
//! nothing. The bytes are the recorded streams, damaged at random. A short run is part of every test run;
//! `FUZZ_RUNS=1000000 cargo test --release --test fuzz` is the long one, and `FUZZ_SEED` another series.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::time::SystemTime;

use llmload::measurement::FailureDetail;
use llmload::protocol::{
    Ending, Fault, Limits, RateLimits, Reply, Terminal, WholeReply, headers, no_sink, not_a_stream, refusal,
};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Pieces that mean something to one parser or another.
const PIECES: [&[u8]; 24] = [
    b"\n",
    b"\r",
    b"\n\n",
    b"\r\n\r\n",
    b"data: ",
    b"data:",
    b"event: error\n",
    b"error: ",
    b": ping\n",
    b"[DONE]",
    b"null",
    b"{}",
    b"[]",
    b"\"",
    b"\\u",
    b"\xff",
    b"\xef\xbb\xbf",
    b"{\"choices\":[",
    b"\"finish_reason\":\"stop\"",
    b"\"usage\":{\"completion_tokens\":9}",
    b"\"error\":",
    b"1e999",
    b"-1",
    b"6m0s",
];

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

fn corpus() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/sse-captures");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| {
        path.extension().is_some_and(|kind| kind == "sse") || path.to_string_lossy().contains("-error-")
    });
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// A part of one of them, with some of it cut out, doubled, overwritten or put in.
fn damaged(corpus: &[Vec<u8>], random: &mut ChaCha8Rng) -> Vec<u8> {
    let whole = &corpus[random.random_range(0..corpus.len())];
    let start = random.random_range(0..=whole.len());
    let mut bytes = whole[start..whole.len().min(start + 2048)].to_vec();
    for _ in 0..random.random_range(0..8) {
        let at = random.random_range(0..=bytes.len());
        let to = random.random_range(at..=bytes.len().min(at + 40));
        match random.random_range(0..4) {
            0 => drop(bytes.drain(at..to)),
            1 => {
                let again = bytes[at..to].to_vec();
                drop(bytes.splice(at..at, again));
            }
            2 if at < bytes.len() => bytes[at] = u8::try_from(random.next_u32() & 0xff).unwrap(),
            _ => drop(bytes.splice(at..at, PIECES[random.random_range(0..PIECES.len())].iter().copied())),
        }
    }
    bytes
}

fn verdict(
    bytes: &[u8],
    terminal: Terminal,
    limits: Limits,
    cuts: &[usize],
) -> Result<Ending, FailureDetail> {
    let mut reply = Reply::new(terminal, limits);
    let mut from = 0;
    for &to in cuts.iter().chain([&bytes.len()]) {
        if reply.read(&bytes[from..to], &mut no_sink).finished {
            break;
        }
        from = to;
    }
    reply.end(&mut no_sink).verdict
}

#[test]
fn no_bytes_are_too_strange() {
    let (runs, seed) = (from_environment("FUZZ_RUNS", 3000), from_environment("FUZZ_SEED", 0));
    let corpus = corpus();
    assert!(corpus.len() > 20);
    let (mut good, mut bad) = (0, 0);
    for run in 0..runs {
        // Each run can be had again alone.
        let mut random = ChaCha8Rng::seed_from_u64(seed.wrapping_add(run));
        let bytes = damaged(&corpus, &mut random);
        let terminal = [Terminal::FinishReason, Terminal::Done, Terminal::Eof][random.random_range(0..3)];
        let mut limits = Limits::default();
        if random.random_bool(0.2) {
            limits = Limits { line: 200, event: 400, body: 1500, whole: 1000, events: 9 };
        }
        let mut cuts: Vec<usize> = (0..6).map(|_| random.random_range(0..=bytes.len())).collect();
        cuts.sort_unstable();
        let whole = verdict(&bytes, terminal, limits, &[]);
        let cut = verdict(&bytes, terminal, limits, &cuts);
        assert_eq!(cut, whole, "FUZZ_SEED={} FUZZ_RUNS=1: {}", seed.wrapping_add(run), bytes.escape_ascii());
        match &whole {
            Ok(_) => good += 1,
            Err(detail) => {
                assert!(detail.message.len() <= FailureDetail::MESSAGE_LIMIT);
                assert!(!detail.message.contains(char::is_control));
                bad += 1;
            }
        }
        let mut reply = WholeReply::new(limits);
        let _room = reply.read(&bytes);
        let _verdict = reply.end(&mut no_sink);
        assert!(Fault::from_body(&bytes).message.len() <= 1 << 10);
        let _details = (not_a_stream(&bytes), refusal(random.random_range(0..1000), &bytes));
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]);
        let _limits = RateLimits::read(|_| Some(text.as_ref()), SystemTime::UNIX_EPOCH);
        assert!(headers::request_id(|_| Some(text.as_ref())).is_none_or(|id| id.len() <= 64));
    }
    // A harness that only ever makes rubbish, or none, looks at nothing.
    assert!(runs < 1000 || (good > runs / 100 && bad > runs / 100), "{good} good, {bad} bad");
}
