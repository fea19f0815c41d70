//! `llmload capacity`: searches the highest rate or concurrency that meets the objectives.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::run::{self, RunArgs};
use super::{Failed, load::endpoint_url, variable};
use crate::config::{self, SearchBy, SearchOptions};
use crate::plan::Plan;
use crate::schedule::SearchSpec;

#[derive(Debug, Args)]
pub(super) struct CapacityArgs {
    // Not a doc comment, because clippy would require brackets around the URL, and the help would
    // show the brackets.
    #[arg(
        value_parser = endpoint_url,
        required_unless_present = "config_file",
        help = "Search the capacity of this endpoint, such as http://localhost:8000/v1"
    )]
    url: Option<String>,
    // Not a doc comment, because clippy would require backticks around the names.
    #[arg(
        long,
        value_name = "OBJECTIVES",
        required_unless_present = "config_file",
        help = "Objectives that a level must meet, such as 'ttft p99<1s, success>99%'. The measures \
                are ttft, tpot, e2e_latency and success [default: slo of the scenario]"
    )]
    slo: Option<String>,
    /// Search by rate (open loop) or by concurrency (closed loop) [default: rate if --from or --to
    /// is a rate, else concurrency]
    #[arg(long, value_name = "KIND")]
    by: Option<By>,
    /// Lowest level, such as 1/s or 4 [default: 1/s or 1]
    #[arg(long, value_name = "LEVEL")]
    from: Option<String>,
    /// Highest level, such as 200/s or 256 [default: 200/s or 256]
    #[arg(long, value_name = "LEVEL")]
    to: Option<String>,
    /// Largest distance between the highest level that meets the objectives and the lowest level
    /// that misses them [default: 5%]
    #[arg(long, value_name = "PERCENT")]
    resolution: Option<String>,
    /// Shortest time in which a step measures one level. A search takes about 10 to 50 times as
    /// long, so 10 to 50 minutes with the default
    #[arg(long = "for", value_name = "DURATION", default_value = "60s", value_parser = config::read_duration)]
    step: Duration,
    /// Name of the model [default: the only model that /models lists]
    #[arg(long, conflicts_with = "config_file", value_name = "NAME")]
    model: Option<String>,
    /// Name of the environment variable that holds the API key
    #[arg(long = "api-key-env", conflicts_with = "config_file", value_name = "VARIABLE")]
    api_key_env: Option<String>,
    /// Configuration file with the target, the prompts and the request
    #[arg(long = "config.file", value_name = "FILE", conflicts_with = "url")]
    config_file: Option<PathBuf>,
    /// Scenario of the configuration file [default: its only scenario]
    #[arg(long, value_name = "NAME", requires = "config_file")]
    scenario: Option<String>,
    /// Title of the report, such as the name and the version of the server
    #[arg(long, value_name = "TEXT", value_parser = run::title)]
    title: Option<String>,
    /// Label of the report, such as gpu=H100. Repeat this option for several labels
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = run::label)]
    labels: Vec<(String, String)>,
    /// Write report.json, report.md, report.html, report.csv, junit.xml and, if requests fail,
    /// failures.jsonl to this folder
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Longest time until the target is ready and its warm-up has ended
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = config::read_duration)]
    wait: Duration,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum By {
    Rate,
    Concurrency,
}

pub(super) fn capacity(args: CapacityArgs) -> Result<(), Failed> {
    let plan = plan(&args)?;
    if variable("LLMLOAD_SHARD").or_else(|| variable("LLMLOAD_SHARDS")).is_some() {
        tracing::warn!(
            "LLMLOAD_SHARD and LLMLOAD_SHARDS are ignored, because shards cannot share a search"
        );
    }
    let CapacityArgs { title, labels, report, wait, .. } = args;
    run::run_plan(&RunArgs::for_search(title, labels, report, wait), plan)
}

fn plan(args: &CapacityArgs) -> Result<Plan, Failed> {
    let is_rate = |level: &Option<String>| level.as_ref().is_some_and(|text| text.contains('/'));
    let by = match args.by {
        Some(By::Rate) => SearchBy::Rate,
        None if is_rate(&args.from) || is_rate(&args.to) => SearchBy::Rate,
        Some(By::Concurrency) | None => SearchBy::Concurrency,
    };
    let options = SearchOptions {
        by,
        slo: args.slo.clone(),
        from: args.from.clone(),
        to: args.to.clone(),
        resolution: args.resolution.clone(),
        step: args.step,
        model: args.model.clone(),
        api_key_env: args.api_key_env.clone(),
    };
    let Some(file) = &args.config_file else {
        let url = args.url.as_deref().unwrap_or_default();
        return Ok(config::search_from_options(url, &options, &variable)?);
    };
    // The target of this plan is never used.
    let of_options = config::search_from_options("http://localhost/v1", &options, &variable)?;
    let spec = of_options.scenarios.first().and_then(|scenario| {
        let phase = scenario.schedule.phases().first()?;
        phase.load.search().map(|spec| SearchSpec::clone(spec))
    });
    let plan = config::load(file, &variable)?;
    let Some(spec) = spec else { return Ok(of_options) };
    plan.for_search(args.scenario.as_deref(), spec, args.slo.is_some())
        .map_err(|error| Failed::Usage(format!("error: {error}")))
}
