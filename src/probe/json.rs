//! What was seen, as one JSON document.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Seen, Streamed};
use crate::measurement::{Anomaly, FinishReason, Measurement};
use crate::protocol::Channel;

impl Seen {
    /// Everything that the words say. Times are seconds.
    pub fn json(&self) -> Value {
        let troubles = self.troubles().into_iter().map(|found| {
            json!({"grade": found.grade, "message": found.trouble.problem, "remedy": found.trouble.remedy})
        });
        let models = self.listed.as_ref().ok();
        json!({
            "address": self.address,
            "well": self.is_well(),
            "troubles": troubles.collect::<Vec<_>>(),
            "warnings": self.warnings,
            "models_status": models.map(|(status, _)| status),
            "models": models.map(|(_, names)| names),
            "models_seconds": seconds(Some(self.listing)),
            "version": self.version,
            "model": self.model,
            "requests": self.streams.iter().map(request).collect::<Vec<_>>(),
        })
    }
}

fn request(stream: &Streamed) -> Value {
    let answer = match &stream.outcome {
        Ok(measurement) => answered(measurement),
        Err(detail) => json!({"failure": detail.failure.as_str(), "message": detail.message}),
    };
    let finish = stream.finish.map(|reason| match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
        FinishReason::ToolCalls => "tool_calls",
        FinishReason::ContentFilter => "content_filter",
        FinishReason::Error => "error",
        FinishReason::Other => "other",
    });
    let first_text = stream.first_text.map(|channel| match channel {
        Channel::Answer => "content",
        Channel::Reasoning => "reasoning",
        Channel::Refusal => "refusal",
        Channel::ToolCall => "tool_call",
    });
    json!({
        "name_seconds": seconds(stream.connected.and_then(|connected| connected.dns)),
        "connect_seconds": seconds(stream.connected.map(|connected| connected.connect)),
        "status": stream.head.map(|(status, _)| status),
        "head_seconds": seconds(stream.head.map(|(_, at)| at)),
        "first_event_seconds": seconds(stream.first_event),
        "first_text": first_text,
        "chunks": stream.chunks,
        "reads": stream.reads,
        "finish_reason": finish,
        "outcome": answer,
    })
}

fn answered(measurement: &Measurement) -> Value {
    let usage = measurement.usage.map(|usage| {
        json!({
            "input_tokens": usage.input,
            "output_tokens": usage.output,
            "cached_input_tokens": usage.cached_input,
            "reasoning_tokens": usage.reasoning,
        })
    });
    json!({
        "time_to_first_token_seconds": seconds(measurement.time_to_first_token()),
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
