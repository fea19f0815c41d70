//! The completions API: one prompt as text instead of messages.
//!
//! Its responses have the envelope of chat completions. Only the text is in another field
//! (`choices[].text`), and the decoder of chat reads that field too.

use serde_json::Value;

use super::prompt::{Prompt, Role};
use super::{Dialect, RequestParameters, openai_body};

pub(super) use super::chat::{END_MARKER, decode_body, decode_event};

/// The path of the endpoint, relative to the base URL.
pub const PATH: &str = "completions";

/// Encodes the body of a request.
pub(super) fn encode(
    dialect: &Dialect,
    model: &str,
    parameters: &RequestParameters,
    prompt: &Prompt<'_>,
) -> Vec<u8> {
    let text = prompt.content.messages(parameters).map(|messages| prompt_field(&messages));
    openai_body::encode(dialect, model, parameters, prompt, text)
}

/// Returns the messages as the single text that this API takes. Roles are lost: only a chat
/// template could express them.
fn prompt_field(messages: &[(Role, &str)]) -> (&'static str, Value) {
    let texts: Vec<&str> = messages.iter().map(|(_, text)| *text).collect();
    ("prompt", texts.join("\n\n").into())
}
