//! The remedy for each problem of a target. The status page, the log, the report and `probe` use
//! it, so a mistake has the same explanation everywhere.
//!
//! A remedy depends on the failure, on the message of the endpoint and on the configuration of the
//! target. It never contains a secret: it names only the origin of a key, such as an environment
//! variable.

mod address;
mod connecting;

use std::fmt;

use crate::measurement::{ClientFault, Failure, FailureCause, FailureDetail, printable};
use crate::plan::{self, Auth, Target};
use crate::protocol::{Api, ResponseLimits};
use address::Address;
pub use address::usual_paths;

/// Displayed as `problem; remedy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    pub problem: String,
    /// In the imperative.
    pub remedy: String,
}

impl Diagnosis {
    pub fn new(problem: impl Into<String>, remedy: impl Into<String>) -> Diagnosis {
        Diagnosis { problem: problem.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.problem, self.remedy)
    }
}

/// A target with its problems.
#[derive(Clone, Copy, Debug)]
pub struct DiagnosedTarget<'a> {
    pub target: &'a Target,
    /// The base URL of the target, without its query. Remedies quote it.
    pub address: &'a str,
}

impl DiagnosedTarget<'_> {
    pub fn remedy(&self, detail: &FailureDetail) -> String {
        let text = match detail.failure {
            Failure::Dns => return self.unresolved(detail.cause),
            Failure::ConnectRefused => return self.nothing_listens(),
            Failure::ConnectTimeout => return self.no_connection(),
            Failure::ConnectOther => return self.unreachable(),
            Failure::Tls => return self.tls(detail.cause),
            Failure::Reset => return self.reset(),
            Failure::HttpProtocol if detail.cause == Some(FailureCause::Encoded) => {
                "turn off compression in the server or in the proxy on the way: llmload requested \
                 no encoding (`accept-encoding: identity`)"
            }
            Failure::HttpProtocol => {
                return self
                    .or_https("check the port: the server at this port does not speak HTTP");
            }
            Failure::Auth => return self.key(),
            Failure::Http4xx => return self.refused(detail),
            Failure::NotSse => return self.no_stream(detail.cause),
            Failure::ClientResource | Failure::Internal => {
                return self.client(ClientFault::of(detail));
            }
            Failure::TimeoutFirstToken => {
                "check whether the server is overloaded or stuck, or raise `timeouts.first_token`"
            }
            Failure::TimeoutIdle => {
                "find out why the server pauses within its responses, or raise `timeouts.idle`"
            }
            Failure::TimeoutTotal if detail.cause == Some(FailureCause::NoMetadata) => {
                "check whether the server is overloaded or stuck: it does not respond to a request \
                 for its list of models"
            }
            Failure::TimeoutTotal => {
                "find out why the server takes so long, lower `max_tokens`, or raise \
                 `timeouts.total`"
            }
            Failure::Quota => "top up the account or raise its limit: waiting does not help",
            Failure::RateLimited => "lower the load, or ask for a higher limit for this key",
            Failure::Overloaded => "wait until the server has loaded its model, or lower the load",
            Failure::Http5xx => {
                "check the server's log: the fault is in the server, not in the request"
            }
            Failure::HttpUnexpected => redirected(detail.cause),
            Failure::StreamError => {
                "check the server's log: the server itself ended the response with an error"
            }
            Failure::Truncated => {
                "check the server's log, and whether a proxy on the way cuts off long responses"
            }
            Failure::Incomplete if !self.target.dialect.api.generates_text() => {
                "check whether the model accepts several inputs in one request"
            }
            Failure::Incomplete => incomplete(detail.cause),
            Failure::BadFrame => {
                "check the address, and any proxy on the way: the response does not follow the \
                 OpenAI API"
            }
            Failure::TooLarge => return too_large(ResponseLimits::default()),
            Failure::Filtered => "change the prompts: a content filter withheld the response",
            Failure::EmptyOutput => "raise `max_tokens`: hidden reasoning possibly used all tokens",
        };
        text.to_owned()
    }

    /// Chooses the model for the requests, and finds the probable problem with this model. `status`
    /// and `models` are the response to `/models`. A configured model is chosen even if the
    /// response does not list it, because the list can be wrong.
    pub fn choose_model(
        &self,
        status: u16,
        models: &[String],
    ) -> (Option<String>, Option<Diagnosis>) {
        let problem = self.model_problem(status, models);
        match (&self.target.model, models) {
            (Some(named), _) => (Some(named.clone()), problem),
            (None, [only]) if problem.is_none() => (Some(only.clone()), None),
            (None, _) => (None, problem),
        }
    }

    fn model_problem(&self, status: u16, models: &[String]) -> Option<Diagnosis> {
        let diagnosis = |problem: String, remedy: String| Some(Diagnosis::new(problem, remedy));
        match (status, &self.target.model, models) {
            (401 | 403, ..) => {
                diagnosis(format!("/models returned {status}: {}", self.rejected()), self.key())
            }
            // Some endpoints have no /models. If the path is wrong, the requests will fail too.
            (404, None, []) => diagnosis(
                format!("there is no /models under {}", self.address),
                self.other_path()
                    .unwrap_or_else(|| format!("check the path {}", self.address().path())),
            ),
            (300..=399, ..) => diagnosis(
                format!("/models returned {status}, and llmload does not follow redirects"),
                REDIRECTED.to_owned(),
            ),
            (_, None, [model]) => plan::model_name_problem(model).and_then(|fault| {
                diagnosis(
                    format!("the name of the only model that /models lists {fault}"),
                    "set `model` (or `--model`)".to_owned(),
                )
            }),
            (_, None, []) => diagnosis(
                format!("/models returned {status} and lists no model"),
                match self.other_path() {
                    Some(path) => {
                        format!("set `model` (or `--model`), or correct the address: {path}")
                    }
                    None => {
                        "set `model` (or `--model`), or check that this is the address of the API"
                            .to_owned()
                    }
                },
            ),
            (_, None, several) => diagnosis(
                format!("/models lists {} models, and no `model` is set", several.len()),
                format!("set `model` (or `--model`) to one of {}", some_of(several)),
            ),
            (_, Some(model), [_, ..]) if !models.contains(model) => diagnosis(
                format!("/models does not list `{}`", printable(model, 80)),
                format!("set `model` (or `--model`) to one of {}", some_of(models)),
            ),
            _ => None,
        }
    }

    /// Returns the diagnosis for a status of 500 or higher from `/models`.
    pub fn server_error(&self, status: u16) -> Diagnosis {
        let remedy = match status {
            502..=504 | 529 => "wait until the server has loaded its model, or check its log",
            _ => "check the server's log",
        };
        Diagnosis::new(format!("/models returned {status}"), remedy)
    }

    fn address(&self) -> Address<'_> {
        Address(self.address)
    }

    /// Returns the remedy for a failure in llmload or its machine.
    fn client(&self, fault: Option<ClientFault>) -> String {
        // Without IPv6, the kernel returns the same error as without a free port.
        let is_ipv6 = self.address().host().starts_with('[');
        match fault {
            Some(ClientFault::LocalPorts) if is_ipv6 => {
                format!("check that this machine has an IPv6 address, or {}", client_remedy(fault))
            }
            _ => client_remedy(fault).to_owned(),
        }
    }

    fn rejected(&self) -> String {
        match &self.target.auth {
            Auth::Bearer(key) | Auth::ApiKey(key) | Auth::XApiKey(key) => {
                format!("the key from {} is not accepted", key.origin)
            }
            Auth::Basic(_) => "the user and the password in the URL are not accepted".to_owned(),
            Auth::None => match self.header_with_key() {
                Some(name) => format!("the header `{name}` is not accepted"),
                None => "no key is set".to_owned(),
            },
        }
    }

    fn key(&self) -> String {
        match &self.target.auth {
            Auth::XApiKey(key) if self.target.dialect.api == Api::Messages => {
                let origin = &key.origin;
                format!(
                    "check that {origin} holds a valid key, or set `auth: bearer`, as vLLM expects"
                )
            }
            Auth::Bearer(key) | Auth::ApiKey(key) | Auth::XApiKey(key) => {
                format!("check that {} holds a valid key, and that this key has access", key.origin)
            }
            Auth::Basic(_) => {
                "check the user and the password in the URL, and that this user has access"
                    .to_owned()
            }
            Auth::None => match self.header_with_key() {
                Some(name) => format!("check that the header `{name}` holds a valid key"),
                None => "set `api_key_env` (or `--api-key-env`) to the name of the variable that \
                         holds the key"
                    .to_owned(),
            },
        }
    }

    fn header_with_key(&self) -> Option<&str> {
        let keys = ["authorization", "api-key", "x-api-key"];
        let header = self.target.headers.iter().find(|(name, _)| keys.contains(&name.as_str()));
        header.map(|(name, _)| name.as_str())
    }

    /// Returns the remedy for a failure of the class `http_4xx`.
    ///
    /// Only the message of the server names the field that it rejects, because servers have no
    /// common code for this. So llmload searches the message for field names and for the word
    /// "model". No other remedy depends on the text of a message.
    fn refused(&self, detail: &FailureDetail) -> String {
        const UNKNOWN: [&str; 5] =
            ["not exist", "not found", "invalid model", "unknown model", "not a valid model"];
        let (status, message) = (status(detail.cause), detail.message.to_ascii_lowercase());
        if message.contains("https") {
            return self.or_https("check the address");
        }
        if message.contains("max_completion_tokens") {
            return "set `max_tokens_field: max_completion_tokens`: this model does not accept \
                    `max_tokens`"
                .to_owned();
        }
        if message.contains("stream_options") {
            return "set `stream_options: none`: this endpoint does not accept that field"
                .to_owned();
        }
        let is_unknown =
            status == Some(404) || UNKNOWN.iter().any(|phrase| message.contains(phrase));
        if message.contains("model") && is_unknown {
            return "set `model` (or `--model`) to a model that /models lists".to_owned();
        }
        match status {
            Some(404 | 405) => self.other_path().unwrap_or_else(|| {
                let path = self.target.dialect.path();
                format!("check the path and `api`: requests go to {}/{path}", self.address().base())
            }),
            _ => "change the request: the message says why the endpoint refused it".to_owned(),
        }
    }

    fn no_stream(&self, cause: Option<FailureCause>) -> String {
        if cause == Some(FailureCause::UnstreamedCompletion) {
            return "set `request: {stream: false}` (then there is no TTFT), or find the proxy \
                    that buffers the stream"
                .to_owned();
        }
        let path = self.other_path().map_or_else(String::new, |path| format!(": {path}"));
        format!("check the address: the response is from a web page or another API{path}")
    }

    /// Suggests the usual address of an API. Returns `None` if the target has this address.
    fn other_path(&self) -> Option<String> {
        let (origin, path) = (self.address().origin(), self.address().path());
        let usual = usual_paths(path);
        let mut others = usual.iter().filter(|usual| usual.as_str() != path.trim_end_matches('/'));
        match (others.next(), others.next(), path.trim_end_matches('/')) {
            (Some(only), None, "") => Some(format!("use {origin}{only} if `/v1` is missing")),
            (Some(first), Some(second), path) => Some(format!(
                "check the path {path}: most servers have their API at {origin}{first}, others at \
                 {origin}{second}"
            )),
            (Some(only), None, path) => Some(format!(
                "check the path {path}: most servers have their API at {origin}{only}"
            )),
            (None, ..) => None,
        }
    }
}

fn status(cause: Option<FailureCause>) -> Option<u16> {
    match cause {
        Some(FailureCause::Status(status)) => Some(status),
        _ => None,
    }
}

/// The remedy for a wait for a free HTTP/2 stream. HTTP/1.1 has no such wait, because each request
/// has a separate connection.
pub const STREAMS: &str =
    "lower the load or `max_concurrency`, or use HTTP/1.1 (`http2: false` at the target)";

pub fn client_remedy(fault: Option<ClientFault>) -> &'static str {
    match fault {
        Some(ClientFault::LocalPorts) => {
            "widen the range of local ports (`sysctl net.ipv4.ip_local_port_range`), lower \
             `max_concurrency`, or spread the load over several machines"
        }
        Some(ClientFault::OpenFiles) => {
            "raise the limit of open files (`ulimit -n`, LimitNOFILE in systemd, or \
             `sysctl fs.file-max` for the machine), or lower `max_concurrency`"
        }
        Some(ClientFault::Memory) => {
            "give this machine or container more memory, or lower `max_concurrency`"
        }
        Some(ClientFault::Threads) => {
            "raise the limit of threads (`ulimit -u`, TasksMax in systemd, or pids.max of the \
             container)"
        }
        Some(ClientFault::Streams) => STREAMS,
        Some(ClientFault::PromptFile) => {
            "keep each prompt file readable and unchanged while llmload uses it, and after a change \
             reload the configuration or start the run again"
        }
        Some(ClientFault::Defect) => "report this as a bug in llmload, with the log around it",
        None => "check the resources of the machine of llmload: the message names the missing one",
    }
}

fn too_large(limits: ResponseLimits) -> String {
    let mebibytes = |bytes: usize| bytes >> 20;
    format!(
        "lower `max_tokens`, or check the address: llmload reads at most {} MiB in an event, {} \
         MiB in a stream and {} MiB in a body without streaming",
        mebibytes(limits.event),
        mebibytes(limits.stream_body),
        mebibytes(limits.unstreamed_body)
    )
}

const REDIRECTED: &str = "use the address that the redirect points to (`curl -sI` shows it)";

fn redirected(cause: Option<FailureCause>) -> &'static str {
    match status(cause) {
        Some(300..=399) => REDIRECTED,
        _ => "check the address: no API of a model returns this status",
    }
}

fn incomplete(cause: Option<FailureCause>) -> &'static str {
    match cause {
        Some(FailureCause::NoFinishReason) => {
            "set `terminal: done` if the server never sends a finish reason"
        }
        Some(FailureCause::NoEndMarker) => {
            "set `terminal: finish_reason` if the server never sends its end marker"
        }
        _ => {
            "check the server's log and any proxy on the way, or set `terminal: eof` if the server \
             never marks the end"
        }
    }
}

/// Returns the first few names without control characters, because a server chose the names.
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
