//! `llmload probe`: sends two small requests to one endpoint and reports everything about them.
//!
//! [`Probe::run`] sends the requests and returns a [`ProbeReport`], which is a value.
//! [`ProbeReport::problems`] judges it, [`text`] and [`ProbeReport::json`] render it. The requests
//! go through the same exchange as those of a load, so the probe sees what a load measures.

mod json;
mod problems;
pub mod request;
pub mod text;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;
use url::Url;

use crate::endpoint::{BuildError, ConnectTiming, HttpEndpoint};
use crate::measurement::{FailureDetail, FinishReason, Measurement};
use crate::plan::{RequestParameters, Target};
use crate::protocol::Channel;
use crate::remedy::{DiagnosedTarget, usual_paths};
pub use problems::{Problem, Severity};

/// The time limit for a request about the endpoint itself: its models or its version.
const METADATA_TIMEOUT: Duration = Duration::from_secs(10);
/// The token limit of a request: enough to measure TPOT, and cheap.
const MAX_TOKENS: NonZeroU32 = NonZeroU32::new(32).unwrap();
/// The prompt. Prefix caches work in blocks of 16 or 64 tokens, and a short prompt would fill none.
const PROMPT: &str = "A lighthouse keeper writes down what passes in the night. At nine a fishing boat goes out with \
two lamps, and a cat on deck. At ten the mail ship comes from the north, slow and low in the water, for it carries \
letters and salt. At eleven there is fog, and the keeper sounds the horn once a minute, and counts. At midnight a \
freighter asks by lamp how far it is to the harbour, and the keeper answers that it is four miles. At one the fog \
lifts. At two a whale blows twice off the eastern rocks and is not seen again. At three the fishing boat is back, \
with one lamp. At four the keeper trims the wick, drinks tea, and reads an old newspaper from front to back. At five \
the gulls begin. At six the sun is up, the light goes out, and the keeper sleeps. Tell in a few sentences what the \
keeper saw.";

/// The results of a probe.
#[derive(Debug)]
pub struct ProbeReport {
    /// The target as it is configured.
    pub target: Arc<Target>,
    /// Its base URL without the query.
    pub address: String,
    /// The warnings about the configuration.
    pub warnings: Vec<String>,
    /// The status of the response to `/models`, and the models it lists.
    pub models: Result<(u16, Vec<String>), FailureDetail>,
    /// The time that `/models` took.
    pub models_time: Duration,
    /// The version of the server, if it reports one.
    pub version: Option<String>,
    /// The model of the requests, if it is known.
    pub model: Option<String>,
    /// The request and its repetition. There is no repetition if the first request failed, and no
    /// request if the model is unknown.
    pub requests: Vec<ProbedRequest>,
    /// The address at which an API was found instead of the configured one.
    pub suggested_address: Option<String>,
}

/// The results of one request. Times start when it was sent.
#[derive(Clone, Debug)]
pub struct ProbedRequest {
    /// The time to establish its connection, unless it reused one.
    pub connect_timing: Option<ConnectTiming>,
    /// The status, and the time of the response head.
    pub head: Option<(u16, Duration)>,
    /// The time of the first event of any kind.
    pub first_event: Option<Duration>,
    /// The time of the first event with text, read from the clock at the same point as
    /// `first_event`, so the two can be compared.
    pub first_text_event: Option<Duration>,
    /// The number of events with text.
    pub chunks: u32,
    /// The number of reads with such events. It is lower than `chunks` if a proxy or the server
    /// gathers events.
    pub reads: u32,
    /// The channel of the first text.
    pub first_text: Option<Channel>,
    /// The finish reason of a complete stream.
    pub finish: Option<FinishReason>,
    /// The measurement or the failure.
    pub outcome: Result<Measurement, FailureDetail>,
}

/// A probe of one target.
#[derive(Debug)]
pub struct Probe {
    /// The target as it is configured.
    pub target: Arc<Target>,
    /// Its base URL.
    pub base: Url,
    /// The warnings about the configuration.
    pub warnings: Vec<String>,
}

impl ProbeReport {
    fn diagnosed(&self) -> DiagnosedTarget<'_> {
        DiagnosedTarget { target: &self.target, address: &self.address }
    }
}

impl Probe {
    /// Requests the models, the version and two streams.
    ///
    /// # Errors
    /// If no HTTP client can be built for the target.
    pub async fn run(self) -> Result<ProbeReport, BuildError> {
        let Probe { target, base, warnings } = self;
        let endpoint = HttpEndpoint::new(&target, &base)?;
        let start = Instant::now();
        let models = endpoint.models(METADATA_TIMEOUT).await;
        let mut report = ProbeReport {
            target,
            address: base.as_str().trim_end_matches('/').to_owned(),
            warnings,
            models,
            models_time: start.elapsed(),
            version: None,
            model: None,
            requests: Vec::new(),
            suggested_address: None,
        };
        // Without a response to `/models` there will be none to anything else.
        let Ok((status, models)) = &report.models else { return Ok(report) };
        report.model = report.diagnosed().choose_model(*status, models).0;
        let lists_nothing = matches!(status, 200 | 404) && models.is_empty();
        report.version = endpoint.version(METADATA_TIMEOUT).await.ok().flatten();
        if let Some(model) = &report.model {
            report.requests = send_twice(&report.target, &base, model).await?;
        }
        if lists_nothing && !report.requests.iter().any(|request| request.outcome.is_ok()) {
            report.suggested_address = find_api(&report.target, &base).await?;
            if report.suggested_address.is_some() {
                // The warnings are about the wrong address.
                report.warnings.clear();
            }
        }
        Ok(report)
    }
}

/// Sends the same request twice, so a prefix cache shows. The second is left out if the first
/// fails.
async fn send_twice(
    target: &Target,
    base: &Url,
    model: &str,
) -> Result<Vec<ProbedRequest>, BuildError> {
    // No earlier request began like this one, so the first finds nothing in a prefix cache.
    let nonce = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let prompt = format!("Night {nonce}. {PROMPT}");
    // A new client has no open connection, so the first request shows the time to connect.
    let endpoint = Arc::new(HttpEndpoint::new(target, base)?);
    let mut requests = Vec::new();
    for _ in 0..2 {
        let request = request::send(&endpoint, target, model, &parameters(), &prompt).await;
        let failed = request.outcome.is_err();
        requests.push(request);
        if failed {
            break;
        }
    }
    Ok(requests)
}

fn parameters() -> RequestParameters {
    RequestParameters {
        max_tokens: MAX_TOKENS,
        temperature: None,
        system: None,
        stream: true,
        extra: std::collections::BTreeMap::new(),
    }
}

/// Returns the first of the usual addresses that lists models or requires a key for them.
async fn find_api(target: &Target, base: &Url) -> Result<Option<String>, BuildError> {
    let address = base.as_str().trim_end_matches('/');
    for path in usual_paths(base.path()) {
        let mut other = base.clone();
        other.set_path(&path);
        if other.as_str() == address {
            continue;
        }
        let has_api = match HttpEndpoint::new(target, &other)?.models(METADATA_TIMEOUT).await {
            Ok((200, models)) => !models.is_empty(),
            Ok((status, _)) => matches!(status, 401 | 403),
            Err(_) => false,
        };
        if has_api {
            return Ok(Some(other.to_string()));
        }
    }
    Ok(None)
}
