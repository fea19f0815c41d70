//! The headers and the query with the secrets of a target, and the forms in which a server can
//! quote these secrets. The user and the password of a URL are encoded for basic auth (RFC 7617).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, HeaderMap, HeaderValue, PROXY_AUTHORIZATION,
};
use secrecy::{ExposeSecret, SecretString};

use super::BuildError;
use super::redaction::Redaction;
use crate::plan::{Auth, BasicCredentials, Target};

/// Returns the encoded query of every request.
pub(super) fn query(target: &Target) -> Option<SecretString> {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in &target.query {
        query.append_pair(name, value.expose_secret());
    }
    Some(query.finish()).filter(|query| !query.is_empty()).map(SecretString::from)
}

pub(super) fn redaction(target: &Target) -> Redaction {
    let (key, user) = match &target.auth {
        Auth::None => (None, None),
        Auth::Basic(credentials) => (None, Some(credentials)),
        Auth::Bearer(key) | Auth::ApiKey(key) | Auth::XApiKey(key) => (Some(&key.value), None),
    };
    let (headers, query) = (target.headers.iter().map(|h| &h.1), target.query.iter().map(|q| &q.1));
    let values = key.into_iter().chain(headers).chain(query).chain(&target.body_secrets);
    let values = values.map(ExposeSecret::expose_secret);
    let proxy = target.connection.proxy.as_ref().and_then(|proxy| proxy.credentials.as_ref());
    let quoted: Vec<String> = user.into_iter().chain(proxy).flat_map(forms).collect();
    Redaction::new(values.chain(quoted.iter().map(String::as_str)))
}

/// Returns a header value that the libraries do not show in their logs.
fn sensitive(target: &Target, header: &str, text: &str) -> Result<HeaderValue, BuildError> {
    let mut value = HeaderValue::from_str(text).map_err(|_| BuildError::Header {
        target: target.name.clone(),
        header: header.to_owned(),
    })?;
    value.set_sensitive(true);
    Ok(value)
}

pub(super) fn proxy_authorization(target: &Target) -> Result<Option<HeaderValue>, BuildError> {
    let proxy = target.connection.proxy.as_ref();
    let credentials = proxy.and_then(|proxy| proxy.credentials.as_ref());
    let value = |credentials| sensitive(target, PROXY_AUTHORIZATION.as_str(), &encode(credentials));
    credentials.map(value).transpose()
}

pub(super) fn headers(target: &Target) -> Result<HeaderMap, BuildError> {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    // HTTP/2 does not allow this header.
    if target.connection.keep_alive.is_none() && !target.connection.http2 {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    for &(name, value) in target.dialect.api.headers() {
        if !target.headers.iter().any(|(configured, _)| configured == name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    let secret = |header: &str, text: &str| sensitive(target, header, text);
    for (name, value) in &target.headers {
        headers.append(name, secret(name.as_str(), value.expose_secret())?);
    }
    match &target.auth {
        Auth::None => {}
        Auth::Basic(credentials) => {
            let value = encode(credentials);
            headers.insert(AUTHORIZATION, secret("authorization", &value)?);
        }
        Auth::Bearer(key) => {
            let value = format!("Bearer {}", key.value.expose_secret());
            headers.insert(AUTHORIZATION, secret("authorization", &value)?);
        }
        Auth::ApiKey(key) => {
            headers.insert("api-key", secret("api-key", key.value.expose_secret())?);
        }
        Auth::XApiKey(key) => {
            headers.insert("x-api-key", secret("x-api-key", key.value.expose_secret())?);
        }
    }
    Ok(headers)
}

/// Returns the value of the header `authorization` for basic auth.
pub fn basic_authorization(user: String, password: String) -> String {
    encode(&BasicCredentials { user: user.into(), password: password.into() })
}

/// Returns the value of the header, such as `Basic dXNlcjpwYXNz`.
fn encode(credentials: &BasicCredentials) -> String {
    format!("Basic {}", STANDARD.encode(pair(credentials)))
}

/// Returns the forms in which a server can quote the credentials.
fn forms(credentials: &BasicCredentials) -> [String; 4] {
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
