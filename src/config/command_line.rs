//! What a command line says instead of a file: a URL and a rate, or a simulator's settings.
//!
//! It becomes the very file that a user could have written, and that is read, so that both ways mean
//! the same and are checked by the same rules; only the places of problems become options.

use std::num::NonZeroU32;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::duration::HumanDuration;
use super::{Invalid, Problem};
use crate::plan::{Location, Plan};
use crate::schedule::Rate;
use crate::simulator::SimulatorOptions;

/// Where problems are, in place of a file's name.
const ORIGIN: &str = "command line";

/// What stands beside the URL on a command line.
#[derive(Clone, Debug, Default)]
pub struct UrlOptions {
    /// `--rate`: an open loop. Either this or `concurrency` has to be there.
    pub rate: Option<Rate>,
    /// `--concurrency`: a closed loop.
    pub concurrency: Option<NonZeroU32>,
    /// `--model`; the only one that `/models` lists where it is left out.
    pub model: Option<String>,
    /// `--api-key-env`: the variable that holds the key.
    pub api_key_env: Option<String>,
    /// `--for`: nothing is sent after this long; without it, the load goes on for ever.
    pub length: Option<Duration>,
}

/// A plan of one target and one scenario, both named `default`.
///
/// # Errors
/// What is wrong with the URL or the options.
pub fn plan_from_url(
    url: &str,
    options: &UrlOptions,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Plan, Invalid> {
    if options.rate.is_none() && options.concurrency.is_none() {
        return Err(Invalid::whole(
            ORIGIN,
            "the load is missing; give --rate, such as --rate 5/s, or --concurrency",
        ));
    }
    if options.rate.is_some() && options.concurrency.is_some() {
        return Err(Invalid::whole(ORIGIN, "--rate beside --concurrency; give only one of them"));
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
        // Whoever asks for more than the cap by name means it.
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

/// A simulator's settings from options: keys of `simulator` in the file with what was written for
/// them, and likewise the faults by name. The key `seed` is the seed of the file.
///
/// # Errors
/// What is wrong with the options.
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
            return Err(Invalid::whole(
                ORIGIN,
                &format!("--fault {name}: given twice; give it once"),
            ));
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
    match plan.scenarios.first().map(|scenario| &scenario.target.location) {
        Some(Location::Simulator(settings)) => Ok(settings.clone()),
        _ => Err(Invalid::whole(
            ORIGIN,
            "no settings came out of the options; this is a defect of llmload",
        )),
    }
}

/// Reads a document. What is wrong or doubtful stands at an option, where a path means one.
fn read(
    document: Map<String, Value>,
    env: &dyn Fn(&str) -> Option<String>,
    option: impl Fn(&str) -> Option<String>,
) -> Result<Plan, Invalid> {
    let moved = |problems: Vec<Problem>| -> Vec<Problem> {
        let there = |problem: Problem| {
            let path = option(&problem.path).unwrap_or(problem.path);
            Problem { line: 0, column: 0, path, ..problem }
        };
        problems.into_iter().map(there).collect()
    };
    let text = super::yaml::print(&Value::Object(document));
    match super::parse_with_warnings(&text, ORIGIN, None, env) {
        Ok((plan, warnings)) => {
            Ok(Plan { warnings: super::lines(ORIGIN, &moved(warnings)), ..plan })
        }
        Err(Invalid { file, problems, files }) => {
            Err(Invalid { file, problems: moved(problems), files })
        }
    }
}

/// A number where it is one, as YAML would have read it.
fn scalar(text: &str) -> Value {
    let text = text.trim();
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
    match (text.parse::<u64>(), number) {
        (Ok(count), _) => json!(count),
        (_, Some(number)) => json!(number),
        _ => json!(literal(text)),
    }
}

/// The shell has filled its variables already.
fn literal(text: &str) -> String {
    text.replace('$', "$$")
}
