//! Decides who is allowed to read the status and to send admin requests.
//!
//! A browser on an allowed machine can show a page of another site, and this page can send requests
//! to llmload. The browser names the site in `origin`.
//!
//! The other site can also make DNS resolve its name to the address of llmload (DNS rebinding). The
//! browser then takes llmload for the site, and only `host` contains the name of the site. So
//! llmload accepts only names in `host` that cannot belong to another site.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use http::header::{HOST, HeaderName, ORIGIN};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    /// True if the client runs on this machine.
    is_local: bool,
    /// True if the name in `host` is proven to be a name of llmload: a browser has compared it with
    /// the certificate of llmload, or it has sent a password that it keeps for this name.
    has_proven_name: bool,
}

impl Peer {
    /// A client that connects to a unix socket of this machine.
    pub(super) const LOCAL: Peer = Peer { is_local: true, has_proven_name: false };

    /// `local` is the address of this end of the connection. If a client on this machine connects
    /// to an outer address of the machine, both ends have this address.
    pub(super) fn new(address: IpAddr, local: Option<SocketAddr>) -> Peer {
        let address = address.to_canonical();
        let is_own = local.is_some_and(|local| local.ip().to_canonical() == address);
        Peer { is_local: address.is_loopback() || is_own, has_proven_name: false }
    }

    /// Returns the same client, whose name in `host` is proven.
    #[must_use]
    pub(super) fn with_proven_name(self) -> Peer {
        Peer { has_proven_name: true, ..self }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error(
        "admin requests are accepted from this machine only; to accept them from other machines, \
         start llmload with --web.enable-lifecycle"
    )]
    OtherMachine,
    #[error(
        "a page of another site must not send admin requests; open llmload at localhost or at its \
         IP address"
    )]
    OtherSite,
    #[error(
        "the name in the URL is not a name of this machine, and a page of another site could use \
         such a name; use localhost, an IP address or the host name of this machine, or start \
         llmload with --web.enable-lifecycle to accept other names"
    )]
    OtherName,
    #[error(
        "the configuration is not available under a name that could belong to another site; use \
         localhost, an IP address or the host name of this machine"
    )]
    ConfigurationUnderOtherName,
    #[error(
        "a browser must not send admin requests under a name that could belong to another site; \
         open llmload at localhost or at its IP address"
    )]
    BrowserWithOtherName,
}

#[derive(Debug)]
pub(super) struct Access {
    /// `--web.enable-lifecycle`: accepts admin requests from other machines, and any name in
    /// `host`.
    lifecycle: bool,
    /// The host name of this machine, if it is known.
    host_name: Option<String>,
}

impl Access {
    pub(super) fn new(lifecycle: bool) -> Access {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host_name = Some(name.trim().to_owned()).filter(|name| !name.is_empty());
        Access { lifecycle, host_name }
    }

    /// Checks a request for the configuration. A page of another site can never read it, because no
    /// mask finds every secret with certainty.
    ///
    /// # Errors
    /// The reason to refuse the request.
    pub(super) fn check_configuration(
        &self,
        headers: &HeaderMap,
        peer: Peer,
    ) -> Result<(), Refusal> {
        if self.has_own_name(headers, peer) {
            Ok(())
        } else {
            Err(Refusal::ConfigurationUnderOtherName)
        }
    }

    /// Checks a request for the status.
    ///
    /// # Errors
    /// The reason to refuse the request.
    pub(super) fn check_read(&self, headers: &HeaderMap, peer: Peer) -> Result<(), Refusal> {
        if self.lifecycle || self.has_own_name(headers, peer) {
            Ok(())
        } else {
            Err(Refusal::OtherName)
        }
    }

    /// # Errors
    /// The reason to refuse the request.
    pub(super) fn check_admin(&self, headers: &HeaderMap, peer: Peer) -> Result<(), Refusal> {
        if !self.lifecycle && !peer.is_local {
            return Err(Refusal::OtherMachine);
        }
        if is_from_other_site(headers) {
            return Err(Refusal::OtherSite);
        }
        if self.has_own_name(headers, peer) {
            return Ok(());
        }
        // Every browser sends `origin` with a POST and a DELETE. Programs do not, so they can use
        // any name, such as the name of a Kubernetes service.
        let is_browser = headers.contains_key(ORIGIN) || headers.contains_key(SEC_FETCH_SITE);
        match (self.lifecycle, is_browser) {
            (true, false) => Ok(()),
            (true, true) => Err(Refusal::BrowserWithOtherName),
            (false, _) => Err(Refusal::OtherName),
        }
    }

    /// Returns true if the name is proven, or if each `host` is an IP address, `localhost` or the
    /// name of this machine, because another site cannot have these names.
    fn has_own_name(&self, headers: &HeaderMap, peer: Peer) -> bool {
        peer.has_proven_name
            || headers.get_all(HOST).iter().all(|host| {
                let Some(name) = host.to_str().ok().and_then(name_of) else { return false };
                let is_own = |own: &str| name.eq_ignore_ascii_case(own);
                name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
                    || is_own("localhost")
                    || self.host_name.as_deref().is_some_and(is_own)
            })
    }
}

/// Returns true if a browser sends the request for a page of another site.
fn is_from_other_site(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let is_other_origin = headers.get(ORIGIN).is_some_and(|origin| {
        let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
        !origin.zip(host).is_some_and(|((_, origin), host)| origin.eq_ignore_ascii_case(host))
    });
    let is_cross_site = headers
        .get(SEC_FETCH_SITE)
        .is_some_and(|site| !matches!(site.as_bytes(), b"same-origin" | b"none"));
    is_other_origin || is_cross_site
}

/// Returns the name in `host`, without the port and without a final dot.
fn name_of(host: &str) -> Option<&str> {
    let name = match host.rsplit_once(':') {
        // The address in `[::1]` contains colons.
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    Some(name.strip_suffix('.').unwrap_or(name)).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn access(lifecycle: bool) -> Access {
        Access { lifecycle, host_name: Some("loadgen-1".to_owned()) }
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        pairs.collect()
    }

    const LOCAL: Peer = Peer::LOCAL;

    #[test]
    fn only_names_that_cannot_belong_to_another_site_are_own_names() {
        for (host, is_own) in [
            ("localhost", true),
            ("LocalHost:9899", true),
            ("localhost.:9899", true),
            ("127.0.0.1:9899", true),
            ("192.0.2.7", true),
            ("[::1]:9899", true),
            ("[fd00::7]", true),
            ("Loadgen-1:9899", true),
            ("", false),
            ("evil.example:9899", false),
            ("localhost.evil.example", false),
            ("loadgen-1.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("2130706433", false),
            ("localhost:evil", false),
        ] {
            let headers = headers(&[("host", host)]);
            assert_eq!(access(false).has_own_name(&headers, LOCAL), is_own, "{host}");
            assert_eq!(access(false).check_read(&headers, LOCAL).is_ok(), is_own, "{host}");
            assert!(access(true).check_read(&headers, LOCAL).is_ok());
            for lifecycle in [false, true] {
                let result = access(lifecycle).check_configuration(&headers, LOCAL);
                assert_eq!(result.is_ok(), is_own, "{host}");
            }
        }
        assert!(access(false).check_read(&HeaderMap::new(), LOCAL).is_ok(), "a client of HTTP/1.0");
    }

    #[test]
    fn a_page_of_another_site_cannot_send_admin_requests() {
        let evil = "http://evil.example";
        let (name, own) = (Refusal::OtherName, "http://127.0.0.1:9899");
        for (pairs, without_flag, with_flag) in [
            (vec![("host", "127.0.0.1:9899")], None, None),
            (vec![("host", "127.0.0.1:9899"), ("origin", own)], None, None),
            (
                vec![("host", "localhost"), ("origin", evil)],
                Some(Refusal::OtherSite),
                Some(Refusal::OtherSite),
            ),
            (
                vec![("host", "localhost"), ("origin", "null")],
                Some(Refusal::OtherSite),
                Some(Refusal::OtherSite),
            ),
            (
                vec![("host", "localhost"), ("sec-fetch-site", "cross-site")],
                Some(Refusal::OtherSite),
                Some(Refusal::OtherSite),
            ),
            (vec![("host", "localhost"), ("sec-fetch-site", "same-origin")], None, None),
            // DNS rebinding.
            (
                vec![("host", "evil.example"), ("origin", evil)],
                Some(name),
                Some(Refusal::BrowserWithOtherName),
            ),
            // curl in another pod.
            (vec![("host", "llmload.monitoring.svc:9899")], Some(name), None),
        ] {
            let headers = headers(&pairs);
            assert_eq!(access(false).check_admin(&headers, LOCAL).err(), without_flag, "{pairs:?}");
            assert_eq!(access(true).check_admin(&headers, LOCAL).err(), with_flag, "{pairs:?}");
        }
    }

    #[test]
    fn a_proven_name_is_accepted_but_a_page_of_another_site_is_not() {
        let peer = LOCAL.with_proven_name();
        let own = headers(&[("host", "load.example"), ("origin", "https://load.example")]);
        let other = headers(&[("host", "load.example"), ("origin", "https://evil.example")]);
        for access in [access(false), access(true)] {
            assert!(access.check_read(&own, peer).is_ok());
            assert!(access.check_configuration(&own, peer).is_ok());
            assert!(access.check_admin(&own, peer).is_ok());
            assert_eq!(access.check_admin(&other, peer).err(), Some(Refusal::OtherSite));
        }
        let far = Peer { is_local: false, ..peer };
        assert_eq!(access(false).check_admin(&own, far).err(), Some(Refusal::OtherMachine));
    }

    #[test]
    fn a_client_on_this_machine_can_use_an_outer_address() {
        let peer = |address: &str, local: &str| {
            Peer::new(address.parse().unwrap(), Some(local.parse().unwrap()))
        };
        let check = |peer| access(false).check_admin(&HeaderMap::new(), peer).err();
        for (address, local) in [
            ("127.0.0.1", "127.0.0.1:9899"),
            ("127.8.8.8", "127.0.0.1:9899"),
            ("::ffff:127.0.0.1", "[::ffff:127.0.0.1]:9899"),
            ("192.0.2.7", "192.0.2.7:9899"),
            ("::ffff:192.0.2.7", "192.0.2.7:9899"),
            ("fd00::7", "[fd00::7]:9899"),
        ] {
            assert_eq!(check(peer(address, local)), None, "{address}");
        }
        for (address, local) in [("192.0.2.8", "192.0.2.7:9899"), ("172.17.0.1", "172.17.0.2:9899")]
        {
            assert_eq!(check(peer(address, local)), Some(Refusal::OtherMachine), "{address}");
            let headers = HeaderMap::new();
            assert!(access(true).check_admin(&headers, peer(address, local)).is_ok());
        }
    }
}
