//! The client's view over the server's own: what lies between the two is network, gateway and queue.
//!
//! vLLM, SGLang and llama.cpp name the same things differently; each query asks for all of them.

use llmload::metrics::table;

use crate::dashboard::{Dashboard, chosen};
use crate::panel::{Panel, Unit};
use crate::promql::{WINDOW, average, mean, quantile, rate};

/// What the three call the same thing; none where one of them has no such thing.
struct Theirs {
    vllm: &'static str,
    sglang: &'static str,
    llama_cpp: Option<&'static str>,
}

const FIRST_TOKEN: Theirs = Theirs {
    vllm: "vllm:time_to_first_token_seconds",
    sglang: "sglang:time_to_first_token_seconds",
    llama_cpp: None,
};
const RUNNING: Theirs = Theirs {
    vllm: "vllm:num_requests_running",
    sglang: "sglang:num_running_reqs",
    llama_cpp: Some("llamacpp:requests_processing"),
};
const WAITING: Theirs = Theirs {
    vllm: "vllm:num_requests_waiting",
    sglang: "sglang:num_queue_reqs",
    llama_cpp: Some("llamacpp:requests_deferred"),
};
const CACHE: Theirs = Theirs {
    vllm: "vllm:kv_cache_usage_perc",
    sglang: "sglang:token_usage",
    llama_cpp: Some("llamacpp:kv_cache_usage_ratio"),
};
const GENERATED: Theirs = Theirs {
    vllm: "vllm:generation_tokens_total",
    sglang: "sglang:generation_tokens_total",
    llama_cpp: Some("llamacpp:tokens_predicted_total"),
};

/// All names that a query here may ask servers for, histograms without their suffixes.
pub fn names() -> Vec<&'static str> {
    let all = [FIRST_TOKEN, RUNNING, WAITING, CACHE, GENERATED];
    all.into_iter().flat_map(|theirs| theirs.names().collect::<Vec<_>>()).collect()
}

impl Theirs {
    fn names(&self) -> impl Iterator<Item = &'static str> {
        [self.vllm, self.sglang].into_iter().chain(self.llama_cpp)
    }

    /// Whichever of them there is.
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
        "What clients see over what the server says of itself (vLLM, SGLang, llama.cpp). Prometheus has to scrape the server too.",
    )
    .variable(chosen("server_job", &format!("label_values({{__name__=~\"{running}\"}}, job)")))
    .variable(chosen("server_instance", &format!("label_values({{__name__=~\"{running}\",job=~\"$server_job\"}}, instance)")))
    .row("First token", first_token())
    .row("The engine", engine())
}

const UNKNOWN: &str = "The server says nothing of this";

/// A sum over the chosen servers, whichever engine they are.
fn sum(theirs: &Theirs) -> String {
    theirs.any(|name| format!("sum({name}{HERE})"))
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
        Panel::lines("TTFT p50, of client and server", Unit::Seconds)
            .about("llmload_time_to_first_token_seconds over the server's own time_to_first_token_seconds. The server's clock starts when it has the request, and it counts all clients.")
            .query("client", quantile("0.5", &table::TIME_TO_FIRST_TOKEN))
            .query("server", server_quantile("0.5"))
            .none(UNKNOWN),
        Panel::lines("TTFT p99, of client and server", Unit::Seconds)
            .about("llmload_time_to_first_token_seconds over the server's own time_to_first_token_seconds.")
            .query("client", quantile("0.99", &table::TIME_TO_FIRST_TOKEN))
            .query("server", server_quantile("0.99"))
            .none(UNKNOWN),
        Panel::lines("Mean TTFT, client minus server", Unit::Seconds)
            .about("llmload_time_to_first_token_seconds less the server's own, as means, which are exact: connecting, network, gateway and what waits before the server's clock starts.")
            .query("client - server", format!("({}) - ({})", mean(&table::TIME_TO_FIRST_TOKEN), server_mean()))
            .none(UNKNOWN)
            .signed(),
        Panel::lines("Mean TTFT, of client and server", Unit::Seconds)
            .about("llmload_time_to_first_token_seconds and the server's own, as means.")
            .query("client", mean(&table::TIME_TO_FIRST_TOKEN))
            .query("server", server_mean())
            .none(UNKNOWN),
    ]
}

fn engine() -> [Panel; 4] {
    [
        Panel::lines("In flight, running, waiting", Unit::Count)
            .about("llmload_requests_in_flight beside what the server runs and what waits in its queue. Much more in flight than both: something in between holds requests back.")
            .query("in flight, as the client counts", average(&table::REQUESTS_IN_FLIGHT))
            .query("running", sum(&RUNNING))
            .query("waiting", sum(&WAITING))
            .none(UNKNOWN),
        Panel::lines("KV cache in use", Unit::Share)
            .about("vllm:kv_cache_usage_perc, sglang:token_usage or llamacpp:kv_cache_usage_ratio of each server: near 100 % it preempts or queues.")
            .query("{{instance}}", CACHE.any(|name| format!("max by (instance) ({name}{HERE})")))
            .none(UNKNOWN)
            .at_most_one(),
        Panel::lines("Output tokens, of client and server", Unit::TokensPerSecond)
            .about("llmload_output_tokens_total beside the tokens that the server generated, per second: more than ours is the load of others, or of what was cut off.")
            .query("client", rate(&table::OUTPUT_TOKENS))
            .query("server", GENERATED.any(|name| format!("sum(rate({name}{HERE}[{WINDOW}]))")))
            .none(UNKNOWN),
        Panel::lines("Waiting, of running", Unit::Count)
            .about("vllm:num_requests_waiting / vllm:num_requests_running, or what the others call them: what waits for each that runs. Above 0 for long, and it takes more than it can do.")
            .query("waiting / running", format!("({}) / (({}) > 0)", sum(&WAITING), sum(&RUNNING)))
            .none(UNKNOWN),
    ]
}
