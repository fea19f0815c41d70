//! Parses request bodies, and rejects the same mistakes as a strict server.

use ::http::StatusCode;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::SimulatorOptions;
use super::api::{Api, ApiError, FinishReason, OutputLength};
use super::embeddings::VectorForm;
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
    /// Empty if the API generates text.
    pub(super) vectors: VectorForm,
    max_tokens: Option<u32>,
    /// True if the output must have exactly `max_tokens` tokens.
    ignore_eos: bool,
}

impl Document {
    /// Returns the tokens of the prompt, and the vectors that the API generates from it.
    ///
    /// # Errors
    /// The request has no valid prompt.
    fn prompt(&self, api: Api) -> Result<(PromptTokens, VectorForm), ApiError> {
        let invalid = |message: &str| Err(ApiError::invalid_request(message.to_owned()));
        let mut prompt = PromptTokens::new(self.cache_salt.as_deref());
        let mut vectors = VectorForm::default();
        match api {
            Api::Chat | Api::Messages if self.messages.is_empty() => {
                return invalid("`messages` must have at least one message");
            }
            Api::Chat | Api::Messages => {
                if let Some(system) = self.system.as_ref().filter(|_| api == Api::Messages) {
                    prompt.begin_message("system");
                    system.push_to(&mut prompt);
                }
                for message in &self.messages {
                    message.push_to(&mut prompt);
                }
            }
            Api::Responses => {
                let input = self.input.clone().unwrap_or_default();
                let input: Input = serde_json::from_value(input).map_err(|_| {
                    ApiError::invalid_request("`input` must be a text or a list of messages")
                })?;
                if let Some(instructions) = &self.instructions {
                    prompt.begin_message("system");
                    prompt.push_text(instructions);
                }
                input.push_to(&mut prompt);
            }
            Api::Embeddings => {
                let Some(input) = &self.input else { return invalid("`input` is missing") };
                let encoding = self.encoding_format.as_deref();
                let form = VectorForm::new(input, self.dimensions, encoding);
                let (form, inputs) = form.map_err(ApiError::invalid_request)?;
                vectors = form;
                for input in &inputs {
                    push_input(input, &mut prompt);
                }
            }
            Api::Completions => match self.prompt.as_ref().map(|p| p.push_to(&mut prompt)) {
                Some(true) => {}
                Some(false) => {
                    return invalid("`prompt` must have exactly one prompt");
                }
                None => return invalid("`prompt` is missing"),
            },
        }
        Ok((prompt, vectors))
    }
}

impl TextRequest {
    /// # Errors
    /// The simulator cannot serve the request. The error is the response.
    pub(super) fn parse(api: Api, body: &[u8], model: &str) -> Result<TextRequest, ApiError> {
        let document: Document = serde_json::from_slice(body).map_err(|e| {
            ApiError::invalid_request(format!("the body is not a {} request: {e}", api.as_str()))
        })?;
        if let Some(unknown) = document.model.as_deref().filter(|name| *name != model) {
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
        let (prompt, vectors) = document.prompt(api)?;
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
            Api::Responses => document.max_output_tokens,
            Api::Messages if document.max_tokens.is_none() => {
                return invalid("`max_tokens` is missing");
            }
            Api::Messages => document.max_tokens,
            Api::Embeddings => Some(1),
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
            stream: stream && api != Api::Embeddings,
            include_usage: document.stream_options.is_some_and(|o| o.include_usage == Some(true)),
            prompt,
            vectors,
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
            Api::Chat | Api::Responses | Api::Messages => options.reasoning_tokens,
            Api::Completions => 0,
            Api::Embeddings => {
                return OutputLength { reasoning: 0, total: 0, finish_reason: FinishReason::Stop };
            }
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
    /// Its forms depend on the API.
    input: Option<Value>,
    instructions: Option<String>,
    system: Option<Content>,
    dimensions: Option<u32>,
    encoding_format: Option<String>,
    /// A field of vLLM.
    cache_salt: Option<String>,
    echo: Option<bool>,
    logprobs: Option<IgnoredAny>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    max_output_tokens: Option<u64>,
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
        if let Some(content) = &self.content {
            content.push_to(prompt);
        }
    }
}

impl Content {
    fn push_to(&self, prompt: &mut PromptTokens) {
        match self {
            Content::Text(text) => prompt.push_text(text),
            Content::Parts(parts) => {
                parts
                    .iter()
                    .filter_map(|part| part.text.as_ref())
                    .for_each(|text| prompt.push_text(text));
            }
        }
    }
}

/// The `input` of the Responses API.
#[derive(Deserialize)]
#[serde(untagged)]
enum Input {
    Text(String),
    Messages(Vec<Message>),
}

impl Input {
    fn push_to(&self, prompt: &mut PromptTokens) {
        match self {
            Input::Text(text) => {
                prompt.begin_message("user");
                prompt.push_text(text);
            }
            Input::Messages(messages) => {
                for message in messages {
                    message.push_to(prompt);
                }
            }
        }
    }
}

/// Adds an input of the embeddings API: a text or a list of token ids.
fn push_input(input: &Value, prompt: &mut PromptTokens) {
    prompt.begin_message("input");
    match input {
        Value::String(text) => prompt.push_text(text),
        Value::Array(ids) => {
            let ids = ids.iter().filter_map(|id| u32::try_from(id.as_u64()?).ok());
            ids.for_each(|id| prompt.push_id(id));
        }
        _ => {}
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
mod tests;
