//! Warns of a target that receives its API key over plain HTTP at a public address. Everyone on the
//! way can read the key. In a private network, this is usual.

use url::{Host, Url};

use super::Validator;
use super::secret::is_sensitive;
use crate::config::tree::NodeId;
use crate::plan::{Auth, Location};

/// The ends of names that only private networks use: RFC 6761, RFC 6762, RFC 8375, the reserved
/// top-level domain `internal`, and Kubernetes services.
const PRIVATE_ENDS: [&str; 10] = [
    "localhost",
    "local",
    "internal",
    "svc",
    "lan",
    "intranet",
    "home.arpa",
    "test",
    "invalid",
    "corp",
];

impl Validator<'_> {
    /// `names` are the names of the headers and query parameters.
    pub(super) fn warn_of_plain_text<'n>(
        &self,
        location: &Location,
        auth: &Auth,
        mut names: impl Iterator<Item = &'n str>,
        node: Option<NodeId>,
    ) {
        let (Location::Url(url), Some(node)) = (location, node) else { return };
        let has_secret = !matches!(auth, Auth::None) || names.any(is_sensitive);
        if has_secret && url.scheme() == "http" && is_public(url) {
            self.warn(
                node,
                "llmload sends the API key unencrypted to a public address, so others on the \
                 network path can read it",
                "use https",
            );
        }
    }
}

/// Returns true if the address can be outside of the private network. A name without a dot is a
/// machine, container or service of the same network.
fn is_public(url: &Url) -> bool {
    match url.host() {
        None => false,
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            let is_private = |end: &&str| {
                name.strip_suffix(*end).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            };
            name.contains('.') && !PRIVATE_ENDS.iter().any(is_private)
        }
        Some(Host::Ipv4(address)) => {
            // 100.64.0.0/10 is for the networks of providers and of VPNs (RFC 6598).
            let [first, second, ..] = address.octets();
            let is_shared = first == 100 && (64..128).contains(&second);
            !(address.is_loopback()
                || address.is_private()
                || address.is_link_local()
                || address.is_unspecified()
                || is_shared)
        }
        Some(Host::Ipv6(address)) => match address.to_ipv4_mapped() {
            Some(mapped) => {
                Url::parse(&format!("http://{mapped}")).is_ok_and(|url| is_public(&url))
            }
            None => {
                !(address.is_loopback()
                    || address.is_unique_local()
                    || address.is_unicast_link_local()
                    || address.is_unspecified())
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_that_can_be_outside_of_a_private_network_are_public() {
        for (host, public) in [
            ("localhost", false),
            ("a.localhost", false),
            ("127.0.0.1", false),
            ("[::1]", false),
            ("10.1.2.3", false),
            ("172.20.0.5", false),
            ("192.168.1.9", false),
            ("169.254.169.254", false),
            ("100.100.1.1", false),
            ("[fd00::7]", false),
            ("[fe80::7]", false),
            ("[::ffff:10.0.0.1]", false),
            ("vllm", false),
            ("vllm.default.svc", false),
            ("vllm.default.svc.cluster.local", false),
            ("gpu-1.internal", false),
            ("8.8.8.8", true),
            ("172.32.0.1", true),
            ("[2606:4700::1]", true),
            ("[::ffff:8.8.8.8]", true),
            ("api.example.com", true),
            ("api.example.com.", true),
            ("notlocal.notinternal", true),
            ("llm.mylocal", true),
        ] {
            let url = Url::parse(&format!("http://{host}:8000/v1")).unwrap();
            assert_eq!(is_public(&url), public, "{host}");
        }
    }
}
