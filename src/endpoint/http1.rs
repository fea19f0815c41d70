//! The HTTP/1.1 client for direct connections to a target.
//!
//! The task of a request reads and writes its connection itself. So no other task has to run
//! between the arrival of bytes and their measurement, and a stream needs little memory. The client
//! knows facts that a general HTTP library hides: if a byte of a response has arrived, when a
//! request was written, and which interim responses came before. Each of them decides a failure
//! class or a resend.

pub mod body;
mod connect;
mod error;
pub mod head;
mod pool;
mod request;
mod response;
mod sending;
mod socket;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use crate::measurement::FailureDetail;
use connect::Connector;
pub use error::Violation;
use pool::Pool;
pub(super) use request::{AGENT, Http1Request, RequestHead};
pub(super) use response::Http1Response;

/// The HTTP/1.1 client of one target.
#[derive(Debug)]
pub(super) struct Http1Client {
    connector: Connector,
    /// `None` if each request has a separate connection.
    pool: Option<Arc<Pool>>,
}

impl Http1Client {
    /// `tls` is the configuration for an https URL. `limit` is the time to establish a connection,
    /// and `keep_alive` is the time for which an idle connection stays open.
    ///
    /// # Errors
    /// The URL has no host, or TLS does not allow its name.
    pub(super) fn new(
        base: &Url,
        tls: Option<rustls::ClientConfig>,
        limit: Duration,
        keep_alive: Option<Duration>,
    ) -> Result<Http1Client, Box<dyn Error + Send + Sync>> {
        let pool = keep_alive.map(|time| Arc::new(Pool::new(time)));
        Ok(Http1Client { connector: Connector::new(base, tls, limit)?, pool })
    }

    /// Sends a request and waits for the response head. If an idle connection ends before the
    /// server can work on the request, llmload sends the request once more, on a new connection,
    /// and calls `retried`.
    ///
    /// # Errors
    /// No response head arrived.
    pub(super) async fn send(
        &self,
        request: &Http1Request,
        mut retried: impl FnMut(),
    ) -> Result<Http1Response, FailureDetail> {
        let idle = self.pool.as_ref().and_then(|pool| pool.take());
        if let Some(connection) = idle {
            match sending::send(connection, request.clone()).await {
                Ok(answered) => return Ok(Http1Response::new(answered, self.pool.as_ref())),
                Err(unanswered) if unanswered.is_unprocessed => retried(),
                Err(unanswered) => return Err(unanswered.detail),
            }
        }
        let connection = self.connector.connect().await?;
        let answered = sending::send(connection, request.clone()).await;
        let answered = answered.map_err(|unanswered| unanswered.detail)?;
        Ok(Http1Response::new(answered, self.pool.as_ref()))
    }
}
