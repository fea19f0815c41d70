//! The capacity dashboard: while a ramp or steps raise the load, the highest load that met the
//! thresholds.

use llmload::metrics::table;

use crate::dashboard::Dashboard;
use crate::overview::{succeeded, success_ratio};
use crate::panel::{Panel, Unit};
use crate::promql::{average, quantile, rate, rate_where, ratio, samples, series};
use crate::slo::{objective, threshold};

pub fn dashboard() -> Dashboard {
    Dashboard::new(
        "capacity",
        "Capacity",
        "The capacity of the endpoint. Run a ramp or steps: saturation begins where \
                latency rises and throughput no longer does.",
    )
    .variable(threshold(
        "slo_ttft",
        "The TTFT threshold in seconds.",
        &table::TIME_TO_FIRST_TOKEN,
        "1",
    ))
    .variable(objective())
    .row("Highest value within the thresholds", highest_values())
    .row("Saturation", saturation())
    .row("Searches", searches())
}

/// The highest value at the instants at which TTFT p99 and the success rate met their thresholds.
fn highest(value: &str) -> String {
    let fast = format!("({}) <= $slo_ttft", quantile("0.99", &table::TIME_TO_FIRST_TOKEN));
    let successful = format!("({}) >= $slo_objective", success_ratio());
    format!(
        "max_over_time((({value}) and on () {fast} and on () {successful})[$__range:$__interval])"
    )
}

fn highest_values() -> [Panel; 4] {
    let highest_value = |title, unit, value: &str| {
        Panel::number(title, unit)
            .query("highest", highest(value))
            .empty_text("Thresholds never met")
            .with_width(6)
    };
    [
        highest_value("Successful requests per second", Unit::PerSecond, &succeeded()).about(
            "llmload_requests_total - llmload_request_failures_total, per second: the maximum \
                while llmload_time_to_first_token_seconds p99 and the success rate met their \
                thresholds.",
        ),
        highest_value("Requests in flight", Unit::Count, &average(&table::REQUESTS_IN_FLIGHT))
            .about("llmload_requests_in_flight: the maximum while the thresholds were met."),
        highest_value(
            "Output token throughput",
            Unit::TokensPerSecond,
            &rate(&table::OUTPUT_TOKENS),
        )
        .about(
            "llmload_output_tokens_total per second: the maximum while the thresholds were \
                met.",
        ),
        Panel::number("Samples", Unit::Count)
            .about(
                "llmload_time_to_first_token_seconds_count in the window. With fewer than a few \
                hundred samples, neither a p99 nor the capacity is reliable.",
            )
            .query("samples", samples(&table::TIME_TO_FIRST_TOKEN))
            .base_colour("orange")
            .colour_from(100.0, "text")
            .with_width(6),
    ]
}

fn searches() -> [Panel; 3] {
    let latest = |family| format!("max({})", series(family));
    [
        Panel::lines("Capacity found by searches", Unit::PerSecond)
            .about(
                "llmload_capacity_requests_per_second: the highest rate that met the objectives in \
                the latest search. A fall is a regression of the endpoint.",
            )
            .query("capacity", latest(&table::CAPACITY_REQUESTS_PER_SECOND))
            .empty_text("No search with a result"),
        Panel::lines("Concurrency found by searches", Unit::Count)
            .about(
                "llmload_capacity_concurrency: the highest number of requests in flight that met \
                the objectives in the latest search.",
            )
            .query("concurrency", latest(&table::CAPACITY_CONCURRENCY))
            .empty_text("No search by concurrency"),
        Panel::number("Latest search", Unit::TimeAgo)
            .about(
                "llmload_capacity_search_timestamp_seconds: the end of the latest search with a \
                result.",
            )
            .query("ended", format!("{} * 1000", latest(&table::CAPACITY_SEARCH_TIMESTAMP)))
            .empty_text("No search with a result"),
    ]
}

fn saturation() -> [Panel; 6] {
    [
        Panel::lines("Offered and successful rate", Unit::PerSecond)
            .about(
                "llmload_arrivals_total and the successes of llmload_requests_total, per second. \
                The endpoint is saturated when the second line falls below the first.",
            )
            .query("offered", rate(&table::ARRIVALS))
            .query("succeeded", succeeded()),
        Panel::lines("TTFT p99 and threshold", Unit::Seconds)
            .about(
                "llmload_time_to_first_token_seconds: it rises when requests queue on the server.",
            )
            .query("p99", quantile("0.99", &table::TIME_TO_FIRST_TOKEN))
            .query("threshold", "vector($slo_ttft)")
            .dashed("threshold"),
        Panel::lines("Token throughput, total and per request", Unit::TokensPerSecond)
            .about(
                "llmload_output_tokens_total per second and llmload_output_tokens_per_second p50. \
                With more requests at once, each request gets slower.",
            )
            .query("all", rate(&table::OUTPUT_TOKENS))
            .query("per request, p50", quantile("0.5", &table::OUTPUT_TOKENS_PER_SECOND)),
        Panel::lines("Output token throughput per request in flight", Unit::TokensPerSecond)
            .about(
                "llmload_output_tokens_total per second / llmload_requests_in_flight. It falls if \
                requests queue.",
            )
            .query(
                "output / in flight",
                ratio(&rate(&table::OUTPUT_TOKENS), &average(&table::REQUESTS_IN_FLIGHT)),
            ),
        Panel::lines("Requests in flight over time", Unit::Count)
            .about(
                "llmload_requests_in_flight, the average over the window. When the endpoint is \
                saturated, the number rises until it reaches max_concurrency.",
            )
            .query("in flight", average(&table::REQUESTS_IN_FLIGHT)),
        Panel::lines("Rejected or dropped", Unit::Percent)
            .about(
                "llmload_request_failures_total{reason=~\"rate_limited|overloaded\"} / \
                llmload_requests_total, and \
                llmload_arrivals_dropped_total{reason=\"max_concurrency\"} / \
                llmload_arrivals_total.",
            )
            .query(
                "rejected by the endpoint",
                ratio(
                    &rate_where(&table::REQUEST_FAILURES, "reason=~\"rate_limited|overloaded\""),
                    &rate(&table::REQUESTS),
                ),
            )
            .query(
                "dropped at max_concurrency",
                ratio(
                    &rate_where(&table::ARRIVALS_DROPPED, "reason=\"max_concurrency\""),
                    &rate(&table::ARRIVALS),
                ),
            )
            .at_most_one(),
    ]
}
