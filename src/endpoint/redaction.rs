//! Masks the secrets of a target in text that its server sent.
//!
//! The error messages of servers quote requests. Examples are a rejected key ("Incorrect API key
//! provided: …"), the path and query of an unknown page, and the complete request. llmload shows
//! such messages in its log and on the status page, so it masks secrets first.
//!
//! A server can quote a secret in many forms: escaped for JSON, for a URL or for HTML, in another
//! letter case, as base64 or in hexadecimal digits, and without its start or its end. This module
//! compares the text with the secret character by character, and each character of the secret can
//! have any of its forms.
//!
//! If the server itself has masked a key, as in `sk-ab***yz`, the text is not changed.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

/// The replacement for a secret.
const MASK: &str = "[redacted]";
/// The length of the shortest value that counts as a secret, in bytes. Shorter values, such as
/// `true`, `blue` or `EMPTY`, are not secret and occur in ordinary text.
const MIN_SECRET: usize = 6;
/// The number of characters of the shortest prefix of a secret that is masked at the end of a text.
/// If the server or a limit has shortened a text, the text can end in the middle of a secret, so
/// only a prefix of the secret is left. Shorter prefixes, such as `Bearer`, stay readable.
const MIN_PREFIX: usize = 8;
/// The number of characters of the shortest part of a secret that is masked inside a text. Some
/// servers omit the start or the end of a key.
const MIN_PART: usize = 12;
/// The most backslashes before an escaped character. Five levels of JSON inside JSON need 31. A
/// server can send a long text of only backslashes, and the search must stay fast.
const MAX_BACKSLASHES: usize = 32;
/// The longest HTML escape, in bytes. The longest usual one is `&#x10FFFF;`.
const MAX_HTML_ESCAPE: usize = 16;

/// The secrets of one target.
pub(super) struct Redaction {
    secrets: Vec<Form>,
}

/// One form of a secret.
struct Form {
    text: SecretString,
    /// True if the letter case and the escapes of the text can differ. Base64 has only one form.
    is_flexible: bool,
}

impl Redaction {
    /// Creates a redaction for the key, the header values, the query parameters and the body fields
    /// of a target.
    pub(super) fn new<'a>(secrets: impl Iterator<Item = &'a str>) -> Redaction {
        let mut texts: Vec<&str> = secrets.flat_map(credentials).collect();
        texts.retain(|text| text.len() >= MIN_SECRET);
        texts.sort_unstable();
        texts.dedup();
        let mut secrets: Vec<Form> = texts.into_iter().flat_map(forms).collect();
        // One form can be a part of another.
        secrets.sort_by_key(|form| std::cmp::Reverse(form.text.expose_secret().len()));
        Redaction { secrets }
    }

    /// Masks each secret in a text.
    pub(super) fn apply(&self, text: String) -> String {
        // Nearly every text contains no secret, and the search for the place of a secret is slow.
        let found: Vec<&Form> = self.secrets.iter().filter(|form| form.is_in(&text)).collect();
        if found.is_empty() {
            return text;
        }
        let mut masked = String::new();
        let mut rest = text.as_str();
        while let Some(first) = rest.chars().next() {
            let ends = found.iter().filter_map(|secret| secret.end_in(rest));
            if let Some(end) = ends.max() {
                masked.push_str(MASK);
                rest = &rest[end..];
            } else {
                masked.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
        masked
    }
}

/// Shows only the number of forms.
impl fmt::Debug for Redaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redaction").field("forms", &self.secrets.len()).finish()
    }
}

/// Returns the value. If the value consists of a scheme and credentials, such as `Bearer sk-…`,
/// also returns the credentials.
fn credentials(secret: &str) -> impl Iterator<Item = &str> {
    let after_scheme = secret.split_once(' ').map(|(_, credentials)| credentials);
    std::iter::once(secret).chain(after_scheme)
}

/// Returns the secret itself, its bytes in hexadecimal digits, and the three parts of a base64 text
/// that can contain the secret. The part depends on the number of bytes before the secret. For the
/// credentials of the scheme `Basic`, also returns the user and the password.
fn forms(secret: &str) -> Vec<Form> {
    let flexible = |text: String| Form { text: text.into(), is_flexible: true };
    let exact = |text: String| Form { text: text.into(), is_flexible: false };
    let mut forms = vec![flexible(secret.to_owned()), flexible(hexadecimal(secret))];
    for before in 0..3 {
        let standard = base64_within(secret, before);
        let url = standard.replace('+', "-").replace('/', "_");
        forms.extend((url != standard).then(|| exact(url)));
        forms.push(exact(standard));
    }
    if let Some(decoded) = decode_base64(secret)
        && let Some((_, password)) = decoded.split_once(':')
    {
        let parts =
            [decoded.as_str(), password].into_iter().filter(|part| part.len() >= MIN_SECRET);
        forms.extend(parts.map(|part| flexible(part.to_owned())));
    }
    forms
}

fn hexadecimal(text: &str) -> String {
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or_default();
    text.bytes().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Returns the characters of a base64 text that depend only on the secret, if `before` other bytes
/// precede the secret. The character that contains the end of the bytes before, and the character
/// that contains the start of the bytes after, are omitted.
fn base64_within(secret: &str, before: usize) -> String {
    let bits = (before * 8)..(before + secret.len()) * 8;
    let bit = |at: usize| {
        let byte = at.checked_sub(before * 8).and_then(|at| secret.as_bytes().get(at / 8));
        byte.map_or(0, |byte| usize::from(byte >> (7 - at % 8) & 1))
    };
    let characters = bits.start.div_ceil(6)..bits.end / 6;
    characters
        .map(|index| {
            let value = (0..6).fold(0, |value, at| value << 1 | bit(index * 6 + at));
            char::from(BASE64[value])
        })
        .collect()
}

/// Decodes a base64 text; `None` if it is not base64 of a text.
fn decode_base64(text: &str) -> Option<String> {
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for letter in text.trim_end_matches('=').bytes() {
        let value = BASE64.iter().position(|known| *known == letter)?;
        bits = bits << 6 | u32::try_from(value).ok()?;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    String::from_utf8(bytes).ok()
}

impl Form {
    /// Returns true if the text contains the secret, or a part that [`Form::end_in`] finds.
    fn is_in(&self, text: &str) -> bool {
        let secret = self.text.expose_secret();
        let end = secret.char_indices().rev().nth(MIN_PART - 1).map_or(0, |(at, _)| at);
        let end = if self.is_flexible { &secret[end..] } else { secret };
        text.char_indices().any(|(at, _)| {
            let rest = &text[at..];
            self.matches(rest, secret, MIN_PREFIX)
                .or_else(|| self.matches(rest, end, MIN_PART))
                .is_some()
        })
    }

    /// If the text begins with the secret, returns the length of the secret in the text. The secret
    /// can lack its start or its end. An ellipsis at the end of the text is ignored.
    fn end_in(&self, text: &str) -> Option<usize> {
        let secret = self.text.expose_secret();
        let length = secret.chars().count();
        let from_start = self.matches(text, secret, MIN_PREFIX);
        let skipped = secret.char_indices().take(length.saturating_sub(MIN_PART - 1)).skip(1);
        // The space between a scheme and its credentials is not a part of the credentials.
        let skipped = skipped.filter(|(_, letter)| *letter != ' ');
        let mut ends = skipped.filter_map(|(at, _)| self.matches(text, &secret[at..], MIN_PART));
        from_start.or_else(|| if self.is_flexible { ends.next() } else { None })
    }

    /// If the text begins with the secret or with [`MIN_PART`] of its characters, returns their
    /// length in the text. If the text ends after `least` or more characters of the secret, returns
    /// the length of the text.
    fn matches(&self, text: &str, secret: &str, least: usize) -> Option<usize> {
        // Without this, a secret that itself contains an escape would be found only escaped.
        if text.starts_with(secret) {
            return Some(secret.len());
        }
        let mut rest = text;
        for (matched, letter) in secret.chars().enumerate() {
            if matched >= least && is_cut(rest) {
                return Some(text.len());
            }
            let length = if self.is_flexible {
                length_of_form(rest, letter)
            } else {
                rest.starts_with(letter).then(|| letter.len_utf8())
            };
            match length {
                Some(length) => rest = &rest[length..],
                None => return (matched >= MIN_PART).then_some(text.len() - rest.len()),
            }
        }
        Some(text.len() - rest.len())
    }
}

/// Returns true if nothing follows, or only an ellipsis or a part of an escape.
fn is_cut(rest: &str) -> bool {
    let rest = rest.strip_suffix('…').unwrap_or(rest);
    let after_backslash = backslashes(rest).map(|count| &rest[count..]);
    let is_escape = rest.strip_prefix('%').is_some_and(|digits| digits.len() < 2)
        || after_backslash.is_some_and(|rest| {
            rest.is_empty() || rest.strip_prefix('u').is_some_and(|digits| digits.len() < 4)
        });
    rest.is_empty() || is_escape
}

/// If the text begins with a form of the letter, returns the length of this form: the letter in any
/// case, or its escape for JSON, a URL or HTML.
fn length_of_form(text: &str, letter: char) -> Option<usize> {
    let first = text.chars().next()?;
    let escape = match first {
        '\\' => json_escape(text, letter).or_else(|| nested_json_escape(text, letter)),
        '%' => percent_escape(text, letter),
        // A form in a query has `+` instead of a space.
        '+' if letter == ' ' => Some(1),
        '&' => html_escape(text, letter),
        _ => None,
    };
    escape.or_else(|| first.eq_ignore_ascii_case(&letter).then(|| first.len_utf8()))
}

fn json_escape(text: &str, letter: char) -> Option<usize> {
    let unit = |at: usize| {
        let digits = text.get(at..at + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(digits, 16).ok()
    };
    let escaped = match text[1..].chars().next()? {
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'u' => {
            let units = [unit(0)?, unit(6).unwrap_or_default()];
            let decoded = char::decode_utf16(units).next()?.ok()?;
            return decoded.eq_ignore_ascii_case(&letter).then_some(6 * decoded.len_utf16());
        }
        other => other,
    };
    (escaped == letter).then_some(2)
}

/// The same for a JSON text that is a string of another JSON text. Gateways quote the error of
/// their server in this way, and each level doubles the backslashes.
fn nested_json_escape(text: &str, letter: char) -> Option<usize> {
    let outer = backslashes(text)? - 1;
    json_escape(&text[outer..], letter).map(|length| outer + length)
}

/// Returns the number of backslashes at the start of the text; `None` if there are none, or more
/// than [`MAX_BACKSLASHES`].
fn backslashes(text: &str) -> Option<usize> {
    let count = text.bytes().take(MAX_BACKSLASHES + 1).take_while(|byte| *byte == b'\\').count();
    (1..=MAX_BACKSLASHES).contains(&count).then_some(count)
}

fn percent_escape(text: &str, letter: char) -> Option<usize> {
    let mut bytes = [0; 4];
    let bytes = letter.encode_utf8(&mut bytes).as_bytes();
    for (index, byte) in bytes.iter().enumerate() {
        let digits = text.get(index * 3..index * 3 + 3)?.strip_prefix('%')?;
        let found = u8::from_str_radix(digits, 16).ok()?;
        if !found.eq_ignore_ascii_case(byte) {
            return None;
        }
    }
    Some(bytes.len() * 3)
}

fn html_escape(text: &str, letter: char) -> Option<usize> {
    let end = text.bytes().take(MAX_HTML_ESCAPE).position(|byte| byte == b';')?;
    let entity = &text[1..end];
    let is_same = match entity {
        "amp" => letter == '&',
        "lt" => letter == '<',
        "gt" => letter == '>',
        "quot" => letter == '"',
        "apos" => letter == '\'',
        entity => {
            let number = entity.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16),
                None => number.parse(),
            };
            char::from_u32(code.ok()?)?.eq_ignore_ascii_case(&letter)
        }
    };
    is_same.then_some(entity.len() + 2)
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

    /// Servers and proxies write a quoted text in their own form.
    #[test]
    fn a_secret_is_masked_in_another_letter_case_and_with_any_escapes() {
        for quote in [
            "SK/CANARY+0123456789",
            "sk%2fcanary%2b0123456789",
            "%73%6B%2FCanary%2B0123456789",
            "sk\\/canary\\u002B0123456789",
            "sk\\u002fcanary\\u002b0123456789",
            "\\u0073k/canary+0123456789",
            "sk\\\\/canary\\\\u002b0123456789",
            "sk\\\\\\\\/canary+0123456789",
            "sk&#x2F;canary&#43;0123456789",
            "canary+0123456789",
            "CANARY%2B0123456789",
        ] {
            assert_eq!(redacted(&format!("a {quote} b")), "a [redacted] b", "{quote}");
        }
        let apply =
            |secret: &str, text: &str| Redaction::new([secret].into_iter()).apply(text.to_owned());
        assert_eq!(apply("pä ss\"w0rd😀", "a p%C3%A4+ss%22w0rd%f0%9f%98%80 b"), "a [redacted] b");
        assert_eq!(
            apply("pä ss\"w0rd😀", "a p\\u00e4 ss\\\"w0rd\\ud83d\\ude00 b"),
            "a [redacted] b"
        );
        assert_eq!(apply("a&b<c>d'e", "x a&amp;b&lt;c&gt;d&#39;e y"), "x [redacted] y");
        assert_eq!(
            apply("a%25b&amp;c", "x a%25b&amp;c a%2525b%26amp;c y"),
            "x [redacted] [redacted] y"
        );
    }

    #[test]
    fn a_secret_is_masked_in_base64_and_in_hexadecimal_digits() {
        let apply =
            |text: &str| Redaction::new(["sk/canary+0123456789?>~"].into_iter()).apply(text.into());
        let hex = "736b2f63616e6172792b303132333435363738393f3e7e";
        assert_eq!(apply(&format!("key {hex}.")), "key [redacted].");
        assert_eq!(apply(&format!("key {}.", hex.to_uppercase())), "key [redacted].");
        // The expected texts are from the command `base64`.
        for (quoted, start) in [
            ("c2svY2FuYXJ5KzAxMjM0NTY3ODk/Pn4=", ""),
            ("YXNrL2NhbmFyeSswMTIzNDU2Nzg5Pz5+", "YX"),
            ("YWJzay9jYW5hcnkrMDEyMzQ1Njc4OT8+fg==", "YWJ"),
            ("YWJjc2svY2FuYXJ5KzAxMjM0NTY3ODk_Pn5k", "YWJj"),
        ] {
            let masked = apply(quoted);
            assert!(masked.starts_with(&format!("{start}[redacted]")), "{quoted}: {masked}");
            assert!(masked.len() <= start.len() + MASK.len() + 3, "{quoted}: {masked}");
        }
        let basic = Redaction::new(["Basic dXNlcjpjYW5hcnktMDEyMw=="].into_iter());
        let quote = "user user:canary-0123, dXNlcjpjYW5hcnktMDEyMw==, canary-0123";
        assert_eq!(basic.apply(quote.into()), "user [redacted], [redacted], [redacted]");
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
        for cut in MIN_PART..KEY.len() {
            assert_eq!(redacted(&format!("the key {}*** is no", &KEY[..cut])), {
                "the key [redacted]*** is no"
            });
        }
    }

    /// A server chooses the text. A search whose time grows with the square of the length would
    /// need many minutes for these texts.
    #[test]
    fn a_long_run_of_the_starts_of_escapes_takes_no_quadratic_time() {
        let starts = ["\\", "&", "%", "&#", "\\u"];
        let (sender, finished) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for start in starts {
                let text = start.repeat((256 << 10) / start.len());
                let masked = Redaction::new([KEY].into_iter()).apply(text.clone());
                assert_eq!(masked, text);
                sender.send(start).unwrap();
            }
        });
        for start in starts {
            let limit = std::time::Duration::from_mins(1);
            assert_eq!(finished.recv_timeout(limit), Ok(start));
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
