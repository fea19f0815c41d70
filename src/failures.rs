//! `llmload failures`: displays the records of an archive of failed requests.
//!
//! [`table::Table`] lists the records, and [`Details`] shows one of them. All texts are from
//! servers, so control characters are replaced.

pub mod resend;
pub mod table;

use std::fmt::{self, Display};

use serde_json::Value;

use crate::archive::{Entry, FailureRecord};
use crate::check::numbers::{count, duration};
use crate::check::text::{TextStyle, wrapped};
use crate::measurement::{Failure, printable};

/// The longest line of a body that is displayed, in bytes.
const MAX_LINE: usize = 100_000;

/// Returns the record and its number as JSON.
pub fn json(entry: &Entry) -> Value {
    let mut value = serde_json::to_value(&entry.record).unwrap_or_default();
    value["number"] = entry.number.into();
    value
}

/// One record with all its fields.
#[derive(Debug)]
pub struct Details<'a> {
    pub entry: &'a Entry,
    pub style: TextStyle,
}

impl Display for Details<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Entry { number, record } = self.entry;
        let FailureRecord { scenario, target, model, .. } = record;
        writeln!(f, "{}", self.style.bold(format_args!("failure {number}")))?;
        self.line("time", &record.time, f)?;
        self.line("route", &format!("scenario {scenario} on target {target}"), f)?;
        self.line("model", model, f)?;
        let phase = record.phase.as_deref().unwrap_or("none (manual rate override)");
        self.line("phase", phase, f)?;
        self.line("arrival", &record.arrival.to_string(), f)?;
        self.line("class", &format!("{} (blame: {})", record.class, record.blame), f)?;
        let known = Failure::ALL.into_iter().find(|failure| failure.as_str() == record.class);
        if let Some(failure) = known {
            self.line("meaning", failure.meaning().trim(), f)?;
        }
        self.line("message", &record.message, f)?;
        let status = record.status.map_or("none".to_owned(), |status| status.to_string());
        self.line("HTTP status", &status, f)?;
        let lag = duration(record.lag_seconds);
        self.line("sent", &format!("{lag} after the due time"), f)?;
        if record.is_retried {
            self.line("sent again", "once, because the first connection had ended", f)?;
        }
        if let Some(first) = record.first_token_seconds {
            self.line("first token", &format!("{} after the sending", duration(first)), f)?;
        }
        let failed = duration(record.duration_seconds);
        self.line("failed", &format!("{failed} after the sending"), f)?;
        for (name, id) in [("request id", &record.request_id), ("trace id", &record.trace_id)] {
            if let Some(id) = id {
                self.line(name, id, f)?;
            }
        }
        if let Some(hash) = &record.request_hash {
            self.line("request hash", hash, f)?;
        }
        self.block("Response head", &record.head.join("\n"), f)?;
        #[allow(clippy::cast_precision_loss)]
        let read = count(record.body_bytes as f64);
        self.block(&format!("Response body ({read} bytes read)"), &record.body, f)?;
        self.request(record, f)
    }
}

impl Details<'_> {
    fn line(&self, name: &str, text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = printable(text, MAX_LINE);
        for (index, line) in wrapped(&text, self.style.width.saturating_sub(17)).iter().enumerate()
        {
            let name = if index == 0 { name } else { "" };
            writeln!(f, "  {} {line}", self.style.faint(format_args!("{name:14}")))?;
        }
        Ok(())
    }

    fn block(&self, title: &str, text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{}", self.style.bold(title))?;
        if text.trim().is_empty() {
            return writeln!(f, "  empty");
        }
        for line in text.lines() {
            writeln!(f, "  {}", safe_line(line))?;
        }
        Ok(())
    }

    #[allow(clippy::cast_precision_loss)]
    fn request(&self, record: &FailureRecord, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let title = match record.request_bytes {
            Some(bytes) => format!("Request body ({} bytes)", count(bytes as f64)),
            None => "Request body".to_owned(),
        };
        let Some(request) = &record.request else {
            let reason = match (record.request_bytes, &record.request_hash) {
                (Some(_), Some(_)) => "not kept: the archive keeps only hashes, or it is too long",
                _ => "not kept; configure `prompts: full`, or run with --archive-prompts full",
            };
            return self.block(&title, reason, f);
        };
        let value: Value = serde_json::from_str(request.get()).unwrap_or_default();
        let pretty = match value {
            Value::String(text) => text,
            value => serde_json::to_string_pretty(&value).unwrap_or_default(),
        };
        self.block(&title, &pretty, f)
    }
}

/// Replaces control characters, and keeps the indent.
fn safe_line(line: &str) -> String {
    line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_details_have_every_value_and_no_control_character() {
        let record = serde_json::json!({
            "time": "2026-11-27T15:00:00.000Z", "scenario": "s", "target": "t", "model": "m",
            "phase": "peak", "arrival": 12, "class": "http_5xx", "blame": "target",
            "message": "HTTP 500: \u{1b}[31mred", "status": 500, "head": ["x-id: 1\u{7}"],
            "body": "one\n\u{1b}two", "body_bytes": 5000, "request_id": "r-1", "trace_id": "abc",
            "lag_seconds": 0.0015, "first_token_seconds": 0.2, "duration_seconds": 1.25,
            "is_retried": true, "path": "chat/completions", "request_bytes": 20,
            "request_hash": "ff", "request": {"messages": ["\u{1b}hi"]},
        });
        let entry = Entry { number: 3, record: serde_json::from_value(record).unwrap() };
        let style = TextStyle { width: 80, colours: false };
        let text = Details { entry: &entry, style }.to_string();
        for part in [
            "failure 3",
            "15:00:00.000Z",
            "scenario s on target t",
            "peak",
            "12",
            "http_5xx",
            "(blame: target)",
            "HTTP 500:  [31mred",
            "x-id: 1",
            "5,000 bytes read",
            "  two",
            "r-1",
            "abc",
            "1.5 ms after the due time",
            "200 ms",
            "1.25 s",
            "once, because",
            "Request body (20 bytes)",
            "\"messages\"",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains('\u{1b}') && !text.contains('\u{7}'), "{text}");
        assert_eq!(json(&entry)["number"], 3);
        assert_eq!(json(&entry)["request"]["messages"][0], "\u{1b}hi");
    }
}
