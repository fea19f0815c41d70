//! The dashboard that compares the latency at the client (llmload) with the latency at the server.
//! The difference is the time in the network, in gateways and in queues.
//!
//! vLLM, SGLang and llama.cpp have different names for the same metrics. Each query works with all
//! three.

use llmload::metrics::table;

use crate::dashboard::{Dashboard, query_variable};
use crate::panel::{Panel, Unit};
use crate::promql::{WINDOW, average, mean, quantile, rate};

/// The names of one metric. llama.cpp has no name for some metrics.
struct EngineMetric {
    vllm: &'static str,
    sglang: &'static str,
    llama_cpp: Option<&'static str>,
}

const FIRST_TOKEN: EngineMetric = EngineMetric {
    vllm: "vllm:time_to_first_token_seconds",
    sglang: "sglang:time_to_first_token_seconds",
    llama_cpp: None,
};
const RUNNING: EngineMetric = EngineMetric {
    vllm: "vllm:num_requests_running",
    sglang: "sglang:num_running_reqs",
    llama_cpp: Some("llamacpp:requests_processing"),
};
const WAITING: EngineMetric = EngineMetric {
    vllm: "vllm:num_requests_waiting",
    sglang: "sglang:num_queue_reqs",
    llama_cpp: Some("llamacpp:requests_deferred"),
};
const CACHE: EngineMetric = EngineMetric {
    vllm: "vllm:kv_cache_usage_perc",
    sglang: "sglang:token_usage",
    llama_cpp: Some("llamacpp:kv_cache_usage_ratio"),
};
const GENERATED: EngineMetric = EngineMetric {
    vllm: "vllm:generation_tokens_total",
    sglang: "sglang:generation_tokens_total",
    llama_cpp: Some("llamacpp:tokens_predicted_total"),
};

/// Returns the names of all server metrics in the queries, without suffixes such as `_bucket`.
pub fn names() -> Vec<&'static str> {
    let all = [FIRST_TOKEN, RUNNING, WAITING, CACHE, GENERATED];
    all.into_iter().flat_map(|metric| metric.names().collect::<Vec<_>>()).collect()
}

impl EngineMetric {
    fn names(&self) -> impl Iterator<Item = &'static str> {
        [self.vllm, self.sglang].into_iter().chain(self.llama_cpp)
    }

    /// Joins a query for each engine by `or`. Only the running engine has a result.
    fn any(&self, query: impl Fn(&str) -> String) -> String {
        let alternatives: Vec<String> = self.names().map(query).collect();
        alternatives.join(" or ")
    }

    fn matched(&self) -> String {
        self.names().collect::<Vec<_>>().join("|")
    }
}

const HERE: &str = "{job=~\"$server_job\",instance=~\"$server_instance\"}";

pub fn dashboard() -> Dashboard {
    let running = RUNNING.matched();
    Dashboard::new(
        "server",
        "Client and server",
        "Client-side metrics beside the metrics of the server (vLLM, SGLang, llama.cpp). \
                Prometheus must scrape the server too.",
    )
    .variable(query_variable(
        "server_job",
        &format!("label_values({{__name__=~\"{running}\"}}, job)"),
    ))
    .variable(query_variable(
        "server_instance",
        &format!("label_values({{__name__=~\"{running}\",job=~\"$server_job\"}}, instance)"),
    ))
    .row("First token", first_token())
    .row("Engine", engine())
}

const UNKNOWN: &str = "No such server metric";

fn sum(metric: &EngineMetric) -> String {
    metric.any(|name| format!("sum({name}{HERE})"))
}

fn server_quantile(q: &str) -> String {
    let buckets =
        FIRST_TOKEN.any(|name| format!("sum by (le) (rate({name}_bucket{HERE}[{WINDOW}]))"));
    format!("histogram_quantile({q}, {buckets}) >= 0")
}

fn server_mean() -> String {
    let rate =
        |suffix| FIRST_TOKEN.any(|name| format!("sum(rate({name}{suffix}{HERE}[{WINDOW}]))"));
    format!("({}) / (({}) > 0)", rate("_sum"), rate("_count"))
}

fn first_token() -> [Panel; 4] {
    [
        Panel::lines("TTFT p50, client and server", Unit::Seconds)
            .about(
                "llmload_time_to_first_token_seconds and the time_to_first_token_seconds of the \
                server. The server measures from the arrival of a request. Its values include the \
                requests of all clients.",
            )
            .query("client", quantile("0.5", &table::TIME_TO_FIRST_TOKEN))
            .query("server", server_quantile("0.5"))
            .empty_text(UNKNOWN),
        Panel::lines("TTFT p99, client and server", Unit::Seconds)
            .about(
                "llmload_time_to_first_token_seconds and the time_to_first_token_seconds of the \
                server.",
            )
            .query("client", quantile("0.99", &table::TIME_TO_FIRST_TOKEN))
            .query("server", server_quantile("0.99"))
            .empty_text(UNKNOWN),
        Panel::lines("Mean TTFT, client minus server", Unit::Seconds)
            .about(
                "The mean of llmload_time_to_first_token_seconds minus the mean of the server. The \
                difference is the time for the connect, the network, gateways and queues before \
                the server.",
            )
            .query(
                "client - server",
                format!("({}) - ({})", mean(&table::TIME_TO_FIRST_TOKEN), server_mean()),
            )
            .empty_text(UNKNOWN)
            .allow_negative(),
        Panel::lines("Mean TTFT, client and server", Unit::Seconds)
            .about("The means of llmload_time_to_first_token_seconds and of the server.")
            .query("client", mean(&table::TIME_TO_FIRST_TOKEN))
            .query("server", server_mean())
            .empty_text(UNKNOWN),
    ]
}

fn engine() -> [Panel; 4] {
    [
        Panel::lines("Requests in flight, running and waiting", Unit::Count)
            .about(
                "llmload_requests_in_flight, and the running and waiting requests of the server. \
                If many more are in flight than running and waiting, then requests wait between \
                client and server, for example in a gateway.",
            )
            .query("in flight (client)", average(&table::REQUESTS_IN_FLIGHT))
            .query("running", sum(&RUNNING))
            .query("waiting", sum(&WAITING))
            .empty_text(UNKNOWN),
        Panel::lines("KV cache usage", Unit::Percent)
            .about(
                "vllm:kv_cache_usage_perc, sglang:token_usage or llamacpp:kv_cache_usage_ratio of \
                each server. Near 100 %, the server preempts or queues requests.",
            )
            .query("{{instance}}", CACHE.any(|name| format!("max by (instance) ({name}{HERE})")))
            .empty_text(UNKNOWN)
            .at_most_one(),
        Panel::lines("Output tokens, client and server", Unit::TokensPerSecond)
            .about(
                "llmload_output_tokens_total and the tokens that the server generated, per \
                second. The server generates more if other clients send load or requests were \
                aborted.",
            )
            .query("client", rate(&table::OUTPUT_TOKENS))
            .query("server", GENERATED.any(|name| format!("sum(rate({name}{HERE}[{WINDOW}]))")))
            .empty_text(UNKNOWN),
        Panel::lines("Waiting requests per running request", Unit::Count)
            .about(
                "vllm:num_requests_waiting / vllm:num_requests_running, or the same metrics of \
                SGLang and llama.cpp. If it is above 0 for long, the server is saturated.",
            )
            .query("waiting / running", format!("({}) / (({}) > 0)", sum(&WAITING), sum(&RUNNING)))
            .empty_text(UNKNOWN),
    ]
}
