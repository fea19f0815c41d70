//! Where the log goes and how it looks.

use super::progress::LogWriter;
use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

#[derive(Debug, Args)]
pub(super) struct LogArgs {
    /// error, warn, info, debug or trace; or a filter such as llmload=debug,hyper=info
    #[arg(
        long = "log.level",
        global = true,
        display_order = 900,
        value_name = "LEVEL",
        default_value = "info"
    )]
    level: String,
    /// How log lines look
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

/// Sets it up; what is wrong with the level comes back in words.
pub(super) fn set_up(args: &LogArgs) -> Result<(), String> {
    // What the HTTP libraries say below warnings is of use to those who ask for it by name.
    let directives = match args.level.as_str() {
        // The verifier of certificates would say of every request what its failure says already.
        level @ ("error" | "warn" | "info" | "debug" | "trace") => {
            format!("warn,rustls_platform_verifier=off,llmload={level}")
        }
        // A filter names what it is about; a lone word is a mistyped level, and would silence everything.
        filter if filter.contains('=') => filter.to_owned(),
        word => {
            let words =
                format!("--log.level {word}: no such level; use error, warn, info, debug or trace");
            return Err(words);
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
        // It would tell of a closed stderr on stderr, and panic.
        .log_internal_errors(false);
    match args.format {
        LogFormat::Text => {
            lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init()
        }
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    Ok(())
}
