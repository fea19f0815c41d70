//! How a target is reached: the version of HTTP, certificates, a proxy.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::ExposeSecret;
use url::Url;

use super::Validator;
use super::secret::read_start;
use crate::config::document::{Target, Tls};
use crate::config::field::{Field, Located};
use crate::plan::{Connection, Location, Sensitive};

/// The certificates that systems trust are a quarter of this.
const MAX_BYTES: u64 = 1 << 20;

impl Validator<'_> {
    /// `None` where something was noted.
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
                "the simulator is reached by plain HTTP/1.1; leave out `http2`, `tls` and `proxy`",
            );
            return None;
        }
        let proxy = match &target.proxy {
            Field::Absent => None,
            Field::Invalid(_) => return None,
            Field::Present(located) => Some(self.proxy(located)?),
        };
        let plain = Connection { http2, proxy, ..Connection::default() };
        match &target.tls {
            Field::Absent => Some(plain),
            Field::Invalid(_) => None,
            Field::Present(located) => {
                if let Some(Location::Url(url)) = location
                    && url.scheme() == "http"
                {
                    self.problem(
                        located.node,
                        "`tls` beside an http URL; write `https://`, or leave `tls` out",
                    );
                    return None;
                }
                self.tls(&located.value, plain)
            }
        }
    }

    // No message quotes the URL: it may hold a password.
    fn proxy(&self, located: &Located<String>) -> Option<Url> {
        const EXAMPLE: &str = "write one such as `http://proxy.internal:3128`";
        let fault = match Url::parse(located.value.trim()) {
            Err(error) => format!("not a URL ({error})"),
            Ok(url) if !matches!(url.scheme(), "http" | "https") => {
                "the proxy is neither http nor https".into()
            }
            Ok(url) if !url.username().is_empty() || url.password().is_some() => {
                "a secret never stands in the URL".into()
            }
            Ok(url) if url.path() != "/" || url.query().is_some() || url.fragment().is_some() => {
                "the URL of a proxy ends with its port".into()
            }
            Ok(url) => return Some(url),
        };
        self.problem(located.node, format!("{fault}; {EXAMPLE}"));
        None
    }

    fn tls(&self, given: &Tls, plain: Connection) -> Option<Connection> {
        let ca = self.pem(&given.ca_file, |pem| {
            let mut found = CertificateDer::pem_slice_iter(pem.as_bytes()).peekable();
            found.peek().is_some() && found.all(|certificate| certificate.is_ok())
        });
        let certificate = self
            .pem(&given.cert_file, |pem| CertificateDer::from_pem_slice(pem.as_bytes()).is_ok());
        let key =
            self.pem(&given.key_file, |pem| PrivateKeyDer::from_pem_slice(pem.as_bytes()).is_ok());
        let identity = match (given.cert_file.node(), given.key_file.node()) {
            (Some(node), None) => {
                self.problem(node, "`cert_file` without its key; name it with `key_file`");
                return None;
            }
            (None, Some(node)) => {
                self.problem(node, "`key_file` without its certificate; name it with `cert_file`");
                return None;
            }
            _ => certificate.zip(key).map(|(certificate, key)| certificate.zip(key)),
        };
        let insecure = given.insecure_skip_verify.present();
        if let Some(Located { node, value: true }) = insecure {
            if given.ca_file.node().is_some() {
                self.problem(
                    *node,
                    "`insecure_skip_verify` asks for no proof, `ca_file` for one; leave one out",
                );
                return None;
            }
            self.warn(
                *node,
                "any certificate is taken: whoever sits in between reads along; name the right one with `ca_file`",
            );
        }
        Some(Connection {
            ca: ca?.map(|pem| pem.expose_secret().to_owned()),
            identity: identity?.map(|(certificate, key)| {
                [certificate.expose_secret(), key.expose_secret()].join("\n").into()
            }),
            insecure_skip_verify: insecure.is_some_and(|located| located.value),
            ..plain
        })
    }

    // The inner `None` is a file that is not named.
    #[allow(clippy::option_option)]
    fn pem(
        &self,
        field: &Field<String>,
        is_good: impl Fn(&str) -> bool,
    ) -> Option<Option<Sensitive>> {
        let located = match field {
            Field::Absent => return Some(None),
            Field::Invalid(_) => return None,
            Field::Present(located) => located,
        };
        match read_start(&self.path(&located.value), MAX_BYTES) {
            Ok(pem) if is_good(&pem) => return Some(Some(Sensitive::from(pem))),
            Ok(_) => {
                let what = "the file does not hold what this key asks for, in PEM";
                self.problem(
                    located.node,
                    format!("{what}; it begins with `-----BEGIN `, and a key has no passphrase"),
                );
            }
            Err(error) => {
                let remedy = "name a readable file, relative to the configuration file";
                self.problem(located.node, format!("the file cannot be read: {error}; {remedy}"));
            }
        }
        None
    }
}
