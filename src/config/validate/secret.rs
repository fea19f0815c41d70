//! Values that may be secret: reads them from variables and files.
//!
//! No message here quotes a value. A message quotes a name only if it cannot be a secret that was
//! put in the place of the name.

use std::io::Read;
use std::path::Path;

use super::Validator;
use crate::config::dotenv::is_variable_name;
use crate::config::field::Located;
use crate::config::tree::NodeId;
use crate::plan::{Secret, SecretOrigin, SecretText};

/// The highest number of bytes that are read from a file with a secret.
const MAX_BYTES: u64 = 64 << 10;

/// Words that mark a name as that of a secret, alone or as part of the name. `tokens` is not one of
/// them: requests to models count tokens.
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

/// Returns true if a header, parameter or field of this name usually carries a secret.
pub fn is_sensitive(name: &str) -> bool {
    words(name).any(|word| SENSITIVE.contains(&word.as_str()))
}

/// Reads at most `bytes` of a text file, such as a file that a cluster mounts.
pub(super) fn read_start(path: &Path, bytes: u64) -> std::io::Result<String> {
    // Reading a pipe or a device might never end.
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("not a file"));
    }
    let mut text = String::new();
    std::fs::File::open(path)?.take(bytes).read_to_string(&mut text)?;
    Ok(text)
}

/// Splits `x-api-key`, `user_id`, `apiKey2` or `APIKey` into words in lower case.
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
    /// Reads a secret from a variable.
    pub(super) fn secret_from_variable(&self, name: &Located<String>) -> Option<Secret> {
        let variable = name.value.as_str();
        if !is_variable_name(variable) {
            self.problem(
                name.node,
                "not the name of a variable",
                "write the name of the variable, never its value",
            );
            return None;
        }
        let Some(value) = self.variables.get(variable) else {
            // A secret that was pasted here almost always has lower-case letters, so such a text is
            // not quoted.
            let is_upper_case = !variable.bytes().any(|b| b.is_ascii_lowercase());
            let named = if is_upper_case {
                format!("the variable `{variable}`")
            } else {
                "this variable".into()
            };
            self.problem(
                name.node,
                format!("{named} is not set {}", self.variables.places()),
                "set it",
            );
            return None;
        };
        let value = self.header_value(name.node, &value, "the variable")?;
        Some(Secret { value, origin: SecretOrigin::Variable(variable.to_owned()) })
    }

    /// Reads a secret from a file.
    pub(super) fn secret_from_file(&self, name: &Located<String>) -> Option<Secret> {
        let path = self.path(&name.value);
        match read_start(&path, MAX_BYTES) {
            Ok(text) => {
                let value = self.header_value(name.node, &text, "the file")?;
                Some(Secret { value, origin: SecretOrigin::File(path) })
            }
            Err(error) => {
                let remedy = "name a readable file, relative to the configuration file";
                self.problem(name.node, format!("the file cannot be read: {error}"), remedy);
                None
            }
        }
    }

    /// Checks that a value can be sent in a header.
    fn header_value(&self, node: NodeId, text: &str, source: &str) -> Option<SecretText> {
        let value = text.trim_end_matches(['\n', '\r']);
        if value.trim().is_empty() {
            self.problem(node, format!("{source} is empty"), "put the value there");
            return None;
        }
        if !value.bytes().all(|b| (0x20..0x7f).contains(&b)) || value.trim() != value {
            self.problem(
                node,
                format!("{source} holds more than one line of printable ASCII"),
                "put only the value there",
            );
            return None;
        }
        Some(SecretText::from(value.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::is_sensitive;

    #[test]
    fn a_name_is_sensitive_by_whole_words_not_by_letters() {
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
        }
    }
}
