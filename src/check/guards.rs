//! The text about the guards of a scenario: the rate limits of its targets, and its breaker.

use std::num::NonZeroU32;

use super::numbers::count;
use crate::config::HumanDuration;
use crate::plan::{Breaker, RateLimits, Scenario};

/// Returns a label and a text for each guard.
pub fn texts(scenario: &Scenario) -> Vec<(&'static str, String)> {
    let has_several = !scenario.other_targets.is_empty();
    let limits = scenario.targets().filter_map(|target| {
        let text = rate_limits(target.rate_limits?);
        Some(if has_several { format!("{}: {text}", target.name) } else { text })
    });
    let limits = limits.map(|text| ("rate limits", text));
    limits.chain(scenario.breaker.map(|settings| ("breaker", breaker(settings)))).collect()
}

fn rate_limits(limits: RateLimits) -> String {
    let RateLimits { requests, tokens, retry_after } = limits;
    let amount = |limit: NonZeroU32| count(f64::from(limit.get()));
    let amounts = [
        requests.map(|limit| format!("{} requests", amount(limit))),
        tokens.map(|limit| format!("{} tokens", amount(limit))),
    ];
    let amounts: Vec<String> = amounts.into_iter().flatten().collect();
    let amounts = (!amounts.is_empty()).then(|| format!("{} per minute", amounts.join(" and ")));
    let wait = retry_after.then(|| "waits for retry-after".to_owned());
    amounts.into_iter().chain(wait).collect::<Vec<_>>().join("; ")
}

fn breaker(settings: Breaker) -> String {
    let Breaker { failures, over, at_least, pause, max_pause } = settings;
    let (over, pause, max_pause) =
        (HumanDuration(over), HumanDuration(pause), HumanDuration(max_pause));
    let at_least = count(f64::from(at_least.get()));
    format!(
        "opens if {failures} % of at least {at_least} requests in {over} fail; probes after {pause}, \
         up to {max_pause}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guards(target: &str, scenario: &str) -> Vec<(&'static str, String)> {
        let text = format!(
            "targets: {{a: {{simulator: {{}}, {target}}}, b: {{simulator: {{}}}}}}\n\
             scenarios: {{s: {{rate: 1/s, {scenario}}}}}"
        );
        let plan = crate::config::parse(&text, "f.yml", None, &|_| None).unwrap();
        texts(&plan.scenarios[0])
    }

    #[test]
    fn each_guard_has_a_text() {
        let all =
            "rate_limits: {requests_per_minute: 600, tokens_per_minute: 200000, retry_after: true}";
        assert_eq!(
            guards(all, "target: a, breaker: {}"),
            [
                (
                    "rate limits",
                    "600 requests and 200,000 tokens per minute; waits for retry-after".to_owned()
                ),
                (
                    "breaker",
                    "opens if 50 % of at least 20 requests in 1m fail; probes after 1m, up to 15m"
                        .to_owned()
                )
            ]
        );
        let wait = guards("rate_limits: {retry_after: true}", "targets: [b, a]");
        assert_eq!(wait, [("rate limits", "a: waits for retry-after".to_owned())]);
        assert_eq!(guards("http2: false", "target: a"), []);
    }
}
