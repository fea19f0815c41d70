//! Are the objectives met, and how fast is the room for failure used up? The thresholds are chosen on the
//! dashboard: each value that can be chosen is the edge of a bucket, so that the shares are exact.

use llmload::metrics::table::{self, Family, Kind};
use serde_json::Value;

use crate::dashboard::{Dashboard, one_of};
use crate::overview::success_ratio;
use crate::panel::{Panel, Unit};
use crate::promql::{WINDOW, ratio, samples, select};

pub fn dashboard() -> Dashboard {
    Dashboard::new(
        "slo",
        "Objectives",
        "Shares of requests within thresholds, and how fast what the objective leaves for failure is used up.",
    )
    .variable(threshold("slo_ttft", "The longest TTFT, in seconds, that is good.", &table::TIME_TO_FIRST_TOKEN, "1"))
    .variable(threshold("slo_tpot", "The longest TPOT, in seconds, that is good.", &table::TIME_PER_OUTPUT_TOKEN, "0.05"))
    .variable(threshold("slo_duration", "The longest duration, in seconds, that is good.", &table::REQUEST_DURATION, "30"))
    .variable(objective())
    .row("Objectives of the file (slo)", of_the_file())
    .row("Met?", verdicts())
    .row("Over time", shares())
    .row("Burn rates", burn())
}

/// The share of requests that has to be good.
pub fn objective() -> Value {
    one_of(
        "slo_objective",
        "The share of requests that has to be good.",
        &["0.9", "0.95", "0.99", "0.999"],
        "0.99",
    )
}

/// A variable of the upper bounds of a family's buckets.
pub fn threshold(name: &str, about: &str, family: &Family, current: &str) -> Value {
    let Kind::Histogram(buckets) = family.kind else { panic!("{} is no histogram", family.name) };
    let edges: Vec<String> = buckets.iter().map(ToString::to_string).collect();
    let edges: Vec<&str> = edges.iter().map(String::as_str).collect();
    one_of(name, about, &edges, current)
}

/// The share of a histogram's values up to a threshold. Prometheus 3 writes the edge `1` as `1.0`.
fn within(family: &Family, variable: &str, by: &str) -> String {
    let good = select(family, "_bucket", &format!("le=~\"${variable}([.]0)?\""));
    let all = select(family, "_count", "");
    ratio(&format!("sum{by}(rate({good}[{WINDOW}]))"), &format!("sum{by}(rate({all}[{WINDOW}]))"))
}

/// What the file asks for is counted request by request: exact at any threshold.
fn of_the_file() -> [Panel; 4] {
    let by = " by (scenario, target, slo) ";
    let rate = |family| format!("sum{by}(rate({}[{WINDOW}]))", crate::promql::series(family));
    let missed = ratio(&rate(&table::SLO_VIOLATIONS), &rate(&table::SLO_REQUESTS));
    let max = |family| format!("max{by}({})", crate::promql::series(family));
    [
        Panel::lines("Requests that meet each objective", Unit::Share)
            .about("1 - llmload_slo_violations_total of llmload_slo_requests_total: of the requests that finished, those within the threshold of the file. One that failed misses every threshold.")
            .query("{{scenario}} {{target}} {{slo}}", format!("1 - {missed}"))
            .at_most_one(),
        Panel::lines("Misses, against what each objective leaves", Unit::Plain)
            .about("llmload_slo_violations_total of llmload_slo_requests_total, as a multiple of 1 - llmload_slo_objective_ratio: above 1, the objective is not met.")
            .query("{{scenario}} {{target}} {{slo}}", format!("({missed}) / ((1 - {}) > 0)", max(&table::SLO_OBJECTIVE))),
        Panel::lines("Goodput", Unit::PerSecond)
            .about("llmload_slo_good_requests_total: successes that missed no objective, beside all successes and failures of llmload_requests_total.")
            .query("good, {{scenario}} {{target}}", format!("sum by (scenario, target) (rate({}[{WINDOW}]))", crate::promql::series(&table::SLO_GOOD_REQUESTS)))
            .query("finished, {{scenario}} {{target}}", format!("sum by (scenario, target) (rate({}[{WINDOW}]))", crate::promql::series(&table::REQUESTS))),
        Panel::lines("Thresholds", Unit::Seconds)
            .about("llmload_slo_threshold_seconds: what the file asks for.")
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
        verdict("Success, of its objective", success_ratio())
            .about("1 - llmload_request_failures_total of llmload_requests_total, of the objective: 100 % and more is met."),
        verdict("TTFT, of its objective", within(&table::TIME_TO_FIRST_TOKEN, "slo_ttft", ""))
            .about("llmload_time_to_first_token_seconds_bucket: the share of first tokens within the threshold, of the objective. A request that failed before its first token is not in it; success is."),
        verdict("TPOT, of its objective", within(&table::TIME_PER_OUTPUT_TOKEN, "slo_tpot", ""))
            .about("llmload_time_per_output_token_seconds_bucket: the share of successes within the threshold, of the objective."),
        verdict("Duration, of its objective", within(&table::REQUEST_DURATION, "slo_duration", ""))
            .about("llmload_request_duration_seconds_bucket: the share of successes within the threshold, of the objective."),
        Panel::number("Samples", Unit::Count)
            .about("llmload_time_to_first_token_seconds_count: first tokens within the window. An objective of 99 % needs hundreds to be judged.")
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
        lines("Success", format!("1 - {failed}"))
            .about("1 - llmload_request_failures_total of llmload_requests_total."),
        lines("TTFT within the threshold", within(&table::TIME_TO_FIRST_TOKEN, "slo_ttft", by)).about(
            "llmload_time_to_first_token_seconds_bucket: the share of first tokens within the threshold.",
        ),
        lines("TPOT within the threshold", within(&table::TIME_PER_OUTPUT_TOKEN, "slo_tpot", by)).about(
            "llmload_time_per_output_token_seconds_bucket: the share of successes within the threshold.",
        ),
        lines("Duration within the threshold", within(&table::REQUEST_DURATION, "slo_duration", by))
            .about("llmload_request_duration_seconds_bucket: the share of successes within the threshold."),
    ]
}

const LONG: &str = "1 uses up exactly what a period of the objective leaves; 14.4 two hundredths of a month's in an hour.";

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
        burns("Failures, against what may fail", &|window| ratio(&rate(&failures, window), &rate(&requests, window)))
            .about(&format!("llmload_request_failures_total of llmload_requests_total, by the length of the window, as a multiple of what the objective allows. {LONG}")),
        burns("Late first tokens, against what may be late", &|window| format!("1 - {}", ratio(&rate(&good, window), &rate(&all, window))))
            .about(&format!("llmload_time_to_first_token_seconds_bucket beyond the threshold, by the length of the window, as a multiple of what the objective allows. {LONG}"))
            .signed(),
    ]
}
