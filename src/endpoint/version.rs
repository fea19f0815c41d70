//! Which version of itself a server says it is: the value of one label, so it is bounded.

use serde::Deserialize;
use url::Url;

use crate::measurement::printable;

/// Where servers tell it, below their root: vLLM and others, then `SGLang`.
pub(super) const PATHS: [&str; 2] = ["version", "get_server_info"];
/// The longest that is shown, in bytes.
const LONGEST: usize = 64;

/// A page beside the API's root: that one usually ends in `/v1`.
pub(super) fn url(base: &Url, path: &str) -> Url {
    let root = base.path().trim_end_matches('/');
    let root = root.strip_suffix("/v1").unwrap_or(root);
    let mut url = base.clone();
    url.set_path(&format!("{root}/{path}"));
    url
}

/// The member `version` of an object; what else the object holds is passed over.
pub(super) fn read(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Told {
        version: String,
    }
    let told: Told = serde_json::from_slice(body).ok()?;
    Some(told.version).filter(|version| !version.trim().is_empty())
}

/// Whether the header `server` holds a version and not only the name of some library.
pub(super) fn tells_one(server: &str) -> bool {
    server.bytes().any(|byte| byte.is_ascii_digit())
}

/// Fit to be a label.
pub(super) fn label(version: &str) -> String {
    let plain: String =
        version.chars().map(|c| if c.is_ascii_graphic() { c } else { ' ' }).collect();
    printable(&plain, LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_asked_for_beside_the_api() {
        for (base, asked) in [
            ("http://h/v1", "http://h/version"),
            ("http://h/a/v1", "http://h/a/version"),
            ("http://h/openai/deployments/m", "http://h/openai/deployments/m/version"),
            ("http://h", "http://h/version"),
        ] {
            assert_eq!(url(&Url::parse(base).unwrap(), "version").as_str(), asked);
        }
    }

    #[test]
    fn whatever_a_server_says_stays_a_small_label() {
        assert_eq!(read(br#"{"version":"0.11.0","more":[1]}"#).unwrap(), "0.11.0");
        for body in
            [&b"{}"[..], b"null", b"{\"version\":\" \"}", b"{\"version\":7}", b"<html>", b"\xff"]
        {
            assert_eq!(read(body), None);
        }
        let odd = label(&format!("1.0\n\u{1b}[31m\"é{}", "x".repeat(100)));
        assert!(odd.len() <= LONGEST && odd.starts_with("1.0"), "{odd}");
        assert!(odd.chars().all(|c| c == ' ' || c == '…' || c.is_ascii_graphic()), "{odd}");
        assert!(tells_one("vllm/0.6") && !tells_one("uvicorn"));
    }
}
