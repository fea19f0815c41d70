//! The completions API. Requests contain one text (`prompt`) instead of messages. Responses differ
//! from chat only in the text field (`choices[].text`), so the decoder of chat reads both.

use serde_json::Value;

use super::prompt::{Message, Prompt};
use super::{Dialect, RequestParameters, request_body};

pub(super) use super::chat::{END_MARKER, decode_body, decode_event};

/// Relative to the base URL.
pub const PATH: &str = "completions";

pub(super) fn encode(
    dialect: &Dialect,
    model: &str,
    parameters: &RequestParameters,
    prompt: &Prompt<'_>,
) -> Vec<u8> {
    let text = prompt.content.messages(parameters).map(|messages| ("prompt", joined(&messages)));
    request_body::encode(dialect, model, parameters, prompt, text)
}

/// Joins the messages into one text. Their roles are lost, because only a chat template could
/// express them.
pub(super) fn joined(messages: &[Message<'_>]) -> Value {
    let texts: Vec<&str> = messages.iter().map(|message| message.text.as_ref()).collect();
    texts.join("\n\n").into()
}
