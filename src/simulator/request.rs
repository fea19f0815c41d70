//! Parses request bodies, and rejects the same mistakes as a strict server.

use ::http::StatusCode;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::SimulatorOptions;
use super::api::{Api, ApiError, FinishReason, OutputLength};
use super::prefix_cache::PromptTokens;
use super::variation::Variation;

/// The highest number of tokens of a prompt and its output together.
pub(super) const CONTEXT_LENGTH: u32 = 131_072;

/// The token limit of a completion without `max_tokens`, as in `OpenAI` and vLLM.
const DEFAULT_COMPLETION_TOKENS: u64 = 16;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TextRequest {
    pub(super) api: Api,
    pub(super) stream: bool,
    /// True if the client requests usage in a last chunk.
    pub(super) include_usage: bool,
    pub(super) prompt: PromptTokens,
    max_tokens: Option<u32>,
    /// True if the output must have exactly `max_tokens` tokens.
    ignore_eos: bool,
}

impl TextRequest {
    /// # Errors
    /// The simulator cannot serve the request. The error is the response.
    pub(super) fn parse(api: Api, body: &[u8], model: &str) -> Result<TextRequest, ApiError> {
        let document: Document = serde_json::from_slice(body).map_err(|e| {
            ApiError::invalid_request(format!("the body is not a {} request: {e}", api.as_str()))
        })?;
        if let Some(unknown) = document.model.filter(|name| name != model) {
            return Err(ApiError {
                code: Some("model_not_found"),
                ..ApiError::new(
                    StatusCode::NOT_FOUND,
                    "invalid_request_error",
                    format!("The model `{unknown}` does not exist."),
                )
            });
        }
        let invalid = |message: &str| Err(ApiError::invalid_request(message.to_owned()));
        let mut prompt = PromptTokens::new(document.cache_salt.as_deref());
        match api {
            Api::Chat if document.messages.is_empty() => {
                return invalid("`messages` must have at least one message");
            }
            Api::Chat => document.messages.iter().for_each(|message| message.push_to(&mut prompt)),
            Api::Completions => match document.prompt.as_ref().map(|p| p.push_to(&mut prompt)) {
                Some(true) => {}
                Some(false) => {
                    return invalid("`prompt` must have exactly one prompt");
                }
                None => return invalid("`prompt` is missing"),
            },
        }
        let prompt_tokens = prompt.count();
        // These settings change the content of a response, so the simulator must not ignore them.
        if api == Api::Completions && (document.echo == Some(true) || document.logprobs.is_some()) {
            return invalid("`echo` and `logprobs` are not supported");
        }
        if document.n.is_some_and(|n| n != 1) {
            return invalid("`n` must be 1");
        }
        let stream = document.stream.unwrap_or(false);
        if document.stream_options.is_some() && !stream {
            return invalid("`stream_options` is only allowed when `stream` is true");
        }
        let max_tokens = match api {
            Api::Chat => document.max_completion_tokens.or(document.max_tokens),
            Api::Completions => document.max_tokens.or(Some(DEFAULT_COMPLETION_TOKENS)),
        };
        if max_tokens == Some(0) {
            return invalid("`max_tokens` must be at least 1");
        }
        let total = u64::from(prompt_tokens).saturating_add(max_tokens.unwrap_or(1));
        if total > u64::from(CONTEXT_LENGTH) {
            return Err(ApiError {
                code: Some("context_length_exceeded"),
                ..ApiError::invalid_request(format!(
                    "This model's maximum context length is {CONTEXT_LENGTH} tokens; the prompt has \
                     {prompt_tokens} and `max_tokens` asks for {}.",
                    max_tokens.unwrap_or(1)
                ))
            });
        }
        Ok(TextRequest {
            api,
            stream,
            include_usage: document.stream_options.is_some_and(|o| o.include_usage == Some(true)),
            prompt,
            // At most CONTEXT_LENGTH, by the check above.
            max_tokens: max_tokens.and_then(|n| u32::try_from(n).ok()),
            ignore_eos: document.ignore_eos.unwrap_or(false),
        })
    }

    pub(super) fn output_length(
        &self,
        options: &SimulatorOptions,
        variation: &Variation,
    ) -> OutputLength {
        // The chat template makes a model reason, and a completion does not use it.
        let reasoning = match self.api {
            Api::Chat => options.reasoning_tokens,
            Api::Completions => 0,
        };
        let natural = reasoning.saturating_add(variation.natural_length);
        let limit = self.max_tokens.unwrap_or(CONTEXT_LENGTH - self.prompt.count());
        let exact = self.ignore_eos && self.max_tokens.is_some();
        let (total, finish_reason) = if exact || limit < natural {
            (limit, FinishReason::Length)
        } else {
            (natural, FinishReason::Stop)
        };
        OutputLength { reasoning: reasoning.min(total), total, finish_reason }
    }
}

/// The parts of a body that have an effect. The simulator ignores the others, such as the
/// temperature.
#[derive(Deserialize)]
struct Document {
    model: Option<String>,
    #[serde(default)]
    messages: Vec<Message>,
    prompt: Option<Prompt>,
    /// A field of vLLM.
    cache_salt: Option<String>,
    echo: Option<bool>,
    logprobs: Option<IgnoredAny>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    ignore_eos: Option<bool>,
    n: Option<u64>,
}

#[derive(Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

#[derive(Deserialize)]
struct Message {
    role: String,
    content: Option<Content>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Deserialize)]
struct Part {
    text: Option<String>,
}

impl Message {
    fn push_to(&self, prompt: &mut PromptTokens) {
        prompt.begin_message(&self.role);
        match &self.content {
            None => {}
            Some(Content::Text(text)) => prompt.push_text(text),
            Some(Content::Parts(parts)) => {
                parts
                    .iter()
                    .filter_map(|part| part.text.as_ref())
                    .for_each(|t| prompt.push_text(t));
            }
        }
    }
}

/// A text, a list of token ids, or a list with one of these as its only element.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "`prompt` must be a text, a list of tokens, or a list of one of these"
)]
enum Prompt {
    Text(String),
    Tokens(Vec<u32>),
    Texts(Vec<String>),
    TokenLists(Vec<Vec<u32>>),
}

impl Prompt {
    /// Returns false unless there is exactly one prompt.
    fn push_to(&self, prompt: &mut PromptTokens) -> bool {
        let mut push_ids = |ids: &[u32]| {
            for id in ids {
                prompt.push_id(*id);
            }
            !ids.is_empty()
        };
        match self {
            Prompt::Tokens(ids) => push_ids(ids),
            Prompt::TokenLists(lists) => match lists.as_slice() {
                [ids] => push_ids(ids),
                _ => false,
            },
            Prompt::Text(text) => {
                prompt.push_text(text);
                true
            }
            Prompt::Texts(texts) => match texts.as_slice() {
                [text] => {
                    prompt.push_text(text);
                    true
                }
                _ => false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
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
        let tokens = |messages: &str| {
            parse(&format!(r#"{{"messages":[{messages}]}}"#)).unwrap().prompt.count()
        };
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
        let output =
            |body: &str| parse_completion(body).unwrap().output_length(&options, &variation);
        let expected =
            OutputLength { reasoning: 0, total: 16, finish_reason: FinishReason::Length };
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
        assert_eq!(
            cut,
            OutputLength { reasoning: 0, total: 5, finish_reason: FinishReason::Length }
        );
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
        assert_eq!(
            cut,
            OutputLength { reasoning: 7, total: 7, finish_reason: FinishReason::Length }
        );
        let (bounded, _) = output(&format!("{{{message}}}"), u32::MAX);
        assert_eq!(
            (bounded.total, bounded.finish_reason),
            (CONTEXT_LENGTH - 1, FinishReason::Length)
        );
    }
}
