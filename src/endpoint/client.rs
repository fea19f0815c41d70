//! Builds the clients of the HTTP library for a target: connection pool, protocol version and
//! proxy.

use std::error::Error;
use std::time::Duration;

use http::HeaderValue;
use url::Url;

use super::connections::Connections;
use super::http1::AGENT;
use super::http2::Establishing;
use super::resolver::SystemResolver;
use super::tls;
use crate::plan::{self, Target};

/// The time without a frame from the server after which llmload sends an HTTP/2 ping, and the time
/// that the server has to acknowledge the ping. If the machine of the server has disappeared, no
/// packet reports this. An overloaded server acknowledges a ping, so the load ends no connection.
pub(super) const PING: Duration = Duration::from_secs(10);

/// Creates clients of the HTTP library for a target.
#[derive(Clone, Debug)]
pub(super) struct ClientBuilder {
    pub(super) target: Target,
    pub(super) base: Url,
    pub(super) connections: Connections,
    pub(super) proxy_authorization: Option<HeaderValue>,
    /// The interval of pings, and the time that the server has to acknowledge one.
    pub(super) ping: Duration,
}

impl ClientBuilder {
    /// Builds a client. `keep_alive` is the time for which an idle connection stays open; with
    /// `None`, each request has a separate connection. `establishing` observes the connecting.
    pub(super) fn build(
        &self,
        keep_alive: Option<Duration>,
        establishing: Option<Establishing>,
    ) -> Result<reqwest::Client, Box<dyn Error + Send + Sync>> {
        let ClientBuilder { target, base, connections, proxy_authorization, ping } = self;
        let (options, limit) = (&target.connection, target.timeouts.connect);
        let mut builder = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .retry(reqwest::retry::never())
            // The layer below ends a connection after `limit`, and knows the reason. The HTTP
            // client uses its own limit only to divide the time among the addresses of a name.
            .connect_timeout(limit + limit / 10)
            .http2_keep_alive_interval(*ping)
            .http2_keep_alive_timeout(*ping)
            .http2_keep_alive_while_idle(true)
            .pool_idle_timeout(keep_alive)
            .pool_max_idle_per_host(if keep_alive.is_some() { usize::MAX } else { 0 })
            .user_agent(AGENT)
            .dns_resolver(SystemResolver)
            .connector_layer(connections.layer(limit));
        if let Some(socket) = plan::unix_socket(base) {
            builder = builder.unix_socket(socket);
        }
        if let Some(establishing) = establishing {
            if base.scheme() == "http" {
                establishing.set_prior_knowledge();
            }
            builder = builder.connector_layer(establishing);
        }
        builder = match (options.http2, base.scheme()) {
            (false, _) => builder.http1_only(),
            (true, "http") => builder.http2_prior_knowledge(),
            // The TLS handshake chooses the version (ALPN).
            (true, _) => builder,
        };
        if let Some(proxy) = &options.proxy {
            let all = reqwest::Proxy::all(proxy.url.clone())?;
            builder = builder.proxy(match proxy_authorization {
                Some(credentials) => all.custom_http_auth(credentials.clone()),
                None => all,
            });
        }
        let proxied_in_tls =
            options.proxy.as_ref().is_some_and(|proxy| proxy.url.scheme() == "https");
        let both: &[&str] = &["h2", "http/1.1"];
        let versions = if options.http2 { both } else { &["http/1.1"] };
        let tls = if base.scheme() == "https" || proxied_in_tls {
            tls::client_config(options, versions)?
        } else {
            // Plain HTTP does not fail in a container image that has no certificate store.
            tls::without_certificates()?
        };
        builder = builder.tls_backend_preconfigured(tls);
        Ok(builder.build()?)
    }
}
