//! What is allowed, and what its author will regret after a week: said before anything is sent.
//!
//! Few rules, each for something that spoils the figures and is not seen on a dashboard.

use super::forecast::{DAY, Forecast, Stream, tokens_each};
use super::numbers::{count, rate, short_seconds};
use crate::plan::{Location, Plan, Scenario};

/// A prompt that comes back at least once an hour is still in the prefix cache of an endpoint with little
/// else to do.
const REPEATS_A_DAY: f64 = 24.0;

/// Below so many tokens a prompt is read in a few milliseconds, cached or not, and engines cache whole
/// blocks only (vLLM: of 16 tokens).
const WORTH_CACHING: f64 = 64.0;

/// Tokens per second that a request of a busy endpoint still gets. An answer at this speed is nothing
/// unusual.
const SLOW_TOKENS_PER_SECOND: f64 = 20.0;

/// Lines for a terminal or a log, each naming its scenario and, after a semicolon, the remedy.
pub fn warnings(file: &str, plan: &Plan, forecast: &Forecast) -> Vec<String> {
    let pairs = plan.scenarios.iter().zip(&forecast.scenarios);
    let found = pairs.flat_map(|(scenario, stream)| {
        let found = [few_prompts(scenario, stream, forecast), low_cap(scenario, stream)];
        found
            .into_iter()
            .flatten()
            .map(|text| format!("{file}: scenario {}: {text}", scenario.name))
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
    if !scenario.prompts.can_hit_prefix_cache() {
        return None;
    }
    let parts = scenario.prompts.sources();
    // What is made up is new each time. Of a mix the source counts whose prompts come most often.
    let repeated = parts.iter().filter_map(|(source, share, distinct)| {
        let distinct = (*distinct)?;
        Some((*source, distinct, stream.amounts.requests * share / distinct as f64))
    });
    let (source, distinct, each) = repeated.max_by(|(.., a), (.., b)| a.total_cmp(b))?;
    if each < REPEATS_A_DAY {
        return None;
    }
    let when = if forecast.span < DAY { "" } else { " a day" };
    let of = if parts.len() > 1 { format!(" of `{source}`") } else { String::new() };
    let which = match distinct {
        1 => format!("the only prompt{of}"),
        many => format!("each of the {many} prompts{of}"),
    };
    Some(format!(
        "{which} is sent {} times{when}, and from {} times a day on an endpoint that keeps prefixes has read it \
         before: TTFT is that of its cache (llmload_cached_input_tokens_total tells how much was); write more \
         prompts or `prefix_cache: cold`, unless that is what is meant",
        count(each),
        count(REPEATS_A_DAY)
    ))
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn low_cap(scenario: &Scenario, stream: &Stream) -> Option<String> {
    let fill = stream.in_flight.seconds_to_fill?;
    let (_, tokens) = tokens_each(scenario, stream);
    let slow =
        (tokens / SLOW_TOKENS_PER_SECOND).min(stream.in_flight.longest_request.as_secs_f64());
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
        let [warning] = &warnings(&format!("{many}http://localhost:1/v1\nrate: 10/h"))[..] else {
            panic!()
        };
        let expected = "f.yml: scenario default: each of the 10 prompts is sent 24 times a day, and from 24 times a day \
                        on an endpoint that keeps prefixes has read it before: TTFT is that of its cache";
        assert!(warning.starts_with(expected), "{warning}");
        assert_eq!(
            warnings(&format!("{many}http://localhost:1/v1\nrate: 9.9/h")),
            [""; 0],
            "too seldom"
        );
        assert_eq!(
            warnings(&format!("{many}{{simulator: {{}}}}\nrate: 10/s")),
            [""; 0],
            "it has no cache"
        );
        let short =
            "prompts: [Hi]\nrequest: {max_tokens: 1}\ntarget: http://localhost:1/v1\nrate: 1/s";
        assert_eq!(warnings(short), [""; 0], "too short to be cached");
        let once = format!(
            "{many}http://localhost:1/v1\nrepeat: 1\nschedule: [{{constant: 5/s, for: 1m}}]"
        );
        assert!(
            warnings(&once)[0].contains("is sent 30 times, and from 24 times a day on"),
            "{:?}",
            warnings(&once)
        );
    }

    /// The one prompt of `one` comes thrice as often as all of the hundred others together.
    #[test]
    fn of_a_mix_the_source_is_named_whose_prompts_come_most_often() {
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
                "f.yml: scenario s: the only prompt of `one` is sent 720 times a day,"
            ),
            "{all:?}"
        );
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
