//! The plan: a valid configuration, in the form in which llmload runs it. Only the module `config`
//! creates a plan from a file, after all checks.

mod budgets;
mod failures;
mod guards;
mod memory;
mod observe;
mod open_files;
mod phases;
mod resources;
mod sessions;
mod single_run;
mod unix_socket;

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
pub use budgets::{Budget, BudgetUnit, Limits, Spending, billionths};
pub use failures::{FailureArchive, KeptPrompts};
pub use guards::{Breaker, RateLimits};
pub use observe::{MetricsPage, MetricsSource, PageLocation};
pub use open_files::{OTHER_FILES, connection_limit};
pub use phases::{MAX_REPORTED_PHASES, PhaseObjectives};
pub use resources::Resources;
pub use sessions::{History, Sessions};
pub use single_run::SingleRunError;
pub use unix_socket::{UNIX_SCHEME, unix_socket, unix_url};

#[derive(Clone, Debug)]
pub struct Plan {
    /// The shard of this daemon. Limits such as `max_concurrency` are the limits of this shard.
    pub shard: Shard,
    pub seed: u64,
    pub scenarios: Vec<Scenario>,
    pub buckets: Buckets,
    /// The archive of failed requests of a daemon; `None` if the file has none.
    pub failures: Option<FailureArchive>,
    /// The resources of this machine that become metrics.
    pub resources: Resources,
    /// The folder in which budgets survive a restart. `None` means that they live in memory.
    pub state_dir: Option<PathBuf>,
    /// Messages about settings that are valid but probably mistakes, with their places in the file.
    /// llmload logs them, and `check` shows them.
    pub warnings: Vec<String>,
    /// The text of the file with masked secrets, for the page `/config`.
    pub masked_source: String,
    /// A hash of the configuration, with the value of each `${NAME}`. Two runs with the same hash
    /// have the same configuration. The hash covers a secret that is the value of a `${NAME}`, so
    /// somebody with the hash can test a guess of the secret. It does not cover secrets in other
    /// files.
    pub source_hash: u64,
    /// All files that llmload read, including prompt files and secret files.
    pub files: Vec<PathBuf>,
}

impl Plan {
    /// For each scenario, the index of the scenario in its `after`.
    pub fn predecessors(&self) -> Vec<Option<usize>> {
        let names = self.scenarios.iter().map(|scenario| scenario.name.as_str());
        let positions: HashMap<&str, usize> = names.zip(0..).collect();
        let after = self.scenarios.iter().map(|scenario| scenario.after.as_deref());
        after.map(|after| positions.get(after?).copied()).collect()
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    pub name: String,
    /// The baseline target.
    pub target: Arc<Target>,
    /// Further targets, which get the same requests at the same instants.
    pub other_targets: Vec<Arc<Target>>,
    pub prompts: Prompts,
    pub request: RequestParameters,
    pub schedule: Arc<Schedule>,
    /// The distribution of the gaps between arrivals.
    pub arrivals: Arrivals,
    /// The number of cycles, after each cron firing if there is a cron expression.
    pub repeat: Repeat,
    pub start: Start,
    /// The scenario that must end first. These names never form a circle.
    pub after: Option<String>,
    /// `None` if the scenario always sends load.
    pub active: Option<Windows>,
    /// The number of unmeasured requests before the schedule starts. llmload sends one at a time.
    pub warmup: u32,
    /// The highest number of requests in flight. At this number, llmload drops each further
    /// arrival.
    pub max_concurrency: NonZeroU32,
    /// The settings of the sessions; `None` if the prompts are no conversations.
    pub sessions: Option<Sessions>,
    /// llmload drops an arrival that it cannot send within this time after its due time.
    pub max_lag: Duration,
    /// `None` if the scenario has no breaker.
    pub breaker: Option<Breaker>,
    /// True if the file has `rate` or `concurrency` instead of `schedule`.
    pub endless: bool,
    pub slo: Option<Arc<Slo>>,
    /// At most one for each kind of period. All targets share them.
    pub budgets: Arc<[Budget]>,
    /// One entry for each phase of the schedule.
    pub phases: Arc<[PhaseObjectives]>,
}

impl Scenario {
    /// All targets, the baseline target first.
    pub fn targets(&self) -> impl Iterator<Item = &Arc<Target>> {
        std::iter::once(&self.target).chain(&self.other_targets)
    }

    /// The baseline target of `target`; `None` if `target` is itself the baseline target.
    pub fn baseline_of(&self, target: &str) -> Option<&str> {
        (self.target.name != target).then_some(&self.target.name)
    }
}

/// The start of a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// The first cycle starts when `/models` of the target returns a status below 500.
    WhenReady,
    /// The first cycle starts immediately.
    Now,
    /// The wall clock decides the start of each cycle. A daemon that starts joins the current
    /// cycle.
    WallClock(Anchor),
    /// Each cron firing starts the schedule. A cron firing during a schedule is skipped.
    Cron(Cron),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    pub name: String,
    pub location: Location,
    /// `None` means the only model that `/models` lists.
    pub model: Option<String>,
    pub auth: Auth,
    /// All values count as secret, because any header can contain a key.
    pub headers: Vec<(http::HeaderName, SecretText)>,
    /// All values count as secret.
    pub query: Vec<(String, SecretText)>,
    /// Values in request bodies that can be secret, from `extra_body` and `extra`.
    pub body_secrets: Vec<SecretText>,
    pub dialect: Dialect,
    pub connection: Connection,
    pub traceparent: bool,
    pub terminal: Terminal,
    pub timeouts: Timeouts,
    /// `None` if the file has no `rate_limits` for the target.
    pub rate_limits: Option<RateLimits>,
    pub prices: Option<Prices>,
    /// The metrics pages of the server, which only `llmload run` reads.
    pub metrics_pages: Vec<MetricsPage>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Connection {
    /// True if llmload uses HTTP/2. With https, ALPN negotiates HTTP/2. With http, there is no
    /// negotiation.
    pub http2: bool,
    /// Trusted certificate authorities in PEM; `None` means those of the system.
    pub ca: Option<String>,
    /// The client certificates and their key, in PEM.
    pub identity: Option<SecretText>,
    pub insecure_skip_verify: bool,
    /// `None` means a direct connection.
    pub proxy: Option<Proxy>,
    /// An idle connection closes after this time. `None` means one connection per request.
    pub keep_alive: Option<Duration>,
}

impl Connection {
    /// The default of `keep_alive`. uvicorn closes a connection after five idle seconds. If llmload
    /// sent a request at that moment, it would have to send the request again.
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

#[derive(Clone, Debug, PartialEq)]
pub struct Proxy {
    pub url: Url,
    pub credentials: Option<BasicCredentials>,
}

/// A user and a password for basic auth, without the percent-encoding of a URL.
#[derive(Clone, Debug, PartialEq)]
pub struct BasicCredentials {
    pub user: SecretText,
    pub password: SecretText,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Prices {
    /// Per million input tokens.
    pub input_per_million: f64,
    /// Per million output tokens.
    pub output_per_million: f64,
    /// An ISO 4217 code, such as `EUR`.
    pub currency: String,
}

impl Prices {
    pub fn cost(&self, input: f64, output: f64) -> f64 {
        (input * self.input_per_million + output * self.output_per_million) / 1e6
    }
}

/// Returns the problem of a model name as a predicate, such as `is blank`. The name is from the
/// configuration or a server, and becomes the value of a label.
pub fn model_name_problem(name: &str) -> Option<&'static str> {
    match name {
        blank if blank.trim().is_empty() => Some("is blank"),
        long if long.len() > 256 => Some("is longer than 256 bytes"),
        odd if odd.chars().any(char::is_control) => Some("contains control characters"),
        _ => None,
    }
}

/// A text that can be secret. llmload can compare it but never shows it.
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

#[derive(Clone, Debug, PartialEq)]
pub enum Location {
    /// The root of the API, such as `http://localhost:8000/v1`. It has no trailing slash, query or
    /// user.
    Url(Url),
    /// A simulator in this process, on a free loopback port.
    Simulator(simulator::SimulatorOptions),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Auth {
    None,
    /// The header `authorization: Basic …`. The user and the password are from the base URL.
    Basic(BasicCredentials),
    /// The header `authorization: Bearer …`.
    Bearer(Secret),
    /// The header `api-key: …`, for Azure.
    ApiKey(Secret),
    /// The header `x-api-key: …`, for Anthropic.
    XApiKey(Secret),
}

/// A secret and its origin. llmload shows the origin only.
#[derive(Clone, Debug, PartialEq)]
pub struct Secret {
    pub value: SecretText,
    pub origin: SecretOrigin,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretOrigin {
    /// An environment variable, or a line of the file `.env` next to the configuration.
    Variable(String),
    File(PathBuf),
}

/// The text in a sentence, such as `the variable NAME` or `the file PATH`.
impl fmt::Display for SecretOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretOrigin::Variable(name) => write!(f, "the variable {name}"),
            SecretOrigin::File(path) => write!(f, "the file {}", path.display()),
        }
    }
}

/// The timeouts of a request. Each timeout except `after_end` has a failure class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From the start of the name lookup to the end of the TLS handshake.
    pub connect: Duration,
    /// From the sending to the first token.
    pub first_token: Duration,
    /// The longest silence after the first token.
    pub idle: Duration,
    /// From the sending to the end of the response.
    pub total: Duration,
    /// The longest silence after the response is complete. Token counts, the end marker and more
    /// text can still follow. After the silence, the request is a success.
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
