//! The TLS configuration of the web server, and the verification of the certificates of clients.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{
    CertificateError, CipherSuite, DigitallySignedStruct, DistinguishedName, Error, NamedGroup,
    RootCertStore, ServerConfig, SignatureScheme, SupportedProtocolVersion,
};

use crate::config::{ClientAuth, Curve, Mistake, TlsDefect, TlsPart, TlsSettings, TlsVersion};

#[derive(Debug)]
pub(super) struct Tls {
    pub(super) config: Arc<ServerConfig>,
    pub(super) client_auth: ClientAuth,
    /// True if the certificate of a client must have one of the configured names.
    pub(super) has_client_names: bool,
}

/// Builds the TLS configuration.
///
/// # Errors
/// The library rejects a certificate or a key.
pub(super) fn build(settings: TlsSettings) -> Result<Tls, TlsDefect> {
    let defect = |part, message: String, remedy: &str| TlsDefect {
        part,
        mistake: Mistake::new(message, remedy),
    };
    let provider = Arc::new(provider(&settings));
    let clients = client_verifier(&settings, &provider)?;
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions(&settings))
        .map_err(|error| {
            defect(TlsPart::Other, error.to_string(), "remove `cipher_suites`, or add one")
        })?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(verifier),
    };
    let built = builder.with_single_cert(settings.certificates, settings.key);
    let mut config = built.map_err(|error| match error {
        Error::InconsistentKeys(_) => defect(
            TlsPart::Key,
            "the key does not belong to the certificate".to_owned(),
            "name the certificate and the key of the same pair",
        ),
        Error::InvalidCertificate(_) => defect(
            TlsPart::Certificate,
            format!("the certificate cannot be used: {error}"),
            "create a certificate of X.509 version 3",
        ),
        error => defect(
            TlsPart::Key,
            format!("the key cannot be used: {error}"),
            "use an ECDSA, RSA or Ed25519 key",
        ),
    })?;
    config.ignore_client_order = settings.prefer_server_order;
    let versions: &[&[u8]] = if settings.http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
    config.alpn_protocols = versions.iter().map(|version| version.to_vec()).collect();
    Ok(Tls {
        config: Arc::new(config),
        client_auth: settings.client_auth,
        has_client_names: !settings.client_names.is_empty(),
    })
}

/// Returns the cryptography with the configured cipher suites and curves. As in Go, the list of
/// cipher suites does not apply to TLS 1.3.
fn provider(settings: &TlsSettings) -> CryptoProvider {
    let mut provider = rustls::crypto::ring::default_provider();
    if let Some(names) = &settings.suites {
        let position = |suite: CipherSuite| {
            names.iter().position(|name| suite.as_str().is_some_and(|own| own == name))
        };
        let suites = &mut provider.cipher_suites;
        suites.retain(|suite| suite.tls13().is_some() || position(suite.suite()).is_some());
        suites.sort_by_key(|suite| (suite.tls13().is_none(), position(suite.suite())));
    }
    if let Some(curves) = &settings.curves {
        let groups: Vec<NamedGroup> = curves.iter().map(|curve| group(*curve)).collect();
        let position = |name| groups.iter().position(|group| *group == name);
        provider.kx_groups.retain(|group| position(group.name()).is_some());
        provider.kx_groups.sort_by_key(|group| position(group.name()));
    }
    provider
}

fn group(curve: Curve) -> NamedGroup {
    match curve {
        Curve::X25519 => NamedGroup::X25519,
        Curve::P256 => NamedGroup::secp256r1,
        Curve::P384 => NamedGroup::secp384r1,
    }
}

fn versions(settings: &TlsSettings) -> Vec<&'static SupportedProtocolVersion> {
    [(TlsVersion::Tls13, &TLS13), (TlsVersion::Tls12, &TLS12)]
        .into_iter()
        .filter(|(version, _)| settings.versions.contains(version))
        .map(|(_, version)| version)
        .collect()
}

fn client_verifier(
    settings: &TlsSettings,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsDefect> {
    let is_mandatory = match settings.client_auth {
        ClientAuth::None => return Ok(None),
        ClientAuth::Request | ClientAuth::VerifyIfGiven => false,
        ClientAuth::RequireAny | ClientAuth::RequireAndVerify => true,
    };
    let verifier: Arc<dyn ClientCertVerifier> = match settings.client_auth {
        ClientAuth::VerifyIfGiven | ClientAuth::RequireAndVerify => {
            let defect = |reason: String| TlsDefect {
                part: TlsPart::ClientCa,
                mistake: Mistake::new(
                    format!("the certificates of the authorities cannot be used: {reason}"),
                    "use the certificate that signs the certificates of the clients",
                ),
            };
            let mut roots = RootCertStore::empty();
            for certificate in &settings.client_ca {
                roots.add(certificate.clone()).map_err(|error| defect(error.to_string()))?;
            }
            let builder =
                WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(provider));
            let builder = if is_mandatory { builder } else { builder.allow_unauthenticated() };
            builder.build().map_err(|error| defect(error.to_string()))?
        }
        _ => Arc::new(AnyCertificate { provider: Arc::clone(provider), is_mandatory }),
    };
    if settings.client_names.is_empty() {
        return Ok(Some(verifier));
    }
    Ok(Some(Arc::new(NamedClients { verifier, names: settings.client_names.clone() })))
}

/// Accepts any certificate of a client. It still verifies that the client has the key.
#[derive(Debug)]
struct AnyCertificate {
    provider: Arc<CryptoProvider>,
    is_mandatory: bool,
}

impl ClientCertVerifier for AnyCertificate {
    fn client_auth_mandatory(&self) -> bool {
        self.is_mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Accepts a certificate only if it has one of the names exactly: a wildcard matches nothing.
#[derive(Debug)]
struct NamedClients {
    verifier: Arc<dyn ClientCertVerifier>,
    names: Vec<String>,
}

impl NamedClients {
    fn has_name(&self, certificate: &CertificateDer<'_>) -> bool {
        let Ok(certificate) = webpki::EndEntityCert::try_from(certificate) else { return false };
        let is_allowed = |name: &str| self.names.iter().any(|allowed| allowed == name);
        let has_address = |name: &String| {
            name.parse::<IpAddr>().is_ok_and(|address| {
                let name = ServerName::IpAddress(address.into());
                certificate.verify_is_valid_for_subject_name(&name).is_ok()
            })
        };
        certificate.valid_dns_names().any(is_allowed)
            || certificate.valid_uri_names().any(is_allowed)
            || self.names.iter().any(has_address)
    }
}

impl ClientCertVerifier for NamedClients {
    fn client_auth_mandatory(&self) -> bool {
        self.verifier.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.verifier.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.verifier.verify_client_cert(certificate, intermediates, now)?;
        if self.has_name(certificate) {
            return Ok(verified);
        }
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
