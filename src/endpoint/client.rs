//! How the client of a target is put together: pool, protocol, certificates, proxy.

use std::time::Duration;

use secrecy::ExposeSecret;
use url::Url;

use super::connections::{Connections, Names};
use crate::plan::Target;

/// Servers built on uvicorn close idle connections after five seconds; a connection kept longer
/// than the server keeps it would make errors that the server is not to blame for.
const POOL_IDLE: Duration = Duration::from_secs(4);

pub(super) fn build(
    target: &Target,
    base: &Url,
    seen: &Connections,
) -> reqwest::Result<reqwest::Client> {
    // The first client of the process installs it; later ones find it there.
    let _installed_before = rustls::crypto::ring::default_provider().install_default();
    let wanted = &target.connection;
    let mut builder = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .retry(reqwest::retry::never())
        .connect_timeout(target.timeouts.connect)
        .pool_idle_timeout(POOL_IDLE)
        .user_agent(concat!("llmload/", env!("CARGO_PKG_VERSION")))
        .dns_resolver(Names)
        .connector_layer(seen.layer());
    builder = match (wanted.http2, base.scheme()) {
        (false, _) => builder.http1_only(),
        (true, "http") => builder.http2_prior_knowledge(),
        // ALPN decides.
        (true, _) => builder,
    };
    if let Some(proxy) = &wanted.proxy {
        builder = builder.proxy(reqwest::Proxy::all(proxy.clone())?);
    }
    let proxied_in_tls = wanted.proxy.as_ref().is_some_and(|proxy| proxy.scheme() == "https");
    if let Some(ca) = &wanted.ca {
        builder = builder.tls_certs_only(reqwest::Certificate::from_pem_bundle(ca.as_bytes())?);
    } else if base.scheme() == "http" && !proxied_in_tls {
        // Plain HTTP must work in an image that has no certificate store at all.
        builder = builder.tls_certs_only([]);
    }
    if let Some(identity) = &wanted.identity {
        builder =
            builder.identity(reqwest::Identity::from_pem(identity.expose_secret().as_bytes())?);
    }
    builder.tls_danger_accept_invalid_certs(wanted.insecure_skip_verify).build()
}
