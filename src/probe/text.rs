//! What was seen, in words for a terminal or a file.

use std::fmt::{self, Display};
use std::time::Duration;

use super::{Found, Grade, Seen, Streamed};
use crate::check::text::{TextStyle, key, wrapped};
use crate::measurement::{Anomaly, FinishReason, Measurement};
use crate::protocol::Channel;

/// Models that are shown; some endpoints list hundreds.
const MOST_MODELS: usize = 5;

/// Writes it all.
#[derive(Debug)]
pub struct Words<'a> {
    /// What was seen.
    pub seen: &'a Seen,
    /// What it is written for.
    pub paper: TextStyle,
}

impl Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seen = self.seen;
        writeln!(f, "{}", self.paper.bold(&seen.address))?;
        self.line("key", key(&seen.target.auth), f)?;
        if let Ok((status, models)) = &seen.listed {
            self.line("models", listed(*status, models), f)?;
            self.line("server", seen.version.as_deref().unwrap_or("does not tell its version"), f)?;
        }
        if let Some(model) = &seen.model {
            self.line("model", model, f)?;
        }
        if let Some((stream, measurement)) = seen.streams.first().and_then(measured) {
            writeln!(f)?;
            self.answer(stream, measurement, f)?;
        }
        self.clock(f)?;
        writeln!(f)?;
        let found = seen.troubles();
        for found in &found {
            self.trouble(found, f)?;
        }
        for warning in &seen.warnings {
            self.paragraph(&self.paper.yellow("warning:"), 8, warning, f)?;
        }
        if !(found.is_empty() && seen.warnings.is_empty()) {
            writeln!(f)?;
        }
        let verdict = if seen.is_well() {
            "A stream came as it should."
        } else {
            "No stream came as it should."
        };
        write!(f, "{}", self.paper.bold(verdict))
    }
}

impl Words<'_> {
    fn line(&self, name: &str, text: impl Display, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.paragraph(
            &format!("  {}", self.paper.faint(format_args!("{name:14}"))),
            16,
            &text.to_string(),
            f,
        )
    }

    /// A text beside a head of so many characters.
    fn paragraph(
        &self,
        head: &str,
        indent: usize,
        text: &str,
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result {
        for (i, line) in
            wrapped(text, self.paper.width.saturating_sub(indent + 1)).iter().enumerate()
        {
            if i == 0 {
                writeln!(f, "{head} {line}")?
            } else {
                writeln!(f, "{:indent$} {line}", "")?
            }
        }
        Ok(())
    }

    fn trouble(&self, found: &Found, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (head, indent) = match found.grade {
            Grade::Error => (self.paper.red("error:"), 6),
            Grade::Warning => (self.paper.yellow("warning:"), 8),
        };
        self.paragraph(&head, indent, &found.trouble.problem, f)?;
        self.paragraph(&format!("  {}", self.paper.bold("remedy:")), 9, &found.trouble.remedy, f)
    }

    fn answer(
        &self,
        stream: &Streamed,
        measurement: &Measurement,
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result {
        self.line("first token", first_token(stream), f)?;
        let usage = measurement.usage;
        let tokens = match usage {
            None => "not counted by the endpoint: no usage came".to_owned(),
            Some(usage) if usage.reasoning > 0 => {
                format!(
                    "{} in, {} out, {} of them reasoning",
                    usage.input, usage.output, usage.reasoning
                )
            }
            Some(usage) => format!("{} in, {} out", usage.input, usage.output),
        };
        self.line("tokens", tokens, f)?;
        self.line("chunks", chunks(stream, usage.map(|usage| usage.output)), f)?;
        self.line("end", end(stream, measurement), f)?;
        if let Some(caching) = caching(&self.seen.streams) {
            self.line("prefix cache", caching, f)?;
        }
        Ok(())
    }

    /// What each step took, of the first request and of the second.
    fn clock(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seen = self.seen;
        let mut rows: Vec<(&str, [Option<Duration>; 2], &str)> = Vec::new();
        if seen.listed.is_ok() {
            rows.push(("/models", [Some(seen.listing), None], "on a connection of its own"));
        }
        let steps: Vec<_> =
            seen.streams.iter().filter_map(measured).map(|(s, m)| steps(s, m)).collect();
        for (i, (name, note)) in STEPS.into_iter().enumerate() {
            let note =
                if name == "connect" && !seen.address.starts_with("https") { "" } else { note };
            let times = [0, 1].map(|which| steps.get(which).and_then(|steps| steps[i]));
            if times[0].is_some() {
                rows.push((name, times, note));
            }
        }
        if rows.is_empty() {
            return Ok(());
        }
        let again = if steps.len() > 1 { "again" } else { "" };
        let head = format!("  {:14} {:>10} {again:>10}", "clock", "first");
        writeln!(f, "\n{}", self.paper.faint(head.trim_end()))?;
        for (name, [first, second], note) in rows {
            let shown = |time: Option<Duration>| time.map(milliseconds).unwrap_or_default();
            let line = format!("  {name:14} {:>10} {:>10}  {note}", shown(first), shown(second));
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// The steps of one answer, each from the one before.
const STEPS: [(&str, &str); 8] = [
    ("name", "from sending"),
    ("connect", "TLS included"),
    ("head", ""),
    ("first token", ""),
    ("last token", ""),
    ("end", ""),
    ("TTFT", "all up to the first token"),
    ("TPOT", "for each token after it"),
];

fn steps(stream: &Streamed, measurement: &Measurement) -> [Option<Duration>; 8] {
    let since = |at: tokio::time::Instant| at.saturating_duration_since(measurement.sent);
    let name = stream.connected.and_then(|connected| connected.dns);
    let connect = stream.connected.map(|connected| connected.connect);
    let ready = name.unwrap_or_default() + connect.unwrap_or_default();
    let head = stream.head.map(|(_, at)| at);
    let (first, last) = (measurement.first_token.map(since), measurement.last_token.map(since));
    let between = |from: Option<Duration>, to: Option<Duration>| Some(to?.saturating_sub(from?));
    [
        name,
        connect,
        between(Some(ready), head),
        between(head, first),
        between(first, last),
        between(last.or(head), Some(measurement.duration())),
        measurement.time_to_first_token(),
        measurement.time_per_output_token(),
    ]
}

/// The answer, where there was a good one.
fn measured(stream: &Streamed) -> Option<(&Streamed, &Measurement)> {
    stream.outcome.as_ref().ok().map(|measurement| (stream, measurement))
}

fn listed(status: u16, models: &[String]) -> String {
    let names: Vec<_> = models.iter().take(MOST_MODELS).map(String::as_str).collect();
    match (names.is_empty(), models.len().saturating_sub(MOST_MODELS)) {
        (true, _) => format!("none listed (HTTP {status})"),
        (false, 0) => names.join(", "),
        (false, more) => format!("{} and {more} more", names.join(", ")),
    }
}

/// Which rule made it.
fn first_token(stream: &Streamed) -> String {
    let kind = match stream.first_text {
        Some(Channel::Answer) => "content",
        Some(Channel::Reasoning) => "reasoning, which counts",
        Some(Channel::Refusal) => "a refusal, which counts",
        Some(Channel::ToolCall) => "a tool call, which counts",
        None => return "none: no text came".to_owned(),
    };
    match (stream.first_event, stream.first_text_event) {
        (Some(event), Some(first)) if event < first => {
            let before = milliseconds(first.saturating_sub(event));
            format!("{kind}; an event without text came {before} before and does not count")
        }
        _ => kind.to_owned(),
    }
}

fn chunks(stream: &Streamed, tokens: Option<u64>) -> String {
    let events = format!("{} with text in {} reads", stream.chunks, stream.reads);
    match tokens {
        Some(tokens) if stream.chunks > 0 => {
            #[allow(clippy::cast_precision_loss)]
            let ratio = tokens as f64 / f64::from(stream.chunks);
            format!("{events}, {ratio:.2} tokens each")
        }
        _ => events,
    }
}

fn end(stream: &Streamed, measurement: &Measurement) -> String {
    let reason = match stream.finish {
        Some(FinishReason::Stop) => "finish reason: a natural end",
        Some(FinishReason::Length) => "finish reason: the token limit",
        Some(FinishReason::ToolCalls) => "finish reason: a tool call",
        Some(FinishReason::ContentFilter | FinishReason::Error | FinishReason::Other) => {
            "finish reason: another"
        }
        None => "no finish reason",
    };
    let without = |anomaly| if measurement.anomalies.contains(anomaly) { "no " } else { "" };
    format!(
        "{reason}, {}usage, {}[DONE]",
        without(Anomaly::MissingUsage),
        without(Anomaly::MissingDone)
    )
}

/// What the second request owed to the first.
pub(super) fn caching(streams: &[Streamed]) -> Option<String> {
    let [first, second] = streams else { return None };
    let usage = |stream: &Streamed| stream.outcome.as_ref().ok()?.usage;
    let (before, after) = (usage(first)?, usage(second)?);
    Some(match (before.cached_input, after.cached_input) {
        (_, 0) => "no cached tokens reported for the same prompt (vLLM reports them with \
                   --enable-prompt-tokens-details)"
            .to_owned(),
        (0, cached) => format!("{cached} of {} prompt tokens, the second time", after.input),
        (early, cached) => {
            format!("{cached} of {} prompt tokens, the second time; {early} the first", after.input)
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
