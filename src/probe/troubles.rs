//! What is wrong, or will be, with an endpoint of which so much was seen; each with its remedy.

use serde::Serialize;

use super::{Seen, Streamed};
use crate::measurement::{Anomaly, FailureDetail, Measurement};
use crate::remedy::{DiagnosedTarget, Diagnosis};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    /// No load can be measured.
    Error,
    /// It can, but not all of it, or not as it seems.
    Warning,
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// How bad it is.
    pub grade: Grade,
    /// What it is, and what mends it.
    pub trouble: Diagnosis,
}

impl Seen {
    /// Whether a stream came as it should.
    pub fn is_well(&self) -> bool {
        self.streams.first().is_some_and(|stream| stream.outcome.is_ok())
    }

    /// Everything that is wrong, the worst first.
    pub fn troubles(&self) -> Vec<Found> {
        let (patient, well) = (self.patient(), self.is_well());
        let (mut errors, mut warnings) = (Vec::new(), Vec::new());
        if let Some(right) = &self.elsewhere {
            let what = format!("there is no API under {}, but one under {right}", self.address);
            errors.push(Diagnosis::new(what, format!("write {right}")));
        }
        let about_models = match &self.listed {
            Err(detail) => Some(failed(patient, "/models", detail)),
            Ok((status, _)) if *status >= 500 => Some(patient.server_error(*status)),
            Ok((status, models)) => patient.choose_model(*status, models).1,
        };
        // What the address explains needs no other explanation.
        if self.elsewhere.is_none() {
            if well { &mut warnings } else { &mut errors }.extend(about_models);
        }
        for (stream, name) in self.streams.iter().zip(["the request", "the same request once more"])
        {
            match &stream.outcome {
                Err(detail) if well => warnings.push(failed(patient, name, detail)),
                Err(detail) if self.elsewhere.is_none() => {
                    errors.push(failed(patient, name, detail))
                }
                Ok(measurement) if name == "the request" => {
                    warnings.extend(oddities(stream, measurement))
                }
                Ok(_) | Err(_) => {}
            }
        }
        let graded = |grade| move |trouble| Found { grade, trouble };
        let errors = errors.into_iter().map(graded(Grade::Error));
        errors.chain(warnings.into_iter().map(graded(Grade::Warning))).collect()
    }
}

fn failed(patient: DiagnosedTarget<'_>, what: &str, detail: &FailureDetail) -> Diagnosis {
    let FailureDetail { failure, message, .. } = detail;
    let said = if message.is_empty() { String::new() } else { format!(" ({message})") };
    Diagnosis::new(format!("{what}: {failure}{said}"), patient.remedy(detail))
}

/// What was odd about an answer that came as it should.
fn oddities(stream: &Streamed, measurement: &Measurement) -> Vec<Diagnosis> {
    let mut odd: Vec<Diagnosis> = measurement.anomalies.iter().filter_map(oddity).collect();
    if measurement.first_token.is_none() {
        odd.push(Diagnosis::new(
            "no text came, though tokens were counted: there is no TTFT",
            "raise `max_tokens`, or ask for less reasoning, so that an answer is seen",
        ));
    }
    let tokens = measurement.usage.map_or(0, |usage| usage.output);
    if stream.reads == 1 && tokens >= 8 {
        odd.push(Diagnosis::new(
            format!("all {tokens} tokens came at once: there is no TPOT to measure"),
            "look for what gathers the stream: a proxy that buffers, or a server that does not stream",
        ));
    }
    odd
}

fn oddity(anomaly: Anomaly) -> Option<Diagnosis> {
    Some(match anomaly {
        Anomaly::MissingUsage => Diagnosis::new(
            "no usage came, though it was asked for: tokens, TPOT and TPS are not counted",
            "have the server send usage in streams (`stream_options.include_usage`)",
        ),
        Anomaly::ModelMismatch => Diagnosis::new(
            "the answer names another model than was asked for",
            "set `model` (or `--model`) to the name that the answer should bear",
        ),
        Anomaly::MissingFinishReason => Diagnosis::new(
            "no finish reason came: a broken answer looks like a whole one",
            "have the server send `finish_reason` with its last choice",
        ),
        // What disproves nothing is no trouble; the end of the answer is shown anyway.
        Anomaly::MissingDone => return None,
    })
}
