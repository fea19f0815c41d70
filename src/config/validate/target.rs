//! Validates a target: its address, its credentials, its headers and its timeouts.

use std::collections::HashSet;
use std::str::FromStr;
use std::time::Duration;

use http::HeaderName;
use http::header::CONNECTION;
use url::Url;

use super::Validator;
use super::secret::is_sensitive;
use crate::config::document::{self, Target, ValueSource};
use crate::config::duration::HumanDuration;
use crate::config::field::{Field, FieldMap, Located};
use crate::config::problem::Mistake;
use crate::config::tree::{NodeId, excerpt};
use crate::config::user_info::parse_http_url;
use crate::plan::{self, Auth, BasicCredentials, Location, SecretText, Timeouts};
use crate::protocol;

/// Headers that only llmload sets, because they describe the body and the connection.
pub(super) const RESERVED_HEADERS: [&str; 8] = [
    "accept",
    "accept-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "te",
    "transfer-encoding",
];

impl Validator<'_> {
    pub(super) fn target(
        &self,
        name: &str,
        target: &Target,
        node: NodeId,
        seed: u64,
    ) -> Option<plan::Target> {
        let (location, credentials) = self.location(target, node, seed).unzip();
        let auth = self.auth(target, node, credentials.flatten());
        let headers = self.headers(&target.headers, auth.as_ref());
        let query = self.query(&target.query);
        let timeouts = self.timeouts(&target.timeouts);
        let rate_limits = self.rate_limits(&target.rate_limits);
        let prices = self.prices(&target.prices);
        let metrics_pages = self.observe(&target.observe);
        let model = self.model(&target.model);
        let dialect = self.dialect(target);
        let connection = self.connection(target, location.as_ref());
        let (location, auth) = (location?, auth?);
        let secrets =
            [headers.as_deref().unwrap_or_default().iter().map(|(name, _)| name.as_str())];
        let queried = query.as_deref().unwrap_or_default().iter().map(|(name, _)| name.as_str());
        let names = secrets.into_iter().flatten().chain(queried);
        self.warn_of_plain_text(&location, &auth, names, target.base_url.node());
        Some(plan::Target {
            name: name.to_owned(),
            location,
            model: model?,
            auth,
            headers: headers?,
            query: query?,
            body_secrets: Vec::new(),
            dialect: dialect?,
            connection: connection?,
            traceparent: target.traceparent.present().is_none_or(|located| located.value),
            terminal: match target.terminal.present().map(|located| located.value) {
                None | Some(document::Terminal::FinishReason) => protocol::Terminal::FinishReason,
                Some(document::Terminal::Done) => protocol::Terminal::Done,
                Some(document::Terminal::Eof) => protocol::Terminal::Eof,
            },
            timeouts: timeouts?,
            rate_limits: rate_limits?,
            prices: prices?,
            metrics_pages: metrics_pages?,
        })
    }

    fn location(
        &self,
        target: &Target,
        node: NodeId,
        seed: u64,
    ) -> Option<(Location, Option<BasicCredentials>)> {
        match (&target.base_url, &target.simulator) {
            (Field::Absent, Field::Absent) => {
                self.missing(
                    node,
                    "the target has no address",
                    "write `base_url: http://localhost:8000/v1` or `simulator: {}`",
                );
                None
            }
            (Field::Present(url), Field::Absent) => {
                let (url, credentials) = self.base_url(url)?;
                Some((Location::Url(url), credentials))
            }
            (Field::Absent, Field::Present(located)) => {
                let simulator = self.simulator(&located.value, seed)?;
                Some((Location::Simulator(simulator), None))
            }
            (Field::Invalid(_), Field::Absent) | (Field::Absent, Field::Invalid(_)) => None,
            (_, simulator) => {
                let located = simulator.node().unwrap_or(node);
                self.problem(
                    located,
                    "`simulator` and `base_url` exclude each other",
                    "remove one of them",
                );
                None
            }
        }
    }

    fn base_url(&self, located: &Located<String>) -> Option<(Url, Option<BasicCredentials>)> {
        let (url, credentials) = parse_base_url(located.value.trim())
            .map_err(|mistake| self.report(located.node, mistake))
            .ok()?;
        // `Url` replaces an empty path with `/`.
        if matches!(url.path(), "/" | "") {
            self.warn(located.node, "the URL has no path", "add `/v1`, which most servers expect");
        }
        if url.path().ends_with("/models") {
            self.warn(
                located.node,
                "only Azure AI expects `/models` at the end",
                "remove it for any other server",
            );
        }
        Some((url, credentials))
    }

    /// Returns `None` for a mistake, and `Some(None)` for the only model that `/models` lists.
    #[allow(clippy::option_option)]
    fn model(&self, field: &Field<String>) -> Option<Option<String>> {
        match field {
            Field::Absent => Some(None),
            Field::Invalid(_) => None,
            Field::Present(located) => self.model_name(located).map(Some),
        }
    }

    /// Reads the name of a model, which becomes the value of a label.
    pub(super) fn model_name(&self, located: &Located<String>) -> Option<String> {
        if let Some(fault) = plan::model_name_problem(&located.value) {
            self.problem(
                located.node,
                format!("the model's name {fault}"),
                "write the name as `/models` lists it, or remove `model`",
            );
            return None;
        }
        Some(located.value.clone())
    }

    fn headers(
        &self,
        field: &Field<FieldMap<ValueSource>>,
        auth: Option<&Auth>,
    ) -> Option<Vec<(HeaderName, SecretText)>> {
        let (taken, content) = match auth {
            Some(Auth::Bearer(_)) => ("authorization", "the API key of the target"),
            Some(Auth::Basic(_)) => ("authorization", "the user of the URL"),
            Some(Auth::ApiKey(_)) => ("api-key", "the API key of the target"),
            Some(Auth::XApiKey(_)) => ("x-api-key", "the API key of the target"),
            Some(Auth::None) | None => ("", ""),
        };
        let mut seen = HashSet::new();
        self.value_sources(field, is_sensitive, |name| {
            let header = HeaderName::from_str(&name.value).ok();
            let mistake = match &header {
                None => Mistake::new(
                    "the name of the header is not valid",
                    "use letters, digits and `-`",
                ),
                Some(header) if header == CONNECTION => Mistake::new(
                    "llmload sets `connection` itself",
                    "remove it, or write `keep_alive: off` in the target to open a connection for each \
                     request",
                ),
                Some(header) if RESERVED_HEADERS.contains(&header.as_str()) => {
                    Mistake::new(format!("llmload sets `{header}` itself"), "remove it")
                }
                Some(header) if header.as_str() == taken => Mistake::new(
                    format!("llmload sends {content} in `{header}`"),
                    "remove one of them",
                ),
                Some(header) if !seen.insert(header.clone()) => Mistake::new(
                    format!("`{header}` appears twice, in different letter case"),
                    "remove one of them",
                ),
                Some(_) => return header,
            };
            self.report(name.node, mistake);
            None
        })
    }

    fn query(&self, field: &Field<FieldMap<ValueSource>>) -> Option<Vec<(String, SecretText)>> {
        // Azure Functions expect their key in the parameter `code`.
        let is_secret = |name: &str| name == "code" || is_sensitive(name);
        self.value_sources(field, is_secret, |name| Some(name.value.clone()))
    }

    /// Reads a map of headers or query parameters. `is_secret` returns true if values with this
    /// name are secret. `read_name` checks a name.
    fn value_sources<K>(
        &self,
        field: &Field<FieldMap<ValueSource>>,
        is_secret: impl Fn(&str) -> bool,
        mut read_name: impl FnMut(&Located<String>) -> Option<K>,
    ) -> Option<Vec<(K, SecretText)>> {
        let entries = match field {
            Field::Absent => return Some(Vec::new()),
            Field::Invalid(_) => return None,
            Field::Present(located) => &located.value.0,
        };
        let read: Vec<Option<(K, SecretText)>> = entries
            .iter()
            .map(|(name, source)| {
                let key = read_name(name);
                let value = source.present().and_then(|located| {
                    self.value_source(&name.value, is_secret(&name.value), located)
                });
                key.zip(value)
            })
            .collect();
        read.into_iter().collect()
    }

    fn value_source(
        &self,
        name: &str,
        is_secret: bool,
        located: &Located<ValueSource>,
    ) -> Option<SecretText> {
        match &located.value {
            ValueSource::Text(text) => {
                // A secret from a variable is allowed, because the file does not contain it.
                let text_of_file = self.tree.text(located.node);
                let substituted = text_of_file.and_then(|text| text.substituted.as_ref());
                if is_secret && !substituted.is_some_and(|new| new.from_variable) {
                    self.problem(
                        located.node,
                        "a secret never belongs in the configuration",
                        "write `{env: NAME}` or `{file: PATH}` instead",
                    );
                    return None;
                }
                if !text.bytes().all(|b| (0x20..0x7f).contains(&b)) || text.trim() != text {
                    self.problem(
                        located.node,
                        "the value is not printable ASCII",
                        "write one line of ASCII characters without spaces around it",
                    );
                    return None;
                }
                Some(SecretText::from(text.clone()))
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
                        format!("the source of `{name}` is not clear"),
                        "write exactly one of `env` and `file`",
                    );
                    None
                }
            },
        }
    }

    fn timeouts(&self, field: &Field<document::Timeouts>) -> Option<Timeouts> {
        let keys = match field {
            Field::Absent => return Some(Timeouts::default()),
            Field::Invalid(_) => return None,
            Field::Present(located) => &located.value,
        };
        let default = Timeouts::default();
        let range = Duration::from_millis(1)..=Duration::from_hours(24);
        let total = self.span(&keys.total, default.total, range.clone());
        let part = |field, default: Duration| {
            // A shorter `total` also shortens the default. But a configured timeout must not exceed
            // `total`.
            let default = total.map_or(default, |total| default.min(total));
            let value = self.span(field, default, range.clone())?;
            if let (Some(node), Some(total)) = (field.node(), total)
                && value > total
            {
                let total = HumanDuration(total);
                self.problem(
                    node,
                    format!(
                        "the timeout is longer than `total` ({total}), so it would have no effect"
                    ),
                    "write a shorter time",
                );
                return None;
            }
            Some(value)
        };
        let connect = part(&keys.connect, default.connect);
        let first_token = part(&keys.first_token, default.first_token);
        let idle = part(&keys.idle, default.idle);
        let after_end = part(&keys.after_end, default.after_end);
        Some(Timeouts {
            connect: connect?,
            first_token: first_token?,
            idle: idle?,
            total: total?,
            after_end: after_end?,
        })
    }
}

/// Parses the root URL of an API, and separates its user and password. A slash at the end of the
/// path is removed, except in the path `/`.
///
/// No message quotes a URL that can contain a password.
fn parse_base_url(text: &str) -> Result<(Url, Option<BasicCredentials>), Mistake> {
    const REMEDY: &str = "write a URL such as `http://localhost:8000/v1`";
    let (mut url, credentials) = parse_http_url(text, "the URL has no scheme", REMEDY)?;
    if url.query().is_some() {
        return Err(Mistake::new(
            "the URL has a query",
            "move it to `query:`, such as `query: {api-version: 2024-10-21}`",
        ));
    }
    if url.fragment().is_some() {
        return Err(Mistake::new("the URL has a fragment", "remove the `#` and the text after it"));
    }
    let path = url.path().trim_end_matches('/').to_owned();
    for api in protocol::Api::ALL {
        let end = format!("/{}", api.path());
        if let Some(before) = path.strip_suffix(&end) {
            // Without query and user, a URL usually contains no secret, so the remedy quotes it.
            url.set_path(before);
            let remedy = match &credentials {
                None => format!("write `{}`", url.as_str().trim_end_matches('/')),
                Some(_) => "remove it".to_owned(),
            };
            let message = format!("llmload adds `{end}` to the URL itself");
            return Err(Mistake::new(message, remedy));
        }
    }
    url.set_path(&path);
    Ok((url, credentials))
}
