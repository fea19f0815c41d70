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
mod gate;
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

use super::SendStep;
use crate::measurement::FailureDetail;
use connect::Connector;
pub use error::Violation;
use gate::Gate;
use pool::Pool;
pub(super) use request::{AGENT, Http1Request, RequestHead};
pub(super) use response::Http1Response;
use sending::Answered;

/// The HTTP/1.1 client of one target.
#[derive(Debug)]
pub(super) struct Http1Client {
    connector: Connector,
    gate: Gate,
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
        Ok(Http1Client { connector: Connector::new(base, tls, limit)?, gate: Gate::new(), pool })
    }

    /// Sends a request and waits for the response head. Calls `report` for each step. If an idle
    /// connection ends before the server can work on the request, llmload sends the request once
    /// more, on a new connection.
    ///
    /// # Errors
    /// No response head arrived.
    pub(super) async fn send(
        &self,
        request: &Http1Request,
        mut report: impl FnMut(SendStep),
    ) -> Result<Http1Response, FailureDetail> {
        let idle = self.pool.as_ref().and_then(|pool| pool.take());
        let answered = if let Some(connection) = idle {
            report(SendStep::Begun { waited: Duration::ZERO });
            match sending::send(connection, request.clone()).await {
                Ok(answered) => answered,
                Err(unanswered) if unanswered.is_unprocessed => {
                    report(SendStep::Retried);
                    self.connect_and_send(request).await?
                }
                Err(unanswered) => return Err(unanswered.detail),
            }
        } else {
            let (place, waited) = self.gate.enter().await;
            report(SendStep::Begun { waited });
            place.work(self.connect_and_send(request)).await?
        };
        Ok(Http1Response::new(answered, self.pool.as_ref()))
    }

    async fn connect_and_send(&self, request: &Http1Request) -> Result<Answered, FailureDetail> {
        let connection = self.connector.connect().await?;
        let answered = sending::send(connection, request.clone()).await;
        answered.map_err(|unanswered| unanswered.detail)
    }
}
