//! What would mend a target that does not answer as it should, in words: one source for the status
//! page, the log and `probe`, so that the same mistake is explained the same way everywhere.
//!
//! Decided from the class of a failure, its words and what the configuration says of the target.
//! Nothing here is a secret: of a key only its origin is named.

use std::fmt;

use crate::measurement::{Failure, printable};
use crate::plan::{self, Auth, Target};

/// Something that is wrong, with what would be right. Displayed as `what; remedy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// What is wrong.
    pub what: String,
    /// What would be right.
    pub remedy: String,
}

impl Diagnosis {
    /// In words.
    pub fn new(what: impl Into<String>, remedy: impl Into<String>) -> Diagnosis {
        Diagnosis { what: what.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.remedy)
    }
}

/// A target whose troubles are to be explained.
#[derive(Clone, Copy, Debug)]
pub struct DiagnosedTarget<'a> {
    /// As it is configured.
    pub target: &'a Target,
    /// Its base URL.
    pub address: &'a str,
}

impl DiagnosedTarget<'_> {
    /// What mends a request that failed so.
    pub fn remedy(&self, failure: Failure, words: &str) -> String {
        let plain = |text: &str| text.to_owned();
        match failure {
            Failure::Dns => format!(
                "check how `{}` is spelled, and whether this machine or container knows that name",
                self.host()
            ),
            Failure::ConnectRefused => self.nobody_listens(),
            Failure::ConnectTimeout | Failure::ConnectOther => {
                format!(
                    "check the address {}, and what stands between: routes, firewalls",
                    self.authority()
                )
            }
            Failure::Tls => self.tls(words),
            Failure::ClientResource => plain(
                "give this process more of what it ran out of: open files (`ulimit -n`), ports or memory",
            ),
            Failure::StaleConnection => plain(
                "no remedy is needed while it is rare: the server closes connections sooner than they are given up here",
            ),
            Failure::Reset => self.or_tls("look into the server's log"),
            Failure::HttpProtocol => {
                self.or_tls("check the port: what answers there does not speak HTTP")
            }
            Failure::TimeoutFirstToken => plain(
                "see whether the server is overloaded or stuck, or raise `timeouts.first_token`",
            ),
            Failure::TimeoutIdle => {
                plain("see why the server falls silent in its answers, or raise `timeouts.idle`")
            }
            Failure::TimeoutTotal => plain(
                "see why the server takes so long, lower `max_tokens`, or raise `timeouts.total`",
            ),
            Failure::Auth => self.key(),
            Failure::Quota => plain("top up the account or raise its limit: waiting does not help"),
            Failure::RateLimited => plain("send less, or have the limit of this key raised"),
            Failure::Overloaded => {
                plain("wait until the server has loaded its model, or send less than it can take")
            }
            Failure::Http4xx => self.refused(words),
            Failure::Http5xx => plain("look into the server's log: it failed, not the request"),
            Failure::HttpUnexpected => redirected(words),
            Failure::NotSse => self.no_stream(words),
            Failure::StreamError => {
                plain("look into the server's log: it broke off its answer itself")
            }
            Failure::Truncated => plain(
                "look into the server's log, and for a proxy between that cuts off long answers",
            ),
            Failure::Incomplete => incomplete(words),
            Failure::BadFrame => {
                plain("check the address and what stands between: this is not the OpenAI API")
            }
            Failure::TooLarge => {
                plain("check the address: no answer of the OpenAI API is so large")
            }
            Failure::Filtered => plain("ask something else: a content rule withheld the answer"),
            Failure::EmptyOutput => plain(
                "raise `max_tokens`, in case all of them went into reasoning that is not shown",
            ),
            Failure::Internal => plain("report this defect of llmload with the log around it"),
        }
    }

    /// The model to ask for at a target that answers its list of models so, and what is probably wrong.
    /// Of a target that names its model the list may be wrong: it is asked for all the same.
    pub fn model(&self, status: u16, models: &[String]) -> (Option<String>, Option<Diagnosis>) {
        let doubt = self.doubt(status, models);
        match (&self.target.model, models) {
            (Some(named), _) => (Some(named.clone()), doubt),
            (None, [only]) if doubt.is_none() => (Some(only.clone()), None),
            (None, _) => (None, doubt),
        }
    }

    fn doubt(&self, status: u16, models: &[String]) -> Option<Diagnosis> {
        let trouble = |what: String, remedy: String| Some(Diagnosis { what, remedy });
        match (status, &self.target.model, models) {
            (401 | 403, ..) => {
                trouble(format!("/models answers {status}: {}", self.rejected()), self.key())
            }
            (404, _, []) => trouble(
                format!("there is no /models under {}", self.address),
                self.other_path().unwrap_or_else(|| format!("check its path, {}", self.path())),
            ),
            (300..=399, ..) => trouble(
                format!("/models answers {status}, a redirect, and none is followed"),
                REDIRECTED.to_owned(),
            ),
            (_, None, [model]) => plan::model_name_problem(model).and_then(|fault| {
                let what = format!("the name of the only one that /models lists {fault}");
                trouble(what, "set `model` (or `--model`)".to_owned())
            }),
            (_, None, []) => trouble(
                format!("/models answers {status} and lists none"),
                match self.other_path() {
                    Some(path) => {
                        format!("set `model` (or `--model`), or mend the address: {path}")
                    }
                    None => {
                        "set `model` (or `--model`), or check that this is the address of the API"
                            .to_owned()
                    }
                },
            ),
            (_, None, several) => trouble(
                format!("/models lists {}, and none is named", several.len()),
                format!("set `model` (or `--model`) to one of {}", some_of(several)),
            ),
            (_, Some(model), [_, ..]) if !models.contains(model) => trouble(
                format!("/models does not list `{}`", printable(model, 80)),
                format!("set `model` (or `--model`) to one of {}", some_of(models)),
            ),
            _ => None,
        }
    }

    /// What a target that answers `status` to its list of models is waited for.
    pub fn server_error(&self, status: u16) -> Diagnosis {
        let remedy = match status {
            502..=504 | 529 => {
                "wait until it has loaded its model, or look into the log of the server"
            }
            _ => "look into the log of the server",
        };
        Diagnosis::new(format!("/models answers {status}"), remedy)
    }

    fn nobody_listens(&self) -> String {
        let near = matches!(self.host(), "localhost" | "127.0.0.1" | "[::1]");
        let inside = if near { " (within a container, that is the container itself)" } else { "" };
        format!(
            "start the server, or correct the port: nothing listens at {}{inside}",
            self.authority()
        )
    }

    fn tls(&self, words: &str) -> String {
        let insecure = format!("http://{}", self.after_scheme());
        let said = |what: &str| words.contains(what);
        if said("corrupt message") || said("eof") || said("EOF") {
            format!("write {insecure}, if that port speaks plain HTTP")
        } else if said("UnknownIssuer")
            || said("UnknownCA")
            || said("unknown issuer")
            || said("CaUsedAs")
        {
            "name the file of the authority that signed the certificate with `tls.ca_file` (or the variable \
             SSL_CERT_FILE)"
                .to_owned()
        } else if said("not valid for") || said("NotValidForName") {
            "write the host name that stands in the server's certificate".to_owned()
        } else if said("xpired") || said("NotValidYet") {
            "renew the server's certificate, or set the clock of this machine".to_owned()
        } else {
            format!("check the server's TLS, or write {insecure}, if that port speaks plain HTTP")
        }
    }

    /// A plain request may have met a port that speaks TLS.
    fn or_tls(&self, otherwise: &str) -> String {
        if self.address.starts_with("https:") {
            otherwise.to_owned()
        } else {
            format!("write {}, if that port speaks TLS, or {otherwise}", self.secured())
        }
    }

    /// Who the key that was turned down is.
    fn rejected(&self) -> String {
        match &self.target.auth {
            Auth::Bearer(key) | Auth::ApiKey(key) | Auth::XApiKey(key) => {
                format!("the key from {} is not accepted", key.origin)
            }
            Auth::None => match self.header_with_key() {
                Some(name) => format!("the header `{name}` is not accepted"),
                None => "no key is set".to_owned(),
            },
        }
    }

    fn key(&self) -> String {
        match &self.target.auth {
            Auth::Bearer(key) | Auth::ApiKey(key) | Auth::XApiKey(key) => {
                format!("check what {} holds, and what that key may do", key.origin)
            }
            Auth::None => match self.header_with_key() {
                Some(name) => format!("check what the header `{name}` holds"),
                None => {
                    "name the variable that holds the key with `api_key_env` (or `--api-key-env`)"
                        .to_owned()
                }
            },
        }
    }

    fn header_with_key(&self) -> Option<&str> {
        let keys = ["authorization", "api-key", "x-api-key"];
        let header = self.target.headers.iter().find(|(name, _)| keys.contains(&name.as_str()));
        header.map(|(name, _)| name.as_str())
    }

    /// A 4xx of no class of its own.
    fn refused(&self, words: &str) -> String {
        let (status, said) = (status_in(words), words.to_ascii_lowercase());
        let names_model = said.contains("model");
        let unknown =
            ["not exist", "not found", "invalid model", "unknown model", "not a valid model"];
        if said.contains("https") {
            return self.or_tls("check the address");
        }
        if said.contains("max_completion_tokens") {
            return "set `max_tokens_field: max_completion_tokens`: this model takes no `max_tokens`"
                .to_owned();
        }
        if said.contains("stream_options") {
            return "set `stream_options: none`: this endpoint does not know the field".to_owned();
        }
        if names_model && (status == Some(404) || unknown.iter().any(|words| said.contains(words)))
        {
            return "set `model` (or `--model`) to one that /models lists".to_owned();
        }
        match status {
            Some(404 | 405) => self.other_path().unwrap_or_else(|| {
                let path = self.target.dialect.path();
                format!("check the path and `api`: requests go to {}/{path}", self.bare())
            }),
            _ => "send what the endpoint takes: its words say what it refuses".to_owned(),
        }
    }

    fn no_stream(&self, words: &str) -> String {
        if words.contains("whole completion") {
            return "ask for no stream with `request: {stream: false}` (then there is no TTFT), or find what \
                    gathers it on the way"
                .to_owned();
        }
        let path = self.other_path().map_or_else(String::new, |path| format!(": {path}"));
        format!("check the address: no completion came, but a page or another API answered{path}")
    }

    /// Where most servers have their API, if that is elsewhere.
    fn other_path(&self) -> Option<String> {
        let origin = &self.address[..self.address.len() - self.path_written().len()];
        let path = self.path();
        let usual = usual_paths(path);
        let mut other = usual.iter().filter(|usual| usual.as_str() != path.trim_end_matches('/'));
        match (other.next(), other.next(), path.trim_end_matches('/')) {
            (Some(only), None, "") => Some(format!("write {origin}{only}, if `/v1` is missing")),
            (Some(first), Some(second), path) => Some(format!(
                "check the path {path}: most servers have their API at {origin}{first}, others at {origin}{second}"
            )),
            (Some(only), None, path) => Some(format!(
                "check the path {path}: most servers have their API at {origin}{only}"
            )),
            (None, ..) => None,
        }
    }

    fn path(&self) -> &str {
        let path = self.path_written();
        if path.is_empty() { "/" } else { path }
    }

    fn path_written(&self) -> &str {
        self.after_scheme().find('/').map_or("", |at| &self.after_scheme()[at..])
    }

    fn bare(&self) -> &str {
        self.address.trim_end_matches('/')
    }

    fn secured(&self) -> String {
        format!("https://{}", self.after_scheme())
    }

    fn after_scheme(&self) -> &str {
        self.address.split_once("://").map_or(self.address, |(_, rest)| rest)
    }

    /// Host and port.
    fn authority(&self) -> String {
        let authority = self.after_scheme().split('/').next().unwrap_or_default();
        let port = if self.address.starts_with("https:") { 443 } else { 80 };
        if authority.len() == self.host().len() {
            format!("{authority}:{port}")
        } else {
            authority.to_owned()
        }
    }

    fn host(&self) -> &str {
        let authority = self.after_scheme().split('/').next().unwrap_or_default();
        match authority.rsplit_once(':') {
            // The colons of an IPv6 address stand within brackets.
            Some((host, port)) if !port.ends_with(']') => host,
            _ => authority,
        }
    }
}

/// The paths below which servers have their API, the likeliest of those that resemble `path` first: up to
/// a `/v1` that stands in it, at the root, or below it.
pub fn usual_paths(path: &str) -> Vec<String> {
    let path = path.trim_end_matches('/');
    let up_to_v1 = path.split_inclusive('/').scan(String::new(), |before, part| {
        before.push_str(part);
        Some((part.trim_end_matches('/') == "v1").then(|| before.trim_end_matches('/').to_owned()))
    });
    let mut paths: Vec<String> = up_to_v1.flatten().collect();
    // A path with a version of its own has no other below it.
    let versioned = path.rsplit('/').next().is_some_and(|last| {
        last.strip_prefix('v')
            .is_some_and(|rest| rest.starts_with(|digit: char| digit.is_ascii_digit()))
    });
    if paths.is_empty() && !versioned {
        paths.push(format!("{path}/v1"));
    }
    if !paths.iter().any(|known| known == "/v1") {
        paths.push("/v1".to_owned());
    }
    paths
}

/// The status that `protocol::refusal` put before the endpoint's own words.
fn status_in(words: &str) -> Option<u16> {
    let digits = words.strip_prefix("HTTP ")?;
    digits.get(..3)?.parse().ok()
}

const REDIRECTED: &str = "write the address that it leads to, as `curl -sI` shows it";

fn redirected(words: &str) -> String {
    match status_in(words) {
        Some(300..=399) => REDIRECTED.to_owned(),
        _ => "check the address: no chat API answers so".to_owned(),
    }
}

fn incomplete(words: &str) -> String {
    if words.starts_with("[DONE]") {
        "set `terminal: done` for a server that never sends a finish reason".to_owned()
    } else if words.contains("without [DONE]") {
        "set `terminal: finish_reason` for a server that never sends [DONE]".to_owned()
    } else {
        "look into the server's log and for a proxy between, or set `terminal: eof` for a server that never \
         marks the end"
            .to_owned()
    }
}

/// The names are the server's own words: a few of them, made fit to be shown.
fn some_of(models: &[String]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<_> =
        models.iter().take(SHOWN).map(|model| format!("`{}`", printable(model, 80))).collect();
    match models.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests;
