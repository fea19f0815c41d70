//! Finds the problems in the report of a probe, each with its remedy.

use serde::Serialize;

use super::{ProbeReport, ProbedRequest};
use crate::measurement::{Anomaly, FailureDetail, Measurement};
use crate::remedy::{DiagnosedTarget, Diagnosis};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The requests of a load would fail.
    Error,
    /// llmload can measure a load, but some values are missing or misleading.
    Warning,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub severity: Severity,
    pub diagnosis: Diagnosis,
}

impl ProbeReport {
    pub fn is_successful(&self) -> bool {
        self.requests.first().is_some_and(|request| request.outcome.is_ok())
    }

    /// Returns all problems. They are warnings if the first request succeeded, and errors
    /// otherwise.
    pub fn problems(&self) -> Vec<Problem> {
        let severity = if self.is_successful() { Severity::Warning } else { Severity::Error };
        let problem = |diagnosis| Problem { severity, diagnosis };
        self.diagnoses().into_iter().map(problem).collect()
    }

    fn diagnoses(&self) -> Vec<Diagnosis> {
        // A wrong address explains all failures, so it is the only problem.
        if let Some(right) = &self.suggested_address {
            let problem =
                format!("there is no API at {}, but there is one at {right}", self.address);
            return vec![Diagnosis::new(problem, format!("use {right}"))];
        }
        let mut found = Vec::from_iter(self.models_problem());
        found.extend(self.absent_api());
        let mut requests = self.requests.iter();
        if let Some(first) = requests.next() {
            match &first.outcome {
                Ok(_) if !self.target.dialect.api.generates_text() => {}
                Ok(measurement) => found.extend(oddities(first, measurement)),
                Err(detail) => found.push(failure(self.diagnosed(), "the first request", detail)),
            }
        }
        if let Some(Err(detail)) = requests.next().map(|second| &second.outcome) {
            found.push(failure(self.diagnosed(), "the second request", detail));
        }
        found
    }

    /// The configured API, if the endpoint offers only others.
    fn absent_api(&self) -> Option<Diagnosis> {
        let api = self.target.dialect.api;
        let other = self.apis.offered.iter().find(|other| other.generates_text())?;
        let is_absent = !self.is_successful() && self.apis.has(api) == Some(false);
        is_absent.then(|| {
            let problem =
                format!("the endpoint has no `/{}`, but it has `/{}`", api.path(), other.path());
            Diagnosis::new(problem, format!("set `api: {}` in the target", other.as_str()))
        })
    }

    fn models_problem(&self) -> Option<Diagnosis> {
        let target = self.diagnosed();
        match &self.models {
            Err(detail) => Some(failure(target, "/models", detail)),
            Ok((status, _)) if *status >= 500 => Some(target.server_error(*status)),
            Ok((status, models)) => target.choose_model(*status, models).1,
        }
    }
}

fn failure(target: DiagnosedTarget<'_>, subject: &str, detail: &FailureDetail) -> Diagnosis {
    let FailureDetail { failure, message, .. } = detail;
    let message = if message.is_empty() { String::new() } else { format!(" ({message})") };
    Diagnosis::new(format!("{subject}: {failure}{message}"), target.remedy(detail))
}

fn oddities(request: &ProbedRequest, measurement: &Measurement) -> Vec<Diagnosis> {
    let mut odd: Vec<Diagnosis> =
        measurement.anomalies.iter().filter_map(anomaly_problem).collect();
    if measurement.first_token.is_none() {
        odd.push(Diagnosis::new(
            "the endpoint counted tokens but sent no text, so TTFT cannot be measured",
            "raise `max_tokens`, or reduce the reasoning, so the response contains text",
        ));
    }
    let (tokens, unit) = match measurement.usage.output {
        Some(tokens) => (tokens, "tokens"),
        None => (request.chunks.into(), "chunks"),
    };
    // A few tokens can arrive at once although nothing is wrong.
    if measurement.is_coalesced() && tokens >= 8 {
        odd.push(Diagnosis::new(
            format!("all {tokens} {unit} arrived at once, so TPOT cannot be measured"),
            "check for a proxy that buffers the stream, and for a server that does not stream",
        ));
    }
    odd
}

fn anomaly_problem(anomaly: Anomaly) -> Option<Diagnosis> {
    Some(match anomaly {
        Anomaly::MissingUsage => Diagnosis::new(
            "the endpoint sent no valid count of output tokens, although llmload requested usage, \
             so tokens, TPOT and TPS cannot be measured",
            "configure the server to send usage in streams (`stream_options.include_usage`)",
        ),
        Anomaly::ModelMismatch => Diagnosis::new(
            "the response names another model than the request",
            "set `model` (or `--model`) to the model that should respond",
        ),
        Anomaly::MissingFinishReason => Diagnosis::new(
            "the stream has no finish reason, so an incomplete response can look complete",
            "configure the server to send `finish_reason` in its last chunk",
        ),
        Anomaly::UnexpectedContentType => Diagnosis::new(
            "the response is an event stream, but its content-type is not `text/event-stream`",
            "configure the server or the proxy to send this content-type: other clients possibly \
             refuse the stream, and proxies possibly buffer it",
        ),
        // A missing `[DONE]` is no problem, because some servers never send it. `oddities` explains
        // the other two.
        Anomaly::MissingDone | Anomaly::Coalesced | Anomaly::MissingText => return None,
    })
}
