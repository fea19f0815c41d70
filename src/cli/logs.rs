//! The level, the format and the destination of the log.

use super::progress::LogWriter;
use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

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

/// Sets up the log. Returns an error message if the level is invalid.
pub(super) fn set_up(args: &LogArgs) -> Result<(), String> {
    // The HTTP libraries log only warnings, unless a filter names them.
    let directives = match args.level.as_str() {
        // The certificate verifier is off, because it would log the error of each failed request a
        // second time.
        level @ ("error" | "warn" | "info" | "debug" | "trace") => {
            format!("warn,rustls_platform_verifier=off,llmload={level}")
        }
        // A filter contains `=`. A text without `=` is a mistyped level. If llmload used it as a
        // filter, the log would be silent.
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
        // With this option, the library would report a closed stderr on stderr, and panic.
        .log_internal_errors(false);
    match args.format {
        LogFormat::Text => {
            lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init();
        }
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    Ok(())
}
