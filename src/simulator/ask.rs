//! What a request for text asks for, read from its body and judged as a strict server would.

use ::http::StatusCode;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::SimulatorOptions;
use super::answer::ApiError;
use super::fate::Fate;

/// Tokens that a prompt and its answer may have together, as the model's context allows.
pub(super) const CONTEXT: u32 = 131_072;

/// The most tokens of a completion that sets no bound, as `OpenAI` and vLLM have it.
const SHORT: u64 = 16;

/// By which of its two ways a text is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Api {
    /// A turn in a conversation.
    Chat,
    /// The rest of a text.
    Completions,
}

/// What one request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    /// What was asked.
    pub(super) api: Api,
    /// An event stream rather than one object.
    pub(super) stream: bool,
    /// A last chunk with the usage.
    pub(super) include_usage: bool,
    /// Estimated length of the prompt.
    pub(super) prompt_tokens: u32,
    /// The most tokens the answer may have.
    max_tokens: Option<u32>,
    /// Whether the answer goes on to `max_tokens` whatever it says.
    ignore_eos: bool,
}

/// Why an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finish {
    /// It had come to its end.
    Stop,
    /// The token limit cut it.
    Length,
}

/// How long an answer will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outline {
    /// Reasoning tokens, which come first.
    pub(super) reasoning: u32,
    /// All tokens, the reasoning among them.
    pub(super) total: u32,
    /// Why it ends there.
    pub(super) finish: Finish,
}

impl Api {
    fn as_str(self) -> &'static str {
        match self {
            Api::Chat => "chat",
            Api::Completions => "completions",
        }
    }
}

impl Ask {
    /// Reads a body.
    ///
    /// # Errors
    /// The answer that a body gets which this endpoint cannot serve.
    pub(super) fn read(api: Api, body: &[u8], model: &str) -> Result<Ask, ApiError> {
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
        let prompt_tokens = match api {
            Api::Chat if document.messages.is_empty() => {
                return invalid("`messages` must hold at least one message");
            }
            Api::Chat => estimate_tokens(document.messages.iter().flat_map(Message::texts)),
            Api::Completions => match document.prompt.as_ref().map(Prompt::tokens) {
                Some(Some(tokens)) => tokens,
                Some(None) => {
                    return invalid("`prompt` must be one prompt: each is an answer of its own");
                }
                None => return invalid("`prompt` is missing"),
            },
        };
        // Both change what an answer is made of, and a client that asked would read it wrongly.
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
            Api::Completions => document.max_tokens.or(Some(SHORT)),
        };
        if max_tokens == Some(0) {
            return invalid("`max_tokens` must be at least 1");
        }
        let total = u64::from(prompt_tokens).saturating_add(max_tokens.unwrap_or(1));
        if total > u64::from(CONTEXT) {
            return Err(ApiError {
                code: Some("context_length_exceeded"),
                ..ApiError::invalid_request(format!(
                    "This model's maximum context length is {CONTEXT} tokens; the prompt has \
                     {prompt_tokens} and `max_tokens` asks for {}.",
                    max_tokens.unwrap_or(1)
                ))
            });
        }
        Ok(Ask {
            api,
            stream,
            include_usage: document.stream_options.is_some_and(|o| o.include_usage == Some(true)),
            prompt_tokens,
            // Below CONTEXT, as was just seen.
            max_tokens: max_tokens.and_then(|n| u32::try_from(n).ok()),
            ignore_eos: document.ignore_eos.unwrap_or(false),
        })
    }

    /// How long the answer will be.
    pub(super) fn outline(&self, settings: &SimulatorOptions, fate: &Fate) -> Outline {
        // It is the template of a conversation that makes a model reason.
        let reasoning = if self.api == Api::Chat { settings.reasoning_tokens } else { 0 };
        let natural = reasoning.saturating_add(fate.natural_length);
        let limit = self.max_tokens.unwrap_or(CONTEXT - self.prompt_tokens);
        let exact = self.ignore_eos && self.max_tokens.is_some();
        let (total, finish) = if exact || limit < natural {
            (limit, Finish::Length)
        } else {
            (natural, Finish::Stop)
        };
        Outline { reasoning: reasoning.min(total), total, finish }
    }
}

/// The part of a body that matters here; temperature, stop sequences and the like are accepted
/// and make no difference.
#[derive(Deserialize)]
struct Document {
    model: Option<String>,
    #[serde(default)]
    messages: Vec<Message>,
    prompt: Option<Prompt>,
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
    // Never read, but a message without a role is a client's mistake worth hearing about.
    #[serde(rename = "role")]
    _role: String,
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
    fn texts(&self) -> impl Iterator<Item = &String> {
        let (text, parts) = match &self.content {
            None => (None, &[][..]),
            Some(Content::Text(text)) => (Some(text), &[][..]),
            Some(Content::Parts(parts)) => (None, parts.as_slice()),
        };
        text.into_iter().chain(parts.iter().filter_map(|part| part.text.as_ref()))
    }
}

/// A text to go on with, or the numbers of its tokens; a list of one is that one.
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
    /// Its length; nothing where it is not one prompt.
    fn tokens(&self) -> Option<u32> {
        let counted = |tokens: &Vec<u32>| u32::try_from(tokens.len()).unwrap_or(u32::MAX);
        match self {
            Prompt::Text(text) => Some(estimate_tokens(std::iter::once(text))),
            Prompt::Tokens(tokens) if !tokens.is_empty() => Some(counted(tokens)),
            Prompt::Texts(texts) if texts.len() == 1 => Some(estimate_tokens(texts.iter())),
            Prompt::TokenLists(lists) => match lists.as_slice() {
                [tokens] if !tokens.is_empty() => Some(counted(tokens)),
                _ => None,
            },
            Prompt::Tokens(_) | Prompt::Texts(_) => None,
        }
    }
}

/// About four characters a token, and at least one.
fn estimate_tokens<'a>(texts: impl Iterator<Item = &'a String>) -> u32 {
    let characters: usize = texts.map(|text| text.chars().count()).sum();
    u32::try_from(characters.div_ceil(4)).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Ask, ApiError> {
        Ask::read(Api::Chat, body.as_bytes(), "m")
    }

    fn read_completion(body: &str) -> Result<Ask, ApiError> {
        Ask::read(Api::Completions, body.as_bytes(), "m")
    }

    fn outline(body: &str, reasoning_tokens: u32) -> (Outline, u32) {
        let settings = SimulatorOptions { reasoning_tokens, ..SimulatorOptions::default() };
        let fate = Fate::draw(&settings, 0);
        (read(body).unwrap().outline(&settings, &fate), fate.natural_length)
    }

    #[test]
    fn a_prompt_has_a_token_for_every_four_characters_begun() {
        let tokens = |messages: &str| {
            read(&format!(r#"{{"messages":[{messages}]}}"#)).unwrap().prompt_tokens
        };
        assert_eq!(tokens(r#"{"role":"user","content":""}"#), 1);
        assert_eq!(tokens(r#"{"role":"assistant","content":null}"#), 1);
        assert_eq!(tokens(r#"{"role":"user","content":"12345"}"#), 2);
        assert_eq!(tokens(r#"{"role":"user","content":"ééüüéééé"}"#), 2);
        assert_eq!(
            tokens(
                r#"{"role":"system","content":"1234"},
                   {"role":"user","content":[{"type":"text","text":"5678"},{"type":"image_url"}]}"#
            ),
            2
        );
    }

    #[test]
    fn what_cannot_be_served_is_refused_with_its_reason() {
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
            (format!(r#"{{"max_tokens":{CONTEXT},{message}}}"#), 400, "context length"),
            (format!(r#"{{"stream_options":{{}},{message}}}"#), 400, "stream_options"),
        ] {
            let error = read(&body).unwrap_err();
            assert_eq!(error.status.as_u16(), status, "{body}");
            assert!(error.message.contains(word), "{body}: {}", error.message);
        }
    }

    #[test]
    fn a_completion_goes_on_with_one_prompt_in_any_of_its_forms() {
        let tokens = |prompt: &str| {
            read_completion(&format!(r#"{{"prompt":{prompt}}}"#)).unwrap().prompt_tokens
        };
        assert_eq!(tokens(r#"[""]"#), 1);
        assert_eq!(tokens(r#""12345""#), 2);
        assert_eq!(tokens(r#"["12345"]"#), 2);
        assert_eq!(tokens("[17,4,2]"), 3);
        assert_eq!(tokens("[[17,4,2]]"), 3);
        for (body, word) in [
            ("{}", "`prompt` is missing"),
            (r#"{"messages":[{"role":"user","content":"x"}]}"#, "`prompt` is missing"),
            (r#"{"prompt":[]}"#, "one prompt"),
            (r#"{"prompt":["a","b"]}"#, "one prompt"),
            (r#"{"prompt":[[1],[2]]}"#, "one prompt"),
            (r#"{"prompt":{}}"#, "must be a text"),
            (r#"{"prompt":"a","echo":true}"#, "`echo`"),
            (r#"{"prompt":"a","logprobs":0}"#, "`logprobs`"),
            (r#"{"prompt":"a","n":2}"#, "`n`"),
            (r#"{"prompt":"a","max_tokens":0}"#, "max_tokens"),
            ("[]", "not a completions request"),
        ] {
            let error = read_completion(body).unwrap_err();
            assert_eq!(error.status.as_u16(), 400, "{body}");
            assert!(error.message.contains(word), "{body}: {}", error.message);
        }
        assert!(read_completion(r#"{"prompt":"a","echo":false,"logprobs":null}"#).is_ok());
    }

    #[test]
    fn a_completion_is_short_unless_it_says_otherwise_and_does_not_reason() {
        let settings = SimulatorOptions { reasoning_tokens: 20, ..SimulatorOptions::default() };
        let fate = Fate::draw(&settings, 0);
        let outline = |body: &str| read_completion(body).unwrap().outline(&settings, &fate);
        let expected = Outline { reasoning: 0, total: 16, finish: Finish::Length };
        assert_eq!(outline(r#"{"prompt":"a"}"#), expected);
        let long = outline(r#"{"prompt":"a","max_tokens":900}"#);
        assert_eq!(
            long,
            Outline { reasoning: 0, total: fate.natural_length, finish: Finish::Stop }
        );
    }

    #[test]
    fn sampling_parameters_make_no_difference() {
        let ask = read(
            r#"{"model":"m","messages":[{"role":"user","content":"x"}],"temperature":0.5,"stop":["x"],
                "top_p":1,"seed":3,"stream":true,"stream_options":{"include_usage":true},"user":null}"#,
        )
        .unwrap();
        assert!(ask.stream && ask.include_usage);
        assert_eq!(ask.max_tokens, None);
    }

    #[test]
    fn an_answer_ends_by_itself_or_at_the_limit() {
        let message = r#""messages":[{"role":"user","content":"x"}]"#;
        let (free, natural) = outline(&format!("{{{message}}}"), 0);
        assert_eq!(free, Outline { reasoning: 0, total: natural, finish: Finish::Stop });
        let (cut, _) = outline(&format!(r#"{{{message},"max_tokens":5}}"#), 0);
        assert_eq!(cut, Outline { reasoning: 0, total: 5, finish: Finish::Length });
        let (newer_name_wins, _) =
            outline(&format!(r#"{{{message},"max_tokens":5,"max_completion_tokens":6}}"#), 0);
        assert_eq!(newer_name_wins.total, 6);
        let (long, _) = outline(&format!(r#"{{{message},"max_tokens":900,"ignore_eos":true}}"#), 0);
        assert_eq!(long, Outline { reasoning: 0, total: 900, finish: Finish::Length });
        let (unlimited, natural) = outline(&format!(r#"{{{message},"ignore_eos":true}}"#), 0);
        assert_eq!((unlimited.total, unlimited.finish), (natural, Finish::Stop));
    }

    #[test]
    fn reasoning_counts_towards_the_limit() {
        let message = r#""messages":[{"role":"user","content":"x"}]"#;
        let (free, natural) = outline(&format!("{{{message}}}"), 20);
        assert_eq!((free.reasoning, free.total), (20, 20 + natural));
        let (cut, _) = outline(&format!(r#"{{{message},"max_tokens":7}}"#), 20);
        assert_eq!(cut, Outline { reasoning: 7, total: 7, finish: Finish::Length });
        let (bounded, _) = outline(&format!("{{{message}}}"), u32::MAX);
        assert_eq!((bounded.total, bounded.finish), (CONTEXT - 1, Finish::Length));
    }
}
