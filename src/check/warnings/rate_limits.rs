//! Warns about rate limits that the planned load exceeds.
//!
//! All scenarios of a target share its limits, so the forecast adds up their arrivals in each part
//! of the forecast. A part is as short as a minute, which is the period of the limits.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use super::super::demand::{Demand, DemandTotals, mean_tokens};
use super::super::forecast::{DAY, Forecast};
use super::super::numbers::{count, rate};
use super::super::planned_runs::PlannedRuns;
use crate::config::HumanDuration;
use crate::plan::{Plan, RateLimits, Scenario, Target};
use crate::prompts::{PromptOrder, tokens_of_bytes};
use crate::schedule::Lengths;

/// A part of a full day is a minute.
const PARTS: u32 = 24 * 60;

/// llmload looks at this number of requests of a scenario, or of rows of a trace.
const SAMPLES: u64 = 1_000;

/// The load of one target in one part of the forecast.
#[derive(Clone, Copy, Default)]
struct PartLoad {
    requests: f64,
    tokens: f64,
    /// The sum of the highest rates of all scenarios.
    rate_max: f64,
}

/// The rate limits of one target, and the scenarios that share them.
struct LimitedTarget<'a> {
    limits: RateLimits,
    scenarios: Vec<&'a str>,
    loads: Vec<PartLoad>,
}

pub(super) fn find(plan: &Plan, forecast: &Forecast) -> Vec<String> {
    let targets = plan.scenarios.iter().flat_map(Scenario::targets);
    if targets.into_iter().all(|target| target.rate_limits.is_none()) {
        return Vec::new();
    }
    let part = forecast.span / PARTS;
    let planned = PlannedRuns::of_plan(plan, forecast.from, DAY);
    let mut limited: BTreeMap<&str, LimitedTarget<'_>> = BTreeMap::new();
    let mut warnings = Vec::new();
    for (scenario, planned) in plan.scenarios.iter().zip(&planned) {
        let mut loads = None;
        for target in scenario.targets() {
            let Some(limits) = target.rate_limits else { continue };
            let bounds = Bounds::new(scenario, target, plan.seed);
            if let Some(limit) = limits.tokens.map(NonZeroU32::get)
                && let Some(warning) = bounds.warning(scenario, target, limit)
            {
                warnings.push(warning);
                if bounds.lowest > u64::from(limit) {
                    continue;
                }
            }
            let loads = loads.get_or_insert_with(|| loads_of(scenario, plan, planned, part));
            let entry = limited.entry(&target.name).or_insert_with(|| LimitedTarget {
                limits,
                scenarios: Vec::new(),
                loads: vec![PartLoad::default(); PARTS as usize],
            });
            entry.scenarios.push(&scenario.name);
            for (sum, load) in entry.loads.iter_mut().zip(loads.iter()) {
                sum.requests += load.requests;
                sum.tokens += load.tokens * bounds.per_mean_token;
                sum.rate_max += load.rate_max;
            }
        }
    }
    warnings
        .extend(limited.iter().filter_map(|(name, target)| target.warning(name, forecast.span)));
    warnings
}

/// The tokens with which a guard counts the requests of one scenario to one target.
struct Bounds {
    lowest: u64,
    highest: u64,
    /// The sum of these tokens, divided by the tokens of the forecast for the same requests.
    per_mean_token: f64,
}

impl Bounds {
    #[allow(clippy::cast_precision_loss)]
    fn new(scenario: &Scenario, target: &Target, seed: u64) -> Bounds {
        let system = scenario.request.system.as_ref().map_or(0, String::len) as u64;
        let limit = target.dialect.output_limit(&scenario.request);
        let tokens = |k: u64, lengths: Option<Lengths>| {
            let most = scenario.prompts.most_tokens(seed, &scenario.name, k, lengths, limit);
            let generates = target.dialect.api.generates_text();
            let output = most.output.filter(|_| generates).unwrap_or(0);
            most.input + tokens_of_bytes(system) + output
        };
        let mut bounds = Bounds { lowest: u64::MAX, highest: 0, per_mean_token: 1.0 };
        let (mut sum, mut means) = (0.0, 0.0);
        let mut add = |tokens: u64, mean: (f64, f64)| {
            bounds.lowest = bounds.lowest.min(tokens);
            bounds.highest = bounds.highest.max(tokens);
            sum += tokens as f64;
            means += mean.0 + mean.1;
        };
        let loads = || scenario.schedule.phases().iter().map(|phase| &phase.load);
        for trace in loads().filter_map(|load| load.trace()) {
            for (k, row) in (0..SAMPLES).zip(trace.rows()) {
                add(tokens(k, Some(row.lengths())), mean_tokens(scenario, row.lengths()));
            }
        }
        if loads().any(|load| load.trace().is_none()) {
            let mean = mean_tokens(scenario, Lengths::default());
            for k in 0..samples(scenario) {
                add(tokens(k, None), mean);
            }
        }
        if means > 0.0 {
            bounds.per_mean_token = sum / means;
        }
        bounds
    }

    /// Warns about requests that are larger than the bucket of tokens.
    #[allow(clippy::cast_precision_loss)]
    fn warning(&self, scenario: &Scenario, target: &Target, limit: u32) -> Option<String> {
        if self.highest <= u64::from(limit) {
            return None;
        }
        let nothing =
            if self.lowest > u64::from(limit) { "nothing" } else { "no request of this size" };
        Some(format!(
            "target {} (scenario {}): one request can need {} tokens, but `tokens_per_minute` is {}, \
             so llmload sends {nothing}; raise `rate_limits`, or lower the output limit",
            target.name,
            scenario.name,
            count(self.highest as f64),
            count(f64::from(limit)),
        ))
    }
}

/// The number of requests after which the prompts of a scenario repeat, but at most [`SAMPLES`].
fn samples(scenario: &Scenario) -> u64 {
    let prompts = &scenario.prompts;
    let repeats = prompts.order() == PromptOrder::Sequential && prompts.source_kind() != "mix";
    prompts.len().filter(|_| repeats).map_or(SAMPLES, |len| len.min(SAMPLES))
}

fn loads_of(
    scenario: &Scenario,
    plan: &Plan,
    planned: &PlannedRuns,
    part: Duration,
) -> Vec<PartLoad> {
    let demand = Demand::new(scenario, plan.shard);
    let load = |index: u32| {
        let (from, to) = (part * index, part * (index + 1));
        let runs = planned.runs.iter().filter(|run| run.begin < to && run.end > from);
        runs.fold(PartLoad::default(), |sum, run| {
            let (from, to) = (from.max(run.begin), to.min(run.end));
            let DemandTotals { requests, input, output, .. } = demand.totals(run, from, to);
            PartLoad {
                requests: sum.requests + requests,
                tokens: sum.tokens + input + output,
                rate_max: sum.rate_max.max(demand.extremes(run, from, to).rate_max),
            }
        })
    };
    (0..PARTS).map(load).collect()
}

impl LimitedTarget<'_> {
    fn warning(&self, name: &str, span: Duration) -> Option<String> {
        let minutes = (span / PARTS).as_secs_f64() / 60.0;
        let limit =
            |limit: Option<NonZeroU32>| limit.map_or(f64::INFINITY, |limit| f64::from(limit.get()));
        let (requests, tokens) = (limit(self.limits.requests), limit(self.limits.tokens));
        let mut of_requests = Level::full(requests * minutes, (requests / 60.0).max(1.0));
        let mut of_tokens = Level::full(tokens * minutes, tokens);
        let mut lost = 0.0;
        for load in &self.loads {
            let admitted = of_requests.part(load.requests).min(of_tokens.part(load.tokens));
            of_requests.take(load.requests * admitted);
            of_tokens.take(load.tokens * admitted);
            lost += load.requests * (1.0 - admitted);
        }
        let all: f64 = self.loads.iter().map(|load| load.requests).sum();
        let peak = self.loads.iter().map(|load| load.rate_max).fold(0.0, f64::max);
        let busiest = self.loads.iter().map(|load| load.tokens / minutes).fold(0.0, f64::max);
        // Without the factor, rounding could make a rate exceed an equal limit.
        let exceeds_requests = peak * 60.0 > requests * 1.000_001;
        let exceeds_tokens = busiest > tokens && lost >= 1.0;
        let mut reasons = Vec::new();
        if exceeds_requests {
            reasons.push(format!(
                "the load reaches {}, but `requests_per_minute` permits {}",
                rate(peak),
                rate(requests / 60.0)
            ));
        }
        if exceeds_tokens {
            reasons.push(format!(
                "the load needs up to {} tokens per minute, but `tokens_per_minute` is {}",
                count(busiest.round()),
                count(tokens)
            ));
        }
        if reasons.is_empty() {
            return None;
        }
        let (plural, scenarios) = match self.scenarios.as_slice() {
            [only] => ("scenario", (*only).to_owned()),
            many => ("scenarios", many.join(", ")),
        };
        let span = if span < DAY { HumanDuration(span).to_string() } else { "24 h".to_owned() };
        let lost = if lost < 1.0 {
            "llmload can drop arrivals at the highest rate".to_owned()
        } else {
            let (lost, all) = (count(lost.round()), count(all.round()));
            format!("llmload will drop about {lost} of {all} arrivals in {span}")
        };
        Some(format!(
            "target {name} ({plural} {scenarios}): {}; {lost} (reason `rate_limit`), so lower the \
             load or raise `rate_limits`",
            reasons.join(", and ")
        ))
    }
}

/// The level of a token bucket, as a quantity without single arrivals.
struct Level {
    now: f64,
    gain: f64,
    burst: f64,
}

impl Level {
    /// `gain` is the gain in one part of the forecast.
    fn full(gain: f64, burst: f64) -> Level {
        Level { now: burst, gain, burst }
    }

    /// Returns the part of the `need` that the bucket covers, from 0 to 1.
    fn part(&self, need: f64) -> f64 {
        if need > 0.0 { ((self.now + self.gain) / need).min(1.0) } else { 1.0 }
    }

    fn take(&mut self, taken: f64) {
        self.now = (self.now + self.gain - taken).clamp(0.0, self.burst);
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::super::SystemLimits;
    use crate::check::FileCheck;

    fn warnings(limits: &str, scenarios: &str) -> Vec<String> {
        let text = format!(
            "targets: {{a: {{simulator: {{}}, rate_limits: {{{limits}}}}}, b: {{simulator: {{}}}}}}\n\
             scenarios: {{{scenarios}}}"
        );
        let plan = crate::config::parse(&text, "f.yml", None, &|_| None).unwrap();
        let checked =
            FileCheck::valid("f.yml", &plan, SystemTime::UNIX_EPOCH, SystemLimits::default(), &[]);
        let warnings = checked.unwrap().warnings;
        warnings.into_iter().filter(|text| text.contains("rate_limit")).collect()
    }

    #[test]
    fn a_load_within_the_limits_causes_no_warning() {
        let limits = "requests_per_minute: 600, tokens_per_minute: 1000000";
        assert_eq!(warnings(limits, "s: {target: a, rate: 10/s}"), [""; 0]);
        assert_eq!(warnings("retry_after: true", "s: {target: a, rate: 10/s}"), [""; 0]);
        assert_eq!(warnings("requests_per_minute: 1", "s: {target: b, rate: 10/s}"), [""; 0]);
    }

    #[test]
    fn the_warning_counts_the_arrivals_of_all_scenarios_that_share_the_limit() {
        let both = "one: {target: a, rate: 6/s}, two: {targets: [a, b], rate: 6/s}";
        assert_eq!(
            warnings("requests_per_minute: 600", both),
            ["f.yml: target a (scenarios one, two): the load reaches 12/s, but \
              `requests_per_minute` permits 10/s; llmload will drop about 172,790 of 1,036,800 \
              arrivals in 24 h (reason `rate_limit`), so lower the load or raise `rate_limits`"]
        );
    }

    #[test]
    fn only_the_time_above_the_limit_counts() {
        let steps = "s: {target: a, repeat: 1, schedule: [{constant: 5/s, for: 1h}, \
                     {constant: 15/s, for: 10m}, {pause: 50m}]}";
        let [warning] = &warnings("requests_per_minute: 600", steps)[..] else { panic!() };
        assert!(warning.contains("about 2,990 of 27,000 arrivals in 2h"), "{warning}");
    }

    #[test]
    fn tokens_count_with_the_longest_response() {
        let load = "s: {target: a, rate: 2/s, prompts: ['12345678'], request: {max_tokens: 98}}";
        assert_eq!(warnings("tokens_per_minute: 12000", load), [""; 0]);
        assert_eq!(
            warnings("tokens_per_minute: 6000", load),
            ["f.yml: target a (scenario s): the load needs up to 12,000 tokens per minute, but \
              `tokens_per_minute` is 6,000; llmload will drop about 86,340 of 172,800 arrivals in \
              24 h (reason `rate_limit`), so lower the load or raise `rate_limits`"]
        );
    }

    #[test]
    fn a_request_above_the_limit_of_a_minute_is_never_sent() {
        let load = "s: {target: a, rate: 6/h, prompts: ['12345678'], request: {max_tokens: 2000}}";
        assert_eq!(
            warnings("tokens_per_minute: 1000", load),
            ["f.yml: target a (scenario s): one request can need 2,002 tokens, but \
              `tokens_per_minute` is 1,000, so llmload sends nothing; raise `rate_limits`, or lower \
              the output limit"]
        );
        assert_eq!(warnings("tokens_per_minute: 2002", load), [""; 0]);
        let long = "x".repeat(8_000);
        let load = format!(
            "s: {{target: a, rate: 1/h, prompts: [Hi, {long}], request: {{max_tokens: 9}}}}"
        );
        let [warning] = &warnings("tokens_per_minute: 1000", &load)[..] else { panic!() };
        assert!(warning.contains("2,009 tokens") && warning.contains("sends no request of this"));
    }

    #[test]
    fn numbers_of_arrivals_are_whole() {
        let load = "s: {target: a, prompts: ['12345678'], repeat: 1, \
                    request: {max_tokens: 98}, schedule: [{constant: 2/s, for: 63s}]}";
        let [warning] = &warnings("tokens_per_minute: 6070", load)[..] else { panic!() };
        let numbers = warning.split("about ").nth(1).unwrap();
        let numbers = numbers.split(" arrivals").next().unwrap();
        assert!(!numbers.contains('.'), "{warning}");
    }
}
