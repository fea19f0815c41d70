//! Warnings about guards that have no effect, or that replace the result of a scenario.

use crate::check::forecast::{PhaseForecast, ScenarioForecast, tokens_per_request};
use crate::check::numbers::{count, rate, short_seconds};
use crate::config::HumanDuration;
use crate::plan::{RateLimits, Scenario};

/// A usual speed of one request on an idle endpoint, in output tokens per second.
const FAST_TOKENS_PER_SECOND: f64 = 200.0;

/// Warns about a breaker that no phase can open by its failures.
pub(super) fn idle_breaker(scenario: &Scenario, forecast: &ScenarioForecast) -> Option<String> {
    let breaker = scenario.breaker?;
    let pairs = std::iter::zip(&forecast.phases, scenario.phases.iter());
    let judged: Vec<&PhaseForecast> =
        pairs.filter(|(_, phase)| !phase.is_level).map(|(forecast, _)| forecast).collect();
    if judged.is_empty() {
        return Some(
            "`breaker` has no effect, because it ignores a search and phases with several levels; \
             remove `breaker`"
                .to_owned(),
        );
    }
    // The response times decide how many requests a closed loop sends.
    if judged.iter().any(|phase| phase.closed_loop_slots > 0) {
        return None;
    }
    let peak = judged.iter().map(|phase| phase.rate_max).fold(0.0, f64::max);
    let most = peak * breaker.over.as_secs_f64();
    // A rate is rounded, so an equal number can seem too small.
    if most * 1.000_1 >= f64::from(breaker.at_least.get()) {
        return None;
    }
    let (over, at_least) = (HumanDuration(breaker.over), count(f64::from(breaker.at_least.get())));
    Some(format!(
        "`breaker` judges at least {at_least} requests in {over}, but at {} there are only {}, so it \
         opens only for the classes `auth` and `quota`; raise `breaker.over`, or lower \
         `breaker.at_least`",
        rate(peak),
        count(most)
    ))
}

/// Warns about a rate limit that decides the result of a closed loop.
pub(super) fn limited_closed_loop(scenario: &Scenario, forecast: &ScenarioForecast) -> Vec<String> {
    let slots = forecast.phases.iter().map(|phase| phase.closed_loop_slots).max().unwrap_or(0);
    if slots == 0 {
        return Vec::new();
    }
    let (input, output) = tokens_per_request(scenario, forecast);
    let fastest = output / FAST_TOKENS_PER_SECOND;
    let warning = |name: &str, limits: RateLimits| {
        let requests = limits.requests.map(|limit| f64::from(limit.get()));
        let tokens = limits.tokens.map(|limit| f64::from(limit.get()) / (input + output).max(1.0));
        let (key, per_minute) = match (requests, tokens) {
            (Some(requests), Some(tokens)) if tokens < requests => ("tokens_per_minute", tokens),
            (Some(requests), _) => ("requests_per_minute", requests),
            (None, tokens) => ("tokens_per_minute", tokens?),
        };
        let reached = f64::from(slots) * 60.0 / per_minute;
        (reached > fastest).then(|| {
            format!(
                "target {name}: a closed loop with {} requests in flight reaches `{key}` if responses \
                 take less than {}, and a refused arrival rests its slot for a second, so the result \
                 is that of the limit; raise the limit, or lower `concurrency`",
                count(f64::from(slots)),
                short_seconds(reached)
            )
        })
    };
    let targets = scenario.targets();
    targets.filter_map(|target| warning(&target.name, target.rate_limits?)).collect()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::check::forecast::Forecast;

    fn warnings(limits: &str, scenario: &str) -> Vec<String> {
        let text = format!(
            "target: {{simulator: {{}}, rate_limits: {{{limits}}}}}\nrequest: {{max_tokens: 200}}\n\
             slo: {{ttft: {{p95: 2s}}}}\n{scenario}"
        );
        let plan = crate::config::parse(&text, "f.yml", None, &|_| None).unwrap();
        let forecast = Forecast::new(&plan, SystemTime::UNIX_EPOCH, 0);
        let (scenario, one) = (&plan.scenarios[0], &forecast.scenarios[0]);
        let mut all = limited_closed_loop(scenario, one);
        all.extend(idle_breaker(scenario, one));
        all
    }

    const FREE: &str = "requests_per_minute: 1000000";

    #[test]
    fn a_breaker_that_sees_too_few_requests_causes_a_warning() {
        assert_eq!(warnings(FREE, "rate: 20/m\nbreaker: {}"), [""; 0]);
        assert_eq!(
            warnings(FREE, "rate: 19/m\nbreaker: {}"),
            [
                "`breaker` judges at least 20 requests in 1m, but at 19/m there are only 19, so it opens \
              only for the classes `auth` and `quota`; raise `breaker.over`, or lower \
              `breaker.at_least`"
            ]
        );
        let ramp = "schedule: [{constant: 1/m, for: 1h}, {ramp: {to: 1/s}, for: 1m}]\nbreaker: {}";
        assert_eq!(warnings(FREE, ramp), [""; 0], "the end of the ramp is fast enough");
        assert_eq!(warnings(FREE, "concurrency: 1\nbreaker: {}"), [""; 0]);
        assert_eq!(warnings(FREE, "rate: 1/h"), [""; 0]);
    }

    #[test]
    fn a_breaker_with_only_levels_causes_a_warning() {
        for levels in [
            "schedule: [{steps: {from: 10/s, to: 50/s, by: 10/s}, for: 2m}]",
            "repeat: 1\nschedule: [{search: {rate: {from: 1/s, to: 9/s}}, for: 60s}]",
        ] {
            let all = warnings(FREE, &format!("{levels}\nbreaker: {{}}"));
            assert!(all[0].starts_with("`breaker` has no effect") && all.len() == 1, "{all:?}");
        }
        let mixed = "schedule: [{steps: {from: 10/s, to: 50/s, by: 10/s}, for: 2m}, \
                     {constant: 5/s, for: 1m}]\nbreaker: {}";
        assert_eq!(warnings(FREE, mixed), [""; 0]);
    }

    #[test]
    fn a_closed_loop_that_reaches_a_rate_limit_causes_a_warning() {
        // A response takes 1 s at the least.
        assert_eq!(warnings("requests_per_minute: 600", "concurrency: 10"), [""; 0]);
        assert_eq!(
            warnings("requests_per_minute: 300", "concurrency: 10"),
            [
                "target default: a closed loop with 10 requests in flight reaches `requests_per_minute` \
              if responses take less than 2 s, and a refused arrival rests its slot for a second, so \
              the result is that of the limit; raise the limit, or lower `concurrency`"
            ]
        );
        let tokens = warnings("tokens_per_minute: 100", "concurrency: 10");
        assert!(tokens[0].contains("reaches `tokens_per_minute`"), "{tokens:?}");
        assert_eq!(warnings("requests_per_minute: 1", "rate: 1/m"), [""; 0]);
        assert_eq!(warnings("retry_after: true", "concurrency: 10"), [""; 0]);
    }
}
