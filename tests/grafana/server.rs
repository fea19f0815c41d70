//! The dashboard of client and server: the difference between the two is network, gateway and
//! queue.
//!
//! vLLM, SGLang and llama.cpp use different names for the same metrics; each query covers all
//! three.

use llmload::metrics::table;

use crate::dashboard::{Dashboard, chosen};
use crate::panel::{Panel, Unit};
use crate::promql::{WINDOW, average, mean, quantile, rate};

/// The names of one metric in the three engines; `None` if llama.cpp lacks it.
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

/// All server metrics that the queries use; histograms without their suffixes.
pub fn names() -> Vec<&'static str> {
    let all = [FIRST_TOKEN, RUNNING, WAITING, CACHE, GENERATED];
    all.into_iter().flat_map(|metric| metric.names().collect::<Vec<_>>()).collect()
}

impl EngineMetric {
    fn names(&self) -> impl Iterator<Item = &'static str> {
        [self.vllm, self.sglang].into_iter().chain(self.llama_cpp)
    }

    /// A query that returns the metric of the engine that exposes it.
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
    .variable(chosen("server_job", &format!("label_values({{__name__=~\"{running}\"}}, job)")))
    .variable(chosen(
        "server_instance",
        &format!("label_values({{__name__=~\"{running}\",job=~\"$server_job\"}}, instance)"),
    ))
    .row("First token", first_token())
    .row("Engine", engine())
}

const UNKNOWN: &str = "No such server metric";

/// The sum over the selected servers of any engine.
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
                server. The clock of the server starts when it has the request, and it counts \
                all clients.",
            )
            .query("client", quantile("0.5", &table::TIME_TO_FIRST_TOKEN))
            .query("server", server_quantile("0.5"))
            .none(UNKNOWN),
        Panel::lines("TTFT p99, client and server", Unit::Seconds)
            .about(
                "llmload_time_to_first_token_seconds and the time_to_first_token_seconds of the \
                server.",
            )
            .query("client", quantile("0.99", &table::TIME_TO_FIRST_TOKEN))
            .query("server", server_quantile("0.99"))
            .none(UNKNOWN),
        Panel::lines("Mean TTFT, client minus server", Unit::Seconds)
            .about(
                "llmload_time_to_first_token_seconds minus the value of the server, as exact \
                means: connect, network, gateway and the wait before the clock of the server \
                starts.",
            )
            .query(
                "client - server",
                format!("({}) - ({})", mean(&table::TIME_TO_FIRST_TOKEN), server_mean()),
            )
            .none(UNKNOWN)
            .signed(),
        Panel::lines("Mean TTFT, client and server", Unit::Seconds)
            .about("llmload_time_to_first_token_seconds and the value of the server, as means.")
            .query("client", mean(&table::TIME_TO_FIRST_TOKEN))
            .query("server", server_mean())
            .none(UNKNOWN),
    ]
}

fn engine() -> [Panel; 4] {
    [
        Panel::lines("Requests in flight, running and waiting", Unit::Count)
            .about(
                "llmload_requests_in_flight, and the running and waiting requests of the server. \
                If far more are in flight than running and waiting, something between client and \
                server queues requests.",
            )
            .query("in flight (client)", average(&table::REQUESTS_IN_FLIGHT))
            .query("running", sum(&RUNNING))
            .query("waiting", sum(&WAITING))
            .none(UNKNOWN),
        Panel::lines("KV cache usage", Unit::Share)
            .about(
                "vllm:kv_cache_usage_perc, sglang:token_usage or llamacpp:kv_cache_usage_ratio of \
                each server. Near 100 % the server preempts or queues requests.",
            )
            .query("{{instance}}", CACHE.any(|name| format!("max by (instance) ({name}{HERE})")))
            .none(UNKNOWN)
            .at_most_one(),
        Panel::lines("Output tokens, client and server", Unit::TokensPerSecond)
            .about(
                "llmload_output_tokens_total and the tokens that the server generated, per \
                second. The server generates more if other clients send load or requests were \
                aborted.",
            )
            .query("client", rate(&table::OUTPUT_TOKENS))
            .query("server", GENERATED.any(|name| format!("sum(rate({name}{HERE}[{WINDOW}]))")))
            .none(UNKNOWN),
        Panel::lines("Waiting requests per running request", Unit::Count)
            .about(
                "vllm:num_requests_waiting / vllm:num_requests_running, or the same of SGLang and \
                llama.cpp. Above 0 for long, the server is saturated.",
            )
            .query("waiting / running", format!("({}) / (({}) > 0)", sum(&WAITING), sum(&RUNNING)))
            .none(UNKNOWN),
    ]
}
