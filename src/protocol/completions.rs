//! The completions API. Its requests contain one text (`prompt`) instead of messages.
//!
//! Its responses differ from the responses of the chat API only in the field that contains the text
//! (`choices[].text`). The decoder of the chat API reads this field too, so this module uses that
//! decoder.

use serde_json::Value;

use super::prompt::{Prompt, Role};
use super::{Dialect, RequestParameters, openai_body};

pub(super) use super::chat::{END_MARKER, decode_body, decode_event};

/// The path of the endpoint, relative to the base URL.
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

/// Joins the messages to the single text that this API accepts. The roles of the messages are lost,
/// because only the chat template of a model could express them.
fn prompt_field(messages: &[(Role, &str)]) -> (&'static str, Value) {
    let texts: Vec<&str> = messages.iter().map(|(_, text)| *text).collect();
    ("prompt", texts.join("\n\n").into())
}
