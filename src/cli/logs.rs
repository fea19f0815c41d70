//! The level, the format and the destination of the log.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::Write as _;
use std::panic::PanicHookInfo;

use clap::{Args, ValueEnum};
use serde_json::json;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};

use super::terminal::has_colours;
use super::variable;
use crate::stderr;

#[derive(Debug, Args)]
pub(super) struct LogArgs {
    /// Level: error, warn, info, debug or trace; or a filter such as llmload=debug,hyper=info
    #[arg(
        long = "log.level",
        global = true,
        display_order = 900,
        value_name = "LEVEL",
        default_value = "info"
    )]
    level: String,
    /// Format of the log lines
    #[arg(
        long = "log.format",
        global = true,
        display_order = 900,
        value_name = "FORMAT",
        default_value = "text"
    )]
    format: LogFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

/// Returns an error message if the level is invalid.
pub(super) fn set_up(args: &LogArgs) -> Result<(), String> {
    // Without a filter for them, the HTTP libraries log only warnings.
    let directives = match args.level.as_str() {
        // The certificate verifier would log the error of each failed request a second time.
        level @ ("error" | "warn" | "info" | "debug" | "trace") => {
            format!("warn,rustls_platform_verifier=off,llmload={level}")
        }
        // A filter contains `=`. Any other text is a mistyped level, and a filter of that name
        // would log nothing.
        filter if filter.contains('=') => filter.to_owned(),
        level => {
            return Err(format!(
                "--log.level {level}: unknown level; use error, warn, info, debug or trace"
            ));
        }
    };
    let filter = EnvFilter::try_new(&directives).map_err(|error| {
        let level = &args.level;
        format!("--log.level {level}: {error}; use error, warn, info, debug or trace")
    })?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| LogWriter)
        .with_target(false)
        // With this option, the library panics if stderr is closed.
        .log_internal_errors(false);
    match args.format {
        LogFormat::Text => {
            stderr::set_loss_notice(loss_notice);
            lines.with_ansi(has_colours(stderr::is_terminal(), &variable)).init();
        }
        LogFormat::Json => {
            stderr::set_loss_notice(json_loss_notice);
            lines.json().flatten_event(true).init();
        }
    }
    std::panic::set_hook(Box::new(|panic| stderr::write_line(panic_message(panic))));
    Ok(())
}

/// Passes each log line to the thread that writes to stderr. The log library makes one call for
/// each line.
struct LogWriter;

impl std::io::Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        stderr::write_line(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The message of the log line about lost lines.
const LOSS: &str = "log lines were lost, because stderr could not be written";

/// Returns the text line about lost lines. It precedes the waiting lines, so the log library cannot
/// write it.
fn loss_notice(lines: u64) -> String {
    format!("{}  WARN {LOSS} lines={lines}\n", timestamp())
}

fn json_loss_notice(lines: u64) -> String {
    let line = json!({"timestamp": timestamp(), "level": "WARN", "message": LOSS, "lines": lines});
    format!("{line}\n")
}

fn timestamp() -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _written = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

/// Cuts the message of a panic off before the first quoted text. For example, the standard library
/// quotes a text that llmload cuts at the wrong place, and the text can contain a key.
fn without_quotes(message: &str) -> String {
    match message.split_once(['`', '"', '\'']) {
        Some((before, _)) => format!("{before}… (llmload hides quoted text)"),
        None => message.to_owned(),
    }
}

/// Returns a text about a panic, in the form of the standard library.
fn panic_message(panic: &PanicHookInfo<'_>) -> String {
    let thread = std::thread::current();
    let place = panic.location().map_or_else(String::new, |place| format!(" at {place}"));
    let mut text = format!(
        "thread '{}' panicked{place}:\n{}\n",
        thread.name().unwrap_or("<unnamed>"),
        without_quotes(panic.payload_as_str().unwrap_or("no message"))
    );
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        let _written = writeln!(text, "{backtrace}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_of_a_panic_contains_no_quoted_text() {
        let key = "sk-canary-ö";
        let cut_wrong = || key[..11].to_owned();
        let refused = || -> Result<String, &str> { Err(key) };
        let unreadable = || refused().unwrap();
        for (panics, begin) in [
            (&cut_wrong as &(dyn Fn() -> String + std::panic::RefUnwindSafe), ""),
            (&unreadable, "called … (llmload hides quoted text)"),
        ] {
            let panic = std::panic::catch_unwind(panics).unwrap_err();
            let message = panic.downcast_ref::<String>().unwrap();
            assert!(message.contains("canary"), "{message}");
            let shown = without_quotes(message);
            assert!(!shown.contains("canary") && shown.starts_with(begin), "{shown}");
        }
        let plain = "index out of bounds: the len is 3 but the index is 5";
        assert_eq!(without_quotes(plain), plain);
    }
}
