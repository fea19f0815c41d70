//! Tests of the verdict on a response: success or a class of failure. The inputs are recorded
//! streams of real servers, and a catalogue of short streams (W1, W2, …) with the differences
//! between servers. Each stream is read in one piece, byte by byte and in two pieces, and with each
//! kind of line end. The result must always be the same.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::float_cmp)]

#[path = "wire/apis.rs"]
mod apis;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use llmload::measurement::{Anomaly, Failure, FailureCause, FailureDetail, Usage};
use llmload::protocol::chat::finish_reason;
use llmload::protocol::{
    Api, BodyReader, Channel, CompletedResponse, ReportedError, ResponseLimits, StreamReader,
    Terminal, explain_missing_stream,
};
use serde_json::Value;

/// The result of a response, which must not depend on the division into reads.
#[derive(Debug, PartialEq)]
struct Reading {
    text: BTreeMap<(u32, Channel), String>,
    token_events: u32,
    /// True if the answer began after reasoning.
    starts_answer: bool,
    verdict: Result<CompletedResponse, FailureDetail>,
}

/// Reads a response of the chat API, as [`read_stream_of`].
fn read_stream<'a>(
    model: &str,
    terminal: Terminal,
    reads: impl IntoIterator<Item = &'a [u8]>,
) -> (Reading, Option<(usize, u32)>) {
    read_stream_of(Api::Chat, model, terminal, reads)
}

/// Reads a response. Also returns the index of the read with the first token, and the number of
/// events up to the end of that read.
fn read_stream_of<'a>(
    api: Api,
    model: &str,
    terminal: Terminal,
    reads: impl IntoIterator<Item = &'a [u8]>,
) -> (Reading, Option<(usize, u32)>) {
    let mut reader = StreamReader::new(api, terminal, ResponseLimits::default());
    if !model.is_empty() {
        reader = reader.with_requested_model(model);
    }
    let mut text = BTreeMap::<_, String>::new();
    let mut sink = |choice: u32, channel, piece: &str| {
        text.entry((choice, channel)).or_default().push_str(piece);
    };
    let (mut token_events, mut events, mut starts) = (0, 0, 0);
    let mut first = None;
    let mut last_read = 0;
    for (i, read) in reads.into_iter().enumerate() {
        last_read = i;
        let progress = reader.read(read, &mut sink);
        token_events += progress.token_events;
        events += progress.events;
        starts += u32::from(progress.starts_answer);
        assert!(!progress.starts_answer || progress.token_events > 0);
        if progress.token_events > 0 && first.is_none() {
            first = Some((i, events));
        }
        if progress.finished {
            break;
        }
    }
    let end = reader.end(&mut sink);
    assert!(end.progress.finished);
    token_events += end.progress.token_events;
    events += end.progress.events;
    starts += u32::from(end.progress.starts_answer);
    assert!(starts <= 1, "an answer begins once");
    if end.progress.token_events > 0 && first.is_none() {
        first = Some((last_read, events));
    }
    if let Ok(completed) = &end.verdict {
        assert_eq!(completed.token_events, token_events);
    }
    let starts_answer = starts == 1;
    let reading = Reading { token_events, starts_answer, verdict: end.verdict, text };
    let text_bytes: usize = reading.text.values().map(String::len).sum();
    assert_eq!(
        text_bytes as u64,
        Channel::ALL.into_iter().map(|channel| reader.text_bytes(channel)).sum::<u64>()
    );
    (reading, first)
}

/// Reads a response of the chat API, as [`read_every_way_of`].
fn read_every_way(
    model: &str,
    terminal: Terminal,
    bytes: &[u8],
    splits: impl IntoIterator<Item = usize>,
) -> (Reading, Option<u32>) {
    read_every_way_of(Api::Chat, model, terminal, bytes, splits)
}

/// Reads the bytes in one piece, byte by byte, and in two pieces at each split point. All results
/// must be equal. The first token must arrive with the read that completes its event. Returns the
/// result and the index of that event.
fn read_every_way_of(
    api: Api,
    model: &str,
    terminal: Terminal,
    bytes: &[u8],
    splits: impl IntoIterator<Item = usize>,
) -> (Reading, Option<u32>) {
    let (unsplit, _) = read_stream_of(api, model, terminal, [bytes]);
    let (bytewise, first) = read_stream_of(api, model, terminal, bytes.chunks(1));
    assert_eq!(bytewise, unsplit, "byte by byte");
    let mut tried = 0;
    for at in splits {
        let (split, first_in_split) =
            read_stream_of(api, model, terminal, [&bytes[..at], &bytes[at..]]);
        assert_eq!(split, unsplit, "split at {at}");
        let expected = first.map(|(byte, _)| usize::from(byte >= at));
        // A blank line completes an event. Without this line, the end of the stream completes the
        // last event, which then belongs to the last read.
        let at_end = first.is_some_and(|(byte, _)| byte + 1 == bytes.len());
        assert!(
            at_end || first_in_split.map(|(read, _)| read) == expected,
            "first token, split at {at}"
        );
        tried += 1;
    }
    assert!(tried > 0 || bytes.is_empty());
    (unsplit, first.map(|(_, events)| events - 1))
}

/// Returns the stream with other line ends, a byte order mark and comments.
fn variants(bytes: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    // Comments are then before, between and in events.
    let mut commented = b": hello\n".to_vec();
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        commented.extend_from_slice(line);
        if line.ends_with(b"\n") {
            commented.extend_from_slice(b":ping\n");
        }
    }
    vec![
        ("crlf", replace_lf(bytes, b"\r\n")),
        ("cr", replace_lf(bytes, b"\r")),
        ("bom", [b"\xef\xbb\xbf", bytes].concat()),
        ("comments", commented),
    ]
}

fn replace_lf(bytes: &[u8], with: &[u8]) -> Vec<u8> {
    // The stream has CRLF already.
    if bytes.contains(&b'\r') {
        return bytes.to_vec();
    }
    bytes.split(|byte| *byte == b'\n').collect::<Vec<_>>().join(with)
}

/// Returns the positions at which a wrong decoder would probably fail: the first bytes, the line
/// ends, and positions inside a character.
fn delicate_split_points(bytes: &[u8]) -> impl Iterator<Item = usize> + '_ {
    (0..=bytes.len()).filter(move |&at| {
        let near = &bytes[at.saturating_sub(2)..(at + 2).min(bytes.len())];
        at < 4 || near.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0x80..))
    })
}

/// Returns the verdict as a line. `ok ~3` is a success with an estimate of 3 tokens.
fn outcome(verdict: &Result<CompletedResponse, FailureDetail>) -> String {
    match verdict {
        Err(detail) => detail.failure.as_str().to_owned(),
        Ok(completed) => {
            let mut line = match completed.usage.output {
                Some(output) => format!("ok {output}"),
                None => format!("ok ~{}", completed.token_events),
            };
            for anomaly in completed.anomalies.iter() {
                line.push(' ');
                line.push_str(anomaly.as_str());
            }
            line
        }
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/sse-captures")
}

fn json(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(fixtures().join(name)).unwrap()).unwrap()
}

/// Each recorded stream, with the requested model and the verdict, which a person determined from
/// the stream.
const CAPTURES: &[(&str, &str, &str)] = &[
    ("llamacpp-completions-usage.sse", "gemma-3-270m", "ok 8"),
    ("llamacpp-keepalive-usage.sse", "gemma-3-270m", "ok 4"),
    // The server was killed between two events, after fifteen tokens.
    ("llamacpp-killed.sse", "gemma-3-270m", "incomplete"),
    ("llamacpp-length-usage.sse", "gemma-3-270m", "ok 16"),
    ("llamacpp-logprobs-usage.sse", "gemma-3-270m", "ok 4"),
    // Two usage objects, one for each choice. The last one counts. llmload itself never requests
    // two choices.
    ("llamacpp-n2-usage.sse", "gemma-3-270m", "ok 8"),
    ("llamacpp-one-token-usage.sse", "gemma-3-270m", "ok 1"),
    ("llamacpp-queued-usage.sse", "gemma-3-270m", "ok 4"),
    // 2 tokens in usage but one event, because the server did not send the stop text.
    ("llamacpp-short-usage.sse", "gemma-3-270m", "ok 2"),
    ("llamacpp-short.sse", "gemma-3-270m", "ok ~1 missing_usage"),
    ("llamacpp-unknown-model.sse", "no-such-model", "ok 4 model_mismatch"),
    ("llamacpp-utf8-bytes-usage.sse", "gemma-3-270m", "ok 16"),
    ("llamacpp-utf8-usage.sse", "gemma-3-270m", "ok 24"),
    ("llamacpppython-completions-usage.sse", "gemma-3-270m", "ok ~8 missing_usage"),
    // No event.
    ("llamacpppython-error-too-long.sse", "gemma-3-270m", "incomplete"),
    // Another request interrupted this one: `[DONE]` without a finish reason.
    ("llamacpppython-interrupted.sse", "gemma-3-270m", "incomplete"),
    // The model stopped at once: a proper end, but no text and no usage.
    ("llamacpppython-length-usage.sse", "gemma-3-270m", "empty_output"),
    ("llamacpppython-n2-usage.sse", "gemma-3-270m", "empty_output"),
    ("llamacpppython-one-token-usage.sse", "gemma-3-270m", "ok ~1 missing_usage"),
    ("llamacpppython-short-usage.sse", "gemma-3-270m", "ok ~9 missing_usage"),
    ("transformers-completions-usage.sse", "model/tinyhf", "ok 8 missing_done"),
    ("transformers-error-max-tokens.sse", "model/tinyhf", "stream_error"),
    ("transformers-length-usage.sse", "model/tinyhf", "ok 16 missing_done"),
    ("transformers-logprobs-usage.sse", "model/tinyhf", "ok 4 missing_done"),
    ("transformers-n2-usage.sse", "model/tinyhf", "ok 8 missing_done"),
    ("transformers-one-token-usage.sse", "model/tinyhf", "ok 1 missing_done"),
    ("transformers-short-usage.sse", "model/tinyhf", "ok 32 missing_done"),
    ("transformers-short.sse", "model/tinyhf", "ok 32 missing_done"),
];

#[test]
fn every_capture_is_tested() {
    let mut captures: Vec<String> = std::fs::read_dir(fixtures())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| Path::new(name).extension().is_some_and(|kind| kind == "sse"))
        .collect();
    captures.sort();
    assert_eq!(captures, CAPTURES.iter().map(|(name, ..)| *name).collect::<Vec<_>>());
    assert_eq!(json("expected.json").as_object().unwrap().len(), captures.len());
}

#[test]
fn recorded_streams_have_the_text_and_usage_that_an_independent_reader_finds() {
    let expected = json("expected.json");
    for (name, model, verdict) in CAPTURES {
        let bytes = std::fs::read(fixtures().join(name)).unwrap();
        let (reading, first) = read_every_way(model, Terminal::default(), &bytes, 0..=bytes.len());
        assert_eq!(outcome(&reading.verdict), *verdict, "{name}");

        let expected = &expected[name];
        for (index, choice) in expected["choices"].as_object().unwrap() {
            let text = |channel| {
                reading.text.get(&(index.parse().unwrap(), channel)).map_or("", String::as_str)
            };
            assert_eq!(text(Channel::Answer), choice["content"], "{name}");
            assert_eq!(text(Channel::Reasoning), choice["reasoning"], "{name}");
            let finish = choice["finish_reason"].as_str().and_then(finish_reason);
            match &reading.verdict {
                Ok(completed) => assert_eq!(completed.finish, finish, "{name}"),
                Err(detail) => {
                    assert!(detail.failure != Failure::Incomplete || finish.is_none(), "{name}");
                }
            }
        }
        let choices_with_text = expected["choices"]
            .as_object()
            .unwrap()
            .values()
            .filter(|choice| choice["content"] != "")
            .count();
        assert_eq!(reading.text.len(), choices_with_text, "{name}");
        assert_eq!(Value::from(reading.token_events), expected["delta_events"], "{name}");
        assert_eq!(first.map_or(Value::Null, Value::from), expected["first_delta_event"], "{name}");
        let (done, error) = match &reading.verdict {
            Ok(completed) => {
                (Some(!completed.anomalies.contains(Anomaly::MissingDone)), Value::Null)
            }
            Err(FailureDetail { failure: Failure::Incomplete, message, .. }) => {
                (Some(message.starts_with("[DONE]")), Value::Null)
            }
            Err(FailureDetail { failure: Failure::StreamError, message, .. }) => {
                (None, message.as_str().into())
            }
            Err(_) => (None, Value::Null),
        };
        assert!(done.is_none_or(|done| expected["done"] == done), "{name}");
        assert_eq!(error, expected["error"], "{name}");
        let usage = expected["usage"].as_array().unwrap().last().map(|usage| Usage {
            input: usage["prompt_tokens"].as_u64(),
            output: usage["completion_tokens"].as_u64(),
            cached_input: usage["prompt_tokens_details"]["cached_tokens"].as_u64(),
            reasoning: None,
        });
        if let Ok(completed) = &reading.verdict {
            assert_eq!(completed.usage, usage.unwrap_or_default(), "{name}");
        }
    }
}

#[test]
fn recorded_streams_are_read_the_same_with_any_line_ends_and_comments() {
    for (name, model, _) in CAPTURES {
        let bytes = std::fs::read(fixtures().join(name)).unwrap();
        let (plain, _) = read_stream(model, Terminal::default(), [&bytes[..]]);
        for (variant, bytes) in variants(&bytes) {
            let split_points: Vec<usize> = delicate_split_points(&bytes).collect();
            let (reading, _) = read_every_way(model, Terminal::default(), &bytes, split_points);
            assert_eq!(reading, plain, "{name} {variant}");
        }
    }
}

#[test]
fn the_verdict_on_an_interrupted_stream_depends_on_terminal() {
    for (name, done, eof) in [
        (
            "llamacpp-killed.sse",
            "incomplete",
            "ok ~15 missing_usage missing_done missing_finish_reason",
        ),
        ("llamacpppython-interrupted.sse", "empty_output", "empty_output"),
        ("llamacpppython-error-too-long.sse", "incomplete", "empty_output"),
        ("transformers-one-token-usage.sse", "incomplete", "ok 1 missing_done"),
        ("transformers-error-max-tokens.sse", "stream_error", "stream_error"),
    ] {
        let bytes = std::fs::read(fixtures().join(name)).unwrap();
        let verdict = |terminal| outcome(&read_stream("", terminal, [&bytes[..]]).0.verdict);
        assert_eq!(
            (verdict(Terminal::Done), verdict(Terminal::Eof)),
            (done.into(), eof.into()),
            "{name}"
        );
    }
}

const W1: &str = concat!(
    "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null},\"finish_reason\":null}],\"usage\":null,\"obfuscation\":\"a\"}\n\n",
    "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"},\"finish_reason\":null}],\"usage\":null}\n\n",
    "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":null}\n\n",
    "data: {\"id\":\"c\",\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2,\"total_tokens\":5}}\n\n",
    "data: [DONE]\n\n",
);
const ONE_CHUNK: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"},\"finish_reason\":null}]}\n\n";
const STOP: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";

/// A stream of the completions API, as vLLM sends it.
fn completions() -> String {
    let event = |text: &str, finish: &str| {
        format!(
            "data: {{\"object\":\"text_completion\",\"choices\":[{{\"index\":0,\"text\":\"{text}\",\"logprobs\":null,\"finish_reason\":{finish}}}],\"usage\":null}}\n\n"
        )
    };
    let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":3,\"total_tokens\":6}}\n\n";
    [
        event("", "null"),
        event(" é😀", "null"),
        event(" end", "\"length\""),
        usage.into(),
        "data: [DONE]\n\n".into(),
    ]
    .concat()
}

/// The catalogue: a name, the bytes, the verdict, and the index of the event with the first token.
fn wire_cases() -> Vec<(&'static str, String, &'static str, Option<u32>)> {
    let one_chunk_then = |rest: &str| format!("{ONE_CHUNK}{rest}");
    vec![
        ("W1", W1.into(), "ok 2", Some(1)),
        ("W2", format!("data: {{\"choices\":[],\"created\":0,\"id\":\"\",\"model\":\"\",\"object\":\"\",\"prompt_filter_results\":[{{\"prompt_index\":0,\"content_filter_results\":{{}}}}]}}\n\n{W1}"), "ok 2", Some(2)),
        ("W3", "data: {\"error\":{\"object\":\"error\",\"message\":\"not multimodal\",\"type\":\"BadRequestError\",\"param\":null,\"code\":400}}\n\ndata: [DONE]\n\n".into(), "stream_error", None),
        ("W4", one_chunk_then("data: {\"error\": {\"message\": \"The server had an error\", \"type\": \"server_error\"}}\n\n"), "stream_error", Some(0)),
        ("W5", ": OPENROUTER PROCESSING\n\ndata: {\"id\":\"g\",\"error\":{\"code\":400,\"message\":\"Token limit reached\"},\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}],\"usage\":{\"prompt_tokens\":43,\"completion_tokens\":10,\"total_tokens\":53,\"cost\":0}}\n\ndata: [DONE]\n\n".into(), "stream_error", None),
        ("W6", ": keep-alive\n\n: keep-alive\n\ndata: {\"choices\":[{\"index\":0,\"delta\":{\"content\":null,\"reasoning_content\":\"We\"},\"finish_reason\":null}]}\n\ndata: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\",\"reasoning_content\":null},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":6,\"completion_tokens\":212,\"total_tokens\":218}}\n\ndata: [DONE]\n\n".into(), "ok 212", Some(0)),
        ("W7", "event: error\ndata: {\"error\":{\"message\":\"m\",\"type\":\"invalid_request_error\",\"code\":\"tool_use_failed\",\"status_code\":400}}\n\n".into(), "stream_error", None),
        ("W8", "event: error\n: unspecified error\n\n".into(), "stream_error", None),
        ("W9", "error: {\"code\":400,\"message\":\"exceeds context\",\"type\":\"invalid_request_error\"}\n\ndata: [DONE]\n\n".into(), "stream_error", None),
        ("W10", "data:{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}\r\n\r\ndata:[DONE]\r\n\r\n".into(), "ok ~1 missing_usage", Some(0)),
        ("W11", "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\",\"usage\":{\"prompt_tokens\":19,\"completion_tokens\":13,\"total_tokens\":32}}]}\n\ndata: [DONE]\n\n".into(), "ok 13 missing_text", None),
        ("W12", format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"role\":\"assistant\",\"content\":[{{\"type\":\"thinking\",\"thinking\":[{{\"type\":\"text\",\"text\":\"hm\"}}]}}]}},\"finish_reason\":null}}]}}\n\ndata: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":[{{\"type\":\"text\",\"text\":\"4\"}}]}},\"finish_reason\":null}}]}}\n\n{STOP}data: [DONE]\n\n"), "ok ~2 missing_usage", Some(0)),
        ("W13", "data: {\"choices\":[{\"delta\":{\"content\":\"a\",\"refusal\":\"\",\"role\":\"assistant\",\"tool_calls\":null},\"index\":0}],\"created\":0,\"id\":\"\"}\n\ndata: [DONE]\n\n".into(), "incomplete", Some(0)),
        ("W14", "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1,\"total_tokens\":2}}\n\n".into(), "ok 1 missing_done", Some(0)),
        // No finish reason and no text. Incomplete with `terminal: finish_reason`; a test below
        // uses `terminal: done`.
        ("W15", "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\"}}]} \n\ndata: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\",\"reasoning_content\":\"\"}}]} \n\ndata: [DONE]\n\n".into(), "incomplete", None),
        ("W16", "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"content\":[],\"usage\":{\"input_tokens\":18,\"output_tokens\":1}}}\n\nevent: ping\ndata: {\"type\": \"ping\"}\n\nevent: error\ndata: {\"type\": \"error\", \"error\": {\"type\": \"overloaded_error\", \"message\": \"Overloaded\"}}\n\n".into(), "stream_error", None),
        ("W17", "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"Hello\",\"sequence_number\":3}\n\nevent: response.failed\ndata: {\"type\":\"response.failed\",\"response\":{\"status\":\"failed\",\"error\":{\"code\":\"server_error\",\"message\":\"m\"}},\"sequence_number\":4}\n\n".into(), "stream_error", None),
        ("W18", one_chunk_then(&format!("{STOP}data: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":12,\"completion_tokens\":2,\"total_tokens\":354,\"completion_tokens_details\":{{\"reasoning_tokens\":340}}}}}}\n\ndata: [DONE]\n\n")), "ok 342", Some(0)),
        ("W19", "data: {\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"model\":\"\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\"},\"finish_reason\":null}]}\n\n".into(), "incomplete", None),
        ("W20", "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n".into(), "empty_output", None),
        ("W21", "data: {\"error\":{\"message\":\"Model is overloaded\",\"http_status_code\":422}}\n\n:\n\ndata: [DONE]\n\n".into(), "stream_error", None),
        ("W22", one_chunk_then(&format!("{STOP}data: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":3,\"completion_tokens\":2}}}}\n\ndata: {{\"choices\":[],\"cost\":\"0\"}}\n\ndata: [DONE]\n\n")), "ok 2", Some(0)),
        ("trailing blanks", one_chunk_then("data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}  \n\ndata: [DONE] \n\n"), "ok ~1 missing_usage", Some(0)),
        ("no blank line at the end", one_chunk_then(&format!("{STOP}data: [DONE]")), "ok ~1 missing_usage", Some(0)),
        ("a first token without its blank line", ONE_CHUNK.trim_end().replace("null", "\"length\""), "ok ~1 missing_usage missing_done", Some(0)),
        ("cut inside an event", one_chunk_then("data: {\"choices\":[{\"ind"), "incomplete", Some(0)),
        ("cut after the finish reason", one_chunk_then(&format!("{STOP}data: {{\"choi")), "ok ~1 missing_usage missing_done", Some(0)),
        ("text after [DONE]", format!("{W1}{ONE_CHUNK}data: {{\n\n"), "ok 2", Some(1)),
        ("error after the finish reason", one_chunk_then(&format!("{STOP}data: {{\"error\":\"late\"}}\n\n{ONE_CHUNK}")), "stream_error", Some(0)),
        ("finish reason error", one_chunk_then("data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"insufficient_system_resource\"}]}\n\ndata: [DONE]\n\n"), "stream_error", Some(0)),
        ("filtered", one_chunk_then("data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"content_filter\"}]}\n\ndata: [DONE]\n\n"), "filtered", Some(0)),
        ("filtered before any text", "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"SAFETY\"}]}\n\n".into(), "filtered", None),
        ("a tool call alone", format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"tool_calls\":[{{\"index\":0,\"function\":{{\"name\":\"f\",\"arguments\":\"\"}}}}]}}}}]}}\n\n{}data: [DONE]\n\n", STOP.replace("stop", "tool_calls")), "ok ~1 missing_usage", Some(0)),
        ("not JSON", one_chunk_then("data: hello\n\ndata: [DONE]\n\n"), "bad_frame", Some(0)),
        ("not an object", one_chunk_then("data: [1]\n\n"), "bad_frame", Some(0)),
        ("JSON over several lines", format!("data: {{\"choices\":\ndata: [{{\"delta\":{{\"content\":\"é😀\"}}}}]}}\n\n{STOP}data: [DONE]\n\n"), "ok ~1 missing_usage", Some(0)),
        ("a named ping that is no JSON", format!("event: ping\ndata: 2026-01-01\n\n{W1}"), "ok 2", Some(2)),
        ("an empty body", String::new(), "incomplete", None),
        // The text is directly in the choice, and its last part arrives with the finish reason.
        ("completions", completions(), "ok 3", Some(1)),
        ("completions cut short", completions().split_inclusive("\n\n").take(2).collect(), "incomplete", Some(1)),
        ("completions without any text", "data: {\"choices\":[{\"index\":0,\"text\":\"\",\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n".into(), "empty_output", None),
        // Gateways put usage at different places. Some send rising counts in every chunk, and the
        // last one counts.
        ("usage of a response", one_chunk_then(&format!("{STOP}data: {{\"response\":{{\"usage\":{{\"input_tokens\":3,\"output_tokens\":2}}}}}}\n\ndata: [DONE]\n\n")), "ok 2", Some(0)),
        ("usage of Groq", one_chunk_then(&format!("{STOP}data: {{\"x_groq\":{{\"usage\":{{\"prompt_tokens\":3,\"completion_tokens\":2}}}}}}\n\ndata: [DONE]\n\n")), "ok 2", Some(0)),
        ("cumulative usage", one_chunk_then(&(1..=4).map(|n| format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"a\"}},\"finish_reason\":{}}}],\"usage\":{{\"prompt_tokens\":3,\"completion_tokens\":{n}}}}}\n\n", if n < 4 { "null" } else { "\"stop\"" })).chain(["data: {\"choices\":[],\"usage\":null}\n\ndata: [DONE]\n\n".into()]).collect::<String>()), "ok 4", Some(0)),
        ("a flat error", one_chunk_then("data: {\"object\":\"error\",\"message\":\"m\",\"type\":\"InternalServerError\",\"code\":500}\n\ndata: [DONE]\n\n"), "stream_error", Some(0)),
        ("an error in a choice", one_chunk_then("data: {\"choices\":[{\"index\":0,\"delta\":{},\"error\":{\"code\":502,\"message\":\"m\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n"), "stream_error", Some(0)),
        // Forms of text and of counts.
        ("a custom tool call", format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"tool_calls\":[{{\"index\":0,\"type\":\"custom\",\"custom\":{{\"name\":\"f\",\"input\":\"\"}}}}]}}}}]}}\n\n{}data: [DONE]\n\n", STOP.replace("stop", "tool_calls")), "ok ~1 missing_usage", Some(0)),
        ("audio", format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"audio\":{{\"data\":\"AAE=\"}}}}}}]}}\n\n{STOP}data: [DONE]\n\n"), "ok ~1 missing_usage", Some(0)),
        ("a message instead of a delta", format!("data: {{\"choices\":[{{\"index\":0,\"message\":{{\"content\":\"a\"}}}}]}}\n\n{STOP}data: [DONE]\n\n"), "ok ~1 missing_usage", Some(0)),
        ("text in a value", format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":[{{\"text\":{{\"value\":\"a\"}}}}]}}}}]}}\n\n{STOP}data: [DONE]\n\n"), "ok ~1 missing_usage", Some(0)),
        ("text that is nested too deeply", format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":{}\"a\"{}}}}}]}}\n\n{STOP}data: {{\"usage\":{{\"completion_tokens\":5}}}}\n\ndata: [DONE]\n\n", "[".repeat(20), "]".repeat(20)), "ok 5 missing_text", None),
        ("usage without a valid count", one_chunk_then(&format!("{STOP}data: {{\"usage\":{{\"prompt_tokens\":3,\"completion_tokens\":-1}}}}\n\ndata: [DONE]\n\n")), "ok ~1 missing_usage", Some(0)),
        ("usage of zero although text arrived", one_chunk_then(&format!("{STOP}data: {{\"usage\":{{\"prompt_tokens\":3,\"completion_tokens\":0}}}}\n\ndata: [DONE]\n\n")), "ok ~1 missing_usage", Some(0)),
        ("usage with exponents", one_chunk_then(&format!("{STOP}data: {{\"usage\":{{\"prompt_tokens\":1.2e3,\"completion_tokens\":2E0}}}}\n\ndata: [DONE]\n\n")), "ok 2", Some(0)),
        ("hidden tokens by total", one_chunk_then(&format!("{STOP}data: {{\"usage\":{{\"prompt_tokens\":12,\"completion_tokens\":2,\"total_tokens\":354}}}}\n\ndata: [DONE]\n\n")), "ok 342", Some(0)),
        ("an error as a text", one_chunk_then("data: {\"error\":\"engine died\"}\n\n"), "stream_error", Some(0)),
    ]
}

#[test]
fn wire_cases_have_the_verdict_of_the_catalogue() {
    for (case, bytes, verdict, first) in wire_cases() {
        let bytes = bytes.as_bytes();
        let (reading, first_read) = read_every_way("", Terminal::default(), bytes, 0..=bytes.len());
        assert_eq!((outcome(&reading.verdict).as_str(), first_read), (verdict, first), "{case}");
        for (variant, bytes) in variants(bytes) {
            // Comments are only after complete lines, so an incomplete last line stays incomplete.
            let (varied, _) = read_every_way("", Terminal::default(), &bytes, 0..=bytes.len());
            assert_eq!(varied.token_events, reading.token_events, "{case} {variant}");
            assert_eq!(outcome(&varied.verdict), verdict, "{case} {variant}");
            assert_eq!(varied.text, reading.text, "{case} {variant}");
        }
    }
}

#[test]
fn the_completions_api_decodes_streams_of_completions() {
    let mut reader =
        StreamReader::new(Api::Completions, Terminal::default(), ResponseLimits::default());
    let progress = reader.read(completions().as_bytes(), &mut |_, _, _: &str| {});
    assert_eq!((progress.token_events, progress.finished), (2, true));
    assert_eq!(outcome(&reader.end(&mut |_, _, _: &str| {}).verdict), "ok 3");
}

fn wire_case(name: &str) -> String {
    wire_cases().into_iter().find(|(case, ..)| *case == name).unwrap().1
}

#[test]
fn with_terminal_done_a_response_needs_no_finish_reason() {
    for (case, verdict) in [
        ("W13", "ok ~1 missing_usage missing_finish_reason"),
        ("W15", "empty_output"),
        ("W19", "incomplete"),
        ("W14", "incomplete"),
        ("W1", "ok 2"),
    ] {
        let bytes = wire_case(case);
        let (reading, _) = read_every_way("", Terminal::Done, bytes.as_bytes(), 0..=bytes.len());
        assert_eq!(outcome(&reading.verdict), verdict, "{case}");
    }
}

#[test]
fn with_terminal_eof_a_response_is_incomplete_if_its_body_ends_inside_an_event() {
    for (case, verdict) in [
        ("W14", "ok 1 missing_done"),
        ("W19", "empty_output"),
        ("cut inside an event", "incomplete"),
        ("cut after the finish reason", "incomplete"),
    ] {
        let bytes = wire_case(case);
        let (reading, _) = read_every_way("", Terminal::Eof, bytes.as_bytes(), 0..=bytes.len());
        assert_eq!(outcome(&reading.verdict), verdict, "{case}");
    }
}

#[test]
fn an_error_in_a_stream_keeps_its_message() {
    for (case, message) in [
        ("W3", "not multimodal"),
        ("W4", "The server had an error"),
        ("W5", "Token limit reached"),
        ("W7", "m"),
        ("W8", "unspecified error"),
        ("W9", "exceeds context"),
        ("W16", "Overloaded"),
        ("W17", "m"),
        ("W21", "Model is overloaded"),
        ("error after the finish reason", "late"),
    ] {
        let (reading, _) = read_stream("", Terminal::default(), [wire_case(case).as_bytes()]);
        assert_eq!(
            reading.verdict.unwrap_err(),
            FailureDetail::new(Failure::StreamError, message),
            "{case}"
        );
    }
}

#[test]
fn reasoning_counts_as_a_token_but_is_not_part_of_the_answer() {
    let (w6, _) = read_stream("", Terminal::default(), [wire_case("W6").as_bytes()]);
    assert_eq!(w6.token_events, 1);
    assert_eq!(
        w6.text.into_iter().collect::<Vec<_>>(),
        [((0, Channel::Reasoning), "We".to_owned())]
    );
    assert!(!w6.starts_answer);
    let (w12, _) = read_stream("", Terminal::default(), [wire_case("W12").as_bytes()]);
    assert_eq!(w12.token_events, 2);
    assert_eq!(w12.text[&(0, Channel::Reasoning)], "hm");
    assert_eq!(w12.text[&(0, Channel::Answer)], "4");
    assert!(w12.starts_answer);
}

/// Each event is the JSON of a delta.
#[test]
fn an_answer_begins_with_the_first_text_after_reasoning_on_any_other_channel() {
    let (thought, text) = (r#"{"reasoning_content":"hm"}"#, r#"{"content":"4"}"#);
    let call = r#"{"tool_calls":[{"function":{"name":"add"}}]}"#;
    for (deltas, starts) in [
        (&[thought, text][..], true),
        (&[r#"{"role":"assistant","content":""}"#, thought, text], true),
        (&[thought, call], true),
        (&[thought, r#"{"refusal":"no"}"#], true),
        (&[r#"{"reasoning_content":"hm","content":"4"}"#], true),
        (&[thought, r#"{"content":""}"#], false),
        (&[text], false),
        // Reasoning after the answer does not make the first text of the answer late.
        (&[text, thought, text], false),
    ] {
        let events = deltas
            .iter()
            .map(|delta| format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{delta}}}]}}\n\n"));
        let bytes = events.collect::<String>() + STOP + "data: [DONE]\n\n";
        let bytes = bytes.as_bytes();
        let (reading, _) = read_every_way("", Terminal::default(), bytes, 0..=bytes.len());
        assert_eq!(reading.starts_answer, starts, "{deltas:?}");
    }
}

#[test]
fn one_read_can_contain_both_the_first_token_and_an_error() {
    let mut reader = StreamReader::new(Api::Chat, Terminal::default(), ResponseLimits::default());
    let progress = reader.read(wire_case("W4").as_bytes(), &mut |_, _, _: &str| {});
    assert_eq!((progress.token_events, progress.events, progress.finished), (1, 2, true));
}

#[test]
fn an_endless_response_is_too_large() {
    let limits = ResponseLimits {
        event: 394,
        stream_body: 1 << 20,
        events: 50,
        ..ResponseLimits::default()
    };
    let verdict = |bytes: &[u8]| {
        let mut reader = StreamReader::new(Api::Chat, Terminal::default(), limits);
        let finished = reader.read(bytes, &mut |_, _, _: &str| {}).finished;
        (finished, outcome(&reader.end(&mut |_, _, _: &str| {}).verdict))
    };
    assert_eq!(verdict(W1.as_bytes()), (true, "ok 2".into()));
    assert_eq!(verdict(&[b'x'; 401]), (true, "too_large".into()));
    assert_eq!(verdict(ONE_CHUNK.repeat(51).as_bytes()), (true, "too_large".into()));
    assert_eq!(verdict(&b":\n".repeat(1 << 20)), (true, "too_large".into()));
}

#[test]
fn invalid_utf8_inside_a_text_becomes_the_replacement_character() {
    let invalid =
        b"data: {\"model\":\"m\",\"choices\":[{\"delta\":{\"content\":\"a\xff\xc3b\"}}]}\n\n";
    let bytes = [&invalid[..], W1.as_bytes()].concat();
    let (reading, first) = read_every_way("m", Terminal::default(), &bytes, 0..=bytes.len());
    assert_eq!((outcome(&reading.verdict).as_str(), first), ("ok 2", Some(0)));
    assert_eq!(reading.text[&(0, Channel::Answer)], "a\u{fffd}\u{fffd}bHi");
    // Outside of a text, these bytes are not JSON.
    let (reading, _) = read_every_way("", Terminal::default(), b"data: \xff\n\n", 0..=9);
    assert_eq!(outcome(&reading.verdict), "bad_frame");
}

#[test]
fn numbers_of_python_that_are_not_finite_are_null() {
    let usage = |count: &str| {
        format!(
            "data: {{\"choices\":[{{\"delta\":{{\"content\":\"NaN \\\" \"}},\"logprobs\":-Infinity,\
             \"finish_reason\":\"stop\"}}],\"usage\":{{\"prompt_tokens\":3,\
             \"completion_tokens\":{count}}}}}\n\ndata: [DONE]\n\n"
        )
    };
    for (count, expected) in
        [("NaN", "ok ~1 missing_usage"), ("Infinity", "ok ~1 missing_usage"), ("7", "ok 7")]
    {
        let bytes = usage(count);
        let (reading, first) =
            read_every_way("", Terminal::default(), bytes.as_bytes(), 0..=bytes.len());
        assert_eq!((outcome(&reading.verdict).as_str(), first), (expected, Some(0)), "{count}");
        assert_eq!(reading.text[&(0, Channel::Answer)], "NaN \" ", "{count}");
    }
}

#[test]
fn an_incomplete_stream_quotes_the_text_outside_of_its_events() {
    let quoted = "outside of any event, it contains: ";
    for (rest, message) in [
        (
            "Internal Server Error",
            format!("the body ended in the middle of the response; {quoted}Internal Server Error"),
        ),
        (
            "{\"error\":{\"message\":\"engine died\"}}\n\n",
            format!("the body ended in the middle of the response; {quoted}engine died"),
        ),
        ("data: [DONE]\n\n", "[DONE] arrived without a finish reason".into()),
        ("oops\ndata: [DONE]\n\n", format!("[DONE] arrived without a finish reason; {quoted}oops")),
        (": comment\nid: 7\n\n", "the body ended in the middle of the response".into()),
    ] {
        let bytes = format!("{ONE_CHUNK}{rest}");
        let (reading, _) =
            read_every_way("", Terminal::default(), bytes.as_bytes(), 0..=bytes.len());
        let detail = reading.verdict.unwrap_err();
        assert_eq!((detail.failure, detail.message), (Failure::Incomplete, message), "{rest}");
    }
    // A success ignores this text.
    let bytes = format!("stray\n{W1}");
    assert_eq!(
        outcome(&read_stream("", Terminal::default(), [bytes.as_bytes()]).0.verdict),
        "ok 2"
    );
}

#[test]
fn the_class_of_a_response_that_is_no_stream_follows_from_its_body() {
    let completion = br#"{"object":"chat.completion","choices":[{"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}]}"#;
    for (body, failure, message) in [
        (
            &completion[..],
            Failure::NotSse,
            "the server sent the completion in one piece instead of a stream",
        ),
        (br#"{"error":{"message":"m","code":429}}"#, Failure::StreamError, "m"),
        (br#"{"error":"m"}"#, Failure::StreamError, "m"),
        (br#"{"error":null,"detail":"d"}"#, Failure::NotSse, "d"),
        (b"<html><title>Sign in</title></html>", Failure::NotSse, "Sign in"),
        (b"", Failure::NotSse, ""),
    ] {
        let cause = (body == completion).then_some(FailureCause::UnstreamedCompletion);
        let detail = FailureDetail { cause, ..FailureDetail::new(failure, message) };
        assert_eq!(explain_missing_stream(Api::Chat, body), detail);
    }
}

fn unstreamed(body: &[u8]) -> (String, String) {
    let limits = ResponseLimits { unstreamed_body: 4096, ..ResponseLimits::default() };
    let mut reader = BodyReader::new(Api::Chat, limits);
    let mut text = String::new();
    for read in body.chunks(7) {
        if !reader.read(read) {
            break;
        }
    }
    let verdict = reader.end(&mut |_, _, piece: &str| text.push_str(piece));
    (outcome(&verdict), text)
}

#[test]
fn responses_without_streaming_have_the_same_failure_classes_as_streams() {
    let body = |name: &str| json(name)["body"].as_str().unwrap().to_owned();
    let ok = body("llamacpp-nonstream.json");
    assert_eq!(unstreamed(ok.as_bytes()), ("ok 2".into(), " Rome".into()));
    let (verdict, text) = unstreamed(body("transformers-nonstream.json").as_bytes());
    assert!(
        verdict == "ok 32" && text.contains("the ~fa") && text.contains('"'),
        "{verdict} {text}"
    );
    for (body, verdict) in [
        (&ok[..ok.len() - 1], "incomplete"),
        ("", "incomplete"),
        ("<html>", "bad_frame"),
        (r#"{"error":"m"}"#, "stream_error"),
        (r#"{"choices":[{"message":{"content":""},"finish_reason":"stop"}]}"#, "empty_output"),
        (
            r#"{"choices":[{"message":{"content":"a"},"finish_reason":"content_filter"}]}"#,
            "filtered",
        ),
        (
            r#"{"choices":[{"message":{"reasoning_content":"a"}}]}"#,
            "ok ~1 missing_usage missing_finish_reason",
        ),
    ] {
        assert_eq!(unstreamed(body.as_bytes()).0, verdict, "{body}");
    }
    assert_eq!(unstreamed(&[b' '; 4097]).0, "too_large");
}

/// Lower than the limit of streams, because llmload keeps an unstreamed response in memory.
#[test]
fn a_response_without_streaming_has_a_limit_of_4_mib() {
    let verdict = |length: usize| {
        let mut body =
            br#"{"choices":[{"message":{"content":"Hi"},"finish_reason":"stop"}]}"#.to_vec();
        body.resize(length, b' ');
        let mut reader = BodyReader::new(Api::Chat, ResponseLimits::default());
        let fits = body.chunks(1 << 16).all(|read| reader.read(read));
        (fits, outcome(&reader.end(&mut |_, _, _: &str| {})))
    };
    assert_eq!(verdict(4 << 20), (true, "ok ~1 missing_usage".into()));
    assert_eq!(verdict((4 << 20) + 1), (false, "too_large".into()));
}

#[test]
fn recorded_error_bodies_become_one_sentence() {
    for (name, message, code) in [
        ("llamacpp-error-auth.json", "Invalid API Key", Some("401")),
        ("llamacpp-error-loading.json", "Loading model", Some("503")),
        (
            "llamacpp-error-max-tokens.json",
            "Field 'max_tokens': Value must be between -1 <= value <= 2147483647, but got -5",
            Some("400"),
        ),
        ("llamacpp-error-no-messages.json", "'messages' is required", Some("400")),
        ("llamacpp-error-not-found.json", "File Not Found", Some("404")),
        (
            "llamacpp-error-too-long.json",
            "request (3002 tokens) exceeds the available context size (1024 tokens), try increasing it",
            Some("400"),
        ),
        ("llamacpppython-error-bad-json.json", "Internal Server Error", None),
        ("llamacpppython-error-not-found.json", "Not Found", None),
        ("transformers-error-bad-json.json", "JSON decode error at body.28", None),
        (
            "transformers-error-bad-model.json",
            "Server is pinned to 'model/tinyhf'; requested 'no-such-model'.",
            None,
        ),
        ("transformers-error-no-messages.json", "Internal Server Error", None),
        ("transformers-error-not-found.json", "Not Found", None),
    ] {
        let error = ReportedError::from_body(json(name)["body"].as_str().unwrap().as_bytes());
        assert_eq!((error.message.as_str(), error.code.as_deref()), (message, code), "{name}");
        assert!(!error.is_quota(), "{name}");
    }
}
