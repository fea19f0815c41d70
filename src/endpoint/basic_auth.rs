//! Encodes the user and the password of a URL for the headers of basic auth (RFC 7617).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::ExposeSecret;

use crate::plan::BasicCredentials;

/// Returns the value of the header, such as `Basic dXNlcjpwYXNz`.
pub(super) fn encode(credentials: &BasicCredentials) -> String {
    format!("Basic {}", STANDARD.encode(pair(credentials)))
}

/// Returns the forms in which a server can quote the credentials.
pub(super) fn forms(credentials: &BasicCredentials) -> [String; 4] {
    [
        encode(credentials),
        pair(credentials),
        credentials.user.expose_secret().to_owned(),
        credentials.password.expose_secret().to_owned(),
    ]
}

fn pair(credentials: &BasicCredentials) -> String {
    format!("{}:{}", credentials.user.expose_secret(), credentials.password.expose_secret())
}
