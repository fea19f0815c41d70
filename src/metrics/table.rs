//! Every metric family: name, type, labels and their values, buckets and help, in one place. The
//! documentation, the dashboards and the tests of the rules are made of it too.

use crate::buckets::{
    CONNECT, DURATION, FIRST_TOKEN, GAP, LAG, PER_TOKEN, QUERIES_PER_SECOND, TOKENS,
    TOKENS_PER_SECOND,
};
use crate::event::{AbortReason, DropReason};
use crate::generator::Distortion;
use crate::measurement::{Anomaly, Blame, Failure};

/// Statuses that are counted by themselves; any other is `other`.
pub const CODES: [u16; 7] = [200, 400, 401, 404, 429, 500, 503];

/// What kind of series a family has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Only rises.
    Counter,
    /// A state.
    Gauge,
    /// A distribution, with these upper bounds where the configuration says nothing else.
    Histogram(&'static [f64]),
}

/// One metric family.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Family {
    /// The full name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it means.
    pub help: &'static str,
}

impl Family {
    /// The name as the configuration has it.
    pub fn short_name(&self) -> &'static str {
        self.name.strip_prefix("llmload_").unwrap_or(self.name)
    }

    /// The values that one of its labels may have, where these are a closed set; the others come from
    /// the configuration.
    pub fn values(&self, label: &str) -> Option<Vec<String>> {
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect();
        Some(match label {
            "reason" if *self == ARRIVALS_DROPPED => {
                words(&DropReason::ALL.map(DropReason::as_str))
            }
            "reason" if *self == REQUESTS_ABORTED => {
                words(&AbortReason::ALL.map(AbortReason::as_str))
            }
            "reason" if *self == REQUEST_FAILURES => words(&Failure::ALL.map(Failure::as_str)),
            "blame" => words(&Blame::ALL.map(Blame::as_str)),
            "kind" if *self == RESPONSE_ANOMALIES => words(&Anomaly::ALL.map(Anomaly::as_str)),
            "kind" if *self == GENERATOR_DISTORTION => {
                words(&Distortion::ALL.map(Distortion::as_str))
            }
            "code" => CODES.iter().map(ToString::to_string).chain(["other".to_owned()]).collect(),
            "arrivals" => words(&["constant", "poisson", "gamma"]),
            "direction" => words(&["slower", "faster"]),
            "simulated" => words(&["true", "false"]),
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
    /// All of them that are llmload's own, in the order of a request's life.
    ALL "llmload_"
    ARRIVALS Counter, "arrivals_total" ["target" "model" "scenario"]
        "Arrivals that came due by the schedule, sent or not: the offered load.";
    ARRIVALS_DROPPED Counter, "arrivals_dropped_total" ["target" "model" "scenario" "reason"]
        "Arrivals that were due but not sent, by reason.";
    REQUESTS_STARTED Counter, "requests_started_total" ["target" "model" "scenario"]
        "Requests handed over to be sent.";
    REQUESTS Counter, "requests_total" ["target" "model" "scenario"]
        "Requests that ended by themselves, in success or failure; those that llmload cut off are not among them.";
    REQUEST_FAILURES Counter, "request_failures_total" ["target" "model" "scenario" "reason" "blame"]
        "Requests that failed, by class and by whom the class speaks against.";
    REQUESTS_ABORTED Counter, "requests_aborted_total" ["target" "model" "scenario" "reason"]
        "Requests that llmload cut off, neither success nor failure, by reason.";
    REQUESTS_IN_FLIGHT Gauge, "requests_in_flight" ["target" "model" "scenario"]
        "Requests started and neither finished nor aborted.";
    REQUESTS_IN_FLIGHT_LIMIT Gauge, "requests_in_flight_limit" ["target" "model" "scenario"]
        "The most requests that may be in flight: max_concurrency.";
    HTTP_RESPONSES Counter, "http_responses_total" ["target" "model" "scenario" "code"]
        "Response heads by HTTP status; statuses outside a fixed list count as other.";
    RESPONSE_ANOMALIES Counter, "response_anomalies_total" ["target" "model" "scenario" "kind"]
        "Successes that bent the protocol, by kind.";
    DISPATCH_LAG Histogram(LAG), "dispatch_lag_seconds" ["target" "model" "scenario"]
        "Time from the due instant to the hand-over of each request: how late the generator itself was.";
    DNS_DURATION Histogram(CONNECT), "dns_duration_seconds" ["target" "model" "scenario"]
        "Time to find the addresses of the target's name, of each new connection with its first answer; none where the file has an address.";
    CONNECT_DURATION Histogram(CONNECT), "connect_duration_seconds" ["target" "model" "scenario"]
        "Time to connect after that, TLS included, of each new connection with its first answer.";
    RATE_LIMIT_REQUESTS_LIMIT Gauge, "rate_limit_requests_limit" ["target" "model" "scenario"]
        "Requests the endpoint grants in all, by its last x-ratelimit-limit-requests; absent before the first.";
    RATE_LIMIT_REQUESTS_REMAINING Gauge, "rate_limit_requests_remaining" ["target" "model" "scenario"]
        "Requests it still grants, by its last x-ratelimit-remaining-requests; absent before the first.";
    RATE_LIMIT_REQUESTS_RESET Gauge, "rate_limit_requests_reset_seconds" ["target" "model" "scenario"]
        "Time until all of them are granted again, by its last x-ratelimit-reset-requests; absent before the first.";
    RATE_LIMIT_TOKENS_LIMIT Gauge, "rate_limit_tokens_limit" ["target" "model" "scenario"]
        "Tokens the endpoint grants in all, by its last x-ratelimit-limit-tokens; absent before the first.";
    RATE_LIMIT_TOKENS_REMAINING Gauge, "rate_limit_tokens_remaining" ["target" "model" "scenario"]
        "Tokens it still grants, by its last x-ratelimit-remaining-tokens; absent before the first.";
    RATE_LIMIT_TOKENS_RESET Gauge, "rate_limit_tokens_reset_seconds" ["target" "model" "scenario"]
        "Time until all of them are granted again, by its last x-ratelimit-reset-tokens; absent before the first.";
    RETRY_AFTER Gauge, "retry_after_seconds" ["target" "model" "scenario"]
        "How long the endpoint last asked to be left alone, by retry-after; absent before the first. Load goes on as scheduled.";
    TIME_TO_FIRST_TOKEN Histogram(FIRST_TOKEN), "time_to_first_token_seconds" ["target" "model" "scenario"]
        "TTFT: time from sending, connecting included, to the first event with content, reasoning, refusal or tool-call text; observed when it comes, also if the request fails later (OpenTelemetry: gen_ai.client.operation.time_to_first_chunk).";
    TIME_TO_FIRST_TOKEN_FROM_SCHEDULE Histogram(FIRST_TOKEN), "time_to_first_token_from_schedule_seconds" ["target" "model" "scenario"]
        "TTFT counted from the due instant instead of the sending.";
    INTER_CHUNK_LATENCY Histogram(GAP), "inter_chunk_latency_seconds" ["target" "model" "scenario"]
        "Gap between successive events with text; an event may hold several tokens, so this is not the time per token.";
    TIME_PER_OUTPUT_TOKEN Histogram(PER_TOKEN), "time_per_output_token_seconds" ["target" "model" "scenario"]
        "TPOT: (last token - first token) / (output tokens - 1) of each success, with tokens as the endpoint counted them (OpenTelemetry: gen_ai.client.operation.time_per_output_chunk).";
    OUTPUT_TOKENS_PER_SECOND Histogram(TOKENS_PER_SECOND), "output_tokens_per_second" ["target" "model" "scenario"]
        "TPS: (output tokens - 1) / (last token - first token) of each success, with tokens as the endpoint counted them.";
    REQUEST_DURATION Histogram(DURATION), "request_duration_seconds" ["target" "model" "scenario"]
        "Time from sending to the end of each success (OpenTelemetry: gen_ai.client.operation.duration).";
    REQUEST_DURATION_FROM_SCHEDULE Histogram(DURATION), "request_duration_from_schedule_seconds" ["target" "model" "scenario"]
        "Time from the due instant to the end of each success.";
    REQUEST_FAILURE_DURATION Histogram(DURATION), "request_failure_duration_seconds" ["target" "model" "scenario" "blame"]
        "Time from sending to the failure of each request that failed.";
    PAIRED_REQUESTS Counter, "paired_requests_total" ["target" "model" "scenario" "baseline"]
        "Arrivals that both this target and the scenario's first, the baseline, answered; only where a scenario has several targets.";
    PAIRED_FIRST_TOKENS Counter, "paired_first_tokens_total" ["target" "model" "scenario" "baseline"]
        "Those of them whose answers were streamed.";
    PAIRED_FIRST_TOKEN_DIFFERENCE Counter, "paired_time_to_first_token_difference_seconds_total" ["target" "model" "scenario" "baseline" "direction"]
        "Sum of the differences in TTFT where this target was slower than the baseline, and where it was faster. The mean difference is the rate of slower less that of faster, by the rate of pairs.";
    PAIRED_FIRST_TOKEN_SQUARES Counter, "paired_time_to_first_token_difference_seconds_squared_total" ["target" "model" "scenario" "baseline"]
        "Sum of the squares of these differences: how sure their mean is follows from it.";
    PAIRED_DURATION_DIFFERENCE Counter, "paired_request_duration_difference_seconds_total" ["target" "model" "scenario" "baseline" "direction"]
        "Sum of the differences in the time from sending to the end, likewise.";
    PAIRED_DURATION_SQUARES Counter, "paired_request_duration_difference_seconds_squared_total" ["target" "model" "scenario" "baseline"]
        "Sum of the squares of these differences.";
    QUERIES_PER_SECOND_OBSERVED Histogram(QUERIES_PER_SECOND), "queries_per_second" ["target" "model" "scenario"]
        "QPS: successes of the last ten seconds / 10, observed once a second while the schedule runs.";
    INPUT_TOKENS Counter, "input_tokens_total" ["target" "model" "scenario"]
        "Prompt tokens of successes as the endpoint counted them.";
    OUTPUT_TOKENS Counter, "output_tokens_total" ["target" "model" "scenario"]
        "Generated tokens of successes as the endpoint counted them, hidden reasoning included.";
    CACHED_INPUT_TOKENS Counter, "cached_input_tokens_total" ["target" "model" "scenario"]
        "The part of the prompt tokens that came from a prefix cache.";
    REASONING_TOKENS Counter, "reasoning_tokens_total" ["target" "model" "scenario"]
        "The part of the generated tokens spent on reasoning.";
    COST Counter, "cost_total" ["target" "model" "scenario" "currency"]
        "What successes cost: their tokens as the endpoint counted them, at the prices of the file; only where it has some.";
    OUTPUT_CHUNKS Counter, "output_chunks_total" ["target" "model" "scenario"]
        "Events with text, counted as they arrive.";
    REQUEST_INPUT_TOKENS Histogram(TOKENS), "request_input_tokens" ["target" "model" "scenario"]
        "Prompt tokens of each success as the endpoint counted them.";
    REQUEST_OUTPUT_TOKENS Histogram(TOKENS), "request_output_tokens" ["target" "model" "scenario"]
        "Generated tokens of each success as the endpoint counted them.";
    SLO_REQUESTS Counter, "slo_requests_total" ["target" "model" "scenario" "slo"]
        "Requests that finished and were held against an objective of the file, such as ttft_p99; only where it has some. One without the measure, such as a time between tokens of one token, is not among them.";
    SLO_VIOLATIONS Counter, "slo_violations_total" ["target" "model" "scenario" "slo"]
        "Those of them that missed its threshold; one that failed misses every threshold.";
    SLO_GOOD_REQUESTS Counter, "slo_good_requests_total" ["target" "model" "scenario"]
        "Successes that missed no objective of the file: goodput.";
    SLO_THRESHOLD Gauge, "slo_threshold_seconds" ["target" "model" "scenario" "slo"]
        "The threshold of an objective that has one.";
    SLO_OBJECTIVE Gauge, "slo_objective_ratio" ["target" "model" "scenario" "slo"]
        "The share of requests that must meet an objective.";
    SCHEDULE_TARGET_REQUESTS_PER_SECOND Gauge, "schedule_target_requests_per_second" ["target" "model" "scenario"]
        "The rate the schedule asks for now; 0 while it waits, pauses, runs a closed loop or has ended.";
    SCHEDULE_TARGET_CONCURRENCY Gauge, "schedule_target_concurrency" ["target" "model" "scenario"]
        "The requests in flight that the schedule asks for now; 0 outside closed-loop phases.";
    SCHEDULE_PHASE_ACTIVE Gauge, "schedule_phase_active" ["scenario" "phase"]
        "1 while the phase runs, else 0.";
    SCHEDULE_PHASE_START_TIMESTAMP Gauge, "schedule_phase_start_timestamp_seconds" ["scenario" "phase"]
        "When the phase last started, in Unix time; absent before the first time.";
    SCHEDULE_RATE_OVERRIDE_ACTIVE Gauge, "schedule_rate_override_active" ["scenario"]
        "1 while a rate holds that was set by hand, in place of the schedule, else 0.";
    SCHEDULE_FIRINGS_SKIPPED Counter, "schedule_firings_skipped_total" ["scenario"]
        "Firings of a cron expression that were skipped because the schedule of the one before was still on.";
    WARMUP_REQUESTS Counter, "warmup_requests_total" ["target" "model" "scenario"]
        "Requests sent before the schedule began, outside every other family.";
    PAUSED Gauge, "paused" []
        "1 while the load is paused by /-/pause: what comes due is dropped, else 0.";
    SHARD_INFO Gauge, "shard_info" ["shard" "shards"]
        "1, with the number of this shard, from 0, and how many there are.";
    SCENARIO_INFO Gauge, "scenario_info" ["target" "model" "scenario" "arrivals" "simulated"]
        "1 for each stream of load; simulated says whether its target is the built-in simulator.";
    MEASUREMENT_VALID Gauge, "measurement_valid" []
        "1 while nothing says that llmload itself distorts what it measures; 0 from the first second that does until a quiet half minute has passed.";
    GENERATOR_DISTORTION Gauge, "generator_distortion" ["kind"]
        "1 while this is what makes the measurement invalid, else 0.";
    EVENT_LOOP_DELAY Histogram(LAG), "event_loop_delay_seconds" []
        "How late the event loop that requests run on was, looked at ten times a second; a millisecond or two of it are the resolution of its timers.";
    CPUS_ALLOWED Gauge, "cpus_allowed" []
        "CPUs that the process may use: those it may run on, but no more than the quota of its control groups.";
    CGROUP_CPU_PERIODS Counter, "cgroup_cpu_periods_total" []
        "Periods in which the control group of the process ran under a CPU quota; absent without control groups.";
    CGROUP_CPU_THROTTLED_PERIODS Counter, "cgroup_cpu_throttled_periods_total" []
        "Periods in which a control group of the process was stopped because it had used its quota.";
    CGROUP_CPU_THROTTLED_SECONDS Counter, "cgroup_cpu_throttled_seconds_total" []
        "For how long control groups of the process were stopped, over all CPUs.";
    TARGET_READY Gauge, "target_ready" ["target"]
        "1 if the target's last answer was below 500; 0 before the first, after a 5xx, or when it cannot be reached.";
    TARGET_INFO Gauge, "target_info" ["target" "version"]
        "1, with the version of the server in its own words, or unknown.";
    CONFIG_LAST_RELOAD_SUCCESSFUL Gauge, "config_last_reload_successful" []
        "1 if the last load of the configuration succeeded, else 0.";
    CONFIG_LAST_RELOAD_SUCCESS_TIMESTAMP Gauge, "config_last_reload_success_timestamp_seconds" []
        "When the running configuration was loaded, in Unix time.";
    CONFIG_HASH Gauge, "config_hash" []
        "48 bits of a hash of the running configuration, its variables filled.";
    BUILD_INFO Gauge, "build_info" ["version" "revision" "rustc_version"]
        "1, with the version of llmload.";
}

families! {
    /// What every exporter tells of its own process, under the names that they all have.
    PROCESS "process_"
    PROCESS_CPU_SECONDS Counter, "cpu_seconds_total" []
        "User and system CPU time spent.";
    PROCESS_OPEN_FDS Gauge, "open_fds" []
        "Open file descriptors.";
    PROCESS_MAX_FDS Gauge, "max_fds" []
        "File descriptors that may be open at once.";
    PROCESS_VIRTUAL_MEMORY Gauge, "virtual_memory_bytes" []
        "Size of the virtual memory.";
    PROCESS_RESIDENT_MEMORY Gauge, "resident_memory_bytes" []
        "Size of the resident memory.";
    PROCESS_START_TIME Gauge, "start_time_seconds" []
        "When the process started, in Unix time.";
    PROCESS_THREADS Gauge, "threads" []
        "Threads of the process.";
}
/// Families without a series before what they tell of has happened, or where it cannot.
pub const LATE: &[Family] = &[
    SCHEDULE_PHASE_START_TIMESTAMP,
    RATE_LIMIT_REQUESTS_LIMIT,
    RATE_LIMIT_REQUESTS_REMAINING,
    RATE_LIMIT_REQUESTS_RESET,
    RATE_LIMIT_TOKENS_LIMIT,
    RATE_LIMIT_TOKENS_REMAINING,
    RATE_LIMIT_TOKENS_RESET,
    RETRY_AFTER,
    PAIRED_REQUESTS,
    PAIRED_FIRST_TOKENS,
    PAIRED_FIRST_TOKEN_DIFFERENCE,
    PAIRED_FIRST_TOKEN_SQUARES,
    PAIRED_DURATION_DIFFERENCE,
    PAIRED_DURATION_SQUARES,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buckets::HISTOGRAMS;

    #[test]
    fn the_histograms_of_a_configuration_are_those_of_the_table() {
        let families = ALL.iter().filter_map(|family| match family.kind {
            Histogram(bounds) => Some((family.short_name(), bounds)),
            Counter | Gauge => None,
        });
        assert_eq!(families.collect::<Vec<_>>(), HISTOGRAMS);
    }

    #[test]
    fn buckets_rise_and_labels_stay_clear_of_those_of_scrapes() {
        for family in ALL.iter().chain(PROCESS) {
            if let Histogram(buckets) = family.kind {
                assert!(buckets.is_sorted_by(|a, b| a < b), "{}", family.name);
            }
            for label in family.labels {
                let taken = [
                    "job",
                    "instance",
                    "service",
                    "namespace",
                    "pod",
                    "container",
                    "endpoint",
                    "le",
                ];
                assert!(!taken.contains(label), "{}: {label}", family.name);
            }
            assert_eq!(family.kind == Counter, family.name.ends_with("_total"), "{}", family.name);
            assert!(family.help.ends_with('.') || family.help.ends_with(")."), "{}", family.name);
        }
    }
}
