//! `llmload probe`: sends two small requests to a target, from a URL or a configuration file, and
//! prints the report.

use std::net::{Ipv4Addr, TcpListener};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use url::Url;

use super::load::endpoint_url;
use super::{Failed, block_on, print, stdout_style, variable};
use crate::config::{self, Invalid, UrlOptions};
use crate::plan::{self, Location, Plan, Target};
use crate::probe::{Probe, text::ReportText};
use crate::simulator::Simulator;

#[derive(Debug, Args)]
pub(super) struct ProbeArgs {
    // Not a doc comment, because clippy would require brackets around the URL, and the help would
    // show the brackets.
    #[arg(value_parser = endpoint_url, help = "Endpoint to probe, such as http://localhost:8000/v1 [default: a target of the configuration]")]
    url: Option<String>,
    /// Name of the model [default: the model of the target, or the only model that /models lists]
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// With a URL: name of the environment variable that holds the API key
    #[arg(long = "api-key-env", requires = "url", value_name = "VARIABLE")]
    api_key_env: Option<String>,
    /// Configuration file
    #[arg(
        long = "config.file",
        value_name = "FILE",
        default_value = "llmload.yml",
        conflicts_with = "url"
    )]
    config_file: PathBuf,
    /// Name of the target in the configuration file [default: the only target]
    #[arg(long, value_name = "NAME", conflicts_with = "url")]
    target: Option<String>,
    /// Print one JSON document instead of text
    #[arg(long)]
    json: bool,
}

pub(super) fn probe(args: &ProbeArgs) -> Result<(), Failed> {
    let (target, warnings) = target(args)?;
    // The simulator must live until the probe has ended.
    let (base, simulator) = address_of(&target)?;
    let probe = Probe { target, base, warnings };
    let report = block_on(probe.run())?.map_err(anyhow::Error::new)?;
    drop(simulator);
    let text = if args.json {
        serde_json::to_string_pretty(&report.json()).context("cannot write the report as JSON")?
    } else {
        ReportText { report: &report, style: stdout_style() }.to_string()
    };
    print(&text)?;
    if report.is_successful() { Ok(()) } else { Err(Failed::Reported(1)) }
}

fn target(args: &ProbeArgs) -> Result<(Arc<Target>, Vec<String>), Failed> {
    if let Some(url) = &args.url {
        let plan = plan_of_url(url, args.model.clone(), args.api_key_env.clone())?;
        let targets = targets(&plan);
        let target = targets.into_iter().next().context("the plan has no target")?;
        return Ok((target, plan.warnings));
    }
    let plan = plan_of_file(&args.config_file, "llmload probe http://localhost:8000/v1")?;
    let target = choose(targets(&plan), args)?;
    let warnings = of_target(&plan.warnings, &target.name);
    let Some(model) = &args.model else { return Ok((target, warnings)) };
    if let Some(fault) = plan::model_name_problem(model) {
        return Err(Failed::Usage(format!(
            "--model: the model's name {fault}; write the name as the endpoint lists it"
        )));
    }
    Ok((Arc::new(Target { model: Some(model.clone()), ..Target::clone(&target) }), warnings))
}

/// Returns the warnings about a target. Each warning contains the path of its key.
fn of_target(warnings: &[String], name: &str) -> Vec<String> {
    let paths = [format!(": targets.{name}."), format!(": targets.{name}: "), ": target: ".into()];
    let is_of_target = |warning: &&String| paths.iter().any(|path| warning.contains(path));
    warnings.iter().filter(is_of_target).cloned().collect()
}

/// Returns a plan with the endpoint at this URL as its only target.
pub(super) fn plan_of_url(
    url: &str,
    model: Option<String>,
    api_key_env: Option<String>,
) -> Result<Plan, Invalid> {
    let options = UrlOptions {
        // A plan needs a load, but the caller ignores it.
        concurrency: Some(NonZeroU32::MIN),
        model,
        api_key_env,
        ..UrlOptions::default()
    };
    config::plan_from_url(url, &options, &variable)
}

/// If the file does not exist, the remedies suggest a URL. `example` is a command with a URL.
pub(super) fn plan_of_file(file: &Path, example: &str) -> Result<Plan, Invalid> {
    config::load(file, &variable).map_err(|mut invalid| {
        if !file.exists() {
            for problem in &mut invalid.problems {
                let remedy =
                    format!("pass a URL, as in {example}, or name a file with --config.file");
                problem.remedy = Some(remedy);
            }
        }
        invalid
    })
}

/// Returns the base URL of a target. Starts the simulator of a simulated target.
pub(super) fn address_of(target: &Target) -> anyhow::Result<(Url, Option<Simulator>)> {
    match &target.location {
        Location::Url(url) => Ok((url.clone(), None)),
        Location::Simulator(options) => {
            let simulator = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
                .and_then(|listener| Simulator::start(options.clone(), listener))
                .context("the simulator could not be started")?;
            let address = format!("http://{}/v1", simulator.address());
            let url = address.parse().context("the address of the simulator is not a URL")?;
            Ok((url, Some(simulator)))
        }
    }
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

fn choose(targets: Vec<Arc<Target>>, args: &ProbeArgs) -> Result<Arc<Target>, Failed> {
    let file = args.config_file.display();
    let names =
        targets.iter().map(|target| format!("`{}`", target.name)).collect::<Vec<_>>().join(", ");
    let mut matching = targets
        .into_iter()
        .filter(|target| args.target.as_ref().is_none_or(|name| target.name == *name));
    match (matching.next(), matching.next(), &args.target) {
        (Some(target), None, _) => Ok(target),
        (_, _, Some(name)) => Err(Failed::Usage(format!(
            "{file}: no scenario sends to a target `{name}`; choose one of {names}"
        ))),
        (_, _, None) => Err(Failed::Usage(format!(
            "{file}: the configuration has several targets; choose one with --target: {names}"
        ))),
    }
}
