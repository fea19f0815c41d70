//! What is allowed, and what its author will regret after a week: said before anything is sent.
//!
//! Few rules, each for something that spoils the figures and is not seen on a dashboard.

use super::forecast::{DAY, Forecast, Stream, tokens_each};
use super::numbers::{count, rate, short_seconds};
use crate::plan::{Location, Plan, Scenario};

/// A prompt that comes back more often than once an hour is still in the prefix cache of an endpoint
/// with little else to do.
const REPEATS_A_DAY: f64 = 24.0;

/// Below so many tokens a prompt is read in a few milliseconds, cached or not, and engines cache whole
/// blocks only (vLLM: of 16 tokens).
const WORTH_CACHING: f64 = 64.0;

/// Tokens per second that a request of a busy endpoint still gets. An answer at this speed is nothing
/// unusual.
const SLOW_TOKENS_PER_SECOND: f64 = 20.0;

/// Lines for a terminal or a log, each naming its scenario and, after a semicolon, the remedy.
pub fn regrets(file: &str, plan: &Plan, forecast: &Forecast) -> Vec<String> {
    let pairs = plan.scenarios.iter().zip(&forecast.scenarios);
    let found = pairs.flat_map(|(scenario, stream)| {
        let found = [few_prompts(scenario, stream, forecast), low_cap(scenario, stream)];
        found.into_iter().flatten().map(|text| format!("{file}: scenario {}: {text}", scenario.name))
    });
    found.collect()
}

#[allow(clippy::cast_precision_loss)]
fn few_prompts(scenario: &Scenario, stream: &Stream, forecast: &Forecast) -> Option<String> {
    // The built-in one has no cache.
    if matches!(scenario.target.location, Location::Simulator(_))
        || tokens_each(scenario, stream).0 < WORTH_CACHING
    {
        return None;
    }
    // What is made up is new each time, and so is what opens with a nonce.
    let distinct = scenario.prompts.len().filter(|_| scenario.prompts.is_warm())?;
    let each = stream.amounts.requests / distinct as f64;
    if each < REPEATS_A_DAY {
        return None;
    }
    let when = if forecast.span < DAY { "" } else { " a day" };
    let which = match distinct {
        1 => "the only prompt".to_owned(),
        many => format!("each of the {many} prompts"),
    };
    Some(format!(
        "{which} is sent {} times{when}, so TTFT measures the endpoint's prefix cache; write more prompts or \
         `prefix_cache: cold`, or read it as that of a warm cache (llmload_cached_input_tokens_total tells how much was cached)",
        count(each)
    ))
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn low_cap(scenario: &Scenario, stream: &Stream) -> Option<String> {
    let fill = stream.in_flight.seconds_to_fill?;
    let (_, tokens) = tokens_each(scenario, stream);
    let slow = (tokens / SLOW_TOKENS_PER_SECOND).min(stream.in_flight.longest_request.as_secs_f64());
    if fill >= slow {
        return None;
    }
    Some(format!(
        "at {} the {} places in flight are taken as soon as answers take {}, and what comes then is dropped ({} tokens \
         take {} at {SLOW_TOKENS_PER_SECOND} a second); write at least {}, or a lower rate",
        rate(stream.peak_rate),
        count(f64::from(scenario.max_concurrency.get())),
        short_seconds(fill),
        count(tokens),
        short_seconds(slow),
        (stream.peak_rate * slow).ceil() as u64
    ))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use crate::check::Checked;

    fn warnings(text: &str) -> Vec<String> {
        let plan = crate::config::parse(text, "f.yml", None, &|_| None).unwrap();
        Checked::plan("f.yml", &plan, SystemTime::UNIX_EPOCH).unwrap().warnings
    }

    fn long_prompts(number: usize) -> String {
        let prompts: Vec<String> = (0..number).map(|n| format!("\'{n:0256}\'")).collect();
        format!("prompts: [{}]\nrequest: {{max_tokens: 1}}\ntarget: ", prompts.join(", "))
    }

    #[test]
    fn prompts_that_are_repeated_are_regretted_where_a_cache_would_keep_them() {
        let many = long_prompts(10);
        let [warning] = &warnings(&format!("{many}http://localhost:1/v1\nrate: 10/h"))[..] else { panic!() };
        let expected = "f.yml: scenario default: each of the 10 prompts is sent 24 times a day, so TTFT measures \
                        the endpoint's prefix cache; write more prompts or `prefix_cache: cold`, or ";
        assert!(warning.starts_with(expected), "{warning}");
        assert_eq!(warnings(&format!("{many}http://localhost:1/v1\nrate: 9.9/h")), [""; 0], "too seldom");
        assert_eq!(warnings(&format!("{many}{{simulator: {{}}}}\nrate: 10/s")), [""; 0], "it has no cache");
        let short = "prompts: [Hi]\nrequest: {max_tokens: 1}\ntarget: http://localhost:1/v1\nrate: 1/s";
        assert_eq!(warnings(short), [""; 0], "too short to be cached");
        let once = format!("{many}http://localhost:1/v1\nrepeat: 1\nschedule: [{{constant: 5/s, for: 1m}}]");
        assert!(warnings(&once)[0].contains("is sent 30 times, so TTFT"), "{:?}", warnings(&once));
    }

    #[test]
    fn a_cap_is_regretted_that_slow_answers_fill() {
        let cap = |max_tokens: u32, cap: u32, more: &str| {
            warnings(&format!(
                "target: {{simulator: {{}}{more}}}\nrate: 10/s\nrequest: {{max_tokens: {max_tokens}}}\n\
                 max_concurrency: {cap}"
            ))
        };
        assert_eq!(cap(200, 100, ""), [""; 0]);
        let expected = "f.yml: scenario default: at 10/s the 99 places in flight are taken as soon as answers take \
                        9.9 s, and what comes then is dropped (200 tokens take 10 s at 20 a second); write at least \
                        100, or a lower rate";
        assert_eq!(cap(200, 99, ""), [expected]);
        assert_eq!(cap(200, 99, ", timeouts: {total: 9s}"), [""; 0], "they are cut off before");
    }
}
