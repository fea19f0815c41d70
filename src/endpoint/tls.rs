//! The TLS configuration of a target: the trusted certificates, the client certificate and the
//! versions of HTTP that llmload offers. Both HTTP clients use it.

mod verifiers;

use std::error::Error;
use std::io::{Read, Write};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use secrecy::ExposeSecret;

use crate::plan::Connection;
use verifiers::{AnyCertificate, ListedCertificates};

/// Builds the configuration. `versions` are the names of the versions of HTTP, such as `h2`, the
/// preferred one first.
///
/// # Errors
/// The certificates cannot be read.
pub(super) fn client_config(
    options: &Connection,
    versions: &[&str],
) -> Result<ClientConfig, Box<dyn Error + Send + Sync>> {
    let provider = provider();
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let builder = if options.insecure_skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate))
    } else if let Some(pem) = &options.ca {
        let listed = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>()?;
        let listed = ListedCertificates::new(listed, provider)?;
        builder.dangerous().with_custom_certificate_verifier(Arc::new(listed))
    } else {
        let system = rustls_platform_verifier::Verifier::new(provider)?;
        builder.dangerous().with_custom_certificate_verifier(Arc::new(system))
    };
    let mut config = match &options.identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let pem = identity.expose_secret().as_bytes();
            let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>()?;
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(pem)?)?
        }
    };
    config.alpn_protocols = versions.iter().map(|version| version.as_bytes().to_vec()).collect();
    Ok(config)
}

/// Begins TLS on a connection without the runtime. The handshake happens at the first write.
///
/// # Errors
/// The certificates cannot be read, or TLS does not allow the name of the host.
pub fn begin_tls<S: Read + Write>(
    options: &Connection,
    host: &str,
    stream: S,
) -> Result<impl Read + Write + use<S>, Box<dyn Error + Send + Sync>> {
    let config = client_config(options, &["http/1.1"])?;
    let name = ServerName::try_from(host.to_owned())?;
    Ok(StreamOwned::new(ClientConnection::new(Arc::new(config), name)?, stream))
}

/// Builds a configuration that trusts no server. The HTTP library needs one even without TLS.
///
/// # Errors
/// The TLS library does not support any version of TLS.
pub(super) fn without_certificates() -> Result<ClientConfig, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(provider());
    let builder = builder.with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
