//! The report of a probe as text for a terminal or a file.

use std::fmt::{self, Display};
use std::time::Duration;

use super::json::finish_reason_name;
use super::{OfferedApis, ProbeReport, ProbedRequest, Problem, Severity};
use crate::check::text::{TextStyle, key, wrapped};
use crate::measurement::{Anomaly, Measurement, Usage};
use crate::protocol::{Api, Channel};

/// The most models in the report, because some endpoints list hundreds.
const SHOWN_MODELS: usize = 5;

#[derive(Debug)]
pub struct ReportText<'a> {
    pub report: &'a ProbeReport,
    pub style: TextStyle,
}

impl Display for ReportText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.report;
        writeln!(f, "{}", self.style.bold(&report.address))?;
        self.line("key", key(&report.target.auth), f)?;
        if let Ok((status, models)) = &report.models {
            self.line("models", model_list(*status, models), f)?;
            let version = report.version.as_deref().unwrap_or("not reported");
            self.line("server version", version, f)?;
        }
        if let Some(model) = &report.model {
            self.line("model", model, f)?;
        }
        if let Some(apis) = api_list(&report.apis) {
            self.line("APIs", apis, f)?;
        }
        if let Some((request, measurement)) = report.requests.first().and_then(success) {
            writeln!(f)?;
            self.response(request, measurement, f)?;
        }
        self.steps(f)?;
        writeln!(f)?;
        let problems = report.problems();
        for problem in &problems {
            self.problem(problem, f)?;
        }
        for warning in &report.warnings {
            self.paragraph(&self.style.yellow("warning:"), 8, warning, f)?;
        }
        if !(problems.is_empty() && report.warnings.is_empty()) {
            writeln!(f)?;
        }
        let verdict = match (report.is_successful(), report.target.dialect.api.has_streams()) {
            (true, true) => "The endpoint streamed a complete response.",
            (false, true) => "The endpoint did not stream a complete response.",
            (true, false) => "The endpoint returned a vector.",
            (false, false) => "The endpoint did not return a vector.",
        };
        write!(f, "{}", self.style.bold(verdict))
    }
}

impl ReportText<'_> {
    fn line(&self, name: &str, text: impl Display, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.paragraph(
            &format!("  {}", self.style.faint(format_args!("{name:14}"))),
            16,
            &text.to_string(),
            f,
        )
    }

    /// Writes a text, wrapped and aligned, to the right of a heading of `indent` characters.
    fn paragraph(
        &self,
        heading: &str,
        indent: usize,
        text: &str,
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result {
        for (i, line) in
            wrapped(text, self.style.width.saturating_sub(indent + 1)).iter().enumerate()
        {
            if i == 0 {
                writeln!(f, "{heading} {line}")?;
            } else {
                writeln!(f, "{:indent$} {line}", "")?;
            }
        }
        Ok(())
    }

    fn problem(&self, problem: &Problem, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem { severity, diagnosis } = problem;
        let (heading, indent) = match severity {
            Severity::Error => (self.style.red("error:"), 6),
            Severity::Warning => (self.style.yellow("warning:"), 8),
        };
        self.paragraph(&heading, indent, &diagnosis.problem, f)?;
        self.paragraph(&format!("  {}", self.style.bold("remedy:")), 9, &diagnosis.remedy, f)
    }

    fn response(
        &self,
        request: &ProbedRequest,
        measurement: &Measurement,
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result {
        let api = self.report.target.dialect.api;
        if api.generates_text() {
            self.line("first token", first_token(request), f)?;
        }
        let Usage { input, output, reasoning, .. } = measurement.usage;
        let counted =
            |count: Option<u64>| count.map_or_else(|| "unknown".to_owned(), |n| n.to_string());
        let tokens = if api.generates_text() {
            format!("{} input, {} output", counted(input), counted(output))
        } else {
            format!("{} input", counted(input))
        };
        let tokens = match (input.or(output), reasoning) {
            (None, _) => "not counted: the endpoint sent no usage".to_owned(),
            (_, Some(reasoning @ 1..)) => format!("{tokens}, {reasoning} of them reasoning"),
            _ => tokens,
        };
        self.line("tokens", tokens, f)?;
        if !api.generates_text() {
            return Ok(());
        }
        self.line("chunks", chunks(request, output), f)?;
        self.line("end", end(api, request, measurement), f)?;
        if let Some(cached) = cached_tokens(&self.report.requests) {
            self.line("prefix cache", cached, f)?;
        }
        Ok(())
    }

    fn steps(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.report;
        let mut rows: Vec<(&str, [Option<Duration>; 2], &str)> = Vec::new();
        if report.models.is_ok() {
            rows.push(("/models", [Some(report.models_time), None], "on a separate connection"));
        }
        let steps: Vec<_> =
            report.requests.iter().filter_map(success).map(|(r, m)| step_times(r, m)).collect();
        for (i, (name, note)) in STEPS.into_iter().enumerate() {
            let note =
                if name == "connect" && !report.address.starts_with("https") { "" } else { note };
            let times = [0, 1].map(|which| steps.get(which).and_then(|steps| steps[i]));
            if times[0].is_some() {
                rows.push((name, times, note));
            }
        }
        if rows.is_empty() {
            return Ok(());
        }
        let (first, second, note) = match steps.len() {
            0 => ("time", "", ""),
            1 => ("request 1", "", STEPS_NOTE),
            _ => ("request 1", "request 2", STEPS_NOTE),
        };
        let heading = format!("  {:14} {first:>10} {second:>10}  {note}", "step");
        writeln!(f, "\n{}", self.style.faint(heading.trim_end()))?;
        for (name, [first, second], note) in rows {
            let shown = |time: Option<Duration>| time.map(milliseconds).unwrap_or_default();
            let line = format!("  {name:14} {:>10} {:>10}  {note}", shown(first), shown(second));
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

const STEPS_NOTE: &str = "DNS lookup to end: one after the other";

/// The name and the note of each row: first the steps of one request, then the latencies.
const STEPS: [(&str, &str); 9] = [
    ("DNS lookup", ""),
    ("connect", "TLS included"),
    ("response head", ""),
    ("first token", ""),
    ("last token", ""),
    ("end", ""),
    ("TTFT", "from sending to the first token"),
    ("TTFO", "from sending to the first answer token"),
    ("TPOT", "for each token after the first"),
];

fn step_times(request: &ProbedRequest, measurement: &Measurement) -> [Option<Duration>; 9] {
    let since = |at: tokio::time::Instant| at.saturating_duration_since(measurement.sent);
    let dns = request.connect_timing.and_then(|timing| timing.dns);
    let connect = request.connect_timing.map(|timing| timing.connect);
    let connected = dns.unwrap_or_default() + connect.unwrap_or_default();
    let head = request.head.map(|(_, at)| at);
    let (first, last) = (measurement.first_token.map(since), measurement.last_token.map(since));
    let between = |from: Option<Duration>, to: Option<Duration>| Some(to?.saturating_sub(from?));
    [
        dns,
        connect,
        between(Some(connected), head),
        between(head, first),
        between(first, last),
        between(last.or(head), Some(measurement.duration())),
        measurement.time_to_first_token(),
        measurement.time_to_first_answer_token(),
        measurement.time_per_output_token(),
    ]
}

/// Lists the offered APIs, then the others. `None` if nothing is known.
fn api_list(apis: &OfferedApis) -> Option<String> {
    let list = |apis: &[Api]| apis.iter().map(|api| api.as_str()).collect::<Vec<_>>().join(", ");
    let (offered, absent) = (list(&apis.offered), list(&apis.absent));
    match (offered.is_empty(), absent.is_empty()) {
        (true, _) => None,
        (false, true) => Some(offered),
        (false, false) => Some(format!("{offered}; not {absent}")),
    }
}

fn success(request: &ProbedRequest) -> Option<(&ProbedRequest, &Measurement)> {
    request.outcome.as_ref().ok().map(|measurement| (request, measurement))
}

fn model_list(status: u16, models: &[String]) -> String {
    let names: Vec<_> = models.iter().take(SHOWN_MODELS).map(String::as_str).collect();
    match (names.is_empty(), models.len().saturating_sub(SHOWN_MODELS)) {
        (true, _) => format!("none listed (HTTP {status})"),
        (false, 0) => names.join(", "),
        (false, more) => format!("{} and {more} more", names.join(", ")),
    }
}

/// Describes the kind of the first text. An earlier event without text is mentioned, because it
/// does not count as a token.
fn first_token(request: &ProbedRequest) -> String {
    let kind = match request.first_text {
        Some(Channel::Answer) => "answer text",
        Some(Channel::Reasoning) => "reasoning text (counts as the first token)",
        Some(Channel::Refusal) => "refusal text (counts as the first token)",
        Some(Channel::ToolCall) => "the text of a tool call (counts as the first token)",
        Some(Channel::Audio) => "audio (counts as the first token)",
        None => return "none: no text arrived".to_owned(),
    };
    match (request.first_event, request.first_text_event) {
        (Some(event), Some(first)) if event < first => {
            let before = milliseconds(first.saturating_sub(event));
            format!("{kind}; an event without text arrived {before} earlier and does not count")
        }
        _ => kind.to_owned(),
    }
}

fn chunks(request: &ProbedRequest, tokens: Option<u64>) -> String {
    let chunks = format!("{} with text, received in {} reads", request.chunks, request.reads);
    match tokens {
        Some(tokens) if request.chunks > 0 => {
            #[allow(clippy::cast_precision_loss)]
            let ratio = tokens as f64 / f64::from(request.chunks);
            format!("{chunks}, {ratio:.2} tokens per chunk")
        }
        _ => chunks,
    }
}

fn end(api: Api, request: &ProbedRequest, measurement: &Measurement) -> String {
    let reason = match request.finish {
        Some(reason) => format!("finish reason `{}`", finish_reason_name(reason)),
        None => "no finish reason".to_owned(),
    };
    let without = |anomaly| if measurement.anomalies.contains(anomaly) { "no " } else { "" };
    format!(
        "{reason}, {}usage, {}{}",
        without(Anomaly::MissingUsage),
        without(Anomaly::MissingDone),
        api.end_marker().unwrap_or_default()
    )
}

/// Describes how many prompt tokens of the second request the server found in its prefix cache.
fn cached_tokens(requests: &[ProbedRequest]) -> Option<String> {
    let [first, second] = requests else { return None };
    let usage = |request: &ProbedRequest| request.outcome.as_ref().ok().map(|m| m.usage);
    let (before, after) = (usage(first)?, usage(second)?);
    let prompt = after.input?;
    Some(match (before.cached_input.unwrap_or(0), after.cached_input.unwrap_or(0)) {
        (_, 0) => "no cached tokens reported for the same prompt (vLLM reports them with \
                   --enable-prompt-tokens-details)"
            .to_owned(),
        (0, cached) => format!("{cached} of {prompt} prompt tokens cached in request 2"),
        (early, cached) => {
            format!("{cached} of {prompt} prompt tokens cached in request 2, {early} in request 1")
        }
    })
}

fn milliseconds(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{:.1} ms", time.as_secs_f64() * 1e3)
    } else {
        format!("{:.2} s", time.as_secs_f64())
    }
}
