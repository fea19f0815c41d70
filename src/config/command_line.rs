//! Makes a plan from a command line instead of a file: from a URL with a rate, or from the options
//! of a simulator.
//!
//! This module turns the options into YAML and loads that YAML. So an option has the same meaning
//! and the same checks as the key of a file. But a problem names the option instead of a line.

use std::num::NonZeroU32;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::duration::HumanDuration;
use super::{Environment, Invalid, Mistake, Problem, Secrets};
use crate::plan::{Location, Plan};
use crate::schedule::Rate;
use crate::simulator::SimulatorOptions;

/// The text that messages show instead of the name of a file.
pub(super) const ORIGIN: &str = "command line";

/// The options that a user can write after a URL on the command line.
#[derive(Clone, Debug, Default)]
pub struct UrlOptions {
    /// `--rate`: an open loop. The user must set exactly one of `--rate` and `--concurrency`.
    pub rate: Option<Rate>,
    /// `--concurrency`: a closed loop.
    pub concurrency: Option<NonZeroU32>,
    /// `--model`: the name of the model. Default: the only model that `/models` lists.
    pub model: Option<String>,
    /// `--api-key-env`: the name of the environment variable that contains the API key.
    pub api_key_env: Option<String>,
    /// `--for`: the length of the run. Default: the run has no end.
    pub length: Option<Duration>,
}

/// Returns a plan with one target and one scenario, both with the name `default`.
///
/// # Errors
/// The problems of the URL and the options.
pub fn plan_from_url(
    url: &str,
    options: &UrlOptions,
    env: Environment<'_>,
) -> Result<Plan, Invalid> {
    if options.rate.is_none() && options.concurrency.is_none() {
        let mistake =
            Mistake::new("the load is missing", "add --rate, such as --rate 5/s, or --concurrency");
        return Err(Invalid::about_file(ORIGIN, mistake));
    }
    if options.rate.is_some() && options.concurrency.is_some() {
        let mistake = Mistake::new("--rate and --concurrency exclude each other", "remove one");
        return Err(Invalid::about_file(ORIGIN, mistake));
    }
    let mut target = Map::from_iter([("base_url".to_owned(), json!(literal(url)))]);
    if let Some(model) = &options.model {
        target.insert("model".into(), json!(literal(model)));
    }
    if let Some(name) = &options.api_key_env {
        target.insert("api_key_env".into(), json!(literal(name)));
    }
    let length = HumanDuration(options.length.unwrap_or(Duration::from_hours(1)));
    let mut phase = Map::from_iter([("for".to_owned(), json!(length.to_string()))]);
    let mut document = Map::from_iter([("target".to_owned(), Value::Object(target))]);
    if let Some(rate) = options.rate {
        phase.insert("constant".into(), json!(rate.to_string()));
    }
    if let Some(level) = options.concurrency {
        phase.insert("concurrency".into(), json!(level));
        // A user who requests more concurrency than the default limit also wants a higher limit.
        if level.get() > super::validate::DEFAULT_MAX_CONCURRENCY {
            document.insert("max_concurrency".into(), json!(level));
        }
    }
    document.insert("schedule".into(), json!([phase]));
    if options.length.is_some() {
        document.insert("repeat".into(), json!(1));
    }
    read(document, env, |path| {
        Some(match path {
            "target" | "target.base_url" => "URL".into(),
            "target.model" => "--model".into(),
            "target.api_key_env" => "--api-key-env".into(),
            "schedule[0].constant" => "--rate".into(),
            "schedule[0].concurrency" | "max_concurrency" => "--concurrency".into(),
            "schedule[0].for" => "--for".into(),
            _ => return None,
        })
    })
}

/// Returns the settings of a simulator. `options` are pairs: a key of `simulator` in the file, and
/// the value as text. `faults` are pairs: a key of `simulator.faults`, and the percentage as text.
/// The option `seed` is the key `seed` at the top of the file.
///
/// # Errors
/// The problems of the options.
pub fn simulator_from_options(
    options: &[(&str, &str)],
    faults: &[(String, String)],
) -> Result<SimulatorOptions, Invalid> {
    let mut simulator = Map::new();
    let mut document = Map::from_iter([("rate".to_owned(), json!("1/s"))]);
    for (key, text) in options {
        match *key {
            "seed" => document.insert("seed".into(), scalar(text)),
            "model" | "loading" => simulator.insert((*key).to_owned(), json!(literal(text))),
            _ => simulator.insert((*key).to_owned(), scalar(text)),
        };
    }
    let mut shares = Map::new();
    for (name, share) in faults {
        if shares.insert(name.clone(), scalar(share)).is_some() {
            let message = format!("--fault {name}: the fault appears twice");
            return Err(Invalid::about_file(ORIGIN, Mistake::new(message, "write it once")));
        }
    }
    if !shares.is_empty() {
        simulator.insert("faults".into(), Value::Object(shares));
    }
    document.insert("target".into(), json!({ "simulator": simulator }));
    let plan = read(document, &|_| None, |path| {
        let key = path.strip_prefix("target.simulator.").unwrap_or(path);
        Some(match key.strip_prefix("faults") {
            Some(name) => format!("--fault {}", name.trim_start_matches('.')).trim_end().to_owned(),
            None => format!("--{}", key.replace('_', "-")),
        })
    })?;
    let location = plan.scenarios.first().map(|scenario| &scenario.target.location);
    if let Some(Location::Simulator(settings)) = location {
        return Ok(settings.clone());
    }
    let message = "the options gave no settings, which is a defect of llmload";
    Err(Invalid::about_file(ORIGIN, Mistake::without_remedy(message)))
}

/// Loads a document. `option` returns the name of the option for the path of a key, because
/// messages name the option.
pub(super) fn read(
    document: Map<String, Value>,
    env: Environment<'_>,
    option: impl Fn(&str) -> Option<String>,
) -> Result<Plan, Invalid> {
    let at_options = |problems: Vec<Problem>| -> Vec<Problem> {
        let at_option = |problem: Problem| {
            let path = option(&problem.path).unwrap_or(problem.path);
            Problem { line: 0, column: 0, path, ..problem }
        };
        problems.into_iter().map(at_option).collect()
    };
    let text = super::yaml::print(&Value::Object(document));
    match super::parse_with_warnings(&text, ORIGIN, None, env, Secrets::Required) {
        Ok((plan, warnings)) => {
            Ok(Plan { warnings: super::problem_lines(ORIGIN, &at_options(warnings)), ..plan })
        }
        Err(Invalid { file, problems, files }) => {
            Err(Invalid { file, problems: at_options(problems), files })
        }
    }
}

/// Converts a text to a number if possible, otherwise to a string.
pub(super) fn scalar(text: &str) -> Value {
    let text = text.trim();
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
    match (text.parse::<u64>(), number) {
        (Ok(count), _) => json!(count),
        (_, Some(number)) => json!(number),
        _ => json!(literal(text)),
    }
}

/// Escapes each `$`, so the loader substitutes no variables. The shell has already done that.
pub(super) fn literal(text: &str) -> String {
    text.replace('$', "$$")
}
