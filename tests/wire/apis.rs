//! The catalogue of streams of the Responses API and the Messages API, and the bodies of these APIs
//! and of the embeddings API.

use std::path::Path;

use llmload::measurement::{Failure, FailureDetail, Usage};
use llmload::protocol::{Api, BodyReader, Channel, CompletedResponse, ResponseLimits, Terminal};

use super::{delicate_split_points, outcome, read_every_way_of, variants};

/// Encodes events that have their type in the event name and in the JSON. Each event is its type
/// and the other members of its JSON.
fn typed_events(events: &[(&str, &str)]) -> String {
    let encode = |(kind, members): &(&str, &str)| {
        let comma = if members.is_empty() { "" } else { "," };
        format!("event: {kind}\ndata: {{\"type\":\"{kind}\"{comma}{members}}}\n\n")
    };
    events.iter().map(encode).collect()
}

const CREATED: (&str, &str) = (
    "response.created",
    r#""response":{"status":"in_progress","model":"m","usage":null,"error":null,"output":[]}"#,
);
const ITEM: (&str, &str) = (
    "response.output_item.added",
    r#""output_index":0,"item":{"id":"msg_1","type":"message","role":"assistant","content":[]}"#,
);
const PART: (&str, &str) =
    ("response.content_part.added", r#""part":{"type":"output_text","text":"","annotations":[]}"#);
const TEXT: (&str, &str) = (
    "response.output_text.delta",
    r#""item_id":"msg_1","output_index":0,"content_index":0,"delta":"é😀","logprobs":[],"sequence_number":4"#,
);
const TEXT_DONE: (&str, &str) = ("response.output_text.done", r#""text":"é😀""#);
const COMPLETED: (&str, &str) = (
    "response.completed",
    r#""response":{"status":"completed","error":null,"incomplete_details":null,"output":[{"type":"message","content":[{"type":"output_text","text":"é😀"}]}],"usage":{"input_tokens":9,"input_tokens_details":{"cached_tokens":4},"output_tokens":5,"output_tokens_details":{"reasoning_tokens":3},"total_tokens":14}}"#,
);

/// A name, the bytes, the verdict, and the index of the event with the first token.
type Case = (&'static str, String, &'static str, Option<u32>);

fn responses_cases() -> Vec<Case> {
    let start = [CREATED, ITEM, PART, TEXT];
    let then = |last: &[(&'static str, &'static str)]| typed_events(&[&start[..], last].concat());
    let incomplete = |reason: &'static str| match reason {
        "max" => (
            "response.incomplete",
            r#""response":{"status":"incomplete","incomplete_details":{"reason":"max_output_tokens"},"usage":{"input_tokens":9,"output_tokens":5}}"#,
        ),
        _ => (
            "response.incomplete",
            r#""response":{"status":"incomplete","incomplete_details":{"reason":"content_filter"},"usage":null}"#,
        ),
    };
    vec![
        ("complete", then(&[TEXT_DONE, COMPLETED]), "ok 5", Some(3)),
        ("[DONE] after the end", then(&[COMPLETED]) + "data: [DONE]\n\n", "ok 5", Some(3)),
        ("[DONE] proves nothing", then(&[]) + "data: [DONE]\n\n", "incomplete", Some(3)),
        ("cut short", then(&[]), "incomplete", Some(3)),
        ("cut inside the end", then(&[COMPLETED])[..then(&[COMPLETED]).len() - 40].into(), "incomplete", Some(3)),
        ("the token limit", then(&[incomplete("max")]), "ok 5", Some(3)),
        // vLLM ends every stream with `response.completed`.
        ("the token limit, as the status", then(&[("response.completed", r#""response":{"status":"incomplete","incomplete_details":{"reason":"max_output_tokens"},"usage":{"output_tokens":5}}"#)]), "ok 5", Some(3)),
        ("filtered", then(&[incomplete("filter")]), "filtered", Some(3)),
        ("failed", then(&[("response.failed", r#""response":{"status":"failed","error":{"code":"server_error","message":"m"}}"#)]), "stream_error", Some(3)),
        ("failed, as the status", then(&[("response.completed", r#""response":{"status":"failed","error":{"code":"server_error","message":"m"}}"#)]), "stream_error", Some(3)),
        ("cancelled", then(&[("response.completed", r#""response":{"status":"cancelled","error":null}"#)]), "stream_error", Some(3)),
        ("a flat error", then(&[("error", r#""code":"rate_limit_exceeded","message":"m","param":null"#)]), "stream_error", Some(3)),
        ("a nested error", then(&[]) + "data: {\"type\":\"error\",\"error\":{\"message\":\"m\"}}\n\n", "stream_error", Some(3)),
        ("an error without a type", then(&[]) + "data: {\"error\":{\"message\":\"m\"}}\n\n", "stream_error", Some(3)),
        ("a quota error before the failure", typed_events(&[CREATED, ("error", r#""error":{"type":"insufficient_quota","code":"insufficient_quota","message":"m"}"#), ("response.failed", r#""response":{"status":"failed","error":{"code":"insufficient_quota","message":"m"}}"#)]), "stream_error", None),
        ("reasoning first", typed_events(&[CREATED, ("response.reasoning_summary_part.added", r#""part":{"type":"summary_text","text":""}"#), ("response.reasoning_summary_text.delta", r#""delta":"hm""#), TEXT, COMPLETED]), "ok 5", Some(2)),
        ("reasoning of vLLM", typed_events(&[CREATED, ("response.reasoning_text.delta", r#""delta":"hm""#), ("response.reasoning_text.done", r#""text":"hm""#), TEXT, COMPLETED]), "ok 5", Some(1)),
        ("reasoning in an object", typed_events(&[("response.reasoning.delta", r#""delta":{"text":"hm"}"#), COMPLETED]), "ok 5", Some(0)),
        ("a refusal", typed_events(&[CREATED, ("response.refusal.delta", r#""delta":"no""#), COMPLETED]), "ok 5", Some(1)),
        ("a function call", typed_events(&[CREATED, ("response.output_item.added", r#""item":{"type":"function_call","name":"f","arguments":""}"#), ("response.function_call_arguments.delta", r#""delta":"{\"a\":1}""#), ("response.completed", r#""response":{"status":"completed","output":[{"type":"function_call","name":"f","arguments":"{}"}],"usage":{"output_tokens":7}}"#)]), "ok 7", Some(1)),
        ("no text", typed_events(&[CREATED, ("response.completed", r#""response":{"status":"completed","output":[],"usage":{"input_tokens":3,"output_tokens":0}}"#)]), "empty_output", None),
        ("hidden reasoning alone", typed_events(&[CREATED, COMPLETED]), "ok 5 missing_text", None),
        ("no usage", then(&[("response.completed", r#""response":{"status":"completed","usage":null}"#)]), "ok ~1 missing_usage", Some(3)),
        ("types only in the JSON", then(&[COMPLETED]).lines().filter(|line| !line.starts_with("event")).fold(String::new(), |all, line| all + line + "\n"), "ok 5", Some(3)),
        ("types only in the event names", "event: response.output_text.delta\ndata: {\"delta\":\"a\"}\n\nevent: response.completed\ndata: {\"response\":{\"usage\":{\"output_tokens\":1}}}\n\n".into(), "ok 1", Some(0)),
        ("an unknown event", then(&[("response.brand_new.done", r#""x":1"#), ("keepalive", ""), COMPLETED]), "ok 5", Some(3)),
        ("not JSON", then(&[]) + "event: response.output_text.delta\ndata: hello\n\n", "bad_frame", Some(3)),
        ("not an object", then(&[]) + "data: [1]\n\n", "bad_frame", Some(3)),
        ("NaN in a value that is not read", then(&[]).replace("\"logprobs\":[]", "\"logprobs\":[NaN]") + &typed_events(&[COMPLETED]), "ok 5", Some(3)),
        ("an empty body", String::new(), "incomplete", None),
    ]
}

const MESSAGE_START: (&str, &str) = (
    "message_start",
    r#""message":{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"usage":{"input_tokens":3,"cache_creation_input_tokens":10,"cache_read_input_tokens":20,"output_tokens":1}}"#,
);
const PING: (&str, &str) = ("ping", "");
const BLOCK: (&str, &str) =
    ("content_block_start", r#""index":0,"content_block":{"type":"text","text":""}"#);
const BLOCK_TEXT: (&str, &str) =
    ("content_block_delta", r#""index":0,"delta":{"type":"text_delta","text":"é😀"}"#);
const BLOCK_STOP: (&str, &str) = ("content_block_stop", r#""index":0"#);
const MESSAGE_DELTA: (&str, &str) = (
    "message_delta",
    r#""delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":5}"#,
);
const MESSAGE_STOP: (&str, &str) = ("message_stop", "");

fn messages_cases() -> Vec<Case> {
    let start = [MESSAGE_START, BLOCK, PING, BLOCK_TEXT, BLOCK_STOP];
    let then = |last: &[(&'static str, &'static str)]| typed_events(&[&start[..], last].concat());
    let stop = |reason: &'static str| {
        let delta = MESSAGE_DELTA.1.replace("end_turn", reason);
        then(&[]) + &typed_events(&[("message_delta", &delta), MESSAGE_STOP])
    };
    vec![
        ("complete", then(&[MESSAGE_DELTA, MESSAGE_STOP]), "ok 5", Some(3)),
        ("no end", then(&[MESSAGE_DELTA]), "ok 5 missing_done", Some(3)),
        ("cut short", then(&[]), "incomplete", Some(3)),
        ("an end without a finish reason", then(&[MESSAGE_STOP]), "incomplete", Some(3)),
        ("[DONE] proves nothing", then(&[]) + "data: [DONE]\n\n", "incomplete", Some(3)),
        ("the token limit", stop("max_tokens"), "ok 5", Some(3)),
        ("a tool call", stop("tool_use"), "ok 5", Some(3)),
        ("refused", stop("refusal"), "filtered", Some(3)),
        ("refused without a block", typed_events(&[MESSAGE_START, ("message_delta", r#""delta":{"stop_reason":"refusal"},"usage":{"output_tokens":1}"#), MESSAGE_STOP]), "filtered", None),
        ("overloaded", typed_events(&[MESSAGE_START, PING, ("error", r#""error":{"type":"overloaded_error","message":"Overloaded"}"#)]), "stream_error", None),
        ("an error without a name", then(&[]) + "data: {\"type\":\"error\",\"error\":{\"message\":\"m\"}}\n\n", "stream_error", Some(3)),
        ("thinking first", typed_events(&[MESSAGE_START, ("content_block_start", r#""content_block":{"type":"thinking","thinking":""}"#), ("content_block_delta", r#""delta":{"type":"thinking_delta","thinking":"hm"}"#), ("content_block_delta", r#""delta":{"type":"signature_delta","signature":"abc"}"#), BLOCK_STOP, BLOCK, BLOCK_TEXT, MESSAGE_DELTA, MESSAGE_STOP]), "ok 5", Some(2)),
        ("a tool call alone", typed_events(&[MESSAGE_START, ("content_block_start", r#""content_block":{"type":"tool_use","id":"t","name":"f","input":{}}"#), ("content_block_delta", r#""delta":{"type":"input_json_delta","partial_json":""}"#), ("content_block_delta", r#""delta":{"type":"input_json_delta","partial_json":"{\"a\":1}"}"#), MESSAGE_DELTA, MESSAGE_STOP]), "ok 5", Some(1)),
        ("two starts", typed_events(&[MESSAGE_START, MESSAGE_START, BLOCK, BLOCK_TEXT, MESSAGE_DELTA, MESSAGE_STOP]), "ok 5", Some(3)),
        // The count of the start says nothing.
        ("no usage at the end", then(&[("message_delta", r#""delta":{"stop_reason":"end_turn"}"#), MESSAGE_STOP]), "ok ~1 missing_usage", Some(3)),
        ("no text", typed_events(&[MESSAGE_START, ("message_delta", r#""delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":0}"#), MESSAGE_STOP]), "empty_output", None),
        ("a ping that is no JSON", format!("event: ping\ndata: 2026-01-01\n\n{}", then(&[MESSAGE_DELTA, MESSAGE_STOP])), "ok 5", Some(4)),
        ("types only in the event names", "event: content_block_delta\ndata: {\"delta\":{\"text\":\"a\"}}\n\nevent: message_delta\ndata: {\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":1}}\n\nevent: message_stop\ndata: {}\n\n".into(), "ok 1", Some(0)),
        ("not JSON", then(&[]) + "event: message_delta\ndata: hello\n\n", "bad_frame", Some(3)),
        ("an empty body", String::new(), "incomplete", None),
    ]
}

#[test]
fn streams_of_typed_events_have_the_verdict_of_the_catalogue() {
    for (api, cases) in [(Api::Responses, responses_cases()), (Api::Messages, messages_cases())] {
        for (case, bytes, verdict, first) in cases {
            let bytes = bytes.as_bytes();
            let read = |bytes: &[u8], splits: Vec<usize>| {
                read_every_way_of(api, "", Terminal::default(), bytes, splits)
            };
            let (reading, first_read) = read(bytes, (0..=bytes.len()).collect());
            let found = (outcome(&reading.verdict), first_read);
            assert_eq!(found, (verdict.to_owned(), first), "{api:?}: {case}");
            for (variant, bytes) in variants(bytes) {
                let (varied, _) = read(&bytes, delicate_split_points(&bytes).collect());
                assert_eq!(varied, reading, "{api:?}: {case}, {variant}");
            }
        }
    }
}

fn case(
    api: Api,
    name: &str,
) -> (Vec<(Channel, String)>, bool, Result<CompletedResponse, FailureDetail>) {
    let cases = if api == Api::Messages { messages_cases() } else { responses_cases() };
    let (_, bytes, ..) = cases.into_iter().find(|(case, ..)| *case == name).unwrap();
    let bytes = bytes.as_bytes();
    let (reading, _) = read_every_way_of(api, "", Terminal::default(), bytes, [bytes.len() / 2]);
    let text = reading.text.into_iter().map(|((_, channel), text)| (channel, text)).collect();
    (text, reading.starts_answer, reading.verdict)
}

#[test]
fn each_text_of_typed_events_has_its_channel() {
    let answer = (Channel::Answer, "é😀".to_owned());
    let thought = (Channel::Reasoning, "hm".to_owned());
    for (api, name, expected) in [
        (Api::Responses, "complete", vec![answer.clone()]),
        (Api::Responses, "reasoning first", vec![answer.clone(), thought.clone()]),
        (Api::Responses, "reasoning of vLLM", vec![answer.clone(), thought.clone()]),
        (Api::Responses, "a refusal", vec![(Channel::Refusal, "no".to_owned())]),
        (Api::Responses, "a function call", vec![(Channel::ToolCall, "f{\"a\":1}".to_owned())]),
        (Api::Messages, "complete", vec![answer.clone()]),
        (Api::Messages, "thinking first", vec![answer, thought]),
        (Api::Messages, "a tool call alone", vec![(Channel::ToolCall, "f{\"a\":1}".to_owned())]),
    ] {
        let (text, starts_answer, _) = case(api, name);
        assert_eq!(text, expected, "{api:?}: {name}");
        assert_eq!(starts_answer, expected.len() == 2, "{api:?}: {name}");
    }
}

#[test]
fn usage_in_several_events_merges_field_by_field() {
    let usage = |api, name| case(api, name).2.unwrap().usage;
    let expected =
        Usage { input: Some(9), output: Some(5), cached_input: Some(4), reasoning: Some(3) };
    assert_eq!(usage(Api::Responses, "complete"), expected);
    // The parts from and for the cache are separate in the Messages API.
    let expected =
        Usage { input: Some(33), output: Some(5), cached_input: Some(20), reasoning: None };
    for name in ["complete", "two starts"] {
        assert_eq!(usage(Api::Messages, name), expected, "{name}");
    }
    let no_count = Usage { output: None, ..expected };
    assert_eq!(usage(Api::Messages, "no usage at the end"), no_count);
    // The last event can correct the input without repeating the counts of the cache.
    let corrected = typed_events(&[
        MESSAGE_START,
        BLOCK,
        BLOCK_TEXT,
        (
            "message_delta",
            r#""delta":{"stop_reason":"end_turn"},"usage":{"input_tokens":8,"output_tokens":5}"#,
        ),
        MESSAGE_STOP,
    ]);
    let bytes = corrected.as_bytes();
    let (reading, _) =
        read_every_way_of(Api::Messages, "m", Terminal::default(), bytes, 0..=bytes.len());
    assert_eq!(reading.verdict.unwrap().usage, Usage { input: Some(38), ..expected });
}

#[test]
fn an_error_of_typed_events_keeps_its_message() {
    for (api, name, message) in [
        (Api::Responses, "failed", "m"),
        (Api::Responses, "failed, as the status", "m"),
        (Api::Responses, "a flat error", "m"),
        (Api::Responses, "a nested error", "m"),
        (Api::Responses, "cancelled", "the finish reason is an error"),
        (Api::Messages, "overloaded", "Overloaded"),
        (Api::Messages, "an error without a name", "m"),
    ] {
        let detail = FailureDetail::new(Failure::StreamError, message);
        assert_eq!(case(api, name).2, Err(detail), "{api:?}: {name}");
    }
}

#[test]
fn an_incomplete_stream_names_the_end_that_its_api_lacks() {
    let (_, _, verdict) = case(Api::Messages, "an end without a finish reason");
    assert_eq!(verdict.unwrap_err().message, "message_stop arrived without a finish reason");
}

/// Returns the verdict on a body, and its text by channel, in reads of seven bytes.
fn body(
    api: Api,
    expected_vectors: usize,
    body: &str,
) -> (Result<CompletedResponse, FailureDetail>, Vec<(Channel, String)>) {
    let mut reader = BodyReader::new(api, ResponseLimits::default())
        .with_requested_model("m")
        .with_expected_vectors(expected_vectors);
    assert!(body.as_bytes().chunks(7).all(|read| reader.read(read)));
    let mut text: Vec<(Channel, String)> = Vec::new();
    let verdict = reader.end(&mut |_, channel, piece: &str| text.push((channel, piece.to_owned())));
    (verdict, text)
}

#[test]
fn bodies_of_the_other_apis_have_their_text_and_verdict() {
    let response = r#"{"object":"response","status":"completed","error":null,"model":"m","output":[{"type":"reasoning","summary":[{"type":"summary_text","text":"hm"}]},{"type":"message","content":[{"type":"output_text","text":"a"},{"type":"refusal","refusal":"no"}]},{"type":"function_call","name":"f","arguments":"{}"}],"usage":{"input_tokens":9,"output_tokens":5}}"#;
    let message = r#"{"type":"message","role":"assistant","model":"m","content":[{"type":"thinking","thinking":"hm"},{"type":"text","text":"a"},{"type":"tool_use","name":"f","input":{"a":1}}],"stop_reason":"tool_use","usage":{"input_tokens":9,"cache_read_input_tokens":2,"output_tokens":5}}"#;
    let channels = |api, text: &str| {
        let texts = body(api, 0, text).1;
        texts.iter().map(|(channel, text)| format!("{channel:?} {text}")).collect::<Vec<_>>()
    };
    assert_eq!(
        channels(Api::Responses, response),
        ["Reasoning hm", "Answer a", "Refusal no", "ToolCall f", "ToolCall {}"]
    );
    assert_eq!(
        channels(Api::Messages, message),
        ["Reasoning hm", "Answer a", "ToolCall f", "ToolCall {\"a\":1}"]
    );
    for (api, text, expected) in [
        (Api::Responses, response, "ok 5"),
        (Api::Responses, &response.replace("\"completed\"", "\"incomplete\""), "ok 5"),
        (Api::Responses, &response.replace("\"completed\"", "\"failed\""), "stream_error"),
        (Api::Responses, &response.replace("\"m\"", "\"other\""), "ok 5 model_mismatch"),
        (Api::Responses, r#"{"object":"response","status":"queued","output":[]}"#, "empty_output"),
        (
            Api::Responses,
            r#"{"status":"incomplete","incomplete_details":{"reason":"content_filter"},"output":[]}"#,
            "filtered",
        ),
        (Api::Responses, r#"{"error":{"message":"m"}}"#, "stream_error"),
        (Api::Responses, "[1]", "bad_frame"),
        (Api::Responses, "{\"output\":[", "incomplete"),
        (Api::Messages, message, "ok 5"),
        (Api::Messages, &message.replace("tool_use\",\"usage", "refusal\",\"usage"), "filtered"),
        (
            Api::Messages,
            r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
            "stream_error",
        ),
        (
            Api::Messages,
            r#"{"type":"message","content":[],"stop_reason":"end_turn"}"#,
            "empty_output",
        ),
        (Api::Messages, "<html>", "bad_frame"),
    ] {
        assert_eq!(outcome(&body(api, 0, text).0), expected, "{api:?}: {text}");
    }
    let usage = Usage { input: Some(11), output: Some(5), cached_input: Some(2), reasoning: None };
    assert_eq!(body(Api::Messages, 0, message).0.unwrap().usage, usage);
}

#[test]
fn embeddings_succeed_with_as_many_vectors_as_inputs() {
    let vectors = |vectors: &str| {
        format!(
            r#"{{"object":"list","data":[{vectors}],"model":"m","usage":{{"prompt_tokens":8,"total_tokens":8}}}}"#
        )
    };
    let one = r#"{"object":"embedding","index":0,"embedding":[0.1,-2e-3,1E5]}"#;
    let coded = r#"{"object":"embedding","index":1,"embedding":"AACAPw=="}"#;
    let two = vectors(&format!("{one},{coded}"));
    for (inputs, text, expected) in [
        (1, vectors(one), "ok ~0"),
        (2, two.clone(), "ok ~0"),
        (1, two.clone(), "incomplete"),
        (3, two, "incomplete"),
        (1, vectors(""), "empty_output"),
        (1, vectors(r#"{"embedding":[]}"#), "empty_output"),
        (1, vectors(r#"{"embedding":""}"#), "empty_output"),
        (1, vectors(r#"{"embedding":null}"#), "empty_output"),
        (1, vectors(r#"{"index":0}"#), "empty_output"),
        (1, vectors(r#"{"embedding":[0.1,null]}"#), "bad_frame"),
        (1, vectors(r#"{"embedding":[0.1,NaN]}"#), "bad_frame"),
        (1, vectors(r#"{"embedding":[["x"]]}"#), "bad_frame"),
        (1, r#"{"data":{}}"#.into(), "bad_frame"),
        (1, "{}".into(), "bad_frame"),
        (1, r#"{"error":{"message":"m"}}"#.into(), "stream_error"),
        (1, r#"{"object":"error","message":"m"}"#.into(), "stream_error"),
        (1, vectors(one)[..90].into(), "incomplete"),
        (1, vectors(one).replace("\"m\"", "\"other\""), "ok ~0 model_mismatch"),
        (1, vectors(one).replace("prompt_tokens\":8", "prompt_tokens\":0"), "ok ~0 missing_usage"),
    ] {
        let (verdict, text_of_model) = body(Api::Embeddings, inputs, &text);
        assert_eq!(outcome(&verdict), expected, "{inputs}: {text}");
        assert_eq!(text_of_model, []);
        if let Ok(completed) = verdict {
            assert_eq!(completed.usage.output, None, "no token is an output token");
            assert_eq!(completed.finish, None);
        }
    }
    let detail = body(Api::Embeddings, 2, &vectors(one)).0.unwrap_err();
    assert_eq!(detail.message, "the number of vectors is 1, but the number of inputs is 2");
}

/// A batch of vectors is larger than any text.
#[test]
fn a_response_with_vectors_has_a_limit_of_32_mib() {
    let mut body = br#"{"data":[{"embedding":[1]}],"usage":{"prompt_tokens":8}}"#.to_vec();
    body.resize((32 << 20) + 1, b' ');
    for (length, expected) in [(32 << 20, "ok ~0"), ((32 << 20) + 1, "too_large")] {
        let mut reader = BodyReader::new(Api::Embeddings, ResponseLimits::default());
        let _fits = body[..length].chunks(1 << 20).all(|read| reader.read(read));
        assert_eq!(outcome(&reader.end(&mut |_, _, _: &str| {})), expected);
    }
}

/// Streams of aimock and llmock, two servers by other authors.
#[test]
fn recorded_streams_of_other_servers_are_read_the_same_for_every_split() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    let [aimock, llmock] = ["Blue is a colour.", "Mock response from "];
    for (api, name, verdict, answer, has_reasoning, input) in [
        (Api::Responses, "responses-aimock.sse", "ok 20", aimock, true, 37),
        (Api::Responses, "responses-llmock.sse", "ok 6", llmock, false, 5),
        (Api::Messages, "messages-aimock.sse", "ok 20", aimock, true, 37),
        (Api::Messages, "messages-llmock.sse", "ok 9", llmock, false, 5),
    ] {
        let bytes = read(name);
        let (reading, _) = read_every_way_of(api, "", Terminal::default(), &bytes, 0..=bytes.len());
        assert_eq!(outcome(&reading.verdict), verdict, "{name}");
        assert!(reading.text[&(0, Channel::Answer)].starts_with(answer), "{name}");
        assert_eq!(reading.starts_answer, has_reasoning, "{name}");
        assert_eq!(reading.verdict.unwrap().usage.input, Some(input), "{name}");
    }
    let vectors = String::from_utf8(read("embeddings-aimock.json")).unwrap();
    assert_eq!(
        outcome(&body(Api::Embeddings, 2, &vectors.replace("text-embedding-3-small", "m")).0),
        "ok ~0 missing_usage"
    );
}
