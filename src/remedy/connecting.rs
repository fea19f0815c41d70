//! The remedies for requests that reach no endpoint: name, address, connection and TLS.

use super::{Address, DiagnosedTarget};
use crate::measurement::{FailureCause, LookupFault, TlsFault};

impl DiagnosedTarget<'_> {
    /// The proxy, or else the address of the target.
    fn connected_address(&self) -> Address<'_> {
        match &self.target.connection.proxy {
            Some(proxy) => Address(proxy.url.as_str()),
            None => self.address(),
        }
    }

    pub(super) fn unresolved(&self, cause: Option<FailureCause>) -> String {
        let host = self.connected_address().host();
        match cause {
            Some(FailureCause::Lookup(LookupFault::NoAnswer)) => format!(
                "check the name servers of this machine or container (`getent hosts {host}` shows \
                 whether they respond), and the firewalls and network policies on the way to them"
            ),
            _ => format!(
                "check the spelling of `{host}`, and whether this machine or container can resolve \
                 it"
            ),
        }
    }

    pub(super) fn unreachable(&self) -> String {
        if self.address().is_unix() {
            return "check the path of the unix socket, and whether llmload is allowed to use it"
                .to_owned();
        }
        format!(
            "check the address {}, and the routes and firewalls on the way to it",
            self.connected_address().authority()
        )
    }

    pub(super) fn no_connection(&self) -> String {
        let reachable = self.unreachable();
        if self.address().is_https() {
            format!("{reachable}, and check that the server there completes the TLS handshake")
        } else {
            reachable
        }
    }

    pub(super) fn reset(&self) -> String {
        let address = self.address();
        let log = "check the server's log";
        if address.is_https() || address.is_unix() {
            log.to_owned()
        } else {
            format!("{log}, or use {} if that port expects TLS", address.over_https())
        }
    }

    pub(super) fn nothing_listens(&self) -> String {
        let address = self.connected_address();
        if address.is_unix() {
            return "start the server, or correct the path: nothing listens at the unix socket"
                .to_owned();
        }
        let is_local = matches!(address.host(), "localhost" | "127.0.0.1" | "[::1]");
        let inside =
            if is_local { " (inside a container, this is the container itself)" } else { "" };
        let noun = if self.target.connection.proxy.is_some() { "proxy" } else { "server" };
        format!(
            "start the {noun}, or correct the port: nothing listens at {}{inside}",
            address.authority()
        )
    }

    pub(super) fn tls(&self, cause: Option<FailureCause>) -> String {
        let plain_http =
            format!("use {} if that port speaks plain HTTP", self.address().over_http());
        let fault = match cause {
            Some(FailureCause::Tls(fault)) => Some(fault),
            _ => None,
        };
        match fault {
            Some(TlsFault::NotTls) => plain_http,
            Some(TlsFault::UntrustedIssuer) => {
                "set `tls.ca_file` (or the variable SSL_CERT_FILE) to the certificate of the \
                 authority that signed the server's certificate"
                    .to_owned()
            }
            Some(TlsFault::UnlistedAuthority) => {
                "add the server's certificate to the file of `tls.ca_file`: it is an authority \
                 itself, and llmload accepts such a certificate only from this file"
                    .to_owned()
            }
            Some(TlsFault::NoClientCertificate) => {
                "set `tls.cert_file` and `tls.key_file`, because the server requires a client \
                 certificate"
                    .to_owned()
            }
            Some(TlsFault::WrongName) => {
                "use the host name that is in the server's certificate".to_owned()
            }
            Some(TlsFault::Expired) => {
                "renew the server's certificate, which has expired (or correct the clock of this \
                 machine, if it is ahead)"
                    .to_owned()
            }
            Some(TlsFault::NotYetValid) => {
                "correct the clock of this machine, or wait: the server's certificate is not valid \
                 yet"
                .to_owned()
            }
            Some(TlsFault::Reset) => format!(
                "check the server's log for the reason why it reset the connection in the TLS \
                 handshake, or {plain_http}"
            ),
            None => format!("check the TLS settings of the server, or {plain_http}"),
        }
    }

    /// Returns a remedy. For a target with plain HTTP, it begins with the advice to use HTTPS.
    pub(super) fn or_https(&self, otherwise: &str) -> String {
        let address = self.address();
        if address.is_https() || address.is_unix() {
            otherwise.to_owned()
        } else {
            format!("use {} if that port expects TLS, or {otherwise}", address.over_https())
        }
    }
}
