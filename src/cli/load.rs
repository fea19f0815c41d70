//! The options that define the load: a configuration file, or a URL and a rate.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::variable;
use crate::config::{self, Invalid, UrlOptions};
use crate::plan::Plan;
use crate::schedule::{Rate, Shard};

#[derive(Debug, Default, Args)]
pub(super) struct LoadArgs {
    // Not a doc comment, because clippy would require brackets around the URL, and the help would
    // show the brackets.
    #[arg(value_parser = endpoint_url, help = "Send load to this endpoint, such as http://localhost:8000/v1, instead of reading a file")]
    pub url: Option<String>,
    /// Configuration file
    #[arg(
        long = "config.file",
        value_name = "FILE",
        default_value = "llmload.yml",
        conflicts_with = "url"
    )]
    pub config_file: PathBuf,
    /// With a URL: request rate, such as 5/s, 300/m or 40/h
    #[arg(long, requires = "url", conflicts_with_all = ["concurrency", "config_file"])]
    pub rate: Option<Rate>,
    /// With a URL: number of requests to keep in flight, instead of a rate
    #[arg(long, requires = "url", conflicts_with = "config_file", value_name = "COUNT")]
    pub concurrency: Option<std::num::NonZeroU32>,
    /// With a URL: name of the model [default: the only model that /models lists]
    #[arg(long, requires = "url", conflicts_with = "config_file", value_name = "NAME")]
    pub model: Option<String>,
    /// With a URL: name of the environment variable that holds the API key
    #[arg(
        long = "api-key-env",
        requires = "url",
        conflicts_with = "config_file",
        value_name = "VARIABLE"
    )]
    pub api_key_env: Option<String>,
}

impl LoadArgs {
    /// The path of the configuration file. `None` with a URL.
    pub fn file(&self) -> Option<String> {
        self.url.is_none().then(|| self.config_file.display().to_string())
    }
}

pub(super) fn apply_shard(plan: Plan, file: &Path, shard: Shard) -> Result<Plan, Invalid> {
    config::divide(plan, &file.display().to_string(), shard)
}

pub(super) fn load_plan(
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
            // A user without this file perhaps wants another file, or a URL.
            if !args.config_file.exists() {
                for problem in &mut invalid.problems {
                    let remedy =
                        "name a file with --config.file, or run `llmload demo`, which needs \
                         no file";
                    problem.remedy = Some(remedy.to_owned());
                }
            }
            invalid
        })?,
    };
    apply_shard(
        plan,
        args.url.as_ref().map_or(&args.config_file, |_| Path::new("the command line")),
        shard,
    )
}

/// Parses the URL of an endpoint. The error also lists the commands, because a mistyped command is
/// more likely than a wrong URL.
pub(super) fn endpoint_url(text: &str) -> Result<String, String> {
    let is_url = text.starts_with("http://") || text.starts_with("https://");
    if is_url || config::unix_url(text).is_some() {
        return Ok(text.to_owned());
    }
    let remedy = config::url_with_scheme(text)
        .map_or("see `llmload --help`".to_owned(), |url| format!("write {url}"));
    Err(format!(
        "this is neither a command nor a URL that starts with http:// or https://; {remedy}"
    ))
}
