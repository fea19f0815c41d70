//! The evidence about a request that failed, for the archive of failures: the body of the request,
//! and the start of the response.
//!
//! Servers quote requests, so these bytes can contain the secrets of a target. This module does not
//! know the secrets. A reader of the evidence masks them.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

/// The parts of one request and its response. All parts are bounded.
#[derive(Clone, Default)]
pub struct Evidence {
    /// True if the bytes of request and response are kept. The other values cost nothing.
    keeps_bytes: bool,
    /// The body of the request.
    pub request: Bytes,
    /// The HTTP status, if a response head arrived.
    pub status: Option<u16>,
    /// The start of the response head, one `name: value` in each line.
    pub head: Vec<u8>,
    /// The start of the response body.
    pub body: Vec<u8>,
    /// The number of bytes of the response body that llmload has read.
    pub body_bytes: u64,
    /// The time from the sending to the first text.
    pub first_token: Option<Duration>,
    /// True if llmload sent the request once more, on another connection.
    pub is_retried: bool,
}

impl Evidence {
    /// The longest start of a response head that is kept, in bytes.
    pub const HEAD_LIMIT: usize = 4096;
    /// The longest start of a response body that is kept, in bytes.
    pub const BODY_LIMIT: usize = 2048;
    /// The bytes of the body after the limit. A secret that the limit would cut is complete with
    /// these bytes, so it can be masked.
    pub const MARGIN: usize = 2048;

    /// Returns evidence without any part.
    pub fn new(keeps_bytes: bool) -> Evidence {
        Evidence { keeps_bytes, ..Evidence::default() }
    }

    pub fn add_request(&mut self, body: &Bytes) {
        if self.keeps_bytes {
            self.request = body.clone();
        }
    }

    /// Adds the status, and the names and the values of the headers.
    pub fn add_head<'a>(
        &mut self,
        status: u16,
        headers: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    ) {
        self.status = Some(status);
        if !self.keeps_bytes {
            return;
        }
        for (name, value) in headers {
            let line = name.len() + value.len() + 3;
            if self.head.len() + line > Self::HEAD_LIMIT {
                return;
            }
            self.head.extend(name.iter().map(u8::to_ascii_lowercase));
            self.head.extend_from_slice(b": ");
            self.head.extend_from_slice(value);
            self.head.push(b'\n');
        }
    }

    /// Adds the bytes of one read from the connection.
    pub fn add_body(&mut self, bytes: &[u8]) {
        self.body_bytes += bytes.len() as u64;
        if self.keeps_bytes {
            let room = (Self::BODY_LIMIT + Self::MARGIN).saturating_sub(self.body.len());
            self.body.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
    }
}

/// Shows only sizes, because the bytes can contain a secret.
impl fmt::Debug for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Evidence")
            .field("request_bytes", &self.request.len())
            .field("status", &self.status)
            .field("head_bytes", &self.head.len())
            .field("body_bytes", &self.body_bytes)
            .field("first_token", &self.first_token)
            .field("is_retried", &self.is_retried)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_bounded_and_the_debug_form_shows_no_byte() {
        let long = [b'x'; Evidence::HEAD_LIMIT];
        let headers = [(&b"X-First"[..], &b"canary"[..]), (b"x-long", &long)];
        let mut evidence = Evidence::new(true);
        evidence.add_request(&Bytes::from_static(b"canary"));
        evidence.add_head(500, headers);
        for _ in 0..200 {
            evidence.add_body(b"canary canary canary canary canary");
        }
        assert_eq!(evidence.head, b"x-first: canary\n");
        assert_eq!((evidence.body.len(), evidence.body_bytes), (4096, 6800));
        assert!(!format!("{evidence:?}").contains("canary"));
    }

    #[test]
    fn without_an_archive_no_byte_is_kept() {
        let mut evidence = Evidence::new(false);
        evidence.add_request(&Bytes::from_static(b"a"));
        evidence.add_head(200, [(&b"server"[..], &b"s"[..])]);
        evidence.add_body(b"abc");
        assert_eq!((evidence.request.len(), evidence.head.len(), evidence.body.len()), (0, 0, 0));
        assert_eq!((evidence.status, evidence.body_bytes), (Some(200), 3));
    }
}
