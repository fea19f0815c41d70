//! Reads values that can be secret from variables and files.
//!
//! No message of this module quotes a value. Users sometimes write a secret instead of the name of
//! a variable, so a message quotes such a name only if it does not look like a secret.

use super::Validator;
use crate::config::dotenv::is_variable_name;
use crate::config::field::Located;
use crate::config::file::read_small;
use crate::config::tree::NodeId;
use crate::plan::{Secret, SecretOrigin, SecretText};

/// The size of the largest file with a secret, in bytes.
const MAX_BYTES: u64 = 64 << 10;

/// Words in the names of secrets. `tokens` is not in the list, because requests have fields such as
/// `max_tokens`.
const SENSITIVE: [&str; 28] = [
    "accesskey",
    "accesstoken",
    "apikey",
    "auth",
    "authorization",
    "authtoken",
    "bearer",
    "cookie",
    "cookies",
    "credential",
    "credentials",
    "jwt",
    "key",
    "keys",
    "oauth",
    "passphrase",
    "passwd",
    "password",
    "passwords",
    "privatekey",
    "pwd",
    "secret",
    "secretkey",
    "secrets",
    "sessionid",
    "sig",
    "signature",
    "token",
];

/// Returns true if a header, parameter or field with this name usually contains a secret.
pub fn is_sensitive(name: &str) -> bool {
    words(name).any(|word| SENSITIVE.contains(&word.as_str()))
}

/// Returns true if a number in a field with this name usually is a secret. `token` at the end of a
/// name is a credential. At another place, it counts or identifies the tokens of a model, as in
/// `stop_token_ids`.
pub fn is_sensitive_number(name: &str) -> bool {
    let mut words = words(name).peekable();
    while let Some(word) = words.next() {
        if SENSITIVE.contains(&word.as_str()) && (word != "token" || words.peek().is_none()) {
            return true;
        }
    }
    false
}

/// Splits a name such as `x-api-key`, `user_id`, `apiKey2` or `APIKey` into words in lower case.
fn words(name: &str) -> impl Iterator<Item = String> {
    let mut spaced = String::with_capacity(2 * name.len());
    let letters: Vec<char> = name.chars().collect();
    for (i, &letter) in letters.iter().enumerate() {
        let before =
            i.checked_sub(1).and_then(|i| letters.get(i)).is_some_and(|c| c.is_lowercase());
        let after = letters.get(i + 1).is_some_and(|c| c.is_lowercase());
        if letter.is_uppercase() && (before || after) {
            spaced.push(' ');
        }
        spaced.push(letter);
    }
    let words = spaced.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect::<Vec<_>>().into_iter()
}

impl Validator<'_> {
    pub(super) fn secret_from_variable(&self, name: &Located<String>) -> Option<Secret> {
        let variable = name.value.as_str();
        if !is_variable_name(variable) {
            self.problem(
                name.node,
                "the text is not the name of a variable",
                "write the name of the variable, never its value",
            );
            return None;
        }
        let value = self.variables.get_secret(variable);
        let value = value.map_err(|mistake| self.report(name.node, mistake)).ok()?;
        let Some(value) = value else {
            // Lower-case letters suggest a pasted secret instead of the name of a variable.
            let is_upper_case = !variable.bytes().any(|b| b.is_ascii_lowercase());
            let named = if is_upper_case {
                format!("the variable `{variable}`")
            } else {
                "the variable with this name".into()
            };
            self.problem(
                name.node,
                format!("{named} is not set {}", self.variables.places()),
                "set the variable",
            );
            return None;
        };
        let value = self.header_value(name.node, &value, "the variable")?;
        Some(Secret { value, origin: SecretOrigin::Variable(variable.to_owned()) })
    }

    pub(super) fn secret_from_file(&self, name: &Located<String>) -> Option<Secret> {
        let path = self.path(&name.value);
        let text = match self.variables.placeholder().filter(|_| !path.exists()) {
            Some(placeholder) => Ok(placeholder),
            None => read_small(&path, MAX_BYTES),
        };
        let text = text.map_err(|mistake| self.report(name.node, mistake)).ok()?;
        let value = self.header_value(name.node, &text, "the file")?;
        Some(Secret { value, origin: SecretOrigin::File(path) })
    }

    /// Returns a value that can be sent in a header. `source` is the origin of the value, for
    /// messages.
    fn header_value(&self, node: NodeId, text: &str, source: &str) -> Option<SecretText> {
        let value = text.trim_end_matches(['\n', '\r']);
        if value.trim().is_empty() {
            self.problem(
                node,
                format!("{source} is empty"),
                format!("write the value into {source}"),
            );
            return None;
        }
        if !value.bytes().all(|b| (0x20..0x7f).contains(&b)) || value.trim() != value {
            self.problem(
                node,
                format!(
                    "{source} must contain one line of printable ASCII without spaces around it"
                ),
                format!("write only the value into {source}"),
            );
            return None;
        }
        Some(SecretText::from(value.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::{is_sensitive, is_sensitive_number};

    #[test]
    fn a_name_is_sensitive_if_one_of_its_words_is_sensitive() {
        for name in [
            "key",
            "api_key",
            "x-api-key",
            "apiKey",
            "APIKey",
            "APIKEY",
            "apikey",
            "api.key",
            "key2",
            "Authorization",
            "proxy-authorization",
            "bearer",
            "db_passwd",
            "credentials",
            "x-auth-token",
            "accessToken",
            "client_secret",
            "Set-Cookie",
            "sig",
        ] {
            assert!(is_sensitive(name), "{name}");
        }
        for name in [
            "",
            "max_tokens",
            "min_tokens",
            "skip_special_tokens",
            "maxTokens",
            "x-tokenizer",
            "tokenizer",
            "tokenize",
            "keyboard",
            "monkey",
            "author",
            "x-secretary",
            "top_logprobs",
            "design",
            "api-version",
        ] {
            assert!(!is_sensitive(name), "{name}");
            assert!(!is_sensitive_number(name), "{name}");
        }
    }

    #[test]
    fn a_number_of_model_tokens_is_not_sensitive() {
        for name in ["password", "pin_secret", "token", "api_token", "auth_token_id", "key2"] {
            assert!(is_sensitive_number(name), "{name}");
        }
        for name in ["stop_token_ids", "eosTokenId", "thinking_token_budget", "max_tokens"] {
            assert!(!is_sensitive_number(name), "{name}");
        }
    }
}
