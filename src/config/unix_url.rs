//! Reads the URL of a server at a unix socket: `unix:/run/vllm.sock:/v1`, as nginx writes it, or
//! `http+unix://%2Frun%2Fvllm.sock/v1`, as some Python clients write it.

use url::Url;

use super::problem::Mistake;
use crate::plan::{self, UNIX_SCHEME};

const REMEDY: &str = "write the path of the socket and the path of the API, such as \
                      `unix:/run/vllm.sock:/v1`";

/// Returns `None` if the text is not such a URL.
pub fn unix_url(text: &str) -> Option<Result<Url, Mistake>> {
    if let Some(rest) = text.strip_prefix("unix:") {
        // `unix:///run/a.sock` and `unix:/run/a.sock` name the same socket.
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        let (socket, path) = match rest.rfind(":/") {
            Some(colon) => (&rest[..colon], &rest[colon + 1..]),
            None => (rest, ""),
        };
        return Some(checked(plan::unix_url(socket, path)));
    }
    let is_encoded = text.strip_prefix(UNIX_SCHEME).is_some_and(|rest| rest.starts_with("://"));
    is_encoded.then(|| checked(Url::parse(text).ok()))
}

fn checked(url: Option<Url>) -> Result<Url, Mistake> {
    let url = url.ok_or_else(|| Mistake::new("the text is not a URL", REMEDY))?;
    let has_user = !url.username().is_empty() || url.password().is_some();
    if has_user || url.port().is_some() {
        return Err(Mistake::new("a unix socket has no user and no port", REMEDY));
    }
    match plan::unix_socket(&url) {
        Some(path) if path.is_absolute() => Ok(url),
        _ => Err(Mistake::new("the path of the unix socket is not absolute", REMEDY)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_at_a_unix_socket_has_two_forms() {
        let encoded = "http+unix://%2Frun%2Fvllm.sock/v1";
        for text in ["unix:/run/vllm.sock:/v1", "unix:///run/vllm.sock:/v1", encoded] {
            assert_eq!(unix_url(text).unwrap().unwrap().as_str(), encoded, "{text}");
        }
        let without_path = unix_url("unix:/run/vllm.sock").unwrap().unwrap();
        assert_eq!(without_path.as_str(), "http+unix://%2Frun%2Fvllm.sock");
        for text in [
            "unix:",
            "unix:run/vllm.sock:/v1",
            "http+unix:///run/vllm.sock",
            "http+unix://run/v1",
            "http+unix://user@%2Frun%2Fa.sock/v1",
            "http+unix://%2Frun%2Fa.sock:80/v1",
        ] {
            let mistake = unix_url(text).unwrap().unwrap_err();
            assert!(mistake.to_string().contains("unix:/run/vllm.sock:/v1"), "{text}");
        }
        assert!(unix_url("http://unix:80/v1").is_none() && unix_url("unix/v1").is_none());
    }
}
