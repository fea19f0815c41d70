//! No secret of a target is ever shown, not even when the target itself says it.
//!
//! Servers quote what they do not like: "Incorrect API key provided: …", the path and query they
//! have no route for, the whole request. Their words go to the log and to the status page, so
//! they pass here first.
//!
//! A partial echo such as `sk-ab***yz` is the server's own masking and stays.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use url::form_urlencoded::byte_serialize;

/// What stands in place of a secret.
const MASK: &str = "[redacted]";
/// Shorter values are no secrets but `true`, `blue` or `EMPTY`, and would be found in ordinary words.
const SHORTEST: usize = 6;
/// Where a server or a limit cut a text in the middle of a secret, a start as long as this goes too.
/// Shorter ones are the likes of `Bearer` and `sk-`, which people have to read.
const SHORTEST_START: usize = 8;

/// The secrets of one target, in the forms in which they come back.
pub(super) struct Redaction {
    /// The longest first: one may be a part of another.
    forms: Vec<SecretString>,
}

impl Redaction {
    /// Knows the values of all headers and parameters that a target was given.
    pub(super) fn new<'a>(secrets: impl Iterator<Item = &'a str>) -> Redaction {
        let mut forms: Vec<String> = secrets.flat_map(parts).flat_map(forms).collect();
        forms.retain(|form| form.len() >= SHORTEST);
        forms.sort_unstable_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        forms.dedup();
        Redaction { forms: forms.into_iter().map(SecretString::from).collect() }
    }

    /// The same words without secrets.
    pub(super) fn text(&self, mut text: String) -> String {
        for form in &self.forms {
            let form = form.expose_secret();
            if text.contains(form) {
                text = text.replace(form, MASK);
            }
        }
        let starts = self.forms.iter().filter_map(|form| started_at(&text, form.expose_secret()));
        if let Some(at) = starts.min() {
            text.replace_range(at.., MASK);
        }
        text
    }
}

/// How many forms are known, not which.
impl fmt::Debug for Redaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redaction").field("forms", &self.forms.len()).finish()
    }
}

/// The value, and without its scheme where it is a `Scheme credentials` pair.
fn parts(secret: &str) -> impl Iterator<Item = &str> {
    let credentials = secret.split_once(' ').map(|(_, credentials)| credentials);
    std::iter::once(secret).chain(credentials)
}

/// As it is, as a URL carries it, and as JSON does.
fn forms(secret: &str) -> [String; 5] {
    let url: String = byte_serialize(secret.as_bytes()).collect();
    let json = serde_json::Value::from(secret).to_string();
    let json = json[1..json.len() - 1].to_owned();
    [secret.to_owned(), url.replace('+', "%20"), url, json.replace('/', "\\/"), json]
}

/// Where a text ends with the start of a secret, with or without the mark of a cut.
fn started_at(text: &str, secret: &str) -> Option<usize> {
    let text = text.strip_suffix('…').unwrap_or(text).as_bytes();
    let longest = secret.len().min(text.len());
    let start =
        (SHORTEST_START..=longest).rev().find(|n| text.ends_with(&secret.as_bytes()[..*n]))?;
    Some(text.len() - start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measurement::{Failure, FailureDetail};

    const KEY: &str = "sk/canary+0123456789";

    fn redacted(words: &str) -> String {
        let words = FailureDetail::new(Failure::Auth, words).message;
        let words = Redaction::new(["Bearer sk/canary+0123456789", "blue"].into_iter()).text(words);
        FailureDetail::new(Failure::Auth, &words).message
    }

    #[test]
    fn a_quoted_secret_is_masked_in_every_form_it_comes_back_in() {
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
    fn a_secret_cut_in_two_is_masked_wherever_the_cut_is() {
        for room in 0..KEY.len() + 4 {
            let padding = "x".repeat(FailureDetail::MESSAGE_LIMIT - '…'.len_utf8() - room);
            let words = redacted(&format!("{padding}{KEY}{}", "y".repeat(400)));
            assert!(!words.contains(&KEY[..SHORTEST_START]), "{words}");
            assert!(words.len() <= FailureDetail::MESSAGE_LIMIT, "{words}");
        }
        for cut in SHORTEST_START..KEY.len() {
            assert_eq!(redacted(&format!("your key is {}", &KEY[..cut])), "your key is [redacted]");
        }
    }

    #[test]
    fn other_words_stay_as_they_are() {
        for words in
            ["a blue Bearer", "sk-ca***6789", "ends with sk/cana", "sk/canary+ is its start", ""]
        {
            assert_eq!(redacted(words), words);
        }
    }
}
