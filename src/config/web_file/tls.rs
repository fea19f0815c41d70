//! The TLS settings of a web configuration file.

use std::ops::RangeInclusive;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::document::TlsServer;
use super::pem::Pem;
use super::{Reader, no_value};
use crate::config::field::{Field, FieldList, Located};
use crate::config::hints;
use crate::config::problem::Mistake;
use crate::config::tree::{NodeId, Value, excerpt};

/// The cipher suites that llmload supports, by the names of Go. A file can limit those of TLS 1.2.
const SUITES: [&str; 9] = [
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
];
const CURVES: [(&str, Curve); 3] =
    [("X25519", Curve::X25519), ("CurveP256", Curve::P256), ("CurveP384", Curve::P384)];
const CLIENT_AUTH: [(&str, ClientAuth); 6] = [
    ("NoClientCert", ClientAuth::None),
    ("RequestClientCert", ClientAuth::Request),
    ("RequireAnyClientCert", ClientAuth::RequireAny),
    // An old name of the same policy.
    ("RequireClientCert", ClientAuth::RequireAny),
    ("VerifyClientCertIfGiven", ClientAuth::VerifyIfGiven),
    ("RequireAndVerifyClientCert", ClientAuth::RequireAndVerify),
];

/// The settings to build a TLS configuration from.
#[derive(Debug)]
pub struct TlsSettings {
    /// The certificate of the server, and the certificates that sign it.
    pub certificates: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
    pub client_auth: ClientAuth,
    /// The authorities that can sign the certificate of a client. Not empty if `client_auth`
    /// verifies certificates.
    pub client_ca: Vec<CertificateDer<'static>>,
    /// If this is not empty, the certificate of a client must have one of these names: a DNS name,
    /// an IP address or a URI.
    pub client_names: Vec<String>,
    pub versions: RangeInclusive<TlsVersion>,
    /// The names of the cipher suites of TLS 1.2, in the order of the file. `None` means the
    /// default.
    pub suites: Option<Vec<String>>,
    /// True if the order of the server selects the cipher suite, and not the order of the client.
    pub prefer_server_order: bool,
    /// The curves of the key exchange, the preferred one first. `None` means the default.
    pub curves: Option<Vec<Curve>>,
    /// True if the server offers HTTP/2.
    pub http2: bool,
}

/// The policy for the certificates of clients. A greater one protects more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClientAuth {
    None,
    /// A client can send any certificate.
    Request,
    /// A client can send a certificate. It must be from a known authority.
    VerifyIfGiven,
    /// A client must send a certificate, which can be any.
    RequireAny,
    /// A client must send a certificate from a known authority.
    RequireAndVerify,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    Tls12,
    Tls13,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    X25519,
    P256,
    P384,
}

/// A part of the TLS settings that a library can reject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsPart {
    Certificate,
    Key,
    ClientCa,
    /// Any other part, such as the versions.
    Other,
}

/// The reason to reject TLS settings.
#[derive(Debug)]
pub struct TlsDefect {
    pub part: TlsPart,
    pub mistake: Mistake,
}

/// The nodes of the parts.
pub(super) struct TlsPlaces {
    certificate: NodeId,
    key: NodeId,
    client_ca: NodeId,
    other: NodeId,
}

impl TlsPlaces {
    pub(super) fn of(&self, part: TlsPart) -> NodeId {
        match part {
            TlsPart::Certificate => self.certificate,
            TlsPart::Key => self.key,
            TlsPart::ClientCa => self.client_ca,
            TlsPart::Other => self.other,
        }
    }
}

impl Reader<'_> {
    /// Returns `None` if the file has no TLS settings or a mistake.
    pub(super) fn tls(
        &self,
        field: &Field<TlsServer>,
        http2: bool,
    ) -> Option<(TlsSettings, TlsPlaces)> {
        let Located { node, value: keys } = field.present()?;
        let certificate = self.pem_text(&keys.cert, &keys.cert_file, ("cert", "cert_file"));
        let key = self.pem_text(&keys.key, &keys.key_file, ("key", "key_file"));
        let client_ca =
            self.pem_text(&keys.client_ca, &keys.client_ca_file, ("client_ca", "client_ca_file"));
        let client_auth = self.client_auth(keys, &client_ca);
        let client_names = self.client_names(keys, client_auth);
        let versions = self.versions(keys);
        let suites = self.suites(&keys.cipher_suites, versions.as_ref());
        let curves = self.curves(&keys.curve_preferences);
        // An empty map means plain HTTP, as in the exporters of Prometheus.
        if !self.has_keys(*node) {
            return None;
        }
        if let (Pem::Absent, _) | (_, Pem::Absent) = (&certificate, &key) {
            self.missing(
                *node,
                "TLS needs a certificate and its private key",
                "write both, such as `cert_file: server.crt` and `key_file: server.key`",
            );
        }
        let places = TlsPlaces {
            certificate: certificate.node()?,
            key: key.node()?,
            client_ca: client_ca.node().unwrap_or(*node),
            other: *node,
        };
        let certificates = self.certificates(certificate);
        let key = self.private_key(key);
        let client_ca = match client_ca {
            Pem::Absent => Some(Vec::new()),
            pem => self.certificates(pem),
        };
        let prefer_server_order =
            keys.prefer_server_cipher_suites.present().is_none_or(|located| located.value);
        let settings = TlsSettings {
            certificates: certificates?,
            key: key?,
            client_auth: client_auth?,
            client_ca: client_ca?,
            client_names: client_names?,
            versions: versions?,
            suites: suites?,
            prefer_server_order,
            curves: curves?,
            http2,
        };
        Some((settings, places))
    }

    fn has_keys(&self, node: NodeId) -> bool {
        !matches!(self.tree.value(node), Value::Map(entries) if entries.is_empty())
    }

    fn client_auth(&self, keys: &TlsServer, client_ca: &Pem) -> Option<ClientAuth> {
        let (node, policy) = match &keys.client_auth_type {
            Field::Absent => (None, ClientAuth::None),
            Field::Invalid(_) => return None,
            // The value of a template can be empty by mistake.
            Field::Present(located) if located.value.is_empty() => {
                self.report(located.node, no_value("client_auth_type"));
                return None;
            }
            Field::Present(located) => {
                let (_, policy) =
                    CLIENT_AUTH.iter().find(|(name, _)| *name == located.value).or_else(|| {
                        let names = CLIENT_AUTH.iter().map(|(name, _)| *name);
                        let mistake = hints::not_a_choice(&located.value, names);
                        self.report(located.node, mistake);
                        None
                    })?;
                (Some(located.node), *policy)
            }
        };
        match (policy, client_ca, node) {
            (ClientAuth::None, Pem::Text { node, .. }, _) => {
                self.problem(
                    *node,
                    "without a policy for the certificates of clients, llmload would not use these \
                     certificates",
                    "add `client_auth_type: RequireAndVerifyClientCert`",
                );
                None
            }
            (ClientAuth::VerifyIfGiven | ClientAuth::RequireAndVerify, Pem::Absent, Some(node)) => {
                self.problem(
                    node,
                    "llmload needs the certificate of an authority to verify the certificates of \
                     clients",
                    "add `client_ca_file` with the path of this certificate",
                );
                None
            }
            _ => Some(policy),
        }
    }

    fn client_names(&self, keys: &TlsServer, policy: Option<ClientAuth>) -> Option<Vec<String>> {
        let Some(list) = keys.client_allowed_sans.present() else {
            return keys.client_allowed_sans.is_absent().then(Vec::new);
        };
        if matches!(policy, Some(p) if !matches!(p, ClientAuth::RequireAny | ClientAuth::RequireAndVerify))
        {
            self.problem(
                list.node,
                "llmload can compare the names only if every client must send a certificate",
                "add `client_auth_type: RequireAndVerifyClientCert`",
            );
            return None;
        }
        let name = |entry: &Located<String>| {
            let is_mail = entry.value.contains('@') && !entry.value.contains("://");
            if is_mail {
                self.problem(
                    entry.node,
                    "llmload does not compare the e-mail addresses of certificates",
                    "write a DNS name, an IP address or a URI of the certificate",
                );
            }
            (!is_mail).then(|| entry.value.clone())
        };
        if list.value.0.is_empty() {
            let message = "an empty list would refuse every client";
            self.problem(list.node, message, "add a name, or remove `client_allowed_sans`");
            return None;
        }
        entries(&list.value, name)
    }

    fn versions(&self, keys: &TlsServer) -> Option<RangeInclusive<TlsVersion>> {
        let version = |field: &Field<String>, default: TlsVersion| {
            let located = match field {
                Field::Absent => return Some(default),
                Field::Invalid(_) => return None,
                Field::Present(located) => located,
            };
            match located.value.as_str() {
                "TLS12" => Some(TlsVersion::Tls12),
                "TLS13" => Some(TlsVersion::Tls13),
                "TLS10" | "TLS11" => {
                    self.problem(
                        located.node,
                        "llmload does not support TLS 1.0 and TLS 1.1, which are not secure",
                        "write `TLS12` or `TLS13`",
                    );
                    None
                }
                other => {
                    let choices = ["TLS12", "TLS13"].into_iter();
                    self.report(located.node, hints::not_a_choice(other, choices));
                    None
                }
            }
        };
        let min = version(&keys.min_version, TlsVersion::Tls12);
        let max = version(&keys.max_version, TlsVersion::Tls13);
        let (min, max) = (min?, max?);
        if min > max {
            let node = keys.min_version.node()?;
            self.problem(node, "`min_version` is above `max_version`", "exchange the two values");
            return None;
        }
        Some(min..=max)
    }

    /// Returns `None` for a mistake, and `Some(None)` for the default.
    #[allow(clippy::option_option)]
    fn suites(
        &self,
        field: &Field<FieldList<String>>,
        versions: Option<&RangeInclusive<TlsVersion>>,
    ) -> Option<Option<Vec<String>>> {
        let Some(list) = field.present().filter(|list| !list.value.0.is_empty()) else {
            return (!field.is_invalid()).then_some(None);
        };
        let suite = |entry: &Located<String>| {
            if SUITES.contains(&entry.value.as_str()) {
                return Some(entry.value.clone());
            }
            let message =
                format!("llmload does not support the cipher suite `{}`", excerpt(&entry.value));
            let remedy = match hints::nearest_name(&entry.value, SUITES.into_iter()) {
                Some(near)
                    if !entry.value.contains("_CBC_") && !entry.value.contains("TLS_RSA_") =>
                {
                    format!("did you mean `{near}`?")
                }
                _ => "remove it; every current client supports a suite with `GCM` or `CHACHA20`"
                    .to_owned(),
            };
            self.problem(entry.node, message, remedy);
            None
        };
        let suites = entries(&list.value, suite)?;
        let is_for_tls12 = |name: &String| name.starts_with("TLS_ECDHE_");
        if versions?.contains(&TlsVersion::Tls12) && !suites.iter().any(is_for_tls12) {
            self.problem(
                list.node,
                "the list has no cipher suite for TLS 1.2",
                "add one such as `TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256`, or write `min_version: \
                 TLS13`",
            );
            return None;
        }
        Some(Some(suites))
    }

    /// Returns `None` for a mistake, and `Some(None)` for the default.
    #[allow(clippy::option_option)]
    fn curves(&self, field: &Field<FieldList<String>>) -> Option<Option<Vec<Curve>>> {
        let Some(list) = field.present().filter(|list| !list.value.0.is_empty()) else {
            return (!field.is_invalid()).then_some(None);
        };
        let curve = |entry: &Located<String>| {
            let found = CURVES.iter().find(|(name, _)| *name == entry.value);
            if found.is_none() {
                let choices = CURVES.iter().map(|(name, _)| *name);
                self.report(entry.node, hints::not_a_choice(&entry.value, choices));
            }
            found.map(|(_, curve)| *curve)
        };
        entries(&list.value, curve).map(Some)
    }
}

/// Reads every entry of a list. Returns `None` if one of them has a mistake.
fn entries<T>(
    list: &FieldList<String>,
    read: impl Fn(&Located<String>) -> Option<T>,
) -> Option<Vec<T>> {
    let read: Vec<Option<T>> = list.0.iter().map(|entry| entry.present().and_then(&read)).collect();
    read.into_iter().collect()
}
