//! The URL of a server at a unix socket: `http+unix://%2Frun%2Fvllm.sock/v1`. Its host is the path
//! of the socket. So such a server needs no other type than a URL, and has its place in every
//! message.

use std::path::PathBuf;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use url::Url;

pub const UNIX_SCHEME: &str = "http+unix";
/// The characters that a host must not contain. The slash is one of them.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Returns the URL of a path at a unix socket. `path` is empty or begins with a slash.
pub fn unix_url(socket: &str, path: &str) -> Option<Url> {
    let host = utf8_percent_encode(socket, ENCODED);
    Url::parse(&format!("{UNIX_SCHEME}://{host}{path}")).ok()
}

/// Returns the path of the socket. Returns `None` if the server is not at a unix socket.
pub fn unix_socket(url: &Url) -> Option<PathBuf> {
    let host = url.host_str().filter(|_| url.scheme() == UNIX_SCHEME)?;
    Some(PathBuf::from(&*percent_decode_str(host).decode_utf8().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_contains_any_path_of_a_socket() {
        for socket in ["/run/vllm.sock", "/tmp/a b/ü%2F?#@:.sock", "/x"] {
            for path in ["", "/", "/v1", "/v1/models?a=b"] {
                let url = unix_url(socket, path).unwrap();
                assert_eq!(unix_socket(&url), Some(PathBuf::from(socket)), "{url}");
                assert_eq!(&url[url::Position::BeforePath..], path, "{url}");
            }
        }
        for url in ["http://run/", "https://127.0.0.1:8000/v1", "unix:/run/vllm.sock"] {
            assert_eq!(unix_socket(&Url::parse(url).unwrap()), None, "{url}");
        }
    }
}
