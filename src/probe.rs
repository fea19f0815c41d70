//! `llmload probe`: sends two small requests to one endpoint and reports everything about them. It
//! also finds out which APIs the endpoint offers.
//!
//! [`Probe::run`] returns a [`ProbeReport`], [`ProbeReport::problems`] finds the problems in it,
//! and [`text`] and [`ProbeReport::json`] display it. A load sends its requests with the same
//! function, so both measure the same values.

mod apis;
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
pub use apis::OfferedApis;
pub use problems::{Problem, Severity};

/// The timeout of a request for the models or the version.
const METADATA_TIMEOUT: Duration = Duration::from_secs(10);
/// The token limit of a request: enough to measure TPOT, and cheap.
const MAX_TOKENS: NonZeroU32 = NonZeroU32::new(32).unwrap();
/// Long, because prefix caches store blocks of 16 or 64 tokens, and a short prompt fills no block.
const PROMPT: &str = "A lighthouse keeper writes down what passes in the night. At nine a fishing boat goes out with \
two lamps, and a cat on deck. At ten the mail ship comes from the north, slow and low in the water, for it carries \
letters and salt. At eleven there is fog, and the keeper sounds the horn once a minute, and counts. At midnight a \
freighter asks by lamp how far it is to the harbour, and the keeper answers that it is four miles. At one the fog \
lifts. At two a whale blows twice off the eastern rocks and is not seen again. At three the fishing boat is back, \
with one lamp. At four the keeper trims the wick, drinks tea, and reads an old newspaper from front to back. At five \
the gulls begin. At six the sun is up, the light goes out, and the keeper sleeps. Tell in a few sentences what the \
keeper saw.";

#[derive(Debug)]
pub struct ProbeReport {
    pub target: Arc<Target>,
    /// The base URL of the target, without its query.
    pub address: String,
    /// About the configuration.
    pub warnings: Vec<String>,
    /// The status of the response to `/models`, and the listed models.
    pub models: Result<(u16, Vec<String>), FailureDetail>,
    pub models_time: Duration,
    /// The version of the server, if it reports one.
    pub version: Option<String>,
    /// The model of the requests, if it is known.
    pub model: Option<String>,
    /// The first request and its repetition. If the first request failed, it is the only one. If
    /// the model is unknown, there are no requests.
    pub requests: Vec<ProbedRequest>,
    pub apis: OfferedApis,
    /// Another address at which the probe found an API, if the configured address does not work.
    pub suggested_address: Option<String>,
}

/// The results of one request. All times are from the instant of sending.
#[derive(Clone, Debug)]
pub struct ProbedRequest {
    /// `None` if the request reused a connection.
    pub connect_timing: Option<ConnectTiming>,
    /// The status, and the time at which the response head arrived.
    pub head: Option<(u16, Duration)>,
    /// The time of the first event of any kind.
    pub first_event: Option<Duration>,
    /// The time of the first event with text, from the same clock as `first_event`.
    pub first_text_event: Option<Duration>,
    /// The number of events with text.
    pub chunks: u32,
    /// The number of reads from the connection that contained text. It is lower than `chunks` if
    /// the server or a proxy sends several events together.
    pub reads: u32,
    /// The kind of the first text, such as reasoning.
    pub first_text: Option<Channel>,
    /// `None` if the stream is incomplete.
    pub finish: Option<FinishReason>,
    pub outcome: Result<Measurement, FailureDetail>,
}

#[derive(Debug)]
pub struct Probe {
    pub target: Arc<Target>,
    pub base: Url,
    /// About the configuration.
    pub warnings: Vec<String>,
}

impl ProbeReport {
    fn diagnosed(&self) -> DiagnosedTarget<'_> {
        DiagnosedTarget { target: &self.target, address: &self.address }
    }
}

impl Probe {
    /// Requests the models and the version, and then sends the same prompt twice.
    ///
    /// # Errors
    /// No HTTP client can be built for the target.
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
            apis: OfferedApis::default(),
            suggested_address: None,
        };
        // If `/models` gets no response, other requests get none either.
        let Ok((status, models)) = &report.models else { return Ok(report) };
        report.model = report.diagnosed().choose_model(*status, models).0;
        let lists_nothing = matches!(status, 200 | 404) && models.is_empty();
        report.version = endpoint.version(METADATA_TIMEOUT).await.ok().flatten();
        if let Some(model) = &report.model {
            report.requests = send_twice(&report.target, &base, model).await?;
        }
        // A server that does not respond to one request would not respond to others.
        let is_silent = |request: &ProbedRequest| {
            request.outcome.as_ref().is_err_and(|detail| detail.failure.is_timeout())
        };
        if !report.requests.iter().any(is_silent) {
            report.apis = apis::find(&endpoint).await;
        }
        if lists_nothing && !report.requests.iter().any(|request| request.outcome.is_ok()) {
            report.suggested_address = find_api(&report.target, &base).await?;
            if report.suggested_address.is_some() {
                // The warnings are about the configured address, which is wrong.
                report.warnings.clear();
            }
        }
        Ok(report)
    }
}

/// Sends the same request twice, so the second response shows the effect of a prefix cache. There
/// is no second request if the first one fails.
async fn send_twice(
    target: &Target,
    base: &Url,
    model: &str,
) -> Result<Vec<ProbedRequest>, BuildError> {
    // The nonce makes the start of the prompt unique, so no prefix cache contains it.
    let nonce = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let prompt = format!("Night {nonce}. {PROMPT}");
    // A new client has no open connection, so the first request includes the time to connect.
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

/// Tries the usual addresses of an API. Returns the first that lists models, or that requires a key
/// to list them.
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
