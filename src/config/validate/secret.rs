//! Values that may be secret: where they may stand, and how they are read.
//!
//! No message here ever quotes a value, and a name only where it cannot be the value itself, put
//! in the wrong place.

use std::io::Read;
use std::path::Path;

use super::Validator;
use crate::config::field::Located;
use crate::config::tree::NodeId;
use crate::config::variables::is_name;
use crate::plan::{Secret, SecretOrigin, Sensitive};

const MAX_BYTES: u64 = 64 << 10;

/// Words that say that what follows is secret, alone or as part of a name. Not `tokens`: where
/// models are spoken to, those are counted.
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

/// Whether a header, parameter or field of this name usually carries a secret.
pub fn is_sensitive(name: &str) -> bool {
    words(name).any(|word| SENSITIVE.contains(&word.as_str()))
}

/// A file as a person writes or a cluster mounts it; what lies behind so many bytes is not read.
pub(super) fn read_start(path: &Path, bytes: u64) -> std::io::Result<String> {
    // A pipe or a device could keep the reader for ever.
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("not a file"));
    }
    let mut text = String::new();
    std::fs::File::open(path)?.take(bytes).read_to_string(&mut text)?;
    Ok(text)
}

/// The words of `x-api-key`, `user_id`, `apiKey2` or `APIKey`, in lower case.
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
    /// The value of a variable.
    pub(super) fn secret_from_variable(&self, name: &Located<String>) -> Option<Secret> {
        let variable = name.value.as_str();
        if !is_name(variable) {
            self.problem(
                name.node,
                "not the name of a variable; write the name, never the value itself",
            );
            return None;
        }
        let Some(value) = self.variables.get(variable) else {
            // A key that was pasted here has lower-case letters; a name is shown, a key is not.
            let upper = !variable.bytes().any(|b| b.is_ascii_lowercase());
            let named =
                if upper { format!("the variable `{variable}`") } else { "this variable".into() };
            self.problem(
                name.node,
                format!("{named} is not set, {}; set it", self.variables.places()),
            );
            return None;
        };
        let value = self.usable(name.node, &value, "the variable")?;
        Some(Secret { value, origin: SecretOrigin::Variable(variable.to_owned()) })
    }

    /// The content of a file.
    pub(super) fn secret_from_file(&self, name: &Located<String>) -> Option<Secret> {
        let path = self.path(&name.value);
        match read_start(&path, MAX_BYTES) {
            Ok(text) => {
                let value = self.usable(name.node, &text, "the file")?;
                Some(Secret { value, origin: SecretOrigin::File(path) })
            }
            Err(error) => {
                let remedy = "name a readable file, relative to the configuration file";
                self.problem(name.node, format!("the file cannot be read: {error}; {remedy}"));
                None
            }
        }
    }

    /// A value fit for a header.
    fn usable(&self, node: NodeId, text: &str, source: &str) -> Option<Sensitive> {
        let value = text.trim_end_matches(['\n', '\r']);
        if value.trim().is_empty() {
            self.problem(node, format!("{source} is empty; put the value there"));
            return None;
        }
        if !value.bytes().all(|b| (0x20..0x7f).contains(&b)) || value.trim() != value {
            self.problem(
                node,
                format!(
                    "{source} holds more than one line of printable ASCII; put only the value there"
                ),
            );
            return None;
        }
        Some(Sensitive::from(value.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::is_sensitive;

    #[test]
    fn a_name_is_sensitive_by_its_words_not_by_its_letters() {
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
