//! The response of an HTTP server. It is a module of its own, because it reads headers, whereas the
//! endpoint decides how a request is sent.

use std::time::SystemTime;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, TRANSFER_ENCODING};

use super::http2::Stream;
use super::{ConnectTiming, Response, faults};
use crate::measurement::FailureDetail;
use crate::protocol::{RateLimits, headers};

/// An HTTP response whose body is not read yet.
pub struct HttpResponse {
    response: reqwest::Response,
    connect_timing: Option<ConnectTiming>,
    /// The HTTP/2 stream, which is in use until the response is dropped.
    _stream: Option<Stream>,
}

impl HttpResponse {
    pub(super) fn new(
        response: reqwest::Response,
        connect_timing: Option<ConnectTiming>,
        stream: Option<Stream>,
    ) -> HttpResponse {
        HttpResponse { response, connect_timing, _stream: stream }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }
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
        self.response.status().as_u16()
    }

    fn content_type(&self) -> Option<&str> {
        self.header(CONTENT_TYPE.as_str())
    }

    fn content_encoding(&self) -> Option<&str> {
        let headers = self.response.headers();
        let values = headers.get_all(CONTENT_ENCODING).into_iter();
        let values = values.chain(headers.get_all(TRANSFER_ENCODING));
        // llmload requests no encoding. A name that is not valid text counts as an encoding too.
        let names =
            values.flat_map(|value| value.to_str().unwrap_or("?").split(',').map(str::trim));
        // The HTTP client has already removed the transfer encoding `chunked`.
        let is_plain = |name: &str| {
            ["", "identity", "chunked"].iter().any(|plain| name.eq_ignore_ascii_case(plain))
        };
        let mut applied = names.filter(|name| !is_plain(name));
        applied.next()
    }

    fn connect_timing(&self) -> Option<ConnectTiming> {
        self.connect_timing
    }

    fn rate_limits(&self) -> Option<RateLimits> {
        RateLimits::read(|name| self.header(name), SystemTime::now())
    }

    fn headers(&self) -> Option<&HeaderMap> {
        Some(self.response.headers())
    }

    fn request_id(&self) -> Option<String> {
        headers::request_id(|name| self.header(name))
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>, FailureDetail> {
        self.response.chunk().await.map_err(|error| faults::body_failure(&error))
    }
}
