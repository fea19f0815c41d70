//! The parts of a base URL for remedies, and the usual paths of an API.

/// A configured base URL, without its query.
#[derive(Clone, Copy, Debug)]
pub(super) struct Address<'a>(pub(super) &'a str);

impl<'a> Address<'a> {
    pub(super) fn is_https(self) -> bool {
        self.0.starts_with("https:")
    }

    /// Returns true for the URL of a unix socket.
    pub(super) fn is_unix(self) -> bool {
        self.0.starts_with("http+unix:")
    }

    pub(super) fn over_http(self) -> String {
        format!("http://{}", self.after_scheme())
    }

    pub(super) fn over_https(self) -> String {
        format!("https://{}", self.after_scheme())
    }

    /// The address without a slash at its end.
    pub(super) fn base(self) -> &'a str {
        self.0.trim_end_matches('/')
    }

    /// `/` if the URL has no path.
    pub(super) fn path(self) -> &'a str {
        let path = self.written_path();
        if path.is_empty() { "/" } else { path }
    }

    /// Scheme, host and port.
    pub(super) fn origin(self) -> &'a str {
        &self.0[..self.0.len() - self.written_path().len()]
    }

    pub(super) fn host(self) -> &'a str {
        let authority = self.written_authority();
        match authority.rsplit_once(':') {
            // A colon inside the brackets of an IPv6 address does not begin a port.
            Some((host, port)) if !port.ends_with(']') => host,
            _ => authority,
        }
    }

    /// Host and port, with the default port of the scheme if the URL has none.
    pub(super) fn authority(self) -> String {
        let authority = self.written_authority();
        let port = if self.is_https() { 443 } else { 80 };
        if authority.len() == self.host().len() {
            format!("{authority}:{port}")
        } else {
            authority.to_owned()
        }
    }

    fn after_scheme(self) -> &'a str {
        self.0.split_once("://").map_or(self.0, |(_, rest)| rest)
    }

    fn written_authority(self) -> &'a str {
        self.after_scheme().split('/').next().unwrap_or_default()
    }

    /// The path in the URL, which can be empty.
    fn written_path(self) -> &'a str {
        self.after_scheme().find('/').map_or("", |at| &self.after_scheme()[at..])
    }
}

/// Returns the usual paths of an API, the most likely one first. For `/v1/x`, this is `/v1`. For
/// `/api`, these are `/api/v1` and `/v1`.
pub fn usual_paths(path: &str) -> Vec<String> {
    let path = path.trim_end_matches('/');
    let up_to_v1 = path.split_inclusive('/').scan(String::new(), |before, part| {
        before.push_str(part);
        Some((part.trim_end_matches('/') == "v1").then(|| before.trim_end_matches('/').to_owned()))
    });
    let mut paths: Vec<String> = up_to_v1.flatten().collect();
    // A path that ends with a version has no other version below it.
    let has_version = path.rsplit('/').next().is_some_and(|last| {
        last.strip_prefix('v')
            .is_some_and(|rest| rest.starts_with(|digit: char| digit.is_ascii_digit()))
    });
    if paths.is_empty() && !has_version {
        paths.push(format!("{path}/v1"));
    }
    if !paths.iter().any(|known| known == "/v1") {
        paths.push("/v1".to_owned());
    }
    paths
}
