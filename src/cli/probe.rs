//! `llmload probe`: which target is meant, by a URL or by a file, and what to make of the answer.

use std::net::{Ipv4Addr, TcpListener};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;

use super::load::endpoint_url;
use super::{Failed, paper, print, runtime, variable};
use crate::config::{self, Invalid, UrlOptions};
use crate::plan::{self, Location, Plan, Target};
use crate::probe::{Probe, text::Words};
use crate::simulator::Simulator;

/// The options.
#[derive(Debug, Args)]
pub(super) struct ProbeArgs {
    // Not a doc comment: that would want the address in brackets, and show them.
    #[arg(value_parser = endpoint_url, help = "The endpoint, such as http://localhost:8000/v1; without it, a target of the configuration")]
    url: Option<String>,
    /// The model [default: that of the target, or the only one that /models lists]
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// With a URL: the environment variable that holds the key, never the key itself
    #[arg(long = "api-key-env", requires = "url", value_name = "VARIABLE")]
    api_key_env: Option<String>,
    /// The configuration
    #[arg(
        long = "config.file",
        value_name = "FILE",
        default_value = "llmload.yml",
        conflicts_with = "url"
    )]
    config_file: PathBuf,
    /// Which target of the configuration [default: its only one]
    #[arg(long, value_name = "NAME", conflicts_with = "url")]
    target: Option<String>,
    /// Print one JSON document instead of words
    #[arg(long)]
    json: bool,
}

/// Asks, and prints what came of it.
pub(super) fn probe(args: &ProbeArgs) -> Result<(), Failed> {
    let (target, warnings) = target(args)?;
    // It lives as long as it is asked.
    let mut simulator = None;
    let base = match &target.location {
        Location::Url(url) => url.clone(),
        Location::Simulator(settings) => {
            let started = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
                .and_then(|listener| Simulator::start(settings.clone(), listener))
                .context("the simulator could not be started")?;
            let address = format!("http://{}/v1", simulator.insert(started).address());
            address.parse().context("the simulator's address")?
        }
    };
    let probe = Probe { target, base, warnings };
    let seen = runtime()?.block_on(probe.ask()).map_err(anyhow::Error::new)?;
    drop(simulator);
    let text = if args.json {
        serde_json::to_string_pretty(&seen.json()).context("what was seen")?
    } else {
        Words { seen: &seen, paper: paper() }.to_string()
    };
    print(&text)?;
    if seen.is_well() { Ok(()) } else { Err(Failed::Said(1)) }
}

/// What is meant, and what is doubtful about it.
fn target(args: &ProbeArgs) -> Result<(Arc<Target>, Vec<String>), Failed> {
    if let Some(url) = &args.url {
        let options = UrlOptions {
            // None of it is sent: a plan has to have one.
            concurrency: Some(NonZeroU32::MIN),
            model: args.model.clone(),
            api_key_env: args.api_key_env.clone(),
            ..UrlOptions::default()
        };
        let plan = config::plan_from_url(url, &options, &variable)?;
        let targets = targets(&plan);
        let target = targets.into_iter().next().context("a plan without a target")?;
        return Ok((target, plan.warnings));
    }
    let plan = config::load(&args.config_file, &variable)
        .map_err(|invalid| of_url(invalid, &args.config_file))?;
    let target = chosen(targets(&plan), args)?;
    let Some(model) = &args.model else { return Ok((target, Vec::new())) };
    if let Some(fault) = plan::model_name_problem(model) {
        return Err(Failed::Usage(format!(
            "--model: the model's name {fault}; write it as the endpoint lists it"
        )));
    }
    Ok((Arc::new(Target { model: Some(model.clone()), ..Target::clone(&target) }), Vec::new()))
}

/// Who has no file may have a URL.
fn of_url(mut invalid: Invalid, file: &Path) -> Failed {
    if !file.exists() {
        for problem in &mut invalid.problems {
            let remedy = "give a URL, as in llmload probe http://localhost:8000/v1, or name a file with --config.file";
            problem.remedy = Some(remedy.to_owned());
        }
    }
    invalid.into()
}

fn targets(plan: &Plan) -> Vec<Arc<Target>> {
    let mut targets: Vec<Arc<Target>> = Vec::new();
    for target in plan.scenarios.iter().flat_map(plan::Scenario::targets) {
        if !targets.iter().any(|known| known.name == target.name) {
            targets.push(Arc::clone(target));
        }
    }
    targets
}

fn chosen(targets: Vec<Arc<Target>>, args: &ProbeArgs) -> Result<Arc<Target>, Failed> {
    let file = args.config_file.display();
    let names =
        targets.iter().map(|target| format!("`{}`", target.name)).collect::<Vec<_>>().join(", ");
    let mut meant = targets
        .into_iter()
        .filter(|target| args.target.as_ref().is_none_or(|name| target.name == *name));
    match (meant.next(), meant.next(), &args.target) {
        (Some(target), None, _) => Ok(target),
        (_, _, Some(name)) => Err(Failed::Usage(format!(
            "{file}: no scenario sends to a target `{name}`; write one of {names}"
        ))),
        (_, _, None) => Err(Failed::Usage(format!(
            "{file}: there are several targets; name one with --target: {names}"
        ))),
    }
}
