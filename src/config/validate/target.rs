//! A target: where it is, who we say we are, and how long we wait.

use std::collections::HashSet;
use std::str::FromStr;
use std::time::Duration;

use http::HeaderName;
use secrecy::ExposeSecret;
use url::{Host, Url};

use super::Validator;
use super::secret::is_sensitive;
use crate::config::document::{self, Target, ValueSource};
use crate::config::duration::HumanDuration;
use crate::config::field::{Field, FieldMap, Located};
use crate::config::hints::url_with_scheme;
use crate::config::tree::{NodeId, excerpt};
use crate::plan::{self, Auth, Location, Secret, Sensitive, Timeouts};
use crate::protocol;

/// Headers that describe the body and the connection, which are not the user's to set.
const OURS: [&str; 9] = [
    "accept",
    "accept-encoding",
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "te",
    "transfer-encoding",
];

impl Validator<'_> {
    /// A target; `None` where something was noted.
    pub(super) fn target(
        &self,
        name: &str,
        target: &Target,
        node: NodeId,
        seed: u64,
    ) -> Option<plan::Target> {
        let location = self.location(target, node, seed);
        let auth = self.auth(target, node);
        let headers = self.headers(&target.headers, auth.as_ref());
        let query = self.query(&target.query);
        let timeouts = self.timeouts(&target.timeouts);
        let prices = self.prices(&target.prices);
        let model = self.model(&target.model);
        let dialect = self.dialect(target);
        let connection = self.connection(target, location.as_ref());
        let (location, auth) = (location?, auth?);
        self.warn_of_plain_text(&location, &auth, headers.as_deref().unwrap_or_default(), target);
        Some(plan::Target {
            name: name.to_owned(),
            location,
            model: model?,
            auth,
            headers: headers?,
            query: query?,
            dialect: dialect?,
            connection: connection?,
            traceparent: target.traceparent.present().is_none_or(|located| located.value),
            terminal: match target.terminal.present().map(|located| located.value) {
                None | Some(document::Terminal::FinishReason) => protocol::Terminal::FinishReason,
                Some(document::Terminal::Done) => protocol::Terminal::Done,
                Some(document::Terminal::Eof) => protocol::Terminal::Eof,
            },
            timeouts: timeouts?,
            prices: prices?,
        })
    }

    fn location(&self, target: &Target, node: NodeId, seed: u64) -> Option<Location> {
        match (&target.base_url, &target.simulator) {
            (Field::Absent, Field::Absent) => {
                self.missing(
                    node,
                    "the target has no place; write `base_url: http://localhost:8000/v1` or `simulator: {}`",
                );
                None
            }
            (Field::Present(url), Field::Absent) => self.base_url(url).map(Location::Url),
            (Field::Absent, Field::Present(located)) => {
                self.simulator(&located.value, seed).map(Location::Simulator)
            }
            (Field::Invalid(_), Field::Absent) | (Field::Absent, Field::Invalid(_)) => None,
            (_, simulator) => {
                let located = simulator.node().unwrap_or(node);
                self.problem(
                    located,
                    "`simulator` beside `base_url`; a target has only one of them",
                );
                None
            }
        }
    }

    // No message quotes the URL: it may hold a password.
    fn base_url(&self, located: &Located<String>) -> Option<Url> {
        const EXAMPLE: &str = "write one such as `http://localhost:8000/v1`";
        let no = |message: &str| {
            self.problem(located.node, message);
            None
        };
        let text = located.value.trim();
        if !text.contains("://") {
            let remedy = url_with_scheme(text)
                .map_or(EXAMPLE.to_owned(), |whole| format!("write `{whole}`"));
            return no(&format!("the URL has no scheme; {remedy}"));
        }
        let mut url = match Url::parse(text) {
            Ok(url) => url,
            Err(error) => return no(&format!("not a URL ({error}); {EXAMPLE}")),
        };
        if !matches!(url.scheme(), "http" | "https") {
            return no(&format!("the URL is neither http nor https; {EXAMPLE}"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return no(
                "a secret never stands in the URL; name the variable that holds it with `api_key_env`",
            );
        }
        if url.query().is_some() {
            return no(
                "the URL has a query; move it to `query:`, such as `query: {api-version: 2024-10-21}`",
            );
        }
        if url.fragment().is_some() {
            return no("the URL has a fragment; cut it off at the `#`");
        }
        let path = url.path().trim_end_matches('/').to_owned();
        for end in ["/chat/completions", "/completions"] {
            if let Some(before) = path.strip_suffix(end) {
                // It has no user and no query: no place where a secret usually stands.
                url.set_path(before);
                let right = url.as_str().trim_end_matches('/');
                return no(&format!("`{end}` is added for each request; write `{right}`"));
            }
        }
        if path.is_empty() {
            self.warn(located.node, "the URL has no path; most servers want `/v1` at its end");
        }
        if path.ends_with("/models") {
            self.warn(
                located.node,
                "`/models` at the end is right for Azure AI only; elsewhere cut it off, so that the URL ends before it",
            );
        }
        url.set_path(&path);
        Some(url)
    }

    // The inner `None` leaves the choice to the endpoint.
    #[allow(clippy::option_option)]
    fn model(&self, field: &Field<String>) -> Option<Option<String>> {
        match field {
            Field::Absent => Some(None),
            Field::Invalid(_) => None,
            Field::Present(located) => self.model_name(located).map(Some),
        }
    }

    /// The name of a model: a label's value, once it runs.
    pub(super) fn model_name(&self, located: &Located<String>) -> Option<String> {
        if let Some(fault) = plan::model_fault(&located.value) {
            self.problem(
                located.node,
                format!(
                    "the model's name {fault}; write it as the endpoint lists it, or leave it out"
                ),
            );
            return None;
        }
        Some(located.value.clone())
    }

    fn auth(&self, target: &Target, node: NodeId) -> Option<Auth> {
        let scheme = match &target.auth {
            Field::Absent => None,
            Field::Invalid(_) => return None,
            Field::Present(located) => Some(located),
        };
        let secret: Secret = match (&target.api_key_env, &target.api_key_file) {
            (Field::Absent, Field::Absent) => {
                return match scheme {
                    None | Some(Located { value: document::Auth::None, .. }) => Some(Auth::None),
                    Some(located) => {
                        self.problem(
                            located.node,
                            "there is no key to send; write `api_key_env` or `api_key_file`",
                        );
                        None
                    }
                };
            }
            (Field::Present(name), Field::Absent) => self.secret_from_variable(name)?,
            (Field::Absent, Field::Present(file)) => self.secret_from_file(file)?,
            (Field::Invalid(_), Field::Absent) | (Field::Absent, Field::Invalid(_)) => return None,
            (_, file) => {
                let located = file.node().unwrap_or(node);
                self.problem(
                    located,
                    "`api_key_file` beside `api_key_env`; a target has only one of them",
                );
                return None;
            }
        };
        match scheme.map_or(document::Auth::Bearer, |located| located.value) {
            document::Auth::Bearer => Some(Auth::Bearer(secret)),
            document::Auth::ApiKey => Some(Auth::ApiKey(secret)),
            document::Auth::XApiKey => Some(Auth::XApiKey(secret)),
            document::Auth::None => {
                let located = scheme.map_or(node, |located| located.node);
                self.problem(located, "`none` beside a key; leave out the one that is not meant");
                None
            }
        }
    }

    fn headers(
        &self,
        field: &Field<FieldMap<ValueSource>>,
        auth: Option<&Auth>,
    ) -> Option<Vec<(HeaderName, Sensitive)>> {
        let taken = match auth {
            Some(Auth::Bearer(_)) => "authorization",
            Some(Auth::ApiKey(_)) => "api-key",
            Some(Auth::XApiKey(_)) => "x-api-key",
            Some(Auth::None) | None => "",
        };
        let mut seen = HashSet::new();
        self.value_sources(field, |name| {
            let header = HeaderName::from_str(&name.value).ok();
            let fault = match &header {
                None => Some("not the name of a header; use letters, digits and `-`".to_owned()),
                Some(header) if OURS.contains(&header.as_str()) => {
                    Some(format!("llmload sets `{header}` itself; leave it out"))
                }
                Some(header) if header.as_str() == taken => Some(format!(
                    "the target's key is sent as `{header}` already; leave out one of them"
                )),
                Some(header) if !seen.insert(header.clone()) => Some(format!(
                    "`{header}` stands twice, in other letters; leave out one of them"
                )),
                Some(_) => None,
            };
            if let Some(message) = fault {
                self.problem(name.node, message);
                return None;
            }
            header
        })
    }

    fn query(&self, field: &Field<FieldMap<ValueSource>>) -> Option<Vec<(String, Sensitive)>> {
        self.value_sources(field, |name| Some(name.value.clone()))
    }

    /// Named values that are literal, or read from a variable or a file.
    fn value_sources<K>(
        &self,
        field: &Field<FieldMap<ValueSource>>,
        mut read_name: impl FnMut(&Located<String>) -> Option<K>,
    ) -> Option<Vec<(K, Sensitive)>> {
        let entries = match field {
            Field::Absent => return Some(Vec::new()),
            Field::Invalid(_) => return None,
            Field::Present(located) => &located.value.0,
        };
        let read: Vec<Option<(K, Sensitive)>> = entries
            .iter()
            .map(|(name, worth)| {
                let key = read_name(name);
                let worth =
                    worth.present().and_then(|located| self.value_source(&name.value, located));
                key.zip(worth)
            })
            .collect();
        read.into_iter().collect()
    }

    fn value_source(&self, name: &str, located: &Located<ValueSource>) -> Option<Sensitive> {
        match &located.value {
            ValueSource::Text(text) => {
                // What a variable filled does not stand in the file.
                let filled = self.tree.text(located.node).and_then(|text| text.filled.as_ref());
                if is_sensitive(name) && !filled.is_some_and(|filled| filled.from_variable) {
                    self.problem(
                        located.node,
                        "a secret never stands in the file; write {env: NAME} or {file: PATH} instead",
                    );
                    return None;
                }
                if !text.bytes().all(|b| (0x20..0x7f).contains(&b)) || text.trim() != text {
                    self.problem(
                        located.node,
                        "the value is not printable ASCII; write one line without blanks around it",
                    );
                    return None;
                }
                Some(Sensitive::from(text.clone()))
            }
            ValueSource::Map(from) => match (&from.env, &from.file) {
                (Field::Present(name), Field::Absent) => {
                    self.secret_from_variable(name).map(|s| s.value)
                }
                (Field::Absent, Field::Present(file)) => {
                    self.secret_from_file(file).map(|s| s.value)
                }
                (Field::Invalid(_), _) | (_, Field::Invalid(_)) => None,
                _ => {
                    let name = excerpt(name);
                    self.problem(
                        located.node,
                        format!(
                            "where `{name}` is read is not clear; write either `env` or `file`"
                        ),
                    );
                    None
                }
            },
        }
    }

    fn timeouts(&self, field: &Field<document::Timeouts>) -> Option<Timeouts> {
        let given = match field {
            Field::Absent => return Some(Timeouts::default()),
            Field::Invalid(_) => return None,
            Field::Present(located) => &located.value,
        };
        let default = Timeouts::default();
        let range = Duration::from_millis(1)..=Duration::from_hours(24);
        let total = self.span(&given.total, default.total, range.clone());
        let part = |field, default: Duration| {
            // A default gives way to a shorter total; what was written does not, and is a mistake.
            let default = total.map_or(default, |total| default.min(total));
            let value = self.span(field, default, range.clone())?;
            if let (Some(node), Some(total)) = (field.node(), total)
                && value > total
            {
                let total = HumanDuration(total);
                self.problem(
                    node,
                    format!(
                        "longer than `total` ({total}), so it never ends a request; shorten it"
                    ),
                );
                return None;
            }
            Some(value)
        };
        let connect = part(&given.connect, default.connect);
        let first_token = part(&given.first_token, default.first_token);
        let idle = part(&given.idle, default.idle);
        Some(Timeouts { connect: connect?, first_token: first_token?, idle: idle?, total: total? })
    }

    fn warn_of_plain_text(
        &self,
        location: &Location,
        auth: &Auth,
        headers: &[(HeaderName, Sensitive)],
        target: &Target,
    ) {
        let Location::Url(url) = location else { return };
        let near = match url.host() {
            Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        let secret = !matches!(auth, Auth::None)
            || headers.iter().any(|(name, value)| {
                is_sensitive(name.as_str()) && !value.expose_secret().is_empty()
            });
        if let Some(node) = target.base_url.node()
            && url.scheme() == "http"
            && !near
            && secret
        {
            self.warn(node, "the key goes over the network unencrypted; use https");
        }
    }
}
