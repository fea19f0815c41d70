//! The completions dialect: a request put into bytes. Its answers differ from those of chat only in
//! where the text stands (`choices[].text`), so [`super::chat::decode`] reads both.

use serde_json::Value;

use super::question::Role;

/// Where requests go, below the API's root.
pub const PATH: &str = "completions";

/// The words of a conversation as the one text that this dialect knows: what a system message and
/// each turn say, without roles, which only a chat template could put into words.
pub(super) fn words(said: &[(Role, &str)]) -> (&'static str, Value) {
    let texts: Vec<&str> = said.iter().map(|(_, text)| *text).collect();
    ("prompt", texts.join("\n\n").into())
}
