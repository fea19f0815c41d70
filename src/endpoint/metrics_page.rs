//! Reads a metrics page of the server behind a target.
//!
//! The page has a client with separate connections, because it must neither share a connection with
//! the measured requests nor receive the API key of the target.

use std::time::Duration;

use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderValue};
use url::{Position, Url};

use super::client::{self, ClientBuilder};
use super::connections::Connections;
use super::faults::{self, SendFailure};
use super::redaction::Redaction;
use super::resend::Attempt;
use super::{BuildError, credentials};
use crate::deadline;
use crate::measurement::{Failure, FailureDetail};
use crate::plan::{self, Auth, Connection, MetricsSource, PageLocation, Target};

/// The longest metrics page, in bytes. The pages of the known programs have less than a tenth of
/// this size.
const MAX_PAGE: usize = 4 << 20;

/// The client of one metrics page.
#[derive(Debug)]
pub struct MetricsPage {
    source: MetricsSource,
    client: reqwest::Client,
    url: Url,
    /// The URL for the HTTP library.
    requested: Url,
    headers: HeaderMap,
    connections: Connections,
    redaction: Redaction,
}

impl MetricsPage {
    /// Creates the client of a page. The page uses the TLS settings and the proxy of the target.
    /// `base` is the base URL of the target.
    ///
    /// # Errors
    /// The user or the password is not allowed in a header, or TLS or the proxy cannot be set up.
    pub fn new(
        target: &Target,
        page: &plan::MetricsPage,
        base: &Url,
    ) -> Result<MetricsPage, BuildError> {
        let url = page.location.url(base);
        let auth = match &page.location {
            PageLocation::Url { credentials: Some(credentials), .. } => {
                Auth::Basic(credentials.clone())
            }
            PageLocation::Url { .. } | PageLocation::Path(_) => Auth::None,
        };
        let target = Target {
            auth,
            headers: Vec::new(),
            query: Vec::new(),
            body_secrets: Vec::new(),
            connection: Connection { http2: false, ..target.connection.clone() },
            ..target.clone()
        };
        let connections = Connections::new(target.timeouts.connect + Connection::KEEP_ALIVE);
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("text/plain;version=0.0.4"));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(authorization) = credentials::headers(&target)?.remove(AUTHORIZATION) {
            headers.insert(AUTHORIZATION, authorization);
        }
        let redaction = credentials::redaction(&target);
        let builder = ClientBuilder {
            proxy_authorization: credentials::proxy_authorization(&target)?,
            base: url.clone(),
            connections: connections.clone(),
            ping: client::PING,
            target,
        };
        let client = builder
            .build(Some(Connection::KEEP_ALIVE), None)
            .map_err(|cause| BuildError::Client { target: builder.target.name.clone(), cause })?;
        // The HTTP library reads the path of the socket from its builder, not from the URL.
        let requested = match plan::unix_socket(&url) {
            Some(_) => format!("http://localhost{}", &url[Position::BeforePath..]).parse(),
            None => Ok(url.clone()),
        };
        let requested = requested.map_err(|error: url::ParseError| BuildError::Client {
            target: builder.target.name.clone(),
            cause: error.into(),
        })?;
        Ok(MetricsPage {
            source: page.source,
            client,
            url,
            requested,
            headers,
            connections,
            redaction,
        })
    }

    pub fn source(&self) -> MetricsSource {
        self.source
    }

    /// The URL without its query, which can contain a key.
    pub fn address(&self) -> String {
        let mut url = self.url.clone();
        url.set_query(None);
        url.to_string()
    }

    /// Requests the page, and calls `data` with each part of it.
    ///
    /// # Errors
    /// The page did not arrive within `timeout`, has another status than 200, or is too long. Some
    /// parts can have arrived before.
    pub async fn read(
        &self,
        timeout: Duration,
        mut data: impl FnMut(&[u8]),
    ) -> Result<(), FailureDetail> {
        let fetch = async {
            let mut response = match self.send().await {
                Err(SendFailure { resend: Some(_), .. }) => self.send().await,
                result => result,
            }
            .map_err(|failure| failure.detail)?;
            self.connections.respond(response.extensions());
            let status = response.status().as_u16();
            if status != 200 {
                return Err(FailureDetail::new(
                    Failure::HttpUnexpected,
                    &format!("the page has the HTTP status {status}"),
                ));
            }
            let mut length = 0;
            while let Some(chunk) = response.chunk().await.map_err(|e| faults::body_detail(&e))? {
                length += chunk.len();
                if length > MAX_PAGE {
                    return Err(FailureDetail::new(
                        Failure::TooLarge,
                        &format!("the page is longer than {} MiB", MAX_PAGE >> 20),
                    ));
                }
                data(&chunk);
            }
            Ok(())
        };
        let read = deadline::within(timeout, fetch).await.unwrap_or_else(|| {
            let message = format!("the page did not arrive within {timeout:?}");
            Err(FailureDetail::new(Failure::TimeoutTotal, &message))
        });
        read.map_err(|detail| {
            let message = self.redaction.apply(detail.message.clone());
            detail.with_message(&message)
        })
    }

    async fn send(&self) -> Result<reqwest::Response, SendFailure> {
        let request = self.client.get(self.requested.clone()).headers(self.headers.clone());
        Attempt::new(&self.connections).send_without_body(request).await
    }
}
