//! One record of the archive: all that is known about a failed request, without the secrets of the
//! target. A record is one line of JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::calendar::rfc3339_millis;
use crate::config::secret_texts;
use crate::event::{Evidence, RequestIds};
use crate::measurement::FailureDetail;
use crate::plan::KeptPrompts;
use crate::protocol::Trace;
use crate::random::Fnv;

/// The replacement for a secret in the archive.
pub const MASK: &str = "[redacted]";
/// The header with which a server starts a session. Its value is a secret of the server.
const SET_COOKIE: &str = "set-cookie";
/// The minimum length, in bytes, of a value in a request that is masked because of the name of its
/// field. Shorter values are hardly secret and occur in ordinary text.
const MIN_SECRET: usize = 6;

/// A failed request in the archive. A reader ignores unknown fields. An optional field that is
/// missing becomes `None`, empty, 0 or false.
#[derive(Debug, Deserialize, Serialize)]
pub struct FailureRecord {
    /// The time of the failure, in RFC 3339 with milliseconds.
    pub time: String,
    pub scenario: String,
    pub target: String,
    pub model: String,
    /// The name of the phase. `None` during a manual rate override.
    pub phase: Option<String>,
    /// The number of the arrival. With the seed and the scenario, it determines the prompt.
    pub arrival: u64,
    /// The failure class, as in the label `reason`.
    pub class: String,
    pub blame: String,
    pub message: String,
    /// The HTTP status. `None` if no response head arrived.
    pub status: Option<u16>,
    /// The start of the response head, one `name: value` for each header.
    #[serde(default)]
    pub head: Vec<String>,
    /// The start of the response body.
    #[serde(default)]
    pub body: String,
    /// The number of bytes of the response body that llmload has read.
    #[serde(default)]
    pub body_bytes: u64,
    /// The identifier that the endpoint gave to the request.
    pub request_id: Option<String>,
    pub trace_id: Option<String>,
    /// The dispatch lag: the time from the due time to the sending.
    pub lag_seconds: f64,
    /// The time from the sending to the first text.
    pub first_token_seconds: Option<f64>,
    /// The time from the sending to the failure.
    pub duration_seconds: f64,
    /// True if llmload sent the request once more, because its first connection had ended.
    #[serde(default)]
    pub is_retried: bool,
    /// The path of the request below the base URL.
    pub path: String,
    /// The size of the request body. `None` with `prompts: none`.
    pub request_bytes: Option<u64>,
    /// A hash of the request body. Equal bodies have equal hashes. `None` with `prompts: none`.
    pub request_hash: Option<String>,
    /// The request body. `None` without `prompts: full`, or if the body is longer than the limit.
    pub request: Option<Box<RawValue>>,
}

/// The origin of a record: the route (one scenario on one target) and its secrets.
pub(super) struct Origin {
    pub(super) scenario: String,
    pub(super) target: String,
    pub(super) model: String,
    pub(super) path: &'static str,
    /// The names of the phases, in the order of the schedule.
    pub(super) phases: Vec<String>,
    /// Masks the secrets of the target in a text.
    pub(super) mask: Mask,
}

/// Masks the secrets of a target in a text.
pub type Mask = Arc<dyn Fn(String) -> String + Send + Sync>;

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origin")
            .field("scenario", &self.scenario)
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

/// A failed request that waits for the writer. Its evidence is not masked yet, because masking is
/// too slow for the thread that sends requests.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) origin: Arc<Origin>,
    pub(super) time: SystemTime,
    pub(super) arrival: u64,
    pub(super) phase: Option<usize>,
    pub(super) detail: FailureDetail,
    pub(super) ids: RequestIds,
    pub(super) lag: Duration,
    pub(super) duration: Duration,
    pub(super) evidence: Evidence,
}

impl Draft {
    /// Returns the record as a line. A request body that is longer than `request_limit` bytes is
    /// left out.
    pub(super) fn line(&self, prompts: KeptPrompts, request_limit: usize) -> Vec<u8> {
        let mut line = serde_json::to_vec(&self.record(prompts, request_limit)).unwrap_or_default();
        line.push(b'\n');
        line
    }

    fn record(&self, prompts: KeptPrompts, request_limit: usize) -> FailureRecord {
        let Draft { origin, evidence, detail, ids, .. } = self;
        let secrets = field_secrets(&evidence.request);
        let mask = |text: String| mask_all((origin.mask)(text), &secrets);
        let head = String::from_utf8_lossy(&evidence.head);
        let keeps = prompts != KeptPrompts::None;
        let is_short = evidence.request.len() <= request_limit;
        let request = (prompts == KeptPrompts::Full && is_short)
            .then(|| as_json(&mask(String::from_utf8_lossy(&evidence.request).into_owned())));
        FailureRecord {
            time: rfc3339_millis(self.time),
            scenario: origin.scenario.clone(),
            target: origin.target.clone(),
            model: origin.model.clone(),
            phase: self.phase.and_then(|phase| origin.phases.get(phase)).cloned(),
            arrival: self.arrival,
            class: detail.failure.as_str().to_owned(),
            blame: detail.failure.blame().as_str().to_owned(),
            message: mask(detail.message.clone()),
            status: evidence.status,
            head: head.lines().map(|line| masked_header(line, &mask)).collect(),
            body: body_start(evidence, &mask),
            body_bytes: evidence.body_bytes,
            request_id: ids.request_id.clone(),
            trace_id: ids.trace.map(Trace::id),
            lag_seconds: seconds(self.lag),
            first_token_seconds: evidence.first_token.map(seconds),
            duration_seconds: seconds(self.duration),
            is_retried: evidence.is_retried,
            path: origin.path.to_owned(),
            request_bytes: keeps.then_some(evidence.request.len() as u64),
            request_hash: keeps.then(|| hash(&evidence.request)),
            request: request.flatten(),
        }
    }
}

fn masked_header(line: &str, mask: &impl Fn(String) -> String) -> String {
    match line.split_once(": ") {
        Some((name, _)) if name == SET_COOKIE => format!("{name}: {MASK}"),
        _ => mask(line.to_owned()),
    }
}

/// Returns the values of a request body whose names sound secret, as JSON quotes them. A body from
/// a prompt file (`payloads`) can have such values, and a server can quote them.
fn field_secrets(request: &[u8]) -> Vec<String> {
    let fields: BTreeMap<String, Value> = serde_json::from_slice(request).unwrap_or_default();
    let quoted = secret_texts(&fields).into_iter().map(|secret| {
        let quoted = Value::String(secret).to_string();
        quoted[1..quoted.len() - 1].to_owned()
    });
    quoted.filter(|secret| secret.len() >= MIN_SECRET).collect()
}

fn mask_all(text: String, secrets: &[String]) -> String {
    secrets.iter().fold(text, |text, secret| text.replace(secret, MASK))
}

/// Returns the start of a response body. A body that llmload did not keep to its end can end within
/// a secret, which is not masked, so its last bytes are left out.
fn body_start(evidence: &Evidence, mask: &impl Fn(String) -> String) -> String {
    let is_cut = evidence.body_bytes > evidence.body.len() as u64;
    let mut text = mask(String::from_utf8_lossy(&evidence.body).into_owned());
    let kept = text.len().saturating_sub(if is_cut { Evidence::MARGIN } else { 0 });
    text.truncate(text.floor_char_boundary(kept.min(Evidence::BODY_LIMIT)));
    text
}

/// Returns the text as JSON. If a masked number makes the JSON invalid, returns the whole text as
/// one JSON string.
fn as_json(text: &str) -> Option<Box<RawValue>> {
    serde_json::from_str(text).or_else(|_| serde_json::value::to_raw_value(text)).ok()
}

fn hash(bytes: &[u8]) -> String {
    let mut hash = Fnv::default();
    hash.update(bytes);
    format!("{:016x}", hash.0)
}

/// Returns the seconds, rounded to microseconds.
#[allow(clippy::cast_precision_loss)]
fn seconds(time: Duration) -> f64 {
    time.as_micros() as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::*;
    use crate::measurement::Failure;

    fn draft(request: &Value) -> Draft {
        let mut evidence = Evidence::new(true);
        evidence.add_request(&Bytes::from(request.to_string()));
        evidence.status = Some(500);
        evidence.head = b"set-cookie: session=1\nx-echo: CANARY\n".to_vec();
        evidence.add_body(b"no CANARY \xff\n");
        let origin = Origin {
            scenario: "s".to_owned(),
            target: "t".to_owned(),
            model: "m".to_owned(),
            path: "chat/completions",
            phases: vec!["calm".to_owned(), "peak".to_owned()],
            mask: Arc::new(|text| text.replace("CANARY", MASK).replace("4711", MASK)),
        };
        Draft {
            origin: Arc::new(origin),
            time: SystemTime::UNIX_EPOCH + Duration::from_millis(1500),
            arrival: 12,
            phase: Some(1),
            detail: FailureDetail::new(Failure::Http5xx, "HTTP 500: no"),
            ids: RequestIds { trace: None, request_id: Some("r-1".to_owned()) },
            lag: Duration::from_micros(1500),
            duration: Duration::from_millis(250),
            evidence,
        }
    }

    fn record(request: &Value, prompts: KeptPrompts, limit: usize) -> Value {
        let line = String::from_utf8(draft(request).line(prompts, limit)).unwrap();
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        let _is_readable: FailureRecord = serde_json::from_str(&line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    #[test]
    fn a_record_has_the_facts_of_the_request_without_a_secret() {
        let request = json!({"messages": [{"content": "Hi CANARY"}]});
        let record = record(&request, KeptPrompts::Full, 1000);
        let hash = record["request_hash"].as_str().unwrap();
        assert_eq!(hash.len(), 16);
        let expected = json!({
            "time": "1970-01-01T00:00:01.500Z", "scenario": "s", "target": "t", "model": "m",
            "phase": "peak", "arrival": 12, "class": "http_5xx", "blame": "target",
            "message": "HTTP 500: no", "status": 500,
            "head": ["set-cookie: [redacted]", "x-echo: [redacted]"],
            "body": "no [redacted] \u{fffd}\n", "body_bytes": 12, "request_id": "r-1",
            "trace_id": null, "lag_seconds": 0.0015, "first_token_seconds": null,
            "duration_seconds": 0.25, "is_retried": false, "path": "chat/completions",
            "request_bytes": request.to_string().len(), "request_hash": hash,
            "request": {"messages": [{"content": "Hi [redacted]"}]},
        });
        assert_eq!(record, expected);
    }

    #[test]
    fn a_prompt_is_kept_only_as_configured() {
        let request = json!({"messages": []});
        let none = record(&request, KeptPrompts::None, 1000);
        assert_eq!(
            [&none["request"], &none["request_hash"], &none["request_bytes"]],
            [&Value::Null; 3]
        );
        let hash = record(&request, KeptPrompts::Hash, 1000);
        assert_eq!((&hash["request"], &hash["request_bytes"]), (&Value::Null, &json!(15)));
        let long = record(&request, KeptPrompts::Full, 14);
        assert_eq!(
            (&long["request"], &long["request_hash"]),
            (&Value::Null, &hash["request_hash"])
        );
    }

    #[test]
    fn a_body_from_a_prompt_file_is_masked_by_the_names_of_its_fields() {
        let request = json!({"api_key": "sk-\"quoted\"-1", "tools": [{"headers": {"x": "header-1"}}],
            "max_tokens": 123_456, "messages": [{"content": "sk-\"quoted\"-1 and header-1"}]});
        let masked = record(&request, KeptPrompts::Full, 1000)["request"].clone();
        assert_eq!(masked["max_tokens"], 123_456);
        assert_eq!(masked["messages"][0]["content"], "[redacted] and [redacted]");
        let text = masked.to_string();
        assert!(!text.contains("quoted") && !text.contains("header-1"), "{text}");
        let mut echo = draft(&request);
        echo.evidence.add_body(b"you sent header-1");
        let echoed = echo.record(KeptPrompts::None, 1000).body;
        assert!(echoed.ends_with("you sent [redacted]"), "{echoed}");
        let number = record(&json!({"pin": 4711}), KeptPrompts::Full, 1000)["request"].clone();
        assert_eq!(number, json!("{\"pin\":[redacted]}"), "no valid JSON, so a text");
    }

    #[test]
    fn a_secret_that_the_limit_of_the_body_cuts_is_masked() {
        for before in [2_000, 2_040, 2_044, 2_048, 4_070, 4_092, 6_000] {
            let mut draft = draft(&json!({}));
            draft.evidence.body.clear();
            draft.evidence.body_bytes = 0;
            draft.evidence.add_body(&[b'x'].repeat(before));
            draft.evidence.add_body(b"CANARY");
            draft.evidence.add_body(&[b'y'].repeat(3_000));
            let body = draft.record(KeptPrompts::None, 1000).body;
            assert!(body.len() <= Evidence::BODY_LIMIT && !body.contains('C'), "{before}: {body}");
        }
    }
}
