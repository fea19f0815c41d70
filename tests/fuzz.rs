//! Fuzz tests of every parser of response bytes. No parser panics or exceeds a limit. The result
//! does not depend on the division of the bytes into reads.
//!
//! The tests damage recorded streams and the examples in `tests/corpus` at random. Usage objects
//! are generated, so that their counts are known. `docs/fuzzing.md` describes long runs; a short
//! run is part of every test run.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::time::{Duration, SystemTime};

use llmload::endpoint::http1::Violation;
use llmload::endpoint::http1::body::{BodyDecoder, Framing};
use llmload::endpoint::http1::head::HeadReader;
use llmload::measurement::{FailureDetail, Usage};
use llmload::observe::{Page, PageReader, Series};
use llmload::plan::MetricsSource;
use llmload::protocol::chat::{self, Shape};
use llmload::protocol::sse::{Decoder, SseEvent, TooLarge};
use llmload::protocol::{
    Api, BodyReader, Channel, CompletedResponse, Progress, RateLimits, ReportedError,
    ResponseLimits, StreamEnd, StreamReader, Terminal, discard_text, explain_missing_stream,
    failure_of_status, headers,
};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::time::Instant;

/// Bytes with a special meaning for a parser.
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

// ---- Runs and seeds -----------------------------------------------------------------------------

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// One seed for each run. `FUZZ_SEED=… FUZZ_RUNS=1` repeats one run.
fn seeds() -> Range<u64> {
    let first = from_environment("FUZZ_SEED", 0);
    first..first.saturating_add(from_environment("FUZZ_RUNS", 3000))
}

/// Fails if nearly all results were of one kind. Such a run would prove little.
fn assert_both_occurred(good: u64, bad: u64) {
    let runs = seeds().end - seeds().start;
    assert!(
        runs < 1000 || (good > runs / 100 && bad > runs / 100),
        "both results are frequent: {good} good and {bad} bad results in {runs} runs"
    );
}

fn corpus() -> Vec<Vec<u8>> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let files = |folder: &str| {
        std::fs::read_dir(tests.join(folder)).unwrap().map(|entry| entry.unwrap().path())
    };
    let mut paths: Vec<_> = files("fixtures/sse-captures").chain(files("corpus")).collect();
    paths.retain(|path| {
        path.extension().is_some_and(|kind| kind == "sse")
            || path.to_string_lossy().contains("-error-")
    });
    paths.sort();
    assert!(paths.len() > 25, "{paths:?}");
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// Returns the values of all `data` lines.
fn events() -> Vec<Vec<u8>> {
    let corpus = corpus();
    let lines = corpus.iter().flat_map(|body| body.split(|byte| matches!(byte, b'\r' | b'\n')));
    lines
        .filter_map(|line| line.strip_prefix(b"data:"))
        .map(|data| data.trim_ascii().to_vec())
        .collect()
}

/// Returns all response heads, as maps from header names to values.
fn heads() -> Vec<BTreeMap<String, Vec<u8>>> {
    let field = |line: &str| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.to_owned(), value.as_bytes().to_vec())
    };
    let head = |paragraph: &str| paragraph.lines().map(field).collect();
    include_str!("corpus/heads.txt").split("\n\n").map(head).collect()
}

/// Returns a part of a random input, with some bytes removed, doubled, overwritten or inserted.
fn damaged(corpus: &[Vec<u8>], random: &mut ChaCha8Rng) -> Vec<u8> {
    let original = &corpus[random.random_range(0..corpus.len())];
    let start = random.random_range(0..=original.len());
    let part = original[start..original.len().min(start + 2048)].to_vec();
    let times = random.random_range(0..8);
    damage(part, times, random)
}

fn damage(mut bytes: Vec<u8>, times: u32, random: &mut ChaCha8Rng) -> Vec<u8> {
    for _ in 0..times {
        let at = random.random_range(0..=bytes.len());
        let to = random.random_range(at..=bytes.len().min(at + 40));
        match random.random_range(0..4) {
            0 => drop(bytes.drain(at..to)),
            1 => {
                let again = bytes[at..to].to_vec();
                drop(bytes.splice(at..at, again));
            }
            2 if at < bytes.len() => bytes[at] = u8::try_from(random.next_u32() & 0xff).unwrap(),
            _ => drop(
                bytes.splice(at..at, PIECES[random.random_range(0..PIECES.len())].iter().copied()),
            ),
        }
    }
    bytes
}

fn cuts(length: usize, random: &mut ChaCha8Rng) -> Vec<usize> {
    let mut cuts: Vec<usize> = (0..6).map(|_| random.random_range(0..=length)).collect();
    cuts.sort_unstable();
    cuts
}

/// Returns the default limits, or limits that most bodies exceed.
fn limits(random: &mut ChaCha8Rng) -> ResponseLimits {
    if random.random_bool(0.2) {
        return ResponseLimits {
            event: 400,
            stream_body: 1500,
            unstreamed_body: 1000,
            vectors_body: 1000,
            events: 9,
        };
    }
    ResponseLimits::default()
}

// ---- Responses ----------------------------------------------------------------------------------

fn verdict(
    api: Api,
    bytes: &[u8],
    terminal: Terminal,
    limits: ResponseLimits,
    cuts: &[usize],
) -> Result<CompletedResponse, FailureDetail> {
    let mut reader = StreamReader::new(api, terminal, limits);
    let mut from = 0;
    for &to in cuts.iter().chain([&bytes.len()]) {
        if reader.read(&bytes[from..to], &mut discard_text).finished {
            break;
        }
        from = to;
    }
    reader.end(&mut discard_text).verdict
}

#[test]
fn no_bytes_cause_a_panic_and_the_verdict_does_not_depend_on_the_split_into_reads() {
    let corpus = corpus();
    let (mut good, mut bad) = (0, 0);
    for seed in seeds() {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let bytes = damaged(&corpus, &mut random);
        let terminal =
            [Terminal::FinishReason, Terminal::Done, Terminal::Eof][random.random_range(0..3)];
        let limits = limits(&mut random);
        let api = Api::ALL[random.random_range(0..Api::ALL.len())];
        let unsplit = verdict(api, &bytes, terminal, limits, &[]);
        let cut = verdict(api, &bytes, terminal, limits, &cuts(bytes.len(), &mut random));
        assert_eq!(cut, unsplit, "FUZZ_SEED={seed} FUZZ_RUNS=1: {}", bytes.escape_ascii());
        match &unsplit {
            Ok(_) => good += 1,
            Err(detail) => {
                assert!(detail.message.len() <= FailureDetail::MESSAGE_LIMIT);
                assert!(!detail.message.contains(char::is_control));
                bad += 1;
            }
        }
        let mut reader = BodyReader::new(api, limits);
        let _fits = reader.read(&bytes);
        let _verdict = reader.end(&mut discard_text);
        assert!(ReportedError::from_body(&bytes).message.len() <= 1 << 10);
        let status = random.random_range(0..1000);
        let _details = (explain_missing_stream(api, &bytes), failure_of_status(status, &bytes));
    }
    assert_both_occurred(good, bad);
}

/// Reads a stream in several reads. Returns the texts, the progress of each read and the end.
fn read_stream(
    mut reader: StreamReader,
    bytes: &[u8],
    cuts: &[usize],
) -> (Vec<(u32, Channel, String)>, Vec<Progress>, StreamEnd) {
    let (mut texts, mut progress, mut from) = (Vec::new(), Vec::new(), 0);
    let mut sink = |choice, channel, text: &str| texts.push((choice, channel, text.to_owned()));
    for &to in cuts.iter().chain([&bytes.len()]) {
        progress.push(reader.read(&bytes[from..to], &mut sink));
        from = to;
    }
    let end = reader.end(&mut sink);
    (texts, progress, end)
}

#[test]
fn a_stream_has_the_same_result_if_every_event_is_parsed() {
    let corpus = corpus();
    let (mut with_texts, mut without) = (0, 0);
    for seed in seeds() {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        // The damage can be in one of many equal events, or in their text.
        let damaged = damaged(&corpus, &mut random);
        let times = random.random_range(1..4);
        let bytes = damaged.repeat(times);
        let api = Api::ALL[random.random_range(0..Api::ALL.len())];
        let reader = || StreamReader::new(api, Terminal::Eof, ResponseLimits::default());
        let cuts = cuts(bytes.len(), &mut random);
        let result = read_stream(reader(), &bytes, &cuts);
        let parsed = read_stream(reader().with_every_event_parsed(), &bytes, &cuts);
        assert_eq!(result, parsed, "FUZZ_SEED={seed} FUZZ_RUNS=1: {}", bytes.escape_ascii());
        *(if result.0.len() > 1 { &mut with_texts } else { &mut without }) += 1;
    }
    assert_both_occurred(with_texts, without);
}

// ---- HTTP/1.1 -----------------------------------------------------------------------------------

/// Byte strings that have a special meaning in a response of HTTP/1.1.
const HTTP_PIECES: [&[u8]; 16] = [
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"0\r\n\r\n",
    b"5\r\nhello\r\n",
    b"ffffffffffffffff\r\n",
    b"1;a=b\r\nx\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\n",
    b"content-length: 5\r\n",
    b"content-length: 18446744073709551616\r\n",
    b"transfer-encoding: chunked\r\n",
    b"transfer-encoding: gzip\r\n",
    b"connection: close\r\n",
    b" folded\r\n",
];

/// The status, the framing and the content of a response, and the number of bytes after it.
#[derive(Debug, PartialEq)]
struct HttpResponse {
    status: u16,
    framing: Framing,
    keeps_alive: bool,
    content: Vec<u8>,
    violation: Option<&'static str>,
    has_ended: bool,
    after: usize,
}

fn read_http(bytes: &[u8], cuts: &[usize]) -> Result<Option<HttpResponse>, Violation> {
    let (mut reader, mut from, mut head) = (HeadReader::default(), 0, None);
    let mut ends = cuts.iter().copied().chain([bytes.len()]);
    while head.is_none()
        && let Some(to) = ends.next()
    {
        head = reader.read(&bytes[from..to])?;
        from = to;
    }
    let Some(head) = head else { return Ok(None) };
    let mut decoder = BodyDecoder::new(head.framing);
    let mut response = HttpResponse {
        status: head.status,
        framing: head.framing,
        keeps_alive: head.keeps_alive,
        content: Vec::new(),
        violation: None,
        has_ended: false,
        after: 0,
    };
    let mut reads = vec![reader.into_rest()];
    for to in ends {
        reads.push(bytes[from..to].to_vec());
        from = to;
    }
    for mut read in reads {
        if response.violation.is_some() {
            break;
        }
        let decoded = decoder.decode(&mut read);
        assert!(decoded.content <= decoded.consumed && decoded.consumed <= read.len());
        response.content.extend_from_slice(&read[..decoded.content]);
        response.violation = decoded.violation;
        response.after += read.len() - decoded.consumed;
    }
    response.has_ended = decoder.has_ended();
    if response.violation.is_some() {
        // The bytes after a violation are not read.
        response.after = 0;
    }
    Ok(Some(response))
}

#[test]
fn a_response_of_http_1_does_not_depend_on_the_split_into_reads() {
    let heads = [
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n",
        "HTTP/1.0 503 Busy\r\nconnection: keep-alive\r\n\r\n",
    ];
    let bodies = ["5\r\nhello\r\n6;a=\"b\"\r\n world\r\n0\r\nx: y\r\n\r\n", "hello world", ""];
    let (mut good, mut bad) = (0, 0);
    for seed in seeds() {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut bytes = Vec::new();
        for parts in [&heads, &bodies] {
            bytes.extend_from_slice(parts[random.random_range(0..3)].as_bytes());
        }
        for _ in 0..random.random_range(0..4) {
            let at = random.random_range(0..=bytes.len());
            let piece = HTTP_PIECES[random.random_range(0..HTTP_PIECES.len())];
            drop(bytes.splice(at..at, piece.iter().copied()));
        }
        let times = random.random_range(0..2);
        let bytes = damage(bytes, times, &mut random);
        let unsplit = read_http(&bytes, &[]);
        let cut = read_http(&bytes, &cuts(bytes.len(), &mut random));
        assert_eq!(cut, unsplit, "FUZZ_SEED={seed} FUZZ_RUNS=1: {}", bytes.escape_ascii());
        match &unsplit {
            Ok(Some(response)) if response.has_ended => good += 1,
            _ => bad += 1,
        }
        if let Ok(Some(response)) = unsplit {
            assert!(response.content.len() + response.after <= bytes.len(), "FUZZ_SEED={seed}");
        }
    }
    assert_both_occurred(good, bad);
}

// ---- Event streams ------------------------------------------------------------------------------

type Events = Vec<(Vec<u8>, Vec<u8>)>;

/// Decodes a body in several reads, which end at the positions in `cuts`.
fn decoded(bytes: &[u8], limits: ResponseLimits, cuts: &[usize]) -> (Events, Option<TooLarge>) {
    let (mut decoder, mut events) = (Decoder::new(limits), Vec::new());
    let mut keep = |event: SseEvent<'_>| {
        events.push((event.name.to_vec(), event.data.to_vec()));
        ControlFlow::Continue(())
    };
    let mut from = 0;
    for &to in cuts.iter().chain([&bytes.len()]) {
        if let Err(limit) = decoder.feed(&bytes[from..to], &mut keep) {
            return (events, Some(limit));
        }
        from = to;
    }
    let limit = decoder.finish(&mut keep).err();
    (events, limit)
}

#[test]
fn events_do_not_depend_on_the_split_into_reads_and_stay_within_the_limits() {
    let corpus = corpus();
    let (mut within, mut beyond) = (0, 0);
    for seed in seeds() {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let bytes = damaged(&corpus, &mut random);
        let limits = limits(&mut random);
        let (events, limit) = decoded(&bytes, limits, &[]);
        let cut = decoded(&bytes, limits, &cuts(bytes.len(), &mut random));
        assert_eq!(
            cut,
            (events.clone(), limit),
            "FUZZ_SEED={seed} FUZZ_RUNS=1: {}",
            bytes.escape_ascii()
        );
        assert!(events.iter().all(|(_, data)| data.len() <= limits.event), "FUZZ_SEED={seed}");
        assert!(events.len() <= limits.events as usize, "FUZZ_SEED={seed}");
        // Each byte of the body is in the data of at most one event.
        assert!(
            events.iter().map(|(_, data)| data.len()).sum::<usize>() <= bytes.len(),
            "FUZZ_SEED={seed}"
        );
        *(if limit.is_none() { &mut within } else { &mut beyond }) += 1;
    }
    assert_both_occurred(within, beyond);
}

// ---- Single events ------------------------------------------------------------------------------

#[test]
fn the_decoded_text_of_an_event_is_never_longer_than_the_event() {
    let events = events();
    let (mut decoded_count, mut error_count) = (0, 0);
    for seed in seeds() {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        // Damages only a few bytes, because a part of an event is almost never valid JSON.
        let original = events[random.random_range(0..events.len())].clone();
        let times = random.random_range(0..4);
        let bytes = damage(original, times, &mut random);
        let json = String::from_utf8_lossy(&bytes);
        for shape in [Shape::Event, Shape::Body] {
            let mut text_bytes = 0;
            let decoded =
                chat::decode(&json, shape, &mut |_, _, text: &str| text_bytes += text.len());
            // An escape sequence is longer than its character, so text is never longer than its
            // JSON.
            assert!(text_bytes <= json.len(), "FUZZ_SEED={seed} FUZZ_RUNS=1: {json}");
            match decoded {
                Ok(decoded) => {
                    assert_eq!(
                        decoded.has_text,
                        text_bytes > 0,
                        "FUZZ_SEED={seed} FUZZ_RUNS=1: {json}"
                    );
                    assert!(serde_json::from_str::<serde::de::IgnoredAny>(&json).is_ok(), "{json}");
                    decoded_count += 1;
                }
                Err(_) => error_count += 1,
            }
        }
    }
    assert_both_occurred(decoded_count, error_count);
}

/// Bytes with a special meaning for the decoders of typed events and of vectors.
const TYPED_PIECES: [&[u8]; 20] = [
    b"event: message_stop\n",
    b"event: response.completed\n",
    b"event: error\n",
    b"\"type\":\"error\",",
    b"\"type\":\"response.completed\",",
    b"\"type\":\"message_delta\",",
    b"\"response\":{\"status\":\"failed\"},",
    b"\"delta\":{\"stop_reason\":\"refusal\"},",
    b"\"delta\":\"a\",",
    b"\"usage\":{\"output_tokens\":9},",
    b"\"cache_read_input_tokens\":1000000000,",
    b"\"embedding\":[1],",
    b"{\"embedding\":[]},",
    b"NaN",
    b"null",
    b"[",
    b"}",
    b"\\ud83d",
    b"\n\n",
    b"\xff",
];

/// Returns the files of `tests/corpus` for this API.
fn corpus_of(api: Api, extension: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut paths: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.starts_with(api.as_str()) && path.extension().is_some_and(|kind| kind == extension)
    });
    paths.sort();
    assert!(!paths.is_empty(), "{api:?} {extension}");
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// Inserts pieces and damages bytes, so that many streams stay valid.
fn damaged_typed(original: &[u8], random: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = original.to_vec();
    for _ in 0..random.random_range(0..3) {
        // The start of the JSON of an event is the place where a member stays valid.
        let starts: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] == b'{').collect();
        let at = starts.get(random.random_range(0..=starts.len())).map_or(0, |at| at + 1);
        let piece = TYPED_PIECES[random.random_range(0..TYPED_PIECES.len())];
        drop(bytes.splice(at..at, piece.iter().copied()));
    }
    let times = random.random_range(0..2);
    damage(bytes, times, random)
}

#[test]
fn streams_of_typed_events_do_not_depend_on_the_split_into_reads() {
    let corpora = [Api::Responses, Api::Messages].map(|api| (api, corpus_of(api, "sse")));
    let (mut good, mut bad) = (0, 0);
    for seed in seeds() {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let (api, corpus) = &corpora[random.random_range(0..corpora.len())];
        let bytes = damaged_typed(&corpus[random.random_range(0..corpus.len())], &mut random);
        let read = |cuts: &[usize]| {
            let mut reader =
                StreamReader::new(*api, Terminal::FinishReason, ResponseLimits::default());
            let (mut text_bytes, mut token_events, mut from) = (0, 0, 0);
            let mut sink = |_, _, text: &str| text_bytes += text.len();
            for &to in cuts.iter().chain([&bytes.len()]) {
                token_events += reader.read(&bytes[from..to], &mut sink).token_events;
                from = to;
            }
            let end = reader.end(&mut sink);
            (text_bytes, token_events + end.progress.token_events, end.verdict)
        };
        let unsplit = read(&[]);
        let cut = read(&cuts(bytes.len(), &mut random));
        assert_eq!(cut, unsplit, "FUZZ_SEED={seed} FUZZ_RUNS=1: {}", bytes.escape_ascii());
        let (text_bytes, token_events, verdict) = unsplit;
        // A byte that is not UTF-8 becomes a character of three bytes.
        assert!(text_bytes <= 3 * bytes.len(), "FUZZ_SEED={seed}");
        if let Ok(completed) = &verdict {
            let Usage { input, cached_input, .. } = completed.usage;
            assert_eq!(completed.token_events, token_events, "FUZZ_SEED={seed}");
            assert!(input.is_none() || cached_input <= input || *api == Api::Responses);
        }
        *(if verdict.is_ok() { &mut good } else { &mut bad }) += 1;
    }
    assert_both_occurred(good, bad);
}

#[test]
fn a_body_of_any_api_causes_no_panic_and_succeeds_only_with_text_or_vectors() {
    let corpora =
        [Api::Responses, Api::Messages, Api::Embeddings].map(|api| (api, corpus_of(api, "json")));
    let (mut good, mut bad) = (0, 0);
    for seed in seeds() {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let (api, corpus) = &corpora[random.random_range(0..corpora.len())];
        let bytes = damaged_typed(&corpus[random.random_range(0..corpus.len())], &mut random);
        let expected_vectors = random.random_range(1..3);
        let mut reader = BodyReader::new(*api, ResponseLimits::default())
            .with_expected_vectors(expected_vectors);
        let _fits = reader.read(&bytes);
        let mut text_bytes = 0;
        let verdict = reader.end(&mut |_, _, text: &str| text_bytes += text.len());
        let shown = || format!("FUZZ_SEED={seed} FUZZ_RUNS=1: {}", bytes.escape_ascii());
        assert!(text_bytes <= 3 * bytes.len(), "{}", shown());
        match &verdict {
            Ok(completed) if *api == Api::Embeddings => {
                assert_eq!((text_bytes, completed.usage.output), (0, None), "{}", shown());
                assert!(bytes.windows(9).any(|part| part == b"embedding"), "{}", shown());
            }
            Ok(completed) => {
                assert_eq!(text_bytes > 0, completed.token_events > 0, "{}", shown());
                assert!(text_bytes > 0 || completed.usage.output > Some(0), "{}", shown());
            }
            Err(detail) => assert!(!detail.message.contains(char::is_control), "{}", shown()),
        }
        *(if verdict.is_ok() { &mut good } else { &mut bad }) += 1;
    }
    assert_both_occurred(good, bad);
}

// ---- Usage --------------------------------------------------------------------------------------

/// Counts in the forms that servers use, and the values that llmload must read.
const COUNTS: [(&str, Option<u64>); 18] = [
    ("0", Some(0)),
    ("1", Some(1)),
    ("13.0", Some(13)),
    ("\"21\"", Some(21)),
    ("4096", Some(4096)),
    ("1000000000", Some(1_000_000_000)),
    ("1000000001", None),
    ("18446744073709551616", None),
    ("1.2e3", Some(1200)),
    ("2E0", Some(2)),
    ("1e300", None),
    ("0.5", None),
    ("-1", None),
    ("null", None),
    ("true", None),
    ("\"many\"", None),
    ("[7]", None),
    ("{}", None),
];

/// Returns a usage object with random keys in random order, and the expected counts. Looks up each
/// key by name, unlike the decoder.
fn usage(random: &mut ChaCha8Rng) -> (String, Usage) {
    let mut members: Vec<(&str, &str, Option<u64>)> = Vec::new();
    let names = [
        "prompt_tokens",
        "completion_tokens",
        "total_tokens",
        "cached_tokens",
        "reasoning_tokens",
        "queue_time",
    ];
    // A repeated key has no defined meaning.
    for name in names {
        if random.random_bool(0.6) {
            let (text, count) = COUNTS[random.random_range(0..COUNTS.len())];
            let at = random.random_range(0..=members.len());
            members.insert(at, (name, text, count));
        }
    }
    let newer = random.random_bool(0.3);
    let text: Vec<String> = members
        .iter()
        .map(|(name, text, _)| match (*name, newer) {
            ("cached_tokens", false) => {
                format!("\"prompt_tokens_details\":{{\"cached_tokens\":{text}}}")
            }
            ("cached_tokens", true) => {
                format!("\"input_tokens_details\":{{\"cached_tokens\": {text} }}")
            }
            ("reasoning_tokens", false) => {
                format!(
                    "\"completion_tokens_details\":{{\"x\":[{{}}],\"reasoning_tokens\":{text}}}"
                )
            }
            ("reasoning_tokens", true) => {
                format!("\"output_tokens_details\":{{\"reasoning_tokens\":{text}}}")
            }
            ("prompt_tokens", true) => format!("\"prompt_tokens\":null, \"input_tokens\" :{text}"),
            ("completion_tokens", true) => format!("\"output_tokens\":{text}"),
            (name, _) => format!("\"{name}\":{text}"),
        })
        .collect();
    let count =
        |name: &str| members.iter().find(|member| member.0 == name).and_then(|member| member.2);
    let (input, output) = (count("prompt_tokens"), count("completion_tokens"));
    let total = count("total_tokens");
    let hidden = match (input, output, total) {
        (Some(input), Some(output), Some(total)) if total > input + output => {
            Some(total - input - output)
        }
        _ => None,
    };
    let expected = Usage {
        input,
        output: output.map(|output| output + hidden.unwrap_or(0)),
        cached_input: count("cached_tokens"),
        reasoning: count("reasoning_tokens").max(hidden),
    };
    (format!("{{{}}}", text.join(",")), expected)
}

#[test]
fn each_count_of_a_response_is_the_last_valid_count_of_its_usages() {
    let (mut counted, mut uncounted) = (0, 0);
    for seed in seeds() {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let (mut body, mut expected) = (String::new(), Usage::default());
        for _ in 0..random.random_range(1..5) {
            let (text, usage) = usage(&mut random);
            expected = usage.or(expected);
            let choice = "{\"index\":0,\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"";
            let event = match random.random_range(0..4) {
                0 => format!("data: {{\"choices\":[{choice}}}],\"usage\":{text}}}\n\n"),
                1 => format!("data: {{\"usage\":{text},\"choices\":[]}}\n\n"),
                2 => format!("data: {{\"x_groq\":{{\"usage\":{text}}},\"usage\":null}}\n\n"),
                _ => format!("data: {{\"choices\":[{choice},\"usage\":{text}}}]}}\n\n"),
            };
            body.push_str(&event);
        }
        body += "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"b\"},\"finish_reason\":\"stop\"}]}\n\n";
        body += "data: [DONE]\n\n";
        let cuts = cuts(body.len(), &mut random);
        let verdict = verdict(
            Api::Chat,
            body.as_bytes(),
            Terminal::FinishReason,
            ResponseLimits::default(),
            &cuts,
        );
        let usage =
            verdict.unwrap_or_else(|detail| panic!("FUZZ_SEED={seed}: {detail:?}: {body}")).usage;
        // A count of 0 is wrong, because text arrived and a prompt is never empty.
        expected.input = expected.input.filter(|count| *count > 0);
        expected.output = expected.output.filter(|count| *count > 0);
        assert_eq!(usage, expected, "FUZZ_SEED={seed} FUZZ_RUNS=1: {body}");
        *(if expected.output.is_some() { &mut counted } else { &mut uncounted }) += 1;
    }
    assert_both_occurred(counted, uncounted);
}

// ---- Metrics pages ------------------------------------------------------------------------------

/// Reads a metrics page in parts, and records it as the second page of a phase. Returns the page,
/// and the mean and the maximum of each quantity.
fn observed(source: MetricsSource, bytes: &[u8], cuts: &[usize]) -> (Page, Vec<[f64; 2]>) {
    let mut reader = PageReader::new(source);
    let mut start = 0;
    for end in cuts.iter().copied().chain([bytes.len()]) {
        reader.push(&bytes[start..end]);
        start = end;
    }
    let (page, begin) = (reader.finish(), Instant::now());
    let mut series = Series::new(source);
    series.record(begin, Page::default(), Some("p".to_owned()));
    series.record(begin + Duration::from_secs(1), page.clone(), Some("p".to_owned()));
    series.record(begin + Duration::from_secs(2), page.clone(), Some("p".to_owned()));
    let levels = &series.phase("p").unwrap().levels;
    let values = levels.iter().flatten().map(|level| [level.mean(), level.max()]).collect();
    (page, values)
}

#[test]
fn a_metrics_page_gives_finite_values_that_do_not_depend_on_the_split_into_reads() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/metrics-pages");
    let pages = MetricsSource::ALL
        .map(|source| std::fs::read(folder.join(source.as_str()).with_extension("txt")).unwrap());
    for (source, page) in MetricsSource::ALL.into_iter().zip(&pages) {
        assert!(!observed(source, page, &[]).1.is_empty(), "{source}");
    }
    let (mut with_values, mut without) = (0, 0);
    for seed in seeds() {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let bytes = damaged(&pages, &mut random);
        let source = MetricsSource::ALL[random.random_range(0..MetricsSource::ALL.len())];
        let (page, values) = observed(source, &bytes, &[]);
        let cut = observed(source, &bytes, &cuts(bytes.len(), &mut random));
        assert_eq!(cut.0, page, "FUZZ_SEED={seed} FUZZ_RUNS=1: {}", bytes.escape_ascii());
        assert!(
            values.iter().flatten().all(|value| value.is_finite()),
            "FUZZ_SEED={seed} FUZZ_RUNS=1: {}",
            bytes.escape_ascii()
        );
        *(if page.is_empty() { &mut without } else { &mut with_values }) += 1;
    }
    assert_both_occurred(with_values, without);
}

// ---- Heads --------------------------------------------------------------------------------------

#[test]
fn no_response_head_yields_an_implausible_rate_limit() {
    let heads = heads();
    let values: Vec<Vec<u8>> = heads.iter().flat_map(BTreeMap::values).cloned().collect();
    // A header can also get the value of another header, such as a date instead of a number.
    let names: Vec<&String> = heads.iter().flat_map(BTreeMap::keys).collect();
    let (mut with_limits, mut without) = (0, 0);
    for seed in seeds() {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut head: BTreeMap<String, String> = BTreeMap::new();
        for _ in 0..random.random_range(1..5) {
            let name = names[random.random_range(0..names.len())].clone();
            let value = if random.random_bool(0.3) {
                values[random.random_range(0..values.len())].clone()
            } else {
                damaged(&values, &mut random)
            };
            head.insert(name, String::from_utf8_lossy(&value).into_owned());
        }
        let find = |name: &str| head.get(name).map(String::as_str);
        let now =
            SystemTime::UNIX_EPOCH + Duration::from_secs(random.random_range(0..4_000_000_000));
        let limits = RateLimits::read(find, now);
        *(if limits.is_some() { &mut with_limits } else { &mut without }) += 1;
        let limits = limits.unwrap_or_default();
        let year = Duration::from_hours(366 * 24);
        for allowance in [limits.requests, limits.tokens] {
            for amount in [allowance.limit, allowance.remaining].into_iter().flatten() {
                assert!(
                    (0.0..=1e12).contains(&amount),
                    "FUZZ_SEED={seed} FUZZ_RUNS=1: {amount} {head:?}"
                );
            }
            assert!(
                allowance.reset.is_none_or(|reset| reset <= year),
                "FUZZ_SEED={seed}: {head:?}"
            );
        }
        assert!(limits.retry_after.is_none_or(|wait| wait <= year), "FUZZ_SEED={seed}: {head:?}");
        if let Some(id) = headers::request_id(find) {
            assert!(id.len() <= 64 && !id.contains(char::is_control), "FUZZ_SEED={seed}: {head:?}");
        }
    }
    assert_both_occurred(with_limits, without);
}
