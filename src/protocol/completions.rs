//! The completions API. Requests contain one text (`prompt`) instead of messages. Responses differ
//! from chat only in the text field (`choices[].text`), so the decoder of chat reads both.

use serde_json::Value;

use super::prompt::{Prompt, Role};
use super::{Dialect, RequestParameters, openai_body};

pub(super) use super::chat::{END_MARKER, decode_body, decode_event};

/// Relative to the base URL.
pub const PATH: &str = "completions";

pub(super) fn encode(
    dialect: &Dialect,
    model: &str,
    parameters: &RequestParameters,
    prompt: &Prompt<'_>,
) -> Vec<u8> {
    let text = prompt.content.messages(parameters).map(|messages| prompt_field(&messages));
    openai_body::encode(dialect, model, parameters, prompt, text)
}

/// Joins the messages into one text. Their roles are lost, because only a chat template could
/// express them.
fn prompt_field(messages: &[(Role, &str)]) -> (&'static str, Value) {
    let texts: Vec<&str> = messages.iter().map(|(_, text)| *text).collect();
    ("prompt", texts.join("\n\n").into())
}
