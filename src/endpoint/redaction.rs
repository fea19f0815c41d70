//! Masks the secrets of a target in text that its server sent.
//!
//! The error messages of servers quote requests. Examples are a rejected key ("Incorrect API key
//! provided: …"), the path and query of an unknown page, and the complete request. llmload shows
//! such messages in its log and on the status page, so it masks secrets first.
//!
//! If the server itself has masked a key, as in `sk-ab***yz`, the text is not changed.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use url::form_urlencoded::byte_serialize;

/// The replacement for a secret.
const MASK: &str = "[redacted]";
/// The length of the shortest value that counts as a secret, in bytes. Shorter values, such as
/// `true`, `blue` or `EMPTY`, are not secret and occur in ordinary text.
const MIN_SECRET: usize = 6;
/// The length in bytes of the shortest prefix of a secret that is masked at the end of a text. If
/// the server or a limit has shortened a text, the text can end in the middle of a secret, so only
/// a prefix of the secret is left. Shorter prefixes, such as `Bearer` and `sk-`, stay readable.
const MIN_PREFIX: usize = 8;

/// The secrets of one target, in every form in which a server can quote a secret.
pub(super) struct Redaction {
    /// The longest form is the first, because one form can be a part of another.
    forms: Vec<SecretString>,
}

impl Redaction {
    /// Creates a redaction for the key, the header values and the query parameters of a target.
    pub(super) fn new<'a>(secrets: impl Iterator<Item = &'a str>) -> Redaction {
        let mut forms: Vec<String> = secrets.flat_map(credentials).flat_map(forms).collect();
        forms.retain(|form| form.len() >= MIN_SECRET);
        forms.sort_unstable_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        forms.dedup();
        Redaction { forms: forms.into_iter().map(SecretString::from).collect() }
    }

    /// Masks each secret in a text.
    pub(super) fn apply(&self, mut text: String) -> String {
        for form in &self.forms {
            let form = form.expose_secret();
            if text.contains(form) {
                text = text.replace(form, MASK);
            }
        }
        let cuts = self.forms.iter().filter_map(|form| cut_secret(&text, form.expose_secret()));
        if let Some(at) = cuts.min() {
            text.replace_range(at.., MASK);
        }
        text
    }
}

/// Shows only the number of forms.
impl fmt::Debug for Redaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redaction").field("forms", &self.forms.len()).finish()
    }
}

/// Returns the value. If the value consists of a scheme and credentials, such as `Bearer sk-…`,
/// also returns the credentials.
fn credentials(secret: &str) -> impl Iterator<Item = &str> {
    let after_scheme = secret.split_once(' ').map(|(_, credentials)| credentials);
    std::iter::once(secret).chain(after_scheme)
}

/// Returns the secret unchanged, encoded for a URL, and escaped for JSON.
fn forms(secret: &str) -> [String; 5] {
    let url: String = byte_serialize(secret.as_bytes()).collect();
    let json = serde_json::Value::from(secret).to_string();
    let json = json[1..json.len() - 1].to_owned();
    [secret.to_owned(), url.replace('+', "%20"), url, json.replace('/', "\\/"), json]
}

/// If the text ends with a prefix of the secret of at least [`MIN_PREFIX`] bytes, returns the
/// position at which this prefix begins. An ellipsis at the end of the text is ignored.
fn cut_secret(text: &str, secret: &str) -> Option<usize> {
    let text = text.strip_suffix('…').unwrap_or(text).as_bytes();
    let longest = secret.len().min(text.len());
    let prefix = (MIN_PREFIX..=longest).rev().find(|n| text.ends_with(&secret.as_bytes()[..*n]))?;
    Some(text.len() - prefix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measurement::{Failure, FailureDetail};

    const KEY: &str = "sk/canary+0123456789";

    fn redacted(text: &str) -> String {
        let text = FailureDetail::new(Failure::Auth, text).message;
        let text = Redaction::new(["Bearer sk/canary+0123456789", "blue"].into_iter()).apply(text);
        FailureDetail::new(Failure::Auth, &text).message
    }

    #[test]
    fn a_quoted_secret_is_masked_in_every_form() {
        assert_eq!(redacted("Incorrect API key provided: sk/canary+0123456789."), {
            "Incorrect API key provided: [redacted]."
        });
        assert_eq!(
            redacted("authorization: Bearer sk/canary+0123456789"),
            "authorization: [redacted]"
        );
        assert_eq!(
            redacted("no route /v1?sig=sk%2Fcanary%2B0123456789&a=b"),
            "no route /v1?sig=[redacted]&a=b"
        );
        assert_eq!(redacted(r#"{"key":"sk\/canary+0123456789"}"#), r#"{"key":"[redacted]"}"#);
        assert_eq!(redacted("sk/canary+0123456789sk/canary+0123456789"), "[redacted][redacted]");
    }

    #[test]
    fn a_secret_is_masked_even_if_it_is_cut_off() {
        for room in 0..KEY.len() + 4 {
            let padding = "x".repeat(FailureDetail::MESSAGE_LIMIT - '…'.len_utf8() - room);
            let text = redacted(&format!("{padding}{KEY}{}", "y".repeat(400)));
            assert!(!text.contains(&KEY[..MIN_PREFIX]), "{text}");
            assert!(text.len() <= FailureDetail::MESSAGE_LIMIT, "{text}");
        }
        for cut in MIN_PREFIX..KEY.len() {
            assert_eq!(redacted(&format!("your key is {}", &KEY[..cut])), "your key is [redacted]");
        }
    }

    #[test]
    fn text_without_a_secret_is_unchanged() {
        for text in
            ["a blue Bearer", "sk-ca***6789", "ends with sk/cana", "sk/canary+ is its start", ""]
        {
            assert_eq!(redacted(text), text);
        }
    }
}
