//! What clients of the endpoints experience now.

use llmload::metrics::table::{self, Family};

use crate::dashboard::Dashboard;
use crate::panel::{Panel, Unit};
use crate::promql::{
    average, bound, buckets, mean, quantile, rate, rate_by, rate_where, ratio, samples, series,
    shares,
};

pub fn dashboard() -> Dashboard {
    Dashboard::new("overview", "Overview", "What clients of the endpoints under load experience.")
        .row("Now", verdicts())
        .row("Load", load())
        .row("Latency", latency())
        .row("Tokens and queries", throughput())
        .row("Failures", failures())
        .row("Connections and what is granted", connections())
        .row("Schedule", schedule())
}

/// Successes per second.
pub fn succeeded() -> String {
    format!("{} - {}", rate(&table::REQUESTS), rate(&table::REQUEST_FAILURES))
}

pub fn success_ratio() -> String {
    format!("1 - {}", ratio(&rate(&table::REQUEST_FAILURES), &rate(&table::REQUESTS)))
}

/// Quantiles over time with the interval that p99 lies in, and beside them how many values they are of.
pub fn quantiles(title: &str, unit: Unit, family: &Family) -> Panel {
    Panel::lines(title, unit)
        .query("p99 at least", bound('-', 0.99, family))
        .query("p99 at most", bound('+', 0.99, family))
        .query("p50", quantile("0.5", family))
        .query("p90", quantile("0.9", family))
        .query("p99", quantile("0.99", family))
        .query("mean", mean(family))
        .query("samples in the window", samples(family))
        .band("p99 at least", "p99 at most", "red")
        .aside("samples in the window")
}

fn verdicts() -> [Panel; 8] {
    [
        Panel::number("Offered", Unit::PerSecond)
            .about("llmload_arrivals_total: arrivals that came due by the schedule per second, sent or not.")
            .query("offered", rate(&table::ARRIVALS)),
        Panel::number("Sent of offered", Unit::Share)
            .about("llmload_requests_started_total of llmload_arrivals_total: below 99 % what is measured is not the load that was asked for.")
            .query("sent", ratio(&rate(&table::REQUESTS_STARTED), &rate(&table::ARRIVALS)))
            .at_first("red")
            .from(0.99, "green"),
        Panel::number("Success", Unit::Share)
            .about("1 - llmload_request_failures_total of llmload_requests_total: successes of the requests that ended.")
            .query("success", success_ratio())
            .at_first("red")
            .from(0.95, "orange")
            .from(0.99, "green"),
        Panel::number("TTFT p90", Unit::Seconds)
            .about("llmload_time_to_first_token_seconds: nine of ten first tokens came within this time of sending.")
            .query("p90", quantile("0.9", &table::TIME_TO_FIRST_TOKEN)),
        Panel::number("TPOT p90", Unit::Seconds)
            .about("llmload_time_per_output_token_seconds: in nine of ten answers a token took at most this time on average.")
            .query("p90", quantile("0.9", &table::TIME_PER_OUTPUT_TOKEN)),
        Panel::number("Output", Unit::TokensPerSecond)
            .about("llmload_output_tokens_total per second, over all answers; counted when an answer ends.")
            .query("output", rate(&table::OUTPUT_TOKENS)),
        Panel::number("Samples", Unit::Count)
            .about("llmload_time_to_first_token_seconds_count: first tokens within the window. p99 of fewer than a few hundred is noise.")
            .query("samples", samples(&table::TIME_TO_FIRST_TOKEN))
            .at_first("orange")
            .from(100.0, "text"),
        Panel::number("Simulated", Unit::Count)
            .about("llmload_scenario_info{simulated=\"true\"}: streams of load whose target is the built-in simulator. Their numbers say nothing about any model.")
            .query("simulated", format!("count({})", simulated()))
            .none("none")
            .at_first("purple"),
    ]
}

fn simulated() -> String {
    crate::promql::select(&table::SCENARIO_INFO, "", "simulated=\"true\"")
}

fn load() -> [Panel; 4] {
    [
        Panel::lines("Rate: asked for, offered, started, finished", Unit::PerSecond)
            .about("llmload_schedule_target_requests_per_second, and per second llmload_arrivals_total, llmload_requests_started_total, llmload_requests_total and what of these succeeded. Open loop: offered follows the schedule, whatever the endpoint does.")
            .query("set", average(&table::SCHEDULE_TARGET_REQUESTS_PER_SECOND))
            .query("offered", rate(&table::ARRIVALS))
            .query("started", rate(&table::REQUESTS_STARTED))
            .query("finished", rate(&table::REQUESTS))
            .query("succeeded", succeeded())
            .dashed("set"),
        Panel::lines("Dropped, by reason", Unit::PerSecond)
            .about("llmload_arrivals_dropped_total: arrivals that were due and not sent. `max_concurrency`: the endpoint is slower than the load; `late`: llmload itself is.")
            .query("{{reason}}", rate_by("reason", &table::ARRIVALS_DROPPED))
            .stacked(),
        Panel::lines("In flight, and by Little's law", Unit::Count)
            .about("llmload_requests_in_flight beside the requests that ended per second times the time they took (llmload_request_duration_seconds_sum and llmload_request_failure_duration_seconds_sum per second). In a steady state the two agree; if not, one of them is measured wrongly. The limit is llmload_requests_in_flight_limit.")
            .query("in flight", average(&table::REQUESTS_IN_FLIGHT))
            .query("rate × time", little())
            .query("limit", format!("sum({})", series(&table::REQUESTS_IN_FLIGHT_LIMIT)))
            .query("concurrency asked for", average(&table::SCHEDULE_TARGET_CONCURRENCY))
            .dashed("limit")
            .dashed("concurrency asked for"),
        Panel::lines("Cut off by llmload, by reason", Unit::PerSecond)
            .about("llmload_requests_aborted_total: neither success nor failure.")
            .query("{{reason}}", rate_by("reason", &table::REQUESTS_ABORTED))
            .stacked(),
    ]
}

/// λW: what is in flight, as the time says that requests took.
pub fn little() -> String {
    let took = |family| {
        let sum = crate::promql::select(family, "_sum", "");
        format!("sum(rate({sum}[{}]))", crate::promql::WINDOW)
    };
    format!("{} + {}", took(&table::REQUEST_DURATION), took(&table::REQUEST_FAILURE_DURATION))
}

fn latency() -> [Panel; 8] {
    [
        quantiles("TTFT", Unit::Seconds, &table::TIME_TO_FIRST_TOKEN)
            .about("llmload_time_to_first_token_seconds: from sending, connecting included, to the first text, also of requests that fail later. The band is where p99 lies with 95 % confidence; bars are the number of samples."),
        Panel::heatmap("TTFT, all of it", Unit::Seconds)
            .about("llmload_time_to_first_token_seconds_bucket: first tokens by how long they took.")
            .query("{{le}}", buckets(&table::TIME_TO_FIRST_TOKEN)),
        quantiles("TTFT from the due instant", Unit::Seconds, &table::TIME_TO_FIRST_TOKEN_FROM_SCHEDULE)
            .about("llmload_time_to_first_token_from_schedule_seconds: as TTFT, from the instant at which the request was due: what an arrival waits that llmload sends late is in here."),
        quantiles("Time per output token", Unit::Seconds, &table::TIME_PER_OUTPUT_TOKEN)
            .about("llmload_time_per_output_token_seconds (TPOT): (last token - first token) / (tokens - 1) of each success, tokens as the endpoint counted them."),
        quantiles("Gap between chunks", Unit::Seconds, &table::INTER_CHUNK_LATENCY)
            .about("llmload_inter_chunk_latency_seconds: what a reader sees of stutter. A chunk may hold several tokens: this is not the time per token."),
        quantiles("Duration", Unit::Seconds, &table::REQUEST_DURATION)
            .about("llmload_request_duration_seconds: from sending to the end of each success."),
        quantiles("Duration from the due instant", Unit::Seconds, &table::REQUEST_DURATION_FROM_SCHEDULE)
            .about("llmload_request_duration_from_schedule_seconds: from the instant at which the request was due to the end of each success."),
        Panel::heatmap("Duration, all of it", Unit::Seconds)
            .about("llmload_request_duration_seconds_bucket: successes by how long they took.")
            .query("{{le}}", buckets(&table::REQUEST_DURATION)),
    ]
}

fn throughput() -> [Panel; 8] {
    [
        Panel::lines("Tokens", Unit::TokensPerSecond)
            .about("llmload_output_tokens_total and llmload_input_tokens_total per second over all requests, counted when an answer ends; llmload_output_chunks_total moves as the text comes.")
            .query("output", rate(&table::OUTPUT_TOKENS))
            .query("input", rate(&table::INPUT_TOKENS))
            .query("chunks", rate(&table::OUTPUT_CHUNKS)),
        quantiles("Tokens per second of one request", Unit::TokensPerSecond, &table::OUTPUT_TOKENS_PER_SECOND)
            .about("llmload_output_tokens_per_second (TPS): (tokens - 1) / (last - first) of each success. Here slow is low: p50 is the middle, and what is bad lies below it."),
        quantiles("Queries per second", Unit::PerSecond, &table::QUERIES_PER_SECOND_OBSERVED)
            .about("llmload_queries_per_second (QPS): successes of the last ten seconds / 10, observed once a second."),
        Panel::lines("Of cache, of reasoning", Unit::Share)
            .about("llmload_cached_input_tokens_total of llmload_input_tokens_total, and llmload_reasoning_tokens_total of llmload_output_tokens_total.")
            .query("input from a prefix cache", ratio(&rate(&table::CACHED_INPUT_TOKENS), &rate(&table::INPUT_TOKENS)))
            .query("output spent on reasoning", ratio(&rate(&table::REASONING_TOKENS), &rate(&table::OUTPUT_TOKENS)))
            .at_most_one(),
        quantiles("Tokens of a prompt", Unit::Count, &table::REQUEST_INPUT_TOKENS)
            .about("llmload_request_input_tokens: what was really asked. Other prompts than were meant are another load."),
        quantiles("Tokens of an answer", Unit::Count, &table::REQUEST_OUTPUT_TOKENS)
            .about("llmload_request_output_tokens: an endpoint that answers shorter looks faster."),
        Panel::lines("Tokens per chunk", Unit::Count)
            .about("llmload_output_tokens_total / llmload_output_chunks_total: well above 1, and gaps between chunks are not times per token.")
            .query("tokens per chunk", ratio(&rate(&table::OUTPUT_TOKENS), &rate(&table::OUTPUT_CHUNKS))),
        Panel::lines("Cost of an hour, by currency", Unit::Plain)
            .about("llmload_cost_total: what an hour costs at this pace, at the prices of the file. Nothing where it names none.")
            .query("{{currency}}", format!("{} * 3600", rate_by("currency", &table::COST)))
            .none("No prices"),
    ]
}

fn failures() -> [Panel; 6] {
    let finished = rate(&table::REQUESTS);
    [
        Panel::lines("Failures of finished, by reason", Unit::Share)
            .about("llmload_request_failures_total of llmload_requests_total, by class.")
            .query("{{reason}}", shares(&rate_by("reason", &table::REQUEST_FAILURES), &finished))
            .stacked(),
        Panel::lines("Failures of finished, by blame", Unit::Share)
            .about("llmload_request_failures_total of llmload_requests_total, by whom the class speaks against: target, network, client (llmload's own machine) or policy (keys, quotas, limits).")
            .query("{{blame}}", shares(&rate_by("blame", &table::REQUEST_FAILURES), &finished))
            .stacked(),
        Panel::lines("Timeouts of finished", Unit::Share)
            .about("llmload_request_failures_total with a reason of time, of llmload_requests_total.")
            .query("timeouts", ratio(&rate_where(&table::REQUEST_FAILURES, "reason=~\"timeout_first_token|timeout_idle|timeout_total\""), &finished)),
        Panel::lines("HTTP status", Unit::PerSecond)
            .about("llmload_http_responses_total: response heads. 200 is no success yet.")
            .query("{{code}}", rate_by("code", &table::HTTP_RESPONSES))
            .stacked(),
        Panel::lines("Duration of failures, p90 by blame", Unit::Seconds)
            .about("llmload_request_failure_duration_seconds: from sending to the failure.")
            .query("{{blame}}", crate::promql::quantile_by("0.9", "blame", &table::REQUEST_FAILURE_DURATION))
            .none("No failures"),
        Panel::lines("Successes that bend the protocol", Unit::PerSecond)
            .about("llmload_response_anomalies_total: without usage there are no exact token counts.")
            .query("{{kind}}", rate_by("kind", &table::RESPONSE_ANOMALIES))
            .stacked(),
    ]
}

fn schedule() -> [Panel; 6] {
    let phases = series(&table::SCHEDULE_PHASE_ACTIVE);
    [
        Panel::states("Phases")
            .about("llmload_schedule_phase_active: 1 while the phase runs.")
            .query("{{scenario}}: {{phase}}", format!("max by (scenario, phase) ({phases})"))
            .word("0", "off", "transparent")
            .word("1", "on", "blue"),
        Panel::states("Targets, and what a hand did")
            .about("llmload_target_ready: 1 if the last answer was below 500. llmload_paused and llmload_schedule_rate_override_active: 1 while somebody paused the load, or set a rate in place of the schedule's.")
            .query("{{target}} answers", format!("min by (target) ({})", series(&table::TARGET_READY)))
            .query("paused: {{instance}}", format!("max by (instance) ({})", series(&table::PAUSED)))
            .query("rate set by hand: {{scenario}}", format!("max by (scenario) ({})", series(&table::SCHEDULE_RATE_OVERRIDE_ACTIVE)))
            .word("0", "no", "orange")
            .word("1", "yes", "green"),
        Panel::table("Streams of load", Unit::Plain)
            .about("llmload_scenario_info: what is sent to what. Numbers of a simulated target say nothing about any model.")
            .query("", format!("max by (target, model, scenario, arrivals, simulated) ({})", series(&table::SCENARIO_INFO)))
            .word("true", "SIMULATED", "purple")
            .wide(12)
            .columns(&[("target", "target"), ("model", "model"), ("scenario", "scenario"), ("arrivals", "arrivals"), ("simulated", "simulated")]),
        Panel::table("Phases, when they last began", Unit::When)
            .about("llmload_schedule_phase_start_timestamp_seconds.")
            .query("", format!("max by (scenario, phase) ({}) * 1000", series(&table::SCHEDULE_PHASE_START_TIMESTAMP)))
            .wide(12)
            .columns(&[("scenario", "scenario"), ("phase", "phase"), ("Value", "began")]),
        Panel::lines("Firings skipped", Unit::Count)
            .about("llmload_schedule_firings_skipped_total: firings of a cron that found the schedule of the one before still on.")
            .query("{{scenario}}", format!("sum by (scenario) (increase({}[{}]))", series(&table::SCHEDULE_FIRINGS_SKIPPED), crate::promql::WINDOW)),
        Panel::lines("Warm-up", Unit::Count)
            .about("llmload_warmup_requests_total: requests before the schedule began, outside of everything else here.")
            .query("{{scenario}}", format!("sum by (scenario) (increase({}[{}]))", series(&table::WARMUP_REQUESTS), crate::promql::WINDOW)),
    ]
}

fn connections() -> [Panel; 6] {
    let granted = |family| format!("min by (target, scenario) ({})", series(family));
    [
        quantiles("Connecting", Unit::Seconds, &table::CONNECT_DURATION)
            .about("llmload_connect_duration_seconds: TCP and TLS of each new connection. It is part of the TTFT of the request that needed it.")
            .none("No new connection"),
        quantiles("Finding the address", Unit::Seconds, &table::DNS_DURATION)
            .about("llmload_dns_duration_seconds: of each new connection, where the file has a name and not an address.")
            .none("No name was looked up"),
        Panel::lines("Requests still granted", Unit::Count)
            .about("llmload_rate_limit_requests_remaining of llmload_rate_limit_requests_limit, as the endpoint said last, and llmload_rate_limit_requests_reset_seconds.")
            .query("remaining: {{target}} {{scenario}}", granted(&table::RATE_LIMIT_REQUESTS_REMAINING))
            .query("limit: {{target}} {{scenario}}", granted(&table::RATE_LIMIT_REQUESTS_LIMIT))
            .query("seconds to reset: {{target}} {{scenario}}", granted(&table::RATE_LIMIT_REQUESTS_RESET))
            .none("The endpoint says nothing of limits"),
        Panel::lines("Tokens still granted", Unit::Count)
            .about("llmload_rate_limit_tokens_remaining of llmload_rate_limit_tokens_limit, as the endpoint said last, and llmload_rate_limit_tokens_reset_seconds.")
            .query("remaining: {{target}} {{scenario}}", granted(&table::RATE_LIMIT_TOKENS_REMAINING))
            .query("limit: {{target}} {{scenario}}", granted(&table::RATE_LIMIT_TOKENS_LIMIT))
            .query("seconds to reset: {{target}} {{scenario}}", granted(&table::RATE_LIMIT_TOKENS_RESET))
            .none("The endpoint says nothing of limits"),
        Panel::lines("Asked to wait", Unit::Seconds)
            .about("llmload_retry_after_seconds: how long the endpoint last asked to be left alone. Load goes on as scheduled.")
            .query("{{target}} {{scenario}}", format!("max by (target, scenario) ({})", series(&table::RETRY_AFTER)))
            .none("Never"),
        Panel::table("Versions of the servers", Unit::Plain)
            .about("llmload_target_info: what each target's server says that it is.")
            .query("", format!("max by (target, version) ({})", series(&table::TARGET_INFO)))
            .none("llmload is down")
            .columns(&[("target", "target"), ("version", "version")]),
    ]
}
