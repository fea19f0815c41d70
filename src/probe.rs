//! `llmload probe`: two small requests to one endpoint, and everything there is to see about them.
//!
//! This file asks; what was [`Seen`] is a value, [`Seen::troubles`] judges it, [`words`] and [`Seen::json`] show
//! it. Requests go through the same exchange as those of a load, with a [`tap`] between: what is
//! seen here is what a load measures.

mod json;
pub mod tap;
pub mod text;
mod troubles;

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
pub use troubles::{Found, Grade};

/// How long a question about the endpoint itself may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Enough to see a rhythm of tokens, and cheap.
const MAX_TOKENS: NonZeroU32 = NonZeroU32::new(32).unwrap();
/// Prefix caches work in blocks, of 16 tokens or of 64: a prompt of a few words would fill none.
const TEXT: &str = "A lighthouse keeper writes down what passes in the night. At nine a fishing boat goes out with \
two lamps, and a cat on deck. At ten the mail ship comes from the north, slow and low in the water, for it carries \
letters and salt. At eleven there is fog, and the keeper sounds the horn once a minute, and counts. At midnight a \
freighter asks by lamp how far it is to the harbour, and the keeper answers that it is four miles. At one the fog \
lifts. At two a whale blows twice off the eastern rocks and is not seen again. At three the fishing boat is back, \
with one lamp. At four the keeper trims the wick, drinks tea, and reads an old newspaper from front to back. At five \
the gulls begin. At six the sun is up, the light goes out, and the keeper sleeps. Tell in a few sentences what the \
keeper saw.";

/// All that was seen of an endpoint.
#[derive(Debug)]
pub struct Seen {
    /// As it is configured.
    pub target: Arc<Target>,
    /// Its base URL.
    pub address: String,
    /// What else is to be said, such as of its configuration.
    pub warnings: Vec<String>,
    /// What its list of models answered, and after how long.
    pub listed: Result<(u16, Vec<String>), FailureDetail>,
    /// How long that took.
    pub listing: Duration,
    /// The version of the server, where it tells one.
    pub version: Option<String>,
    /// What was asked for, where that is clear.
    pub model: Option<String>,
    /// The request, and the same once more; less where it makes no sense.
    pub streams: Vec<Streamed>,
    /// An address that looks more like that of the API than the one that was given.
    pub elsewhere: Option<String>,
}

/// One streamed answer. Times are since its request was sent.
#[derive(Clone, Debug)]
pub struct Streamed {
    /// How long its connection took to make, where it had none to use again.
    pub connected: Option<ConnectTiming>,
    /// When the response head came, and its status.
    pub head: Option<(u16, Duration)>,
    /// When the first event of any kind came.
    pub first_event: Option<Duration>,
    /// When the first event with text came, by the same look at the bytes.
    pub first_text_event: Option<Duration>,
    /// Events that carried text.
    pub chunks: u32,
    /// Reads that brought such events: less, where something on the way gathers them.
    pub reads: u32,
    /// What kind of text came first.
    pub first_text: Option<Channel>,
    /// Why it says it stopped.
    pub finish: Option<FinishReason>,
    /// What it took, or why it failed.
    pub outcome: Result<Measurement, FailureDetail>,
}

/// What to probe.
#[derive(Debug)]
pub struct Probe {
    /// As it is configured.
    pub target: Arc<Target>,
    /// Its base URL.
    pub base: Url,
    /// What else is to be said.
    pub warnings: Vec<String>,
}

impl Seen {
    /// The target, for whoever knows what would mend it.
    fn patient(&self) -> DiagnosedTarget<'_> {
        DiagnosedTarget { target: &self.target, address: &self.address }
    }
}

impl Probe {
    /// Asks everything there is to ask.
    ///
    /// # Errors
    /// If no client could be built for the target.
    pub async fn ask(self) -> Result<Seen, BuildError> {
        let Probe { target, base, warnings } = self;
        let endpoint = HttpEndpoint::new(&target, &base)?;
        let began = Instant::now();
        let listed = endpoint.models(PATIENCE).await;
        let listing = began.elapsed();
        let address = base.as_str().trim_end_matches('/').to_owned();
        let mut seen = Seen {
            target,
            address,
            warnings,
            listed,
            listing,
            version: None,
            model: None,
            streams: Vec::new(),
            elsewhere: None,
        };
        // Who cannot be asked for a list cannot be asked for anything.
        let Ok((status, models)) = &seen.listed else { return Ok(seen) };
        seen.model = seen.patient().choose_model(*status, models).0;
        let nowhere = matches!(status, 200 | 404) && models.is_empty();
        seen.version = endpoint.version(PATIENCE).await.ok().flatten();
        if let Some(model) = &seen.model {
            // Nobody has asked this before, so the first answer finds nothing in a cache.
            let nonce = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
            let prompt = format!("Night {nonce}. {TEXT}");
            // A client of its own: its first request has to connect, and what that takes is seen.
            let endpoint = Arc::new(HttpEndpoint::new(&seen.target, &base)?);
            for _ in 0..2 {
                let streamed =
                    tap::stream(&endpoint, &seen.target, model, &parameters(), &prompt).await;
                let failed = streamed.outcome.is_err();
                seen.streams.push(streamed);
                if failed {
                    break;
                }
            }
        }
        if nowhere && !seen.streams.iter().any(|stream| stream.outcome.is_ok()) {
            seen.elsewhere = elsewhere(&seen.target, &base).await?;
            if seen.elsewhere.is_some() {
                // It explains what is doubtful about the address.
                seen.warnings.clear();
            }
        }
        Ok(seen)
    }
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

/// The first of the usual addresses where models are listed, or would be to somebody with a key.
async fn elsewhere(target: &Target, base: &Url) -> Result<Option<String>, BuildError> {
    let address = base.as_str().trim_end_matches('/');
    for path in usual_paths(base.path()) {
        let mut other = base.clone();
        other.set_path(&path);
        if other.as_str() == address {
            continue;
        }
        let there = match HttpEndpoint::new(target, &other)?.models(PATIENCE).await {
            Ok((200, models)) => !models.is_empty(),
            Ok((status, _)) => matches!(status, 401 | 403),
            Err(_) => false,
        };
        if there {
            return Ok(Some(other.to_string()));
        }
    }
    Ok(None)
}
