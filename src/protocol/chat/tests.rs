//! Tests that decode one event or one body.

use super::*;
use crate::measurement::{FinishReason, Usage};
use crate::protocol::chat::Channel::{Answer, Audio, Reasoning, Refusal, ToolCall};

type Texts = Vec<(u32, Channel, String)>;

fn read_as(shape: Shape, json: &str) -> (DecodedEvent<'_>, Texts) {
    let mut texts = Texts::new();
    let decoded = decode(json, shape, &mut |choice, channel, text: &str| {
        texts.push((choice, channel, text.to_owned()));
    })
    .unwrap();
    (decoded, texts)
}

fn texts_of(delta: &str) -> Vec<(Channel, String)> {
    let json = format!(r#"{{"choices":[{{"index":0,"delta":{delta}}}]}}"#);
    let (decoded, texts) = read_as(Shape::Event, &json);
    assert_eq!(decoded.has_text, !texts.is_empty(), "{delta}");
    texts.into_iter().map(|(_, channel, text)| (channel, text)).collect()
}

#[test]
fn a_delta_without_text_emits_nothing() {
    for silent in [
        "null",
        "{}",
        r#"{"role":"assistant"}"#,
        r#"{"role":"assistant","content":null}"#,
        r#"{"content":"","refusal":"","reasoning_content":"","tool_calls":null}"#,
        r#"{"content":[],"tool_calls":[],"reasoning_details":[],"reasoning":null}"#,
        r#"{"content":[{"type":"text","text":""},{"type":"thinking","thinking":[]},null]}"#,
        r#"{"tool_calls":[{"index":0,"id":"c","function":{"name":"","arguments":""}},null,{"function":null}]}"#,
        r#"{"audio":{"id":"a","transcript":"","data":null}}"#,
        r#"{"content":0,"refusal":false,"function_call":null,"unknown":{"content":"no"}}"#,
    ] {
        assert_eq!(texts_of(silent), [], "{silent}");
    }
}

#[test]
fn text_is_read_from_every_field_that_servers_use() {
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
        (
            r#"{"tool_calls":[{"index":0,"type":"custom","custom":{"name":"f","input":"x"}}]}"#,
            vec![(ToolCall, "f"), (ToolCall, "x")],
        ),
        (
            r#"{"audio":{"id":"a","transcript":"Hi","data":"AAE=","expires_at":1}}"#,
            vec![(Answer, "Hi"), (Audio, "AAE=")],
        ),
        (r#"{"content":{"text":{"value":"b"}}}"#, vec![(Answer, "b")]),
        (r#"{"content":[{"type":"text","text":{"value":"b"}}]}"#, vec![(Answer, "b")]),
    ] {
        let expected: Vec<_> =
            expected.into_iter().map(|(channel, text)| (channel, text.to_owned())).collect();
        assert_eq!(texts_of(delta), expected, "{delta}");
    }
}

#[test]
fn reasoning_that_is_repeated_under_another_name_is_emitted_once() {
    let delta =
        r#"{"reasoning":"We","reasoning_details":[{"text":"We"}],"reasoning_content":"We"}"#;
    assert_eq!(texts_of(delta), [(Reasoning, "We".into())]);
    let delta = r#"{"reasoning_content":"","reasoning":"We"}"#;
    assert_eq!(texts_of(delta), [(Reasoning, "We".into())]);
}

#[test]
fn half_a_surrogate_pair_is_text() {
    assert_eq!(texts_of(r#"{"content":"\ud83d"}"#).len(), 1);
}

#[test]
fn deeply_nested_content_parts_are_ignored() {
    let deep = format!(r#"{{"content":{}"x"{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(texts_of(&deep), []);
}

#[test]
fn text_belongs_to_its_choice_even_if_the_index_follows_the_text() {
    let (_, texts) = read_as(
        Shape::Event,
        r#"{"choices":[{"index":1,"delta":{"content":"b"}},{"delta":{"content":"c"},"index":2},
            {"text":"d","index":3},{"delta":{"content":"a"}}]}"#,
    );
    let texts: Vec<_> = texts.iter().map(|(choice, _, text)| (*choice, text.as_str())).collect();
    assert_eq!(texts, [(1, "b"), (2, "c"), (3, "d"), (0, "a")]);
}

#[test]
fn the_text_of_an_event_is_in_the_delta_and_the_text_of_a_body_is_in_the_message() {
    let both = r#"{"choices":[{"message":{"content":"all"},"delta":{"content":"new"},"index":0}]}"#;
    assert_eq!(read_as(Shape::Event, both).1, [(0, Answer, "new".into())]);
    assert_eq!(read_as(Shape::Body, both).1, [(0, Answer, "all".into())]);
    let message = r#"{"choices":[{"message":{"content":"new"},"index":1}]}"#;
    assert_eq!(read_as(Shape::Event, message).1, [(1, Answer, "new".into())], "without a delta");
}

#[test]
fn an_event_without_choices_is_empty() {
    for json in [
        "{}",
        r#"{"choices":null}"#,
        r#"{"choices":[]}"#,
        r#"{"choices":[null]}"#,
        r#"{"sglext":{"x":[1]}}"#,
    ] {
        assert_eq!(read_as(Shape::Event, json), (DecodedEvent::default(), Vec::new()), "{json}");
    }
}

#[test]
fn usage_is_read_from_every_field_that_servers_use_and_the_last_usage_wins() {
    let usage = |output| Usage { input: Some(1), output: Some(output), ..Usage::default() };
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
        (r#"{"message":"text","x_groq":{"id":"r"},"usage":{}}"#, Usage::default()),
    ] {
        assert_eq!(read_as(Shape::Event, json).0.usage, expected, "{json}");
    }
}

#[test]
fn a_blank_finish_reason_is_no_finish_reason() {
    for (value, expected) in [
        ("null", None),
        ("\"\"", None),
        ("false", None),
        ("\"stop\"", Some(FinishReason::Stop)),
        ("\"MAX_TOKENS\"", Some(FinishReason::Length)),
    ] {
        let json = format!(r#"{{"choices":[{{"finish_reason":{value}}}]}}"#);
        assert_eq!(read_as(Shape::Event, &json).0.finish, expected, "{value}");
    }
}

#[test]
fn an_error_is_ignored_if_its_value_is_null_false_zero_or_empty() {
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
        assert_eq!(read_as(Shape::Event, &beside).0.error.is_some(), failed, "{value}");
        let inside = format!(r#"{{"choices":[{{"error":{value}}}]}}"#);
        assert_eq!(read_as(Shape::Event, &inside).0.error.is_some(), failed, "{value}");
    }
    for (json, failed) in [
        (r#"{"type":"error","message":"m"}"#, true),
        (r#"{"type":"response.failed"}"#, true),
        (r#"{"object":"error","message":"m"}"#, true),
        (r#"{"type":"response.output_text.delta","delta":"Hello"}"#, false),
    ] {
        assert_eq!(read_as(Shape::Event, json).0.error.is_some(), failed, "{json}");
    }
}

#[test]
fn text_that_is_not_an_event_of_the_api_cannot_be_decoded() {
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
        assert!(decode(json, Shape::Event, &mut |_, _, _: &str| {}).is_err(), "{json}");
    }
}
