//! How much can the endpoint take while it still meets its thresholds? Read over a ramp or over steps.

use llmload::metrics::table;

use crate::dashboard::Dashboard;
use crate::overview::{succeeded, success_ratio};
use crate::panel::{Panel, Unit};
use crate::promql::{average, quantile, rate, rate_where, ratio, samples};
use crate::slo::{objective, threshold};

pub fn dashboard() -> Dashboard {
    Dashboard::new(
        "capacity",
        "Capacity",
        "How much the endpoint can take: run a ramp or steps, and read where latency leaves the ground while throughput stays.",
    )
    .variable(threshold("slo_ttft", "The longest TTFT, in seconds, that is good.", &table::TIME_TO_FIRST_TOKEN, "1"))
    .variable(objective())
    .row("The most that met the thresholds", best())
    .row("Where it bends", bends())
}

/// The highest that a value was within the time shown, while p99 of TTFT and success met their thresholds.
fn highest(value: &str) -> String {
    let fast = format!("({}) <= $slo_ttft", quantile("0.99", &table::TIME_TO_FIRST_TOKEN));
    let well = format!("({}) >= $slo_objective", success_ratio());
    format!("max_over_time((({value}) and on () {fast} and on () {well})[$__range:$__interval])")
}

fn best() -> [Panel; 4] {
    let best = |title, unit, value: &str| {
        Panel::number(title, unit).query("highest", highest(value)).none("Never met").wide(6)
    };
    [
        best("Requests per second", Unit::PerSecond, &succeeded())
            .about("llmload_requests_total less llmload_request_failures_total per second: the highest within the time shown while llmload_time_to_first_token_seconds p99 and success met the thresholds."),
        best("Requests in flight", Unit::Count, &average(&table::REQUESTS_IN_FLIGHT))
            .about("llmload_requests_in_flight: the highest while the thresholds were met."),
        best("Output", Unit::TokensPerSecond, &rate(&table::OUTPUT_TOKENS))
            .about("llmload_output_tokens_total per second: the highest while the thresholds were met."),
        Panel::number("Samples", Unit::Count)
            .about("llmload_time_to_first_token_seconds_count within the window: p99 of fewer than a few hundred is noise, and so is a capacity that was read off it.")
            .query("samples", samples(&table::TIME_TO_FIRST_TOKEN))
            .at_first("orange")
            .from(100.0, "text")
            .wide(6),
    ]
}

fn bends() -> [Panel; 6] {
    [
        Panel::lines("Offered, and what came of it", Unit::PerSecond)
            .about("llmload_arrivals_total and what succeeded of llmload_requests_total, per second. Where they part, capacity ends.")
            .query("offered", rate(&table::ARRIVALS))
            .query("succeeded", succeeded()),
        Panel::lines("TTFT p99, and its threshold", Unit::Seconds)
            .about("llmload_time_to_first_token_seconds: it rises with the line before the engine.")
            .query("p99", quantile("0.99", &table::TIME_TO_FIRST_TOKEN))
            .query("threshold", "vector($slo_ttft)")
            .dashed("threshold"),
        Panel::lines("Tokens per second, all and of one request", Unit::TokensPerSecond)
            .about("llmload_output_tokens_total per second beside llmload_output_tokens_per_second p50: more requests at once, each of them slower.")
            .query("all", rate(&table::OUTPUT_TOKENS))
            .query("one request, p50", quantile("0.5", &table::OUTPUT_TOKENS_PER_SECOND)),
        Panel::lines("Output of each request in flight", Unit::TokensPerSecond)
            .about("llmload_output_tokens_total per second / llmload_requests_in_flight: falls where requests wait in place of running.")
            .query("output / in flight", ratio(&rate(&table::OUTPUT_TOKENS), &average(&table::REQUESTS_IN_FLIGHT))),
        Panel::lines("In flight", Unit::Count)
            .about("llmload_requests_in_flight, on average over the window: rises without end beyond capacity, until the cap.")
            .query("in flight", average(&table::REQUESTS_IN_FLIGHT)),
        Panel::lines("Refused or dropped", Unit::Share)
            .about("llmload_request_failures_total{reason=~\"rate_limited|overloaded\"} of llmload_requests_total, and llmload_arrivals_dropped_total{reason=\"max_concurrency\"} of llmload_arrivals_total.")
            .query("refused by the endpoint", ratio(&rate_where(&table::REQUEST_FAILURES, "reason=~\"rate_limited|overloaded\""), &rate(&table::REQUESTS)))
            .query("dropped at the cap", ratio(&rate_where(&table::ARRIVALS_DROPPED, "reason=\"max_concurrency\""), &rate(&table::ARRIVALS)))
            .at_most_one(),
    ]
}
