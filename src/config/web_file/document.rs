//! The web configuration file as a user writes it. The keys and their meaning are those of
//! Prometheus' exporter-toolkit.

use serde::Deserialize;

use super::interval::Interval;
use crate::config::field::{Field, FieldList, FieldMap};
use crate::config::scalar::Count;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Document {
    pub tls_server_config: Field<TlsServer>,
    pub http_server_config: Field<HttpServer>,
    pub basic_auth_users: Field<FieldMap<String>>,
    pub rate_limit: Field<RateLimit>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TlsServer {
    pub cert: Field<String>,
    pub key: Field<String>,
    pub client_ca: Field<String>,
    pub cert_file: Field<String>,
    pub key_file: Field<String>,
    pub client_ca_file: Field<String>,
    pub client_auth_type: Field<String>,
    pub client_allowed_sans: Field<FieldList<String>>,
    pub min_version: Field<String>,
    pub max_version: Field<String>,
    pub cipher_suites: Field<FieldList<String>>,
    pub prefer_server_cipher_suites: Field<bool>,
    pub curve_preferences: Field<FieldList<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct HttpServer {
    pub http2: Field<bool>,
    pub headers: Field<FieldMap<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RateLimit {
    pub interval: Field<Interval>,
    pub burst: Field<Count>,
}
