//! The objectives dashboard: SLO attainment and error budget burn rate. The user selects the
//! thresholds on the dashboard. Each option is the bound of a bucket, so the shares are exact.

use llmload::metrics::table::{self, Family, Kind};
use serde_json::Value;

use crate::dashboard::{Dashboard, one_of};
use crate::overview::success_ratio;
use crate::panel::{Panel, Unit};
use crate::promql::{WINDOW, ratio, samples, select};

pub fn dashboard() -> Dashboard {
    Dashboard::new("slo", "Objectives", "SLO attainment and the burn rate of the error budget.")
        .variable(threshold(
            "slo_ttft",
            "The TTFT threshold in seconds.",
            &table::TIME_TO_FIRST_TOKEN,
            "1",
        ))
        .variable(threshold(
            "slo_tpot",
            "The TPOT threshold in seconds.",
            &table::TIME_PER_OUTPUT_TOKEN,
            "0.05",
        ))
        .variable(threshold(
            "slo_duration",
            "The request duration threshold in seconds.",
            &table::REQUEST_DURATION,
            "30",
        ))
        .variable(objective())
        .row("Objectives of the configuration (slo)", configured())
        .row("SLO attainment", verdicts())
        .row("Attainment over time", shares())
        .row("Error budget burn rate", burn())
}

/// A variable: the share of requests that must meet the threshold.
pub fn objective() -> Value {
    one_of(
        "slo_objective",
        "The share of requests that must meet the threshold.",
        &["0.9", "0.95", "0.99", "0.999"],
        "0.99",
    )
}

/// A variable with the bucket bounds of a family as options.
pub fn threshold(name: &str, about: &str, family: &Family, current: &str) -> Value {
    let Kind::Histogram(buckets) = family.kind else { panic!("{} is no histogram", family.name) };
    let edges: Vec<String> = buckets.iter().map(ToString::to_string).collect();
    let edges: Vec<&str> = edges.iter().map(String::as_str).collect();
    one_of(name, about, &edges, current)
}

/// The share of values up to a threshold. Prometheus 3 writes the bound `1` as `1.0`.
fn within(family: &Family, variable: &str, by: &str) -> String {
    let good = select(family, "_bucket", &format!("le=~\"${variable}([.]0)?\""));
    let all = select(family, "_count", "");
    ratio(&format!("sum{by}(rate({good}[{WINDOW}]))"), &format!("sum{by}(rate({all}[{WINDOW}]))"))
}

/// The objectives of the configuration. llmload judges each request, so the shares are exact at any
/// threshold.
fn configured() -> [Panel; 4] {
    let by = " by (scenario, target, slo) ";
    let rate = |family| format!("sum{by}(rate({}[{WINDOW}]))", crate::promql::series(family));
    let missed = ratio(&rate(&table::SLO_VIOLATIONS), &rate(&table::SLO_REQUESTS));
    let max = |family| format!("max{by}({})", crate::promql::series(family));
    [
        Panel::lines("Requests that meet each objective", Unit::Share)
            .about(
                "1 - llmload_slo_violations_total / llmload_slo_requests_total: the share of \
                finished requests within the threshold of the configuration. A failed request \
                misses every threshold.",
            )
            .query("{{scenario}} {{target}} {{slo}}", format!("1 - {missed}"))
            .at_most_one(),
        Panel::lines("Error budget burn rate of each objective", Unit::Plain)
            .about(
                "llmload_slo_violations_total / llmload_slo_requests_total as a multiple of 1 - \
                llmload_slo_objective_ratio. Above 1 the objective is missed.",
            )
            .query(
                "{{scenario}} {{target}} {{slo}}",
                format!("({missed}) / ((1 - {}) > 0)", max(&table::SLO_OBJECTIVE)),
            ),
        Panel::lines("Goodput", Unit::PerSecond)
            .about(
                "llmload_slo_good_requests_total per second: successes that met every objective, \
                and all finished requests (llmload_requests_total).",
            )
            .query(
                "good, {{scenario}} {{target}}",
                format!(
                    "sum by (scenario, target) (rate({}[{WINDOW}]))",
                    crate::promql::series(&table::SLO_GOOD_REQUESTS)
                ),
            )
            .query(
                "finished, {{scenario}} {{target}}",
                format!(
                    "sum by (scenario, target) (rate({}[{WINDOW}]))",
                    crate::promql::series(&table::REQUESTS)
                ),
            ),
        Panel::lines("Thresholds of the configuration", Unit::Seconds)
            .about("llmload_slo_threshold_seconds: the thresholds of the configuration.")
            .query("{{scenario}} {{target}} {{slo}}", max(&table::SLO_THRESHOLD)),
    ]
}

fn verdicts() -> [Panel; 5] {
    let verdict = |title, query: String| {
        Panel::number(title, Unit::Share)
            .query("met", format!("({query}) / $slo_objective"))
            .at_first("red")
            .from(1.0, "green")
            .wide(5)
    };
    [
        verdict("Success rate (% of objective)", success_ratio()).about(
            "1 - llmload_request_failures_total / llmload_requests_total, divided by the \
                objective. 100 % or more meets it.",
        ),
        verdict(
            "TTFT attainment (% of objective)",
            within(&table::TIME_TO_FIRST_TOKEN, "slo_ttft", ""),
        )
        .about(
            "llmload_time_to_first_token_seconds_bucket: the share of first tokens within the \
                threshold, divided by the objective. Requests that failed before the first token \
                count only in the success rate.",
        ),
        verdict(
            "TPOT attainment (% of objective)",
            within(&table::TIME_PER_OUTPUT_TOKEN, "slo_tpot", ""),
        )
        .about(
            "llmload_time_per_output_token_seconds_bucket: the share of successes within the \
                threshold, divided by the objective.",
        ),
        verdict(
            "Request duration attainment (% of objective)",
            within(&table::REQUEST_DURATION, "slo_duration", ""),
        )
        .about(
            "llmload_request_duration_seconds_bucket: the share of successes within the \
                threshold, divided by the objective.",
        ),
        Panel::number("Samples", Unit::Count)
            .about(
                "llmload_time_to_first_token_seconds_count: first tokens in the window. A 99 % \
                objective needs hundreds of samples.",
            )
            .query("samples", samples(&table::TIME_TO_FIRST_TOKEN))
            .at_first("orange")
            .from(100.0, "text")
            .wide(4),
    ]
}

fn shares() -> [Panel; 4] {
    let lines = |title, query: String| {
        Panel::lines(title, Unit::Share)
            .query("{{scenario}}", query)
            .query("objective", "vector($slo_objective)")
            .dashed("objective")
            .at_most_one()
    };
    let by = " by (scenario) ";
    let rate = |family| format!("sum{by}(rate({}[{WINDOW}]))", crate::promql::series(family));
    let failed = ratio(&rate(&table::REQUEST_FAILURES), &rate(&table::REQUESTS));
    [
        lines("Success rate", format!("1 - {failed}"))
            .about("1 - llmload_request_failures_total / llmload_requests_total."),
        lines("TTFT within the threshold", within(&table::TIME_TO_FIRST_TOKEN, "slo_ttft", by)).about(
            "llmload_time_to_first_token_seconds_bucket: the share of first tokens within the threshold.",
        ),
        lines("TPOT within the threshold", within(&table::TIME_PER_OUTPUT_TOKEN, "slo_tpot", by)).about(
            "llmload_time_per_output_token_seconds_bucket: the share of successes within the threshold.",
        ),
        lines("Request duration within the threshold", within(&table::REQUEST_DURATION, "slo_duration", by))
            .about("llmload_request_duration_seconds_bucket: the share of successes within the threshold."),
    ]
}

const LONG: &str = "At 1 the error budget lasts exactly one period. At 14.4, one hour uses 2 % of a \
                monthly budget.";

fn burn() -> [Panel; 2] {
    let burns = |title, bad: &dyn Fn(&str) -> String| {
        ["5m", "30m", "1h", "6h"].iter().fold(Panel::lines(title, Unit::Plain), |panel, window| {
            panel.query(window, format!("({}) / (1 - $slo_objective)", bad(window)))
        })
    };
    let rate = |series: &str, window: &str| format!("sum(rate({series}[{window}]))");
    let (failures, requests) =
        (crate::promql::series(&table::REQUEST_FAILURES), crate::promql::series(&table::REQUESTS));
    let good = select(&table::TIME_TO_FIRST_TOKEN, "_bucket", "le=~\"$slo_ttft([.]0)?\"");
    let all = select(&table::TIME_TO_FIRST_TOKEN, "_count", "");
    [
        burns("Success rate: error budget burn rate", &|window| {
            ratio(&rate(&failures, window), &rate(&requests, window))
        })
        .about(&format!(
            "llmload_request_failures_total / llmload_requests_total as a multiple of the \
                error budget, by window. {LONG}"
        )),
        burns("TTFT: error budget burn rate", &|window| {
            format!("1 - {}", ratio(&rate(&good, window), &rate(&all, window)))
        })
        .about(&format!(
            "llmload_time_to_first_token_seconds_bucket: the share of first tokens beyond the \
                threshold as a multiple of the error budget, by window. {LONG}"
        ))
        .signed(),
    ]
}
