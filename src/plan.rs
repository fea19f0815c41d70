//! The validated whole: what a configuration means once nothing in it can be wrong any more.
//!
//! These types are not deserialised from anything; `config` is the only place that makes them out
//! of a file, and code further down never checks them again.

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

/// Everything the daemon was asked to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Which of the arrivals are ours; caps are already the part of this shard.
    pub shard: Shard,
    /// Everything random follows from it.
    pub seed: u64,
    /// In the order of the file.
    pub scenarios: Vec<Scenario>,
    /// Where the buckets of the histograms lie.
    pub buckets: Buckets,
    /// What is allowed and probably not meant, each with its place in the file. For the log and for
    /// `check`.
    pub warnings: Vec<String>,
    /// The file as it was written, with what might be secret masked; served at `/config`.
    pub masked_source: String,
    /// Of the file with its variables filled: two runs with the same mean the same. A secret that the
    /// file only says where to read does not enter it. One that `${NAME}` puts into a text does, and
    /// whoever guesses it could tell.
    pub source_hash: u64,
    /// The files that it was read from, those of prompts and secrets among them.
    pub files: Vec<PathBuf>,
}

/// Why a plan cannot be gone through once.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SingleRunError {
    /// A scenario was asked for that is not there.
    #[error("there is no scenario `{wanted}`; there is {}", names.join(", "))]
    UnknownScenario {
        /// What was asked for.
        wanted: String,
        /// What there is.
        names: Vec<String>,
    },
    /// A scenario has a rate or a concurrency and no schedule.
    #[error("scenario `{0}` has no end of its own; say how long the run takes, such as --for 1m")]
    Endless(String),
}

impl Plan {
    /// The same load, begun at once and gone through once: for a run that ends. What is repeated for ever
    /// is repeated still where the run is `cut` short elsewhere. Clocks, cron and windows say when a
    /// daemon sends; they do not count here, which the warnings say.
    ///
    /// # Errors
    /// If there is no scenario of the name that is asked for, or one that has no end.
    pub fn for_single_run(mut self, only: Option<&str>, cut: bool) -> Result<Plan, SingleRunError> {
        if let Some(wanted) = only {
            let names = self.scenarios.iter().map(|scenario| scenario.name.clone()).collect();
            self.scenarios.retain(|scenario| scenario.name == wanted);
            if self.scenarios.is_empty() {
                return Err(SingleRunError::UnknownScenario { wanted: wanted.to_owned(), names });
            }
        }
        if let Some(endless) = self.scenarios.iter().find(|scenario| scenario.endless && !cut) {
            return Err(SingleRunError::Endless(endless.name.clone()));
        }
        for scenario in &mut self.scenarios {
            let timed = matches!(scenario.start, Start::WallClock(_) | Start::Cron(_));
            if timed || scenario.active.is_some() {
                let name = &scenario.name;
                let words = format!(
                    "scenario {name}: a run begins at once, whatever its `start` and `active` say to a daemon"
                );
                self.warnings.push(words);
            }
            if timed {
                scenario.start = Start::WhenReady;
            }
            scenario.active = None;
            if scenario.repeat == Repeat::Forever && !cut {
                scenario.repeat = Repeat::Times(NonZeroU32::MIN);
            }
        }
        Ok(self)
    }
}

/// A named stream of load.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// The value of the `scenario` label.
    pub name: String,
    /// Where requests go.
    pub target: Arc<Target>,
    /// Where the same requests go at the same instants.
    pub other_targets: Vec<Arc<Target>>,
    /// What they ask.
    pub prompts: Prompts,
    /// The parameters all of them share.
    pub request: RequestParameters,
    /// When they are due.
    pub schedule: Arc<Schedule>,
    /// How its open-loop arrivals are spread about the rate.
    pub arrivals: Arrivals,
    /// How often the schedule is gone through; from each firing on, where a cron starts it.
    pub repeat: Repeat,
    /// When it begins.
    pub start: Start,
    /// When load is sent at all; always, where there are none.
    pub active: Option<Windows>,
    /// Requests sent first, one by one, outside of what is measured.
    pub warmup: u32,
    /// Hard cap of requests in flight; an arrival that meets it is dropped.
    pub max_concurrency: NonZeroU32,
    /// An arrival later than this is dropped.
    pub max_lag: Duration,
    /// Whether a rate or a concurrency stands in place of a schedule: nobody said how long.
    pub endless: bool,
    /// What its requests must meet, where the file says so.
    pub slo: Option<Arc<Slo>>,
}

impl Scenario {
    /// All targets, the one that the others are held against first.
    pub fn targets(&self) -> impl Iterator<Item = &Arc<Target>> {
        std::iter::once(&self.target).chain(&self.other_targets)
    }

    /// The target that this one is held against; nothing for that one itself.
    pub fn baseline_of(&self, target: &str) -> Option<&str> {
        (self.target.name != target).then_some(&self.target.name)
    }
}

/// When a schedule begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// Once the target's `/models` gives any answer below 500.
    WhenReady,
    /// At once.
    Now,
    /// In the midst of the cycle that is on by the clock on the wall.
    WallClock(Anchor),
    /// At each firing; one that comes while the schedule still runs is skipped.
    Cron(Cron),
}

/// An endpoint with the model and the credentials to use there.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// The value of the `target` label.
    pub name: String,
    /// Where it is.
    pub location: Location,
    /// The model to name in requests; `None` takes the only one that `/models` lists.
    pub model: Option<String>,
    /// How requests identify themselves.
    pub auth: Auth,
    /// Extra headers, each held as a secret: any of them may carry a key.
    pub headers: Vec<(http::HeaderName, SecretText)>,
    /// Extra query parameters, likewise.
    pub query: Vec<(String, SecretText)>,
    /// How it wants to be spoken to.
    pub dialect: Dialect,
    /// How it is reached.
    pub connection: Connection,
    /// Whether each request carries a trace context.
    pub traceparent: bool,
    /// Which end proves that an answer is complete.
    pub terminal: Terminal,
    /// How long to wait for what.
    pub timeouts: Timeouts,
    /// What its tokens cost, where the file says so.
    pub prices: Option<Prices>,
}

/// How an endpoint is reached.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Connection {
    /// HTTP/2: without negotiation over http, by ALPN over https.
    pub http2: bool,
    /// Who may vouch for the endpoint, in PEM, in place of the system's.
    pub ca: Option<String>,
    /// What llmload shows for itself: its certificates and its key, in PEM.
    pub identity: Option<SecretText>,
    /// Takes whatever certificate comes.
    pub insecure_skip_verify: bool,
    /// What to go through.
    pub proxy: Option<Url>,
}

/// What tokens cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Prices {
    /// A million tokens of prompts.
    pub input_per_million: f64,
    /// A million generated tokens.
    pub output_per_million: f64,
    /// ISO 4217: three capital letters.
    pub currency: String,
}

impl Prices {
    /// What so many tokens cost.
    pub fn cost(&self, input: f64, output: f64) -> f64 {
        (input * self.input_per_million + output * self.output_per_million) / 1e6
    }
}

/// Why a text cannot name a model, be it written in the file or listed by a server: the name becomes
/// the value of a label, in every series and on every dashboard.
pub fn model_name_problem(name: &str) -> Option<&'static str> {
    match name {
        blank if blank.trim().is_empty() => Some("is blank"),
        long if long.len() > 256 => Some("is longer than 256 bytes"),
        odd if odd.chars().any(char::is_control) => Some("holds control characters"),
        _ => None,
    }
}

/// A text that may be secret: it is never shown, but can be told from another.
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

/// Where an endpoint is.
#[derive(Clone, Debug, PartialEq)]
pub enum Location {
    /// The API's root, such as `http://localhost:8000/v1`, without a trailing slash, query or userinfo.
    Url(Url),
    /// An endpoint inside this process, started on a free loopback port.
    Simulator(simulator::SimulatorOptions),
}

/// How requests identify themselves.
#[derive(Clone, Debug, PartialEq)]
pub enum Auth {
    /// They do not.
    None,
    /// `authorization: Bearer …`
    Bearer(Secret),
    /// `api-key: …`, as Azure wants it.
    ApiKey(Secret),
    /// `x-api-key: …`, as Anthropic wants it.
    XApiKey(Secret),
}

/// A secret and where it came from; only the latter is ever shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Secret {
    /// The value.
    pub value: SecretText,
    /// Where it was read.
    pub origin: SecretOrigin,
}

/// Where a secret was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretOrigin {
    /// An environment variable, or a line of the `.env` beside the file.
    Variable(String),
    /// A file.
    File(PathBuf),
}

/// For a sentence: `the variable NAME`, `the file PATH`.
impl fmt::Display for SecretOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretOrigin::Variable(name) => write!(f, "the variable {name}"),
            SecretOrigin::File(path) => write!(f, "the file {}", path.display()),
        }
    }
}

/// How long to wait for what. Each ends the request with a class of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Name resolution, TCP and TLS together.
    pub connect: Duration,
    /// From sending to the first token.
    pub first_token: Duration,
    /// Between two reads once the first token is there.
    pub idle: Duration,
    /// From sending to the end.
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
