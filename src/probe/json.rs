//! The report of a probe as one JSON document.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::{ProbeReport, ProbedRequest, Problem};
use crate::measurement::{Anomaly, FinishReason, Measurement, Usage};
use crate::protocol::{Api, Channel};

impl ProbeReport {
    /// Returns the content of the text report. Times are in seconds.
    pub fn json(&self) -> Value {
        let problems = self.problems().into_iter().map(|found| {
            let Problem { severity, diagnosis } = found;
            json!({"grade": severity, "message": diagnosis.problem, "remedy": diagnosis.remedy})
        });
        let models = self.models.as_ref().ok();
        json!({
            "address": self.address,
            "well": self.is_successful(),
            "troubles": problems.collect::<Vec<_>>(),
            "warnings": self.warnings,
            "models_status": models.map(|(status, _)| status),
            "models": models.map(|(_, names)| names),
            "models_seconds": seconds(Some(self.models_time)),
            "version": self.version,
            "model": self.model,
            "apis": Api::ALL.map(|api| (api.as_str(), self.apis.has(api))).into_iter().collect::<BTreeMap<_, _>>(),
            "requests": self.requests.iter().map(request).collect::<Vec<_>>(),
        })
    }
}

fn request(request: &ProbedRequest) -> Value {
    let outcome = match &request.outcome {
        Ok(measurement) => success(measurement),
        Err(detail) => json!({"failure": detail.failure.as_str(), "message": detail.message}),
    };
    let first_text = request.first_text.map(|channel| match channel {
        Channel::Answer => "content",
        Channel::Reasoning => "reasoning",
        Channel::Refusal => "refusal",
        Channel::ToolCall => "tool_call",
        Channel::Audio => "audio",
    });
    json!({
        "name_seconds": seconds(request.connect_timing.and_then(|timing| timing.dns)),
        "connect_seconds": seconds(request.connect_timing.map(|timing| timing.connect)),
        "status": request.head.map(|(status, _)| status),
        "head_seconds": seconds(request.head.map(|(_, at)| at)),
        "first_event_seconds": seconds(request.first_event),
        "first_text": first_text,
        "chunks": request.chunks,
        "reads": request.reads,
        "finish_reason": request.finish.map(finish_reason_name),
        "outcome": outcome,
    })
}

/// Returns the name of a finish reason in the OpenAI API.
pub(super) fn finish_reason_name(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
        FinishReason::ToolCalls => "tool_calls",
        FinishReason::ContentFilter => "content_filter",
        FinishReason::Error => "error",
        FinishReason::Other => "other",
    }
}

fn success(measurement: &Measurement) -> Value {
    let usage = (measurement.usage != Usage::default()).then(|| {
        json!({
            "input_tokens": measurement.usage.input,
            "output_tokens": measurement.usage.output,
            "cached_input_tokens": measurement.usage.cached_input,
            "reasoning_tokens": measurement.usage.reasoning,
        })
    });
    json!({
        "time_to_first_token_seconds": seconds(measurement.time_to_first_token()),
        "time_to_first_answer_token_seconds": seconds(measurement.time_to_first_answer_token()),
        "duration_seconds": seconds(Some(measurement.duration())),
        "time_per_output_token_seconds": seconds(measurement.time_per_output_token()),
        "output_tokens_per_second": measurement.tokens_per_second(),
        "usage": usage,
        "anomalies": measurement.anomalies.iter().map(Anomaly::as_str).collect::<Vec<_>>(),
    })
}

fn seconds(time: Option<Duration>) -> Option<f64> {
    time.map(|time| time.as_secs_f64())
}
