//! Validates the connection to a target: the version of HTTP, the certificates and the proxy.

use std::ops::RangeInclusive;
use std::time::Duration;

use http::header::PROXY_AUTHORIZATION;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::ExposeSecret;
use url::Url;

use super::Validator;
use crate::config::document::{Target, Tls};
use crate::config::duration::HumanDuration;
use crate::config::field::{Field, Located};
use crate::config::file::read_small;
use crate::config::scalar::KeepAlive;
use crate::config::user_info::take_user_info;
use crate::plan::{self, Connection, Location, Proxy, SecretText};

/// The size of the largest PEM file, in bytes. The trusted certificates of a system usually need a
/// quarter of this size.
const MAX_BYTES: u64 = 1 << 20;
const PRIVATE_KEY: &str = "private key";

const KEEP_ALIVE: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_hours(1);

impl Validator<'_> {
    pub(super) fn connection(
        &self,
        target: &Target,
        location: Option<&Location>,
    ) -> Option<Connection> {
        let http2 = target.http2.present().is_some_and(|located| located.value);
        if let (Some(Location::Simulator(_)), Some(node)) = (
            location,
            [target.http2.node().filter(|_| http2), target.tls.node(), target.proxy.node()]
                .into_iter()
                .flatten()
                .next(),
        ) {
            self.problem(
                node,
                "the simulator supports only plain HTTP/1.1",
                "remove `http2`, `tls` and `proxy`",
            );
            return None;
        }
        let unsupported = [target.http2.node().filter(|_| http2), target.proxy.node()];
        if let (Some(Location::Url(url)), Some(node)) =
            (location, unsupported.into_iter().flatten().next())
            && plan::unix_socket(url).is_some()
        {
            self.problem(
                node,
                "at a unix socket, llmload supports only plain HTTP/1.1",
                "remove `http2` and `proxy`",
            );
            return None;
        }
        let proxy = match &target.proxy {
            Field::Absent => None,
            Field::Invalid(_) => return None,
            Field::Present(located) => Some(self.proxy(located)?),
        };
        if proxy.as_ref().is_some_and(|proxy| proxy.credentials.is_some())
            && let Some(headers) = target.headers.present()
            && let Some((name, _)) = headers
                .value
                .0
                .iter()
                .find(|(name, _)| name.value.eq_ignore_ascii_case(PROXY_AUTHORIZATION.as_str()))
        {
            self.problem(
                name.node,
                "the header `proxy-authorization` and the user in the URL of the proxy contradict each \
                 other",
                "remove the header, or the user from the URL",
            );
            return None;
        }
        let keep_alive = self.keep_alive(&target.keep_alive)?;
        let without_tls = Connection { http2, proxy, keep_alive, ..Connection::default() };
        match &target.tls {
            Field::Absent => Some(without_tls),
            Field::Invalid(_) => None,
            Field::Present(located) => {
                if let Some(Location::Url(url)) = location
                    && url.scheme() != "https"
                {
                    self.problem(
                        located.node,
                        "`tls` is not allowed with an http URL",
                        "write `https://`, or remove `tls`",
                    );
                    return None;
                }
                self.tls(&located.value, without_tls)
            }
        }
    }

    /// Returns `None` for a mistake, and `Some(None)` for `off`.
    #[allow(clippy::option_option)]
    fn keep_alive(&self, field: &Field<KeepAlive>) -> Option<Option<Duration>> {
        match field {
            Field::Absent => Some(Some(Connection::KEEP_ALIVE)),
            Field::Invalid(_) => None,
            Field::Present(Located { value: KeepAlive::Off, .. }) => Some(None),
            Field::Present(Located { value: KeepAlive::For(time), .. })
                if KEEP_ALIVE.contains(time) =>
            {
                Some(Some(*time))
            }
            Field::Present(Located { value: KeepAlive::For(time), node }) => {
                let message = format!("{} is out of range", HumanDuration(*time));
                let (shortest, longest) = (*KEEP_ALIVE.start(), *KEEP_ALIVE.end());
                let remedy = format!(
                    "write `off`, or a duration from {} to {}",
                    HumanDuration(shortest),
                    HumanDuration(longest)
                );
                self.problem(*node, message, remedy);
                None
            }
        }
    }

    // No message quotes the URL, because it can contain a password.
    fn proxy(&self, located: &Located<String>) -> Option<Proxy> {
        const REMEDY: &str = "write a URL such as `http://proxy.internal:3128`";
        let message = match Url::parse(located.value.trim()) {
            Err(error) => format!("the text is not a URL ({error})"),
            Ok(url) if !matches!(url.scheme(), "http" | "https") => {
                "the URL of the proxy is neither http nor https".into()
            }
            Ok(url) if url.path() != "/" || url.query().is_some() || url.fragment().is_some() => {
                "the URL of a proxy has no path, query or fragment".into()
            }
            Ok(mut url) => match take_user_info(&mut url) {
                Ok(credentials) => return Some(Proxy { url, credentials }),
                Err(mistake) => {
                    self.report(located.node, mistake);
                    return None;
                }
            },
        };
        self.problem(located.node, message, REMEDY);
        None
    }

    fn tls(&self, tls: &Tls, without_tls: Connection) -> Option<Connection> {
        let ca = self.pem(&tls.ca_file, "certificate", |pem| {
            let mut found = CertificateDer::pem_slice_iter(pem.as_bytes()).peekable();
            found.peek().is_some() && found.all(|certificate| certificate.is_ok())
        });
        let certificate = self.pem(&tls.cert_file, "certificate", |pem| {
            CertificateDer::from_pem_slice(pem.as_bytes()).is_ok()
        });
        let key = self.pem(&tls.key_file, PRIVATE_KEY, |pem| {
            PrivateKeyDer::from_pem_slice(pem.as_bytes()).is_ok()
        });
        let identity = match (tls.cert_file.node(), tls.key_file.node()) {
            (Some(node), None) => {
                self.problem(
                    node,
                    "`cert_file` needs a private key",
                    "add `key_file` with the path of the key",
                );
                return None;
            }
            (None, Some(node)) => {
                self.problem(
                    node,
                    "`key_file` needs a certificate",
                    "add `cert_file` with the path of the certificate",
                );
                return None;
            }
            _ => certificate.zip(key).map(|(certificate, key)| certificate.zip(key)),
        };
        let insecure = tls.insecure_skip_verify.present();
        if let Some(Located { node, value: true }) = insecure {
            if tls.ca_file.node().is_some() {
                self.problem(
                    *node,
                    "`insecure_skip_verify` and `ca_file` contradict each other",
                    "remove one of them",
                );
                return None;
            }
            self.warn(
                *node,
                "llmload accepts any certificate, so others on the network path can read the \
                 traffic",
                "name the right certificate with `ca_file`",
            );
        }
        Some(Connection {
            ca: ca?.map(|pem| pem.expose_secret().to_owned()),
            identity: identity?.map(|(certificate, key)| {
                [certificate.expose_secret(), key.expose_secret()].join("\n").into()
            }),
            insecure_skip_verify: insecure.is_some_and(|located| located.value),
            ..without_tls
        })
    }

    /// Reads a PEM file. Messages name the expected `content`. Returns `None` for a mistake, and
    /// `Some(None)` if no file is configured. A key file can be absent while placeholders replace
    /// the variables, because that plan sends nothing.
    #[allow(clippy::option_option)]
    fn pem(
        &self,
        field: &Field<String>,
        content: &str,
        is_valid: impl Fn(&str) -> bool,
    ) -> Option<Option<SecretText>> {
        let located = match field {
            Field::Absent => return Some(None),
            Field::Invalid(_) => return None,
            Field::Present(located) => located,
        };
        let path = self.path(&located.value);
        let is_secret = content == PRIVATE_KEY;
        if is_secret && self.variables.placeholder().is_some() && !path.exists() {
            return Some(None);
        }
        match read_small(&path, MAX_BYTES) {
            Ok(pem) if is_valid(&pem) => return Some(Some(SecretText::from(pem))),
            Ok(_) => {
                self.problem(
                    located.node,
                    format!("the file contains no valid {content} in PEM format"),
                    "use a file that starts with `-----BEGIN`; a key must have no passphrase",
                );
            }
            Err(mistake) => self.report(located.node, mistake),
        }
        None
    }
}
