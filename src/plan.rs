//! The meaning of a valid configuration: scenarios, targets and everything they need.
//!
//! Only `config` builds these types from a file, after all checks. Other modules use them without
//! checking again.

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

/// The load that a configuration describes.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The shard whose arrivals this daemon sends. Caps are already divided by the number of shards.
    pub shard: Shard,
    /// The seed of all random numbers.
    pub seed: u64,
    /// In the order of the file.
    pub scenarios: Vec<Scenario>,
    pub buckets: Buckets,
    /// Settings that are allowed but probably a mistake, each with its place in the file. For the log
    /// and for `check`.
    pub warnings: Vec<String>,
    /// The text of the file with everything that may be secret masked; served at `/config`.
    pub masked_source: String,
    /// A hash of the file with its variables replaced: two runs with the same hash have the same
    /// configuration. It does not depend on a secret that the file only refers to. It does depend on a
    /// secret that `${NAME}` puts into a text, so it could confirm a guess of that secret.
    pub source_hash: u64,
    /// All files that were read, including those of prompts and secrets.
    pub files: Vec<PathBuf>,
}

/// The reason why a plan cannot run once and end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SingleRunError {
    /// The plan has no scenario of the requested name.
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
    /// Returns the plan for `llmload run`: every scenario, or `only` this one, starts at once and runs
    /// its schedule once. If the run `has_length` of its own, schedules that repeat forever still do.
    /// Wall clocks, cron and active windows apply to a daemon alone; the plan warns that a run ignores
    /// them.
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
}

/// A named load: targets, prompts and a schedule.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// The value of the `scenario` label.
    pub name: String,
    /// The target of the requests, and the baseline of the other targets.
    pub target: Arc<Target>,
    /// Targets that get the same requests at the same instants.
    pub other_targets: Vec<Arc<Target>>,
    /// The source of prompts.
    pub prompts: Prompts,
    /// The parameters of all requests.
    pub request: RequestParameters,
    pub schedule: Arc<Schedule>,
    /// The distribution of the gaps between open-loop arrivals.
    pub arrivals: Arrivals,
    /// The number of cycles; with a cron expression, from each firing on.
    pub repeat: Repeat,
    /// The rule for the start of cycles.
    pub start: Start,
    /// The times in which load is sent; `None` is always.
    pub active: Option<Windows>,
    /// The number of requests to send first, one by one, without measurement.
    pub warmup: u32,
    /// The highest number of requests in flight. llmload drops an arrival beyond it.
    pub max_concurrency: NonZeroU32,
    /// The highest lag of an arrival. llmload drops an arrival that is later.
    pub max_lag: Duration,
    /// True if the file has a rate or a concurrency instead of a schedule, so the load never ends.
    pub endless: bool,
    /// The objectives, if the file has any.
    pub slo: Option<Arc<Slo>>,
}

impl Scenario {
    /// All targets, the baseline first.
    pub fn targets(&self) -> impl Iterator<Item = &Arc<Target>> {
        std::iter::once(&self.target).chain(&self.other_targets)
    }

    /// The name of the target with which this one is compared; `None` for the baseline itself.
    pub fn baseline_of(&self, target: &str) -> Option<&str> {
        (self.target.name != target).then_some(&self.target.name)
    }
}

/// The rule for the start of a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// As soon as the target answers `/models` with a status below 500.
    WhenReady,
    /// At once.
    Now,
    /// Within the cycle that is active by the wall clock.
    WallClock(Anchor),
    /// At each firing. A firing while the schedule still runs is skipped.
    Cron(Cron),
}

/// An endpoint, a model and credentials.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// The value of the `target` label.
    pub name: String,
    pub location: Location,
    /// The model of all requests; `None` takes the only one that `/models` lists.
    pub model: Option<String>,
    pub auth: Auth,
    /// Additional headers. Any of them may contain a key, so all are treated as secret.
    pub headers: Vec<(http::HeaderName, SecretText)>,
    /// Additional query parameters, treated as secret like the headers.
    pub query: Vec<(String, SecretText)>,
    /// The API of the endpoint.
    pub dialect: Dialect,
    pub connection: Connection,
    /// True if each request has a `traceparent` header.
    pub traceparent: bool,
    /// The end of a response that proves that it is complete.
    pub terminal: Terminal,
    pub timeouts: Timeouts,
    /// The prices of tokens, if the file has any.
    pub prices: Option<Prices>,
}

/// The options of connections to an endpoint.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Connection {
    /// Use HTTP/2: without negotiation for http, by ALPN for https.
    pub http2: bool,
    /// The trusted certificate authorities in PEM, instead of those of the system.
    pub ca: Option<String>,
    /// The client certificates and the client key, in PEM.
    pub identity: Option<SecretText>,
    /// Accept any certificate.
    pub insecure_skip_verify: bool,
    /// The URL of an HTTP proxy.
    pub proxy: Option<Url>,
}

/// The prices of tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Prices {
    /// The price of a million input tokens.
    pub input_per_million: f64,
    /// The price of a million output tokens.
    pub output_per_million: f64,
    /// The code of ISO 4217: three capital letters.
    pub currency: String,
}

impl Prices {
    /// The price of this number of input and output tokens.
    pub fn cost(&self, input: f64, output: f64) -> f64 {
        (input * self.input_per_million + output * self.output_per_million) / 1e6
    }
}

/// Returns the reason why a text cannot be the name of a model, to follow the name in a sentence. The
/// name may come from the file or from a server, and becomes a label value in every series.
pub fn model_name_problem(name: &str) -> Option<&'static str> {
    match name {
        blank if blank.trim().is_empty() => Some("is blank"),
        long if long.len() > 256 => Some("is longer than 256 bytes"),
        odd if odd.chars().any(char::is_control) => Some("contains control characters"),
        _ => None,
    }
}

/// A text that may be secret. It can be compared but is never shown.
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
    /// The root of the API, such as `http://localhost:8000/v1`, without a trailing slash, query or user.
    Url(Url),
    /// A simulator in this process, on a free loopback port.
    Simulator(simulator::SimulatorOptions),
}

/// The credentials of requests.
#[derive(Clone, Debug, PartialEq)]
pub enum Auth {
    /// No credentials.
    None,
    /// `authorization: Bearer …`
    Bearer(Secret),
    /// `api-key: …`, for Azure.
    ApiKey(Secret),
    /// `x-api-key: …`, for Anthropic.
    XApiKey(Secret),
}

/// A secret and its origin. Only the origin is ever shown.
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

/// The form in a sentence: `the variable NAME`, `the file PATH`.
impl fmt::Display for SecretOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretOrigin::Variable(name) => write!(f, "the variable {name}"),
            SecretOrigin::File(path) => write!(f, "the file {}", path.display()),
        }
    }
}

/// Timeouts of a request. Each has its own failure class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Name resolution, TCP and TLS together.
    pub connect: Duration,
    /// From the sending to the first token.
    pub first_token: Duration,
    /// Between two reads after the first token.
    pub idle: Duration,
    /// From the sending to the end.
    pub total: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            connect: Duration::from_secs(5),
            first_token: Duration::from_mins(1),
            idle: Duration::from_mins(1),
            total: Duration::from_mins(10),
        }
    }
}
