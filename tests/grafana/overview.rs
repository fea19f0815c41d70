//! The overview dashboard: the load, and the latency, throughput and failures that a client of the
//! endpoint sees.

use llmload::metrics::table::{self, Family};

use crate::dashboard::Dashboard;
use crate::panel::{Panel, Unit};
use crate::promql::{
    average, bound, buckets, mean, quantile, rate, rate_by, rate_where, ratio, ratios, samples,
    series,
};

pub fn dashboard() -> Dashboard {
    Dashboard::new(
        "overview",
        "Overview",
        "The load on each endpoint and the latency, throughput and failures that its \
                clients see.",
    )
    .row("Now", now())
    .row("Load", load())
    .row("Latency", latency())
    .row("Tokens and queries", throughput())
    .row("Reasoning", crate::reasoning::panels())
    .row("Sessions", crate::sessions::panels())
    .row("Failures", failures())
    .row("Guards", guards())
    .row("Connections and rate limits", connections())
    .row("Budgets", crate::budgets::panels())
    .row("Schedule", schedule())
}

/// Successes per second.
pub fn succeeded() -> String {
    format!("{} - {}", rate(&table::REQUESTS), rate(&table::REQUEST_FAILURES))
}

pub fn success_ratio() -> String {
    format!("1 - {}", ratio(&rate(&table::REQUEST_FAILURES), &rate(&table::REQUESTS)))
}

/// A panel over time: quantiles, mean, the 95 % confidence interval of p99, and the number of
/// samples.
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
        .background_bars("samples in the window")
}

fn now() -> [Panel; 8] {
    [
        Panel::number("Offered rate", Unit::PerSecond)
            .about("llmload_arrivals_total per second: scheduled arrivals, sent or dropped.")
            .query("offered", rate(&table::ARRIVALS)),
        Panel::number("Requests sent (% of offered)", Unit::Percent)
            .about(
                "llmload_requests_started_total / llmload_arrivals_total. Below 99 % the endpoint \
                gets less load than the schedule demands.",
            )
            .query("sent", ratio(&rate(&table::REQUESTS_STARTED), &rate(&table::ARRIVALS)))
            .base_colour("red")
            .colour_from(0.99, "green"),
        Panel::number("Success rate", Unit::Percent)
            .about(
                "1 - llmload_request_failures_total / llmload_requests_total: the percentage of \
                finished requests that succeeded.",
            )
            .query("success", success_ratio())
            .base_colour("red")
            .colour_from(0.95, "orange")
            .colour_from(0.99, "green"),
        Panel::number("TTFT p90", Unit::Seconds)
            .about(
                "llmload_time_to_first_token_seconds: 90 % of first tokens arrived within this \
                time after sending.",
            )
            .query("p90", quantile("0.9", &table::TIME_TO_FIRST_TOKEN)),
        Panel::number("TPOT p90", Unit::Seconds)
            .about(
                "llmload_time_per_output_token_seconds: 90 % of responses took at most this time \
                per output token.",
            )
            .query("p90", quantile("0.9", &table::TIME_PER_OUTPUT_TOKEN)),
        Panel::number("Output token throughput", Unit::TokensPerSecond)
            .about(
                "llmload_output_tokens_total per second over all requests. llmload counts the \
                tokens of a request when its response ends.",
            )
            .query("output", rate(&table::OUTPUT_TOKENS)),
        Panel::number("Samples", Unit::Count)
            .about(
                "llmload_time_to_first_token_seconds_count: first tokens in the window. With \
                fewer than a few hundred samples, a p99 is not reliable.",
            )
            .query("samples", samples(&table::TIME_TO_FIRST_TOKEN))
            .base_colour("orange")
            .colour_from(100.0, "text"),
        Panel::number("Simulated", Unit::Count)
            .about(
                "llmload_scenario_info{simulated=\"true\"}: routes (one scenario on one target) to \
                the built-in simulator. Their numbers say nothing about any model.",
            )
            .query("simulated", format!("count({})", simulated()))
            .empty_text("none")
            .base_colour("purple"),
    ]
}

fn simulated() -> String {
    crate::promql::select(&table::SCENARIO_INFO, "", "simulated=\"true\"")
}

fn load() -> [Panel; 4] {
    [
        Panel::lines("Request rate: scheduled, offered, sent, finished", Unit::PerSecond)
            .about(
                "llmload_schedule_target_requests_per_second, and the rates of \
                llmload_arrivals_total (offered), llmload_requests_started_total, \
                llmload_requests_total and successes. In an open loop the offered rate follows \
                the schedule, even if the endpoint is slow.",
            )
            .query("scheduled", average(&table::SCHEDULE_TARGET_REQUESTS_PER_SECOND))
            .query("offered", rate(&table::ARRIVALS))
            .query("started", rate(&table::REQUESTS_STARTED))
            .query("finished", rate(&table::REQUESTS))
            .query("succeeded", succeeded())
            .dashed("scheduled"),
        Panel::lines("Dropped arrivals by reason", Unit::PerSecond)
            .about(
                "llmload_arrivals_dropped_total per second: arrivals that llmload did not send. \
                `max_concurrency`: the endpoint is too slow for the load. `late`: llmload itself \
                is too slow. `rate_limit` and `breaker`: a guard of the file refused them.",
            )
            .query("{{reason}}", rate_by("reason", &table::ARRIVALS_DROPPED))
            .stacked(),
        Panel::lines("Requests in flight and Little's law", Unit::Count)
            .about(
                "llmload_requests_in_flight, and the same value by Little's law: finished \
                requests per second times their mean duration. Under a steady load, the two \
                values agree. If they differ for a long time, one of the two measurements is \
                wrong. The limit is \
                llmload_requests_in_flight_limit.",
            )
            .query("in flight", average(&table::REQUESTS_IN_FLIGHT))
            .query("rate × time", littles_law())
            .query("limit", format!("sum({})", series(&table::REQUESTS_IN_FLIGHT_LIMIT)))
            .query("scheduled concurrency", average(&table::SCHEDULE_TARGET_CONCURRENCY))
            .dashed("limit")
            .dashed("scheduled concurrency"),
        Panel::lines("Aborted requests by reason", Unit::PerSecond)
            .about(
                "llmload_requests_aborted_total per second: requests that llmload ended itself. \
                They count as neither success nor failure.",
            )
            .query("{{reason}}", rate_by("reason", &table::REQUESTS_ABORTED))
            .stacked(),
    ]
}

fn guards() -> [Panel; 2] {
    [
        Panel::lines("Breaker open", Unit::Count)
            .about(
                "llmload_breaker_open: 1 while the breaker drops the arrivals of a scenario to a \
                target, because most of its requests failed. The panel is empty if no scenario has \
                a breaker.",
            )
            .query(
                "{{scenario}} to {{target}}",
                format!("max by (scenario, target) ({})", series(&table::BREAKER_OPEN)),
            ),
        Panel::lines("Arrivals dropped by guards", Unit::Percent)
            .about(
                "llmload_arrivals_dropped_total{reason=~\"breaker|rate_limit\"} / \
                llmload_arrivals_total. `breaker`: most requests failed. `rate_limit`: the load \
                exceeds rate_limits, or the endpoint requested a wait.",
            )
            .query("breaker", dropped_by("breaker"))
            .query("rate limit", dropped_by("rate_limit")),
    ]
}

fn dropped_by(reason: &str) -> String {
    let dropped = rate_where(&table::ARRIVALS_DROPPED, &format!("reason=\"{reason}\""));
    ratio(&dropped, &rate(&table::ARRIVALS))
}

/// The requests in flight by Little's law, L = λW: finished requests per second times their mean
/// duration. This equals the sum of all durations per second.
pub fn littles_law() -> String {
    let time = |family| {
        let sum = crate::promql::select(family, "_sum", "");
        format!("sum(rate({sum}[{}]))", crate::promql::WINDOW)
    };
    format!("{} + {}", time(&table::REQUEST_DURATION), time(&table::REQUEST_FAILURE_DURATION))
}

fn latency() -> [Panel; 8] {
    [
        quantiles("TTFT", Unit::Seconds, &table::TIME_TO_FIRST_TOKEN).about(
            "llmload_time_to_first_token_seconds: the time from sending, including the connect \
                time, to the first text. Requests that fail later count too. The band is the 95 % \
                confidence interval of p99. The bars are the number of samples.",
        ),
        Panel::heatmap("TTFT distribution", Unit::Seconds)
            .about(
                "llmload_time_to_first_token_seconds_bucket: first tokens by time to first token.",
            )
            .query("{{le}}", buckets(&table::TIME_TO_FIRST_TOKEN)),
        quantiles(
            "TTFT from the due instant",
            Unit::Seconds,
            &table::TIME_TO_FIRST_TOKEN_FROM_SCHEDULE,
        )
        .about(
            "llmload_time_to_first_token_from_schedule_seconds: the time from the due instant, \
            not from the sending, to the first text. It includes the dispatch lag of llmload.",
        ),
        quantiles("Time per output token", Unit::Seconds, &table::TIME_PER_OUTPUT_TOKEN).about(
            "llmload_time_per_output_token_seconds (TPOT): (last token - first token) / \
                (tokens - 1) of each success. The endpoint counts the tokens. A response whose \
                tokens arrived at once has no value.",
        ),
        quantiles("Inter-chunk latency", Unit::Seconds, &table::INTER_CHUNK_LATENCY).about(
            "llmload_inter_chunk_latency_seconds: the time between two reads from the connection \
                that returned text. People see long gaps as stutter. A read can hold several \
                tokens, so this is not the time per token.",
        ),
        quantiles("Request duration", Unit::Seconds, &table::REQUEST_DURATION).about(
            "llmload_request_duration_seconds: from sending to the end of the response, \
                successes only.",
        ),
        quantiles(
            "Request duration from the due instant",
            Unit::Seconds,
            &table::REQUEST_DURATION_FROM_SCHEDULE,
        )
        .about(
            "llmload_request_duration_from_schedule_seconds: from the due instant to the end \
                of the response, successes only.",
        ),
        Panel::heatmap("Request duration distribution", Unit::Seconds)
            .about("llmload_request_duration_seconds_bucket: successes by duration.")
            .query("{{le}}", buckets(&table::REQUEST_DURATION)),
    ]
}

fn throughput() -> [Panel; 8] {
    [
        Panel::lines("Token throughput", Unit::TokensPerSecond)
            .about(
                "llmload_output_tokens_total and llmload_input_tokens_total per second over all \
                requests. llmload counts tokens when a response ends; \
                llmload_output_chunks_total rises while text arrives.",
            )
            .query("output", rate(&table::OUTPUT_TOKENS))
            .query("input", rate(&table::INPUT_TOKENS))
            .query("chunks", rate(&table::OUTPUT_CHUNKS)),
        quantiles(
            "Output tokens per second per request",
            Unit::TokensPerSecond,
            &table::OUTPUT_TOKENS_PER_SECOND,
        )
        .about(
            "llmload_output_tokens_per_second (TPS): (tokens - 1) / (last token - first \
                token) of each success. Lower is slower, so the slow requests are below p50.",
        ),
        quantiles("Queries per second", Unit::PerSecond, &table::QUERIES_PER_SECOND_OBSERVED)
            .about(
                "llmload_queries_per_second (QPS): successes in the last ten seconds / 10, \
                observed once a second.",
            ),
        Panel::lines("Cached input (% of input tokens)", Unit::Percent)
            .about("llmload_cached_input_tokens_total / llmload_input_tokens_total.")
            .query(
                "cached input",
                ratio(&rate(&table::CACHED_INPUT_TOKENS), &rate(&table::INPUT_TOKENS)),
            )
            .at_most_one(),
        quantiles("Input tokens per request", Unit::Count, &table::REQUEST_INPUT_TOKENS).about(
            "llmload_request_input_tokens: the prompt length that the endpoint counted. If it is \
                not the length that you planned, the load is not the planned load either.",
        ),
        quantiles("Output tokens per request", Unit::Count, &table::REQUEST_OUTPUT_TOKENS).about(
            "llmload_request_output_tokens: an endpoint that sends shorter responses looks \
                faster.",
        ),
        Panel::lines("Tokens per chunk", Unit::Count)
            .about(
                "llmload_output_tokens_total / llmload_output_chunks_total. If it is well \
                above 1, the inter-chunk latency is not the time per token.",
            )
            .query(
                "tokens per chunk",
                ratio(&rate(&table::OUTPUT_TOKENS), &rate(&table::OUTPUT_CHUNKS)),
            ),
        Panel::lines("Cost per hour by currency", Unit::Plain)
            .about(
                "llmload_cost_total: the cost of one hour at the current rate, with the prices in \
                the configuration. Empty if the configuration has no prices.",
            )
            .query("{{currency}}", format!("{} * 3600", rate_by("currency", &table::COST)))
            .empty_text("No prices"),
    ]
}

fn failures() -> [Panel; 6] {
    let finished = rate(&table::REQUESTS);
    [
        Panel::lines("Failure rate by reason", Unit::Percent)
            .about("llmload_request_failures_total / llmload_requests_total by failure class.")
            .query("{{reason}}", ratios(&rate_by("reason", &table::REQUEST_FAILURES), &finished))
            .stacked(),
        Panel::lines("Failure rate by blame", Unit::Percent)
            .about(
                "llmload_request_failures_total / llmload_requests_total by blame: target, \
                network, client (llmload and its machine) or policy (keys, quotas, limits).",
            )
            .query("{{blame}}", ratios(&rate_by("blame", &table::REQUEST_FAILURES), &finished))
            .stacked(),
        Panel::lines("Timeout rate", Unit::Percent)
            .about("The timeouts in llmload_request_failures_total / llmload_requests_total.")
            .query(
                "timeouts",
                ratio(
                    &rate_where(
                        &table::REQUEST_FAILURES,
                        "reason=~\"timeout_first_token|timeout_idle|timeout_total\"",
                    ),
                    &finished,
                ),
            ),
        Panel::lines("HTTP responses by status code", Unit::PerSecond)
            .about(
                "llmload_http_responses_total per second: response heads. A request with status \
                200 can still fail.",
            )
            .query("{{code}}", rate_by("code", &table::HTTP_RESPONSES))
            .stacked(),
        Panel::lines("Time to failure, p90 by blame", Unit::Seconds)
            .about("llmload_request_failure_duration_seconds: from sending to the failure.")
            .query(
                "{{blame}}",
                crate::promql::quantile_by("0.9", "blame", &table::REQUEST_FAILURE_DURATION),
            )
            .empty_text("No failures"),
        Panel::lines("Protocol anomalies in successes", Unit::PerSecond)
            .about(
                "llmload_response_anomalies_total per second. With missing_usage, token counts, \
                TPOT and TPS are missing. With coalesced, TPOT and TPS are missing: a proxy \
                probably buffers the stream.",
            )
            .query("{{kind}}", rate_by("kind", &table::RESPONSE_ANOMALIES))
            .stacked(),
    ]
}

fn schedule() -> [Panel; 6] {
    let phases = series(&table::SCHEDULE_PHASE_ACTIVE);
    [
        Panel::states("Active phases")
            .about("llmload_schedule_phase_active: 1 while the phase is active.")
            .query("{{scenario}}: {{phase}}", format!("max by (scenario, phase) ({phases})"))
            .map_value("0", "off", "transparent")
            .map_value("1", "on", "blue"),
        Panel::states("Target health and manual overrides")
            .about(
                "llmload_target_ready: 1 if the last response had a status below 500. \
                llmload_paused: 1 while the load is paused. \
                llmload_schedule_rate_override_active: 1 while a manual rate replaces the \
                schedule.",
            )
            .query(
                "ready: {{target}}",
                format!("min by (target) ({})", series(&table::TARGET_READY)),
            )
            .query(
                "paused: {{instance}}",
                format!("max by (instance) ({})", series(&table::PAUSED)),
            )
            .query(
                "manual rate: {{scenario}}",
                format!("max by (scenario) ({})", series(&table::SCHEDULE_RATE_OVERRIDE_ACTIVE)),
            )
            .map_value("0", "no", "orange")
            .map_value("1", "yes", "green"),
        Panel::table("Routes", Unit::Plain)
            .about(
                "llmload_scenario_info: each scenario with its target and model. Numbers of a \
                simulated target say nothing about any model.",
            )
            .query(
                "",
                format!(
                    "max by (target, model, scenario, arrivals, simulated) ({})",
                    series(&table::SCENARIO_INFO)
                ),
            )
            .map_value("true", "SIMULATED", "purple")
            .with_width(12)
            .columns(&[
                ("target", "target"),
                ("model", "model"),
                ("scenario", "scenario"),
                ("arrivals", "arrivals"),
                ("simulated", "simulated"),
            ]),
        Panel::table("Last start of each phase", Unit::TimeAgo)
            .about(
                "llmload_schedule_phase_start_timestamp_seconds: the time at which the phase last \
                began.",
            )
            .query(
                "",
                format!(
                    "max by (scenario, phase) ({}) * 1000",
                    series(&table::SCHEDULE_PHASE_START_TIMESTAMP)
                ),
            )
            .with_width(12)
            .columns(&[("scenario", "scenario"), ("phase", "phase"), ("Value", "started")]),
        Panel::lines("Skipped cron firings", Unit::Count)
            .about(
                "llmload_schedule_firings_skipped_total: cron firings that llmload skipped, \
                because the previous cycle was still running or the wall clock was set past them.",
            )
            .query(
                "{{scenario}}",
                format!(
                    "sum by (scenario) (increase({}[{}]))",
                    series(&table::SCHEDULE_FIRINGS_SKIPPED),
                    crate::promql::WINDOW
                ),
            ),
        Panel::lines("Warm-up requests", Unit::Count)
            .about(
                "llmload_warmup_requests_total: requests that llmload sent before the schedule \
                began. No other panel counts them.",
            )
            .query(
                "{{scenario}}",
                format!(
                    "sum by (scenario) (increase({}[{}]))",
                    series(&table::WARMUP_REQUESTS),
                    crate::promql::WINDOW
                ),
            ),
    ]
}

fn connections() -> [Panel; 7] {
    let lowest = |family| format!("min by (target, scenario) ({})", series(family));
    [
        quantiles("Connect time (TCP and TLS)", Unit::Seconds, &table::CONNECT_DURATION)
            .about(
                "llmload_connect_duration_seconds: TCP and TLS set-up of each new connection. It \
                is part of the TTFT of the request that opened the connection.",
            )
            .empty_text("No new connections"),
        quantiles("DNS lookup time", Unit::Seconds, &table::DNS_DURATION)
            .about(
                "llmload_dns_duration_seconds: the DNS lookup of each new connection. Empty if \
                the base URL has an IP address.",
            )
            .empty_text("No DNS lookups"),
        Panel::lines("Connection retries", Unit::PerSecond)
            .about(
                "llmload_connection_retries_total per second: requests that llmload sent once \
                more, because their connection ended before the server could work on them. If \
                there are many, lower keep_alive of the target, or set it to off.",
            )
            .query("{{target}}", rate_by("target", &table::CONNECTION_RETRIES)),
        Panel::lines("Rate limit: requests remaining", Unit::Count)
            .about(
                "llmload_rate_limit_requests_remaining, llmload_rate_limit_requests_limit and \
                llmload_rate_limit_requests_reset_seconds from the latest response headers.",
            )
            .query(
                "remaining: {{target}} {{scenario}}",
                lowest(&table::RATE_LIMIT_REQUESTS_REMAINING),
            )
            .query("limit: {{target}} {{scenario}}", lowest(&table::RATE_LIMIT_REQUESTS_LIMIT))
            .query(
                "seconds to reset: {{target}} {{scenario}}",
                lowest(&table::RATE_LIMIT_REQUESTS_RESET),
            )
            .empty_text("The endpoint sends no rate-limit headers"),
        Panel::lines("Rate limit: tokens remaining", Unit::Count)
            .about(
                "llmload_rate_limit_tokens_remaining, llmload_rate_limit_tokens_limit and \
                llmload_rate_limit_tokens_reset_seconds from the latest response headers.",
            )
            .query(
                "remaining: {{target}} {{scenario}}",
                lowest(&table::RATE_LIMIT_TOKENS_REMAINING),
            )
            .query("limit: {{target}} {{scenario}}", lowest(&table::RATE_LIMIT_TOKENS_LIMIT))
            .query(
                "seconds to reset: {{target}} {{scenario}}",
                lowest(&table::RATE_LIMIT_TOKENS_RESET),
            )
            .empty_text("The endpoint sends no rate-limit headers"),
        Panel::lines("Retry-After", Unit::Seconds)
            .about(
                "llmload_retry_after_seconds: the latest Retry-After of the endpoint. llmload \
                keeps sending as scheduled.",
            )
            .query(
                "{{target}} {{scenario}}",
                format!("max by (target, scenario) ({})", series(&table::RETRY_AFTER)),
            )
            .empty_text("No Retry-After"),
        Panel::table("Server versions", Unit::Plain)
            .about("llmload_target_info: the version that the server of each target reports.")
            .query("", format!("max by (target, version) ({})", series(&table::TARGET_INFO)))
            .empty_text("llmload is down")
            .columns(&[("target", "target"), ("version", "version")]),
    ]
}
