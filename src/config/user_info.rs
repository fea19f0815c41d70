//! The user and the password in a URL, such as `http://user:password@host`.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use url::Url;

use super::hints::url_with_scheme;
use super::problem::Mistake;
use super::unix_url::unix_url;
use crate::plan::{BasicCredentials, SecretText};

/// Parses an HTTP URL, and separates its user and password. `no_scheme` is the message for a text
/// without a scheme.
///
/// No message quotes a URL that can contain a password.
pub fn parse_http_url(
    text: &str,
    no_scheme: &str,
    remedy: &str,
) -> Result<(Url, Option<BasicCredentials>), Mistake> {
    if let Some(url) = unix_url(text) {
        return Ok((url?, None));
    }
    if !text.contains("://") {
        let with_scheme = url_with_scheme(text).map(|url| format!("write `{url}`"));
        let remedy = with_scheme.unwrap_or_else(|| remedy.to_owned());
        return Err(Mistake::new(no_scheme, remedy));
    }
    let mut url = Url::parse(text)
        .map_err(|error| Mistake::new(format!("the text is not a URL ({error})"), remedy))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Mistake::new("the URL is neither http nor https", remedy));
    }
    let credentials = take_user_info(&mut url)?;
    // A slash ends the host, so the second half of a password with a slash would be in the path.
    if url.path().contains('@') {
        return Err(Mistake::new(
            "the path of the URL contains `@`",
            "percent-encode each special character of a password, such as `%2F` for `/`, or write \
             `%40` in the path",
        ));
    }
    Ok((url, credentials))
}

/// Removes the user and the password from a URL, so that a page can show the URL. Returns both
/// decoded.
pub fn take_user_info(url: &mut Url) -> Result<Option<BasicCredentials>, Mistake> {
    if url.username().is_empty() && url.password().is_none() {
        return Ok(None);
    }
    let decode = |encoded: &str| {
        let text = percent_decode_str(encoded).decode_utf8().ok()?;
        (!text.chars().any(char::is_control)).then(|| text.into_owned())
    };
    let (user, password) = (decode(url.username()), decode(url.password().unwrap_or_default()));
    // Only a URL without a host could fail here, and a URL with a user has a host.
    let _has_host = url.set_username("").and_then(|()| url.set_password(None));
    match (user, password) {
        (Some(user), _) if user.contains(':') => Err(Mistake::new(
            "basic auth does not allow a colon in the user of the URL",
            "use a user without a colon",
        )),
        (Some(user), Some(password)) => Ok(Some(BasicCredentials {
            user: SecretText::from(user),
            password: SecretText::from(password),
        })),
        _ => Err(Mistake::new(
            "the user or the password in the URL contains bytes that are not text",
            "percent-encode the text as UTF-8, such as `%40` for `@`",
        )),
    }
}

/// Replaces the user and the password of each URL in a text by `***`.
pub fn without_user_info(text: &str) -> Cow<'_, str> {
    if !text.contains('@') {
        return Cow::Borrowed(text);
    }
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(scheme) = rest.find("://") {
        let (before, after) = rest.split_at(scheme + 3);
        masked.push_str(before);
        let is_end = |c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | '"' | '\'');
        let authority = &after[..after.find(is_end).unwrap_or(after.len())];
        rest = match authority.rfind('@') {
            Some(at) => {
                masked.push_str("***");
                &after[at..]
            }
            None => after,
        };
    }
    masked.push_str(rest);
    Cow::Owned(masked)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn taken(text: &str) -> Result<(String, String, String), String> {
        let mut url = Url::parse(text).unwrap();
        let credentials = take_user_info(&mut url).map_err(|mistake| mistake.message)?;
        let credentials = credentials.ok_or("no user")?;
        Ok((
            url.to_string(),
            credentials.user.expose_secret().to_owned(),
            credentials.password.expose_secret().to_owned(),
        ))
    }

    #[test]
    fn the_user_and_the_password_are_removed_from_the_url_and_decoded() {
        for (user_info, user, password) in [
            ("me:pass", "me", "pass"),
            ("me%40example.com:a%3Ab%2Fc%25+d", "me@example.com", "a:b/c%+d"),
            ("token", "token", ""),
            (":key", "", "key"),
            ("m%C3%BCller:x", "müller", "x"),
        ] {
            let url = format!("http://{user_info}@host:8000/v1");
            let expected = ("http://host:8000/v1".into(), user.into(), password.into());
            assert_eq!(taken(&url), Ok(expected), "{url}");
        }
        assert_eq!(taken("http://host/v1"), Err("no user".into()));
        assert!(taken("http://a%3Ab:c@host/").unwrap_err().contains("colon"));
        for hidden in ["a%0Ab:c", "a:%FF"] {
            let error = taken(&format!("http://{hidden}@host/")).unwrap_err();
            assert!(error.contains("not text"), "{error}");
        }
    }

    #[test]
    fn a_text_shows_its_urls_without_user_and_password() {
        for (text, masked) in [
            ("http://me:pass@host/v1", "http://***@host/v1"),
            ("http://a:p@ss@host", "http://***@host"),
            ("https://${USER}:${PASS}@host:1/v1?a=b@c", "https://***@host:1/v1?a=b@c"),
            ("${URL:-http://me:pass@host}", "${URL:-http://***@host}"),
            ("from http://a@b to https://c@d", "from http://***@b to https://***@d"),
            ("http://host/@scope", "http://host/@scope"),
            ("mail me@example.com", "mail me@example.com"),
            ("http://host/v1", "http://host/v1"),
        ] {
            assert_eq!(without_user_info(text), masked);
        }
    }
}
