//! The version that a server reports. llmload uses the version as the value of a label, so its
//! length is limited.

use serde::Deserialize;
use url::Url;

use crate::measurement::printable;

/// The paths at which servers report their version, relative to the root of the server. vLLM and
/// others use the first path, `SGLang` uses the second.
pub(super) const PATHS: [&str; 2] = ["version", "get_server_info"];
/// The length to which a version is shortened, in bytes.
const MAX_LENGTH: usize = 64;

/// Returns the URL of a page next to the API, such as `/version` and not `/v1/version`.
pub(super) fn url(base: &Url, path: &str) -> Url {
    let root = base.path().trim_end_matches('/');
    let root = root.strip_suffix("/v1").unwrap_or(root);
    let mut url = base.clone();
    url.set_path(&format!("{root}/{path}"));
    url
}

/// Returns the value of `version` in a JSON object, if a label can show a part of it.
pub(super) fn parse(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Document {
        version: String,
    }
    let document: Document = serde_json::from_slice(body).ok()?;
    Some(document.version).filter(|version| version.contains(|c: char| c.is_ascii_graphic()))
}

/// Returns true if the header `server` contains a version, and not only the name of a library.
pub(super) fn has_version(server: &str) -> bool {
    server.bytes().any(|byte| byte.is_ascii_digit())
}

/// Returns a version as the value of a label: printable ASCII of at most [`MAX_LENGTH`] bytes.
pub(super) fn to_label(version: &str) -> String {
    let plain: String =
        version.chars().map(|c| if c.is_ascii_graphic() { c } else { ' ' }).collect();
    printable(&plain, MAX_LENGTH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_page_is_next_to_the_api() {
        for (base, expected) in [
            ("http://h/v1", "http://h/version"),
            ("http://h/a/v1", "http://h/a/version"),
            ("http://h/openai/deployments/m", "http://h/openai/deployments/m/version"),
            ("http://h", "http://h/version"),
        ] {
            assert_eq!(url(&Url::parse(base).unwrap(), "version").as_str(), expected);
        }
    }

    #[test]
    fn any_version_becomes_a_short_printable_label() {
        assert_eq!(parse(br#"{"version":"0.11.0","more":[1]}"#).unwrap(), "0.11.0");
        for body in
            [&b"{}"[..], b"null", b"{\"version\":\" \"}", b"{\"version\":7}", b"<html>", b"\xff"]
        {
            assert_eq!(parse(body), None);
        }
        assert_eq!(parse("{\"version\":\"版本\"}".as_bytes()), None, "no label can show it");
        let odd = to_label(&format!("1.0\n\u{1b}[31m\"é{}", "x".repeat(100)));
        assert!(odd.len() <= MAX_LENGTH && odd.starts_with("1.0"), "{odd}");
        assert!(odd.chars().all(|c| c == ' ' || c == '…' || c.is_ascii_graphic()), "{odd}");
        assert!(has_version("vllm/0.6") && !has_version("uvicorn"));
    }
}
