//! What single events mean.

use super::*;
use crate::measurement::{FinishReason, Usage};
use crate::protocol::chat::Channel::{Answer, Reasoning, Refusal, ToolCall};

type Heard = Vec<(u32, Channel, String)>;

fn read_as(shape: Shape, json: &str) -> (Frame<'_>, Heard) {
    let mut heard = Heard::new();
    let frame = decode(json, shape, &mut |choice, channel, text: &str| {
        heard.push((choice, channel, text.to_owned()));
    })
    .unwrap();
    (frame, heard)
}

fn heard(delta: &str) -> Vec<(Channel, String)> {
    let json = format!(r#"{{"choices":[{{"index":0,"delta":{delta}}}]}}"#);
    let (frame, heard) = read_as(Shape::Stream, &json);
    assert_eq!(frame.tokens, !heard.is_empty(), "{delta}");
    heard.into_iter().map(|(_, channel, text)| (channel, text)).collect()
}

#[test]
fn a_delta_speaks_only_where_it_has_text() {
    for silent in [
        "null",
        "{}",
        r#"{"role":"assistant"}"#,
        r#"{"role":"assistant","content":null}"#,
        r#"{"content":"","refusal":"","reasoning_content":"","tool_calls":null}"#,
        r#"{"content":[],"tool_calls":[],"reasoning_details":[],"reasoning":null}"#,
        r#"{"content":[{"type":"text","text":""},{"type":"thinking","thinking":[]},null]}"#,
        r#"{"tool_calls":[{"index":0,"id":"c","function":{"name":"","arguments":""}},null,{"function":null}]}"#,
        r#"{"content":0,"refusal":false,"function_call":null,"unknown":{"content":"no"}}"#,
    ] {
        assert_eq!(heard(silent), [], "{silent}");
    }
}

#[test]
fn every_place_where_text_is_found() {
    for (delta, expected) in [
        (r#"{"content":"Hi"}"#, vec![(Answer, "Hi")]),
        (r#"{"content":"a\n\"\u00e9"}"#, vec![(Answer, "a\n\"é")]),
        (r#"{"content":" "}"#, vec![(Answer, " ")]),
        (r#"{"content":"x","role":"assistant","content":"y"}"#, vec![(Answer, "x"), (Answer, "y")]),
        (
            r#"{"content":["a",{"text":"b"},{"type":"refusal","refusal":"c"}]}"#,
            vec![(Answer, "a"), (Answer, "b"), (Refusal, "c")],
        ),
        (r#"{"content":{"type":"text","text":"b"}}"#, vec![(Answer, "b")]),
        (
            r#"{"content":[{"type":"thinking","thinking":[{"type":"text","text":"hm"}]},{"type":"text","text":"4"}]}"#,
            vec![(Reasoning, "hm"), (Answer, "4")],
        ),
        (r#"{"content":[{"type":"thinking","thinking":"hm"}]}"#, vec![(Reasoning, "hm")]),
        (r#"{"content":[{"type":"reasoning","text":"hm"}]}"#, vec![(Reasoning, "hm")]),
        (r#"{"content":null,"reasoning_content":"We"}"#, vec![(Reasoning, "We")]),
        (r#"{"reasoning":"We"}"#, vec![(Reasoning, "We")]),
        (
            r#"{"reasoning_details":[{"type":"reasoning.text","text":"We","format":"f"}]}"#,
            vec![(Reasoning, "We")],
        ),
        (r#"{"refusal":"No."}"#, vec![(Refusal, "No.")]),
        (
            r#"{"tool_calls":[{"index":0,"function":{"name":"f","arguments":"{\""}}]}"#,
            vec![(ToolCall, "f"), (ToolCall, "{\"")],
        ),
        (r#"{"tool_calls":[{"function":{"arguments":{"a":1}}}]}"#, vec![(ToolCall, r#"{"a":1}"#)]),
        (r#"{"function_call":{"name":"f"}}"#, vec![(ToolCall, "f")]),
    ] {
        let expected: Vec<_> =
            expected.into_iter().map(|(channel, text)| (channel, text.to_owned())).collect();
        assert_eq!(heard(delta), expected, "{delta}");
    }
}

#[test]
fn reasoning_that_is_repeated_under_another_name_is_heard_once() {
    let delta =
        r#"{"reasoning":"We","reasoning_details":[{"text":"We"}],"reasoning_content":"We"}"#;
    assert_eq!(heard(delta), [(Reasoning, "We".into())]);
    let delta = r#"{"reasoning_content":"","reasoning":"We"}"#;
    assert_eq!(heard(delta), [(Reasoning, "We".into())]);
}

#[test]
fn a_character_cut_in_two_by_a_gateway_is_text_all_the_same() {
    assert_eq!(heard(r#"{"content":"\ud83d"}"#).len(), 1);
}

#[test]
fn parts_nested_without_end_are_not_followed() {
    let deep = format!(r#"{{"content":{}"x"{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(heard(&deep), []);
}

#[test]
fn text_is_told_to_its_choice_wherever_the_index_stands() {
    let (_, heard) = read_as(
        Shape::Stream,
        r#"{"choices":[{"index":1,"delta":{"content":"b"}},{"delta":{"content":"c"},"index":2},
            {"text":"d","index":3},{"delta":{"content":"a"}}]}"#,
    );
    let heard: Vec<_> = heard.iter().map(|(choice, _, text)| (*choice, text.as_str())).collect();
    assert_eq!(heard, [(1, "b"), (2, "c"), (3, "d"), (0, "a")]);
}

#[test]
fn a_stream_listens_to_deltas_and_a_whole_reply_to_messages() {
    let both = r#"{"choices":[{"message":{"content":"all"},"delta":{"content":"new"},"index":0}]}"#;
    assert_eq!(read_as(Shape::Stream, both).1, [(0, Answer, "new".into())]);
    assert_eq!(read_as(Shape::Whole, both).1, [(0, Answer, "all".into())]);
}

#[test]
fn choices_may_be_missing_anywhere() {
    for json in [
        "{}",
        r#"{"choices":null}"#,
        r#"{"choices":[]}"#,
        r#"{"choices":[null]}"#,
        r#"{"sglext":{"x":[1]}}"#,
    ] {
        assert_eq!(read_as(Shape::Stream, json), (Frame::default(), Vec::new()), "{json}");
    }
}

#[test]
fn usage_is_found_in_every_place_and_the_last_wins() {
    let usage = |output| Some(Usage { input: 1, output, ..Usage::default() });
    for (json, expected) in [
        (r#"{"usage":{"prompt_tokens":1,"completion_tokens":5}}"#, usage(5)),
        (r#"{"choices":[{"usage":{"prompt_tokens":1,"completion_tokens":5}}]}"#, usage(5)),
        (r#"{"x_groq":{"id":"r","usage":{"prompt_tokens":1,"completion_tokens":5}}}"#, usage(5)),
        (r#"{"message":{"usage":{"prompt_tokens":1,"completion_tokens":5}}}"#, usage(5)),
        (
            r#"{"x_groq":{"usage":{"prompt_tokens":1,"completion_tokens":4}},"usage":{"prompt_tokens":1,"completion_tokens":5}}"#,
            usage(5),
        ),
        (
            r#"{"x_groq":{"usage":{"prompt_tokens":1,"completion_tokens":4}},"usage":null}"#,
            usage(4),
        ),
        (r#"{"message":"text","x_groq":{"id":"r"},"usage":{}}"#, None),
    ] {
        assert_eq!(read_as(Shape::Stream, json).0.usage, expected, "{json}");
    }
}

#[test]
fn finish_reasons_that_are_none() {
    for (value, expected) in [
        ("null", None),
        ("\"\"", None),
        ("false", None),
        ("\"stop\"", Some(FinishReason::Stop)),
        ("\"MAX_TOKENS\"", Some(FinishReason::Length)),
    ] {
        let json = format!(r#"{{"choices":[{{"finish_reason":{value}}}]}}"#);
        assert_eq!(read_as(Shape::Stream, &json).0.finish, expected, "{value}");
    }
}

#[test]
fn an_error_is_whatever_is_not_nothing() {
    for (value, failed) in [
        ("null", false),
        ("false", false),
        ("0", false),
        ("0.0", false),
        ("\"\"", false),
        ("{ }", false),
        ("[]", false),
        ("true", true),
        ("500", true),
        ("\"m\"", true),
        ("{\"message\":\"m\"}", true),
        ("[0]", true),
    ] {
        let beside = format!(r#"{{"error":{value},"choices":[{{"index":0,"delta":{{}}}}]}}"#);
        assert_eq!(read_as(Shape::Stream, &beside).0.failed, failed, "{value}");
        let inside = format!(r#"{{"choices":[{{"error":{value}}}]}}"#);
        assert_eq!(read_as(Shape::Stream, &inside).0.failed, failed, "{value}");
    }
    for (json, failed) in [
        (r#"{"type":"error","message":"m"}"#, true),
        (r#"{"type":"response.failed"}"#, true),
        (r#"{"object":"error","message":"m"}"#, true),
        (r#"{"type":"response.output_text.delta","delta":"Hello"}"#, false),
    ] {
        assert_eq!(read_as(Shape::Stream, json).0.failed, failed, "{json}");
    }
}

#[test]
fn what_is_not_of_the_apis_shape_is_refused() {
    for json in [
        "",
        "null",
        "3",
        "\"x\"",
        "[]",
        "{",
        "{}x",
        "{\"a\":}",
        "{\"choices\":\"x\"}",
        "{\"choices\":[3]}",
        "{\"choices\":[[]]}",
        "{\"choices\":[{\"delta\":\"x\"}]}",
        "{\"choices\":[{\"delta\":{\"content\":}}]}",
        "{\"choices\":[{\"delta\":{\"content\":\"a\nb\"}}]}",
    ] {
        assert!(decode(json, Shape::Stream, &mut |_, _, _: &str| {}).is_err(), "{json}");
    }
}
