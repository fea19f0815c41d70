//! The table of metrics, with the name, type, labels and help text of every family. The exposition
//! and `docs/metrics.md` are generated from it, and the tests of dashboards and rules use it.

use crate::archive::LossReason;
use crate::buckets::{
    CONNECT, DURATION, FIRST_TOKEN, GAP, LAG, PER_TOKEN, QUERIES_PER_SECOND, REPLAY_LAGS, TOKENS,
    TOKENS_PER_SECOND,
};
use crate::calendar::Period;
use crate::event::{AbortReason, DropReason, SessionEnd, TurnGroup};
use crate::generator::Distortion;
use crate::machine::CpuMode;
use crate::measurement::{Anomaly, Blame, Failure};
use crate::plan::BudgetUnit;
use crate::timetable::StepDirection;

/// The HTTP status codes with a separate series. All other codes share the series `other`.
pub const STATUS_CODES: [u16; 11] = [200, 400, 401, 404, 413, 422, 429, 500, 502, 503, 504];

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Counter,
    Gauge,
    /// The default upper bounds of the buckets. The configuration can set others.
    Histogram(&'static [f64]),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Family {
    /// The full name, with its prefix.
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    /// One or two sentences, for `/metrics` and `docs/metrics.md`.
    pub help: &'static str,
}

impl Family {
    /// Returns the name without `llmload_`, for the configuration.
    pub fn short_name(&self) -> &'static str {
        self.name.strip_prefix("llmload_").unwrap_or(self.name)
    }

    /// Returns all values of a label, or `None` if they are from the configuration.
    pub fn values(&self, label: &str) -> Option<Vec<String>> {
        let owned = |values: &[&str]| values.iter().map(ToString::to_string).collect();
        Some(match label {
            "reason" if *self == ARRIVALS_DROPPED => {
                owned(&DropReason::ALL.map(DropReason::as_str))
            }
            "reason" if *self == REQUESTS_ABORTED => {
                owned(&AbortReason::ALL.map(AbortReason::as_str))
            }
            "reason" if *self == SESSIONS_ENDED_EARLY => {
                owned(&SessionEnd::ALL.map(SessionEnd::as_str))
            }
            "turn" => owned(&TurnGroup::ALL.map(TurnGroup::as_str)),
            "reason" if *self == FAILURES_NOT_ARCHIVED => {
                owned(&LossReason::ALL.map(LossReason::as_str))
            }
            "reason" if *self == REQUEST_FAILURES => owned(&Failure::ALL.map(Failure::as_str)),
            "blame" => owned(&Blame::ALL.map(Blame::as_str)),
            "kind" if *self == RESPONSE_ANOMALIES => owned(&Anomaly::ALL.map(Anomaly::as_str)),
            "kind" if *self == GENERATOR_DISTORTION => {
                owned(&Distortion::ALL.map(Distortion::as_str))
            }
            "code" => {
                STATUS_CODES.iter().map(ToString::to_string).chain(["other".to_owned()]).collect()
            }
            "mode" => owned(&CpuMode::ALL.map(CpuMode::as_str)),
            "arrivals" => owned(&["constant", "poisson", "gamma"]),
            "direction" if *self == CLOCK_STEPS => {
                owned(&StepDirection::ALL.map(StepDirection::as_str))
            }
            "direction" => owned(&["slower", "faster"]),
            "simulated" => owned(&["true", "false"]),
            "per" => owned(&Period::ALL.map(Period::as_str)),
            "unit" => owned(&BudgetUnit::ALL.map(BudgetUnit::as_str)),
            _ => return None,
        })
    }
}

macro_rules! families {
    ($(#[$doc:meta])* $all:ident $prefix:literal
     $($ident:ident $kind:expr, $name:literal [$($label:literal)*] $help:literal;)+) => {
        $(
            #[doc = concat!("`", $prefix, $name, "`")]
            pub const $ident: Family = Family {
                name: concat!($prefix, $name),
                kind: $kind,
                labels: &[$($label),*],
                help: $help,
            };
        )+
        $(#[$doc])*
        pub const $all: &[Family] = &[$($ident),+];
    };
}

use Kind::{Counter, Gauge, Histogram};

families! {
    /// The families of llmload, in the order in which a request updates them.
    ALL "llmload_"
    ARRIVALS Counter, "arrivals_total" ["target" "model" "scenario"]
        "Arrivals that the schedule made due, sent or not: the offered load.";
    ARRIVALS_DROPPED Counter, "arrivals_dropped_total" ["target" "model" "scenario" "reason"]
        "Arrivals that were due but not sent, by reason.";
    REQUESTS_STARTED Counter, "requests_started_total" ["target" "model" "scenario"]
        "Requests that llmload began to send.";
    REQUESTS Counter, "requests_total" ["target" "model" "scenario"]
        "Requests that succeeded or failed; aborted requests are not included.";
    REQUEST_FAILURES Counter, "request_failures_total"
        ["target" "model" "scenario" "reason" "blame"]
        "Requests that failed, by failure class and by the party to blame for that class.";
    REQUESTS_ABORTED Counter, "requests_aborted_total" ["target" "model" "scenario" "reason"]
        "Requests that llmload itself ended, by reason; they count neither as success nor as \
         failure.";
    REQUESTS_IN_FLIGHT Gauge, "requests_in_flight" ["target" "model" "scenario"]
        "Requests that have started but have not yet finished or been aborted.";
    REQUESTS_IN_FLIGHT_LIMIT Gauge, "requests_in_flight_limit" ["target" "model" "scenario"]
        "The highest number of requests in flight that the configuration allows: max_concurrency.";
    SESSIONS_STARTED Counter, "sessions_started_total" ["target" "model" "scenario"]
        "Sessions whose first turn llmload sent; absent if the prompts have no turns.";
    SESSIONS_COMPLETED Counter, "sessions_completed_total" ["target" "model" "scenario"]
        "Sessions whose last turn succeeded.";
    SESSIONS_ENDED_EARLY Counter, "sessions_ended_early_total"
        ["target" "model" "scenario" "reason"]
        "Sessions that ended before their last turn, by reason.";
    SESSIONS_IN_PROGRESS Gauge, "sessions_in_progress" ["target" "model" "scenario"]
        "Sessions with a turn in flight or in their think time.";
    SESSION_TURN_TIME_TO_FIRST_TOKEN Histogram(FIRST_TOKEN),
        "session_turn_time_to_first_token_seconds" ["target" "model" "scenario" "turn"]
        "Time to first token by the number of the turn in its session. A later turn has a longer \
         prompt, and a larger part of it can be in the prefix cache of the server.";
    SESSION_TURN_INPUT_TOKENS Counter, "session_turn_input_tokens_total"
        ["target" "model" "scenario" "turn"]
        "Input tokens by the number of the turn, from successful requests whose cached tokens the \
         endpoint counted.";
    SESSION_TURN_CACHED_INPUT_TOKENS Counter, "session_turn_cached_input_tokens_total"
        ["target" "model" "scenario" "turn"]
        "Input tokens from the prefix cache by the number of the turn, from the same requests.";
    BREAKER_OPEN Gauge, "breaker_open" ["target" "model" "scenario"]
        "1 while the breaker drops the arrivals, also during its probe request, else 0; absent if \
         the scenario has no breaker.";
    CONNECTION_RETRIES Counter, "connection_retries_total" ["target" "model" "scenario"]
        "Requests that llmload sent once more because their connection ended before the server \
         could work on them. Their times begin with the first sending.";
    HTTP_RESPONSES Counter, "http_responses_total" ["target" "model" "scenario" "code"]
        "HTTP response heads by status code; codes outside a fixed list count as other.";
    RESPONSE_ANOMALIES Counter, "response_anomalies_total" ["target" "model" "scenario" "kind"]
        "Successful responses that deviated from the protocol, by kind.";
    DISPATCH_LAG Histogram(LAG), "dispatch_lag_seconds" ["target" "model" "scenario"]
        "Time from the due instant of a request to its sending: the lateness of llmload itself.";
    REPLAY_LAG Histogram(REPLAY_LAGS), "replay_lag_seconds" ["target" "model" "scenario"]
        "Time from the recorded instant of a row of a trace to its sending; absent if the scenario \
         replays no trace.";
    DNS_DURATION Histogram(CONNECT), "dns_duration_seconds" ["target" "model" "scenario"]
        "DNS lookup time of each new connection, observed with its first response; no lookup is \
         needed if the base URL has an IP address.";
    CONNECT_DURATION Histogram(CONNECT), "connect_duration_seconds" ["target" "model" "scenario"]
        "Connect time (TCP and TLS, without DNS) of each new connection, observed with its first \
         response.";
    RATE_LIMIT_REQUESTS_LIMIT Gauge, "rate_limit_requests_limit" ["target" "model" "scenario"]
        "Request limit of the endpoint, from its last x-ratelimit-limit-requests header; absent \
         before the first.";
    RATE_LIMIT_REQUESTS_REMAINING Gauge, "rate_limit_requests_remaining"
        ["target" "model" "scenario"]
        "Requests remaining until the limit, from the last x-ratelimit-remaining-requests header; \
         absent before the first.";
    RATE_LIMIT_REQUESTS_RESET Gauge, "rate_limit_requests_reset_seconds"
        ["target" "model" "scenario"]
        "Time until the request limit is fully available again, from the last \
         x-ratelimit-reset-requests header; absent before the first.";
    RATE_LIMIT_TOKENS_LIMIT Gauge, "rate_limit_tokens_limit" ["target" "model" "scenario"]
        "Token limit of the endpoint, from its last x-ratelimit-limit-tokens header; absent \
         before the first.";
    RATE_LIMIT_TOKENS_REMAINING Gauge, "rate_limit_tokens_remaining" ["target" "model" "scenario"]
        "Tokens remaining until the limit, from the last x-ratelimit-remaining-tokens header; \
         absent before the first.";
    RATE_LIMIT_TOKENS_RESET Gauge, "rate_limit_tokens_reset_seconds" ["target" "model" "scenario"]
        "Time until the token limit is fully available again, from the last \
         x-ratelimit-reset-tokens header; absent before the first.";
    RETRY_AFTER Gauge, "retry_after_seconds" ["target" "model" "scenario"]
        "Wait that the endpoint requested with its last retry-after header; absent before the \
         first. llmload obeys it only if the target has `rate_limits: {retry_after: true}`.";
    TIME_TO_FIRST_TOKEN Histogram(FIRST_TOKEN), "time_to_first_token_seconds"
        ["target" "model" "scenario"]
        "TTFT: time from sending, including the connect time, to the first event with content, \
         reasoning, refusal or tool-call text. llmload observes it at that event, even if the \
         request fails later (OpenTelemetry: gen_ai.client.operation.time_to_first_chunk).";
    TIME_TO_FIRST_TOKEN_FROM_SCHEDULE Histogram(FIRST_TOKEN), "time_to_first_token_from_schedule_seconds"
        ["target" "model" "scenario"]
        "TTFT measured from the due instant instead of the sending.";
    TIME_TO_FIRST_ANSWER_TOKEN Histogram(FIRST_TOKEN), "time_to_first_answer_token_seconds"
        ["target" "model" "scenario"]
        "TTFO: time from sending to the first text that is not reasoning, observed only if \
         reasoning came before it, at that event, even if the request fails later.";
    INTER_CHUNK_LATENCY Histogram(GAP), "inter_chunk_latency_seconds" ["target" "model" "scenario"]
        "Time between two successive reads from the connection that returned text. A read can \
         hold several events and tokens, so this is not the time per token.";
    TIME_PER_OUTPUT_TOKEN Histogram(PER_TOKEN), "time_per_output_token_seconds"
        ["target" "model" "scenario"]
        "TPOT of each success: (last token - first token) / (output tokens - 1), with the token \
         count of the endpoint; not observed if the tokens arrived at once (OpenTelemetry: \
         gen_ai.client.operation.time_per_output_chunk).";
    OUTPUT_TOKENS_PER_SECOND Histogram(TOKENS_PER_SECOND), "output_tokens_per_second"
        ["target" "model" "scenario"]
        "Decode speed of each success in tokens per second: (output tokens - 1) / (last token - \
         first token), with the token count of the endpoint; not observed if the tokens arrived at \
         once.";
    REQUEST_DURATION Histogram(DURATION), "request_duration_seconds" ["target" "model" "scenario"]
        "Time from sending to the end of each success (OpenTelemetry: \
         gen_ai.client.operation.duration).";
    REQUEST_DURATION_FROM_SCHEDULE Histogram(DURATION), "request_duration_from_schedule_seconds"
        ["target" "model" "scenario"]
        "Time from the due instant to the end of each success.";
    REQUEST_FAILURE_DURATION Histogram(DURATION), "request_failure_duration_seconds"
        ["target" "model" "scenario" "blame"]
        "Time from sending to the failure of each failed request.";
    PAIRED_REQUESTS Counter, "paired_requests_total" ["target" "model" "scenario" "baseline"]
        "Paired requests that succeeded on this target and on the baseline target (the first \
         target of the scenario); absent if a scenario has only one target.";
    PAIRED_FIRST_TOKENS Counter, "paired_first_tokens_total"
        ["target" "model" "scenario" "baseline"]
        "Paired requests with a TTFT on both targets.";
    PAIRED_FIRST_TOKEN_DIFFERENCE Counter, "paired_time_to_first_token_difference_seconds_total"
        ["target" "model" "scenario" "baseline" "direction"]
        "Sum of the TTFT differences from the baseline target, separately for pairs in which this \
         target was slower and faster. The mean difference is (slower - faster) / pairs.";
    PAIRED_FIRST_TOKEN_SQUARES Counter, "paired_time_to_first_token_difference_seconds_squared_total"
        ["target" "model" "scenario" "baseline"]
        "Sum of the squared TTFT differences from the baseline target. The confidence interval of \
         the mean difference is computed from it.";
    PAIRED_DURATION_DIFFERENCE Counter, "paired_request_duration_difference_seconds_total"
        ["target" "model" "scenario" "baseline" "direction"]
        "Sum of the request duration differences from the baseline target, separately for pairs in \
         which this target was slower and faster.";
    PAIRED_DURATION_SQUARES Counter, "paired_request_duration_difference_seconds_squared_total"
        ["target" "model" "scenario" "baseline"]
        "Sum of the squared request duration differences from the baseline target.";
    QUERIES_PER_SECOND_OBSERVED Histogram(QUERIES_PER_SECOND), "queries_per_second"
        ["target" "model" "scenario"]
        "QPS: successes per second over the last ten seconds, observed once a second while the \
         schedule runs.";
    INPUT_TOKENS Counter, "input_tokens_total" ["target" "model" "scenario"]
        "Prompt tokens of successes, as counted by the endpoint.";
    OUTPUT_TOKENS Counter, "output_tokens_total" ["target" "model" "scenario"]
        "Generated tokens of successes, including hidden reasoning, as counted by the endpoint.";
    CACHED_INPUT_TOKENS Counter, "cached_input_tokens_total" ["target" "model" "scenario"]
        "Prompt tokens that the endpoint read from a prefix cache; part of the input tokens.";
    REASONING_TOKENS Counter, "reasoning_tokens_total" ["target" "model" "scenario"]
        "Generated tokens spent on reasoning; part of the output tokens.";
    COST Counter, "cost_total" ["target" "model" "scenario" "currency"]
        "Cost of successes: their tokens, as counted by the endpoint, at the configured prices; \
         absent without prices.";
    OUTPUT_CHUNKS Counter, "output_chunks_total" ["target" "model" "scenario"]
        "Events with text, counted as they arrive.";
    REQUEST_INPUT_TOKENS Histogram(TOKENS), "request_input_tokens" ["target" "model" "scenario"]
        "Prompt tokens of each success, as counted by the endpoint.";
    REQUEST_OUTPUT_TOKENS Histogram(TOKENS), "request_output_tokens" ["target" "model" "scenario"]
        "Generated tokens of each success, as counted by the endpoint.";
    REQUEST_REASONING_TOKENS Histogram(TOKENS), "request_reasoning_tokens"
        ["target" "model" "scenario"]
        "Reasoning tokens of each success, as counted by the endpoint; part of its output tokens.";
    SLO_REQUESTS Counter, "slo_requests_total" ["target" "model" "scenario" "slo"]
        "Finished requests judged by an objective, such as ttft_p99; absent without an slo. A \
         success is not judged if it lacks the measured value: a single token, for example, has no \
         time per token. The requests of a search are not judged.";
    SLO_VIOLATIONS Counter, "slo_violations_total" ["target" "model" "scenario" "slo"]
        "Finished requests that missed an objective; a failure misses every objective. The requests \
         of a search are not judged.";
    SLO_GOOD_REQUESTS Counter, "slo_good_requests_total" ["target" "model" "scenario"]
        "Goodput: successes that missed no objective, without those of a search.";
    SLO_THRESHOLD Gauge, "slo_threshold_seconds" ["target" "model" "scenario" "slo"]
        "Threshold of an objective in seconds; a success rate has none.";
    SLO_OBJECTIVE Gauge, "slo_objective_ratio" ["target" "model" "scenario" "slo"]
        "Fraction (0 to 1) of requests that must meet an objective.";
    SCHEDULE_TARGET_REQUESTS_PER_SECOND Gauge, "schedule_target_requests_per_second"
        ["target" "model" "scenario"]
        "Current rate of the schedule in arrivals per second (without the later turns of \
         sessions); 0 while it waits or pauses, in closed-loop phases and after its end.";
    SCHEDULE_TARGET_CONCURRENCY Gauge, "schedule_target_concurrency" ["target" "model" "scenario"]
        "Current concurrency of the schedule in requests in flight; 0 outside closed-loop phases.";
    CAPACITY_REQUESTS_PER_SECOND Gauge, "capacity_requests_per_second" ["target" "model" "scenario"]
        "Capacity in requests per second that the latest search found; 0 if not even its lowest \
         level met the objectives, absent before the first result.";
    CAPACITY_CONCURRENCY Gauge, "capacity_concurrency" ["target" "model" "scenario"]
        "Capacity in requests in flight that the latest search found; 0 if not even its lowest \
         level met the objectives, absent after a search by rate.";
    CAPACITY_SEARCH_TIMESTAMP Gauge, "capacity_search_timestamp_seconds"
        ["target" "model" "scenario"]
        "Unix time of the end of the latest search with a result; absent before the first.";
    SCHEDULE_PHASE_ACTIVE Gauge, "schedule_phase_active" ["scenario" "phase"]
        "1 while the phase runs, else 0.";
    SCHEDULE_PHASE_START_TIMESTAMP Gauge, "schedule_phase_start_timestamp_seconds"
        ["scenario" "phase"]
        "Unix time of the last start of the phase; absent before the first.";
    SCHEDULE_RATE_OVERRIDE_ACTIVE Gauge, "schedule_rate_override_active" ["scenario"]
        "1 while a manual rate override replaces the schedule, else 0.";
    SCHEDULE_FIRINGS_SKIPPED Counter, "schedule_firings_skipped_total" ["scenario"]
        "Firings of the cron expression that were skipped because the previous cycle was still \
         running, or because the wall clock was set past them.";
    WARMUP_REQUESTS Counter, "warmup_requests_total" ["target" "model" "scenario"]
        "Requests sent before the schedule began; no other family counts them.";
    PAUSED Gauge, "paused" []
        "1 while the load is paused by /-/pause and due arrivals are dropped, else 0.";
    SHARD_INFO Gauge, "shard_info" ["shard" "shards"]
        "1, with the number of this shard (from 0) and the number of shards.";
    SCENARIO_INFO Gauge, "scenario_info" ["target" "model" "scenario" "arrivals" "simulated"]
        "1 for each route (one scenario on one target); simulated is true if the target is the \
         built-in simulator.";
    MEASUREMENT_VALID Gauge, "measurement_valid" []
        "1 if llmload does not distort its own measurements. A distortion sets it to 0 until 30 \
         seconds have passed without one.";
    GENERATOR_DISTORTION Gauge, "generator_distortion" ["kind"]
        "1 while this kind of distortion makes the measurement invalid, else 0.";
    EVENT_LOOP_DELAY Histogram(LAG), "event_loop_delay_seconds" []
        "Delay of the event loop that runs the requests, measured ten times a second, or once a \
         second without load. One or two milliseconds are normal, because they are the \
         resolution of its timers.";
    CLOCK_STEPS Counter, "clock_steps_total" ["direction"]
        "Steps of the wall clock of more than a second, by direction: somebody set the clock, or \
         the machine was suspended. Measured durations do not depend on the wall clock.";
    LOG_LINES_DROPPED Counter, "log_lines_dropped_total" []
        "Log lines that were lost because nobody read stderr or writing to it failed. The load and \
         the scrapes never wait for the log.";
    BUDGET_USED Gauge, "budget_used" ["scenario" "per" "unit"]
        "Requests, tokens or cost that a budget has used in its current period. The reservations of \
         the requests in flight are included.";
    BUDGET_LIMIT Gauge, "budget_limit" ["scenario" "per" "unit"]
        "The limit of a budget. When it is reached, llmload drops further arrivals until the period \
         ends.";
    BUDGET_RESET_TIMESTAMP Gauge, "budget_reset_timestamp_seconds" ["scenario" "per"]
        "The end of the current period, at which the budget starts again at 0.";
    BUDGETS_SAVED Gauge, "budgets_saved" []
        "1 if llmload can save its budgets in state_dir; 0 stops the scenarios with budgets.";
    FAILURES_ARCHIVED Counter, "failures_archived_total" []
        "Failed requests in the archive of failures (`failures` in the configuration); 0 without an \
         archive.";
    FAILURES_NOT_ARCHIVED Counter, "failures_not_archived_total" ["reason"]
        "Failed requests that llmload did not archive, by reason: the failure class had used up its \
         share, the queue of the writer was full, or the disk did not accept the record. The load \
         never waits for the archive.";
    CPUS_ALLOWED Gauge, "cpus_allowed" []
        "CPUs that the process can use: the smaller of its CPU affinity and the CPU quota of its \
         control groups.";
    CGROUP_CPU_PERIODS Counter, "cgroup_cpu_periods_total" []
        "Scheduling periods in which the control group of the process ran under a CPU quota; \
         absent without control groups.";
    CGROUP_CPU_THROTTLED_PERIODS Counter, "cgroup_cpu_throttled_periods_total" []
        "Scheduling periods in which a control group of the process was throttled because its CPU \
         quota was used up.";
    CGROUP_CPU_THROTTLED_SECONDS Counter, "cgroup_cpu_throttled_seconds_total" []
        "Time for which control groups of the process were throttled, summed over all CPUs.";
    CGROUP_MEMORY_USED Gauge, "cgroup_memory_used_bytes" []
        "Memory of the control group of the process that is nearest to its limit, without caches \
         of files, which the kernel can free; absent without a memory limit.";
    CGROUP_MEMORY_LIMIT Gauge, "cgroup_memory_limit_bytes" []
        "Memory limit of the same control group. At this limit, the kernel kills llmload.";
    HOST_CPU_SECONDS Counter, "host_cpu_seconds_total" ["mode"]
        "CPU time of the machine of llmload since its start, summed over all CPUs, by mode; absent \
         without `resources` in the configuration.";
    HOST_MEMORY Gauge, "host_memory_bytes" []
        "Memory of the machine of llmload.";
    HOST_MEMORY_AVAILABLE Gauge, "host_memory_available_bytes" []
        "Memory of the machine of llmload that programs can get without swapping.";
    GPU_UTILIZATION Gauge, "gpu_utilization_ratio" ["gpu"]
        "Fraction of the time in which a GPU of the machine of llmload worked, from nvidia-smi; \
         absent without `resources` in the configuration.";
    GPU_MEMORY_USED Gauge, "gpu_memory_used_bytes" ["gpu"]
        "Memory in use on a GPU of the machine of llmload.";
    GPU_MEMORY Gauge, "gpu_memory_bytes" ["gpu"]
        "Memory of a GPU of the machine of llmload.";
    GPU_POWER Gauge, "gpu_power_watts" ["gpu"]
        "Power of a GPU of the machine of llmload.";
    GPU_TEMPERATURE Gauge, "gpu_temperature_celsius" ["gpu"]
        "Temperature of a GPU of the machine of llmload.";
    TARGET_READY Gauge, "target_ready" ["target"]
        "1 if the last response of the target had a status below 500; 0 before the first \
         response, after a 5xx status and if the target cannot be reached.";
    TARGET_INFO Gauge, "target_info" ["target" "version"]
        "1, with the version that the server of the target reports, or unknown.";
    CONFIG_LAST_RELOAD_SUCCESSFUL Gauge, "config_last_reload_successful" []
        "1 if the last load of the configuration succeeded, else 0.";
    CONFIG_LAST_RELOAD_SUCCESS_TIMESTAMP Gauge, "config_last_reload_success_timestamp_seconds" []
        "Unix time at which the running configuration was loaded.";
    CONFIG_HASH Gauge, "config_hash" []
        "48 bits of a hash of the running configuration after its variables are replaced.";
    BUILD_INFO Gauge, "build_info" ["version" "revision" "rustc_version"]
        "1, with the version, the source revision and the compiler of llmload.";
}

families! {
    /// The families of the process, under the names that every Prometheus client uses.
    PROCESS "process_"
    PROCESS_CPU_SECONDS Counter, "cpu_seconds_total" []
        "Total user and system CPU time in seconds.";
    PROCESS_OPEN_FDS Gauge, "open_fds" []
        "Number of open file descriptors.";
    PROCESS_MAX_FDS Gauge, "max_fds" []
        "Maximum number of open file descriptors.";
    PROCESS_VIRTUAL_MEMORY Gauge, "virtual_memory_bytes" []
        "Virtual memory size in bytes.";
    PROCESS_RESIDENT_MEMORY Gauge, "resident_memory_bytes" []
        "Resident memory size in bytes.";
    PROCESS_START_TIME Gauge, "start_time_seconds" []
        "Unix time of the start of the process.";
    PROCESS_THREADS Gauge, "threads" []
        "Number of OS threads in the process.";
}

/// The families without a series at the start. Some need a first value. The `PAIRED_*` families
/// need a scenario with several targets, and `BREAKER_OPEN` needs a breaker. The `CGROUP_MEMORY_*`
/// families need a limit, and the `HOST_*` and `GPU_*` families a configuration that requests them.
pub const ABSENT_AT_START: &[Family] = &[
    BREAKER_OPEN,
    SCHEDULE_PHASE_START_TIMESTAMP,
    CAPACITY_REQUESTS_PER_SECOND,
    CAPACITY_CONCURRENCY,
    CAPACITY_SEARCH_TIMESTAMP,
    RATE_LIMIT_REQUESTS_LIMIT,
    RATE_LIMIT_REQUESTS_REMAINING,
    RATE_LIMIT_REQUESTS_RESET,
    RATE_LIMIT_TOKENS_LIMIT,
    RATE_LIMIT_TOKENS_REMAINING,
    RATE_LIMIT_TOKENS_RESET,
    RETRY_AFTER,
    CGROUP_MEMORY_USED,
    CGROUP_MEMORY_LIMIT,
    HOST_CPU_SECONDS,
    HOST_MEMORY,
    HOST_MEMORY_AVAILABLE,
    GPU_UTILIZATION,
    GPU_MEMORY_USED,
    GPU_MEMORY,
    GPU_POWER,
    GPU_TEMPERATURE,
    PAIRED_REQUESTS,
    PAIRED_FIRST_TOKENS,
    PAIRED_FIRST_TOKEN_DIFFERENCE,
    PAIRED_FIRST_TOKEN_SQUARES,
    PAIRED_DURATION_DIFFERENCE,
    PAIRED_DURATION_SQUARES,
    REPLAY_LAG,
];

#[cfg(test)]
mod tests;
