//! Each mistake of a client has its refusal, and each form of a prompt its tokens.

use super::*;

fn parse(body: &str) -> Result<TextRequest, ApiError> {
    TextRequest::parse(Api::Chat, body.as_bytes(), "m")
}

fn parse_completion(body: &str) -> Result<TextRequest, ApiError> {
    TextRequest::parse(Api::Completions, body.as_bytes(), "m")
}

fn output(body: &str, reasoning_tokens: u32) -> (OutputLength, u32) {
    let options = SimulatorOptions { reasoning_tokens, ..SimulatorOptions::default() };
    let variation = Variation::draw(&options, 0);
    (parse(body).unwrap().output_length(&options, &variation), variation.natural_length)
}

#[test]
fn all_texts_of_a_conversation_count_and_a_prompt_has_at_least_one_token() {
    let tokens =
        |messages: &str| parse(&format!(r#"{{"messages":[{messages}]}}"#)).unwrap().prompt.count();
    assert_eq!(tokens(r#"{"role":"user","content":""}"#), 1);
    assert_eq!(tokens(r#"{"role":"assistant","content":null}"#), 1);
    assert_eq!(tokens(r#"{"role":"user","content":"The old man."}"#), 4);
    assert_eq!(
        tokens(
            r#"{"role":"system","content":"Be brief."},
               {"role":"user","content":[{"type":"text","text":"Why?"},{"type":"image_url"}]}"#
        ),
        5
    );
}

#[test]
fn an_invalid_request_is_refused_with_the_reason() {
    let message = r#""messages":[{"role":"user","content":"x"}]"#;
    for (body, status, word) in [
        ("{".to_owned(), 400, "EOF"),
        ("[]".to_owned(), 400, "not a chat request"),
        ("{}".to_owned(), 400, "messages"),
        (r#"{"messages":[]}"#.to_owned(), 400, "messages"),
        (r#"{"messages":"hello"}"#.to_owned(), 400, "not a chat request"),
        (r#"{"messages":[{"content":"x"}]}"#.to_owned(), 400, "role"),
        (format!(r#"{{"model":"other",{message}}}"#), 404, "other"),
        (format!(r#"{{"n":2,{message}}}"#), 400, "`n`"),
        (format!(r#"{{"max_tokens":0,{message}}}"#), 400, "max_tokens"),
        (format!(r#"{{"max_tokens":-1,{message}}}"#), 400, "-1"),
        (format!(r#"{{"max_tokens":{},{message}}}"#, u64::MAX), 400, "context length"),
        (format!(r#"{{"max_tokens":{CONTEXT_LENGTH},{message}}}"#), 400, "context length"),
        (format!(r#"{{"stream_options":{{}},{message}}}"#), 400, "stream_options"),
    ] {
        let error = parse(&body).unwrap_err();
        assert_eq!(error.status.as_u16(), status, "{body}");
        assert!(error.message.contains(word), "{body}: {}", error.message);
    }
}

#[test]
fn a_completion_accepts_one_prompt_as_text_tokens_or_a_list() {
    let tokens = |prompt: &str| {
        parse_completion(&format!(r#"{{"prompt":{prompt}}}"#)).unwrap().prompt.count()
    };
    assert_eq!(tokens(r#"[""]"#), 1);
    assert_eq!(tokens(r#""Hi there""#), 2);
    assert_eq!(tokens(r#"["Hi there"]"#), 2);
    assert_eq!(tokens("[17,4,2]"), 3);
    assert_eq!(tokens("[[17,4,2]]"), 3);
    for (body, word) in [
        ("{}", "`prompt` is missing"),
        (r#"{"messages":[{"role":"user","content":"x"}]}"#, "`prompt` is missing"),
        (r#"{"prompt":[]}"#, "exactly one prompt"),
        (r#"{"prompt":["a","b"]}"#, "exactly one prompt"),
        (r#"{"prompt":[[1],[2]]}"#, "exactly one prompt"),
        (r#"{"prompt":{}}"#, "must be a text"),
        (r#"{"prompt":"a","echo":true}"#, "`echo`"),
        (r#"{"prompt":"a","logprobs":0}"#, "`logprobs`"),
        (r#"{"prompt":"a","n":2}"#, "`n`"),
        (r#"{"prompt":"a","max_tokens":0}"#, "max_tokens"),
        ("[]", "not a completions request"),
    ] {
        let error = parse_completion(body).unwrap_err();
        assert_eq!(error.status.as_u16(), 400, "{body}");
        assert!(error.message.contains(word), "{body}: {}", error.message);
    }
    assert!(parse_completion(r#"{"prompt":"a","echo":false,"logprobs":null}"#).is_ok());
}

#[test]
fn a_completion_is_short_by_default_and_does_not_reason() {
    let options = SimulatorOptions { reasoning_tokens: 20, ..SimulatorOptions::default() };
    let variation = Variation::draw(&options, 0);
    let output = |body: &str| parse_completion(body).unwrap().output_length(&options, &variation);
    let expected = OutputLength { reasoning: 0, total: 16, finish_reason: FinishReason::Length };
    assert_eq!(output(r#"{"prompt":"a"}"#), expected);
    let long = output(r#"{"prompt":"a","max_tokens":900}"#);
    assert_eq!(
        long,
        OutputLength {
            reasoning: 0,
            total: variation.natural_length,
            finish_reason: FinishReason::Stop
        }
    );
}

#[test]
fn sampling_parameters_are_ignored() {
    let request = parse(
        r#"{"model":"m","messages":[{"role":"user","content":"x"}],"temperature":0.5,"stop":["x"],
            "top_p":1,"seed":3,"stream":true,"stream_options":{"include_usage":true},"user":null}"#,
    )
    .unwrap();
    assert!(request.stream && request.include_usage);
    assert_eq!(request.max_tokens, None);
}

#[test]
fn an_output_ends_at_its_natural_length_or_at_the_token_limit() {
    let message = r#""messages":[{"role":"user","content":"x"}]"#;
    let (free, natural) = output(&format!("{{{message}}}"), 0);
    assert_eq!(
        free,
        OutputLength { reasoning: 0, total: natural, finish_reason: FinishReason::Stop }
    );
    let (cut, _) = output(&format!(r#"{{{message},"max_tokens":5}}"#), 0);
    assert_eq!(cut, OutputLength { reasoning: 0, total: 5, finish_reason: FinishReason::Length });
    let (newer_name_wins, _) =
        output(&format!(r#"{{{message},"max_tokens":5,"max_completion_tokens":6}}"#), 0);
    assert_eq!(newer_name_wins.total, 6);
    let (long, _) = output(&format!(r#"{{{message},"max_tokens":900,"ignore_eos":true}}"#), 0);
    assert_eq!(
        long,
        OutputLength { reasoning: 0, total: 900, finish_reason: FinishReason::Length }
    );
    let (unlimited, natural) = output(&format!(r#"{{{message},"ignore_eos":true}}"#), 0);
    assert_eq!((unlimited.total, unlimited.finish_reason), (natural, FinishReason::Stop));
}

#[test]
fn reasoning_tokens_count_towards_the_token_limit() {
    let message = r#""messages":[{"role":"user","content":"x"}]"#;
    let (free, natural) = output(&format!("{{{message}}}"), 20);
    assert_eq!((free.reasoning, free.total), (20, 20 + natural));
    let (cut, _) = output(&format!(r#"{{{message},"max_tokens":7}}"#), 20);
    assert_eq!(cut, OutputLength { reasoning: 7, total: 7, finish_reason: FinishReason::Length });
    let (bounded, _) = output(&format!("{{{message}}}"), u32::MAX);
    assert_eq!((bounded.total, bounded.finish_reason), (CONTEXT_LENGTH - 1, FinishReason::Length));
}

#[test]
fn the_responses_api_accepts_a_text_or_messages() {
    let parse = |body: &str| TextRequest::parse(Api::Responses, body.as_bytes(), "m");
    let tokens = |body: &str| parse(body).unwrap().prompt.count();
    assert_eq!(tokens(r#"{"input":"Hi there"}"#), 2);
    assert_eq!(tokens(r#"{"instructions":"Be","input":[{"role":"user","content":"Hi"}]}"#), 2);
    let limited = parse(r#"{"input":"a","max_output_tokens":5,"max_tokens":9,"store":false}"#);
    assert_eq!(limited.unwrap().max_tokens, Some(5));
    for body in ["{}", r#"{"input":7}"#, r#"{"input":[{"content":"x"}]}"#] {
        assert_eq!(parse(body).unwrap_err().status.as_u16(), 400, "{body}");
    }
}

#[test]
fn the_messages_api_requires_a_token_limit() {
    let parse = |body: &str| TextRequest::parse(Api::Messages, body.as_bytes(), "m");
    let message = r#""messages":[{"role":"user","content":"Hi"}]"#;
    let error = parse(&format!("{{{message}}}")).unwrap_err();
    assert!(error.message.contains("`max_tokens` is missing"), "{}", error.message);
    for system in [r#""Be""#, r#"[{"type":"text","text":"Be"}]"#] {
        let request = parse(&format!(r#"{{"max_tokens":5,"system":{system},{message}}}"#));
        assert_eq!(request.unwrap().prompt.count(), 2, "{system}");
    }
}

#[test]
fn a_request_for_vectors_has_input_tokens_only() {
    let parse = |body: &str| TextRequest::parse(Api::Embeddings, body.as_bytes(), "m");
    let request = parse(r#"{"input":["Hi there",[7]],"stream":true}"#);
    let error = request.as_ref().err().map(|error| error.message.clone());
    let request = request.unwrap_or_else(|_| panic!("{error:?}"));
    assert_eq!((request.prompt.count(), request.stream), (3, false));
    let options = SimulatorOptions { reasoning_tokens: 20, ..SimulatorOptions::default() };
    let variation = Variation::draw(&options, 0);
    assert_eq!(request.output_length(&options, &variation).total, 0);
    assert!(parse("{}").unwrap_err().message.contains("`input` is missing"));
}
