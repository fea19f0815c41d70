//! Makes a search for the capacity of a target from the options of a command line.
//!
//! As in `command_line`, the options become a document, so they have the same checks as the keys of
//! a file.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::command_line::{ORIGIN, literal, read, scalar};
use super::duration::{HumanDuration, read_duration};
use super::tree::excerpt;
use super::{Environment, Invalid, Mistake};
use crate::plan::Plan;
use crate::slo::LatencyMetric;

/// The kind of the levels of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SearchBy {
    Rate,
    Concurrency,
}

/// The options of a search.
#[derive(Clone, Debug)]
pub struct SearchOptions {
    pub by: SearchBy,
    /// `--slo`: the objectives, such as `ttft p99<1s, success>99%`.
    pub slo: Option<String>,
    /// `--from`: the lowest level.
    pub from: Option<String>,
    /// `--to`: the highest level.
    pub to: Option<String>,
    /// `--resolution`
    pub resolution: Option<String>,
    /// `--for`: the shortest time of a step.
    pub step: Duration,
    /// `--model`
    pub model: Option<String>,
    /// `--api-key-env`
    pub api_key_env: Option<String>,
}

/// Returns a plan whose only phase is a search. It has one target and one scenario, both with the
/// name `default`. Without `--slo`, the search has an objective that every target meets.
///
/// # Errors
/// The problems of the URL and the options.
pub fn search_from_options(
    url: &str,
    options: &SearchOptions,
    env: Environment<'_>,
) -> Result<Plan, Invalid> {
    let mut target = Map::from_iter([("base_url".to_owned(), json!(literal(url)))]);
    if let Some(model) = &options.model {
        target.insert("model".into(), json!(literal(model)));
    }
    if let Some(name) = &options.api_key_env {
        target.insert("api_key_env".into(), json!(literal(name)));
    }
    let slo = match &options.slo {
        Some(text) => objectives(text).map_err(|mistake| {
            let message = format!("--slo: {}", mistake.message);
            Invalid::about_file(ORIGIN, Mistake { message, ..mistake })
        })?,
        None => Map::from_iter([("success_rate".to_owned(), json!("1%"))]),
    };
    let mut document = Map::from_iter([
        ("target".to_owned(), Value::Object(target)),
        ("slo".to_owned(), Value::Object(slo)),
        ("repeat".to_owned(), json!(1)),
    ]);
    let (key, from, to) = match options.by {
        SearchBy::Rate => ("rate", "1/s", "200/s"),
        SearchBy::Concurrency => ("concurrency", "1", "256"),
    };
    let level = |text: &Option<String>, default: &str| scalar(text.as_deref().unwrap_or(default));
    let (from, to) = (level(&options.from, from), level(&options.to, to));
    // A user who searches at a higher concurrency than the default limit also wants a higher limit.
    if options.by == SearchBy::Concurrency && to.as_u64().is_some_and(|to| to > 256) {
        document.insert("max_concurrency".into(), to.clone());
    }
    let mut search = Map::from_iter([(key.to_owned(), json!({ "from": from, "to": to }))]);
    if let Some(resolution) = &options.resolution {
        search.insert("resolution".into(), json!(literal(resolution)));
    }
    let step = HumanDuration(options.step).to_string();
    document.insert("schedule".into(), json!([{ "search": search, "for": step }]));
    read(document, env, |path| {
        let phase = path.strip_prefix("schedule[0].");
        Some(match (path, phase) {
            ("target" | "target.base_url", _) => "URL".into(),
            ("target.model", _) => "--model".into(),
            ("target.api_key_env", _) => "--api-key-env".into(),
            (_, Some("for")) => "--for".into(),
            (_, Some("search.resolution")) => "--resolution".into(),
            (_, Some("search.rate.from" | "search.concurrency.from")) => "--from".into(),
            ("max_concurrency", _) | (_, Some("search.rate.to" | "search.concurrency.to")) => {
                "--to".into()
            }
            (slo, _) if slo.starts_with("slo") => "--slo".into(),
            _ => return None,
        })
    })
}

/// Reads objectives such as `ttft p99<1s, success>99%`, and returns the value of the key `slo`.
fn objectives(text: &str) -> Result<Map<String, Value>, Mistake> {
    let mut slo: Map<String, Value> = Map::new();
    for part in text.split(',') {
        let Objective { measure, percentile, value } = objective(part)?;
        let duplicate = || {
            Mistake::new(
                format!("`{}` appears twice", excerpt(part.trim())),
                "write each measure and percentile once",
            )
        };
        let Some(percentile) = percentile else {
            if slo.insert(measure.to_owned(), value).is_some() {
                return Err(duplicate());
            }
            continue;
        };
        let thresholds = slo.entry(measure).or_insert_with(|| json!({}));
        let Some(thresholds) = thresholds.as_object_mut() else { return Err(duplicate()) };
        if thresholds.insert(percentile, value).is_some() {
            return Err(duplicate());
        }
    }
    Ok(slo)
}

struct Objective {
    /// The key of the measure in a file.
    measure: &'static str,
    /// `p99`; `None` for the success rate.
    percentile: Option<String>,
    value: Value,
}

fn objective(text: &str) -> Result<Objective, Mistake> {
    const FORM: &str = "write objectives such as `ttft p99<1s, success>99%`";
    let text = text.trim();
    let shown = excerpt(text);
    let Some(at) = text.find(['<', '>', '≤', '≥']) else {
        return Err(Mistake::new(format!("`{shown}` is not an objective"), FORM));
    };
    let (name, rest) = text.split_at(at);
    let mut after = rest.chars();
    let sign = after.next();
    let is_upper_limit = matches!(sign, Some('<' | '≤'));
    let value = after.as_str();
    let value = value.strip_prefix('=').unwrap_or(value).trim();
    let mut words = name.split_whitespace();
    let (measure, percentile, more) = (words.next(), words.next(), words.next());
    let key = match measure {
        Some("success" | "success_rate") => "success_rate",
        Some("latency" | "duration") => LatencyMetric::E2eLatency.as_str(),
        Some(name) => {
            let known = LatencyMetric::ALL.into_iter().find(|metric| metric.as_str() == name);
            let unknown = || {
                Mistake::new(
                    format!("`{}` is not a measure", excerpt(name)),
                    "write one of `ttft`, `tpot`, `e2e_latency` and `success`",
                )
            };
            known.ok_or_else(unknown)?.as_str()
        }
        None => return Err(Mistake::new(format!("`{shown}` has no measure"), FORM)),
    };
    if more.is_some() {
        return Err(Mistake::new(format!("`{shown}` is not an objective"), FORM));
    }
    if key == "success_rate" {
        if percentile.is_some() {
            let remedy = "remove the percentile, as in `success>99%`";
            return Err(Mistake::new(
                format!("`{shown}`: a success rate has no percentile"),
                remedy,
            ));
        }
        if is_upper_limit {
            let remedy = "write a lower limit, such as `success>99%`";
            return Err(Mistake::new(format!("`{shown}` limits the success rate upwards"), remedy));
        }
        return Ok(Objective { measure: key, percentile: None, value: scalar(value) });
    }
    let Some(percentile) = percentile else {
        return Err(Mistake::new(
            format!("`{shown}` has no percentile"),
            format!("write the percentile of the requests, such as `{key} p99<1s`"),
        ));
    };
    if !is_upper_limit {
        let remedy = format!("write an upper limit, such as `{key} {percentile}<1s`");
        return Err(Mistake::new(format!("`{shown}` limits a latency downwards"), remedy));
    }
    // An error of the duration names the option with the complete text.
    read_duration(value)?;
    Ok(Objective {
        measure: key,
        percentile: Some(percentile.to_owned()),
        value: json!(literal(value)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objectives_are_read_as_people_write_them() {
        let read = |text| Value::Object(objectives(text).unwrap());
        let both = json!({"ttft": {"p99": "1s"}, "success_rate": "99%"});
        assert_eq!(read("ttft p99<1s, success>99%"), both);
        assert_eq!(read("ttft p99 <= 1s,success_rate >= 99%"), both);
        assert_eq!(read("ttft p99 ≤ 1s, success ≥ 99%"), both);
        let several = json!({"ttft": {"p50": "300ms", "p99": "1s"}, "e2e_latency": {"p95": "30s"}});
        assert_eq!(read("ttft p50<300ms, ttft p99<1s, latency p95<30s"), several);
    }

    #[test]
    fn a_mistake_in_the_objectives_is_named_with_its_remedy() {
        for (text, expected) in [
            ("ttft", "is not an objective"),
            ("ttft<1s", "has no percentile"),
            ("ttft p99>1s", "limits a latency downwards"),
            ("success<1%", "limits the success rate upwards"),
            ("success p99>1%", "has no percentile"),
            ("speed p99<1s", "is not a measure"),
            ("ttft p99<1", "is not a duration"),
            ("ttft p99<1s, ttft p99<2s", "appears twice"),
            ("<1s", "has no measure"),
            ("ttft p99 of all<1s", "is not an objective"),
            ("", "is not an objective"),
        ] {
            let mistake = objectives(text).unwrap_err().to_string();
            assert!(mistake.contains(expected), "{text}: {mistake}");
        }
    }
}
