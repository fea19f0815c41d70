//! Reading with a pattern gives the same result as parsing each event.

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;
use crate::protocol::{
    Api, Progress, ResponseLimits, StreamEnd, StreamReader, Terminal, discard_text,
};

fn event(data: &[u8]) -> SseEvent<'_> {
    SseEvent { name: b"", data }
}

/// Decodes an event and creates the pattern from it.
fn pattern_of(api: Api, first: &[u8]) -> EventPattern {
    let (mut pattern, mut texts) = (EventPattern::default(), EventTexts::default());
    let mut sink = |choice, channel, text: &str| texts.add(event(first), choice, channel, text);
    if let Ok(decoded) = api.decode_event(event(first), &mut sink) {
        pattern.learn(event(first), &decoded, &texts);
    }
    pattern
}

fn fits(first: &str, second: &str) -> Option<(u32, Channel, String)> {
    let pattern = pattern_of(Api::Chat, first.as_bytes());
    let text = pattern.text_of(event(second.as_bytes()));
    text.map(|(choice, channel, text)| (choice, channel, text.to_owned()))
}

const ROME: &str = r#"{"id":"r","choices":[{"index":2,"delta":{"content":" Rome"}}],"usage":null}"#;

#[test]
fn an_event_that_differs_only_in_its_text_fits() {
    for text in [" ", "é😀", "stop", "[DONE]", "NaN", "\u{7f}", "a longer text than before"] {
        let second = ROME.replace(" Rome", text);
        assert_eq!(fits(ROME, &second), Some((2, Channel::Answer, text.to_owned())), "{text:?}");
    }
    let reasoning = ROME.replace("content", "reasoning_content");
    let (_, channel, _) = fits(&reasoning, &reasoning).unwrap();
    assert_eq!(channel, Channel::Reasoning);
    let completion = r#"{"choices":[{"text":" Rome","index":1}]}"#;
    assert_eq!(fits(completion, completion), Some((1, Channel::Answer, " Rome".to_owned())));
}

#[test]
fn an_event_with_another_difference_does_not_fit() {
    for second in [
        ROME.replace(" Rome", ""),
        ROME.replace(" Rome", r"a\nb"),
        ROME.replace(" Rome", "a\nb"),
        ROME.replace(" Rome", r#"a","role":"b"#),
        ROME.replace("\" Rome\"", "null"),
        ROME.replace("\"r\"", "\"s\""),
        ROME.replace(":2,", ":3,"),
        ROME.replace("\"usage\":null", "\"usage\":{\"completion_tokens\":1}"),
        ROME.replace("}}]", "},\"finish_reason\":\"stop\"}]"),
        ROME[..ROME.len() - 1].to_owned(),
        format!("{ROME} "),
        format!("{ROME}{ROME}"),
        "[DONE]".to_owned(),
        String::new(),
    ] {
        assert_eq!(fits(ROME, &second), None, "{second}");
    }
    let pattern = pattern_of(Api::Chat, ROME.as_bytes());
    for name in ["error", "ping", "message"] {
        let named = SseEvent { name: name.as_bytes(), data: ROME.as_bytes() };
        assert_eq!(pattern.text_of(named), None, "{name}");
    }
    let invalid = [b"{\"choices\":[{\"delta\":{\"content\":\"", &b"\xff"[..], b"\"}}]}"].concat();
    let valid = br#"{"choices":[{"delta":{"content":"x"}}]}"#;
    assert_eq!(pattern_of(Api::Chat, valid).text_of(event(&invalid)), None);
}

#[test]
fn an_event_with_other_facts_or_other_texts_gives_no_pattern() {
    let long = "x".repeat(MAX_AROUND);
    for first in [
        ROME.replace(" Rome", ""),
        ROME.replace(" Rome", r"\u0041"),
        ROME.replace("\"usage\":null", "\"usage\":{\"completion_tokens\":1}"),
        ROME.replace("}}]", "},\"finish_reason\":\"stop\"}]"),
        ROME.replace("}}]", "}},{\"delta\":{\"content\":\"b\"}}]"),
        ROME.replace("\"id\"", "\"error\""),
        ROME.replace("\"content\":\" Rome\"", "\"function_call\":{\"arguments\":{\"a\":\"b\"}}"),
        ROME.replace("\"r\"", &format!("\"{long}\"")),
    ] {
        assert_eq!(fits(&first, &first), None, "{first}");
    }
}

// ---- Random events ------------------------------------------------------------------------------

/// JSON values at the place of a text, as raw bytes.
const VALUES: [&[u8]; 22] = [
    b"\"a\"",
    b"\" Rome\"",
    "\"é😀\"".as_bytes(),
    b"\"stop\"",
    b"\"thinking\"",
    b"\"error\"",
    b"\"0\"",
    b"\"NaN\"",
    b"\"\x7f\"",
    b"\"\"",
    b"\"a\\nb\"",
    b"\"\\u00e9\\\"\"",
    b"\"\\ud83d\"",
    b"\"a\nb\"",
    b"\"a\x01\"",
    b"\"\xff\"",
    b"\"a\",\"role\":\"b\"",
    b"\"a\"},\"delta\":{\"content\":\"b\"",
    b"null",
    b"{\"type\":\"text\",\"text\":\"c\"}",
    b"[{\"type\":\"thinking\",\"thinking\":\"c\"},\"d\"]",
    b"{\"a\":1}",
];

/// The places of a text, which is the byte `#`.
const CHOICES: [&str; 22] = [
    r#"{"index":0,"delta":{"content":#},"logprobs":null,"finish_reason":null}"#,
    r#"{"index":1,"delta":{"content":#}}"#,
    r#"{"delta":{"content":#},"index":1,"finish_reason":""}"#,
    r#"{"index":0,"delta":{"content":#},"finish_reason":"stop"}"#,
    r#"{"index":0,"delta":{"content":#},"logprobs":NaN}"#,
    r#"{"index":0,"logprobs":NaN,"delta":{"content":#}}"#,
    r#"{"index":0,"delta":{"content":#,"content":"x"}}"#,
    r#"{"index":0,"delta":{"content":#},"error":{"message":"m"}}"#,
    r#"{"index":0,"delta":{"content":#},"usage":{"completion_tokens":3}}"#,
    r#"{"index":0,"delta":{"role":"assistant","content":"","reasoning":#}}"#,
    r#"{"index":0,"delta":{"reasoning_content":#,"reasoning":#}}"#,
    r#"{"index":0,"delta":{"reasoning_content":"","reasoning":#,"content":null}}"#,
    r#"{"index":0,"delta":{"refusal":#}}"#,
    r#"{"index":0,"delta":{"content":[{"type":"thinking","thinking":[{"text":#}]}]}}"#,
    r#"{"index":0,"delta":{"content":[{"type":#,"text":"x"}]}}"#,
    r#"{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":#}}]}}"#,
    r#"{"index":0,"delta":{"tool_calls":[{"function":{"name":"f","arguments":#}}]}}"#,
    r#"{"index":0,"delta":{"function_call":{"name":#}}}"#,
    r#"{"index":0,"delta":{"audio":{"data":#}}}"#,
    r#"{"index":0,"text":#,"finish_reason":null}"#,
    r#"{"index":#,"text":"x","finish_reason":#}"#,
    r#"{"index":0,"message":{"content":#}}"#,
];

/// Events around a choice, which is the byte `@`.
const ENVELOPES: [&str; 9] = [
    r#"{"id":"r","created":1,"model":"m","choices":[@]}"#,
    r#"{"id":"r","created":2,"model":"m","choices":[@],"usage":null}"#,
    r#"{"choices":[@],"usage":{"prompt_tokens":1,"completion_tokens":2},"model":"other"}"#,
    r#"{"choices":[@,@]}"#,
    r#"{"choices":@}"#,
    r#" {"choices": [ @ ] } "#,
    r#"{"error":0,"choices":[@]}"#,
    r#"{"type":"error","choices":[@]}"#,
    r#"{"choices":[@]"#,
];

/// The bytes before and after the data of an event.
const LINES: [(&str, &str); 10] = [
    ("data: ", "\n\n"),
    ("data: ", "\n\n"),
    ("data:", "\r\n\r\n"),
    ("data: ", " \r\r"),
    ("id: 1\ndata: ", "\nretry: 5\n\n"),
    (": comment\ndata: ", "\n\n"),
    ("event: message\ndata: ", "\n\n"),
    ("event: ping\ndata: ", "\n\n"),
    ("event: error\ndata: ", "\n\n"),
    ("data: {}\n\ndata: ", "\ndata:\n\n"),
];

/// Events without the text of a model.
const SPECIAL: [&[u8]; 5] = [
    b"data: [DONE]\n\n",
    b": ping\n\n",
    b"data: {\"choices\":[],\"usage\":{\"completion_tokens\":7}}\n\n",
    b"data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"length\"}]}\n\n",
    b"data: x\n\n",
];

fn filled(envelope: &str, choice: &str, value: &[u8]) -> Vec<u8> {
    let json = envelope.replace('@', choice);
    json.as_bytes().split(|byte| *byte == b'#').collect::<Vec<_>>().join(value)
}

/// Prefers plain text around plain JSON, as in real streams, so that many events fit.
fn any_value() -> impl Strategy<Value = &'static [u8]> {
    prop_oneof![select(&VALUES[..4]), select(&VALUES[..])]
}

fn any_choice() -> impl Strategy<Value = &'static str> {
    prop_oneof![2 => select(&CHOICES[..2]), 1 => select(&CHOICES[..])]
}

fn any_envelope() -> impl Strategy<Value = &'static str> {
    prop_oneof![2 => select(&ENVELOPES[..2]), 1 => select(&ENVELOPES[..])]
}

/// One event of a stream, with its line ends, or bytes between events.
fn any_event() -> impl Strategy<Value = Vec<u8>> {
    let json = (any_envelope(), any_choice(), any_value())
        .prop_map(|(envelope, choice, value)| filled(envelope, choice, value));
    let (lines, special) = (select(&LINES[..]), select(&SPECIAL[..]));
    prop_oneof![
        9 => (lines, json).prop_map(|((start, end), json)| {
            [start.as_bytes(), &json, end.as_bytes()].concat()
        }),
        1 => special.prop_map(<[u8]>::to_vec),
    ]
}

fn any_terminal() -> impl Strategy<Value = Terminal> {
    select(&[Terminal::FinishReason, Terminal::Done, Terminal::Eof][..])
}

/// Everything that a caller of the reader can see.
#[derive(Debug, PartialEq)]
struct Reading {
    texts: Vec<(u32, Channel, String)>,
    reads: Vec<(Progress, bool)>,
    end: StreamEnd,
    text_bytes: [u64; Channel::ALL.len()],
}

fn read<'a>(mut reader: StreamReader, reads: impl IntoIterator<Item = &'a [u8]>) -> Reading {
    let mut texts = Vec::new();
    let mut sink = |choice, channel, text: &str| texts.push((choice, channel, text.to_owned()));
    let mut progress = Vec::new();
    for bytes in reads {
        progress.push((reader.read(bytes, &mut sink), reader.is_complete()));
    }
    let end = reader.end(&mut sink);
    let text_bytes = Channel::ALL.map(|channel| reader.text_bytes(channel));
    Reading { texts, reads: progress, end, text_bytes }
}

fn reader(api: Api, terminal: Terminal) -> StreamReader {
    StreamReader::new(api, terminal, ResponseLimits::default()).with_requested_model("m")
}

/// Reads a stream with and without patterns. The results must be equal.
fn assert_equal_readings(api: Api, terminal: Terminal, reads: &[&[u8]]) {
    let with_patterns = read(reader(api, terminal), reads.iter().copied());
    let parsed = reader(api, terminal).with_every_event_parsed();
    assert_eq!(with_patterns, read(parsed, reads.iter().copied()), "{reads:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn an_event_that_fits_is_decoded_like_any_other_event(
        api in select(&Api::ALL[..]),
        (envelope, choice, value) in (any_envelope(), any_choice(), any_value()),
        (other, random) in (any_value(), prop::collection::vec(any::<u8>(), 0..6)),
    ) {
        let first = filled(envelope, choice, value);
        let pattern = pattern_of(api, &first);
        let quoted = [b"\"", &random[..], b"\""].concat();
        let others = [filled(envelope, choice, other), filled(envelope, choice, &quoted)];
        for second in &others {
            let Some(fitting) = pattern.text_of(event(second)) else { continue };
            let model = api.decode_event(event(&first), &mut discard_text).unwrap().model;
            let mut texts = Vec::new();
            let decoded = api.decode_event(event(second), &mut |choice, channel, text: &str| {
                texts.push((choice, channel, text.to_owned()));
            });
            let (choice, channel, text) = fitting;
            prop_assert_eq!(texts, [(choice, channel, text.to_owned())]);
            let expected = DecodedEvent { has_text: true, model, ..DecodedEvent::default() };
            // A reader that keeps the answer learns no pattern from a tool call.
            let decoded = DecodedEvent { tool_calls: Vec::new(), ..decoded.unwrap() };
            prop_assert_eq!(decoded, expected);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_stream_has_the_same_result_if_every_event_is_parsed(
        api in select(&Api::ALL[..]),
        terminal in any_terminal(),
        events in prop::collection::vec(any_event(), 1..12),
        cuts in prop::collection::vec(any::<Index>(), 0..8),
    ) {
        let bytes = events.concat();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let reads: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        assert_equal_readings(api, terminal, &reads);
        assert_equal_readings(api, terminal, &events.iter().map(Vec::as_slice).collect::<Vec<_>>());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_stream_that_is_split_anywhere_has_the_same_result_if_every_event_is_parsed(
        terminal in any_terminal(),
        events in prop::collection::vec(any_event(), 1..5),
    ) {
        let bytes = events.concat();
        for at in 0..=bytes.len() {
            assert_equal_readings(Api::Chat, terminal, &[&bytes[..at], &bytes[at..]]);
        }
        assert_equal_readings(Api::Chat, terminal, &bytes.chunks(1).collect::<Vec<_>>());
    }
}
