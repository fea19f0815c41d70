//! The plan: the scenarios and targets of a valid configuration, in the form in which llmload runs
//! them.
//!
//! Only the module `config` makes a plan from a file, after it has checked the file. Other modules
//! use the plan and need no further checks.

mod open_files;

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::buckets::Buckets;
use crate::calendar::{Anchor, Cron, Windows};
use crate::prompts::Prompts;
use crate::protocol::{Dialect, Terminal};
use crate::schedule::{Arrivals, Repeat, Schedule, Shard};
use crate::simulator;
use crate::slo::Slo;

pub use crate::protocol::RequestParameters;
pub use open_files::{OTHER_FILES, connection_limit};

/// The load that a configuration describes.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The shard of this daemon. The limits in the plan, such as `max_concurrency`, apply to this
    /// shard alone.
    pub shard: Shard,
    /// The seed of all random numbers.
    pub seed: u64,
    /// The scenarios in the order of the file.
    pub scenarios: Vec<Scenario>,
    pub buckets: Buckets,
    /// One message for each setting that is allowed but probably a mistake. The message says where
    /// the setting is in the file. llmload logs these warnings, and `check` shows them.
    pub warnings: Vec<String>,
    /// The text of the file, for the page `/config`. Every value that can be secret is masked.
    pub masked_source: String,
    /// A hash of the text of the configuration, after llmload has replaced each `${NAME}` with its
    /// value. Two runs with the same hash have the same configuration. A secret that is the value
    /// of a `${NAME}` changes the hash, so somebody can use the hash to confirm a guess of the
    /// secret. A secret from another file, or from a variable that the configuration only names,
    /// does not change the hash.
    pub source_hash: u64,
    /// All files that llmload read for this plan, including prompt files and secret files.
    pub files: Vec<PathBuf>,
}

/// The reason why `llmload run` cannot run a plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SingleRunError {
    /// The plan has no scenario with the requested name.
    #[error("scenario `{requested}` does not exist; use one of {}", names.join(", "))]
    UnknownScenario {
        requested: String,
        /// The names of all scenarios.
        names: Vec<String>,
    },
    /// A scenario has a rate or a concurrency instead of a schedule, so it never ends.
    #[error("scenario `{0}` never ends; set the length of the run, such as --for 1m")]
    Endless(String),
}

impl Plan {
    /// Returns the plan for `llmload run`. If `only` is a name, the plan contains only the scenario
    /// with this name.
    ///
    /// A run starts every scenario immediately. It ignores the wall clock, cron expressions and
    /// active windows, which only a daemon follows. The plan has a warning for each scenario with
    /// such a setting. If the run has a length (`has_length`), a schedule that repeats forever runs
    /// until the end of the run. Otherwise, it runs once. With `only`, the scenario waits for no
    /// other scenario.
    ///
    /// # Errors
    /// If no scenario has the name `only`, or if a scenario would never end.
    pub fn for_single_run(
        mut self,
        only: Option<&str>,
        has_length: bool,
    ) -> Result<Plan, SingleRunError> {
        if let Some(requested) = only {
            let names = self.scenarios.iter().map(|scenario| scenario.name.clone()).collect();
            self.scenarios.retain(|scenario| scenario.name == requested);
            for scenario in &mut self.scenarios {
                scenario.after = None;
            }
            if self.scenarios.is_empty() {
                return Err(SingleRunError::UnknownScenario {
                    requested: requested.to_owned(),
                    names,
                });
            }
        }
        if let Some(endless) =
            self.scenarios.iter().find(|scenario| scenario.endless && !has_length)
        {
            return Err(SingleRunError::Endless(endless.name.clone()));
        }
        for scenario in &mut self.scenarios {
            let follows_clock = matches!(scenario.start, Start::WallClock(_) | Start::Cron(_));
            if follows_clock || scenario.active.is_some() {
                let name = &scenario.name;
                self.warnings.push(format!(
                    "scenario {name}: a run starts at once and ignores `start` and `active`"
                ));
            }
            if follows_clock {
                scenario.start = Start::WhenReady;
            }
            scenario.active = None;
            if scenario.repeat == Repeat::Forever && !has_length {
                scenario.repeat = Repeat::Times(NonZeroU32::MIN);
            }
        }
        Ok(self)
    }

    /// Makes each scenario start when the previous scenario of the file has ended.
    #[must_use]
    pub fn in_sequence(mut self) -> Plan {
        let mut previous = None;
        for scenario in &mut self.scenarios {
            scenario.after = previous.replace(scenario.name.clone());
        }
        self
    }

    /// Returns the position of the scenario that must end before each scenario starts.
    pub fn predecessors(&self) -> Vec<Option<usize>> {
        let names = self.scenarios.iter().map(|scenario| scenario.name.as_str());
        let positions: HashMap<&str, usize> = names.zip(0..).collect();
        let after = self.scenarios.iter().map(|scenario| scenario.after.as_deref());
        after.map(|after| positions.get(after?).copied()).collect()
    }
}

/// A named load: targets, prompts and a schedule.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// The value of the `scenario` label.
    pub name: String,
    /// The baseline target, with which the other targets are compared. If the scenario has only one
    /// target, this is the target of all its requests.
    pub target: Arc<Target>,
    /// Further targets. They get the same requests at the same instants as the baseline target.
    pub other_targets: Vec<Arc<Target>>,
    /// The source of prompts.
    pub prompts: Prompts,
    /// The parameters of all requests.
    pub request: RequestParameters,
    pub schedule: Arc<Schedule>,
    /// The distribution of the gaps between open-loop arrivals.
    pub arrivals: Arrivals,
    /// The number of cycles. With a cron expression, each cron firing starts this number of cycles.
    pub repeat: Repeat,
    /// The rule for the start of cycles.
    pub start: Start,
    /// The name of the scenario that must end before this scenario starts. The names form no
    /// circle.
    pub after: Option<String>,
    /// The times at which the scenario sends load; `None` if it always sends load.
    pub active: Option<Windows>,
    /// The number of warm-up requests. llmload sends them one by one before the schedule starts,
    /// and does not measure them.
    pub warmup: u32,
    /// The highest number of requests in flight. While this many requests are in flight, llmload
    /// drops every further arrival.
    pub max_concurrency: NonZeroU32,
    /// The highest dispatch lag, which is the time from the due time of an arrival until it is
    /// sent. llmload drops an arrival that would exceed it.
    pub max_lag: Duration,
    /// True if the file has `rate` or `concurrency` instead of `schedule`, so the load never ends.
    pub endless: bool,
    /// The objectives; `None` if the file has no objectives.
    pub slo: Option<Arc<Slo>>,
}

impl Scenario {
    /// All targets. The baseline target is the first.
    pub fn targets(&self) -> impl Iterator<Item = &Arc<Target>> {
        std::iter::once(&self.target).chain(&self.other_targets)
    }

    /// The name of the baseline target, with which `target` is compared; `None` if `target` is the
    /// baseline target.
    pub fn baseline_of(&self, target: &str) -> Option<&str> {
        (self.target.name != target).then_some(&self.target.name)
    }
}

/// The rule for the start of a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// The first cycle starts when the target is ready: it responds to `/models` with a status
    /// below 500.
    WhenReady,
    /// The first cycle starts immediately.
    Now,
    /// The wall clock decides the start of each cycle. When the daemon starts, it joins the cycle
    /// that is active at that time.
    WallClock(Anchor),
    /// The schedule starts at each cron firing. If the schedule is still running when the cron
    /// fires again, that cron firing is skipped.
    Cron(Cron),
}

/// An endpoint, a model and credentials.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// The value of the `target` label.
    pub name: String,
    pub location: Location,
    /// The model of all requests. If it is `None`, llmload uses the only model that `/models`
    /// lists.
    pub model: Option<String>,
    pub auth: Auth,
    /// Additional headers. Any header can contain a key, so all values are treated as secret.
    pub headers: Vec<(http::HeaderName, SecretText)>,
    /// Additional query parameters. Their values are treated as secret, like those of the headers.
    pub query: Vec<(String, SecretText)>,
    /// The values in the bodies of all requests to this target that can be secret. They are from
    /// `extra_body` and from the `extra` of each scenario.
    pub body_secrets: Vec<SecretText>,
    /// The API of the endpoint.
    pub dialect: Dialect,
    pub connection: Connection,
    /// True if llmload sends a `traceparent` header with each request.
    pub traceparent: bool,
    /// The proof that a streamed response is complete. The file sets it with the key `terminal`.
    pub terminal: Terminal,
    pub timeouts: Timeouts,
    /// The prices of tokens; `None` if the file has no prices.
    pub prices: Option<Prices>,
}

/// The options of connections to an endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Connection {
    /// True if llmload uses HTTP/2. For http URLs, llmload uses HTTP/2 without negotiation. For
    /// https URLs, ALPN negotiates HTTP/2.
    pub http2: bool,
    /// The trusted certificate authorities in PEM; `None` trusts the authorities of the system.
    pub ca: Option<String>,
    /// The client certificates and the client key, in PEM.
    pub identity: Option<SecretText>,
    /// True if llmload accepts any certificate.
    pub insecure_skip_verify: bool,
    /// The HTTP proxy; `None` connects directly.
    pub proxy: Option<Proxy>,
    /// The time for which an idle connection stays open. With `None`, each request has a separate
    /// connection.
    pub keep_alive: Option<Duration>,
}

impl Connection {
    /// The default of `keep_alive`.
    ///
    /// Servers that use uvicorn close idle connections after five seconds. If llmload kept idle
    /// connections longer, it would have to send many requests twice.
    pub const KEEP_ALIVE: Duration = Duration::from_secs(4);
}

impl Default for Connection {
    fn default() -> Connection {
        Connection {
            http2: false,
            ca: None,
            identity: None,
            insecure_skip_verify: false,
            proxy: None,
            keep_alive: Some(Connection::KEEP_ALIVE),
        }
    }
}

/// An HTTP proxy.
#[derive(Clone, Debug, PartialEq)]
pub struct Proxy {
    /// The URL, without user and password.
    pub url: Url,
    /// The user and the password that llmload sends to the proxy.
    pub credentials: Option<BasicCredentials>,
}

/// A user and a password for basic auth. In the file they are a part of a URL, and here they are
/// decoded.
#[derive(Clone, Debug, PartialEq)]
pub struct BasicCredentials {
    /// The user. It has no colon.
    pub user: SecretText,
    pub password: SecretText,
}

/// The prices of tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Prices {
    /// The price of a million input tokens.
    pub input_per_million: f64,
    /// The price of a million output tokens.
    pub output_per_million: f64,
    /// The currency code of ISO 4217, which has three capital letters.
    pub currency: String,
}

impl Prices {
    /// Returns the price of these numbers of input and output tokens.
    pub fn cost(&self, input: f64, output: f64) -> f64 {
        (input * self.input_per_million + output * self.output_per_million) / 1e6
    }
}

/// Checks the name of a model. Returns the problem, or `None` if the name is valid. The problem is
/// a predicate, such as `is blank`, so a message puts the name before it. The name comes from the
/// configuration or from a server, and becomes a label value in every time series.
pub fn model_name_problem(name: &str) -> Option<&'static str> {
    match name {
        blank if blank.trim().is_empty() => Some("is blank"),
        long if long.len() > 256 => Some("is longer than 256 bytes"),
        odd if odd.chars().any(char::is_control) => Some("contains control characters"),
        _ => None,
    }
}

/// A text that can be secret. It can be compared, but llmload never shows it.
#[derive(Clone, Debug)]
pub struct SecretText(SecretString);

impl From<String> for SecretText {
    fn from(text: String) -> SecretText {
        SecretText(SecretString::from(text))
    }
}

impl ExposeSecret<str> for SecretText {
    fn expose_secret(&self) -> &str {
        self.0.expose_secret()
    }
}

impl PartialEq for SecretText {
    fn eq(&self, other: &SecretText) -> bool {
        self.0.expose_secret() == other.0.expose_secret()
    }
}

/// The location of an endpoint.
#[derive(Clone, Debug, PartialEq)]
pub enum Location {
    /// The root of the API, such as `http://localhost:8000/v1`, without a trailing slash, query or
    /// user.
    Url(Url),
    /// A simulator that runs in this process, on a free loopback port.
    Simulator(simulator::SimulatorOptions),
}

/// The credentials of requests.
#[derive(Clone, Debug, PartialEq)]
pub enum Auth {
    /// No credentials.
    None,
    /// The header `authorization: Basic …`, with the user and the password in the base URL.
    Basic(BasicCredentials),
    /// The header `authorization: Bearer …`.
    Bearer(Secret),
    /// The header `api-key: …`, for Azure.
    ApiKey(Secret),
    /// The header `x-api-key: …`, for Anthropic.
    XApiKey(Secret),
}

/// A secret and its origin. llmload shows only the origin.
#[derive(Clone, Debug, PartialEq)]
pub struct Secret {
    pub value: SecretText,
    pub origin: SecretOrigin,
}

/// The place from which a secret was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretOrigin {
    /// An environment variable, or a line of the `.env` file next to the configuration.
    Variable(String),
    File(PathBuf),
}

/// The text form within a sentence, such as `the variable NAME` or `the file PATH`.
impl fmt::Display for SecretOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretOrigin::Variable(name) => write!(f, "the variable {name}"),
            SecretOrigin::File(path) => write!(f, "the file {}", path.display()),
        }
    }
}

/// The timeouts of a request. Each timeout except `after_end` has a separate failure class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// The limit for name resolution, TCP and TLS together.
    pub connect: Duration,
    /// The limit for the time from the sending of the request to the first token.
    pub first_token: Duration,
    /// The limit for the time without new data, after the first token.
    pub idle: Duration,
    /// The limit for the time from the sending of the request to the end of the response.
    pub total: Duration,
    /// The limit for the time without a new event after a response is complete. The token counts
    /// (`usage`), the end marker and even more text can still follow. If nothing follows, the
    /// request is a success.
    pub after_end: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            connect: Duration::from_secs(5),
            first_token: Duration::from_mins(1),
            idle: Duration::from_mins(1),
            total: Duration::from_mins(10),
            after_end: Duration::from_secs(1),
        }
    }
}
