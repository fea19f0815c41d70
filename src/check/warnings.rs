//! Warnings about a valid plan whose measurements would be misleading. Each rule is about a mistake
//! that dashboards do not show.

pub mod budgets;
mod guards;
mod limits;
mod overlap;
mod rate_limits;

use super::forecast::{DAY, Forecast, PhaseForecast, ScenarioForecast, tokens_per_request};
use super::numbers::{count, rate, short_seconds};
use crate::buckets::Buckets;
use crate::config::HumanDuration;
use crate::plan::{Location, Plan, Scenario, Target};
pub use limits::{SystemLimits, little_memory};

/// llmload warns about a prompt that it sends this often per day. On an endpoint with little other
/// load, a prompt stays in the prefix cache if it repeats every hour.
const REPEATS_PER_DAY: f64 = 24.0;

/// llmload warns about prompts of at least this many tokens. The prefill of a shorter prompt is
/// fast even without a cache, and engines cache only complete blocks (vLLM: 16 tokens).
const SHORTEST_CACHED_PROMPT: f64 = 64.0;

/// A usual speed of one request on a busy endpoint, in output tokens per second.
const SLOW_TOKENS_PER_SECOND: f64 = 20.0;

/// Returns one text for each warning: the file, the scenario, the problem and the remedy.
pub fn find(file: &str, plan: &Plan, forecast: &Forecast, limits: SystemLimits) -> Vec<String> {
    let pairs = plan.scenarios.iter().zip(&forecast.scenarios);
    let of_scenarios = pairs.flat_map(|(scenario, one)| {
        let warnings = [
            few_prompts(scenario, one, forecast),
            low_cap(scenario, one),
            rare_phases(one),
            budgets::too_small(scenario),
            budgets::smaller_than_a_run(scenario, one, plan.shard),
            guards::idle_breaker(scenario, one),
        ];
        let texts = warnings.into_iter().flatten().chain(short_buckets(scenario, &plan.buckets));
        let texts = texts.chain(guards::limited_closed_loop(scenario, one));
        texts.map(|text| format!("scenario {}: {text}", scenario.name))
    });
    let of_plan = overlap::find(plan, forecast).into_iter();
    let of_plan = of_plan.chain(rate_limits::find(plan, forecast));
    let of_plan = of_plan.chain(limits::find(plan, forecast, limits));
    let of_plan = of_plan.chain(budgets::without_budget(plan, forecast));
    of_scenarios.chain(of_plan).map(|text| format!("{file}: {text}")).collect()
}

/// Returns the host and port of a target, or the name of a simulator. With `through_proxy`, the
/// proxy replaces a target that has one.
fn server_of(target: &Target, through_proxy: bool) -> String {
    let proxy = target.connection.proxy.as_ref().filter(|_| through_proxy).map(|proxy| &proxy.url);
    match (proxy, &target.location) {
        (Some(url), _) | (None, Location::Url(url)) => {
            let host = url.host_str().unwrap_or_default();
            format!("{host}:{}", url.port_or_known_default().unwrap_or_default())
        }
        (None, Location::Simulator(_)) => format!("the simulator {}", target.name),
    }
}

/// Warns about a phase that ends before its first request is due, on average.
fn rare_phases(forecast: &ScenarioForecast) -> Option<String> {
    let is_rare = |phase: &&PhaseForecast| {
        phase.rate_max > 0.0 && phase.closed_loop_slots == 0 && phase.requests < 1.0
    };
    let mut rare = forecast.phases.iter().filter(is_rare).filter(|_| !forecast.endless);
    let first = rare.next()?;
    let more = match rare.count() {
        0 => String::new(),
        #[allow(clippy::cast_precision_loss)]
        more => format!(" (and {} more phases are as short)", count(more as f64)),
    };
    Some(format!(
        "phase {} sends {} requests in one pass on average, so it sends none in most passes{more}; \
         make it longer, or raise its rate",
        first.name,
        count(first.requests)
    ))
}

/// Warns about a timeout above the last bound of its histogram. A time above this bound is in the
/// bucket `+Inf`, and a quantile of Prometheus never exceeds the bound.
fn short_buckets(scenario: &Scenario, buckets: &Buckets) -> Vec<String> {
    let streamed: &[&str] = &["time_to_first_token_seconds", "inter_chunk_latency_seconds"];
    let warnings = scenario.targets().flat_map(|target| {
        let timeouts = &target.timeouts;
        let pairs = [
            ("connect", timeouts.connect, "connect_duration_seconds"),
            ("first_token", timeouts.first_token, "time_to_first_token_seconds"),
            ("idle", timeouts.idle, "inter_chunk_latency_seconds"),
            ("total", timeouts.total, "request_duration_seconds"),
        ];
        pairs.into_iter().filter_map(|(key, timeout, histogram)| {
            let last = *buckets.bounds(histogram).last()?;
            let is_measured = scenario.request.stream || !streamed.contains(&histogram);
            if timeout.as_secs_f64() <= last || !is_measured {
                return None;
            }
            let (seconds, bound) = (timeout.as_secs_f64().ceil(), short_seconds(last));
            let timeout = HumanDuration(timeout);
            Some(format!(
                "target {}: `timeouts.{key}` ({timeout}) is above the last bucket of `{histogram}` \
                 ({bound}), so a dashboard shows longer times as {bound}; lower the timeout, or add \
                 bounds up to {} in `metrics.buckets`",
                target.name,
                count(seconds)
            ))
        })
    });
    warnings.collect()
}

#[allow(clippy::cast_precision_loss)]
fn few_prompts(
    scenario: &Scenario,
    scenario_forecast: &ScenarioForecast,
    forecast: &Forecast,
) -> Option<String> {
    // The simulator has no prefix cache.
    if matches!(scenario.target.location, Location::Simulator(_))
        || tokens_per_request(scenario, scenario_forecast).0 < SHORTEST_CACHED_PROMPT
    {
        return None;
    }
    if !scenario.prompts.can_hit_prefix_cache() {
        return None;
    }
    let parts = scenario.prompts.sources();
    // Synthetic prompts never repeat. For a mix, the warning names the source with the most
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

    use super::SystemLimits;
    use crate::check::FileCheck;

    fn warnings(text: &str) -> Vec<String> {
        let plan = crate::config::parse(text, "f.yml", None, &|_| None).unwrap();
        let checked =
            FileCheck::valid("f.yml", &plan, SystemTime::UNIX_EPOCH, SystemLimits::default(), &[]);
        checked.unwrap().warnings
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

    /// llmload sends the only prompt of `one` three times as often as all hundred prompts of
    /// `many`.
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
    fn a_timeout_above_the_last_bucket_causes_a_warning() {
        let with = |timeouts: &str, more: &str| {
            warnings(&format!(
                "target: {{simulator: {{}}, timeouts: {{{timeouts}}}}}\nrate: 1/h\n\
                 request: {{max_tokens: 1{more}}}"
            ))
        };
        assert_eq!(with("first_token: 90s, idle: 80s, total: 20m, connect: 10s", ""), [""; 0]);
        let expected = "f.yml: scenario default: target default: `timeouts.first_token` (3m) is \
                        above the last bucket of `time_to_first_token_seconds` (90 s), so a \
                        dashboard shows longer times as 90 s; lower the timeout, or add bounds up \
                        to 180 in `metrics.buckets`";
        assert_eq!(with("first_token: 3m", ""), [expected]);
        assert_eq!(with("first_token: 3m, idle: 3m", ", stream: false"), [""; 0]);
        let many = with("first_token: 91s, idle: 81s, total: 21m, connect: 11s", "");
        assert_eq!(many.len(), 4, "{many:?}");
    }

    #[test]
    fn a_phase_of_less_than_one_arrival_causes_a_warning() {
        let phases = |phases: &str| {
            warnings(&format!("target: {{simulator: {{}}}}\nschedule: [{phases}]\nmax_lag: 1h"))
        };
        assert_eq!(phases("{constant: 1/s, for: 1s}, {pause: 1s}"), [""; 0]);
        let [warning] = &phases(
            "{name: a, constant: 0.1/s, for: 3s}, {constant: 1/h, for: 1s}, {constant: 1/s, for: 1m}",
        )[..] else {
            panic!()
        };
        let expected = "f.yml: scenario default: phase a sends 0.30 requests in one pass on average, \
                        so it sends none in most passes (and 1 more phases are as short); make it";
        assert!(warning.starts_with(expected), "{warning}");
        assert_eq!(warnings("target: {simulator: {}}\nrate: 1/h"), [""; 0], "it never ends");
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
