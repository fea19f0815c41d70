//! The response of an HTTP server. This module is separate, because it reads headers, whereas the
//! endpoint decides how a request is sent.

use std::time::SystemTime;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, TRANSFER_ENCODING};

use super::http1::Http1Response;
use super::library::LibraryResponse;
use super::{ConnectTiming, Response, faults};
use crate::measurement::FailureDetail;
use crate::protocol::{RateLimits, headers};

/// An HTTP response whose body is not read yet.
pub struct HttpResponse(Received);

/// The response, by the client that received it.
pub(super) enum Received {
    Http1(Http1Response),
    Library(LibraryResponse),
}

impl HttpResponse {
    pub(super) fn new(received: Received) -> HttpResponse {
        HttpResponse(received)
    }

    /// Returns the first header with this name, which is in lower case, if it is valid text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.texts(name).next()?
    }

    /// Returns the headers with this name, which is in lower case. A header that is not valid text
    /// is `None`.
    fn texts<'a>(&'a self, name: &str) -> impl Iterator<Item = Option<&'a str>> {
        let (http1, library) = match &self.0 {
            Received::Http1(response) => (Some(response.values(name)), None),
            Received::Library(LibraryResponse { response, .. }) => {
                let values = response.headers().get_all(name).into_iter();
                (None, Some(values.map(HeaderValue::as_bytes)))
            }
        };
        http1.into_iter().flatten().chain(library.into_iter().flatten()).map(visible)
    }
}

/// Returns a header value as text if it consists of visible ASCII characters, spaces and tabs.
fn visible(value: &[u8]) -> Option<&str> {
    let is_visible = |byte: &u8| byte.is_ascii_graphic() || matches!(byte, b' ' | b'\t');
    value.iter().all(is_visible).then_some(value).and_then(|value| str::from_utf8(value).ok())
}

/// Shows only the status. The response also contains the URL with its query, and its headers can
/// quote the headers of the request, so both can contain a secret.
impl std::fmt::Debug for HttpResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpResponse").field("status", &self.status()).finish_non_exhaustive()
    }
}

impl Response for HttpResponse {
    fn status(&self) -> u16 {
        match &self.0 {
            Received::Http1(response) => response.status(),
            Received::Library(LibraryResponse { response, .. }) => response.status().as_u16(),
        }
    }

    fn content_type(&self) -> Option<&str> {
        self.header(CONTENT_TYPE.as_str())
    }

    fn content_encoding(&self) -> Option<&str> {
        let values = self.texts(CONTENT_ENCODING.as_str());
        let values = values.chain(self.texts(TRANSFER_ENCODING.as_str()));
        // llmload requests no encoding. A name that is not valid text counts as an encoding too.
        let names = values.flat_map(|value| value.unwrap_or("?").split(',').map(str::trim));
        // The HTTP client has already removed the transfer encoding `chunked`.
        let is_plain = |name: &str| {
            ["", "identity", "chunked"].iter().any(|plain| name.eq_ignore_ascii_case(plain))
        };
        let mut applied = names.filter(|name| !is_plain(name));
        applied.next()
    }

    fn connect_timing(&self) -> Option<ConnectTiming> {
        match &self.0 {
            Received::Http1(response) => response.connect_timing(),
            Received::Library(response) => response.connect_timing,
        }
    }

    fn rate_limits(&self) -> Option<RateLimits> {
        RateLimits::read(|name| self.header(name), SystemTime::now())
    }

    fn headers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let (http1, library) = match &self.0 {
            Received::Http1(response) => (Some(response.headers()), None),
            Received::Library(LibraryResponse { response, .. }) => {
                let all = response.headers().iter();
                let pairs = all.map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
                (None, Some(pairs))
            }
        };
        http1.into_iter().flatten().chain(library.into_iter().flatten())
    }

    fn request_id(&self) -> Option<String> {
        headers::request_id(|name| self.header(name))
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>, FailureDetail> {
        match &mut self.0 {
            Received::Http1(response) => response.chunk().await,
            Received::Library(LibraryResponse { response, .. }) => {
                response.chunk().await.map_err(|error| faults::body_detail(&error))
            }
        }
    }
}
