//! The command line's form: a URL and a rate instead of a file.
//!
//! It writes the very file that a user could have written and reads that, so that both ways mean
//! the same and are checked by the same rules; only the places of problems become options.

use std::num::NonZeroU32;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::Invalid;
use super::duration::Spelled;
use crate::plan::Plan;
use crate::schedule::Rate;

/// What stands beside the URL on a command line.
#[derive(Clone, Debug, Default)]
pub struct QuickOptions {
    /// `--rate`: an open loop. Either this or `concurrency` has to be there.
    pub rate: Option<Rate>,
    /// `--concurrency`: a closed loop.
    pub concurrency: Option<NonZeroU32>,
    /// `--model`; the only one that `/models` lists where it is left out.
    pub model: Option<String>,
    /// `--for`: nothing is sent after this long; without it, the load goes on for ever.
    pub length: Option<Duration>,
}

/// A plan of one target and one scenario, both named `default`.
///
/// # Errors
/// What is wrong with the URL or the options.
pub fn from_url(url: &str, options: &QuickOptions) -> Result<Plan, Invalid> {
    const ORIGIN: &str = "command line";
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
    let length = Spelled(options.length.unwrap_or(Duration::from_hours(1)));
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

    let text = super::yaml::print(&Value::Object(document));
    super::parse(&text, ORIGIN, None, &|_| None).map_err(|mut invalid| {
        for problem in &mut invalid.problems {
            (problem.line, problem.column) = (0, 0);
            problem.path = match problem.path.as_str() {
                "target" | "target.base_url" => "URL".into(),
                "target.model" => "--model".into(),
                "schedule[0].constant" => "--rate".into(),
                "schedule[0].concurrency" | "max_concurrency" => "--concurrency".into(),
                "schedule[0].for" => "--for".into(),
                _ => std::mem::take(&mut problem.path),
            };
        }
        invalid
    })
}

/// The shell has filled its variables already.
fn literal(text: &str) -> String {
    text.replace('$', "$$")
}
