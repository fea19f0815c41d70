//! Warnings about a valid plan whose measurements would be misleading.
//!
//! There are few rules. Each rule is about a mistake that dashboards do not show.

use super::forecast::{DAY, Forecast, ScenarioForecast, tokens_per_request};
use super::numbers::{count, rate, short_seconds};
use crate::plan::{Location, Plan, Scenario};

/// llmload warns about a prompt that it sends this often per day. A prompt that is repeated at
/// least once an hour stays in the prefix cache of an endpoint with little other load.
const REPEATS_PER_DAY: f64 = 24.0;

/// llmload warns about prompts of at least this many tokens. The prefill of a shorter prompt takes
/// a few milliseconds, with or without a cache. Also, engines cache only complete blocks (vLLM: 16
/// tokens).
const SHORTEST_CACHED_PROMPT: f64 = 64.0;

/// A usual speed of one request on a busy endpoint, in output tokens per second.
const SLOW_TOKENS_PER_SECOND: f64 = 20.0;

/// Returns one text per warning, with the file, the scenario, the problem and the remedy.
pub fn find(file: &str, plan: &Plan, forecast: &Forecast) -> Vec<String> {
    let pairs = plan.scenarios.iter().zip(&forecast.scenarios);
    let warnings = pairs.flat_map(|(scenario, one)| {
        let warnings = [few_prompts(scenario, one, forecast), low_cap(scenario, one)];
        let texts = warnings.into_iter().flatten();
        texts.map(|text| format!("{file}: scenario {}: {text}", scenario.name))
    });
    warnings.collect()
}

#[allow(clippy::cast_precision_loss)]
fn few_prompts(
    scenario: &Scenario,
    scenario_forecast: &ScenarioForecast,
    forecast: &Forecast,
) -> Option<String> {
    // The built-in simulator has no prefix cache.
    if matches!(scenario.target.location, Location::Simulator(_))
        || tokens_per_request(scenario, scenario_forecast).0 < SHORTEST_CACHED_PROMPT
    {
        return None;
    }
    if !scenario.prompts.can_hit_prefix_cache() {
        return None;
    }
    let parts = scenario.prompts.sources();
    // Synthetic prompts are never repeated. In a mix, the warning is about the source with the most
    // repeats.
    let repeated = parts.iter().filter_map(|(source, share, distinct)| {
        let distinct = (*distinct)?;
        Some((*source, distinct, scenario_forecast.amounts.requests * share / distinct as f64))
    });
    let (source, distinct, each) = repeated.max_by(|(.., a), (.., b)| a.total_cmp(b))?;
    if each < REPEATS_PER_DAY {
        return None;
    }
    let period = if forecast.span < DAY { "" } else { " per day" };
    let of = if parts.len() > 1 { format!(" of `{source}`") } else { String::new() };
    let which = match distinct {
        1 => format!("the only prompt{of}"),
        many => format!("each of the {many} prompts{of}"),
    };
    let each = count(each);
    Some(format!(
        "{which} is sent {each} times{period}, so TTFT probably measures the endpoint's prefix cache \
         (compare llmload_cached_input_tokens_total); add prompts or set `prefix_cache: cold`, unless \
         this is intended"
    ))
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn low_cap(scenario: &Scenario, forecast: &ScenarioForecast) -> Option<String> {
    let fill = forecast.in_flight.seconds_to_fill?;
    let (_, tokens) = tokens_per_request(scenario, forecast);
    let slow =
        (tokens / SLOW_TOKENS_PER_SECOND).min(forecast.in_flight.longest_request.as_secs_f64());
    if fill >= slow {
        return None;
    }
    let (peak, cap) = (rate(forecast.peak_rate), count(scenario.max_concurrency.get().into()));
    let (fill, tokens, time) = (short_seconds(fill), count(tokens), short_seconds(slow));
    let needed = (forecast.peak_rate * slow).ceil() as u64;
    Some(format!(
        "max_concurrency {cap} is low: at {peak}, this limit is reached if responses take {fill}, and \
         llmload then drops further arrivals ({tokens} tokens take {time} at \
         {SLOW_TOKENS_PER_SECOND} tokens/s); set max_concurrency to at least {needed}, or lower the \
         rate"
    ))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use crate::check::FileCheck;

    fn warnings(text: &str) -> Vec<String> {
        let plan = crate::config::parse(text, "f.yml", None, &|_| None).unwrap();
        FileCheck::valid("f.yml", &plan, SystemTime::UNIX_EPOCH).unwrap().warnings
    }

    fn long_prompts(number: usize) -> String {
        let prompts: Vec<String> = (0..number).map(|n| format!("\'{n:0256}\'")).collect();
        format!("prompts: [{}]\nrequest: {{max_tokens: 1}}\ntarget: ", prompts.join(", "))
    }

    #[test]
    fn repeated_prompts_of_cacheable_length_cause_a_warning() {
        let many = long_prompts(10);
        let [warning] = &warnings(&format!("{many}http://localhost:1/v1\nrate: 10/h"))[..] else {
            panic!()
        };
        let expected = "f.yml: scenario default: each of the 10 prompts is sent 24 times per day, so \
                        TTFT probably measures the endpoint's prefix cache";
        assert!(warning.starts_with(expected), "{warning}");
        assert_eq!(
            warnings(&format!("{many}http://localhost:1/v1\nrate: 9.9/h")),
            [""; 0],
            "too rare"
        );
        assert_eq!(
            warnings(&format!("{many}{{simulator: {{}}}}\nrate: 10/s")),
            [""; 0],
            "the simulator has no cache"
        );
        let short =
            "prompts: [Hi]\nrequest: {max_tokens: 1}\ntarget: http://localhost:1/v1\nrate: 1/s";
        assert_eq!(warnings(short), [""; 0], "too short to be cached");
        let once = format!(
            "{many}http://localhost:1/v1\nrepeat: 1\nschedule: [{{constant: 5/s, for: 1m}}]"
        );
        assert!(warnings(&once)[0].contains("is sent 30 times, so TTFT"), "{:?}", warnings(&once));
    }

    /// The only prompt of `one` is sent three times as often as the hundred prompts of `many`
    /// together.
    #[test]
    fn a_warning_about_a_mix_names_the_most_repeated_source() {
        let text = |number: usize| {
            (0..number).map(|n| format!("'{n:0256}'")).collect::<Vec<_>>().join(", ")
        };
        let mix = format!(
            "targets: {{t: {{base_url: 'http://localhost:1/v1'}}}}\nscenarios: {{s: {{prompts: all, rate: 40/h, \
             request: {{max_tokens: 1}}}}}}\nprompts: {{one: [{}], many: [{}], all: {{mix: {{one: 3, many: 1}}}}}}",
            text(1),
            text(100)
        );
        let all = warnings(&mix);
        assert!(
            all[0].starts_with(
                "f.yml: scenario s: the only prompt of `one` is sent 720 times per day,"
            ),
            "{all:?}"
        );
    }

    #[test]
    fn a_low_max_concurrency_causes_a_warning() {
        let cap = |max_tokens: u32, cap: u32, more: &str| {
            warnings(&format!(
                "target: {{simulator: {{}}{more}}}\nrate: 10/s\nrequest: {{max_tokens: {max_tokens}}}\n\
                 max_concurrency: {cap}"
            ))
        };
        assert_eq!(cap(200, 100, ""), [""; 0]);
        let expected = "f.yml: scenario default: max_concurrency 99 is low: at 10/s, this limit is \
                        reached if responses take 9.9 s, and llmload then drops further arrivals \
                        (200 tokens take 10 s at 20 tokens/s); set max_concurrency to at least \
                        100, or lower the rate";
        assert_eq!(cap(200, 99, ""), [expected]);
        assert_eq!(
            cap(200, 99, ", timeouts: {total: 9s}"),
            [""; 0],
            "the timeout ends the requests earlier"
        );
    }
}
