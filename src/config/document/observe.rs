//! The metrics pages of a server, as a file writes them.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::field::Field;

/// The metrics pages of the server behind a target, in the text format of Prometheus. Each value is
/// a URL, or a path on the server of the target, such as `/metrics`. A URL can contain a user and a
/// password for basic auth, which llmload shows nowhere. llmload does not send the API key of the
/// target to these pages. Write at most one of the engines `vllm`, `sglang`, `llamacpp` and `tgi`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Observe {
    /// The metrics page of vLLM. Default: not read. Example: `/metrics`.
    pub vllm: Field<String>,
    /// The metrics page of `SGLang`, which needs its option `--enable-metrics`. Default: not read.
    /// Example: `/metrics`.
    pub sglang: Field<String>,
    /// The metrics page of the server of llama.cpp, which needs its option `--metrics`. Default:
    /// not read. Example: `/metrics`.
    pub llamacpp: Field<String>,
    /// The metrics page of Text Generation Inference. Default: not read. Example: `/metrics`.
    pub tgi: Field<String>,
    /// The metrics page of dcgm-exporter on the machine with the GPUs. Its values change only every
    /// 30 seconds, unless it runs with `--collect-interval 1000`. Default: not read. Example:
    /// `http://gpu-1:9400/metrics`.
    pub dcgm: Field<String>,
    /// The metrics page of `node_exporter` on the machine of the server. Default: not read.
    /// Example: `http://gpu-1:9100/metrics`.
    pub node: Field<String>,
}
