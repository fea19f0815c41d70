//! What is to be sent: a file, or an address and a rate.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::variable;
use crate::config::{self, Invalid, UrlOptions};
use crate::plan::Plan;
use crate::schedule::{Rate, Shard};

#[derive(Debug, Args)]
pub(super) struct LoadArgs {
    // Not a doc comment: that would want the address in brackets, and show them.
    #[arg(value_parser = endpoint_url, help = "Load this endpoint instead of what a file says, such as http://localhost:8000/v1")]
    pub url: Option<String>,
    /// The configuration
    #[arg(
        long = "config.file",
        value_name = "FILE",
        default_value = "llmload.yml",
        conflicts_with = "url"
    )]
    pub config_file: PathBuf,
    /// With a URL: the rate, such as 5/s, 300/m or 40/h
    #[arg(long, requires = "url", conflicts_with = "concurrency")]
    pub rate: Option<Rate>,
    /// With a URL: keep so many requests in flight, instead of a rate
    #[arg(long, requires = "url", value_name = "COUNT")]
    pub concurrency: Option<std::num::NonZeroU32>,
    /// With a URL: the model [default: the only one that /models lists]
    #[arg(long, requires = "url", value_name = "NAME")]
    pub model: Option<String>,
    /// With a URL: the environment variable that holds the key, never the key itself
    #[arg(long = "api-key-env", requires = "url", value_name = "VARIABLE")]
    pub api_key_env: Option<String>,
}

pub(super) fn divided(plan: Plan, file: &Path, shard: Shard) -> Result<Plan, Invalid> {
    config::divide(plan, &file.display().to_string(), shard)
}

pub(super) fn plan_of(
    args: &LoadArgs,
    length: Option<Duration>,
    shard: Shard,
) -> Result<Plan, Invalid> {
    let plan = match &args.url {
        Some(url) => {
            let options = UrlOptions {
                rate: args.rate,
                concurrency: args.concurrency,
                model: args.model.clone(),
                api_key_env: args.api_key_env.clone(),
                length,
            };
            config::plan_from_url(url, &options, &variable)?
        }
        None => config::load(&args.config_file, &variable).map_err(|mut invalid| {
            // Who has no file may want another, or none; who has one mends it.
            if !args.config_file.exists() {
                for problem in &mut invalid.problems {
                    let remedy =
                        "name one with --config.file, or see llmload at work without any: llmload demo";
                    problem.remedy = Some(remedy.to_owned());
                }
            }
            invalid
        })?,
    };
    divided(
        plan,
        args.url.as_ref().map_or(&args.config_file, |_| Path::new("the command line")),
        shard,
    )
}

/// A word that is no URL is more likely a mistyped command.
pub(super) fn endpoint_url(text: &str) -> Result<String, String> {
    if text.starts_with("http://") || text.starts_with("https://") {
        return Ok(text.to_owned());
    }
    let remedy = config::url_with_scheme(text)
        .map_or("see `llmload --help`".to_owned(), |whole| format!("write {whole}"));
    Err(format!("neither a command nor a URL that starts with http:// or https://; {remedy}"))
}
