//! Reads the web configuration file: the certificates, users, headers and rate limit of the web
//! server. It has the format of Prometheus' exporter-toolkit, so files for other exporters work.
//!
//! If llmload cannot do what a key demands, the key is a mistake. If llmload ignored it, the web
//! server would be less protected than its file promises. There are no variables in this file,
//! because the hash of a password contains `$`.

mod document;
mod interval;
mod pem;
mod tls;

use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::time::Duration;

use bcrypt::HashParts;
use http::header::{
    CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, STRICT_TRANSPORT_SECURITY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS, X_XSS_PROTECTION,
};
use serde::Deserialize as _;

use super::field::{Field, FieldMap, Located};
use super::problem::{Invalid, Mistake, MistakeAt, Mistakes, Problem, ProblemKind};
use super::reader::TreeDeserializer;
use super::tree::{NodeId, Tree, Value, excerpt};
use super::{file, hints, place, yaml};
use crate::plan::SecretText;
use document::Document;
use interval::LONGEST_INTERVAL;
pub use tls::{ClientAuth, Curve, TlsDefect, TlsPart, TlsSettings, TlsVersion};

/// The headers that a file can set, and their valid values if there are only a few.
static HEADERS: [(&str, HeaderName, &[&str]); 5] = [
    ("Content-Security-Policy", CONTENT_SECURITY_POLICY, &[]),
    ("X-Frame-Options", X_FRAME_OPTIONS, &["deny", "sameorigin"]),
    ("X-Content-Type-Options", X_CONTENT_TYPE_OPTIONS, &["nosniff"]),
    ("X-XSS-Protection", X_XSS_PROTECTION, &[]),
    ("Strict-Transport-Security", STRICT_TRANSPORT_SECURITY, &[]),
];
/// The keys of `tls_server_config` whose default protects less than a value.
const PROTECTION: [&str; 5] = [
    "client_auth_type",
    "client_allowed_sans",
    "min_version",
    "cipher_suites",
    "curve_preferences",
];
const LARGEST_BURST: u64 = 1_000_000;
/// The costs of bcrypt. One step doubles the time.
const COSTS: std::ops::RangeInclusive<u32> = 4..=31;

/// A valid web configuration file. `T` is the TLS configuration that the caller built.
#[derive(Debug)]
pub struct WebFile<T> {
    /// `None` means plain HTTP.
    pub tls: Option<T>,
    /// The headers of every response.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The users and the bcrypt hashes of their passwords. If there are none, everyone has access.
    pub users: Vec<(String, SecretText)>,
    pub rate_limit: Option<RateLimit>,
}

/// A token bucket: a request takes a token, and a token returns after each interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    pub interval: Duration,
    /// The number of tokens in a full bucket, at least 1.
    pub burst: u32,
}

/// The result of reading a web configuration file.
#[derive(Debug)]
pub struct WebFileRead<T> {
    pub result: Result<WebFile<T>, Invalid>,
    /// The files that llmload read or tried to read. A change to one of these files changes the
    /// result.
    pub files: Vec<PathBuf>,
}

/// Reads a web configuration file and the certificates that it names. Paths in the file are
/// relative to its folder. `build` makes the TLS configuration, so that the library for TLS can
/// reject a certificate, and the message contains the place.
pub fn read_web_file<T>(
    path: &Path,
    build: impl FnOnce(TlsSettings) -> Result<T, TlsDefect>,
) -> WebFileRead<T> {
    let mut files = vec![path.to_owned()];
    let text = file::read_configuration(path);
    let base = path.parent().unwrap_or(Path::new(""));
    let name = path.display().to_string();
    let result = text.and_then(|text| parse(&text, &name, base, &mut files, build));
    WebFileRead { result, files }
}

fn parse<T>(
    text: &str,
    name: &str,
    base: &Path,
    files: &mut Vec<PathBuf>,
    build: impl FnOnce(TlsSettings) -> Result<T, TlsDefect>,
) -> Result<WebFile<T>, Invalid> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // A file without a key is valid, as in the exporters of Prometheus.
    let has_content = |line: &str| {
        let line = line.trim();
        !(line.is_empty() || line.starts_with('#') || matches!(line, "---" | "..."))
    };
    let text = if text.lines().any(has_content) { text } else { "{}" };
    let (mut tree, mistakes_of_text) = yaml::read(text).map_err(|malformed| {
        Invalid::new(name, vec![Problem::new(malformed.position, String::new(), malformed.mistake)])
    })?;
    let unprotected = entries_without_protection(&tree);
    tree.remove_empty_entries();
    let mistakes = Mistakes::new(mistakes_of_text);
    let reader =
        Reader { tree: &tree, base, mistakes: &mistakes, files: std::mem::take(files).into() };
    for MistakeAt { node, mistake } in unprotected {
        reader.report(node, mistake);
    }
    let parts = reader.document(build);
    *files = reader.files.into_inner();
    let mistakes = mistakes.into_inner();
    match parts {
        Some(file) if mistakes.is_empty() => Ok(file),
        _ => Err(Invalid::new(name, place(text, &tree, mistakes))),
    }
}

/// Returns a mistake for each key without a value that would leave the web server unprotected. If
/// llmload ignored a user without a hash, everyone would have access.
fn entries_without_protection(tree: &Tree) -> Vec<MistakeAt> {
    let empty = |map: &str| -> Vec<(NodeId, NodeId)> {
        let entries = match tree.get(NodeId::ROOT, map).map(|map| tree.value(map)) {
            Some(Value::Map(entries)) => entries.as_slice(),
            _ => &[],
        };
        let is_empty = |value: NodeId| matches!(tree.value(value), Value::Null);
        entries.iter().filter(|(_, value)| is_empty(*value)).copied().collect()
    };
    let users = empty("basic_auth_users").into_iter();
    let users = users.map(|(name, node)| MistakeAt { node, mistake: not_a_hash(tree.key(name)) });
    let tls = empty("tls_server_config").into_iter();
    let tls = tls.filter(|(key, _)| PROTECTION.contains(&tree.key(*key)));
    users
        .chain(tls.map(|(key, node)| MistakeAt { node, mistake: no_value(tree.key(key)) }))
        .collect()
}

// No message quotes a hash.
fn not_a_hash(user: &str) -> Mistake {
    let remedy =
        format!("write the hash that `htpasswd -nBC 10 {}` prints after the name", excerpt(user));
    Mistake::new("the value is not a bcrypt hash", remedy)
}

fn no_value(key: &str) -> Mistake {
    Mistake::new(format!("`{key}` has no value"), "write a value, or remove the key")
}

/// The shared input and output of all checks. A method that finds a mistake records it and returns
/// `None`, so one pass finds all mistakes.
struct Reader<'a> {
    tree: &'a Tree,
    base: &'a Path,
    mistakes: &'a Mistakes,
    files: std::cell::RefCell<Vec<PathBuf>>,
}

impl Reader<'_> {
    fn report(&self, node: NodeId, mistake: Mistake) {
        self.mistakes.borrow_mut().push(MistakeAt { node, mistake });
    }

    fn problem(&self, node: NodeId, message: impl Into<String>, remedy: impl Into<String>) {
        self.report(node, Mistake::new(message, remedy));
    }

    fn missing(&self, node: NodeId, message: &str, remedy: &str) {
        self.report(node, Mistake::new(message, remedy).of_kind(ProblemKind::Missing));
    }

    fn document<T>(
        &self,
        build: impl FnOnce(TlsSettings) -> Result<T, TlsDefect>,
    ) -> Option<WebFile<T>> {
        if !matches!(self.tree.value(NodeId::ROOT), Value::Map(_)) {
            let message = "the file is not a map of keys and values";
            let remedy = "write keys such as `tls_server_config` and `basic_auth_users`";
            self.problem(NodeId::ROOT, message, remedy);
            return None;
        }
        let document = Document::deserialize(TreeDeserializer::new(self.tree, self.mistakes));
        let document = document
            .map_err(|error| self.report(NodeId::ROOT, Mistake::from(error)))
            .unwrap_or_default();
        let http = document.http_server_config.present().map(|located| &located.value);
        let http2 = http.and_then(|keys| keys.http2.present()).is_none_or(|located| located.value);
        let headers = http.map_or_else(Vec::new, |keys| self.headers(&keys.headers));
        let users = self.users(&document.basic_auth_users);
        let rate_limit = self.rate_limit(&document.rate_limit);
        let tls = self.tls(&document.tls_server_config, http2);
        let tls = match tls {
            Some((settings, places)) if self.mistakes.borrow().is_empty() => {
                let built = build(settings).map_err(|defect| {
                    self.report(places.of(defect.part), defect.mistake);
                });
                Some(built.ok()?)
            }
            _ => None,
        };
        Some(WebFile { tls, headers, users, rate_limit: rate_limit? })
    }

    fn headers(&self, field: &Field<FieldMap<String>>) -> Vec<(HeaderName, HeaderValue)> {
        let entries = field.present().map_or(&[][..], |located| &located.value.0);
        let header = |(name, value): &(Located<String>, Field<String>)| {
            let known = HEADERS.iter().find(|(known, ..)| *known == name.value);
            let Some((_, header, choices)) = known else {
                let names: Vec<&str> = HEADERS.iter().map(|(known, ..)| *known).collect();
                self.report(name.node, hints::unknown_key(&name.value, &names));
                return None;
            };
            // A blank value sets nothing, as in the exporters of Prometheus. A header that llmload
            // sends without configuration remains.
            let value = value.present().filter(|value| !value.value.is_empty())?;
            if !choices.is_empty() && !choices.contains(&value.value.as_str()) {
                self.report(value.node, hints::not_a_choice(&value.value, choices.iter().copied()));
                return None;
            }
            if let Ok(text) = HeaderValue::from_str(&value.value) {
                return Some((header.clone(), text));
            }
            let message = "the value contains characters that a header must not contain";
            self.problem(value.node, message, "write printable ASCII characters in one line");
            None
        };
        entries.iter().filter_map(header).collect()
    }

    fn users(&self, field: &Field<FieldMap<String>>) -> Vec<(String, SecretText)> {
        let entries = field.present().map_or(&[][..], |located| &located.value.0);
        let user = |(name, hash): &(Located<String>, Field<String>)| {
            if name.value.contains(':') {
                let message = "a user name must not contain `:`, because basic auth separates the \
                               name from the password with it";
                self.problem(name.node, message, "choose another name");
            }
            let hash = hash.present()?;
            let parts = HashParts::from_str(&hash.value);
            if !parts.is_ok_and(|parts| COSTS.contains(&parts.get_cost())) {
                self.report(hash.node, not_a_hash(&name.value));
            }
            Some((name.value.clone(), SecretText::from(hash.value.clone())))
        };
        entries.iter().filter_map(user).collect()
    }

    /// Returns `None` for a mistake, and `Some(None)` for no limit.
    #[allow(clippy::option_option)]
    fn rate_limit(&self, field: &Field<document::RateLimit>) -> Option<Option<RateLimit>> {
        let located = match field {
            Field::Absent => return Some(None),
            Field::Invalid(_) => return None,
            Field::Present(located) => located,
        };
        let keys = &located.value;
        let interval = match &keys.interval {
            Field::Absent if keys.burst.is_absent() => return Some(None),
            Field::Absent => {
                let remedy = "write the time between two requests, such as `interval: 1s`";
                self.missing(located.node, "`interval` is missing", remedy);
                return None;
            }
            Field::Invalid(_) => return None,
            Field::Present(interval) if interval.value.0.is_zero() => return Some(None),
            Field::Present(interval) => interval,
        };
        if interval.value.0 > LONGEST_INTERVAL {
            let remedy = "write at most `24h`, or `0` for no limit";
            self.problem(interval.node, "the interval is too long", remedy);
            return None;
        }
        let burst = keys.burst.present();
        match burst.map(|burst| burst.value.0) {
            Some(count @ 1..=LARGEST_BURST) => {
                let burst = u32::try_from(count).unwrap_or(u32::MAX);
                Some(Some(RateLimit { interval: interval.value.0, burst }))
            }
            Some(_) => {
                let remedy = format!("write a whole number from 1 to {LARGEST_BURST}");
                self.problem(burst?.node, "`burst` is out of range", remedy);
                None
            }
            None if keys.burst.is_absent() => {
                let message = "`burst` is missing, and with a burst of 0 no request would succeed";
                let remedy = "write the number of requests that can arrive at once, such as \
                              `burst: 20`";
                self.missing(located.node, message, remedy);
                None
            }
            None => None,
        }
    }
}
