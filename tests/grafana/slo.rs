//! The objectives dashboard: SLO attainment and error budget burn rate.
//!
//! The first row shows the objectives of the configuration. For the other rows, the user selects
//! thresholds from the bucket bounds of the histograms, so that the percentages are exact.

use llmload::metrics::table::{self, Family, Kind};
use serde_json::Value;

use crate::dashboard::{Dashboard, list_variable};
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
        .row("Objectives in the configuration (slo)", configured())
        .row("SLO attainment", attainment())
        .row("Attainment over time", attainment_over_time())
        .row("Error budget burn rate", burn_rates())
}

/// The variable for the objective.
pub fn objective() -> Value {
    list_variable(
        "slo_objective",
        "The fraction of requests that must be within the threshold.",
        &["0.9", "0.95", "0.99", "0.999"],
        "0.99",
    )
}

/// The variable for a threshold, with the bucket bounds of a histogram as options.
pub fn threshold(name: &str, about: &str, family: &Family, current: &str) -> Value {
    let Kind::Histogram(buckets) = family.kind else {
        panic!("{} is not a histogram", family.name)
    };
    let bounds: Vec<String> = buckets.iter().map(ToString::to_string).collect();
    let bounds: Vec<&str> = bounds.iter().map(String::as_str).collect();
    list_variable(name, about, &bounds, current)
}

/// The fraction of values within a threshold. Prometheus 3 writes the bound `1` as `1.0`, so the
/// matcher accepts both.
fn within(family: &Family, variable: &str, by: &str) -> String {
    let good = select(family, "_bucket", &format!("le=~\"${variable}([.]0)?\""));
    let all = select(family, "_count", "");
    ratio(&format!("sum{by}(rate({good}[{WINDOW}]))"), &format!("sum{by}(rate({all}[{WINDOW}]))"))
}

/// The objectives of the configuration. llmload judges each request, so the thresholds need not be
/// bucket bounds.
fn configured() -> [Panel; 4] {
    let by = " by (scenario, target, slo) ";
    let rate = |family| format!("sum{by}(rate({}[{WINDOW}]))", crate::promql::series(family));
    let missed = ratio(&rate(&table::SLO_VIOLATIONS), &rate(&table::SLO_REQUESTS));
    let max = |family| format!("max{by}({})", crate::promql::series(family));
    [
        Panel::lines("Requests that meet each objective", Unit::Percent)
            .about(
                "1 - llmload_slo_violations_total / llmload_slo_requests_total: the percentage of \
                finished requests that met the objective. A failed request misses every \
                objective.",
            )
            .query("{{scenario}} {{target}} {{slo}}", format!("1 - {missed}"))
            .at_most_one(),
        Panel::lines("Error budget burn rate of each objective", Unit::Plain)
            .about(
                "(llmload_slo_violations_total / llmload_slo_requests_total) / (1 - \
                llmload_slo_objective_ratio): the percentage of requests that missed the \
                objective, divided by the percentage that is allowed to miss it. Above 1, the \
                objective is missed.",
            )
            .query(
                "{{scenario}} {{target}} {{slo}}",
                format!("({missed}) / ((1 - {}) > 0)", max(&table::SLO_OBJECTIVE)),
            ),
        Panel::lines("Goodput", Unit::PerSecond)
            .about(
                "Good: llmload_slo_good_requests_total per second, the successes that met every \
                objective. Finished: llmload_requests_total per second, all finished requests.",
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
        Panel::lines("Thresholds in the configuration", Unit::Seconds)
            .about("llmload_slo_threshold_seconds: the thresholds in the configuration.")
            .query("{{scenario}} {{target}} {{slo}}", max(&table::SLO_THRESHOLD)),
    ]
}

fn attainment() -> [Panel; 5] {
    let attainment = |title, query: String| {
        Panel::number(title, Unit::Percent)
            .query("attainment", format!("({query}) / $slo_objective"))
            .base_colour("red")
            .colour_from(1.0, "green")
            .with_width(5)
    };
    [
        attainment("Success rate (% of objective)", success_ratio()).about(
            "1 - llmload_request_failures_total / llmload_requests_total, divided by the \
                selected objective. The objective is met at 100 % or more.",
        ),
        attainment(
            "TTFT attainment (% of objective)",
            within(&table::TIME_TO_FIRST_TOKEN, "slo_ttft", ""),
        )
        .about(
            "llmload_time_to_first_token_seconds_bucket: the percentage of first tokens within \
                the threshold, divided by the selected objective. A request that failed before \
                its first token counts only in the success rate.",
        ),
        attainment(
            "TPOT attainment (% of objective)",
            within(&table::TIME_PER_OUTPUT_TOKEN, "slo_tpot", ""),
        )
        .about(
            "llmload_time_per_output_token_seconds_bucket: the percentage of successes within \
                the threshold, divided by the selected objective.",
        ),
        attainment(
            "Request duration attainment (% of objective)",
            within(&table::REQUEST_DURATION, "slo_duration", ""),
        )
        .about(
            "llmload_request_duration_seconds_bucket: the percentage of successes within \
                the threshold, divided by the selected objective.",
        ),
        Panel::number("Samples", Unit::Count)
            .about(
                "llmload_time_to_first_token_seconds_count: first tokens in the window. A 99 % \
                objective needs hundreds of samples.",
            )
            .query("samples", samples(&table::TIME_TO_FIRST_TOKEN))
            .base_colour("orange")
            .colour_from(100.0, "text")
            .with_width(4),
    ]
}

fn attainment_over_time() -> [Panel; 4] {
    let over_time = |title, query: String| {
        Panel::lines(title, Unit::Percent)
            .query("{{scenario}}", query)
            .query("objective", "vector($slo_objective)")
            .dashed("objective")
            .at_most_one()
    };
    let by = " by (scenario) ";
    let rate = |family| format!("sum{by}(rate({}[{WINDOW}]))", crate::promql::series(family));
    let failed = ratio(&rate(&table::REQUEST_FAILURES), &rate(&table::REQUESTS));
    [
        over_time("Success rate", format!("1 - {failed}"))
            .about("1 - llmload_request_failures_total / llmload_requests_total."),
        over_time("TTFT within the threshold", within(&table::TIME_TO_FIRST_TOKEN, "slo_ttft", by)).about(
            "llmload_time_to_first_token_seconds_bucket: the percentage of first tokens within the threshold.",
        ),
        over_time("TPOT within the threshold", within(&table::TIME_PER_OUTPUT_TOKEN, "slo_tpot", by)).about(
            "llmload_time_per_output_token_seconds_bucket: the percentage of successes within the threshold.",
        ),
        over_time("Request duration within the threshold", within(&table::REQUEST_DURATION, "slo_duration", by))
            .about("llmload_request_duration_seconds_bucket: the percentage of successes within the threshold."),
    ]
}

const BURN_RATE_HINT: &str = "At a burn rate of 1, the error budget lasts for exactly its period, such as 30 days. \
                At 14.4, one hour uses 2 % of a 30-day budget.";

fn burn_rates() -> [Panel; 2] {
    let burn_rate = |title, bad: &dyn Fn(&str) -> String| {
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
        burn_rate("Success rate: error budget burn rate", &|window| {
            ratio(&rate(&failures, window), &rate(&requests, window))
        })
        .about(&format!(
            "llmload_request_failures_total / llmload_requests_total divided by the error \
                budget (1 - objective), for each window. {BURN_RATE_HINT}"
        )),
        burn_rate("TTFT: error budget burn rate", &|window| {
            format!("1 - {}", ratio(&rate(&good, window), &rate(&all, window)))
        })
        .about(&format!(
            "llmload_time_to_first_token_seconds_bucket: the percentage of first tokens later than \
                the threshold, divided by the error budget (1 - objective), for each window. {BURN_RATE_HINT}"
        ))
        .allow_negative(),
    ]
}
